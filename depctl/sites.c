/*
 * depctl cluster: the clusters of all sites, and the nodes of the other ones, as this node knows them.
 */
#include <stdio.h>

#include "depctl/command.h"
#include "proto/gossipd.h"

static void format_heard(char *text, size_t size, const json_t *value)
{
	snprintf(text, size, "%s", json_is_true(value) ? "UNKNOWN" : "heard");
}

static void format_names(char *text, size_t size, const json_t *value)
{
	size_t at = 0, i;
	const json_t *name;

	text[0] = '\0';
	json_array_foreach(value, i, name) if (at < size) at +=
	    (size_t)snprintf(text + at, size - at, "%s%s", i ? " " : "", json_string_value(name));
}

int command_cluster_ls(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"CLUSTER", "cluster", NULL},
	    {"STATE", "unknown", format_heard}, {"NODES", "size", NULL}, {"ALIVE", "alive", NULL},
	    {"COORDINATOR", "coordinator", NULL}, {"GATEWAYS", "gateways", format_names},
	    {"OURS", "own", NULL}, {0}};

	int status;
	json_t *reply = session_ask(session, "gossipd", MSG_GOSSIPD_CLUSTER_LS, NULL, &status);

	(void)arguments;
	if (!reply)
		return status;
	output_rows(session->form, json_object_get(reply, "clusters"), columns, "no clusters");
	json_decref(reply);
	return 0;
}

int command_cluster_nodes(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"NODE", "node", NULL},
	    {"CLUSTER", "cluster", NULL}, {"ADDRESS", "address", NULL}, {"STATE", "state", NULL},
	    {"CLUSTER IS", "unknown", format_heard}, {0}};

	int status;
	json_t *reply = session_ask(session, "gossipd", MSG_GOSSIPD_ABROAD, NULL, &status);

	(void)arguments;
	if (!reply)
		return status;
	output_rows(
	    session->form, json_object_get(reply, "nodes"), columns, "there is one cluster only");
	json_decref(reply);
	return 0;
}
