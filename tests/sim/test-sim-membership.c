/*
 * Scenarios of detection and membership: the cores of fdd and gossipd under loss, crashes,
 * partitions, pauses and restarts.  The trace and the views at the end are judged.
 */
#include <stdio.h>
#include <string.h>

#include "tests/sim/membership.h"

/* Each scenario fills in its own complaint; this makes the cluster and frees it. */
#define SCENARIO(name)                                                                             \
	static const char *judge_##name(struct cluster *cluster);                                  \
	static const char *name(uint64_t seed, struct sim **out)                                   \
	{                                                                                          \
		struct cluster_config config = config_##name();                                    \
		struct cluster *cluster = cluster_new(&config, seed);                              \
		const char *complaint = judge_##name(cluster);                                     \
                                                                                                   \
		*out = cluster->sim;                                                               \
		if (sim_broken(cluster->sim))                                                      \
			complaint = sim_broken(cluster->sim);                                      \
		cluster_free(cluster);                                                             \
		return complaint;                                                                  \
	}

static void run_ms(struct cluster *cluster, int64_t ms)
{
	sim_run(cluster->sim, mono_add_ms(sim_time(cluster->sim), ms));
}

/* Everybody known and the lease taken. */
static const char *settle(struct cluster *cluster)
{
	run_ms(cluster, 4000);
	if (cluster_holder(cluster) < 0)
		return "nobody coordinates after four seconds";
	return cluster_views_equal(cluster);
}

static const char *nobody_died(struct cluster *cluster)
{
	const struct sim_line *line = sim_find(cluster->sim, 0, "*/gossipd", "dead *");

	if (!line)
		return NULL;
	return sim_complain(
	    cluster->sim, "at %.3f s %s: %s", mono_to_s(line->at), line->who, line->text);
}

static void report(struct cluster *cluster, const char *what, double ms)
{
	printf("# %s: %.0f ms (%u nodes)\n", what, ms, cluster->config.nodes);
}

static struct cluster_config three(void)
{
	return cluster_defaults(3);
}

static struct cluster_config four(void)
{
	return cluster_defaults(4);
}

static struct cluster_config five(void)
{
	return cluster_defaults(5);
}

static struct cluster_config fifty(void)
{
	return cluster_defaults(50);
}

/* ---- deaths */

/* Kills one node after the other, at times unrelated to the heartbeats; worst time to agreement. */
static const char *kill_repeatedly(struct cluster *cluster, unsigned times, int64_t limit_ms)
{
	int64_t worst = 0, sum = 0;

	for (unsigned i = 0; i < times; i++) {
		unsigned victim = (unsigned)rng_below(sim_rng(cluster->sim), cluster->config.nodes);
		struct mono killed;

		run_ms(cluster, 3000 + (int64_t)rng_below(sim_rng(cluster->sim), 1000));
		killed = sim_time(cluster->sim);
		cluster_kill(cluster, victim);
		if (!cluster_wait(cluster, victim, GOSSIPD_DEAD, limit_ms))
			return sim_complain(cluster->sim, "n%u, killed at %.3f s, not dead for all",
			    victim + 1, mono_to_s(killed));
		killed = mono_sub(sim_time(cluster->sim), killed);
		worst = killed.ns > worst ? killed.ns : worst;
		sum += killed.ns;
		cluster_restart(cluster, victim);
		if (!cluster_wait(cluster, victim, GOSSIPD_ALIVE, 2000))
			return sim_complain(
			    cluster->sim, "n%u, restarted, not alive for all", victim + 1);
	}
	report(cluster, "kill to agreement, mean", (double)sum / 1e6 / times);
	report(cluster, "kill to agreement, worst", (double)worst / 1e6);
	if (sim_count(cluster->sim, "*/gossipd", "dead *") >
	    (size_t)times * (cluster->config.nodes - 1))
		return "somebody else was declared dead";
	return NULL;
}

#define config_one_death_of_three_is_known_in_1200_ms three
static const char *judge_one_death_of_three_is_known_in_1200_ms(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	return complaint ? complaint : kill_repeatedly(cluster, 40, 1200);
}
SCENARIO(one_death_of_three_is_known_in_1200_ms)

#define config_one_death_of_fifty_is_known_in_1500_ms fifty
static const char *judge_one_death_of_fifty_is_known_in_1500_ms(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	return complaint ? complaint : kill_repeatedly(cluster, 10, 1500);
}
SCENARIO(one_death_of_fifty_is_known_in_1500_ms)

#define config_at_20_percent_loss_a_death_is_known_in_4_s five
static const char *judge_at_20_percent_loss_a_death_is_known_in_4_s(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	cluster_links(cluster, &(struct sim_link){.loss = 0.2});
	return complaint ? complaint : kill_repeatedly(cluster, 40, 4000);
}
SCENARIO(at_20_percent_loss_a_death_is_known_in_4_s)

#define config_two_of_five_die_at_once five
static const char *judge_two_of_five_die_at_once(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	if (complaint)
		return complaint;
	cluster_kill(cluster, 1);
	cluster_kill(cluster, 3);
	if (!cluster_wait(cluster, 1, GOSSIPD_DEAD, 5000) ||
	    !cluster_wait(cluster, 3, GOSSIPD_DEAD, 5000))
		return "one of the two is not dead for all after five seconds";
	return NULL;
}
SCENARIO(two_of_five_die_at_once)

#define config_a_third_of_fifty_die_at_once fifty
static const char *judge_a_third_of_fifty_die_at_once(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	if (complaint)
		return complaint;
	for (unsigned i = 0; i < 50; i += 3)
		cluster_kill(cluster, i);
	run_ms(cluster, 15000);
	return cluster_views_equal(cluster);
}
SCENARIO(a_third_of_fifty_die_at_once)

/* ---- no false deaths */

static const char *quiet_under(struct cluster *cluster, const struct sim_link *link, int64_t ms)
{
	const char *complaint = settle(cluster);
	double hours;

	if (complaint)
		return complaint;
	cluster_links(cluster, link);
	run_ms(cluster, ms);
	hours = (double)ms / 3.6e6 * cluster->config.nodes;
	printf("# %.1f node-hours, %zu suspicions, %zu refutations seen\n", hours,
	    sim_count(cluster->sim, "*/gossipd", "suspect *"),
	    sim_count(cluster->sim, "*/gossipd", "refuted *"));
	return nobody_died(cluster);
}

#define config_loss_of_20_percent_kills_nobody_of_fifty fifty
static const char *judge_loss_of_20_percent_kills_nobody_of_fifty(struct cluster *cluster)
{
	return quiet_under(cluster, &(struct sim_link){.loss = 0.2}, 120000);
}
SCENARIO(loss_of_20_percent_kills_nobody_of_fifty)

#define config_loss_of_20_percent_kills_nobody_of_three_in_two_hours three
static const char *judge_loss_of_20_percent_kills_nobody_of_three_in_two_hours(
    struct cluster *cluster)
{
	return quiet_under(cluster, &(struct sim_link){.loss = 0.2}, 7200000);
}
SCENARIO(loss_of_20_percent_kills_nobody_of_three_in_two_hours)

/* A third of the time in bursts of ten datagrams on average. */
#define config_bursts_of_loss_kill_nobody five
static const char *judge_bursts_of_loss_kill_nobody(struct cluster *cluster)
{
	return quiet_under(cluster,
	    &(struct sim_link){.burst_enter = 0.02, .burst_leave = 0.2, .burst_loss = 0.9},
	    1800000);
}
SCENARIO(bursts_of_loss_kill_nobody)

#define config_a_link_cut_between_two_of_five_kills_nobody five
static const char *judge_a_link_cut_between_two_of_five_kills_nobody(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	if (complaint)
		return complaint;
	for (unsigned b = 1; b < 5; b++) {
		sim_cut(cluster->sim, 0, b, true);
		run_ms(cluster, 30000);
		sim_heal(cluster->sim);
		run_ms(cluster, 2000);
	}
	if (sim_count(cluster->sim, "*/gossipd", "suspect *") == 0)
		return "nobody even noticed the cut";
	return nobody_died(cluster);
}
SCENARIO(a_link_cut_between_two_of_five_kills_nobody)

#define config_a_stopped_node_comes_back_and_accuses_nobody five
static const char *judge_a_stopped_node_comes_back_and_accuses_nobody(struct cluster *cluster)
{
	const char *complaint = settle(cluster);
	const struct sim_line *line;

	if (complaint)
		return complaint;
	for (int i = 0; i < 10; i++) {
		sim_pause_host(cluster->sim, 2, mono_ms(5000));
		run_ms(cluster, 11500);
		complaint = cluster_views_equal(cluster);
		if (complaint)
			return complaint;
	}
	line = sim_find(cluster->sim, 0, "n3/gossipd", "dead *");
	return line ? "the one that stood still declared another dead" : NULL;
}
SCENARIO(a_stopped_node_comes_back_and_accuses_nobody)

/* SIGSTOP to the daemons, as a debugger or an empty battery of quota does it; their kernels live. */
static void stop_daemons(struct cluster *cluster, unsigned node, int64_t ms)
{
	sim_pause(cluster->sim, cluster->nodes[node].fdd, mono_ms(ms));
	sim_pause(cluster->sim, cluster->nodes[node].gossipd, mono_ms(ms));
}

static struct cluster_config twenty_four(void)
{
	return cluster_profile(24, GOSSIPD_BALANCED);
}

/* Nobody says of those that always ran that they do not. */
static const char *only_these_are_suspected(struct cluster *cluster, uint64_t stopped)
{
	for (size_t i = 0; i < sim_lines(cluster->sim); i++) {
		const struct sim_line *line = sim_line(cluster->sim, i);
		unsigned subject;

		if ((sscanf(line->text, "suspect n%u", &subject) == 1 ||
			sscanf(line->text, "dead n%u", &subject) == 1) &&
		    !(stopped >> (subject - 1) & 1))
			return sim_complain(cluster->sim, "at %.3f s %s: %s", mono_to_s(line->at),
			    line->who, line->text);
	}
	return NULL;
}

#define config_stalled_observers_accuse_nobody twenty_four
static const char *judge_stalled_observers_accuse_nobody(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	for (unsigned i = 0; i < 30 && !complaint; i++) {
		uint64_t stopped = 0;

		for (unsigned n = 3; n < 6; n++) {
			stop_daemons(cluster, n, 8000);
			stopped |= (uint64_t)1 << n;
		}
		run_ms(cluster, 14000);
		complaint = only_these_are_suspected(cluster, stopped);
	}
	return complaint;
}
SCENARIO(stalled_observers_accuse_nobody)

/* Stopped for eight seconds, by threes: suspects, whose kernels answer for them. */
#define config_one_that_stands_still_on_a_living_node_is_not_dead twenty_four
static const char *judge_one_that_stands_still_on_a_living_node_is_not_dead(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	cluster_links(cluster, &(struct sim_link){.loss = 0.05});
	for (unsigned i = 0; i < 10 && !complaint; i++) {
		unsigned first = (unsigned)rng_below(sim_rng(cluster->sim), 22);

		for (unsigned n = first; n < first + 3; n++)
			stop_daemons(cluster, n, 8000);
		run_ms(cluster, 5000);
		if (!sim_find(cluster->sim, 0, "*/gossipd", "stalled n*"))
			return "nobody found that it stands still";
		run_ms(cluster, 9000);
		complaint = nobody_died(cluster);
	}
	return complaint ? complaint : cluster_views_equal(cluster);
}
SCENARIO(one_that_stands_still_on_a_living_node_is_not_dead)

static const char *hang(struct cluster *cluster, int64_t *took_ms, int64_t limit_ms)
{
	struct mono began = sim_time(cluster->sim);

	stop_daemons(cluster, 4, 60000);
	if (!cluster_wait(cluster, 4, GOSSIPD_DEAD, limit_ms))
		return "one that hangs is not dead for all";
	*took_ms = mono_to_ms(mono_sub(sim_time(cluster->sim), began));
	report(cluster, "from the stop to the verdict", (double)*took_ms);
	return NULL;
}

#define config_one_that_hangs_is_dead_ten_seconds_later twenty_four
static const char *judge_one_that_hangs_is_dead_ten_seconds_later(struct cluster *cluster)
{
	const char *complaint = settle(cluster);
	int64_t took_ms = 0;

	if (!complaint)
		complaint = hang(cluster, &took_ms, 13000);
	return complaint ? complaint : took_ms < 10000 ? "it was not excused" : NULL;
}
SCENARIO(one_that_hangs_is_dead_ten_seconds_later)

/* kill -9 of the daemons on a node that goes on: its kernel refuses, and that costs no time. */
#define config_killed_daemons_are_known_as_soon_as_a_dead_node twenty_four
static const char *judge_killed_daemons_are_known_as_soon_as_a_dead_node(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	for (unsigned i = 0; i < 10 && !complaint; i++) {
		const struct cluster_node *node = &cluster->nodes[2 * i];

		run_ms(cluster, 3000 + 37 * i);
		sim_crash(cluster->sim, node->fdd);
		sim_crash(cluster->sim, node->gossipd);
		if (!cluster_wait(cluster, 2 * i, GOSSIPD_DEAD, 2500))
			complaint = "killed daemons are not dead for all after 2.5 s";
		cluster_restart(cluster, 2 * i);
	}
	return complaint;
}
SCENARIO(killed_daemons_are_known_as_soon_as_a_dead_node)

/* A link fails and heals while an observer's gossipd stands still: what its fdd found waits in a socket. */
#define config_old_findings_accuse_nobody_after_a_stall five
static const char *judge_old_findings_accuse_nobody_after_a_stall(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	for (unsigned i = 0; i < 40 && !complaint; i++) {
		unsigned n = i % 5;
		size_t seen = sim_lines(cluster->sim);

		sim_pause(cluster->sim, cluster->nodes[n].gossipd, mono_ms(6000));
		run_ms(cluster, 500);
		for (unsigned a = 0; a < 5; a++)
			sim_cut_one_way(cluster->sim, a, n, a != n);
		run_ms(cluster, 3000);
		sim_heal(cluster->sim);
		run_ms(cluster, 5000);
		if (sim_find(cluster->sim, seen, "*/gossipd", "suspect *"))
			complaint = "somebody was accused by an old finding";
	}
	return complaint;
}
SCENARIO(old_findings_accuse_nobody_after_a_stall)

#define config_gossipd_killed_and_restarted_is_no_failure five
static const char *judge_gossipd_killed_and_restarted_is_no_failure(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	for (unsigned i = 0; i < 20 && !complaint; i++) {
		unsigned process = cluster->nodes[i % 5].gossipd;

		sim_crash(cluster->sim, process);
		run_ms(cluster, 1000);
		sim_boot(cluster->sim, process);
		run_ms(cluster, 1000);
		complaint = cluster_views_equal(cluster);
	}
	return complaint ? complaint : nobody_died(cluster);
}
SCENARIO(gossipd_killed_and_restarted_is_no_failure)

#define config_fdd_killed_and_restarted_is_no_failure five
static const char *judge_fdd_killed_and_restarted_is_no_failure(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	for (unsigned i = 0; i < 20 && !complaint; i++) {
		unsigned process = cluster->nodes[i % 5].fdd;

		sim_crash(cluster->sim, process);
		run_ms(cluster, 3000);
		sim_boot(cluster->sim, process);
		run_ms(cluster, 3000);
		complaint = cluster_views_equal(cluster);
	}
	return complaint ? complaint : nobody_died(cluster);
}
SCENARIO(fdd_killed_and_restarted_is_no_failure)

#define config_a_rolling_restart_is_no_failure five
static const char *judge_a_rolling_restart_is_no_failure(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	for (unsigned i = 0; i < 5 && !complaint; i++) {
		cluster_leave(cluster, i);
		run_ms(cluster, 1000);
		if (!cluster_agrees(cluster, i, GOSSIPD_LEFT))
			return "one that left is not known to have left";
		sim_crash_host(cluster->sim, i);
		run_ms(cluster, 5000);
		cluster_restart(cluster, i);
		run_ms(cluster, 2000);
		complaint = cluster_views_equal(cluster);
	}
	if (!complaint && sim_count(cluster->sim, "*/gossipd", "suspect *") > 0)
		return "one that left was suspected";
	return complaint ? complaint : nobody_died(cluster);
}
SCENARIO(a_rolling_restart_is_no_failure)

/* ---- who observes whom */

static struct cluster_config thirty_two(void)
{
	struct cluster_config config = cluster_profile(32, GOSSIPD_BALANCED);

	config.late = 8;
	return config;
}

/* A node comes for the first time or again, leaves, or dies. */
static void change_somebody(struct cluster *cluster)
{
	unsigned n = (unsigned)rng_below(sim_rng(cluster->sim), cluster->config.nodes);

	if (!cluster_up(cluster, n) || cluster->nodes[n].left) {
		sim_crash_host(cluster->sim, n);
		cluster_restart(cluster, n);
	} else if (rng_chance(sim_rng(cluster->sim), 0.5)) {
		cluster_leave(cluster, n);
	} else {
		cluster_kill(cluster, n);
	}
}

/* Row 1 of the claims: "each monitors a subset of the others". */
#define config_every_member_has_exactly_its_observers_after_joins_leaves_and_crashes thirty_two
static const char *judge_every_member_has_exactly_its_observers_after_joins_leaves_and_crashes(
    struct cluster *cluster)
{
	const char *complaint;

	run_ms(cluster, 20000);
	complaint = cluster_observed(cluster);
	for (unsigned n = 24; n < 32 && !complaint; n++) {
		cluster_restart(cluster, n);
		run_ms(cluster, 6000);
		complaint = cluster_observed(cluster);
	}
	if (!complaint && sim_find(cluster->sim, 0, "*/gossipd", "suspect *"))
		complaint = "one that came was suspected";
	for (unsigned round = 0; round < 20 && !complaint; round++) {
		for (unsigned i = 0; i <= round % 4; i++) {
			change_somebody(cluster);
			run_ms(cluster, (int64_t)rng_below(sim_rng(cluster->sim), 1000));
		}
		/* Who was doubted sends to the doubter for half a minute. */
		run_ms(cluster, 35000);
		complaint = cluster_observed(cluster);
	}
	return complaint;
}
SCENARIO(every_member_has_exactly_its_observers_after_joins_leaves_and_crashes)

/* ---- partitions */

#define config_the_smaller_part_judges_nobody_and_all_agree_after_healing fifty
static const char *judge_the_smaller_part_judges_nobody_and_all_agree_after_healing(
    struct cluster *cluster)
{
	const char *complaint = settle(cluster);
	const uint64_t part = 0xfffff; /* n1 to n20 */

	if (complaint)
		return complaint;
	sim_partition(cluster->sim, part);
	run_ms(cluster, 20000);
	for (unsigned i = 0; i < 20; i++) {
		if (sim_find(cluster->sim, 0, sim_name(cluster->sim, cluster->nodes[i].gossipd),
			"dead *"))
			return sim_complain(cluster->sim, "n%u of the smaller part judged", i + 1);
	}
	for (unsigned i = 20; i < 50; i++) {
		if (cluster_state(cluster, i, 0) != GOSSIPD_DEAD)
			return sim_complain(cluster->sim, "n%u still believes in n1", i + 1);
	}
	sim_heal(cluster->sim);
	run_ms(cluster, 5000);
	return cluster_views_equal(cluster);
}
SCENARIO(the_smaller_part_judges_nobody_and_all_agree_after_healing)

#define config_two_halves_judge_nobody four
static const char *judge_two_halves_judge_nobody(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	if (complaint)
		return complaint;
	sim_partition(cluster->sim, 3);
	run_ms(cluster, 30000);
	return nobody_died(cluster);
}
SCENARIO(two_halves_judge_nobody)

#define config_one_that_hears_nothing_judges_nobody five
static const char *judge_one_that_hears_nothing_judges_nobody(struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	if (complaint)
		return complaint;
	for (unsigned a = 0; a < 4; a++)
		sim_cut_one_way(cluster->sim, a, 4, true);
	run_ms(cluster, 20000);
	if (!sim_find(cluster->sim, 0, "n5/gossipd", "isolated"))
		return "it does not know that it is isolated";
	return nobody_died(cluster);
}
SCENARIO(one_that_hears_nothing_judges_nobody)

#define config_one_that_is_not_heard_is_dead_until_it_is_heard_again five
static const char *judge_one_that_is_not_heard_is_dead_until_it_is_heard_again(
    struct cluster *cluster)
{
	const char *complaint = settle(cluster);

	if (complaint)
		return complaint;
	for (unsigned b = 0; b < 4; b++)
		sim_cut_one_way(cluster->sim, 4, b, true);
	run_ms(cluster, 3000);
	for (unsigned a = 0; a < 4; a++) {
		if (cluster_state(cluster, a, 4) != GOSSIPD_DEAD)
			return "one that nobody hears is not dead";
	}
	sim_heal(cluster->sim);
	if (!cluster_wait(cluster, 4, GOSSIPD_ALIVE, 3000))
		return "it is heard again, and not alive";
	return cluster_views_equal(cluster);
}
SCENARIO(one_that_is_not_heard_is_dead_until_it_is_heard_again)

/* ---- one who lies */

/* It gossips all the time, and so lies ten times a second to somebody. */
static struct cluster_config with_a_liar(void)
{
	struct cluster_config config = cluster_profile(12, GOSSIPD_BALANCED);

	config.liar = 5;
	config.gossipd.gossip = mono_ms(100);
	return config;
}

/* What the honest hold of the living, but of the liar, who may harm himself. */
static const char *nobody_is_slandered(struct cluster *cluster)
{
	for (size_t i = 0; i < sim_lines(cluster->sim); i++) {
		const struct sim_line *line = sim_line(cluster->sim, i);
		bool liar = line->process == cluster->nodes[cluster->config.liar - 1].gossipd;

		if (!liar && strstr(line->who, "/gossipd") &&
		    (strncmp(line->text, "dead ", 5) == 0 || strncmp(line->text, "left ", 5) == 0))
			return sim_complain(cluster->sim, "at %.3f s %s: %s", mono_to_s(line->at),
			    line->who, line->text);
	}
	return NULL;
}

static const char *live_with_a_liar(struct cluster *cluster, double loss)
{
	const char *complaint;

	cluster_links(cluster, &(struct sim_link){.loss = loss});
	run_ms(cluster, 120000);
	complaint = nobody_is_slandered(cluster);
	if (complaint)
		return complaint;
	/* And the truth is still found: a death, and a return with the store lost and the clock
	 * set back, which needs an incarnation that others tell. */
	cluster_kill(cluster, 7);
	for (unsigned a = 0; a < cluster->config.nodes; a++) {
		for (int i = 0; i < 100 && a != 7 && a + 1 != cluster->config.liar; i++) {
			if (cluster_state(cluster, a, 7) == GOSSIPD_DEAD)
				break;
			run_ms(cluster, 100);
		}
		if (a != 7 && a + 1 != cluster->config.liar &&
		    cluster_state(cluster, a, 7) != GOSSIPD_DEAD)
			return sim_complain(cluster->sim, "n%u does not know of a death", a + 1);
	}
	cluster->nodes[7].gossipd_stored = 0;
	cluster_restart(cluster, 7);
	run_ms(cluster, 5000);
	for (unsigned a = 0; a < cluster->config.nodes; a++) {
		for (unsigned b = 0; b < cluster->config.nodes; b++) {
			enum gossipd_state state = cluster_state(cluster, a, b);

			if (a + 1 != cluster->config.liar && b + 1 != cluster->config.liar &&
			    state != GOSSIPD_ALIVE && state != GOSSIPD_SUSPECT)
				return sim_complain(cluster->sim, "in the end n%u holds n%u for %s",
				    a + 1, b + 1, gossipd_state_name(state));
		}
	}
	return NULL;
}

#define config_one_who_lies_makes_nobody_dead_or_gone with_a_liar
static const char *judge_one_who_lies_makes_nobody_dead_or_gone(struct cluster *cluster)
{
	return live_with_a_liar(cluster, 0);
}
SCENARIO(one_who_lies_makes_nobody_dead_or_gone)

#define config_nor_does_he_at_10_percent_loss with_a_liar
static const char *judge_nor_does_he_at_10_percent_loss(struct cluster *cluster)
{
	return live_with_a_liar(cluster, 0.1);
}
SCENARIO(nor_does_he_at_10_percent_loss)

static struct cluster_config credulous(void)
{
	struct cluster_config config = with_a_liar();

	config.gossipd.witnesses = 1;
	return config;
}

#define config_a_liar_kills_among_the_credulous credulous
static const char *judge_a_liar_kills_among_the_credulous(struct cluster *cluster)
{
	return live_with_a_liar(cluster, 0);
}
SCENARIO(a_liar_kills_among_the_credulous)

/* ---- the coordinator */

static const char *kill_coordinators(struct cluster *cluster, unsigned times)
{
	int64_t worst = 0;
	const char *complaint = settle(cluster);

	for (unsigned i = 0; i < times && !complaint; i++) {
		int holder = cluster_holder(cluster);
		struct mono killed;

		if (holder < 0)
			return "nobody coordinates";
		killed = sim_time(cluster->sim);
		cluster_kill(cluster, (unsigned)holder);
		while (cluster_holder(cluster) < 0 && !sim_broken(cluster->sim)) {
			run_ms(cluster, 5);
			if (mono_sub(sim_time(cluster->sim), killed).ns > 5000000000)
				return "no new coordinator in five seconds";
		}
		killed = mono_sub(sim_time(cluster->sim), killed);
		worst = killed.ns > worst ? killed.ns : worst;
		run_ms(cluster, 500);
		cluster_restart(cluster, (unsigned)holder);
		run_ms(cluster, 3000 + (int64_t)rng_below(sim_rng(cluster->sim), 500));
	}
	report(cluster, "kill of the coordinator to the next, worst", (double)worst / 1e6);
	return complaint ? complaint : worst > 2600000000 ? "it took more than 2.6 s" : NULL;
}

#define config_the_next_coordinator_is_there_in_2600_ms five
static const char *judge_the_next_coordinator_is_there_in_2600_ms(struct cluster *cluster)
{
	return kill_coordinators(cluster, 20);
}
SCENARIO(the_next_coordinator_is_there_in_2600_ms)

static struct cluster_config doubtful_store(void)
{
	struct cluster_config config = cluster_defaults(5);

	config.doubt = 0.2;
	return config;
}

#define config_doubts_of_the_store_never_make_two_coordinators doubtful_store
static const char *judge_doubts_of_the_store_never_make_two_coordinators(struct cluster *cluster)
{
	const char *complaint = NULL;

	run_ms(cluster, 10000);
	for (unsigned i = 0; i < 60 && !complaint; i++) {
		int holder = cluster_holder(cluster);

		if (holder >= 0 && i % 3 == 0)
			sim_pause_host(cluster->sim, (unsigned)holder, mono_ms(3000));
		if (holder >= 0 && i % 3 == 1) {
			cluster_kill(cluster, (unsigned)holder);
			run_ms(cluster, 4000);
			cluster_restart(cluster, (unsigned)holder);
		}
		for (unsigned n = 0; n < 5 && i % 7 == 0; n++)
			sim_clock_rate(cluster->sim, n, n % 2 ? 1.01 : 0.99);
		run_ms(cluster, 5000);
	}
	run_ms(cluster, 10000);
	return cluster_holder(cluster) < 0 ? "nobody coordinates in the end" : NULL;
}
SCENARIO(doubts_of_the_store_never_make_two_coordinators)

/* ---- all at once */

static void some_fault(struct cluster *cluster)
{
	struct sim *sim = cluster->sim;
	struct rng *rng = sim_rng(sim);
	unsigned n = (unsigned)rng_below(rng, cluster->config.nodes);
	unsigned m = (unsigned)rng_below(rng, cluster->config.nodes);
	const struct cluster_node *node = &cluster->nodes[n];

	switch (rng_below(rng, 8)) {
	case 0:
		sim_crash_in(sim, node->gossipd, (unsigned)rng_below(rng, 20));
		break;
	case 1:
		sim_crash_in(sim, node->fdd, (unsigned)rng_below(rng, 20));
		break;
	case 2:
		cluster_kill(cluster, n);
		break;
	case 3:
		sim_pause_host(sim, n, mono_ms((int64_t)rng_below(rng, 5000)));
		break;
	case 4:
		sim_cut_one_way(sim, n, m, true);
		break;
	case 5:
		sim_partition(sim, rng_u64(rng) & rng_u64(rng));
		break;
	case 6:
		sim_heal(sim);
		break;
	case 7:
		sim_clock_rate(sim, n, 0.99 + 0.02 * rng_unit(rng));
		break;
	}
}

static void boot_all(struct cluster *cluster)
{
	for (unsigned i = 0; i < cluster->config.nodes; i++)
		cluster_restart(cluster, i);
}

static struct cluster_config chaotic(void)
{
	struct cluster_config config = cluster_defaults(9);

	config.doubt = 0.05;
	return config;
}

#define config_after_any_faults_all_agree_again chaotic
static const char *judge_after_any_faults_all_agree_again(struct cluster *cluster)
{
	const char *complaint = NULL;

	for (int round = 0; round < 10 && !complaint; round++) {
		cluster_links(
		    cluster, &(struct sim_link){.loss = 0.1, .duplicate = 0.05, .reorder = 0.1});
		for (int i = 0; i < 20; i++) {
			run_ms(cluster, (int64_t)rng_below(sim_rng(cluster->sim), 2000));
			some_fault(cluster);
			if (i % 5 == 4)
				boot_all(cluster);
		}
		sim_heal(cluster->sim);
		cluster_links(cluster, &cluster_lan);
		boot_all(cluster);
		run_ms(cluster, 6000);
		boot_all(cluster); /* who crashed at an action set before */
		run_ms(cluster, 6000);
		complaint = cluster_views_equal(cluster);
	}
	return complaint;
}
SCENARIO(after_any_faults_all_agree_again)

/* ---- do the checks check? */

static struct cluster_config hasty(void)
{
	struct cluster_config config = cluster_defaults(5);

	config.suspect_level = 0.05;
	config.gossipd.observers = 2;
	config.gossipd.confirm = mono_ms(1);
	return config;
}

#define config_hasty_judges_kill_the_living hasty
static const char *judge_hasty_judges_kill_the_living(struct cluster *cluster)
{
	return quiet_under(cluster, &(struct sim_link){.loss = 0.4}, 600000);
}
SCENARIO(hasty_judges_kill_the_living)

static uint64_t hash_of(uint64_t seed, struct sim **out)
{
	struct cluster_config config = chaotic();
	struct cluster *cluster = cluster_new(&config, seed);
	uint64_t hash;

	judge_after_any_faults_all_agree_again(cluster);
	hash = sim_hash(cluster->sim);
	*out = cluster->sim;
	cluster_free(cluster);
	return hash;
}

static const char *the_same_seed_gives_the_same_run(uint64_t seed, struct sim **out)
{
	uint64_t first = hash_of(seed, out);

	sim_free(*out);
	if (hash_of(seed, out) != first)
		return "two runs from one seed differ";
	sim_free(*out);
	if (hash_of(seed + 1, out) == first)
		return "two seeds give the same run";
	return NULL;
}

#define LIST(name)                                                                                 \
	{                                                                                          \
#name, name, false                                                                 \
	}

int main(int argc, char **argv)
{
	static const struct sim_scenario scenarios[] = {
	    LIST(one_death_of_three_is_known_in_1200_ms),
	    LIST(one_death_of_fifty_is_known_in_1500_ms),
	    LIST(at_20_percent_loss_a_death_is_known_in_4_s),
	    LIST(two_of_five_die_at_once),
	    LIST(a_third_of_fifty_die_at_once),
	    LIST(loss_of_20_percent_kills_nobody_of_fifty),
	    LIST(loss_of_20_percent_kills_nobody_of_three_in_two_hours),
	    LIST(bursts_of_loss_kill_nobody),
	    LIST(a_link_cut_between_two_of_five_kills_nobody),
	    LIST(a_stopped_node_comes_back_and_accuses_nobody),
	    LIST(stalled_observers_accuse_nobody),
	    LIST(one_that_stands_still_on_a_living_node_is_not_dead),
	    LIST(one_that_hangs_is_dead_ten_seconds_later),
	    LIST(killed_daemons_are_known_as_soon_as_a_dead_node),
	    LIST(old_findings_accuse_nobody_after_a_stall),
	    LIST(gossipd_killed_and_restarted_is_no_failure),
	    LIST(fdd_killed_and_restarted_is_no_failure),
	    LIST(a_rolling_restart_is_no_failure),
	    LIST(every_member_has_exactly_its_observers_after_joins_leaves_and_crashes),
	    LIST(the_smaller_part_judges_nobody_and_all_agree_after_healing),
	    LIST(two_halves_judge_nobody),
	    LIST(one_that_hears_nothing_judges_nobody),
	    LIST(one_that_is_not_heard_is_dead_until_it_is_heard_again),
	    LIST(one_who_lies_makes_nobody_dead_or_gone),
	    LIST(nor_does_he_at_10_percent_loss),
	    {"a_liar_kills_among_the_credulous", a_liar_kills_among_the_credulous, true},
	    LIST(the_next_coordinator_is_there_in_2600_ms),
	    LIST(doubts_of_the_store_never_make_two_coordinators),
	    LIST(after_any_faults_all_agree_again),
	    {"hasty_judges_kill_the_living", hasty_judges_kill_the_living, true},
	    LIST(the_same_seed_gives_the_same_run),
	    {0},
	};

	return sim_main(argc, argv, scenarios);
}
