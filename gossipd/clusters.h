/*
 * What a node knows of the other clusters ("Depsys", section 4: clusters of near nodes, the
 * coordinator is the gateway to the others).  Heartbeats, votes and verdicts stay inside a
 * cluster; between clusters travel summaries.
 *
 * A summary is a few words, whatever the cluster's size: which of its members, by their place in
 * the roster that everybody has, are dead, have left or were never heard of.  It is made from the
 * durable view, so every member makes the same one without a word, and its version is a sum over
 * that view: a view only ever grows in the order (incarnation, state), so a later view has a
 * greater sum, and two gateways need not agree on who speaks.  (Rejected: one author, who must
 * be elected and can be late; a version counter, which a total restart loses.  That restart may
 * lose part of the view, too; a gateway that is behind what others hold of its own cluster for
 * AMNESIA_MS puts a bias on its sums.)
 *
 * Gateways are the coordinator and the first other live member by rendezvous hash: anybody who
 * has the summary knows them.  News go at once to a few gateways of other clusters, which pass
 * them on, and to all members of the own one; so everybody knows after a number of hops that
 * grows with the logarithm of the number of clusters.  In quiet a gateway sends one datagram a
 * second, of bounded size, to the next cluster in turn: a digest of all summaries, on whose
 * difference they are pulled, and beats.
 *
 * A cluster's beat is a number that one of its gateways raises, and the other one if that does not.
 * A gateway that sees a cluster's beat stand still asks members of it, several times; after that,
 * the cluster is UNKNOWN, never dead: nothing is known of it but that nothing is heard.
 *
 * Part of gossipd's core, used by gossipd.c as coord.h is; reads no clock.
 */
#ifndef GOSSIPD_CLUSTERS_H
#define GOSSIPD_CLUSTERS_H

#include "common/rng.h"
#include "gossipd/gossipd.h"

enum {
	CLUSTERS_TARGETS_MAX = 16,
};

/* What we hold of one cluster. */
struct cluster_record {
	struct gossipd_summary summary; /* version 0: never heard of */
	uint32_t first, size;           /* its nodes in the list */
	uint32_t roster;                /* hash of them, as we have them */
	struct mono raised_at;          /* when its beat last rose here */
	uint8_t spreads;                /* datagrams to other clusters that still carry it */
	uint8_t tells;                  /* to our own members */
	uint8_t marked;                 /* datagrams that carried its present beat */
	bool owed;                      /* the next one is to carry it in any case */
	uint8_t asked;                  /* questions to it since its beat rose */
};

struct clusters {
	struct rng rng;
	uint64_t self, name; /* of our own cluster */
	struct mono period, silence, tell;
	const struct gossipd_node *nodes; /* borrowed */
	size_t count;                     /* of records; 0: there is one cluster only */
	struct cluster_record *records;
	size_t own;     /* index of our own cluster */
	size_t self_at; /* our place in its roster */
	uint64_t digest, unknown_digest;
	/* our own cluster by our own view, whether or not others hold more of it */
	struct gossipd_summary mine;
	uint64_t bias;
	struct mono behind_since; /* others have held more of our cluster than we do */
	bool isolated;
	/* as a gateway */
	bool gateway;
	struct mono tick_at, spread_at;
	unsigned ticks;
	size_t turn, probe;        /* whose turn it is to be sent to, and to be asked */
	unsigned unanswered;       /* questions since anybody of another cluster was heard */
	bool exchange;             /* beats are to be in this step's datagram */
	bool tell_all;             /* our members are to be told at the end of this step */
	bool tell_gateways;        /* our gateways are */
	size_t spreading, telling; /* records with spreads, with tells */
	size_t target_count;
	struct {
		uint64_t id;
		bool reply;
	} targets[CLUSTERS_TARGETS_MAX]; /* of this step's datagram */
	/* pulls */
	struct mono changed_at, pulled_at, pull_gap;
	bool pull_brought;
	bool pulling; /* what is taken now was pulled: others will pull it too */
};

/* -EINVAL when the nodes are not sorted, a cluster is too large, we are not among them, or two
 * clusters cannot be told apart by the upper half of their ids; -ENOMEM. */
int clusters_init(struct clusters *clusters, const struct gossipd_config *config, uint64_t seed);
void clusters_fini(struct clusters *clusters);
/* Another list of nodes, what is known of clusters in both is kept.  The same errors, then nothing
 * has changed. */
int clusters_nodes(
    struct clusters *clusters, const struct gossipd_node *nodes, size_t count, struct mono now);

/* Our own view and coordinator, when they may have changed. */
void clusters_view(struct clusters *clusters, const struct gossipd_entry *entries, size_t count,
    uint64_t coordinator, uint64_t epoch, bool isolated, struct mono now,
    struct gossipd_actions *actions);
/* A datagram of a node of another cluster. */
enum gossipd_answer clusters_bridge(struct clusters *clusters, uint64_t from,
    const struct gossipd_bridge *bridge, struct mono now, struct gossipd_actions *actions);
/* What a datagram of a member of our own cluster says of the clusters. */
void clusters_gram(struct clusters *clusters, uint64_t from, const struct gossipd_gram *gram,
    struct mono now, struct gossipd_actions *actions);
/* Answer to PULL_CLUSTERS. */
enum gossipd_answer clusters_pulled(struct clusters *clusters, uint64_t from,
    const struct gossipd_summary *summaries, size_t count, struct mono now,
    struct gossipd_actions *actions);

struct mono clusters_deadline(const struct clusters *clusters);
/* Whatever is due at now; then the datagrams of this step. */
void clusters_run(struct clusters *clusters, struct mono now, struct gossipd_actions *actions);
/* To whom of our own cluster news are to be told now: all, or the gateways (ids, room for two). */
bool clusters_tell_all(const struct clusters *clusters);
size_t clusters_tell_some(const struct clusters *clusters, uint64_t ids[2]);
/* The part of a datagram to `receivers` members that is about the clusters. */
void clusters_fill(struct clusters *clusters, struct gossipd_gram *gram, unsigned receivers);

/* For gossipd_summaries() and gossipd_cluster(). */
size_t clusters_list(
    const struct clusters *clusters, uint64_t from, struct gossipd_summary *summaries, size_t room);
bool clusters_status(
    const struct clusters *clusters, size_t n, struct gossipd_cluster_status *status);
const char *clusters_invariant(const struct clusters *clusters);

#endif
