/*
 * depctl obj: objects of this node's store.
 *
 * gosd reads and writes paths as its own user, so what lies in a directory that only the caller may enter is handed over
 * through RUN/images, which both may use.
 */
#include "depctl/object.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depctl/command.h"
#include "proto/gosd.h"

#define TRANSFER_MS 600000

static void allow(struct session *session)
{
	if (!session->timeout_given)
		session->timeout_ms = TRANSFER_MS;
}

bool parse_oid(const char *text, uint8_t oid[32])
{
	if (key_parse(oid, text) == 0)
		return true;
	fprintf(stderr, "depctl: OID: %s is not 64 hex digits\n", text);
	return false;
}

static bool read_key(const char *path, uint8_t key[32])
{
	struct node_keys keys;

	/* The same form as a node's key file, and the same care for its mode. */
	if (keys_load(&keys, path) < 0)
		return false;
	memcpy(key, keys.secret_key, 32);
	sodium_memzero(&keys, sizeof(keys));
	return true;
}

/* --- handing over --- */

static int copy_file(int from_dir, const char *name, int to_dir)
{
	int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC), to, r = 0;
	ssize_t size;

	if (from < 0)
		return -errno;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (to < 0)
		r = -errno;
	while (r == 0 && (size = sendfile(to, from, NULL, 1 << 30)) != 0)
		if (size < 0)
			r = -errno;
	if (r == 0 && fchmod(to, 0640) < 0)
		r = -errno;
	close(from);
	if (to >= 0)
		close(to);
	return r;
}

/* Copies the files of a directory, or one file; error names what failed. */
static int copy_files(const char *path, const char *to, char *failed, size_t size)
{
	int to_dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC), from_dir, r = 0;
	const char *slash = strrchr(path, '/');
	struct dirent *entry;
	struct stat st;
	DIR *directory;

	snprintf(failed, size, "%s", path);
	if (to_dir < 0 || stat(path, &st) < 0) {
		r = -errno;
	} else if (!S_ISDIR(st.st_mode)) {
		char parent[PATH_MAX];

		snprintf(parent, sizeof(parent), "%.*s", slash ? (int)(slash - path + 1) : 1,
		    slash ? path : ".");
		from_dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = from_dir < 0 ? -errno : copy_file(from_dir, slash ? slash + 1 : path, to_dir);
		close(from_dir);
	} else if (!(directory = opendir(path))) {
		r = -errno;
	} else {
		while (r == 0 && (entry = readdir(directory))) {
			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			snprintf(failed, size, "%s/%s", path, entry->d_name);
			r = copy_file(dirfd(directory), entry->d_name, to_dir);
		}
		closedir(directory);
	}
	if (to_dir >= 0)
		close(to_dir);
	return r;
}

static void remove_files(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(path);
}

static int make_exchange(const struct session *session, char *path, size_t size)
{
	snprintf(path, size, "%s/images/depctl-XXXXXX", session->node.run_dir);
	/* The directory inherits its group; gosd is in it. */
	if (!mkdtemp(path) || chmod(path, 02770) < 0) {
		fprintf(stderr, "depctl: create %s: %s\ntry: as root, or as a member of group %s\n",
		    path, strerror(errno), session->node.group);
		return errno == EACCES || errno == EPERM ? RPC_DENIED : RPC_FAILED;
	}
	return 0;
}

/* --- put --- */

static json_t *put(
    struct session *session, const char *path, struct msg_gosd_put *request, int *status)
{
	_cleanup_buf_ struct buf body = {0};
	char exchange[PATH_MAX - 64], failed[PATH_MAX];
	json_t *reply = NULL;
	int r;

	*status = make_exchange(session, exchange, sizeof(exchange));
	if (*status)
		return NULL;
	r = copy_files(path, exchange, failed, sizeof(failed));
	if (r < 0) {
		fprintf(stderr, "depctl: %s: %s\n", failed, strerror(-r));
		*status = r == -ENOENT ? RPC_NOT_FOUND : RPC_FAILED;
	} else if (PARSE_TEXT("path", exchange, request->path)) {
		msg_gosd_put_pack(request, &body);
		allow(session);
		reply = session_ask(session, "gosd", MSG_GOSD_PUT, &body, status);
	} else {
		*status = RPC_FAILED;
	}
	remove_files(exchange);
	return reply;
}

int object_put(struct session *session, const char *path, const char *name, const char *kind,
    uint8_t copies, uint8_t oid[32])
{
	struct msg_gosd_put request = {.copies = copies};
	int64_t timeout_ms = session->timeout_ms;
	json_t *reply;
	int status;

	snprintf(request.name, sizeof(request.name), "%s", name);
	snprintf(request.kind, sizeof(request.kind), "%s", kind);
	reply = put(session, path, &request, &status);
	session->timeout_ms = timeout_ms;
	if (!reply)
		return status;
	if (key_parse(oid, json_string_value(json_object_get(reply, "oid"))) < 0)
		status = RPC_FAILED;
	json_decref(reply);
	return status;
}

enum { PUT_COPIES, PUT_KEY, PUT_NAME };

int command_obj_put(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"OID", "oid", NULL},
	    {"SIZE", "bytes", format_bytes}, {"NEW HERE", "stored", format_bytes},
	    {"CHUNKS", "chunks", NULL}, {"ALSO ON", "replicas", NULL}, {0}};
	const char *path = arguments->positional[0], *slash = strrchr(path, '/');
	const char *name = arguments->option[PUT_NAME] ? arguments->option[PUT_NAME]
			   : slash && slash[1]         ? slash + 1
						       : path;
	struct msg_gosd_put request = {.kind = "data"};
	uint64_t copies = 0;
	json_t *reply;
	int status;

	if ((arguments->option[PUT_COPIES] &&
		!parse_count("--copies", arguments->option[PUT_COPIES], 0, 16, &copies)) ||
	    !PARSE_TEXT("--name", name, request.name))
		return EXIT_USAGE;
	request.copies = (uint8_t)copies;
	request.has_key = arguments->option[PUT_KEY] != NULL;
	if (request.has_key && !read_key(arguments->option[PUT_KEY], request.key))
		return RPC_FAILED;
	reply = put(session, path, &request, &status);
	sodium_memzero(request.key, sizeof(request.key));
	if (!reply)
		return status;
	output_object(session->form, reply, columns);
	json_decref(reply);
	return 0;
}

/* --- get --- */

int command_obj_get(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"SIZE", "bytes", format_bytes},
	    {"FETCHED", "fetched", format_bytes}, {"FROM", "nodes", NULL}, {0}};
	const char *path = arguments->positional[1];
	char exchange[PATH_MAX - 64], failed[PATH_MAX];
	struct msg_gosd_get request = {.has_key = arguments->option[0] != NULL};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply = NULL;
	int status, r;

	if (!parse_oid(arguments->positional[0], request.oid))
		return EXIT_USAGE;
	if (request.has_key && !read_key(arguments->option[0], request.key))
		return RPC_FAILED;
	if (mkdir(path, 0755) < 0) {
		fprintf(stderr, "depctl: create %s: %s\n", path, strerror(errno));
		return RPC_FAILED;
	}
	status = make_exchange(session, exchange, sizeof(exchange));
	if (status == 0 && PARSE_TEXT("path", exchange, request.path)) {
		msg_gosd_get_pack(&request, &body);
		allow(session);
		reply = session_ask(session, "gosd", MSG_GOSD_GET, &body, &status);
	}
	sodium_memzero(request.key, sizeof(request.key));
	if (reply && (r = copy_files(exchange, path, failed, sizeof(failed))) < 0) {
		fprintf(stderr, "depctl: %s: %s\n", failed, strerror(-r));
		status = RPC_FAILED;
	}
	if (reply && status == 0)
		output_object(session->form, reply, columns);
	if (status)
		remove_files(path);
	remove_files(exchange);
	json_decref(reply);
	return status;
}

/* --- ls, rm, verify --- */

int command_obj_ls(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"OID", "oid", NULL},
	    {"SIZE", "bytes", format_bytes}, {"CHUNKS", "chunks", NULL}, {"SEALED", "sealed", NULL},
	    {"CAME", "created_ms", format_wall_ms}, {"FOR", "names", NULL},
	    {"ALSO ON", "replicas", NULL}, {0}};
	struct msg_gosd_ls request = {0};
	json_t *rows = json_array(), *reply, *object, *tag;
	bool more = true;
	int status = 0;
	size_t i, k;

	(void)arguments;
	while (more) {
		_cleanup_buf_ struct buf body = {0};

		msg_gosd_ls_pack(&request, &body);
		reply = session_ask(session, "gosd", MSG_GOSD_LS, &body, &status);
		if (!reply)
			break;
		json_array_foreach(json_object_get(reply, "objects"), i, object)
		{
			json_t *names = json_array();

			json_array_foreach(json_object_get(object, "tags"), k, tag)
			    json_array_append(names, json_object_get(tag, "name"));
			json_object_set_new(object, "names", names);
			json_array_append(rows, object);
		}
		more = json_is_true(json_object_get(reply, "more"));
		request.skip = (uint32_t)json_array_size(rows);
		json_decref(reply);
	}
	if (status == 0)
		output_rows(session->form, rows, columns, "no objects on this node");
	json_decref(rows);
	return status;
}

int command_obj_rm(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"GONE HERE", "gone", NULL},
	    {"REMOVED ON", "nodes", NULL}, {"NOT REACHED", "unreachable", NULL}, {0}};
	struct msg_gosd_rm request = {0};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	int status;

	if (!parse_oid(arguments->positional[0], request.oid))
		return EXIT_USAGE;
	allow(session);
	msg_gosd_rm_pack(&request, &body);
	reply = session_ask(session, "gosd", MSG_GOSD_RM, &body, &status);
	if (!reply)
		return status;
	output_object(session->form, reply, columns);
	json_decref(reply);
	return 0;
}

int command_obj_verify(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"OBJECTS", "objects", NULL},
	    {"CHUNKS", "chunks", NULL}, {"SIZE", "bytes", format_bytes},
	    {"DAMAGED", "damaged", NULL}, {"MISSING", "missing", NULL},
	    {"REPAIRED", "repaired", NULL}, {"BROKEN", "broken", NULL}, {0}};
	struct msg_gosd_verify request = {.repair = true, .has_oid = arguments->n_positionals > 0};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	bool broken;
	int status;

	if (request.has_oid && !parse_oid(arguments->positional[0], request.oid))
		return EXIT_USAGE;
	allow(session);
	msg_gosd_verify_pack(&request, &body);
	reply = session_ask(session, "gosd", MSG_GOSD_VERIFY, &body, &status);
	if (!reply)
		return status;
	broken = json_array_size(json_object_get(reply, "broken")) > 0;
	output_object(session->form, reply, columns);
	json_decref(reply);
	return broken ? RPC_FAILED : 0;
}
