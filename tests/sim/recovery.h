/*
 * A few services on a few nodes, whose whole placing and keeping is done by the cores of migrated (migrated.c and all that it
 * calls), with the network, the store, the daemons, the services and the detectors failing as a die says, several at once.
 *
 * The store is one process that compares and swaps; its answers are lost or late, so that writes are in doubt.  ved is a
 * process of its own, so that what it was asked goes on when migrated has died.  Copies of services live with the host.
 * Who coordinates is a lease in the store, kept as gossipd keeps it; that rule is searched in leases.c.
 *
 * In one run of three a node has no fence: its copies are heard as long as they run, and an administrator now and then
 * vouches for one of a node that is off, or the services name a fence command, which switches the node off or fails.
 *
 * After every step: at most one copy of a service is heard, and never one below an epoch that was heard; each placement
 * that is written has a higher epoch, starts from the newest committed checkpoint that is not set aside, keeps replicas of
 * a group apart, and comes no sooner than the back-off allows.  When the weather is over every service that was not given
 * up is heard again.
 */
#ifndef TESTS_SIM_RECOVERY_H
#define TESTS_SIM_RECOVERY_H

#include "tests/sim/sim.h"

/* What may be left out or done wrong: each must be found. */
enum recovery_weakness {
	RECOVERY_SOUND,
	RECOVERY_NO_CATALOGUE, /* a placement is written though a newer checkpoint was committed */
	RECOVERY_NO_VERSION,   /* a placement is written over one that it does not know */
	RECOVERY_NO_EPOCH, /* a coordinator does not notice its end, and the store takes its writes */
	RECOVERY_DOUBT_IS_NO, /* a write without an answer is taken for one that failed */
	RECOVERY_NO_JOURNAL,  /* what was begun is forgotten with its process */
	RECOVERY_NO_LEASE,    /* a node's copy is heard as long as it runs */
	RECOVERY_GONE_UNSEEN, /* a copy that hangs is taken for one that is gone */
	RECOVERY_NO_BACKOFF,  /* restarts follow at once */
	RECOVERY_DEAF,        /* reports of trouble are lost */
	RECOVERY_UNSAID,      /* a node does not say that it has no fence */
	RECOVERY_RASH_WORD,   /* an administrator vouches for a copy that runs */
	RECOVERY_FENCE_LIES,  /* a fence command says that it worked, and did nothing */
};

/* One run from its seed; NULL or what was broken.  *out is the caller's to free. */
const char *recovery_run(uint64_t seed, enum recovery_weakness weakness, struct sim **out);

#endif
