#include "gossipd/observers.h"

#include <stdbool.h>

#include "common/rng.h"

/* Equal weights (which do not happen) would be broken by the id. */
static bool heavier(uint64_t thing, uint64_t a, uint64_t b)
{
	uint64_t weight_a = rng_mix(thing, a), weight_b = rng_mix(thing, b);

	return weight_a != weight_b ? weight_a > weight_b : a > b;
}

uint64_t observers_choose(
    const uint64_t *ids, size_t count, size_t m, uint64_t candidates, unsigned k)
{
	uint64_t chosen = 0;

	candidates &= ~((uint64_t)1 << m);
	for (; k > 0 && candidates != 0; k--) {
		size_t best = count;

		for (size_t i = 0; i < count; i++) {
			if ((candidates >> i & 1) &&
			    (best == count || heavier(ids[m], ids[i], ids[best])))
				best = i;
		}
		if (best == count)
			break;
		chosen |= (uint64_t)1 << best;
		candidates &= ~((uint64_t)1 << best);
	}
	return chosen;
}

unsigned observers_rank(
    const uint64_t *ids, size_t count, size_t m, uint64_t candidates, uint64_t thing)
{
	unsigned rank = 0;

	for (size_t i = 0; i < count; i++) {
		if (i != m && (candidates >> i & 1) && heavier(thing, ids[i], ids[m]))
			rank++;
	}
	return rank;
}
