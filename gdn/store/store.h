/*
 * The chunk store of one node: objects in, objects out, nothing acknowledged is lost.
 *
 * Chunks are appended to packs.  A pack is written under another name, fsynced, renamed, its
 * directory fsynced; then one SQLite transaction makes its chunks and the object that wanted them
 * known.  That commit is the one instant at which an object comes to be: before it, whatever lies
 * in the directory is nobody's and is reaped at the next start.
 *
 * Departure from DESIGN section 9, "write-fsync-rename for chunks": one file a chunk was measured
 * first (ext4, virtio disk).  600 chunks of 8 KiB: 1,042 ms with an fsync each, 412 ms with one
 * syncfs, 20 ms as one pack; 16,000: about 29 s, 984 ms and 240 ms.  A put of a checkpoint waits
 * for this.  The price is that garbage collection copies the rest of a pack that is mostly dead.
 *
 * All functions may be called from several threads at once, one upload or reader from one.
 * Errors: negative errno, the words in fault:
 *	-ENOENT no such object         -ENODATA a chunk is missing     -EBADMSG a chunk is damaged
 *	-ENOKEY a key is needed        -EKEYREJECTED the wrong key     -ENOSPC disk full
 *	-EDQUOT quota reached          -ECANCELED progress said stop
 */
#ifndef GDN_STORE_STORE_H
#define GDN_STORE_STORE_H

#include "gdn/store/disk.h"
#include "gdn/store/fault.h"
#include "gdn/store/index.h"
#include "gdn/store/manifest.h"

struct store;

struct store_config {
	const char *path; /* a directory of its own; made if it is not there */
	uint64_t quota;   /* bytes of packs; 0: no limit */
	uint64_t reserve; /* bytes to leave free on the disk, so that removing still works */
	struct disk disk; /* for tests */
};

/* Takes the directory for itself (-EBUSY if another has it) and reaps what a crash left. */
int store_open(struct store **out, const struct store_config *config, struct fault *fault);
struct store *store_close(struct store *store);

/* Is told about every 4 MiB; a negative answer stops the work with that code. */
struct progress {
	int (*tell)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

/* --- whole objects --- */

struct put_request {
	const char *path;   /* a directory of regular files, or one file */
	const uint8_t *key; /* CODER_KEY_SIZE bytes, NULL: stored plain */
	const char *tag;    /* who keeps it; "" is a tag as well */
	const char *kind;   /* "image", "bundle", ... for people */
	int64_t now_ms;     /* wall clock, for people */
	struct progress progress;
};

struct put_result {
	struct id oid;
	uint64_t bytes;  /* of content */
	uint64_t stored; /* of these, new to the store, as stored */
	uint32_t chunks;
	bool was_there;
};

/* The object is durable when this returns 0. */
int store_put(struct store *store, const struct put_request *request, struct put_result *result,
    struct fault *fault);

struct get_request {
	struct id oid;
	const char *path;   /* a directory to make, or an empty one */
	const uint8_t *key; /* not looked at for plain objects */
	int group;          /* of the files, -1: as it comes */
	struct progress progress;
};

/* All files or, on any error, none: written beside path and renamed. */
int store_get(
    struct store *store, const struct get_request *request, uint64_t *bytes, struct fault *fault);

struct verify_result {
	uint64_t chunks, bytes; /* looked at, as stored */
	uint64_t damaged;       /* found so now, and put into quarantine */
	uint64_t missing;
};

/* Reads and checks each chunk; needs no key.  0 also when some are bad. */
int store_verify(struct store *store, const struct id *oid, const struct progress *progress,
    struct verify_result *result, struct fault *fault);

/* One pass over all chunks, in steps. */
struct scrub {
	struct id at; /* the chunk looked at last; in the order of ids */
	uint64_t chunks, bytes;
	uint64_t damaged; /* found so, and put into quarantine */
	uint64_t missing; /* before */
};

/* Reads and checks the next chunks, some `bytes` of them.  1 that was the last one, 0 there are more. */
int store_scrub(struct store *store, struct scrub *scrub, uint64_t bytes, struct fault *fault);

/*
 * Takes away a tag (NULL: all) and with the last one the object.  1 it is gone, 0 others keep it.
 * Its chunks are collected later.
 */
int store_rm(struct store *store, const struct id *oid, const char *tag, struct fault *fault);

/* Adds one who keeps it.  -ENOENT. */
int store_tag(struct store *store, const struct id *oid, const char *tag, const char *kind,
    struct fault *fault);

/* 0 whole, -ENODATA some chunk is missing, -ENOENT. */
int store_has(struct store *store, const struct id *oid);

/* --- what there is; each() must not call the store --- */

int store_each(struct store *store, int (*each)(void *, const struct object_row *), void *arg);
int store_row(struct store *store, const struct id *oid, struct object_row *row);
int store_each_tag(struct store *store, const struct id *oid,
    int (*each)(void *, const char *tag, const char *kind), void *arg);
int store_each_replica(
    struct store *store, const struct id *oid, int (*each)(void *, const char *node), void *arg);
int store_set_replica(struct store *store, const struct id *oid, const char *node, bool holds);
int store_totals(struct store *store, struct index_totals *totals);
/* The files of an object, in order; needs the key if it is sealed. */
int store_files(struct store *store, const struct id *oid, const uint8_t *key, struct files *files,
    struct fault *fault);

struct gc_result {
	uint64_t chunks; /* forgotten */
	uint64_t bytes;  /* given back to the disk */
	uint64_t packs_removed, packs_copied;
};

/*
 * Forgets chunks that no object, upload or open object refers to, removes packs without chunks and
 * copies what lives in packs that are more than half dead.
 */
int store_gc(struct store *store, struct gc_result *result, struct fault *fault);

/* --- an object open for reading: what it refers to stays --- */

struct object;

int object_open(
    struct object **out, struct store *store, const struct id *oid, struct fault *fault);
struct object *object_close(struct object *object);
const struct id *object_oid(const struct object *object);
const struct root *object_root(const struct object *object);
const struct buf *object_root_bytes(const struct object *object);
/* List chunks, names chunks, then data chunks: the order in which they travel. */
size_t object_count(const struct object *object);
const struct entry *object_entry(const struct object *object, size_t i);
/*
 * The stored bytes of one of its chunks, checked; they hold until the next call.  file and offset
 * are for the words of an error.
 */
int object_read(struct object *object, const struct entry *entry, const char *file, uint64_t offset,
    const uint8_t **stored, struct fault *fault);

/* --- an upload: chunks that will be an object, or nothing --- */

struct upload;

#define SERIES_NAME_SIZE 16

int upload_new(struct upload **out, struct store *store);
/* Drops all that was not committed. */
struct upload *upload_free(struct upload *upload);
/* Is this chunk here?  If so it stays for the upload.  1, 0, negative errno. */
int upload_knows(struct upload *upload, const struct id *id);
/* Takes a chunk whose id is known to be right.  1 it was new, 0 it was here. */
int upload_add(struct upload *upload, const struct id *id, const uint8_t *stored, size_t size,
    struct fault *fault);
/* Bytes that were new so far. */
uint64_t upload_stored(const struct upload *upload);
/* Reads back a chunk that upload_knows. */
int upload_read(
    struct upload *upload, const struct entry *entry, struct buf *out, struct fault *fault);

struct upload_object {
	const struct buf *root_bytes; /* its id is the object's */
	const struct root *root;
	const struct entries *list;
	const char *tag, *kind;
	int64_t now_ms;
	const uint8_t
	    *series; /* SERIES_NAME_SIZE bytes: it is the last image of this; may be NULL */
};

/*
 * Makes all durable, then the object known.  1 done, 0 the object was there (chunks of it that
 * were missing are there now, the tag is added).
 */
int upload_commit(struct upload *upload, const struct upload_object *object, struct fault *fault);

#endif
