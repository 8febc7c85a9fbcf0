/*
 * A table from pairs of numbers (two hosts, two processes) to what is kept about them.  Only pairs
 * that have something to keep stand in it: of ten thousand hosts few talk to each other.  Open
 * addressing; nothing is taken out singly.
 */
#ifndef TESTS_SIM_PAIRS_H
#define TESTS_SIM_PAIRS_H

#include <stddef.h>
#include <stdint.h>

struct pairs {
	size_t value_size;
	size_t count, capacity; /* capacity: a power of two, or 0 */
	unsigned shift;         /* 64 less the bits of the capacity */
	uint64_t *keys;         /* 0: free */
	unsigned char *values;
};

/* NULL if the pair is not in the table. */
void *pairs_find(const struct pairs *pairs, unsigned a, unsigned b);
/* Adds it, zeroed, if need be; NULL when there is no memory.  Moves the values of others. */
void *pairs_get(struct pairs *pairs, unsigned a, unsigned b);
/* The n-th place of the table; NULL if it is free. */
void *pairs_at(const struct pairs *pairs, size_t n);
void pairs_clear(struct pairs *pairs);
void pairs_fini(struct pairs *pairs);

#endif
