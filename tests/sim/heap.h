/*
 * The simulator's queue of events: a heap of small keys (time, kind and age) over a table of events
 * that stay where they are, so that an order of thousands is kept by moving 24 bytes at a time.
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
	union {
		struct { /* message */
			unsigned tag;
			unsigned channel;
			bool waited;
			int64_t arrived;
			uint64_t number; /* in its stream */
			void *data;
			size_t size;
		};
		struct {
			void (*call)(struct sim *sim, void *argument);
			void *argument;
		};
		uint64_t generation; /* timer */
	};
};

struct heap_key {
	int64_t at;
	uint64_t rank; /* kind, then age */
	uint32_t slot;
};

struct heap {
	struct heap_key *keys;
	struct event *events; /* by slot */
	uint32_t *free;       /* slots, a stack */
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
