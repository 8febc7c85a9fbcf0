#include "gossipd/observers.h"

#include "common/rng.h"
#include "common/test.h"

enum {
	NODES = 50,
};

static uint64_t ids[NODES];

static void number_nodes(void)
{
	for (size_t i = 0; i < NODES; i++)
		ids[i] = rng_mix(i, 77);
}

static uint64_t everybody(size_t count)
{
	return ((uint64_t)1 << count) - 1;
}

static void every_member_has_exactly_its_number_of_observers(void)
{
	for (size_t m = 0; m < NODES; m++) {
		uint64_t set = observers_choose(ids, NODES, m, everybody(NODES), 3);

		check_int(__builtin_popcountll(set), 3);
		check(!(set >> m & 1));
	}
}

static void a_small_cluster_is_observed_by_all_others(void)
{
	for (size_t m = 0; m < 3; m++)
		check(observers_choose(ids, 3, m, 7, 3) == (7 & ~((uint64_t)1 << m)));
	check(observers_choose(ids, 1, 0, 1, 3) == 0);
}

static void observations_are_spread(void)
{
	unsigned watched[NODES] = {0};

	for (size_t m = 0; m < NODES; m++) {
		uint64_t set = observers_choose(ids, NODES, m, everybody(NODES), 3);

		for (size_t i = 0; i < NODES; i++)
			watched[i] += set >> i & 1;
	}
	for (size_t i = 0; i < NODES; i++)
		check_range(watched[i], 0, 10);
}

static void a_death_moves_only_what_the_dead_one_observed(void)
{
	size_t dead = 7;
	uint64_t alive = everybody(NODES) & ~((uint64_t)1 << dead);

	for (size_t m = 0; m < NODES; m++) {
		uint64_t before = observers_choose(ids, NODES, m, everybody(NODES), 3);
		uint64_t after = observers_choose(ids, NODES, m, alive, 3);

		if (before >> dead & 1)
			check_int(__builtin_popcountll(before & after), 2);
		else
			check(before == after);
	}
}

static void the_order_of_the_list_does_not_matter(void)
{
	uint64_t reversed[NODES];

	for (size_t i = 0; i < NODES; i++)
		reversed[NODES - 1 - i] = ids[i];
	for (size_t m = 0; m < NODES; m++) {
		uint64_t a = observers_choose(ids, NODES, m, everybody(NODES), 3);
		uint64_t b = observers_choose(reversed, NODES, NODES - 1 - m, everybody(NODES), 3);

		for (size_t i = 0; i < NODES; i++)
			check((a >> i & 1) == (b >> (NODES - 1 - i) & 1));
	}
}

static void candidates_have_different_ranks(void)
{
	uint64_t ranks = 0;

	for (size_t m = 0; m < NODES; m++)
		ranks |= (uint64_t)1 << observers_rank(ids, NODES, m, everybody(NODES), 5);
	check(ranks == everybody(NODES));
}

int main(void)
{
	number_nodes();
	return test_main((struct test[]){
	    TEST(every_member_has_exactly_its_number_of_observers),
	    TEST(a_small_cluster_is_observed_by_all_others),
	    TEST(observations_are_spread),
	    TEST(a_death_moves_only_what_the_dead_one_observed),
	    TEST(the_order_of_the_list_does_not_matter),
	    TEST(candidates_have_different_ranks),
	    {0},
	});
}
