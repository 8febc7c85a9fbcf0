/*
 * The other clusters, in the shell: which nodes they have, datagrams to and from them, summaries
 * that are pulled, and what is told of them.
 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gossipd/shell-internal.h"

#define PULL_TIMEOUT_MS 1500

_Static_assert(MSG_GOSSIPD_BRIDGE_SIZE_MAX <= SEAL_PAYLOAD_MAX, "a datagram must fit");

/* --- nodes --- */

/* Its id in the core and in datagrams. */
static uint64_t cluster_id(const struct node_config *node, const struct peer *peer)
{
	char name[CLUSTER_NAME_MAX + 1];
	uint64_t hash;

	config_cluster_name(name, node, peer);
	crypto_generichash(
	    (uint8_t *)&hash, sizeof(hash), (const uint8_t *)name, strlen(name), NULL, 0);
	return hash;
}

static int compare_nodes(const void *a, const void *b)
{
	const struct gossipd_node *x = a, *y = b;

	if (x->cluster != y->cluster)
		return x->cluster < y->cluster ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* All nodes in the order that the core wants; NULL without memory. */
static struct gossipd_node *list_nodes(const struct node_config *node, size_t *count)
{
	struct gossipd_node *nodes = calloc(PEERS_MAX, sizeof(*nodes));
	const struct peer *peer = NULL;

	*count = 0;
	while (nodes && (peer = peers_next(&node->peers, peer)))
		nodes[(*count)++] = (struct gossipd_node){cluster_id(node, peer), peer->id};
	if (nodes)
		qsort(nodes, *count, sizeof(*nodes), compare_nodes);
	return nodes;
}

int clusters_configure(struct shell *shell, struct gossipd_config *config)
{
	const struct node_config *node = &shell->daemon->node;

	shell->nodes = list_nodes(node, &config->node_count);
	if (!shell->nodes)
		return -ENOMEM;
	config->nodes = shell->nodes;
	config->cluster = cluster_id(node, node->self);
	return 0;
}

/* The core keeps what it knows of those who stay. */
void clusters_peer_changed(struct shell *shell)
{
	struct gossipd_event event = {.type = GOSSIPD_NODES};
	struct gossipd_node *nodes = list_nodes(&shell->daemon->node, &event.nodes.count);

	if (!nodes)
		return;
	event.nodes.list = nodes;
	if (shell_step(shell, &event) == GOSSIPD_REFUSED) {
		log_error("more than %d nodes in a cluster: the list stays as it was",
		    GOSSIPD_MEMBERS_MAX);
		free(nodes);
		return;
	}
	free(shell->nodes);
	shell->nodes = nodes;
}

/* "" when none of its nodes is known any more. */
static void name_cluster(
    const struct shell *shell, const struct gossipd_node *nodes, char name[CLUSTER_NAME_MAX + 1])
{
	const struct peer *peer = peers_by_id(&shell->daemon->node.peers, nodes[0].id);

	name[0] = '\0';
	if (peer)
		config_cluster_name(name, &shell->daemon->node, peer);
}

/* --- datagrams --- */

void clusters_write(struct msg_gossipd_summary *message, const struct gossipd_summary *summary)
{
	*message = (struct msg_gossipd_summary){
	    .cluster = summary->cluster,
	    .version = summary->version,
	    .roster = summary->roster,
	    .beat = summary->beat,
	    .dead = summary->dead,
	    .left = summary->left,
	    .absent = summary->absent,
	    .coordinator = summary->coordinator,
	    .unknown = summary->unknown,
	};
}

void clusters_read(struct gossipd_summary *summary, const struct msg_gossipd_summary *message)
{
	*summary = (struct gossipd_summary){
	    .cluster = message->cluster,
	    .version = message->version,
	    .roster = message->roster,
	    .beat = message->beat,
	    .dead = message->dead,
	    .left = message->left,
	    .absent = message->absent,
	    .coordinator = message->coordinator,
	    .unknown = message->unknown,
	};
}

void clusters_send(
    struct shell *shell, const struct gossipd_action *action, const struct gossipd_bridge *bridge)
{
	struct msg_gossipd_bridge message = {
	    .digest = bridge->digest,
	    .reply = action->cross.reply,
	    .has_marks = bridge->mark_count > 0,
	    .marks.count = bridge->mark_count,
	    .has_summaries = bridge->summary_count > 0,
	    .summaries.count = bridge->summary_count,
	};
	_cleanup_buf_ struct buf body = {0};

	memcpy(
	    message.marks.item, bridge->marks, bridge->mark_count * sizeof(message.marks.item[0]));
	for (size_t i = 0; i < bridge->summary_count; i++)
		clusters_write(&message.summaries.item[i], &bridge->summaries[i]);
	if (msg_gossipd_bridge_pack(&message, &body) == 0)
		sealed_udp_send(shell->udp, action->cross.to, body.data, body.size);
}

int clusters_take(
    struct shell *shell, const struct sealed_payload *payload, struct mpr_error *error)
{
	struct gossipd_event event = {.type = GOSSIPD_BRIDGE, .bridge.from = payload->from};
	struct msg_gossipd_bridge message;
	struct gossipd_bridge bridge;
	int r = msg_gossipd_bridge_unpack(&message, payload->data, payload->size, error);

	if (r < 0)
		return r;
	bridge = (struct gossipd_bridge){.digest = message.digest, .reply = message.reply};
	for (size_t i = 0; message.has_marks && i < message.marks.count; i++)
		bridge.marks[bridge.mark_count++] = message.marks.item[i];
	for (size_t i = 0; message.has_summaries && i < message.summaries.count; i++)
		clusters_read(
		    &bridge.summaries[bridge.summary_count++], &message.summaries.item[i]);
	event.bridge.bridge = &bridge;
	if (shell_step(shell, &event) != GOSSIPD_REFUSED)
		return 0;
	snprintf(error->text, sizeof(error->text), "impossible values");
	return 1;
}

/* --- pulls --- */

static void pull_from(struct neighbour *neighbour, uint64_t first);

static void on_summaries(void *userdata, const struct rpc_answer *answer)
{
	struct neighbour *neighbour = userdata;
	struct gossipd_summary summaries[GOSSIPD_PULLED_MAX];
	struct gossipd_event event = {.type = GOSSIPD_SUMMARIES};
	struct msg_gossipd_clusters_reply reply;
	struct mpr_error error;

	if (answer->status != RPC_OK) {
		log_info("clusters from %s: %s", neighbour->peer->name, answer->error);
		return;
	}
	if (msg_gossipd_clusters_reply_unpack(&reply, answer->body, answer->size, &error) < 0) {
		log_warning("clusters from %s: %s", neighbour->peer->name, error.text);
		return;
	}
	for (size_t i = 0; i < reply.summaries.count; i++)
		clusters_read(&summaries[i], &reply.summaries.item[i]);
	event.summaries.from = neighbour->peer->id;
	event.summaries.list = summaries;
	event.summaries.count = reply.summaries.count;
	shell_step(neighbour->shell, &event);
	if (reply.summaries.count == GOSSIPD_PULLED_MAX &&
	    summaries[GOSSIPD_PULLED_MAX - 1].cluster >= neighbour->pulled_from)
		pull_from(neighbour, summaries[GOSSIPD_PULLED_MAX - 1].cluster + 1);
	shell_wake(neighbour->shell);
}

static void pull_from(struct neighbour *neighbour, uint64_t first)
{
	struct msg_gossipd_clusters request = {.from = first};
	_cleanup_buf_ struct buf body = {0};

	neighbour->pulled_from = first;
	if (msg_gossipd_clusters_pack(&request, &body) == 0)
		(void)rpc_request(neighbour->client, MSG_GOSSIPD_CLUSTERS, body.data, body.size,
		    PULL_TIMEOUT_MS, on_summaries, neighbour);
}

void clusters_pull(struct shell *shell, uint64_t peer)
{
	struct neighbour *neighbour = links_neighbour(shell, peer);

	if (neighbour)
		pull_from(neighbour, 0);
}

void clusters_on_pull(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct gossipd_summary summaries[GOSSIPD_PULLED_MAX];
	struct msg_gossipd_clusters_reply reply = {0};
	struct msg_gossipd_clusters request;
	_cleanup_buf_ struct buf out = {0};
	struct mpr_error error;
	size_t count;

	if (msg_gossipd_clusters_unpack(&request, body, size, &error) < 0) {
		rpc_fail(call, RPC_INVALID, "%s", error.text);
		return;
	}
	count = gossipd_summaries(shell->core, request.from, summaries, GOSSIPD_PULLED_MAX);
	for (size_t i = 0; i < count; i++)
		clusters_write(&reply.summaries.item[reply.summaries.count++], &summaries[i]);
	msg_gossipd_clusters_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_CLUSTERS_REPLY, out.data, out.size);
}

/* --- what the core tells --- */

static void tell_member(struct shell *shell, const char *cluster, uint64_t id,
    enum gossipd_state from, enum gossipd_state to)
{
	const char *name = shell_name_of(shell, id);

#define TELL(TOPIC, type)                                                                          \
	do {                                                                                       \
		struct msg_##type event = {.id = id};                                              \
		snprintf(event.cluster, sizeof(event.cluster), "%s", cluster);                     \
		snprintf(event.node, sizeof(event.node), "%s", name);                              \
		daemon_tell(shell->daemon, MSG_##TOPIC, msg_##type##_pack, &event);                \
	} while (0)
	log_notice("%s of %s is %s was=%s", name, cluster, gossipd_state_name(to),
	    gossipd_state_name(from));
	if (to == GOSSIPD_ALIVE)
		TELL(CLUSTER_MEMBER_ALIVE, cluster_member_alive);
	else if (to == GOSSIPD_DEAD && from != GOSSIPD_UNKNOWN)
		TELL(CLUSTER_MEMBER_DEAD, cluster_member_dead);
	else if (to == GOSSIPD_LEFT && from != GOSSIPD_UNKNOWN)
		TELL(CLUSTER_MEMBER_LEFT, cluster_member_left);
#undef TELL
}

static void tell_silence(
    struct shell *shell, const char *cluster, const struct gossipd_action *action)
{
	struct msg_cluster_unknown unknown = {.size = (uint32_t)action->cluster.size};
	struct msg_cluster_back back = {.size = (uint32_t)action->cluster.size};

	snprintf(unknown.cluster, sizeof(unknown.cluster), "%s", cluster);
	snprintf(back.cluster, sizeof(back.cluster), "%s", cluster);
	if (action->cluster.to.unknown) {
		log_notice("cluster %s is silent: unknown", cluster);
		daemon_tell(shell->daemon, MSG_CLUSTER_UNKNOWN, msg_cluster_unknown_pack, &unknown);
	} else {
		log_notice("cluster %s is heard again", cluster);
		daemon_tell(shell->daemon, MSG_CLUSTER_BACK, msg_cluster_back_pack, &back);
	}
}

void clusters_tell(struct shell *shell, const struct gossipd_action *action)
{
	const struct gossipd_summary *from = &action->cluster.from, *to = &action->cluster.to;
	char name[CLUSTER_NAME_MAX + 1];

	name_cluster(shell, action->cluster.nodes, name);
	if (from->unknown != to->unknown)
		tell_silence(shell, name, action);
	/* What is first heard of a cluster is no news; what is of another roster cannot be read. */
	if (from->version == 0) {
		log_info("cluster %s is known nodes=%zu", name, action->cluster.size);
		return;
	}
	for (size_t i = 0; from->roster == to->roster && i < action->cluster.size; i++) {
		enum gossipd_state was = gossipd_summary_state(from, i),
				   is = gossipd_summary_state(to, i);

		if (was != is)
			tell_member(shell, name, action->cluster.nodes[i].id, was, is);
	}
}

/* --- what others ask --- */

static void describe(const struct shell *shell, const struct gossipd_cluster_status *status,
    struct msg_gossipd_listed_cluster *listed)
{
	*listed = (struct msg_gossipd_listed_cluster){
	    .own = status->own,
	    .unknown = status->unknown,
	    .size = (uint32_t)status->size,
	    .alive = (uint32_t)status->alive,
	};
	name_cluster(shell, status->nodes, listed->cluster);
	snprintf(listed->coordinator, sizeof(listed->coordinator), "%s",
	    shell_name_of(shell, status->coordinator));
	for (size_t i = 0; i < 2 && status->gateways[i] != 0; i++)
		snprintf(listed->gateways.item[listed->gateways.count++],
		    sizeof(listed->gateways.item[0]), "%s",
		    shell_name_of(shell, status->gateways[i]));
}

void clusters_on_ls(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_gossipd_cluster_list *list = calloc(1, sizeof(*list));
	struct gossipd_cluster_status status;
	struct shell *shell = userdata;
	_cleanup_buf_ struct buf out = {0};
	const size_t room = list ? sizeof(list->clusters.item) / sizeof(list->clusters.item[0]) : 0;

	(void)body;
	(void)size;
	if (!list) {
		rpc_fail(call, RPC_FAILED, "out of memory");
		return;
	}
	while (list->clusters.count < room &&
	       gossipd_cluster(shell->core, list->clusters.count, &status))
		describe(shell, &status, &list->clusters.item[list->clusters.count++]);
	msg_gossipd_cluster_list_pack(list, &out);
	free(list);
	rpc_reply(call, MSG_GOSSIPD_CLUSTER_LIST, out.data, out.size);
}

static void list_abroad(const struct shell *shell, const struct gossipd_cluster_status *status,
    struct msg_gossipd_abroad_reply *reply)
{
	const size_t room = sizeof(reply->nodes.item) / sizeof(reply->nodes.item[0]);
	char name[CLUSTER_NAME_MAX + 1];

	name_cluster(shell, status->nodes, name);
	for (size_t i = 0; i < status->size && reply->nodes.count < room; i++) {
		const struct peer *peer =
		    peers_by_id(&shell->daemon->node.peers, status->nodes[i].id);
		struct msg_gossipd_node *node = &reply->nodes.item[reply->nodes.count++];

		*node = (struct msg_gossipd_node){.unknown = status->unknown};
		node->state = status->readable ? (enum msg_gossipd_state)gossipd_summary_state(
						     &status->summary, i)
					       : MSG_GOSSIPD_STATE_UNKNOWN;
		memcpy(node->cluster, name, sizeof(node->cluster));
		snprintf(node->node, sizeof(node->node), "%s", peer ? peer->name : "?");
		snprintf(node->address, sizeof(node->address), "%s", peer ? peer->address : "");
	}
}

void clusters_on_abroad(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_gossipd_abroad_reply *reply = calloc(1, sizeof(*reply));
	struct gossipd_cluster_status status;
	struct shell *shell = userdata;
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	if (!reply) {
		rpc_fail(call, RPC_FAILED, "out of memory");
		return;
	}
	for (size_t i = 0; gossipd_cluster(shell->core, i, &status); i++)
		if (!status.own)
			list_abroad(shell, &status, reply);
	msg_gossipd_abroad_reply_pack(reply, &out);
	free(reply);
	rpc_reply(call, MSG_GOSSIPD_ABROAD_REPLY, out.data, out.size);
}
