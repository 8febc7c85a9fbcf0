#include "tests/sim/pairs.h"

#include <stdlib.h>
#include <string.h>

static uint64_t key_of(unsigned a, unsigned b)
{
	return ((uint64_t)a << 32 | b) + 1;
}

/* Where the key stands, or the free place where it would. */
static size_t place(const struct pairs *pairs, uint64_t key)
{
	/* Only the highest bits of the product depend on both numbers. */
	size_t i = (size_t)(key * 0x9e3779b97f4a7c15u >> pairs->shift);

	while (pairs->keys[i] != 0 && pairs->keys[i] != key)
		i = (i + 1) & (pairs->capacity - 1);
	return i;
}

void *pairs_at(const struct pairs *pairs, size_t n)
{
	return pairs->keys[n] != 0 ? pairs->values + n * pairs->value_size : NULL;
}

void *pairs_find(const struct pairs *pairs, unsigned a, unsigned b)
{
	return pairs->count > 0 ? pairs_at(pairs, place(pairs, key_of(a, b))) : NULL;
}

/* Never more than half full. */
static int grow(struct pairs *pairs)
{
	struct pairs larger = {
	    .value_size = pairs->value_size,
	    .count = pairs->count,
	    .capacity = pairs->capacity ? 2 * pairs->capacity : 64,
	    .shift = pairs->capacity ? pairs->shift - 1 : 64 - 6,
	};

	larger.keys = calloc(larger.capacity, sizeof(*larger.keys));
	larger.values = calloc(larger.capacity, larger.value_size);
	if (!larger.keys || !larger.values) {
		pairs_fini(&larger);
		return -1;
	}
	for (size_t i = 0; i < pairs->capacity; i++) {
		size_t to;

		if (pairs->keys[i] == 0)
			continue;
		to = place(&larger, pairs->keys[i]);
		larger.keys[to] = pairs->keys[i];
		memcpy(pairs_at(&larger, to), pairs_at(pairs, i), pairs->value_size);
	}
	pairs_fini(pairs);
	*pairs = larger;
	return 0;
}

void *pairs_get(struct pairs *pairs, unsigned a, unsigned b)
{
	uint64_t key = key_of(a, b);
	size_t i;

	if (2 * (pairs->count + 1) > pairs->capacity && grow(pairs) < 0)
		return NULL;
	i = place(pairs, key);
	pairs->count += pairs->keys[i] == 0;
	pairs->keys[i] = key;
	return pairs_at(pairs, i);
}

void pairs_clear(struct pairs *pairs)
{
	if (pairs->count == 0)
		return;
	memset(pairs->keys, 0, pairs->capacity * sizeof(*pairs->keys));
	memset(pairs->values, 0, pairs->capacity * pairs->value_size);
	pairs->count = 0;
}

void pairs_fini(struct pairs *pairs)
{
	free(pairs->keys);
	free(pairs->values);
	pairs->keys = NULL;
	pairs->values = NULL;
	pairs->count = pairs->capacity = pairs->shift = 0;
}
