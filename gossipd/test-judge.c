/* Whom the core believes, of others and of itself: members that flap, observers that are unwell. */
#include "gossipd/test-net.h"

#include "common/test.h"

static void flap(unsigned n, uint64_t wall_s)
{
	kill_node(n);
	silence_everywhere(n);
	pass(1000);
	check_int(state(1, n), GOSSIPD_DEAD);
	boot(n, wall_s);
	pass(1000);
	check_int(state(1, n), GOSSIPD_ALIVE);
}

static bool damped(unsigned at, unsigned of)
{
	struct gossipd_status status;

	check(knows(at, of, &status));
	return status.damped;
}

static void one_that_comes_and_goes_observes_nobody_until_it_is_stable(void)
{
	unsigned observing = 0;

	cluster(6);
	for (unsigned b = 1; b <= 5; b++)
		observing += net.watch[6][b];
	check(observing > 0);
	flap(6, 2000);
	flap(6, 2010);
	check(!damped(1, 6));
	flap(6, 2020);
	for (unsigned a = 1; a <= 5; a++) {
		check(damped(a, 6));
		check_int(state(a, 6), GOSSIPD_ALIVE); /* what it is remains true */
		check(!net.watch[6][a]);
	}
	check(damped(6, 6)); /* it knows */
	/* Its observations are with others. */
	for (unsigned b = 1; b <= 5; b++) {
		unsigned others = 0;

		for (unsigned a = 1; a <= 5; a++)
			others += net.watch[a][b];
		check_int(others, 3);
	}
	pass(5 * 60 * 1000);
	for (unsigned a = 1; a <= 6; a++)
		check(!damped(a, 6));
}

static void half_of_the_others_cannot_talk_a_member_into_being_damped(void)
{
	struct gossipd_event event = {.type = GOSSIPD_GRAM};
	struct gossipd_gram gram = {.damped = true, .number = UINT32_MAX};

	cluster(5);
	event.gram.gram = &gram;
	for (unsigned liar = 1; liar <= 3; liar++) {
		check(!damped(5, 5));
		event.gram.from = liar;
		gram.incarnation = incarnation(liar, liar);
		step(5, event);
	}
	check(damped(5, 5));
}

static void two_returns_in_an_hour_are_no_flapping(void)
{
	cluster(5);
	for (unsigned i = 0; i < 4; i++) {
		flap(5, 2000 + 1000 * i);
		pass(3 * 60 * 1000);
		check(!damped(1, 5));
	}
}

static void where_all_flap_all_observe(void)
{
	cluster(3);
	for (unsigned i = 0; i < 4; i++)
		flap(3, 2000 + 10 * i);
	check(damped(1, 3));
	check(net.watch[3][1] && net.watch[3][2]);
}

/* ---- observers that are unwell */

static void set_health(unsigned n, unsigned lhm)
{
	step(n, (struct gossipd_event){.type = GOSSIPD_HEALTH, .lhm = lhm});
	deliver_all();
}

/* Two who watch node 5. */
static void find_observers(unsigned *one, unsigned *other)
{
	*one = *other = 0;
	for (unsigned a = 1; a <= 4; a++) {
		if (net.watch[a][5]) {
			*other = *one;
			*one = a;
		}
	}
	check(*one && *other);
}

static void an_unwell_observer_accuses_nobody_who_answers_it(void)
{
	unsigned unwell, well;

	cluster(5);
	find_observers(&unwell, &well);
	set_health(unwell, 2);
	silence(unwell, 5, true);
	pass(10000);
	check_str(net.log, "");
	silence(well, 5, true);
	check(logged("5 suspect;"));
}

static void an_unwell_observer_votes_later_when_it_gets_no_answer(void)
{
	unsigned unwell, well;

	cluster(5);
	find_observers(&unwell, &well);
	set_health(unwell, 2);
	net.cut[5][unwell] = true;
	silence(unwell, 5, true);
	pass(399);
	check_int(state(unwell, 5), GOSSIPD_ALIVE);
	pass(2);
	check(logged("5 suspect;"));
}

static void an_unwell_observer_follows_the_vote_of_another_at_once(void)
{
	unsigned unwell, well;

	cluster(5);
	find_observers(&unwell, &well);
	set_health(unwell, 8);
	kill_node(5);
	silence(unwell, 5, true);
	check_int(state(unwell, 5), GOSSIPD_ALIVE);
	silence(well, 5, true);
	check_int(status(well, 5).votes, 2);
	pass(201);
	check_int(state(unwell, 5), GOSSIPD_DEAD);
}

static void a_stall_that_fdd_notices_after_the_silence_delays_the_vote_too(void)
{
	unsigned unwell, well;

	cluster(5);
	find_observers(&unwell, &well);
	kill_node(5);
	set_health(unwell, 1);
	silence(unwell, 5, true);
	pass(150);
	set_health(unwell, 2);
	pass(399);
	check_int(state(unwell, 5), GOSSIPD_ALIVE);
	pass(2);
	check_int(state(unwell, 5), GOSSIPD_SUSPECT);
}

/* Its socket holds what fdd found and took back meanwhile. */
static void what_fdd_said_while_we_stood_still_accuses_nobody(void)
{
	unsigned stopped, other;

	cluster(5);
	find_observers(&stopped, &other);
	net.now = mono_add_ms(net.now, 5000);
	silence(stopped, 5, true);
	silence(stopped, 5, false);
	check_str(net.log, "");
}

/* ---- members that stand still on a node that lives */

/* Node 5 stops; its kernel answers all who ask. */
static void stand_still(bool mute)
{
	for (unsigned b = 1; b <= 5; b++)
		net.cut[5][b] = net.cut[b][5] = b != 5;
	silence_everywhere(5);
	for (unsigned a = 1; a <= 4; a++) {
		check_int(net.reaching[a][5], net.watch[a][5]);
		if (net.watch[a][5])
			reached(a, 5, mute);
	}
}

static void go_on(void)
{
	for (unsigned b = 1; b <= 5; b++)
		net.cut[5][b] = net.cut[b][5] = false;
	for (unsigned a = 1; a <= 4; a++)
		silence(a, 5, false);
}

static void one_whose_kernel_answers_is_suspected_and_not_dead_for_ten_seconds(void)
{
	cluster(5);
	stand_still(true);
	pass(9999);
	check(!logged("dead"));
	for (unsigned a = 1; a <= 4; a++) {
		check_int(state(a, 5), GOSSIPD_SUSPECT);
		check(status(a, 5).stalled);
	}
	go_on();
	pass(100);
	for (unsigned a = 1; a <= 4; a++) {
		check_int(state(a, 5), GOSSIPD_ALIVE);
		check(!net.reaching[a][5]);
	}
}

static void one_that_hangs_is_dead_after_ten_seconds(void)
{
	cluster(5);
	stand_still(true);
	pass(10000 + 250);
	for (unsigned a = 1; a <= 4; a++)
		check_int(state(a, 5), GOSSIPD_DEAD);
}

static void one_whose_kernel_refuses_is_dead_at_once(void)
{
	cluster(5);
	stand_still(false);
	pass(250);
	for (unsigned a = 1; a <= 4; a++)
		check_int(state(a, 5), GOSSIPD_DEAD);
}

static void one_that_is_killed_while_it_stands_still_is_dead_at_once(void)
{
	cluster(5);
	stand_still(true);
	pass(3000);
	check_int(state(1, 5), GOSSIPD_SUSPECT);
	for (unsigned a = 1; a <= 4; a++)
		reached(a, 5, false);
	pass(250);
	check_int(state(1, 5), GOSSIPD_DEAD);
}

static void who_stands_still_again_and_again_is_excused_for_half_of_the_time(void)
{
	unsigned rounds = 0;

	cluster(5);
	for (; rounds < 20; rounds++) {
		stand_still(true);
		pass(8000);
		if (logged("dead"))
			break;
		go_on();
		pass(1000);
	}
	check_int(rounds, 1);
	cluster(5);
	for (rounds = 0; rounds < 20; rounds++) {
		stand_still(true);
		pass(5000);
		go_on();
		pass(5000);
	}
	check(!logged("dead"));
}

/* Two of the three observers cannot reach it, as behind a cut of their own: a majority kills. */
static void a_minority_that_reaches_a_kernel_excuses_nobody(void)
{
	unsigned reaching = 0;

	cluster(5);
	kill_node(5);
	silence_everywhere(5);
	for (unsigned a = 1; a <= 4 && !reaching; a++) {
		if (net.watch[a][5])
			reached(reaching = a, 5, true);
	}
	pass(250);
	check_int(state(reaching, 5), GOSSIPD_DEAD);
	check(!net.reaching[reaching][5]);
}

static void a_removed_member_leaves_no_connection_open(void)
{
	cluster(5);
	stand_still(true);
	for (unsigned a = 1; a <= 4; a++) {
		struct gossipd_event event = {.type = GOSSIPD_REMOVE_MEMBER};

		event.member.id = 5;
		step(a, event);
		check(!net.reaching[a][5]);
	}
}

static void where_it_is_switched_off_no_connection_is_opened(void)
{
	stall = MONO_ZERO;
	cluster(5);
	stall = mono_ms(10000);
	kill_node(5);
	silence_everywhere(5);
	for (unsigned a = 1; a <= 4; a++)
		check(!net.reaching[a][5]);
	pass(250);
	check_int(state(1, 5), GOSSIPD_DEAD);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(one_that_comes_and_goes_observes_nobody_until_it_is_stable),
	    TEST(half_of_the_others_cannot_talk_a_member_into_being_damped),
	    TEST(two_returns_in_an_hour_are_no_flapping),
	    TEST(where_all_flap_all_observe),
	    TEST(an_unwell_observer_accuses_nobody_who_answers_it),
	    TEST(an_unwell_observer_votes_later_when_it_gets_no_answer),
	    TEST(an_unwell_observer_follows_the_vote_of_another_at_once),
	    TEST(a_stall_that_fdd_notices_after_the_silence_delays_the_vote_too),
	    TEST(what_fdd_said_while_we_stood_still_accuses_nobody),
	    TEST(one_whose_kernel_answers_is_suspected_and_not_dead_for_ten_seconds),
	    TEST(one_that_hangs_is_dead_after_ten_seconds),
	    TEST(one_whose_kernel_refuses_is_dead_at_once),
	    TEST(one_that_is_killed_while_it_stands_still_is_dead_at_once),
	    TEST(who_stands_still_again_and_again_is_excused_for_half_of_the_time),
	    TEST(a_minority_that_reaches_a_kernel_excuses_nobody),
	    TEST(a_removed_member_leaves_no_connection_open),
	    TEST(where_it_is_switched_off_no_connection_is_opened),
	    {0},
	});
}
