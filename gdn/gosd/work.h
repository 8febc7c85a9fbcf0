/*
 * Threads for slow work beside the loop.
 *
 * A job runs in a thread of its lane and is ended in the loop's thread.  Lanes keep apart what may
 * wait for what: a local job asks other nodes and waits; what serves other nodes (quick, bulk)
 * never asks anybody.  So two nodes that put to each other with all hands cannot wait in a circle.
 */
#ifndef GDN_GOSD_WORK_H
#define GDN_GOSD_WORK_H

#include <stdbool.h>
#include <systemd/sd-event.h>

enum lane {
	LANE_LOCAL, /* whole objects for processes of this node; may ask other nodes */
	LANE_QUICK, /* short questions, from anywhere */
	LANE_BULK,  /* chunks to and from other nodes */
	LANE_COUNT,
};

struct job {
	void (*run)(struct job *job);  /* in a thread */
	void (*done)(struct job *job); /* in the loop; frees it */
	struct job *next;
};

struct work;

int work_new(struct work **out, sd_event *loop);
/* From now on work_stopping() is true: running jobs are asked to give up. */
void work_stop(struct work *work);
/* Waits for the threads; jobs that never ran are only ended.  After work_stop. */
struct work *work_free(struct work *work);
bool work_stopping(struct work *work);

/* 0, or -EBUSY when too many jobs wait in the lane. */
int work_start(struct work *work, enum lane lane, struct job *job);
/* From any thread: calls job->done in the loop, in the order of posting. */
void work_post(struct work *work, struct job *job);

#endif
