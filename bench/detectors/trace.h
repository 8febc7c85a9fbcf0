/*
 * A trace: the heartbeats of one sender that arrived at one monitor, in the order of arrival.
 * Traces are generated from a seed, or read from an arrival log (docs/detection.md).
 */
#ifndef BENCH_DETECTORS_TRACE_H
#define BENCH_DETECTORS_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TRACE_NAME_MAX = 48,
	TRACE_ARRIVALS_MAX = 10000000,
};

/* Seconds from the beginning of the trace. */
struct arrival {
	double sent_s; /* NAN: unknown */
	double received_s;
	uint64_t sequence;
	uint64_t incarnation;
	double interval_s; /* as announced */
};

struct trace {
	char name[TRACE_NAME_MAX];
	bool jitter_changes; /* the kind of trace that an adaptive detector is for */
	bool real;
	struct arrival *arrivals;
	size_t count, room;
};

/* Appends; -ENOMEM or -E2BIG. */
int trace_add(struct trace *trace, const struct arrival *arrival);
/* Reads an arrival log.  On failure *line is where, 0 when it was not the text; -EINVAL for text. */
int trace_read(struct trace *trace, const char *path, size_t *line);
void trace_fini(struct trace *trace);

/* The generated traces: how many there are, and one of them made from a seed. */
size_t trace_recipes(void);
int trace_generate(struct trace *trace, size_t recipe, uint64_t seed, size_t beats);

#endif
