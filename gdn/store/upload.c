#include "gdn/store/private.h"

#include "gdn/store/coder.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct new_chunk {
	struct id id;
	struct place place;
};

struct closed_pack {
	uint64_t number, size;
};

struct upload {
	struct store *store;
	struct hold hold; /* all it knows or added */
	struct pack_writer writer;
	struct closed_pack *packs;
	size_t pack_count;
	struct new_chunk *chunks;
	size_t chunk_count, chunk_capacity;
	struct idset added;
	uint64_t stored, charged;
	struct pack_files files;
	bool committed;
	bool unknown; /* whether the commit happened */
};

int upload_new(struct upload **out, struct store *store)
{
	struct upload *upload = calloc(1, sizeof(*upload));

	if (!upload)
		return -ENOMEM;
	upload->store = store;
	upload->writer = (struct pack_writer){
	    .disk = &store->disk, .store_path = store->path, .dir_fd = store->dir_fd, .fd = -1};
	STORE_LOCKED(store);
	hold_start(store, &upload->hold);
	*out = upload;
	return 0;
}

static void drop_packs(struct upload *upload)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < upload->pack_count; i++) {
		pack_path(path, sizeof(path), upload->store->path, upload->packs[i].number);
		disk_unlink(&upload->store->disk, path);
	}
	store_refund(upload->store, upload->charged);
}

struct upload *upload_free(struct upload *upload)
{
	if (!upload)
		return NULL;
	pack_abandon(&upload->writer);
	/* If nobody can say whether the commit happened, the next start finds out. */
	if (!upload->committed && !upload->unknown)
		drop_packs(upload);
	store_lock(upload->store);
	hold_end(&upload->hold);
	store_unlock(&upload->store);
	idset_fini(&upload->hold.ids);
	idset_fini(&upload->added);
	pack_files_fini(&upload->files);
	free(upload->packs);
	free(upload->chunks);
	free(upload);
	return NULL;
}

uint64_t upload_stored(const struct upload *upload)
{
	return upload->stored;
}

int upload_knows(struct upload *upload, const struct id *id)
{
	struct place place;
	int r;

	if (idset_has(&upload->added, id))
		return 1;
	STORE_LOCKED(upload->store);
	r = index_chunk_find(upload->store->index, id, &place);
	if (r < 0 || r == 0 || place.pack == 0)
		return r < 0 ? r : 0;
	return idset_add(&upload->hold.ids, id) < 0 ? -ENOMEM : 1;
}

static int close_pack(struct upload *upload, struct fault *fault)
{
	struct closed_pack *grown;
	int r;

	grown = reallocarray(upload->packs, upload->pack_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	upload->packs = grown;
	r = pack_finish(&upload->writer, fault);
	if (r < 0)
		return r;
	upload->packs[upload->pack_count++] =
	    (struct closed_pack){upload->writer.number, upload->writer.size};
	return 0;
}

static int note_chunk(struct upload *upload, const struct id *id, const struct place *place)
{
	if (upload->chunk_count == upload->chunk_capacity) {
		size_t capacity = upload->chunk_capacity ? 2 * upload->chunk_capacity : 256;
		struct new_chunk *grown = reallocarray(upload->chunks, capacity, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		upload->chunks = grown;
		upload->chunk_capacity = capacity;
	}
	upload->chunks[upload->chunk_count++] = (struct new_chunk){*id, *place};
	return 0;
}

int upload_add(struct upload *upload, const struct id *id, const uint8_t *stored, size_t size,
    struct fault *fault)
{
	struct place place;
	int r = upload_knows(upload, id);

	if (r != 0)
		return r < 0 ? fault_set(fault, r, "look up a chunk: %s", strerror(-r)) : 0;
	r = store_charge(upload->store, PACK_HEADER + size, fault);
	if (r < 0)
		return r;
	upload->charged += PACK_HEADER + size;
	if (upload->writer.fd < 0)
		r = pack_start(&upload->writer, store_next_pack(upload->store), fault);
	if (r == 0)
		r = pack_append(&upload->writer, id, stored, size, &place, fault);
	if (r == 0)
		r = note_chunk(upload, id, &place);
	if (r == 0 && idset_add(&upload->added, id) < 0)
		r = -ENOMEM;
	if (r == 0 && upload->writer.size >= PACK_SIZE)
		r = close_pack(upload, fault);
	if (r < 0)
		return r;
	upload->stored += size;
	return 1;
}

/* Where an added chunk was put; they are asked for seldom and from the end. */
static const struct place *place_of_added(const struct upload *upload, const struct id *id)
{
	for (size_t i = upload->chunk_count; i-- > 0;)
		if (id_equal(&upload->chunks[i].id, id))
			return &upload->chunks[i].place;
	return NULL;
}

static int read_added(struct upload *upload, const struct place *place, uint8_t *out)
{
	int fd;

	if (upload->writer.fd >= 0 && place->pack == upload->writer.number)
		return pack_peek(&upload->writer, place, out);
	fd = pack_files_open(&upload->files, upload->store->path, place->pack);
	return fd < 0 ? fd : disk_read_at(fd, out, place->length, place->offset);
}

int upload_read(
    struct upload *upload, const struct entry *entry, struct buf *out, struct fault *fault)
{
	const struct place *place = place_of_added(upload, &entry->id);
	uint8_t *room = buf_reserve(out, STORED_MAX);
	int r;

	if (!room)
		return -ENOMEM;
	if (!place)
		r = store_read(upload->store, &upload->files, entry, room, fault);
	else if (place->length != entry->stored)
		r = -EBADMSG;
	else
		r = read_added(upload, place, room);
	if (r < 0)
		return fault_set(fault, r, "read a chunk back: %s", strerror(-r));
	out->size += entry->stored;
	return 0;
}

/* --- commit --- */

static int commit_chunks(struct upload *upload)
{
	struct index *index = upload->store->index;
	int r = 0;

	for (size_t i = 0; r == 0 && i < upload->pack_count; i++)
		r = index_pack_add(index, upload->packs[i].number, upload->packs[i].size);
	for (size_t i = 0; r == 0 && i < upload->chunk_count; i++)
		r = index_chunk_place(index, &upload->chunks[i].id, &upload->chunks[i].place);
	return r;
}

/* Every chunk the object refers to counts it once; all of them must be known. */
static int commit_references(struct upload *upload, const struct idset *ids)
{
	const struct id *id;
	size_t at = 0;

	while ((id = idset_next(ids, &at))) {
		int r = index_chunk_ref(upload->store->index, id, 1);

		if (r <= 0)
			return r < 0 ? r : -ENODATA;
	}
	return 0;
}

static int commit_object(struct upload *upload, const struct upload_object *object,
    const struct id *oid, const struct idset *ids)
{
	struct index *index = upload->store->index;
	struct object_row row;
	int r, found = index_object_find(index, oid, &row, NULL);

	if (found < 0)
		return found;
	row = (struct object_row){.oid = *oid,
	    .sealed = object->root->sealed,
	    .bytes = object->root->bytes,
	    .stored = upload->stored,
	    .chunks = object->root->chunks,
	    .created_ms = object->now_ms};
	r = commit_chunks(upload);
	if (r == 0 && !found)
		r = commit_references(upload, ids);
	if (r == 0 && !found)
		r = index_object_add(index, &row, object->root_bytes);
	if (r == 0)
		r = index_tag_add(index, oid, object->tag, object->kind);
	if (r == 0 && object->series)
		r = index_series_set(index, object->series, SERIES_NAME_SIZE, oid);
	return r < 0 ? r : !found;
}

static int commit(struct upload *upload, const struct upload_object *object, const struct id *oid,
    const struct idset *ids, struct fault *fault)
{
	struct store *store = upload->store;
	int r, done;

	STORE_LOCKED(store);
	r = index_begin(store->index, fault);
	if (r < 0)
		return r;
	done = commit_object(upload, object, oid, ids);
	if (done < 0)
		fault_set(fault, done, "note the object: %s",
		    done == -ENODATA ? "a chunk is missing" : index_error(store->index));
	else
		r = index_commit(store->index, fault);
	/* With the disk full its end was not written; any other error may come after that. */
	upload->unknown = r < 0 && r != -ENOSPC;
	upload->committed = done >= 0 && r == 0;
	index_abort(store->index);
	return r < 0 ? r : done;
}

int upload_commit(struct upload *upload, const struct upload_object *object, struct fault *fault)
{
	struct id oid = id_of(object->root_bytes->data, object->root_bytes->size);
	struct idset ids = {0};
	int r = 0;

	if (upload->writer.fd >= 0)
		r = close_pack(upload, fault);
	if (r == 0)
		r = collect_ids(&ids, object->root, object->list);
	if (r == 0)
		r = commit(upload, object, &oid, &ids, fault);
	idset_fini(&ids);
	return r;
}
