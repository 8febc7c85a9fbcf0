/*
 * What is said to etcd's JSON gateway (v3) and what it answers: texts and structures, nothing else.
 *
 * Below one prefix, depsys/CLUSTER/, there are
 *	fact/KEY	a fact
 *	nonce/HEX	empty: the transaction with this nonce was applied; its revision is that of the key.  "INDEX VERSION":
 *			it never will be, because that operation found that version
 *	last		the keys that the last transaction changed, each followed by a line feed
 *	floor		no nonce above this revision was forgotten: 16 hex digits
 * A fact's version is etcd's mod_revision: it only rises, also over a deletion, where etcd's own version begins again with 1.
 *
 * A transaction compares (all facts, that there is no such nonce, that none of its time was forgotten) and then writes
 * facts, nonce and last; else it reads nonce, floor and the facts that were compared, so that one answer tells why.
 *
 * Answers are foreign: each field is checked for its type and limits; a number that is left out is 0, as JSON of protobuf has it.
 */
#ifndef METAD_ETCD_H
#define METAD_ETCD_H

#include "common/buf.h"
#include "metad/store.h"

#define ETCD_PREFIX_MAX 160 /* "depsys/" CLUSTER "/" */
#define ETCD_KEY_MAX (ETCD_PREFIX_MAX + 8 + STORE_KEY_MAX)
#define ETCD_PRUNE_MAX 64 /* nonces forgotten at once */
#define ETCD_MEMBERS_MAX 16
#define ETCD_NAME_MAX 63

/* --- requests; each appends, 0 or -ENOMEM --- */

struct etcd_range {
	const char *space; /* "fact/", "nonce/", "last", "floor" */
	const char *from;  /* a key, or the first of a range, in that space */
	bool behind;       /* not from itself, what sorts behind it */
	const char *to;    /* prefix of the last: all that begins with it; NULL: one key */
	size_t limit;      /* 0: all */
	bool keys_only;
	bool oldest_first; /* not in the order of keys */
};

int etcd_put_range(struct buf *json, const char *prefix, const struct etcd_range *range);
int etcd_put_txn(struct buf *json, const char *prefix, const struct store_op *ops, size_t count,
    const struct store_nonce *nonce, uint64_t floor);
/*
 * Makes sure that a transaction which may still be on its way is never applied: takes its nonce, and keeps why.  Rejected: to
 * believe a conflict at once; what expected a key to be absent could be applied when it has been deleted.
 */
int etcd_put_void(struct buf *json, const char *prefix, const struct store_nonce *nonce,
    uint64_t floor, size_t conflict, uint64_t version);
/* Lays the floor, if there is none. */
int etcd_put_init(struct buf *json, const char *prefix);
/* Forgets nonces (their full keys), the last of them of this revision. */
int etcd_put_prune(struct buf *json, const char *prefix, char keys[][ETCD_KEY_MAX + 1],
    size_t count, uint64_t revision);
/* Hints from this revision on; 0: from now on. */
int etcd_put_watch(struct buf *json, const char *prefix, uint64_t from);

void etcd_nonce_text(char text[33], const struct store_nonce *nonce);

/* --- answers; each 0, -EBADMSG or -ENOMEM --- */

struct etcd_entry {
	size_t key, value; /* where they are in etcd_page.bytes, each with a zero behind it */
	size_t key_size, value_size;
	uint64_t revision; /* that put it */
};

/* A range. */
struct etcd_page {
	uint64_t revision, total;
	bool more;
	size_t count;
	struct etcd_entry entry[STORE_PAGE_MAX];
	struct buf bytes;
};

/* Zero-initialised by the caller, and ended with etcd_page_fini. */
int etcd_take_page(struct etcd_page *page, const char *json, size_t size);
void etcd_page_fini(struct etcd_page *page);
const char *etcd_entry_key(const struct etcd_page *page, size_t index);

/* Of any answer. */
int etcd_take_revision(uint64_t *revision, const char *json, size_t size);

struct etcd_outcome {
	uint64_t revision;
	bool succeeded;
	/* Of one that has not, by the revisions that etcd has: */
	uint64_t nonce; /* 0: none */
	bool void_nonce;
	uint64_t void_index, void_version;
	uint64_t floor;
	bool has_floor;
	uint64_t facts
	    [STORE_OPS_MAX]; /* in the order of the operations; 0 also where none was expected */
};

/* count and ops as they were sent. */
int etcd_take_outcome(struct etcd_outcome *outcome, const struct store_op *ops, size_t count,
    const char *json, size_t size);

struct etcd_status {
	uint64_t member, leader; /* 0: none */
};

int etcd_take_status(struct etcd_status *status, const char *json, size_t size);

struct etcd_member {
	uint64_t id;
	char name[ETCD_NAME_MAX + 1];
};

struct etcd_members {
	size_t count;
	struct etcd_member member[ETCD_MEMBERS_MAX];
};

int etcd_take_members(struct etcd_members *members, const char *json, size_t size);

/* A line of a watch. */
struct etcd_news {
	uint64_t revision;
	bool created;
	bool ended;     /* canceled, or an error */
	bool compacted; /* because what it was to begin with is no longer there */
	/* Of each event: called in order, keys as put in last. */
	void (*event)(void *arg, uint64_t revision, char *keys);
	void *arg;
};

int etcd_take_news(struct etcd_news *news, const char *json, size_t size);

/* The code of gRPC and the words of an answer that is no success; 0 if it has none. */
#define ETCD_RESOURCE_EXHAUSTED 8
int etcd_take_error(char words[200], const char *json, size_t size);

#endif
