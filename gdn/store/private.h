/* What the files of the store share; not for its users. */
#ifndef GDN_STORE_PRIVATE_H
#define GDN_STORE_PRIVATE_H

#include "gdn/store/idset.h"
#include "gdn/store/pages.h"
#include "gdn/store/pack.h"
#include "gdn/store/store.h"

#include <pthread.h>

#define PROGRESS_STEP (UINT64_C(4) << 20)

/* Chunks that garbage collection must leave alone. */
struct hold {
	struct idset ids;
	struct hold *next, **link;
};

struct store {
	char *path;
	struct disk disk;
	uint64_t quota, reserve;
	int dir_fd;           /* of the packs */
	pthread_mutex_t lock; /* over all below; held for no longer than a transaction */
	struct index *index;
	struct hold *holds;
	uint64_t next_pack;
	uint64_t pack_bytes;     /* committed and on the way */
	pthread_mutex_t gc_lock; /* one collection at a time */
	struct series *series;   /* the last images, latest first */
};

/* Takes the lock until the end of the block. */
#define STORE_LOCKED(which)                                                                        \
	struct store *locked_ __attribute__((cleanup(store_unlock), unused)) = store_lock(which)
struct store *store_lock(struct store *store);
void store_unlock(struct store **store);

/* Both with the lock held. */
void hold_start(struct store *store, struct hold *hold);
void hold_end(struct hold *hold);
bool store_holds(const struct store *store, const struct id *id);

/* Counts bytes about to be written to a pack: 0, -EDQUOT, -ENOSPC. */
int store_charge(struct store *store, uint64_t bytes, struct fault *fault);
void store_refund(struct store *store, uint64_t bytes);
/* A pack number never used before. */
uint64_t store_next_pack(struct store *store);

/* Adds every chunk of an object, each once. */
int collect_ids(struct idset *ids, const struct root *root, const struct entries *list);

/*
 * Reads the chunk behind entry from where it lies now and checks it.  A damaged one is moved into
 * quarantine and counts as missing from then on.  buffer: STORED_MAX bytes.
 */
int store_read(struct store *store, struct pack_files *files, const struct entry *entry,
    uint8_t *buffer, struct fault *fault);

/* Reads and joins the plain content of several chunks (a list, names). */
struct coder;
int object_read_all(struct object *object, const struct entries *entries, const char *what,
    struct coder *coder, struct buf *out, struct fault *fault);
int object_read_plain(struct object *object, const struct entry *entry, const char *file,
    uint64_t offset, struct coder *coder, const uint8_t **plain, struct fault *fault);
const struct entries *object_list(const struct object *object);
int object_names(
    struct object *object, struct coder *coder, struct files *files, struct fault *fault);

/* A piece of a file's content, and where it lies. */
struct piece {
	const struct file *file;
	uint32_t chunk, offset; /* in the plain content of this chunk of the list */
	uint64_t at;            /* in the file */
	const uint8_t *plain;
	size_t size;
};

/*
 * Goes through all content by chunk and not by file, so that each chunk is read and decoded once.
 * `each` must not return a positive number.
 */
int object_walk(struct object *object, const struct files *files, struct coder *coder,
    int (*each)(void *arg, const struct piece *piece, struct fault *fault), void *arg,
    struct fault *fault);

/* --- series.c: the images of one service, one after the other --- */

/* What a series is known by: says nothing about the key. */
void series_name(uint8_t name[SERIES_NAME_SIZE], const uint8_t *key);
/*
 * The pages of the last image under this key, now the caller's; NULL if there was none, if it
 * cannot be read, or if another put has them.
 */
struct pages *series_take(struct store *store, const uint8_t *key, struct id *last);
/* Takes over pages: those given out, or those of the image that was stored since. */
void series_give(
    struct store *store, const uint8_t *key, const struct id *oid, struct pages *pages);
/* This image was read under the key: the service goes on from it. */
void series_seen(struct store *store, const uint8_t *key, const struct id *oid);
void series_close(struct store *store);
/* Is this the name of a file of memory pages? */
bool is_pages_file(const char *name);

#endif
