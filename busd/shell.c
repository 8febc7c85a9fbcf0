/*
 * One turn: take what publishers sent (a bounded batch), write it to the log with one call, publish it, and
 * acknowledge it.  The order is the promise: who was acknowledged, or saw an event, can find it in the log,
 * whenever busd is killed.
 *
 * A subscriber that does not read fills its own queue (HIGH_WATER events), then ZeroMQ drops for it; it sees the
 * gap and asks for a replay.  Nothing here grows with it.
 */
#include "busd/shell.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "busd/eventlog.h"
#include "busd/syncer.h"
#include "proto/busd.h"

#define SOURCES_MAX 4096
#define BATCH 512
#define HIGH_WATER 10000
#define TICK_MS 1000
#define REPLAY_BYTES ((size_t)1 << 20)
#define MAX_MESSAGE ((size_t)EVENTLOG_BODY_MAX + 4096)

/* One place where events go out: processes of this node, or other nodes. */
struct outlet {
	struct shell *shell;
	void *socket;
	struct zwatch *watch;
};

struct shell {
	struct daemon *daemon;
	struct sources *sources;
	struct syncer *syncer;
	struct eventlog *log;
	void *in;
	struct zwatch *in_watch;
	struct outlet local, remote;
	sd_event_source *tick;
	struct buf packed;
	bool batch_failed;
	struct {
		uint64_t events, repeated, gaps, refused, replayed, subscriptions, write_failures,
		    cut_bytes;
	} count;
	struct daemon_stat stats[9];
	struct log_limit refused_limit, write_limit;
};

static void refuse(struct shell *shell, const char *what, const char *why)
{
	unsigned missed;

	shell->count.refused++;
	if (log_limit(&shell->refused_limit, mono_now(), &missed))
		log_warning("%s refused: %s missed=%u", what, why, missed);
}

/* --- out: the stream --- */

static void publish_to(const struct outlet *outlet, const struct zpart parts[3])
{
	int r = zsock_send(outlet->socket, parts, 3);

	if (r < 0)
		log_error("publish: %s", strerror(-r));
}

static void publish(void *userdata, const struct logged_event *event)
{
	struct shell *shell = userdata;
	const struct zpart parts[3] = {{event->topic, event->topic_size},
	    {event->header, event->header_size}, {event->body, event->body_size}};

	shell->count.events++;
	publish_to(&shell->local, parts);
	publish_to(&shell->remote, parts);
}

static void send_tick(struct shell *shell, const struct outlet *outlet)
{
	_cleanup_buf_ struct buf header = {0}, body = {0};
	struct eventlog_status status;
	struct timespec now;
	struct msg_bus_header stamp = {.boot = shell->daemon->boot, .source = "busd"};

	eventlog_status(shell->log, &status);
	clock_gettime(CLOCK_REALTIME, &now);
	stamp.wall_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	stamp.epoch = status.last.epoch;
	snprintf(stamp.node, sizeof(stamp.node), "%s", shell->daemon->node.name);
	if (msg_bus_header_pack(&stamp, &header) == 0 &&
	    msg_bus_tick_pack(&(struct msg_bus_tick){status.last.epoch, status.last.seq}, &body) ==
		0)
		publish_to(outlet, (struct zpart[]){{MSG_BUS_TICK, strlen(MSG_BUS_TICK)},
				       {header.data, header.size}, {body.data, body.size}});
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shell *shell = userdata;

	(void)usec;
	send_tick(shell, &shell->local);
	send_tick(shell, &shell->remote);
	eventlog_sync(shell->log);
	(void)sd_event_source_set_time_relative(source, TICK_MS * 1000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* Who comes is told at once how far the stream is. */
static void on_subscription(void *userdata)
{
	struct outlet *outlet = userdata;
	struct shell *shell = outlet->shell;
	struct zframes frames;
	bool joined = false;

	for (int i = 0; i < BATCH; i++) {
		int r = zsock_recv(outlet->socket, &frames);

		if (r < 0 && r != -EBADMSG && r != -EMSGSIZE)
			break;
		if (r < 0 || frames.count != 1 || zframe_size(&frames, 0) < 1 ||
		    *(const uint8_t *)zframe_data(&frames, 0) > 1) {
			refuse(shell, "subscription", "not one frame that begins with 0 or 1");
		} else if (*(const uint8_t *)zframe_data(&frames, 0) == 1) {
			shell->count.subscriptions++;
			joined = true;
		}
		zframes_fini(&frames);
	}
	if (joined)
		send_tick(shell, outlet);
}

/* --- in: what publishers send --- */

static void send_ack(
    struct shell *shell, const struct source_route *route, const struct msg_bus_ack *ack)
{
	int r;

	buf_clear(&shell->packed);
	if (msg_bus_ack_pack(ack, &shell->packed) < 0)
		return;
	r = zsock_send(shell->in,
	    (struct zpart[]){{route->id, route->size}, {shell->packed.data, shell->packed.size}},
	    2);
	if (r < 0 && r != -EHOSTUNREACH)
		log_debug("acknowledge: %s", strerror(-r));
}

static bool take_route(struct source_route *route, const struct zframes *frames)
{
	size_t size = zframe_size(frames, 0);

	if (size > sizeof(route->id))
		return false;
	route->size = (uint8_t)size;
	memcpy(route->id, zframe_data(frames, 0), size);
	return true;
}

/* A body is one map with string keys. */
static int check_body(const void *data, size_t size, struct mpr_error *error)
{
	struct mpr reader;
	uint32_t entries, length;
	const char *key;
	int r;

	mpr_init(&reader, data, size, error);
	r = mpr_map(&reader, &entries);
	while (r == 0 && entries-- > 0) {
		r = mpr_str(&reader, &key, &length);
		if (r == 0)
			r = mpr_skip(&reader);
	}
	return r < 0 ? r : mpr_end(&reader);
}

static int check_event(
    const struct zframes *frames, struct msg_bus_header *header, struct mpr_error *error)
{
	struct mpr none = {.error = error};
	int r;

	if (!bus_topic_is_valid(zframe_data(frames, 1), zframe_size(frames, 1)))
		return mpr_fail(&none, "topic");
	if (zframe_size(frames, 3) > EVENTLOG_BODY_MAX)
		return mpr_fail(&none, "body of %zu bytes", zframe_size(frames, 3));
	r = msg_bus_header_unpack(header, zframe_data(frames, 2), zframe_size(frames, 2), error);
	if (r < 0)
		return r;
	if (!header->source[0] || header->boot == 0 || header->number == 0 ||
	    header->number >= UINT64_MAX / 2)
		return mpr_fail(&none, "bus.header: source, boot or number");
	return check_body(zframe_data(frames, 3), zframe_size(frames, 3), error);
}

/* Stamps the event and takes it into the batch. */
static int append(struct shell *shell, const struct zframes *frames, struct msg_bus_header *header)
{
	struct position position = eventlog_next(shell->log);
	int r;

	header->epoch = position.epoch;
	header->seq = position.seq;
	header->first = false;
	snprintf(header->node, sizeof(header->node), "%s", shell->daemon->node.name);
	buf_clear(&shell->packed);
	r = msg_bus_header_pack(header, &shell->packed);
	if (r < 0)
		return r;
	return eventlog_append(shell->log, &(struct logged_event){
					       .boot = header->boot,
					       .number = header->number,
					       .source = header->source,
					       .topic = zframe_data(frames, 1),
					       .topic_size = zframe_size(frames, 1),
					       .header = shell->packed.data,
					       .header_size = shell->packed.size,
					       .body = zframe_data(frames, 3),
					       .body_size = zframe_size(frames, 3),
					   });
}

static void take_event(
    struct shell *shell, const struct zframes *frames, const struct source_route *route)
{
	struct msg_bus_header header;
	struct mpr_error error;
	enum source_verdict verdict;

	if (check_event(frames, &header, &error) < 0) {
		refuse(shell, "event", error.text);
		return;
	}
	if (sources_offer(shell->sources, header.source, header.boot, header.number, header.first,
		route, &verdict) < 0) {
		shell->batch_failed = true;
		return;
	}
	switch (verdict) {
	case SOURCE_NEXT:
		shell->batch_failed |= append(shell, frames, &header) < 0;
		break;
	case SOURCE_REPEATED:
		shell->count.repeated++;
		break;
	case SOURCE_GAP:
		shell->count.gaps++;
		break;
	}
}

static void take_message(struct shell *shell, const struct zframes *frames)
{
	struct source_route route;

	if (!take_route(&route, frames))
		refuse(shell, "message", "routing id too long");
	else if (frames->count == 2 && zframe_size(frames, 1) == 0)
		send_ack(shell, &route, &(struct msg_bus_ack){.again = true}); /* hello */
	else if (frames->count == 4)
		take_event(shell, frames, &route);
	else
		refuse(shell, "message", "not three frames");
}

static void end_batch(struct shell *shell)
{
	unsigned missed;
	int r = -ENOMEM;

	if (shell->batch_failed)
		eventlog_discard(shell->log);
	else
		r = eventlog_commit(shell->log, publish, shell);
	shell->batch_failed = false;
	if (r == 0) {
		sources_commit(shell->sources);
	} else {
		/* Nobody is answered, so the publishers keep their events and try again. */
		sources_roll_back(shell->sources);
		shell->count.write_failures++;
		if (log_limit(&shell->write_limit, mono_now(), &missed))
			log_error("write the log: %s missed=%u", strerror(-r), missed);
	}
	for (struct source *source; (source = sources_take_answer(shell->sources));) {
		if (r == 0)
			send_ack(shell, &source->route,
			    &(struct msg_bus_ack){.boot = source->boot,
				.next = source->next,
				.again = source->again});
		source->again = false;
	}
}

static void on_in(void *userdata)
{
	struct shell *shell = userdata;
	struct zframes frames;

	for (int i = 0; i < BATCH; i++) {
		int r = zsock_recv(shell->in, &frames);

		if (r == -EBADMSG || r == -EMSGSIZE)
			refuse(shell, "message",
			    r == -EMSGSIZE ? "frame too long" : "too many frames");
		else if (r < 0)
			break;
		else
			take_message(shell, &frames);
		zframes_fini(&frames);
	}
	end_batch(shell);
}

/* --- requests --- */

struct replay {
	struct shell *shell;
	struct rpc_call *call;
	size_t bytes;
};

static bool replay_event(void *userdata, const struct logged_event *event)
{
	struct replay *replay = userdata;
	struct buf *packed = &replay->shell->packed;
	struct msg_busd_event notice = {.header = event->header,
	    .header_size = (uint32_t)event->header_size,
	    .body = event->body,
	    .body_size = (uint32_t)event->body_size};

	memcpy(notice.topic, event->topic, event->topic_size);
	notice.topic[event->topic_size] = '\0';
	buf_clear(packed);
	if (replay->bytes > REPLAY_BYTES || msg_busd_event_pack(&notice, packed) < 0 ||
	    !rpc_notice(replay->call, MSG_BUSD_EVENT, packed->data, packed->size))
		return false;
	replay->bytes += packed->size;
	replay->shell->count.replayed++;
	return true;
}

static void on_replay(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct replay replay = {.shell = shell, .call = call};
	struct msg_busd_replay request;
	struct eventlog_page page;
	int r;

	if (rpc_unpack(call, &request, msg_busd_replay_unpack, body, size) < 0)
		return;
	r = eventlog_read(shell->log, (struct position){request.epoch, request.seq}, request.limit,
	    replay_event, &replay, &page);
	if (r < 0) {
		rpc_fail(call, RPC_FAILED, "read the log: %s", strerror(-r));
		return;
	}
	buf_clear(&shell->packed);
	msg_busd_replayed_pack(
	    &(struct msg_busd_replayed){page.reached.epoch, page.reached.seq, page.more},
	    &shell->packed);
	rpc_reply(call, MSG_BUSD_REPLAYED, shell->packed.data, shell->packed.size);
}

static void on_status(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct eventlog_status status;

	(void)body;
	(void)size;
	eventlog_status(shell->log, &status);
	buf_clear(&shell->packed);
	msg_busd_status_reply_pack(
	    &(struct msg_busd_status_reply){
		.epoch = status.last.epoch,
		.seq = status.last.seq,
		.oldest_epoch = status.oldest.epoch,
		.oldest_seq = status.oldest.seq,
		.segments = status.segments,
		.bytes = status.bytes,
		.sources = sources_count(shell->sources),
	    },
	    &shell->packed);
	rpc_reply(call, MSG_BUSD_STATUS_REPLY, shell->packed.data, shell->packed.size);
}

static const struct rpc_method methods[] = {
    {MSG_BUSD_REPLAY, on_replay, false},
    {MSG_BUSD_STATUS, on_status, false},
    {0},
};

/* --- start and end --- */

/* The kernel's random boot id: the page cache is as old as it. */
static int read_machine_boot(uint8_t id[16])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	char text[64] = "";
	size_t digits = 0;

	if (!file)
		return -errno;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	memset(id, 0, 16);
	for (const char *at = text; *at && digits < 32; at++) {
		const char *digit = strchr("0123456789abcdef", *at);

		if (digit && *at) {
			int value = (int)(digit - "0123456789abcdef");

			id[digits / 2] = (uint8_t)(id[digits / 2] << 4 | value);
			digits++;
		}
	}
	return digits == 32 ? 0 : -EINVAL;
}

static int open_log(struct shell *shell, const struct busd_settings *settings)
{
	char directory[512];
	struct eventlog_options options = {.directory = directory,
	    .segment_bytes = (uint64_t)settings->segment_mb << 20,
	    .total_bytes = (uint64_t)settings->log_mb << 20};
	struct eventlog_status status;
	struct timespec now;
	int r;

	snprintf(directory, sizeof(directory), "%s/busd", shell->daemon->node.state_dir);
	clock_gettime(CLOCK_REALTIME, &now);
	options.new_epoch = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	r = read_machine_boot(options.machine_boot);
	if (r < 0) {
		log_error("read the kernel's boot id: %s", strerror(-r));
		return r;
	}
	r = syncer_new(&shell->syncer);
	if (r == 0)
		r = sources_new(&shell->sources, SOURCES_MAX);
	if (r < 0)
		return r;
	options.syncer = shell->syncer;
	r = eventlog_open(&shell->log, &options, shell->sources);
	if (r < 0)
		return r;
	eventlog_status(shell->log, &status);
	shell->count.cut_bytes = status.cut_bytes;
	log_info("log epoch=%" PRIu64 " seq=%" PRIu64 " files=%" PRIu64 " bytes=%" PRIu64,
	    status.last.epoch, status.last.seq, status.segments, status.bytes);
	return 0;
}

static int bind_at(struct shell *shell, void **socket, struct zwatch **watch, int type,
    const char *endpoint, void (*ready)(void *userdata), void *userdata)
{
	const struct node_config *node = &shell->daemon->node;
	int r = zsock_new(socket, shell->daemon->zmq,
	    &(struct zsock_options){.type = type,
		.bind = endpoint,
		.group = *node->group ? node->group : NULL,
		.max_message = MAX_MESSAGE,
		.high_water = type == ZMQ_XPUB ? HIGH_WATER : 0});

	if (r < 0) {
		log_error("bind %s: %s", endpoint, strerror(-r));
		return r;
	}
	return zwatch_new(watch, shell->daemon->loop, *socket, ready, userdata);
}

static int open_outlet(struct shell *shell, struct outlet *outlet, const char *endpoint)
{
	outlet->shell = shell;
	return bind_at(
	    shell, &outlet->socket, &outlet->watch, ZMQ_XPUB, endpoint, on_subscription, outlet);
}

static int open_sockets(struct shell *shell)
{
	const struct node_config *node = &shell->daemon->node;
	char endpoint[300];
	int r;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/busd.pub", node->run_dir);
	r = open_outlet(shell, &shell->local, endpoint);
	zsock_tcp_endpoint(
	    endpoint, sizeof(endpoint), node->address, (unsigned)(node->port + PORT_EVENTS));
	if (r == 0)
		r = open_outlet(shell, &shell->remote, endpoint);
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/busd.in", node->run_dir);
	if (r == 0)
		r = bind_at(
		    shell, &shell->in, &shell->in_watch, ZMQ_ROUTER, endpoint, on_in, shell);
	return r;
}

static void list_stats(struct shell *shell)
{
	const struct daemon_stat stats[] = {
	    {"events", &shell->count.events, "events logged and published"},
	    {"events_repeated", &shell->count.repeated, "events that were in the log already"},
	    {"events_out_of_order", &shell->count.gaps,
		"events dropped because one before is missing"},
	    {"events_replayed", &shell->count.replayed, "events sent again from the log"},
	    {"messages_refused", &shell->count.refused, "messages that could not be read"},
	    {"subscriptions", &shell->count.subscriptions, "subscriptions seen"},
	    {"write_failures", &shell->count.write_failures, "batches the log could not take"},
	    {"cut_bytes", &shell->count.cut_bytes,
		"bytes of the log that were torn or damaged at the start"},
	    {0},
	};

	memcpy(shell->stats, stats, sizeof(stats));
	shell->daemon->stats = shell->stats;
}

int shell_new(struct shell **out, struct daemon *daemon, const struct busd_settings *settings)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	list_stats(shell);
	/* Before the log: nothing of it is touched while another busd runs. */
	r = open_sockets(shell);
	if (r == 0)
		r = open_log(shell, settings);
	if (r == 0)
		r = rpc_server_add(daemon->rpc, methods, shell);
	if (r == 0)
		r = sd_event_add_time_relative(
		    daemon->loop, &shell->tick, MONO_CLOCK, 0, 0, on_tick, shell);
	if (r < 0) {
		log_start_failed(r);
		shell_free(shell);
		return r;
	}
	*out = shell;
	return 0;
}

static void close_outlet(struct outlet *outlet)
{
	zwatch_free(outlet->watch);
	zsock_free(outlet->socket);
}

struct shell *shell_free(struct shell *shell)
{
	if (!shell)
		return NULL;
	sd_event_source_disable_unref(shell->tick);
	zwatch_free(shell->in_watch);
	zsock_free(shell->in);
	close_outlet(&shell->local);
	close_outlet(&shell->remote);
	eventlog_free(shell->log);
	syncer_free(shell->syncer);
	sources_free(shell->sources);
	buf_fini(&shell->packed);
	free(shell);
	return NULL;
}
