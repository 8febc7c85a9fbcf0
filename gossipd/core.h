/*
 * The inside of gossipd's core, shared by its files:
 *	gossipd.c	step: one event in, actions out
 *	members.c	who is a member at all: adding, removing, tombstones
 *	hearsay.c	what members say of each other, and when it is believed
 *	damping.c	members that come and go too often
 *	view.c		what is durable about members, how it changes, how differences are repaired
 *	judge.c		votes, suspicion, verdict; are we ourselves cut off?
 *	stall.c		members that stand still on a node that lives
 *	roles.c		who observes whom
 *	send.c		whom to send to, and what a datagram holds
 *	abroad.c	what other clusters are told of ours; clusters.c and bridge.c do the rest
 */
#ifndef GOSSIPD_CORE_H
#define GOSSIPD_CORE_H

#include <assert.h>

#include "common/rng.h"
#include "gossipd/clusters.h"
#include "gossipd/coord.h"
#include "gossipd/gossipd.h"
#include "gossipd/member.h"

enum {
	GREET_MS = 1000,      /* a new process calls until it has heard everybody, this long */
	ABSENT_MS = 5000,     /* a member never heard of in that time is no observer */
	AGAIN_MAX_MS = 16000, /* longest wait between accusations of one that refutes */
	PULL_GAP_MS = 300,    /* between two pulls */
	PULL_WAIT_MS = 2000,  /* for the answer to one */
	PULL_AGAIN_MAX_MS =
	    16000,           /* longest wait between pulls from one whose view stays different */
	SETTLED_MS = 5000,   /* an incarnation known that long is known to all who can hear of it */
	RECEIVER_MS = 30000, /* a receiver by its own wish */
	STALLED_EVERY = 8,   /* n-th telling of a vote is made while its member stands still */
	RUMOUR_SENDS = 4,    /* datagrams per binary order of the cluster's size */
	GOODBYES = 4,
	TOMBSTONE_MS = 600000,     /* what was said of a removed member is kept */
	INCARNATION_MAX_BITS = 62, /* one more would leave no room to refute it */
};

/* The last that was known of a removed member. */
struct tombstone {
	struct gossipd_entry entry;
	struct mono at;
};

struct gossipd {
	struct gossipd_config config;
	struct rng rng;
	uint64_t ids[GOSSIPD_MEMBERS_MAX];
	struct member members[GOSSIPD_MEMBERS_MAX];
	size_t count;
	size_t self;
	struct tombstone tombstones[GOSSIPD_MEMBERS_MAX];
	size_t tombstone_count;
	/* Sets of members that would else be looked for in every step. */
	uint64_t in[GOSSIPD_STATES]; /* by state */
	uint64_t damped;
	uint64_t damping_us; /* who last said that we are damped */
	uint64_t reaching;   /* whom we have a connection opened to, see stall.c */
	uint64_t voters;     /* others whose last datagram held ballots */
	bool started, fdd_lost, leaving, gone;
	unsigned lhm;             /* of our own fdd */
	struct mono shaken_until; /* we stood still a moment ago */
	struct mono now;
	struct mono started_at;
	uint64_t digest;
	/* to be sent at the end of the step; sets of indices */
	uint64_t send, ask, answer;
	uint64_t number;
	/* roles that fdd was last told of */
	bool roles_told;
	uint64_t watch, receivers;
	uint64_t observed;   /* those for whom we were chosen */
	uint64_t wish;       /* those with a receiver_until */
	uint64_t candidates; /* for observers, when they were last chosen */
	uint64_t ranked;     /* candidates for coordinator, when we were last ranked */
	unsigned rank;       /* among them */
	/* own contact with the cluster */
	bool isolated;
	struct mono doubt_at;
	/* timers */
	struct mono gossip_at, tell_at;
	struct mono stalled_at; /* the last deadline that was missed by far */
	struct mono deadline;   /* what gossipd_deadline() says until the next step */
	unsigned goodbyes;
	unsigned tellings;
	/* gossip's round */
	uint8_t ring[GOSSIPD_MEMBERS_MAX];
	size_t ring_at;
	/* pulls */
	struct mono pulled_at;
	bool pulling;
	struct mono changed_at; /* of the durable view */
	struct coord coord;
	struct clusters clusters;
	struct {
		uint64_t digest, coordinator, epoch;
		bool isolated;
	} summarized; /* what our own cluster's summary was made of */
	struct gossipd_counters counters;
};

/* ---- sets of members, by index */

static inline uint64_t bit(size_t i)
{
	return (uint64_t)1 << i;
}

static inline uint64_t bit_of(const struct gossipd *core, const struct member *member)
{
	return bit((size_t)(member - core->members));
}

static inline unsigned size(uint64_t set)
{
	return (unsigned)__builtin_popcountll(set);
}

static inline uint64_t all(const struct gossipd *core)
{
	return ~(uint64_t)0 >> (GOSSIPD_MEMBERS_MAX - core->count);
}

static inline struct member *find(struct gossipd *core, uint64_t id)
{
	for (size_t i = 0; i < core->count; i++) {
		if (core->ids[i] == id)
			return &core->members[i];
	}
	return NULL;
}

static inline struct member *self(struct gossipd *core)
{
	return &core->members[core->self];
}

static inline bool is_self(const struct gossipd *core, const struct member *member)
{
	return member == &core->members[core->self];
}

/* Has `length` gone by since a moment?  Never, if it has not come. */
static inline bool elapsed(const struct gossipd *core, struct mono since, struct mono length)
{
	return mono_due(mono_add(since, length), core->now);
}

/* Is a moment at most `length` ago? */
static inline bool within(const struct gossipd *core, struct mono moment, struct mono length)
{
	return !mono_is_never(moment) && !elapsed(core, moment, length);
}

/* Everybody but ourselves whose state is one of the set. */
static inline uint64_t others(const struct gossipd *core, unsigned states)
{
	uint64_t set = 0;

	for (unsigned state = 0; state < GOSSIPD_STATES; state++)
		set |= states >> state & 1 ? core->in[state] : 0;
	return set & ~bit(core->self);
}

/* Takes the lowest index out of a set that is not empty. */
static inline size_t take(uint64_t *set)
{
	size_t i = (size_t)__builtin_ctzll(*set);

	*set &= *set - 1;
	return i;
}

#define STATE(state) (1u << GOSSIPD_##state)
/* Those who have a part in the cluster, see member_counts(). */
#define COUNTED (STATE(UNKNOWN) | STATE(ALIVE) | STATE(SUSPECT))

static inline struct gossipd_action *append(
    struct gossipd_actions *actions, enum gossipd_action_type type)
{
	struct gossipd_action *action = &actions->list[actions->count++];

	assert(actions->count <= GOSSIPD_ACTIONS_MAX);
	*action = (struct gossipd_action){.type = type};
	return action;
}

/* ---- members.c */

/* The members of the configuration, none of them heard of. */
void members_init(struct gossipd *core, const struct gossipd_config *config);
enum gossipd_answer members_add(struct gossipd *core, uint64_t id);
enum gossipd_answer members_remove(
    struct gossipd *core, uint64_t id, struct gossipd_actions *actions);

/* ---- view.c */

/* The one place where a state or an incarnation changes. */
void view_move(struct gossipd *core, struct member *member, enum gossipd_state to,
    uint64_t incarnation, struct gossipd_actions *actions);
/* One entry that is true, about another member. */
void view_believe(struct gossipd *core, struct member *member, const struct gossipd_entry *entry,
    struct gossipd_actions *actions);
/* Raises our own incarnation above one that was accused, if that is not done yet. */
void view_refute(struct gossipd *core, uint64_t incarnation, struct gossipd_actions *actions);
/* Pulls the sender's view if its digest differs from ours and no news can explain it. */
void view_compare(
    struct gossipd *core, struct member *member, uint64_t digest, struct gossipd_actions *actions);
enum gossipd_answer view_pulled(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions);
bool incarnation_valid(uint64_t incarnation);

/* ---- hearsay.c */

/* One entry that `from` told. */
void hear(struct gossipd *core, struct member *from, const struct gossipd_entry *entry,
    struct gossipd_actions *actions);
void hear_ballot(struct gossipd *core, struct member *from, const struct gossipd_ballot *ballot,
    struct gossipd_actions *actions);
/* Tells one what he does not seem to know of another, or of himself. */
void correct(struct gossipd *core, struct member *to, struct member *about);
/* It knows this incarnation of ours, and that it is suspected, dead or left. */
void hear_of_ourselves(struct gossipd *core, struct member *from, uint64_t incarnation, bool ended,
    struct gossipd_actions *actions);
/* Is a vote against that incarnation, or its end, news of the one that we know? */
bool concerns_present(
    const struct gossipd *core, const struct member *member, uint64_t incarnation);

/* ---- damping.c */

/* It came back from the dead, or as a new process without having left. */
void damping_flap(struct gossipd *core, struct member *member, struct gossipd_actions *actions);
/* It holds us for damped, or not. */
void damping_of_us(struct gossipd *core, const struct member *by, bool damped);
/* What time has ended, and what follows from what the others say of us. */
void damping_review(struct gossipd *core, struct gossipd_actions *actions);
/* The candidates that are not damped, if they are enough. */
uint64_t damping_stable(const struct gossipd *core, uint64_t candidates);

/* ---- judge.c */

/* All who hold a vote against the member's present incarnation, told within the time. */
uint64_t accusers(const struct gossipd *core, const struct member *member, struct mono fresh);
/* Those of them whose votes count for a verdict. */
uint64_t convinced(const struct gossipd *core, const struct member *member, struct mono fresh);
/* How many of its observers that takes. */
unsigned quorum_of(const struct gossipd *core, const struct member *member);
void judge(struct gossipd *core, struct member *member, struct gossipd_actions *actions);
void judge_all(struct gossipd *core, struct gossipd_actions *actions);
void judge_suspects(struct gossipd *core, struct gossipd_actions *actions);
void doubt_ourselves(struct gossipd *core, struct gossipd_actions *actions);
/* A silence begins for us now: if we are unwell, the member is asked and has some time. */
void doubt_finding(struct gossipd *core, struct member *member);
/* The same for all silences that we have not voted on. */
void doubt_findings(struct gossipd *core);
/* When we may vote without anybody else. */
struct mono first_vote_at(const struct gossipd *core, const struct member *member);

/* ---- stall.c */

enum gossipd_answer stall_reached(struct gossipd *core, const struct gossipd_event *event);
/* Does our own vote carry no verdict now? */
bool stall_excuses(const struct gossipd *core, const struct member *member);
struct mono stall_excused_until(const struct gossipd *core, const struct member *member);
/* Connections for the votes that we hold, and what is told of them; once a step. */
void stall_review(struct gossipd *core, struct gossipd_actions *actions);
/* It is no longer voted against, or no member. */
void stall_forget(struct gossipd *core, struct member *member, struct gossipd_actions *actions);

/* ---- roles.c */

/* Sets whom we watch and who hears our heartbeats; tells fdd when that differs from the last. */
void assign_roles(struct gossipd *core, struct gossipd_actions *actions);

/* ---- send.c: what is marked in core->send and core->ask goes out at the end of the step */

/* Asks for an answer all who have not spoken since. */
void ask_unheard(struct gossipd *core, struct mono since);
/* The same for those who have not answered since: that they speak does not say that they hear. */
void ask_silent(struct gossipd *core, struct mono since);
/* Datagrams that carry a new entry before it is left to digests. */
unsigned rumour_sends(const struct gossipd *core);
void shuffle(struct gossipd *core);
/* Marks the next one of gossip's round. */
void gossip(struct gossipd *core);
/* Marks whom standing votes and open questions are to be told again. */
void tell_again(struct gossipd *core);
/* Is anything going on that has to be told again soon? */
bool unrest(const struct gossipd *core);
void send_all(struct gossipd *core, struct gossipd_actions *actions);

/* ---- abroad.c */

/* BRIDGE, SUMMARIES and NODES. */
enum gossipd_answer abroad_event(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions);
/* What follows from any event for the summary of our cluster, and news to be passed on. */
void abroad(struct gossipd *core, struct gossipd_actions *actions);

#endif
