/*
 * What others ask of gossipd (proto/gossipd.toml), and what it tells them: replies, notices to who
 * watches, events on the bus.
 */
#include <stdio.h>
#include <string.h>

#include "gossipd/shell-internal.h"

/* --- members --- */

static void describe(const struct shell *shell, const struct gossipd_status *status,
    struct msg_gossipd_listed_member *member)
{
	const struct peer *peer = shell_peer(shell, status->id);

	*member = (struct msg_gossipd_listed_member){
	    .id = status->id,
	    .state = (enum msg_gossipd_state)status->state,
	    .incarnation = status->incarnation,
	    .votes = status->votes,
	    .observers = status->observers,
	    .watched = status->watch,
	    .has_heard_ms = status->heard,
	    .heard_ms = status->heard ? (uint64_t)mono_to_ms(status->heard_ago) : 0,
	};
	snprintf(member->node, sizeof(member->node), "%s", peer->name);
	snprintf(member->address, sizeof(member->address), "%s", peer->address);
}

static void on_members(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_gossipd_members_reply reply = {.isolated = gossipd_isolated(shell->core)};
	_cleanup_buf_ struct buf out = {0};
	struct gossipd_status status;
	uint64_t coordinator;
	bool held;

	(void)body;
	(void)size;
	gossipd_coordinator(shell->core, mono_now(), &coordinator, &reply.epoch, &held);
	snprintf(
	    reply.coordinator, sizeof(reply.coordinator), "%s", shell_name_of(shell, coordinator));
	while (gossipd_status(shell->core, reply.members.count, mono_now(), &status)) {
		struct msg_gossipd_listed_member *member =
		    &reply.members.item[reply.members.count++];

		describe(shell, &status, member);
		member->coordinator = status.id == coordinator;
		member->damped = status.damped;
		member->stalled = status.stalled;
	}
	msg_gossipd_members_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_MEMBERS_REPLY, out.data, out.size);
}

static void on_status(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_gossipd_status_reply reply = {.isolated = gossipd_isolated(shell->core),
	    .fdd = shell->fdd_up,
	    .metad = shell->metad_up,
	    .lhm = shell->lhm};
	_cleanup_buf_ struct buf out = {0};
	struct gossipd_status status;
	uint64_t coordinator;

	(void)body;
	(void)size;
	gossipd_coordinator(shell->core, mono_now(), &coordinator, &reply.epoch, &reply.held);
	snprintf(
	    reply.coordinator, sizeof(reply.coordinator), "%s", shell_name_of(shell, coordinator));
	snprintf(reply.cluster, sizeof(reply.cluster), "%s", shell->key + strlen("coord/"));
	while (gossipd_status(shell->core, reply.members, mono_now(), &status)) {
		reply.members++;
		reply.alive += status.state == GOSSIPD_ALIVE || status.state == GOSSIPD_SUSPECT;
		if (status.id == shell->daemon->node.self->id) {
			reply.incarnation = status.incarnation;
			reply.damped = status.damped;
		}
	}
	msg_gossipd_status_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_STATUS_REPLY, out.data, out.size);
}

/* The only request that other nodes make. */
static void on_view(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct gossipd_entry entries[GOSSIPD_MEMBERS_MAX];
	struct msg_gossipd_view_reply reply = {0};
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	reply.entries.count = gossipd_view(shell->core, entries);
	for (size_t i = 0; i < reply.entries.count; i++)
		reply.entries.item[i] = (struct msg_gossipd_entry){entries[i].id,
		    entries[i].incarnation, (enum msg_gossipd_state)entries[i].state};
	msg_gossipd_view_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_VIEW_REPLY, out.data, out.size);
}

/* --- who watches --- */

static bool notice_member(
    struct shell *shell, struct rpc_call *call, const struct gossipd_status *status)
{
	const struct peer *peer = shell_peer(shell, status->id);
	struct msg_gossipd_member message = {.id = status->id,
	    .state = (enum msg_gossipd_state)status->state,
	    .incarnation = status->incarnation,
	    .votes = status->votes,
	    .observers = status->observers};
	_cleanup_buf_ struct buf body = {0};

	snprintf(message.node, sizeof(message.node), "%s", peer->name);
	snprintf(message.address, sizeof(message.address), "%s", peer->address);
	return msg_gossipd_member_pack(&message, &body) == 0 &&
	       rpc_notice(call, MSG_GOSSIPD_MEMBER, body.data, body.size);
}

static bool notice_coord(struct shell *shell, struct rpc_call *call)
{
	struct msg_gossipd_coord message = {0};
	_cleanup_buf_ struct buf body = {0};
	uint64_t node;

	gossipd_coordinator(shell->core, mono_now(), &node, &message.epoch, &message.held);
	if (message.held) {
		message.until_ns = (uint64_t)gossipd_reign_until(shell->core).ns;
		message.since_ns = (uint64_t)gossipd_reign_since(shell->core).ns;
	}
	snprintf(message.node, sizeof(message.node), "%s", shell_name_of(shell, node));
	return msg_gossipd_coord_pack(&message, &body) == 0 &&
	       rpc_notice(call, MSG_GOSSIPD_COORD, body.data, body.size);
}

static void drop_watcher(struct rpc_call **watcher)
{
	rpc_call_drop(*watcher);
	*watcher = NULL;
}

void requests_tell_reign(struct shell *shell)
{
	for (size_t i = 0; i < WATCHERS_MAX; i++)
		if (shell->watchers[i] && !notice_coord(shell, shell->watchers[i]))
			drop_watcher(&shell->watchers[i]);
}

static struct rpc_call **free_watcher(struct shell *shell)
{
	for (size_t i = 0; i < WATCHERS_MAX; i++)
		if (!shell->watchers[i])
			return &shell->watchers[i];
	return NULL;
}

static void on_watch(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct gossipd_status status;
	struct msg_gossipd_watch message;
	struct mpr_error error;
	struct rpc_call **place;
	bool there = true;

	if (msg_gossipd_watch_unpack(&message, body, size, &error) < 0) {
		rpc_fail(call, RPC_INVALID, "%s", error.text);
		return;
	}
	if (!free_watcher(shell))
		requests_tell_reign(shell);
	place = free_watcher(shell);
	if (!place) {
		rpc_fail(call, RPC_FAILED, "%d programs watch already", WATCHERS_MAX);
		return;
	}
	for (size_t i = 0; there && gossipd_status(shell->core, i, mono_now(), &status); i++)
		there = notice_member(shell, call, &status);
	if (!there || !notice_coord(shell, call))
		rpc_call_drop(call);
	else
		*place = call;
	shell->terms[place - shell->watchers] = (struct terms){
	    .confirm = mono_ms(message.has_confirm_ms ? message.confirm_ms : 0),
	    .quorum = message.has_quorum ? message.quorum : 0,
	    .votes = message.votes,
	};
}

/* --- what the core tells --- */

/* The event that goes with a change, if it is one for people. */
static void publish_member(struct shell *shell, const struct gossipd_action *action)
{
	enum gossipd_state from = action->member.from, to = action->member.to;
	uint64_t id = action->member.id, incarnation = action->member.incarnation;
	const char *name = shell_name_of(shell, id);

#define TELL(TOPIC, type, ...)                                                                     \
	do {                                                                                       \
		struct msg_##type event = {__VA_ARGS__};                                           \
		event.id = id;                                                                     \
		event.incarnation = incarnation;                                                   \
		snprintf(event.node, sizeof(event.node), "%s", name);                              \
		daemon_tell(shell->daemon, MSG_##TOPIC, msg_##type##_pack, &event);                \
	} while (0)
	if (to == GOSSIPD_SUSPECT)
		TELL(MEMBER_SUSPECT, member_suspect, .votes = action->member.votes,
		    .observers = action->member.observers);
	else if (to == GOSSIPD_ALIVE && from == GOSSIPD_SUSPECT)
		TELL(MEMBER_REFUTED, member_refuted, 0);
	else if (to == GOSSIPD_ALIVE)
		TELL(MEMBER_ALIVE, member_alive, .was = (enum msg_gossipd_state)from);
	else if (from == GOSSIPD_UNKNOWN)
		return; /* a new process learns what is no news to anybody */
	else if (to == GOSSIPD_DEAD)
		TELL(MEMBER_DEAD, member_dead, .votes = action->member.votes,
		    .observers = action->member.observers);
	else if (to == GOSSIPD_LEFT)
		TELL(MEMBER_LEFT, member_left, 0);
#undef TELL
}

void requests_tell_member(struct shell *shell, const struct gossipd_action *action)
{
	struct gossipd_status status = {
	    .id = action->member.id,
	    .state = action->member.to,
	    .incarnation = action->member.incarnation,
	    .votes = action->member.votes,
	    .observers = action->member.observers,
	};
	const struct peer *peer = shell_peer(shell, status.id);

	if (status.state == GOSSIPD_LEFT && peer && shell_is_followed(shell, peer)) {
		log_info("%s has left with its old key", peer->name);
		return;
	}
	log_notice("%s is %s was=%s votes=%u/%u incarnation=%llu", shell_name_of(shell, status.id),
	    gossipd_state_name(action->member.to), gossipd_state_name(action->member.from),
	    status.votes, status.observers, (unsigned long long)status.incarnation);
	for (size_t i = 0; i < WATCHERS_MAX; i++) {
		struct gossipd_status told = status;

		if (!shell->watchers[i])
			continue;
		terms_change(&shell->terms[i], &told, mono_now());
		if (!notice_member(shell, shell->watchers[i], &told))
			drop_watcher(&shell->watchers[i]);
	}
	publish_member(shell, action);
}

struct mono requests_tell_pending(struct shell *shell)
{
	struct mono now = mono_now(), at = MONO_NEVER;
	struct gossipd_status status;

	for (size_t i = 0; i < WATCHERS_MAX; i++) {
		while (
		    shell->watchers[i] && terms_next(&shell->terms[i], shell->core, now, &status)) {
			if (!notice_member(shell, shell->watchers[i], &status))
				drop_watcher(&shell->watchers[i]);
		}
		if (shell->watchers[i])
			at = mono_min(at, terms_deadline(&shell->terms[i], now));
	}
	return at;
}

void requests_tell_stalled(struct shell *shell, const struct gossipd_action *action)
{
	struct msg_member_stalled event = {.id = action->member.id,
	    .incarnation = action->member.incarnation,
	    .votes = action->member.votes,
	    .observers = action->member.observers};

	snprintf(event.node, sizeof(event.node), "%s", shell_name_of(shell, event.id));
	log_notice("%s stands still: its kernel answers, and it does not votes=%u/%u", event.node,
	    event.votes, event.observers);
	daemon_tell(shell->daemon, MSG_MEMBER_STALLED, msg_member_stalled_pack, &event);
}

void requests_tell_damped(struct shell *shell, uint64_t id, bool damped)
{
	const char *name = shell_name_of(shell, id);
	struct msg_member_flapping flapping = {.id = id};
	struct msg_member_stable stable = {.id = id};

	snprintf(flapping.node, sizeof(flapping.node), "%s", name);
	snprintf(stable.node, sizeof(stable.node), "%s", name);
	if (damped)
		daemon_tell(
		    shell->daemon, MSG_MEMBER_FLAPPING, msg_member_flapping_pack, &flapping);
	else
		daemon_tell(shell->daemon, MSG_MEMBER_STABLE, msg_member_stable_pack, &stable);
	log_notice(damped ? "%s comes and goes: it observes nobody until it is stable%s"
			  : "%s is stable again%s",
	    name, id == shell->daemon->node.self->id ? " (this node, as the others say)" : "");
}

void requests_tell_isolated(struct shell *shell, bool isolated)
{
	struct msg_member_isolated event = {.isolated = isolated};

	log_notice(isolated ? "cut off from most of the cluster: judging nobody"
			    : "in touch with the cluster again");
	daemon_tell(shell->daemon, MSG_MEMBER_ISOLATED, msg_member_isolated_pack, &event);
}

void requests_tell_coord(struct shell *shell, const struct gossipd_action *action)
{
	struct msg_coord_elected elected = {
	    .epoch = action->coord.epoch, .held = action->coord.held};
	struct msg_coord_lost lost = {.epoch = action->coord.epoch};

	snprintf(
	    elected.node, sizeof(elected.node), "%s", shell_name_of(shell, action->coord.node));
	if (action->coord.lost) {
		log_notice("the coordinator's lease is lost epoch=%llu",
		    (unsigned long long)action->coord.epoch);
		daemon_tell(shell->daemon, MSG_COORD_LOST, msg_coord_lost_pack, &lost);
	}
	if (action->coord.node != 0 && (action->coord.held || !action->coord.lost)) {
		log_notice("coordinator %s epoch=%llu held=%d", elected.node,
		    (unsigned long long)elected.epoch, elected.held);
		daemon_tell(shell->daemon, MSG_COORD_ELECTED, msg_coord_elected_pack, &elected);
	}
	requests_tell_reign(shell);
}

/* --- leaving --- */

static void end_leave(struct rpc_call *call)
{
	struct msg_gossipd_leave_reply reply = {0};
	_cleanup_buf_ struct buf out = {0};

	msg_gossipd_leave_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_LEAVE_REPLY, out.data, out.size);
}

static void on_leave(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;

	(void)body;
	(void)size;
	if (shell->leaver) {
		rpc_fail(call, RPC_FAILED, "this node is leaving already");
		return;
	}
	if (shell->gone) {
		end_leave(call);
		return;
	}
	log_notice("leaving the cluster");
	shell->leaver = call;
	shell_step(shell, &(struct gossipd_event){.type = GOSSIPD_LEAVE});
	shell_wake(shell);
}

void requests_tell_gone(struct shell *shell)
{
	shell->gone = true;
	if (shell->leaver)
		end_leave(shell->leaver);
	shell->leaver = NULL;
}

void requests_fini(struct shell *shell)
{
	for (size_t i = 0; i < WATCHERS_MAX; i++)
		if (shell->watchers[i])
			rpc_reply(shell->watchers[i], MSG_GOSSIPD_WATCH_ENDED, "\x80", 1);
	if (shell->leaver)
		rpc_fail(shell->leaver, RPC_FAILED, "the daemon ends");
}

const struct rpc_method requests_methods[] = {
    {MSG_GOSSIPD_ABROAD, clusters_on_abroad, true},
    {MSG_GOSSIPD_CLUSTER_LS, clusters_on_ls, true},
    {MSG_GOSSIPD_CLUSTERS, clusters_on_pull, false},
    {MSG_GOSSIPD_LEAVE, on_leave, true},
    {MSG_GOSSIPD_MEMBERS, on_members, true},
    {MSG_GOSSIPD_STATUS, on_status, true},
    {MSG_GOSSIPD_VIEW, on_view, false},
    {MSG_GOSSIPD_WATCH, on_watch, true},
    {0},
};
