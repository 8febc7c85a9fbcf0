/*
 * A set of ids, open addressing with linear probing.  Ids are hashes already, so their first
 * eight bytes are the slot.  Zero-initialise it.
 */
#ifndef GDN_STORE_IDSET_H
#define GDN_STORE_IDSET_H

#include "gdn/store/id.h"

struct idset {
	struct id *slots;
	uint8_t *used;
	size_t count;
	size_t capacity; /* a power of two, or 0 */
};

bool idset_has(const struct idset *set, const struct id *id);
/* 1 added, 0 was there, -ENOMEM. */
int idset_add(struct idset *set, const struct id *id);
/* Walks the set: start with *at = 0; NULL at the end.  Order is that of the slots. */
const struct id *idset_next(const struct idset *set, size_t *at);
void idset_fini(struct idset *set);

#endif
