/*
 * Who is a member and who coordinates, from gossipd: a stream that begins with all of it.  While gossipd is away what it
 * said last stands: a verdict is not taken back by silence, and the coordinator's epoch is checked by each transaction.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/rpc-stream.h"
#include "migrated/shell.h"
#include "proto/gossipd.h"
#include "proto/metad.h"

#define AGAIN_MS 200

struct cluster {
	struct daemon *daemon;
	struct shell *shell;
	struct rpc_client *gossipd, *metad;
	struct rpc_stream *members, *hints;
	struct migrated_node nodes[CLUSTER_MAX];
	size_t count;
	char coordinator[NODE_NAME_MAX + 1];
	uint64_t epoch;
	bool held;
};

/* --- members and coordinator --- */

/* A node that is no member any more gives up its place; what ran there is known to be lost by its record. */
static struct migrated_node *free_place(struct cluster *cluster)
{
	if (cluster->count < CLUSTER_MAX)
		return &cluster->nodes[cluster->count++];
	for (size_t i = 0; i < cluster->count; i++)
		if (!peers_by_name(&cluster->daemon->node.peers, cluster->nodes[i].name))
			return &cluster->nodes[i];
	return NULL;
}

static struct migrated_node *find_node(struct cluster *cluster, const char *name)
{
	struct migrated_node *node;

	for (size_t i = 0; i < cluster->count; i++)
		if (strcmp(cluster->nodes[i].name, name) == 0)
			return &cluster->nodes[i];
	node = free_place(cluster);
	if (node) {
		memset(node, 0, sizeof(*node));
		node->left_at = MONO_NEVER;
		snprintf(node->name, sizeof(node->name), "%s", name);
	}
	return node;
}

static void take_member(struct cluster *cluster, const struct rpc_answer *answer)
{
	struct migrated_event event = {.kind = MIGRATED_NODES, .nodes = cluster->nodes};
	struct msg_gossipd_member member;
	struct migrated_node *node;
	struct mpr_error error;

	if (msg_gossipd_member_unpack(&member, answer->body, answer->size, &error) < 0) {
		log_warning("from gossipd: %s", error.text);
		return;
	}
	node = find_node(cluster, member.node);
	if (!node)
		return;
	/* Suspicion is reversible: such a node is given nothing new, and nothing is taken from it. */
	node->alive = member.state == MSG_GOSSIPD_STATE_ALIVE;
	node->dead =
	    member.state == MSG_GOSSIPD_STATE_DEAD || member.state == MSG_GOSSIPD_STATE_LEFT;
	node->unheard = member.state == MSG_GOSSIPD_STATE_UNKNOWN;
	if (member.state != MSG_GOSSIPD_STATE_LEFT)
		node->left_at = MONO_NEVER;
	else if (mono_is_never(node->left_at))
		node->left_at = mono_now();
	event.count = cluster->count;
	shell_step(cluster->shell, &event);
}

static void take_coord(struct cluster *cluster, const struct rpc_answer *answer)
{
	struct migrated_event event = {.kind = MIGRATED_COORD};
	struct msg_gossipd_coord coord;
	struct mpr_error error;

	if (msg_gossipd_coord_unpack(&coord, answer->body, answer->size, &error) < 0) {
		log_warning("from gossipd: %s", error.text);
		return;
	}
	memcpy(cluster->coordinator, coord.node, sizeof(cluster->coordinator));
	cluster->epoch = coord.epoch;
	cluster->held = coord.held;
	event.mine = coord.held;
	event.epoch = coord.epoch;
	event.until = mono_ns((int64_t)coord.until_ns);
	event.since = mono_ns((int64_t)coord.since_ns);
	shell_step(cluster->shell, &event);
}

static void on_members(void *userdata, const struct rpc_answer *answer)
{
	struct cluster *cluster = userdata;

	if (!answer->more)
		return;
	if (strcmp(answer->name, MSG_GOSSIPD_MEMBER) == 0)
		take_member(cluster, answer);
	else if (strcmp(answer->name, MSG_GOSSIPD_COORD) == 0)
		take_coord(cluster, answer);
}

/* --- hints --- */

static void on_hint(void *userdata, const struct rpc_answer *answer)
{
	struct migrated_event event = {.kind = MIGRATED_HINT};
	struct cluster *cluster = userdata;

	if (answer->more)
		shell_step(cluster->shell, &event);
}

/* --- making and unmaking --- */

static int open_members(struct cluster *cluster)
{
	const struct rpc_stream_options options = {.request = MSG_GOSSIPD_WATCH,
	    .again_ms = AGAIN_MS,
	    .done = on_members,
	    .userdata = cluster};

	return rpc_stream_new(&cluster->members, cluster->gossipd, cluster->daemon->loop, &options);
}

static int open_hints(struct cluster *cluster)
{
	struct msg_metad_watch watch = {.prefix = "ve/"};
	struct rpc_stream_options options = {
	    .request = MSG_METAD_WATCH, .again_ms = AGAIN_MS, .done = on_hint, .userdata = cluster};
	_cleanup_buf_ struct buf body = {0};
	int r = msg_metad_watch_pack(&watch, &body);

	options.body = body.data;
	options.size = body.size;
	return r < 0 ? r
		     : rpc_stream_new(
			   &cluster->hints, cluster->metad, cluster->daemon->loop, &options);
}

int cluster_new(struct cluster **out, struct daemon *daemon, struct shell *shell)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	int r;

	if (!cluster)
		return -ENOMEM;
	cluster->daemon = daemon;
	cluster->shell = shell;
	r = rpc_client_new_local(
	    &cluster->gossipd, daemon->zmq, daemon->loop, daemon->node.run_dir, "gossipd");
	if (r == 0)
		r = rpc_client_new_local(
		    &cluster->metad, daemon->zmq, daemon->loop, daemon->node.run_dir, "metad");
	if (r == 0)
		r = open_members(cluster);
	if (r == 0)
		r = open_hints(cluster);
	if (r < 0) {
		cluster_free(cluster);
		return r;
	}
	*out = cluster;
	return 0;
}

void cluster_start(struct cluster *cluster)
{
	rpc_stream_ask(cluster->members);
	rpc_stream_ask(cluster->hints);
}

struct cluster *cluster_free(struct cluster *cluster)
{
	if (!cluster)
		return NULL;
	rpc_stream_free(cluster->members);
	rpc_stream_free(cluster->hints);
	rpc_client_free(cluster->gossipd);
	rpc_client_free(cluster->metad);
	free(cluster);
	return NULL;
}

const struct peer *cluster_coordinator(const struct cluster *cluster, uint64_t *epoch)
{
	*epoch = cluster->epoch;
	if (strcmp(cluster->coordinator, cluster->daemon->node.name) == 0)
		return cluster->held ? cluster->daemon->node.self : NULL;
	return peers_by_name(&cluster->daemon->node.peers, cluster->coordinator);
}

const struct migrated_node *cluster_node(const struct cluster *cluster, const char *name)
{
	for (size_t i = 0; i < cluster->count; i++)
		if (strcmp(cluster->nodes[i].name, name) == 0)
			return &cluster->nodes[i];
	return NULL;
}
