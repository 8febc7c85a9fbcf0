/*
 * A cluster in the simulator: on each host the cores of fdd and gossipd, the same object files as
 * in the daemons, each in a process of its own; on one host more the store in memory of metad.
 * What a shell does for its core is done here with simulated messages.
 */
#ifndef TESTS_SIM_MEMBERSHIP_H
#define TESTS_SIM_MEMBERSHIP_H

#include "fdd/fdd.h"
#include "gossipd/gossipd.h"
#include "metad/store-memory.h"
#include "tests/sim/pairs.h"
#include "tests/sim/sim.h"

enum {
	CLUSTER_MAX = GOSSIPD_MEMBERS_MAX,
};

struct cluster;

/* What one host keeps through crashes. */
struct cluster_node {
	struct cluster *cluster;
	unsigned number; /* 0: n1 */
	uint64_t id;
	unsigned fdd, gossipd; /* processes */
	unsigned kernel; /* what answers connections to gossipd, also while that stands still */
	uint64_t fdd_stored, gossipd_stored;
	unsigned boots;
	bool left;           /* asked to leave */
	bool clock_set_back; /* its wall clock stands in 1970 */
	uint64_t highest;    /* incarnation that its gossipd has ever told */
};

/* Faults of the parts themselves, for the cases that must fail. */
enum cluster_fault {
	CLUSTER_SOUND,
	CLUSTER_NO_GOSSIP, /* no datagram between the gossipds arrives */
	CLUSTER_NO_PULLS,  /* nobody answers a pull */
	CLUSTER_NO_STORE,  /* the incarnation is not stored, and the wall clock stands */
	CLUSTER_DEAF,      /* gossipd leaves half of what has arrived for it unread */
};

struct cluster_config {
	unsigned nodes;
	unsigned late; /* the last so many are down, and never heard of, until cluster_restart() */
	struct mono interval; /* of heartbeats */
	double suspect_level;
	struct gossipd_config gossipd; /* without members and self */
	unsigned liar;                 /* number of a node that lies, from 1; 0: none */
	double doubt;                  /* share of the store's transactions that end in doubt */
	unsigned check_every; /* n-th step of a process is followed by its core's own invariant */
	enum cluster_fault fault;
};

/* Somebody held a member for dead that he did not before, by a judgement of his own or told. */
struct cluster_verdict {
	unsigned judge, subject;
	uint64_t incarnation;
	bool own; /* a judgement */
};

struct cluster {
	struct cluster_config config;
	uint64_t seed;
	struct sim *sim;
	struct cluster_node nodes[CLUSTER_MAX];
	uint64_t ids[CLUSTER_MAX];
	unsigned store; /* process */
	struct rng fates;
	struct pairs numbers; /* of nodes, by the halves of the id */
	/* What was seen, for scenarios. */
	uint64_t suspicions, refutations, verdicts;
	/* Called with each verdict; a complaint ends the run. */
	const char *(*on_verdict)(
	    struct cluster *cluster, const struct cluster_verdict *verdict, void *argument);
	void *argument;
	const char *complaint;
	uint64_t steps;
	uint64_t wire_bytes; /* IP bytes of all datagrams of fdd and gossipd */
};

/* Three observers, heartbeats each 250 ms, confirmed for 200 ms. */
struct cluster_config cluster_defaults(unsigned nodes);
/* As the daemons are when the configuration names a profile and nothing else. */
struct cluster_config cluster_profile(unsigned nodes, enum gossipd_profile profile);
/* Boots everything on a LAN (0.1 ms and some jitter). */
struct cluster *cluster_new(const struct cluster_config *config, uint64_t seed);
struct cluster *cluster_free(struct cluster *cluster); /* not the simulation */

void cluster_kill(struct cluster *cluster, unsigned node);
void cluster_restart(struct cluster *cluster, unsigned node);
void cluster_leave(struct cluster *cluster, unsigned node);
/* Sets all links but those to the store; without a delay of their own they have the LAN's. */
void cluster_links(struct cluster *cluster, const struct sim_link *link);
extern const struct sim_link cluster_lan;

/* Of its gossipd; NULL when that is down. */
const struct gossipd *cluster_core(const struct cluster *cluster, unsigned node);
/* What node a holds of node b; UNKNOWN when a is down. */
enum gossipd_state cluster_state(const struct cluster *cluster, unsigned a, unsigned b);
/* All running nodes hold b for that. */
bool cluster_agrees(const struct cluster *cluster, unsigned b, enum gossipd_state state);
/* Runs until they do; false after the limit. */
bool cluster_wait(struct cluster *cluster, unsigned b, enum gossipd_state state, int64_t limit_ms);
/* Are both daemons of a node up? */
bool cluster_up(const struct cluster *cluster, unsigned node);
/* NULL, or how the views of the running nodes differ from each other or from the truth. */
const char *cluster_views_equal(struct cluster *cluster);
/* NULL, or which living member has not exactly its number of observers, in the view of a running node or by
 * what the daemons do. */
const char *cluster_observed(struct cluster *cluster);
/* The node that holds the lease now, or -1. */
int cluster_holder(const struct cluster *cluster);

#endif
