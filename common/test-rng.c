#include "common/rng.h"
#include "common/test.h"

static void the_same_seed_gives_the_same_numbers(void)
{
	struct rng a, b, c;

	rng_init(&a, 7);
	rng_init(&b, 7);
	rng_init(&c, 8);
	uint64_t first = rng_u64(&a);

	check(first == rng_u64(&b));
	check(first != rng_u64(&c));
}

static void below_is_even_over_its_range(void)
{
	struct rng rng;
	int hits[6] = {0};

	rng_init(&rng, 1);
	for (int i = 0; i < 60000; i++)
		hits[rng_below(&rng, 6)]++;
	for (int i = 0; i < 6; i++)
		check_range(hits[i], 9600, 10400);
}

static void chance_happens_as_often_as_asked(void)
{
	struct rng rng;
	int hits = 0;

	rng_init(&rng, 2);
	for (int i = 0; i < 100000; i++)
		hits += rng_chance(&rng, 0.2);
	check_range(hits, 19500, 20500);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(the_same_seed_gives_the_same_numbers),
	    TEST(below_is_even_over_its_range),
	    TEST(chance_happens_as_often_as_asked),
	    {0},
	});
}
