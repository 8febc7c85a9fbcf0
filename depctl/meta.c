/*
 * depctl meta: the store of facts as a whole.
 */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "depctl/command.h"
#include "proto/metad.h"

#define IMPORT_OPS 32
#define IMPORT_BYTES (200 * 1024) /* of values in one transaction */
#define LOSS_TRIES 8 /* a voter that is silent once may only be slow, or starting: any of them */
#define LOSS_AGAIN_MS 500

/* --- voters --- */

static int fetch_voters(struct session *session, struct msg_metad_voters_reply *voters)
{
	_cleanup_buf_ struct buf body = {0}, reply = {0};
	struct mpr_error error;
	int status;

	msg_metad_voters_pack(&(struct msg_metad_voters){0}, &body);
	status = session_fetch(session, "metad", MSG_METAD_VOTERS, &body, &reply);
	if (status)
		return status;
	return msg_metad_voters_reply_unpack(voters, reply.data, reply.size, &error) < 0
		   ? RPC_FAILED
		   : 0;
}

static size_t count_reachable(const struct msg_metad_voters_reply *voters, const char *but)
{
	size_t count = 0;

	for (size_t i = 0; i < voters->voters.count; i++) {
		const struct msg_metad_voter_state *voter = &voters->voters.item[i];

		count += voter->reachable && voter->votes && strcmp(voter->name, but) != 0;
	}
	return count;
}

/* The facts are in etcd: its endpoints are told instead of nodes. */
static bool are_endpoints(const struct msg_metad_voters_reply *voters)
{
	return voters->voters.count && strncmp(voters->voters.item[0].name, "https://", 8) == 0;
}

static const char *state_of(
    const struct msg_metad_voters_reply *voters, const struct msg_metad_voter_state *voter)
{
	if (!voter->reachable)
		return "unreachable";
	if (!voter->votes)
		return "store lost";
	if (voter->leads)
		return "leads";
	return are_endpoints(voters) ? "serves"
				     : "votes"; /* endpoints may be of members that only learn */
}

/* It alone knows what a majority is: somebody leads, or nobody does. */
static int check_leader(const struct msg_metad_voters_reply *voters)
{
	for (size_t i = 0; i < voters->voters.count; i++) {
		if (voters->voters.item[i].leads)
			return 0;
	}
	fprintf(stderr,
	    "depctl: no member of etcd leads, or none can be reached: facts cannot be written\n");
	return RPC_FAILED;
}

int command_meta_status(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {
	    {"VOTER", "voter", NULL}, {"STATE", "state", NULL}, {0}};
	struct msg_metad_voters_reply voters;
	json_t *rows = json_array();
	size_t reached = 0;
	int status = fetch_voters(session, &voters);

	(void)arguments;
	for (size_t i = 0; status == 0 && i < voters.voters.count; i++) {
		const struct msg_metad_voter_state *voter = &voters.voters.item[i];

		json_array_append_new(rows, json_pack("{s:s, s:s}", "voter", voter->name, "state",
						state_of(&voters, voter)));
	}
	if (status == 0 && are_endpoints(&voters)) {
		output_rows(session->form, rows, columns, "no endpoints");
		status = check_leader(&voters);
	} else if (status == 0) {
		output_rows(session->form, rows, columns, "no voters");
		reached = count_reachable(&voters, "");
		if (2 * reached <= voters.voters.count) {
			fprintf(stderr, "depctl: no majority: %zu of %zu voters can be reached\n",
			    reached, voters.voters.count);
			status = RPC_FAILED;
		}
	}
	json_decref(rows);
	return status;
}

/* Does this node vote, and are those that can be reached no majority without it? */
static bool is_needed(const struct msg_metad_voters_reply *voters, const char *name)
{
	bool votes = false;

	for (size_t i = 0; i < voters->voters.count; i++)
		votes |= strcmp(voters->voters.item[i].name, name) == 0;
	return votes && 2 * count_reachable(voters, name) <= voters->voters.count;
}

/* Where there is no majority even with it, whenever one looks, nothing more is lost. */
int meta_check_loss(struct session *session, const char *name)
{
	struct timespec pause = {.tv_nsec = LOSS_AGAIN_MS * 1000000L};
	struct msg_metad_voters_reply voters;
	bool majority = false;

	for (int i = 0; i < LOSS_TRIES; i++) {
		int status;

		if (i > 0)
			nanosleep(&pause, NULL);
		status = fetch_voters(session, &voters);
		if (status || !is_needed(&voters, name))
			return status;
		majority |= 2 * count_reachable(&voters, "") > voters.voters.count;
	}
	if (!majority)
		return 0;
	fprintf(stderr,
	    "depctl: %s is one of metad's %zu voters, and the %zu others that can be reached are no "
	    "majority: no fact could be written any more\n"
	    "try: depctl meta remove %s (or add another first); --force if its key is abused\n",
	    name, voters.voters.count, count_reachable(&voters, name), name);
	return RPC_FAILED;
}

static int change(struct session *session, const char *message, const char *node)
{
	_cleanup_buf_ struct buf body = {0}, reply = {0};
	struct msg_metad_add_voter request = {0}; /* remove_voter has the same field */

	if (!PARSE_TEXT("NODE", node, request.name))
		return EXIT_USAGE;
	msg_metad_add_voter_pack(&request, &body);
	return session_fetch(session, "metad", message, &body, &reply);
}

int command_meta_add(struct session *session, const struct arguments *arguments)
{
	int status = change(session, MSG_METAD_ADD_VOTER, arguments->positional[0]);

	if (status == 0)
		printf("%s votes\n", arguments->positional[0]);
	return status;
}

int command_meta_remove(struct session *session, const struct arguments *arguments)
{
	int status = change(session, MSG_METAD_REMOVE_VOTER, arguments->positional[0]);

	if (status == 0)
		printf("%s votes no longer\n", arguments->positional[0]);
	return status;
}

/* One that an attempt before has removed is only added. */
int command_meta_rejoin(struct session *session, const struct arguments *arguments)
{
	const char *node = arguments->positional[0];
	struct msg_metad_voters_reply voters;
	int status = fetch_voters(session, &voters);

	for (size_t i = 0; status == 0 && i < voters.voters.count; i++) {
		const struct msg_metad_voter_state *voter = &voters.voters.item[i];

		if (strcmp(voter->name, node) != 0)
			continue;
		if (voter->votes) {
			fprintf(stderr, "depctl: %s votes, its store is not lost\n", node);
			return RPC_FAILED;
		}
		status = command_meta_remove(session, arguments);
	}
	return status ? status : command_meta_add(session, arguments);
}

int command_meta_export(struct session *session, const struct arguments *arguments)
{
	_cleanup_buf_ struct buf body = {0}, reply = {0};
	static struct msg_metad_exported file;
	struct mpr_error error;
	int status;

	(void)arguments;
	msg_metad_export_pack(&(struct msg_metad_export){0}, &body);
	status = session_fetch(session, "metad", MSG_METAD_EXPORT, &body, &reply);
	if (status)
		return status;
	if (msg_metad_exported_unpack(&file, reply.data, reply.size, &error) < 0)
		return RPC_FAILED;
	printf("%s: %lu facts\n", file.path, file.facts);
	if (file.revision != file.to)
		fprintf(stderr,
		    "depctl: facts changed while they were read: revisions %lu to %lu\n",
		    file.revision, file.to);
	return 0;
}

/* --- import --- */

struct fact {
	const char *key;
	uint8_t *value;
	size_t size;
};

struct import {
	struct session *session;
	const char *path;
	json_t *lines; /* the facts' keys are borrowed from here */
	struct fact *facts;
	size_t count;
};

static void import_fini(struct import *import)
{
	for (size_t i = 0; i < import->count; i++)
		free(import->facts[i].value);
	free(import->facts);
	json_decref(import->lines);
}

static int bad_line(const struct import *import, size_t number, const char *why)
{
	fprintf(stderr, "depctl: %s:%zu: %s\n", import->path, number, why);
	return RPC_INVALID;
}

static int take_fact(struct import *import, size_t number, const json_t *line)
{
	const char *key = json_string_value(json_object_get(line, "key"));
	const char *value = json_string_value(json_object_get(line, "value"));
	size_t room = value ? strlen(value) / 4 * 3 + 1 : 0;
	struct fact *fact = &import->facts[import->count];

	if (!key || !*key || strlen(key) > 255 || !value)
		return bad_line(import, number, "a fact has a key and a value");
	fact->key = key;
	fact->value = malloc(room);
	if (!fact->value)
		return bad_line(import, number, "no memory");
	import->count++;
	if (sodium_base642bin(fact->value, room, value, strlen(value), NULL, &fact->size, NULL,
		sodium_base64_VARIANT_ORIGINAL) < 0)
		return bad_line(import, number, "the value is not base64");
	return 0;
}

static int read_lines(struct import *import)
{
	FILE *file = fopen(import->path, "r");
	json_error_t error;
	json_t *line;
	int r = 0;

	if (!file) {
		fprintf(stderr, "depctl: open %s: %s\n", import->path, strerror(errno));
		return RPC_FAILED;
	}
	import->lines = json_array();
	while ((line = json_loadf(file, JSON_DISABLE_EOF_CHECK, &error)))
		json_array_append_new(import->lines, line);
	if (!feof(file))
		r = bad_line(import, json_array_size(import->lines) + 1, error.text);
	fclose(file);
	return r;
}

/* The first line says what this is and the last that it is whole. */
static int read_facts(struct import *import)
{
	const char *format, *cluster, *here = import->session->node.cluster;
	size_t count;
	int r = read_lines(import);

	if (r)
		return r;
	count = json_array_size(import->lines);
	format = json_string_value(json_object_get(json_array_get(import->lines, 0), "format"));
	cluster = json_string_value(json_object_get(json_array_get(import->lines, 0), "cluster"));
	if (!format || strcmp(format, "depsys-facts-1") != 0)
		return bad_line(import, 1, "not a file of depctl meta export");
	if (!cluster || strcmp(cluster, here) != 0)
		return bad_line(import, 1, "these are the facts of another cluster");
	import->facts = calloc(count, sizeof(*import->facts));
	for (size_t i = 1; r == 0 && import->facts && i + 1 < count; i++)
		r = take_fact(import, i + 1, json_array_get(import->lines, i));
	if (r == 0 && json_integer_value(json_object_get(json_array_get(import->lines, count - 1),
			  "facts")) != (json_int_t)import->count)
		r = bad_line(
		    import, count, "the file was cut: its last line does not count the facts");
	return r;
}

/* Who coordinates is written anew all the time; what was known replaces it, so that epochs go on from there. */
static bool is_lease(const char *key)
{
	return strncmp(key, "coord/", 6) == 0;
}

static bool is_in_file(const struct import *import, const struct msg_metad_entry *entry)
{
	for (size_t i = 0; i < import->count; i++) {
		const struct fact *fact = &import->facts[i];

		if (strcmp(fact->key, entry->key) == 0)
			return fact->size == entry->value_size &&
			       memcmp(fact->value, entry->value, fact->size) == 0;
	}
	return false;
}

/* 0 when the store holds nothing but leases, or what an import of this file that was broken off has brought. */
static int check_empty(struct import *import)
{
	struct msg_metad_scan request = {.limit = 256};
	static struct msg_metad_page page;
	struct mpr_error error;
	int status;

	do {
		_cleanup_buf_ struct buf body = {0}, reply = {0};

		msg_metad_scan_pack(&request, &body);
		status = session_fetch(import->session, "metad", MSG_METAD_SCAN, &body, &reply);
		if (status == 0 && msg_metad_page_unpack(&page, reply.data, reply.size, &error) < 0)
			status = RPC_FAILED;
		if (status)
			return status;
		for (size_t i = 0; i < page.entries.count; i++) {
			const struct msg_metad_entry *entry = &page.entries.item[i];

			if (!is_lease(entry->key) && !is_in_file(import, entry)) {
				fprintf(stderr,
				    "depctl: the store is not empty: it has %s\n"
				    "facts are imported into an empty store only: depctl meta ls\n",
				    entry->key);
				return RPC_FAILED;
			}
			snprintf(request.after, sizeof(request.after), "%s", entry->key);
		}
	} while (page.more && page.entries.count);
	return 0;
}

/* Asked until the answer is known; putting a fact again does no harm. */
static int put_batch(struct import *import, size_t first, size_t *next)
{
	static struct msg_metad_txn request;
	_cleanup_buf_ struct buf body = {0}, reply = {0};
	struct msg_metad_txn_reply answer;
	struct mpr_error error;
	size_t bytes = 0, at = first;
	int status;

	request = (struct msg_metad_txn){.has_nonce = true};
	randombytes_buf(request.nonce, sizeof(request.nonce));
	for (; at < import->count && at - first < IMPORT_OPS &&
	       (at == first || bytes + import->facts[at].size <= IMPORT_BYTES);
	     at++) {
		const struct fact *fact = &import->facts[at];
		struct msg_metad_op *op = &request.ops.item[request.ops.count++];

		*op = (struct msg_metad_op){.kind = MSG_METAD_KIND_PUT,
		    .has_value = true,
		    .value = fact->value,
		    .value_size = fact->size};
		snprintf(op->key, sizeof(op->key), "%s", fact->key);
		bytes += fact->size;
	}
	msg_metad_txn_pack(&request, &body);
	status = session_fetch(import->session, "metad", MSG_METAD_TXN, &body, &reply);
	if (status)
		return status;
	if (msg_metad_txn_reply_unpack(&answer, reply.data, reply.size, &error) < 0 ||
	    answer.result != MSG_METAD_RESULT_APPLIED) {
		fprintf(stderr, "depctl: no voter answered in time: repeat the import\n");
		return RPC_UNKNOWN;
	}
	*next = at;
	return 0;
}

int command_meta_import(struct session *session, const struct arguments *arguments)
{
	struct import import = {.session = session, .path = arguments->positional[0]};
	int status = read_facts(&import);

	if (status == 0)
		status = check_empty(&import);
	for (size_t at = 0; status == 0 && at < import.count;)
		status = put_batch(&import, at, &at);
	if (status == 0)
		printf("%zu facts\n", import.count);
	import_fini(&import);
	return status;
}
