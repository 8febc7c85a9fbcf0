#include "ved/binds.h"

#include <errno.h>
#include <string.h>

#include "common/words.h"
#include "ved/files.h"

static bool is_plain(const char *path, size_t length)
{
	const char *end = path + length;

	if (length < 2 || length >= VE_PATH || path[0] != '/')
		return false;
	for (const char *at = path; at < end;) {
		const char *word = at + 1, *next = memchr(word, '/', (size_t)(end - word));
		size_t size = (size_t)((next ? next : end) - word);

		if (size == 0 || (size == 1 && word[0] == '.') ||
		    (size == 2 && word[0] == '.' && word[1] == '.'))
			return false;
		at = word + size;
	}
	return true;
}

bool binds_allowed_ok(const char *allowed, const char **word, size_t *length)
{
	for (*word = words_next(allowed, length); *length;
	     *word = words_next(*word + *length, length))
		if (!is_plain(*word, *length))
			return false;
	return true;
}

static bool text_is(json_t *json, const char *text)
{
	return json_is_string(json) && strcmp(json_string_value(json), text) == 0;
}

static bool has_option(json_t *mount, const char *name)
{
	json_t *option;
	size_t i;

	json_array_foreach(
	    json_object_get(mount, "options"), i, option) if (text_is(option, name)) return true;
	return false;
}

bool binds_is(json_t *mount)
{
	return text_is(json_object_get(mount, "type"), "bind") || has_option(mount, "bind") ||
	       has_option(mount, "rbind");
}

static int check_options(json_t *mount, const char *to, struct engine_error *error)
{
	static const char *const known[] = {
	    "bind", "rw", "ro", "noexec", "nosuid", "nodev", "private", "rprivate"};
	json_t *option;
	size_t i, k;

	json_array_foreach(json_object_get(mount, "options"), i, option)
	{
		for (k = 0; k < sizeof(known) / sizeof(known[0]); k++)
			if (text_is(option, known[k]))
				break;
		if (k == sizeof(known) / sizeof(known[0]))
			return engine_refuse(error, -EINVAL,
			    "bundle: mount %s: option %s: a host directory is mounted with bind, rw, ro, "
			    "noexec, nosuid, nodev, rprivate (rbind would bring what criu is not told of)",
			    to, json_is_string(option) ? json_string_value(option) : "?");
	}
	return 0;
}

int binds_take(json_t *mount, const struct engine_config *config, const struct ve_spec *spec,
    struct engine_error *error)
{
	const char *from = json_string_value(json_object_get(mount, "source"));
	const char *to = json_string_value(json_object_get(mount, "destination"));
	json_t *options;
	int rc;

	if (!to || !is_plain(to, strlen(to)))
		return engine_refuse(error, -EINVAL,
		    "bundle: mount %s: an absolute path without . and ..", to ? to : "?");
	if (!from || !words_have(config->mounts, from, strlen(from)))
		return engine_refuse(error, -EINVAL,
		    "bundle: mount %s: bind mounts of the host are given as [ved] mounts lists them, and "
		    "%s is not there",
		    to, from ? from : "?");
	if (!spec->shared)
		return engine_refuse(error, -EPERM,
		    "bundle: mount %s: the VE's placement does not say that it has a directory of the "
		    "host, so it could be placed elsewhere while this copy still writes",
		    to);
	rc = check_options(mount, to, error);
	if (rc < 0)
		return rc;
	options = json_pack("[s, s, s, s]", "bind", "rprivate", "nosuid", "nodev");
	if (has_option(mount, "ro"))
		json_array_append_new(options, json_string("ro"));
	if (has_option(mount, "noexec"))
		json_array_append_new(options, json_string("noexec"));
	json_object_set_new(mount, "type", json_string("bind"));
	return json_object_set_new(mount, "options", options) < 0 ? -ENOMEM : 0;
}

static int add(struct binds *binds, json_t *mount)
{
	const char *from = json_string_value(json_object_get(mount, "source"));
	const char *to = json_string_value(json_object_get(mount, "destination"));
	struct bind *bind = &binds->bind[binds->count];

	if (binds->count == BINDS_MAX)
		return -E2BIG;
	if (!from || !to || path_set(bind->from, "%s", from) < 0 ||
	    path_set(bind->to, "%s", to) < 0)
		return -EINVAL;
	binds->count++;
	return 0;
}

int binds_load(const char *dir, struct binds *binds, struct engine_error *error)
{
	char path[VE_PATH * 3];
	json_error_t fault;
	json_t *config, *mount;
	size_t i;
	int rc = path_set(path, "%s/config.json", dir);

	binds->count = 0;
	config = rc < 0 ? NULL : json_load_file(path, JSON_REJECT_DUPLICATES, &fault);
	if (!config)
		return engine_refuse(error, -EINVAL, "read %s: %s", path, fault.text);
	json_array_foreach(json_object_get(config, "mounts"), i,
	    mount) if (rc == 0 && binds_is(mount)) rc = add(binds, mount);
	json_decref(config);
	return rc < 0 ? engine_fail(error, rc, "take the mounts of %s", path) : 0;
}
