/*
 * Weather for a cluster: from a seed, an hour of changing networks and of faults that overlap, with
 * what must hold judged all the time.  Each hour is a simulation of its own, so one that fails is
 * replayed in seconds.
 *
 * A spell of some minutes has one kind of network: loss, independent or in bursts, other for each
 * direction of each link; delay and its jitter; duplicates; reordering.  Within it faults come at
 * random: nodes and single daemons die and return, some with their stored state lost; hosts and
 * daemons stand still; partitions, also one-way; links are cut singly; clocks change their rate;
 * nodes leave and join.
 *
 * Judged are
 * - each verdict: the subject must deserve it, that is be down, or have been stalled or cut off a
 *   moment ago.  In a hard spell (bursts, or loss above 20 %) a false one is counted, else it is
 *   a fault;
 * - completeness: once no fault is under way, all who run hold each other for alive and the others
 *   for dead or left within a bound that follows from the profile, weather_bound();
 * - the end of the hour: all faults over, the network whole, for two such bounds: equal views.
 * What holds at any moment (incarnations, one coordinator, the cores' own invariants) is judged by
 * tests/sim/membership.c.
 */
#ifndef TESTS_SIM_WEATHER_H
#define TESTS_SIM_WEATHER_H

#include "tests/sim/membership.h"

struct weather_config {
	int64_t length_ms; /* without the quiet end */
	bool hard;         /* hard spells too */
	bool faults;       /* none: only the network changes */
	double loss;       /* of all links, fixed; negative: drawn for each spell */
};

struct weather_report {
	double node_hours;
	uint64_t faults, verdicts, false_verdicts, suspicions, refutations;
	uint64_t settled; /* times that all agreed after a fault */
	double settle_sum_s, settle_max_s, bound_s;
};

/* How long after the last fault all must agree, by the settings of the cluster. */
struct mono weather_bound(const struct cluster_config *config);
/* Runs the weather, adds to the report; NULL or a complaint. */
const char *weather_run(
    struct cluster *cluster, const struct weather_config *config, struct weather_report *report);

#endif
