/*
 * depctl node: the members of the cluster, and this node's own part in it.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "depctl/command.h"
#include "depctl/decode.h"
#include "proto/fdd.h"
#include "proto/gossipd.h"
#include "proto/migrated.h"

static void warn_isolated(const json_t *reply)
{
	fflush(stdout);
	if (json_is_true(json_object_get(reply, "isolated")))
		fprintf(stderr, "depctl: this node is cut off from the majority; "
				"states and coordinator are what it knew before\n");
}

int command_node_ls(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"NODE", "node", NULL},
	    {"ADDRESS", "address", NULL}, {"STATE", "state", NULL},
	    {"COORDINATOR", "coordinator", NULL}, {"VOTES", "votes", NULL},
	    {"OBSERVERS", "observers", NULL}, {"WATCHED HERE", "watched", NULL},
	    {"HEARD", "heard_ms", format_ms}, {0}};
	int status;
	json_t *reply = session_ask(session, "gossipd", MSG_GOSSIPD_MEMBERS, NULL, &status);

	(void)arguments;
	if (!reply)
		return status;
	output_rows(session->form, json_object_get(reply, "members"), columns, "no members");
	warn_isolated(reply);
	json_decref(reply);
	return 0;
}

/* The last object of the array under key that has value at name: of two keys of one node the newer. */
static json_t *find(const json_t *reply, const char *key, const char *name, const char *value)
{
	json_t *found = NULL, *item;
	size_t i;

	json_array_foreach(json_object_get(reply, key), i, item)
	{
		const char *text = json_string_value(json_object_get(item, name));

		if (text && strcmp(text, value) == 0)
			found = item;
	}
	return found;
}

/* What fdd of this node hears of it goes under "detector"; without fdd that is missing, and nothing else. */
static void add_detector(struct session *session, json_t *object, const char *name)
{
	json_t *reply, *found;
	int status;

	if (session_reach(session, "fdd") != RPC_OK)
		return;
	reply = session_ask(session, "fdd", MSG_FDD_LS, NULL, &status);
	found = reply ? find(reply, "peers", "name", name) : NULL;
	if (found) {
		json_object_set(object, "detector", found);
		json_object_set(object, "level", json_object_get(found, "level"));
	}
	json_decref(reply);
}

int command_node_show(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"node", "node", NULL},
	    {"address", "address", NULL}, {"state", "state", NULL},
	    {"coordinator", "coordinator", NULL}, {"id", "id", NULL},
	    {"incarnation", "incarnation", NULL}, {"votes", "votes", NULL},
	    {"observers", "observers", NULL}, {"watched here", "watched", NULL},
	    {"stalled", "stalled", NULL}, {"damped", "damped", NULL},
	    {"heard", "heard_ms", format_ms}, {"level", "level", format_level}, {0}};
	const char *name = arguments->positional[0];
	json_t *reply, *found;
	int status;

	reply = session_ask(session, "gossipd", MSG_GOSSIPD_MEMBERS, NULL, &status);
	if (!reply)
		return status;
	found = find(reply, "members", "node", name);
	if (!found) {
		fprintf(stderr, "depctl: no member %s\ntry: depctl node ls; depctl key ls\n", name);
		json_decref(reply);
		return RPC_NOT_FOUND;
	}
	add_detector(session, found, name);
	output_object(session->form, found, columns);
	warn_isolated(reply);
	json_decref(reply);
	return 0;
}

/* "ADDRESS", "ADDRESS:PORT", "[IPv6]:PORT" */
static bool parse_member(const char *text, struct msg_gossipd_join *request)
{
	uint8_t binary[16];
	uint64_t port = 7400;
	char host[64];
	const char *behind;
	size_t length;

	if (*text == '[') {
		length = strcspn(text + 1, "]");
		behind = text[1 + length] ? text + 2 + length : "[";
		text++;
	} else {
		const char *colon = strchr(text, ':');

		length = colon && !strchr(colon + 1, ':') ? (size_t)(colon - text) : strlen(text);
		behind = text + length;
	}
	snprintf(host, sizeof(host), "%.*s", (int)(length < 63 ? length : 63), text);
	if ((inet_pton(AF_INET, host, binary) != 1 && inet_pton(AF_INET6, host, binary) != 1) ||
	    (*behind && *behind != ':')) {
		fprintf(stderr, "depctl: %s is not ADDRESS:PORT with a numeric address\n", text);
		return false;
	}
	if (*behind && !parse_count("PORT", behind + 1, 1, 65535 - PORT_RANGE, &port))
		return false;
	memcpy(request->address, host, sizeof(request->address));
	request->port = (uint16_t)port;
	return true;
}

int command_node_join(struct session *session, const struct arguments *arguments)
{
	struct msg_gossipd_join request = {0};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	int status;

	if (!parse_member(arguments->positional[0], &request))
		return EXIT_USAGE;
	if (!arguments->option[0] || key_parse(request.server_key, arguments->option[0]) < 0) {
		fprintf(stderr, "depctl: --server-key: the member's public key, 64 hex digits; "
				"there: depctl key show FILE\n");
		return EXIT_USAGE;
	}
	msg_gossipd_join_pack(&request, &body);
	reply = session_ask(session, "gossipd", MSG_GOSSIPD_JOIN, &body, &status);
	if (!reply)
		return status;
	if (session->form != OUTPUT_TABLE)
		output_object(session->form, reply, NULL);
	else if (json_is_true(json_object_get(reply, "member")))
		printf("this node is a member already\n");
	else
		printf("%s is asked; there: depctl key pending, depctl key allow %s\n",
		    request.address, session->node.name);
	json_decref(reply);
	return 0;
}

/* Names those that the placements have here; how many. */
static unsigned tell_services(struct session *session, const json_t *ves)
{
	unsigned count = 0;
	const json_t *ve;
	size_t i;

	json_array_foreach(ves, i, ve)
	{
		const char *name = json_string_value(json_object_get(ve, "name"));

		if (strcmp(json_string_value(json_object_get(ve, "node")), session->node.name) ||
		    strcmp(json_string_value(json_object_get(ve, "want")), "run") != 0)
			continue;
		fprintf(stderr,
		    "depctl: %s runs here; elsewhere it would go on from its last checkpoint\n",
		    name);
		count++;
	}
	return count;
}

/* What a service did since its last checkpoint is lost with its node, also when that says good-bye.  No answer: none is known. */
static bool has_services(struct session *session)
{
	json_t *reply = NULL;
	unsigned count;
	int status;

	if (session_reach(session, "migrated") == RPC_OK)
		reply = session_ask(session, "migrated", MSG_MIGRATED_LS, NULL, &status);
	count = tell_services(session, json_object_get(reply, "ves"));
	json_decref(reply);
	return count > 0;
}

int command_node_leave(struct session *session, const struct arguments *arguments)
{
	json_t *reply;
	int status;

	if (!arguments->option[0] && has_services(session)) {
		fprintf(
		    stderr, "try: depctl ckpt create, then at once depctl node leave --force\n");
		return RPC_FAILED;
	}
	reply = session_ask(session, "gossipd", MSG_GOSSIPD_LEAVE, NULL, &status);
	if (!reply)
		return status;
	if (session->form == OUTPUT_TABLE)
		printf("this node has left; it is a member again when its gossipd starts anew\n");
	else
		output_object(session->form, reply, NULL);
	json_decref(reply);
	return 0;
}
