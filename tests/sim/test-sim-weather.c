/*
 * A thousand node-hours of weather on 24 nodes in the balanced profile, an hour of the cluster for
 * each seed, and the cases that must fail.  See weather.h for what is judged.
 */
#include <stdio.h>

#include "tests/sim/weather.h"

static struct cluster_config balanced(void)
{
	struct cluster_config config = cluster_profile(24, GOSSIPD_BALANCED);

	config.gossipd.lease = mono_ms(10000);
	config.check_every = 16;
	return config;
}

/* Over all seeds. */
static struct weather_report weather_total, loss_total, heavy_total;

static const struct weather_config any_weather = {
    .length_ms = 3600000, .hard = true, .faults = true, .loss = -1};

static const char *hour(uint64_t seed, struct sim **out,
    const struct cluster_config *cluster_config, const struct weather_config *config,
    struct weather_report *report)
{
	struct cluster *cluster = cluster_new(cluster_config, seed);
	const char *complaint = weather_run(cluster, config, report);

	*out = cluster->sim;
	cluster_free(cluster);
	return complaint;
}

static const char *any_weather_is_borne(uint64_t seed, struct sim **out)
{
	struct cluster_config cluster = balanced();

	return hour(seed, out, &cluster, &any_weather, &weather_total);
}

/* Goal F5: nothing but loss, and nobody dies of it. */
static const char *loss_of_20_percent_kills_nobody(uint64_t seed, struct sim **out)
{
	static const struct weather_config config = {.length_ms = 3600000, .loss = 0.2};
	struct cluster_config cluster = balanced();

	cluster.gossipd.lease = MONO_ZERO; /* it has scenarios of its own */
	return hour(seed, out, &cluster, &config, &loss_total);
}

/* Goal F6: how many die of 40 % is counted, and is no fault. */
static const char *at_40_percent_loss_views_heal(uint64_t seed, struct sim **out)
{
	static const struct weather_config config = {
	    .length_ms = 1200000, .hard = true, .loss = 0.4};
	struct cluster_config cluster = balanced();

	cluster.gossipd.lease = MONO_ZERO; /* it has scenarios of its own */
	return hour(seed, out, &cluster, &config, &heavy_total);
}

/* ---- do the checks check? */

static const char *broken(uint64_t seed, struct sim **out, enum cluster_fault fault)
{
	struct cluster_config cluster = balanced();
	struct weather_report report = {0};

	cluster.fault = fault;
	return hour(seed, out, &cluster, &any_weather, &report);
}

/* Votes do not reach anybody: a death is never agreed about. */
static const char *without_gossip_a_death_stays_unknown(uint64_t seed, struct sim **out)
{
	return broken(seed, out, CLUSTER_NO_GOSSIP);
}

/* Rumours end before a partition does. */
static const char *without_pulls_views_stay_apart(uint64_t seed, struct sim **out)
{
	return broken(seed, out, CLUSTER_NO_PULLS);
}

static const char *without_a_store_an_incarnation_comes_twice(uint64_t seed, struct sim **out)
{
	return broken(seed, out, CLUSTER_NO_STORE);
}

/* Refutations arrive, and every other one is not read. */
static const char *the_deaf_judge_below_what_they_were_told(uint64_t seed, struct sim **out)
{
	return broken(seed, out, CLUSTER_DEAF);
}

/* Two observers, hardly more silence than an interval, and no time to refute. */
static const char *the_hasty_kill_the_living(uint64_t seed, struct sim **out)
{
	static const struct weather_config config = {.length_ms = 3600000, .loss = 0.4};
	struct cluster_config cluster = balanced();
	struct weather_report report = {0};

	cluster.suspect_level = 0.05;
	cluster.gossipd.observers = 2;
	cluster.gossipd.confirm = mono_ms(1);
	return hour(seed, out, &cluster, &config, &report);
}

/* ---- replay */

static uint64_t hash_of(uint64_t seed, struct sim **out)
{
	static const struct weather_config config = {
	    .length_ms = 600000, .hard = true, .faults = true, .loss = -1};
	struct cluster_config cluster = balanced();
	struct weather_report report = {0};

	sim_free(*out);
	hour(seed, out, &cluster, &config, &report);
	return sim_hash(*out);
}

static const char *the_same_seed_gives_the_same_weather(uint64_t seed, struct sim **out)
{
	uint64_t first = hash_of(seed, out);

	if (hash_of(seed, out) != first)
		return "two runs from one seed differ";
	return hash_of(seed + 1, out) == first ? "two seeds give the same run" : NULL;
}

/* ---- report */

static void print_report(const char *what, const struct weather_report *report)
{
	if (report->node_hours == 0)
		return;
	printf("# %s: %.1f node-hours, %llu faults, %llu suspicions, %llu verdicts, %llu false\n",
	    what, report->node_hours, (unsigned long long)report->faults,
	    (unsigned long long)report->suspicions, (unsigned long long)report->verdicts,
	    (unsigned long long)report->false_verdicts);
	if (report->settled > 0)
		printf(
		    "# %s: after %llu faults all agreed within %.2f s on average, %.2f s at worst of "
		    "%.2f s\n",
		    what, (unsigned long long)report->settled,
		    report->settle_sum_s / (double)report->settled, report->settle_max_s,
		    report->bound_s);
}

static void print_goal(void)
{
	bool met = loss_total.false_verdicts == 0 && loss_total.node_hours >= 1000;

	if (loss_total.node_hours > 0)
		printf("# goal F5sim: %llu false verdicts in %.0f node-hours (0 in 1000) %s\n",
		    (unsigned long long)loss_total.false_verdicts, loss_total.node_hours,
		    met ? "met" : "missed");
}

#define LIST(name, must_fail)                                                                      \
	{                                                                                          \
#name, name, must_fail                                                             \
	}

int main(int argc, char **argv)
{
	static const struct sim_scenario scenarios[] = {
	    LIST(any_weather_is_borne, false),
	    LIST(loss_of_20_percent_kills_nobody, false),
	    LIST(at_40_percent_loss_views_heal, false),
	    LIST(without_gossip_a_death_stays_unknown, true),
	    LIST(without_pulls_views_stay_apart, true),
	    LIST(without_a_store_an_incarnation_comes_twice, true),
	    LIST(the_deaf_judge_below_what_they_were_told, true),
	    LIST(the_hasty_kill_the_living, true),
	    LIST(the_same_seed_gives_the_same_weather, false),
	    {0},
	};
	int rc = sim_main(argc, argv, scenarios);

	print_report("weather", &weather_total);
	print_report("20 % loss", &loss_total);
	print_report("40 % loss", &heavy_total);
	print_goal();
	return rc;
}
