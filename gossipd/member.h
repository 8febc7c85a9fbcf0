/*
 * The table of members: state and incarnation of each, one table of allowed moves, precedence of
 * what is told about it, and the digest of what is durable.
 */
#ifndef GOSSIPD_MEMBER_H
#define GOSSIPD_MEMBER_H

#include "gossipd/gossipd.h"

enum {
	CLAIMS = 2, /* kept of each member: as many as must agree */
};

/* What one member says of another. */
struct claim {
	uint64_t by; /* node id, 0: none */
	uint64_t incarnation;
	enum gossipd_state state;
};

/* Times of things that have not happened are MONO_NEVER. */
struct member {
	uint64_t id;
	enum gossipd_state state;
	uint64_t incarnation;
	struct mono added_at;
	struct mono learned_at; /* since when this incarnation is known */
	/* what others say of it: hearsay.c */
	struct claim claims[CLAIMS];
	struct mono refuted_at;    /* what it said of us was last refuted */
	struct mono corrected_at;  /* it was last told what it did not know */
	uint64_t postponed_by;     /* who have delayed the present verdict */
	struct mono asked_at;      /* whether it lives, as others say it does not */
	uint64_t dead_by, left_by; /* sets of indices: who says so of this incarnation */
	/* what our own fdd says, while we watch it */
	bool watch, silent;
	bool voting;          /* our vote stands, against this incarnation */
	struct mono found_at; /* since when it is silent, or was last asked because we are unwell */
	struct mono again_at; /* no new vote of ours before, unless another holds one */
	struct mono again;    /* the next such wait */
	/* what it sent */
	struct mono heard_at;
	struct mono answered_at; /* it had heard us */
	bool behind;             /* it speaks as a process older than one we know of */
	uint64_t epoch, number;  /* its process, and its last datagram */
	size_t ballot_count;
	struct gossipd_ballot ballots[GOSSIPD_BALLOTS_MAX];
	struct mono ballots_at;
	/* our excuse of it: stall.c */
	struct mono stalled_at;        /* since when its kernel answers us and it does not */
	struct mono credit, credit_at; /* its account then */
	bool excused;                  /* as it was last told */
	bool stalled, told_stalled;    /* a quorum says so; and that has been told */
	/* suspicion */
	struct mono suspect_at;
	struct mono confirm_at; /* since when a majority votes */
	struct mono contact_at; /* and since when a majority of the cluster answers us */
	uint64_t observers;     /* set of indices */
	struct mono
	    receiver_until; /* asked for our heartbeats though not our observer by our view */
	/* flaps: damping.c */
	uint64_t penalty;
	struct mono penalty_at;
	/* gossip */
	unsigned rumour;     /* datagrams that still carry its entry */
	struct mono pull_at; /* its view is not pulled again before */
	struct mono pull_wait;
};

/* The part of an incarnation that is new for each process; the rest counts refutations. */
uint64_t member_epoch(uint64_t incarnation);
/* Does the entry say more than is known? */
bool member_overrides(const struct member *member, const struct gossipd_entry *entry);
bool member_may_move(enum gossipd_state from, enum gossipd_state to);
/* Part in the cluster: counts for majorities. */
bool member_counts(const struct member *member);
/* What is durable about it. */
struct gossipd_entry member_entry(const struct member *member);
uint64_t member_digest(const struct member *members, size_t count);

#endif
