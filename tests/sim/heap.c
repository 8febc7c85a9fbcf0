#include "tests/sim/heap.h"

#include <stdlib.h>

enum {
	WIDTH =
	    4, /* children of a node: half the levels of a binary heap, and one cache line or two */
	KIND_SHIFT = 62,
};

static bool before(const struct heap_key *a, const struct heap_key *b)
{
	return a->at != b->at ? a->at < b->at : a->rank < b->rank;
}

static void sift_up(struct heap *heap, size_t i, struct heap_key moving)
{
	while (i > 0 && before(&moving, &heap->keys[(i - 1) / WIDTH])) {
		heap->keys[i] = heap->keys[(i - 1) / WIDTH];
		i = (i - 1) / WIDTH;
	}
	heap->keys[i] = moving;
}

static void sift_down(struct heap *heap, struct heap_key moving)
{
	size_t i = 0, first;

	while ((first = WIDTH * i + 1) < heap->count) {
		size_t end = first + WIDTH < heap->count ? first + WIDTH : heap->count;
		size_t least = first;

		for (size_t child = first + 1; child < end; child++) {
			if (before(&heap->keys[child], &heap->keys[least]))
				least = child;
		}
		if (!before(&heap->keys[least], &moving))
			break;
		heap->keys[i] = heap->keys[least];
		i = least;
	}
	heap->keys[i] = moving;
}

/* Each array that did grow stays valid when a later one does not. */
static bool grow(struct heap *heap)
{
	size_t capacity = heap->capacity ? 2 * heap->capacity : 1024;
	struct heap_key *keys = realloc(heap->keys, capacity * sizeof(*keys));
	struct event *events;
	uint32_t *slots;

	if (!keys)
		return false;
	heap->keys = keys;
	events = realloc(heap->events, capacity * sizeof(*events));
	if (!events)
		return false;
	heap->events = events;
	slots = realloc(heap->free, capacity * sizeof(*slots));
	if (!slots)
		return false;
	heap->free = slots;
	for (size_t i = heap->capacity; i < capacity; i++)
		heap->free[i] = (uint32_t)i;
	heap->capacity = capacity;
	return true;
}

/* The stack of free slots lies above count: as many slots are taken as keys stand in the heap. */
bool heap_push(struct heap *heap, const struct event *event)
{
	struct heap_key key = {event->at, (uint64_t)event->kind << KIND_SHIFT | event->order, 0};

	if (heap->count == heap->capacity && !grow(heap))
		return false;
	key.slot = heap->free[heap->count];
	heap->events[key.slot] = *event;
	sift_up(heap, heap->count++, key);
	return true;
}

bool heap_pop(struct heap *heap, struct event *event)
{
	uint32_t slot;

	if (heap->count == 0)
		return false;
	slot = heap->keys[0].slot;
	*event = heap->events[slot];
	heap->free[--heap->count] = slot;
	if (heap->count > 0)
		sift_down(heap, heap->keys[heap->count]);
	return true;
}

int64_t heap_next(const struct heap *heap)
{
	return heap->count > 0 ? heap->keys[0].at : INT64_MAX;
}

void heap_fini(struct heap *heap)
{
	free(heap->keys);
	free(heap->events);
	free(heap->free);
	*heap = (struct heap){0};
}
