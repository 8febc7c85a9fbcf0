#include "tests/sim/leases.h"

#include <stdlib.h>
#include <string.h>

#include "gossipd/coord.h"
#include "migrated/lease.h"

#define NODES 3
/* Hosts and processes: the store, the nodes, and the store's way for writes, which takes its own time: a write may be done
 * late, after reads that were asked after it.  All messages are datagrams: what is held back by a cut link for ever is
 * worse than lost, and a doubled compare-and-swap does nothing. */
#define STORE 0
#define WRITER (NODES + 1)

enum {
	COORD_LEASE_MS = 2000,
	LEASE_MS = 2000,
	LOOK_MS = 250,
	DOUBT_MS = 200,
	WEATHER_MS = 40000,
	QUIET_MS = 10000,
	DETECTION_MS = 1000, /* from a crash to the verdict */
	FAILOVER_MS = 600,   /* of the store */
	LOST_MS = 6000,      /* silent for longer: not a message that was lost */
};

enum kind { KIND_GET, KIND_PUT_COORD, KIND_PUT_VE, KIND_REPLY, KIND_HINT, KIND_RENEW, KIND_GRANT };

/* All that stands in the store. */
struct facts {
	uint64_t coord_version, ve_version;
	struct gossipd_fact coord;
	uint64_t epoch;
	unsigned node; /* of the VE: a process */
};

struct message {
	enum kind kind; /* REPLY: of what */
	uint64_t ticket, id, epoch;
	uint64_t coord_expected, ve_expected;
	struct gossipd_fact coord;
	unsigned node;
	bool ok;
	int64_t length_ns;
	struct facts facts;
};

/* What survives its process. */
struct host {
	struct world *world;
	unsigned process;
	struct lease_rule rule;
	bool dead;    /* and its copy with it */
	bool present; /* a copy of the VE */
	uint64_t epoch;
	struct mono gate; /* the copy is heard until then, on the host's clock */
	bool shut;        /* WEAK_GATE_IN_PROCESS */
};

struct node {
	struct host *host;
	struct coord coord;
	struct lease_holder holder;
	struct lease_giver giver;
	struct facts facts;
	bool have_facts, reigns, taking;
	uint64_t reign; /* its epoch */
	struct mono booted_at;
	bool accuses; /* its detector says that the VE's node is dead */
	uint64_t ticket, take_ticket, take_checked;
	struct mono look_at, take_at;
};

struct world {
	enum weakness weakness;
	const struct leases_case *how;    /* NULL: no measuring */
	struct mono silent_from, longest; /* true time */
	unsigned victim; /* a process; its VE's node is held for dead DETECTION_MS later */
	bool detected;
	struct facts facts;
	struct host hosts[NODES + 1];
	uint64_t highest; /* epoch that was heard */
};

static struct lease_rule make_rule(enum weakness weakness, int64_t lease_ms)
{
	struct lease_rule rule = {.lease = mono_ms(lease_ms), .renewal = mono_ms(lease_ms / 8)};

	if (weakness != WEAK_NO_DRIFT) {
		rule.slack = mono_ms(lease_ms / 40);
		rule.drift = 0.01;
	}
	return rule;
}

static bool waits(const struct world *world)
{
	return world->how && world->how->waits;
}

/* --- the store: everything in order, each answer with all that stands there --- */

static void *store_boot(struct sim *sim, unsigned process, void *context)
{
	(void)sim;
	(void)process;
	return context;
}

static void store_halt(void *state)
{
	(void)state;
}

static void store_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *packet)
{
	struct world *world = state;
	struct facts *facts = &world->facts;
	struct message message, reply = {0};

	memcpy(&message, packet->data, sizeof(message));
	reply.kind = message.kind;
	reply.ticket = message.ticket;
	reply.ok = message.kind == KIND_GET || message.coord_expected == facts->coord_version;
	if (message.kind == KIND_PUT_VE)
		reply.ok = reply.ok && message.ve_expected == facts->ve_version;
	if (reply.ok && message.kind == KIND_PUT_COORD) {
		facts->coord_version++;
		facts->coord = message.coord;
	} else if (reply.ok && message.kind == KIND_PUT_VE) {
		facts->ve_version++;
		facts->epoch = message.epoch;
		facts->node = message.node;
		sim_trace(sim, process, "the VE goes to n%u, epoch %u", message.node,
		    (unsigned)message.epoch);
	}
	reply.facts = *facts;
	if (sim_act(sim, process))
		sim_send(
		    sim, process, packet->from, SIM_DATAGRAM, KIND_REPLY, &reply, sizeof(reply));
	/* Whom it concerns watches. */
	reply.kind = KIND_HINT;
	for (unsigned i = 1; reply.ok && message.kind == KIND_PUT_COORD && i <= NODES; i++)
		if (i != packet->from && sim_act(sim, process))
			sim_send(sim, process, i, SIM_DATAGRAM, KIND_HINT, &reply, sizeof(reply));
	if (reply.ok && message.kind == KIND_PUT_VE && message.node != packet->from &&
	    sim_act(sim, process)) {
		reply.ticket = 0;
		sim_send(
		    sim, process, message.node, SIM_DATAGRAM, KIND_REPLY, &reply, sizeof(reply));
	}
}

static void store_timeout(struct sim *sim, unsigned process, void *state)
{
	(void)sim;
	(void)process;
	(void)state;
}

static struct mono store_deadline(void *state)
{
	(void)state;
	return MONO_NEVER;
}

static const struct sim_program store_program = {.boot = store_boot,
    .halt = store_halt,
    .receive = store_receive,
    .timeout = store_timeout,
    .deadline = store_deadline};

/* --- a node --- */

static void post(struct sim *sim, unsigned from, unsigned to, const struct message *message)
{
	if (sim_act(sim, from))
		sim_send(sim, from, to, SIM_DATAGRAM, message->kind, message, sizeof(*message));
}

/* As migrated's core has it: when what was granted before this reign is over. */
static struct mono owed(const struct node *node, struct mono now)
{
	const struct world *world = node->host->world;
	struct mono left = mono_sub(node->coord.held_until, now);

	if (waits(world))
		return mono_add(now, node->host->rule.lease);
	if (mono_before(node->booted_at, node->coord.since) || world->weakness == WEAK_CONTINUED)
		return world->weakness == WEAK_CONTINUED ? MONO_ZERO : node->coord.since;
	return mono_add(now, lease_stretch(&node->host->rule, left));
}

static void run_coord(
    struct sim *sim, unsigned process, struct node *node, const struct gossipd_event *result)
{
	static struct gossipd_actions actions;

	actions.count = 0;
	if (result)
		coord_result(&node->coord, result, &actions);
	coord_run(&node->coord, sim_now(sim, process), &actions);
	for (size_t i = 0; i < actions.count; i++) {
		const struct gossipd_action *action = &actions.list[i];
		struct message message = {.ticket = action->meta.ticket};

		if (action->type == GOSSIPD_COORD || action->type == GOSSIPD_REIGN)
			continue;
		message.kind = action->type == GOSSIPD_META_GET ? KIND_GET : KIND_PUT_COORD;
		message.coord_expected = action->meta.expected;
		message.coord = action->meta.fact;
		post(sim, process, STORE, &message);
	}
	if (node->reign != node->coord.fact.epoch)
		lease_ask_again(&node->holder);
	if (node->coord.held && (!node->reigns || node->reign != node->coord.fact.epoch)) {
		sim_trace(sim, process, "reigns");
		lease_giver_init(
		    &node->giver, &node->host->rule, owed(node, sim_now(sim, process)));
		node->have_facts = node->taking = false;
		node->look_at = sim_now(sim, process);
	}
	node->reigns = node->coord.held;
	node->reign = node->coord.fact.epoch;
}

static void *node_boot(struct sim *sim, unsigned process, void *context)
{
	struct node *node = calloc(1, sizeof(*node));
	const struct world *world = ((struct host *)context)->world;
	const struct gossipd_config config = {.self = process,
	    .lease = mono_ms(world->how ? world->how->coord_lease_ms : COORD_LEASE_MS),
	    .stagger = mono_ms(100)};

	node->host = context;
	node->booted_at = sim_now(sim, process);
	node->look_at = sim_now(sim, process);
	node->take_at = MONO_NEVER;
	coord_init(&node->coord, &config, sim_now(sim, process), rng_u64(sim_rng(sim)) >> 1);
	node->coord.rank = process - 1;
	node->ticket = rng_u64(sim_rng(sim)) >> 1;
	lease_holder_init(&node->holder, &node->host->rule);
	node->holder.last_id = rng_u64(sim_rng(sim)) >> 1;
	if (node->host->present)
		lease_want(&node->holder, "ve", node->host->epoch);
	return node;
}

/* Takes the VE away, if its lease allows it. */
static void take(struct sim *sim, unsigned process, struct node *node)
{
	const struct world *world = node->host->world;
	struct mono now = sim_now(sim, process);
	struct message message = {.kind = KIND_PUT_VE};

	if (!node->reigns || !node->have_facts || node->taking || !node->accuses ||
	    (world->weakness != WEAK_NO_LEASE &&
		mono_before(now, lease_free_at(&node->giver, "ve"))))
		return;
	message.ticket = node->take_ticket = ++node->ticket;
	message.coord_expected = node->take_checked = node->coord.version;
	message.ve_expected = node->facts.ve_version;
	message.epoch = node->facts.epoch + 1;
	do
		message.node = 1 + (unsigned)rng_below(sim_rng(sim), NODES);
	while (world->hosts[message.node].dead);
	node->taking = true;
	node->have_facts = node->accuses = false;
	node->take_at = mono_add_ms(now, DOUBT_MS);
	post(sim, process, WRITER, &message);
}

/* Makes the copy here agree with the facts. */
static void keep(struct sim *sim, unsigned process, struct node *node)
{
	struct host *host = node->host;

	if (node->facts.node == process && (!host->present || node->facts.epoch > host->epoch)) {
		lease_want(&node->holder, "ve", node->facts.epoch);
	} else if (node->facts.node != process && node->facts.epoch > host->epoch) {
		if (host->present)
			sim_trace(sim, process, "ends its copy of epoch %u", (unsigned)host->epoch);
		host->present = false;
		lease_drop(&node->holder, "ve");
	}
}

static void take_reply(
    struct sim *sim, unsigned process, struct node *node, const struct message *reply)
{
	if (reply->facts.ve_version >= node->facts.ve_version)
		node->facts = reply->facts;
	node->have_facts = true;
	/* A write in doubt can no longer happen once what it compares with has changed. */
	if (node->taking && (reply->ticket == node->take_ticket ||
				reply->facts.coord_version > node->take_checked)) {
		node->taking = false;
		node->take_at = MONO_NEVER;
	}
	keep(sim, process, node);
}

static void on_reply(
    struct sim *sim, unsigned process, struct node *node, const struct message *reply)
{
	struct gossipd_event result = {.type = GOSSIPD_META_RESULT, .now = sim_now(sim, process)};

	result.meta.ticket = reply->ticket;
	result.meta.rc = reply->ok ? GOSSIPD_META_OK : GOSSIPD_META_CONFLICT;
	result.meta.version = reply->facts.coord_version;
	result.meta.fact = reply->facts.coord;
	take_reply(sim, process, node, reply);
	run_coord(sim, process, node, &result);
}

static void on_hint(struct sim *sim, unsigned process, struct node *node)
{
	coord_hint(&node->coord);
	run_coord(sim, process, node, NULL);
}

static void on_renew(struct sim *sim, unsigned process, struct node *node, unsigned from,
    const struct message *renewal)
{
	enum weakness weakness = node->host->world->weakness;
	struct mono now = sim_now(sim, process);
	struct message grant = {.kind = KIND_GRANT, .id = renewal->id, .epoch = renewal->epoch};
	struct mono length = lease_length(&node->host->rule, mono_sub(node->coord.held_until, now));
	bool reigns = node->reigns && length.ns > 0;

	if (weakness == WEAK_OUTLASTS || weakness == WEAK_DEPOSED || waits(node->host->world))
		length = lease_length(&node->host->rule, node->host->rule.lease);
	grant.length_ns = length.ns;
	if (!reigns && weakness != WEAK_DEPOSED)
		return;
	if (!node->have_facts || node->facts.node != from || node->facts.epoch != renewal->epoch)
		return;
	if (node->taking && weakness != WEAK_GRANT_TAKEN)
		return;
	if (lease_hear(&node->giver, "ve", now) == 0)
		post(sim, process, from, &grant);
}

static void on_grant(
    struct sim *sim, unsigned process, struct node *node, const struct message *grant)
{
	struct host *host = node->host;
	struct mono now = sim_now(sim, process), length = mono_ns(grant->length_ns), until;

	if (host->world->weakness == WEAK_OWN_LENGTH)
		length = lease_length(&host->rule, host->rule.lease);
	if (!lease_granted(&node->holder, grant->id, length, "ve", grant->epoch))
		return;
	until = lease_until(&node->holder, "ve", grant->epoch);
	if (host->world->weakness == WEAK_FROM_GRANT)
		until = mono_add(now, length);
	if (mono_due(until, now))
		return;
	if (!host->present || host->epoch < grant->epoch)
		sim_trace(sim, process, "starts a copy of epoch %u", (unsigned)grant->epoch);
	host->present = true;
	host->epoch = grant->epoch;
	host->gate = until;
	host->shut = false;
}

static void node_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *packet)
{
	struct message message;

	memcpy(&message, packet->data, sizeof(message));
	if (packet->kind == KIND_REPLY)
		on_reply(sim, process, state, &message);
	else if (packet->kind == KIND_HINT)
		on_hint(sim, process, state);
	else if (packet->kind == KIND_RENEW)
		on_renew(sim, process, state, packet->from, &message);
	else
		on_grant(sim, process, state, &message);
}

static void look(struct sim *sim, unsigned process, struct node *node)
{
	struct message message = {.kind = KIND_GET, .ticket = ++node->ticket};

	node->look_at = mono_add_ms(
	    sim_now(sim, process), LOOK_MS + (int64_t)rng_below(sim_rng(sim), LOOK_MS / 4));
	post(sim, process, STORE, &message);
	if (node->host->world->how)
		node->accuses =
		    node->host->world->detected && node->facts.node == node->host->world->victim;
	else if (rng_chance(sim_rng(sim), 0.15))
		node->accuses = !node->accuses;
}

static void renew(struct sim *sim, unsigned process, struct node *node)
{
	struct message message = {.kind = KIND_RENEW};

	message.id = lease_renew(&node->holder, sim_now(sim, process));
	message.epoch = node->holder.leases[0].epoch;
	if (node->coord.fact.node)
		post(sim, process, (unsigned)node->coord.fact.node, &message);
}

static void node_timeout(struct sim *sim, unsigned process, void *state)
{
	struct node *node = state;
	struct mono now = sim_now(sim, process);

	if (node->host->present && mono_due(node->host->gate, now))
		node->host->shut = true;
	if (mono_due(node->take_at, now)) {
		node->take_at = MONO_NEVER;
		if (node->host->world->weakness == WEAK_DOUBT_IS_NO)
			node->taking = false;
	}
	run_coord(sim, process, node, NULL);
	if (mono_due(node->look_at, now))
		look(sim, process, node);
	if (mono_due(node->holder.renew_at, now))
		renew(sim, process, node);
	take(sim, process, node);
}

static struct mono node_deadline(void *state)
{
	const struct node *node = state;
	struct mono at = mono_min(coord_deadline(&node->coord), node->look_at);

	at = mono_min(at, mono_min(node->take_at, node->holder.renew_at));
	if (node->reigns && node->accuses && node->have_facts && !node->taking)
		at = mono_min(at, lease_free_at(&node->giver, "ve"));
	return node->host->present && !node->host->shut ? mono_min(at, node->host->gate) : at;
}

static const struct sim_program node_program = {.boot = node_boot,
    .halt = free,
    .receive = node_receive,
    .timeout = node_timeout,
    .deadline = node_deadline};

/* --- the invariant --- */

static bool is_heard(struct sim *sim, const struct host *host)
{
	if (!host->present || host->dead)
		return false;
	return host->world->weakness == WEAK_GATE_IN_PROCESS
		   ? !host->shut
		   : mono_before(sim_now(sim, host->process), host->gate);
}

/* It is heard, and will be until its gate closes. */
static void keep_time(struct sim *sim, struct world *world, const struct host *host)
{
	struct mono left = mono_sub(host->gate, sim_now(sim, host->process));
	struct mono silent = mono_sub(sim_time(sim), world->silent_from);

	if (mono_before(world->longest, silent))
		world->longest = silent;
	world->silent_from = mono_add(sim_time(sim), left);
}

static const char *holds(struct sim *sim, unsigned process, void *argument)
{
	struct world *world = argument;
	unsigned heard = 0;

	(void)process;
	for (unsigned i = 1; i <= NODES; i++) {
		const struct host *host = &world->hosts[i];

		if (!is_heard(sim, host))
			continue;
		if (heard)
			return sim_complain(sim,
			    "n%u and n%u are heard at one time (epochs %u, %u)", heard, i,
			    (unsigned)world->hosts[heard].epoch, (unsigned)host->epoch);
		heard = i;
		keep_time(sim, world, host);
		if (host->epoch < world->highest)
			return sim_complain(sim, "n%u is heard again (epoch %u after %u)", i,
			    (unsigned)host->epoch, (unsigned)world->highest);
		world->highest = host->epoch;
	}
	return NULL;
}

/* --- weather --- */

/* At the limits as often as not. */
static double clock_rate(struct rng *rng)
{
	if (rng_chance(rng, 0.5))
		return rng_chance(rng, 0.5) ? 0.99 : 1.01;
	return 0.99 + 0.02 * rng_unit(rng);
}

static void set_links(struct sim *sim)
{
	struct rng *rng = sim_rng(sim);
	struct sim_link link = {.loss = rng_chance(rng, 0.5) ? 0.1 : 0,
	    .delay = mono_ms((int64_t)rng_below(rng, rng_chance(rng, 0.2) ? 1500 : 30)),
	    .jitter = mono_ms((int64_t)rng_below(rng, rng_chance(rng, 0.2) ? 800 : 40)),
	    .duplicate = 0.05,
	    .reorder = 0.05};

	sim_link_all(sim, &link);
	for (unsigned i = 1; i <= NODES; i++)
		sim_link(sim, i, WRITER)->delay = mono_ms((int64_t)rng_below(rng, 600));
}

static void boot(struct sim *sim, void *argument)
{
	const struct host *host = argument;

	if (!sim_running(sim, host->process))
		sim_boot(sim, host->process);
}

static void reboot(struct sim *sim, void *argument)
{
	const struct host *host = argument;

	if (sim_running(sim, host->process))
		sim_crash(sim, host->process);
	boot(sim, argument);
}

/* Its administrator takes it out, for a while; the coordinator's lease, if it has it, is given up before its time. */
static void leave(struct sim *sim, struct host *host, struct mono length)
{
	struct node *node = sim_state(sim, host->process);

	if (node)
		coord_leave(&node->coord);
	sim_at(sim, mono_add(sim_time(sim), length), reboot, host);
}

/* From the other nodes, not from the store. */
static void cut_off(struct sim *sim, unsigned node)
{
	sim_heal(sim);
	for (unsigned i = 1; i <= NODES; i++)
		if (i != node)
			sim_cut(sim, node, i, true);
}

static void strike(struct sim *sim, void *argument)
{
	struct world *world = argument;
	struct rng *rng = sim_rng(sim);
	unsigned a = 1 + (unsigned)rng_below(rng, NODES), b = (unsigned)rng_below(rng, NODES + 2);
	struct mono length = mono_ms((int64_t)rng_below(rng, rng_chance(rng, 0.3) ? 6000 : 1500));
	struct mono next = mono_add_ms(sim_time(sim), 100 + (int64_t)rng_below(rng, 1500));

	switch (rng_below(rng, 11)) {
	case 0:
		sim_heal(sim);
		sim_partition(sim, rng_u64(rng));
		break;
	case 1:
		sim_cut_one_way(sim, a, b, true);
		break;
	case 2:
		sim_heal(sim);
		break;
	case 8:
		cut_off(sim, rng_chance(rng, 0.7) ? world->facts.node : a);
		break;
	case 3:
		set_links(sim);
		break;
	case 4:
		sim_pause(sim, a, length);
		break;
	case 5:
		sim_pause_host(sim, a, length);
		break;
	case 6:
		sim_clock_rate(sim, a, clock_rate(rng));
		break;
	case 7:
		leave(sim, &world->hosts[a], length);
		break;
	default:
		if (sim_running(sim, a))
			sim_crash_in(sim, a, (unsigned)rng_below(rng, 10));
		sim_at(sim, mono_add(sim_time(sim), length), boot, &world->hosts[a]);
		break;
	}
	if (mono_before(next, mono_ms(WEATHER_MS)))
		sim_at(sim, next, strike, world);
}

/* Whatever crashes yet is started again, as by its supervisor. */
static void supervise(struct sim *sim, void *argument)
{
	struct world *world = argument;

	for (unsigned i = 1; i <= NODES; i++)
		boot(sim, &world->hosts[i]);
	sim_at(sim, mono_add_ms(sim_time(sim), 1000), supervise, world);
}

static void clear_up(struct sim *sim, struct world *world)
{
	const struct sim_link fair = {.delay = mono_ms(1), .jitter = mono_ms(1)};

	sim_heal(sim);
	sim_link_all(sim, &fair);
	supervise(sim, world);
}

/* In quiet weather the VE is heard. */
static const char *judge(struct sim *sim, const struct world *world)
{
	for (unsigned i = 1; i <= NODES; i++)
		if (is_heard(sim, &world->hosts[i]))
			return NULL;
	return sim_complain(sim, "nobody is heard after %d s of quiet", QUIET_MS / 1000);
}

static struct sim *make(uint64_t seed, struct world *world)
{
	struct sim *sim = sim_new(seed, NODES + 2);
	struct rng *rng = sim_rng(sim);
	int64_t alike = rng_chance(rng, 0.5) ? LEASE_MS >> rng_below(rng, 2) : 0;

	sim_keep(sim, 400);
	sim_invariant(sim, holds, world);
	sim_spawn(sim, STORE, "store", &store_program, world);
	for (unsigned i = 1; i <= NODES; i++) {
		int64_t lease_ms = alike ? alike : LEASE_MS / 2 << rng_below(rng, 3);

		world->hosts[i] = (struct host){.world = world,
		    .process = i,
		    .rule =
			make_rule(world->weakness, world->how ? world->how->lease_ms : lease_ms)};
		sim_clock_rate(sim, i, clock_rate(rng));
		sim_spawn(sim, i, "node", &node_program, &world->hosts[i]);
	}
	sim_spawn(sim, WRITER, "store", &store_program, world);
	return sim;
}

const char *leases_run(uint64_t seed, enum weakness weakness, struct sim **out)
{
	struct world world = {
	    .weakness = weakness, .facts = {.ve_version = 1, .epoch = 1, .node = 1}};
	struct sim *sim = *out = make(seed, &world);

	set_links(sim);
	sim_at(sim, mono_ms(3000), strike, &world);
	sim_run(sim, mono_ms(WEATHER_MS));
	if (!sim_broken(sim)) {
		clear_up(sim, &world);
		sim_run(sim, mono_ms(WEATHER_MS + QUIET_MS));
	}
	return sim_broken(sim) ? sim_broken(sim) : judge(sim, &world);
}

/* --- measuring --- */

static void detect(struct sim *sim, void *argument)
{
	struct world *world = argument;

	world->detected = true;
	for (unsigned i = 1; i <= NODES; i++) {
		struct node *node = sim_state(sim, i);

		if (node && i > world->victim)
			node->coord.rank--;
	}
}

static void crash(struct sim *sim, void *argument)
{
	struct world *world = argument;
	struct host *host = &world->hosts[world->victim];

	sim_crash(sim, host->process);
	host->dead = true;
	world->longest = MONO_ZERO;
	if (world->facts.node == world->victim)
		world->silent_from = sim_time(sim);
	sim_at(sim, mono_add_ms(sim_time(sim), DETECTION_MS), detect, world);
	if (world->how->faults) {
		sim_pause(sim, STORE, mono_ms(FAILOVER_MS));
		sim_pause(sim, WRITER, mono_ms(FAILOVER_MS));
	}
}

/* The first node coordinates: it is the first candidate. */
struct mono leases_outage(
    uint64_t seed, const struct leases_case *how, const char **broken, struct sim **out)
{
	const struct sim_link link = {
	    .loss = how->faults ? 0.1 : 0, .delay = mono_ms(1), .jitter = mono_ms(1)};
	struct world world = {.how = how,
	    .facts = {.ve_version = 1, .epoch = 1, .node = how->crash == CRASH_BOTH ? 1 : 2},
	    .victim = how->crash == CRASH_NODE ? 2 : 1};
	struct sim *sim = *out = make(seed, &world);
	struct mono at = mono_ms(8000 + (int64_t)rng_below(sim_rng(sim), 2000));

	sim_link_all(sim, &link);
	for (unsigned i = 1; i <= NODES; i++) {
		sim_link(sim, i, STORE)->loss = sim_link(sim, STORE, i)->loss = 0;
		sim_link(sim, i, WRITER)->loss = sim_link(sim, WRITER, i)->loss = 0;
	}
	sim_at(sim, at, crash, &world);
	sim_run(sim, mono_add_ms(at, QUIET_MS));
	*broken = sim_broken(sim);
	if (mono_before(mono_add_ms(world.silent_from, LOST_MS), sim_time(sim)))
		return MONO_NEVER;
	return world.longest;
}
