#include "tests/sim/membership.h"

#include <stdlib.h>
#include <string.h>

#include "common/seal.h"
#include "tests/sim/liar.h"

enum {
	REGISTRATION = 1,
	WALL_S = 1700000000,
};

static const char key[] = "coord/sim";

/* Kinds of messages. */
enum {
	BEAT,     /* fdd to fdd: struct fdd_heartbeat */
	ROLES,    /* gossipd to fdd: list of struct fdd_peer_role; also registers */
	FDD_UP,   /* fdd to gossipd: it is new */
	LEVEL,    /* fdd to gossipd: struct level_news */
	HEALTH,   /* fdd to gossipd: its lhm */
	GRAM,     /* gossipd to gossipd: struct gossipd_gram */
	PULL,     /* stream */
	VIEW,     /* stream: list of struct gossipd_entry */
	META,     /* gossipd to store: struct meta_request */
	META_END, /* struct meta_answer */
	HINT,
	LEAVE, /* to gossipd, as from the command line */
	/* A connection to gossipd, by its number at the one who opens it; all of them streams. */
	OPEN,     /* gossipd to kernel */
	ACCEPTED, /* kernel to gossipd */
	REFUSED,
	GREET,    /* kernel to its own gossipd: struct greet */
	GREETING, /* gossipd to gossipd */
};

struct level_news {
	uint64_t id;
	bool silent;
};

struct greet {
	unsigned asker, number;
};

struct meta_request {
	uint64_t ticket, expected;
	bool put;
	struct gossipd_fact fact;
};

struct meta_answer {
	uint64_t ticket, version;
	enum gossipd_meta_rc rc;
	struct gossipd_fact fact;
};

const struct sim_link cluster_lan = {.delay = {100000}, .jitter = {100000}};

/* What the daemons would put on the wire: IP and UDP headers, the seal's header and tag, and the
 * body as proto/fdd.toml and proto/gossipd.toml pack it: a byte or two for each key, nine for a
 * large number.  Sessions are long open: no full headers and no heartbeats that say all. */
enum {
	WIRE_FRAME = 20 + 8 + SEAL_HEADER_SIZE + SEAL_TAG_SIZE,
	WIRE_BEAT = 1 + 5,
	WIRE_GRAM = 1 + 11 + 5 + 11,
	WIRE_ACCUSED = 11,
	WIRE_FLAG = 3,
	WIRE_LIST = 3,
	WIRE_BALLOT = 1 + 11 + 11,
	WIRE_RUMOUR = 1 + 11 + 11 + 3,
};

static uint64_t wire_size(const struct gossipd_gram *gram)
{
	uint64_t size = WIRE_FRAME + WIRE_GRAM;

	size += gram->accused ? WIRE_ACCUSED : 0;
	size += gram->damped ? WIRE_FLAG : 0;
	size += gram->reply ? WIRE_FLAG : 0;
	size += gram->answer ? WIRE_FLAG : 0;
	size += gram->ballot_count ? WIRE_LIST + WIRE_BALLOT * gram->ballot_count : 0;
	size += gram->rumour_count ? WIRE_LIST + WIRE_RUMOUR * gram->rumour_count : 0;
	return size;
}

static struct cluster_node *node_of(struct cluster *cluster, uint64_t id)
{
	unsigned *number = pairs_find(&cluster->numbers, (unsigned)(id >> 32), (unsigned)id);

	if (!number)
		abort();
	return &cluster->nodes[*number];
}

/* Wall clock of a host: it does not matter what it says, only that it is taken from somewhere. */
static uint64_t wall_s(const struct cluster *cluster)
{
	if (cluster->config.fault == CLUSTER_NO_STORE)
		return WALL_S;
	return WALL_S + (uint64_t)(sim_time(cluster->sim).ns / 1000000000);
}

static uint64_t stored(const struct cluster *cluster, uint64_t incarnation)
{
	return cluster->config.fault == CLUSTER_NO_STORE ? 0 : incarnation;
}

/* The first complaint stays. */
static void complain(struct cluster *cluster, const char *complaint)
{
	if (!cluster->complaint)
		cluster->complaint = complaint;
}

/* ---- fdd's process */

struct fdd_process {
	struct cluster_node *node;
	struct fdd *core;
	unsigned lhm; /* last told */
};

static void fdd_run(
    struct sim *sim, unsigned process, struct fdd_process *fdd, struct fdd_event event);

static void fdd_act(
    struct sim *sim, unsigned process, struct fdd_process *fdd, const struct fdd_action *action)
{
	struct cluster *cluster = fdd->node->cluster;
	struct level_news news;

	memset(&news, 0, sizeof(news)); /* padding too: messages are hashed */
	switch (action->type) {
	case FDD_PERSIST:
		fdd->node->fdd_stored = action->incarnation;
		break;
	case FDD_SEND_HEARTBEAT:
		cluster->wire_bytes += WIRE_FRAME + WIRE_BEAT;
		sim_send(sim, process, node_of(cluster, action->send.to)->fdd, SIM_DATAGRAM, BEAT,
		    &action->send.beat, sizeof(action->send.beat));
		break;
	case FDD_LEVEL:
		news.id = action->level.peer;
		news.silent = action->level.raised;
		sim_send(sim, process, fdd->node->gossipd, SIM_STREAM, LEVEL, &news, sizeof(news));
		break;
	case FDD_DRAIN:
		/* The simulator delivers what waits before it calls a timer. */
		fdd_run(sim, process, fdd, (struct fdd_event){.type = FDD_DRAINED});
		break;
	default:
		break;
	}
}

/* Before any level of the same step. */
static void fdd_tell_health(struct sim *sim, unsigned process, struct fdd_process *fdd)
{
	unsigned lhm = fdd_lhm(fdd->core);

	if (lhm != fdd->lhm)
		sim_send(sim, process, fdd->node->gossipd, SIM_STREAM, HEALTH, &lhm, sizeof(lhm));
	fdd->lhm = lhm;
}

static void fdd_run(
    struct sim *sim, unsigned process, struct fdd_process *fdd, struct fdd_event event)
{
	struct fdd_actions actions; /* not the process's: a drain steps within the step */

	event.now = sim_now(sim, process);
	fdd_step(fdd->core, &event, &actions);
	fdd_tell_health(sim, process, fdd);
	for (size_t i = 0; i < actions.count && sim_act(sim, process); i++)
		fdd_act(sim, process, fdd, &actions.list[i]);
}

static void *fdd_boot(struct sim *sim, unsigned process, void *context)
{
	struct cluster_node *node = context;
	struct fdd_process *fdd = calloc(1, sizeof(*fdd));
	const struct cluster_config *config = &node->cluster->config;
	struct fdd_config core = {
	    .self = node->id,
	    .interval = config->interval,
	    .stall = config->interval,
	    .suspect = {.count = 1, .raise = {0.6}, .clear = 0.2, .beats = 1},
	    .peers_max = CLUSTER_MAX,
	    .registrations_max = 4,
	};
	struct fdd_event start = {.type = FDD_START};

	fdd->node = node;
	if (fdd_new(&fdd->core, &core, rng_mix(node->cluster->seed, process + node->boots++)) < 0)
		abort();
	start.start.stored_incarnation = stored(node->cluster, node->fdd_stored);
	start.start.wall_s = wall_s(node->cluster);
	fdd_run(sim, process, fdd, start);
	if (node->gossipd > 0)
		sim_send(sim, process, node->gossipd, SIM_STREAM, FDD_UP, NULL, 0);
	return fdd;
}

static void fdd_halt(void *state)
{
	struct fdd_process *fdd = state;

	fdd_free(fdd->core);
	free(fdd);
}

static void fdd_roles(
    struct sim *sim, unsigned process, struct fdd_process *fdd, const struct sim_message *message)
{
	struct fdd_event roles = {.type = FDD_SET_PEERS}, registration = {.type = FDD_REGISTER};

	roles.peers.list = message->data;
	roles.peers.count = message->size / sizeof(struct fdd_peer_role);
	fdd_run(sim, process, fdd, roles);
	registration.registration = (struct fdd_registration){
	    .id = REGISTRATION,
	    .thresholds = {.count = 1,
		.raise = {fdd->node->cluster->config.suspect_level},
		.clear = 0,
		.beats = 0},
	};
	fdd_run(sim, process, fdd, registration);
}

static void fdd_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *message)
{
	struct fdd_process *fdd = state;
	struct fdd_event beat = {.type = FDD_HEARTBEAT};

	if (message->kind == ROLES) {
		fdd_roles(sim, process, fdd, message);
		return;
	}
	beat.heartbeat.from = fdd->node->cluster->ids[sim_host_of(sim, message->from)];
	beat.heartbeat.arrived = message->arrived;
	memcpy(&beat.heartbeat.beat, message->data, sizeof(beat.heartbeat.beat));
	fdd_run(sim, process, fdd, beat);
}

static void fdd_timeout(struct sim *sim, unsigned process, void *state)
{
	fdd_run(sim, process, state, (struct fdd_event){.type = FDD_TIMEOUT});
}

static struct mono fdd_when(void *state)
{
	return fdd_deadline(((struct fdd_process *)state)->core);
}

static const struct sim_program fdd_program = {
    .boot = fdd_boot,
    .halt = fdd_halt,
    .receive = fdd_receive,
    .timeout = fdd_timeout,
    .deadline = fdd_when,
};

/* ---- gossipd's process */

struct gossipd_process {
	struct cluster_node *node;
	struct gossipd *core;
	size_t role_count;
	struct gossipd_role roles[GOSSIPD_MEMBERS_MAX];
	unsigned connections[CLUSTER_MAX]; /* the number of the last one opened, 0: closed */
	unsigned opened;
	uint64_t heard[CLUSTER_MAX]; /* highest incarnation in the datagrams of each node */
	struct gossipd_actions actions;
};

const struct gossipd *cluster_core(const struct cluster *cluster, unsigned node)
{
	struct gossipd_process *gossipd = sim_state(cluster->sim, cluster->nodes[node].gossipd);

	return gossipd ? gossipd->core : NULL;
}

static unsigned node_number(const struct cluster_node *node, uint64_t id)
{
	return node_of(node->cluster, id)->number + 1;
}

static void send_roles(struct sim *sim, unsigned process, const struct gossipd_process *gossipd)
{
	struct fdd_peer_role roles[GOSSIPD_MEMBERS_MAX];
	size_t count = 0;

	memset(roles, 0, sizeof(roles));
	for (size_t i = 0; i < gossipd->role_count; i++) {
		if (!gossipd->roles[i].watch && !gossipd->roles[i].send)
			continue;
		roles[count].id = gossipd->roles[i].id;
		roles[count].watch = gossipd->roles[i].watch;
		roles[count++].send = gossipd->roles[i].send;
	}
	sim_send(
	    sim, process, gossipd->node->fdd, SIM_STREAM, ROLES, roles, count * sizeof(roles[0]));
}

/*
 * What holds of every verdict, in any weather: it is not below an incarnation that the judge has
 * heard of from the subject itself, and not above any that the subject has had.
 */
static void check_verdict(
    struct sim *sim, struct gossipd_process *gossipd, const struct gossipd_action *action)
{
	struct cluster *cluster = gossipd->node->cluster;
	struct cluster_node *subject = node_of(cluster, action->member.id);
	struct cluster_verdict verdict = {gossipd->node->number, subject->number,
	    action->member.incarnation, action->member.from == GOSSIPD_SUSPECT};

	cluster->verdicts++;
	if (verdict.incarnation < gossipd->heard[subject->number])
		complain(
		    cluster, sim_complain(sim, "n%u judges n%u below the incarnation it has heard",
				 verdict.judge + 1, verdict.subject + 1));
	if (verdict.incarnation > subject->highest)
		complain(
		    cluster, sim_complain(sim, "n%u judges n%u at an incarnation that it never had",
				 verdict.judge + 1, verdict.subject + 1));
	if (cluster->on_verdict)
		complain(cluster, cluster->on_verdict(cluster, &verdict, cluster->argument));
}

/* In trace lines: what happened, to whom, and how many of its observers said so. */
static void trace_member(struct sim *sim, unsigned process, const struct cluster_node *node,
    const struct gossipd_action *action)
{
	bool refuted = action->member.from == GOSSIPD_SUSPECT && action->member.to == GOSSIPD_ALIVE;

	node->cluster->suspicions += action->member.to == GOSSIPD_SUSPECT;
	node->cluster->refutations += refuted;
	sim_trace(sim, process, "%s n%u (%u of %u)",
	    refuted ? "refuted" : gossipd_state_name(action->member.to),
	    node_number(node, action->member.id), action->member.votes, action->member.observers);
}

static void send_meta(struct sim *sim, unsigned process, const struct cluster_node *node,
    const struct gossipd_action *action)
{
	struct meta_request request;

	memset(&request, 0, sizeof(request));
	request.ticket = action->meta.ticket;
	request.put = action->type == GOSSIPD_META_PUT;
	request.expected = action->meta.expected;
	request.fact = action->meta.fact;
	sim_send(sim, process, node->cluster->store, SIM_STREAM, META, &request, sizeof(request));
}

/* A copy without what stood in the padding: messages are hashed. */
static void copy_gram(struct gossipd_gram *to, const struct gossipd_gram *from)
{
	memset(to, 0, sizeof(*to));
	to->incarnation = from->incarnation;
	to->number = from->number;
	to->digest = from->digest;
	to->ballot_count = from->ballot_count;
	memcpy(to->ballots, from->ballots, from->ballot_count * sizeof(to->ballots[0]));
	to->rumour_count = from->rumour_count;
	for (size_t i = 0; i < from->rumour_count; i++) {
		to->rumours[i].id = from->rumours[i].id;
		to->rumours[i].incarnation = from->rumours[i].incarnation;
		to->rumours[i].state = from->rumours[i].state;
	}
}

static bool lies(const struct cluster_node *node)
{
	return node->cluster->config.liar == node->number + 1;
}

static void send_gram(struct sim *sim, unsigned process, struct gossipd_process *gossipd,
    const struct gossipd_action *action)
{
	struct cluster_node *to = node_of(gossipd->node->cluster, action->send.to);
	struct gossipd_gram gram;

	if (gossipd->actions.gram.incarnation > gossipd->node->highest)
		gossipd->node->highest = gossipd->actions.gram.incarnation;
	copy_gram(&gram, &gossipd->actions.gram);
	gram.accused = action->send.accused;
	gram.damped = action->send.damped;
	gram.reply = action->send.reply;
	gram.answer = action->send.answer;
	if (lies(gossipd->node))
		liar_gram(sim_rng(sim), gossipd->core, gossipd->node->id, action->send.to, &gram);
	gossipd->node->cluster->wire_bytes += wire_size(&gram);
	sim_send(sim, process, to->gossipd, SIM_DATAGRAM, GRAM, &gram, sizeof(gram));
}

static void trace_coordinator(struct sim *sim, unsigned process, const struct cluster_node *node,
    const struct gossipd_action *action)
{
	unsigned number = action->coord.node ? node_number(node, action->coord.node) : 0;

	if (action->coord.lost)
		sim_trace(sim, process, "lost the lease");
	if (action->coord.held)
		sim_trace(sim, process, "holds epoch %u", (unsigned)action->coord.epoch);
	else
		sim_trace(sim, process, "coordinator n%u epoch %u", number,
		    (unsigned)action->coord.epoch);
}

static void open_connection(struct sim *sim, unsigned process, struct gossipd_process *gossipd,
    const struct gossipd_action *action)
{
	const struct cluster_node *to = node_of(gossipd->node->cluster, action->reach.id);
	unsigned *number = &gossipd->connections[to->number];

	*number = action->reach.begin ? ++gossipd->opened : 0;
	if (*number)
		sim_send(sim, process, to->kernel, SIM_STREAM, OPEN, number, sizeof(*number));
}

static void gossipd_act(struct sim *sim, unsigned process, struct gossipd_process *gossipd,
    const struct gossipd_action *action)
{
	struct cluster_node *node = gossipd->node;

	switch (action->type) {
	case GOSSIPD_PERSIST:
		if (action->incarnation <= node->highest)
			complain(
			    node->cluster, sim_complain(sim, "n%u starts at an old incarnation",
					       node->number + 1));
		node->gossipd_stored = node->highest = action->incarnation;
		break;
	case GOSSIPD_PEERS:
		gossipd->role_count = gossipd->actions.role_count;
		memcpy(gossipd->roles, gossipd->actions.roles, sizeof(gossipd->roles));
		send_roles(sim, process, gossipd);
		break;
	case GOSSIPD_MEMBER:
		trace_member(sim, process, node, action);
		if (action->member.to == GOSSIPD_DEAD)
			check_verdict(sim, gossipd, action);
		break;
	case GOSSIPD_DAMPED:
		sim_trace(sim, process, "%s n%u", action->damped.damped ? "flapping" : "stable",
		    node_number(node, action->damped.id));
		break;
	case GOSSIPD_ISOLATED:
		sim_trace(sim, process, action->isolated ? "isolated" : "in touch again");
		break;
	case GOSSIPD_COORD:
		trace_coordinator(sim, process, node, action);
		break;
	case GOSSIPD_META_GET:
	case GOSSIPD_META_PUT:
		send_meta(sim, process, node, action);
		break;
	case GOSSIPD_PULL:
		sim_send(sim, process, node_of(node->cluster, action->peer)->gossipd, SIM_STREAM,
		    PULL, NULL, 0);
		break;
	case GOSSIPD_SEND:
		send_gram(sim, process, gossipd, action);
		break;
	case GOSSIPD_GONE:
		sim_trace(sim, process, "gone");
		break;
	case GOSSIPD_REACH:
		open_connection(sim, process, gossipd, action);
		break;
	case GOSSIPD_STALLED:
		sim_trace(sim, process, "stalled n%u", node_number(node, action->member.id));
		break;
	case GOSSIPD_REIGN:
	case GOSSIPD_CLUSTER:
	case GOSSIPD_CROSS:
	case GOSSIPD_PULL_CLUSTERS:
		break; /* there is one cluster only */
	}
}

static void gossipd_run(
    struct sim *sim, unsigned process, struct gossipd_process *gossipd, struct gossipd_event event)
{
	event.now = sim_now(sim, process);
	gossipd_step(gossipd->core, &event, &gossipd->actions);
	for (size_t i = 0; i < gossipd->actions.count && sim_act(sim, process); i++)
		gossipd_act(sim, process, gossipd, &gossipd->actions.list[i]);
}

static void *gossipd_boot(struct sim *sim, unsigned process, void *context)
{
	struct cluster_node *node = context;
	struct gossipd_process *gossipd = calloc(1, sizeof(*gossipd));
	struct gossipd_config config = node->cluster->config.gossipd;
	struct gossipd_event start = {.type = GOSSIPD_START};

	gossipd->node = node;
	config.self = node->id;
	config.members = node->cluster->ids;
	config.member_count = node->cluster->config.nodes;
	if (gossipd_new(
		&gossipd->core, &config, rng_mix(node->cluster->seed, process + node->boots++)) < 0)
		abort();
	start.start.stored_incarnation = stored(node->cluster, node->gossipd_stored);
	start.start.wall_s = node->clock_set_back ? 1 : wall_s(node->cluster);
	gossipd_run(sim, process, gossipd, start);
	return gossipd;
}

static void gossipd_halt(void *state)
{
	struct gossipd_process *gossipd = state;

	gossipd_free(gossipd->core);
	free(gossipd);
}

static void answer_pull(
    struct sim *sim, unsigned process, struct gossipd_process *gossipd, unsigned to)
{
	struct gossipd_entry entries[GOSSIPD_MEMBERS_MAX], clean[GOSSIPD_MEMBERS_MAX];
	size_t count = gossipd_view(gossipd->core, entries);

	if (lies(gossipd->node))
		count = liar_view(sim_rng(sim), gossipd->core, gossipd->node->id, entries);
	memset(clean, 0, sizeof(clean));
	for (size_t i = 0; i < count; i++) {
		clean[i].id = entries[i].id;
		clean[i].incarnation = entries[i].incarnation;
		clean[i].state = entries[i].state;
	}
	sim_send(sim, process, to, SIM_STREAM, VIEW, clean, count * sizeof(clean[0]));
}

static struct gossipd_event event_of(
    const struct gossipd_process *gossipd, struct sim *sim, const struct sim_message *message)
{
	struct gossipd_event event = {0};
	const struct cluster *cluster = gossipd->node->cluster;
	unsigned host = sim_host_of(sim, message->from);
	uint64_t from = host < cluster->config.nodes ? cluster->ids[host] : 0;
	const struct level_news *news = message->data;
	const struct meta_answer *answer = message->data;

	switch (message->kind) {
	case LEVEL:
		event.type = GOSSIPD_LEVEL;
		event.level.id = news->id;
		event.level.silent = news->silent;
		break;
	case HEALTH:
		event.type = GOSSIPD_HEALTH;
		memcpy(&event.lhm, message->data, sizeof(event.lhm));
		break;
	case ACCEPTED:
	case REFUSED:
	case GREETING:
		event.type = GOSSIPD_REACHED;
		event.reached.id = from;
		event.reached.mute = message->kind == ACCEPTED;
		break;
	case GRAM:
		event.type = GOSSIPD_GRAM;
		event.gram.from = from;
		event.gram.gram = message->data;
		break;
	case VIEW:
		event.type = GOSSIPD_VIEW;
		event.view.from = from;
		event.view.entries = message->data;
		event.view.count = message->size / sizeof(struct gossipd_entry);
		break;
	case META_END:
		event.type = GOSSIPD_META_RESULT;
		event.meta.ticket = answer->ticket;
		event.meta.rc = answer->rc;
		event.meta.version = answer->version;
		event.meta.fact = answer->fact;
		break;
	case HINT:
		event.type = GOSSIPD_META_HINT;
		break;
	case LEAVE:
		event.type = GOSSIPD_LEAVE;
		break;
	default:
		event.type = GOSSIPD_FDD_LOST;
		break;
	}
	return event;
}

/* Notes what the sender says of itself; false if the datagram is left unread. */
static bool take_gram(
    struct sim *sim, struct gossipd_process *gossipd, const struct sim_message *message)
{
	const struct gossipd_gram *gram = message->data;
	struct cluster *cluster = gossipd->node->cluster;
	uint64_t *heard = &gossipd->heard[sim_host_of(sim, message->from)];

	if (gram->incarnation > *heard)
		*heard = gram->incarnation;
	return cluster->config.fault != CLUSTER_NO_GOSSIP &&
	       (cluster->config.fault != CLUSTER_DEAF || rng_chance(&cluster->fates, 0.5));
}

static void greet(struct sim *sim, unsigned process, const struct sim_message *message)
{
	struct greet asked;

	memcpy(&asked, message->data, sizeof(asked));
	sim_send(
	    sim, process, asked.asker, SIM_STREAM, GREETING, &asked.number, sizeof(asked.number));
}

static bool of_open_connection(
    struct sim *sim, const struct gossipd_process *gossipd, const struct sim_message *message)
{
	unsigned number;

	memcpy(&number, message->data, sizeof(number));
	return gossipd->connections[sim_host_of(sim, message->from)] == number;
}

static void gossipd_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *message)
{
	struct gossipd_process *gossipd = state;
	enum cluster_fault fault = gossipd->node->cluster->config.fault;

	if (message->kind == PULL) {
		if (fault != CLUSTER_NO_PULLS)
			answer_pull(sim, process, gossipd, message->from);
		return;
	}
	if (message->kind == GRAM && !take_gram(sim, gossipd, message))
		return;
	if (message->kind == GREET) {
		greet(sim, process, message);
		return;
	}
	if (message->kind >= ACCEPTED && !of_open_connection(sim, gossipd, message))
		return;
	gossipd_run(sim, process, gossipd, event_of(gossipd, sim, message));
	if (message->kind == FDD_UP)
		send_roles(sim, process, gossipd);
}

static void gossipd_timeout(struct sim *sim, unsigned process, void *state)
{
	gossipd_run(sim, process, state, (struct gossipd_event){.type = GOSSIPD_TIMEOUT});
}

static struct mono gossipd_when(void *state)
{
	return gossipd_deadline(((struct gossipd_process *)state)->core);
}

static const struct sim_program gossipd_program = {
    .boot = gossipd_boot,
    .halt = gossipd_halt,
    .receive = gossipd_receive,
    .timeout = gossipd_timeout,
    .deadline = gossipd_when,
};

/* ---- the kernel: it accepts connections while gossipd is there, which greets when it runs */

static void *kernel_boot(struct sim *sim, unsigned process, void *context)
{
	(void)sim;
	(void)process;
	return context;
}

static void kernel_halt(void *state)
{
	(void)state;
}

static void kernel_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *message)
{
	const struct cluster_node *node = state;
	bool there = sim_running(sim, node->gossipd);
	struct greet ask = {.asker = message->from};

	memcpy(&ask.number, message->data, sizeof(ask.number));
	sim_send(sim, process, message->from, SIM_STREAM, there ? ACCEPTED : REFUSED, &ask.number,
	    sizeof(ask.number));
	if (there)
		sim_send(sim, process, node->gossipd, SIM_STREAM, GREET, &ask, sizeof(ask));
}

static void no_timeout(struct sim *sim, unsigned process, void *state)
{
	(void)sim;
	(void)process;
	(void)state;
}

static struct mono no_deadline(void *state)
{
	(void)state;
	return MONO_NEVER;
}

static const struct sim_program kernel_program = {
    .boot = kernel_boot,
    .halt = kernel_halt,
    .receive = kernel_receive,
    .timeout = no_timeout,
    .deadline = no_deadline,
};

/* ---- the store's process: metad's memory backend, asked over streams */

struct store_process {
	struct cluster *cluster;
	struct store_memory *memory;
	struct store *client;
	struct sim *sim;
	unsigned process;
};

struct asked {
	struct store_process *store;
	unsigned from;
	struct meta_request request;
};

static void answer_meta(void *argument, const struct store_reply *reply)
{
	struct asked *asked = argument;
	struct meta_answer answer;

	memset(&answer, 0, sizeof(answer));
	answer.ticket = asked->request.ticket;
	answer.rc = reply->rc == 0                ? GOSSIPD_META_OK
		    : reply->rc == STORE_CONFLICT ? GOSSIPD_META_CONFLICT
						  : GOSSIPD_META_DOUBT;
	if (reply->rc == 0 && asked->request.put) {
		answer.version = reply->revision;
		answer.fact = asked->request.fact;
	} else if (reply->rc == 0) {
		answer.version = reply->entries[0].version;
		if (answer.version != 0)
			memcpy(&answer.fact, reply->entries[0].value, sizeof(answer.fact));
	}
	sim_send(asked->store->sim, asked->store->process, asked->from, SIM_STREAM, META_END,
	    &answer, sizeof(answer));
	free(asked);
}

static void store_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *message)
{
	struct store_process *store = state;
	struct asked *asked = malloc(sizeof(*asked));
	struct mono deadline = mono_add_ms(sim_now(sim, process), 1000);

	*asked = (struct asked){.store = store, .from = message->from};
	memcpy(&asked->request, message->data, sizeof(asked->request));
	if (asked->request.put) {
		struct store_op op = {key, asked->request.expected, STORE_PUT, &asked->request.fact,
		    sizeof(asked->request.fact)};
		struct store_txn txn = {.ops = &op,
		    .count = 1,
		    .deadline = deadline,
		    .nonce = {{asked->request.ticket, message->from + 1}}};

		if (store_txn(store->client, &txn, answer_meta, asked) < 0)
			abort();
	} else if (store_get(store->client, key, deadline, answer_meta, asked) < 0) {
		abort();
	}
	store_memory_run(store->memory, 100);
}

static enum store_fate store_fate(void *argument, const struct store_txn *txn)
{
	struct store_process *store = argument;
	struct cluster *cluster = store->cluster;

	(void)txn;
	if (!rng_chance(&cluster->fates, cluster->config.doubt))
		return STORE_FATE_NORMAL;
	return STORE_FATE_UNREACHABLE + (enum store_fate)rng_below(&cluster->fates, 4);
}

static void store_hinted(void *argument, const char *changed, uint64_t revision)
{
	struct store_process *store = argument;

	(void)changed;
	(void)revision;
	for (unsigned i = 0; i < store->cluster->config.nodes; i++)
		sim_send(store->sim, store->process, store->cluster->nodes[i].gossipd, SIM_STREAM,
		    HINT, NULL, 0);
}

static void *store_boot(struct sim *sim, unsigned process, void *context)
{
	struct store_process *store = calloc(1, sizeof(*store));
	struct store_memory_config config = {.fate = store_fate, .arg = store};
	struct store_watch *watch;

	*store = (struct store_process){.cluster = context, .sim = sim, .process = process};
	if (store_memory_new(&store->memory, &config) < 0 ||
	    store_memory_open(store->memory, &store->client) < 0 ||
	    store_watch(store->client, key, store_hinted, store, &watch) < 0)
		abort();
	return store;
}

static void store_halt(void *state)
{
	struct store_process *store = state;

	store_close(store->client);
	store_memory_free(store->memory);
	free(store);
}

static const struct sim_program store_program = {
    .boot = store_boot,
    .halt = store_halt,
    .receive = store_receive,
    .timeout = no_timeout,
    .deadline = no_deadline,
};

/* ---- invariants */

static const char *cores_hold(struct sim *sim, unsigned process, void *argument)
{
	struct cluster *cluster = argument;
	struct cluster_node *node;

	if (cluster->complaint)
		return cluster->complaint;
	if (process == cluster->store || !sim_running(sim, process) ||
	    ++cluster->steps % cluster->config.check_every != 0)
		return NULL;
	node = &cluster->nodes[sim_host_of(sim, process)];
	if (process == node->kernel)
		return NULL;
	if (process == node->fdd)
		return fdd_invariant(((struct fdd_process *)sim_state(sim, process))->core);
	return gossipd_invariant(cluster_core(cluster, node->number));
}

/* Epochs are written by their holder only, so at most one may believe in its lease. */
static const char *one_holder(struct sim *sim, unsigned process, void *argument)
{
	struct cluster *cluster = argument;
	unsigned holders = 0;

	if (process != cluster->store)
		return NULL;
	for (unsigned i = 0; i < cluster->config.nodes; i++) {
		const struct gossipd *core = cluster_core(cluster, i);
		uint64_t coordinator, epoch;
		bool held = false;

		if (core)
			gossipd_coordinator(core, sim_now(sim, cluster->nodes[i].gossipd),
			    &coordinator, &epoch, &held);
		holders += held;
	}
	return holders > 1 ? "two hold the coordinator's lease" : NULL;
}

/* ---- the cluster */

struct cluster_config cluster_defaults(unsigned nodes)
{
	struct cluster_config config = {
	    .nodes = nodes,
	    .interval = mono_ms(250),
	    .suspect_level = 0.5,
	    .check_every = 1,
	};

	gossipd_config_profile(&config.gossipd, GOSSIPD_BALANCED);
	config.gossipd.observers = 3;
	config.gossipd.gossip = mono_ms(500);
	config.gossipd.tell = mono_ms(50);
	config.gossipd.confirm = mono_ms(200);
	gossipd_config_derive(&config.gossipd);
	return config;
}

struct cluster_config cluster_profile(unsigned nodes, enum gossipd_profile profile)
{
	static const int64_t intervals_ms[] = {
	    [GOSSIPD_FAST] = 100, [GOSSIPD_BALANCED] = 500, [GOSSIPD_ECONOMY] = 1000};
	struct cluster_config config = cluster_defaults(nodes);

	config.interval = mono_ms(intervals_ms[profile]);
	config.suspect_level = 0.45;
	gossipd_config_profile(&config.gossipd, profile);
	return config;
}

void cluster_links(struct cluster *cluster, const struct sim_link *link)
{
	struct sim_link links = *link;

	if (links.delay.ns == 0) {
		links.delay = cluster_lan.delay;
		links.jitter = cluster_lan.jitter;
	}
	sim_link_all(cluster->sim, &links);
	for (unsigned i = 0; i < cluster->config.nodes; i++) {
		*sim_link(cluster->sim, i, cluster->config.nodes) = cluster_lan;
		*sim_link(cluster->sim, cluster->config.nodes, i) = cluster_lan;
	}
}

/* Messages name processes, so numbers are known beforehand. */
static void number_processes(struct cluster_node *node)
{
	node->fdd = 1 + 3 * node->number;
	node->gossipd = node->fdd + 1;
	node->kernel = node->fdd + 2;
}

static void spawn_node(struct cluster *cluster, unsigned i)
{
	struct cluster_node *node = &cluster->nodes[i];

	*node = (struct cluster_node){.cluster = cluster, .number = i, .id = cluster->ids[i]};
	number_processes(node);
	sim_spawn(cluster->sim, i, "fdd", &fdd_program, node);
	sim_spawn(cluster->sim, i, "gossipd", &gossipd_program, node);
	sim_spawn(cluster->sim, i, "kernel", &kernel_program, node);
}

struct cluster *cluster_new(const struct cluster_config *config, uint64_t seed)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));

	cluster->config = *config;
	cluster->seed = seed;
	rng_init(&cluster->fates, rng_mix(seed, 3));
	cluster->sim = sim_new(seed, config->nodes + 1);
	sim_link_all(cluster->sim, &cluster_lan);
	cluster->numbers.value_size = sizeof(unsigned);
	for (unsigned i = 0; i < config->nodes; i++) {
		uint64_t id = cluster->ids[i] = rng_mix(seed, 1000 + i) | 1;

		*(unsigned *)pairs_get(&cluster->numbers, (unsigned)(id >> 32), (unsigned)id) = i;
	}
	for (unsigned i = 0; i < config->nodes; i++) {
		cluster->nodes[i].number = i;
		number_processes(&cluster->nodes[i]);
	}
	cluster->store = sim_spawn(cluster->sim, config->nodes, "metad", &store_program, cluster);
	sim_partition_range(cluster->sim, config->nodes - config->late, config->late);
	for (unsigned i = 0; i < config->nodes; i++)
		spawn_node(cluster, i);
	for (unsigned i = config->nodes - config->late; i < config->nodes; i++)
		sim_crash_host(cluster->sim, i);
	sim_heal(cluster->sim);
	sim_invariant(cluster->sim, cores_hold, cluster);
	sim_invariant(cluster->sim, one_holder, cluster);
	return cluster;
}

struct cluster *cluster_free(struct cluster *cluster)
{
	pairs_fini(&cluster->numbers);
	free(cluster);
	return NULL;
}

void cluster_kill(struct cluster *cluster, unsigned node)
{
	sim_crash_host(cluster->sim, node);
}

void cluster_restart(struct cluster *cluster, unsigned node)
{
	cluster->nodes[node].left = false;
	sim_boot_host(cluster->sim, node);
}

void cluster_leave(struct cluster *cluster, unsigned node)
{
	const struct cluster_node *leaver = &cluster->nodes[node];

	cluster->nodes[node].left = true;
	sim_send(cluster->sim, leaver->fdd, leaver->gossipd, SIM_STREAM, LEAVE, NULL, 0);
}
