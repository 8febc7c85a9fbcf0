/*
 * The core by hand: nodes numbered from 1 whose datagrams are passed on by the test, over links
 * that can be cut.  fdd is the test, too: silence(a, b) is what fdd on a says of b.
 */
#ifndef GOSSIPD_TEST_NET_H
#define GOSSIPD_TEST_NET_H

#include "gossipd/gossipd.h"

enum {
	NODES_MAX = 8,
	QUEUE_MAX = 4096,
};

struct letter {
	unsigned from, to;
	struct gossipd_gram gram;
};

extern struct net {
	struct gossipd *node[NODES_MAX + 1];
	uint64_t stored[NODES_MAX + 1];
	bool cut[NODES_MAX + 1][NODES_MAX + 1];
	bool watch[NODES_MAX + 1][NODES_MAX + 1];
	bool reaching[NODES_MAX + 1][NODES_MAX + 1]; /* connections that are open, from and to */
	unsigned count;
	struct mono now;
	struct letter queue[QUEUE_MAX];
	size_t head, tail;
	char log[65536]; /* "1:3 dead;" for each change that a node tells */
} net;

extern struct gossipd_actions actions; /* of the last step */
extern struct mono stall;
extern unsigned quorum; /* per cent, of the clusters made next */

/* So many nodes that all know each other, two seconds after the start. */
void cluster(unsigned count);
void boot(unsigned n, uint64_t wall_s);
void kill_node(unsigned n);
void cut_off(unsigned n, bool cut);
/* One event, its actions carried out; what is sent waits for deliver_all(). */
void step(unsigned n, struct gossipd_event event);
void carry_out(unsigned n); /* the actions of a step that was made without step() */
void deliver_all(void);
/* Time goes by in steps of a millisecond; datagrams take none. */
void pass(int64_t ms);
/* What fdd on a says of b; the second: on all that watch it. */
void silence(unsigned a, unsigned b, bool silent);
void silence_everywhere(unsigned b);
/* What the kernel of b tells a of the connection that it opened. */
void reached(unsigned a, unsigned b, bool mute);

struct gossipd_status status(unsigned at, unsigned of);
enum gossipd_state state(unsigned at, unsigned of);
uint64_t incarnation(unsigned at, unsigned of);
/* The members are not in the order of their numbers where some were removed. */
bool knows(unsigned at, unsigned of, struct gossipd_status *status);
bool logged(const char *text);

#endif
