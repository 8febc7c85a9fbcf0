/*
 * What the store knows, in SQLite: packs, chunks with their place and number of references,
 * objects, their tags (who keeps them) and their known replicas.  WAL with synchronous=FULL: a
 * commit is durable when it returns.  One connection, used by one thread at a time.
 */
#ifndef GDN_STORE_INDEX_H
#define GDN_STORE_INDEX_H

#include "common/buf.h"
#include "gdn/store/disk.h"
#include "gdn/store/fault.h"
#include "gdn/store/id.h"

#define TAG_MAX 255
#define NODE_MAX 64

struct index;

struct place {
	uint64_t pack; /* 0: known and missing (quarantined) */
	uint64_t offset;
	uint32_t length;
};

struct object_row {
	struct id oid;
	bool sealed;
	uint64_t bytes;  /* content */
	uint64_t stored; /* bytes that were new to the store when it came */
	uint32_t chunks;
	int64_t created_ms; /* wall clock, for people */
};

struct pack_row {
	uint64_t number;
	uint64_t size; /* of the file */
	uint64_t live; /* bytes of chunks that are referred to */
	uint64_t dead; /* number of chunks that are not */
};

struct index_totals {
	uint64_t objects;
	uint64_t bytes; /* content of all objects */
	uint64_t chunks;
	uint64_t missing; /* chunks known and not there */
	uint64_t packs;
	uint64_t pack_bytes;
};

int index_open(struct index **out, const char *path, const struct disk *disk, struct fault *fault);
struct index *index_close(struct index *index);

/* A transaction.  index_abort does nothing when none is open. */
int index_begin(struct index *index, struct fault *fault);
int index_commit(struct index *index, struct fault *fault);
void index_abort(struct index *index);

/* Packs. */
int index_pack_add(struct index *index, uint64_t number, uint64_t size);
int index_pack_del(struct index *index, uint64_t number);
int index_pack_each(struct index *index, int (*each)(void *, const struct pack_row *), void *arg);

/* Chunks.  find: 1 found, 0 unknown. */
int index_chunk_find(struct index *index, const struct id *id, struct place *place);
/* Places a chunk that is unknown or missing; one that has a place keeps it. */
int index_chunk_place(struct index *index, const struct id *id, const struct place *place);
/* Moves it from one pack to another if it still is where `from` says: 1 moved, 0 not. */
int index_chunk_move(
    struct index *index, const struct id *id, const struct place *from, const struct place *to);
/* Adds to the number of references; 1 done, 0 the chunk is unknown, or missing and add > 0. */
int index_chunk_ref(struct index *index, const struct id *id, int add);
int index_chunk_del(struct index *index, const struct id *id);
/* All chunks of a pack; those without references if dead, else those with. */
int index_chunk_each(struct index *index, uint64_t pack, bool dead,
    int (*each)(void *, const struct id *, const struct place *), void *arg);

/* The first chunk behind this id that is referred to: 1, 0 there is none. */
int index_chunk_next(
    struct index *index, const struct id *after, struct id *id, struct place *place);

/* Objects.  find: 1 found (root appended if not NULL), 0 unknown. */
int index_object_add(struct index *index, const struct object_row *row, const struct buf *root);
int index_object_find(
    struct index *index, const struct id *oid, struct object_row *row, struct buf *root);
int index_object_del(struct index *index, const struct id *oid);
int index_object_each(
    struct index *index, int (*each)(void *, const struct object_row *), void *arg);

/* Tags: an object is kept while it has one.  del with name NULL: all.  Counts the rest. */
int index_tag_add(struct index *index, const struct id *oid, const char *name, const char *kind);
int index_tag_del(struct index *index, const struct id *oid, const char *name);
int index_tag_count(struct index *index, const struct id *oid);
int index_tag_each(struct index *index, const struct id *oid,
    int (*each)(void *, const char *name, const char *kind), void *arg);

/* Replicas: nodes known to hold the object. */
int index_replica_add(struct index *index, const struct id *oid, const char *node);
int index_replica_del(struct index *index, const struct id *oid, const char *node);
int index_replica_each(
    struct index *index, const struct id *oid, int (*each)(void *, const char *node), void *arg);

/* Series: of each, by a name of `size` bytes, the image stored last.  find: 1 found, 0 unknown. */
int index_series_set(struct index *index, const uint8_t *name, size_t size, const struct id *oid);
int index_series_find(struct index *index, const uint8_t *name, size_t size, struct id *oid);

int index_totals(struct index *index, struct index_totals *totals);
/* What SQLite said last. */
const char *index_error(const struct index *index);

#endif
