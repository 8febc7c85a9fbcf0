/*
 * depctl events: the stream of this node's bus.  Without --follow it ends when the log has been read; the last 20 are
 * shown unless --since says from where.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/bus.h"
#include "depctl/command.h"
#include "depctl/decode.h"

#define TAIL 20
#define LOOK_MS 20

enum { FOLLOW, SINCE, COUNT }; /* options, as in the table */

struct listening {
	struct session *session;
	const char *prefix;
	json_t *tail; /* events held back until the log has been read; NULL: shown at once */
	uint64_t shown, count;
};

static json_t *event_json(const struct bus_event *event)
{
	json_t *body = decode_body(event->body, event->size);
	char epoch[24]; /* needs all 64 bits, and JSON numbers here have 63 */

	snprintf(epoch, sizeof(epoch), "%" PRIu64, event->epoch);
	return json_pack("{s:s, s:s, s:s, s:I, s:s, s:I, s:o}", "topic", event->topic, "node",
	    event->node, "source", event->source, "time_ns", (json_int_t)event->wall_ns, "epoch",
	    epoch, "seq", (json_int_t)event->seq, "body", body ? body : json_null());
}

/* A round's number is shown as ckpt ls shows it. */
static bool is_ckpt(const char *topic, const char *key)
{
	return strcmp(key, "from_ckpt") == 0 ||
	       (strcmp(key, "id") == 0 && strncmp(topic, "ckpt.", 5) == 0);
}

static void print_value(const char *topic, const char *key, const json_t *value)
{
	char cell[48];

	if (is_ckpt(topic, key)) {
		format_ckpt(cell, sizeof(cell), value);
		printf("%s", cell);
	} else if (json_is_string(value)) {
		printf("%s", json_string_value(value));
	} else if (json_is_real(value)) {
		printf("%.6g", json_real_value(value));
	} else {
		char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

		printf("%s", text ? text : "");
		free(text);
	}
}

static void print_event(const struct listening *listening, const json_t *event)
{
	json_int_t ns = json_integer_value(json_object_get(event, "time_ns"));
	time_t seconds = (time_t)(ns / 1000000000);
	struct tm parts;
	const char *key;
	json_t *value;
	char clock[16];

	if (listening->session->form != OUTPUT_TABLE) {
		output_line(event);
		return;
	}
	localtime_r(&seconds, &parts);
	strftime(clock, sizeof(clock), "%H:%M:%S", &parts);
	printf("%s.%03d  %-8s %-9s %-18s", clock, (int)(ns / 1000000 % 1000),
	    json_string_value(json_object_get(event, "node")),
	    json_string_value(json_object_get(event, "source")),
	    json_string_value(json_object_get(event, "topic")));
	json_object_foreach(json_object_get(event, "body"), key, value)
	{
		printf(" %s=", key);
		print_value(json_string_value(json_object_get(event, "topic")), key, value);
	}
	putchar('\n');
	fflush(stdout);
}

static void show(struct listening *listening, const json_t *event)
{
	if (listening->count && listening->shown == listening->count)
		return;
	print_event(listening, event);
	listening->shown++;
	if (listening->shown == listening->count)
		sd_event_exit(listening->session->loop, 0);
}

static void on_event(void *userdata, const struct bus_event *event)
{
	struct listening *listening = userdata;
	json_t *json;

	if (strncmp(event->topic, listening->prefix, strlen(listening->prefix)) != 0)
		return;
	json = event_json(event);
	if (listening->tail) {
		if (json_array_size(listening->tail) == TAIL)
			json_array_remove(listening->tail, 0);
		json_array_append(listening->tail, json);
	} else {
		show(listening, json);
	}
	json_decref(json);
}

static void on_lost(void *userdata, uint64_t count)
{
	(void)userdata;
	fprintf(stderr, "depctl: %" PRIu64 " events are no longer in the log\n", count);
}

static void flush_tail(struct listening *listening)
{
	for (size_t i = 0; i < json_array_size(listening->tail); i++)
		show(listening, json_array_get(listening->tail, i));
	json_decref(listening->tail);
	listening->tail = NULL;
}

static int parse_since(const char *text, struct bus_position *since)
{
	unsigned long long epoch, seq;
	int end = 0;

	*since = (struct bus_position){0, 0};
	if (!text || strcmp(text, "all") == 0)
		return 0;
	if (sscanf(text, "%llu:%llu%n", &epoch, &seq, &end) != 2 || text[end]) {
		fprintf(stderr, "depctl: --since: %s is not EPOCH:SEQ or all\n", text);
		return EXIT_USAGE;
	}
	*since = (struct bus_position){epoch, seq};
	return 0;
}

int command_events(struct session *session, const struct arguments *arguments)
{
	struct listening listening = {
	    .session = session, .prefix = arguments->n_positionals ? arguments->positional[0] : ""};
	struct bus_subscriber *subscriber;
	struct bus_position since;
	struct mono give_up = mono_add_ms(mono_now(), session->timeout_ms);
	bool follow = arguments->option[FOLLOW] != NULL;
	enum rpc_status reach;
	int r;

	if (parse_since(arguments->option[SINCE], &since) ||
	    (arguments->option[COUNT] &&
		!parse_count("--count", arguments->option[COUNT], 1, UINT32_MAX, &listening.count)))
		return EXIT_USAGE;
	reach = session_reach(session, "busd");
	if (reach == RPC_DENIED || (!follow && reach != RPC_OK))
		return session_explain(session, "busd", reach, "");
	if (reach != RPC_OK)
		fprintf(stderr, "depctl: busd is down; events are shown when it is back\n");
	listening.tail = arguments->option[SINCE] ? NULL : json_array();
	r = bus_subscriber_new(&subscriber, session->zmq, session->loop, session->node.run_dir,
	    since, on_event, on_lost, &listening);
	if (r < 0) {
		fprintf(stderr, "depctl: subscribe: %s\n", strerror(-r));
		return 1;
	}
	while (sd_event_get_state(session->loop) != SD_EVENT_FINISHED &&
	       sd_event_run(session->loop, LOOK_MS * 1000) >= 0) {
		if (!bus_subscriber_caught_up(subscriber)) {
			if (!follow && mono_due(give_up, mono_now()))
				break;
			continue;
		}
		if (listening.tail)
			flush_tail(&listening);
		if (!follow)
			break;
	}
	r = !follow && !bus_subscriber_caught_up(subscriber) && listening.shown != listening.count;
	if (!r && listening.shown == 0)
		fprintf(stderr, "no such event on this node; each node tells of its own daemons\n");
	bus_subscriber_free(subscriber);
	json_decref(listening.tail);
	return r ? session_explain(session, "busd", RPC_TIMEOUT, "the log was not read in time")
		 : 0;
}
