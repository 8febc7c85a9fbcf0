#include "ved/lxc-config.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "ved/binds.h"
#include "ved/files.h"

struct writer {
	struct buf *out;
	struct engine_error *error;
	int rc; /* the first failure; after it nothing is written */
};

static void refuse(struct writer *writer, const char *member, const char *why)
{
	if (writer->rc == 0)
		writer->rc = engine_refuse(writer->error, -ENOTSUP,
		    "bundle: %s: the engine lxc cannot do that%s%s; crun can ([ved] engine)",
		    member, why[0] ? ": " : "", why);
}

/* One line.  LXC trims values and has no way to quote the end of a line. */
static void __attribute__((format(printf, 3, 4)))
set(struct writer *writer, const char *key, const char *format, ...)
{
	char value[4096], line[4096 + 64];
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(value, sizeof(value), format, list);
	va_end(list);
	if (writer->rc < 0)
		return;
	if (length < 0 || (size_t)length >= sizeof(value))
		refuse(writer, key, "a value of more than 4 kB");
	else if (strchr(value, '\n') || (length && isspace((unsigned char)value[length - 1])))
		refuse(writer, key, "a value with a line end, or a blank as its last");
	if (writer->rc < 0)
		return;
	snprintf(line, sizeof(line), "%s = %s\n", key, value);
	writer->rc = buf_append(writer->out, line, strlen(line));
}

/* Members without a value ask for nothing. */
static bool is_empty(const json_t *value)
{
	return json_is_null(value) || json_is_false(value) ||
	       (json_is_array(value) && json_array_size(value) == 0) ||
	       (json_is_object(value) && json_object_size(value) == 0) ||
	       (json_is_string(value) && json_string_length(value) == 0);
}

/* known: names between blanks, with one at both ends. */
static void only(struct writer *writer, json_t *object, const char *where, const char *known)
{
	char word[128], member[256];
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		snprintf(word, sizeof(word), " %.100s ", key);
		snprintf(member, sizeof(member), "%s%.100s", where, key);
		if (!strstr(known, word) && !is_empty(value))
			refuse(writer, member, "");
	}
}

/* ---- process ---- */

static bool holds(json_t *set, const char *name)
{
	json_t *one;
	size_t i;

	json_array_foreach(set, i,
	    one) if (json_is_string(one) && strcmp(json_string_value(one), name) == 0) return true;
	return false;
}

/* LXC cuts the bounding set.  What root has is then that, and another user has nothing. */
static void set_capabilities(struct writer *writer, json_t *all, bool root)
{
	json_t *bounding = json_object_get(all, "bounding"), *one;
	char names[2048] = "";
	size_t at = 0, i;

	if (!root && json_array_size(json_object_get(all, "ambient")))
		refuse(writer, "process.capabilities.ambient", "of a user other than root");
	json_array_foreach(bounding, i, one)
	{
		const char *name = json_is_string(one) ? json_string_value(one) : "";

		if (strncmp(name, "CAP_", 4) != 0 || strlen(name) > 40 || at > sizeof(names) - 64)
			refuse(writer, "process.capabilities.bounding", "an unknown name");
		else if (root && (!holds(json_object_get(all, "permitted"), name) ||
				     !holds(json_object_get(all, "effective"), name)))
			refuse(writer, "process.capabilities",
			    "root with fewer permitted or effective ones than its bounding set");
		else
			for (name += 4, names[at++] = ' '; *name; name++)
				names[at++] = (char)tolower((unsigned char)*name);
	}
	set(writer, "lxc.cap.keep", "%s", at ? names + 1 : "none");
}

static void set_limits(struct writer *writer, json_t *limits)
{
	json_t *limit;
	size_t i;

	json_array_foreach(limits, i, limit)
	{
		const char *type = json_string_value(json_object_get(limit, "type"));
		char key[64] = "lxc.prlimit.";
		size_t at = strlen(key);

		if (!type || strncmp(type, "RLIMIT_", 7) != 0 || strlen(type) > 40) {
			refuse(writer, "process.rlimits", "an unknown name");
			return;
		}
		for (type += 7; *type; type++)
			key[at++] = (char)tolower((unsigned char)*type);
		set(writer, key, "%" JSON_INTEGER_FORMAT ":%" JSON_INTEGER_FORMAT,
		    json_integer_value(json_object_get(limit, "soft")),
		    json_integer_value(json_object_get(limit, "hard")));
	}
}

static void set_user(struct writer *writer, json_t *user)
{
	json_t *groups = json_object_get(user, "additionalGids"), *group;
	char text[1024] = "";
	size_t at = 0, i;

	only(writer, user, "process.user.", " uid gid additionalGids ");
	set(writer, "lxc.init.uid", "%" JSON_INTEGER_FORMAT,
	    json_integer_value(json_object_get(user, "uid")));
	set(writer, "lxc.init.gid", "%" JSON_INTEGER_FORMAT,
	    json_integer_value(json_object_get(user, "gid")));
	json_array_foreach(groups, i, group) if (at < sizeof(text) - 32) at +=
	    (size_t)snprintf(text + at, sizeof(text) - at, "%s%" JSON_INTEGER_FORMAT, i ? "," : "",
		json_integer_value(group));
	else refuse(writer, "process.user.additionalGids", "as many");
	if (at)
		set(writer, "lxc.init.groups", "%s", text);
}

static void set_process(struct writer *writer, json_t *process)
{
	json_t *user = json_object_get(process, "user"),
	       *oom = json_object_get(process, "oomScoreAdj"), *one;
	const char *cwd = json_string_value(json_object_get(process, "cwd"));
	size_t i;

	only(writer, process, "process.",
	    " args cwd env user capabilities noNewPrivileges rlimits oomScoreAdj ");
	set_user(writer, user);
	set_capabilities(writer, json_object_get(process, "capabilities"),
	    json_integer_value(json_object_get(user, "uid")) == 0);
	set_limits(writer, json_object_get(process, "rlimits"));
	if (cwd)
		set(writer, "lxc.init.cwd", "%s", cwd);
	if (json_is_true(json_object_get(process, "noNewPrivileges")))
		set(writer, "lxc.no_new_privs", "1");
	if (json_is_integer(oom))
		set(writer, "lxc.proc.oom_score_adj", "%" JSON_INTEGER_FORMAT,
		    json_integer_value(oom));
	json_array_foreach(json_object_get(process, "env"), i, one)
	    set(writer, "lxc.environment", "%s", json_is_string(one) ? json_string_value(one) : "");
}

/* ---- mounts ---- */

/* Blanks end a field of an entry, which is a line of fstab(5). */
static bool plain(const char *text)
{
	return text && text[0] && !strpbrk(text, " \t\n\\\"#");
}

static void set_mount(struct writer *writer, json_t *mount)
{
	const char *type = json_string_value(json_object_get(mount, "type"));
	const char *from = json_string_value(json_object_get(mount, "source"));
	const char *to = json_string_value(json_object_get(mount, "destination"));
	char options[1024] = "create=dir";
	size_t at = strlen(options), i;
	json_t *option;

	if (!plain(to) || to[0] != '/' || !plain(type) || (from && !plain(from))) {
		refuse(writer, "mounts", "a path with blanks or quotes");
		return;
	}
	if (binds_is(mount)) {
		refuse(writer, "mounts", "a directory of the host");
		return;
	}
	if (strcmp(to, "/dev") == 0 || strcmp(to, "/dev/pts") == 0)
		return; /* LXC makes them, with the devices that the specification names */
	json_array_foreach(json_object_get(mount, "options"), i, option)
	{
		const char *text = json_string_value(option);

		if (plain(text) && at + strlen(text) + 2 < sizeof(options))
			at += (size_t)snprintf(options + at, sizeof(options) - at, ",%s", text);
		else
			refuse(writer, "mounts", "such an option");
	}
	set(writer, "lxc.mount.entry", "%s %s %s %s 0 0", from ? from : type, to + 1, type,
	    options);
}

/* ---- all of it ---- */

static void set_place(struct writer *writer, json_t *bundle, const struct runner_order *order)
{
	const char *hostname = json_string_value(json_object_get(bundle, "hostname"));

	set(writer, "lxc.rootfs.path", "dir:%s", order->root);
	set(writer, "lxc.uts.name", "%s", hostname ? hostname : order->name);
	set(writer, "lxc.namespace.clone", "ipc mnt pid uts");
	set(writer, "lxc.namespace.share.net", "%s", order->netns);
	set(writer, "lxc.autodev", "1");
	set(writer, "lxc.apparmor.profile",
	    "unconfined"); /* as crun does when a bundle names none */
	set(writer, "lxc.tty.max", "0");
	set(writer, "lxc.pty.max", "1024");
	set(writer, "lxc.console.path", "none");
	set(writer, "lxc.monitor.signal.pdeath", "0");
}

int lxc_config_make(
    json_t *bundle, const struct runner_order *order, struct buf *out, struct engine_error *error)
{
	struct writer writer = {.out = out, .error = error};
	json_t *mount, *kernel = json_object_get(bundle, "linux"), *value;
	const char *key;
	size_t i;

	only(&writer, bundle, "", " ociVersion hostname mounts process root linux annotations ");
	only(&writer, json_object_get(bundle, "root"), "root.", " path ");
	only(&writer, kernel, "linux.", " namespaces sysctl ");
	set_place(&writer, bundle, order);
	set_process(&writer, json_object_get(bundle, "process"));
	json_array_foreach(json_object_get(bundle, "mounts"), i, mount) set_mount(&writer, mount);
	json_object_foreach(json_object_get(kernel, "sysctl"), key, value)
	{
		char name[256];

		if (path_set(name, "lxc.sysctl.%s", key) < 0 || !plain(key) ||
		    !json_is_string(value))
			refuse(&writer, "linux.sysctl", "such a name or value");
		else
			set(&writer, name, "%s", json_string_value(value));
	}
	return writer.rc;
}

static json_t *load(const char *dir)
{
	char path[VE_PATH * 3];

	return path_set(path, "%s/config.json", dir) < 0
		   ? NULL
		   : json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
}

int lxc_config_write(const struct runner_order *order, struct engine_error *error)
{
	json_t *bundle = load(order->dir);
	_cleanup_buf_ struct buf text = {0};
	char path[VE_PATH * 3];
	int rc;

	if (!bundle)
		return engine_refuse(error, -EINVAL, "read %s/config.json", order->dir);
	rc = lxc_config_make(bundle, order, &text, error);
	json_decref(bundle);
	if (rc < 0)
		return rc;
	rc = path_set(path, "%s/lxc.conf", order->dir);
	if (rc == 0)
		rc = file_replace(path, text.data, text.size, 0600);
	return rc < 0 ? engine_fail(error, rc, "write %s", path) : 0;
}

/* Not lxc.init.cmd: that is one line, in which no argument can be empty. */
int lxc_command_make(
    struct lxc_command *out, const char *dir, const char *const before[], size_t count)
{
	json_t *args, *arg;
	size_t i;

	*out = (struct lxc_command){.bundle = load(dir)};
	args = json_object_get(json_object_get(out->bundle, "process"), "args");
	out->argv = calloc(count + json_array_size(args) + 1, sizeof(*out->argv));
	if (!out->argv)
		return -ENOMEM;
	memcpy(out->argv, before, count * sizeof(*before));
	json_array_foreach(args, i, arg)
	{
		out->argv[count + i] = (char *)json_string_value(arg);
		if (!json_is_string(arg))
			return -EINVAL;
	}
	return json_array_size(args) ? 0 : -EINVAL;
}
