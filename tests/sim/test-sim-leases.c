/*
 * VE leases: the rule of migrated/lease.h holds in any weather, and each part of it is needed (mutation tests).
 * --only one_copy_is_heard --seeds N searches N schedules.  --timing N measures N crashes of each kind under each rule.
 */
#include "tests/sim/leases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH 200000 /* the rarest is found once in some ten thousand schedules */

static const char *one_copy_is_heard(uint64_t seed, struct sim **out)
{
	return leases_run(seed, WEAK_NOT, out);
}

/* Found in one of many schedules is found. */
static const char *search(uint64_t seed, enum weakness weakness, struct sim **out)
{
	const char *broken = NULL;

	for (uint64_t i = 0; i < SEARCH && !broken; i++) {
		if (i)
			sim_free(*out);
		broken = leases_run(seed + i, weakness, out);
	}
	return broken;
}

#define MUST_FAIL(name, weakness)                                                                  \
	static const char *name(uint64_t seed, struct sim **out)                                   \
	{                                                                                          \
		return search(seed, weakness, out);                                                \
	}

MUST_FAIL(counted_from_the_grant, WEAK_FROM_GRANT)
MUST_FAIL(clocks_taken_for_exact, WEAK_NO_DRIFT)
MUST_FAIL(leases_that_outlast_the_reign, WEAK_OUTLASTS)
MUST_FAIL(a_reign_that_goes_on_taken_for_a_new_one, WEAK_CONTINUED)
MUST_FAIL(counted_by_one_s_own_length, WEAK_OWN_LENGTH)
MUST_FAIL(the_gate_in_a_process, WEAK_GATE_IN_PROCESS)
MUST_FAIL(no_lease, WEAK_NO_LEASE)
MUST_FAIL(grants_for_what_is_being_taken, WEAK_GRANT_TAKEN)
MUST_FAIL(doubt_taken_for_no, WEAK_DOUBT_IS_NO)
MUST_FAIL(grants_of_a_deposed_coordinator, WEAK_DEPOSED)

/* --- how long a VE is silent --- */

static const char *const crash_names[] = {
    "its node", "its node, which coordinates", "the coordinator"};

#define CRASHES 200

struct outages {
	size_t count;
	int64_t ms[100000];
};

static int compare(const void *a, const void *b)
{
	return (*(const int64_t *)a > *(const int64_t *)b) -
	       (*(const int64_t *)a < *(const int64_t *)b);
}

/* NULL, or what was broken; *out is the last run. */
static const char *measure(uint64_t seed, size_t count, const struct leases_case *how,
    struct outages *outages, struct sim **out)
{
	const char *broken = NULL;

	outages->count = count;
	for (size_t i = 0; i < count && !broken; i++) {
		struct mono outage;

		if (i)
			sim_free(*out);
		outage = leases_outage(seed + i, how, &broken, out);
		outages->ms[i] = mono_to_ms(outage);
		if (mono_is_never(outage) && !broken)
			broken = sim_complain(*out, "nobody is heard any more");
	}
	qsort(outages->ms, count, sizeof(outages->ms[0]), compare);
	return broken;
}

static const char *limit(
    uint64_t seed, enum leases_crash crash, int64_t middle_ms, int64_t longest_ms, struct sim **out)
{
	const struct leases_case how = {.crash = crash, .coord_lease_ms = 2000, .lease_ms = 2000};
	static struct outages outages;
	const char *broken = measure(seed, CRASHES, &how, &outages, out);
	int64_t middle = outages.ms[CRASHES / 2], longest = outages.ms[CRASHES - 1];

	if (!broken && (middle > middle_ms || longest > longest_ms))
		broken =
		    sim_complain(*out, "silent for %d ms, at most %d", (int)middle, (int)longest);
	return broken;
}

static const char *a_crash_of_the_node_is_over_in_time(uint64_t seed, struct sim **out)
{
	return limit(seed, CRASH_NODE, 2000, 2700, out);
}

static const char *a_crash_of_node_and_coordinator_is_over_in_time(uint64_t seed, struct sim **out)
{
	return limit(seed, CRASH_BOTH, 2000, 2700, out);
}

static const char *a_crash_of_the_coordinator_is_a_short_pause(uint64_t seed, struct sim **out)
{
	return limit(seed, CRASH_COORDINATOR, 900, 1400, out);
}

static int print_timing(size_t count)
{
	static const struct {
		const char *name;
		bool waits;
		int64_t coord_lease_ms, lease_ms;
	} rules[] = {{"within the reign", false, 2000, 2000}, {"new one waits L", true, 2000, 2000},
	    {"within, Lc 0.6 L", false, 1200, 2000}, {"waits L, Lc 0.6 L", true, 1200, 2000},
	    {"within, L 1 s", false, 2000, 1000}, {"within, both 1 s", false, 1000, 1000}};
	static struct outages outages;
	const char *broken = NULL;

	count = count < 100000 ? count : 100000;
	printf("%-18s %5s %5s %-28s %-7s %7s %7s %7s\n", "rule", "Lc", "L", "crash of", "faults",
	    "p50", "p99", "max");
	for (size_t i = 0; count && i < 6 * sizeof(rules) / sizeof(rules[0]) && !broken; i++) {
		struct leases_case how = {.crash = i / 2 % 3,
		    .faults = i % 2,
		    .waits = rules[i / 6].waits,
		    .coord_lease_ms = rules[i / 6].coord_lease_ms,
		    .lease_ms = rules[i / 6].lease_ms};
		struct sim *sim;

		broken = measure(1, count, &how, &outages, &sim);
		printf("%-18s %5d %5d %-28s %-7s %7d %7d %7d %s\n", rules[i / 6].name,
		    (int)how.coord_lease_ms, (int)how.lease_ms, crash_names[how.crash],
		    how.faults ? "yes" : "no", (int)outages.ms[count / 2],
		    (int)outages.ms[count * 99 / 100], (int)outages.ms[count - 1],
		    broken ? broken : "");
		sim_free(sim);
	}
	return broken != NULL;
}

int main(int argc, char **argv)
{
#define SCENARIO(name, must)                                                                       \
	{                                                                                          \
#name, name, must                                                                  \
	}
	static const struct sim_scenario scenarios[] = {SCENARIO(one_copy_is_heard, false),
	    SCENARIO(counted_from_the_grant, true), SCENARIO(clocks_taken_for_exact, true),
	    SCENARIO(leases_that_outlast_the_reign, true),
	    SCENARIO(a_reign_that_goes_on_taken_for_a_new_one, true),
	    SCENARIO(counted_by_one_s_own_length, true), SCENARIO(the_gate_in_a_process, true),
	    SCENARIO(no_lease, true), SCENARIO(grants_for_what_is_being_taken, true),
	    SCENARIO(doubt_taken_for_no, true), SCENARIO(grants_of_a_deposed_coordinator, true),
	    SCENARIO(a_crash_of_the_node_is_over_in_time, false),
	    SCENARIO(a_crash_of_node_and_coordinator_is_over_in_time, false),
	    SCENARIO(a_crash_of_the_coordinator_is_a_short_pause, false), {0}};

	if (argc == 3 && strcmp(argv[1], "--timing") == 0)
		return print_timing((size_t)strtoul(argv[2], NULL, 10));
	return sim_main(argc, argv, scenarios);
}
