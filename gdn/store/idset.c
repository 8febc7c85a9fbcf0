#include "gdn/store/idset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t find_slot(const struct idset *set, const struct id *id)
{
	uint64_t first;
	size_t slot;

	memcpy(&first, id->bytes, sizeof(first));
	slot = (size_t)first & (set->capacity - 1);
	while (set->used[slot] && !id_equal(&set->slots[slot], id))
		slot = (slot + 1) & (set->capacity - 1);
	return slot;
}

static int grow(struct idset *set)
{
	struct idset bigger = {
	    .count = set->count, .capacity = set->capacity ? 2 * set->capacity : 64};

	bigger.slots = malloc(bigger.capacity * sizeof(*bigger.slots));
	bigger.used = calloc(bigger.capacity, 1);
	if (!bigger.slots || !bigger.used) {
		idset_fini(&bigger);
		return -ENOMEM;
	}
	for (size_t i = 0; i < set->capacity; i++) {
		size_t slot;

		if (!set->used[i])
			continue;
		slot = find_slot(&bigger, &set->slots[i]);
		bigger.slots[slot] = set->slots[i];
		bigger.used[slot] = 1;
	}
	idset_fini(set);
	*set = bigger;
	return 0;
}

bool idset_has(const struct idset *set, const struct id *id)
{
	return set->capacity && set->used[find_slot(set, id)];
}

int idset_add(struct idset *set, const struct id *id)
{
	size_t slot;

	if (4 * (set->count + 1) > 3 * set->capacity && grow(set) < 0)
		return -ENOMEM;
	slot = find_slot(set, id);
	if (set->used[slot])
		return 0;
	set->slots[slot] = *id;
	set->used[slot] = 1;
	set->count++;
	return 1;
}

const struct id *idset_next(const struct idset *set, size_t *at)
{
	while (*at < set->capacity) {
		size_t slot = (*at)++;

		if (set->used[slot])
			return &set->slots[slot];
	}
	return NULL;
}

void idset_fini(struct idset *set)
{
	free(set->slots);
	free(set->used);
	*set = (struct idset){0};
}
