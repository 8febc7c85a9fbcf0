/*
 * What one subscriber is told, and when.  The cluster's verdict is one for all; a subscriber may ask
 * for more certainty (a verdict that has stood for longer, or that more of the observers are known to
 * share) and is told SUSPECT until then, or never of a verdict that ends before; or for less, and is
 * told of each vote against a suspect, to act on its own risk.  Who does what cannot be undone asks
 * for the default or more.
 */
#ifndef GOSSIPD_TERMS_H
#define GOSSIPD_TERMS_H

#include "gossipd/gossipd.h"

/* A verdict that is held back, or a suspicion whose votes are followed. */
struct pending {
	uint64_t id, incarnation;
	enum gossipd_state state;
	struct mono since;
	unsigned votes; /* last told */
};

struct terms {
	struct mono confirm; /* a verdict must have stood for so long; zero: at once */
	unsigned
	    quorum; /* per cent of the observers that must share it; 0: as the cluster has it */
	bool votes; /* each change of the votes against a suspect is told */
	size_t count;
	struct pending pending[GOSSIPD_MEMBERS_MAX];
};

/* A member has changed: turns *status into what the subscriber is to be told of it now. */
void terms_change(struct terms *terms, struct gossipd_status *status, struct mono now);
/* The next thing to be told, as the core sees it now; false: nothing more. */
bool terms_next(struct terms *terms, const struct gossipd *core, struct mono now,
    struct gossipd_status *status);
/* When a verdict that is held back may have stood for long enough. */
struct mono terms_deadline(const struct terms *terms, struct mono now);

#endif
