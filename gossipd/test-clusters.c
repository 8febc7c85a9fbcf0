/*
 * Clusters by themselves: each node here is a struct clusters that is told its own cluster's view
 * by the test; datagrams and pulls between nodes arrive at once, or not at all where the test has
 * cut them off.
 */
#include "gossipd/clusters.h"

#include <errno.h>

#include "common/test.h"

enum {
	CLUSTERS = 8,
	MANY = 64, /* more than can be asked, or told of, in a short time */
	SIZE = 5,
	NODES = MANY * SIZE,
	INCARNATION = 1000,
};

struct node {
	struct clusters clusters;
	bool down;
	unsigned told;            /* of other clusters */
	unsigned unknowns, backs; /* that it was told of */
	unsigned sent;            /* datagrams to other clusters */
};

struct bench {
	struct mono now;
	size_t count; /* of clusters */
	struct gossipd_node list[NODES];
	struct node nodes[NODES];
	struct gossipd_entry views[MANY][SIZE];
	uint64_t coordinators[MANY];
	bool cut[MANY][MANY];
	bool no_pulls;
	bool only_questions; /* and their answers pass between clusters, and tell of these two */
	bool answering;
};

static struct gossipd_actions actions;

static size_t cluster_of(size_t n)
{
	return n / SIZE;
}

static struct node *find(struct bench *bench, uint64_t id, size_t *n)
{
	for (*n = 0; *n < bench->count * SIZE; ++*n) {
		if (bench->list[*n].id == id)
			return &bench->nodes[*n];
	}
	check(false);
	return NULL;
}

static void step(struct bench *bench, size_t n);

static void strip_marks(struct gossipd_bridge *bridge, size_t n, size_t m)
{
	size_t count = 0;

	for (size_t i = 0; i < bridge->mark_count; i++) {
		uint64_t cluster = (bridge->marks[i] >> 32) - 1;

		if (cluster == cluster_of(n) || cluster == cluster_of(m))
			bridge->marks[count++] = bridge->marks[i];
	}
	bridge->mark_count = count;
}

static bool reaches(const struct bench *bench, size_t a, size_t b)
{
	return !bench->nodes[a].down && !bench->nodes[b].down &&
	       !bench->cut[cluster_of(a)][cluster_of(b)];
}

static void pull(struct bench *bench, size_t n, uint64_t from)
{
	struct gossipd_summary summaries[MANY];
	size_t m, count;
	struct node *node = find(bench, from, &m);

	if (bench->no_pulls || !reaches(bench, n, m))
		return;
	count = clusters_list(&node->clusters, 0, summaries, MANY);
	check_int(clusters_pulled(
		      &bench->nodes[n].clusters, from, summaries, count, bench->now, &actions),
	    GOSSIPD_OK);
	step(bench, n);
}

static void tell_own(struct bench *bench, size_t n, const struct gossipd_gram *gram, size_t m)
{
	if (!reaches(bench, n, m))
		return;
	clusters_gram(&bench->nodes[m].clusters, bench->list[n].id, gram, bench->now, &actions);
	step(bench, m);
}

/* The part of a step that concerns the members of the own cluster. */
static void tell_members(struct bench *bench, size_t n)
{
	struct clusters *clusters = &bench->nodes[n].clusters;
	size_t first = cluster_of(n) * SIZE, m;
	struct gossipd_gram gram = {0};
	uint64_t ids[2];
	size_t some = clusters_tell_some(clusters, ids);
	bool all = clusters_tell_all(clusters);

	if (!all && some == 0)
		return;
	clusters_fill(clusters, &gram, all ? SIZE - 1 : (unsigned)some);
	for (size_t i = first; all && i < first + SIZE; i++) {
		if (i != n)
			tell_own(bench, n, &gram, i);
	}
	for (size_t i = 0; !all && i < some; i++) {
		find(bench, ids[i], &m);
		tell_own(bench, n, &gram, m);
	}
}

/* Carries out what a call left in `actions`, and what follows from it. */
static void step(struct bench *bench, size_t n)
{
	struct node *node = &bench->nodes[n], *other;
	struct gossipd_bridge sent;
	struct gossipd_action *list; /* a step is within that of a sender: many deep */
	size_t m, count;

	clusters_run(&node->clusters, bench->now, &actions);
	count = actions.count;
	list = calloc(count + 1, sizeof(*list));
	check(list);
	memcpy(list, actions.list, count * sizeof(*list));
	if (count > 0)
		sent = actions.bridge;
	actions.count = 0;
	check(!clusters_invariant(&node->clusters));
	tell_members(bench, n);
	for (size_t i = 0; i < count; i++) {
		const struct gossipd_action *action = &list[i];

		if (action->type == GOSSIPD_PULL_CLUSTERS) {
			pull(bench, n, action->peer);
		} else if (action->type == GOSSIPD_CROSS) {
			struct gossipd_bridge bridge = sent;

			other = find(bench, action->cross.to, &m);
			node->sent++;
			bridge.reply = action->cross.reply;
			if (!reaches(bench, n, m) ||
			    (bench->only_questions && !bridge.reply && !bench->answering))
				continue;
			if (bench->only_questions)
				strip_marks(&bridge, n, m);
			check_int(clusters_bridge(&other->clusters, bench->list[n].id, &bridge,
				      bench->now, &actions),
			    GOSSIPD_OK);
			bench->answering = bridge.reply;
			step(bench, m);
			bench->answering = false;
		} else {
			bool was = action->cluster.from.unknown, is = action->cluster.to.unknown;

			node->told++;
			node->unknowns += !was && is;
			node->backs += was && !is;
		}
	}
	free(list);
}

/* A node hears of its own cluster's view. */
static void see(struct bench *bench, size_t n)
{
	size_t c = cluster_of(n);

	if (bench->nodes[n].down)
		return;
	clusters_view(&bench->nodes[n].clusters, bench->views[c], SIZE, bench->coordinators[c], 1,
	    false, bench->now, &actions);
	step(bench, n);
}

static void see_all(struct bench *bench, size_t cluster)
{
	for (size_t i = 0; i < SIZE; i++)
		see(bench, cluster * SIZE + i);
}

static void boot(struct bench *bench, size_t n)
{
	struct gossipd_config config = {.self = bench->list[n].id,
	    .cluster = bench->list[n].cluster,
	    .nodes = bench->list,
	    .node_count = bench->count * SIZE,
	    .tell = mono_ms(50),
	    .bridge = mono_ms(1000),
	    .silence = mono_ms(5000)};

	clusters_fini(&bench->nodes[n].clusters);
	bench->nodes[n] = (struct node){0};
	check_int(clusters_init(&bench->nodes[n].clusters, &config, n + 1), 0);
}

/* Each node's datagram of the cluster's own gossip, to one after the other. */
static void gossip(struct bench *bench)
{
	size_t turn = (size_t)(bench->now.ns / 500000000) % (SIZE - 1) + 1;

	for (size_t n = 0; n < bench->count * SIZE; n++) {
		struct gossipd_gram gram = {0};

		if (bench->nodes[n].down)
			continue;
		clusters_fill(&bench->nodes[n].clusters, &gram, 1);
		tell_own(bench, n, &gram, cluster_of(n) * SIZE + (n + turn) % SIZE);
	}
}

static void run(struct bench *bench, int64_t ms)
{
	struct mono until = mono_add_ms(bench->now, ms);

	while (mono_before(bench->now, until)) {
		bench->now = mono_add_ms(bench->now, 10);
		if (bench->now.ns / 1000000 % 500 == 0)
			gossip(bench);
		for (size_t i = 0; i < bench->count * SIZE; i++) {
			if (!bench->nodes[i].down &&
			    mono_due(clusters_deadline(&bench->nodes[i].clusters), bench->now))
				step(bench, i);
		}
	}
}

static struct bench *bench_new(size_t count)
{
	struct bench *bench = calloc(1, sizeof(*bench));

	check(bench);
	bench->now = mono_ms(5000);
	bench->count = count;
	for (size_t i = 0; i < count * SIZE; i++) {
		bench->list[i].cluster = (cluster_of(i) + 1) << 32;
		bench->list[i].id = 100 + i;
		bench->views[cluster_of(i)][i % SIZE] =
		    (struct gossipd_entry){100 + i, INCARNATION, GOSSIPD_ALIVE};
	}
	for (size_t i = 0; i < count * SIZE; i++)
		boot(bench, i);
	for (size_t c = 0; c < count; c++)
		see_all(bench, c);
	run(bench, 5000);
	return bench;
}

static void bench_free(struct bench *bench)
{
	for (size_t i = 0; i < bench->count * SIZE; i++)
		clusters_fini(&bench->nodes[i].clusters);
	free(bench);
}

/* What node n holds of node m, which is of another cluster. */
static enum gossipd_state state(const struct bench *bench, size_t n, size_t m)
{
	struct gossipd_cluster_status status;

	check(clusters_status(&bench->nodes[n].clusters, cluster_of(m), &status));
	check(status.readable || !status.heard);
	return gossipd_summary_state(&status.summary, m % SIZE);
}

static bool unknown(const struct bench *bench, size_t n, size_t cluster)
{
	struct gossipd_cluster_status status;

	check(clusters_status(&bench->nodes[n].clusters, cluster, &status));
	return status.unknown;
}

static void check_all_hold(const struct bench *bench, size_t m, enum gossipd_state expected)
{
	for (size_t n = 0; n < bench->count * SIZE; n++) {
		if (!bench->nodes[n].down && cluster_of(n) != cluster_of(m))
			check_int(state(bench, n, m), expected);
	}
}

static void die(struct bench *bench, size_t m)
{
	bench->nodes[m].down = true;
	bench->views[cluster_of(m)][m % SIZE].state = GOSSIPD_DEAD;
	see_all(bench, cluster_of(m));
}

/* ---- claims */

static void everybody_learns_of_everybody(void)
{
	struct bench *bench = bench_new(3);

	for (size_t m = 0; m < 3 * SIZE; m++)
		check_all_hold(bench, m, GOSSIPD_ALIVE);
	bench_free(bench);
}

static void a_death_is_known_to_all_other_clusters_at_once(void)
{
	struct bench *bench = bench_new(CLUSTERS);

	bench->no_pulls = true;
	die(bench, 7);
	check_all_hold(bench, 7, GOSSIPD_DEAD);
	bench_free(bench);
}

static void a_death_is_known_though_a_gateway_is_the_dead_one(void)
{
	for (size_t m = 0; m < SIZE; m++) {
		struct bench *bench = bench_new(3);

		bench->nodes[m].down = true;
		run(bench, 3000);
		die(bench, m);
		run(bench, 100);
		check_all_hold(bench, m, GOSSIPD_DEAD);
		bench_free(bench);
	}
}

static void two_gateways_speak_for_a_cluster(void)
{
	struct bench *bench = bench_new(3);
	unsigned gateways = 0;

	for (size_t n = 0; n < SIZE; n++)
		gateways += bench->nodes[n].clusters.gateway;
	check_int(gateways, 2);
	bench_free(bench);
}

static void the_coordinator_is_a_gateway(void)
{
	struct bench *bench = bench_new(3);

	for (size_t n = 0; n < SIZE; n++) {
		struct gossipd_cluster_status status;

		bench->coordinators[0] = bench->list[n].id;
		for (size_t i = 0; i < SIZE; i++) {
			clusters_view(&bench->nodes[i].clusters, bench->views[0], SIZE,
			    bench->coordinators[0], 2 + n, false, bench->now, &actions);
			step(bench, i);
		}
		check(bench->nodes[n].clusters.gateway);
		check(clusters_status(&bench->nodes[SIZE].clusters, 0, &status));
		check_int(status.coordinator, bench->list[n].id);
		check_int(status.gateways[0], bench->list[n].id);
	}
	bench_free(bench);
}

static void a_cluster_cut_off_is_unknown_and_nobody_in_it_is_dead(void)
{
	struct bench *bench = bench_new(3);

	for (size_t c = 1; c < 3; c++)
		bench->cut[0][c] = bench->cut[c][0] = true;
	run(bench, 15000);
	for (size_t n = SIZE; n < 3 * SIZE; n++) {
		check(unknown(bench, n, 0));
		check(!unknown(bench, n, 3 - cluster_of(n)));
		check_int(bench->nodes[n].unknowns, 1);
	}
	check(unknown(bench, 0, 1) && unknown(bench, 0, 2));
	for (size_t m = 0; m < 3 * SIZE; m++)
		check_all_hold(bench, m, GOSSIPD_ALIVE);
	bench_free(bench);
}

static void a_cluster_that_speaks_again_is_back(void)
{
	struct bench *bench = bench_new(3);

	for (size_t c = 1; c < 3; c++)
		bench->cut[0][c] = bench->cut[c][0] = true;
	run(bench, 15000);
	die(bench, 1);
	check_int(state(bench, SIZE, 1), GOSSIPD_ALIVE);
	memset(bench->cut, 0, sizeof(bench->cut));
	run(bench, 5000);
	for (size_t n = SIZE; n < 3 * SIZE; n++) {
		check(!unknown(bench, n, 0));
		check_int(bench->nodes[n].backs, 1);
	}
	check_all_hold(bench, 1, GOSSIPD_DEAD);
	bench_free(bench);
}

static void in_quiet_no_cluster_becomes_unknown(void)
{
	struct bench *bench = bench_new(CLUSTERS);

	run(bench, 600000);
	for (size_t n = 0; n < CLUSTERS * SIZE; n++)
		check_int(bench->nodes[n].unknowns, 0);
	bench_free(bench);
}

/* With many clusters a beat may miss a gateway; their silence is no reason to give up those whose
 * turn to be asked has not come. */
static void a_cluster_that_answers_when_it_is_asked_is_not_unknown(void)
{
	struct bench *bench = bench_new(MANY);

	bench->only_questions = true;
	run(bench, 120000);
	for (size_t n = 0; n < MANY * SIZE; n++)
		check_int(bench->nodes[n].unknowns, 0);
	bench_free(bench);
}

/* Who hears nobody need not ask all of them to know that. */
static void one_of_many_clusters_cut_off_holds_all_others_for_unknown_soon(void)
{
	struct bench *bench = bench_new(MANY);

	for (size_t c = 1; c < MANY; c++)
		bench->cut[0][c] = bench->cut[c][0] = true;
	run(bench, 45000);
	for (size_t c = 1; c < MANY; c++) {
		check(unknown(bench, 0, c));
		check(unknown(bench, c * SIZE, 0));
	}
	check(!unknown(bench, SIZE, 2));
	bench_free(bench);
}

/* Of the first cluster. */
static size_t a_gateway(const struct bench *bench)
{
	size_t n = 0;

	while (!bench->nodes[n].clusters.gateway)
		n++;
	return n;
}

static uint32_t beat(const struct bench *bench, size_t n, size_t cluster)
{
	return bench->nodes[n].clusters.records[cluster].summary.beat;
}

/* Two gateways would else raise it twice as often, and all have to pass it on. */
static void a_beat_that_rises_is_left_to_the_gateway_that_raises_it(void)
{
	struct bench *bench = bench_new(CLUSTERS);
	struct gossipd_bridge bridge = {.mark_count = 1};
	size_t gateway = a_gateway(bench);
	uint32_t raised;

	for (size_t c = 1; c < CLUSTERS; c++)
		bench->cut[0][c] = bench->cut[c][0] = true;
	raised = beat(bench, gateway, 0);
	for (int i = 0; i < 20; i++) {
		bridge.marks[0] = bench->list[0].cluster >> 32 << 32 | ++raised;
		check_int(clusters_bridge(&bench->nodes[gateway].clusters, bench->list[SIZE].id,
			      &bridge, bench->now, &actions),
		    GOSSIPD_OK);
		run(bench, 1000);
		check_int(beat(bench, gateway, 0), raised);
	}
	run(bench, 5000);
	check(beat(bench, gateway, 0) > raised);
	bench_free(bench);
}

static void who_was_not_heard_answers_with_the_beat_it_has(void)
{
	struct bench *bench = bench_new(3);
	struct gossipd_bridge bridge = {.reply = true, .mark_count = 1};
	size_t gateway = a_gateway(bench);
	uint32_t before = beat(bench, gateway, 0);
	for (uint32_t behind = 1; behind <= 1; behind--) {
		bridge.marks[0] = bench->list[0].cluster >> 32 << 32 | (before - behind);
		check_int(clusters_bridge(&bench->nodes[gateway].clusters, bench->list[SIZE].id,
			      &bridge, bench->now, &actions),
		    GOSSIPD_OK);
		check_int(beat(bench, gateway, 0), behind ? before : before + 1);
		step(bench, gateway);
		check(beat(bench, SIZE, 0) >= before);
	}
	bench_free(bench);
}

/* News of as many other clusters as there are, one after the other. */
static void flood(struct bench *bench, size_t gateway)
{
	struct gossipd_bridge bridge = {.summary_count = GOSSIPD_SUMMARIES_MAX};
	struct clusters *clusters = &bench->nodes[gateway].clusters;

	for (size_t told = 1; told + GOSSIPD_SUMMARIES_MAX <= MANY; told += GOSSIPD_SUMMARIES_MAX) {
		for (size_t i = 0; i < GOSSIPD_SUMMARIES_MAX; i++) {
			bridge.summaries[i] = clusters->records[told + i].summary;
			bridge.summaries[i].version++;
			bridge.summaries[i].dead = 1;
		}
		check_int(
		    clusters_bridge(clusters, bench->list[SIZE].id, &bridge, bench->now, &actions),
		    GOSSIPD_OK);
	}
}

/* After a common start the news of all others are on their way, and nobody but us tells ours. */
static void a_gateway_tells_of_its_own_cluster_however_much_it_has_to_tell(void)
{
	struct bench *bench = bench_new(MANY);
	size_t victim = 0;

	while (bench->nodes[victim].clusters.gateway)
		victim++;
	bench->no_pulls = true;
	for (size_t n = 0; n < SIZE; n++) {
		if (bench->nodes[n].clusters.gateway)
			flood(bench, n);
	}
	die(bench, victim);
	run(bench, 2000);
	check_all_hold(bench, victim, GOSSIPD_DEAD);
	bench_free(bench);
}

static void in_quiet_a_gateway_sends_one_datagram_a_second(void)
{
	struct bench *bench = bench_new(CLUSTERS);

	for (size_t n = 0; n < CLUSTERS * SIZE; n++)
		bench->nodes[n].sent = 0;
	run(bench, 100000);
	for (size_t n = 0; n < CLUSTERS * SIZE; n++)
		check_range(bench->nodes[n].sent, bench->nodes[n].clusters.gateway ? 90 : 0,
		    bench->nodes[n].clusters.gateway ? 120 : 5);
	bench_free(bench);
}

/* Two gateways whose views differ for a while: the older word does not undo the newer one. */
static void an_older_view_does_not_bring_the_dead_back(void)
{
	struct bench *bench = bench_new(3);

	bench->views[0][3].state = GOSSIPD_DEAD;
	see(bench, 0);
	see(bench, 1);
	run(bench, 200);
	bench->views[0][3].state = GOSSIPD_ALIVE;
	for (size_t n = 0; n < SIZE; n++)
		see(bench, n);
	run(bench, 5000);
	check_int(state(bench, SIZE, 3), GOSSIPD_DEAD);
	bench_free(bench);
}

static void one_that_comes_back_is_alive(void)
{
	struct bench *bench = bench_new(3);

	die(bench, 3);
	check_all_hold(bench, 3, GOSSIPD_DEAD);
	bench->views[0][3] = (struct gossipd_entry){103, INCARNATION + 1, GOSSIPD_ALIVE};
	see_all(bench, 0);
	run(bench, 1000);
	check_all_hold(bench, 3, GOSSIPD_ALIVE);
	bench_free(bench);
}

/* All of a cluster is restarted and two of five do not come back: what was known of their
 * incarnations is lost, so the sum is lower than it was. */
static void a_cluster_that_lost_its_memory_is_believed_in_the_end(void)
{
	struct bench *bench = bench_new(3);

	for (size_t n = 0; n < SIZE; n++)
		boot(bench, n);
	bench->nodes[3].down = bench->nodes[4].down = true;
	for (size_t n = 0; n < 3; n++) {
		bench->views[0][n].incarnation++;
		clusters_view(&bench->nodes[n].clusters, bench->views[0], 3, 0, 1, false,
		    bench->now, &actions);
		step(bench, n);
	}
	run(bench, 5000);
	check_all_hold(bench, 3, GOSSIPD_ALIVE);
	run(bench, 40000);
	check_all_hold(bench, 3, GOSSIPD_UNKNOWN);
	check_all_hold(bench, 0, GOSSIPD_ALIVE);
	bench_free(bench);
}

static void a_restarted_cluster_takes_its_beat_up_again(void)
{
	struct bench *bench = bench_new(3);

	run(bench, 100000);
	for (size_t n = 0; n < SIZE; n++)
		boot(bench, n);
	see_all(bench, 0);
	run(bench, 60000);
	for (size_t n = SIZE; n < 3 * SIZE; n++)
		check_int(bench->nodes[n].unknowns, 0);
	bench_free(bench);
}

static void a_new_node_learns_all_from_a_member_of_its_cluster(void)
{
	struct bench *bench = bench_new(3);
	struct gossipd_gram gram = {0};

	die(bench, 7);
	run(bench, 3000);
	boot(bench, 4);
	for (size_t n = 0; n < SIZE; n++) {
		bench->views[0][4].incarnation++;
		see_all(bench, 0);
	}
	clusters_fill(&bench->nodes[0].clusters, &gram, 1);
	tell_own(bench, 0, &gram, 4);
	check_int(state(bench, 4, 7), GOSSIPD_DEAD);
	check_int(state(bench, 4, 8), GOSSIPD_ALIVE);
	bench_free(bench);
}

static void impossible_summaries_are_passed_over(void)
{
	struct bench *bench = bench_new(3);
	struct gossipd_bridge bridge = {.summary_count = 4};
	uint64_t cluster = bench->list[SIZE].cluster, high = (uint64_t)1 << 62;

	bridge.summaries[0] =
	    (struct gossipd_summary){.cluster = cluster, .version = high, .dead = 3, .left = 1};
	bridge.summaries[1] =
	    (struct gossipd_summary){.cluster = cluster, .version = high, .coordinator = 65};
	bridge.summaries[2] = (struct gossipd_summary){.cluster = 99, .version = high};
	bridge.summaries[3] = (struct gossipd_summary){.cluster = cluster, .dead = 1};
	check_int(clusters_bridge(&bench->nodes[0].clusters, bench->list[2 * SIZE].id, &bridge,
		      bench->now, &actions),
	    GOSSIPD_OK);
	step(bench, 0);
	check_all_hold(bench, SIZE, GOSSIPD_ALIVE);
	bridge.summary_count = GOSSIPD_SUMMARIES_MAX + 1;
	check_int(clusters_bridge(&bench->nodes[0].clusters, bench->list[2 * SIZE].id, &bridge,
		      bench->now, &actions),
	    GOSSIPD_REFUSED);
	/* A member of our own cluster does not speak as one of another. */
	bridge.summary_count = 0;
	check_int(clusters_bridge(
		      &bench->nodes[0].clusters, bench->list[1].id, &bridge, bench->now, &actions),
	    GOSSIPD_REFUSED);
	bench_free(bench);
}

static void a_list_of_nodes_that_is_not_in_order_is_refused(void)
{
	struct gossipd_node list[] = {{(uint64_t)1 << 32, 1}, {(uint64_t)2 << 32, 2}};
	struct gossipd_config config = {
	    .self = 1, .cluster = (uint64_t)1 << 32, .nodes = list, .node_count = 2};
	struct clusters clusters;

	check_int(clusters_init(&clusters, &config, 1), 0);
	clusters_fini(&clusters);
	list[1].cluster = list[0].cluster + 1; /* the upper half tells them apart */
	check_int(clusters_init(&clusters, &config, 1), -EINVAL);
	list[1] = list[0];
	check_int(clusters_init(&clusters, &config, 1), -EINVAL);
	config.self = 3;
	config.node_count = 1;
	check_int(clusters_init(&clusters, &config, 1), -EINVAL);
}

/* Nodes come; what is known of the clusters stays, and the new places are not taken for old. */
static void what_is_known_stays_when_a_node_joins(void)
{
	struct bench *bench = bench_new(3);
	struct gossipd_node list[3 * SIZE + 1];
	struct gossipd_cluster_status status;

	die(bench, SIZE + 1);
	memcpy(list, bench->list, 3 * SIZE * sizeof(list[0]));
	list[3 * SIZE] = (struct gossipd_node){list[3 * SIZE - 1].cluster, 999};
	check_int(clusters_nodes(&bench->nodes[0].clusters, list, 3 * SIZE + 1, bench->now), 0);
	check(!clusters_invariant(&bench->nodes[0].clusters));
	check_int(state(bench, 0, SIZE + 1), GOSSIPD_DEAD);
	check(clusters_status(&bench->nodes[0].clusters, 2, &status));
	check(!status.readable);
	check_int(status.alive, 0);
	check_int(clusters_nodes(&bench->nodes[0].clusters, list + 1, 1, bench->now), -EINVAL);
	check(!clusters_invariant(&bench->nodes[0].clusters));
	bench_free(bench);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(everybody_learns_of_everybody),
	    TEST(a_death_is_known_to_all_other_clusters_at_once),
	    TEST(a_death_is_known_though_a_gateway_is_the_dead_one),
	    TEST(two_gateways_speak_for_a_cluster),
	    TEST(the_coordinator_is_a_gateway),
	    TEST(a_cluster_cut_off_is_unknown_and_nobody_in_it_is_dead),
	    TEST(a_cluster_that_speaks_again_is_back),
	    TEST(in_quiet_no_cluster_becomes_unknown),
	    TEST(a_cluster_that_answers_when_it_is_asked_is_not_unknown),
	    TEST(one_of_many_clusters_cut_off_holds_all_others_for_unknown_soon),
	    TEST(a_beat_that_rises_is_left_to_the_gateway_that_raises_it),
	    TEST(who_was_not_heard_answers_with_the_beat_it_has),
	    TEST(a_gateway_tells_of_its_own_cluster_however_much_it_has_to_tell),
	    TEST(in_quiet_a_gateway_sends_one_datagram_a_second),
	    TEST(an_older_view_does_not_bring_the_dead_back),
	    TEST(one_that_comes_back_is_alive),
	    TEST(a_cluster_that_lost_its_memory_is_believed_in_the_end),
	    TEST(a_restarted_cluster_takes_its_beat_up_again),
	    TEST(a_new_node_learns_all_from_a_member_of_its_cluster),
	    TEST(impossible_summaries_are_passed_over),
	    TEST(a_list_of_nodes_that_is_not_in_order_is_refused),
	    TEST(what_is_known_stays_when_a_node_joins),
	    {0},
	});
}
