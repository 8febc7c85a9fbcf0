/*
 * Leases of VEs on the wire: renewals go to the coordinator's migrated every half second and come back as grants; what is
 * granted is told to ved, which has the kernel close the gate at its end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrated/shell.h"
#include "proto/migrated.h"
#include "proto/ved.h"

#define ANSWER_MS                                                                                  \
	400 /* one that comes later is worth little, and the next renewal is out by then */
#define ARM_MS 1000
#define COMPLAIN_MS 60000

struct renewals {
	struct daemon *daemon;
	struct shell *shell;
	struct rpc_client *ved;
	struct rpc_call
	    *call; /* of the renewal that the core looks at now; NULL: this node's own */
	bool looking;
	uint32_t lease_ms;
	struct mono complain_at; /* not before, of a node with another lease_ms */
	struct migrated_lease leases[LEASE_MAX];
	struct msg_migrated_renew renew; /* large: kept here */
	struct msg_migrated_granted granted;
};

struct asked {
	struct renewals *renewals;
	uint64_t id;
};

int renewals_new(
    struct renewals **out, struct daemon *daemon, struct shell *shell, uint32_t lease_ms)
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
	if (r < 0)
		renewals = renewals_free(renewals);
	*out = renewals;
	return r;
}

struct renewals *renewals_free(struct renewals *renewals)
{
	if (renewals)
		rpc_client_free(renewals->ved);
	free(renewals);
	return NULL;
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
	for (size_t i = 0; ok && i < granted->leases.count; i++) {
		struct migrated_lease *lease = &renewals->leases[i];

		memcpy(lease->name, granted->leases.item[i].name, sizeof(lease->name));
		lease->epoch = granted->leases.item[i].epoch;
	}
	if (ok)
		tell_granted(renewals, asked.id, granted->leases.count, granted->length_ns);
	else
		tell_unanswered(renewals, asked.id);
}

static int ask_coordinator(struct renewals *renewals, struct rpc_client *client, uint64_t id)
{
	struct asked *asked = malloc(sizeof(*asked));
	_cleanup_buf_ struct buf body = {0};
	int64_t r = asked ? msg_migrated_renew_pack(&renewals->renew, &body) : -ENOMEM;

	if (r >= 0) {
		*asked = (struct asked){renewals, id};
		r = rpc_request(
		    client, MSG_MIGRATED_RENEW, body.data, body.size, ANSWER_MS, on_granted, asked);
	}
	if (r < 0)
		free(asked);
	return r < 0 ? (int)r : 0;
}

/* The core looks at a renewal; its GRANT comes before this returns. */
static void look(
    struct renewals *renewals, struct rpc_call *call, const char *node, uint64_t id, size_t count)
{
	struct migrated_event event = {.kind = MIGRATED_RENEWAL,
	    .name = node,
	    .id = id,
	    .leases = renewals->leases,
	    .count = count,
	    .length = mono_ms(renewals->renew.lease_ms)};

	renewals->call = call;
	renewals->looking = true;
	shell_step(renewals->shell, &event);
	if (renewals->looking && call)
		rpc_fail(call, RPC_FAILED, "no memory");
	renewals->looking = false;
}

void renewals_ask(struct renewals *renewals, uint64_t id)
{
	struct rpc_client *client = shell_coordinator(renewals->shell);
	size_t count = migrated_leases(shell_core(renewals->shell), renewals->leases, LEASE_MAX);

	renewals->renew.lease_ms = renewals->lease_ms;
	if (!client && shell_coordinates(renewals->shell)) {
		look(renewals, NULL, renewals->daemon->node.name, id, count);
		return;
	}
	renewals->renew.leases.count = count;
	for (size_t i = 0; i < count; i++) {
		struct msg_migrated_lease *lease = &renewals->renew.leases.item[i];

		memcpy(lease->name, renewals->leases[i].name, sizeof(lease->name));
		lease->epoch = renewals->leases[i].epoch;
		lease->unfenced = renewals->leases[i].unfenced;
	}
	if (!client || ask_coordinator(renewals, client, id) < 0)
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

void renewals_grant(struct renewals *renewals, const struct migrated_action *action)
{
	struct msg_migrated_granted *reply = &renewals->granted;
	_cleanup_buf_ struct buf body = {0};

	if (!renewals->looking)
		return;
	renewals->looking = false;
	if (!renewals->call) {
		memcpy(renewals->leases, action->leases, action->count * sizeof(*action->leases));
		tell_granted(renewals, action->id, action->count, (uint64_t)action->length.ns);
		return;
	}
	reply->length_ns = (uint64_t)action->length.ns;
	reply->leases.count = action->count;
	for (size_t i = 0; i < action->count; i++) {
		memcpy(reply->leases.item[i].name, action->leases[i].name,
		    sizeof(reply->leases.item[i].name));
		reply->leases.item[i].epoch = action->leases[i].epoch;
	}
	if (msg_migrated_granted_pack(reply, &body) < 0)
		rpc_fail(renewals->call, RPC_FAILED, "no memory");
	else
		rpc_reply(renewals->call, MSG_MIGRATED_GRANTED, body.data, body.size);
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
	for (size_t i = 0; i < message->leases.count; i++) {
		memcpy(renewals->leases[i].name, message->leases.item[i].name,
		    sizeof(renewals->leases[i].name));
		renewals->leases[i].epoch = message->leases.item[i].epoch;
		renewals->leases[i].unfenced = message->leases.item[i].unfenced;
	}
	if (!node)
		node = renewals->daemon->node.name;
	compare_length(renewals, node, message->lease_ms);
	look(renewals, call, node, 0, message->leases.count);
}
