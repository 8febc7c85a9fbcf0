/*
 * What the three profiles cost and find, on 24 nodes: the goals F4 to F7 and G2 against the figures that
 * were measured of serf (24 agents, the same loss), in simulated time and computed bytes.  bench/
 * measures the daemons themselves beside serf.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/membership.h"

enum {
	NODES = 24,
	KILLS = 15,
};

/* serf 0.9.4, 24 agents: kill to all agree, and encrypted bytes a second for each agent. */
static const double serf_s = 7.57, serf_bytes = 475, serf_lossy_s = 6.9, serf_lossy_bytes = 1589;
static const double serf_false_per_hour = 2 / (24 * 1.5 / 60); /* at 40 % loss */

struct figures {
	double agree_s; /* median */
	double worst_s;
	double bytes; /* a second for each node, nobody dying */
	double false_per_hour;
};

static void run_ms(struct cluster *cluster, int64_t ms)
{
	sim_run(cluster->sim, mono_add_ms(sim_time(cluster->sim), ms));
}

static bool goal(const char *id, const char *what, double value, double limit, const char *unit)
{
	printf("# goal %s: %s %.3g%s (%.3g%s) %s\n", id, what, value, unit, limit, unit,
	    value <= limit ? "met" : "missed");
	return value <= limit;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Verdicts of anybody against one who lives. */
static size_t false_verdicts(const struct cluster *cluster)
{
	return sim_count(cluster->sim, "*/gossipd", "dead *");
}

static const char *measure(
    struct cluster *cluster, double loss, int64_t quiet_s, unsigned kills, struct figures *figures)
{
	double times[KILLS];
	uint64_t before;

	run_ms(cluster, 10000);
	cluster_links(cluster, &(struct sim_link){.loss = loss});
	run_ms(cluster, 20000);
	before = cluster->wire_bytes;
	run_ms(cluster, quiet_s * 1000);
	figures->bytes = (double)(cluster->wire_bytes - before) / (double)quiet_s / NODES;
	figures->false_per_hour =
	    (double)false_verdicts(cluster) / ((double)(quiet_s + 20) / 3600 * NODES);
	for (unsigned i = 0; i < kills; i++) {
		unsigned victim = (unsigned)rng_below(sim_rng(cluster->sim), NODES);
		struct mono killed;

		run_ms(cluster, 6000 + (int64_t)rng_below(sim_rng(cluster->sim), 1000));
		killed = sim_time(cluster->sim);
		cluster_kill(cluster, victim);
		if (!cluster_wait(cluster, victim, GOSSIPD_DEAD, 30000))
			return sim_complain(
			    cluster->sim, "n%u is not dead for all after 30 s", victim + 1);
		times[i] = mono_to_s(mono_sub(sim_time(cluster->sim), killed));
		cluster_restart(cluster, victim);
		if (!cluster_wait(cluster, victim, GOSSIPD_ALIVE, 10000))
			return sim_complain(cluster->sim, "n%u does not come back", victim + 1);
	}
	qsort(times, kills, sizeof(times[0]), ascending);
	figures->agree_s = kills > 0 ? times[kills / 2] : 0;
	figures->worst_s = kills > 0 ? times[kills - 1] : 0;
	return sim_broken(cluster->sim);
}

static const char *profile_at(uint64_t seed, enum gossipd_profile profile, double loss,
    int64_t quiet_s, unsigned kills, struct figures *figures, struct sim **out)
{
	struct cluster_config config = cluster_profile(NODES, profile);
	struct cluster *cluster = cluster_new(&config, seed);
	const char *complaint = measure(cluster, loss, quiet_s, kills, figures);

	*out = cluster->sim;
	printf("# loss %.0f %%: kill to all agree %.2f s, worst %.2f s; %.0f B/s a node; false "
	       "verdicts %.2f in a node-hour\n",
	    100 * loss, figures->agree_s, figures->worst_s, figures->bytes,
	    figures->false_per_hour);
	cluster_free(cluster);
	return complaint;
}

/* ---- F4: no loss */

static const char *lossless(uint64_t seed, enum gossipd_profile profile, const char *name,
    double time_limit, double bytes_limit, struct sim **out)
{
	struct figures figures;
	const char *complaint = profile_at(seed, profile, 0, 120, KILLS, &figures, out);
	bool met;

	if (complaint)
		return complaint;
	met = goal("F4", name, figures.agree_s, time_limit * serf_s, " s");
	if (bytes_limit > 0)
		met = goal("F4", name, figures.bytes, bytes_limit * serf_bytes, " B/s") && met;
	return met ? NULL : "a goal is missed";
}

static const char *fast_finds_a_death_in_015_of_serfs_time(uint64_t seed, struct sim **out)
{
	return lossless(seed, GOSSIPD_FAST, "fast", 0.15, 0, out);
}

static const char *balanced_finds_a_death_in_035_of_serfs_time(uint64_t seed, struct sim **out)
{
	return lossless(seed, GOSSIPD_BALANCED, "balanced", 0.35, 2.0, out);
}

static const char *economy_finds_a_death_in_half_of_serfs_time(uint64_t seed, struct sim **out)
{
	return lossless(seed, GOSSIPD_ECONOMY, "economy", 0.5, 0.7, out);
}

/* ---- F5, F6: loss */

static const char *balanced_at_20_percent_loss(uint64_t seed, struct sim **out)
{
	struct figures figures;
	const char *complaint = profile_at(seed, GOSSIPD_BALANCED, 0.2, 600, KILLS, &figures, out);
	bool met;

	if (complaint)
		return complaint;
	met = goal("F5", "time", figures.agree_s, 0.4 * serf_lossy_s, " s");
	met &= goal("F5", "traffic", figures.bytes, 0.8 * serf_lossy_bytes, " B/s");
	met &= goal("F5", "false verdicts", figures.false_per_hour, 0, " in a node-hour");
	return met ? NULL : "a goal is missed";
}

static const char *balanced_at_40_percent_loss(uint64_t seed, struct sim **out)
{
	struct figures figures;
	const char *complaint = profile_at(seed, GOSSIPD_BALANCED, 0.4, 600, 0, &figures, out);

	if (complaint)
		return complaint;
	return goal("F6", "false verdicts", figures.false_per_hour, 0.1 * serf_false_per_hour,
		   " in a node-hour")
		   ? NULL
		   : "a goal is missed";
}

/* ---- F7: nodes that stand still for some seconds, as with SIGSTOP */

static const char *stall_many(struct cluster *cluster)
{
	const unsigned stalls = 60;
	unsigned flaps = 0, accusations = 0;

	run_ms(cluster, 10000);
	for (unsigned i = 0; i < stalls && !sim_broken(cluster->sim); i++) {
		unsigned n = (unsigned)rng_below(sim_rng(cluster->sim), NODES);
		struct mono begin = sim_time(cluster->sim);
		int64_t ms = 1000 + (int64_t)rng_below(sim_rng(cluster->sim), 4000);

		sim_pause_host(cluster->sim, n, mono_ms(ms));
		run_ms(cluster, ms + 5000);
		flaps += sim_find_after(cluster->sim, begin, "*/gossipd", "dead *") != NULL;
		accusations +=
		    sim_find_after(cluster->sim, begin,
			sim_name(cluster->sim, cluster->nodes[n].gossipd), "dead *") != NULL;
	}
	printf("# %u of %u stalls of 1 to 5 s became a verdict\n", flaps, stalls);
	return goal("F7", "verdicts of those who stood still", accusations, 0, "")
		   ? sim_broken(cluster->sim)
		   : "one that stood still judged";
}

static const char *one_that_stood_still_accuses_nobody(uint64_t seed, struct sim **out)
{
	struct cluster_config config = cluster_profile(NODES, GOSSIPD_BALANCED);
	struct cluster *cluster = cluster_new(&config, seed);
	const char *complaint = stall_many(cluster);

	*out = cluster->sim;
	cluster_free(cluster);
	return complaint;
}

/* ---- G2 */

static bool all_equal(struct cluster *cluster, int64_t limit_ms, double *took_s)
{
	struct mono begin = sim_time(cluster->sim);
	struct mono limit = mono_add_ms(begin, limit_ms);

	while (cluster_views_equal(cluster)) {
		if (mono_due(limit, sim_time(cluster->sim)) || sim_broken(cluster->sim))
			return false;
		run_ms(cluster, 20);
	}
	*took_s = mono_to_s(mono_sub(sim_time(cluster->sim), begin));
	return true;
}

/* The period of synchronization is that of quiet gossip. */
static const char *heal_and_return(struct cluster *cluster)
{
	double period_s = mono_to_s(cluster->config.gossipd.gossip), took_s;
	bool met;

	run_ms(cluster, 10000);
	sim_partition(cluster->sim, 0x3ff);
	run_ms(cluster, 60000);
	if (cluster_state(cluster, 23, 0) != GOSSIPD_DEAD)
		return "the larger part did not judge the smaller one";
	sim_heal(cluster->sim);
	if (!all_equal(cluster, 60000, &took_s))
		return "views differ a minute after healing";
	met = goal("G2", "views equal after a partition of 60 s", took_s, 2 * period_s, " s");
	/* Crashed, held for dead, and back with its store lost. */
	cluster_kill(cluster, 3);
	if (!cluster_wait(cluster, 3, GOSSIPD_DEAD, 10000))
		return "a death is not known";
	cluster->nodes[3].gossipd_stored = 0;
	cluster->nodes[3].clock_set_back = true;
	cluster->nodes[3].highest = 0; /* which the invariants of the run would else miss */
	cluster_restart(cluster, 3);
	if (!all_equal(cluster, 60000, &took_s))
		return "one with a stale incarnation does not come back";
	met &= goal("G2", "alive everywhere with a stale incarnation", took_s, 2, " s");
	return met ? NULL : "a goal is missed";
}

static const char *views_are_equal_again_after_a_partition_and_a_stale_return(
    uint64_t seed, struct sim **out)
{
	struct cluster_config config = cluster_profile(NODES, GOSSIPD_BALANCED);
	struct cluster *cluster = cluster_new(&config, seed);
	const char *complaint = heal_and_return(cluster);

	*out = cluster->sim;
	cluster_free(cluster);
	return complaint;
}

#define LIST(name)                                                                                 \
	{                                                                                          \
#name, name, false                                                                 \
	}

int main(int argc, char **argv)
{
	static const struct sim_scenario scenarios[] = {
	    LIST(fast_finds_a_death_in_015_of_serfs_time),
	    LIST(balanced_finds_a_death_in_035_of_serfs_time),
	    LIST(economy_finds_a_death_in_half_of_serfs_time),
	    LIST(balanced_at_20_percent_loss),
	    LIST(balanced_at_40_percent_loss),
	    LIST(one_that_stood_still_accuses_nobody),
	    LIST(views_are_equal_again_after_a_partition_and_a_stale_return),
	    {0},
	};

	return sim_main(argc, argv, scenarios);
}
