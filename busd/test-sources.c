#include "busd/sources.h"
#include "common/test.h"

static const struct source_route route = {5, {1, 2, 3, 4, 5}};

static enum source_verdict offer(
    struct sources *sources, const char *name, uint64_t boot, uint64_t number, bool first)
{
	enum source_verdict verdict;

	check_int(sources_offer(sources, name, boot, number, first, &route, &verdict), 0);
	return verdict;
}

static struct sources *make(size_t max)
{
	struct sources *sources;

	check_int(sources_new(&sources, max), 0);
	return sources;
}

static void only_the_next_number_is_accepted(void)
{
	struct sources *sources = make(8);

	check_int(offer(sources, "fdd", 1, 1, true), SOURCE_NEXT);
	check_int(offer(sources, "fdd", 1, 2, false), SOURCE_NEXT);
	check_int(offer(sources, "fdd", 1, 2, false), SOURCE_REPEATED);
	check_int(offer(sources, "fdd", 1, 4, false), SOURCE_GAP);
	check_int(offer(sources, "fdd", 1, 3, false), SOURCE_NEXT);
	sources_free(sources);
}

static void each_process_has_a_count_of_its_own(void)
{
	struct sources *sources = make(8);

	check_int(offer(sources, "fdd", 1, 1, true), SOURCE_NEXT);
	check_int(offer(sources, "fdd", 2, 1, true), SOURCE_NEXT);
	check_int(offer(sources, "ved", 1, 1, true), SOURCE_NEXT);
	check_int(sources_count(sources), 3);
	sources_free(sources);
}

static void an_unknown_publisher_must_begin_with_its_oldest(void)
{
	struct sources *sources = make(8);

	check_int(offer(sources, "fdd", 1, 700, false), SOURCE_GAP);
	check_int(offer(sources, "fdd", 1, 690, true), SOURCE_NEXT);
	check_int(offer(sources, "fdd", 1, 691, false), SOURCE_NEXT);
	sources_free(sources);
}

static void numbers_that_were_given_up_are_not_waited_for(void)
{
	struct sources *sources = make(8);

	check_int(offer(sources, "fdd", 1, 1, true), SOURCE_NEXT);
	check_int(offer(sources, "fdd", 1, 90, true), SOURCE_NEXT);
	check_int(offer(sources, "fdd", 1, 91, false), SOURCE_NEXT);
	check_int(offer(sources, "fdd", 1, 50, true), SOURCE_REPEATED);
	sources_free(sources);
}

static void a_gap_is_told_once_a_flight(void)
{
	struct sources *sources = make(8);
	struct source *source;

	offer(sources, "fdd", 1, 1, true);
	check(sources_take_answer(sources) != NULL);
	check(sources_take_answer(sources) == NULL);
	offer(sources, "fdd", 1, 3, false);
	source = sources_take_answer(sources);
	check(source && source->again && source->next == 2);
	source->again = false;
	for (uint64_t number = 4; number < 100; number++)
		offer(sources, "fdd", 1, number, false);
	check(sources_take_answer(sources) == NULL);
	offer(sources, "fdd", 1, 3, false); /* the next flight, and still a gap */
	source = sources_take_answer(sources);
	check(source && source->again);
	sources_free(sources);
}

static void what_could_not_be_written_was_never_accepted(void)
{
	struct sources *sources = make(8);

	offer(sources, "fdd", 1, 1, true);
	sources_commit(sources);
	offer(sources, "fdd", 1, 2, false);
	offer(sources, "fdd", 1, 3, false);
	sources_roll_back(sources);
	check_int(offer(sources, "fdd", 1, 3, false), SOURCE_GAP);
	check_int(offer(sources, "fdd", 1, 2, false), SOURCE_NEXT);
	sources_free(sources);
}

static void the_one_silent_longest_is_forgotten_first(void)
{
	struct sources *sources = make(3);

	offer(sources, "a", 1, 1, true);
	offer(sources, "b", 1, 1, true);
	offer(sources, "c", 1, 1, true);
	offer(sources, "a", 1, 2, false);
	offer(sources, "d", 1, 1, true); /* b goes */
	check_int(sources_count(sources), 3);
	check_int(offer(sources, "a", 1, 3, false), SOURCE_NEXT);
	check_int(offer(sources, "c", 1, 2, false), SOURCE_NEXT);
	check_int(offer(sources, "b", 1, 2, false), SOURCE_GAP);
	sources_free(sources);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(only_the_next_number_is_accepted),
	    TEST(each_process_has_a_count_of_its_own),
	    TEST(an_unknown_publisher_must_begin_with_its_oldest),
	    TEST(numbers_that_were_given_up_are_not_waited_for),
	    TEST(a_gap_is_told_once_a_flight),
	    TEST(what_could_not_be_written_was_never_accepted),
	    TEST(the_one_silent_longest_is_forgotten_first),
	    {0},
	});
}
