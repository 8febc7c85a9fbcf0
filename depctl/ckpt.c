/*
 * depctl ckpt show, verify, rm, schedule: one checkpoint, and when a VE has its next.
 */
#include <stdio.h>
#include <string.h>

#include "depctl/command.h"
#include "depctl/object.h"
#include "proto/ckptd.h"
#include "proto/gosd.h"

#define VERIFY_MS 600000

/* ---- show, verify */

static bool is_of(const json_t *row, uint64_t id)
{
	return (uint64_t)json_integer_value(json_object_get(row, "id")) == id;
}

/* What the VEs of that round have of it; NULL after one line. */
static json_t *find_round(struct session *session, const char *text, int *status)
{
	json_t *rows, *found, *row;
	uint64_t id;
	size_t i;

	if (!parse_ckpt(text, &id)) {
		*status = EXIT_USAGE;
		return NULL;
	}
	rows = list_ckpts(session, "", status);
	if (!rows)
		return NULL;
	found = json_array();
	json_array_foreach(rows, i, row)
	{
		if (is_of(row, id))
			json_array_append(found, row);
	}
	json_decref(rows);
	if (json_array_size(found) > 0)
		return found;
	fprintf(stderr, "depctl: no checkpoint %s is kept\ntry: depctl ckpt ls\n", text);
	*status = RPC_NOT_FOUND;
	json_decref(found);
	return NULL;
}

int command_ckpt_show(struct session *session, const struct arguments *arguments)
{
	int status = 0;
	json_t *rows = find_round(session, arguments->positional[0], &status);

	if (!rows)
		return status;
	output_rows(session->form, rows, ckpt_columns, "");
	json_decref(rows);
	return 0;
}

static bool is_here(const struct session *session, const json_t *row)
{
	const json_t *replicas = json_object_get(row, "replicas"), *replica;
	const char *made = json_string_value(json_object_get(row, "node"));
	size_t i;

	if (made && strcmp(made, session->node.name) == 0)
		return true;
	json_array_foreach(replicas, i, replica)
	{
		if (strcmp(json_string_value(replica), session->node.name) == 0)
			return true;
	}
	return false;
}

/* "whole", "repaired", "damaged" or "not here" is put into the row; the exit code. */
static int verify_row(struct session *session, json_t *row)
{
	struct msg_gosd_verify request = {.repair = true, .has_oid = true};
	const char *oid = json_string_value(json_object_get(row, "oid")), *state = "whole";
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	int status = 0;

	json_object_set_new(row, "node", json_string(session->node.name));
	if (!oid || !parse_oid(oid, request.oid))
		return RPC_FAILED;
	msg_gosd_verify_pack(&request, &body);
	reply = session_ask(session, "gosd", MSG_GOSD_VERIFY, &body, &status);
	if (!reply)
		return status;
	if (json_array_size(json_object_get(reply, "broken")) > 0)
		state = "damaged";
	else if (json_integer_value(json_object_get(reply, "repaired")) > 0)
		state = "repaired";
	json_object_set_new(row, "state", json_string(state));
	json_object_set(row, "chunks", json_object_get(reply, "chunks"));
	json_decref(reply);
	return strcmp(state, "damaged") == 0 ? RPC_FAILED : 0;
}

int command_ckpt_verify(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"VE", "ve", NULL},
	    {"CHECKPOINT", "id", format_ckpt}, {"IMAGE", "oid", format_id}, {"NODE", "node", NULL},
	    {"CHUNKS", "chunks", NULL}, {"STATE", "state", NULL}, {0}};
	int status = 0, r;
	json_t *rows = find_round(session, arguments->positional[0], &status), *row;
	size_t i;

	if (!rows)
		return status;
	if (!session->timeout_given)
		session->timeout_ms = VERIFY_MS;
	json_array_foreach(rows, i, row)
	{
		if (is_here(session, row)) {
			r = verify_row(session, row);
			status = r ? r : status;
		} else {
			json_object_set_new(row, "state", json_string("not here"));
		}
	}
	output_rows(session->form, rows, columns, "");
	json_decref(rows);
	return status;
}

/* ---- rm */

int command_ckpt_rm(struct session *session, const struct arguments *arguments)
{
	_cleanup_buf_ struct buf body = {0};
	struct msg_ckptd_rm request = {0};
	json_t *reply;
	int status = 0;

	if (!PARSE_TEXT("VE", arguments->positional[0], request.ve) ||
	    !parse_ckpt(arguments->positional[1], &request.id))
		return EXIT_USAGE;
	msg_ckptd_rm_pack(&request, &body);
	reply = session_ask(session, "ckptd", MSG_CKPTD_RM, &body, &status);
	json_decref(reply);
	return status;
}

/* ---- schedule */

/* By index in the command's options. */
enum schedule_option {
	SCHEDULE_INTERVAL,
	SCHEDULE_ADAPTIVE,
	SCHEDULE_LOSS,
	SCHEDULE_SHARE,
	SCHEDULE_KEEP,
	SCHEDULE_HOURLY,
};

static bool take_times(struct msg_ckptd_plan *plan, const char *const *option)
{
	plan->adaptive = option[SCHEDULE_ADAPTIVE] != NULL;
	plan->has_interval_ms = option[SCHEDULE_INTERVAL] != NULL;
	plan->has_loss_ms = option[SCHEDULE_LOSS] != NULL;
	return (!plan->has_interval_ms || parse_duration_ms("--interval", option[SCHEDULE_INTERVAL],
					      &plan->interval_ms)) &&
	       (!plan->has_loss_ms ||
		   parse_duration_ms("--loss", option[SCHEDULE_LOSS], &plan->loss_ms));
}

static bool take_numbers(struct msg_ckptd_plan *plan, const char *const *option)
{
	uint64_t share = 0, keep = 0, hourly = 0;

	plan->has_share = option[SCHEDULE_SHARE] != NULL;
	plan->has_keep = option[SCHEDULE_KEEP] != NULL;
	plan->has_keep_hourly = option[SCHEDULE_HOURLY] != NULL;
	if ((plan->has_share && !parse_count("--share", option[SCHEDULE_SHARE], 1, 1000, &share)) ||
	    (plan->has_keep && !parse_count("--keep", option[SCHEDULE_KEEP], 1, 32, &keep)) ||
	    (plan->has_keep_hourly &&
		!parse_count("--hourly", option[SCHEDULE_HOURLY], 0, 31, &hourly)))
		return false;
	plan->share = (uint32_t)share;
	plan->keep = (uint8_t)keep;
	plan->keep_hourly = (uint8_t)hourly;
	return true;
}

static void format_thousandths(char *text, size_t size, const json_t *value)
{
	snprintf(text, size, "%.1f %%", (double)json_integer_value(value) / 10);
}

int command_ckpt_schedule(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"VE", "ve", NULL},
	    {"INTERVAL", "interval_ms", format_interval}, {"ADAPTIVE", "adaptive", NULL},
	    {"LOSS", "loss_ms", format_ms}, {"SHARE", "share", format_thousandths},
	    {"KEEP", "keep", NULL}, {"HOURLY", "keep_hourly", NULL}, {0}};
	const char *const *option = arguments->option;
	struct msg_ckptd_schedule request = {.has_plan = true};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	int status = 0;

	for (size_t i = 0; i <= SCHEDULE_HOURLY; i++)
		request.change = request.change || option[i];
	if (!PARSE_TEXT("VE", arguments->positional[0], request.ve) ||
	    !take_times(&request.plan, option) || !take_numbers(&request.plan, option))
		return EXIT_USAGE;
	msg_ckptd_schedule_pack(&request, &body);
	reply = session_ask(session, "ckptd", MSG_CKPTD_SCHEDULE, &body, &status);
	if (!reply)
		return status;
	output_object(session->form, reply, columns);
	json_decref(reply);
	return 0;
}
