/*
 * Scenarios of many clusters: what is known of the others, when they are cut off, and what it costs
 * at sixteen times the size (goal G1; scale.c has it at 1,000 and 10,000 nodes).
 */
#include <stdio.h>

#include "tests/sim/sites.h"

#define SCENARIO(name, sites_count, size)                                                          \
	static const char *judge_##name(struct sites *sites);                                      \
	static const char *name(uint64_t seed, struct sim **out)                                   \
	{                                                                                          \
		struct sites_config config = sites_defaults(sites_count, size, GOSSIPD_BALANCED);  \
		struct sites *sites = sites_new(&config, seed);                                    \
		const char *complaint = judge_##name(sites);                                       \
                                                                                                   \
		*out = sites->sim;                                                                 \
		if (sim_broken(sites->sim))                                                        \
			complaint = sim_broken(sites->sim);                                        \
		sites_free(sites);                                                                 \
		return complaint;                                                                  \
	}                                                                                          \
	static const char *judge_##name(struct sites *sites)

static void run_ms(struct sites *sites, int64_t ms)
{
	sim_run(sites->sim, mono_add_ms(sim_time(sites->sim), ms));
}

static const char *settle(struct sites *sites)
{
	run_ms(sites, 8000);
	for (unsigned b = 0; b < sites->count; b++) {
		if (!sites_agree(sites, b, GOSSIPD_ALIVE))
			return sim_complain(
			    sites->sim, "n%u is not alive for all after eight seconds", b + 1);
	}
	return NULL;
}

static unsigned a_gateway(const struct sites *sites, unsigned site, bool is)
{
	unsigned n = site * sites->config.size;

	while (!sim_running(sites->sim, n) || sites_is_gateway(sites, n) != is)
		n++;
	return n;
}

SCENARIO(a_failure_in_one_cluster_is_known_in_all, 3, 5)
{
	const char *complaint = settle(sites);

	if (complaint)
		return complaint;
	for (unsigned i = 0; i < 12; i++) {
		unsigned victim = (unsigned)rng_below(sim_rng(sites->sim), sites->count);

		if (sites_kill_and_wait(sites, victim, 6000) < 0)
			return sim_complain(
			    sites->sim, "n%u, killed, is not dead for all", victim + 1);
		sites_restart(sites, victim);
		run_ms(sites, 3000);
		if (!sites_agree(sites, victim, GOSSIPD_ALIVE))
			return sim_complain(
			    sites->sim, "n%u, restarted, is not alive for all", victim + 1);
	}
	return NULL;
}

SCENARIO(a_killed_gateway_is_replaced_and_its_death_is_known, 3, 6)
{
	const char *complaint = settle(sites);

	for (unsigned i = 0; !complaint && i < 2; i++) {
		if (sites_kill_and_wait(sites, a_gateway(sites, 1, true), 6000) < 0)
			complaint = "a gateway's death is not known to all";
		run_ms(sites, 1000);
	}
	if (!complaint && sites_kill_and_wait(sites, a_gateway(sites, 1, false), 6000) < 0)
		complaint = "a death is not known after the gateways have changed";
	return complaint;
}

SCENARIO(at_20_percent_loss_a_failure_is_known_in_all_and_no_cluster_is_unknown, 3, 5)
{
	struct sim_link lossy = {.delay = {100000}, .jitter = {100000}, .loss = 0.2};
	const char *complaint = settle(sites);

	sim_link_all(sites->sim, &lossy);
	run_ms(sites, 600000);
	if (!complaint && sim_find(sites->sim, 0, NULL, "site * unknown"))
		complaint = "a cluster is unknown, and nothing was cut";
	if (!complaint && sites_kill_and_wait(sites, 7, 15000) < 0)
		complaint = "a death is not known to all";
	return complaint;
}

/* Who is cut off knows nothing of the others, and they nothing of it; nobody is dead. */
SCENARIO(a_site_cut_off_is_unknown_until_it_is_healed_and_nobody_is_dead, 3, 5)
{
	const char *complaint = settle(sites);

	sites_cut(sites, 0, true);
	run_ms(sites, 30000);
	for (unsigned n = 0; !complaint && n < sites->count; n++) {
		for (unsigned site = 0; site < 3; site++) {
			bool cut = sites->nodes[n].site != site &&
				   (sites->nodes[n].site == 0 || site == 0);

			if (sites_unknown(sites, n, site) != cut)
				complaint = sim_complain(sites->sim, "n%u holds site %u for %s",
				    n + 1, site + 1, cut ? "known" : "unknown");
		}
	}
	sites_cut(sites, 0, false);
	run_ms(sites, 10000);
	for (unsigned n = 0; !complaint && n < sites->count; n++) {
		for (unsigned site = 0; site < 3; site++) {
			if (sites_unknown(sites, n, site))
				complaint = sim_complain(sites->sim,
				    "n%u holds site %u for unknown, healed", n + 1, site + 1);
		}
	}
	if (!complaint && sim_find(sites->sim, 0, NULL, "*dead*"))
		complaint = "somebody is dead, and nobody was killed";
	return complaint;
}

/* What happened meanwhile is known once the cut is healed. */
SCENARIO(what_died_behind_a_cut_is_known_when_it_is_healed, 3, 5)
{
	const char *complaint = settle(sites);

	sites_cut(sites, 2, true);
	run_ms(sites, 20000);
	sites_kill(sites, 11);
	sites_kill(sites, 1);
	run_ms(sites, 20000);
	if (!complaint && sites_state(sites, 0, 11) != GOSSIPD_ALIVE)
		complaint = "what was last known does not stay";
	sites_cut(sites, 2, false);
	run_ms(sites, 10000);
	if (!complaint &&
	    (!sites_agree(sites, 11, GOSSIPD_DEAD) || !sites_agree(sites, 1, GOSSIPD_DEAD)))
		complaint = "a death behind the cut is not known to all";
	return complaint;
}

/* All nodes of a site restart at once, and one of them stays away. */
SCENARIO(a_site_that_restarts_as_a_whole_is_known_again, 3, 5)
{
	const char *complaint = settle(sites);

	run_ms(sites, 60000);
	for (unsigned n = 5; n < 10; n++)
		sites_kill(sites, n);
	run_ms(sites, 30000);
	if (!complaint && !sites_unknown(sites, 0, 1))
		complaint = "a site without nodes is not unknown";
	for (unsigned n = 5; n < 9; n++)
		sites_restart(sites, n);
	run_ms(sites, 60000);
	for (unsigned n = 0; !complaint && n < sites->count; n++) {
		if (n != 9 && sites_unknown(sites, n, 1))
			complaint = sim_complain(sites->sim, "n%u does not hear it", n + 1);
	}
	for (unsigned n = 5; !complaint && n < 9; n++) {
		if (!sites_agree(sites, n, GOSSIPD_ALIVE))
			complaint = sim_complain(sites->sim, "n%u is not alive for all", n + 1);
	}
	return complaint;
}

/* As after a power cut everywhere.  Four nodes each behave towards other clusters as 24 do: what goes
 * wrong between 10,000 nodes is seen here in a minute (for `make soak`). */
SCENARIO(four_hundred_clusters_that_start_at_once_know_all_and_none_is_unknown, 417, 4)
{
	run_ms(sites, 20000);
	if (!sites_settled(sites))
		return "not all are known to all after 20 seconds";
	run_ms(sites, 130000);
	if (sim_find(sites->sim, 0, NULL, "site * unknown"))
		return "a cluster is unknown, and nothing was cut";
	return NULL;
}

/* ---- goal G1 in small */

static const char *sixteen_clusters_cost_a_node_what_one_does(uint64_t seed, struct sim **out)
{
	struct sites_cost one, sixteen;
	const char *complaint = sites_measure(1, 24, seed, 10, &one);

	if (!complaint)
		complaint = sites_measure(16, 24, seed, 10, &sixteen);
	*out = sim_new(seed, 1);
	if (complaint)
		return complaint;
	if (sixteen.bytes > 1.1 * one.bytes)
		return sim_complain(*out, "bytes grow by %.2f", sixteen.bytes / one.bytes);
	if (sixteen.time_ms > 1.3 * one.time_ms)
		return sim_complain(*out, "the time grows by %.2f", sixteen.time_ms / one.time_ms);
	return NULL;
}

int main(int argc, char **argv)
{
#define RUN(name)                                                                                  \
	{                                                                                          \
#name, name, false                                                                 \
	}
	return sim_main(argc, argv,
	    (struct sim_scenario[]){
		RUN(a_failure_in_one_cluster_is_known_in_all),
		RUN(a_killed_gateway_is_replaced_and_its_death_is_known),
		RUN(at_20_percent_loss_a_failure_is_known_in_all_and_no_cluster_is_unknown),
		RUN(a_site_cut_off_is_unknown_until_it_is_healed_and_nobody_is_dead),
		RUN(what_died_behind_a_cut_is_known_when_it_is_healed),
		RUN(a_site_that_restarts_as_a_whole_is_known_again),
		RUN(four_hundred_clusters_that_start_at_once_know_all_and_none_is_unknown),
		RUN(sixteen_clusters_cost_a_node_what_one_does),
		{0},
	    });
}
