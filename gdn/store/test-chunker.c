#include "gdn/store/chunker.h"

#include "common/rng.h"
#include "common/test.h"
#include "gdn/store/idset.h"

#include <sodium.h>

#define SIZE (16u << 20)

static void fill(uint8_t *data, size_t size, uint64_t seed)
{
	struct rng rng;

	rng_init(&rng, seed);
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)rng_u64(&rng);
}

/* Adds the ids of all chunks; returns their number. */
static size_t cut_all(const uint8_t *data, size_t size, struct idset *ids)
{
	struct chunker chunker;
	size_t count = 0;

	chunker_init(&chunker);
	for (size_t at = 0, n; at < size; at += n, count++) {
		struct id id;

		n = chunker_cut(&chunker, data + at, size - at);
		check(n > 0 && n <= CHUNK_MAX && (n >= CHUNK_MIN || at + n == size));
		id = id_of(data + at, n);
		check(idset_add(ids, &id) >= 0);
	}
	return count;
}

static void the_mean_chunk_is_16_kib(void)
{
	struct idset ids = {0};
	uint8_t *data = malloc(SIZE);
	size_t count;

	fill(data, SIZE, 1);
	count = cut_all(data, SIZE, &ids);
	check_range((double)SIZE / (double)count, 15000, 20000);
	idset_fini(&ids);
	free(data);
}

static void an_insertion_changes_the_chunks_around_it_only(void)
{
	struct idset before = {0}, after = {0};
	uint8_t *data = malloc(SIZE), *longer = malloc(SIZE + 100);
	size_t at = 0, same = 0;
	const struct id *id;

	fill(data, SIZE, 2);
	memcpy(longer, data, SIZE / 3);
	fill(longer + SIZE / 3, 100, 3);
	memcpy(longer + SIZE / 3 + 100, data + SIZE / 3, SIZE - SIZE / 3);
	cut_all(data, SIZE, &before);
	cut_all(longer, SIZE + 100, &after);
	while ((id = idset_next(&after, &at)))
		same += idset_has(&before, id);
	check(after.count - same <= 3);
	idset_fini(&before);
	idset_fini(&after);
	free(data);
	free(longer);
}

static void zeros_make_the_longest_chunks(void)
{
	uint8_t *data = calloc(1, SIZE);
	struct idset ids = {0};

	check_int(cut_all(data, SIZE, &ids), SIZE / CHUNK_MAX);
	check_int(ids.count, 1);
	idset_fini(&ids);
	free(data);
}

static void a_short_run_is_one_chunk(void)
{
	struct chunker chunker;
	uint8_t data[CHUNK_MIN];

	fill(data, sizeof(data), 4);
	chunker_init(&chunker);
	for (size_t size = 1; size <= sizeof(data); size++)
		check_int(chunker_cut(&chunker, data, size), size);
}

/* If this fails, every node would store all its data again: do not adapt it, find out why. */
static void the_boundaries_are_these_for_ever(void)
{
	static const size_t golden[] = {
	    20818, 17490, 26307, 19299, 22876, 16863, 19893, 17861, 17050, 18735, 18474, 44732};
	uint8_t *data = malloc(1 << 20);
	struct chunker chunker;
	size_t at = 0;

	fill(data, 1 << 20, 5);
	chunker_init(&chunker);
	for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
		size_t n = chunker_cut(&chunker, data + at, (1 << 20) - at);

		check_int(n, golden[i]);
		at += n;
	}
	free(data);
}

int main(void)
{
	check(sodium_init() >= 0);
	return test_main((struct test[]){
	    TEST(the_mean_chunk_is_16_kib),
	    TEST(an_insertion_changes_the_chunks_around_it_only),
	    TEST(zeros_make_the_longest_chunks),
	    TEST(a_short_run_is_one_chunk),
	    TEST(the_boundaries_are_these_for_ever),
	    {0},
	});
}
