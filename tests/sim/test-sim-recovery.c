/*
 * Recovery: what the cores of migrated promise together (recovery.h) holds in any weather, and each part of it is needed.
 * --only every_service_comes_back_and_never_twice --seeds N searches N schedules.
 */
#include <malloc.h>

#include "tests/sim/recovery.h"

#define SEARCH 3000

static const char *every_service_comes_back_and_never_twice(uint64_t seed, struct sim **out)
{
	return recovery_run(seed, RECOVERY_SOUND, out);
}

/* Found in one of many schedules is found. */
static const char *search(uint64_t seed, enum recovery_weakness weakness, struct sim **out)
{
	const char *broken = NULL;

	for (uint64_t i = 0; i < SEARCH && !broken; i++) {
		if (i)
			sim_free(*out);
		broken = recovery_run(seed + i, weakness, out);
	}
	return broken;
}

#define WEAK(name, weakness)                                                                       \
	static const char *name(uint64_t seed, struct sim **out)                                   \
	{                                                                                          \
		return search(seed, weakness, out);                                                \
	}

WEAK(a_newer_checkpoint_is_overlooked, RECOVERY_NO_CATALOGUE)
WEAK(a_placement_is_written_over, RECOVERY_NO_VERSION)
WEAK(a_deposed_coordinator_writes, RECOVERY_NO_EPOCH)
WEAK(doubt_is_taken_for_no, RECOVERY_DOUBT_IS_NO)
WEAK(what_was_begun_is_forgotten, RECOVERY_NO_JOURNAL)
WEAK(copies_are_heard_without_a_lease, RECOVERY_NO_LEASE)
WEAK(a_copy_that_hangs_is_taken_for_gone, RECOVERY_GONE_UNSEEN)
WEAK(restarts_follow_at_once, RECOVERY_NO_BACKOFF)
WEAK(reports_of_trouble_are_lost, RECOVERY_DEAF)
WEAK(a_node_does_not_say_that_it_has_no_fence, RECOVERY_UNSAID)
WEAK(an_administrator_vouches_for_a_copy_that_runs, RECOVERY_RASH_WORD)
WEAK(a_fence_command_says_what_is_not_so, RECOVERY_FENCE_LIES)

int main(int argc, char **argv)
{
#define CASE(name, must)                                                                           \
	{                                                                                          \
#name, name, must                                                                  \
	}
	static const struct sim_scenario scenarios[] = {
	    CASE(every_service_comes_back_and_never_twice, false),
	    CASE(a_newer_checkpoint_is_overlooked, true), CASE(a_placement_is_written_over, true),
	    CASE(a_deposed_coordinator_writes, true), CASE(doubt_is_taken_for_no, true),
	    CASE(what_was_begun_is_forgotten, true), CASE(copies_are_heard_without_a_lease, true),
	    CASE(a_copy_that_hangs_is_taken_for_gone, true), CASE(restarts_follow_at_once, true),
	    CASE(reports_of_trouble_are_lost, true),
	    CASE(a_node_does_not_say_that_it_has_no_fence, true),
	    CASE(an_administrator_vouches_for_a_copy_that_runs, true),
	    CASE(a_fence_command_says_what_is_not_so, true), {0}};

	/*
	 * A core is some megabytes, of which a few pages are used: it is not to be cleared but mapped, nor to be filled as
	 * MALLOC_PERTURB_ of meson wants it, which took nine tenths of the time.
	 */
	mallopt(M_MMAP_THRESHOLD, 128 * 1024);
	mallopt(M_PERTURB, 0);
	return sim_main(argc, argv, scenarios);
}
