/*
 * Generated traces.  A sender beats each D = 100 ms; what happens to its heartbeats follows one of
 * the recipes below.  Times are in units of D.
 *
 *	timer    lateness of the sender's timer, exponential
 *	pause    the sender stands still (Pareto, 1.5) and goes on from there: its phase shifts
 *	hold     the network holds everything back for a while, then delivers it at once
 *	delay    base + jitter; the jitter is exponential, correlated (queues) or Pareto
 *	loss     Gilbert-Elliott: two states, each with its own loss; equal ones are independent loss
 *	regimes  two of all this, of random length
 *
 * The laws are those of the literature on failure detectors and of network measurement: Chen et al.
 * use exponential delays and independent loss; Hayashibara et al. and Tomsic et al. find bursty
 * loss, spikes and shifts of regime in their WAN traces; Pareto tails are those of mobile links.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "bench/detectors/trace.h"
#include "common/rng.h"

static const double interval_s = 0.1;

enum law { EXPONENTIAL, CORRELATED, PARETO };

struct regime {
	double timer;
	double base, jitter;
	enum law law;
	double loss_good, loss_bad, to_bad, to_good; /* loss of each state, chances to change */
	double pause, pause_min;                     /* chance per beat, shortest */
	double hold, hold_mean;
};

struct recipe {
	const char *name;
	struct regime a, b;
	double stay_a, stay_b; /* mean beats of each regime; 0: there is only a */
	bool jitter_changes;
};

static const struct recipe recipes[] = {
    {.name = "lan",
	.a = {.timer = 0.01,
	    .base = 0.002,
	    .jitter = 0.002,
	    .loss_good = 1e-4,
	    .loss_bad = 0.5,
	    .to_bad = 1e-4,
	    .to_good = 0.5,
	    .pause = 5e-3,
	    .pause_min = 0.5}},
    {.name = "lan, busy sender",
	.a = {.timer = 0.1,
	    .base = 0.002,
	    .jitter = 0.02,
	    .loss_good = 0.002,
	    .loss_bad = 0.002,
	    .pause = 0.005,
	    .pause_min = 0.2}},
    {.name = "wan",
	.a = {.timer = 0.01,
	    .base = 0.6,
	    .jitter = 0.15,
	    .law = CORRELATED,
	    .loss_good = 0.005,
	    .loss_bad = 0.005,
	    .hold = 2e-4,
	    .hold_mean = 3}},
    {.name = "wan, jitter as long as D",
	.a = {.timer = 0.01, .base = 1, .jitter = 0.5, .loss_good = 0.01, .loss_bad = 0.01}},
    {.name = "loss 5 %",
	.a = {.timer = 0.02, .base = 0.01, .jitter = 0.05, .loss_good = 0.05, .loss_bad = 0.05}},
    {.name = "loss 20 %",
	.a = {.timer = 0.02, .base = 0.01, .jitter = 0.05, .loss_good = 0.2, .loss_bad = 0.2}},
    {.name = "bursty loss",
	.a = {.timer = 0.02,
	    .base = 0.01,
	    .jitter = 0.05,
	    .loss_good = 0.005,
	    .loss_bad = 0.7,
	    .to_bad = 0.01,
	    .to_good = 0.2}},
    {.name = "Pareto delay",
	.a = {.timer = 0.01,
	    .base = 0.1,
	    .jitter = 0.1,
	    .law = PARETO,
	    .loss_good = 0.002,
	    .loss_bad = 0.002}},
    {.name = "Pareto delay, bursty loss",
	.a = {.timer = 0.01,
	    .base = 0.1,
	    .jitter = 0.2,
	    .law = PARETO,
	    .loss_good = 0.01,
	    .loss_bad = 0.6,
	    .to_bad = 0.01,
	    .to_good = 0.3}},
    {.name = "jitter changes",
	.a = {.timer = 0.01, .base = 0.05, .jitter = 0.02, .loss_good = 1e-3, .loss_bad = 1e-3},
	.b = {.timer = 0.01, .base = 0.3, .jitter = 0.8, .loss_good = 1e-3, .loss_bad = 1e-3},
	.stay_a = 3000,
	.stay_b = 600,
	.jitter_changes = true},
    {.name = "loss changes",
	.a = {.timer = 0.01, .base = 0.05, .jitter = 0.05, .loss_good = 1e-3, .loss_bad = 1e-3},
	.b = {.timer = 0.01, .base = 0.1, .jitter = 0.1, .loss_good = 0.25, .loss_bad = 0.25},
	.stay_a = 3000,
	.stay_b = 600},
    {.name = "sender pauses",
	.a = {.timer = 0.02,
	    .base = 0.01,
	    .jitter = 0.05,
	    .loss_good = 0.002,
	    .loss_bad = 0.002,
	    .pause = 0.004,
	    .pause_min = 1}},
    {.name = "all at once",
	.a = {.timer = 0.02,
	    .base = 0.3,
	    .jitter = 0.1,
	    .law = CORRELATED,
	    .loss_good = 0.005,
	    .loss_bad = 0.5,
	    .to_bad = 0.005,
	    .to_good = 0.25,
	    .pause = 1e-3,
	    .pause_min = 1,
	    .hold = 5e-4,
	    .hold_mean = 2},
	.b = {.timer = 0.1,
	    .base = 0.5,
	    .jitter = 0.6,
	    .loss_good = 0.03,
	    .loss_bad = 0.6,
	    .to_bad = 0.02,
	    .to_good = 0.3,
	    .pause = 2e-3,
	    .pause_min = 1},
	.stay_a = 2000,
	.stay_b = 500,
	.jitter_changes = true},
};

struct world {
	const struct recipe *recipe;
	struct rng rng;
	bool in_b, bad;
	double queue;      /* correlated part of the delay */
	double held_until; /* nothing arrives before */
};

static double exponential(struct rng *rng, double mean)
{
	return -mean * log(1 - rng_unit(rng));
}

static double pareto(struct rng *rng, double least, double shape)
{
	return least * pow(1 - rng_unit(rng), -1 / shape);
}

static const struct regime *regime_now(struct world *w)
{
	const struct recipe *recipe = w->recipe;
	double stay = w->in_b ? recipe->stay_b : recipe->stay_a;

	if (stay > 0 && rng_chance(&w->rng, 1 / stay))
		w->in_b = !w->in_b;
	return w->in_b ? &recipe->b : &recipe->a;
}

static double delay(struct world *w, const struct regime *regime)
{
	const double keep = 0.9; /* of the queue from one beat to the next */

	switch (regime->law) {
	case CORRELATED:
		w->queue = keep * w->queue + exponential(&w->rng, (1 - keep) * regime->jitter);
		return regime->base + w->queue + exponential(&w->rng, regime->jitter / 3);
	case PARETO:
		return regime->base + pareto(&w->rng, regime->jitter, 1.5) - regime->jitter;
	default:
		return regime->base + exponential(&w->rng, regime->jitter);
	}
}

static bool lost(struct world *w, const struct regime *regime)
{
	if (rng_chance(&w->rng, w->bad ? regime->to_good : regime->to_bad))
		w->bad = !w->bad;
	return rng_chance(&w->rng, w->bad ? regime->loss_bad : regime->loss_good);
}

static double arrival_time(struct world *w, const struct regime *regime, double sent)
{
	double at = sent + delay(w, regime);

	if (rng_chance(&w->rng, regime->hold))
		w->held_until = at + exponential(&w->rng, regime->hold_mean);
	return fmax(at, w->held_until);
}

static int by_arrival(const void *a, const void *b)
{
	const struct arrival *x = a, *y = b;

	if (x->received_s != y->received_s)
		return x->received_s < y->received_s ? -1 : 1;
	return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

size_t trace_recipes(void)
{
	return sizeof(recipes) / sizeof(recipes[0]);
}

int trace_generate(struct trace *trace, size_t recipe, uint64_t seed, size_t beats)
{
	struct world w = {.recipe = &recipes[recipe]};
	double due = 0;
	int r;

	*trace = (struct trace){.jitter_changes = w.recipe->jitter_changes};
	snprintf(trace->name, sizeof(trace->name), "%s", w.recipe->name);
	rng_init(&w.rng, rng_mix(seed, recipe));
	for (uint64_t sequence = 1; sequence <= beats; sequence++) {
		const struct regime *regime = regime_now(&w);
		double sent, received;

		if (rng_chance(&w.rng, regime->pause))
			due += pareto(&w.rng, regime->pause_min, 1.5);
		sent = due + exponential(&w.rng, regime->timer);
		received = arrival_time(&w, regime, sent);
		due += 1;
		if (lost(&w, regime))
			continue;
		r = trace_add(trace, &(struct arrival){sent * interval_s, received * interval_s,
					 sequence, 1, interval_s});
		if (r < 0) {
			trace_fini(trace);
			return r;
		}
	}
	qsort(trace->arrivals, trace->count, sizeof(*trace->arrivals), by_arrival);
	return 0;
}
