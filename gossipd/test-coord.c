/*
 * The coordinator's lease against a store of one cell that is asked by hand.
 */
#include "gossipd/coord.h"

#include "common/test.h"

enum {
	LEASE_MS = 2000,
	OWN = 1,
	OTHER = 2,
};

struct cell {
	uint64_t version;
	struct gossipd_fact fact;
};

struct bench {
	struct coord coord;
	struct cell cell;
	struct mono now;
	struct gossipd_actions actions;
	unsigned elected, lost;
	bool unreachable, swallow; /* no request arrives; puts are done but the answer is lost */
	bool drops;                /* puts are not done, and nobody says so */
	bool duplicates;           /* puts are done, and the answer is that of a second copy */
	unsigned requests;
};

static void bench_init(struct bench *bench, unsigned rank)
{
	struct gossipd_config config;

	gossipd_config_profile(&config, GOSSIPD_BALANCED);
	config.self = OWN;
	config.lease = mono_ms(LEASE_MS);
	memset(bench, 0, sizeof(*bench));
	bench->now = mono_ms(1000);
	coord_init(&bench->coord, &config, bench->now, 100);
	bench->coord.rank = rank;
}

static void swap(struct cell *cell, struct gossipd_fact fact)
{
	cell->version += 7;
	cell->fact = fact;
}

static void serve(struct bench *bench, const struct gossipd_action *action)
{
	struct gossipd_event event = {.type = GOSSIPD_META_RESULT, .now = bench->now};

	bench->requests++;
	event.meta.ticket = action->meta.ticket;
	event.meta.rc = GOSSIPD_META_OK;
	if (bench->unreachable) {
		event.meta.rc = GOSSIPD_META_DOUBT;
	} else if (action->type == GOSSIPD_META_PUT) {
		if (action->meta.expected != bench->cell.version)
			event.meta.rc = GOSSIPD_META_CONFLICT;
		else if (!bench->drops)
			swap(&bench->cell, action->meta.fact);
		if (bench->duplicates)
			event.meta.rc = GOSSIPD_META_CONFLICT;
		bench->duplicates = false;
		if (bench->swallow || bench->drops)
			event.meta.rc = GOSSIPD_META_DOUBT;
	}
	event.meta.version = bench->cell.version;
	event.meta.fact = bench->cell.fact;
	coord_result(&bench->coord, &event, &bench->actions);
}

static void carry_out(struct bench *bench)
{
	for (size_t i = 0; i < bench->actions.count; i++) {
		const struct gossipd_action action = bench->actions.list[i];

		if (action.type == GOSSIPD_COORD) {
			bench->elected += action.coord.held;
			bench->lost += action.coord.lost;
		} else if (action.type != GOSSIPD_REIGN) {
			serve(bench, &action);
		}
	}
	bench->actions.count = 0;
}

static void run(struct bench *bench, int64_t length_ms)
{
	struct mono end = mono_add_ms(bench->now, length_ms);

	for (;;) {
		struct mono at = coord_deadline(&bench->coord);
		unsigned requests = bench->requests;

		if (mono_before(end, at)) {
			bench->now = end;
			return;
		}
		if (mono_before(bench->now, at))
			bench->now = at;
		coord_run(&bench->coord, bench->now, &bench->actions);
		carry_out(bench);
		check(bench->requests - requests <= 1);
	}
}

static struct gossipd_fact others(uint64_t seq)
{
	return (struct gossipd_fact){4, OTHER, seq, mono_ms(LEASE_MS)};
}

/* Only of one that was taken over after it had run out is it known that all before it is over. */
static void a_reign_says_since_when_where_the_last_one_had_run_out(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, others(1));
	run(&bench, LEASE_MS + 100);
	check(bench.coord.held);
	check_range(mono_to_ms(bench.coord.since), 1000 + LEASE_MS, 1000 + LEASE_MS + 100);
	run(&bench, 3 * LEASE_MS);
	check_range(mono_to_ms(bench.coord.since), 1000 + LEASE_MS, 1000 + LEASE_MS + 100);
}

static void a_reign_does_not_say_so_after_one_that_was_given_up_or_after_a_restart(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, (struct gossipd_fact){4, 0, 9, mono_ms(LEASE_MS)});
	run(&bench, 100);
	check(bench.coord.held);
	check_int(bench.coord.since.ns, 0);

	bench_init(&bench, 0);
	swap(&bench.cell, (struct gossipd_fact){4, OWN, 9, mono_ms(LEASE_MS)});
	run(&bench, 100);
	check(bench.coord.held);
	check_int(bench.coord.since.ns, 0);
}

static void a_takeover_in_doubt_says_since_when_it_was_sent(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, others(1));
	bench.swallow = true;
	run(&bench, LEASE_MS + 500);
	check(bench.coord.held);
	check_range(mono_to_ms(bench.coord.since), 1000 + LEASE_MS, 1000 + LEASE_MS + 100);
}

/* It looks like the one before, which was in doubt and could succeed no more: that one would have had nothing to wait for. */
static void a_takeover_is_not_taken_for_an_earlier_one_in_doubt(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, others(1));
	bench.drops = true;
	run(&bench, LEASE_MS + 20);
	check_int(bench.coord.doubtful.epoch, 5);
	bench.drops = false;
	bench.duplicates = true;
	swap(&bench.cell, (struct gossipd_fact){4, 0, 2, mono_ms(LEASE_MS)});
	run(&bench, 300);
	check_int(bench.cell.fact.epoch, 5);
	check_int(bench.coord.since.ns, 0);
}

/* A raise and its second try are alike. */
static void what_is_found_after_two_tries_is_held_from_the_first(void)
{
	struct mono first;
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10);
	bench.drops = true;
	run(&bench, LEASE_MS / 4);
	first = bench.coord.sent_at;
	run(&bench, LEASE_MS / 4 + 200);
	check(mono_before(first, bench.coord.sent_at));
	check_int(bench.coord.doubtful.seq, bench.cell.fact.seq + 1);
	swap(&bench.cell, bench.coord.doubtful);
	for (int i = 0; i < 100 && bench.coord.fact.seq != bench.cell.fact.seq; i++)
		run(&bench, 10);
	check_int(bench.coord.fact.seq, bench.cell.fact.seq);
	check(mono_to_ms(bench.coord.held_until) <= mono_to_ms(first) + LEASE_MS * 95 / 100);
}

static void an_empty_cell_is_taken_at_once_by_the_first_candidate(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10);
	check(bench.coord.held);
	check_int(bench.cell.fact.epoch, 1);
	check_int(bench.cell.fact.node, OWN);
	check_int(bench.elected, 1);
}

static void the_holder_raises_four_times_in_a_lease(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10 * LEASE_MS + 10);
	check(bench.coord.held);
	check_int(bench.cell.fact.epoch, 1);
	check_range(bench.cell.fact.seq, 40, 42);
	check_int(bench.lost, 0);
}

static void one_that_is_raised_is_left_alone(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	for (uint64_t seq = 1; seq < 20; seq++) {
		swap(&bench.cell, others(seq));
		run(&bench, LEASE_MS - 600);
	}
	check(!bench.coord.held);
	check_int(bench.cell.fact.node, OTHER);
}

static void one_that_stays_for_a_lease_is_taken_over_under_the_next_epoch(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, others(9));
	run(&bench, LEASE_MS - 10);
	check_int(bench.cell.fact.node, OTHER);
	run(&bench, 20);
	check_int(bench.cell.fact.node, OWN);
	check_int(bench.cell.fact.epoch, 5);
	check(bench.coord.held);
}

static void one_with_a_longer_lease_is_waited_for_as_long(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, (struct gossipd_fact){4, OTHER, 9, mono_ms(2 * LEASE_MS)});
	run(&bench, 2 * LEASE_MS - 10);
	check_int(bench.cell.fact.node, OTHER);
	run(&bench, 100);
	check_int(bench.cell.fact.node, OWN);
	check_int(mono_to_ms(bench.cell.fact.lease), LEASE_MS);
}

/* What was granted under it may last as long. */
static void a_longer_lease_is_waited_for_also_when_it_was_given_up_or_our_own(void)
{
	struct bench bench;

	for (uint64_t node = 0; node <= OWN; node++) {
		bench_init(&bench, 0);
		swap(&bench.cell, (struct gossipd_fact){4, node, 9, mono_ms(2 * LEASE_MS)});
		run(&bench, 2 * LEASE_MS - 10);
		check_int(bench.cell.fact.seq, 9);
		check(!bench.coord.held);
		check_range(bench.requests, 3, 12);
		run(&bench, LEASE_MS / 4 + 100);
		check(bench.coord.held);
	}
}

static void later_candidates_wait_longer(void)
{
	struct bench bench;

	bench_init(&bench, 3);
	swap(&bench.cell, others(9));
	run(&bench, LEASE_MS + 440);
	check_int(bench.cell.fact.node, OTHER);
	run(&bench, 20);
	check_int(bench.cell.fact.node, OWN);
}

static void one_that_was_given_up_is_taken_without_waiting(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, (struct gossipd_fact){4, 0, 9, mono_ms(LEASE_MS)});
	run(&bench, 10);
	check_int(bench.cell.fact.node, OWN);
	check_int(bench.cell.fact.epoch, 5);
}

static void a_holder_cut_off_from_the_store_stops_before_anyone_may_take_over(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10);
	bench.unreachable = true;
	run(&bench, LEASE_MS - 20 - 10);
	check(!bench.coord.held);
	check_int(bench.lost, 1);
}

static void a_raise_in_doubt_is_found_and_counted(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10);
	bench.swallow = true;
	run(&bench, 5 * LEASE_MS);
	check(bench.coord.held);
	check_int(bench.lost, 0);
	check_int(bench.cell.fact.epoch, 1);
}

static void a_new_process_goes_on_with_the_lease_of_its_node(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, (struct gossipd_fact){4, OWN, 9, mono_ms(LEASE_MS)});
	run(&bench, 10);
	check(bench.coord.held);
	check_int(bench.cell.fact.epoch, 4);
	check_int(bench.cell.fact.seq, 10);
}

static void one_who_was_overtaken_knows_it_at_once(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10);
	swap(&bench.cell, others(1));
	run(&bench, 510);
	check(!bench.coord.held);
	check_int(bench.lost, 1);
	check_int(bench.cell.fact.node, OTHER);
}

static void after_a_blackout_of_the_store_the_holder_gets_a_new_lease_to_speak(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, others(9));
	run(&bench, 1000);
	bench.unreachable = true;
	run(&bench, 5000);
	bench.unreachable = false;
	run(&bench, LEASE_MS - 10);
	check_int(bench.cell.fact.node, OTHER);
	run(&bench, 200);
	check_int(bench.cell.fact.node, OWN);
}

static void leaving_gives_the_lease_up(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10);
	coord_leave(&bench.coord);
	run(&bench, 10);
	check(!bench.coord.held);
	check_int(bench.cell.fact.node, 0);
	run(&bench, 10 * LEASE_MS);
	check_int(bench.cell.fact.node, 0);
}

static void a_hint_is_read_at_once(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	swap(&bench.cell, others(1));
	run(&bench, 10);
	swap(&bench.cell, others(2));
	coord_hint(&bench.coord);
	run(&bench, 0);
	check_int(bench.coord.fact.seq, 2);
}

static void the_holder_does_not_ask_about_its_own_raises(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	run(&bench, 10);
	bench.requests = 0;
	for (int i = 0; i < 2000; i++) {
		coord_hint(&bench.coord);
		run(&bench, 1);
	}
	check_range(bench.requests, 3, 5);
}

static void a_store_that_answers_nothing_is_asked_at_a_bounded_rate(void)
{
	struct bench bench;

	bench_init(&bench, 0);
	bench.unreachable = true;
	run(&bench, 10000);
	check_range(bench.requests, 50, 110);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_reign_says_since_when_where_the_last_one_had_run_out),
	    TEST(a_reign_does_not_say_so_after_one_that_was_given_up_or_after_a_restart),
	    TEST(a_takeover_is_not_taken_for_an_earlier_one_in_doubt),
	    TEST(what_is_found_after_two_tries_is_held_from_the_first),
	    TEST(a_takeover_in_doubt_says_since_when_it_was_sent),
	    TEST(an_empty_cell_is_taken_at_once_by_the_first_candidate),
	    TEST(the_holder_raises_four_times_in_a_lease),
	    TEST(one_that_is_raised_is_left_alone),
	    TEST(one_that_stays_for_a_lease_is_taken_over_under_the_next_epoch),
	    TEST(one_with_a_longer_lease_is_waited_for_as_long),
	    TEST(a_longer_lease_is_waited_for_also_when_it_was_given_up_or_our_own),
	    TEST(later_candidates_wait_longer),
	    TEST(one_that_was_given_up_is_taken_without_waiting),
	    TEST(a_holder_cut_off_from_the_store_stops_before_anyone_may_take_over),
	    TEST(a_raise_in_doubt_is_found_and_counted),
	    TEST(a_new_process_goes_on_with_the_lease_of_its_node),
	    TEST(one_who_was_overtaken_knows_it_at_once),
	    TEST(after_a_blackout_of_the_store_the_holder_gets_a_new_lease_to_speak),
	    TEST(leaving_gives_the_lease_up),
	    TEST(a_hint_is_read_at_once),
	    TEST(the_holder_does_not_ask_about_its_own_raises),
	    TEST(a_store_that_answers_nothing_is_asked_at_a_bounded_rate),
	    {0},
	});
}
