/*
 * migrated of one node in the world of recovery.h: its core, and around it what its shell does, the leases of gossipd's
 * coordinator, and a detector.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/recovery-internal.h"

/* --- the shell --- */

static uint64_t begin(struct sim *sim, unsigned process, struct node *node, struct asked *asked)
{
	asked->ticket = ++node->ticket;
	asked->at = sim_now(sim, process);
	asked->until = mono_add_ms(asked->at, PATIENCE_MS);
	asked->checked = node->coord.version;
	return asked->ticket;
}

/* True: this is the answer, and it is waited for no longer. */
static bool end(struct asked *asked, uint64_t ticket)
{
	bool is = asked->ticket && asked->ticket == ticket;

	if (is)
		asked->ticket = 0;
	return is;
}

static void tell_written(struct sim *sim, unsigned process, struct node *node, unsigned ve, bool ok)
{
	char name[NODE_NAME_MAX + 1];

	recovery_name_ve(name, ve);
	recovery_step(sim, process, node,
	    &(struct migrated_event){.kind = MIGRATED_WRITTEN, .name = name, .ok = ok});
}

static void write_fact(
    struct sim *sim, unsigned process, struct node *node, const struct migrated_action *action)
{
	struct message *message;
	unsigned ve = recovery_ve_of(action->name);

	if (!node->reigns) {
		tell_written(sim, process, node, ve, false);
		return;
	}
	message = recovery_compose(KIND_WRITE);
	message->ticket = begin(sim, process, node, &node->writes[ve]);
	node->writes[ve].until = mono_add_ms(node->writes[ve].at, DOUBT_MS);
	message->ve = ve;
	message->coord = node->coord;
	message->version = action->version;
	message->cat_version = action->cat_version;
	message->note = action->note;
	message->fact = action->fact;
	recovery_post(sim, process, WRITER, message);
}

static void renew(
    struct sim *sim, unsigned process, struct node *node, const struct migrated_action *action)
{
	struct message *message = recovery_compose(KIND_RENEW);

	message->ticket = action->id;
	message->count = migrated_leases(node->core, message->leases, VES);
	message->length = mono_ms(LEASE_MS);
	if (node->coord.node)
		recovery_post(sim, process, node->coord.node, message);
}

static void grant(struct sim *sim, unsigned process, const struct migrated_action *action)
{
	struct message *message = recovery_compose(KIND_GRANT);

	message->ticket = action->id;
	message->count = action->count;
	message->length = action->length;
	memcpy(message->leases, action->leases, action->count * sizeof(message->leases[0]));
	recovery_post(sim, process, recovery_node_of(action->name), message);
}

static void arm(struct sim *sim, unsigned process, struct node *node)
{
	struct migrated_lease leases[VES];
	size_t count = migrated_leases(node->core, leases, VES);

	for (size_t i = 0; i < count; i++) {
		struct message *message = recovery_compose(KIND_ARM);

		message->ve = recovery_ve_of(leases[i].name);
		message->epoch = leases[i].epoch;
		message->until = migrated_lease_until(node->core, leases[i].name, leases[i].epoch);
		recovery_post(sim, process, VED(process), message);
	}
}

static void ask_ved(struct sim *sim, unsigned process, struct node *node, enum kind kind,
    struct asked *asked, const struct migrated_action *action)
{
	struct message *message = recovery_compose(kind);

	message->ticket = begin(sim, process, node, asked);
	message->ve = *action->name ? recovery_ve_of(action->name) : 0;
	if (kind == KIND_RUN) {
		message->fact = action->fact;
		message->until = migrated_lease_until(node->core, action->name, action->fact.epoch);
	}
	recovery_post(sim, process, VED(process), message);
}

static void report(
    struct sim *sim, unsigned process, struct node *node, const struct migrated_action *action)
{
	enum recovery_weakness weakness = node->host->world->weakness;
	struct message *message = recovery_compose(KIND_REPORT);

	message->ve = recovery_ve_of(action->name);
	message->epoch = action->epoch;
	message->trouble = action->trouble;
	message->runs = action->runs && weakness != RECOVERY_GONE_UNSEEN;
	if (node->coord.node && weakness != RECOVERY_DEAF)
		recovery_post(sim, process, node->coord.node, message);
}

static void fence(
    struct sim *sim, unsigned process, struct node *node, const struct migrated_action *action)
{
	unsigned ve = recovery_ve_of(action->name);

	recovery_fence(sim, node->host->world,
	    &(struct fencing){.by = process,
		.ve = ve,
		.target = recovery_node_of(action->fact.node),
		.epoch = action->epoch,
		.ticket = begin(sim, process, node, &node->fences[ve])});
}

void recovery_fenced(struct sim *sim, struct node *node, const struct fencing *fencing, bool ok)
{
	char name[NODE_NAME_MAX + 1];

	recovery_name_ve(name, fencing->ve);
	if (end(&node->fences[fencing->ve], fencing->ticket))
		recovery_step(sim, fencing->by, node,
		    &(struct migrated_event){.kind = MIGRATED_FENCED,
			.name = name,
			.epoch = fencing->epoch,
			.ok = ok,
			.reason = "no route"});
}

static void carry_out(
    struct sim *sim, unsigned process, struct node *node, const struct migrated_action *action)
{
	struct message *message;

	switch (action->kind) {
	case MIGRATED_READ:
		message = recovery_compose(KIND_GET);
		message->ticket = begin(sim, process, node, &node->read);
		recovery_post(sim, process, STORE, message);
		break;
	case MIGRATED_LIST:
		ask_ved(sim, process, node, KIND_LIST, &node->list, action);
		break;
	case MIGRATED_JOURNAL:
		node->host->journal[recovery_ve_of(action->name)] = action->epoch;
		break;
	case MIGRATED_RUN:
		ask_ved(sim, process, node, KIND_RUN, &node->runs[recovery_ve_of(action->name)],
		    action);
		break;
	case MIGRATED_END:
		ask_ved(sim, process, node, KIND_END, &node->ends[recovery_ve_of(action->name)],
		    action);
		break;
	case MIGRATED_WRITE:
		write_fact(sim, process, node, action);
		break;
	case MIGRATED_RENEW:
		renew(sim, process, node, action);
		break;
	case MIGRATED_GRANT:
		grant(sim, process, action);
		break;
	case MIGRATED_ARM:
		arm(sim, process, node);
		break;
	case MIGRATED_TELL:
		report(sim, process, node, action);
		break;
	case MIGRATED_FENCE:
		fence(sim, process, node, action);
		break;
	case MIGRATED_SPARE:
		node->fences[recovery_ve_of(action->name)].ticket = 0;
		break;
	default: /* REMOVE, ANSWER, RUNS: nobody asks, nobody listens */
		break;
	}
}

/* An action may lead to another step. */
void recovery_step(
    struct sim *sim, unsigned process, struct node *node, struct migrated_event *event)
{
	static struct migrated_actions pool[4];
	static unsigned depth;
	struct migrated_actions *actions = &pool[depth++];

	actions->count = 0;
	event->now = sim_now(sim, process);
	migrated_step(node->core, event, actions);
	migrated_check(node->core);
	for (size_t i = 0; i < actions->count && sim_act(sim, process); i++)
		carry_out(sim, process, node, &actions->list[i]);
	depth--;
}

/* --- what it hears --- */

static void tell_coord(struct sim *sim, unsigned process, struct node *node)
{
	recovery_step(sim, process, node,
	    &(struct migrated_event){.kind = MIGRATED_COORD,
		.epoch = node->coord.epoch,
		.mine = node->reigns,
		.since = node->reign_since,
		.until = node->reign_until});
}

/* A write in doubt is over when what it compares with has changed. */
static void settle_writes(struct sim *sim, unsigned process, struct node *node)
{
	for (unsigned i = 0; i < VES; i++)
		if (node->writes[i].ticket && node->coord.version > node->writes[i].checked) {
			node->writes[i].ticket = 0;
			tell_written(sim, process, node, i, false);
		}
}

/* The coordinator's lease is counted from when it was asked for. */
static void on_coord(
    struct sim *sim, unsigned process, struct node *node, const struct message *message)
{
	struct mono asked_at = node->raise.at;
	bool raised = end(&node->raise, message->ticket) && message->ok;

	if (message->coord.version > node->coord.version) {
		node->coord = message->coord;
		node->seen_at = sim_now(sim, process);
	}
	if (raised) {
		node->reign_until = mono_add_ms(asked_at, REIGN_MS * 95 / 100);
		if (!node->reigns) {
			sim_trace(sim, process, "reigns");
			node->reign_since = asked_at;
		}
		node->reigns = mono_before(sim_now(sim, process), node->reign_until);
		tell_coord(sim, process, node);
	}
}

static void on_facts(
    struct sim *sim, unsigned process, struct node *node, const struct message *message)
{
	const struct snapshot *snapshot =
	    &node->host->world->snapshots[message->revision % SNAPSHOTS];

	if (snapshot->revision == message->revision && end(&node->read, message->ticket))
		recovery_step(sim, process, node,
		    &(struct migrated_event){.kind = MIGRATED_FACTS,
			.ok = true,
			.revision = message->revision,
			.ves = snapshot->ves,
			.count = VES});
}

static void tell_health(
    struct sim *sim, unsigned process, struct node *node, const struct copy *copies)
{
	struct mono now = sim_now(sim, process);
	struct migrated_event event = {.kind = MIGRATED_HEALTH};
	struct migrated_health health[VES];

	for (unsigned i = 0; i < VES; i++) {
		struct migrated_health *one = &health[event.count];
		bool shut = !node->host->unfenced && mono_due(copies[i].gate, now);
		bool fails = copies[i].hangs || copies[i].mute || shut;

		if (!copies[i].running)
			continue;
		*one = (struct migrated_health){.epoch = copies[i].epoch,
		    .answered = !copies[i].mute,
		    .suspect = fails && mono_due(mono_add_ms(copies[i].ill_since, 600), now),
		    .interval_ms = INTERVAL_MS};
		recovery_name_ve(one->name, i);
		event.count++;
	}
	event.health = health;
	recovery_step(sim, process, node, &event);
}

static void on_listed(
    struct sim *sim, unsigned process, struct node *node, const struct message *message)
{
	bool unfenced = node->host->unfenced && node->host->world->weakness != RECOVERY_UNSAID;
	struct migrated_event event = {.kind = MIGRATED_LOCALS, .ok = true, .unfenced = unfenced};
	struct migrated_local locals[VES];

	if (!end(&node->list, message->ticket))
		return;
	for (unsigned i = 0; i < VES; i++) {
		const struct copy *copy = &message->copies[i];

		if (!copy->present)
			continue;
		locals[event.count] = (struct migrated_local){.epoch = copy->epoch,
		    .running = copy->running || copy->ready.ns,
		    .unfenced = unfenced};
		recovery_name_ve(locals[event.count++].name, i);
	}
	event.locals = locals;
	recovery_step(sim, process, node, &event);
	if (node->core)
		tell_health(sim, process, node, message->copies);
}

static void tell_ran(
    struct sim *sim, unsigned process, struct node *node, unsigned ve, uint64_t epoch, int result)
{
	char name[NODE_NAME_MAX + 1];

	recovery_name_ve(name, ve);
	recovery_step(sim, process, node,
	    &(struct migrated_event){.kind = MIGRATED_RAN,
		.name = name,
		.epoch = epoch,
		.result = result,
		.trouble = MSG_MIGRATED_TROUBLE_RESTORE_FAILED,
		.reason = "cannot be started"});
}

static void tell_ended(struct sim *sim, unsigned process, struct node *node, unsigned ve)
{
	char name[NODE_NAME_MAX + 1];

	recovery_name_ve(name, ve);
	recovery_step(
	    sim, process, node, &(struct migrated_event){.kind = MIGRATED_ENDED, .name = name});
}

static void on_report(
    struct sim *sim, unsigned process, struct node *node, const struct message *message)
{
	char name[NODE_NAME_MAX + 1];

	recovery_name_ve(name, message->ve);
	recovery_step(sim, process, node,
	    &(struct migrated_event){.kind = MIGRATED_REPORT,
		.name = name,
		.epoch = message->epoch,
		.trouble = message->trouble,
		.runs = message->runs,
		.reason = "it is in trouble"});
}

static void on_leases(struct sim *sim, unsigned process, struct node *node, unsigned from,
    const struct message *message)
{
	char name[NODE_NAME_MAX + 1];
	struct migrated_event event = {.ok = true,
	    .id = message->ticket,
	    .leases = message->leases,
	    .count = message->count,
	    .length = message->length,
	    .name = name};

	recovery_name_node(name, from);
	event.kind = message->kind == KIND_RENEW ? MIGRATED_RENEWAL : MIGRATED_GRANTED;
	recovery_step(sim, process, node, &event);
}

static void node_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *packet)
{
	static struct message received; /* no step leads to another message */
	const struct message *message = &received;
	struct node *node = state;

	recovery_take(packet, &received);
	switch (message->kind) {
	case KIND_COORD:
		on_coord(sim, process, node, message);
		settle_writes(sim, process, node);
		break;
	case KIND_FACTS:
		on_facts(sim, process, node, message);
		break;
	case KIND_WRITTEN:
		if (end(&node->writes[message->ve], message->ticket))
			tell_written(sim, process, node, message->ve, message->ok);
		break;
	case KIND_RENEW:
	case KIND_GRANT:
		on_leases(sim, process, node, packet->from, message);
		break;
	case KIND_REPORT:
		on_report(sim, process, node, message);
		break;
	case KIND_LISTED:
		on_listed(sim, process, node, message);
		break;
	case KIND_RAN:
		if (end(&node->runs[message->ve], message->ticket))
			tell_ran(sim, process, node, message->ve, message->epoch, message->result);
		break;
	default: /* ENDED */
		if (end(&node->ends[message->ve], message->ticket))
			tell_ended(sim, process, node, message->ve);
		break;
	}
}

/* --- time --- */

/* A detector as good as it gets, and in three of a hundred looks as bad. */
static void tell_nodes(struct sim *sim, unsigned process, struct node *node)
{
	const struct world *world = node->host->world;
	struct migrated_node nodes[NODES] = {0};

	for (unsigned i = 1; i <= NODES; i++) {
		const struct host *host = &world->hosts[i];
		bool errs = !world->calm && (rng_chance(sim_rng(sim), 0.03) ||
						mono_before(sim_time(sim), host->shunned_until));

		recovery_name_node(nodes[i - 1].name, i);
		nodes[i - 1].left_at = MONO_NEVER;
		nodes[i - 1].dead =
		    errs || (host->down &&
				mono_due(mono_add_ms(host->down_since, DETECT_MS), sim_time(sim)));
		nodes[i - 1].alive = !nodes[i - 1].dead && !host->down;
	}
	recovery_step(sim, process, node,
	    &(struct migrated_event){.kind = MIGRATED_NODES, .nodes = nodes, .count = NODES});
}

/* Who reigns raises the fact; who sees it unchanged for long enough begins a reign. */
static void watch_coord(struct sim *sim, unsigned process, struct node *node)
{
	struct mono now = sim_now(sim, process);
	struct message *message = recovery_compose(KIND_WATCH);
	bool vacant = mono_due(mono_add_ms(node->seen_at, REIGN_MS + 100 * (int64_t)process), now);

	message->coord = node->coord;
	node->look_at = mono_add_ms(now, LOOK_MS);
	if ((node->reigns || vacant) && !node->raise.ticket) {
		message->kind = KIND_RAISE;
		message->ticket = begin(sim, process, node, &node->raise);
		message->coord.epoch += !node->reigns;
		message->coord.node = process;
	}
	recovery_post(sim, process, STORE, message);
}

static void overdue(struct sim *sim, unsigned process, struct node *node)
{
	struct mono now = sim_now(sim, process);

	if (node->raise.ticket && mono_due(node->raise.until, now))
		node->raise.ticket = 0;
	if (node->read.ticket && mono_due(node->read.until, now)) {
		node->read.ticket = 0;
		recovery_step(sim, process, node, &(struct migrated_event){.kind = MIGRATED_FACTS});
	}
	if (node->list.ticket && mono_due(node->list.until, now)) {
		node->list.ticket = 0;
		recovery_step(
		    sim, process, node, &(struct migrated_event){.kind = MIGRATED_LOCALS});
	}
	for (unsigned i = 0; i < VES; i++) {
		if (node->runs[i].ticket && mono_due(node->runs[i].until, now)) {
			node->runs[i].ticket = 0;
			tell_ran(sim, process, node, i, node->host->journal[i], -ETIMEDOUT);
		}
		if (node->ends[i].ticket && mono_due(node->ends[i].until, now)) {
			node->ends[i].ticket = 0;
			tell_ended(sim, process, node, i);
		}
		if (node->writes[i].ticket && mono_due(node->writes[i].until, now) &&
		    node->host->world->weakness == RECOVERY_DOUBT_IS_NO) {
			node->writes[i].ticket = 0;
			tell_written(sim, process, node, i, false);
		}
	}
}

static void node_timeout(struct sim *sim, unsigned process, void *state)
{
	struct node *node = state;
	struct mono now = sim_now(sim, process);

	if (node->reigns && mono_due(node->reign_until, now) &&
	    node->host->world->weakness != RECOVERY_NO_EPOCH) {
		node->reigns = false;
		tell_coord(sim, process, node);
	}
	overdue(sim, process, node);
	if (mono_due(node->look_at, now)) {
		tell_nodes(sim, process, node);
		watch_coord(sim, process, node);
	}
	if (mono_due(migrated_deadline(node->core), now))
		recovery_step(
		    sim, process, node, &(struct migrated_event){.kind = MIGRATED_TIMEOUT});
}

static struct mono first_of(struct mono at, const struct asked *asked)
{
	return asked->ticket ? mono_min(at, asked->until) : at;
}

static struct mono node_deadline(void *state)
{
	const struct node *node = state;
	struct mono at = mono_min(migrated_deadline(node->core), node->look_at);
	bool hasty = node->host->world->weakness == RECOVERY_DOUBT_IS_NO;

	if (node->reigns && node->host->world->weakness != RECOVERY_NO_EPOCH)
		at = mono_min(at, node->reign_until);
	at = first_of(first_of(first_of(at, &node->raise), &node->read), &node->list);
	for (unsigned i = 0; i < VES; i++) {
		at = first_of(first_of(at, &node->runs[i]), &node->ends[i]);
		if (hasty)
			at = first_of(at, &node->writes[i]);
	}
	return at;
}

static void *node_boot(struct sim *sim, unsigned process, void *context)
{
	struct node *node = calloc(1, sizeof(*node));
	struct host *host = context;
	enum recovery_weakness weakness = host->world->weakness;
	char self[NODE_NAME_MAX + 1];
	const struct migrated_config config = {.self = self,
	    .scan_ms = SCAN_MS,
	    .restarts_max = RESTARTS,
	    .steady_ms = 60000,
	    .retry_ms = 500,
	    .backoff_ms = weakness == RECOVERY_NO_BACKOFF ? 0 : BACKOFF_MS,
	    .backoff_max_ms = BACKOFF_MAX_MS,
	    .answer_ms = ANSWER_MS,
	    .image_wait_ms = IMAGE_WAIT_MS,
	    .lease = {.lease = mono_ms(LEASE_MS),
		.slack = mono_ms(LEASE_MS / 40),
		.drift = 0.01,
		.renewal = mono_ms(LEASE_MS / 8)}};
	struct migrated_event start = {.kind = MIGRATED_START};
	struct migrated_begun begun[VES];

	node->host = host;
	node->look_at = node->seen_at = sim_now(sim, process);
	node->ticket = rng_u64(sim_rng(sim)) >> 1;
	recovery_name_node(self, process);
	if (migrated_new(&node->core, &config) < 0)
		abort();
	for (unsigned i = 0; i < VES && weakness != RECOVERY_NO_JOURNAL; i++) {
		if (!host->journal[i])
			continue;
		begun[start.count].epoch = host->journal[i];
		recovery_name_ve(begun[start.count++].name, i);
	}
	start.begun = begun;
	recovery_step(sim, process, node, &start);
	return node;
}

static void node_halt(void *state)
{
	struct node *node = state;

	migrated_free(node->core);
	free(node);
}

const struct sim_program recovery_node = {.boot = node_boot,
    .halt = node_halt,
    .receive = node_receive,
    .timeout = node_timeout,
    .deadline = node_deadline};
