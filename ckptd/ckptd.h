/*
 * The core of ckptd: coordinated checkpoints by two-phase commit (depsys paper, section 5,
 * listings 5.2 and 5.3), as a function of state and event.
 *
 * One process plays two parts.  As *coordinator* (round.c) it runs rounds: it asks every member to
 * freeze, lets all dump once all are frozen, and commits once every image is durable.  As *member*
 * (seat.c) it holds one seat for each VE of its node and does what coordinators ask.
 *
 *	coordinator				member
 *	creates the cell UNDECIDED
 *	VOTE_REQUEST ------------------------>	journals, locks the network, freezes
 *	      <------------------------------	VOTE_COMMIT (frozen) or VOTE_ABORT
 *	all frozen: DUMP -------------------->	dumps, thaws at once, stores on k other nodes
 *	      <------------------------------	DUMPED (the image is durable)
 *	all durable: swaps the cell to COMMIT
 *	together with the catalogues
 *	GLOBAL_COMMIT / GLOBAL_ABORT -------->	forgets, or discards its image
 *
 * Departures from the paper.  As printed the protocol is unsafe: a client checkpoints on
 * GLOBAL_COMMIT and goes on, while another that lost the message still runs in the past of that
 * checkpoint, or gives up on its timer: tests/sim/test-ckptd-paper.c finds both.  Therefore
 * - a vote means "frozen", not "willing", and nobody thaws before everybody is frozen, unless the
 *   round can no longer commit;
 * - the outcome is not a message but a cell in metad, swapped once from UNDECIDED.
 *   ESTABLISH_NEIGHBOUR_STATE, the question of a client that hears nothing, reads this cell, so no
 *   set of crashes leaves two answers;
 * - ESTABLISH_CONNECTION_STATUS asks gossipd.
 *
 * Rejected: three-phase commit (unsafe in a partition), and deciding by the coordinator's own log
 * (a member then waits for the coordinator's disk).
 */
#ifndef CKPTD_CKPTD_H
#define CKPTD_CKPTD_H

#include "common/mono.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CKPTD_VE_SIZE 64
#define CKPTD_OID_SIZE 72
#define CKPTD_REPLICAS_MAX 4
#define CKPTD_ROUND_MEMBERS_MAX 16
#define CKPTD_ACTIONS_MAX 96

struct ckptd;

struct ckptd_config {
	uint64_t self;              /* node id */
	uint32_t rounds_max;        /* rounds at a time, as coordinator */
	uint32_t round_members_max; /* members of one round, at most CKPTD_ROUND_MEMBERS_MAX */
	uint32_t seats_max;         /* VEs of this node */
	uint32_t resend_ms;         /* coordinator repeats an unanswered message; 0: never */
	uint32_t vote_ms;           /* coordinator: all must be frozen within */
	uint32_t dump_ms;           /* coordinator: all must be durable within; member: one dump */
	uint32_t hold_ms;           /* member: longest freeze without a DUMP */
	uint32_t outcome_ms;        /* member: asks the cell after such a silence */
	uint32_t patience;          /* that many questions before a member swaps ABORT itself */
};

/* X(name, text): why a member refused or a round was aborted. */
#define CKPTD_REASONS(X)                                                                           \
	X(NONE, "")                                                                                \
	X(BUSY, "an earlier round is open")                                                        \
	X(STALE, "round is older than the last one seen")                                          \
	X(FULL, "no free seat")                                                                    \
	X(FREEZE, "freeze failed")                                                                 \
	X(DUMP, "dump failed")                                                                     \
	X(STORE, "image could not be made durable")                                                \
	X(TIMER, "frozen too long without an answer")                                              \
	X(RESTART, "ckptd restarted while frozen")                                                 \
	X(SILENT, "a member did not answer in time")                                               \
	X(FACTS, "placement or coordinator changed during the round")                              \
	X(DEPOSED, "this node is no longer the coordinator")                                       \
	X(STORE_UNREACHABLE, "metad did not answer")                                               \
	X(OUTCOME, "another node aborted the round")                                               \
	X(UNWELL, "a probe of its service fails, and what hangs is not captured")

enum ckptd_reason {
#define X(name, text) CKPTD_REASON_##name,
	CKPTD_REASONS(X)
#undef X
};

const char *ckptd_reason_text(enum ckptd_reason reason);

/* What the cell `ckpt/<id>` says; UNKNOWN: metad could not be asked, or the answer got lost. */
enum ckptd_decision {
	CKPTD_UNKNOWN,
	CKPTD_ABSENT,
	CKPTD_UNDECIDED,
	CKPTD_COMMIT,
	CKPTD_ABORT,
};

enum ckptd_cell_op {
	CKPTD_CELL_CREATE, /* absent -> UNDECIDED */
	CKPTD_CELL_COMMIT, /* UNDECIDED -> COMMIT with the catalogues, if the facts still hold */
	CKPTD_CELL_ABORT,  /* UNDECIDED or absent -> ABORT; anyone may */
	CKPTD_CELL_READ,
};

/* gossipd's view of a node: ESTABLISH_CONNECTION_STATUS. */
enum ckptd_status {
	CKPTD_STATUS_UNKNOWN,
	CKPTD_STATUS_ALIVE,
	CKPTD_STATUS_SUSPECT,
	CKPTD_STATUS_DEAD,
};

struct ckptd_image {
	char oid[CKPTD_OID_SIZE];
	uint64_t bytes;
	uint32_t frozen_ms;
	uint32_t n_replicas;
	uint64_t replicas[CKPTD_REPLICAS_MAX];
};

#define CKPTD_MESSAGES(X)                                                                          \
	X(VOTE_REQUEST)                                                                            \
	X(VOTE_COMMIT)                                                                             \
	X(VOTE_ABORT)                                                                              \
	X(DUMP)                                                                                    \
	X(DUMPED)                                                                                  \
	X(GLOBAL_COMMIT)                                                                           \
	X(GLOBAL_ABORT)

enum ckptd_message_kind {
#define X(name) CKPTD_##name,
	CKPTD_MESSAGES(X)
#undef X
};

struct ckptd_message {
	enum ckptd_message_kind kind;
	uint64_t id;
	char ve[CKPTD_VE_SIZE];
	uint64_t ve_epoch;        /* VOTE_REQUEST */
	uint32_t copies;          /* VOTE_REQUEST: replicas that make an image durable */
	enum ckptd_reason reason; /* VOTE_ABORT, GLOBAL_ABORT */
	uint64_t last_id;         /* VOTE_ABORT as STALE: the newest id seen */
	struct ckptd_image image; /* DUMPED */
};

/* A member of a round, as the placement facts say. */
struct ckptd_place {
	char ve[CKPTD_VE_SIZE];
	uint64_t ve_epoch;
	uint64_t node;
	uint32_t copies;
};

/* A VE's part in the newest round it was asked for; the allowed moves stand in seat.c. */
enum ckptd_seat_state {
	CKPTD_SEAT_IDLE,
	CKPTD_SEAT_FREEZING, /* VOTE_REQUEST journaled; ved is freezing */
	CKPTD_SEAT_VOTED,    /* frozen, VOTE_COMMIT sent */
	CKPTD_SEAT_DUMPING,
	CKPTD_SEAT_CAPTURED, /* dump complete, thawed; image on its way to k nodes */
	CKPTD_SEAT_STORED,   /* DUMPED sent; only the outcome is missing */
	CKPTD_SEAT_REFUSED,  /* will never send DUMPED: this round cannot commit */
	CKPTD_SEAT_COMMITTED,
	CKPTD_SEAT_ABORTED,
};

const char *ckptd_seat_state_name(enum ckptd_seat_state state);

/* One journal row: the last round a VE of this node took part in. */
struct ckptd_record {
	char ve[CKPTD_VE_SIZE];
	uint64_t id;
	uint64_t ve_epoch;
	uint64_t coordinator;
	uint32_t copies;
	enum ckptd_seat_state state;
	struct ckptd_image image;
};

enum ckptd_event_kind {
	CKPTD_EV_START, /* journal, last_id: what the store held; first event of a process */
	CKPTD_EV_TIMEOUT,
	CKPTD_EV_MESSAGE,  /* node, message */
	CKPTD_EV_COORD,    /* epoch, mine: who coordinates now */
	CKPTD_EV_BEGIN,    /* places, n_places: begin a round; only while coordinator */
	CKPTD_EV_ORPHAN,   /* id: an UNDECIDED cell was found; abort it if nobody here runs it */
	CKPTD_EV_FROZEN,   /* id, ve, epoch of the VE, result; -EAGAIN: its service is unwell */
	CKPTD_EV_CAPTURED, /* id, ve, result, image.frozen_ms */
	CKPTD_EV_STORED,   /* id, ve, result, image */
	CKPTD_EV_CELL,     /* id, ve (empty: coordinator's), op, decision after it */
	CKPTD_EV_STATUS,   /* id, ve (empty: coordinator's), node, status */
};

struct ckptd_event {
	enum ckptd_event_kind kind;
	struct mono now;
	uint64_t node;
	uint64_t id;
	const char *ve;
	int result; /* 0 or negative errno */
	bool mine;
	uint64_t epoch;
	enum ckptd_cell_op op;
	enum ckptd_decision decision;
	enum ckptd_status status;
	struct ckptd_image image;
	const struct ckptd_message *message;
	const struct ckptd_place *places;
	size_t n_places;
	const struct ckptd_record *journal;
	size_t n_journal;
	uint64_t last_id;
};

enum ckptd_action_kind {
	CKPTD_AC_JOURNAL,    /* record: must be durable before the next action */
	CKPTD_AC_FORGET,     /* ve: its journal row makes room for another */
	CKPTD_AC_JOURNAL_ID, /* id: the last id given out; durable before the next action */
	CKPTD_AC_SEND,       /* node, message */
	CKPTD_AC_FREEZE,     /* id, ve, ve_epoch: lock the network and freeze; answer FROZEN */
	CKPTD_AC_DUMP,       /* id, ve, ve_epoch: only if still frozen for id; answer CAPTURED */
	CKPTD_AC_THAW,       /* id, ve, ve_epoch: if frozen for id */
	CKPTD_AC_STORE,      /* id, ve, copies: answer STORED */
	CKPTD_AC_CLEAN,      /* id, ve, image: local directory; and the object, unless kept */
	CKPTD_AC_CELL,       /* id, ve, op: answer CELL */
	CKPTD_AC_STATUS,     /* id, ve, node: answer STATUS */
	CKPTD_AC_BEGUN,      /* id: the round asked for by BEGIN */
	CKPTD_AC_COMMITTED,  /* id */
	CKPTD_AC_ABORTED,    /* id, reason, ve and node of the first to blame, if any */
	CKPTD_AC_VERDICT,    /* id, node, status: what became of a silent member; DEAD: dropped */
	CKPTD_AC_MOVED,      /* id, ve, from, to: a seat changed its state (trace) */
	CKPTD_AC_BUG,        /* text: the other side broke the protocol */
};

struct ckptd_action {
	enum ckptd_action_kind kind;
	uint64_t id;
	uint64_t node;
	char ve[CKPTD_VE_SIZE];
	uint64_t ve_epoch;
	uint32_t copies;
	bool keep; /* CLEAN: the object is in the catalogue */
	enum ckptd_cell_op op;
	enum ckptd_reason reason;
	enum ckptd_status status;
	enum ckptd_seat_state from, to;
	const char *text;
	struct ckptd_image image;
	struct ckptd_message message;
	struct ckptd_record record;
};

struct ckptd_actions {
	size_t n;
	struct ckptd_action list[CKPTD_ACTIONS_MAX];
};

/* A member of an open round with its image, for the transaction that commits. */
struct ckptd_member_view {
	const char *ve;
	uint64_t ve_epoch;
	uint64_t node;
	const struct ckptd_image *image; /* NULL until durable */
};

/* Cuts what does not fit and fills the rest with zeros. */
void ckptd_name_copy(char to[static CKPTD_VE_SIZE], const char *from);

/* 0, -EINVAL (limits) or -ENOMEM. */
int ckptd_new(struct ckptd **out, const struct ckptd_config *config);
struct ckptd *ckptd_free(struct ckptd *ckptd);
/* Appends to actions (the caller empties it); they are carried out in order. */
void ckptd_step(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
/* When to send TIMEOUT. */
struct mono ckptd_deadline(const struct ckptd *ckptd);

/* Members of an open round; number of them, 0 when there is no such round. */
size_t ckptd_round_size(const struct ckptd *ckptd, uint64_t id);
bool ckptd_round_member(
    const struct ckptd *ckptd, uint64_t id, size_t i, struct ckptd_member_view *out);
/* Does this process run the round, or sit in it? */
bool ckptd_round_open(const struct ckptd *ckptd, uint64_t id);
bool ckptd_ve_busy(const struct ckptd *ckptd, const char *ve);
/* The i-th VE of this node that has been in a round; false when there are not as many. */
struct ckptd_seat_view {
	const char *ve;
	uint64_t id;
	enum ckptd_seat_state state;
};
bool ckptd_seat_at(const struct ckptd *ckptd, size_t i, struct ckptd_seat_view *out);
/* The state of this node's seat for a VE; IDLE when it has none. */
enum ckptd_seat_state ckptd_seat(const struct ckptd *ckptd, const char *ve);

/* For tests and search: asserts the invariants, copies. */
void ckptd_check(const struct ckptd *ckptd);
void ckptd_copy(struct ckptd *to, const struct ckptd *from);
/*
 * Digests of the state, for search: cores with the same digests do the same from here on.  Left out is what only tells people
 * (reasons, whom to blame), names, which the caller knows, and what the rounds hold of a member: that is the second.  times: with
 * the times of timers; without, whether they run, which is all that matters to a core that never has more than one.
 */
uint64_t ckptd_fingerprint(const struct ckptd *ckptd, bool times);
uint64_t ckptd_fingerprint_member(const struct ckptd *ckptd, const char *ve);
/* Does it have a round that may still commit, or of which it has yet to tell the members? */
bool ckptd_may_commit(const struct ckptd *ckptd);

#endif
