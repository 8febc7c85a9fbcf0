#include "tests/sim/weather.h"

#include <string.h>

enum {
	PENDING_MAX = 256,
};

struct weather;

/* What will end a fault. */
struct pending {
	int64_t at;
	void (*end)(struct weather *weather, unsigned node);
	unsigned node;
};

struct weather {
	struct cluster *cluster;
	const struct weather_config *config;
	struct weather_report *report;
	struct rng rng;
	int64_t bound;
	bool hard;                    /* this spell may kill somebody who lives */
	bool gone[CLUSTER_MAX];       /* down on purpose, or left */
	int64_t excused[CLUSTER_MAX]; /* who is judged until then has deserved it */
	int64_t hard_until;           /* and for some time after it */
	int64_t rough;      /* a fault other than a node's death is under way until then */
	int64_t disturbed;  /* the last change of any kind */
	int64_t cut_until;  /* the network is cut somewhere */
	uint64_t part;      /* that a partition cuts off; 0: only links are cut */
	bool unsettled;     /* since then */
	unsigned differ[2]; /* the first whose view was not true, and of whom */
	unsigned pending_count;
	struct pending pending[PENDING_MAX];
};

/* ---- time and chance */

static int64_t now(const struct weather *weather)
{
	return sim_time(weather->cluster->sim).ns;
}

static int64_t seconds(double s)
{
	return (int64_t)(s * 1e9);
}

static double between(struct weather *weather, double low, double high)
{
	return low + (high - low) * rng_unit(&weather->rng);
}

static bool chance(struct weather *weather, double probability)
{
	return rng_chance(&weather->rng, probability);
}

static unsigned below(struct weather *weather, unsigned limit)
{
	return (unsigned)rng_below(&weather->rng, limit);
}

static unsigned nodes(const struct weather *weather)
{
	return weather->cluster->config.nodes;
}

static void later(struct weather *weather, int64_t at,
    void (*end)(struct weather *weather, unsigned node), unsigned node)
{
	if (weather->pending_count < PENDING_MAX)
		weather->pending[weather->pending_count++] = (struct pending){at, end, node};
	else
		end(weather, node);
}

/* A fault until then; views may differ, and some time after it. */
static void disturb(struct weather *weather, int64_t until)
{
	weather->disturbed = now(weather) > weather->disturbed ? now(weather) : weather->disturbed;
	if (until > weather->rough)
		weather->rough = until;
	weather->unsettled = true;
}

static void excuse(struct weather *weather, unsigned node, int64_t until)
{
	if (weather->excused[node] < until + weather->bound)
		weather->excused[node] = until + weather->bound;
}

/* One that runs, with no fault of its own; nodes() for none. */
static unsigned pick(struct weather *weather)
{
	for (unsigned tries = 0; tries < 50; tries++) {
		unsigned node = below(weather, nodes(weather));

		if (!weather->gone[node] && cluster_up(weather->cluster, node) &&
		    weather->excused[node] < now(weather))
			return node;
	}
	return nodes(weather);
}

static unsigned gone_count(const struct weather *weather)
{
	unsigned count = 0;

	for (unsigned i = 0; i < nodes(weather); i++)
		count += weather->gone[i];
	return count;
}

/* ---- faults of nodes */

static void return_node(struct weather *weather, unsigned node)
{
	struct cluster_node *who = &weather->cluster->nodes[node];

	if (chance(weather, 0.3))
		who->fdd_stored = who->gossipd_stored = 0;
	cluster_restart(weather->cluster, node);
	weather->gone[node] = false;
	excuse(weather, node, now(weather));
	disturb(weather, 0);
}

static void kill_node(struct weather *weather)
{
	unsigned node = pick(weather);

	if (node == nodes(weather) || 3 * gone_count(weather) >= nodes(weather))
		return;
	cluster_kill(weather->cluster, node);
	weather->gone[node] = true;
	later(weather, now(weather) + seconds(between(weather, 3, 90)), return_node, node);
	disturb(weather, 0);
}

static void kill_many(struct weather *weather)
{
	for (unsigned count = 2 + below(weather, 3); count > 0; count--)
		kill_node(weather);
}

static void stop_leaver(struct weather *weather, unsigned node)
{
	cluster_kill(weather->cluster, node);
	disturb(weather, 0);
}

static void leave(struct weather *weather)
{
	unsigned node = pick(weather);

	if (node == nodes(weather) || 3 * gone_count(weather) >= nodes(weather))
		return;
	cluster_leave(weather->cluster, node);
	weather->gone[node] = true;
	later(weather, now(weather) + seconds(2), stop_leaver, node);
	later(weather, now(weather) + seconds(between(weather, 5, 60)), return_node, node);
	disturb(weather, 0);
}

static void revive(struct weather *weather, unsigned node, unsigned process)
{
	struct sim *sim = weather->cluster->sim;

	/* One that was to die between two of its actions, and had none. */
	if (sim_running(sim, process))
		sim_crash(sim, process);
	sim_boot(sim, process);
	excuse(weather, node, now(weather));
	disturb(weather, 0);
}

static void revive_fdd(struct weather *weather, unsigned node)
{
	revive(weather, node, weather->cluster->nodes[node].fdd);
}

static void revive_gossipd(struct weather *weather, unsigned node)
{
	revive(weather, node, weather->cluster->nodes[node].gossipd);
}

static void crash_daemon(struct weather *weather)
{
	unsigned node = pick(weather);
	bool fdd = chance(weather, 0.5);
	int64_t until = now(weather) + seconds(between(weather, 0.1, 5));
	unsigned process;

	if (node == nodes(weather))
		return;
	process = fdd ? weather->cluster->nodes[node].fdd : weather->cluster->nodes[node].gossipd;
	sim_crash_in(weather->cluster->sim, process, below(weather, 8));
	later(weather, until, fdd ? revive_fdd : revive_gossipd, node);
	excuse(weather, node, until);
	disturb(weather, until);
}

static void stall(struct weather *weather)
{
	double length = chance(weather, 0.5) ? between(weather, 0.05, 2) : between(weather, 2, 20);
	unsigned node = pick(weather);
	struct sim *sim = weather->cluster->sim;
	int64_t until = now(weather) + seconds(length);

	if (node == nodes(weather))
		return;
	if (chance(weather, 0.5))
		sim_pause_host(sim, node, mono_ns(seconds(length)));
	else
		sim_pause(sim,
		    chance(weather, 0.5) ? weather->cluster->nodes[node].fdd
					 : weather->cluster->nodes[node].gossipd,
		    mono_ns(seconds(length)));
	excuse(weather, node, until);
	disturb(weather, until);
}

static void change_clock(struct weather *weather)
{
	sim_clock_rate(
	    weather->cluster->sim, below(weather, nodes(weather)), between(weather, 0.99, 1.01));
}

/* ---- faults of the network; one at a time */

static void heal(struct weather *weather, unsigned node)
{
	(void)node;
	sim_note(weather->cluster->sim, "no link is cut");
	sim_heal(weather->cluster->sim);
	disturb(weather, 0);
}

static void cut_until(struct weather *weather)
{
	int64_t until = now(weather) + seconds(between(weather, 2, 90));

	later(weather, until, heal, 0);
	disturb(weather, until);
	weather->cut_until = until;
	weather->part = 0;
}

/* At most half. */
static uint64_t draw_part(struct weather *weather)
{
	uint64_t part = 0;

	for (unsigned i = 1 + below(weather, nodes(weather) / 2); i > 0; i--)
		part |= (uint64_t)1 << below(weather, nodes(weather));
	return part;
}

/* Who is in the smaller part may be held for dead by the larger one.  When deaths and stalls outside
 * leave no larger one, all may. */
static void excuse_parts(struct weather *weather)
{
	unsigned inside = 0, outside = 0;

	if (now(weather) >= weather->cut_until || weather->part == 0)
		return;
	for (unsigned i = 0; i < nodes(weather); i++) {
		if (weather->part >> i & 1)
			inside += !weather->gone[i];
		else
			outside += !weather->gone[i] && weather->excused[i] < now(weather);
	}
	for (unsigned i = 0; i < nodes(weather); i++) {
		if (inside >= outside || (weather->part >> i & 1))
			excuse(weather, i, weather->cut_until);
	}
}

static void partition(struct weather *weather)
{
	cut_until(weather);
	weather->part = draw_part(weather);
	sim_note(weather->cluster->sim, "partition %016llx", (unsigned long long)weather->part);
	sim_partition(weather->cluster->sim, weather->part);
}

/* The part is not heard by the others, or does not hear them: either way nothing that needs an answer
 * gets there, so it may be held for dead.  The others may not. */
static void partition_one_way(struct weather *weather)
{
	bool mute = chance(weather, 0.5);
	uint64_t part = draw_part(weather);

	cut_until(weather);
	weather->part = part;
	sim_note(weather->cluster->sim, "%016llx %s", (unsigned long long)part,
	    mute ? "is not heard" : "hears nothing");
	for (unsigned a = 0; a < nodes(weather); a++) {
		for (unsigned b = 0; b < nodes(weather); b++) {
			if ((part >> a & 1) == mute && (part >> b & 1) != mute)
				sim_cut_one_way(weather->cluster->sim, a, b, true);
		}
	}
}

/* Neighbours in a random order, so that each node loses one link at most. */
static void cut_links(struct weather *weather)
{
	unsigned first = below(weather, nodes(weather)),
		 count = 1 + below(weather, nodes(weather) / 4);

	cut_until(weather);
	for (unsigned i = 0; i < count; i++) {
		unsigned a = (first + 2 * i) % nodes(weather), b = (a + 1) % nodes(weather);

		sim_note(weather->cluster->sim, "no link from n%u to n%u", a + 1, b + 1);
		sim_cut_one_way(weather->cluster->sim, a, b, true);
		if (chance(weather, 0.5))
			sim_cut_one_way(weather->cluster->sim, b, a, true);
	}
}

static const struct {
	void (*begin)(struct weather *weather);
	unsigned weight;
	bool network;
} faults[] = {
    {kill_node, 6, false},
    {kill_many, 2, false},
    {leave, 2, false},
    {crash_daemon, 4, false},
    {stall, 5, false},
    {change_clock, 2, false},
    {partition, 2, true},
    {partition_one_way, 2, true},
    {cut_links, 3, true},
};

static void some_fault(struct weather *weather)
{
	unsigned sum = 0, at;
	size_t kind = 0;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sum += faults[i].weight;
	at = below(weather, sum);
	while (at >= faults[kind].weight)
		at -= faults[kind++].weight;
	if (faults[kind].network && now(weather) < weather->cut_until)
		return;
	weather->report->faults++;
	faults[kind].begin(weather);
	excuse_parts(weather);
}

/* ---- spells */

static struct sim_link draw_link(struct weather *weather)
{
	struct sim_link link = cluster_lan;

	if (chance(weather, 0.7))
		link.loss = between(weather, 0, 0.2);
	if (chance(weather, 0.3)) {
		link.delay.ns = seconds(between(weather, 0.001, 0.15));
		link.jitter.ns = seconds(between(weather, 0.0001, 0.03));
	}
	if (chance(weather, 0.3))
		link.duplicate = between(weather, 0, 0.2);
	if (chance(weather, 0.3))
		link.reorder = between(weather, 0, 0.2);
	return link;
}

/* Bursts of five to twenty datagrams, or more loss than is promised to be borne. */
static void make_hard(struct weather *weather, struct sim_link *link)
{
	if (chance(weather, 0.5)) {
		link->burst_enter = between(weather, 0.005, 0.03);
		link->burst_leave = between(weather, 0.05, 0.2);
		link->burst_loss = between(weather, 0.5, 1);
	} else {
		link->loss = between(weather, 0.2, 0.45);
	}
}

/* Each direction of each link loses and delays in its own way, none more than the common one. */
static void make_uneven(struct weather *weather, const struct sim_link *common)
{
	for (unsigned a = 0; a < nodes(weather); a++) {
		for (unsigned b = 0; b < nodes(weather); b++) {
			struct sim_link *link = sim_link(weather->cluster->sim, a, b);

			link->loss = between(weather, 0, common->loss);
			link->delay.ns = seconds(between(weather, 0, mono_to_s(common->delay)));
		}
	}
}

static void begin_spell(struct weather *weather)
{
	struct sim_link link = draw_link(weather);
	bool was_hard = weather->hard;

	weather->hard = weather->config->hard && chance(weather, 0.3);
	if (weather->config->loss >= 0)
		link = (struct sim_link){.loss = weather->config->loss};
	if (weather->hard)
		make_hard(weather, &link);
	sim_note(weather->cluster->sim,
	    "%s spell: loss %.2f, bursts %.3f/%.2f/%.2f, delay %.1f ms, jitter %.1f ms, twice %.2f, reordered %.2f",
	    weather->hard ? "hard" : "fair", link.loss, link.burst_enter, link.burst_leave,
	    link.burst_loss, (double)link.delay.ns / 1e6, (double)link.jitter.ns / 1e6,
	    link.duplicate, link.reorder);
	cluster_links(weather->cluster, &link);
	if (weather->config->loss < 0 && chance(weather, 0.3))
		make_uneven(weather, &link);
	if (was_hard && !weather->hard)
		weather->hard_until = now(weather) + weather->bound;
	disturb(weather, 0);
}

/* ---- judgement */

/*
 * Worst silence before a vote: the estimator promises at most twice its normal prediction after
 * any outage; the level is reached at (1 + sl) / (1 - sl) predictions.  Votes are told again and
 * again until they have gathered, and a majority stands for the confirmation time; when observers died
 * with the subject they are replaced first, and others must find the silence.  Who misses the verdict
 * finds the difference with the next datagrams of gossip, and pulls.
 */
struct mono weather_bound(const struct cluster_config *config)
{
	const struct gossipd_config *gossipd = &config->gossipd;
	double level = config->suspect_level;
	double silence = 2 * mono_to_s(config->interval) * (1 + level) / (1 - level);
	double votes = 5 * mono_to_s(gossipd->tell) + mono_to_s(gossipd->confirm);

	return mono_ns(seconds(
	    2 * (silence + votes) + mono_to_s(gossipd->linger) + mono_to_s(gossipd->gossip)));
}

static enum gossipd_state truth(const struct weather *weather, unsigned node)
{
	if (weather->cluster->nodes[node].left)
		return GOSSIPD_LEFT;
	return weather->gone[node] ? GOSSIPD_DEAD : GOSSIPD_ALIVE;
}

/* Do all who run hold what is true?  A suspicion is no verdict. */
static bool settled(struct weather *weather)
{
	for (unsigned a = 0; a < nodes(weather); a++) {
		if (weather->gone[a])
			continue;
		for (unsigned b = 0; b < nodes(weather); b++) {
			enum gossipd_state state = cluster_state(weather->cluster, a, b);

			if (state == GOSSIPD_SUSPECT)
				state = GOSSIPD_ALIVE;
			if (state != truth(weather, b)) {
				weather->differ[0] = a;
				weather->differ[1] = b;
				return false;
			}
		}
	}
	return true;
}

static const char *judge_verdict(
    struct cluster *cluster, const struct cluster_verdict *verdict, void *argument)
{
	struct weather *weather = argument;
	const struct cluster_node *subject = &cluster->nodes[verdict->subject];

	if (!cluster_up(cluster, verdict->subject) ||
	    weather->excused[verdict->subject] >= now(weather) || weather->gone[verdict->subject] ||
	    verdict->incarnation < subject->gossipd_stored)
		return NULL;
	weather->report->false_verdicts += verdict->own;
	if (weather->hard || weather->hard_until > now(weather))
		return NULL;
	return sim_complain(cluster->sim, "n%u holds n%u for dead, and it deserves no verdict",
	    verdict->judge + 1, verdict->subject + 1);
}

/* After each step of time: NULL, or who is not agreed about in time. */
static const char *judge_views(struct weather *weather)
{
	int64_t since = weather->rough > weather->disturbed ? weather->rough : weather->disturbed;
	double took = (double)(now(weather) - since) / 1e9;
	struct weather_report *report = weather->report;

	if (!weather->unsettled || now(weather) < since)
		return NULL;
	if (settled(weather)) {
		weather->unsettled = false;
		report->settled++;
		report->settle_sum_s += took;
		if (!weather->hard && took > report->settle_max_s)
			report->settle_max_s = took;
		return NULL;
	}
	if (weather->hard || weather->hard_until > now(weather) ||
	    now(weather) < since + weather->bound)
		return NULL;
	return sim_complain(weather->cluster->sim,
	    "%.1f s after the last fault n%u holds n%u for %s", took, weather->differ[0] + 1,
	    weather->differ[1] + 1,
	    gossipd_state_name(
		cluster_state(weather->cluster, weather->differ[0], weather->differ[1])));
}

/* ---- the run */

static void end_due(struct weather *weather)
{
	for (unsigned i = 0; i < weather->pending_count;) {
		struct pending due = weather->pending[i];

		if (due.at > now(weather)) {
			i++;
			continue;
		}
		weather->pending[i] = weather->pending[--weather->pending_count];
		due.end(weather, due.node);
	}
}

static const char *step(struct weather *weather)
{
	sim_run(weather->cluster->sim, mono_ns(now(weather) + seconds(0.1)));
	if (sim_broken(weather->cluster->sim))
		return sim_broken(weather->cluster->sim);
	end_due(weather);
	return judge_views(weather);
}

static const char *blow(struct weather *weather)
{
	int64_t end = now(weather) + weather->config->length_ms * 1000000;
	int64_t spell_at = now(weather), fault_at = now(weather) + seconds(10);
	const char *complaint = NULL;

	while (!complaint && now(weather) < end) {
		if (now(weather) >= spell_at) {
			begin_spell(weather);
			spell_at += seconds(between(weather, 120, 1200));
		}
		if (weather->config->faults && now(weather) >= fault_at) {
			some_fault(weather);
			fault_at += seconds(between(weather, 2, 60));
		}
		complaint = step(weather);
	}
	return complaint;
}

static const char *calm_down(struct weather *weather)
{
	const char *complaint = NULL;
	int64_t end;

	weather->hard_until = weather->hard ? now(weather) + weather->bound : weather->hard_until;
	weather->hard = false;
	cluster_links(weather->cluster, &cluster_lan);
	while (!complaint && (weather->pending_count > 0 || now(weather) < weather->rough))
		complaint = step(weather);
	end = now(weather) + 2 * weather->bound;
	while (!complaint && now(weather) < end)
		complaint = step(weather);
	return complaint ? complaint : cluster_views_equal(weather->cluster);
}

const char *weather_run(
    struct cluster *cluster, const struct weather_config *config, struct weather_report *report)
{
	struct weather weather = {
	    .cluster = cluster,
	    .config = config,
	    .report = report,
	    .bound = weather_bound(&cluster->config).ns,
	};
	const char *complaint;

	rng_init(&weather.rng, rng_mix(cluster->seed, 5));
	sim_keep(cluster->sim, 2000);
	cluster->on_verdict = judge_verdict;
	cluster->argument = &weather;
	complaint = blow(&weather);
	if (!complaint)
		complaint = calm_down(&weather);
	cluster->on_verdict = NULL;
	report->node_hours += mono_to_s(sim_time(cluster->sim)) / 3600 * nodes(&weather);
	report->verdicts += cluster->verdicts;
	report->suspicions += cluster->suspicions;
	report->refutations += cluster->refutations;
	report->bound_s = (double)weather.bound / 1e9;
	return complaint;
}
