/*
 * What the files of detection share: detection.c (start, ticks, questions), registering.c (registrations at fdd),
 * streams.c.
 */
#ifndef WEBD_DETECTION_INTERNAL_H
#define WEBD_DETECTION_INTERNAL_H

#include <sys/queue.h>

#include "common/rpc-stream.h"
#include "webd/detection.h"
#include "webd/registrations.h"

#define ASK_MS 2000

TAILQ_HEAD(stream_list, stream);
TAILQ_HEAD(watch_list, watch);

struct detection {
	struct daemon *daemon;
	struct detection_options options;
	struct detection_counts counts;
	struct rpc_client *fdd, *gossipd;
	struct registry *registry;
	struct watch_list watches;
	struct stream_list streams;
	sd_event_source *tick;
	struct peers_listener listener;
};

/* Tells a registration something, and wakes its streams. */
void detection_tell(
    struct detection *detection, struct registration *registration, const char *type, json_t *data);
/* Ends it, here and at fdd.  reason: for its streams. */
void detection_end(
    struct detection *detection, struct registration *registration, const char *reason);
/* There is something to do at the next tick. */
void detection_arm(struct detection *detection);
/* NULL after a 404. */
struct registration *detection_wanted(struct detection *detection, struct exchange *exchange);

/* --- registering.c --- */

void registering_begin(void *userdata, struct exchange *exchange);
/* Gives up what fdd does not answer, finds a silent fdd, frees what has ended. */
void registering_tick(struct detection *detection, struct mono now);
/* fdd is told; the registration has ended. */
void registering_end(struct registration *registration);
void registering_peer_changed(struct detection *detection, const struct peer *peer);
void registering_free(struct detection *detection);

/* --- streams.c --- */

void streams_begin(void *userdata, struct exchange *exchange);
void streams_wake(struct detection *detection, const struct registration *registration);
void streams_tick(struct detection *detection, struct mono now);

#endif
