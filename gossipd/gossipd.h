/*
 * gossipd's core: who is in the cluster, and who coordinates it, as a function of state and event
 * ("Depsys", section 4: gossip removes the wrong suspicions of single detectors; a coordinator
 * manages each cluster).
 *
 * Each member is watched by a few observers, chosen by rendezvous hash over the live ones.  An
 * observer whose fdd finds its member silent votes against it; the vote is told to the accused
 * first, who can refute it with a higher incarnation, and to the other observers.  One vote makes
 * a member SUSPECT, which is cheap and reversible.  DEAD takes a majority of the observers, held
 * for a confirmation time, and an answer from a majority of the cluster since it began: whoever
 * cannot get that is himself the one who is cut off, and judges nobody.
 *
 * No single member is believed about another one (hearsay.c).  What is durable (alive, dead or
 * left at which incarnation) spreads as rumours in datagrams; a
 * digest of it rides in each datagram, and on a difference the whole view is pulled.  (Gossip
 * alone missed a member in 7 of 41 kills at 20 % loss.)  Rejected: SWIM's random probing, which
 * needs its own traffic beside fdd's heartbeats; each node judging alone, as one lossy link then
 * kills a node.
 *
 * One that only stands still, which its kernel tells, is excused for a bounded time (stall.c).
 *
 * Members are added and removed while it runs.  A removed one is LEFT to whoever listens; what is
 * told of it afterwards is ignored, and for TOMBSTONE_MS its last incarnation is kept, so that one
 * who is added again is not brought back by old rumours but only by its own later word.
 *
 * The core reads no clock and no store: each event carries its time; actions are carried out in
 * order.  Node ids are the 64-bit ids of common/keys.h.
 */
#ifndef GOSSIPD_GOSSIPD_H
#define GOSSIPD_GOSSIPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mono.h"

enum {
	GOSSIPD_MEMBERS_MAX = 64, /* clusters have 16 to 64 nodes */
	GOSSIPD_OBSERVERS_MAX = 8,
	GOSSIPD_BALLOTS_MAX = 12, /* votes in one datagram */
	GOSSIPD_RUMOURS_MAX = 12, /* entries in one datagram */
	GOSSIPD_ACTIONS_MAX = 512,
	GOSSIPD_CLUSTERS_MAX = 1024,
	GOSSIPD_NODES_MAX = GOSSIPD_CLUSTERS_MAX * GOSSIPD_MEMBERS_MAX,
	GOSSIPD_SUMMARIES_MAX = 4, /* in one datagram */
	GOSSIPD_PULLED_MAX = 64,   /* summaries in one event */
	GOSSIPD_MARKS_MAX = 48,
};

enum gossipd_state {
	GOSSIPD_UNKNOWN, /* configured, never heard of */
	GOSSIPD_ALIVE,
	GOSSIPD_SUSPECT, /* somebody votes against it; it may refute */
	GOSSIPD_DEAD,    /* a verdict; only a higher incarnation ends it */
	GOSSIPD_LEFT,    /* said good-bye */
	GOSSIPD_STATES
};

/* What is durable about a member, as it travels; SUSPECT never does. */
struct gossipd_entry {
	uint64_t id;
	uint64_t incarnation;
	enum gossipd_state state;
};

/* "I hear nothing of this incarnation." */
struct gossipd_ballot {
	uint64_t id;
	uint64_t incarnation;
	bool stalled; /* "but its kernel answers me": for a suspicion, not for a verdict */
};

/* A node of any cluster. */
struct gossipd_node {
	uint64_t cluster, id;
};

/* A whole cluster as it travels to the others (clusters.h). */
struct gossipd_summary {
	uint64_t cluster;
	uint64_t version; /* rises with each change of its view */
	uint64_t dead, left,
	    absent;          /* sets of places in its roster, the nodes in the order of ids */
	uint32_t roster;     /* hash of the roster, so that places are not taken for others */
	uint32_t beat;       /* raised while somebody of it speaks */
	uint8_t coordinator; /* its place + 1; 0: nobody known */
	bool unknown;        /* silent since this beat; inside the teller's cluster only */
};

/* Between nodes of different clusters. */
struct gossipd_bridge {
	uint64_t digest; /* of all summaries */
	bool reply;      /* answer with such a datagram, please */
	size_t mark_count;
	uint64_t marks[GOSSIPD_MARKS_MAX]; /* upper half of a cluster's id, and its beat */
	size_t summary_count;
	struct gossipd_summary summaries[GOSSIPD_SUMMARIES_MAX];
};

/* One datagram.  The ballots are all that the sender holds at that moment: one that is no longer
 * in the list is withdrawn, so a lost datagram is made good by any later one. */
struct gossipd_gram {
	uint64_t incarnation; /* of the sender */
	uint64_t number;      /* rises; an overtaken datagram does not bring back old ballots */
	uint64_t digest;      /* of the sender's view */
	uint64_t accused;     /* incarnation of the receiver that the sender knows accused, or 0 */
	bool damped;          /* the receiver is damped in the sender's view */
	bool reply;           /* answer with a datagram, please */
	bool answer;          /* to one that asked for it: the sender hears the receiver */
	size_t ballot_count;
	struct gossipd_ballot ballots[GOSSIPD_BALLOTS_MAX];
	size_t rumour_count;
	struct gossipd_entry rumours[GOSSIPD_RUMOURS_MAX];
	uint64_t clusters; /* digest of the summaries of all clusters; 0: there is one only */
	size_t summary_count;
	struct gossipd_summary summaries[GOSSIPD_SUMMARIES_MAX];
};

/* What stands in the store under coord/<cluster>. */
struct gossipd_fact {
	uint64_t epoch;
	uint64_t node; /* 0: given up */
	uint64_t seq;
	struct mono lease; /* Lc of its writer; 0: not told */
};

struct gossipd_config {
	uint64_t self;
	uint64_t cluster;        /* hash of the cluster's name: order of candidates */
	const uint64_t *members; /* node ids, self included; copied */
	size_t member_count;
	unsigned observers;  /* of each member, at most all others */
	unsigned witnesses;  /* who must say something of another; 2, or 1 to believe everybody */
	struct mono gossip;  /* between two datagrams to somebody in quiet times */
	struct mono hurry;   /* the same while there is news to be told */
	struct mono tell;    /* between two tellings of a vote */
	struct mono fresh;   /* a vote not repeated for that long does not count */
	unsigned quorum;     /* per cent of them that a verdict takes; a majority always */
	struct mono confirm; /* a majority of votes must hold for that long */
	struct mono linger;  /* suspected for that long: no longer chosen as observer */
	struct mono
	    stall; /* a member whose kernel answers for it is excused that long; zero: not at all */
	struct mono again;   /* after a refutation, before the same observer begins again */
	struct mono lease;   /* Lc of the coordinator; zero: no coordinator in this cluster */
	struct mono stagger; /* between two candidates for coordinator */
	/* All nodes of all clusters, our own too, by cluster and id in rising order; borrowed until
	 * the end or the next NODES.  None: there is one cluster only. */
	const struct gossipd_node *nodes;
	size_t node_count;
	struct mono bridge;  /* between two datagrams of a gateway to other clusters, in quiet */
	struct mono silence; /* a cluster asked for that long without an answer is unknown */
};

enum gossipd_profile {
	GOSSIPD_FAST,     /* for heartbeats each 100 ms */
	GOSSIPD_BALANCED, /* 500 ms */
	GOSSIPD_ECONOMY,  /* 1 s */
};

/* The times and numbers of a profile; the rest is zero. */
void gossipd_config_profile(struct gossipd_config *config, enum gossipd_profile profile);
/* fresh and linger, which follow from tell and confirm. */
void gossipd_config_derive(struct gossipd_config *config);

enum gossipd_event_type {
	GOSSIPD_START, /* first of all */
	GOSSIPD_TIMEOUT,
	GOSSIPD_LEVEL,    /* fdd: a watched member has gone silent, or is heard again */
	GOSSIPD_FDD_LOST, /* fdd is out of reach: what it said counts no longer */
	GOSSIPD_HEALTH,   /* fdd: how often this node itself stood still of late */
	GOSSIPD_GRAM,     /* an authentic datagram */
	GOSSIPD_VIEW,     /* answer to PULL */
	GOSSIPD_META_RESULT,
	GOSSIPD_META_HINT, /* the coordinator's fact may have changed */
	GOSSIPD_LEAVE,
	/* The set of members is the shell's to say (configuration, signed membership); both may come
	 * at any time after START, in any order at different nodes. */
	GOSSIPD_ADD_MEMBER,    /* refused: already there, 0, or GOSSIPD_MEMBERS_MAX reached */
	GOSSIPD_REMOVE_MEMBER, /* refused: not there, or ourselves */
	GOSSIPD_BRIDGE,        /* an authentic datagram of a node of another cluster */
	GOSSIPD_SUMMARIES,     /* (a part of) the answer to PULL_CLUSTERS */
	GOSSIPD_NODES,         /* another list of nodes */
	GOSSIPD_REACHED,       /* of REACH: the connection is accepted, or is no longer mute */
};

enum gossipd_meta_rc {
	GOSSIPD_META_OK,       /* version and fact are what stands there now */
	GOSSIPD_META_CONFLICT, /* the version had changed */
	GOSSIPD_META_DOUBT,    /* done or not, or no answer at all */
};

struct gossipd_event {
	enum gossipd_event_type type;
	struct mono now;
	union {
		struct {
			uint64_t stored_incarnation; /* what PERSIST last stored, or 0 */
			uint64_t wall_s;             /* wall clock, seconds since 1970 */
		} start;
		struct {
			uint64_t id;
			bool silent;
		} level;
		struct {
			uint64_t id;
			bool
			    mute; /* accepted, and nothing follows; false: it spoke, or was reset */
		} reached;
		unsigned lhm; /* local health multiplier, 0: well */
		struct {
			uint64_t from;
			const struct gossipd_gram *gram; /* read during the step only */
		} gram;
		struct {
			uint64_t from;
			const struct gossipd_entry *entries;
			size_t count;
		} view;
		struct {
			uint64_t id;
		} member;
		struct {
			uint64_t ticket;
			enum gossipd_meta_rc rc;
			uint64_t version; /* 0: absent */
			struct gossipd_fact fact;
		} meta;
		struct {
			uint64_t from;
			const struct gossipd_bridge *bridge; /* read during the step only */
		} bridge;
		struct {
			uint64_t from;
			const struct gossipd_summary *list;
			size_t count; /* at most GOSSIPD_PULLED_MAX */
		} summaries;
		struct {
			const struct gossipd_node *list; /* borrowed, see config */
			size_t count;
		} nodes;
	};
};

enum gossipd_action_type {
	GOSSIPD_PERSIST,  /* store .incarnation durably before any later action */
	GOSSIPD_PEERS,    /* tell fdd the roles in actions->roles */
	GOSSIPD_MEMBER,   /* .member changed: tell who listens */
	GOSSIPD_DAMPED,   /* .damped: it comes and goes too often to have a part, or no longer */
	GOSSIPD_ISOLATED, /* .isolated: we are cut off, or no longer */
	GOSSIPD_COORD,    /* .coord: another coordinator or epoch, or our own lease lost */
	GOSSIPD_REIGN,    /* our own lease lasts longer now, see gossipd_reign_until() */
	GOSSIPD_META_GET, /* read the coordinator's fact; answer with META_RESULT */
	GOSSIPD_META_PUT, /* swap it; the nonce of the transaction is the ticket */
	GOSSIPD_PULL,     /* ask .peer for its view over a stream; answer with VIEW, if any */
	GOSSIPD_SEND,     /* actions->gram with .send's own fields to .send.to */
	GOSSIPD_GONE,     /* the good-bye has been said as often as it will be */
	GOSSIPD_CLUSTER,  /* .cluster: another cluster has changed, as far as we know */
	GOSSIPD_CROSS,    /* actions->bridge with .cross's own field to .cross.to */
	GOSSIPD_REACH, /* .reach: open a connection to the gossipd of a member, or end it; answer REACHED */
	GOSSIPD_STALLED, /* .member stands still, a quorum of its observers finds (from, to: unset) */
	GOSSIPD_PULL_CLUSTERS, /* ask .peer for its summaries over a stream; answer with SUMMARIES */
};

/* What fdd is to do with one member. */
struct gossipd_role {
	uint64_t id;
	bool watch; /* we observe it */
	bool send;  /* it observes us */
};

struct gossipd_action {
	enum gossipd_action_type type;
	union {
		uint64_t incarnation;
		bool isolated;
		struct {
			uint64_t id;
			bool damped;
		} damped;
		struct {
			uint64_t id;
			bool begin; /* or end */
		} reach;
		uint64_t peer;
		struct {
			uint64_t id;
			enum gossipd_state from, to;
			uint64_t incarnation;
			unsigned votes; /* against it, of .. */
			unsigned observers;
		} member;
		struct {
			uint64_t node; /* 0: nobody known */
			uint64_t epoch;
			bool held; /* by us */
			bool lost; /* our own lease has run out */
		} coord;
		struct {
			uint64_t ticket;
			uint64_t expected; /* version; put only */
			struct gossipd_fact fact;
		} meta;
		struct {
			uint64_t to;
			uint64_t accused;
			bool damped, reply, answer;
		} send;
		struct {
			const struct gossipd_node
			    *nodes; /* its roster: bit i of a set is nodes[i] */
			size_t size;
			struct gossipd_summary from, to;
		} cluster;
		struct {
			uint64_t to;
			bool reply;
		} cross;
	};
};

struct gossipd_actions {
	size_t count;
	struct gossipd_action list[GOSSIPD_ACTIONS_MAX];
	struct gossipd_gram gram;
	struct gossipd_bridge bridge;
	size_t role_count;
	struct gossipd_role roles[GOSSIPD_MEMBERS_MAX];
};

enum gossipd_answer {
	GOSSIPD_OK,
	GOSSIPD_REFUSED, /* a stranger, or an impossible value */
};

struct gossipd_status {
	uint64_t id;
	enum gossipd_state state;
	uint64_t incarnation;
	bool watch, send;
	bool damped;
	bool silent;    /* by our own fdd */
	bool stalled;   /* its kernel answers a quorum of them, it does not */
	unsigned votes; /* of its observers, against it */
	unsigned observers;
	bool heard;
	struct mono heard_ago;
};

struct gossipd_counters {
	uint64_t grams_sent, grams_received, grams_old, grams_refused;
	uint64_t pulls, votes, refutations, verdicts, stalls;
	uint64_t crossings; /* datagrams of other clusters */
};

struct gossipd;

/* -EINVAL on an impossible configuration (self not a member, doubles, too many), -ENOMEM. */
int gossipd_new(struct gossipd **out, const struct gossipd_config *config, uint64_t seed);
struct gossipd *gossipd_free(struct gossipd *core);
/* Clears *actions and fills it.  Times must not run backwards. */
enum gossipd_answer gossipd_step(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions);
/* When TIMEOUT is due; MONO_NEVER before START. */
struct mono gossipd_deadline(const struct gossipd *core);

/* A cluster as we know it. */
struct gossipd_cluster_status {
	uint64_t cluster;
	const struct gossipd_node *nodes; /* its roster */
	size_t size, alive;
	bool own;
	bool unknown;         /* never heard of, or silent for long */
	uint64_t coordinator; /* 0: nobody known */
	uint64_t gateways[2]; /* 0: none */
	bool heard;           /* ever */
	bool readable;        /* the summary is of the roster that we have */
	struct gossipd_summary summary;
};

/* Own view, for a peer that pulls; room for GOSSIPD_MEMBERS_MAX entries, returns their number. */
size_t gossipd_view(const struct gossipd *core, struct gossipd_entry *entries);
/* The n-th member; false behind the last.  A removal moves the last one to the place of the removed:
 * a member is known by its id, not by n. */
bool gossipd_status(
    const struct gossipd *core, size_t n, struct mono now, struct gossipd_status *status);
/* The summaries that we have, of clusters whose ids are at least `from`, in their order, for a node
 * that pulls; returns their number. */
size_t gossipd_summaries(
    const struct gossipd *core, uint64_t from, struct gossipd_summary *summaries, size_t room);
/* The n-th cluster; false behind the last, and when no nodes were given. */
bool gossipd_cluster(const struct gossipd *core, size_t n, struct gossipd_cluster_status *status);
/* The n-th node of a cluster as its summary says: the last known state, also when it is unknown. */
enum gossipd_state gossipd_summary_state(const struct gossipd_summary *summary, size_t n);
const struct gossipd_counters *gossipd_counters(const struct gossipd *core);
bool gossipd_isolated(const struct gossipd *core);
/* The coordinator as we know it; held: it is us and the lease runs.  Node 0: nobody known. */
void gossipd_coordinator(
    const struct gossipd *core, struct mono now, uint64_t *node, uint64_t *epoch, bool *held);
/* When our own lease runs out if it is not raised; MONO_ZERO: we do not coordinate. */
struct mono gossipd_reign_until(const struct gossipd *core);
/* Since when, if it took over from one that had run out by then; MONO_ZERO: not known. */
struct mono gossipd_reign_since(const struct gossipd *core);
const char *gossipd_state_name(enum gossipd_state state);
/* The incarnation of a process that starts: it wins over every earlier one. */
uint64_t gossipd_incarnation(uint64_t stored, uint64_t wall_s);
/* NULL, or what does not hold.  For tests and simulation, after each step. */
const char *gossipd_invariant(const struct gossipd *core);

#endif
