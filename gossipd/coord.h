/*
 * The coordinator's lease ("Depsys", section 4, cluster coordinator; DESIGN section 5): one fact in
 * the store, {epoch, node, seq}.  The holder raises seq every Lc/4 by compare-and-swap; whoever
 * sees the fact unchanged for Lc on its own clock swaps in epoch + 1 with itself.  The swap
 * compares the version that was seen, so it can only succeed if the holder really was quiet for
 * that long; no verdict about the holder and no wall clock is trusted.  The holder counts its
 * lease from the moment it *sent* its last successful raise, and every act under it checks the
 * epoch anyway.  So a reign that was taken over in this way begins when those before it are over;
 * `since` says when, and is not known of one that was given up, or that an earlier process of
 * this node began.
 *
 * Candidates wait by rank, so that one of them swaps and the others see it.  A result in doubt is
 * answered by reading again.  The fact tells its writer's Lc, and the longer of the two counts:
 * nodes with different settings, and a node whose setting was changed, endanger nobody.  Rejected: the engine's own elections and leases, which none of our
 * two stores has in the same meaning.
 */
#ifndef GOSSIPD_COORD_H
#define GOSSIPD_COORD_H

#include "gossipd/gossipd.h"

enum coord_request {
	COORD_NONE,
	COORD_GET,
	COORD_PUT,
};

struct coord {
	uint64_t self;
	struct mono lease, stagger;
	/* what was last seen in the store */
	bool seen;        /* at least once */
	bool read;        /* and the last request was not in doubt: a swap may build on it */
	uint64_t version; /* 0: absent */
	struct gossipd_fact fact;
	struct mono seen_at;   /* when this version was first seen */
	struct mono answer_at; /* last answer from the store */
	/* request under way */
	enum coord_request request;
	uint64_t ticket;
	struct gossipd_fact wanted; /* by the put */
	bool succeeds;              /* the put takes over from one whose lease has run out */
	struct mono sent_at;
	struct mono doubt_sent_at; /* of a put in doubt, and what it wanted */
	struct gossipd_fact doubtful;
	bool doubtful_succeeds;
	uint64_t doubt_expected; /* the version that it compares with */
	struct mono next_at;     /* next request */
	bool hinted;
	/* own lease */
	bool held;
	struct mono held_until;
	struct mono since; /* MONO_ZERO: not known */
	bool leaving;
	unsigned rank; /* among the candidates */
};

/* What the core's shell must do; the rest goes through the actions it is given. */
void coord_init(struct coord *coord, const struct gossipd_config *config, struct mono now,
    uint64_t first_ticket);
struct mono coord_deadline(const struct coord *coord);
/* Whatever is due at now: expiry, request; appends actions. */
void coord_run(struct coord *coord, struct mono now, struct gossipd_actions *actions);
void coord_result(
    struct coord *coord, const struct gossipd_event *event, struct gossipd_actions *actions);
void coord_hint(struct coord *coord);
/* Gives the lease up, if held. */
void coord_leave(struct coord *coord);

#endif
