/*
 * A registration at fdd is a request that is answered by notices until it ends (proto/fdd.toml).  When fdd is gone the
 * request is asked again until there is an fdd; the registration stays, and its streams are told of the gap and of its
 * end.  What was raised before a gap is void: the new fdd tells what is raised then.
 *
 * fdd tells each registration every ten seconds that it stands; an fdd that does not is as good as gone.
 *
 * Numbers of registrations are fdd's own and begin anew with it, so one is used only while the request stands that it came
 * with: otherwise the number could be somebody else's by now.
 */
#include <errno.h>
#include <microhttpd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/fdd.h"
#include "webd/detection-internal.h"
#include "webd/show.h"
#include "webd/wish.h"

#define OPEN_MS 3000
#define SILENT_MS 25000

/* One request to fdd. */
struct watch {
	TAILQ_ENTRY(watch) link;
	struct detection *detection;
	struct registration *registration; /* NULL: it has ended, and fdd has not said so yet */
	struct exchange *exchange;         /* waits for the answer to its POST */
	struct rpc_stream *stream;
	bool asked;      /* fdd has been, and has not ended it */
	uint64_t peer;   /* node or service; 0: all nodes */
	uint64_t number; /* fdd's; 0: none yet */
	uint32_t lhm;
	struct mono heard;
};

static struct watch *watch_free(struct watch *watch)
{
	TAILQ_REMOVE(&watch->detection->watches, watch, link);
	rpc_stream_free(watch->stream);
	free(watch);
	return NULL;
}

/* --- leaving --- */

static void on_unregistered(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	(void)answer; /* when fdd is gone, so is the registration */
}

static void unregister(struct watch *watch)
{
	const struct msg_fdd_unregister request = {watch->number};
	_cleanup_buf_ struct buf body = {0};

	if (msg_fdd_unregister_pack(&request, &body) == 0)
		(void)rpc_request(watch->detection->fdd, MSG_FDD_UNREGISTER, body.data, body.size,
		    ASK_MS, on_unregistered, NULL);
}

/* A registration that fdd has not confirmed cannot be named yet: it is ended when it is (take_number). */
void registering_end(struct registration *registration)
{
	struct watch *watch = registration->userdata;

	if (!watch)
		return;
	registration->userdata = NULL;
	watch->registration = NULL;
	if (watch->exchange)
		exchange_fail(watch->exchange, MHD_HTTP_CONFLICT, "application",
		    "registered anew before this was done");
	watch->exchange = NULL;
	if (watch->number)
		unregister(watch);
}

/* The POST did not work. */
static void refuse(struct watch *watch, unsigned status, const char *where, const char *text)
{
	struct registration *registration = watch->registration;
	struct exchange *exchange = watch->exchange;

	watch->exchange = NULL;
	if (exchange)
		exchange_fail(exchange, status, where, "%s", text);
	detection_end(watch->detection, registration, NULL);
}

/* --- what fdd says --- */

static void tell_lost(struct watch *watch, const char *reason)
{
	struct registration *registration = watch->registration;

	if (registration->standing != STANDING)
		return;
	registration->standing = LOST;
	watch->detection->counts.gaps++;
	detection_tell(watch->detection, registration, "gap", json_pack("{s:s}", "reason", reason));
}

static void take_standing(struct watch *watch, const struct msg_fdd_registered *message)
{
	struct registration *registration = watch->registration;
	enum standing before = registration->standing;
	struct exchange *exchange = watch->exchange;
	char location[96];

	registration_stand(registration, mono_now());
	if (before == LOST)
		detection_tell(watch->detection, registration, "resumed",
		    json_pack("{s:s}", "reason", "fdd tells again"));
	if (message->lhm != watch->lhm)
		detection_tell(watch->detection, registration, "health",
		    json_pack("{s:i, s:I}", "local_health_multiplier", (int)message->lhm, "stalls",
			(json_int_t)message->stalls));
	watch->lhm = message->lhm;
	watch->exchange = NULL;
	if (!exchange)
		return;
	snprintf(location, sizeof(location), "/v1/detection/registrations/%s", registration->id);
	exchange_answer(
	    exchange, MHD_HTTP_CREATED, show_registration(registration, mono_now()), location);
}

static void take_notice(struct watch *watch, const struct rpc_answer *answer)
{
	struct registration *registration = watch->registration;
	const char *kind = *registration->wish.service ? "service" : "node";
	struct mpr_error error = {""};
	union {
		struct msg_fdd_registered registered;
		struct msg_fdd_level level;
		struct msg_fdd_value value;
	} message;
	int r = 0;

	if (strcmp(answer->name, MSG_FDD_LEVEL) == 0) {
		r = msg_fdd_level_unpack(&message.level, answer->body, answer->size, &error);
		if (r == 0)
			detection_tell(watch->detection, registration, "level",
			    show_level(&message.level, kind));
	} else if (strcmp(answer->name, MSG_FDD_VALUE) == 0) {
		r = msg_fdd_value_unpack(&message.value, answer->body, answer->size, &error);
		if (r == 0)
			detection_tell(watch->detection, registration, "value",
			    show_value(&message.value, kind));
	}
	if (r < 0)
		log_bug("%s: %s", answer->name, error.text);
}

static bool take_number(struct watch *watch, const struct rpc_answer *answer)
{
	struct msg_fdd_registered message;
	struct mpr_error error;

	if (strcmp(answer->name, MSG_FDD_REGISTERED) != 0)
		return false;
	if (msg_fdd_registered_unpack(&message, answer->body, answer->size, &error) < 0) {
		log_bug("fdd.registered: %s", error.text);
		return true;
	}
	watch->number = message.registration;
	if (watch->registration)
		take_standing(watch, &message);
	else
		unregister(watch);
	return true;
}

static void take_end(struct watch *watch, const struct rpc_answer *answer)
{
	struct registration *registration = watch->registration;
	bool unreachable = answer->status == RPC_UNREACHABLE;

	watch->asked = false;
	watch->number = 0;
	if (!registration)
		return;
	if (registration->standing != OPENING)
		tell_lost(watch, unreachable ? "fdd is gone" : "fdd ended the registration");
	else if (unreachable)
		refuse(watch, MHD_HTTP_SERVICE_UNAVAILABLE, "fdd", "fdd is not there");
	else if (answer->status == RPC_INVALID)
		refuse(watch, MHD_HTTP_BAD_REQUEST, "body", answer->error);
	else
		refuse(watch, MHD_HTTP_TOO_MANY_REQUESTS, "fdd", answer->error);
}

static void on_answer(void *userdata, const struct rpc_answer *answer)
{
	struct watch *watch = userdata;

	watch->heard = mono_now();
	if (!answer->more)
		take_end(watch, answer);
	else if (!take_number(watch, answer) && watch->registration)
		take_notice(watch, answer);
}

/* --- registering --- */

static void ask_again(struct watch *watch)
{
	watch->asked = true;
	rpc_stream_ask(watch->stream); /* does nothing while it stands */
}

static int ask_fdd(struct watch *watch, const struct wish *wish)
{
	struct msg_fdd_register request = {.peer = watch->peer,
	    .raise.count = wish->raise_count,
	    .clear = wish->clear,
	    .beats = wish->beats,
	    .period_ms = wish->period_ms};
	_cleanup_buf_ struct buf body = {0};
	struct rpc_stream_options options = {
	    .request = MSG_FDD_REGISTER, .done = on_answer, .userdata = watch};
	int r;

	snprintf(
	    request.application, sizeof(request.application), "webd-%s", watch->registration->id);
	memcpy(request.raise.item, wish->raise, wish->raise_count * sizeof(wish->raise[0]));
	r = msg_fdd_register_pack(&request, &body);
	options.body = body.data;
	options.size = body.size;
	if (r == 0)
		r = rpc_stream_new(&watch->stream, watch->detection->fdd,
		    watch->detection->daemon->loop, &options);
	if (r == 0)
		ask_again(watch);
	return r;
}

static void new_id(char id[REGISTRATION_ID_MAX + 1])
{
	uint8_t random[REGISTRATION_ID_MAX / 2];

	randombytes_buf(random, sizeof(random));
	sodium_bin2hex(id, REGISTRATION_ID_MAX + 1, random, sizeof(random));
}

static void replace_application(struct detection *detection, const char *application)
{
	struct registration *former = registry_find_application(detection->registry, application);

	if (former)
		detection_end(detection, former, "replaced");
}

/* Those too that have ended, and fdd does not say so: it may stand still. */
static size_t count_watches(const struct detection *detection)
{
	const struct watch *watch;
	size_t count = 0;

	TAILQ_FOREACH(watch, &detection->watches, link)
	count++;
	return count;
}

static void begin(
    struct detection *detection, struct exchange *exchange, const struct wish *wish, uint64_t id)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	struct registration *registration = NULL;
	char name[REGISTRATION_ID_MAX + 1];
	int r = -ENOMEM;

	replace_application(detection, wish->application);
	new_id(name);
	if (count_watches(detection) >= 2 * detection->options.registrations) {
		free(watch);
		exchange_fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "fdd",
		    "fdd has not ended former registrations yet");
		return;
	}
	if (watch)
		registration = registry_add(
		    detection->registry, name, wish, mono_add_ms(mono_now(), OPEN_MS), &r);
	if (!registration) {
		free(watch);
		if (r == -ENOSPC)
			exchange_fail(exchange, MHD_HTTP_TOO_MANY_REQUESTS, "registrations",
			    "%zu are registered already", detection->options.registrations);
		else
			exchange_fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "webd", "no memory");
		return;
	}
	*watch = (struct watch){.detection = detection,
	    .registration = registration,
	    .exchange = exchange,
	    .peer = id,
	    .heard = mono_now()};
	registration->userdata = watch;
	detection->counts.registrations = registry_count(detection->registry);
	TAILQ_INSERT_TAIL(&detection->watches, watch, link);
	detection_arm(detection);
	if (ask_fdd(watch, wish) < 0)
		refuse(watch, MHD_HTTP_SERVICE_UNAVAILABLE, "webd", "no memory");
}

static bool find_id(const struct msg_fdd_ls_reply *reply, const struct wish *wish, uint64_t *id)
{
	for (size_t i = 0; *wish->node && i < reply->peers.count; i++)
		if (strcmp(reply->peers.item[i].name, wish->node) == 0) {
			*id = reply->peers.item[i].id;
			return true;
		}
	for (size_t i = 0; *wish->service && i < reply->services.count; i++)
		if (strcmp(reply->services.item[i].name, wish->service) == 0) {
			*id = reply->services.item[i].id;
			return true;
		}
	return false;
}

static void on_listed(void *userdata, const struct rpc_answer *answer)
{
	struct exchange *exchange = userdata;
	const struct buf *body = exchange_body(exchange);
	struct msg_fdd_ls_reply reply;
	struct mpr_error error;
	struct wish_fault fault;
	struct wish wish;
	uint64_t id;

	if (answer->status != RPC_OK ||
	    msg_fdd_ls_reply_unpack(&reply, answer->body, answer->size, &error) < 0 ||
	    wish_parse(&wish, (const char *)body->data, body->size, &fault) < 0) {
		exchange_fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "fdd",
		    "fdd does not answer: %s", rpc_status_name(answer->status));
		return;
	}
	if (find_id(&reply, &wish, &id))
		begin(exchange_userdata(exchange), exchange, &wish, id);
	else
		exchange_fail(exchange, MHD_HTTP_BAD_REQUEST, *wish.node ? "node" : "service",
		    "fdd here knows nothing of %s", *wish.node ? wish.node : wish.service);
}

void registering_begin(void *userdata, struct exchange *exchange)
{
	struct detection *detection = userdata;
	const struct buf *body = exchange_body(exchange);
	struct wish_fault fault;
	struct wish wish;

	if (wish_parse(&wish, (const char *)body->data, body->size, &fault) < 0)
		exchange_fail(exchange, MHD_HTTP_BAD_REQUEST, fault.where, "%s", fault.what);
	else if (!*wish.node && !*wish.service)
		begin(detection, exchange, &wish, 0);
	else if (rpc_request(detection->fdd, MSG_FDD_LS, NULL, 0, ASK_MS, on_listed, exchange) < 0)
		exchange_fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "webd", "no memory");
}

/* A node's id is its key's.  What is registered for a key that is an old one now would be silent for ever. */
void registering_peer_changed(struct detection *detection, const struct peer *peer)
{
	struct watch *watch;

	if (!peer->old && !peer->gone)
		return;
	TAILQ_FOREACH(watch, &detection->watches, link)
	if (watch->registration && watch->peer == peer->id)
		detection_end(detection, watch->registration, "node_changed");
}

/* --- time --- */

static void tick_one(struct watch *watch, struct mono now)
{
	struct registration *registration = watch->registration;

	if (!registration)
		return;
	if (registration->standing == STANDING &&
	    mono_due(mono_add_ms(watch->heard, SILENT_MS), now))
		tell_lost(watch, "fdd is silent");
	ask_again(watch);
}

void registering_tick(struct detection *detection, struct mono now)
{
	struct registration *due;
	struct watch *watch, *next;

	while ((due = registry_due(detection->registry, now))) {
		watch = due->userdata;
		if (due->standing == OPENING)
			refuse(watch, MHD_HTTP_SERVICE_UNAVAILABLE, "fdd", "fdd does not answer");
		else
			detection_end(detection, due, "expired");
	}
	for (watch = TAILQ_FIRST(&detection->watches); watch; watch = next) {
		next = TAILQ_NEXT(watch, link);
		tick_one(watch, now);
		if (!watch->registration && !watch->asked)
			watch_free(watch);
	}
}

void registering_free(struct detection *detection)
{
	struct registration *registration;

	while ((registration = registry_next(detection->registry, NULL))) {
		struct watch *watch = registration->userdata;

		if (watch && watch->exchange)
			refuse(watch, MHD_HTTP_SERVICE_UNAVAILABLE, "webd", "webd ends");
		else
			detection_end(detection, registration, "stopped");
	}
	while (!TAILQ_EMPTY(&detection->watches))
		watch_free(TAILQ_FIRST(&detection->watches));
}
