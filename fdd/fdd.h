/*
 * fdd's core: the accrual failure detector of "Depsys", section 4, as a function of state and
 * event.  It turns the heartbeats of the watched peers into suspicion levels (formula 4.1) and
 * tells each application that registered when a level crosses one of that application's own
 * thresholds.  It decides nothing and acts on nothing.
 *
 * A service is watched in the same way: who probes it hands over each success as a heartbeat.  Its
 * level says that it does not answer, whatever its node does.
 *
 * It reads no clock: each event carries its time, and fdd_deadline() names the moment at which
 * TIMEOUT is wanted.  Levels are functions of time, so the moment of each crossing is computed and
 * nothing is polled.  After a step the deadline may already be due (the actions did not fit, or
 * several things fell on one moment): send TIMEOUT until it is not.
 *
 * The order at one wake-up of the shell: read the socket empty (HEARTBEAT each, with the kernel's
 * time of arrival), then TIMEOUT while due.  A TIMEOUT that comes much too late means that this
 * process itself stood still; the core then answers with FDD_DRAIN and judges nobody until DRAINED.
 */
#ifndef FDD_FDD_H
#define FDD_FDD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/mono.h"
#include "fdd/estimator.h"

enum {
	FDD_THRESHOLDS_MAX = 4, /* thresholds of one registration */
	FDD_ACTIONS_MAX = 64,   /* actions of one step */
	FDD_LHM_MAX = 8,        /* see fdd_lhm() */
};

/* Intervals that a heartbeat may announce and a configuration may ask for. */
#define FDD_INTERVAL_MIN (mono_ms(10))
#define FDD_INTERVAL_MAX (mono_ms(60000))
/* Limits of what a registration may ask for. */
#define FDD_PERIOD_MIN (mono_ms(100))
#define FDD_PERIOD_MAX (mono_ms(3600000))
#define FDD_LEASE_MIN (mono_ms(100))
#define FDD_LEASE_MAX (mono_ms(86400000))

/*
 * When a level counts as raised and as calm again.  A heartbeat resets the level to 0, so one
 * lucky datagram would end each alarm; therefore an alarm ends only after `beats` further
 * heartbeats, each of which came while the level was at most `clear`.  beats = 0: the first
 * heartbeat ends it.
 */
struct fdd_thresholds {
	size_t count;
	double raise[FDD_THRESHOLDS_MAX]; /* ascending, each in (0, 1) */
	double clear;                     /* in [0, raise[0]) */
	uint32_t beats;
};

struct fdd_config {
	uint64_t self;        /* own node id */
	struct mono interval; /* D of the own heartbeats */
	struct mono stall;    /* a step this late means that we stood still */
	struct estimator_config estimator;
	struct fdd_thresholds suspect; /* first threshold: FDD_SUSPECT and FDD_TRUST */
	size_t peers_max;
	size_t services_max;
	size_t registrations_max;
	size_t arrivals_max; /* arrivals kept of each peer; 0: none */
};

/* One heartbeat as it crosses the network. */
struct fdd_heartbeat {
	uint64_t incarnation; /* of the sending process; see fdd_incarnation() */
	uint64_t sequence;    /* rises by one each interval */
	struct mono interval; /* D: when to expect the next one */
};

/* What is to be done with one node; SET_PEERS hands over the whole list. */
struct fdd_peer_role {
	uint64_t id;
	bool watch; /* we observe it */
	bool send;  /* it observes us */
};

/*
 * An application's wish to be told: of crossings, of values each period, or of both.  peer = 0: every
 * watched node, also later ones; a service is named by its id.
 */
struct fdd_registration {
	uint64_t id;
	uint64_t peer;
	struct fdd_thresholds thresholds; /* count 0: values only */
	struct mono period;               /* FDD_VALUE of each peer so often; 0: never */
	struct mono lease;                /* gone so long after the last RENEW; 0: stays */
};

enum fdd_event_type {
	FDD_START,         /* first of all: the process is new */
	FDD_TIMEOUT,       /* the deadline has come */
	FDD_DRAINED,       /* answer to FDD_DRAIN: what the socket held has been handed over */
	FDD_HEARTBEAT,     /* an authentic heartbeat came in */
	FDD_SET_PEERS,     /* replaces the list of peers; those that stay keep their history */
	FDD_WATCH_SERVICE, /* its successes come as HEARTBEAT from its id; again: nothing, if the
			    * interval is the same */
	FDD_DROP_SERVICE,
	FDD_REGISTER, /* replaces a registration of the same id */
	FDD_UNREGISTER,
	FDD_RENEW, /* the lease of .registration_id begins anew */
	FDD_EVENT_TYPES,
};

struct fdd_event {
	enum fdd_event_type type;
	struct mono now;
	union {
		struct {
			uint64_t stored_incarnation; /* what FDD_PERSIST last stored, or 0 */
			uint64_t wall_s;             /* wall clock, seconds since 1970 */
		} start;
		struct {
			uint64_t from;
			struct mono arrived; /* kernel's time of arrival, <= now */
			struct fdd_heartbeat beat;
		} heartbeat;
		struct {
			const struct fdd_peer_role *list; /* read during the step only */
			size_t count;                     /* beyond peers_max: left out */
		} peers;
		struct {
			uint64_t id;
			struct mono interval; /* between two probes */
		} service;
		struct fdd_registration registration;
		uint64_t registration_id;
	};
};

enum fdd_action_type {
	FDD_PERSIST,        /* store .incarnation durably before any later action */
	FDD_SEND_HEARTBEAT, /* .send.beat to .send.to */
	FDD_LEVEL,          /* tell .level.registration of one crossing */
	FDD_VALUE,          /* tell it the present value; .threshold and .raised mean nothing */
	FDD_EXPIRED,        /* the lease of .registration ran out; it is gone */
	FDD_SUSPECT,        /* .level: crossed the daemon's own threshold */
	FDD_TRUST,
	FDD_STALLED, /* we stood still for .stalled */
	FDD_DRAIN,   /* read the socket empty, then send DRAINED */
};

struct fdd_level {
	uint64_t registration; /* 0 in FDD_SUSPECT and FDD_TRUST */
	uint64_t peer;
	size_t threshold;      /* which of its thresholds */
	bool raised;           /* crossed upwards, or calm again */
	bool heard;            /* false: never heard of since it is watched */
	double level;          /* at the moment of the step */
	uint64_t incarnation;  /* last one heard, 0 if none */
	struct mono elapsed;   /* since the last heartbeat */
	struct mono predicted; /* t_pred of formula 4.1 */
};

struct fdd_action {
	enum fdd_action_type type;
	union {
		uint64_t incarnation;
		struct {
			uint64_t to;
			struct fdd_heartbeat beat;
		} send;
		struct fdd_level level;
		uint64_t registration;
		struct mono stalled;
	};
};

/* Filled by fdd_step(), to be carried out in order. */
struct fdd_actions {
	size_t count;
	struct fdd_action list[FDD_ACTIONS_MAX];
};

enum fdd_answer {
	FDD_OK,
	FDD_REFUSED, /* the event held an impossible value, or a table is full */
};

/* What is known of one watched peer; for `fdd.ls` and for tests. */
struct fdd_status {
	uint64_t id;
	bool service; /* not a node */
	bool watch, send, heard;
	const char *state; /* waiting, alive, silent */
	double level;
	uint64_t incarnation, sequence;
	struct mono last_arrival, elapsed, predicted;
	struct estimator_numbers numbers;
	uint64_t received, lost, repeated, old;
};

/* One arrival of a peer as it was taken in, or a time in which it was not judged (sequence 0): we stood
 * still, or woke too late for an alarm that was over then. */
struct fdd_arrival {
	struct mono at;   /* kernel's time of arrival; end of the stall */
	struct mono from; /* beginning of the stall */
	uint64_t incarnation, sequence;
	struct mono interval;
};

/* What is kept of one peer's arrivals. */
struct fdd_arrival_log {
	struct mono since; /* the peer is watched from here on */
	size_t count;
	uint64_t dropped; /* older ones that made room */
};

struct fdd_counters {
	uint64_t sent, received;
	uint64_t repeated;  /* duplicate or overtaken heartbeats */
	uint64_t old;       /* of an incarnation that has a successor */
	uint64_t unwatched; /* of a peer that is not watched */
	uint64_t refused;   /* impossible interval, sequence or incarnation */
	uint64_t stalls;
	uint64_t notices; /* crossings told */
	uint64_t values;  /* periodic values told */
	uint64_t expired; /* registrations whose lease ran out */
};

struct fdd;

/* Makes a core; -EINVAL on an impossible configuration, -ENOMEM.  The seed sets the phase of the
 * own heartbeats. */
int fdd_new(struct fdd **out, const struct fdd_config *config, uint64_t seed);
struct fdd *fdd_free(struct fdd *fdd);

/* Clears *actions and fills it.  Times must not run backwards; one that does counts as the last. */
enum fdd_answer fdd_step(
    struct fdd *fdd, const struct fdd_event *event, struct fdd_actions *actions);
/* When TIMEOUT is due; MONO_NEVER before START. */
struct mono fdd_deadline(const struct fdd *fdd);

/* The n-th peer, nodes and services as they come, at time now; false behind the last. */
bool fdd_status(const struct fdd *fdd, size_t n, struct mono now, struct fdd_status *status);
/* The same by node id. */
bool fdd_find(const struct fdd *fdd, uint64_t peer, struct mono now, struct fdd_status *status);
/* The log of a watched peer; false when there is none. */
bool fdd_arrival_log(const struct fdd *fdd, uint64_t peer, struct fdd_arrival_log *log);
/* Its n-th oldest entry; NULL behind the last.  Borrowed until the next step. */
const struct fdd_arrival *fdd_arrival(const struct fdd *fdd, uint64_t peer, size_t n);
const struct fdd_counters *fdd_counters(const struct fdd *fdd);
uint64_t fdd_own_incarnation(const struct fdd *fdd);
/*
 * Local health multiplier, after Lifeguard (Dadgar, Phillips, Currey, 2018): 0 while this process is
 * well, one more for each own stall up to FDD_LHM_MAX, one less for each twenty own intervals without.
 * Who acts on levels may wait (1 + lhm) times as long.
 */
unsigned fdd_lhm(const struct fdd *fdd);

/* The incarnation after `stored`: wall-clock seconds << 24, or stored + 1 where the clock lags. */
uint64_t fdd_incarnation(uint64_t stored, uint64_t wall_s);
/* NULL, or what does not hold.  For tests and simulation, after each step. */
const char *fdd_invariant(const struct fdd *fdd);
bool fdd_thresholds_valid(const struct fdd_thresholds *thresholds);

#endif
