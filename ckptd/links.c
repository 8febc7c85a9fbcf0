/*
 * The messages of a round between nodes.  Each is a request that is answered at once with
 * common.done; a lost one is repeated by the core.
 */
#include "ckptd/shell-internal.h"

#include <stdio.h>
#include <string.h>

#include "common/crashpoint.h"
#include "proto/common.h"

#define SEND_TIMEOUT_MS 5000

struct rpc_client *links_client(struct shell *shell, uint64_t node)
{
	const struct peers *peers = &shell->daemon->node.peers;
	const struct peer *peer = peers_by_id(peers, node);
	struct rpc_client **client;

	if (!peer)
		return NULL;
	client = &shell->peers[peers_place(peers, peer)];
	if (!*client && rpc_client_new_peer(client, shell->daemon->zmq, shell->daemon->loop, peer,
			    PORT_CKPTD_RPC) < 0)
		log_error("no socket to node %s", peer->name);
	return *client;
}

void links_peer_changed(void *userdata, const struct peer *peer)
{
	struct shell *shell = userdata;
	struct rpc_client **client = &shell->peers[peers_place(&shell->daemon->node.peers, peer)];

	if (peer->gone)
		*client = rpc_client_free(*client);
}

/* ---- out */

static int pack_dumped(const struct shell *shell, const struct ckptd_message *m, struct buf *out)
{
	struct msg_ckptd_dumped w = {
	    .id = m->id, .bytes = m->image.bytes, .frozen_ms = m->image.frozen_ms};

	memcpy(w.ve, m->ve, sizeof(w.ve));
	if (oid_parse(w.oid, m->image.oid) < 0)
		return -1;
	for (size_t i = 0; i < m->image.n_replicas; i++)
		snprintf(w.replicas.item[w.replicas.count++], sizeof(w.replicas.item[0]), "%s",
		    shell_node_name(shell, m->image.replicas[i]));
	return msg_ckptd_dumped_pack(&w, out);
}

/* The messages that hold a round and a VE, and no more. */
#define PACK_PLAIN(type)                                                                           \
	static int pack_##type(const struct ckptd_message *m, struct buf *out)                     \
	{                                                                                          \
		struct msg_ckptd_##type w = {.id = m->id};                                         \
                                                                                                   \
		memcpy(w.ve, m->ve, sizeof(w.ve));                                                 \
		return msg_ckptd_##type##_pack(&w, out);                                           \
	}

PACK_PLAIN(vote_commit)
PACK_PLAIN(dump)
PACK_PLAIN(global_commit)

static int pack(
    struct shell *shell, const struct ckptd_message *m, const char **name, struct buf *out)
{
	struct msg_ckptd_vote_request request = {
	    .id = m->id, .ve_epoch = m->ve_epoch, .copies = (uint8_t)m->copies};
	struct msg_ckptd_vote_abort refusal = {
	    .id = m->id, .reason = (enum msg_ckptd_reason)m->reason, .last_id = m->last_id};
	struct msg_ckptd_global_abort abort = {
	    .id = m->id, .reason = (enum msg_ckptd_reason)m->reason};

	memcpy(request.ve, m->ve, sizeof(request.ve));
	memcpy(refusal.ve, m->ve, sizeof(refusal.ve));
	snprintf(refusal.detail, sizeof(refusal.detail), "%s", local_detail(shell, m->ve, m->id));
	memcpy(abort.ve, m->ve, sizeof(abort.ve));
	switch (m->kind) {
	case CKPTD_VOTE_REQUEST:
		*name = MSG_CKPTD_VOTE_REQUEST;
		return msg_ckptd_vote_request_pack(&request, out);
	case CKPTD_VOTE_COMMIT:
		*name = MSG_CKPTD_VOTE_COMMIT;
		return pack_vote_commit(m, out);
	case CKPTD_VOTE_ABORT:
		*name = MSG_CKPTD_VOTE_ABORT;
		return msg_ckptd_vote_abort_pack(&refusal, out);
	case CKPTD_DUMP:
		*name = MSG_CKPTD_DUMP;
		return pack_dump(m, out);
	case CKPTD_DUMPED:
		*name = MSG_CKPTD_DUMPED;
		return pack_dumped(shell, m, out);
	case CKPTD_GLOBAL_COMMIT:
		*name = MSG_CKPTD_GLOBAL_COMMIT;
		return pack_global_commit(m, out);
	case CKPTD_GLOBAL_ABORT:
		*name = MSG_CKPTD_GLOBAL_ABORT;
		return msg_ckptd_global_abort_pack(&abort, out);
	}
	return -1;
}

static void on_received(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	if (answer->status != RPC_OK)
		log_debug("a message of a round was not taken: %s", answer->error);
}

static void crash_before_send(enum ckptd_message_kind kind)
{
	switch (kind) {
	case CKPTD_VOTE_REQUEST:
		crash_point("ckptd.send-vote-request");
		break;
	case CKPTD_VOTE_COMMIT:
		crash_point("ckptd.send-vote-commit");
		break;
	case CKPTD_VOTE_ABORT:
		crash_point("ckptd.send-vote-abort");
		break;
	case CKPTD_DUMP:
		crash_point("ckptd.send-dump");
		break;
	case CKPTD_DUMPED:
		crash_point("ckptd.send-dumped");
		break;
	case CKPTD_GLOBAL_COMMIT:
		crash_point("ckptd.send-global-commit");
		break;
	case CKPTD_GLOBAL_ABORT:
		crash_point("ckptd.send-global-abort");
		break;
	}
}

void links_send(struct shell *shell, const struct ckptd_action *action)
{
	_cleanup_buf_ struct buf body = {0};
	struct rpc_client *client;
	const char *name = "";

	if (action->node == shell->daemon->node.self->id) {
		if (action->message.kind == CKPTD_VOTE_ABORT)
			shell_blame(
			    shell, action->id, local_detail(shell, action->message.ve, action->id));
		shell_post(shell, &(struct ckptd_event){.kind = CKPTD_EV_MESSAGE,
				      .node = action->node,
				      .message = &action->message});
		return;
	}
	crash_before_send(action->message.kind);
	client = links_client(shell, action->node);
	if (!client)
		return;
	if (pack(shell, &action->message, &name, &body) < 0)
		log_bug("a message of round %llx cannot be packed", (unsigned long long)action->id);
	else
		rpc_request(client, name, body.data, body.size, SEND_TIMEOUT_MS, on_received, NULL);
}

/* ---- in */

/* The round's messages come from nodes; our own do not pass a socket. */
static const struct peer *sender(struct shell *shell, struct rpc_call *call)
{
	const char *name = rpc_call_peer(call);

	return name ? peers_by_name(&shell->daemon->node.peers, name) : NULL;
}

static void take(struct shell *shell, struct rpc_call *call, const struct ckptd_message *message)
{
	const struct peer *peer = sender(shell, call);

	if (!peer) {
		shell->refused++;
		rpc_fail(call, RPC_DENIED, "only nodes of the cluster take part in rounds");
		return;
	}
	rpc_reply(call, MSG_COMMON_DONE, "\x80", 1);
	shell_post(shell,
	    &(struct ckptd_event){.kind = CKPTD_EV_MESSAGE, .node = peer->id, .message = message});
}

#define ON_PLAIN(type, kind_)                                                                      \
	static void on_##type(                                                                     \
	    void *userdata, struct rpc_call *call, const void *body, size_t size)                  \
	{                                                                                          \
		struct msg_ckptd_##type w;                                                         \
		struct ckptd_message m = {.kind = kind_};                                          \
                                                                                                   \
		if (rpc_unpack(call, &w, msg_ckptd_##type##_unpack, body, size) < 0)               \
			return;                                                                    \
		m.id = w.id;                                                                       \
		memcpy(m.ve, w.ve, sizeof(m.ve));                                                  \
		take(userdata, call, &m);                                                          \
	}

ON_PLAIN(vote_commit, CKPTD_VOTE_COMMIT)
ON_PLAIN(dump, CKPTD_DUMP)
ON_PLAIN(global_commit, CKPTD_GLOBAL_COMMIT)

static void on_vote_request(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ckptd_vote_request w;
	struct ckptd_message m = {.kind = CKPTD_VOTE_REQUEST};

	if (rpc_unpack(call, &w, msg_ckptd_vote_request_unpack, body, size) < 0)
		return;
	m.id = w.id;
	m.ve_epoch = w.ve_epoch;
	m.copies = w.copies;
	memcpy(m.ve, w.ve, sizeof(m.ve));
	take(userdata, call, &m);
}

static void on_vote_abort(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_ckptd_vote_abort w;
	struct ckptd_message m = {.kind = CKPTD_VOTE_ABORT};

	if (rpc_unpack(call, &w, msg_ckptd_vote_abort_unpack, body, size) < 0)
		return;
	m.id = w.id;
	m.reason = (enum ckptd_reason)w.reason;
	m.last_id = w.last_id;
	memcpy(m.ve, w.ve, sizeof(m.ve));
	if (sender(shell, call))
		shell_blame(shell, w.id, w.detail);
	take(shell, call, &m);
}

static void on_global_abort(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ckptd_global_abort w;
	struct ckptd_message m = {.kind = CKPTD_GLOBAL_ABORT};

	if (rpc_unpack(call, &w, msg_ckptd_global_abort_unpack, body, size) < 0)
		return;
	m.id = w.id;
	m.reason = (enum ckptd_reason)w.reason;
	memcpy(m.ve, w.ve, sizeof(m.ve));
	take(userdata, call, &m);
}

static void on_dumped(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_ckptd_dumped w;
	struct ckptd_message m = {.kind = CKPTD_DUMPED};

	if (rpc_unpack(call, &w, msg_ckptd_dumped_unpack, body, size) < 0)
		return;
	m.id = w.id;
	memcpy(m.ve, w.ve, sizeof(m.ve));
	oid_format(m.image.oid, w.oid);
	m.image.bytes = w.bytes;
	m.image.frozen_ms = w.frozen_ms;
	for (size_t i = 0; i < w.replicas.count; i++) {
		const struct peer *peer =
		    peers_by_name(&shell->daemon->node.peers, w.replicas.item[i]);

		if (peer)
			m.image.replicas[m.image.n_replicas++] = peer->id;
	}
	take(shell, call, &m);
}

const struct rpc_method links_methods[] = {
    {MSG_CKPTD_VOTE_REQUEST, on_vote_request, false},
    {MSG_CKPTD_VOTE_COMMIT, on_vote_commit, false},
    {MSG_CKPTD_VOTE_ABORT, on_vote_abort, false},
    {MSG_CKPTD_DUMP, on_dump, false},
    {MSG_CKPTD_DUMPED, on_dumped, false},
    {MSG_CKPTD_GLOBAL_COMMIT, on_global_commit, false},
    {MSG_CKPTD_GLOBAL_ABORT, on_global_abort, false},
    {0},
};
