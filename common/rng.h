/*
 * Seeded random numbers for cores and simulators: the same seed gives the same numbers on every
 * machine.  Not for keys (those come from libsodium).  Source: xoshiro256** by Blackman and Vigna,
 * seeded by splitmix64.
 */
#ifndef COMMON_RNG_H
#define COMMON_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
	uint64_t s[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_u64(struct rng *rng);
/* Uniform in [0, limit); limit > 0. */
uint64_t rng_below(struct rng *rng, uint64_t limit);
/* Uniform in [0, 1). */
double rng_unit(struct rng *rng);
bool rng_chance(struct rng *rng, double probability);
/* A well-mixed 64-bit hash of two words, for rendezvous hashing. */
uint64_t rng_mix(uint64_t a, uint64_t b);

#endif
