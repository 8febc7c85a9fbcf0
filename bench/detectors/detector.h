/*
 * A failure detector as the bench sees it: it is told of arrivals, and says at which time, if
 * nothing more arrives, it will suspect the sender.  One parameter trades detection time against
 * mistakes.
 */
#ifndef BENCH_DETECTORS_DETECTOR_H
#define BENCH_DETECTORS_DETECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct detector {
	const char *name;
	bool published;   /* by others; the goals compare ours to the best of these */
	double low, high; /* range of the parameter; detection time rises with it */
	size_t size;      /* of the state */
	/* The first heartbeat arrived at at_s; nothing is known but the announced interval. */
	void (*begin)(void *state, double interval_s, double parameter, double at_s);
	/* A later one arrived, `gap` numbers after the one before. */
	void (*arrive)(void *state, double at_s, uint64_t gap);
	/* When the sender is suspected. */
	double (*deadline)(const void *state);
};

/* All that take part, the fixed timeout first, the literal estimator before ours, ours last. */
extern const struct detector *const detectors[];
extern const size_t detectors_count;

#endif
