/*
 * VE leases: the rule of migrated/lease.h holds in any weather, and each part of it is needed (mutation tests).
 * --only one_copy_is_heard --seeds N searches N schedules.
 */
#include "tests/sim/leases.h"

#define SEARCH 20000 /* the rarest is found once in some thousand schedules */

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
MUST_FAIL(no_wait_when_a_reign_begins, WEAK_NO_REIGN_WAIT)
MUST_FAIL(the_gate_in_a_process, WEAK_GATE_IN_PROCESS)
MUST_FAIL(no_lease, WEAK_NO_LEASE)
MUST_FAIL(grants_for_what_is_being_taken, WEAK_GRANT_TAKEN)
MUST_FAIL(doubt_taken_for_no, WEAK_DOUBT_IS_NO)
MUST_FAIL(grants_of_a_deposed_coordinator, WEAK_DEPOSED)

int main(int argc, char **argv)
{
#define SCENARIO(name, must)                                                                       \
	{                                                                                          \
#name, name, must                                                                  \
	}
	static const struct sim_scenario scenarios[] = {SCENARIO(one_copy_is_heard, false),
	    SCENARIO(counted_from_the_grant, true), SCENARIO(clocks_taken_for_exact, true),
	    SCENARIO(no_wait_when_a_reign_begins, true), SCENARIO(the_gate_in_a_process, true),
	    SCENARIO(no_lease, true), SCENARIO(grants_for_what_is_being_taken, true),
	    SCENARIO(doubt_taken_for_no, true), SCENARIO(grants_of_a_deposed_coordinator, true),
	    {0}};

	return sim_main(argc, argv, scenarios);
}
