/*
 * What gossipd asks of others: fdd of this node whom it hears, metad of this node for the
 * coordinator's fact, gossipd of other nodes for their views.  Streams that end are opened again
 * within a second; what fdd was told of roles is told again to a new fdd.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gossipd/shell-internal.h"
#include "proto/fdd.h"
#include "proto/metad.h"

#define ROLES_TIMEOUT_MS 2000
#define META_TIMEOUT_MS 900 /* the core gives up after 1,000 */
#define PULL_TIMEOUT_MS 1500
#define IDLE_MS 10000

/* --- fdd --- */

static void on_roles(void *userdata, const struct rpc_answer *answer)
{
	struct shell *shell = userdata;

	if (answer->status != RPC_OK)
		shell->roles_due = true;
}

static void send_roles(struct shell *shell)
{
	struct msg_fdd_peers request = {.peers.count = shell->role_count};
	_cleanup_buf_ struct buf body = {0};

	for (size_t i = 0; i < shell->role_count; i++)
		request.peers.item[i] = (struct msg_fdd_role){
		    shell->roles[i].id, shell->roles[i].watch, shell->roles[i].send};
	shell->roles_due = msg_fdd_peers_pack(&request, &body) < 0 ||
			   rpc_request(shell->fdd, MSG_FDD_PEERS, body.data, body.size,
			       ROLES_TIMEOUT_MS, on_roles, shell) < 0;
}

void links_set_roles(struct shell *shell, const struct gossipd_actions *actions)
{
	shell->role_count = actions->role_count;
	memcpy(shell->roles, actions->roles, sizeof(shell->roles));
	send_roles(shell);
}

static void take_level(struct shell *shell, const struct rpc_answer *answer)
{
	struct gossipd_event event = {.type = GOSSIPD_LEVEL};
	struct msg_fdd_level level;
	struct mpr_error error;

	if (msg_fdd_level_unpack(&level, answer->body, answer->size, &error) < 0) {
		log_bug("fdd.level: %s", error.text);
		return;
	}
	event.level.id = level.peer;
	event.level.silent = level.raised;
	log_debug("level of %s raised=%d level=%.3f", level.name, level.raised, level.level);
	shell_step(shell, &event);
}

/* Comes at once when fdd stood still, before any level that it finds afterwards, and each ten seconds. */
static void take_health(struct shell *shell, const struct rpc_answer *answer)
{
	struct gossipd_event event = {.type = GOSSIPD_HEALTH};
	struct msg_fdd_registered message;
	struct mpr_error error;

	if (msg_fdd_registered_unpack(&message, answer->body, answer->size, &error) < 0) {
		log_bug("fdd.registered: %s", error.text);
		return;
	}
	if (message.lhm != shell->lhm)
		log_info("local health multiplier %u was=%u", message.lhm, shell->lhm);
	event.lhm = shell->lhm = message.lhm;
	shell_step(shell, &event);
}

static void fdd_lost(struct shell *shell, const struct rpc_answer *answer)
{
	if (!shell->fdd_up)
		return;
	shell->fdd_up = false;
	log_notice("fdd is out of reach: %s", answer->error);
	shell_step(shell, &(struct gossipd_event){.type = GOSSIPD_FDD_LOST});
}

static void on_fdd(void *userdata, const struct rpc_answer *answer)
{
	struct shell *shell = userdata;

	if (!answer->more) {
		fdd_lost(shell, answer);
	} else if (strcmp(answer->name, MSG_FDD_LEVEL) == 0) {
		take_level(shell, answer);
	} else if (strcmp(answer->name, MSG_FDD_REGISTERED) == 0) {
		take_health(shell, answer);
		if (!shell->fdd_up) { /* a new fdd knows no roles */
			log_info("fdd is in touch");
			send_roles(shell);
		}
		shell->fdd_up = true;
	}
	shell_wake(shell);
}

/* An alarm ends with the first heartbeat: gossip does the rest. */
static int open_levels(struct shell *shell)
{
	struct msg_fdd_register request = {.application = "gossipd",
	    .raise = {.count = 1, .item = {shell->suspect}},
	    .clear = 0,
	    .beats = 0};
	struct rpc_stream_options options = {
	    .request = MSG_FDD_REGISTER, .done = on_fdd, .userdata = shell};
	_cleanup_buf_ struct buf body = {0};
	int r = msg_fdd_register_pack(&request, &body);

	options.body = body.data;
	options.size = body.size;
	return r < 0 ? r
		     : rpc_stream_new(&shell->levels, shell->fdd, shell->daemon->loop, &options);
}

/* --- metad --- */

/* A request to metad.  Its answer may come when the core has given it up and asked another one: taken for
 * that one's, what was read would be a success of what was written, and two nodes would coordinate. */
struct meta_ask {
	struct shell *shell;
	uint64_t ticket;
};

static void end_meta(
    struct meta_ask *ask, enum gossipd_meta_rc rc, uint64_t version, struct gossipd_fact fact)
{
	struct gossipd_event event = {.type = GOSSIPD_META_RESULT};
	struct shell *shell = ask->shell;

	event.meta.ticket = ask->ticket;
	free(ask);
	event.meta.rc = rc;
	event.meta.version = version;
	event.meta.fact = fact;
	shell_step(shell, &event);
	shell_wake(shell);
}

static void doubt_meta(struct meta_ask *ask, const char *why)
{
	struct shell *shell = ask->shell;
	unsigned missed;

	shell->metad_up = false;
	if (log_limit(&shell->meta_limit, mono_now(), &missed))
		log_notice("%s: no answer from metad: %s missed=%u", shell->key, why, missed);
	end_meta(ask, GOSSIPD_META_DOUBT, 0, (struct gossipd_fact){0});
}

static void on_got(void *userdata, const struct rpc_answer *answer)
{
	struct meta_ask *ask = userdata;
	struct shell *shell = ask->shell;
	struct msg_gossipd_coord_fact fact;
	struct msg_metad_got got;
	struct mpr_error error;

	if (answer->status != RPC_OK) {
		doubt_meta(ask, answer->error);
		return;
	}
	if (msg_metad_got_unpack(&got, answer->body, answer->size, &error) < 0) {
		doubt_meta(ask, error.text);
		return;
	}
	shell->metad_up = true;
	if (got.entry.version == 0) {
		end_meta(ask, GOSSIPD_META_OK, 0, (struct gossipd_fact){0});
	} else if (msg_gossipd_coord_fact_unpack(
		       &fact, got.entry.value, got.entry.value_size, &error) < 0) {
		doubt_meta(ask, error.text);
	} else {
		end_meta(ask, GOSSIPD_META_OK, got.entry.version,
		    (struct gossipd_fact){fact.epoch, shell_id_of(shell, fact.node), fact.seq,
			mono_ms(fact.lease_ms)});
	}
}

static void on_txn(void *userdata, const struct rpc_answer *answer)
{
	struct meta_ask *ask = userdata;
	struct shell *shell = ask->shell;
	struct msg_metad_txn_reply reply;
	struct mpr_error error;

	if (answer->status != RPC_OK) {
		doubt_meta(ask, answer->error);
		return;
	}
	if (msg_metad_txn_reply_unpack(&reply, answer->body, answer->size, &error) < 0) {
		doubt_meta(ask, error.text);
		return;
	}
	shell->metad_up = true;
	if (reply.result == MSG_METAD_RESULT_APPLIED)
		end_meta(ask, GOSSIPD_META_OK, reply.version, (struct gossipd_fact){0});
	else if (reply.result == MSG_METAD_RESULT_CONFLICT)
		end_meta(ask, GOSSIPD_META_CONFLICT, 0, (struct gossipd_fact){0});
	else
		doubt_meta(ask, "unknown whether it was applied");
}

static int get_fact(struct shell *shell, struct buf *body)
{
	struct msg_metad_get request = {0};

	snprintf(request.key, sizeof(request.key), "%s", shell->key);
	return msg_metad_get_pack(&request, body);
}

static int put_fact(struct shell *shell, const struct gossipd_action *action, struct buf *body)
{
	struct msg_gossipd_coord_fact fact = {.epoch = action->meta.fact.epoch,
	    .seq = action->meta.fact.seq,
	    .has_lease_ms = true,
	    .lease_ms = (uint32_t)mono_to_ms(action->meta.fact.lease)};
	struct msg_metad_txn request = {.ops.count = 1, .has_nonce = true};
	struct msg_metad_op *op = &request.ops.item[0];
	_cleanup_buf_ struct buf value = {0};
	int r;

	snprintf(fact.node, sizeof(fact.node), "%s", shell_name_of(shell, action->meta.fact.node));
	r = msg_gossipd_coord_fact_pack(&fact, &value);
	if (r < 0)
		return r;
	snprintf(op->key, sizeof(op->key), "%s", shell->key);
	op->kind = MSG_METAD_KIND_PUT;
	op->has_expected = true;
	op->expected = action->meta.expected;
	op->has_value = true;
	op->value = value.data;
	op->value_size = value.size;
	randombytes_buf(request.nonce, sizeof(request.nonce));
	return msg_metad_txn_pack(&request, body);
}

/* A request that cannot even be sent is in doubt, too, when the core's patience is over. */
void links_meta(struct shell *shell, const struct gossipd_action *action)
{
	_cleanup_buf_ struct buf body = {0};
	bool get = action->type == GOSSIPD_META_GET;
	int r = get ? get_fact(shell, &body) : put_fact(shell, action, &body);
	struct meta_ask *ask = malloc(sizeof(*ask));

	if (r < 0 || !ask) {
		free(ask);
		log_bug("pack a request to metad: %s", strerror(r < 0 ? -r : ENOMEM));
		return;
	}
	*ask = (struct meta_ask){shell, action->meta.ticket};
	if (rpc_request(shell->metad, get ? MSG_METAD_GET : MSG_METAD_TXN, body.data, body.size,
		META_TIMEOUT_MS, get ? on_got : on_txn, ask) < 0)
		free(ask);
}

static void on_hint(void *userdata, const struct rpc_answer *answer)
{
	struct shell *shell = userdata;

	if (answer->more)
		shell_step(shell, &(struct gossipd_event){.type = GOSSIPD_META_HINT});
	shell_wake(shell);
}

static int open_hints(struct shell *shell)
{
	struct rpc_stream_options options = {
	    .request = MSG_METAD_WATCH, .done = on_hint, .userdata = shell};
	struct msg_metad_watch request = {0};
	_cleanup_buf_ struct buf body = {0};
	int r;

	snprintf(request.prefix, sizeof(request.prefix), "%s", shell->key);
	r = msg_metad_watch_pack(&request, &body);
	options.body = body.data;
	options.size = body.size;
	return r < 0 ? r
		     : rpc_stream_new(&shell->hints, shell->metad, shell->daemon->loop, &options);
}

/* --- other nodes --- */

static void on_view(void *userdata, const struct rpc_answer *answer)
{
	struct neighbour *neighbour = userdata;
	struct gossipd_entry entries[GOSSIPD_MEMBERS_MAX];
	struct gossipd_event event = {.type = GOSSIPD_VIEW};
	struct msg_gossipd_view_reply reply;
	struct mpr_error error;

	if (answer->status != RPC_OK) {
		log_info("view of %s: %s", neighbour->peer->name, answer->error);
		return;
	}
	if (msg_gossipd_view_reply_unpack(&reply, answer->body, answer->size, &error) < 0) {
		log_warning("view of %s: %s", neighbour->peer->name, error.text);
		return;
	}
	for (size_t i = 0; i < reply.entries.count; i++)
		entries[i] = (struct gossipd_entry){reply.entries.item[i].id,
		    reply.entries.item[i].incarnation,
		    (enum gossipd_state)reply.entries.item[i].state};
	event.view.from = neighbour->peer->id;
	event.view.entries = entries;
	event.view.count = reply.entries.count;
	shell_step(neighbour->shell, &event);
	shell_wake(neighbour->shell);
}

struct neighbour *links_find(struct shell *shell, uint64_t id)
{
	const struct node_config *node = &shell->daemon->node;
	const struct peer *peer = peers_by_id(&node->peers, id);
	struct neighbour *neighbour;

	if (!peer || peer == node->self)
		return NULL;
	neighbour = &shell->neighbours[peers_place(&node->peers, peer)];
	neighbour->shell = shell;
	neighbour->peer = peer;
	return neighbour;
}

struct neighbour *links_neighbour(struct shell *shell, uint64_t id)
{
	struct neighbour *neighbour = links_find(shell, id);
	int r = 0;

	if (!neighbour)
		return NULL;
	if (!neighbour->client)
		r = rpc_client_new_peer(&neighbour->client, shell->daemon->zmq, shell->daemon->loop,
		    neighbour->peer, PORT_GOSSIPD_RPC);
	neighbour->used_at = mono_now();
	if (r == 0)
		return neighbour;
	log_error("connect to %s: %s", neighbour->peer->name, strerror(-r));
	return NULL;
}

void links_pull(struct shell *shell, uint64_t peer)
{
	struct neighbour *neighbour = links_neighbour(shell, peer);
	struct msg_gossipd_view request = {0};
	_cleanup_buf_ struct buf body = {0};

	if (!neighbour)
		return;
	if (msg_gossipd_view_pack(&request, &body) == 0)
		(void)rpc_request(neighbour->client, MSG_GOSSIPD_VIEW, body.data, body.size,
		    PULL_TIMEOUT_MS, on_view, neighbour);
}

void links_peer_changed(struct shell *shell, const struct peer *peer)
{
	struct neighbour *neighbour =
	    &shell->neighbours[peers_place(&shell->daemon->node.peers, peer)];

	if (peer->gone)
		reach_end(&neighbour->reach);
	if (peer->gone && neighbour->client) {
		rpc_client_free(neighbour->old);
		neighbour->old = neighbour->client;
		neighbour->client = NULL;
	}
	clusters_peer_changed(shell);
}

/* --- life --- */

/* A connection costs a ping a second each way, more than all of gossip; pulls are rare. */
static void hang_up(struct shell *shell)
{
	struct records *records = &shell->records;
	struct mono now = mono_now();

	if (!records->pulling)
		records->from = NULL;

	for (size_t i = 0; i < PEERS_MAX; i++) {
		struct neighbour *neighbour = &shell->neighbours[i];

		neighbour->old = rpc_client_free(neighbour->old);
		if (neighbour->client && neighbour->client != records->from &&
		    mono_due(mono_add_ms(neighbour->used_at, IDLE_MS), now))
			neighbour->client = rpc_client_free(neighbour->client);
	}
}

void links_second(struct shell *shell)
{
	hang_up(shell);
	rpc_stream_ask(shell->levels);
	if (shell->roles_due && shell->fdd_up)
		send_roles(shell);
	rpc_stream_ask(shell->hints);
}

int links_open(struct shell *shell)
{
	struct daemon *daemon = shell->daemon;
	int r = rpc_client_new_local(
	    &shell->fdd, daemon->zmq, daemon->loop, daemon->node.run_dir, "fdd");

	if (r == 0)
		r = rpc_client_new_local(
		    &shell->metad, daemon->zmq, daemon->loop, daemon->node.run_dir, "metad");
	if (r == 0)
		r = open_levels(shell);
	if (r == 0)
		r = open_hints(shell);
	if (r == 0)
		links_second(shell);
	return r;
}

void links_close(struct shell *shell)
{
	rpc_client_free(shell->fdd);
	rpc_client_free(shell->metad);
	rpc_stream_free(shell->levels);
	rpc_stream_free(shell->hints);
	for (size_t i = 0; i < PEERS_MAX; i++) {
		rpc_client_free(shell->neighbours[i].client);
		rpc_client_free(shell->neighbours[i].old);
		reach_end(&shell->neighbours[i].reach);
	}
}
