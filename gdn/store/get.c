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

#define WRITE_SIZE (256u << 10)

/* One get on its way. */
struct get {
	const struct get_request *request;
	struct store *store;
	struct fault *fault;
	struct object *object;
	struct coder *coder;
	struct buf pending;
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

static int flush(struct get *get, int fd, const char *path)
{
	int r = disk_write(&get->store->disk, fd, path, get->pending.data, get->pending.size);

	buf_clear(&get->pending);
	return r < 0 ? fault_set(get->fault, r, "write %s: %s", path, strerror(-r)) : 0;
}

static int tell(struct get *get)
{
	const struct progress *progress = &get->request->progress;

	if (!progress->tell || get->done - get->told < PROGRESS_STEP)
		return 0;
	get->told = get->done;
	return progress->tell(progress->arg, get->done, object_root(get->object)->bytes);
}

static int write_chunks(
    struct get *get, const struct file *file, const struct entry *entries, int fd, const char *path)
{
	uint64_t offset = 0;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < file->chunks; i++) {
		const uint8_t *plain;

		r = object_read_plain(
		    get->object, &entries[i], file->name, offset, get->coder, &plain, get->fault);
		if (r == 0)
			r = buf_append(&get->pending, plain, entries[i].plain);
		if (r == 0 && get->pending.size >= WRITE_SIZE)
			r = flush(get, fd, path);
		offset += entries[i].plain;
		get->done += entries[i].plain;
		if (r == 0)
			r = tell(get);
	}
	return r < 0 ? r : flush(get, fd, path);
}

static int write_file(struct get *get, const struct file *file, const struct entry *entries)
{
	char path[PATH_MAX];
	int r, fd;

	if (snprintf(path, sizeof(path), "%s/%s", get->temporary, file->name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return fault_set(get->fault, -errno, "create %s: %s", path, strerror(errno));
	r = write_chunks(get, file, entries, fd, path);
	if (r == 0 && get->request->group >= 0 &&
	    fchown(fd, (uid_t)-1, (gid_t)get->request->group) < 0)
		r = fault_set(get->fault, -errno, "give %s to group %d: %s", path,
		    get->request->group, strerror(errno));
	/* Owner and group may read; what could be run can be run. */
	if (r == 0 && fchmod(fd, 0640 | (file->mode & 0110)) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int write_files(struct get *get)
{
	const struct entry *entries = object_list(get->object)->at;
	struct files files = {0};
	int r = object_names(get->object, get->coder, &files, get->fault);

	for (size_t i = 0; r == 0 && i < files.count; i++) {
		r = write_file(get, &files.at[i], entries);
		entries += files.at[i].chunks;
	}
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
	*bytes = get.done;
	coder_free(get.coder);
	object_close(get.object);
	buf_fini(&get.pending);
	return r < 0 ? fault_set(fault, r, "get to %s: %s", request->path, strerror(-r)) : 0;
}
