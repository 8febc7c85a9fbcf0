/*
 * depctl fd: what this node's failure detector makes of the others.  ls and show are one question each;
 * watch registers like any application and lives as long as its connection; log exports arrivals in the
 * form that fdd-replay and bench/detectors read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "depctl/command.h"
#include "depctl/decode.h"
#include "proto/fdd.h"

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* Nodes and services as one array; takes over reply. */
static json_t *take_rows(json_t *reply)
{
	json_t *rows = json_incref(json_object_get(reply, "peers")), *row;
	size_t i;

	json_array_foreach(rows, i, row) json_object_set_new(row, "kind", json_string("node"));
	json_array_foreach(json_object_get(reply, "services"), i, row)
	{
		json_object_set_new(row, "kind", json_string("service"));
		json_object_set(row, "received", json_object_get(row, "good"));
		json_array_append(rows, row);
	}
	json_decref(reply);
	return rows;
}

int command_fd_ls(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"NAME", "name", NULL}, {"KIND", "kind", NULL},
	    {"STATE", "state", NULL}, {"LEVEL", "level", format_level},
	    {"SILENT", "elapsed_ms", format_ms}, {"EXPECTED", "predicted_ms", format_ms},
	    {"INTERVAL", "interval_ms", format_ms}, {"LOSS", "loss", format_level},
	    {"RECEIVED", "received", NULL}, {"SENT TO", "send", NULL}, {"FAULT", "fault", NULL},
	    {0}};
	int status;
	json_t *reply = session_ask(session, "fdd", MSG_FDD_LS, NULL, &status), *rows;
	long long stalls, lhm;

	(void)arguments;
	if (!reply)
		return status;
	stalls = number_of(reply, "stalls");
	lhm = number_of(reply, "lhm");
	rows = take_rows(reply);
	output_rows(session->form, rows, columns, "nothing is watched from here");
	json_decref(rows);
	fflush(stdout);
	if (lhm)
		fprintf(stderr,
		    "depctl: this fdd stood still lately (%lld times so far); "
		    "it holds that against nobody, but knows less than usual\n",
		    stalls);
	return 0;
}

/* A new reference to the row of that name, or NULL. */
static json_t *find_row(const json_t *rows, const char *name)
{
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		if (strcmp(text_of(row, "name"), name) == 0)
			return json_incref(row);
	}
	return NULL;
}

static const struct column node_columns[] = {{"node", "name", NULL}, {"state", "state", NULL},
    {"level", "level", format_level}, {"watched", "watch", NULL}, {"sent to", "send", NULL},
    {"keys agreed", "in_touch", NULL}, {"heard", "heard", NULL},
    {"silent for", "elapsed_ms", format_ms}, {"expected", "predicted_ms", format_ms},
    {"interval", "interval_ms", format_ms}, {"average", "kama_ms", format_ms},
    {"lateness, recent", "dev_fast_ms", format_ms}, {"lateness, longer", "dev_slow_ms", format_ms},
    {"recent loss", "loss", format_level}, {"incarnation", "incarnation", NULL},
    {"sequence", "sequence", NULL}, {"received", "received", NULL}, {"lost", "lost", NULL},
    {"repeated", "repeated", NULL}, {"of former lives", "old", NULL}, {0}};

static const struct column service_columns[] = {{"service", "name", NULL}, {"VE", "ve", NULL},
    {"epoch", "epoch", NULL}, {"state", "state", NULL}, {"level", "level", format_level},
    {"silent for", "elapsed_ms", format_ms}, {"expected", "predicted_ms", format_ms},
    {"interval", "interval_ms", format_ms}, {"asked", "asked", NULL}, {"good", "good", NULL},
    {"last fault", "fault", NULL}, {0}};

int command_fd_show(struct session *session, const struct arguments *arguments)
{
	const char *name = arguments->positional[0];
	int status;
	json_t *reply = session_ask(session, "fdd", MSG_FDD_LS, NULL, &status), *rows, *row;

	if (!reply)
		return status;
	rows = take_rows(reply);
	row = find_row(rows, name);
	json_decref(rows);
	if (!row) {
		fprintf(stderr, "depctl: fdd here knows nothing of %s\ntry: depctl fd ls\n", name);
		return RPC_NOT_FOUND;
	}
	output_object(session->form, row,
	    strcmp(text_of(row, "kind"), "node") == 0 ? node_columns : service_columns);
	json_decref(row);
	return 0;
}

/* --- watch --- */

enum { RAISE, EVERY, COUNT }; /* options of watch, as in the table */

struct watching {
	const struct session *session;
	uint64_t shown, count;
	bool ended;
	enum rpc_status status;
	char error[512];
};

static void print_notice(const struct session *session, const char *name, json_t *body)
{
	char elapsed[24], predicted[24];

	if (session->form != OUTPUT_TABLE) {
		json_object_set_new(body, "notice", json_string(name));
		output_line(body);
		fflush(stdout);
		return;
	}
	format_ms(elapsed, sizeof(elapsed), json_object_get(body, "elapsed_ms"));
	format_ms(predicted, sizeof(predicted), json_object_get(body, "predicted_ms"));
	printf("%-16s %.3f  silent %-8s expected %-8s", text_of(body, "name"),
	    json_number_value(json_object_get(body, "level")), elapsed, predicted);
	if (strcmp(name, MSG_FDD_LEVEL) == 0)
		printf(" %s %.3g", json_is_true(json_object_get(body, "raised")) ? "above" : "calm",
		    json_number_value(json_object_get(body, "threshold")));
	putchar('\n');
	fflush(stdout);
}

static void on_notice(void *userdata, const struct rpc_answer *answer)
{
	struct watching *watching = userdata;
	json_t *body;

	if (!answer->more) {
		watching->ended = true;
		watching->status = answer->status;
		snprintf(watching->error, sizeof(watching->error), "%s", answer->error);
		return;
	}
	if (watching->ended ||
	    (strcmp(answer->name, MSG_FDD_LEVEL) != 0 && strcmp(answer->name, MSG_FDD_VALUE) != 0))
		return;
	body = decode_body(answer->body, answer->size);
	if (body)
		print_notice(watching->session, answer->name, body);
	json_decref(body);
	watching->ended = ++watching->shown == watching->count;
}

/* "1/3" is not a number of C; 0.33,0.6 is.  False with one line. */
static bool parse_thresholds(const char *text, struct msg_fdd_register *request)
{
	const size_t max = sizeof(request->raise.item) / sizeof(request->raise.item[0]);
	char *end;

	for (request->raise.count = 0; request->raise.count < max; text = end + 1) {
		double level = strtod(text, &end);

		if (end == text || !(level > 0 && level < 1))
			break;
		request->raise.item[request->raise.count++] = level;
		if (*end == '\0')
			return true;
		if (*end != ',')
			break;
	}
	fprintf(stderr, "depctl: --raise: 1 to %zu levels between 0 and 1, as in 0.33,0.6\n", max);
	return false;
}

/* The node's id, or 0 after one line on standard error. */
static uint64_t id_of(const struct session *session, const char *name)
{
	const struct peer *peer = peers_by_name(&session->node.peers, name);

	if (!peer)
		fprintf(
		    stderr, "depctl: no node %s in the configuration\ntry: depctl fd ls\n", name);
	return peer ? peer->id : 0;
}

static int make_request(const struct session *session, const struct arguments *arguments,
    struct msg_fdd_register *request)
{
	static const struct msg_fdd_register usual = {
	    .raise = {3, {1.0 / 3, 0.6, 0.8}}, .clear = 0.2, .beats = 1};
	uint64_t every = 0;

	*request = usual;
	snprintf(request->application, sizeof(request->application), "depctl-%d", (int)getpid());
	if (arguments->option[RAISE] && !parse_thresholds(arguments->option[RAISE], request))
		return EXIT_USAGE;
	if (arguments->option[EVERY] &&
	    !parse_duration_ms("--every", arguments->option[EVERY], &every))
		return EXIT_USAGE;
	if (every > 3600000) {
		fprintf(stderr, "depctl: --every: at most an hour\n");
		return EXIT_USAGE;
	}
	request->period_ms = (uint32_t)every;
	if (request->raise.item[0] <= request->clear)
		request->clear = request->raise.item[0] / 2;
	if (!arguments->n_positionals)
		return 0;
	request->peer = id_of(session, arguments->positional[0]);
	return request->peer ? 0 : RPC_NOT_FOUND;
}

int command_fd_watch(struct session *session, const struct arguments *arguments)
{
	struct watching watching = {.session = session};
	struct rpc_client *client = session_client(session, "fdd");
	_cleanup_buf_ struct buf body = {0};
	struct msg_fdd_register request;
	int r = make_request(session, arguments, &request);

	if (r == 0 && arguments->option[COUNT] &&
	    !parse_count("--count", arguments->option[COUNT], 1, UINT32_MAX, &watching.count))
		r = EXIT_USAGE;
	if (r)
		return r;
	if (!client || msg_fdd_register_pack(&request, &body) < 0 ||
	    rpc_request(client, MSG_FDD_REGISTER, body.data, body.size, 0, on_notice, &watching) <
		0)
		return session_explain(session, "fdd", RPC_FAILED, "");
	while (!watching.ended && sd_event_run(session->loop, UINT64_MAX) >= 0)
		;
	if (watching.status == RPC_OK)
		return 0;
	return session_explain(session, "fdd",
	    session_verdict(session, "fdd", watching.status, mono_now()), watching.error);
}

/* --- log --- */

static void print_arrivals(const json_t *part)
{
	size_t i;
	json_t *arrival;

	json_array_foreach(json_object_get(part, "arrivals"), i, arrival)
	{
		long long at = number_of(arrival, "r"), sequence = number_of(arrival, "s");

		if (sequence)
			printf("- %lld %lld %lld %lld\n", at, sequence,
			    (long long)number_of(arrival, "d"), (long long)number_of(arrival, "i"));
		else
			printf("# stall %lld %lld\n", (long long)number_of(arrival, "f"), at);
	}
}

static void print_log(const struct session *session, const json_t *answers)
{
	size_t count = json_array_size(answers);
	const json_t *end = json_array_get(answers, count - 1);

	printf("# depsys-arrivals 1\n# observer %s\n# subject %s\n", session->node.name,
	    text_of(end, "name"));
	printf("# interval %lld\n", (long long)number_of(end, "interval_ms") * 1000000);
	if (number_of(end, "dropped"))
		printf("# dropped %lld\n", (long long)number_of(end, "dropped"));
	else
		printf("# since %lld\n", (long long)number_of(end, "since_ns"));
	for (size_t i = 0; i + 1 < count; i++)
		print_arrivals(json_array_get(answers, i));
	printf("# until %lld\n", (long long)number_of(end, "until_ns"));
}

int command_fd_log(struct session *session, const struct arguments *arguments)
{
	struct msg_fdd_arrivals request;
	_cleanup_buf_ struct buf body = {0};
	int status;
	json_t *answers;

	if (!PARSE_TEXT("NODE", arguments->positional[0], request.name) ||
	    msg_fdd_arrivals_pack(&request, &body) < 0)
		return EXIT_USAGE;
	answers = session_gather(session, "fdd", MSG_FDD_ARRIVALS, &body, &status);
	if (!answers)
		return status;
	if (session->form == OUTPUT_TABLE)
		print_log(session, answers);
	else
		output_line(answers);
	json_decref(answers);
	return 0;
}
