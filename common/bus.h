/*
 * The event stream of a node, from both ends (busd/ is the middle).
 *
 * An event is three frames: topic ("ve.restored"), header map, body map.  The publisher numbers its events
 * (source, boot, n) and keeps them until busd has acknowledged them (window 256, go-back-N); busd stamps
 * (epoch, seq), logs and publishes.  A reliable subscriber takes the whole stream and asks for a replay on a gap.
 */
#ifndef COMMON_BUS_H
#define COMMON_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "common/zsock.h"

#define BUS_TOPIC_MAX 63
#define BUS_BODY_MAX 32768

struct bus_publisher;
/* source names the daemon ("fdd").  Publishing works at once; events wait while busd is away (bounded: then the
 * oldest are dropped and counted, and the loss is told by an event bus.lost). */
int bus_publisher_new(struct bus_publisher **out, struct zcontext *context, sd_event *loop,
    const char *run_dir, const char *source, const char *node);
struct bus_publisher *bus_publisher_free(struct bus_publisher *publisher);
/* body is a packed map (msg_..._pack).  0 or negative errno: -EINVAL for a topic that is not made of a-z 0-9 . _ -,
 * -EMSGSIZE for a body above BUS_BODY_MAX. */
int bus_publish(struct bus_publisher *publisher, const char *topic, const void *body, size_t size);
/* Events not yet acknowledged by busd. */
size_t bus_publisher_pending(const struct bus_publisher *publisher);
/* Is it 1 to BUS_TOPIC_MAX of a-z 0-9 . _ -? */
bool bus_topic_is_valid(const char *topic, size_t size);

struct bus_event {
	const char *topic;
	const char *node, *source; /* who told it */
	uint64_t boot, number;     /* the source's own count */
	uint64_t epoch, seq;       /* busd's stamp */
	int64_t wall_ns;           /* when it was told, CLOCK_REALTIME of its node; for people */
	const void *body;
	size_t size;
};

struct bus_position {
	uint64_t epoch,
	    seq; /* the last event seen; {0, 0}: from the oldest kept, as a late joiner does */
};
#define BUS_FROM_NOW ((struct bus_position){UINT64_MAX, UINT64_MAX})

struct bus_subscriber;
/* Calls event() for each event once and in order, from the one after since on; lost() when events are no longer
 * in the log (count may be 0 when unknown).  Neither may free the subscriber. */
int bus_subscriber_new(struct bus_subscriber **out, struct zcontext *context, sd_event *loop,
    const char *run_dir, struct bus_position since,
    void (*event)(void *userdata, const struct bus_event *event),
    void (*lost)(void *userdata, uint64_t count), void *userdata);
struct bus_subscriber *bus_subscriber_free(struct bus_subscriber *subscriber);
/* Of the last event given, to go on from there later; BUS_FROM_NOW before the stream was found. */
struct bus_position bus_subscriber_position(const struct bus_subscriber *subscriber);
/* Was all that busd had when it last spoke given? */
bool bus_subscriber_caught_up(const struct bus_subscriber *subscriber);

#endif
