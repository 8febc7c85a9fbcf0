/*
 * Names end in their units.  64 bit numbers are strings of digits: a program in JavaScript would read 29983412234190848
 * as another number.  A text that is not UTF-8 (nobody of ours makes one) is left out.
 */
#include "webd/show.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* To the sixth place: 0.30000000000000004 helps nobody. */
static json_t *real(double value)
{
	return json_real(isfinite(value) ? round(value * 1e6) / 1e6 : 0);
}

/* To the microsecond. */
static json_t *millis(double value_ms)
{
	return json_real(isfinite(value_ms) ? round(value_ms * 1e3) / 1e3 : 0);
}

static json_t *wide(uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return json_string(text);
}

static json_t *show_peer(const struct msg_fdd_peer *peer)
{
	return json_pack("{s:s, s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "name",
	    peer->name, "kind", "node", "state", msg_fdd_state_name(peer->state), "watched",
	    peer->watch, "heard", peer->heard, "level", real(peer->level), "elapsed_ms",
	    millis(peer->elapsed_ms), "predicted_ms", millis(peer->predicted_ms), "interval_ms",
	    millis(peer->interval_ms), "loss_ratio", real(peer->loss), "incarnation",
	    wide(peer->incarnation));
}

static json_t *show_service(const struct msg_fdd_service *service)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s}", "name",
	    service->name, "kind", "service", "ve", service->ve, "state",
	    msg_fdd_state_name(service->state), "epoch", wide(service->epoch), "level",
	    real(service->level), "elapsed_ms", millis(service->elapsed_ms), "predicted_ms",
	    millis(service->predicted_ms), "interval_ms", millis(service->interval_ms), "fault",
	    service->fault);
}

json_t *show_levels(const struct msg_fdd_ls_reply *reply, const char *observer, const char *node,
    const char *ve, size_t *found)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < reply->peers.count; i++)
		if (node ? strcmp(reply->peers.item[i].name, node) == 0 : !ve)
			json_array_append_new(rows, show_peer(&reply->peers.item[i]));
	for (size_t i = 0; i < reply->services.count; i++)
		if (ve ? strcmp(reply->services.item[i].ve, ve) == 0 : !node)
			json_array_append_new(rows, show_service(&reply->services.item[i]));
	*found = json_array_size(rows);
	return json_pack("{s:s, s:i, s:o, s:o}", "observer", observer, "local_health_multiplier",
	    (int)reply->lhm, "stalls", json_integer((json_int_t)reply->stalls), "levels", rows);
}

static json_t *show_member(const struct msg_gossipd_listed_member *member)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:b, s:b, s:o}", "node", member->node,
	    "address", member->address, "state", msg_gossipd_state_name(member->state), "votes",
	    (int)member->votes, "observers", (int)member->observers, "coordinator",
	    member->coordinator, "flapping", member->damped, "incarnation",
	    wide(member->incarnation));
}

json_t *show_members(const struct msg_gossipd_members_reply *reply)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < reply->members.count; i++)
		json_array_append_new(rows, show_member(&reply->members.item[i]));
	return json_pack("{s:s, s:o, s:b, s:o}", "coordinator", reply->coordinator, "epoch",
	    wide(reply->epoch), "isolated", reply->isolated, "members", rows);
}

static void add_text(json_t *object, const char *key, const char *text)
{
	if (*text)
		json_object_set_new(object, key, json_string(text));
}

json_t *show_registration(const struct registration *registration, struct mono now)
{
	const struct wish *wish = &registration->wish;
	json_t *object = json_object(), *raise = json_array();
	int64_t left_ms = mono_to_ms(mono_sub(registration->lease_end, now));

	json_object_set_new(object, "id", json_string(registration->id));
	json_object_set_new(object, "events",
	    json_sprintf("/v1/detection/registrations/%s/events", registration->id));
	add_text(object, "application", wish->application);
	add_text(object, "node", wish->node);
	add_text(object, "service", wish->service);
	for (size_t i = 0; i < wish->raise_count; i++)
		json_array_append_new(raise, real(wish->raise[i]));
	json_object_set_new(object, "raise", raise);
	json_object_set_new(object, "clear", real(wish->clear));
	json_object_set_new(object, "beats", json_integer(wish->beats));
	json_object_set_new(object, "period_ms", json_integer(wish->period_ms));
	json_object_set_new(object, "lease_ms", json_integer(wish->lease_ms));
	json_object_set_new(object, "lease_left_ms", json_integer(left_ms > 0 ? left_ms : 0));
	json_object_set_new(object, "state", json_string(standing_name(registration->standing)));
	json_object_set_new(object, "streams", json_integer(registration->readers));
	json_object_set_new(
	    object, "last_event_id", json_integer((json_int_t)registration->next - 1));
	return object;
}

json_t *show_value(const struct msg_fdd_value *value, const char *kind)
{
	return json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:o}", "name", value->name, "kind", kind,
	    "heard", value->heard, "level", real(value->level), "elapsed_ms",
	    millis(value->elapsed_ms), "predicted_ms", millis(value->predicted_ms), "incarnation",
	    wide(value->incarnation));
}

json_t *show_level(const struct msg_fdd_level *level, const char *kind)
{
	json_t *object = json_pack("{s:b, s:o, s:s, s:s, s:b, s:o, s:o, s:o, s:o}", "raised",
	    level->raised, "threshold", real(level->threshold), "name", level->name, "kind", kind,
	    "heard", level->heard, "level", real(level->level), "elapsed_ms",
	    millis(level->elapsed_ms), "predicted_ms", millis(level->predicted_ms), "incarnation",
	    wide(level->incarnation));

	return object;
}
