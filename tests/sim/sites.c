#include "tests/sim/sites.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/seal.h"

enum {
	REGISTRATION = 1,
	WALL_S = 1700000000,
	/* IPv4 and UDP headers; header and tag of a sealed datagram, but of the first four of a session (33 bytes). */
	ENVELOPE = 28 + SEAL_HEADER_SIZE + SEAL_TAG_SIZE,
	/* Bodies, as the codecs write them with the numbers that daemons have. */
	BEAT_BYTES = 27,
	GRAM_BYTES = 35,
	BALLOT_BYTES = 23,
	RUMOUR_BYTES = 29,
	BRIDGE_BYTES = 14,
	MARK_BYTES = 9,
	SUMMARY_BYTES = 60,
	CLUSTERS_BYTES = 11,
};

/* Kinds of messages. */
enum {
	BEAT,   /* struct fdd_heartbeat */
	GRAM,   /* struct gossipd_gram */
	BRIDGE, /* struct gossipd_bridge */
	PULL,   /* stream */
	VIEW,   /* stream: list of struct gossipd_entry */
	PULL_CLUSTERS,
	SUMMARIES, /* stream: list of struct gossipd_summary */
};

struct node_process {
	struct site_node *node;
	struct fdd *fdd;
	struct gossipd *gossipd;
};

static const struct sim_link lan = {.delay = {100000}, .jitter = {100000}};

/* Ids rise with the number, which is their upper half. */
static struct site_node *node_of(const struct sites *sites, uint64_t id)
{
	return &sites->nodes[(id >> 32) - 1];
}

static uint64_t cluster_id(unsigned site)
{
	return (uint64_t)(site + 1) << 32 | 1;
}

static void send(struct sites *sites, unsigned process, uint64_t to, unsigned kind,
    const void *data, size_t size, size_t wire_bytes)
{
	const struct site_node *from = &sites->nodes[process], *target = node_of(sites, to);
	bool stream = kind >= PULL;

	if (from->site == target->site)
		sites->bytes_inside += ENVELOPE + wire_bytes;
	else
		sites->bytes_between += ENVELOPE + wire_bytes;
	sim_send(sites->sim, process, target->process, stream ? SIM_STREAM : SIM_DATAGRAM, kind,
	    data, size);
}

/* ---- fdd */

static void fdd_run(
    struct sim *sim, unsigned process, struct node_process *state, struct fdd_event event);
static void gossipd_run(
    struct sim *sim, unsigned process, struct node_process *state, struct gossipd_event event);

static void fdd_act(
    struct sim *sim, unsigned process, struct node_process *state, const struct fdd_action *action)
{
	struct gossipd_event level = {.type = GOSSIPD_LEVEL};

	switch (action->type) {
	case FDD_PERSIST:
		state->node->fdd_stored = action->incarnation;
		break;
	case FDD_SEND_HEARTBEAT:
		send(state->node->sites, process, action->send.to, BEAT, &action->send.beat,
		    sizeof(action->send.beat), BEAT_BYTES);
		break;
	case FDD_LEVEL:
		level.level.id = action->level.peer;
		level.level.silent = action->level.raised;
		gossipd_run(sim, process, state, level);
		break;
	case FDD_DRAIN:
		/* The simulator delivers what waits before it calls a timer. */
		fdd_run(sim, process, state, (struct fdd_event){.type = FDD_DRAINED});
		break;
	default:
		break;
	}
}

static void fdd_run(
    struct sim *sim, unsigned process, struct node_process *state, struct fdd_event event)
{
	struct fdd_actions *actions = malloc(sizeof(*actions));

	event.now = sim_now(sim, process);
	fdd_step(state->fdd, &event, actions);
	for (size_t i = 0; i < actions->count && sim_act(sim, process); i++)
		fdd_act(sim, process, state, &actions->list[i]);
	free(actions);
}

/* ---- gossipd */

static void set_roles(struct sim *sim, unsigned process, struct node_process *state)
{
	const struct gossipd_actions *actions = &state->node->sites->actions;
	struct fdd_peer_role roles[GOSSIPD_MEMBERS_MAX];
	struct fdd_event event = {.type = FDD_SET_PEERS, .peers = {roles, actions->role_count}};

	for (size_t i = 0; i < actions->role_count; i++)
		roles[i] = (struct fdd_peer_role){
		    actions->roles[i].id, actions->roles[i].watch, actions->roles[i].send};
	fdd_run(sim, process, state, event);
}

static void send_gram(struct sites *sites, unsigned process, const struct gossipd_action *action)
{
	const struct gossipd_gram *from = &sites->actions.gram;
	struct gossipd_gram gram;
	size_t bytes = GRAM_BYTES + from->ballot_count * BALLOT_BYTES +
		       from->rumour_count * RUMOUR_BYTES + from->summary_count * SUMMARY_BYTES +
		       (from->clusters ? CLUSTERS_BYTES : 0);

	memcpy(&gram, from, sizeof(gram));
	gram.accused = action->send.accused;
	gram.reply = action->send.reply;
	gram.answer = action->send.answer;
	send(sites, process, action->send.to, GRAM, &gram, sizeof(gram), bytes);
}

static void send_bridge(struct sites *sites, unsigned process, const struct gossipd_action *action)
{
	const struct gossipd_bridge *from = &sites->actions.bridge;
	struct gossipd_bridge bridge;

	memcpy(&bridge, from, sizeof(bridge));
	bridge.reply = action->cross.reply;
	send(sites, process, action->cross.to, BRIDGE, &bridge, sizeof(bridge),
	    BRIDGE_BYTES + from->mark_count * MARK_BYTES + from->summary_count * SUMMARY_BYTES);
}

/* A node learns of the death that is waited for. */
static void note(struct sites *sites, unsigned process, const struct site_node *subject, bool dead)
{
	if (subject->number != sites->victim || sites->knows[process] == dead)
		return;
	sites->knows[process] = dead;
	sites->known += dead ? 1 : (unsigned)-1;
}

static void trace_member(struct sites *sites, unsigned process, const struct gossipd_action *action)
{
	const struct site_node *subject = node_of(sites, action->member.id);

	note(sites, process, subject, action->member.to == GOSSIPD_DEAD);
	sim_trace(sites->sim, process, "%s n%u", gossipd_state_name(action->member.to),
	    subject->number + 1);
}

static void trace_cluster(
    struct sites *sites, unsigned process, const struct gossipd_action *action)
{
	const struct gossipd_summary *from = &action->cluster.from, *to = &action->cluster.to;
	unsigned site = (unsigned)(to->cluster >> 32) - 1;

	if (from->unknown != to->unknown)
		sim_trace(
		    sites->sim, process, "site %u %s", site + 1, to->unknown ? "unknown" : "back");
	for (size_t i = 0; i < action->cluster.size; i++) {
		enum gossipd_state was = gossipd_summary_state(from, i),
				   is = gossipd_summary_state(to, i);
		const struct site_node *subject = node_of(sites, action->cluster.nodes[i].id);

		/* Of ten thousand who boot each would else be told of by all. */
		if (was == is || was == GOSSIPD_UNKNOWN)
			continue;
		note(sites, process, subject, is == GOSSIPD_DEAD);
		sim_trace(sites->sim, process, "abroad %s n%u", gossipd_state_name(is),
		    subject->number + 1);
	}
}

static void gossipd_act(struct sim *sim, unsigned process, struct node_process *state,
    const struct gossipd_action *action)
{
	struct sites *sites = state->node->sites;

	switch (action->type) {
	case GOSSIPD_PERSIST:
		state->node->gossipd_stored = action->incarnation;
		break;
	case GOSSIPD_PEERS:
		set_roles(sim, process, state);
		break;
	case GOSSIPD_MEMBER:
		trace_member(sites, process, action);
		break;
	case GOSSIPD_PULL:
		send(sites, process, action->peer, PULL, NULL, 0, 0);
		break;
	case GOSSIPD_SEND:
		send_gram(sites, process, action);
		break;
	case GOSSIPD_CLUSTER:
		trace_cluster(sites, process, action);
		break;
	case GOSSIPD_CROSS:
		send_bridge(sites, process, action);
		break;
	case GOSSIPD_PULL_CLUSTERS:
		send(sites, process, action->peer, PULL_CLUSTERS, NULL, 0, 0);
		break;
	default:
		break;
	}
}

static void gossipd_run(
    struct sim *sim, unsigned process, struct node_process *state, struct gossipd_event event)
{
	struct gossipd_actions *actions = &state->node->sites->actions;

	event.now = sim_now(sim, process);
	gossipd_step(state->gossipd, &event, actions);
	for (size_t i = 0; i < actions->count && sim_act(sim, process); i++)
		gossipd_act(sim, process, state, &actions->list[i]);
}

/* ---- the process */

static void start_fdd(struct sim *sim, unsigned process, struct node_process *state)
{
	struct sites *sites = state->node->sites;
	struct fdd_config config = {
	    .self = state->node->id,
	    .interval = sites->config.interval,
	    .stall = sites->config.interval,
	    .suspect = {.count = 1, .raise = {0.6}, .clear = 0.2, .beats = 1},
	    .peers_max = sites->config.size,
	    .registrations_max = 2,
	};
	struct fdd_event start = {.type = FDD_START}, registration = {.type = FDD_REGISTER};

	if (fdd_new(&state->fdd, &config, rng_mix(sites->seed, process + state->node->boots)) < 0)
		abort();
	start.start.stored_incarnation = state->node->fdd_stored;
	start.start.wall_s = WALL_S;
	fdd_run(sim, process, state, start);
	registration.registration = (struct fdd_registration){
	    .id = REGISTRATION,
	    .thresholds = {.count = 1,
		.raise = {sites->config.suspect_level},
		.clear = 0,
		.beats = 0},
	};
	fdd_run(sim, process, state, registration);
}

static void *boot(struct sim *sim, unsigned process, void *context)
{
	struct site_node *node = context;
	struct sites *sites = node->sites;
	struct node_process *state = calloc(1, sizeof(*state));
	struct gossipd_config config = sites->config.gossipd;
	struct gossipd_event start = {.type = GOSSIPD_START};

	state->node = node;
	node->boots++;
	config.self = node->id;
	config.cluster = cluster_id(node->site);
	config.members = sites->ids + node->site * sites->config.size;
	config.member_count = sites->config.size;
	config.nodes = sites->list;
	config.node_count = sites->count;
	config.lease = mono_ms(0);
	if (gossipd_new(&state->gossipd, &config, rng_mix(sites->seed + 1, process + node->boots)) <
	    0)
		abort();
	start_fdd(sim, process, state);
	start.start.stored_incarnation = node->gossipd_stored;
	start.start.wall_s = WALL_S;
	gossipd_run(sim, process, state, start);
	return state;
}

static void halt(void *argument)
{
	struct node_process *state = argument;

	gossipd_free(state->gossipd);
	fdd_free(state->fdd);
	free(state);
}

static void answer_view(
    struct sites *sites, unsigned process, struct node_process *state, uint64_t to)
{
	struct gossipd_entry entries[GOSSIPD_MEMBERS_MAX];
	size_t count = gossipd_view(state->gossipd, entries);

	send(sites, process, to, VIEW, entries, count * sizeof(entries[0]), count * RUMOUR_BYTES);
}

static void answer_clusters(
    struct sites *sites, unsigned process, struct node_process *state, uint64_t to)
{
	struct gossipd_summary summaries[GOSSIPD_PULLED_MAX];
	uint64_t from = 0;
	size_t count;

	do {
		count = gossipd_summaries(state->gossipd, from, summaries, GOSSIPD_PULLED_MAX);
		send(sites, process, to, SUMMARIES, summaries, count * sizeof(summaries[0]),
		    count * SUMMARY_BYTES);
		from = count > 0 ? summaries[count - 1].cluster + 1 : 0;
	} while (count == GOSSIPD_PULLED_MAX);
}

static void hear(struct sim *sim, unsigned process, struct node_process *state, uint64_t from,
    const struct sim_message *message)
{
	struct gossipd_event event = {.type = GOSSIPD_GRAM};

	event.gram.from = from;
	if (message->kind == GRAM) {
		event.gram.gram = message->data;
	} else if (message->kind == BRIDGE) {
		event.type = GOSSIPD_BRIDGE;
		event.bridge.bridge = message->data;
	} else if (message->kind == VIEW) {
		event.type = GOSSIPD_VIEW;
		event.view.entries = message->data;
		event.view.count = message->size / sizeof(struct gossipd_entry);
	} else {
		event.type = GOSSIPD_SUMMARIES;
		event.summaries.list = message->data;
		event.summaries.count = message->size / sizeof(struct gossipd_summary);
	}
	gossipd_run(sim, process, state, event);
}

static void receive(
    struct sim *sim, unsigned process, void *argument, const struct sim_message *message)
{
	struct node_process *state = argument;
	struct sites *sites = state->node->sites;
	uint64_t from = sites->ids[message->from];
	struct fdd_event beat = {.type = FDD_HEARTBEAT};

	if (message->kind == BEAT) {
		beat.heartbeat.from = from;
		beat.heartbeat.arrived = message->arrived;
		memcpy(&beat.heartbeat.beat, message->data, sizeof(beat.heartbeat.beat));
		fdd_run(sim, process, state, beat);
	} else if (message->kind == PULL) {
		answer_view(sites, process, state, from);
	} else if (message->kind == PULL_CLUSTERS) {
		answer_clusters(sites, process, state, from);
	} else {
		hear(sim, process, state, from, message);
	}
}

static void timeout(struct sim *sim, unsigned process, void *argument)
{
	struct node_process *state = argument;
	struct mono now = sim_now(sim, process);

	if (mono_due(fdd_deadline(state->fdd), now))
		fdd_run(sim, process, state, (struct fdd_event){.type = FDD_TIMEOUT});
	if (mono_due(gossipd_deadline(state->gossipd), now))
		gossipd_run(sim, process, state, (struct gossipd_event){.type = GOSSIPD_TIMEOUT});
}

static struct mono deadline(void *argument)
{
	struct node_process *state = argument;

	return mono_min(fdd_deadline(state->fdd), gossipd_deadline(state->gossipd));
}

static const struct sim_program program = {
    .boot = boot,
    .halt = halt,
    .receive = receive,
    .timeout = timeout,
    .deadline = deadline,
};

static const char *cores_hold(struct sim *sim, unsigned process, void *argument)
{
	struct sites *sites = argument;
	struct node_process *state = sim_state(sim, process);
	const char *complaint;

	if (!state || ++sites->steps % sites->config.check_every != 0)
		return NULL;
	complaint = gossipd_invariant(state->gossipd);
	return complaint ? complaint : fdd_invariant(state->fdd);
}

/* ---- the world */

struct sites_config sites_defaults(unsigned sites, unsigned size, enum gossipd_profile profile)
{
	static const int64_t intervals_ms[] = {
	    [GOSSIPD_FAST] = 100, [GOSSIPD_BALANCED] = 500, [GOSSIPD_ECONOMY] = 1000};
	struct sites_config config = {
	    .sites = sites,
	    .size = size,
	    .interval = mono_ms(intervals_ms[profile]),
	    .suspect_level = 0.5,
	    .check_every = 1,
	};

	gossipd_config_profile(&config.gossipd, profile);
	return config;
}

static void list_nodes(struct sites *sites)
{
	for (unsigned i = 0; i < sites->count; i++) {
		struct site_node *node = &sites->nodes[i];

		*node = (struct site_node){.sites = sites,
		    .number = i,
		    .site = i / sites->config.size,
		    .process = i,
		    .id = (uint64_t)(i + 1) << 32 | rng_mix(sites->seed, i) >> 32};
		sites->ids[i] = node->id;
		sites->list[i] = (struct gossipd_node){cluster_id(node->site), node->id};
	}
}

struct sites *sites_new(const struct sites_config *config, uint64_t seed)
{
	struct sites *sites = calloc(1, sizeof(*sites));

	sites->config = *config;
	sites->seed = seed;
	sites->victim = UINT_MAX; /* nobody */
	sites->count = config->sites * config->size;
	sites->nodes = calloc(sites->count, sizeof(*sites->nodes));
	sites->list = calloc(sites->count, sizeof(*sites->list));
	sites->ids = calloc(sites->count, sizeof(*sites->ids));
	sites->knows = calloc(sites->count, sizeof(*sites->knows));
	list_nodes(sites);
	sites->sim = sim_new(seed, sites->count);
	sim_link_all(sites->sim, &lan);
	for (unsigned i = 0; i < sites->count; i++)
		sim_spawn(sites->sim, i, "node", &program, &sites->nodes[i]);
	sim_invariant(sites->sim, cores_hold, sites);
	return sites;
}

struct sites *sites_free(struct sites *sites)
{
	free(sites->nodes);
	free(sites->list);
	free(sites->ids);
	free(sites->knows);
	free(sites);
	return NULL;
}

void sites_kill(struct sites *sites, unsigned node)
{
	sim_crash_host(sites->sim, node);
}

void sites_restart(struct sites *sites, unsigned node)
{
	sim_boot_host(sites->sim, node);
}

void sites_cut(struct sites *sites, unsigned site, bool cut)
{
	for (unsigned a = site * sites->config.size; a < (site + 1) * sites->config.size; a++) {
		for (unsigned b = 0; b < sites->count; b++) {
			if (sites->nodes[b].site != site)
				sim_cut(sites->sim, a, b, cut);
		}
	}
}

static const struct gossipd *core_of(const struct sites *sites, unsigned node)
{
	const struct node_process *state = sim_state(sites->sim, node);

	return state ? state->gossipd : NULL;
}

enum gossipd_state sites_state(const struct sites *sites, unsigned a, unsigned b)
{
	const struct gossipd *core = core_of(sites, a);
	struct gossipd_cluster_status status;
	struct gossipd_status member;

	if (!core)
		return GOSSIPD_UNKNOWN;
	if (sites->nodes[a].site == sites->nodes[b].site) {
		for (size_t i = 0; gossipd_status(core, i, MONO_ZERO, &member); i++) {
			if (member.id == sites->nodes[b].id)
				return member.state;
		}
		return GOSSIPD_UNKNOWN;
	}
	if (!gossipd_cluster(core, sites->nodes[b].site, &status) || !status.readable)
		return GOSSIPD_UNKNOWN;
	return gossipd_summary_state(&status.summary, b % sites->config.size);
}

bool sites_unknown(const struct sites *sites, unsigned a, unsigned site)
{
	const struct gossipd *core = core_of(sites, a);
	struct gossipd_cluster_status status;

	return core && gossipd_cluster(core, site, &status) && status.unknown;
}

bool sites_is_gateway(const struct sites *sites, unsigned node)
{
	const struct gossipd *core = core_of(sites, node);
	struct gossipd_cluster_status status;
	uint64_t id = sites->nodes[node].id;

	return core && gossipd_cluster(core, sites->nodes[node].site, &status) &&
	       (status.gateways[0] == id || status.gateways[1] == id);
}

bool sites_agree(const struct sites *sites, unsigned b, enum gossipd_state state)
{
	for (unsigned a = 0; a < sites->count; a++) {
		if (a != b && core_of(sites, a) && sites_state(sites, a, b) != state)
			return false;
	}
	return true;
}

bool sites_settled(const struct sites *sites)
{
	unsigned size = sites->config.size;

	for (unsigned a = size - 1; a < sites->count; a += size) {
		for (unsigned b = 0; b < sites->count; b++) {
			if (a != b && sites_state(sites, a, b) != GOSSIPD_ALIVE)
				return false;
		}
	}
	return true;
}

double sites_kill_and_wait(struct sites *sites, unsigned node, int64_t limit_ms)
{
	struct mono killed = sim_time(sites->sim), limit = mono_add_ms(killed, limit_ms);
	unsigned others = 0;

	sites->victim = node;
	sites->known = 0;
	memset(sites->knows, 0, sites->count * sizeof(*sites->knows));
	sites_kill(sites, node);
	for (unsigned i = 0; i < sites->count; i++)
		others += sim_running(sites->sim, i);
	while (sites->known < others) {
		if (mono_due(limit, sim_time(sites->sim)) || sim_broken(sites->sim))
			return -1;
		sim_run(sites->sim, mono_add_ms(sim_time(sites->sim), 1));
	}
	return (double)mono_sub(sim_time(sites->sim), killed).ns / 1e6;
}

/* ---- goal G1 */

enum {
	SETTLE_MS = 20000,
	QUIET_MS = 20000,
	LIMIT_MS = 20000,
};

static void run_ms(struct sites *sites, int64_t ms)
{
	sim_run(sites->sim, mono_add_ms(sim_time(sites->sim), ms));
}

static void measure_quiet(struct sites *sites, struct sites_cost *cost)
{
	uint64_t inside = sites->bytes_inside, between = sites->bytes_between;
	double node_seconds = (double)sites->count * QUIET_MS / 1000;

	run_ms(sites, QUIET_MS);
	cost->between = (double)(sites->bytes_between - between) / node_seconds;
	cost->bytes = (double)(sites->bytes_inside - inside) / node_seconds + cost->between;
}

/* The victims are of different sites; they stay dead. */
static const char *measure_deaths(struct sites *sites, unsigned kills, struct sites_cost *cost)
{
	cost->time_ms = 0;
	for (unsigned i = 0; i < kills; i++) {
		unsigned size = sites->config.size;
		double ms;

		run_ms(sites, 3000 + (int64_t)rng_below(sim_rng(sites->sim), 500));
		ms = sites_kill_and_wait(
		    sites, (i % sites->config.sites * size + i) % sites->count, LIMIT_MS);
		if (ms < 0)
			return "a death is not known to all";
		cost->time_ms += ms / kills;
	}
	return NULL;
}

const char *sites_measure(
    unsigned count, unsigned size, uint64_t seed, unsigned kills, struct sites_cost *cost)
{
	struct sites_config config = sites_defaults(count, size, GOSSIPD_BALANCED);
	const char *complaint;
	struct sites *sites;
	bool settled;

	config.check_every = 1000;
	sites = sites_new(&config, seed);
	run_ms(sites, SETTLE_MS);
	settled = sites_settled(sites);
	measure_quiet(sites, cost);
	complaint = measure_deaths(sites, kills, cost);
	if (!complaint && !settled)
		complaint = "not all were known to all in time after the start";
	if (!complaint && sim_find(sites->sim, 0, NULL, "site * unknown"))
		complaint = "a cluster is unknown, and nothing was cut";
	if (!complaint)
		complaint = sim_broken(sites->sim);
	printf(
	    "# %u clusters of %u: all know after %.0f ms; %.0f bytes per node and second, %.1f of "
	    "them between clusters\n",
	    count, size, cost->time_ms, cost->bytes, cost->between);
	sim_free(sites->sim);
	sites_free(sites);
	return complaint;
}
