#include "ved/bundle.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "ved/binds.h"
#include "ved/files.h"

static bool text_is(json_t *json, const char *text)
{
	return json_is_string(json) && strcmp(json_string_value(json), text) == 0;
}

/* File systems that have nothing of the host in them. */
static bool is_inside(const char *type)
{
	static const char *const types[] = {"proc", "tmpfs", "devpts", "mqueue", "sysfs"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(type, types[i]) == 0)
			return true;
	return false;
}

/* Whether a mount passes on what is mounted below it, or takes it from elsewhere. */
static bool propagates(const char *option)
{
	static const char *const words[] = {"shared", "rshared", "slave", "rslave"};

	for (size_t i = 0; option && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(option, words[i]) == 0)
			return true;
	return false;
}

static int refuse_shared(json_t *mount, const char *to, struct engine_error *error)
{
	json_t *option;
	size_t i;

	json_array_foreach(json_object_get(mount, "options"), i,
	    option) if (propagates(json_string_value(option))) return engine_refuse(error, -EINVAL,
	    "bundle: mount %s: option %s: what is shared with mounts of the host cannot move", to,
	    json_string_value(option));
	return 0;
}

static int refuse_mount(json_t *mount, const struct engine_config *engine,
    const struct ve_spec *spec, struct engine_error *error)
{
	const char *type = json_string_value(json_object_get(mount, "type"));
	const char *to = json_string_value(json_object_get(mount, "destination"));

	if (binds_is(mount))
		return binds_take(mount, engine, spec, error);
	if (!to || !type || !is_inside(type))
		return engine_refuse(error, -EINVAL,
		    "bundle: mount %s of type %s: only file systems that live inside the VE "
		    "(proc, tmpfs, devpts, mqueue, sysfs) can move with it",
		    to ? to : "?", type ? type : "none");
	return refuse_shared(mount, to, error);
}

static int refuse_what_cannot_move(json_t *config, const struct engine_config *engine,
    const struct ve_spec *spec, struct engine_error *error)
{
	json_t *mount, *linux_part = json_object_get(config, "linux"), *namespace;
	size_t i;
	int rc;

	if (json_is_true(json_object_get(json_object_get(config, "process"), "terminal")))
		return engine_refuse(
		    error, -EINVAL, "bundle: process.terminal: a service has no terminal");
	if (json_object_size(json_object_get(config, "hooks")) > 0)
		return engine_refuse(
		    error, -EINVAL, "bundle: hooks: a bundle may not run programs on the host");
	if (json_array_size(json_object_get(linux_part, "devices")) > 0)
		return engine_refuse(
		    error, -EINVAL, "bundle: linux.devices: host devices cannot move");
	if (propagates(json_string_value(json_object_get(linux_part, "rootfsPropagation"))))
		return engine_refuse(error, -EINVAL,
		    "bundle: linux.rootfsPropagation: what is shared with mounts of the host cannot "
		    "move");
	json_array_foreach(json_object_get(linux_part, "namespaces"), i,
	    namespace) if (text_is(json_object_get(namespace, "type"),
			       "user")) return engine_refuse(error, -EINVAL,
	    "bundle: user namespaces are not supported");
	json_array_foreach(json_object_get(config, "mounts"), i,
	    mount) if ((rc = refuse_mount(mount, engine, spec, error)) < 0) return rc;
	return 0;
}

static uint64_t number_at(json_t *object, const char *group, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(json_object_get(object, group), key));

	return value > 0 ? (uint64_t)value : 0;
}

static void take_limits(json_t *config, struct cgroup_limits *limits)
{
	json_t *resources = json_object_get(json_object_get(config, "linux"), "resources");

	*limits = (struct cgroup_limits){
	    .memory_bytes = number_at(resources, "memory", "limit"),
	    .cpu_quota_us = number_at(resources, "cpu", "quota"),
	    .cpu_period_us = number_at(resources, "cpu", "period"),
	    .pids = number_at(resources, "pids", "limit"),
	};
}

static int set_ours(json_t *config, const char *name, const char *root_dir, const char *netns)
{
	json_t *linux_part = json_object_get(config, "linux"),
	       *root = json_object_get(config, "root");
	json_t *namespaces = json_pack("[{ss} {ss} {ss} {ss} {ss ss}]", "type", "pid", "type",
	    "mount", "type", "ipc", "type", "uts", "type", "network", "path", netns);

	if (!json_is_object(linux_part)) {
		linux_part = json_object();
		json_object_set_new(config, "linux", linux_part);
	}
	if (!json_is_object(root)) {
		root = json_object();
		json_object_set_new(config, "root", root);
	}
	json_object_set_new(root, "path", json_string(root_dir));
	json_object_del(linux_part, "resources");
	json_object_del(linux_part, "cgroupsPath");
	if (!json_object_get(config, "hostname"))
		json_object_set_new(config, "hostname", json_string(name));
	return json_object_set_new(linux_part, "namespaces", namespaces) < 0 ? -ENOMEM : 0;
}

static int write_config(json_t *config, const char *out_dir, struct engine_error *error)
{
	char path[VE_PATH * 2];
	char *text = json_dumps(config, JSON_COMPACT);
	int rc = path_set(path, "%s/config.json", out_dir);

	if (rc == 0)
		rc = text ? file_replace(path, text, strlen(text), 0600) : -ENOMEM;
	free(text);
	return rc < 0 ? engine_fail(error, rc, "write %s", path) : 0;
}

int bundle_prepare(const char *bundle_dir, const struct engine_config *engine,
    const struct ve_spec *spec, const char *root_dir, const char *netns, const char *out_dir,
    struct cgroup_limits *limits, struct engine_error *error)
{
	char path[VE_PATH * 2];
	json_error_t fault;
	json_t *config;
	int rc = path_set(path, "%s/config.json", bundle_dir);

	if (rc < 0)
		return engine_fail(error, rc, "bundle %s", bundle_dir);
	config = json_load_file(path, JSON_REJECT_DUPLICATES, &fault);
	if (!config)
		return engine_refuse(
		    error, -EINVAL, "bundle: %s:%d: %s", path, fault.line, fault.text);
	if (!json_is_object(config))
		rc = engine_refuse(error, -EINVAL, "bundle: %s: not an object", path);
	else
		rc = refuse_what_cannot_move(config, engine, spec, error);
	if (rc == 0) {
		take_limits(config, limits);
		rc = set_ours(config, spec->name, root_dir, netns);
	}
	if (rc == 0)
		rc = write_config(config, out_dir, error);
	json_decref(config);
	return rc;
}
