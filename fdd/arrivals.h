/*
 * The last arrivals of one peer, as they came: a ring in memory that the core was given.  What it
 * holds can be exported and replayed (replay.h).  Part of the core; see fdd.h.
 */
#ifndef FDD_ARRIVALS_H
#define FDD_ARRIVALS_H

#include "fdd/fdd.h"

struct arrivals {
	struct fdd_arrival *ring; /* max of them */
	size_t max, next, count;
	uint64_t dropped;
	struct mono since; /* watched from here on */
};

/* Empties it; the memory stays. */
void arrivals_begin(struct arrivals *arrivals, struct mono now);
/* The oldest makes room. */
void arrivals_add(struct arrivals *arrivals, const struct fdd_arrival *arrival);
/* The n-th oldest; NULL behind the last. */
const struct fdd_arrival *arrivals_get(const struct arrivals *arrivals, size_t n);

#endif
