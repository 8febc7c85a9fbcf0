/*
 * How a node that nobody knows becomes a member.
 *
 * It asks a member, whose key its operator gave it, at a port of its own where any key is let in for this one question
 * (proto: gossipd.ask_join).  What a stranger can cause there is bounded: how often strangers are let in at all
 * (common/zcontext.c), one short message, and PENDING_MAX names that wait for PENDING_S at most.  When there is no room, who
 * has not asked again lately gives up its place, so that a crowd that only came by keeps nobody out; one that keeps asking
 * does, until the administrator signs without it (depctl key allow --key --address).  It is told nothing but whether its
 * key is known.  The administrator looks (depctl key pending), signs (depctl key allow), and the record
 * spreads; when the stranger's key is known it fetches the records, checks them against its own configuration's
 * administrator, and from then on is a member like any other: no daemon restarts, nowhere.
 *
 * Rejected: a password for joining, which is a secret that all share; letting in who asks first, which is a race.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/replace-file.h"
#include "common/roster.h"
#include "gossipd/shell-internal.h"

#define PENDING_MAX 64
#define PENDING_S 600
#define ASK_EVERY_S 2
#define STILL_ASKS_S (5 * ASK_EVERY_S)
#define ASK_TIMEOUT_MS 1500
#define QUESTION_MAX 1024 /* bytes */

_Static_assert(MSG_GOSSIPD_ASK_JOIN_SIZE_MAX <= QUESTION_MAX, "the question must fit");

struct applicant {
	struct msg_gossipd_ask_join said;
	uint8_t key[KEY_SIZE];
	struct mono first, last;
};

struct joining {
	struct shell *shell;
	/* who asks us */
	struct zcontext *strangers;
	struct rpc_server *door;
	size_t count;
	struct applicant pending[PENDING_MAX]; /* the one that waits longest first */
	struct log_limit new_limit, full_limit;
	uint64_t asked, refused, refused_here; /* refused_here: for want of room */
	/* whom we ask */
	bool wanted;
	bool told; /* that we wait for the administrator */
	struct msg_gossipd_join target;
	struct rpc_client *ask, *fetch; /* at its port for strangers, and at that for members */
	bool asking;
	char path[PATH_MAX];
};

/* --- the door --- */

static void drop(struct joining *joining, size_t i)
{
	memmove(&joining->pending[i], &joining->pending[i + 1],
	    sizeof(joining->pending[0]) * (--joining->count - i));
}

static void sweep(struct joining *joining)
{
	struct mono now = mono_now();
	const struct peers *peers = &joining->shell->daemon->node.peers;

	for (size_t i = joining->count; i-- > 0;) {
		const struct applicant *applicant = &joining->pending[i];

		if (peers_by_key(peers, applicant->key) ||
		    mono_due(mono_add_ms(applicant->last, PENDING_S * 1000), now))
			drop(joining, i);
	}
}

static struct applicant *find(struct joining *joining, const uint8_t key[KEY_SIZE])
{
	for (size_t i = 0; i < joining->count; i++)
		if (memcmp(joining->pending[i].key, key, KEY_SIZE) == 0)
			return &joining->pending[i];
	return NULL;
}

/* When every place is taken: who has not asked for the longest time, if it has given up. */
static void make_room(struct joining *joining)
{
	size_t oldest = 0;

	for (size_t i = 1; i < joining->count; i++)
		if (mono_before(joining->pending[i].last, joining->pending[oldest].last))
			oldest = i;
	if (joining->count == PENDING_MAX &&
	    mono_due(mono_add_ms(joining->pending[oldest].last, STILL_ASKS_S * 1000), mono_now()))
		drop(joining, oldest);
}

static bool question_is_valid(const struct msg_gossipd_ask_join *question)
{
	return config_name_is_valid(question->name) && config_name_is_valid(question->site) &&
	       config_address_is_valid(question->address) && question->port > 0 &&
	       question->port <= 65535 - PORT_RANGE;
}

/* False: there is no room. */
static bool note(struct joining *joining, const struct msg_gossipd_ask_join *question,
    const uint8_t key[KEY_SIZE])
{
	struct applicant *applicant = find(joining, key);
	unsigned missed;

	if (!applicant) {
		sweep(joining);
		make_room(joining);
		if (joining->count == PENDING_MAX)
			return false;
		applicant = &joining->pending[joining->count++];
		memcpy(applicant->key, key, KEY_SIZE);
		applicant->first = mono_now();
		if (log_limit(&joining->new_limit, mono_now(), &missed))
			log_notice("%s at %s asks to join: see depctl key pending missed=%u",
			    question->name, question->address, missed);
	}
	applicant->said = *question;
	applicant->last = mono_now();
	return true;
}

static void refuse_crowd(struct joining *joining, struct rpc_call *call)
{
	unsigned missed;

	joining->refused_here++;
	if (log_limit(&joining->full_limit, mono_now(), &missed))
		log_warning(
		    "a stranger is refused: %d wait already missed=%u", PENDING_MAX, missed);
	rpc_fail(call, RPC_FAILED, "%d wait already", PENDING_MAX);
}

static void on_ask(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct joining *joining = userdata;
	const char *hex = rpc_call_peer(call);
	struct msg_gossipd_ask_join_reply reply = {.welcome = MSG_GOSSIPD_WELCOME_PENDING};
	struct msg_gossipd_ask_join question;
	_cleanup_buf_ struct buf out = {0};
	uint8_t key[KEY_SIZE];

	if (rpc_unpack(call, &question, msg_gossipd_ask_join_unpack, body, size) < 0)
		return;
	if (!hex || key_parse(key, hex) < 0 || !question_is_valid(&question)) {
		rpc_fail(call, RPC_INVALID, "a name, a site, a numeric address and a port");
		return;
	}
	if (peers_by_key(&joining->shell->daemon->node.peers, key)) {
		reply.welcome = MSG_GOSSIPD_WELCOME_KNOWN;
	} else if (!note(joining, &question, key)) {
		refuse_crowd(joining, call);
		return;
	}
	joining->asked++;
	msg_gossipd_ask_join_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_ASK_JOIN_REPLY, out.data, out.size);
}

static const struct rpc_method door_methods[] = {
    {MSG_GOSSIPD_ASK_JOIN, on_ask, false},
    {0},
};

static int open_door(struct joining *joining)
{
	struct daemon *daemon = joining->shell->daemon;
	char endpoint[128];
	struct rpc_server_options options = {.tcp = endpoint, .max_body = QUESTION_MAX};
	int r = zcontext_new_for_strangers(&joining->strangers, daemon->loop, &daemon->keys);

	zsock_tcp_endpoint(endpoint, sizeof(endpoint), daemon->node.address,
	    (unsigned)daemon->node.port + PORT_JOIN);
	if (r == 0)
		r = rpc_server_new(&joining->door, joining->strangers, daemon->loop, &options);
	return r < 0 ? r : rpc_server_add(joining->door, door_methods, joining);
}

static void show(const struct joining *joining, const struct applicant *applicant,
    struct msg_gossipd_applicant *shown)
{
	const struct peers *peers = &joining->shell->daemon->node.peers;
	struct mono now = mono_now();

	*shown = (struct msg_gossipd_applicant){
	    .port = applicant->said.port,
	    .waiting_ms = (uint64_t)mono_to_ms(mono_sub(now, applicant->first)),
	    .seen_ms = (uint64_t)mono_to_ms(mono_sub(now, applicant->last)),
	    .replaces = peers_by_name(peers, applicant->said.name) != NULL,
	};
	memcpy(shown->node, applicant->said.name, sizeof(shown->node));
	memcpy(shown->site, applicant->said.site, sizeof(shown->site));
	memcpy(shown->address, applicant->said.address, sizeof(shown->address));
	memcpy(shown->public_key, applicant->key, KEY_SIZE);
}

void joining_on_pending(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	static struct msg_gossipd_pending_reply reply;
	struct joining *joining = ((struct shell *)userdata)->joining;
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	if (!joining) {
		rpc_fail(call, RPC_FAILED,
		    "nobody can join: [node] admin is not set; see depctl key admin-new");
		return;
	}
	sweep(joining);
	reply.applicants.count = 0;
	for (size_t i = 0; i < joining->count; i++)
		show(joining, &joining->pending[i],
		    &reply.applicants.item[reply.applicants.count++]);
	msg_gossipd_pending_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_PENDING_REPLY, out.data, out.size);
}

/* --- asking --- */

/* Does the administrator's word say that this node is let in with the key that it has? */
static bool is_member(const struct shell *shell)
{
	const struct daemon *daemon = shell->daemon;
	const struct member_record *record =
	    members_by_name(roster_members(daemon->roster), daemon->node.name);

	return record && record->said.state == MSG_COMMON_MEMBER_STATE_ALLOWED &&
	       memcmp(record->said.public_key, daemon->keys.public_key, KEY_SIZE) == 0;
}

static void hang_up(struct joining *joining)
{
	joining->ask = rpc_client_free(joining->ask);
	joining->fetch = rpc_client_free(joining->fetch);
	joining->asking = false;
}

void joining_progress(struct shell *shell)
{
	struct joining *joining = shell->joining;

	if (!joining || !joining->wanted || !is_member(shell))
		return;
	log_notice("this node is a member now");
	joining->wanted =
	    false; /* the sockets go with the next second: one of them may be telling us this */
	if (unlink(joining->path) < 0 && errno != ENOENT)
		log_warning("remove %s: %s", joining->path, strerror(errno));
}

static void on_asked(void *userdata, const struct rpc_answer *answer)
{
	struct joining *joining = userdata;
	struct msg_gossipd_ask_join_reply reply;
	struct mpr_error error;

	joining->asking = false;
	if (answer->status != RPC_OK) {
		log_info("ask %s to join: %s", joining->target.address, answer->error);
		return;
	}
	if (msg_gossipd_ask_join_reply_unpack(&reply, answer->body, answer->size, &error) < 0) {
		log_warning("ask %s to join: %s", joining->target.address, error.text);
		return;
	}
	if (reply.welcome == MSG_GOSSIPD_WELCOME_KNOWN) {
		records_pull(joining->shell, joining->fetch, joining->target.address);
	} else if (!joining->told) {
		joining->told = true;
		log_notice("%s has this node's wish to join; it waits for depctl key allow %s",
		    joining->target.address, joining->shell->daemon->node.name);
	}
}

static int dial(struct joining *joining, struct rpc_client **client, enum port_offset offset)
{
	struct daemon *daemon = joining->shell->daemon;
	char endpoint[128];

	if (*client)
		return 0;
	zsock_tcp_endpoint(endpoint, sizeof(endpoint), joining->target.address,
	    (unsigned)joining->target.port + offset);
	return rpc_client_new(
	    client, daemon->zmq, daemon->loop, endpoint, joining->target.server_key);
}

static void ask(struct joining *joining)
{
	const struct node_config *node = &joining->shell->daemon->node;
	struct msg_gossipd_ask_join question = {.port = (uint16_t)node->port};
	_cleanup_buf_ struct buf body = {0};
	int r = dial(joining, &joining->ask, PORT_JOIN);

	if (r == 0)
		r = dial(joining, &joining->fetch, PORT_GOSSIPD_RPC);
	if (r < 0) {
		log_error("connect to %s: %s", joining->target.address, strerror(-r));
		return;
	}
	memcpy(question.name, node->name, sizeof(question.name));
	memcpy(question.site, node->self->site, sizeof(question.site));
	memcpy(question.address, node->address, sizeof(question.address));
	joining->asking = msg_gossipd_ask_join_pack(&question, &body) == 0 &&
			  rpc_request(joining->ask, MSG_GOSSIPD_ASK_JOIN, body.data, body.size,
			      ASK_TIMEOUT_MS, on_asked, joining) > 0;
}

/* At the door and behind it. */
static void count_strangers(struct joining *joining)
{
	struct zcontext_counts connections;
	uint64_t requests, refused;

	zcontext_counts(joining->strangers, &connections);
	rpc_server_counts(joining->door, &requests, &refused);
	joining->refused = connections.refused + refused + joining->refused_here;
}

size_t joining_stats(const struct shell *shell, struct daemon_stat *stats)
{
	const struct joining *joining = shell->joining;

	if (!joining)
		return 0;
	stats[0] = (struct daemon_stat){
	    "strangers_asked", &joining->asked, "questions of nodes that want to join"};
	stats[1] = (struct daemon_stat){"strangers_refused", &joining->refused,
	    "too many, or not such a question; once a second"};
	return JOINING_STATS;
}

void joining_second(struct shell *shell)
{
	struct joining *joining = shell->joining;

	if (!joining)
		return;
	count_strangers(joining);
	if (!joining->wanted)
		hang_up(joining);
	else if (!joining->asking && shell->seconds % ASK_EVERY_S == 0)
		ask(joining);
}

/* --- whom to ask: from the configuration, from depctl, or as depctl said before a restart --- */

static bool target_is_valid(const struct msg_gossipd_join *target)
{
	return config_address_is_valid(target->address) && target->port > 0 &&
	       target->port <= 65535 - PORT_RANGE;
}

/* "ADDRESS PORT KEY" */
static bool parse_target(struct msg_gossipd_join *target, const char *text)
{
	char key[2 * KEY_SIZE + 1];
	unsigned port;

	if (sscanf(text, "%45s %5u %64s", target->address, &port, key) != 3 || port > 65535)
		return false;
	target->port = (uint16_t)port;
	return key_parse(target->server_key, key) == 0 && target_is_valid(target);
}

bool joining_target_is_valid(const char *text)
{
	struct msg_gossipd_join target;

	return parse_target(&target, text);
}

static void begin(struct joining *joining, const struct msg_gossipd_join *target)
{
	hang_up(joining);
	joining->target = *target;
	joining->wanted = true;
	joining->told = false;
	log_notice("joining by %s port %u", target->address, target->port);
}

void joining_on_join(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct joining *joining = shell->joining;
	struct msg_gossipd_join_reply reply = {0};
	char key[2 * KEY_SIZE + 1], text[160];
	struct msg_gossipd_join request;
	_cleanup_buf_ struct buf out = {0};

	if (rpc_unpack(call, &request, msg_gossipd_join_unpack, body, size) < 0)
		return;
	if (!joining) {
		rpc_fail(call, RPC_FAILED,
		    "this node knows no administrator: set [node] admin on it first");
		return;
	}
	if (!target_is_valid(&request)) {
		rpc_fail(call, RPC_INVALID, "the address of a member is numeric");
		return;
	}
	reply.member = is_member(shell);
	if (!reply.member) {
		key_format(key, request.server_key);
		snprintf(text, sizeof(text), "%s %u %s\n", request.address, request.port, key);
		if (replace_file(joining->path, text, strlen(text), 0600) < 0) {
			rpc_fail(call, RPC_FAILED, "store %s", joining->path);
			return;
		}
		begin(joining, &request);
	}
	msg_gossipd_join_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_JOIN_REPLY, out.data, out.size);
}

static void resume(struct joining *joining, const char *configured)
{
	struct msg_gossipd_join target;
	char text[160] = "";
	FILE *file = fopen(joining->path, "re");

	if (file) {
		if (!fgets(text, sizeof(text), file))
			text[0] = '\0';
		fclose(file);
	}
	if (parse_target(&target, text[0] ? text : configured) && !is_member(joining->shell))
		begin(joining, &target);
	else if (text[0])
		log_warning("%s is of no use", joining->path);
}

/* --- life --- */

int joining_open(struct shell *shell, const char *configured)
{
	struct joining *joining;
	int r;

	if (!shell->daemon->roster)
		return 0;
	joining = calloc(1, sizeof(*joining));
	if (!joining)
		return -ENOMEM;
	shell->joining = joining;
	joining->shell = shell;
	snprintf(
	    joining->path, sizeof(joining->path), "%s/gossipd/join", shell->daemon->node.state_dir);
	r = open_door(joining);
	if (r == 0)
		resume(joining, configured);
	return r;
}

void joining_close(struct shell *shell)
{
	struct joining *joining = shell->joining;

	if (!joining)
		return;
	hang_up(joining);
	rpc_server_free(joining->door);
	zcontext_free(joining->strangers);
	free(joining);
	shell->joining = NULL;
}
