/*
 * Files of pages on their way into the store (pages.h has the idea).
 *
 * Two passes, when there is a last image: the first one hashes all pages and counts what of the
 * last image's chunks is still in use; the second one stores what is not there.
 */
#include "gdn/store/put.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_CHUNK UINT32_MAX
#define NOT_LOOKED_AT (UINT32_MAX - 1)

/* A file that the first pass has read. */
struct surveyed {
	struct stat st;
	size_t first, count; /* of the hashes */
};

struct memory {
	struct pages *last; /* of the last image, or NULL */
	struct id last_oid;
	uint32_t *carried;      /* where its chunks stand in the list of this one */
	struct page_hash *hash; /* of the pages that the first pass read */
	size_t hash_count, hash_capacity;
	struct surveyed *surveyed;
	size_t surveyed_count;
	struct pages *pages; /* of this image */
	struct coder *coder;
	uint32_t chunk; /* being filled; it has its place in the list already, or NO_CHUNK */
	uint32_t size;
	uint8_t plain[CHUNK_MAX];
};

/* --- the first pass --- */

static int note_hash(struct memory *memory, const struct page_hash *hash)
{
	if (memory->hash_count == memory->hash_capacity) {
		size_t capacity = memory->hash_capacity ? 2 * memory->hash_capacity : 4096;
		struct page_hash *grown = reallocarray(memory->hash, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		memory->hash = grown;
		memory->hash_capacity = capacity;
	}
	memory->hash[memory->hash_count++] = *hash;
	return 0;
}

static int hash_window(struct put *put, size_t size)
{
	struct memory *memory = put->memory;
	int r = 0;

	for (size_t at = 0; r == 0 && at + MEMORY_PAGE <= size; at += MEMORY_PAGE) {
		struct page_hash hash;

		pages_hash(memory->last, put->window + at, &hash);
		pages_use(memory->last, &hash);
		r = note_hash(memory, &hash);
	}
	return r;
}

static int survey_file(struct put *put, int fd)
{
	struct memory *memory = put->memory;
	struct surveyed *grown =
	    reallocarray(memory->surveyed, memory->surveyed_count + 1, sizeof(*grown));
	struct surveyed *file;
	bool end = false;
	int r = 0;

	if (!grown)
		return -ENOMEM;
	memory->surveyed = grown;
	file = &grown[memory->surveyed_count];
	*file = (struct surveyed){.first = memory->hash_count};
	if (fstat(fd, &file->st) < 0)
		return -errno;
	while (r == 0 && !end) {
		size_t have = 0;

		r = put_fill(put, fd, &have, &end);
		if (r == 0)
			r = hash_window(put, have);
	}
	file->count = memory->hash_count - file->first;
	memory->surveyed_count++;
	return r;
}

int memory_survey(struct put *put, const char *directory, const char *name)
{
	char path[PATH_MAX];
	int fd, r;

	if (!put->memory || !put->memory->last || !is_pages_file(name))
		return 0;
	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fault_set(put->fault, -errno, "open %s: %s", path, strerror(errno));
	r = survey_file(put, fd);
	close(fd);
	return r < 0 ? fault_set(put->fault, r, "read %s: %s", path, strerror(-r)) : 0;
}

/* --- the second pass --- */

static bool is_unchanged(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* What the first pass found in this file; NULL: it did not read it, or it has changed since. */
static const struct surveyed *find_surveyed(const struct memory *memory, const struct stat *st)
{
	for (size_t i = 0; i < memory->surveyed_count; i++)
		if (is_unchanged(&memory->surveyed[i].st, st))
			return &memory->surveyed[i];
	return NULL;
}

int memory_end_chunk(struct put *put)
{
	struct memory *memory = put->memory;
	struct entry entry;
	int r;

	if (!memory || memory->chunk == NO_CHUNK)
		return 0;
	r = put_chunk(put, memory->coder, memory->plain, memory->size, &entry);
	if (r == 0)
		put->list.at[memory->chunk] = entry;
	memory->chunk = NO_CHUNK;
	return r;
}

/* A page that no chunk has yet. */
static int gather(struct put *put, const uint8_t *page, struct page_place *place)
{
	struct memory *memory = put->memory;
	int r = 0;

	if (memory->chunk == NO_CHUNK) {
		memory->chunk = (uint32_t)put->list.count;
		memory->size = 0;
		r = entries_add(&put->list, &(struct entry){0});
	}
	if (r < 0)
		return r;
	*place = (struct page_place){memory->chunk, memory->size};
	memcpy(memory->plain + memory->size, page, MEMORY_PAGE);
	memory->size += MEMORY_PAGE;
	return memory->size == CHUNK_MAX ? memory_end_chunk(put) : 0;
}

/* The chunk takes its place in this image's list when it is first needed. */
static int look_at(struct put *put, uint32_t chunk)
{
	struct memory *memory = put->memory;
	const struct entry *entry = &pages_chunks(memory->last)->at[chunk];
	int r = pages_is_sparse(memory->last, chunk) ? 0 : upload_knows(put->upload, &entry->id);

	memory->carried[chunk] = r > 0 ? (uint32_t)put->list.count : NO_CHUNK;
	return r > 0 ? entries_add(&put->list, entry) : r;
}

/* Finds the page in the last image: 1, 0, negative errno. */
static int find_carried(struct put *put, const struct page_hash *hash, struct page_place *place)
{
	struct memory *memory = put->memory;
	uint32_t *carried;
	int r = 0;

	if (!memory->last || !pages_find(memory->last, hash, place))
		return 0;
	carried = &memory->carried[place->chunk];
	if (*carried == NOT_LOOKED_AT)
		r = look_at(put, place->chunk);
	place->chunk = *carried;
	return r < 0 ? r : *carried != NO_CHUNK;
}

/* 1 the image has it, or the last one had; 0 it is nowhere. */
static int find(struct put *put, const struct page_hash *hash, struct page_place *place)
{
	int r = pages_find(put->memory->pages, hash, place) ? 1 : find_carried(put, hash, place);

	return r <= 0 ? r : pages_add(put->memory->pages, hash, place) < 0 ? -ENOMEM : 1;
}

static int add_extent(struct put *put, const struct page_place *place, struct file *file)
{
	return files_extend(
	    &put->files, file, &(struct extent){place->chunk, place->offset, MEMORY_PAGE});
}

static int store_page(struct put *put, const uint8_t *page, struct file *file)
{
	struct page_hash hash;
	struct page_place place;
	int r;

	pages_hash(put->memory->pages, page, &hash);
	r = find(put, &hash, &place);
	if (r == 0) {
		r = gather(put, page, &place);
		if (r == 0)
			r = pages_add(put->memory->pages, &hash, &place);
	}
	return r < 0 ? r : add_extent(put, &place, file);
}

/* Of a file that the first pass has hashed only what is stored is read again. */
static int store_surveyed(
    struct put *put, int fd, const struct surveyed *surveyed, struct file *file)
{
	const struct page_hash *hash = &put->memory->hash[surveyed->first];
	int r = 0;

	for (size_t i = 0; r == 0 && i < surveyed->count; i++) {
		struct page_place place;

		r = find(put, &hash[i], &place);
		if (r > 0) {
			r = add_extent(put, &place, file);
		} else if (r == 0) {
			r = disk_read_at(fd, put->window, MEMORY_PAGE, i * MEMORY_PAGE);
			/* Hashed again, for what is stored. */
			if (r == 0)
				r = store_page(put, put->window, file);
		}
		if (r == 0)
			r = put_done(put, MEMORY_PAGE);
	}
	if (r == 0 && lseek(fd, (off_t)(surveyed->count * MEMORY_PAGE), SEEK_SET) < 0)
		r = -errno;
	return r;
}

static int store_in_order(struct put *put, int fd, struct file *file)
{
	size_t have;
	bool end = false;
	int r = 0;

	while (r == 0 && !end) {
		size_t at = 0;

		have = 0;
		r = put_fill(put, fd, &have, &end);
		for (; r == 0 && at + MEMORY_PAGE <= have; at += MEMORY_PAGE) {
			r = store_page(put, put->window + at, file);
			if (r == 0)
				r = put_done(put, MEMORY_PAGE);
		}
		if (r == 0 && at < have && lseek(fd, -(off_t)(have - at), SEEK_CUR) < 0)
			r = -errno;
	}
	return r;
}

int memory_store_file(struct put *put, int fd, const struct stat *st, struct file *file)
{
	const struct surveyed *surveyed = find_surveyed(put->memory, st);

	return surveyed ? store_surveyed(put, fd, surveyed, file) : store_in_order(put, fd, file);
}

/* --- begin and end --- */

static int begin_after(struct memory *memory)
{
	size_t count = pages_chunks(memory->last)->count;

	memory->carried = reallocarray(NULL, count + 1, sizeof(*memory->carried));
	if (!memory->carried)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		memory->carried[i] = NOT_LOOKED_AT;
	pages_begin_use(memory->last);
	return 0;
}

int memory_new(struct put *put, struct store *store)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	int r;

	put->memory = memory;
	if (!memory)
		return -ENOMEM;
	memory->chunk = NO_CHUNK;
	r = pages_new(&memory->pages, put->request->key);
	if (r == 0)
		r = coder_new(&memory->coder, put->request->key);
	if (r == 0)
		r = coder_prefer_speed(memory->coder);
	if (r == 0)
		memory->last = series_take(store, put->request->key, &memory->last_oid);
	return r == 0 && memory->last ? begin_after(memory) : r;
}

bool memory_has_pages(const struct put *put)
{
	return put->memory && pages_count(put->memory->pages) > 0;
}

void memory_end(struct put *put, struct store *store, const struct put_result *result)
{
	struct memory *memory = put->memory;
	const uint8_t *key = put->request->key;

	if (!memory)
		return;
	if (result && memory_has_pages(put) && pages_set_chunks(memory->pages, &put->list) == 0) {
		series_give(store, key, &result->oid, memory->pages);
		memory->pages = NULL;
	} else if (memory->last) {
		series_give(store, key, &memory->last_oid, memory->last);
		memory->last = NULL;
	}
	pages_free(memory->last);
	pages_free(memory->pages);
	coder_free(memory->coder);
	free(memory->carried);
	free(memory->hash);
	free(memory->surveyed);
	sodium_memzero(memory->plain, sizeof(memory->plain));
	free(memory);
}
