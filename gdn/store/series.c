/*
 * Series: the images of one service, one after the other.  Of each its last image is known, and
 * the pages of that (pages.h), as long as memory allows.
 *
 * A series is named by a hash of the service's key.  The index remembers the last image that was
 * stored, so that after a restart its pages are found again by reading it: once, at the speed of a
 * restore, instead of storing and sending all of the next image.  The same happens on the node that
 * restored the service: what it has read is the series' last image there.
 */
#include "gdn/store/private.h"

#include "gdn/store/coder.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

/* Pages of 12 GiB of memory, and names of so many services. */
#define PAGES_SIZE_MAX (UINT64_C(128) << 20)
#define SERIES_MAX 256

struct series {
	uint8_t name[SERIES_NAME_SIZE];
	struct id last;
	struct pages *pages; /* of last, or NULL */
	struct series *next;
};

bool is_pages_file(const char *name)
{
	return fnmatch("pages-*.img", name, 0) == 0;
}

void series_name(uint8_t name[SERIES_NAME_SIZE], const uint8_t *key)
{
	uint8_t whole[32];

	coder_derive(whole, key, "gosd series");
	memcpy(name, whole, SERIES_NAME_SIZE);
}

static struct series *series_free(struct series *series)
{
	pages_free(series->pages);
	free(series);
	return NULL;
}

/* Takes it out of the list.  With the lock held, as all below up to the next line. */
static struct series *detach(struct store *store, const uint8_t *name)
{
	for (struct series **at = &store->series; *at; at = &(*at)->next)
		if (memcmp((*at)->name, name, SERIES_NAME_SIZE) == 0) {
			struct series *found = *at;

			*at = found->next;
			return found;
		}
	return NULL;
}

/* The pages of those used longest ago go first, then their names. */
static void forget_old(struct store *store)
{
	uint64_t size = 0;
	size_t count = 0;

	for (struct series **at = &store->series; *at; count++) {
		struct series *series = *at;

		size += series->pages ? pages_size(series->pages) : 0;
		if (size > PAGES_SIZE_MAX)
			series->pages = pages_free(series->pages);
		if (count < SERIES_MAX) {
			at = &series->next;
			continue;
		}
		*at = series->next;
		series_free(series);
	}
}

static void attach(struct store *store, struct series *series)
{
	series->next = store->series;
	store->series = series;
	forget_old(store);
}

static struct series *series_new(const uint8_t *name, const struct id *last, struct pages *pages)
{
	struct series *series = calloc(1, sizeof(*series));

	if (!series)
		return NULL;
	memcpy(series->name, name, SERIES_NAME_SIZE);
	series->last = *last;
	series->pages = pages;
	return series;
}

/* --- reading the pages of an image again --- */

static int learn_piece(void *arg, const struct piece *piece, struct fault *fault)
{
	struct pages *pages = arg;
	int r = 0;

	(void)fault;
	if (!is_pages_file(piece->file->name) || piece->at % MEMORY_PAGE)
		return 0;
	for (size_t i = 0; r >= 0 && i + MEMORY_PAGE <= piece->size; i += MEMORY_PAGE) {
		struct page_place place = {piece->chunk, piece->offset + (uint32_t)i};
		struct page_hash hash;

		pages_hash(pages, piece->plain + i, &hash);
		r = pages_add(pages, &hash, &place);
	}
	return r < 0 ? r : 0;
}

static int copy_entries(struct entries *to, const struct entries *from)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < from->count; i++)
		r = entries_add(to, &from->at[i]);
	return r;
}

static int learn(struct store *store, const uint8_t *key, const struct id *oid, struct pages *pages)
{
	struct object *object = NULL;
	struct coder *coder = NULL;
	struct files files = {0};
	struct entries chunks = {0};
	int r = object_open(&object, store, oid, NULL);

	if (r == 0)
		r = coder_new(&coder, key);
	if (r == 0)
		r = object_names(object, coder, &files, NULL);
	if (r == 0)
		r = object_walk(object, &files, coder, learn_piece, pages, NULL);
	if (r == 0)
		r = copy_entries(&chunks, object_list(object));
	if (r == 0)
		r = pages_set_chunks(pages, &chunks);
	entries_fini(&chunks);
	files_fini(&files);
	coder_free(coder);
	object_close(object);
	return r;
}

static struct pages *read_pages(struct store *store, const uint8_t *key, const struct id *oid)
{
	struct pages *pages;

	if (pages_new(&pages, key) < 0)
		return NULL;
	return learn(store, key, oid, pages) < 0 ? pages_free(pages) : pages;
}

/* --- what put and get call --- */

/* The last image, and its pages if they are in memory.  1, 0 none is known. */
static int find_last(
    struct store *store, const uint8_t *name, struct id *last, struct pages **pages)
{
	struct series *series;

	STORE_LOCKED(store);
	series = detach(store, name);
	*pages = NULL;
	if (!series)
		return index_series_find(store->index, name, SERIES_NAME_SIZE, last);
	*last = series->last;
	*pages = series->pages;
	free(series);
	return 1;
}

struct pages *series_take(struct store *store, const uint8_t *key, struct id *last)
{
	uint8_t name[SERIES_NAME_SIZE];
	struct pages *pages;

	series_name(name, key);
	if (find_last(store, name, last, &pages) <= 0)
		return NULL;
	return pages ? pages : read_pages(store, key, last);
}

void series_give(struct store *store, const uint8_t *key, const struct id *oid, struct pages *pages)
{
	uint8_t name[SERIES_NAME_SIZE];
	struct series *series;

	series_name(name, key);
	series = series_new(name, oid, pages);
	if (!series) {
		pages_free(pages);
		return;
	}
	STORE_LOCKED(store);
	/* Two puts under one key at once: the later one's image is the last. */
	if ((series->next = detach(store, name)))
		series_free(series->next);
	attach(store, series);
}

void series_seen(struct store *store, const uint8_t *key, const struct id *oid)
{
	uint8_t name[SERIES_NAME_SIZE];
	struct series *series, *known;

	series_name(name, key);
	series = series_new(name, oid, NULL);
	if (!series)
		return;
	STORE_LOCKED(store);
	known = detach(store, name);
	/* Pages in memory serve better than those of an image that must be read again. */
	if (known && known->pages) {
		series_free(series);
		series = known;
	} else if (known) {
		series_free(known);
	}
	attach(store, series);
}

void series_close(struct store *store)
{
	while (store->series) {
		struct series *next = store->series->next;

		series_free(store->series);
		store->series = next;
	}
}
