/*
 * The simulator's queue of events: a binary heap by time, kind and age.
 */
#ifndef TESTS_SIM_HEAP_H
#define TESTS_SIM_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim;

/* At one instant messages come before calls, calls before timers. */
enum event_kind {
	EVENT_MESSAGE,
	EVENT_CALL,
	EVENT_TIMER,
};

struct event {
	int64_t at;
	uint64_t order;
	enum event_kind kind;
	unsigned from, to; /* processes */
	/* message */
	unsigned tag;
	unsigned channel;
	bool waited;
	int64_t arrived;
	uint64_t number; /* in its stream */
	void *data;
	size_t size;
	/* call */
	void (*call)(struct sim *sim, void *argument);
	void *argument;
	/* timer */
	uint64_t generation;
};

struct heap {
	struct event *events;
	size_t count, capacity;
};

/* False when there is no memory. */
bool heap_push(struct heap *heap, const struct event *event);
/* Takes the first out; false when empty. */
bool heap_pop(struct heap *heap, struct event *event);
/* Time of the first, INT64_MAX when empty. */
int64_t heap_next(const struct heap *heap);
void heap_fini(struct heap *heap);

#endif
