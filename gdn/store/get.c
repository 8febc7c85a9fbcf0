#include "gdn/store/private.h"

#include "gdn/store/coder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One get on its way. */
struct get {
	const struct get_request *request;
	struct store *store;
	struct fault *fault;
	struct object *object;
	struct coder *coder;
	const struct file *file; /* open to be written, or NULL */
	int fd;
	uint64_t done, told;
	char temporary[PATH_MAX];
};

/*
 * The files come to be in "PATH/../.NAME.gosd".  The name is fixed, so what a crash left there is
 * found and removed by the next get to the same place.
 */
static int name_temporary(struct get *get)
{
	const char *path = get->request->path, *slash = strrchr(path, '/');
	int head = slash ? (int)(slash - path) + 1 : 0;

	if (path[head] == '\0')
		return fault_set(get->fault, -EINVAL, "get to %s: ends with a slash", path);
	if (snprintf(get->temporary, sizeof(get->temporary), "%.*s.%s.gosd", head, path,
		path + head) >= (int)sizeof(get->temporary))
		return -ENAMETOOLONG;
	return 0;
}

static void remove_directory(const char *path)
{
	char full[PATH_MAX];
	struct dirent *entry;
	DIR *dir = opendir(path);

	while (dir && (entry = readdir(dir)))
		if (snprintf(full, sizeof(full), "%s/%s", path, entry->d_name) < (int)sizeof(full))
			unlink(full);
	if (dir)
		closedir(dir);
	rmdir(path);
}

static bool is_occupied(const char *path)
{
	struct dirent *entry;
	struct stat st;
	int count = 0;
	DIR *dir;

	if (lstat(path, &st) < 0)
		return false;
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count++;
	if (dir)
		closedir(dir);
	return count != 2;
}

static int make_temporary(struct get *get)
{
	int r = name_temporary(get);

	if (r < 0)
		return r;
	if (is_occupied(get->request->path))
		return fault_set(get->fault, -EEXIST, "get to %s: there is something already",
		    get->request->path);
	remove_directory(get->temporary);
	if (mkdir(get->temporary, 0750) < 0 ||
	    (get->request->group >= 0 &&
		chown(get->temporary, (uid_t)-1, (gid_t)get->request->group) < 0) ||
	    chmod(get->temporary, 0770) < 0)
		return fault_set(
		    get->fault, -errno, "make directory %s: %s", get->temporary, strerror(errno));
	return 0;
}

static int tell(struct get *get)
{
	const struct progress *progress = &get->request->progress;

	if (!progress->tell || get->done - get->told < PROGRESS_STEP)
		return 0;
	get->told = get->done;
	return progress->tell(progress->arg, get->done, object_root(get->object)->bytes);
}

static int path_of(const struct get *get, const struct file *file, char path[PATH_MAX])
{
	return snprintf(path, PATH_MAX, "%s/%s", get->temporary, file->name) >= PATH_MAX
		   ? -ENAMETOOLONG
		   : 0;
}

/* Owner and group may read; what could be run can be run. */
static int make_file(struct get *get, const struct file *file)
{
	char path[PATH_MAX];
	int fd, r = path_of(get, file, path);

	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fault_set(get->fault, -errno, "create %s: %s", path, strerror(errno));
	if (get->request->group >= 0 && fchown(fd, (uid_t)-1, (gid_t)get->request->group) < 0)
		r = fault_set(get->fault, -errno, "give %s to group %d: %s", path,
		    get->request->group, strerror(errno));
	if (r == 0 && fchmod(fd, 0640 | (file->mode & 0110)) < 0)
		r = -errno;
	close(fd);
	return r;
}

static void close_file(struct get *get)
{
	if (get->file)
		close(get->fd);
	get->file = NULL;
}

/* Opens another file than the last one's piece went to. */
static int turn_to(struct get *get, const struct file *file, const char *path)
{
	if (get->file == file)
		return 0;
	close_file(get);
	get->fd = open(path, O_WRONLY | O_CLOEXEC);
	if (get->fd < 0)
		return fault_set(get->fault, -errno, "open %s: %s", path, strerror(errno));
	get->file = file;
	return 0;
}

static int write_piece(void *arg, const struct piece *piece, struct fault *fault)
{
	struct get *get = arg;
	char path[PATH_MAX];
	int r = path_of(get, piece->file, path);

	if (r == 0)
		r = turn_to(get, piece->file, path);
	if (r == 0)
		r = disk_write_at(
		    &get->store->disk, get->fd, path, piece->plain, piece->size, piece->at);
	if (r < 0)
		return fault_set(fault, r, "write %s: %s", path, strerror(-r));
	get->done += piece->size;
	return tell(get);
}

static int write_files(struct get *get)
{
	struct files files = {0};
	int r = object_names(get->object, get->coder, &files, get->fault);

	for (size_t i = 0; r == 0 && i < files.count; i++)
		r = make_file(get, &files.at[i]);
	if (r == 0)
		r = object_walk(get->object, &files, get->coder, write_piece, get, get->fault);
	close_file(get);
	files_fini(&files);
	return r;
}

static int write_object(struct get *get)
{
	int r = make_temporary(get);

	if (r < 0)
		return r;
	r = write_files(get);
	if (r == 0 && rename(get->temporary, get->request->path) < 0)
		r = fault_set(get->fault, -errno, "rename %s to %s: %s", get->temporary,
		    get->request->path, strerror(errno));
	if (r < 0)
		remove_directory(get->temporary);
	return r;
}

int store_get(
    struct store *store, const struct get_request *request, uint64_t *bytes, struct fault *fault)
{
	struct get get = {.request = request, .store = store, .fault = fault};
	int r = object_open(&get.object, store, &request->oid, fault);

	if (r == 0)
		r = coder_new(&get.coder, request->key);
	if (r == 0)
		r = write_object(&get);
	if (r == 0 && object_root(get.object)->sealed)
		series_seen(store, request->key, &request->oid);
	*bytes = get.done;
	coder_free(get.coder);
	object_close(get.object);
	return r < 0 ? fault_set(fault, r, "get to %s: %s", request->path, strerror(-r)) : 0;
}
