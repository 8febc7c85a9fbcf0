/*
 * One peer as this node sees it: its state, its estimator, and for each set of thresholds a gauge
 * that says how many of them are raised.  Part of the core; see fdd.h.
 */
#ifndef FDD_PEER_H
#define FDD_PEER_H

#include "fdd/arrivals.h"
#include "fdd/fdd.h"

enum peer_state {
	PEER_WAITING, /* watched, nothing heard yet */
	PEER_ALIVE,   /* heard, and below the daemon's own threshold */
	PEER_SILENT,  /* above it, or not yet calm again */
};

enum peer_verdict { PEER_FRESH, PEER_REPEATED, PEER_OLD, PEER_REFUSED };

/* How many of some thresholds are raised, and how many the application has been told of. */
struct gauge {
	size_t rank, told;
	uint32_t calm; /* calm heartbeats in a row */
	bool value;    /* the present value is owed to the application */
};

struct peer {
	uint64_t id;
	bool service;          /* not a node: no SET_PEERS names it */
	struct mono announced; /* of a service: its interval */
	bool watch, send;
	bool owed;                   /* a heartbeat is to be sent */
	enum peer_state state, told; /* told: by FDD_SUSPECT and FDD_TRUST */
	bool heard;
	uint64_t incarnation, sequence;
	struct mono last_arrival;
	struct mono
	    silent_from; /* silence counts from here: last_arrival, or later; peer_excuse() */
	struct mono first_wait; /* the prediction while nothing was heard */
	struct estimator estimator;
	uint64_t received, lost, repeated, old;
	struct arrivals arrivals; /* memory of the core */
	struct gauge own;         /* over fdd_config.suspect */
	struct gauge *gauges;     /* one for each registration slot; memory of the core */
	bool due_known;           /* what follows is so, see peer_due() in fdd.c */
	struct mono due;          /* when the next threshold of anybody is crossed */
};

const char *peer_state_name(enum peer_state state);
/* Begins to watch; history is void.  interval: what to expect until it announces one. */
void peer_begin(
    struct peer *peer, const struct fdd_config *config, struct mono interval, struct mono now);
/* Takes in a heartbeat; anything but PEER_FRESH changed only counters. */
enum peer_verdict peer_heartbeat(
    struct peer *peer, const struct fdd_heartbeat *beat, struct mono arrived);
/* We saw nothing from `from` to `now`: the silence of that time does not count. */
void peer_excuse(struct peer *peer, struct mono from, struct mono now);

struct mono peer_predicted(const struct peer *peer);
double peer_level(const struct peer *peer, struct mono now);
/* When a silence from now on reaches the level. */
struct mono peer_crossing(const struct peer *peer, double level);

/* Raises what is due at time now. */
void gauge_judge(struct gauge *gauge, const struct fdd_thresholds *thresholds,
    const struct peer *peer, struct mono now);
/* A heartbeat came when the level was `level`. */
void gauge_calm(struct gauge *gauge, const struct fdd_thresholds *thresholds, double level);
/* When the next threshold is due; MONO_NEVER when all are raised. */
struct mono gauge_deadline(
    const struct gauge *gauge, const struct fdd_thresholds *thresholds, const struct peer *peer);

/* Brings the state in line with the gauge of the daemon's own threshold. */
void peer_update(struct peer *peer);
/* NULL, or what does not hold at time now. */
const char *peer_invariant(const struct peer *peer, struct mono now);

#endif
