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
#include "proto/gossipd.h"
#include "proto/migrated.h"

static const char *const daemons[] = {
    "busd", "metad", "fdd", "gossipd", "ckptd", "migrated", "ved", "gosd", "webd"};
#define DAEMONS (sizeof(daemons) / sizeof(daemons[0]))

struct asked {
	const struct session *session;
	const char *daemon;
	struct mono asked;
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
		enum rpc_status status =
		    session_verdict(asked->session, asked->daemon, answer->status, asked->asked);

		json_object_set_new(asked->row, "state",
		    json_string(status == RPC_UNREACHABLE ? "down" : rpc_status_name(status)));
	}
}

/* One row for each daemon. */
static json_t *ask_daemons(struct session *session)
{
	struct asked asked[DAEMONS];
	json_t *rows = json_array();
	int open = 0;

	for (size_t i = 0; i < DAEMONS; i++) {
		struct rpc_client *client = session_client(session, daemons[i]);

		asked[i] = (struct asked){session, daemons[i], mono_now(),
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

static size_t count_state(const json_t *rows, const char *state)
{
	size_t count = 0, i;
	json_t *row;

	json_array_foreach(rows, i, row) count +=
	    strcmp(json_string_value(json_object_get(row, "state")), state) == 0;
	return count;
}

/* The worst of it: what an operator has to mend first. */
static int exit_code(const json_t *rows)
{
	size_t up = count_state(rows, "up"), silent = count_state(rows, "timeout");

	if (count_state(rows, "denied"))
		return RPC_DENIED;
	if (up == json_array_size(rows))
		return 0;
	return up + silent == json_array_size(rows) ? RPC_TIMEOUT : RPC_UNREACHABLE;
}

static bool is_up(const json_t *rows, const char *daemon)
{
	size_t i;
	json_t *row;

	json_array_foreach(rows, i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "daemon")), daemon) == 0)
			return strcmp(json_string_value(json_object_get(row, "state")), "up") == 0;
	}
	return false;
}

/* Who coordinates and how many are alive, as gossipd sees it; how many VEs are wanted.  NULL where nobody could be asked. */
static json_t *ask_cluster(struct session *session, const json_t *rows)
{
	int status;
	size_t i;
	json_t *cluster = json_object(), *held = json_array(), *reply, *one;
	json_int_t alive = 0, running = 0;

	reply = is_up(rows, "gossipd")
		    ? session_ask(session, "gossipd", MSG_GOSSIPD_MEMBERS, NULL, &status)
		    : NULL;
	json_array_foreach(json_object_get(reply, "members"), i, one)
	{
		alive += strcmp(json_string_value(json_object_get(one, "state")), "alive") == 0;
		if (json_is_true(json_object_get(one, "coordinator")))
			json_object_set(cluster, "coordinator", json_object_get(one, "node"));
		if (strcmp(json_string_value(json_object_get(one, "node")), session->node.name) ==
		    0)
			json_object_set(cluster, "damped", json_object_get(one, "damped"));
	}
	if (reply) {
		json_object_set_new(cluster, "alive", json_integer(alive));
		json_object_set(cluster, "isolated", json_object_get(reply, "isolated"));
	}
	json_decref(reply);
	reply = is_up(rows, "migrated")
		    ? session_ask(session, "migrated", MSG_MIGRATED_LS, NULL, &status)
		    : NULL;
	json_array_foreach(json_object_get(reply, "ves"), i, one)
	{
		running += strcmp(json_string_value(json_object_get(one, "want")), "run") == 0;
		if (*json_string_value(json_object_get(one, "held")))
			json_array_append_new(
			    held, json_pack("{s:O, s:O}", "ve", json_object_get(one, "name"),
				      "reason", json_object_get(one, "held")));
	}
	if (reply) {
		json_object_set_new(cluster, "ves", json_integer(running));
		json_object_del(reply, "ves");
		json_object_set(cluster, "facts", reply);
	}
	json_object_set_new(cluster, "held", held);
	json_decref(reply);
	return cluster;
}

static void hint(const struct session *session, const json_t *rows)
{
	bool denied = false;

	for (size_t i = 0; i < json_array_size(rows); i++) {
		const json_t *row = json_array_get(rows, i);
		const char *daemon = json_string_value(json_object_get(row, "daemon"));
		const char *state = json_string_value(json_object_get(row, "state"));

		denied = denied || strcmp(state, "denied") == 0;
		if (strcmp(state, "timeout") == 0)
			fprintf(stderr,
			    "depctl: %s did not answer within %lld ms; try: journalctl -u depsys-%s, "
			    "or its log under /var/log/depsys/%s\n",
			    daemon, (long long)session->timeout_ms, daemon, daemon);
		if (strcmp(state, "down") == 0)
			fprintf(stderr,
			    "depctl: %s is down; try: systemctl restart depsys-%s, or sv restart %s\n",
			    daemon, daemon, daemon);
	}
	if (denied)
		fprintf(stderr, "depctl: denied; try: as root, or as a member of group %s\n",
		    session->node.group);
}

static const struct column daemon_columns[] = {{"DAEMON", "daemon", NULL}, {"STATE", "state", NULL},
    {"VERSION", "version", NULL}, {"PID", "pid", NULL}, {"UP", "uptime_ms", format_ms},
    {"MEMORY", "rss_kb", format_kb}, {"CPU", "cpu_ms", format_ms}, {0}};

static size_t count_near(const struct node_config *node)
{
	const struct peer *peer = NULL;
	size_t count = 0;

	while ((peer = peers_next(&node->peers, peer)))
		count += config_is_near(node, peer);
	return count;
}

static void print_cluster(const struct session *session, const json_t *cluster)
{
	char name[CLUSTER_NAME_MAX + 1];
	const json_t *coordinator = json_object_get(cluster, "coordinator");
	const json_t *alive = json_object_get(cluster, "alive"),
		     *ves = json_object_get(cluster, "ves"), *one;
	size_t i;

	config_cluster_name(name, &session->node, session->node.self);
	printf("cluster %s, ", name);
	if (alive)
		printf("%lld of %zu nodes alive, coordinator %s",
		    (long long)json_integer_value(alive), count_near(&session->node),
		    coordinator ? json_string_value(coordinator) : "none");
	else
		printf("%zu nodes", count_near(&session->node));
	if (json_is_true(json_object_get(cluster, "isolated")))
		printf(" (cut off from the majority: as it was known before)");
	if (json_is_true(json_object_get(cluster, "damped")))
		printf(" (this node comes and goes: without a part until it is stable)");
	if (ves)
		printf(", VEs to run: %lld", (long long)json_integer_value(ves));
	printf("\n");
	json_array_foreach(json_object_get(cluster, "held"), i, one) printf(
	    "VE %s is held where it was: %s\n", json_string_value(json_object_get(one, "ve")),
	    json_string_value(json_object_get(one, "reason")));
	printf("\n");
}

int command_status(struct session *session, const struct arguments *arguments)
{
	json_t *rows = ask_daemons(session), *memory = json_integer(sum(rows, "rss_kb"));
	json_t *cluster = ask_cluster(session, rows);
	int status = exit_code(rows);

	(void)arguments;
	if (session->form != OUTPUT_TABLE) {
		json_t *object = json_pack("{s:s, s:s, s:b, s:o, s:O}", "node", session->node.name,
		    "cluster", session->node.cluster, "all_up", status == 0, "rss_kb", memory,
		    "daemons", rows);

		json_object_update(object, cluster);
		output_object(session->form, object, NULL);
		json_decref(object);
	} else {
		char text[32];

		format_kb(text, sizeof(text), memory);
		printf("node %s, memory of the daemons %s\n", session->node.name, text);
		print_cluster(session, cluster);
		output_rows(OUTPUT_TABLE, rows, daemon_columns, "");
		json_decref(memory);
		fflush(stdout);
	}
	hint(session, rows);
	if (json_object_get(cluster, "facts") && is_up(rows, "metad"))
		warn_of_no_quorum(json_object_get(cluster, "facts"));
	json_decref(cluster);
	json_decref(rows);
	return status;
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
