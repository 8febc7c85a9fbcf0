/* A subscriber that knows which event must come next from each run of bus-publisher. */
#ifndef TESTS_SYSTEM_COUNTING_H
#define TESTS_SYSTEM_COUNTING_H

#include "common/bus.h"
#include "common/mono.h"
#include "tests/system/ledger.h"

struct counting {
	uint64_t events; /* of test.count */
	uint64_t others;
	uint64_t last[RUNS_MAX]; /* n of the last event of each run */
	uint64_t missing, repeated, lost;
	struct mono last_arrival, longest_gap;
	int64_t *latency_ns; /* if set: room for latency_max */
	size_t latency_count, latency_max;
};

void counting_event(void *counting, const struct bus_event *event);
void counting_lost(void *counting, uint64_t count);

#endif
