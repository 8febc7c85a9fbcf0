/*
 * What gossipd says: who coordinates, and what became of each node.
 */
#include "ckptd/shell-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/gossipd.h"

#define AGAIN_MS 200

static enum ckptd_status status_of(enum msg_gossipd_state state)
{
	switch (state) {
	case MSG_GOSSIPD_STATE_ALIVE:
		return CKPTD_STATUS_ALIVE;
	case MSG_GOSSIPD_STATE_SUSPECT:
		return CKPTD_STATUS_SUSPECT;
	case MSG_GOSSIPD_STATE_DEAD:
	case MSG_GOSSIPD_STATE_LEFT:
		return CKPTD_STATUS_DEAD;
	case MSG_GOSSIPD_STATE_UNKNOWN:
		break;
	}
	return CKPTD_STATUS_UNKNOWN;
}

static void take_member(struct shell *shell, const struct msg_gossipd_member *member)
{
	size_t i = 0;

	while (i < shell->n_nodes && shell->nodes[i].id != member->id)
		i++;
	if (i == CLUSTER_MAX)
		return;
	if (i == shell->n_nodes)
		shell->n_nodes++;
	shell->nodes[i] = (struct node_status){member->id, status_of(member->state)};
}

static void take_coord(struct shell *shell, const struct msg_gossipd_coord *coord)
{
	const struct peer *peer = peers_by_name(&shell->daemon->node.peers, coord->node);
	bool changed = shell->mine != coord->held || shell->epoch != coord->epoch;

	shell->coordinator = peer ? peer->id : 0;
	shell->mine = coord->held;
	shell->epoch = coord->epoch;
	if (!changed)
		return;
	log_info("coordinator node=%s epoch=%" PRIu64 "%s", coord->node, coord->epoch,
	    coord->held ? ": rounds are run here" : "");
	shell_tell_coordinator(shell);
}

static void on_notice(void *userdata, const struct rpc_answer *answer)
{
	struct shell *shell = userdata;
	struct msg_gossipd_member member;
	struct msg_gossipd_coord coord;
	struct mpr_error error = {0};
	int r = 0;

	if (!answer->more)
		return; /* what it last said is kept: every commit checks the facts */
	if (!strcmp(answer->name, MSG_GOSSIPD_MEMBER)) {
		r = msg_gossipd_member_unpack(&member, answer->body, answer->size, &error);
		if (r == 0)
			take_member(shell, &member);
	} else if (!strcmp(answer->name, MSG_GOSSIPD_COORD)) {
		r = msg_gossipd_coord_unpack(&coord, answer->body, answer->size, &error);
		if (r == 0)
			take_coord(shell, &coord);
	}
	if (r < 0)
		log_warning("notice of gossipd refused: %s", error.text);
}

int watch_open(struct shell *shell)
{
	const struct rpc_stream_options options = {.request = MSG_GOSSIPD_WATCH,
	    .again_ms = AGAIN_MS,
	    .done = on_notice,
	    .userdata = shell};

	return rpc_stream_new(&shell->watch, shell->gossipd, shell->daemon->loop, &options);
}
