/*
 * The other nodes: requests to them from worker threads, and which of them answer.
 *
 * A node that does not answer is marked and from then on tried last, so that a dead one costs its
 * timeout once and not with each put; the loop says hello to marked ones until they answer.
 */
#ifndef GDN_GOSD_NODES_H
#define GDN_GOSD_NODES_H

#include "common/buf.h"
#include "common/daemon.h"
#include "gdn/gosd/work.h"
#include "gdn/store/fault.h"

struct nodes;

int nodes_new(struct nodes **out, struct daemon *daemon, struct work *work);
/* Waiting askers are told -EHOSTUNREACH, later ones -ECANCELED. */
void nodes_stop(struct nodes *nodes);
struct nodes *nodes_free(struct nodes *nodes);

/*
 * The other nodes in the order of the list behind this one: those of our own site first, and of each
 * those that answer before those that did not when last asked.  order: CLUSTER_MAX entries.  Returns their number.
 */
size_t nodes_order(struct nodes *nodes, const struct peer **order);
bool nodes_is_down(struct nodes *nodes, const struct peer *peer);

/*
 * Asks and waits; for worker threads.  The reply's body is appended.  0, -EHOSTUNREACH, -ETIMEDOUT,
 * -ENOENT, -EACCES, or -EREMOTEIO for a failure over there, with its words.
 */
int nodes_ask(struct nodes *nodes, const struct peer *peer, const char *name,
    const struct buf *body, int64_t timeout_ms, struct buf *reply, struct fault *fault);

struct answered {
	size_t i; /* of the peers asked */
	int r;
	const struct buf *reply;
	const struct fault *fault;
};

/*
 * Asks all of them at once and tells each answer as it comes, in the caller's thread; `each` returns
 * true when it needs no more.  Then this returns, and what comes later is dropped.
 */
int nodes_ask_all(struct nodes *nodes, const struct peer *const *peers, size_t count,
    const char *name, const struct buf *body, int64_t timeout_ms,
    bool (*each)(void *arg, const struct answered *answered), void *arg);

#endif
