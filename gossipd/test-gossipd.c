/* The core by hand: members, votes and verdicts, refutation, partitions, joining and leaving. */
#include "gossipd/terms.h"
#include "gossipd/test-net.h"

#include "common/test.h"

static void members_find_each_other(void)
{
	cluster(5);
	for (unsigned a = 1; a <= 5; a++) {
		for (unsigned b = 1; b <= 5; b++)
			check_int(state(a, b), GOSSIPD_ALIVE);
	}
}

static void a_dead_member_of_three_is_judged_by_the_two_survivors(void)
{
	cluster(3);
	kill_node(3);
	silence(1, 3, true);
	check_int(state(1, 3), GOSSIPD_SUSPECT);
	silence(2, 3, true);
	pass(150);
	check_int(state(1, 3), GOSSIPD_SUSPECT);
	pass(100);
	check_int(state(1, 3), GOSSIPD_DEAD);
	check_int(state(2, 3), GOSSIPD_DEAD);
	check(logged("1:3 suspect;") && logged("2:3 dead;"));
}

static void a_quorum_of_all_takes_the_last_observer(void)
{
	unsigned missing = 3;

	quorum = 100;
	cluster(5);
	quorum = 51;
	kill_node(5);
	for (unsigned a = 1; a < 5; a++) {
		if (!net.watch[a][5])
			continue;
		silence(a, 5, true);
		pass(400);
		check_int(state(a, 5), --missing ? GOSSIPD_SUSPECT : GOSSIPD_DEAD);
	}
}

static void one_observer_alone_never_kills(void)
{
	cluster(3);
	kill_node(3);
	silence(1, 3, true);
	pass(20000);
	check_int(state(1, 3), GOSSIPD_SUSPECT);
	check(!logged("dead"));
}

/* Two of five hear all and are heard by each other only, as behind a link that fails one way.  The
 * others hold them for dead, and turn their heartbeats away; that silence is no death. */
static void one_that_is_not_heard_kills_nobody(void)
{
	unsigned victims = 0;

	cluster(5);
	for (unsigned a = 1; a <= 2; a++) {
		for (unsigned b = 3; b <= 5; b++)
			net.cut[a][b] = true;
	}
	for (unsigned b = 3; b <= 5; b++) {
		if (!net.watch[1][b] || !net.watch[2][b])
			continue;
		victims++;
		silence(1, b, true);
		silence(2, b, true);
	}
	check(victims > 0);
	pass(20000);
	check(!logged("dead"));
}

/* Two of five hear nothing but each other.  When they hear the others again, one of those a little
 * later than the rest, they still hold their votes. */
static void votes_cast_while_cut_off_are_no_verdicts_afterwards(void)
{
	for (unsigned late = 3; late <= 5; late++) {
		cluster(5);
		if (!net.watch[1][late] || !net.watch[2][late])
			continue;
		for (unsigned a = 3; a <= 5; a++)
			net.cut[a][1] = net.cut[a][2] = true;
		silence(1, late, true);
		silence(2, late, true);
		pass(5000);
		for (unsigned a = 3; a <= 5; a++)
			net.cut[a][1] = net.cut[a][2] = a == late;
		pass(100);
		net.cut[late][1] = net.cut[late][2] = false;
		pass(1000);
		check(!logged("dead"));
	}
}

/* Two members tell node 1 that this incarnation of node 5 has ended. */
static void tell_the_end(uint64_t incarnation_of_5)
{
	for (unsigned from = 2; from <= 3; from++) {
		struct gossipd_gram gram = {
		    .incarnation = incarnation(1, from),
		    .rumour_count = 1,
		    .rumours = {{5, incarnation_of_5, GOSSIPD_DEAD}},
		};
		struct gossipd_event event = {.type = GOSSIPD_GRAM};

		event.gram.from = from;
		event.gram.gram = &gram;
		step(1, event);
	}
}

/* As those tell it who were cut off when it came back. */
static void old_news_of_a_death_kill_only_whom_nobody_hears(void)
{
	uint64_t before;

	cluster(5);
	before = incarnation(1, 5);
	silence(1, 5, true);
	silence(1, 5, false);
	check(incarnation(1, 5) > before);
	pass(10000);
	for (int i = 0; i < 20; i++) {
		tell_the_end(before);
		pass(100);
	}
	check_int(state(1, 5), GOSSIPD_ALIVE);
	kill_node(5);
	for (int i = 0; i < 80; i++) {
		tell_the_end(before);
		pass(100);
	}
	check_int(state(1, 5), GOSSIPD_DEAD);
}

/* The same of its process before this one: it proves nothing, whoever tells it. */
static void the_death_of_an_old_process_is_not_that_of_the_new(void)
{
	uint64_t before;

	cluster(5);
	before = incarnation(1, 5);
	kill_node(5);
	boot(5, 2000);
	pass(10000);
	kill_node(5);
	for (int i = 0; i < 80; i++) {
		tell_the_end(before);
		pass(100);
	}
	check_int(state(1, 5), GOSSIPD_ALIVE);
}

static void the_accused_refutes_and_is_alive_with_a_higher_incarnation(void)
{
	cluster(3);
	uint64_t before = incarnation(1, 3);

	silence(1, 3, true);
	silence(2, 3, true);
	pass(20);
	check_int(state(1, 3), GOSSIPD_ALIVE);
	check(incarnation(1, 3) > before);
	check_int(incarnation(1, 3), incarnation(2, 3));
	pass(10000);
	check(!logged("dead"));
}

static void a_refutation_comes_through_where_the_direct_link_is_cut(void)
{
	cluster(5);
	net.cut[1][2] = net.cut[2][1] = true;
	if (net.watch[1][2])
		silence(1, 2, true);
	if (net.watch[2][1])
		silence(2, 1, true);
	check(net.watch[1][2] || net.watch[2][1]);
	pass(30000);
	check(logged("suspect"));
	check(!logged("dead"));
	for (unsigned a = 1; a <= 5; a++)
		check_int(state(a, 1), GOSSIPD_ALIVE);
}

static void one_who_is_cut_off_judges_nobody(void)
{
	cluster(5);
	cut_off(5, true);
	for (unsigned b = 1; b <= 4; b++)
		silence(5, b, true);
	silence_everywhere(5);
	pass(3000);
	check(gossipd_isolated(net.node[5]));
	for (unsigned b = 1; b <= 4; b++) {
		check_int(state(b, 5), GOSSIPD_DEAD);
		check(state(5, b) != GOSSIPD_DEAD);
	}
	cut_off(5, false);
	for (unsigned b = 1; b <= 4; b++)
		silence(5, b, false);
	pass(3000);
	check(!gossipd_isolated(net.node[5]));
	for (unsigned b = 1; b <= 4; b++)
		check_int(state(b, 5), GOSSIPD_ALIVE);
}

static void half_a_cluster_of_four_does_not_kill_the_other_half(void)
{
	cluster(4);
	for (unsigned a = 1; a <= 2; a++) {
		for (unsigned b = 3; b <= 4; b++)
			net.cut[a][b] = net.cut[b][a] = true;
	}
	pass(750);
	for (unsigned a = 1; a <= 2; a++) {
		for (unsigned b = 3; b <= 4; b++) {
			silence(a, b, true);
			silence(b, a, true);
		}
	}
	pass(10000);
	check(!logged("dead"));
}

static void the_last_of_three_does_not_kill_both_others(void)
{
	cluster(3);
	kill_node(1);
	kill_node(2);
	silence(3, 1, true);
	silence(3, 2, true);
	pass(10000);
	check(!logged("dead"));
	check(gossipd_isolated(net.node[3]));
}

static void the_larger_part_judges_the_smaller_one(void)
{
	cluster(5);
	kill_node(4);
	kill_node(5);
	silence_everywhere(4);
	silence_everywhere(5);
	for (int i = 0; i < 30; i++) {
		pass(100);
		silence_everywhere(4);
		silence_everywhere(5);
	}
	for (unsigned a = 1; a <= 3; a++) {
		check_int(state(a, 4), GOSSIPD_DEAD);
		check_int(state(a, 5), GOSSIPD_DEAD);
	}
}

static void a_restart_wins_over_the_verdict(void)
{
	cluster(3);
	kill_node(3);
	silence_everywhere(3);
	pass(1000);
	check_int(state(1, 3), GOSSIPD_DEAD);
	boot(3, 1010);
	pass(100);
	check_int(state(1, 3), GOSSIPD_ALIVE);
	check_int(state(2, 3), GOSSIPD_ALIVE);
}

static void a_restart_wins_also_with_a_clock_set_back_and_its_store_lost(void)
{
	cluster(3);
	kill_node(3);
	silence_everywhere(3);
	pass(1000);
	net.stored[3] = 0;
	boot(3, 5);
	pass(500);
	check_int(state(1, 3), GOSSIPD_ALIVE);
	check_int(state(2, 3), GOSSIPD_ALIVE);
}

static void a_daemon_restarted_within_a_second_is_no_failure(void)
{
	cluster(3);
	kill_node(3);
	pass(300);
	boot(3, 1000);
	pass(5000);
	check(!logged("dead") && !logged("suspect"));
	check_int(state(3, 1), GOSSIPD_ALIVE);
}

static void a_clean_leave_is_no_failure(void)
{
	cluster(3);
	step(3, (struct gossipd_event){.type = GOSSIPD_LEAVE});
	deliver_all();
	pass(1000);
	kill_node(3);
	silence(1, 3, true);
	silence(2, 3, true);
	pass(5000);
	check_int(state(1, 3), GOSSIPD_LEFT);
	check_int(state(2, 3), GOSSIPD_LEFT);
	check(!logged("dead") && !logged("suspect"));
	boot(3, 1020);
	pass(500);
	check_int(state(1, 3), GOSSIPD_ALIVE);
}

static void a_verdict_reaches_one_who_missed_it_by_the_digest(void)
{
	cluster(5);
	kill_node(5);
	cut_off(4, true);
	silence_everywhere(5);
	pass(1500);
	check_int(state(1, 5), GOSSIPD_DEAD);
	check(state(4, 5) != GOSSIPD_DEAD);
	cut_off(4, false);
	pass(4000);
	check_int(state(4, 5), GOSSIPD_DEAD);
}

static void without_fdd_no_votes_are_cast(void)
{
	cluster(3);
	silence(1, 3, true);
	kill_node(3);
	step(1, (struct gossipd_event){.type = GOSSIPD_FDD_LOST});
	silence(2, 3, true);
	pass(5000);
	check(!logged("dead"));
}

static void one_that_stood_still_does_not_judge_by_old_votes(void)
{
	struct gossipd_status status;

	cluster(3);
	cut_off(3, true);
	silence(1, 3, true);
	silence(2, 3, true);
	pass(50);
	gossipd_status(net.node[1], 2, net.now, &status);
	check_int(status.votes, 2);
	/* Node 1 sleeps; meanwhile the link is back and node 2 hears the accused again. */
	struct gossipd *sleeper = net.node[1];

	net.node[1] = NULL;
	cut_off(3, false);
	silence(2, 3, false);
	pass(2000);
	net.node[1] = sleeper;
	step(1, (struct gossipd_event){.type = GOSSIPD_TIMEOUT});
	deliver_all();
	pass(2000);
	check(!logged("dead"));
}

static void overtaken_datagrams_do_not_bring_back_old_votes(void)
{
	struct gossipd_gram gram = {.incarnation = 0, .number = 1000000};
	struct gossipd_event event = {.type = GOSSIPD_GRAM};
	struct gossipd_status status;

	cluster(3);
	gram.incarnation = incarnation(1, 2);
	event.gram.from = 2;
	event.gram.gram = &gram;
	step(1, event);
	gram.number = 999999;
	gram.ballot_count = 1;
	gram.ballots[0] = (struct gossipd_ballot){3, incarnation(1, 3), false};
	step(1, event);
	gossipd_status(net.node[1], 2, net.now, &status);
	check_int(status.votes, 0);
	check_int(gossipd_counters(net.node[1])->grams_old, 1);
}

static void strangers_and_impossible_values_are_refused(void)
{
	struct gossipd_gram gram = {.incarnation = 5};
	struct gossipd_event event = {.type = GOSSIPD_GRAM, .now = {0}};
	struct gossipd_entry evil[] = {{1, UINT64_MAX, GOSSIPD_DEAD}, {2, 0, GOSSIPD_DEAD},
	    {2, 1, GOSSIPD_SUSPECT}, {2, 1, (enum gossipd_state)77}, {99, 5, GOSSIPD_DEAD}};
	struct gossipd_event view = {.type = GOSSIPD_VIEW};

	cluster(3);
	event.gram.gram = &gram;
	event.gram.from = 99;
	check_int(gossipd_step(net.node[1], &event, &actions), GOSSIPD_REFUSED);
	event.gram.from = 1;
	check_int(gossipd_step(net.node[1], &event, &actions), GOSSIPD_REFUSED);
	event.gram.from = 2;
	gram.incarnation = UINT64_MAX;
	check_int(gossipd_step(net.node[1], &event, &actions), GOSSIPD_REFUSED);
	gram.incarnation = 5;
	gram.ballot_count = GOSSIPD_BALLOTS_MAX + 1;
	check_int(gossipd_step(net.node[1], &event, &actions), GOSSIPD_REFUSED);
	view.view.from = 2;
	view.view.entries = evil;
	view.view.count = sizeof(evil) / sizeof(evil[0]);
	step(1, view);
	check_int(state(1, 1), GOSSIPD_ALIVE);
	check_int(state(1, 2), GOSSIPD_ALIVE);
	check(incarnation(1, 1) < (uint64_t)1 << 62);
}

static void incarnations_rise_with_the_clock_and_without_it(void)
{
	uint64_t first = gossipd_incarnation(0, 1000), second = gossipd_incarnation(first, 1000);

	check(second > first + 1000);
	check(gossipd_incarnation(first + 77, 1000) > first + 77);
	check(gossipd_incarnation(second, 1) > second);
	check(gossipd_incarnation(0, 2000) > second);
}

static enum gossipd_answer change_only(unsigned n, enum gossipd_event_type type, uint64_t id)
{
	struct gossipd_event event = {.type = type, .now = net.now};
	enum gossipd_answer answer;

	event.member.id = id;
	answer = gossipd_step(net.node[n], &event, &actions);
	check(!gossipd_invariant(net.node[n]));
	return answer;
}

static enum gossipd_answer change(unsigned n, enum gossipd_event_type type, uint64_t id)
{
	enum gossipd_answer answer = change_only(n, type, id);

	carry_out(n);
	deliver_all();
	return answer;
}

static void change_everywhere(enum gossipd_event_type type, unsigned id)
{
	for (unsigned n = 1; n <= net.count; n++) {
		if (n != id && net.node[n])
			check_int(change(n, type, id), GOSSIPD_OK);
	}
}

static void an_added_member_is_greeted_and_watched(void)
{
	struct gossipd_status status;
	unsigned watching = 0;

	cluster(4);
	net.count = 5;
	boot(5, 1000);
	pass(50);
	check(!knows(1, 5, &status));
	net.log[0] = '\0';
	for (unsigned n = 1; n <= 4; n++)
		check_int(change(n, GOSSIPD_ADD_MEMBER, 5), GOSSIPD_OK);
	pass(10);
	for (unsigned n = 1; n <= 4; n++) {
		check(knows(n, 5, &status));
		check_int(status.state, GOSSIPD_ALIVE);
		watching += net.watch[n][5];
	}
	check_int(watching, 3);
	check(!logged("suspect"));
}

static void a_removed_member_has_left_and_is_not_heard_any_more(void)
{
	struct gossipd_gram gram = {.number = UINT32_MAX};
	struct gossipd_event event = {.type = GOSSIPD_GRAM};
	struct gossipd_status status;

	cluster(4);
	change_everywhere(GOSSIPD_REMOVE_MEMBER, 2);
	check(logged("1:2 left;") && logged("3:2 left;") && logged("4:2 left;"));
	check(!knows(1, 2, &status));
	event.gram.from = 2;
	event.gram.gram = &gram;
	gram.incarnation = incarnation(2, 2);
	check_int(gossipd_step(net.node[1], &event, &actions), GOSSIPD_REFUSED);
	kill_node(2);
	net.log[0] = '\0';
	pass(5000);
	check_str(net.log, "");
	/* The others still judge. */
	kill_node(4);
	silence(1, 4, true);
	silence(3, 4, true);
	pass(500);
	check(logged("1:4 dead;") && logged("3:4 dead;"));
}

static void one_that_is_added_again_comes_back_by_its_own_word_only(void)
{
	struct gossipd_entry old = {3, 0, GOSSIPD_ALIVE};
	struct gossipd_event view = {.type = GOSSIPD_VIEW};
	struct gossipd_status status;

	cluster(4);
	old.incarnation = incarnation(1, 3);
	cut_off(3, true);
	change_everywhere(GOSSIPD_REMOVE_MEMBER, 3);
	change_everywhere(GOSSIPD_ADD_MEMBER, 3);
	view.view.from = 2;
	view.view.entries = &old;
	view.view.count = 1;
	step(1, view);
	pass(3000);
	check(knows(1, 3, &status));
	check_int(status.state, GOSSIPD_LEFT);
	cut_off(3, false);
	pass(3000);
	check(knows(1, 3, &status));
	check_int(status.state, GOSSIPD_ALIVE);
	check(status.incarnation > old.incarnation);
}

static void a_tombstone_is_not_kept_for_ever(void)
{
	struct gossipd_status status;

	cluster(3);
	kill_node(2);
	kill_node(3);
	check_int(change(1, GOSSIPD_REMOVE_MEMBER, 3), GOSSIPD_OK);
	pass(601 * 1000);
	check_int(change(1, GOSSIPD_ADD_MEMBER, 3), GOSSIPD_OK);
	check(knows(1, 3, &status));
	check_int(status.state, GOSSIPD_UNKNOWN);
}

static void the_set_of_members_is_bounded_and_has_no_doubles(void)
{
	cluster(3);
	for (uint64_t id = 4; id <= GOSSIPD_MEMBERS_MAX; id++)
		check_int(change_only(1, GOSSIPD_ADD_MEMBER, id), GOSSIPD_OK);
	check_int(change_only(1, GOSSIPD_ADD_MEMBER, 1000), GOSSIPD_REFUSED);
	check_int(change_only(1, GOSSIPD_REMOVE_MEMBER, 1), GOSSIPD_REFUSED);
	check_int(change_only(1, GOSSIPD_REMOVE_MEMBER, 1000), GOSSIPD_REFUSED);
	check_int(change_only(1, GOSSIPD_REMOVE_MEMBER, 40), GOSSIPD_OK);
	check_int(change_only(1, GOSSIPD_ADD_MEMBER, 2), GOSSIPD_REFUSED);
	check_int(change_only(1, GOSSIPD_ADD_MEMBER, 0), GOSSIPD_REFUSED);
	check_int(change_only(1, GOSSIPD_ADD_MEMBER, 1000), GOSSIPD_OK);
}

/* What a subscriber at node 1 is told of a member now. */
static enum gossipd_state told(struct terms *terms, unsigned of)
{
	struct gossipd_status status;

	check(knows(1, of, &status));
	terms_change(terms, &status, net.now);
	return status.state;
}

static void who_asks_for_more_certainty_is_told_of_a_death_later(void)
{
	struct terms patient = {.confirm = mono_ms(1000)}, hasty = {.votes = false};
	struct gossipd_status status;

	cluster(5);
	kill_node(5);
	silence_everywhere(5);
	pass(300);
	check_int(told(&hasty, 5), GOSSIPD_DEAD);
	check_int(told(&patient, 5), GOSSIPD_SUSPECT);
	pass(999);
	check(!terms_next(&patient, net.node[1], net.now, &status));
	check_int(terms_deadline(&patient, net.now).ns, mono_add_ms(net.now, 1).ns);
	pass(1);
	check(terms_next(&patient, net.node[1], net.now, &status));
	check_int(status.state, GOSSIPD_DEAD);
	check(!terms_next(&patient, net.node[1], net.now, &status));
}

static void a_death_that_ends_before_is_never_told_to_him(void)
{
	struct terms patient = {.confirm = mono_ms(5000)};
	struct gossipd_status status;

	cluster(5);
	kill_node(5);
	silence_everywhere(5);
	pass(300);
	check_int(told(&patient, 5), GOSSIPD_SUSPECT);
	boot(5, 2000);
	pass(300);
	check_int(told(&patient, 5), GOSSIPD_ALIVE);
	pass(10000);
	check(!terms_next(&patient, net.node[1], net.now, &status));
}

static void who_asks_for_votes_is_told_of_each(void)
{
	struct terms votes = {.votes = true};
	struct gossipd_status status;

	cluster(3);
	kill_node(3);
	silence(1, 3, true);
	check_int(told(&votes, 3), GOSSIPD_SUSPECT);
	check(!terms_next(&votes, net.node[1], net.now, &status));
	silence(2, 3, true);
	check(terms_next(&votes, net.node[1], net.now, &status));
	check_int(status.votes, 2);
	check(!terms_next(&votes, net.node[1], net.now, &status));
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(members_find_each_other),
	    TEST(a_dead_member_of_three_is_judged_by_the_two_survivors),
	    TEST(a_quorum_of_all_takes_the_last_observer),
	    TEST(one_observer_alone_never_kills),
	    TEST(one_that_is_not_heard_kills_nobody),
	    TEST(votes_cast_while_cut_off_are_no_verdicts_afterwards),
	    TEST(old_news_of_a_death_kill_only_whom_nobody_hears),
	    TEST(the_death_of_an_old_process_is_not_that_of_the_new),
	    TEST(the_accused_refutes_and_is_alive_with_a_higher_incarnation),
	    TEST(a_refutation_comes_through_where_the_direct_link_is_cut),
	    TEST(one_who_is_cut_off_judges_nobody),
	    TEST(half_a_cluster_of_four_does_not_kill_the_other_half),
	    TEST(the_last_of_three_does_not_kill_both_others),
	    TEST(the_larger_part_judges_the_smaller_one),
	    TEST(a_restart_wins_over_the_verdict),
	    TEST(a_restart_wins_also_with_a_clock_set_back_and_its_store_lost),
	    TEST(a_daemon_restarted_within_a_second_is_no_failure),
	    TEST(a_clean_leave_is_no_failure),
	    TEST(a_verdict_reaches_one_who_missed_it_by_the_digest),
	    TEST(without_fdd_no_votes_are_cast),
	    TEST(one_that_stood_still_does_not_judge_by_old_votes),
	    TEST(overtaken_datagrams_do_not_bring_back_old_votes),
	    TEST(strangers_and_impossible_values_are_refused),
	    TEST(incarnations_rise_with_the_clock_and_without_it),
	    TEST(an_added_member_is_greeted_and_watched),
	    TEST(a_removed_member_has_left_and_is_not_heard_any_more),
	    TEST(one_that_is_added_again_comes_back_by_its_own_word_only),
	    TEST(a_tombstone_is_not_kept_for_ever),
	    TEST(the_set_of_members_is_bounded_and_has_no_doubles),
	    TEST(who_asks_for_more_certainty_is_told_of_a_death_later),
	    TEST(a_death_that_ends_before_is_never_told_to_him),
	    TEST(who_asks_for_votes_is_told_of_each),
	    {0},
	});
}
