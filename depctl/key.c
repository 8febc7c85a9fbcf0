/*
 * depctl key new|show|admin-new|admin-show|ls|pending: key files, and which keys the node knows.
 */
#include "depctl/key.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "depctl/decode.h"

/* --- files --- */

static void print_public(const struct session *session, const uint8_t key[KEY_SIZE])
{
	char text[2 * KEY_SIZE + 1];
	json_t *object;

	key_format(text, key);
	if (session->form == OUTPUT_TABLE) {
		printf("%s\n", text);
		return;
	}
	object = json_pack("{s:s}", "public_key", text);
	output_object(session->form, object, NULL);
	json_decref(object);
}

static int say_created(const struct session *session, const char *path, int r, const uint8_t *key)
{
	if (r < 0)
		fprintf(stderr, "depctl: create %s: %s\n", path, strerror(-r));
	else
		print_public(session, key);
	return r < 0 ? 1 : 0;
}

int command_key_new(struct session *session, const struct arguments *arguments)
{
	const char *path = arguments->positional[0];
	struct node_keys keys;
	int status;

	keys_generate(&keys);
	status = say_created(session, path, keys_save(&keys, path), keys.public_key);
	sodium_memzero(&keys, sizeof(keys));
	return status;
}

int command_key_show(struct session *session, const struct arguments *arguments)
{
	struct node_keys keys;

	if (keys_load(&keys, arguments->positional[0]) < 0)
		return 1;
	print_public(session, keys.public_key);
	sodium_memzero(&keys, sizeof(keys));
	return 0;
}

int command_key_admin_new(struct session *session, const struct arguments *arguments)
{
	const char *path = arguments->positional[0];
	struct admin_keys keys;
	int status = say_created(session, path, admin_keys_create(&keys, path), keys.public_key);

	sodium_memzero(&keys, sizeof(keys));
	if (status == 0 && session->form == OUTPUT_TABLE)
		fprintf(stderr,
		    "on every node: [node] admin = the line above; keep %s off the nodes\n", path);
	return status;
}

int command_key_admin_show(struct session *session, const struct arguments *arguments)
{
	struct admin_keys keys;

	if (admin_keys_load(&keys, arguments->positional[0]) < 0)
		return 1;
	print_public(session, keys.public_key);
	sodium_memzero(&keys, sizeof(keys));
	return 0;
}

/* --- what the node knows --- */

int key_say_unread(const struct mpr_error *error)
{
	fprintf(stderr, "depctl: gossipd: its answer cannot be read: %s\n", error->text);
	return RPC_FAILED;
}

int key_each(struct session *session, key_take *take, void *userdata)
{
	static struct msg_gossipd_keys_reply page;
	struct msg_gossipd_keys request = {0};

	do {
		_cleanup_buf_ struct buf body = {0}, reply = {0};
		struct mpr_error error;
		int status;

		msg_gossipd_keys_pack(&request, &body);
		status = session_fetch(session, "gossipd", MSG_GOSSIPD_KEYS, &body, &reply);
		if (status)
			return status;
		if (msg_gossipd_keys_reply_unpack(&page, reply.data, reply.size, &error) < 0)
			return key_say_unread(&error);
		for (size_t i = 0; i < page.keys.count; i++)
			take(userdata, &page.keys.item[i]);
		request.after += (uint32_t)page.keys.count;
	} while (page.more && page.keys.count > 0);
	return 0;
}

static void add_row(void *userdata, const struct msg_gossipd_key *key)
{
	_cleanup_buf_ struct buf packed = {0};
	json_t *row;

	if (msg_gossipd_key_pack(key, &packed) < 0)
		return;
	row = decode_body(packed.data, packed.size);
	if (row && !key->has_old_key)
		json_object_del(row, "old_until");
	json_array_append_new(userdata, row);
}

static void format_until(char *text, size_t size, const json_t *value)
{
	json_t *ms = json_integer(json_integer_value(value) * 1000);

	format_wall_ms(text, size, ms);
	json_decref(ms);
}

int command_key_ls(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"NODE", "node", NULL}, {"STATE", "state", NULL},
	    {"SERIAL", "serial", NULL}, {"ADDRESS", "address", NULL}, {"PORT", "port", NULL},
	    {"SITE", "site", NULL}, {"KEY", "public_key", format_id},
	    {"OLD KEY", "old_key", format_id}, {"UNTIL", "old_until", format_until}, {0}};
	json_t *rows = json_array();
	int status = key_each(session, add_row, rows);

	(void)arguments;
	if (status == 0)
		output_rows(session->form, rows, columns, "no nodes");
	json_decref(rows);
	return status;
}

int command_key_pending(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"NODE", "node", NULL},
	    {"ADDRESS", "address", NULL}, {"PORT", "port", NULL}, {"SITE", "site", NULL},
	    {"WAITS", "waiting_ms", format_ms}, {"ASKED", "seen_ms", format_ms},
	    {"REPLACES", "replaces", NULL}, {"KEY", "public_key", NULL}, {0}};
	int status;
	json_t *reply = session_ask(session, "gossipd", MSG_GOSSIPD_PENDING, NULL, &status);

	(void)arguments;
	if (!reply)
		return status;
	output_rows(session->form, json_object_get(reply, "applicants"), columns, "nobody waits");
	json_decref(reply);
	return 0;
}
