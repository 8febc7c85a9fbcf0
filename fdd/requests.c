/*
 * What other processes of this node ask of fdd (proto/fdd.toml).
 *
 * A registration is a request that is never answered until it ends: its notices are the answer.  An
 * application that dies is noticed when a notice cannot be delivered, at the latest by the one that
 * each gets every ten seconds; one that comes back takes the place of its former self by its name.
 */
#include <stdio.h>
#include <string.h>

#include "fdd/shell-internal.h"
#include "proto/common.h"

static void end_subscription(struct shell *shell, struct subscription *subscription)
{
	struct fdd_event event = {.type = FDD_UNREGISTER, .registration_id = subscription->id};

	*subscription = (struct subscription){0};
	shell_step(shell, &event);
}

static struct subscription *find_subscription(struct shell *shell, uint64_t id)
{
	for (size_t i = 0; i < REGISTRATIONS_MAX; i++)
		if (shell->subscriptions[i].call && shell->subscriptions[i].id == id)
			return &shell->subscriptions[i];
	return NULL;
}

/* false when the application is gone; its subscription has then been ended. */
static bool notice(struct shell *shell, struct subscription *subscription, const char *name,
    const struct buf *body)
{
	if (rpc_notice(subscription->call, name, body->data, body->size))
		return true;
	log_info("%s is gone registration=%llu", subscription->request.application,
	    (unsigned long long)subscription->id);
	rpc_call_drop(subscription->call);
	end_subscription(shell, subscription);
	return false;
}

void requests_tell_level(struct shell *shell, const struct fdd_level *level)
{
	struct subscription *subscription = find_subscription(shell, level->registration);
	struct msg_fdd_level message = {.registration = level->registration,
	    .peer = level->peer,
	    .raised = level->raised,
	    .heard = level->heard,
	    .level = level->level,
	    .incarnation = level->incarnation,
	    .elapsed_ms = to_ms(level->elapsed),
	    .predicted_ms = to_ms(level->predicted)};
	_cleanup_buf_ struct buf body = {0};

	if (!subscription)
		return;
	message.threshold = subscription->request.raise.item[level->threshold];
	snprintf(message.name, sizeof(message.name), "%s", shell_name_of(shell, level->peer));
	if (msg_fdd_level_pack(&message, &body) == 0)
		notice(shell, subscription, MSG_FDD_LEVEL, &body);
}

/* Also how an application that has gone is noticed, and how one learns that we are alive. */
static bool tell_registered(struct shell *shell, struct subscription *subscription)
{
	struct msg_fdd_registered message = {
	    .registration = subscription->id, .incarnation = fdd_own_incarnation(shell->fdd)};
	_cleanup_buf_ struct buf body = {0};

	return msg_fdd_registered_pack(&message, &body) == 0 &&
	       notice(shell, subscription, MSG_FDD_REGISTERED, &body);
}

void requests_sweep(struct shell *shell)
{
	for (size_t i = 0; i < REGISTRATIONS_MAX; i++)
		if (shell->subscriptions[i].call)
			tell_registered(shell, &shell->subscriptions[i]);
}

static void finish(struct rpc_call *call, uint64_t registration)
{
	struct msg_fdd_unregistered reply = {.registration = registration};
	_cleanup_buf_ struct buf body = {0};

	msg_fdd_unregistered_pack(&reply, &body);
	rpc_reply(call, MSG_FDD_UNREGISTERED, body.data, body.size);
}

static struct subscription *free_subscription(struct shell *shell)
{
	for (size_t i = 0; i < REGISTRATIONS_MAX; i++)
		if (!shell->subscriptions[i].call)
			return &shell->subscriptions[i];
	return NULL;
}

static void replace_application(struct shell *shell, const char *application)
{
	for (size_t i = 0; i < REGISTRATIONS_MAX; i++) {
		struct subscription *subscription = &shell->subscriptions[i];

		if (!subscription->call ||
		    strcmp(subscription->request.application, application) != 0)
			continue;
		rpc_fail(subscription->call, RPC_FAILED, "%s has registered anew", application);
		end_subscription(shell, subscription);
	}
}

/* The core's form of what an application asked for; false when it makes no sense. */
static bool make_registration(
    struct fdd_registration *registration, uint64_t id, const struct msg_fdd_register *request)
{
	struct fdd_thresholds *thresholds = &registration->thresholds;

	*registration = (struct fdd_registration){.id = id, .peer = request->peer};
	thresholds->count = request->raise.count;
	for (size_t i = 0; i < request->raise.count; i++)
		thresholds->raise[i] = request->raise.item[i];
	thresholds->clear = request->clear;
	thresholds->beats = request->beats;
	return fdd_thresholds_valid(thresholds);
}

static void on_register(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct fdd_event event = {.type = FDD_REGISTER};
	struct subscription *subscription;
	struct msg_fdd_register request;

	if (rpc_unpack(call, &request, msg_fdd_register_unpack, body, size) < 0)
		return;
	if (!make_registration(&event.registration, shell->registrations + 1, &request)) {
		rpc_fail(call, RPC_INVALID,
		    "raise: 1 to %d thresholds, ascending, each above clear and below 1",
		    FDD_THRESHOLDS_MAX);
		return;
	}
	replace_application(shell, request.application);
	if (!free_subscription(shell))
		requests_sweep(shell);
	subscription = free_subscription(shell);
	if (!subscription) {
		rpc_fail(
		    call, RPC_FAILED, "%d applications are registered already", REGISTRATIONS_MAX);
		return;
	}
	*subscription = (struct subscription){call, ++shell->registrations, request};
	if (tell_registered(shell, subscription))
		shell_step(shell, &event);
	shell_wake(shell);
}

static void on_unregister(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct subscription *subscription;
	struct msg_fdd_unregister request;

	if (rpc_unpack(call, &request, msg_fdd_unregister_unpack, body, size) < 0)
		return;
	subscription = find_subscription(shell, request.registration);
	if (!subscription) {
		rpc_fail(call, RPC_NOT_FOUND, "no registration %llu",
		    (unsigned long long)request.registration);
		return;
	}
	finish(subscription->call, request.registration);
	end_subscription(shell, subscription);
	finish(call, request.registration);
	shell_wake(shell);
}

static void tell_peers(struct shell *shell, const struct msg_fdd_peers_reply *now)
{
	struct msg_fd_peers event = {.watched = now->watched, .sent_to = now->sent_to};

	log_info(
	    "peers set watched=%u sent_to=%u unknown=%u", now->watched, now->sent_to, now->unknown);
	daemon_tell(shell->daemon, MSG_FD_PEERS, msg_fd_peers_pack, &event);
}

/* Does this list ask for anything but what is in force? */
static bool peers_changed(
    const struct shell *shell, const struct fdd_peer_role *roles, size_t count)
{
	struct fdd_status status;

	for (size_t i = 0; i < count; i++)
		if (!fdd_find(shell->fdd, roles[i].id, mono_now(), &status) ||
		    status.watch != roles[i].watch || status.send != roles[i].send)
			return true;
	return fdd_status(shell->fdd, count, mono_now(), &status);
}

static void on_peers(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct fdd_peer_role roles[PEERS_MAX];
	struct msg_fdd_peers_reply reply = {0};
	_cleanup_buf_ struct buf out = {0};
	struct msg_fdd_peers request;
	size_t count = 0;

	if (rpc_unpack(call, &request, msg_fdd_peers_unpack, body, size) < 0)
		return;
	for (size_t i = 0; i < request.peers.count && i < PEERS_MAX; i++) {
		const struct msg_fdd_role *role = &request.peers.item[i];

		if (!sealed_udp_knows(shell->udp, role->id)) {
			reply.unknown++;
			continue;
		}
		roles[count++] = (struct fdd_peer_role){role->id, role->watch, role->send};
		reply.watched += role->watch;
		reply.sent_to += role->send;
	}
	if (peers_changed(shell, roles, count)) {
		shell_set_peers(shell, roles, count);
		tell_peers(shell, &reply);
	}
	msg_fdd_peers_reply_pack(&reply, &out);
	rpc_reply(call, MSG_FDD_PEERS_REPLY, out.data, out.size);
	shell_wake(shell);
}

static enum msg_fdd_state state_of(const char *name)
{
	for (int i = MSG_FDD_STATE_UNWATCHED; i <= MSG_FDD_STATE_SILENT; i++)
		if (strcmp(msg_fdd_state_name((enum msg_fdd_state)i), name) == 0)
			return (enum msg_fdd_state)i;
	log_bug("no message has the state %s", name);
	return MSG_FDD_STATE_UNWATCHED;
}

static void describe(
    const struct shell *shell, const struct fdd_status *status, struct msg_fdd_peer *peer)
{
	const struct estimator_numbers *numbers = &status->numbers;

	*peer = (struct msg_fdd_peer){
	    .id = status->id,
	    .state = state_of(status->state),
	    .watch = status->watch,
	    .send = status->send,
	    .in_touch = sealed_udp_ready(shell->udp, status->id),
	    .heard = status->heard,
	    .level = status->level,
	    .incarnation = status->incarnation,
	    .sequence = status->sequence,
	    .elapsed_ms = to_ms(status->elapsed),
	    .predicted_ms = to_ms(status->predicted),
	    .interval_ms = numbers->interval_s * 1e3,
	    .kama_ms = numbers->kama_s * 1e3,
	    .dev_fast_ms = numbers->dev_fast_s * 1e3,
	    .dev_slow_ms = numbers->dev_slow_s * 1e3,
	    .loss = numbers->loss,
	    .received = status->received,
	    .lost = status->lost,
	    .repeated = status->repeated,
	    .old = status->old,
	};
	snprintf(peer->name, sizeof(peer->name), "%s", shell_name_of(shell, status->id));
}

static void on_ls(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_fdd_ls_reply reply = {.incarnation = fdd_own_incarnation(shell->fdd),
	    .interval_ms = shell->interval_ms,
	    .estimator = shell->estimator};
	_cleanup_buf_ struct buf out = {0};
	struct fdd_status status;

	(void)body;
	(void)size;
	shell_wake(shell); /* what waits in the socket belongs into the answer */
	for (size_t i = 0; i < REGISTRATIONS_MAX; i++)
		reply.registrations += shell->subscriptions[i].call != NULL;
	while (reply.peers.count < PEERS_MAX &&
	       fdd_status(shell->fdd, reply.peers.count, mono_now(), &status))
		describe(shell, &status, &reply.peers.item[reply.peers.count++]);
	msg_fdd_ls_reply_pack(&reply, &out);
	rpc_reply(call, MSG_FDD_LS_REPLY, out.data, out.size);
}

const struct rpc_method requests_methods[] = {
    {MSG_FDD_LS, on_ls, true},
    {MSG_FDD_PEERS, on_peers, true},
    {MSG_FDD_REGISTER, on_register, true},
    {MSG_FDD_UNREGISTER, on_unregister, true},
    {0},
};
