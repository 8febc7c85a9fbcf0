#include "webd/detection.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>

#include "proto/fdd.h"
#include "proto/gossipd.h"
#include "webd/detection-internal.h"
#include "webd/show.h"

#define TICK_MS 250
#define BODY_MAX 4096

/* --- questions --- */

/* false after a 503. */
static bool answered(struct exchange *exchange, const char *daemon, const struct rpc_answer *answer)
{
	if (answer->status != RPC_OK)
		exchange_fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, daemon,
		    "%s does not answer: %s", daemon, rpc_status_name(answer->status));
	return answer->status == RPC_OK;
}

static void ask(
    struct exchange *exchange, struct rpc_client *client, const char *request, rpc_done done)
{
	if (rpc_request(client, request, NULL, 0, ASK_MS, done, exchange) < 0)
		exchange_fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "webd", "no memory");
}

static void on_levels(void *userdata, const struct rpc_answer *answer)
{
	struct exchange *exchange = userdata;
	const struct detection *detection = exchange_userdata(exchange);
	const char *node = exchange_argument(exchange, "node");
	const char *ve = exchange_argument(exchange, "ve");
	struct msg_fdd_ls_reply reply;
	struct mpr_error error;
	json_t *levels;
	size_t found;

	if (!answered(exchange, "fdd", answer))
		return;
	if (msg_fdd_ls_reply_unpack(&reply, answer->body, answer->size, &error) < 0) {
		log_bug("fdd.ls_reply: %s", error.text);
		exchange_fail(exchange, MHD_HTTP_BAD_GATEWAY, "fdd", "%s", error.text);
		return;
	}
	levels = show_levels(&reply, detection->daemon->node.name, node, ve, &found);
	if (found > 0 || (!node && !ve)) {
		exchange_answer(exchange, MHD_HTTP_OK, levels, NULL);
		return;
	}
	json_decref(levels);
	exchange_fail(exchange, MHD_HTTP_NOT_FOUND, node ? "node" : "ve",
	    "fdd here knows nothing of %.63s", node ? node : ve);
}

static void get_levels(void *userdata, struct exchange *exchange)
{
	struct detection *detection = userdata;

	if (exchange_argument(exchange, "node") && exchange_argument(exchange, "ve"))
		exchange_fail(exchange, MHD_HTTP_BAD_REQUEST, "ve", "node or ve, not both");
	else
		ask(exchange, detection->fdd, MSG_FDD_LS, on_levels);
}

static void on_members(void *userdata, const struct rpc_answer *answer)
{
	struct exchange *exchange = userdata;
	struct msg_gossipd_members_reply reply;
	struct mpr_error error;

	if (!answered(exchange, "gossipd", answer))
		return;
	if (msg_gossipd_members_reply_unpack(&reply, answer->body, answer->size, &error) < 0) {
		log_bug("gossipd.members_reply: %s", error.text);
		exchange_fail(exchange, MHD_HTTP_BAD_GATEWAY, "gossipd", "%s", error.text);
		return;
	}
	exchange_answer(exchange, MHD_HTTP_OK, show_members(&reply), NULL);
}

static void get_members(void *userdata, struct exchange *exchange)
{
	struct detection *detection = userdata;

	ask(exchange, detection->gossipd, MSG_GOSSIPD_MEMBERS, on_members);
}

/* --- registrations --- */

void detection_tell(
    struct detection *detection, struct registration *registration, const char *type, json_t *data)
{
	char *text = data ? json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;

	json_decref(data);
	if (text && registration_append(registration, type, text) == 0)
		detection->counts.events++;
	free(text);
	streams_wake(detection, registration);
}

void detection_end(
    struct detection *detection, struct registration *registration, const char *reason)
{
	bool is_read = registration->readers > 0;

	registering_end(registration);
	registry_end(detection->registry, registration, reason);
	if (is_read) /* otherwise it is gone */
		streams_wake(detection, registration);
	detection->counts.registrations = registry_count(detection->registry);
}

struct registration *detection_wanted(struct detection *detection, struct exchange *exchange)
{
	struct registration *registration =
	    registry_find(detection->registry, exchange_part(exchange));

	/* One that fdd has not confirmed has been told to nobody. */
	if (registration && registration->standing != OPENING)
		return registration;
	exchange_fail(exchange, MHD_HTTP_NOT_FOUND, "id", "no registration %s; register again",
	    exchange_part(exchange));
	return NULL;
}

static void list_registrations(void *userdata, struct exchange *exchange)
{
	struct detection *detection = userdata;
	json_t *rows = json_array();

	for (const struct registration *one = NULL;
	     (one = registry_next(detection->registry, one));)
		if (one->standing != OPENING)
			json_array_append_new(rows, show_registration(one, mono_now()));
	exchange_answer(exchange, MHD_HTTP_OK, json_pack("{s:o}", "registrations", rows), NULL);
}

static void get_registration(void *userdata, struct exchange *exchange)
{
	const struct registration *registration = detection_wanted(userdata, exchange);

	if (registration)
		exchange_answer(
		    exchange, MHD_HTTP_OK, show_registration(registration, mono_now()), NULL);
}

static void renew(void *userdata, struct exchange *exchange)
{
	struct registration *registration = detection_wanted(userdata, exchange);

	if (!registration)
		return;
	registration_renew(registration, mono_now());
	exchange_answer(exchange, MHD_HTTP_OK, show_registration(registration, mono_now()), NULL);
}

static void deregister(void *userdata, struct exchange *exchange)
{
	struct registration *registration = detection_wanted(userdata, exchange);

	if (!registration)
		return;
	detection_end(userdata, registration, "deregistered");
	exchange_answer(exchange, MHD_HTTP_NO_CONTENT, NULL, NULL);
}

#define ALL "/v1/detection/registrations"

static const struct http_endpoint endpoints[] = {
    {"/v1/detection/levels", VERB_GET, get_levels, 0, {"node", "ve"}},
    {"/v1/detection/members", VERB_GET, get_members, 0, {0}},
    {ALL, VERB_GET, list_registrations, 0, {0}},
    {ALL, VERB_POST, registering_begin, BODY_MAX, {0}},
    {ALL "/*", VERB_GET, get_registration, 0, {0}},
    {ALL "/*", VERB_DELETE, deregister, 0, {0}},
    {ALL "/*/renew", VERB_POST, renew, 0, {0}},
    {ALL "/*/renew", VERB_PUT, renew, 0, {0}},
    {ALL "/*/events", VERB_GET, streams_begin, 0, {0}},
    {0},
};

/* --- start, time, end --- */

/* The next tick; there is none while there is nothing to do. */
void detection_arm(struct detection *detection)
{
	if (sd_event_source_get_enabled(detection->tick, NULL) != 0)
		return; /* one that is due is not put off */
	(void)sd_event_source_set_time_relative(detection->tick, TICK_MS * 1000);
	(void)sd_event_source_set_enabled(detection->tick, SD_EVENT_ONESHOT);
}

/* Runs behind what has arrived (sd-event's priorities), so that own slowness ends no lease. */
static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct detection *detection = userdata;
	struct mono now = mono_now();

	(void)source;
	(void)usec;
	registering_tick(detection, now);
	streams_tick(detection, now);
	if (!TAILQ_EMPTY(&detection->watches) || !TAILQ_EMPTY(&detection->streams))
		detection_arm(detection);
	return 0;
}

static int start(struct detection *detection, struct http *http)
{
	struct daemon *daemon = detection->daemon;
	int r;

	r = registry_new(
	    &detection->registry, detection->options.registrations, detection->options.kept);
	if (r == 0)
		r = rpc_client_new_local(
		    &detection->fdd, daemon->zmq, daemon->loop, daemon->node.run_dir, "fdd");
	if (r == 0)
		r = rpc_client_new_local(&detection->gossipd, daemon->zmq, daemon->loop,
		    daemon->node.run_dir, "gossipd");
	if (r < 0)
		return r;
	rpc_client_set_impatient(detection->fdd);
	rpc_client_set_impatient(detection->gossipd);
	r = sd_event_add_time_relative(
	    daemon->loop, &detection->tick, CLOCK_MONOTONIC, 0, TICK_MS * 100, on_tick, detection);
	if (r >= 0)
		r = sd_event_source_set_priority(detection->tick, SD_EVENT_PRIORITY_IDLE);
	return r < 0 ? r : http_add(http, endpoints, detection);
}

static void on_peer(void *userdata, const struct peer *peer)
{
	registering_peer_changed(userdata, peer);
}

int detection_new(struct detection **out, struct daemon *daemon, struct http *http,
    const struct detection_options *options)
{
	struct detection *detection = calloc(1, sizeof(*detection));
	int r;

	if (!detection)
		return -ENOMEM;
	detection->daemon = daemon;
	detection->options = *options;
	TAILQ_INIT(&detection->streams);
	TAILQ_INIT(&detection->watches);
	r = start(detection, http);
	if (r < 0) {
		detection_free(detection);
		return r;
	}
	detection->listener = (struct peers_listener){.changed = on_peer, .userdata = detection};
	daemon_listen_peers(daemon, &detection->listener);
	*out = detection;
	return 0;
}

void detection_stop(struct detection *detection)
{
	if (!detection)
		return;
	detection->tick = sd_event_source_disable_unref(detection->tick);
	daemon_unlisten_peers(detection->daemon, &detection->listener);
	registering_free(detection);
	/* Who waits for an answer is told that there will be none. */
	detection->fdd = rpc_client_free(detection->fdd);
	detection->gossipd = rpc_client_free(detection->gossipd);
}

struct detection *detection_free(struct detection *detection)
{
	if (!detection)
		return NULL;
	detection_stop(detection);
	registry_free(detection->registry);
	free(detection);
	return NULL;
}

const struct detection_counts *detection_counts(const struct detection *detection)
{
	return &detection->counts;
}
