/*
 * The signed records of the nodes (common/members.h): how they spread from one gossipd to all, and what depctl asks of
 * them.  A new record is handed at once to a few nodes, each of which does the same; what that misses is found by the
 * digest in each datagram, and pulled.  A record proves itself, so it does not matter who passes it on.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/roster.h"
#include "gossipd/shell-internal.h"

#define PULL_TIMEOUT_MS 1500
#define PULL_GAP_MS 300
#define TURN_S 10
#define HAND_ON_TO 4 /* nodes */
#define PAGE 32
#define KEYS_PAGE 64

static const struct members *members_of(const struct shell *shell)
{
	return roster_members(shell->daemon->roster);
}

uint64_t records_digest(const struct shell *shell)
{
	return shell->daemon->roster ? members_of(shell)->digest : 0;
}

size_t records_stats(const struct shell *shell, struct daemon_stat *stats)
{
	const struct members_counters *counters;
	struct daemon_stat *stat = stats;

	if (!shell->daemon->roster)
		return 0;
	counters = &members_of(shell)->counters;
	*stat++ = (struct daemon_stat){"records_taken", &counters->taken, "news of nodes"};
	*stat++ = (struct daemon_stat){
	    "records_malformed", &counters->malformed, "not to be read, or impossible"};
	*stat++ = (struct daemon_stat){
	    "records_forged", &counters->forged, "not signed by the administrator"};
	*stat++ = (struct daemon_stat){
	    "records_foreign", &counters->foreign, "signed for another cluster"};
	*stat++ = (struct daemon_stat){"records_stale", &counters->stale, "older than known"};
	return (size_t)(stat - stats);
}

/* --- passing on --- */

static void on_handed(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	if (answer->status != RPC_OK)
		log_debug("hand on a record: %s", answer->error);
}

static void hand_to(struct shell *shell, const struct peer *peer, const struct buf *body)
{
	struct neighbour *neighbour = links_neighbour(shell, peer->id);

	if (neighbour)
		(void)rpc_request(neighbour->client, MSG_GOSSIPD_PUT_RECORD, body->data, body->size,
		    PULL_TIMEOUT_MS, on_handed, shell);
}

/* To those behind this node in the table, each node to others, so that a few hops reach all. */
static void hand_on(struct shell *shell, const struct buf *body)
{
	const struct node_config *node = &shell->daemon->node;
	const struct peer *peer = node->self;

	for (int i = 0; i < HAND_ON_TO; i++) {
		peer = peers_next(&node->peers, peer);
		if (!peer)
			peer = peers_next(&node->peers, NULL);
		if (!peer || peer == node->self)
			return;
		hand_to(shell, peer, body);
	}
}

/* 1: news; 0: known; negative: refused, and why says it. */
static int take(struct shell *shell, const struct msg_member_signed *message, char why[MEMBERS_WHY])
{
	struct msg_gossipd_put_record put = {.record = *message};
	_cleanup_buf_ struct buf record = {0}, body = {0};
	int r = msg_member_signed_pack(message, &record);

	if (r == 0)
		r = roster_take(shell->daemon->roster, record.data, record.size, why);
	else
		snprintf(why, MEMBERS_WHY, "not a record");
	if (r > 0 && msg_gossipd_put_record_pack(&put, &body) == 0)
		hand_on(shell, &body);
	return r;
}

/* Two keys of the administrator's, or a member that makes records up: worth a line, but not one for each. */
static void refuse(struct shell *shell, const char *from, const char *why)
{
	unsigned missed;

	if (log_limit(&shell->records.limit, mono_now(), &missed))
		log_warning("refused from %s: %s missed=%u", from, why, missed);
}

/* --- pulling --- */

static void ask_page(struct shell *shell);

static void on_page(void *userdata, const struct rpc_answer *answer)
{
	static struct msg_gossipd_records_reply reply;
	struct shell *shell = userdata;
	struct records *records = &shell->records;
	char why[MEMBERS_WHY];
	struct mpr_error error;

	records->pulling = false;
	if (answer->status != RPC_OK) {
		log_info("records of %s: %s", records->from_name, answer->error);
		return;
	}
	if (msg_gossipd_records_reply_unpack(&reply, answer->body, answer->size, &error) < 0) {
		refuse(shell, records->from_name, error.text);
		return;
	}
	for (size_t i = 0; i < reply.records.count; i++) {
		int r = take(shell, &reply.records.item[i], why);

		/* What is older than ours is no fault of who has not heard yet. */
		if (r < 0 && r != -ESTALE)
			refuse(shell, records->from_name, why);
	}
	records->after += (uint32_t)reply.records.count;
	if (reply.more && reply.records.count > 0 && records->after < MEMBERS_MAX)
		ask_page(shell);
	joining_progress(shell);
}

static void ask_page(struct shell *shell)
{
	struct records *records = &shell->records;
	struct msg_gossipd_records request = {
	    .after = records->after, .digest = records_digest(shell)};
	_cleanup_buf_ struct buf body = {0};

	records->pulling = msg_gossipd_records_pack(&request, &body) == 0 &&
			   rpc_request(records->from, MSG_GOSSIPD_RECORDS, body.data, body.size,
			       PULL_TIMEOUT_MS, on_page, shell) > 0;
}

void records_pull(struct shell *shell, struct rpc_client *from, const char *name)
{
	struct records *records = &shell->records;

	if (records->pulling || !mono_due(records->next_pull, mono_now()))
		return;
	records->next_pull = mono_add_ms(mono_now(), PULL_GAP_MS);
	records->from = from;
	records->after = 0;
	snprintf(records->from_name, sizeof(records->from_name), "%s", name);
	ask_page(shell);
}

void records_second(struct shell *shell)
{
	const struct node_config *node = &shell->daemon->node;
	struct records *records = &shell->records;
	struct neighbour *neighbour;

	if (!shell->daemon->roster || shell->seconds % TURN_S != 0)
		return;
	roster_repair(shell->daemon->roster);
	records->asked = peers_next(&node->peers, records->asked);
	if (records->asked == node->self)
		records->asked = peers_next(&node->peers, records->asked);
	neighbour = records->asked ? links_neighbour(shell, records->asked->id) : NULL;
	if (neighbour)
		records_pull(shell, neighbour->client, neighbour->peer->name);
}

void records_compare(struct shell *shell, uint64_t from, uint64_t digest)
{
	struct neighbour *neighbour;

	if (!shell->daemon->roster || digest == 0 || digest == records_digest(shell))
		return;
	neighbour = links_neighbour(shell, from);
	if (neighbour)
		records_pull(shell, neighbour->client, neighbour->peer->name);
}

/* --- what is asked of us --- */

static bool is_kept(const struct shell *shell, struct rpc_call *call)
{
	if (shell->daemon->roster)
		return true;
	rpc_fail(call, RPC_FAILED,
	    "membership is not signed here: [node] admin is not set; see depctl key admin-new");
	return false;
}

static void on_records(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	static struct msg_gossipd_records_reply reply;
	struct shell *shell = userdata;
	struct msg_gossipd_records request;
	_cleanup_buf_ struct buf out = {0};
	const struct members *members;
	struct mpr_error error;
	size_t i;

	if (rpc_unpack(call, &request, msg_gossipd_records_unpack, body, size) < 0 ||
	    !is_kept(shell, call))
		return;
	members = members_of(shell);
	reply.records.count = 0;
	i = request.digest == members->digest ? members->count : request.after;
	for (; i < members->count && reply.records.count < PAGE; i++)
		if (msg_member_signed_unpack(&reply.records.item[reply.records.count],
			members->record[i].bytes, members->record[i].size, &error) == 0)
			reply.records.count++;
	reply.more = i < members->count;
	msg_gossipd_records_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_RECORDS_REPLY, out.data, out.size);
}

static void on_put(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	const char *from = rpc_call_peer(call);
	struct msg_gossipd_record_put reply = {0};
	struct msg_gossipd_put_record request;
	struct shell *shell = userdata;
	_cleanup_buf_ struct buf out = {0};
	char why[MEMBERS_WHY];
	int r;

	if (rpc_unpack(call, &request, msg_gossipd_put_record_unpack, body, size) < 0 ||
	    !is_kept(shell, call))
		return;
	r = take(shell, &request.record, why);
	if (r < 0 && (r != -ESTALE || !from))
		refuse(shell, from ? from : "this node", why);
	if (r < 0) {
		rpc_fail(call,
		    r == -ENOSPC                        ? RPC_FAILED
		    : r == -EKEYREJECTED || r == -EXDEV ? RPC_DENIED
							: RPC_INVALID,
		    "%s", why);
		return;
	}
	reply.news = r > 0;
	msg_gossipd_record_put_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_RECORD_PUT, out.data, out.size);
	joining_progress(shell);
}

static void key_of_record(struct msg_gossipd_key *key, const struct msg_member_record *record)
{
	uint64_t now = (uint64_t)time(NULL);

	*key = (struct msg_gossipd_key){
	    .port = record->port,
	    .state = record->state == MSG_COMMON_MEMBER_STATE_REVOKED
			 ? MSG_GOSSIPD_KEY_STATE_REVOKED
		     : member_is_in(record, now) ? MSG_GOSSIPD_KEY_STATE_ALLOWED
						 : MSG_GOSSIPD_KEY_STATE_LATER,
	    .serial = record->serial,
	    .not_before = record->not_before,
	    .has_old_key = record->has_old_key,
	    .old_until = record->old_until,
	};
	memcpy(key->node, record->name, sizeof(key->node));
	memcpy(key->site, record->site, sizeof(key->site));
	memcpy(key->address, record->address, sizeof(key->address));
	memcpy(key->public_key, record->public_key, KEY_SIZE);
	memcpy(key->old_key, record->old_key, KEY_SIZE);
}

static void key_of_peer(struct msg_gossipd_key *key, const struct peer *peer)
{
	*key =
	    (struct msg_gossipd_key){.port = peer->port, .state = MSG_GOSSIPD_KEY_STATE_CONFIGURED};
	memcpy(key->node, peer->name, sizeof(key->node));
	memcpy(key->site, peer->site, sizeof(key->site));
	memcpy(key->address, peer->address, sizeof(key->address));
	memcpy(key->public_key, peer->public_key, KEY_SIZE);
}

/* The n-th of all records, then of the nodes without one. */
static bool nth_key(const struct shell *shell, size_t n, struct msg_gossipd_key *key)
{
	const struct members *members = shell->daemon->roster ? members_of(shell) : NULL;
	const struct peers *peers = &shell->daemon->node.peers;
	const struct peer *peer = NULL;

	if (members && n < members->count) {
		key_of_record(key, &members->record[n].said);
		return true;
	}
	n -= members ? members->count : 0;
	while ((peer = peers_next(peers, peer))) {
		if (members && members_by_name(members, peer->name))
			continue;
		if (n-- == 0) {
			key_of_peer(key, peer);
			return true;
		}
	}
	return false;
}

static void on_keys(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	static struct msg_gossipd_keys_reply reply;
	struct shell *shell = userdata;
	struct msg_gossipd_keys request;
	_cleanup_buf_ struct buf out = {0};
	struct msg_gossipd_key key;
	size_t n;

	if (rpc_unpack(call, &request, msg_gossipd_keys_unpack, body, size) < 0)
		return;
	reply.keys.count = 0;
	for (n = request.after; reply.keys.count < KEYS_PAGE && nth_key(shell, n, &key); n++)
		reply.keys.item[reply.keys.count++] = key;
	reply.more = nth_key(shell, n, &key);
	msg_gossipd_keys_reply_pack(&reply, &out);
	rpc_reply(call, MSG_GOSSIPD_KEYS_REPLY, out.data, out.size);
}

const struct rpc_method records_methods[] = {
    {MSG_GOSSIPD_KEYS, on_keys, true},
    {MSG_GOSSIPD_PUT_RECORD, on_put, false},
    {MSG_GOSSIPD_RECORDS, on_records, false},
    {MSG_GOSSIPD_PENDING, joining_on_pending, true},
    {MSG_GOSSIPD_JOIN, joining_on_join, true},
    {0},
};
