/*
 * The inside of the simulator, shared by sim.c and trace.c.
 */
#ifndef TESTS_SIM_SIM_INTERNAL_H
#define TESTS_SIM_SIM_INTERNAL_H

#include "tests/sim/heap.h"
#include "tests/sim/pairs.h"
#include "tests/sim/sim.h"

enum {
	INVARIANTS_MAX = 8,
};

struct host {
	int64_t base_true, base_local; /* the clock showed base_local at base_true */
	double rate;
	uint64_t island; /* hosts of different islands do not reach each other */
};

/* Order of a stream between two processes. */
struct stream {
	uint64_t sent, delivered;
	int64_t arrives; /* the last one, if nothing is cut */
};

struct process {
	unsigned host;
	char *who;
	const struct sim_program *program;
	void *context;
	void *state;    /* NULL: down */
	unsigned depth; /* callbacks on the stack */
	bool crashing, crash_set;
	unsigned crash_in;
	int64_t timer_at; /* of the timer event in the heap */
	uint64_t timer_generation;
	int64_t paused_until;
	unsigned waiting; /* messages in the buffers of a paused process */
	int64_t spun_at;
	unsigned spins;
};

struct invariant {
	const char *(*holds)(struct sim *sim, unsigned process, void *argument);
	void *argument;
};

struct sim {
	int64_t now; /* true time */
	uint64_t order;
	struct heap heap;
	struct rng rng; /* the scenario's */
	struct rng net; /* the network's: a fault more does not shift every delay */
	struct host *hosts;
	unsigned host_count;
	struct process *processes;
	unsigned process_count;
	struct sim_link common; /* all links but those that stand in: */
	uint64_t partitions;    /* made so far */
	struct pairs links;     /* of hosts: struct sim_link */
	struct pairs streams;   /* of processes: struct stream */
	struct invariant invariants[INVARIANTS_MAX];
	unsigned invariant_count;
	const char *broken;
	uint64_t hash, event_count, byte_count;
	bool echo;
	struct sim_line *lines;
	size_t line_count, line_capacity, lines_kept;
	char complaint[512];
};

void sim_push(struct sim *sim, struct event event);
void sim_set_timer(struct sim *sim, unsigned process);
struct stream *sim_stream(struct sim *sim, const struct event *event);
bool sim_stream_ready(struct sim *sim, struct event *event);
void sim_trace_fini(struct sim *sim);

#endif
