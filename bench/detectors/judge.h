/*
 * How good a detector is on a trace: mistakes and mean detection time (Chen et al. 2002: mistake
 * recurrence, detection time), and the parameter that gives a wanted detection time.
 */
#ifndef BENCH_DETECTORS_JUDGE_H
#define BENCH_DETECTORS_JUDGE_H

#include "bench/detectors/detector.h"
#include "bench/detectors/trace.h"

struct verdict {
	double detection; /* mean, in announced intervals; NAN: nothing was judged */
	uint64_t mistakes;
	double hours; /* of the trace that was judged */
};

/* One run with a given parameter.  -ENOMEM. */
int judge(const struct detector *detector, const struct trace *trace, double parameter,
    struct verdict *verdict);
/* Finds the parameter at which the mean detection time is `detection` intervals.
 * 0; 1: the detector cannot be that quick, or that slow, on this trace; -ENOMEM. */
int judge_at(const struct detector *detector, const struct trace *trace, double detection,
    struct verdict *verdict);

#endif
