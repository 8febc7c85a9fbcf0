/*
 * What other processes of this node ask of fdd (proto/fdd.toml).
 *
 * A registration is a request that is never answered until it ends: its notices are the answer.  An
 * application that dies is noticed when a notice cannot be delivered, at the latest by the one that
 * each gets every ten seconds; one that comes back takes the place of its former self by its name; one
 * behind a relay, whose end no connection tells, takes a lease and renews it.
 */
#include <stdio.h>
#include <string.h>

#include "fdd/shell-internal.h"
#include "proto/common.h"

static void tell_end(
    struct shell *shell, const struct subscription *subscription, enum msg_fdd_ending ending)
{
	struct msg_fd_unregistered event = {.registration = subscription->id, .ending = ending};

	snprintf(
	    event.application, sizeof(event.application), "%s", subscription->request.application);
	log_info("registration ended application=%s registration=%llu why=%s", event.application,
	    (unsigned long long)event.registration, msg_fdd_ending_name(ending));
	daemon_tell(shell->daemon, MSG_FD_UNREGISTERED, msg_fd_unregistered_pack, &event);
}

/* Its call has been answered or dropped.  The core may have forgotten it already. */
static void end_subscription(
    struct shell *shell, struct subscription *subscription, enum msg_fdd_ending ending)
{
	struct fdd_event event = {.type = FDD_UNREGISTER, .registration_id = subscription->id};

	tell_end(shell, subscription, ending);
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
	rpc_call_drop(subscription->call);
	end_subscription(shell, subscription, MSG_FDD_ENDING_GONE);
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
	shell_name_of(shell, level->peer, message.name, sizeof(message.name));
	if (msg_fdd_level_pack(&message, &body) == 0)
		notice(shell, subscription, MSG_FDD_LEVEL, &body);
}

void requests_tell_value(struct shell *shell, const struct fdd_level *level)
{
	struct subscription *subscription = find_subscription(shell, level->registration);
	struct msg_fdd_value message = {.registration = level->registration,
	    .peer = level->peer,
	    .heard = level->heard,
	    .level = level->level,
	    .incarnation = level->incarnation,
	    .elapsed_ms = to_ms(level->elapsed),
	    .predicted_ms = to_ms(level->predicted)};
	_cleanup_buf_ struct buf body = {0};

	if (!subscription)
		return;
	shell_name_of(shell, level->peer, message.name, sizeof(message.name));
	if (msg_fdd_value_pack(&message, &body) == 0)
		notice(shell, subscription, MSG_FDD_VALUE, &body);
}

void requests_tell_expired(struct shell *shell, uint64_t registration)
{
	struct subscription *subscription = find_subscription(shell, registration);

	if (!subscription)
		return;
	rpc_fail(subscription->call, RPC_TIMEOUT,
	    "the lease of registration %llu ran out: no fdd.renew within %u ms",
	    (unsigned long long)registration, subscription->request.lease_ms);
	end_subscription(shell, subscription, MSG_FDD_ENDING_EXPIRED);
}

/* Also how an application that has gone is noticed, and how one learns that we are alive. */
static bool tell_registered(struct shell *shell, struct subscription *subscription)
{
	struct msg_fdd_registered message = {.registration = subscription->id,
	    .incarnation = fdd_own_incarnation(shell->fdd),
	    .lhm = fdd_lhm(shell->fdd),
	    .stalls = fdd_counters(shell->fdd)->stalls};
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
		end_subscription(shell, subscription, MSG_FDD_ENDING_REPLACED);
	}
}

/* The core's form of what an application asked for. */
static struct fdd_registration make_registration(
    uint64_t id, const struct msg_fdd_register *request)
{
	struct fdd_registration registration = {.id = id,
	    .peer = request->peer,
	    .period = mono_ms(request->period_ms),
	    .lease = mono_ms(request->lease_ms)};
	struct fdd_thresholds *thresholds = &registration.thresholds;

	thresholds->count = request->raise.count;
	for (size_t i = 0; i < request->raise.count; i++)
		thresholds->raise[i] = request->raise.item[i];
	thresholds->clear = request->clear;
	thresholds->beats = request->beats;
	return registration;
}

/* NULL, or what does not hold. */
static const char *registration_fault(const struct fdd_registration *registration)
{
	bool values = registration->period.ns > 0;

	if (values && mono_before(registration->period, FDD_PERIOD_MIN))
		return "period_ms: 0, or 100 at least";
	if (registration->lease.ns && mono_before(registration->lease, FDD_LEASE_MIN))
		return "lease_ms: 0, or 100 at least";
	if (!(values && registration->thresholds.count == 0) &&
	    !fdd_thresholds_valid(&registration->thresholds))
		return "raise: 1 to 4 thresholds, ascending, each above clear and below 1; "
		       "none only with period_ms";
	return NULL;
}

static void on_register(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct fdd_event event = {.type = FDD_REGISTER};
	struct subscription *subscription;
	struct msg_fdd_register request;
	const char *fault;

	if (rpc_unpack(call, &request, msg_fdd_register_unpack, body, size) < 0)
		return;
	event.registration = make_registration(shell->registrations + 1, &request);
	fault = registration_fault(&event.registration);
	if (fault) {
		rpc_fail(call, RPC_INVALID, "%s", fault);
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

/* NULL after the caller was told that there is none. */
static struct subscription *wanted_subscription(
    struct shell *shell, struct rpc_call *call, uint64_t registration)
{
	struct subscription *subscription = find_subscription(shell, registration);

	if (!subscription)
		rpc_fail(
		    call, RPC_NOT_FOUND, "no registration %llu", (unsigned long long)registration);
	return subscription;
}

static void on_renew(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct fdd_event event = {.type = FDD_RENEW};
	struct subscription *subscription;
	struct msg_fdd_renewed reply;
	struct msg_fdd_renew request;
	_cleanup_buf_ struct buf out = {0};

	if (rpc_unpack(call, &request, msg_fdd_renew_unpack, body, size) < 0)
		return;
	subscription = wanted_subscription(shell, call, request.registration);
	if (!subscription)
		return;
	event.registration_id = request.registration;
	shell_step(shell, &event);
	reply = (struct msg_fdd_renewed){request.registration, subscription->request.lease_ms};
	msg_fdd_renewed_pack(&reply, &out);
	rpc_reply(call, MSG_FDD_RENEWED, out.data, out.size);
	shell_wake(shell);
}

static void on_unregister(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct subscription *subscription;
	struct msg_fdd_unregister request;

	if (rpc_unpack(call, &request, msg_fdd_unregister_unpack, body, size) < 0)
		return;
	subscription = wanted_subscription(shell, call, request.registration);
	if (!subscription)
		return;
	finish(subscription->call, request.registration);
	end_subscription(shell, subscription, MSG_FDD_ENDING_ASKED);
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
	size_t nodes = 0;

	for (size_t i = 0; i < count; i++)
		if (!fdd_find(shell->fdd, roles[i].id, mono_now(), &status) ||
		    status.watch != roles[i].watch || status.send != roles[i].send)
			return true;
	for (size_t i = 0; fdd_status(shell->fdd, i, mono_now(), &status); i++)
		nodes += !status.service;
	return nodes != count;
}

static void on_peers(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct fdd_peer_role roles[CLUSTER_MAX];
	struct msg_fdd_peers_reply reply = {0};
	_cleanup_buf_ struct buf out = {0};
	struct msg_fdd_peers request;
	size_t count = 0;

	if (rpc_unpack(call, &request, msg_fdd_peers_unpack, body, size) < 0)
		return;
	for (size_t i = 0; i < request.peers.count && i < CLUSTER_MAX; i++) {
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
	shell_name_of(shell, status->id, peer->name, sizeof(peer->name));
}

static void list_all(const struct shell *shell, struct msg_fdd_ls_reply *reply)
{
	struct fdd_status status;

	reply->has_services = true;
	for (size_t i = 0; fdd_status(shell->fdd, i, mono_now(), &status); i++) {
		if (!status.service) {
			if (reply->peers.count < CLUSTER_MAX)
				describe(shell, &status, &reply->peers.item[reply->peers.count++]);
			continue;
		}
		if (reply->services.count < SERVICES_MAX &&
		    services_describe(
			shell->services, &status, &reply->services.item[reply->services.count]))
			reply->services.item[reply->services.count++].state =
			    state_of(status.state);
	}
}

static void on_ls(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_fdd_ls_reply reply = {.incarnation = fdd_own_incarnation(shell->fdd),
	    .interval_ms = shell->interval_ms,
	    .estimator = shell->estimator,
	    .lhm = fdd_lhm(shell->fdd),
	    .stalls = fdd_counters(shell->fdd)->stalls};
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	shell_wake(shell); /* what waits in the socket belongs into the answer */
	for (size_t i = 0; i < REGISTRATIONS_MAX; i++)
		reply.registrations += shell->subscriptions[i].call != NULL;
	list_all(shell, &reply);
	msg_fdd_ls_reply_pack(&reply, &out);
	rpc_reply(call, MSG_FDD_LS_REPLY, out.data, out.size);
}

static void on_probes(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_fdd_probes_reply reply = {0};
	_cleanup_buf_ struct buf out = {0};
	struct msg_fdd_probes request;
	const char *fault;

	if (rpc_unpack(call, &request, msg_fdd_probes_unpack, body, size) < 0)
		return;
	fault = services_set(shell->services, &request, &reply);
	if (fault) {
		rpc_fail(call, RPC_INVALID, "%s: %s", request.ve, fault);
	} else {
		msg_fdd_probes_reply_pack(&reply, &out);
		rpc_reply(call, MSG_FDD_PROBES_REPLY, out.data, out.size);
	}
	shell_wake(shell);
}

static bool send_arrivals(struct rpc_call *call, const struct msg_fdd_arrivals_part *part)
{
	_cleanup_buf_ struct buf out = {0};

	return msg_fdd_arrivals_part_pack(part, &out) == 0 &&
	       rpc_notice(call, MSG_FDD_ARRIVALS_PART, out.data, out.size);
}

/* The notices of a log; false when the caller is gone. */
static bool stream_arrivals(const struct shell *shell, struct rpc_call *call, uint64_t peer)
{
	struct msg_fdd_arrivals_part part = {0};
	const struct fdd_arrival *arrival;

	for (size_t n = 0; (arrival = fdd_arrival(shell->fdd, peer, n)); n++) {
		part.arrivals.item[part.arrivals.count++] =
		    (struct msg_fdd_arrival){.received_ns = (uint64_t)arrival->at.ns,
			.from_ns = (uint64_t)arrival->from.ns,
			.sequence = arrival->sequence,
			.interval_ns = (uint64_t)arrival->interval.ns,
			.incarnation = arrival->incarnation};
		if (part.arrivals.count <
		    sizeof(part.arrivals.item) / sizeof(part.arrivals.item[0]))
			continue;
		if (!send_arrivals(call, &part))
			return false;
		part.arrivals.count = 0;
	}
	return part.arrivals.count == 0 || send_arrivals(call, &part);
}

static void on_arrivals(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_fdd_arrivals_end reply = {0};
	struct msg_fdd_arrivals request;
	_cleanup_buf_ struct buf out = {0};
	struct fdd_arrival_log log;
	const struct peer *peer;

	if (rpc_unpack(call, &request, msg_fdd_arrivals_unpack, body, size) < 0)
		return;
	shell_wake(shell);
	peer = peers_by_name(&shell->daemon->node.peers, request.name);
	if (!peer || !fdd_arrival_log(shell->fdd, peer->id, &log)) {
		rpc_fail(call, RPC_NOT_FOUND, "%s is not watched from here", request.name);
		return;
	}
	if (!stream_arrivals(shell, call, peer->id)) {
		rpc_call_drop(call);
		return;
	}
	snprintf(reply.name, sizeof(reply.name), "%s", peer->name);
	reply.since_ns = (uint64_t)log.since.ns;
	reply.until_ns = (uint64_t)mono_now().ns;
	reply.interval_ms = shell->interval_ms;
	reply.dropped = log.dropped;
	msg_fdd_arrivals_end_pack(&reply, &out);
	rpc_reply(call, MSG_FDD_ARRIVALS_END, out.data, out.size);
}

const struct rpc_method requests_methods[] = {
    {MSG_FDD_ARRIVALS, on_arrivals, true},
    {MSG_FDD_LS, on_ls, true},
    {MSG_FDD_PEERS, on_peers, true},
    {MSG_FDD_PROBES, on_probes, true},
    {MSG_FDD_REGISTER, on_register, true},
    {MSG_FDD_RENEW, on_renew, true},
    {MSG_FDD_UNREGISTER, on_unregister, true},
    {0},
};
