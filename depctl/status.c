/*
 * depctl status, stats, log.  All daemons are asked at once; one that is down costs no time, since the kernel says at
 * once that nobody listens.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "depctl/command.h"
#include "depctl/decode.h"
#include "proto/common.h"

static const char *const daemons[] = {
    "busd", "metad", "fdd", "gossipd", "ckptd", "migrated", "ved", "gosd"};
#define DAEMONS (sizeof(daemons) / sizeof(daemons[0]))

struct asked {
	json_t *row;
	int *open;
};

static void on_hello(void *userdata, const struct rpc_answer *answer)
{
	struct asked *asked = userdata;
	json_t *hello = answer->status == RPC_OK ? decode_body(answer->body, answer->size) : NULL;

	--*asked->open;
	if (hello) {
		json_object_update(asked->row, hello);
		json_object_set_new(asked->row, "state", json_string("up"));
		json_decref(hello);
	} else {
		json_object_set_new(
		    asked->row, "state", json_string(rpc_status_name(answer->status)));
	}
}

/* One row for each daemon. */
static json_t *ask_daemons(struct session *session)
{
	struct asked asked[DAEMONS];
	json_t *rows = json_array();
	int open = 0;

	for (size_t i = 0; i < DAEMONS; i++) {
		struct rpc_client *client =
		    session_is_up(session, daemons[i]) ? session_client(session, daemons[i]) : NULL;

		asked[i] = (struct asked){
		    json_pack("{s:s, s:s}", "daemon", daemons[i], "state", "down"), &open};
		json_array_append_new(rows, asked[i].row);
		if (client && rpc_request(client, MSG_COMMON_HELLO, NULL, 0, session->timeout_ms,
				  on_hello, &asked[i]) > 0)
			open++;
	}
	while (open > 0 && sd_event_run(session->loop, UINT64_MAX) >= 0)
		;
	return rows;
}

static json_int_t sum(const json_t *rows, const char *key)
{
	json_int_t total = 0;

	for (size_t i = 0; i < json_array_size(rows); i++)
		total += json_integer_value(json_object_get(json_array_get(rows, i), key));
	return total;
}

static bool all_up(const json_t *rows)
{
	for (size_t i = 0; i < json_array_size(rows); i++)
		if (strcmp(json_string_value(json_object_get(json_array_get(rows, i), "state")),
			"up") != 0)
			return false;
	return true;
}

static void hint(const struct session *session, const json_t *rows)
{
	for (size_t i = 0; i < json_array_size(rows); i++) {
		const json_t *row = json_array_get(rows, i);
		const char *daemon = json_string_value(json_object_get(row, "daemon"));

		if (strcmp(json_string_value(json_object_get(row, "state")), "down") == 0)
			fprintf(stderr,
			    "depctl: %s is down; try: systemctl restart depsys-%s, or sv restart %s\n",
			    daemon, daemon, daemon);
	}
	(void)session;
}

static const struct column daemon_columns[] = {{"DAEMON", "daemon", NULL}, {"STATE", "state", NULL},
    {"VERSION", "version", NULL}, {"PID", "pid", NULL}, {"UP", "uptime_ms", format_ms},
    {"MEMORY", "rss_kb", format_kb}, {"CPU", "cpu_ms", format_ms}, {0}};

int command_status(struct session *session, const struct arguments *arguments)
{
	json_t *rows = ask_daemons(session), *memory = json_integer(sum(rows, "rss_kb"));
	bool good = all_up(rows);

	(void)arguments;
	if (session->form != OUTPUT_TABLE) {
		json_t *status =
		    json_pack("{s:s, s:s, s:b, s:o, s:O}", "node", session->node.name, "cluster",
			session->node.cluster, "all_up", good, "rss_kb", memory, "daemons", rows);

		output_object(session->form, status, NULL);
		json_decref(status);
	} else {
		char text[32];

		format_kb(text, sizeof(text), memory);
		printf("node %s, cluster %s, %zu nodes configured, memory %s in all\n\n",
		    session->node.name, session->node.cluster, session->node.peers.count, text);
		output_rows(OUTPUT_TABLE, rows, daemon_columns, "");
		json_decref(memory);
		fflush(stdout);
		hint(session, rows);
	}
	json_decref(rows);
	return good ? 0 : RPC_UNREACHABLE;
}

static bool is_daemon(const char *name)
{
	for (size_t i = 0; i < DAEMONS; i++)
		if (strcmp(daemons[i], name) == 0)
			return true;
	fprintf(stderr, "depctl: no daemon %s; there are", name);
	for (size_t i = 0; i < DAEMONS; i++)
		fprintf(stderr, " %s", daemons[i]);
	fputc('\n', stderr);
	return false;
}

int command_stats(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {
	    {"COUNTER", "name", NULL}, {"VALUE", "value", NULL}, {0}};
	const char *daemon = arguments->positional[0];
	int status;
	json_t *reply;

	if (!is_daemon(daemon))
		return EXIT_USAGE;
	reply = session_ask(session, daemon, MSG_COMMON_STATS, NULL, &status);
	if (!reply)
		return status;
	output_rows(session->form, json_object_get(reply, "stats"), columns, "no counters");
	json_decref(reply);
	return 0;
}

int command_log(struct session *session, const struct arguments *arguments)
{
	struct msg_common_set_log message;
	_cleanup_buf_ struct buf body = {0};
	int level = log_level_parse(arguments->positional[1]), status;
	json_t *reply;

	if (!is_daemon(arguments->positional[0]))
		return EXIT_USAGE;
	if (level < 0) {
		fprintf(stderr, "depctl: %s is not one of debug info notice warning error\n",
		    arguments->positional[1]);
		return EXIT_USAGE;
	}
	message.level = (enum msg_common_log_level)level;
	msg_common_set_log_pack(&message, &body);
	reply = session_ask(session, arguments->positional[0], MSG_COMMON_SET_LOG, &body, &status);
	json_decref(reply);
	return status;
}
