/*
 * Leases of VEs on the wire: renewals go to the coordinator's migrated eight times in a lease and come back as grants; what is
 * granted is told to ved, which has the kernel close the gate at its end.
 *
 * They go as datagrams.  A renewal is of worth for a moment only, may be lost, doubled or late (the rule of lease.h asks for
 * no more), and the next one is on its way.  By TCP, as they went first, what was lost holds up what comes after it: when a
 * network has been out for 1.5 s, TCP tries again after up to 1.6 s more, so that a VE fell silent, or moved, for a cut that
 * was shorter than its lease.  By the stream of requests go those that do not fit into a datagram, and all while datagrams
 * have no answer: a coordinator of an earlier version, or a network that lets none through.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/sealed-udp.h"
#include "migrated/shell.h"
#include "proto/migrated.h"
#include "proto/ved.h"

#define ANSWER_MS                                                                                  \
	400 /* one that comes later is worth little, and the next renewal is out by then */
#define DATAGRAM_MS 200 /* the same, of a datagram: it was lost */
#define ARM_MS 1000
#define COMPLAIN_MS 60000

/* Who is to be answered: a request, or if there is none the sender of a datagram, or if there is none this node. */
struct asker {
	struct rpc_call *call;
	uint64_t peer, boot; /* peer 0: this node */
};

struct renewals {
	struct daemon *daemon;
	struct shell *shell;
	struct rpc_client *ved;
	struct sealed_udp *udp;
	sd_event_source *timer; /* of the oldest datagram without an answer */
	uint64_t waiting_id;    /* 0: there is none */
	bool unheard;           /* the last datagram that was waited for had none */
	struct asker asker;     /* of the renewal that the core looks at now */
	bool looking;
	uint32_t lease_ms;
	struct mono complain_at; /* not before, of a node with another lease_ms */
	struct migrated_lease leases[LEASE_MAX];
	struct msg_migrated_renew renew; /* large: kept here */
	struct msg_migrated_granted granted;
	struct msg_migrated_leases datagram;
	struct daemon_stat stats[SEALED_UDP_STATS + 1];
};

struct asked {
	struct renewals *renewals;
	uint64_t id;
};

static void put_leases(
    struct msg_migrated_lease *to, const struct migrated_lease *from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		memcpy(to[i].name, from[i].name, sizeof(to[i].name));
		to[i].epoch = from[i].epoch;
		to[i].unfenced = from[i].unfenced;
		to[i].ready = from[i].ready;
		to[i].silent = from[i].silent;
	}
}

static void take_leases(
    struct renewals *renewals, const struct msg_migrated_lease *from, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		memcpy(renewals->leases[i].name, from[i].name, sizeof(from[i].name));
		renewals->leases[i].epoch = from[i].epoch;
		renewals->leases[i].unfenced = from[i].unfenced;
		renewals->leases[i].ready = from[i].ready;
		renewals->leases[i].silent = from[i].silent;
	}
}

/* --- the node that asks --- */

static void tell_granted(struct renewals *renewals, uint64_t id, size_t count, uint64_t length_ns)
{
	struct migrated_event event = {.kind = MIGRATED_GRANTED,
	    .ok = true,
	    .id = id,
	    .leases = renewals->leases,
	    .count = count,
	    .length = mono_ns(length_ns < INT64_MAX ? (int64_t)length_ns : 0)};

	shell_step(renewals->shell, &event);
}

static void tell_unanswered(struct renewals *renewals, uint64_t id)
{
	struct migrated_event event = {.kind = MIGRATED_GRANTED, .id = id};

	shell_step(renewals->shell, &event);
}

static void on_granted(void *userdata, const struct rpc_answer *answer)
{
	struct asked asked = *(struct asked *)userdata;
	struct renewals *renewals = asked.renewals;
	struct msg_migrated_granted *granted = &renewals->granted;
	struct mpr_error error;
	bool ok = answer->status == RPC_OK;

	free(userdata);
	if (ok && msg_migrated_granted_unpack(granted, answer->body, answer->size, &error) < 0) {
		log_warning("grant of the coordinator: %s", error.text);
		ok = false;
	}
	if (!ok) {
		tell_unanswered(renewals, asked.id);
		return;
	}
	take_leases(renewals, granted->leases.item, granted->leases.count);
	tell_granted(renewals, asked.id, granted->leases.count, granted->length_ns);
}

static int ask_by_stream(
    struct renewals *renewals, struct rpc_client *client, size_t count, uint64_t id)
{
	struct asked *asked = malloc(sizeof(*asked));
	_cleanup_buf_ struct buf body = {0};
	int64_t r = asked ? 0 : -ENOMEM;

	renewals->renew.lease_ms = renewals->lease_ms;
	renewals->renew.leases.count = count;
	put_leases(renewals->renew.leases.item, renewals->leases, count);
	if (r == 0)
		r = msg_migrated_renew_pack(&renewals->renew, &body);
	if (r >= 0) {
		*asked = (struct asked){renewals, id};
		r = rpc_request(
		    client, MSG_MIGRATED_RENEW, body.data, body.size, ANSWER_MS, on_granted, asked);
	}
	if (r < 0)
		free(asked);
	return r < 0 ? (int)r : 0;
}

/* False: it does not fit into one. */
static bool send_datagram(
    struct renewals *renewals, uint64_t peer, const struct migrated_lease *leases, size_t count)
{
	struct msg_migrated_leases *message = &renewals->datagram;
	const size_t max = sizeof(message->leases.item) / sizeof(message->leases.item[0]);
	_cleanup_buf_ struct buf body = {0};

	if (count > max)
		return false;
	message->leases.count = count;
	put_leases(message->leases.item, leases, count);
	if (msg_migrated_leases_pack(message, &body) < 0 || body.size > SEAL_PAYLOAD_MAX)
		return false;
	sealed_udp_send(renewals->udp, peer, body.data, body.size);
	return true;
}

static bool ask_by_datagram(struct renewals *renewals, size_t count, uint64_t id)
{
	const struct peer *peer = shell_coordinator_peer(renewals->shell);
	struct msg_migrated_leases *message = &renewals->datagram;

	message->answer = false;
	message->boot = renewals->daemon->boot;
	message->id = id;
	message->length_ns = (uint64_t)mono_ms(renewals->lease_ms).ns;
	if (!peer || !send_datagram(renewals, peer->id, renewals->leases, count))
		return false;
	if (!renewals->waiting_id) {
		renewals->waiting_id = id;
		deadline_set(renewals->timer, mono_add_ms(mono_now(), DATAGRAM_MS));
	}
	return true;
}

static int on_waited(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct renewals *renewals = userdata;
	uint64_t id;

	(void)source;
	(void)usec;
	renewals_drain(renewals); /* this process may have stood still, and not the coordinator */
	id = renewals->waiting_id;
	renewals->waiting_id = 0;
	if (id) {
		renewals->unheard = true;
		tell_unanswered(renewals, id);
	}
	return 0;
}

static void take_answer(struct renewals *renewals, const struct msg_migrated_leases *message)
{
	if (message->boot != renewals->daemon->boot)
		return;
	renewals->unheard = false;
	if (message->id >= renewals->waiting_id)
		renewals->waiting_id = 0;
	take_leases(renewals, message->leases.item, message->leases.count);
	tell_granted(renewals, message->id, message->leases.count, message->length_ns);
}

/* The core looks at a renewal; its GRANT comes before this returns. */
static void look(struct renewals *renewals, struct asker asker, const char *node, uint64_t id,
    size_t count, struct mono length)
{
	struct migrated_event event = {.kind = MIGRATED_RENEWAL,
	    .name = node,
	    .id = id,
	    .leases = renewals->leases,
	    .count = count,
	    .length = length};

	renewals->asker = asker;
	renewals->looking = true;
	shell_step(renewals->shell, &event);
	if (renewals->looking && asker.call)
		rpc_fail(asker.call, RPC_FAILED, "no memory");
	renewals->looking = false;
}

void renewals_ask(struct renewals *renewals, uint64_t id)
{
	struct rpc_client *client = shell_coordinator(renewals->shell);
	size_t count = migrated_leases(shell_core(renewals->shell), renewals->leases, LEASE_MAX);
	bool unheard = renewals->unheard;

	if (!client && shell_coordinates(renewals->shell)) {
		look(renewals, (struct asker){0}, renewals->daemon->node.name, id, count,
		    mono_ms(renewals->lease_ms));
		return;
	}
	if (!client) {
		tell_unanswered(renewals, id);
		return;
	}
	if (ask_by_datagram(renewals, count, id) && !unheard)
		return;
	if (ask_by_stream(renewals, client, count, id) < 0)
		tell_unanswered(renewals, id);
}

/* --- ved --- */

static void on_armed(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	/* Not found: it is still being made, and begins with the lease that it was asked for with. */
	if (answer->status != RPC_OK && answer->status != RPC_NOT_FOUND)
		log_info("arm: %s", answer->error);
}

static void arm(struct renewals *renewals, const struct migrated_lease *lease)
{
	struct mono until =
	    migrated_lease_until(shell_core(renewals->shell), lease->name, lease->epoch);
	struct msg_ved_arm request = {.epoch = lease->epoch, .until_ns = (uint64_t)until.ns};
	_cleanup_buf_ struct buf body = {0};

	/* Not granted since this process began: the gate may still be open by the grant before. */
	if (until.ns == 0)
		return;
	memcpy(request.name, lease->name, sizeof(request.name));
	msg_ved_arm_pack(&request, &body);
	if (rpc_request(renewals->ved, MSG_VED_ARM, body.data, body.size, ARM_MS, on_armed, NULL) <
	    0)
		log_warning("arm %s: no memory", lease->name);
}

void renewals_arm(struct renewals *renewals)
{
	size_t count = migrated_leases(shell_core(renewals->shell), renewals->leases, LEASE_MAX);

	for (size_t i = 0; i < count; i++)
		arm(renewals, &renewals->leases[i]);
}

/* --- the coordinator --- */

static void grant_by_stream(struct renewals *renewals, const struct migrated_action *action)
{
	struct msg_migrated_granted *reply = &renewals->granted;
	_cleanup_buf_ struct buf body = {0};

	reply->length_ns = (uint64_t)action->length.ns;
	reply->leases.count = action->count;
	put_leases(reply->leases.item, action->leases, action->count);
	if (msg_migrated_granted_pack(reply, &body) < 0)
		rpc_fail(renewals->asker.call, RPC_FAILED, "no memory");
	else
		rpc_reply(renewals->asker.call, MSG_MIGRATED_GRANTED, body.data, body.size);
}

/* No larger than the renewal was. */
static void grant_by_datagram(struct renewals *renewals, const struct migrated_action *action)
{
	struct msg_migrated_leases *message = &renewals->datagram;

	message->answer = true;
	message->boot = renewals->asker.boot;
	message->id = action->id;
	message->length_ns = (uint64_t)action->length.ns;
	(void)send_datagram(renewals, renewals->asker.peer, action->leases, action->count);
}

void renewals_grant(struct renewals *renewals, const struct migrated_action *action)
{
	if (!renewals->looking)
		return;
	renewals->looking = false;
	if (renewals->asker.call) {
		grant_by_stream(renewals, action);
	} else if (renewals->asker.peer) {
		grant_by_datagram(renewals, action);
	} else {
		memcpy(renewals->leases, action->leases, action->count * sizeof(*action->leases));
		tell_granted(renewals, action->id, action->count, (uint64_t)action->length.ns);
	}
}

/*
 * Each grant carries its length, so that nodes with other settings endanger nobody; but their VEs move later, or fall silent
 * sooner, than their administrator thinks.
 */
static void compare_length(struct renewals *renewals, const char *node, uint32_t lease_ms)
{
	struct msg_lease_differs event = {.lease_ms = lease_ms, .granted_ms = renewals->lease_ms};
	struct mono now = mono_now();

	if (lease_ms == renewals->lease_ms || !shell_coordinates(renewals->shell) ||
	    mono_before(now, renewals->complain_at))
		return;
	renewals->complain_at = mono_add_ms(now, COMPLAIN_MS);
	if (lease_ms == 0)
		log_error("%s renews without a length: nothing is granted to that version", node);
	else
		log_warning("%s has lease_ms = %u, here it is %u: leases last as long as here",
		    node, lease_ms, renewals->lease_ms);
	snprintf(event.node, sizeof(event.node), "%s", node);
	daemon_tell(renewals->daemon, MSG_LEASE_DIFFERS, msg_lease_differs_pack, &event);
}

void renewals_asked(struct renewals *renewals, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_migrated_renew *message = &renewals->renew;
	const char *node = rpc_call_peer(call);

	if (rpc_unpack(call, message, msg_migrated_renew_unpack, body, size) < 0)
		return;
	take_leases(renewals, message->leases.item, message->leases.count);
	if (!node)
		node = renewals->daemon->node.name;
	compare_length(renewals, node, message->lease_ms);
	look(renewals, (struct asker){.call = call}, node, 0, message->leases.count,
	    mono_ms(message->lease_ms));
}

/* --- datagrams --- */

static int take_datagram(
    void *userdata, const struct sealed_payload *payload, struct mpr_error *error)
{
	struct renewals *renewals = userdata;
	struct msg_migrated_leases *message = &renewals->datagram;
	const struct peer *peer = peers_by_id(&renewals->daemon->node.peers, payload->from);
	int r = msg_migrated_leases_unpack(message, payload->data, payload->size, error);
	struct mono length;

	if (r < 0 || !peer)
		return r;
	if (message->answer) {
		take_answer(renewals, message);
		return 0;
	}
	length = mono_ns(message->length_ns < INT64_MAX ? (int64_t)message->length_ns : 0);
	take_leases(renewals, message->leases.item, message->leases.count);
	compare_length(renewals, peer->name, (uint32_t)mono_to_ms(length));
	look(renewals, (struct asker){.peer = peer->id, .boot = message->boot}, peer->name,
	    message->id, message->leases.count, length);
	return 0;
}

static void on_datagrams(void *userdata)
{
	renewals_drain(userdata);
}

void renewals_drain(struct renewals *renewals)
{
	sealed_udp_drain(renewals->udp);
}

/* --- making and unmaking --- */

static int open_udp(struct renewals *renewals, struct udp *udp)
{
	const struct sealed_udp_options options = {
	    .port = PORT_LEASES, .take = take_datagram, .wake = on_datagrams, .userdata = renewals};
	int r = sealed_udp_new(&renewals->udp, renewals->daemon, udp, &options);

	if (r < 0)
		return r;
	sealed_udp_stats(
	    renewals->udp, "authentic, but neither renewal nor grant", renewals->stats);
	renewals->daemon->stats = renewals->stats;
	return 0;
}

int renewals_new(struct renewals **out, struct daemon *daemon, struct shell *shell,
    uint32_t lease_ms, struct udp *udp)
{
	struct renewals *renewals = calloc(1, sizeof(*renewals));
	int r;

	if (!renewals)
		return -ENOMEM;
	renewals->daemon = daemon;
	renewals->shell = shell;
	renewals->lease_ms = lease_ms;
	r = rpc_client_new_local(
	    &renewals->ved, daemon->zmq, daemon->loop, daemon->node.run_dir, "ved");
	if (r == 0)
		r = sd_event_add_time(daemon->loop, &renewals->timer, MONO_CLOCK, UINT64_MAX, 1000,
		    on_waited, renewals);
	if (r >= 0)
		r = open_udp(renewals, udp);
	if (r < 0)
		renewals = renewals_free(renewals);
	*out = renewals;
	return r;
}

struct renewals *renewals_free(struct renewals *renewals)
{
	if (!renewals)
		return NULL;
	renewals->daemon->stats = NULL;
	sealed_udp_free(renewals->udp);
	sd_event_source_disable_unref(renewals->timer);
	rpc_client_free(renewals->ved);
	free(renewals);
	return NULL;
}
