/*
 * The log of a node's events: a directory of segments that are appended to, read for replay, and deleted
 * from the old end when they are too many.
 *
 * An event's position is (epoch, seq), compared in this order.  seq counts up by one within an epoch, over all
 * restarts of busd.  A new epoch begins when what was published may not be what is in the files: after a
 * reboot (the page cache was lost) and after a damaged record.
 *
 * What is committed was handed to the kernel, so it survives the death of busd at any moment; it is on the
 * disk when the sync that follows within a second is done (sync.h).
 */
#ifndef BUSD_EVENTLOG_H
#define BUSD_EVENTLOG_H

#include <stddef.h>
#include <stdint.h>

#include "busd/sources.h"

struct position {
	uint64_t epoch, seq;
};

static inline int position_cmp(struct position a, struct position b)
{
	return a.epoch != b.epoch ? (a.epoch > b.epoch) - (a.epoch < b.epoch)
				  : (a.seq > b.seq) - (a.seq < b.seq);
}

/* The three frames of an event, and what go-back-N needs of it. */
struct logged_event {
	uint64_t seq;
	uint64_t boot, number;
	const char *source;
	const void *topic, *header, *body;
	size_t topic_size, header_size, body_size;
};

#define EVENTLOG_TOPIC_MAX 63
#define EVENTLOG_HEADER_MAX 512
#define EVENTLOG_BODY_MAX 32768

struct syncer;

struct eventlog_options {
	const char *directory;
	uint64_t segment_bytes;   /* begin a new file at this size */
	uint64_t total_bytes;     /* delete the oldest files above this size */
	uint8_t machine_boot[16]; /* the kernel's boot id */
	uint64_t new_epoch;       /* for a new epoch, if it is larger than the last one */
	struct syncer *syncer;    /* borrowed; NULL: nothing is synced */
};

struct eventlog_status {
	struct position last, oldest; /* oldest: the first event of the oldest file */
	uint64_t segments, bytes;
	uint64_t cut_bytes; /* torn or damaged, at the start of this process */
};

struct eventlog;

/* Opens or creates it, cuts a torn tail, and restores the sources.  0 or negative errno, told on the log. */
int eventlog_open(
    struct eventlog **out, const struct eventlog_options *options, struct sources *sources);
struct eventlog *eventlog_free(struct eventlog *log);

/* The position that the next appended event gets. */
struct position eventlog_next(const struct eventlog *log);
/* Takes an event (seq is set here) into the batch.  0, -ENOMEM, -EMSGSIZE. */
int eventlog_append(struct eventlog *log, const struct logged_event *event);
/*
 * Writes the batch, then hands each of its events to done.  Negative errno: nothing of it is in the log,
 * and the batch is empty.
 */
int eventlog_commit(struct eventlog *log,
    void (*done)(void *userdata, const struct logged_event *event), void *userdata);

/* Empties the batch without writing it. */
void eventlog_discard(struct eventlog *log);

struct eventlog_page {
	struct position reached; /* of the last event given, or as asked */
	bool more;               /* others follow */
};
/*
 * Gives up to limit events after position to event(); it returns false to stop.  Damaged records are
 * passed over with the rest of their file.
 */
int eventlog_read(struct eventlog *log, struct position after, size_t limit,
    bool (*event)(void *userdata, const struct logged_event *event), void *userdata,
    struct eventlog_page *page);

void eventlog_status(const struct eventlog *log, struct eventlog_status *status);
/* Has what was committed since the last call brought to the disk, without waiting for it. */
void eventlog_sync(struct eventlog *log);

#endif
