/*
 * The reliable subscriber: takes the whole stream, and whatever does not follow on the last event makes it
 * stop listening and ask busd for what is between, page by page.
 *
 * While it asks, the live stream waits in the socket's own queue (it is not read); when that overflows, there is
 * just another gap.  So a subscriber that is too slow falls back on the log, and costs busd no more than the
 * queue of one socket.
 */
#include "common/bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/rpc.h"
#include "proto/busd.h"

#define HIGH_WATER 10000
#define BATCH 256
#define PAGE 500
#define REPLAY_MS 5000
#define RETRY_MS 50
/* So many ticks from before our position: the log begins anew, with a clock set back. */
#define STALE_TICKS 3

struct bus_subscriber {
	sd_event *loop;
	void *socket;
	struct zwatch *watch; /* NULL while a replay goes on */
	struct rpc_client *busd;
	sd_event_source *retry;
	struct bus_position position; /* of the last event given */
	bool found;                   /* is position set? */
	bool replaying;
	unsigned stale_ticks;
	void (*event)(void *userdata, const struct bus_event *event);
	void (*lost)(void *userdata, uint64_t count);
	void *userdata;
	struct log_limit limit;
};

static void ask_replay(struct bus_subscriber *subscriber);

static int position_cmp(struct bus_position a, struct bus_position b)
{
	return a.epoch != b.epoch ? (a.epoch > b.epoch) - (a.epoch < b.epoch)
				  : (a.seq > b.seq) - (a.seq < b.seq);
}

static void refuse(struct bus_subscriber *subscriber, const char *why)
{
	unsigned missed;

	if (log_limit(&subscriber->limit, mono_now(), &missed))
		log_warning("message from busd refused: %s missed=%u", why, missed);
}

/* --- what an event is --- */

struct received {
	struct msg_bus_header header;
	char topic[BUS_TOPIC_MAX + 1];
	struct bus_event event;
	struct bus_position position;
};

static bool decode(struct bus_subscriber *subscriber, struct received *received, const void *topic,
    size_t topic_size, const void *header, size_t header_size)
{
	struct mpr_error error = {"topic"};

	if (!bus_topic_is_valid(topic, topic_size) ||
	    msg_bus_header_unpack(&received->header, header, header_size, &error) < 0) {
		refuse(subscriber, error.text);
		return false;
	}
	memcpy(received->topic, topic, topic_size);
	received->topic[topic_size] = '\0';
	received->position = (struct bus_position){received->header.epoch, received->header.seq};
	received->event = (struct bus_event){
	    .topic = received->topic,
	    .node = received->header.node,
	    .source = received->header.source,
	    .boot = received->header.boot,
	    .number = received->header.number,
	    .epoch = received->header.epoch,
	    .seq = received->header.seq,
	    .wall_ns = received->header.wall_ns,
	};
	return true;
}

static void give(
    struct bus_subscriber *subscriber, struct received *received, const void *body, size_t size)
{
	received->event.body = body;
	received->event.size = size;
	subscriber->position = received->position;
	subscriber->event(subscriber->userdata, &received->event);
}

static bool follows(const struct bus_subscriber *subscriber, struct bus_position position)
{
	return position.epoch == subscriber->position.epoch &&
	       position.seq == subscriber->position.seq + 1;
}

/* --- the live stream --- */

static void on_live(struct bus_subscriber *subscriber, const struct zframes *frames)
{
	struct received received;

	if (!decode(subscriber, &received, zframe_data(frames, 0), zframe_size(frames, 0),
		zframe_data(frames, 1), zframe_size(frames, 1)))
		return;
	if (!subscriber->found) {
		subscriber->found = true;
		subscriber->position =
		    (struct bus_position){received.position.epoch, received.position.seq - 1};
	}
	if (position_cmp(received.position, subscriber->position) <= 0)
		return;
	if (follows(subscriber, received.position))
		give(subscriber, &received, zframe_data(frames, 2), zframe_size(frames, 2));
	else
		ask_replay(subscriber);
}

static void on_tick(struct bus_subscriber *subscriber, const struct zframes *frames)
{
	struct msg_bus_tick tick;
	struct mpr_error error;
	struct bus_position last;

	if (msg_bus_tick_unpack(&tick, zframe_data(frames, 2), zframe_size(frames, 2), &error) <
	    0) {
		refuse(subscriber, error.text);
		return;
	}
	last = (struct bus_position){tick.epoch, tick.seq};
	if (!subscriber->found) {
		subscriber->found = true;
		subscriber->position = last;
	} else if (last.epoch < subscriber->position.epoch) {
		if (++subscriber->stale_ticks < STALE_TICKS)
			return;
		subscriber->position = (struct bus_position){0, 0};
		ask_replay(subscriber);
	} else {
		subscriber->stale_ticks = 0;
		if (position_cmp(last, subscriber->position) > 0)
			ask_replay(subscriber);
	}
}

static void on_stream(void *userdata)
{
	struct bus_subscriber *subscriber = userdata;
	struct zframes frames;

	for (int i = 0; i < BATCH && !subscriber->replaying; i++) {
		int r = zsock_recv(subscriber->socket, &frames);

		if (r < 0 && r != -EBADMSG && r != -EMSGSIZE)
			return;
		if (r < 0 || frames.count != 3)
			refuse(subscriber, "not three frames");
		else if (zframe_size(&frames, 0) == strlen(MSG_BUS_TICK) &&
			 memcmp(zframe_data(&frames, 0), MSG_BUS_TICK, strlen(MSG_BUS_TICK)) == 0)
			on_tick(subscriber, &frames);
		else
			on_live(subscriber, &frames);
		zframes_fini(&frames);
	}
}

/* --- replay --- */

static void listen_again(struct bus_subscriber *subscriber)
{
	int r;

	subscriber->replaying = false;
	if (subscriber->watch)
		return;
	r = zwatch_new(
	    &subscriber->watch, subscriber->loop, subscriber->socket, on_stream, subscriber);
	if (r < 0)
		log_error("listen to busd: %s", strerror(-r));
}

static void retry_later(struct bus_subscriber *subscriber)
{
	(void)sd_event_source_set_time_relative(subscriber->retry, RETRY_MS * 1000);
	(void)sd_event_source_set_enabled(subscriber->retry, SD_EVENT_ONESHOT);
}

/* What the log no longer holds between our position and the next one it gave. */
static void tell_gap(struct bus_subscriber *subscriber, struct bus_position next)
{
	const struct bus_position *position = &subscriber->position;

	if (position->epoch == 0 || !subscriber->lost)
		return;
	if (next.epoch == position->epoch && next.seq > position->seq + 1)
		subscriber->lost(subscriber->userdata, next.seq - position->seq - 1);
	else if (next.epoch != position->epoch && next.seq != 1)
		subscriber->lost(subscriber->userdata, 0);
}

static void on_replayed_event(struct bus_subscriber *subscriber, const struct rpc_answer *answer)
{
	struct msg_busd_event event;
	struct mpr_error error;
	struct received received;

	if (msg_busd_event_unpack(&event, answer->body, answer->size, &error) < 0) {
		refuse(subscriber, error.text);
		return;
	}
	if (!decode(subscriber, &received, event.topic, strlen(event.topic), event.header,
		event.header_size) ||
	    position_cmp(received.position, subscriber->position) <= 0)
		return;
	tell_gap(subscriber, received.position);
	give(subscriber, &received, event.body, event.body_size);
}

static void on_replay(void *userdata, const struct rpc_answer *answer)
{
	struct bus_subscriber *subscriber = userdata;
	struct msg_busd_replayed reply;
	struct mpr_error error;

	if (answer->more) {
		on_replayed_event(subscriber, answer);
		return;
	}
	subscriber->replaying = false;
	if (answer->status != RPC_OK) {
		retry_later(subscriber);
	} else if (msg_busd_replayed_unpack(&reply, answer->body, answer->size, &error) < 0) {
		refuse(subscriber, error.text);
		retry_later(subscriber);
	} else if (reply.more) {
		ask_replay(subscriber);
	} else {
		listen_again(subscriber);
	}
}

static void ask_replay(struct bus_subscriber *subscriber)
{
	struct msg_busd_replay request = {
	    .epoch = subscriber->position.epoch, .seq = subscriber->position.seq, .limit = PAGE};
	_cleanup_buf_ struct buf body = {0};
	int64_t r;

	subscriber->watch = zwatch_free(subscriber->watch);
	subscriber->replaying = true;
	r = msg_busd_replay_pack(&request, &body);
	if (r == 0)
		r = rpc_request(subscriber->busd, MSG_BUSD_REPLAY, body.data, body.size, REPLAY_MS,
		    on_replay, subscriber);
	if (r < 0)
		retry_later(subscriber);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	ask_replay(userdata);
	return 0;
}

/* --- */

static int open_all(
    struct bus_subscriber *subscriber, struct zcontext *context, const char *run_dir)
{
	char endpoint[300];
	int r;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/busd.pub", run_dir);
	r = sd_event_add_time_relative(
	    subscriber->loop, &subscriber->retry, MONO_CLOCK, 0, 0, on_retry, subscriber);
	if (r >= 0)
		r = sd_event_source_set_enabled(subscriber->retry, SD_EVENT_OFF);
	if (r >= 0)
		r = zsock_new(&subscriber->socket, context,
		    &(struct zsock_options){
			.type = ZMQ_SUB, .connect = endpoint, .high_water = HIGH_WATER});
	if (r >= 0)
		r = zsock_subscribe(subscriber->socket, "");
	if (r >= 0)
		r = rpc_client_new_local(
		    &subscriber->busd, context, subscriber->loop, run_dir, "busd");
	return r < 0 ? r : 0;
}

int bus_subscriber_new(struct bus_subscriber **out, struct zcontext *context, sd_event *loop,
    const char *run_dir, struct bus_position since,
    void (*event)(void *userdata, const struct bus_event *event),
    void (*lost)(void *userdata, uint64_t count), void *userdata)
{
	struct bus_subscriber *subscriber = calloc(1, sizeof(*subscriber));
	int r;

	if (!subscriber)
		return -ENOMEM;
	*subscriber = (struct bus_subscriber){.loop = loop,
	    .position = since,
	    .found = position_cmp(since, BUS_FROM_NOW) != 0,
	    .event = event,
	    .lost = lost,
	    .userdata = userdata};
	r = open_all(subscriber, context, run_dir);
	if (r < 0) {
		bus_subscriber_free(subscriber);
		return r;
	}
	if (subscriber->found)
		ask_replay(subscriber);
	else
		listen_again(subscriber);
	*out = subscriber;
	return 0;
}

struct bus_subscriber *bus_subscriber_free(struct bus_subscriber *subscriber)
{
	if (!subscriber)
		return NULL;
	subscriber->busd = rpc_client_free(subscriber->busd);
	sd_event_source_disable_unref(subscriber->retry);
	zwatch_free(subscriber->watch);
	zsock_free(subscriber->socket);
	free(subscriber);
	return NULL;
}

struct bus_position bus_subscriber_position(const struct bus_subscriber *subscriber)
{
	return subscriber->position;
}

bool bus_subscriber_caught_up(const struct bus_subscriber *subscriber)
{
	return subscriber->found && !subscriber->replaying && subscriber->watch;
}
