/*
 * depctl key allow|revoke|rotate: the administrator's word about a node, signed here and handed to gossipd of this node,
 * which spreads it.  The administrator's key is read for one signature and is sent nowhere.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "common/members.h"
#include "depctl/key.h"
#include "proto/common.h"

#define OVERLAP_MS 60000
#define SPREAD_MS 1500 /* gossip's own pace, if a hand-on was lost */
#define RESTART_MS 20000

/* --- what is known of a node --- */

struct known {
	const char *name;
	bool found;
	struct msg_gossipd_key key;
};

static void find_known(void *userdata, const struct msg_gossipd_key *key)
{
	struct known *known = userdata;

	if (strcmp(key->node, known->name) != 0)
		return;
	known->found = true;
	known->key = *key;
}

static void start_record(
    struct msg_member_record *record, const struct session *session, const struct known *known)
{
	const struct msg_gossipd_key *key = &known->key;

	*record = (struct msg_member_record){
	    .port = key->port, .serial = key->serial + 1, .has_cluster = true};
	memcpy(record->cluster, session->node.cluster, sizeof(record->cluster));
	memcpy(record->name, key->node, sizeof(record->name));
	memcpy(record->site, key->site, sizeof(record->site));
	memcpy(record->address, key->address, sizeof(record->address));
	memcpy(record->public_key, key->public_key, KEY_SIZE);
}

/* Another key for a node that is let in: the one that it has is good for a while yet. */
static void set_key(struct msg_member_record *record, const struct known *known,
    const uint8_t key[KEY_SIZE], uint64_t overlap_ms)
{
	if (memcmp(record->public_key, key, KEY_SIZE) == 0)
		return;
	record->has_old_key =
	    known->found && overlap_ms > 0 && known->key.state != MSG_GOSSIPD_KEY_STATE_REVOKED;
	if (record->has_old_key) {
		memcpy(record->old_key, record->public_key, KEY_SIZE);
		record->old_until = (uint64_t)time(NULL) + (overlap_ms + 999) / 1000;
	}
	memcpy(record->public_key, key, KEY_SIZE);
}

/* --- signing --- */

static int sign_and_put(
    struct session *session, const struct msg_member_record *record, const char *admin_path)
{
	_cleanup_buf_ struct buf bytes = {0}, body = {0}, reply = {0};
	struct msg_gossipd_put_record request;
	struct admin_keys keys;
	struct mpr_error error;
	int r = admin_keys_load(&keys, admin_path);

	if (r < 0)
		return RPC_FAILED;
	r = members_sign(record, keys.secret_key, &bytes);
	sodium_memzero(&keys, sizeof(keys));
	if (r < 0) {
		fprintf(stderr, "depctl: node %s: name, site, address, port or key is of no use\n",
		    record->name);
		return EXIT_USAGE;
	}
	if (msg_member_signed_unpack(&request.record, bytes.data, bytes.size, &error) < 0 ||
	    msg_gossipd_put_record_pack(&request, &body) < 0)
		return RPC_FAILED;
	return session_fetch(session, "gossipd", MSG_GOSSIPD_PUT_RECORD, &body, &reply);
}

/* Before anything that takes time: is it there, and whole? */
static int check_admin_key(const char *path)
{
	struct admin_keys keys;
	int r = admin_keys_load(&keys, path);

	sodium_memzero(&keys, sizeof(keys));
	return r < 0 ? RPC_FAILED : 0;
}

static int needs_admin_key(const char *path)
{
	if (path)
		return 0;
	fprintf(
	    stderr, "depctl: --admin-key is missing: the file that depctl key admin-new made\n");
	return EXIT_USAGE;
}

static void say_done(
    const struct session *session, const struct msg_member_record *record, const char *what)
{
	static const struct column columns[] = {{"node", "node", NULL}, {"state", "state", NULL},
	    {"serial", "serial", NULL}, {"key", "public_key", NULL}, {0}};
	char text[2 * KEY_SIZE + 1];
	json_t *object;

	key_format(text, record->public_key);
	object = json_pack("{s:s, s:s, s:I, s:s}", "node", record->name, "state", what, "serial",
	    (json_int_t)record->serial, "public_key", text);
	output_object(session->form, object, columns);
	json_decref(object);
}

/* --- nodes that are only in the configuration --- */

struct configured {
	size_t count;
	struct msg_gossipd_key key[PEERS_MAX];
};

static void note_configured(void *userdata, const struct msg_gossipd_key *key)
{
	struct configured *configured = userdata;

	if (key->state == MSG_GOSSIPD_KEY_STATE_CONFIGURED && configured->count < PEERS_MAX)
		configured->key[configured->count++] = *key;
}

/*
 * Who joins knows only what is signed, so it would know none of them: they are signed with the first one that is let in, as
 * the configuration of this node has them, and each is told.
 */
static int sign_configured(struct session *session, const char *admin_path)
{
	static struct configured configured;
	int status = key_each(session, note_configured, &configured);

	for (size_t i = 0; status == 0 && i < configured.count; i++) {
		const struct known known = {.found = true, .key = configured.key[i]};
		struct msg_member_record record;

		start_record(&record, session, &known);
		status = sign_and_put(session, &record, admin_path);
		if (status == 0)
			fprintf(stderr, "depctl: %s is allowed, too, as it is configured here\n",
			    record.name);
	}
	return status;
}

/* --- allow --- */

/* By index in the command's options. */
enum allow_option {
	ALLOW_ADMIN_KEY,
	ALLOW_KEY,
	ALLOW_ADDRESS,
	ALLOW_PORT,
	ALLOW_SITE,
	ALLOW_OVERLAP,
};

/*
 * The one that waits under this name, with this key if one is given (its first digits are enough).  NULL: none; two that
 * fit are told, and *status says so.
 */
static const struct msg_gossipd_applicant *choose(
    const struct msg_gossipd_pending_reply *pending, const char *name, const char *key, int *status)
{
	const struct msg_gossipd_applicant *chosen = NULL;
	char text[2 * KEY_SIZE + 1];

	for (size_t i = 0; i < pending->applicants.count; i++) {
		const struct msg_gossipd_applicant *applicant = &pending->applicants.item[i];

		key_format(text, applicant->public_key);
		if (strcmp(applicant->node, name) != 0 ||
		    (key && strncmp(text, key, strlen(key)) != 0))
			continue;
		if (chosen) {
			fprintf(stderr,
			    "depctl: more than one waits as %s; see depctl key pending, and say --key\n",
			    name);
			*status = EXIT_USAGE;
			return NULL;
		}
		chosen = applicant;
	}
	return chosen;
}

static int take_applicant(struct session *session, struct msg_member_record *record,
    struct known *known, const char *const *option, uint64_t overlap_ms, bool *found)
{
	static struct msg_gossipd_pending_reply pending;
	_cleanup_buf_ struct buf body = {0}, reply = {0};
	const struct msg_gossipd_applicant *applicant;
	struct msg_gossipd_pending request = {0};
	struct mpr_error error;
	int status;

	msg_gossipd_pending_pack(&request, &body);
	status = session_fetch(session, "gossipd", MSG_GOSSIPD_PENDING, &body, &reply);
	if (status)
		return status;
	if (msg_gossipd_pending_reply_unpack(&pending, reply.data, reply.size, &error) < 0)
		return key_say_unread(&error);
	applicant = choose(&pending, record->name, option[ALLOW_KEY], &status);
	*found = applicant != NULL;
	if (!applicant)
		return status;
	memcpy(record->site, applicant->site, sizeof(record->site));
	memcpy(record->address, applicant->address, sizeof(record->address));
	record->port = applicant->port;
	set_key(record, known, applicant->public_key, overlap_ms);
	return 0;
}

/* What was said on the command line goes over what was asked for and what was known. */
static int take_options(struct msg_member_record *record, const struct known *known,
    const char *const *option, uint64_t overlap_ms, bool applicant)
{
	uint8_t key[KEY_SIZE];
	uint64_t port;

	if (option[ALLOW_KEY] && !applicant) {
		if (key_parse(key, option[ALLOW_KEY]) < 0) {
			fprintf(stderr,
			    "depctl: --key: nobody waits with such a key, and it is not "
			    "64 hex digits\n");
			return EXIT_USAGE;
		}
		set_key(record, known, key, overlap_ms);
	}
	if (option[ALLOW_ADDRESS] &&
	    !PARSE_TEXT("--address", option[ALLOW_ADDRESS], record->address))
		return EXIT_USAGE;
	if (option[ALLOW_SITE] && !PARSE_TEXT("--site", option[ALLOW_SITE], record->site))
		return EXIT_USAGE;
	if (option[ALLOW_PORT]) {
		if (!parse_count("--port", option[ALLOW_PORT], 1, 65535 - PORT_RANGE, &port))
			return EXIT_USAGE;
		record->port = (uint16_t)port;
	}
	return 0;
}

static int say_nobody(const char *name)
{
	fprintf(stderr,
	    "depctl: nobody waits as %s\ntry: depctl key pending; or say --key and --address\n",
	    name);
	return RPC_NOT_FOUND;
}

/* The name is the stranger's own word: that of a member must not be enough to take its place. */
static int check_key(
    const struct known *known, const struct msg_member_record *record, const char *said)
{
	char text[2 * KEY_SIZE + 1];

	if (said || !known->found || known->key.state == MSG_GOSSIPD_KEY_STATE_REVOKED ||
	    memcmp(known->key.public_key, record->public_key, KEY_SIZE) == 0)
		return 0;
	key_format(text, record->public_key);
	fprintf(stderr,
	    "depctl: %s is a node, and who waits has another key\n"
	    "if that is the node's new key: --key %s\n",
	    known->name, text);
	return EXIT_USAGE;
}

struct clash {
	const struct msg_member_record *record;
	struct msg_gossipd_key with;
	const char *what; /* NULL: none */
};

static void find_clash(void *userdata, const struct msg_gossipd_key *key)
{
	struct clash *clash = userdata;
	const struct msg_member_record *record = clash->record;

	if (clash->what || key->state == MSG_GOSSIPD_KEY_STATE_REVOKED ||
	    strcmp(key->node, record->name) == 0)
		return;
	if (memcmp(key->public_key, record->public_key, KEY_SIZE) == 0)
		clash->what = "key";
	else if (strcmp(key->address, record->address) == 0 && key->port == record->port)
		clash->what = "address and port";
	if (clash->what)
		clash->with = *key;
}

/* One key under two names would be now the one node and now the other. */
static int check_others(struct session *session, const struct msg_member_record *record)
{
	struct clash clash = {.record = record};
	int status = key_each(session, find_clash, &clash);

	if (status || !clash.what)
		return status;
	fprintf(stderr, "depctl: node %s has this %s\ntry: depctl key revoke %s first\n",
	    clash.with.node, clash.what, clash.with.node);
	return EXIT_USAGE;
}

int command_key_allow(struct session *session, const struct arguments *arguments)
{
	const char *const *option = arguments->option;
	struct known known = {.name = arguments->positional[0]};
	struct msg_member_record record;
	uint64_t overlap_ms = OVERLAP_MS;
	bool applicant = false;
	int status = needs_admin_key(option[ALLOW_ADMIN_KEY]);

	if (status == 0 && option[ALLOW_OVERLAP] &&
	    !parse_duration_ms("--overlap", option[ALLOW_OVERLAP], &overlap_ms))
		status = EXIT_USAGE;
	if (status == 0)
		status = key_each(session, find_known, &known);
	if (status)
		return status;
	start_record(&record, session, &known);
	if (!known.found) {
		if (!PARSE_TEXT("NAME", known.name, record.name))
			return EXIT_USAGE;
		memcpy(record.site, session->node.self->site, sizeof(record.site));
		record.port = 7400;
	}
	status = take_applicant(session, &record, &known, option, overlap_ms, &applicant);
	if (status == 0)
		status = take_options(&record, &known, option, overlap_ms, applicant);
	if (status)
		return status;
	if (!known.found && !applicant && (!option[ALLOW_KEY] || !option[ALLOW_ADDRESS]))
		return say_nobody(known.name);
	status = check_key(&known, &record, option[ALLOW_KEY]);
	if (status == 0)
		status = check_others(session, &record);
	if (status)
		return status;
	status = sign_and_put(session, &record, option[ALLOW_ADMIN_KEY]);
	if (status == 0)
		status = sign_configured(session, option[ALLOW_ADMIN_KEY]);
	if (status == 0)
		say_done(session, &record, "allowed");
	return status;
}

/* --- revoke --- */

int command_key_revoke(struct session *session, const struct arguments *arguments)
{
	struct known known = {.name = arguments->positional[0]};
	struct msg_member_record record;
	int status = needs_admin_key(arguments->option[0]);

	if (status == 0)
		status = key_each(session, find_known, &known);
	if (status)
		return status;
	if (!known.found) {
		fprintf(stderr, "depctl: no node %s is known\ntry: depctl key ls\n", known.name);
		return RPC_NOT_FOUND;
	}
	status = check_admin_key(arguments->option[0]);
	if (status == 0 && !arguments->option[1])
		status = meta_check_loss(session, known.name);
	if (status)
		return status;
	start_record(&record, session, &known);
	record.state = MSG_COMMON_MEMBER_STATE_REVOKED;
	status = sign_and_put(session, &record, arguments->option[0]);
	if (status == 0)
		say_done(session, &record, "revoked");
	return status;
}

/* --- rotate --- */

struct rotation {
	char path[300], next[310], old[310]; /* of key files */
	struct node_keys keys;               /* the next ones */
	struct stat st;                      /* of the present file: whose the next is to be */
};

/* The next pair: made once, so that it can be allowed elsewhere in between. */
static int prepare(struct rotation *rotation, const struct session *session)
{
	int r;

	snprintf(rotation->path, sizeof(rotation->path), "%s", session->node.key_path);
	snprintf(rotation->next, sizeof(rotation->next), "%s.new", rotation->path);
	snprintf(rotation->old, sizeof(rotation->old), "%s.old", rotation->path);
	if (stat(rotation->path, &rotation->st) < 0) {
		fprintf(stderr, "depctl: %s: %s\n", rotation->path, strerror(errno));
		return -errno;
	}
	if (access(rotation->next, F_OK) == 0)
		return keys_load(&rotation->keys, rotation->next);
	keys_generate(&rotation->keys);
	r = keys_save(&rotation->keys, rotation->next);
	if (r == 0 && chown(rotation->next, rotation->st.st_uid, rotation->st.st_gid) < 0)
		r = -errno;
	if (r < 0)
		fprintf(stderr, "depctl: create %s: %s\n", rotation->next, strerror(-r));
	return r;
}

/* Whoever reads the key file finds the one or the other, and the old one is kept: it opens what was sealed for it. */
static int swap_files(const struct rotation *rotation)
{
	if (unlink(rotation->old) < 0 && errno != ENOENT) {
		fprintf(stderr, "depctl: remove %s: %s\n", rotation->old, strerror(errno));
		return -errno;
	}
	if (link(rotation->path, rotation->old) < 0 || rename(rotation->next, rotation->path) < 0) {
		fprintf(stderr, "depctl: put %s in the place of %s: %s\n", rotation->next,
		    rotation->path, strerror(errno));
		return -errno;
	}
	return 0;
}

static void wait_ms(long ms)
{
	struct timespec length = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&length, NULL);
}

static bool runs(struct session *session, const char *daemon, json_int_t *pid)
{
	_cleanup_buf_ struct buf reply = {0};
	struct msg_common_hello_reply hello;
	struct mpr_error error;
	char text[64];
	struct rpc_client *client = session_client(session, daemon);

	if (!client || session_reach(session, daemon) != RPC_OK ||
	    rpc_ask(client, session->loop, MSG_COMMON_HELLO, "\x80", 1, session->timeout_ms, &reply,
		text, sizeof(text)) != RPC_OK ||
	    msg_common_hello_reply_unpack(&hello, reply.data, reply.size, &error) < 0)
		return false;
	*pid = (json_int_t)hello.pid;
	return true;
}

/* Its supervisor starts it again, with the new key. */
static int restart(struct session *session, const char *daemon)
{
	struct mono limit = mono_add_ms(mono_now(), RESTART_MS);
	_cleanup_buf_ struct buf reply = {0};
	json_int_t before, now;
	char error[256] = "";

	if (!runs(session, daemon, &before))
		return 0;
	(void)rpc_ask(session_client(session, daemon), session->loop, MSG_COMMON_STOP, "\x80", 1,
	    session->timeout_ms, &reply, error, sizeof(error));
	while (!runs(session, daemon, &now) || now == before) {
		if (mono_due(limit, mono_now())) {
			fprintf(stderr, "depctl: %s does not come back%s%s\n", daemon,
			    *error ? ": " : "", error);
			return RPC_TIMEOUT;
		}
		wait_ms(50);
	}
	return 0;
}

/* gossipd first: it has left with the old key, and is missed until it is back. */
static int restart_all(struct session *session)
{
	static const char *const daemons[] = {
	    "gossipd", "fdd", "metad", "busd", "gosd", "ckptd", "migrated", "ved", "webd"};
	int status = 0;

	for (size_t i = 0; i < sizeof(daemons) / sizeof(daemons[0]); i++) {
		int r = restart(session, daemons[i]);

		status = r ? r : status;
	}
	return status;
}

static int say_waiting(const struct session *session, const struct rotation *rotation)
{
	char text[2 * KEY_SIZE + 1];

	key_format(text, rotation->keys.public_key);
	fprintf(stderr,
	    "depctl: the new key waits in %s; where the administrator's key is:\n"
	    "  depctl key allow %s --key %s --admin-key FILE\n"
	    "then here again: depctl key rotate\n",
	    rotation->next, session->node.name, text);
	return RPC_FAILED;
}

static int leave(struct session *session)
{
	_cleanup_buf_ struct buf body = {0}, reply = {0};
	struct msg_gossipd_leave request = {0};

	msg_gossipd_leave_pack(&request, &body);
	return session_fetch(session, "gossipd", MSG_GOSSIPD_LEAVE, &body, &reply);
}

static int finish(struct session *session, const struct rotation *rotation,
    const struct msg_member_record *record)
{
	int status;

	wait_ms(SPREAD_MS);
	status = leave(session);
	if (status)
		return status;
	if (swap_files(rotation) < 0)
		return RPC_FAILED;
	status = restart_all(session);
	if (status == 0)
		say_done(session, record, "rotated");
	return status;
}

enum rotate_option {
	ROTATE_ADMIN_KEY,
	ROTATE_OVERLAP,
};

int command_key_rotate(struct session *session, const struct arguments *arguments)
{
	const char *const *option = arguments->option;
	struct known known = {.name = session->node.name};
	struct msg_member_record record;
	uint64_t overlap_ms = OVERLAP_MS;
	struct rotation rotation;
	int status;

	if (!session->node.has_admin) {
		fprintf(stderr, "depctl: membership is not signed here: [node] admin is not set\n");
		return RPC_FAILED;
	}
	if (option[ROTATE_OVERLAP] &&
	    !parse_duration_ms("--overlap", option[ROTATE_OVERLAP], &overlap_ms))
		return EXIT_USAGE;
	status = key_each(session, find_known, &known);
	if (status)
		return status;
	if (prepare(&rotation, session) < 0)
		return RPC_FAILED;
	start_record(&record, session, &known);
	if (memcmp(record.public_key, rotation.keys.public_key, KEY_SIZE) != 0) {
		if (!option[ROTATE_ADMIN_KEY])
			return say_waiting(session, &rotation);
		set_key(&record, &known, rotation.keys.public_key, overlap_ms);
		status = sign_and_put(session, &record, option[ROTATE_ADMIN_KEY]);
	} else {
		record.serial--; /* it was said elsewhere */
	}
	if (status == 0)
		status = finish(session, &rotation, &record);
	sodium_memzero(&rotation, sizeof(rotation));
	return status;
}
