/*
 * When each VE is to be checkpointed next: its interval after the last begin, never in bursts.  A
 * VE's first checkpoint under an epoch comes one interval after it was first seen under it.
 *
 * It also remembers of each VE what became of its rounds since the last one that committed, for whoever asks why there is no
 * newer checkpoint.
 *
 * A set of VEs is one thing to the schedule: it is due when the first of its members is, at the shortest of their intervals,
 * and it is captured whole or, while one of them does not run, not at all.  A checkpoint of some of its members would be one
 * that the set cannot go back to.
 */
#ifndef CKPTD_SCHEDULE_H
#define CKPTD_SCHEDULE_H

#include "ckptd/ckptd.h"

#define SCHEDULE_MAX 256
#define SCHEDULE_SHORTEST_MS 1000

/* What a checkpoint of a VE costs: how long it stands still, and how long it takes until it counts.  0: not known. */
struct schedule_cost {
	uint32_t stood_ms, took_ms;
};

/* Rounds in a row that came to nothing: the last of them. */
struct schedule_failure {
	uint32_t rounds; /* 0: none did */
	struct mono first, last;
	uint64_t id; /* 0: it could not even begin */
	enum ckptd_reason reason;
	char at[CKPTD_VE_SIZE]; /* the member it failed at; empty: none */
	uint64_t node;          /* its node; 0: none */
};

/* A VE as its placement says. */
struct schedule_ve {
	struct ckptd_place place;
	char set[CKPTD_VE_SIZE]; /* that it belongs to; empty: it stands alone */
	uint32_t interval_ms;    /* 0: only on request; adaptive: until its cost is known */
	bool adaptive;
	uint32_t share;             /* adaptive: thousandths of the time for which it may stand */
	uint32_t loss_ms;           /* adaptive: what a failure may cost on average */
	uint32_t keep, keep_hourly; /* checkpoints; 0: as configured */
	struct schedule_cost cost;  /* as learned */
	bool eligible;              /* it is to run, on a node that is not known to be dead */
	struct mono due;
	bool seen; /* used by schedule_update */
	struct schedule_failure failure;
};

struct schedule {
	size_t n;
	struct schedule_ve ves[SCHEDULE_MAX];
};

/* Takes over what was read: keeps the due times of VEs that are still there under their epoch. */
void schedule_update(
    struct schedule *schedule, const struct schedule_ve *ves, size_t n, struct mono now);
/* The next VE that is due, and its following time, which is that of all its set; NULL when there is none. */
const struct schedule_ve *schedule_take(struct schedule *schedule, struct mono now);
const struct schedule_ve *schedule_find(const struct schedule *schedule, const char *ve);
/*
 * Adds to places those of what a name means: a VE with all of its set, or a set.  0; -ENOENT: there is neither; -E2BIG: they
 * are more than max; -EAGAIN: *idle, one of them, does not run.
 */
int schedule_places(const struct schedule *schedule, const char *name, struct ckptd_place *places,
    size_t *n, size_t max, const char **idle);
/* What became of a round of this VE; of `failed` rounds and times are filled in. */
void schedule_failed(struct schedule *schedule, const char *ve,
    const struct schedule_failure *failed, struct mono now);
void schedule_committed(struct schedule *schedule, const char *ve);
/*
 * The interval of an adaptive VE.  Who writes more stands longer for each checkpoint; so that it stands for no more than its share of the
 * time, the interval grows with that.  A failure costs half an interval on average, and the time until the checkpoint before counted; the
 * interval stays below what is accepted of that, also when the share is then overrun: a loss cannot be made good.  At least a second.
 *
 * Rejected: Young's and Daly's interval, the square root of cost times time between failures, which minimizes work done twice:
 * here nobody does it again, and nobody knows the time between failures of a service's node.
 */
uint32_t schedule_adapt(const struct schedule_cost *cost, uint32_t share, uint32_t loss_ms);
/* A checkpoint was committed and has cost this; costs are smoothed. */
void schedule_learn(struct schedule *schedule, const char *ve, struct schedule_cost cost);
struct mono schedule_deadline(const struct schedule *schedule);

#endif
