/*
 * The sender of a trace lives, so each suspicion in it is a mistake: the next heartbeat came after
 * the deadline that the detector had set.  Detection time is what would pass from a crash to the
 * suspicion.  The crash is taken to happen at every moment of the interval after each heartbeat
 * alike, also after a lost one; what was sent before it still arrives.  So for heartbeat n, sent at
 * s_n, with the deadline F that is in force when nothing after n arrives,
 *
 *	detection(n) = mean over c in [s_n, s_n + D) of max(0, F - c)
 *
 * The first part of a trace (1,000 heartbeats, or a tenth if that is less) fills the windows and is
 * not judged.  Where an arrival log has no time of sending, that of receiving stands for it.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include "bench/detectors/judge.h"

struct sums {
	double detection, weight, observed_s;
	uint64_t mistakes;
};

/* The mean of max(0, deadline - c) over the interval that begins at from. */
static double detection_time(double deadline, double from, double interval_s)
{
	double left = deadline - from;

	if (left <= 0)
		return 0;
	if (left < interval_s)
		return left * left / (2 * interval_s);
	return left - interval_s / 2;
}

static void sum_up(
    struct sums *sums, const struct arrival *last, const struct arrival *next, double deadline)
{
	uint64_t gap = next->sequence - last->sequence;
	double sent_s = isnan(last->sent_s) ? last->received_s : last->sent_s;

	for (uint64_t i = 0; i < gap && i < 64; i++) { /* further ones are detected already */
		double from = sent_s + (double)i * last->interval_s;

		sums->detection +=
		    detection_time(deadline, from, last->interval_s) / last->interval_s;
	}
	sums->weight += (double)(gap < 64 ? gap : 64);
	sums->observed_s += next->received_s - last->received_s;
	if (next->received_s > deadline)
		sums->mistakes++;
}

static bool same_life(const struct arrival *a, const struct arrival *b)
{
	return a->incarnation == b->incarnation && fabs(a->interval_s - b->interval_s) < 1e-9;
}

static void run(const struct detector *detector, void *state, const struct trace *trace,
    double parameter, struct sums *sums)
{
	size_t skip = trace->count / 10 < 1000 ? trace->count / 10 : 1000;
	const struct arrival *last = NULL;

	for (size_t i = 0; i < trace->count; i++) {
		const struct arrival *next = &trace->arrivals[i];

		if (last && same_life(last, next)) {
			if (next->sequence <= last->sequence)
				continue; /* repeated, or overtaken */
			if (i >= skip)
				sum_up(sums, last, next, detector->deadline(state));
			detector->arrive(state, next->received_s, next->sequence - last->sequence);
		} else {
			detector->begin(state, next->interval_s, parameter, next->received_s);
		}
		last = next;
	}
}

int judge(const struct detector *detector, const struct trace *trace, double parameter,
    struct verdict *verdict)
{
	struct sums sums = {0};
	void *state = malloc(detector->size);

	if (!state)
		return -ENOMEM;
	run(detector, state, trace, parameter, &sums);
	free(state);
	*verdict = (struct verdict){
	    .detection = sums.detection / sums.weight,
	    .mistakes = sums.mistakes,
	    .hours = sums.observed_s / 3600,
	};
	return 0;
}

/* Regula falsi with bisection when it is slow: detection time is all but linear in the parameter
 * of most detectors. */
int judge_at(const struct detector *detector, const struct trace *trace, double detection,
    struct verdict *verdict)
{
	const double near = 2e-4, rough = 2e-3;
	double low = detector->low, high = fmax(4, 2 * low), low_error, high_error, error = 0;
	int r;

	r = judge(detector, trace, low, verdict);
	if (r < 0)
		return r;
	low_error = verdict->detection - detection;
	if (!(low_error <= 0))
		return 1;
	for (;;) {
		r = judge(detector, trace, high, verdict);
		if (r < 0)
			return r;
		high_error = verdict->detection - detection;
		if (high_error >= 0)
			break;
		low = high;
		low_error = high_error;
		high *= 2;
		if (high > detector->high)
			return 1;
	}
	for (int i = 0; i < 40; i++) { /* a jump of the detection time is never near enough */
		double share = i % 3 == 2 ? 0.5 : low_error / (low_error - high_error);
		double middle = low + fmin(fmax(share, 0.01), 0.99) * (high - low);

		r = judge(detector, trace, middle, verdict);
		if (r < 0)
			return r;
		error = verdict->detection - detection;
		if (fabs(error) < near * detection)
			return 0;
		if (error < 0) {
			low = middle;
			low_error = error;
		} else {
			high = middle;
			high_error = error;
		}
	}
	return fabs(error) < rough * detection ? 0 : 1;
}
