#include "gdn/store/put.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int put_chunk(
    struct put *put, struct coder *coder, const uint8_t *plain, size_t size, struct entry *entry)
{
	const uint8_t *stored;
	size_t stored_size;
	int r = coder_encode(coder, plain, size, &stored, &stored_size);

	if (r < 0)
		return r;
	*entry = (struct entry){.id = id_of(stored, stored_size),
	    .stored = (uint32_t)stored_size,
	    .plain = (uint32_t)size};
	r = upload_add(put->upload, &entry->id, stored, stored_size, put->fault);
	return r < 0 ? r : 0;
}

static int store_chunk(struct put *put, struct coder *coder, const uint8_t *plain, size_t size,
    struct entries *entries)
{
	struct entry entry;
	int r = put_chunk(put, coder, plain, size, &entry);

	return r < 0 ? r : entries_add(entries, &entry);
}

static int store_bytes(
    struct put *put, struct coder *coder, const struct buf *bytes, struct entries *entries)
{
	int r = 0;

	for (size_t at = 0, size; r == 0 && at < bytes->size; at += size) {
		size = chunker_cut(&put->chunker, bytes->data + at, bytes->size - at);
		r = store_chunk(put, coder, bytes->data + at, size, entries);
	}
	return r;
}

int put_done(struct put *put, size_t size)
{
	const struct progress *progress = &put->request->progress;

	put->done += size;
	if (put->list.count >= OBJECT_CHUNKS_MAX || put->done > OBJECT_BYTES_MAX)
		return -EFBIG;
	if (!progress->tell || put->done - put->told < PROGRESS_STEP)
		return 0;
	put->told = put->done;
	return progress->tell(progress->arg, put->done, put->total);
}

int put_fill(struct put *put, int fd, size_t *have, bool *end)
{
	while (*have < PUT_WINDOW && !*end) {
		ssize_t n = read(fd, put->window + *have, PUT_WINDOW - *have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		*end = n == 0;
		*have += (size_t)n;
	}
	return 0;
}

/* A piece of a file that is a chunk of its own. */
static int store_piece(struct put *put, const uint8_t *plain, size_t size, struct file *file)
{
	struct extent extent = {(uint32_t)put->list.count, 0, (uint32_t)size};
	int r = store_chunk(put, put->data, plain, size, &put->list);

	return r < 0 ? r : files_extend(&put->files, file, &extent);
}

/* --- files --- */

static int store_stream(struct put *put, int fd, struct file *file)
{
	size_t have = 0, at = 0;
	bool end = false;
	int r = put_fill(put, fd, &have, &end);

	while (r == 0 && at < have) {
		size_t size = chunker_cut(&put->chunker, put->window + at, have - at);

		r = store_piece(put, put->window + at, size, file);
		if (r == 0)
			r = put_done(put, size);
		at += size;
		if (r == 0 && !end && have - at < CHUNK_MAX) {
			memmove(put->window, put->window + at, have - at);
			have -= at;
			at = 0;
			r = put_fill(put, fd, &have, &end);
		}
	}
	return r;
}

static int store_file(struct put *put, const char *path, const char *name)
{
	struct file file = {0};
	struct stat st;
	int r, fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return fault_set(put->fault, -errno, "open %s: %s", path, strerror(errno));
	r = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
	if (r == -EINVAL)
		fault_set(put->fault, r, "put %s: not a regular file", path);
	if (r == 0) {
		snprintf(file.name, sizeof(file.name), "%s", name);
		file.mode = st.st_mode & 0777;
		if (put->memory && is_pages_file(name))
			r = memory_store_file(put, fd, &st, &file);
		if (r == 0)
			r = store_stream(put, fd, &file);
	}
	close(fd);
	if (r == 0)
		r = files_add(&put->files, &file);
	return r < 0 ? fault_set(put->fault, r, "put %s: %s", path, strerror(-r)) : 0;
}

static int not_hidden_links(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* By bytes, not by locale: the order is part of the object. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int store_directory(struct put *put, const char *path)
{
	struct dirent **names = NULL;
	char full[PATH_MAX];
	int r, count = scandir(path, &names, not_hidden_links, by_name);

	if (count < 0)
		return fault_set(put->fault, -errno, "read %s: %s", path, strerror(errno));
	r = count > (int)OBJECT_FILES_MAX ? -E2BIG : 0;
	for (int i = 0; r == 0 && i < count; i++)
		r = memory_survey(put, path, names[i]->d_name);
	for (int i = 0; i < count; i++) {
		if (r == 0 && snprintf(full, sizeof(full), "%s/%s", path, names[i]->d_name) >=
				  (int)sizeof(full))
			r = -ENAMETOOLONG;
		if (r == 0)
			r = store_file(put, full, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return r < 0 ? fault_set(put->fault, r, "put %s: %s", path, strerror(-r)) : 0;
}

/* What progress is told as the whole; files may grow or shrink meanwhile. */
static uint64_t total_size(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	struct stat st;
	uint64_t sum = 0;

	if (!dir)
		return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
	while ((entry = readdir(dir)))
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	closedir(dir);
	return sum;
}

static int store_content(struct put *put)
{
	const char *path = put->request->path;
	char copy[PATH_MAX];
	struct stat st;

	if (stat(path, &st) < 0)
		return fault_set(put->fault, -errno, "put %s: %s", path, strerror(errno));
	put->total = total_size(path);
	if (S_ISDIR(st.st_mode))
		return store_directory(put, path);
	snprintf(copy, sizeof(copy), "%s", path);
	return store_file(put, path, basename(copy));
}

/* Stores list and names, then commits under the root. */
static int finish(struct put *put, struct put_result *result)
{
	_cleanup_buf_ struct buf list = {0};
	_cleanup_buf_ struct buf names = {0};
	_cleanup_buf_ struct buf root_bytes = {0};
	struct root root = {.sealed = put->request->key != NULL, .bytes = put->done};
	uint8_t series[SERIES_NAME_SIZE];
	bool has_pages = memory_has_pages(put);
	int r = memory_end_chunk(put);

	root.chunks = (uint32_t)put->list.count;
	if (r == 0)
		r = list_pack(&put->list, &list);
	if (has_pages)
		series_name(series, put->request->key);
	if (r == 0)
		r = names_pack(&put->files, &names);
	if (r == 0)
		r = store_bytes(put, put->open, &list, &root.list);
	if (r == 0)
		r = store_bytes(put, put->data, &names, &root.names);
	if (r == 0)
		r = root_pack(&root, &root_bytes);
	if (r == 0 && root_bytes.size > ROOT_SIZE_MAX)
		r = -EFBIG;
	if (r == 0)
		r = upload_commit(put->upload,
		    &(struct upload_object){.root_bytes = &root_bytes,
			.root = &root,
			.list = &put->list,
			.tag = put->request->tag,
			.kind = put->request->kind,
			.now_ms = put->request->now_ms,
			.series = has_pages ? series : NULL},
		    put->fault);
	if (r >= 0)
		*result = (struct put_result){.oid = id_of(root_bytes.data, root_bytes.size),
		    .bytes = put->done,
		    .stored = upload_stored(put->upload),
		    .chunks = root.chunks,
		    .was_there = r == 0};
	root_fini(&root);
	return r < 0 ? r : 0;
}

static void put_fini(struct put *put)
{
	upload_free(put->upload);
	coder_free(put->data);
	coder_free(put->open);
	entries_fini(&put->list);
	files_fini(&put->files);
	free(put);
}

int store_put(struct store *store, const struct put_request *request, struct put_result *result,
    struct fault *fault)
{
	struct put *put = calloc(1, sizeof(*put));
	int r;

	if (!put)
		return -ENOMEM;
	put->request = request;
	put->fault = fault;
	chunker_init(&put->chunker);
	r = request->key ? memory_new(put, store) : 0;
	if (r == 0)
		r = coder_new(&put->data, request->key);
	if (r == 0)
		r = coder_new(&put->open, NULL);
	if (r == 0)
		r = upload_new(&put->upload, store);
	if (r == 0)
		r = store_content(put);
	if (r == 0)
		r = finish(put, result);
	memory_end(put, store, r == 0 ? result : NULL);
	put_fini(put);
	return r < 0 ? fault_set(fault, r, "put %s: %s", request->path, strerror(-r)) : 0;
}
