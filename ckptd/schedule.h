/*
 * When each VE is to be checkpointed next: its interval after the last begin, never in bursts.  A
 * VE's first checkpoint under an epoch comes one interval after it was first seen under it.
 */
#ifndef CKPTD_SCHEDULE_H
#define CKPTD_SCHEDULE_H

#include "ckptd/ckptd.h"

#define SCHEDULE_MAX 256

/* A VE as its placement says. */
struct schedule_ve {
	struct ckptd_place place;
	uint32_t interval_ms; /* 0: only on request */
	bool eligible;        /* it is to run, on a node that is not known to be dead */
	struct mono due;
	bool seen; /* used by schedule_update */
};

struct schedule {
	size_t n;
	struct schedule_ve ves[SCHEDULE_MAX];
};

/* Takes over what was read: keeps the due times of VEs that are still there under their epoch. */
void schedule_update(
    struct schedule *schedule, const struct schedule_ve *ves, size_t n, struct mono now);
/* The next VE that is due, and its following time; NULL when there is none. */
const struct schedule_ve *schedule_take(struct schedule *schedule, struct mono now);
const struct schedule_ve *schedule_find(const struct schedule *schedule, const char *ve);
struct mono schedule_deadline(const struct schedule *schedule);

#endif
