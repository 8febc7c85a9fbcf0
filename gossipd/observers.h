/*
 * Who observes whom: rendezvous hashing (Thaler and Ravishankar, 1998).  Each pair of member and
 * candidate has a weight that every node computes alike; the heaviest candidates observe.  So all
 * who agree on the live members agree on the observers, without a word; each member has exactly
 * its number of them; and a death moves only the observations that the dead one had.
 */
#ifndef GOSSIPD_OBSERVERS_H
#define GOSSIPD_OBSERVERS_H

#include <stddef.h>
#include <stdint.h>

/* The k observers of member ids[m] among the candidates, as sets of indices (bit i: ids[i]).  Fewer
 * if there are fewer candidates; a member does not observe itself. */
uint64_t observers_choose(
    const uint64_t *ids, size_t count, size_t m, uint64_t candidates, unsigned k);
/* Place of ids[m] in the order of the candidates for a thing (0: first); m itself counts as one. */
unsigned observers_rank(
    const uint64_t *ids, size_t count, size_t m, uint64_t candidates, uint64_t thing);

#endif
