/*
 * The core of ved: what becomes of each virtual environment (VE) of this node, as a function of state and event.
 *
 * One VE does one thing at a time.  The slow work (start, dump, ...) is a job that the shell has done by a worker; when
 * it ends the core is not told what it meant but what was *found* (the engine's record), and goes on from there.  So a
 * worker that fails, is killed, or outlives a killed ved, leads to the same states as one that does its work.
 *
 * Epochs decide between copies of one VE on different nodes: a request of a lower epoch than the last one seen here is
 * refused, one of a higher epoch ends the present copy, silently, before anything else.
 *
 * Who freezes a VE may give his freeze a name (hold).  Then nobody else can end it by a thaw that comes late, and a dump
 * that asks for it is refused when the VE has run on since: a checkpoint of several VEs depends on that.  The name is not
 * on disk: a restarted ved knows nobody's freeze, so it dumps for none and thaws for all.
 *
 * A frozen VE has a deadline at which it is thawed, whoever froze it is alive or not.  A dump under way is not torn (criu
 * has its hands in the tasks); the deadline is kept as soon as it ends.
 *
 * A VE whose lease has run out is frozen: nobody hears it any more (fence.h), so what it computes would only be lost, or
 * surprise those that it talks to when it is heard again.  It stands until its lease is renewed, as long as that takes, and
 * nobody else freezes, thaws or dumps it.  Who froze it before keeps his freeze until he thaws it or its deadline comes.
 * When the lease ends is not the core's to keep: it comes with each look, from where the kernel has it.
 */
#ifndef VED_VE_H
#define VED_VE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mono.h"
#include "ved/names.h"

/* Names and allowed successors stand in ve.c. */
enum ve_state {
	VE_ABSENT,
	VE_RECOVERING,
	VE_STARTING,
	VE_RUNNING,
	VE_FREEZING,
	VE_FROZEN,
	VE_DUMPING,
	VE_THAWING,
	VE_STOPPING,
	VE_RESTORING,
	VE_DEAD,
	VE_STATES,
};
const char *ve_state_name(enum ve_state state);

enum ve_op { VE_START, VE_RESTORE, VE_STOP, VE_FREEZE, VE_THAW, VE_DUMP, VE_RECOVER };

struct ve_request {
	enum ve_op op;
	char name[VE_NAME];
	uint64_t epoch;
	uint64_t token;      /* the shell's, comes back with the answer; 0: nobody waits */
	char bundle[VE_OID]; /* start, restore */
	char bundle_dir[VE_PATH];
	char image_dir[VE_PATH]; /* restore, dump */
	char address[VE_ADDRESS];
	char gateway[VE_ADDRESS];
	uint64_t until_ns; /* start, restore: the lease; 0: none is needed */
	int64_t limit_ms;  /* stop: grace, below 0: silently. freeze: at most; 0: as configured */
	bool shared;       /* start, restore: its placement knows of host directories */
	bool kill;         /* dump */
	uint64_t hold;     /* freeze, thaw, dump: for whom it stands; 0: for anybody */
};

/* What the engine's record says. */
enum ve_found { FOUND_NOTHING, FOUND_HALF, FOUND_RUNNING, FOUND_FROZEN, FOUND_ENDED };

struct ve_sight {
	enum ve_found found;
	uint64_t epoch;
	struct mono thaw_by; /* of FOUND_FROZEN */
	struct mono
	    lease; /* of it and of FOUND_RUNNING: until when; MONO_NEVER: none is needed, MONO_ZERO: as last told */
	char address[VE_ADDRESS];
	char bundle[VE_OID];
};

enum ve_event_type {
	VE_EVENT_FOUND, /* ved starts: a record is there; busy: a worker of the ved before still works on it */
	VE_EVENT_REQUEST,
	VE_EVENT_JOB_DONE,
	VE_EVENT_ENDED,   /* the first process of a VE is gone */
	VE_EVENT_LEASE,   /* its lease lasts until sight.lease now */
	VE_EVENT_TIMEOUT, /* ve_table_deadline() has come */
};

struct ve_event {
	enum ve_event_type type;
	struct mono now;
	const char *name;                 /* all but REQUEST and TIMEOUT */
	bool busy;                        /* FOUND */
	const struct ve_request *request; /* REQUEST */
	int error;                        /* JOB_DONE: 0 or negative errno */
	const char *text;                 /* JOB_DONE: why */
	struct ve_sight sight;            /* FOUND, JOB_DONE */
};

enum ve_refusal {
	VE_REFUSED_BUSY,
	VE_REFUSED_STALE,
	VE_REFUSED_NOT_HERE,
	VE_REFUSED_FULL,
	VE_REFUSED_FAILED,
	VE_REFUSED_HELD
};
enum ve_thaw_reason { VE_THAW_ASKED, VE_THAW_TIMEOUT, VE_THAW_FAILED, VE_THAW_RENEWED };
enum ve_stop_reason { VE_STOP_ASKED, VE_STOP_SUPERSEDED, VE_STOP_MOVED };

enum ve_action_type {
	VE_ACTION_RUN,      /* start a worker with job; JOB_DONE is to follow */
	VE_ACTION_KILL_JOB, /* the worker took too long; JOB_DONE is to follow */
	VE_ACTION_REPLY,    /* the request of token is done */
	VE_ACTION_REFUSE,   /* it is not; refusal and text say why */
	VE_ACTION_TELL,     /* an event: see told */
};

enum ve_told {
	TOLD_STARTED,
	TOLD_RESTORED,
	TOLD_STOPPED,
	TOLD_DIED,
	TOLD_FROZEN,
	TOLD_THAWED,
	TOLD_DUMPED,
	TOLD_LAPSED, /* frozen, as its lease has run out */
	TOLD_RESUMED /* and thawed, as it is renewed */
};

struct ve_action {
	enum ve_action_type type;
	char name[VE_NAME];
	uint64_t epoch;
	const struct ve_request *job; /* RUN: borrowed until the next step */
	uint64_t token;               /* REPLY, REFUSE */
	enum ve_op op;                /* REPLY: of what */
	enum ve_state state;          /* REPLY */
	enum ve_refusal refusal;
	enum ve_told told;
	int reason;               /* TELL: ve_thaw_reason or ve_stop_reason */
	int64_t frozen_ms;        /* TELL thawed, resumed */
	char address[VE_ADDRESS]; /* TELL started, restored */
	char text[256]; /* REFUSE: short; a job's own text is longer and the shell has it */
};

enum { VE_ACTIONS_MAX = 12 };

struct ve_actions {
	unsigned count;
	struct ve_action item[VE_ACTIONS_MAX];
};

struct ve_config {
	unsigned max;          /* VEs on this node */
	int64_t max_freeze_ms; /* when the request names no time, and at most */
};

struct ve_table; /* opaque: all VEs of this node */

int ve_table_new(struct ve_table **out, const struct ve_config *config);
struct ve_table *ve_table_free(struct ve_table *table);
/* actions is emptied first. Of TIMEOUT at most one VE's matter is dealt with; ask the deadline again. */
void ve_table_step(
    struct ve_table *table, const struct ve_event *event, struct ve_actions *actions);
struct mono ve_table_deadline(const struct ve_table *table);
/* What must always hold; ends the program when it does not. For tests, after each step. */
void ve_table_check(const struct ve_table *table);

struct ve_view {
	char name[VE_NAME];
	uint64_t epoch;
	enum ve_state state;
	struct mono frozen_since;
	char address[VE_ADDRESS];
	char bundle[VE_OID];
	struct mono lease; /* ends then; MONO_NEVER: it needs none */
};
/* The i-th VE that is not absent; false when there are not as many. */
bool ve_table_view(const struct ve_table *table, unsigned i, struct ve_view *out);

#endif
