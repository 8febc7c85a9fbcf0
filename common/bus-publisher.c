/*
 * The sending half of go-back-N (Tanenbaum, Computer Networks, 3.4.2): events are numbered from 1 and kept until
 * busd says that they are in its log; at most WINDOW are on their way at a time.
 *
 * A connection that breaks loses what is in it.  That a new one stands is said by busd, with a hello; then, and
 * when busd misses a number, all that is not acknowledged is sent again.  busd drops what it has already, so
 * nothing is lost and nothing comes twice.  A timer is the last resort.
 *
 * What does not fit while busd is away is dropped from the old end: what is newer matters more.  The oldest that
 * is still kept says so (first), so busd does not wait for the others.
 */
#include "common/bus.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/buf.h"
#include "common/log.h"
#include "proto/busd.h"

#define WINDOW 256
#define KEPT_MAX 8192 /* a power of two */
#define KEPT_BYTES_MAX (8u << 20)
#define RESEND_MS 1000
#define BATCH 64
#define EMPTY_MAP "\x80"

struct kept {
	int64_t wall_ns;
	size_t size; /* of the body */
	uint8_t topic_size;
	char topic_and_body[];
};

struct bus_publisher {
	void *socket;
	struct zwatch *watch;
	sd_event_source *timer;
	struct msg_bus_header header; /* what all events share */
	/* base <= sent <= next: acknowledged before base, on their way before sent */
	uint64_t base, sent, next;
	uint64_t base_at_timer;
	struct kept *kept[KEPT_MAX];
	size_t kept_bytes;
	uint64_t lost; /* not told yet */
	struct buf packed;
	struct log_limit limit;
};

bool bus_topic_is_valid(const char *topic, size_t size)
{
	if (size < 1 || size > BUS_TOPIC_MAX)
		return false;
	for (size_t i = 0; i < size; i++) {
		char c = topic[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
			c == '-'))
			return false;
	}
	return true;
}

static struct kept **slot(struct bus_publisher *publisher, uint64_t number)
{
	return &publisher->kept[number & (KEPT_MAX - 1)];
}

static void drop_oldest(struct bus_publisher *publisher)
{
	struct kept **at = slot(publisher, publisher->base);

	publisher->kept_bytes -= (*at)->size;
	free(*at);
	*at = NULL;
	publisher->base++;
	if (publisher->sent < publisher->base)
		publisher->sent = publisher->base;
}

static int send_one(struct bus_publisher *publisher, uint64_t number)
{
	const struct kept *event = *slot(publisher, number);
	int r;

	publisher->header.number = number;
	publisher->header.wall_ns = event->wall_ns;
	publisher->header.first = number == publisher->base;
	buf_clear(&publisher->packed);
	r = msg_bus_header_pack(&publisher->header, &publisher->packed);
	if (r < 0)
		return r;
	return zsock_send(publisher->socket,
	    (struct zpart[]){{event->topic_and_body, event->topic_size},
		{publisher->packed.data, publisher->packed.size},
		{event->topic_and_body + event->topic_size, event->size}},
	    3);
}

static void arm_timer(struct bus_publisher *publisher)
{
	int enabled;

	if (publisher->sent == publisher->base ||
	    sd_event_source_get_enabled(publisher->timer, &enabled) > 0)
		return;
	publisher->base_at_timer = publisher->base;
	(void)sd_event_source_set_time_relative(publisher->timer, RESEND_MS * 1000);
	(void)sd_event_source_set_enabled(publisher->timer, SD_EVENT_ONESHOT);
}

/* Sends what the window allows.  -EAGAIN is no failure: busd's hello or acknowledgement goes on. */
static void flush(struct bus_publisher *publisher)
{
	while (publisher->sent < publisher->next && publisher->sent < publisher->base + WINDOW) {
		int r = send_one(publisher, publisher->sent);

		if (r == -EAGAIN)
			break;
		if (r < 0) {
			log_error(
			    "send event number=%" PRIu64 ": %s", publisher->sent, strerror(-r));
			break;
		}
		publisher->sent++;
	}
	arm_timer(publisher);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct bus_publisher *publisher = userdata;

	(void)source;
	(void)usec;
	if (publisher->base == publisher->base_at_timer)
		publisher->sent = publisher->base;
	flush(publisher);
	return 0;
}

static void tell_loss(struct bus_publisher *publisher)
{
	_cleanup_buf_ struct buf body = {0};

	if (!publisher->lost || publisher->next - publisher->base >= KEPT_MAX / 2)
		return;
	log_warning("events lost while busd was away count=%" PRIu64, publisher->lost);
	if (msg_bus_lost_pack(&(struct msg_bus_lost){.count = publisher->lost}, &body) == 0 &&
	    bus_publish(publisher, MSG_BUS_LOST, body.data, body.size) == 0)
		publisher->lost = 0;
}

static void take_ack(struct bus_publisher *publisher, const struct msg_bus_ack *ack)
{
	bool hello = ack->boot == 0 && ack->next == 0;

	if (!hello && ack->boot != publisher->header.boot)
		return;
	while (publisher->base < ack->next && publisher->base < publisher->next)
		drop_oldest(publisher);
	if (ack->again)
		publisher->sent = publisher->base;
	flush(publisher);
	tell_loss(publisher);
}

static void on_ready(void *userdata)
{
	struct bus_publisher *publisher = userdata;
	struct msg_bus_ack ack;
	struct mpr_error error = {"not one frame"};
	struct zframes frames;
	unsigned missed;

	for (int i = 0; i < BATCH && zsock_recv(publisher->socket, &frames) == 0; i++) {
		if (frames.count == 1 && msg_bus_ack_unpack(&ack, zframe_data(&frames, 0),
					     zframe_size(&frames, 0), &error) == 0)
			take_ack(publisher, &ack);
		else if (log_limit(&publisher->limit, mono_now(), &missed))
			log_warning("message from busd refused: %s missed=%u", error.text, missed);
		zframes_fini(&frames);
	}
}

static int open_socket(
    struct bus_publisher *publisher, struct zcontext *context, sd_event *loop, const char *run_dir)
{
	char endpoint[300];
	int r;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/busd.in", run_dir);
	r = zsock_new(&publisher->socket, context,
	    &(struct zsock_options){.type = ZMQ_DEALER, .connect = endpoint, .announce = true});
	if (r == 0)
		r = zwatch_new(&publisher->watch, loop, publisher->socket, on_ready, publisher);
	if (r == 0)
		r = sd_event_add_time_relative(
		    loop, &publisher->timer, MONO_CLOCK, RESEND_MS * 1000, 0, on_timer, publisher);
	return r < 0 ? r : sd_event_source_set_enabled(publisher->timer, SD_EVENT_OFF);
}

int bus_publisher_new(struct bus_publisher **out, struct zcontext *context, sd_event *loop,
    const char *run_dir, const char *source, const char *node)
{
	struct bus_publisher *publisher = calloc(1, sizeof(*publisher));
	int r;

	if (!publisher)
		return -ENOMEM;
	snprintf(publisher->header.source, sizeof(publisher->header.source), "%s", source);
	snprintf(publisher->header.node, sizeof(publisher->header.node), "%s", node);
	while (publisher->header.boot == 0)
		randombytes_buf(&publisher->header.boot, sizeof(publisher->header.boot));
	publisher->base = publisher->sent = publisher->next = 1;
	r = open_socket(publisher, context, loop, run_dir);
	if (r < 0) {
		bus_publisher_free(publisher);
		return r;
	}
	*out = publisher;
	return 0;
}

struct bus_publisher *bus_publisher_free(struct bus_publisher *publisher)
{
	if (!publisher)
		return NULL;
	if (publisher->timer)
		flush(publisher);
	sd_event_source_disable_unref(publisher->timer);
	zwatch_free(publisher->watch);
	zsock_free(publisher->socket);
	while (publisher->base < publisher->next)
		drop_oldest(publisher);
	buf_fini(&publisher->packed);
	free(publisher);
	return NULL;
}

static struct kept *kept_new(const char *topic, size_t topic_size, const void *body, size_t size)
{
	struct kept *event = malloc(sizeof(*event) + topic_size + size);
	struct timespec now;

	if (!event)
		return NULL;
	clock_gettime(CLOCK_REALTIME, &now);
	event->wall_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	event->topic_size = (uint8_t)topic_size;
	event->size = size;
	memcpy(event->topic_and_body, topic, topic_size);
	memcpy(event->topic_and_body + topic_size, body, size);
	return event;
}

int bus_publish(struct bus_publisher *publisher, const char *topic, const void *body, size_t size)
{
	size_t topic_size = strlen(topic);
	struct kept *event;

	if (!size) {
		body = EMPTY_MAP;
		size = 1;
	}
	if (!bus_topic_is_valid(topic, topic_size))
		return -EINVAL;
	if (size > BUS_BODY_MAX)
		return -EMSGSIZE;
	event = kept_new(topic, topic_size, body, size);
	if (!event)
		return -ENOMEM;
	while (
	    publisher->next - publisher->base == KEPT_MAX ||
	    (publisher->base < publisher->next && publisher->kept_bytes + size > KEPT_BYTES_MAX)) {
		drop_oldest(publisher);
		publisher->lost++;
	}
	*slot(publisher, publisher->next++) = event;
	publisher->kept_bytes += size;
	flush(publisher);
	return 0;
}

size_t bus_publisher_pending(const struct bus_publisher *publisher)
{
	return (size_t)(publisher->next - publisher->base);
}
