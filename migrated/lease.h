/*
 * VE leases: until when a node may let a VE be heard, and from when on the coordinator may have it run elsewhere.
 *
 * The node asks the coordinator to renew; a grant is a length, Ln, and lets the VE be heard for so long from the moment at
 * which the renewal was *sent*.  The coordinator notes when a renewal was last *received* and takes the VE away once L has
 * gone by since then.  Each counts on its own clock, no clock value travels, and a renewal is received after it was sent, so
 * that with clocks that run wrong by at most rho, and d between the deadline and the last packet that gets out,
 *
 *	Ln (1 + rho) + d <= min(L, H) (1 - rho)
 *
 * keeps two copies from being heard at one time, whatever the network delays or doubles (C. Gray, D. Cheriton, "Leases",
 * SOSP 1989; DESIGN section 5).  H is what is left of the granter's own lease as coordinator: no VE's lease outlives the
 * reign under which it was given.  So who takes over when that reign has run out owes nothing to it and waits for nothing,
 * and lengths that differ between nodes endanger nobody.  Who cannot know when the last reign ended waits as long as
 * one can last.  Clocks must go on while a machine is suspended: CLOCK_BOOTTIME.
 *
 * Rejected: leases of L whatever the reign, and a successor that waits L once, as DESIGN has it: measured, a node that
 * dies while it coordinates then costs L more, and all other VEs pause as often (docs/safety.md has the figures).
 * Rejected: a lease of the node instead of one for each VE (one VE that cannot be stopped would keep all others, or none);
 * the store's leases (its clock is another one, and its two backends mean different things by the word).
 */
#ifndef MIGRATED_LEASE_H
#define MIGRATED_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/keys.h"
#include "common/mono.h"

#define LEASE_MAX 256     /* VEs */
#define LEASE_ASKED_MAX 8 /* renewals under way */

struct lease_rule {
	struct mono lease;   /* L */
	struct mono slack;   /* d */
	double drift;        /* rho */
	struct mono renewal; /* between two renewals */
};

/* Ln, when the granter reigns for `left` yet: the longest that keeps the rule; below two renewals it is useless. */
struct mono lease_length(const struct lease_rule *rule, struct mono left);
/* How long may what lasts `left` on one clock last on another? */
struct mono lease_stretch(const struct lease_rule *rule, struct mono left);

/* --- the node --- */

struct lease {
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch;
	struct mono until; /* MONO_ZERO: not granted yet */
	bool open; /* a grant has said that it may be heard, which no later one takes back */
};

struct lease_holder {
	struct lease_rule rule;
	struct mono renew_at;
	uint64_t last_id;
	struct {
		uint64_t id; /* 0: free */
		struct mono sent_at;
	} asked[LEASE_ASKED_MAX];
	size_t count;
	struct lease leases[LEASE_MAX];
};

void lease_holder_init(struct lease_holder *holder, const struct lease_rule *rule);
/* This VE is wanted here: its lease is asked for from now on, at once if it is new.  -ENOSPC. */
int lease_want(struct lease_holder *holder, const char *name, uint64_t epoch);
/* Not any more. */
void lease_drop(struct lease_holder *holder, const char *name);
/* A renewal of all leases is to be sent now; the id comes back with its answer. */
uint64_t lease_renew(struct lease_holder *holder, struct mono now);
/* A renewal was not answered, or did not grant all: the next one is due soon. */
void lease_hurry(struct lease_holder *holder, struct mono now);
/* There is another coordinator: it is asked at once. */
void lease_ask_again(struct lease_holder *holder);
/* The answer to renewal id grants this VE for length.  True: the lease now lasts longer, see lease_until(). */
bool lease_granted(
    struct lease_holder *holder, uint64_t id, struct mono length, const char *name, uint64_t epoch);
/* It was granted, and not to a copy that is to be silent yet. */
void lease_open(struct lease_holder *holder, const char *name, uint64_t epoch);
bool lease_is_open(const struct lease_holder *holder, const char *name, uint64_t epoch);
/* MONO_ZERO: none. */
struct mono lease_until(const struct lease_holder *holder, const char *name, uint64_t epoch);

/* --- the coordinator --- */

struct lease_heard {
	char name[NODE_NAME_MAX + 1];
	struct mono at;
};

struct lease_giver {
	struct lease_rule rule;
	struct mono owed; /* what was granted before this reign has ended by then */
	size_t count;
	struct lease_heard heard[LEASE_MAX];
};

/* A reign begins: nothing is known of what was granted before, but that it ends by owed. */
void lease_giver_init(struct lease_giver *giver, const struct lease_rule *rule, struct mono owed);
/* A renewal was received that will be granted; whatever its node and epoch, they use one VE.  -ENOSPC: do not grant. */
int lease_hear(struct lease_giver *giver, const char *name, struct mono now);
/* From when on no copy of the VE can be heard any more, if no renewal is granted until then. */
struct mono lease_free_at(const struct lease_giver *giver, const char *name);
/* When, on this clock, its node's gate is closed at the latest. */
struct mono lease_silent_at(const struct lease_giver *giver, const char *name);

#endif
