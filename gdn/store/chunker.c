#include "gdn/store/chunker.h"

#include "common/rng.h"

/* Changing any of these changes every chunk id: old data would be stored again. */
#define GEAR_SEED UINT64_C(0x64657073797321)
#define STRICT_BITS 16 /* log2(mean) + 2, before the mean */
#define LAX_BITS 12    /* log2(mean) - 2, behind it */

void chunker_init(struct chunker *chunker)
{
	struct rng rng;

	rng_init(&rng, GEAR_SEED);
	for (int i = 0; i < 256; i++)
		chunker->gear[i] = rng_u64(&rng);
}

/* Rolls from data[from] to data[to]; returns the end of the chunk, or `to` if there is none. */
static inline size_t roll(const struct chunker *chunker, const uint8_t *data, size_t from,
    size_t to, uint64_t *hash, unsigned int bits)
{
	uint64_t limit = UINT64_C(1) << (64 - bits), h = *hash;

	for (size_t i = from; i < to; i++) {
		h = (h << 1) + chunker->gear[data[i]];
		if (h < limit)
			return i + 1;
	}
	*hash = h;
	return to + 1;
}

size_t chunker_cut(const struct chunker *chunker, const uint8_t *data, size_t size)
{
	size_t end = size < CHUNK_MAX ? size : CHUNK_MAX;
	size_t mean = end < CHUNK_MEAN ? end : CHUNK_MEAN;
	uint64_t hash = 0;
	size_t cut;

	if (end <= CHUNK_MIN)
		return end;
	/* The window is full when the first condition is asked. */
	for (size_t i = CHUNK_MIN - 64; i < CHUNK_MIN; i++)
		hash = (hash << 1) + chunker->gear[data[i]];
	cut = roll(chunker, data, CHUNK_MIN, mean, &hash, STRICT_BITS);
	if (cut <= mean)
		return cut;
	cut = roll(chunker, data, mean, end, &hash, LAX_BITS);
	return cut <= end ? cut : end;
}
