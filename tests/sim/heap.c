#include "tests/sim/heap.h"

#include <stdlib.h>

static bool before(const struct event *a, const struct event *b)
{
	if (a->at != b->at)
		return a->at < b->at;
	if (a->kind != b->kind)
		return a->kind < b->kind;
	return a->order < b->order;
}

static void sift_up(struct heap *heap, size_t i)
{
	struct event moving = heap->events[i];

	while (i > 0 && before(&moving, &heap->events[(i - 1) / 2])) {
		heap->events[i] = heap->events[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	heap->events[i] = moving;
}

static void sift_down(struct heap *heap)
{
	struct event moving = heap->events[0];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < heap->count) {
		if (child + 1 < heap->count &&
		    before(&heap->events[child + 1], &heap->events[child]))
			child++;
		if (!before(&heap->events[child], &moving))
			break;
		heap->events[i] = heap->events[child];
		i = child;
	}
	heap->events[i] = moving;
}

bool heap_push(struct heap *heap, const struct event *event)
{
	if (heap->count == heap->capacity) {
		size_t capacity = heap->capacity ? 2 * heap->capacity : 1024;
		struct event *events = realloc(heap->events, capacity * sizeof(*events));

		if (!events)
			return false;
		heap->events = events;
		heap->capacity = capacity;
	}
	heap->events[heap->count++] = *event;
	sift_up(heap, heap->count - 1);
	return true;
}

bool heap_pop(struct heap *heap, struct event *event)
{
	if (heap->count == 0)
		return false;
	*event = heap->events[0];
	heap->events[0] = heap->events[--heap->count];
	if (heap->count > 0)
		sift_down(heap);
	return true;
}

int64_t heap_next(const struct heap *heap)
{
	return heap->count > 0 ? heap->events[0].at : INT64_MAX;
}

void heap_fini(struct heap *heap)
{
	free(heap->events);
	*heap = (struct heap){0};
}
