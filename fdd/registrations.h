/*
 * The registrations of the core: who wants to be told, of what, and for how long.  Part of the core;
 * see fdd.h.
 */
#ifndef FDD_REGISTRATIONS_H
#define FDD_REGISTRATIONS_H

#include "fdd/fdd.h"

struct slot {
	bool used;
	bool expired; /* its lease ran out; FDD_EXPIRED is owed, nothing else is told */
	struct fdd_registration registration;
	struct mono next_values; /* MONO_NEVER: only crossings */
	struct mono lease_end;   /* MONO_NEVER: no lease */
};

struct registrations {
	size_t max, end;    /* slots from end on are free */
	struct slot *slots; /* max */
};

int registrations_init(struct registrations *all, size_t max);
void registrations_fini(struct registrations *all);

/* Does it ask for something that can be done? */
bool registration_valid(const struct fdd_registration *registration);

struct slot *registrations_find(const struct registrations *all, uint64_t id);
/* Takes the place of one with the same id; NULL when all slots are in use. */
struct slot *registrations_put(
    struct registrations *all, const struct fdd_registration *registration, struct mono now);
void registrations_remove(struct registrations *all, struct slot *slot);
/* This process saw nothing for so long: no lease ran meanwhile. */
void registrations_excuse(struct registrations *all, struct mono lost);

/* Is this peer, a node or a service, to be judged for it? */
bool slot_concerns(const struct slot *slot, uint64_t peer, bool service);
/* Begins the lease anew. */
void slot_renew(struct slot *slot, struct mono now);
/* Marks it when its lease has ended. */
void slot_expire(struct slot *slot, struct mono now);
/* Is it time to tell values?  Asked once: the next time is set. */
bool slot_values_due(struct slot *slot, struct mono now);
/* When the next of the two is due. */
struct mono slot_deadline(const struct slot *slot);

#endif
