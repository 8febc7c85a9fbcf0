#include "migrated/shell.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "common/deadline.h"
#include "migrated/address.h"
#include "migrated/fencer.h"
#include "proto/common.h"
#include "proto/migrated.h"

#define FRESH_MS 3000
#define FORWARD_MS 10000
#define PATIENCE_MS 4000 /* an election takes less */
#define MARGIN_MS 500    /* before the client's own deadline */
#define AGAIN_MS 200
#define REPORT_MS 2000

/*
 * A client's request.  It may come while the coordinator changes: what provably did nothing is tried again at whoever
 * coordinates then, until the client or our patience gives up.
 */
struct waiting {
	LIST_ENTRY(waiting) link;
	struct shell *shell;
	struct rpc_call *call;
	const char *message;
	struct buf body; /* as it came, to be forwarded */
	struct migrated_request request;
	uint64_t id; /* of what the core was asked; 0: it is not with the core */
	struct mono until;
	sd_event_source *again;
};

struct shell {
	struct daemon *daemon;
	struct migrated *core;
	struct journal *journal;
	struct facts *facts;
	struct keys *keys;
	struct launcher *launcher;
	struct cluster *cluster;
	struct probes *probes;
	struct renewals *renewals;
	struct fencer *fencer;
	struct capacity_teller *capacity;
	sd_event_source *timer;
	LIST_HEAD(, waiting) waiting;
	uint64_t next_id;
	struct rpc_client *coordinator; /* of another node */
	uint64_t coordinator_id;
	bool closing;
	struct msg_migrated_ls_reply ls; /* large: kept here */
	struct migrated_lease leases[MIGRATED_VES_MAX];
};

/* --- events for subscribers --- */

static uint64_t age_us(struct mono at)
{
	return (uint64_t)(mono_sub(mono_now(), at).ns / 1000);
}

static void tell_placed(struct shell *shell, const struct migrated_action *action)
{
	const struct msg_migrated_ve_fact *fact = &action->fact;
	struct msg_ve_placed event = {.epoch = fact->epoch,
	    .want = fact->want,
	    .from_ckpt = fact->start_ckpt,
	    .has_lease_ended_us = action->waited,
	    .has_gate_closed_us = action->waited};

	if (action->waited) {
		event.lease_ended_us = age_us(action->free_at);
		event.gate_closed_us = age_us(action->silent_at);
	}
	memcpy(event.ve, fact->name, sizeof(event.ve));
	memcpy(event.node, fact->node, sizeof(event.node));
	memcpy(event.reason, fact->reason, sizeof(event.reason));
	daemon_tell(shell->daemon, MSG_VE_PLACED, msg_ve_placed_pack, &event);
	log_notice("placed ve=%s epoch=%" PRIu64 " node=%s: %s", fact->name, fact->epoch,
	    *fact->node ? fact->node : "none", fact->reason);
}

static void tell_held(struct shell *shell, const struct msg_migrated_ve_fact *fact)
{
	struct msg_ve_held event = {.epoch = fact->epoch};

	memcpy(event.ve, fact->name, sizeof(event.ve));
	memcpy(event.node, fact->node, sizeof(event.node));
	memcpy(event.reason, fact->held, sizeof(event.reason));
	daemon_tell(shell->daemon, MSG_VE_HELD, msg_ve_held_pack, &event);
	log_warning("held ve=%s epoch=%" PRIu64 ": %s", fact->name, fact->epoch, fact->held);
}

static void tell_fenced(struct shell *shell, const struct msg_migrated_ve_fact *fact)
{
	struct msg_ve_fenced event = {.epoch = fact->epoch};

	memcpy(event.ve, fact->name, sizeof(event.ve));
	memcpy(event.node, fact->node, sizeof(event.node));
	daemon_tell(shell->daemon, MSG_VE_FENCED, msg_ve_fenced_pack, &event);
	log_notice("its copy is known to be gone ve=%s epoch=%" PRIu64 " node=%s", fact->name,
	    fact->epoch, fact->node);
}

static void tell_noted(struct shell *shell, const struct migrated_action *action)
{
	const struct msg_migrated_ve_fact *fact = &action->fact;

	if (action->let_go)
		log_notice(
		    "let go ve=%s epoch=%" PRIu64 " set=%s", fact->name, fact->epoch, fact->set);
	else if (*fact->held)
		tell_held(shell, fact);
	else if (fact->fenced == fact->epoch && fact->want == MSG_MIGRATED_WANT_RUN)
		tell_fenced(shell, fact);
	else
		log_notice("noted ve=%s epoch=%" PRIu64 " unfenced=%d fenced=%" PRIu64, fact->name,
		    fact->epoch, fact->unfenced, fact->fenced);
}

static void tell_recovered(struct shell *shell, const struct migrated_action *action)
{
	struct msg_ve_recovered event = {.epoch = action->epoch,
	    .from_ckpt = action->fact.start_ckpt,
	    .took_ms = action->took_ms};

	memcpy(event.ve, action->name, sizeof(event.ve));
	daemon_tell(shell->daemon, MSG_VE_RECOVERED, msg_ve_recovered_pack, &event);
}

static void tell_trouble(struct shell *shell, const struct migrated_action *action)
{
	struct msg_ve_trouble event = {.epoch = action->epoch, .trouble = action->trouble};

	memcpy(event.ve, action->name, sizeof(event.ve));
	memcpy(event.reason, action->reason, sizeof(event.reason));
	daemon_tell(shell->daemon, MSG_VE_TROUBLE, msg_ve_trouble_pack, &event);
}

/* --- the coordinator's instance --- */

const struct peer *shell_coordinator_peer(const struct shell *shell)
{
	uint64_t epoch;
	const struct peer *peer = cluster_coordinator(shell->cluster, &epoch);

	return peer == shell->daemon->node.self ? NULL : peer;
}

/* Who waits for an answer of the former coordinator is told that there is none, and may come here to ask the new one. */
struct rpc_client *shell_coordinator(struct shell *shell)
{
	const struct peer *peer = shell_coordinator_peer(shell);
	struct rpc_client *former = shell->coordinator;

	if (!peer)
		return NULL;
	if (former && shell->coordinator_id == peer->id)
		return former;
	shell->coordinator = NULL;
	rpc_client_free(former);
	if (shell->coordinator)
		return shell->coordinator;
	if (rpc_client_new_peer(&shell->coordinator, shell->daemon->zmq, shell->daemon->loop, peer,
		PORT_MIGRATED_RPC) < 0)
		return NULL;
	shell->coordinator_id = peer->id;
	return shell->coordinator;
}

static void on_reported(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	if (answer->status != RPC_OK)
		log_info("report to the coordinator: %s", answer->error);
}

static void report(struct shell *shell, const struct migrated_action *action)
{
	struct msg_migrated_report request = {
	    .epoch = action->epoch, .trouble = action->trouble, .runs = action->runs};
	struct rpc_client *client = shell_coordinator(shell);
	_cleanup_buf_ struct buf body = {0};

	if (action->trouble != MSG_MIGRATED_TROUBLE_STOPPED)
		tell_trouble(shell, action);
	if (!client) {
		struct migrated_event event = {.kind = MIGRATED_REPORT,
		    .name = action->name,
		    .epoch = action->epoch,
		    .trouble = action->trouble,
		    .runs = action->runs,
		    .reason = action->reason};

		shell_step(shell, &event);
		return;
	}
	memcpy(request.name, action->name, sizeof(request.name));
	memcpy(request.reason, action->reason, sizeof(request.reason));
	msg_migrated_report_pack(&request, &body);
	rpc_request(
	    client, MSG_MIGRATED_REPORT, body.data, body.size, REPORT_MS, on_reported, NULL);
}

/* --- actions --- */

static void waiting_free(struct waiting *waiting)
{
	LIST_REMOVE(waiting, link);
	sd_event_source_disable_unref(waiting->again);
	buf_fini(&waiting->body);
	free(waiting);
}

/* Nothing was done, because of why: soon again, if there is time. */
static void hold(struct waiting *waiting, const char *why)
{
	struct mono again = mono_add_ms(mono_now(), AGAIN_MS);

	if (mono_before(again, waiting->until) &&
	    sd_event_source_set_time(waiting->again, (uint64_t)(again.ns / 1000)) >= 0 &&
	    sd_event_source_set_enabled(waiting->again, SD_EVENT_ONESHOT) >= 0)
		return;
	rpc_fail(waiting->call, RPC_UNREACHABLE, "%s", why);
	waiting_free(waiting);
}

static void give_answer(struct shell *shell, const struct migrated_action *action)
{
	struct msg_migrated_ve_reply reply = {.ve = action->fact};
	_cleanup_buf_ struct buf body = {0};
	struct waiting *waiting;

	LIST_FOREACH(waiting, &shell->waiting, link)
	if (waiting->id == action->id)
		break;
	if (!waiting)
		return;
	waiting->id = 0;
	if (action->status == RPC_UNREACHABLE) {
		hold(waiting, action->reason);
		return;
	}
	if (action->status != RPC_OK) {
		rpc_fail(waiting->call, (enum rpc_status)action->status, "%s", action->reason);
	} else {
		msg_migrated_ve_reply_pack(&reply, &body);
		rpc_reply(waiting->call, MSG_MIGRATED_VE_REPLY, body.data, body.size);
	}
	waiting_free(waiting);
}

static void write_journal(struct shell *shell, const struct migrated_action *action)
{
	int r = journal_put(shell->journal, action->name, action->epoch);

	/* Without it a VE could be started twice from one checkpoint: nothing is begun on such a disk. */
	if (r < 0) {
		log_error("journal: %s; migrated ends, so that nothing is begun without it",
		    strerror(-r));
		shell->closing = true;
		sd_event_exit(shell->daemon->loop, 1);
	}
}

/* Images are sealed with the VE's own key: nobody else has them.  A bundle may serve another VE under its name. */
static void remove_objects(struct shell *shell, const char *name)
{
	for (size_t i = 0; i < migrated_count(shell->core); i++) {
		const struct migrated_ve *ve = migrated_at(shell->core, i);

		if (strcmp(ve->fact.name, name) != 0)
			continue;
		for (size_t k = 0; k < ve->n_ckpts; k++)
			launcher_discard(shell->launcher, ve->ckpts[k].oid, NULL);
		launcher_discard(shell->launcher, ve->fact.bundle, name);
	}
}

/* With those after it that belong to the same transaction: how many they are. */
static size_t write_facts(struct shell *shell, const struct migrated_action *action)
{
	uint64_t epoch = 0;
	size_t count = 1;

	while (action[count - 1].more)
		count++;
	cluster_coordinator(shell->cluster, &epoch);
	facts_write(shell->facts, action, count, epoch);
	return count;
}

/* How many actions that was. */
static size_t carry_out(struct shell *shell, const struct migrated_action *action)
{
	switch (action->kind) {
	case MIGRATED_READ:
		facts_read(shell->facts);
		break;
	case MIGRATED_LIST:
		launcher_list(shell->launcher);
		break;
	case MIGRATED_JOURNAL:
		write_journal(shell, action);
		break;
	case MIGRATED_RUN:
		launcher_run(shell->launcher, &action->fact);
		break;
	case MIGRATED_END:
		launcher_end(shell->launcher, action->name, action->epoch, action->silent);
		break;
	case MIGRATED_WRITE:
	case MIGRATED_REMOVE:
		return write_facts(shell, action);
	case MIGRATED_RENEW:
		renewals_ask(shell->renewals, action->id);
		break;
	case MIGRATED_GRANT:
		renewals_grant(shell->renewals, action);
		break;
	case MIGRATED_FENCE:
		fencer_run(shell->fencer, action);
		break;
	case MIGRATED_SPARE:
		fencer_spare(shell->fencer, action->name);
		break;
	case MIGRATED_ARM:
		renewals_arm(shell->renewals);
		break;
	case MIGRATED_TELL:
		report(shell, action);
		break;
	case MIGRATED_ANSWER:
		give_answer(shell, action);
		break;
	case MIGRATED_RUNS:
		tell_recovered(shell, action);
		break;
	}
	return 1;
}

void shell_step(struct shell *shell, struct migrated_event *event)
{
	/* On the heap: an action may lead to another step. */
	struct migrated_actions *actions;

	if (shell->closing)
		return;
	actions = calloc(1, sizeof(*actions));
	if (!actions) {
		log_error("no memory: an event is lost, the next look makes up for it");
		return;
	}
	event->now = mono_now();
	event->revoked = facts_say_revoked(shell->daemon, shell->daemon->node.name);
	migrated_step(shell->core, event, actions);
	for (size_t i = 0; i < actions->count && !shell->closing;)
		i += carry_out(shell, &actions->list[i]);
	free(actions);
	deadline_set(shell->timer, migrated_deadline(shell->core));
	if (event->kind == MIGRATED_COORD && !event->mine)
		fencer_spare(shell->fencer, NULL);
	if (event->kind == MIGRATED_COORD)
		keys_coord(shell->keys, event->mine);
	else if (event->kind == MIGRATED_NODES)
		keys_look(shell->keys);
}

const struct migrated *shell_core(const struct shell *shell)
{
	return shell->core;
}

void shell_listed(struct shell *shell, const struct migrated_local *locals, size_t count)
{
	if (!shell->closing && !mono_is_never(migrated_read_at(shell->core)))
		probes_look(shell->probes, shell->core, locals, count);
}

void shell_written(struct shell *shell, const struct migrated_action *action)
{
	if (action->kind == MIGRATED_REMOVE)
		remove_objects(shell, action->name);
	else if (action->note)
		tell_noted(shell, action);
	else
		tell_placed(shell, action);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct migrated_event event = {.kind = MIGRATED_TIMEOUT};
	struct shell *shell = userdata;

	(void)source;
	(void)usec;
	/* Who stood still must not take a VE from a node that renewed in time. */
	renewals_drain(shell->renewals);
	shell_step(shell, &event);
	return 0;
}

/* --- requests --- */

static void on_forwarded(void *userdata, const struct rpc_answer *answer)
{
	struct waiting *waiting = userdata;
	bool lost = answer->status == RPC_UNREACHABLE;

	if (lost && !answer->unheard && !waiting->shell->closing) {
		hold(waiting, answer->error);
		return;
	}
	if (answer->status == RPC_OK)
		rpc_reply(waiting->call, answer->name, answer->body, answer->size);
	else
		rpc_fail(waiting->call, lost ? RPC_UNKNOWN : answer->status, "coordinator: %s",
		    answer->error);
	waiting_free(waiting);
}

bool shell_coordinates(const struct shell *shell)
{
	uint64_t epoch;

	return cluster_coordinator(shell->cluster, &epoch) == shell->daemon->node.self;
}

static void ask_core(struct waiting *waiting)
{
	struct shell *shell = waiting->shell;
	struct migrated_request request = waiting->request;
	struct migrated_event event = {.kind = MIGRATED_ASKED, .request = &request};

	waiting->id = request.id = ++shell->next_id;
	shell_step(shell, &event);
}

/* To the core, if it is ours to decide, or to the coordinator; what another node forwarded goes no further. */
static void try(struct waiting *waiting)
{
	struct shell *shell = waiting->shell;
	struct rpc_client *client;

	if (shell_coordinates(shell)) {
		ask_core(waiting);
		return;
	}
	if (rpc_call_peer(waiting->call)) {
		waiting->until = mono_now();
		hold(waiting, "this node is not the coordinator");
		return;
	}
	client = shell_coordinator(shell);
	if (!client || rpc_request(client, waiting->message, waiting->body.data, waiting->body.size,
			   FORWARD_MS, on_forwarded, waiting) < 0)
		hold(waiting, "no coordinator is known; see depctl node ls");
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	try(userdata);
	return 0;
}

static struct waiting *waiting_new(
    struct shell *shell, struct rpc_call *call, const void *body, size_t size)
{
	struct waiting *waiting = calloc(1, sizeof(*waiting));

	if (!waiting)
		return NULL;
	LIST_INSERT_HEAD(&shell->waiting, waiting, link);
	waiting->shell = shell;
	waiting->call = call;
	waiting->until = mono_min(mono_add_ms(mono_now(), PATIENCE_MS),
	    mono_sub(rpc_call_deadline(call), mono_ms(MARGIN_MS)));
	if (buf_append(&waiting->body, body, size) < 0 ||
	    sd_event_add_time(
		shell->daemon->loop, &waiting->again, MONO_CLOCK, 0, 1000, on_again, waiting) < 0 ||
	    sd_event_source_set_enabled(waiting->again, SD_EVENT_OFF) < 0) {
		waiting_free(waiting);
		return NULL;
	}
	return waiting;
}

static void take(struct shell *shell, struct rpc_call *call, const char *message, const void *body,
    size_t size, const struct migrated_request *request)
{
	struct waiting *waiting = waiting_new(shell, call, body, size);

	if (!waiting) {
		rpc_fail(call, RPC_FAILED, "no memory");
		return;
	}
	waiting->message = message;
	waiting->request = *request;
	try(waiting);
}

static bool name_is_valid(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return length > 0 && name[length] == '\0';
}

static bool node_is_of_this_site(
    const struct shell *shell, const char *name, char *why, size_t size)
{
	const struct node_config *node = &shell->daemon->node;
	const struct peer *peer = peers_by_name(&node->peers, name);
	const char *own = config_site(node);

	if (!peer || config_is_near(node, peer))
		return true;
	snprintf(why, size,
	    "node %s is not of %s%s, and a VE runs in the site where it is asked for: ask a node of its own site",
	    name, *own ? "site " : "the nodes without a site", own);
	return false;
}

static void on_run(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct migrated_request request = {.ask = MIGRATED_ASK_RUN};
	struct msg_migrated_run message;
	char why[MIGRATED_REASON];

	if (rpc_unpack(call, &message, msg_migrated_run_unpack, body, size) < 0)
		return;
	if (!name_is_valid(message.name)) {
		rpc_fail(call, RPC_INVALID, "name: 1 to 63 of a-z 0-9 -, not \"%s\"", message.name);
		return;
	}
	if (*message.set && !name_is_valid(message.set)) {
		rpc_fail(call, RPC_INVALID, "set: 1 to 63 of a-z 0-9 -, not \"%s\"", message.set);
		return;
	}
	if (!node_is_of_this_site(shell, message.node, why, sizeof(why)) ||
	    !address_is_usable(message.address, &shell->daemon->node.peers, why, sizeof(why))) {
		rpc_fail(call, RPC_INVALID, "%s", why);
		return;
	}
	memcpy(request.name, message.name, sizeof(request.name));
	memcpy(request.fact.bundle, message.bundle, sizeof(request.fact.bundle));
	memcpy(request.fact.address, message.address, sizeof(request.fact.address));
	memcpy(request.fact.gateway, message.gateway, sizeof(request.fact.gateway));
	memcpy(request.fact.node, message.node, sizeof(request.fact.node));
	snprintf(
	    request.fact.site, sizeof(request.fact.site), "%s", config_site(&shell->daemon->node));
	request.fact.interval_ms = message.interval_ms;
	request.fact.copies = message.copies;
	request.fact.has_probes = message.has_probes;
	request.fact.probes.count = message.probes.count;
	memcpy(request.fact.probes.item, message.probes.item, sizeof(message.probes.item));
	request.fact.hung_ms = message.hung_ms;
	memcpy(request.fact.group, message.group, sizeof(request.fact.group));
	request.fact.apart = message.apart;
	request.fact.shared = message.shared;
	memcpy(request.fact.mounts, message.mounts, sizeof(request.fact.mounts));
	memcpy(request.fact.fence, message.fence, sizeof(request.fact.fence));
	memcpy(request.fact.set, message.set, sizeof(request.fact.set));
	request.fact.memory = message.memory;
	request.check = message.check;
	take(shell, call, MSG_MIGRATED_RUN, body, size, &request);
}

static void on_fenced(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct migrated_request request = {.ask = MIGRATED_ASK_FENCED};
	struct msg_migrated_fenced message;

	if (rpc_unpack(call, &message, msg_migrated_fenced_unpack, body, size) < 0)
		return;
	memcpy(request.name, message.name, sizeof(request.name));
	request.epoch = message.epoch;
	take(userdata, call, MSG_MIGRATED_FENCED, body, size, &request);
}

static void take_named(struct shell *shell, struct rpc_call *call, enum migrated_ask ask,
    const char *message, const void *body, size_t size)
{
	struct migrated_request request = {.ask = ask};
	struct msg_migrated_restore named; /* stop and rm have its first field only */

	if (rpc_unpack(call, &named, msg_migrated_restore_unpack, body, size) < 0)
		return;
	memcpy(request.name, named.name, sizeof(request.name));
	request.ckpt = named.ckpt;
	take(shell, call, message, body, size, &request);
}

static void on_stop(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	take_named(userdata, call, MIGRATED_ASK_STOP, MSG_MIGRATED_STOP, body, size);
}

static void on_rm(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	take_named(userdata, call, MIGRATED_ASK_RM, MSG_MIGRATED_RM, body, size);
}

static void on_restore(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	take_named(userdata, call, MIGRATED_ASK_RESTORE, MSG_MIGRATED_RESTORE, body, size);
}

static void on_report(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_migrated_report message;
	struct migrated_event event;

	if (rpc_unpack(call, &message, msg_migrated_report_unpack, body, size) < 0)
		return;
	event = (struct migrated_event){.kind = MIGRATED_REPORT,
	    .name = message.name,
	    .epoch = message.epoch,
	    .trouble = message.trouble,
	    .runs = message.runs,
	    .reason = message.reason};
	rpc_reply(call, MSG_COMMON_DONE, "\x80", 1);
	shell_step(shell, &event);
}

static void describe_leases(struct shell *shell, struct mono now)
{
	struct msg_migrated_ls_reply *ls = &shell->ls;
	size_t count = migrated_leases(shell->core, shell->leases, MIGRATED_VES_MAX);
	struct mono first = MONO_NEVER;

	ls->heard = ls->silent = 0;
	for (size_t i = 0; i < count; i++) {
		const struct migrated_lease *lease = &shell->leases[i];
		struct mono until = migrated_lease_until(shell->core, lease->name, lease->epoch);

		if (mono_before(now, until)) {
			ls->heard++;
			first = mono_min(first, until);
		} else {
			ls->silent++;
		}
	}
	ls->lease_ms = ls->heard ? (uint64_t)mono_to_ms(mono_sub(first, now)) : 0;
}

static void on_ls(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct mono read_at = migrated_read_at(shell->core), now = mono_now();
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	shell->ls.fresh = !mono_is_never(read_at) && !mono_due(mono_add_ms(read_at, FRESH_MS), now);
	shell->ls.has_age_ms = !mono_is_never(read_at);
	if (shell->ls.has_age_ms)
		shell->ls.age_ms = (uint64_t)mono_to_ms(mono_sub(now, read_at));
	describe_leases(shell, now);
	shell->ls.ves.count = migrated_count(shell->core);
	for (size_t i = 0; i < shell->ls.ves.count; i++)
		shell->ls.ves.item[i] = migrated_at(shell->core, i)->fact;
	if (msg_migrated_ls_reply_pack(&shell->ls, &out) < 0)
		rpc_fail(call, RPC_FAILED, "no memory");
	else
		rpc_reply(call, MSG_MIGRATED_LS_REPLY, out.data, out.size);
}

static void on_renew(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;

	renewals_asked(shell->renewals, call, body, size);
}

static void on_capacity(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;

	capacity_told(shell->capacity, call, body, size);
}

static const struct rpc_method methods[] = {
    {MSG_MIGRATED_CAPACITY, on_capacity, false},
    {MSG_MIGRATED_RENEW, on_renew, false},
    {MSG_MIGRATED_FENCED, on_fenced, false},
    {MSG_MIGRATED_RUN, on_run, false},
    {MSG_MIGRATED_STOP, on_stop, false},
    {MSG_MIGRATED_RM, on_rm, false},
    {MSG_MIGRATED_RESTORE, on_restore, false},
    {MSG_MIGRATED_REPORT, on_report, false},
    {MSG_MIGRATED_LS, on_ls, true},
    {0},
};

/* --- life --- */

static int open_keys(struct shell *shell, const struct migrated_settings *settings)
{
	const struct keys_parts parts = {.facts = shell->facts,
	    .cluster = shell->cluster,
	    .core = shell->core,
	    .sweep_ms = (uint32_t)settings->keys_ms,
	    .left_ms = (uint32_t)settings->left_ms};

	return keys_new(&shell->keys, shell->daemon, &parts);
}

static int64_t lease_ms(const struct migrated_settings *settings)
{
	static const int64_t by_profile[] = {[LEASE_LAN] = 1000, [LEASE_DEFAULT] = 2000};

	return settings->lease_ms ? settings->lease_ms : by_profile[settings->profile];
}

static int open_parts(
    struct shell *shell, const struct migrated_settings *settings, struct udp *udp)
{
	struct daemon *daemon = shell->daemon;
	struct migrated_config config = {.self = daemon->node.name,
	    .scan_ms = (uint32_t)settings->scan_ms,
	    .restarts_max = (uint32_t)settings->restarts_max,
	    .steady_ms = (uint32_t)settings->steady_ms,
	    .retry_ms = (uint32_t)settings->retry_ms,
	    .backoff_ms = (uint32_t)settings->backoff_ms,
	    .backoff_max_ms = (uint32_t)settings->backoff_max_ms,
	    .answer_ms = (uint32_t)settings->answer_ms,
	    .image_wait_ms = (uint32_t)settings->image_wait_ms,
	    .lease = {.lease = mono_ms(lease_ms(settings)),
		.slack = mono_ms(lease_ms(settings) / 40),
		.drift = 0.01,
		.renewal = mono_ms(lease_ms(settings) / 8)}};
	char directory[512];
	int r;

	snprintf(directory, sizeof(directory), "%s/migrated", daemon->node.state_dir);
	r = migrated_new(&shell->core, &config);
	if (r == 0)
		r = journal_open(&shell->journal, directory);
	if (r == 0)
		r = sd_event_add_time(
		    daemon->loop, &shell->timer, MONO_CLOCK, UINT64_MAX, 1000, on_timer, shell);
	if (r >= 0)
		r = facts_new(&shell->facts, daemon, shell);
	if (r >= 0)
		r = cluster_new(&shell->cluster, daemon, shell);
	if (r == 0)
		r = open_keys(shell, settings);
	if (r == 0)
		r = launcher_new(&shell->launcher, daemon, shell, shell->keys);
	if (r == 0)
		r = probes_new(&shell->probes, daemon, shell);
	if (r == 0)
		r = renewals_new(
		    &shell->renewals, daemon, shell, (uint32_t)lease_ms(settings), udp);
	if (r == 0)
		r = capacity_new(&shell->capacity, daemon, shell, shell->launcher);
	if (r >= 0)
		r = rpc_server_add(daemon->rpc, methods, shell);
	return r < 0 ? r : 0;
}

int shell_new(struct shell **out, struct daemon *daemon, const struct migrated_settings *settings,
    const struct fences *fences, struct udp *udp)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	struct migrated_event start = {.kind = MIGRATED_START};
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	LIST_INIT(&shell->waiting);
	r = open_parts(shell, settings, udp);
	if (r >= 0)
		r = fencer_new(&shell->fencer, daemon, shell, fences);
	if (r < 0) {
		log_start_failed(r);
		shell_free(shell);
		return r;
	}
	start.begun = journal_list(shell->journal);
	start.count = journal_count(shell->journal);
	shell_step(shell, &start);
	cluster_start(shell->cluster);
	*out = shell;
	return 0;
}

struct shell *shell_free(struct shell *shell)
{
	struct waiting *waiting;

	if (!shell)
		return NULL;
	shell->closing = true;
	rpc_client_free(shell->coordinator); /* ends what was forwarded */
	while ((waiting = LIST_FIRST(&shell->waiting))) {
		rpc_fail(
		    waiting->call, waiting->id ? RPC_UNKNOWN : RPC_UNREACHABLE, "migrated ends");
		waiting_free(waiting);
	}
	/* Each ends what it was asked by those after it. */
	facts_free(shell->facts);
	keys_free(shell->keys);
	launcher_free(shell->launcher);
	probes_free(shell->probes);
	renewals_free(shell->renewals);
	fencer_free(shell->fencer);
	capacity_free(shell->capacity);
	cluster_free(shell->cluster);
	sd_event_source_disable_unref(shell->timer);
	journal_free(shell->journal);
	migrated_free(shell->core);
	free(shell);
	return NULL;
}
