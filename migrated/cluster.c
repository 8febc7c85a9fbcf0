/*
 * Who is a member and who coordinates, from gossipd: a stream that begins with all of it.  While gossipd is away what it
 * said last stands: a verdict is not taken back by silence, and the coordinator's epoch is checked by each transaction.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrated/shell.h"
#include "proto/gossipd.h"
#include "proto/metad.h"

#define AGAIN_US 200000

struct stream {
	struct cluster *cluster;
	struct rpc_client *client;
	const char *request;
	struct buf body;
	rpc_done done;
	sd_event_source *again;
};

struct cluster {
	struct daemon *daemon;
	struct shell *shell;
	struct stream members, hints;
	struct migrated_node nodes[PEERS_MAX];
	size_t count;
	char coordinator[NODE_NAME_MAX + 1];
	uint64_t epoch;
	bool held;
};

/* --- streams that are asked for again when they end --- */

static void ask(struct stream *stream)
{
	if (rpc_request(stream->client, stream->request, stream->body.data, stream->body.size, 0,
		stream->done, stream) < 0)
		sd_event_source_set_enabled(stream->again, SD_EVENT_ONESHOT);
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	ask(userdata);
	return 0;
}

static void ask_later(struct stream *stream)
{
	sd_event_source_set_time_relative(stream->again, AGAIN_US);
	sd_event_source_set_enabled(stream->again, SD_EVENT_ONESHOT);
}

static int stream_open(struct stream *stream, struct cluster *cluster, const char *daemon,
    const char *request, rpc_done done)
{
	struct daemon *own = cluster->daemon;
	int r =
	    rpc_client_new_local(&stream->client, own->zmq, own->loop, own->node.run_dir, daemon);

	stream->cluster = cluster;
	stream->request = request;
	stream->done = done;
	if (r == 0)
		r = sd_event_add_time_relative(
		    own->loop, &stream->again, CLOCK_MONOTONIC, AGAIN_US, 1000, on_again, stream);
	return r < 0 ? r : sd_event_source_set_enabled(stream->again, SD_EVENT_OFF);
}

static void stream_close(struct stream *stream)
{
	rpc_client_free(stream->client);
	sd_event_source_disable_unref(stream->again);
	buf_fini(&stream->body);
}

/* --- members and coordinator --- */

static struct migrated_node *find_node(struct cluster *cluster, const char *name)
{
	for (size_t i = 0; i < cluster->count; i++)
		if (strcmp(cluster->nodes[i].name, name) == 0)
			return &cluster->nodes[i];
	if (cluster->count == PEERS_MAX)
		return NULL;
	snprintf(cluster->nodes[cluster->count].name, sizeof(cluster->nodes[0].name), "%s", name);
	return &cluster->nodes[cluster->count++];
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
	shell_step(cluster->shell, &event);
}

static void on_members(void *userdata, const struct rpc_answer *answer)
{
	struct stream *stream = userdata;

	if (!answer->more)
		ask_later(stream);
	else if (strcmp(answer->name, MSG_GOSSIPD_MEMBER) == 0)
		take_member(stream->cluster, answer);
	else if (strcmp(answer->name, MSG_GOSSIPD_COORD) == 0)
		take_coord(stream->cluster, answer);
}

/* --- hints --- */

static void on_hint(void *userdata, const struct rpc_answer *answer)
{
	struct stream *stream = userdata;
	struct migrated_event event = {.kind = MIGRATED_HINT};

	if (answer->more)
		shell_step(stream->cluster->shell, &event);
	else
		ask_later(stream);
}

int cluster_new(struct cluster **out, struct daemon *daemon, struct shell *shell)
{
	struct msg_metad_watch watch = {.prefix = "ve/"};
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	int r;

	if (!cluster)
		return -ENOMEM;
	cluster->daemon = daemon;
	cluster->shell = shell;
	r = stream_open(&cluster->members, cluster, "gossipd", MSG_GOSSIPD_WATCH, on_members);
	if (r >= 0)
		r = stream_open(&cluster->hints, cluster, "metad", MSG_METAD_WATCH, on_hint);
	if (r >= 0)
		r = msg_metad_watch_pack(&watch, &cluster->hints.body);
	if (r < 0) {
		cluster_free(cluster);
		return r;
	}
	*out = cluster;
	return 0;
}

void cluster_start(struct cluster *cluster)
{
	ask(&cluster->members);
	ask(&cluster->hints);
}

struct cluster *cluster_free(struct cluster *cluster)
{
	if (!cluster)
		return NULL;
	stream_close(&cluster->members);
	stream_close(&cluster->hints);
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
