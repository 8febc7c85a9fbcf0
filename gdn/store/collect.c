/*
 * Removing objects and collecting what nobody refers to any more.
 *
 * Counts are exact, kept in the transactions that add and remove objects; so collection needs no
 * marking.  What an upload on its way or an open object refers to is held in memory and left
 * alone: a chunk without references may be about to get one.
 */
#include "gdn/store/private.h"

#include "gdn/store/coder.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* --- rm --- */

static int unreference(struct store *store, const struct object *object)
{
	struct idset ids = {0};
	const struct id *id;
	size_t at = 0;
	int r = collect_ids(&ids, object_root(object), object_list(object));

	while (r >= 0 && (id = idset_next(&ids, &at)))
		r = index_chunk_ref(store->index, id, -1);
	idset_fini(&ids);
	return r < 0 ? r : 0;
}

/* 1 the object is gone, 0 it has other tags.  object: NULL if its list cannot be read. */
static int forget(
    struct store *store, const struct id *oid, const char *tag, const struct object *object)
{
	int r = index_tag_del(store->index, oid, tag);

	if (r == 0)
		r = index_tag_count(store->index, oid);
	if (r != 0)
		return r < 0 ? r : 0;
	if (object)
		r = unreference(store, object);
	if (r == 0)
		r = index_object_del(store->index, oid);
	return r < 0 ? r : 1;
}

static int forget_durably(struct store *store, const struct id *oid, const char *tag,
    const struct object *object, struct fault *fault)
{
	struct object_row row;
	int r, gone = 0;

	STORE_LOCKED(store);
	r = index_begin(store->index, fault);
	if (r < 0)
		return r;
	/* Somebody may have removed it since it was opened. */
	r = index_object_find(store->index, oid, &row, NULL);
	if (r > 0)
		gone = r = forget(store, oid, tag, object);
	else if (r == 0)
		r = -ENOENT;
	if (r >= 0)
		r = index_commit(store->index, fault);
	index_abort(store->index);
	return r < 0 ? r : gone;
}

int store_rm(struct store *store, const struct id *oid, const char *tag, struct fault *fault)
{
	struct fault why = {0};
	struct object *object = NULL;
	char hex[ID_HEX];
	int r = object_open(&object, store, oid, &why);

	/*
	 * An object whose list is damaged can go as well; what only it referred to then stays
	 * counted, which costs space and no data.
	 */
	if (r == -ENODATA || r == -EBADMSG)
		r = 0;
	if (r == 0)
		r = forget_durably(store, oid, tag, object, &why);
	object_close(object);
	return r < 0 ? fault_set(fault, r, "remove object %s: %s", id_hex(oid, hex),
			   why.text[0] ? why.text : strerror(-r))
		     : r;
}

/* --- gc --- */

struct chunk_at {
	struct id id;
	struct place place;
};

struct chunk_array {
	struct chunk_at *at;
	size_t count;
};

static int note_chunk(void *arg, const struct id *id, const struct place *place)
{
	struct chunk_array *chunks = arg;

	if ((chunks->count & (chunks->count - 1)) == 0) {
		size_t capacity = chunks->count ? 2 * chunks->count : 1;
		struct chunk_at *grown = reallocarray(chunks->at, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		chunks->at = grown;
	}
	chunks->at[chunks->count++] = (struct chunk_at){*id, *place};
	return 0;
}

struct pack_array {
	struct pack_row *at;
	size_t count;
};

static int note_pack(void *arg, const struct pack_row *row)
{
	struct pack_array *packs = arg;
	struct pack_row *grown = reallocarray(packs->at, packs->count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	packs->at = grown;
	packs->at[packs->count++] = *row;
	return 0;
}

static int list_packs(struct store *store, struct pack_array *packs)
{
	STORE_LOCKED(store);
	return index_pack_each(store->index, note_pack, packs);
}

/* Forgets the unreferenced chunks of a pack that nobody holds; number 0: of the missing ones. */
static int forget_dead(struct store *store, uint64_t number, struct gc_result *result)
{
	struct chunk_array dead = {0};
	int r;

	STORE_LOCKED(store);
	r = index_begin(store->index, NULL);
	if (r == 0)
		r = index_chunk_each(store->index, number, true, note_chunk, &dead);
	for (size_t i = 0; r == 0 && i < dead.count; i++) {
		if (store_holds(store, &dead.at[i].id))
			continue;
		r = index_chunk_del(store->index, &dead.at[i].id);
		result->chunks++;
	}
	if (r == 0)
		r = index_commit(store->index, NULL);
	index_abort(store->index);
	free(dead.at);
	return r;
}

static int list_live(struct store *store, uint64_t number, struct chunk_array *chunks)
{
	int r;

	STORE_LOCKED(store);
	r = index_chunk_each(store->index, number, false, note_chunk, chunks);
	/* Unreferenced and held ones move too. */
	return r < 0 ? r : index_chunk_each(store->index, number, true, note_chunk, chunks);
}

/* Copies chunks into one new pack; a chunk that cannot be read stays where it is not. */
static int copy_chunks(struct store *store, struct pack_writer *writer, struct chunk_array *chunks,
    struct place *to, struct fault *fault)
{
	struct pack_files files = {0};
	uint8_t *buffer = malloc(STORED_MAX);
	int r = buffer ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < chunks->count; i++) {
		const struct chunk_at *chunk = &chunks->at[i];
		struct entry entry = {.id = chunk->id, .stored = chunk->place.length};

		to[i] = (struct place){0};
		r = store_read(store, &files, &entry, buffer, NULL);
		if (r == 0)
			r = pack_append(writer, &chunk->id, buffer, entry.stored, &to[i], fault);
		else if (r == -EBADMSG || r == -ENODATA)
			r = 0;
	}
	pack_files_fini(&files);
	free(buffer);
	return r;
}

/* The new pack takes over in one transaction. */
static int take_over(struct store *store, const struct pack_writer *writer,
    const struct chunk_array *chunks, const struct place *to, struct fault *fault)
{
	int r;

	STORE_LOCKED(store);
	r = index_begin(store->index, fault);
	if (r == 0)
		r = index_pack_add(store->index, writer->number, writer->size);
	for (size_t i = 0; r >= 0 && i < chunks->count; i++)
		if (to[i].pack)
			r = index_chunk_move(
			    store->index, &chunks->at[i].id, &chunks->at[i].place, &to[i]);
	if (r >= 0)
		r = index_commit(store->index, fault);
	index_abort(store->index);
	if (r >= 0)
		store->pack_bytes += writer->size;
	return r;
}

static int copy_pack(struct store *store, const struct pack_row *row, struct fault *fault)
{
	struct pack_writer writer = {
	    .disk = &store->disk, .store_path = store->path, .dir_fd = store->dir_fd, .fd = -1};
	struct chunk_array chunks = {0};
	struct place *to = NULL;
	int r = list_live(store, row->number, &chunks);

	if (r == 0 && chunks.count > 0) {
		to = calloc(chunks.count, sizeof(*to));
		r = to ? pack_start(&writer, store_next_pack(store), fault) : -ENOMEM;
		if (r == 0)
			r = copy_chunks(store, &writer, &chunks, to, fault);
		if (r == 0)
			r = pack_finish(&writer, fault);
		if (r == 0)
			r = take_over(store, &writer, &chunks, to, fault);
	}
	/* A finished pack that did not take over is nobody's: the next start reaps it. */
	pack_abandon(&writer);
	free(chunks.at);
	free(to);
	return r < 0 ? r : 0;
}

static int count_chunk(void *arg, const struct id *id, const struct place *place)
{
	(void)id;
	(void)place;
	(*(size_t *)arg)++;
	return 0;
}

/* Removes a pack that no chunk lies in: 1 removed, 0 it is still needed. */
static int remove_if_empty(struct store *store, const struct pack_row *row, struct fault *fault)
{
	char path[PATH_MAX];
	size_t left = 0;
	int r;

	STORE_LOCKED(store);
	r = index_chunk_each(store->index, row->number, false, count_chunk, &left);
	if (r == 0)
		r = index_chunk_each(store->index, row->number, true, count_chunk, &left);
	if (r < 0 || left > 0)
		return r;
	r = index_begin(store->index, fault);
	if (r == 0)
		r = index_pack_del(store->index, row->number);
	if (r == 0)
		r = index_commit(store->index, fault);
	index_abort(store->index);
	if (r < 0)
		return r;
	store->pack_bytes -= row->size;
	pack_path(path, sizeof(path), store->path, row->number);
	r = disk_unlink(&store->disk, path);
	return r < 0 && r != -ENOENT ? fault_set(fault, r, "remove %s: %s", path, strerror(-r)) : 1;
}

static int collect_pack(
    struct store *store, const struct pack_row *row, struct gc_result *result, struct fault *fault)
{
	int r = row->dead ? forget_dead(store, row->number, result) : 0;

	if (r == 0)
		r = remove_if_empty(store, row, fault);
	if (r == 0 && row->live < row->size / 2) {
		r = copy_pack(store, row, fault);
		if (r == 0)
			r = remove_if_empty(store, row, fault);
		result->packs_copied += r == 1;
	}
	if (r == 1) {
		result->packs_removed++;
		result->bytes += row->size - row->live;
	}
	return r < 0 ? r : 0;
}

int store_gc(struct store *store, struct gc_result *result, struct fault *fault)
{
	struct pack_array packs = {0};
	int r;

	*result = (struct gc_result){0};
	pthread_mutex_lock(&store->gc_lock);
	r = forget_dead(store, 0, result);
	if (r == 0)
		r = list_packs(store, &packs);
	for (size_t i = 0; r == 0 && i < packs.count; i++)
		r = collect_pack(store, &packs.at[i], result, fault);
	pthread_mutex_unlock(&store->gc_lock);
	free(packs.at);
	return r < 0 ? fault_set(fault, r, "collect: %s", strerror(-r)) : 0;
}
