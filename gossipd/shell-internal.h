/*
 * What the files of the shell share:
 *	shell.c		datagrams, timers, and the actions of the core
 *	links.c		fdd and metad of this node, gossipd of others: what we ask them
 *	shell-clusters.c the other clusters
 *	reach.c		does the kernel of a member answer?
 *	requests.c	what others ask of us, and what we tell them
 *	records.c	signed records of the nodes: how they spread
 *	joining.c	strangers that ask to be let in; and to be one
 */
#ifndef GOSSIPD_SHELL_INTERNAL_H
#define GOSSIPD_SHELL_INTERNAL_H

#include <limits.h>

#include "common/rpc-stream.h"
#include "common/sealed-udp.h"
#include "gossipd/gossipd.h"
#include "gossipd/shell.h"
#include "gossipd/terms.h"
#include "proto/gossipd.h"

#define WATCHERS_MAX 16
#define STATS_MAX 40

/* A connection that asks a member's kernel, see reach.c. */
struct reach {
	struct shell *shell;
	uint64_t id;
	int fd; /* with io only */
	sd_event_source *io;
	bool accepted;
};

/* Where we pull views from, and whom we reach for. */
struct neighbour {
	struct shell *shell;
	const struct peer *peer;
	struct rpc_client *client; /* made when needed, let go when idle */
	struct mono used_at;
	struct reach reach;
	struct rpc_client
	    *old; /* of a peer that is gone: freed soon, as it may be the one that told us so */
	uint64_t pulled_from; /* lowest id of the clusters asked for last */
};

/* The pull of records under way. */
struct records {
	bool pulling;
	struct rpc_client *from;
	char from_name[NODE_NAME_MAX + 1];
	uint32_t after;
	const struct peer *asked; /* the last one that was asked in turn */
	struct mono next_pull;
	struct log_limit limit;
};

struct joining;

struct shell {
	struct daemon *daemon;
	struct gossipd *core;
	struct sealed_udp *udp;
	double suspect;
	sd_event_source *timer, *second;
	char store[PATH_MAX];
	/* links.c */
	struct rpc_client *fdd, *metad;
	struct neighbour neighbours[PEERS_MAX]; /* by place */
	struct peers_listener listener;
	struct rpc_stream *levels, *hints; /* of fdd.register, of metad.watch */
	bool fdd_up, metad_up;
	uint32_t lhm; /* of fdd */
	size_t role_count;
	struct gossipd_role roles[GOSSIPD_MEMBERS_MAX];
	bool roles_due;
	char key[8 + CLUSTER_NAME_MAX]; /* coord/<cluster> */
	/* shell-clusters.c */
	struct gossipd_node *nodes; /* lent to the core */
	/* records.c, joining.c */
	struct records records;
	struct joining *joining; /* NULL: membership is not signed */
	/* requests.c */
	struct rpc_call *watchers[WATCHERS_MAX];
	struct terms terms[WATCHERS_MAX]; /* of each watcher */
	struct rpc_call *leaver;
	bool gone;
	bool closing; /* what still comes in reaches no core */
	unsigned seconds;
	struct log_limit meta_limit;
	struct daemon_stat stats[STATS_MAX];
};

/* The node of an id, also when it is no longer one; NULL for one that never was. */
const struct peer *shell_peer(const struct shell *shell, uint64_t id);
/* Does another key stand for this node, so that nothing follows from this one's leaving?  While that is still to be seen: yes. */
bool shell_is_followed(const struct shell *shell, const struct peer *peer);
/* Name of a node, "" for none; and back: 0 for "", 1 for one that is not configured. */
const char *shell_name_of(const struct shell *shell, uint64_t id);
uint64_t shell_id_of(const struct shell *shell, const char *name);
/* Hands an event to the core, now, and carries out what it asks for. */
enum gossipd_answer shell_step(struct shell *shell, struct gossipd_event *event);
/* Brings all up to date: socket, timers, and when to wake next. */
void shell_wake(struct shell *shell);

/* --- links.c --- */

int links_open(struct shell *shell);
void links_close(struct shell *shell);
/* Once a second: what was lost is tried again. */
void links_second(struct shell *shell);
void links_set_roles(struct shell *shell, const struct gossipd_actions *actions);
void links_peer_changed(struct shell *shell, const struct peer *peer);
void links_pull(struct shell *shell, uint64_t peer);
/* Connected to it; NULL when it is not another node that we know, or after logging. */
struct neighbour *links_neighbour(struct shell *shell, uint64_t id);
/* The same, unconnected and without a word. */
struct neighbour *links_find(struct shell *shell, uint64_t id);
void links_meta(struct shell *shell, const struct gossipd_action *action);

/* --- reach.c --- */

/* Opens the connection to a member, or ends it. */
void reach_set(struct shell *shell, uint64_t id, bool begin);
void reach_end(struct reach *reach);

/* --- shell-clusters.c --- */

/* Nodes and own cluster. */
int clusters_configure(struct shell *shell, struct gossipd_config *config);
/* Nodes have come or gone. */
void clusters_peer_changed(struct shell *shell);
void clusters_write(struct msg_gossipd_summary *message, const struct gossipd_summary *summary);
void clusters_read(struct gossipd_summary *summary, const struct msg_gossipd_summary *message);
void clusters_send(
    struct shell *shell, const struct gossipd_action *action, const struct gossipd_bridge *bridge);
/* As sealed_udp_take. */
int clusters_take(
    struct shell *shell, const struct sealed_payload *payload, struct mpr_error *error);
void clusters_pull(struct shell *shell, uint64_t peer);
void clusters_tell(struct shell *shell, const struct gossipd_action *action);
void clusters_on_pull(void *userdata, struct rpc_call *call, const void *body, size_t size);
void clusters_on_ls(void *userdata, struct rpc_call *call, const void *body, size_t size);
void clusters_on_abroad(void *userdata, struct rpc_call *call, const void *body, size_t size);

/* --- records.c --- */

extern const struct rpc_method records_methods[];
/* Of all records that this node knows; 0: none. */
uint64_t records_digest(const struct shell *shell);
#define RECORDS_STATS 5
/* Writes at most RECORDS_STATS entries; their number. */
size_t records_stats(const struct shell *shell, struct daemon_stat *stats);
/* What a node said of its records: pulls them when they differ. */
void records_compare(struct shell *shell, uint64_t from, uint64_t digest);
void records_pull(struct shell *shell, struct rpc_client *from, const char *name);
/* Once a second: now and then somebody is asked, also of another cluster, whose datagrams carry no digest. */
void records_second(struct shell *shell);

/* --- joining.c --- */

/* configured: "ADDRESS PORT KEY" of a member, or "". */
#define JOINING_STATS 2
/* Writes JOINING_STATS entries, or none; their number. */
size_t joining_stats(const struct shell *shell, struct daemon_stat *stats);
int joining_open(struct shell *shell, const char *configured);
void joining_close(struct shell *shell);
void joining_second(struct shell *shell);
/* Records have come: is this node a member by now? */
void joining_progress(struct shell *shell);
void joining_on_pending(void *userdata, struct rpc_call *call, const void *body, size_t size);
void joining_on_join(void *userdata, struct rpc_call *call, const void *body, size_t size);

/* --- requests.c --- */

extern const struct rpc_method requests_methods[];
void requests_tell_member(struct shell *shell, const struct gossipd_action *action);
/* What the terms of watchers held back, if it is due; when to come again. */
struct mono requests_tell_pending(struct shell *shell);
/* A quorum finds that it stands still. */
void requests_tell_stalled(struct shell *shell, const struct gossipd_action *action);
void requests_tell_damped(struct shell *shell, uint64_t id, bool damped);
void requests_tell_isolated(struct shell *shell, bool isolated);
void requests_tell_coord(struct shell *shell, const struct gossipd_action *action);
/* All watchers; from time to time too, so that both ends of a quiet stream notice when it is lost. */
void requests_tell_reign(struct shell *shell);
void requests_tell_gone(struct shell *shell);
void requests_fini(struct shell *shell);

#endif
