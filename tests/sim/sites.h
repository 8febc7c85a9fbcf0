/*
 * Many clusters in the simulator: on each host the cores of fdd and gossipd, the same object files
 * as in the daemons, here in one process (what they tell each other does not cross the network).
 * There is no store, so nobody coordinates: gateways are the first two by rendezvous hash.
 *
 * Bytes are counted as they would go over the wire: address and UDP headers, seal, and body.
 */
#ifndef TESTS_SIM_SITES_H
#define TESTS_SIM_SITES_H

#include "fdd/fdd.h"
#include "gossipd/gossipd.h"
#include "tests/sim/sim.h"

struct sites;

/* What one host keeps through crashes. */
struct site_node {
	struct sites *sites;
	unsigned number, site;
	unsigned process;
	uint64_t id;
	uint64_t fdd_stored, gossipd_stored;
	unsigned boots;
};

struct sites_config {
	unsigned sites, size;
	struct mono interval; /* of heartbeats */
	double suspect_level;
	struct gossipd_config gossipd; /* without members, nodes and self */
	unsigned check_every;          /* n-th step is followed by the invariants */
};

struct sites {
	struct sites_config config;
	uint64_t seed;
	struct sim *sim;
	unsigned count; /* nodes */
	struct site_node *nodes;
	struct gossipd_node *list;
	uint64_t *ids;
	uint64_t bytes_inside, bytes_between; /* sent in datagrams, and in answers to pulls */
	uint64_t steps;
	/* Whose failure is waited for, and which nodes (one byte each) hold it for dead. */
	unsigned victim;
	unsigned known;
	bool *knows;
	struct gossipd_actions actions;
};

/* As the daemons are with this profile and nothing else said. */
struct sites_config sites_defaults(unsigned sites, unsigned size, enum gossipd_profile profile);
struct sites *sites_new(const struct sites_config *config, uint64_t seed);
struct sites *sites_free(struct sites *sites); /* not the simulation */

void sites_kill(struct sites *sites, unsigned node);
void sites_restart(struct sites *sites, unsigned node);
/* Cuts a site off from all others, or heals that. */
void sites_cut(struct sites *sites, unsigned site, bool cut);
/* What node a holds of node b, of whatever site; UNKNOWN when a is down. */
enum gossipd_state sites_state(const struct sites *sites, unsigned a, unsigned b);
/* Does node a hold a site for unknown? */
bool sites_unknown(const struct sites *sites, unsigned a, unsigned site);
bool sites_is_gateway(const struct sites *sites, unsigned node);
/* All running nodes but b hold b for that. */
bool sites_agree(const struct sites *sites, unsigned b, enum gossipd_state state);
/* The last node of each site holds all others for alive. */
bool sites_settled(const struct sites *sites);
/* Kills a node; milliseconds until all others know, or -1 after the limit. */
double sites_kill_and_wait(struct sites *sites, unsigned node, int64_t limit_ms);

/* Goal G1: what a failure and the quiet cost. */
struct sites_cost {
	double time_ms; /* from a kill until all know, mean */
	double bytes;   /* per node and second in quiet */
	double between; /* of these, between sites */
};

/* Boots that many sites, waits, counts, kills; NULL or what went wrong.  Prints a line. */
const char *sites_measure(
    unsigned count, unsigned size, uint64_t seed, unsigned kills, struct sites_cost *cost);

#endif
