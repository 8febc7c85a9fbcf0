/*
 * The narrow store: the few facts that need agreement, and compare-and-swap as the only way to
 * write them.  No lease, lock or election of the engine shows here, so that any engine with a
 * serial order of transactions fits behind it (store-memory.c for simulators, store-dqlite.c and
 * store-etcd.c for the daemon).
 *
 * Versions.  Each applied transaction raises the store's revision; a key's version is the
 * revision of the transaction that last put it.  So versions of a key only rise, also over its
 * deletion, and none is ever used twice.  Version 0 is "absent".
 *
 * Doubt.  STORE_UNKNOWN is an answer: the transaction may have been applied, may be applied later,
 * or never.  A transaction with a nonce can be submitted again with the same nonce: it is applied
 * at most once, and the second answer is that of the first (the store remembers the nonces of the
 * last STORE_NONCES transactions).
 *
 * All requests are asynchronous: what is passed in is copied; the callback runs once, later, never
 * from inside the call, and what it is shown is valid only until it returns.  After store_close no
 * callback runs.
 */
#ifndef METAD_STORE_H
#define METAD_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mono.h"

#define STORE_KEY_MAX 255          /* bytes, each printable ASCII without space */
#define STORE_VALUE_MAX 65536      /* bytes */
#define STORE_OPS_MAX 32           /* operations of one transaction */
#define STORE_TXN_MAX (256 * 1024) /* bytes of all values of one transaction */
#define STORE_PAGE_MAX 256         /* entries of one scan */
#define STORE_NONCES 4096
#define STORE_ANY UINT64_MAX /* as expected version: do not compare */

/* Answers beside 0; a negative errno means that nothing was applied and nothing will be. */
enum {
	STORE_CONFLICT = 1,
	STORE_UNKNOWN = 2,
};

enum store_kind {
	STORE_CHECK,
	STORE_PUT,
	STORE_DELETE,
};

struct store_op {
	const char *key;
	uint64_t expected; /* a version, 0 (absent), or STORE_ANY */
	enum store_kind kind;
	const void *value; /* put only */
	size_t size;
};

struct store_nonce {
	uint64_t word[2]; /* both 0: none */
};

/* All or nothing; keys must differ from each other. */
struct store_txn {
	const struct store_op *ops;
	size_t count;
	struct store_nonce nonce;
	struct mono deadline; /* when the caller wants an answer, be it UNKNOWN */
};

struct store_entry {
	const char *key;
	uint64_t version;
	const void *value;
	size_t size;
};

struct store_reply {
	int rc;                    /* 0, STORE_CONFLICT, STORE_UNKNOWN, or -errno */
	uint64_t revision;         /* txn: the version its puts got; get, scan: of the state read */
	size_t conflict;           /* index of the first operation that did not match, and ... */
	uint64_t conflict_version; /* ... the version its key had instead */
	const struct store_entry *entries; /* get: one, version 0 if absent; scan: in key order */
	size_t count;
	bool more; /* scan: there are more behind the last entry */
};

typedef void store_done(void *arg, const struct store_reply *reply);
/* Something under the prefix changed; key NULL: look at all of it.  Hints can be late, doubled or,
 * while the engine is out of reach, missing: read again from time to time. */
typedef void store_hint(void *arg, const char *key, uint64_t revision);

struct store;
struct store_watch;

/* Each returns 0, and then the callback will run, or -EINVAL (bad or repeated key, nothing to do),
 * -EMSGSIZE (a limit above), -EBUSY (too many requests under way), -ENOMEM. */
int store_get(
    struct store *store, const char *key, struct mono deadline, store_done *done, void *arg);
int store_txn(struct store *store, const struct store_txn *txn, store_done *done, void *arg);
/* Entries whose key begins with prefix and sorts behind after ("" for the first page), at most
 * limit (1 to STORE_PAGE_MAX).  Pages are read one by one: each is of one revision, two may differ.
 * A page may also end early (more is set) so as not to grow beyond 512 KiB. */
int store_scan(struct store *store, const char *prefix, const char *after, size_t limit,
    struct mono deadline, store_done *done, void *arg);
/* Hints for keys that begin with prefix ("" for all) until unwatch. */
int store_watch(
    struct store *store, const char *prefix, store_hint *hint, void *arg, struct store_watch **out);
/* Returns NULL. */
struct store_watch *store_unwatch(struct store *store, struct store_watch *watch);
/* Drops what is under way without calling back; returns NULL. */
struct store *store_close(struct store *store);

/* For backends: the head of their own structure. */
struct store_class {
	int (*get)(struct store *, const char *, struct mono, store_done *, void *);
	int (*txn)(struct store *, const struct store_txn *, store_done *, void *);
	int (*scan)(
	    struct store *, const char *, const char *, size_t, struct mono, store_done *, void *);
	void (*close)(struct store *);
};

struct store_watch {
	struct store_watch *next;
	char *prefix;
	store_hint *hint;
	void *arg;
	bool dead; /* unwatched during a round of hints; freed after it */
};

struct store {
	const struct store_class *class;
	struct store_watch *watches;
	unsigned hinting;
};

#define STORE_PAGE_BYTES (512 * 1024)

/* A key as the store takes it: 1 to STORE_KEY_MAX bytes of printable ASCII, no space. */
bool store_key_valid(const char *key);
bool store_nonce_set(const struct store_nonce *nonce);
/* That of a transaction; one that came without gets next, which is raised. */
struct store_nonce store_nonce_or_next(const struct store_nonce *nonce, struct store_nonce *next);
/* Tells the watches to whose prefix key belongs; key NULL tells all. */
void store_tell(struct store *store, const char *key, uint64_t revision);
/* Frees the watches; backends call it in close. */
void store_fini(struct store *store);

#endif
