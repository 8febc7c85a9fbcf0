/*
 * One VE, one store and a few nodes whose leases are kept by the cores of migrated (lease.c) and gossipd (coord.c): the
 * coordinator takes the VE away whenever a die says so, as if its detector were always wrong, and the weather is bad.
 *
 * What the kernel does lives with the host, not with the process: a copy of the VE and its gate go on when the process is
 * paused or killed.  The invariant is looked at after every step: at most one copy is heard, and never one that is older
 * than one that was heard before.  Nodes have lengths of leases of their own, as their administrators may have set them.
 *
 * The same world measures how long the VE is silent after a crash in quiet weather, under the rule and under those that were
 * rejected.
 */
#ifndef TESTS_SIM_LEASES_H
#define TESTS_SIM_LEASES_H

#include "tests/sim/sim.h"

/* What may be left out or done wrong: each must be found by the invariant. */
enum weakness {
	WEAK_NOT,
	WEAK_FROM_GRANT,      /* the node counts from the answer, not from sending */
	WEAK_NO_DRIFT,        /* clocks are taken for exact */
	WEAK_OUTLASTS,        /* leases outlast the reign that they were given under */
	WEAK_CONTINUED,       /* any reign that begins is taken for one after the end of the last */
	WEAK_OWN_LENGTH,      /* the node counts by its own length, whatever was granted */
	WEAK_GATE_IN_PROCESS, /* user space closes the gate */
	WEAK_NO_LEASE,        /* the coordinator trusts its detector */
	WEAK_GRANT_TAKEN,     /* grants while the VE is being taken away */
	WEAK_DOUBT_IS_NO,     /* a write without an answer is taken for one that failed */
	WEAK_DEPOSED,         /* grants though its own reign may be over */
};

/* One run from its seed; NULL or what was broken.  *out is the caller's to free. */
const char *leases_run(uint64_t seed, enum weakness weakness, struct sim **out);

enum leases_crash {
	CRASH_NODE,        /* the VE's; another one coordinates */
	CRASH_BOTH,        /* the VE's, which coordinates */
	CRASH_COORDINATOR, /* which runs something else */
};

struct leases_case {
	enum leases_crash crash;
	bool
	    waits; /* rejected: leases of L whatever the reign, and a new coordinator waits L once */
	bool
	    faults; /* one message in ten between nodes is lost, and the store stands still for 0.6 s */
	int64_t coord_lease_ms, lease_ms;
};

/* How long the VE is silent after a crash, without the time to restore it; MONO_NEVER: for ever.  *broken: see leases_run(). */
struct mono leases_outage(
    uint64_t seed, const struct leases_case *how, const char **broken, struct sim **out);

#endif
