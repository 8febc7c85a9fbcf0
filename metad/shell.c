/*
 * Requests in, store calls out, and back.
 *
 * Three parties use the store: callers of this node (metad.rpc), their watches, and the other
 * metads, which are told of each transaction that was applied here (metad.changed) so that their
 * watches need not wait for the poll.  Who leads is told as events.
 */
#include "metad/shell.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "metad/dialer.h"
#include "metad/etcd-members.h"
#include "metad/export.h"
#include "metad/store-dqlite.h"
#include "metad/tunnel.h"
#include "metad/voters.h"
#include "proto/common.h"
#include "proto/metad.h"

#define ANSWER_MARGIN_MS 20 /* an answer is on its way this long before the caller gives up */
#define TELL_MAX 16         /* notes to one metad that may be unanswered */
#define TELL_TIMEOUT_MS 1000
#define DISK_CHECK_S 5
#define ETCD_ELECTION_MS 2000 /* its default, and that we ask for a second */

struct watcher {
	LIST_ENTRY(watcher) link;
	struct shell *shell;
	struct rpc_call *call;
	struct store_watch *watch;
	bool gone;
};

/* Another node's metad, by place in the table of peers. */
struct other {
	struct rpc_client *client; /* NULL: nobody */
	unsigned unanswered;
};

struct shell {
	struct daemon *daemon;
	const struct settings *settings;
	char dir[PATH_MAX]; /* of the store's files */
	struct engine_config engine_config;
	struct engine *engine;
	bool private;
	bool engine_runs;
	struct voters *voters;
	struct tunnel *tunnel;
	struct dialer *dialer;
	struct store *store;
	char export_dir[PATH_MAX];
	struct export *export;
	struct other others[PEERS_MAX];
	struct peers_listener listener;
	LIST_HEAD(, watcher) watchers;
	sd_event_source *sweep; /* of watchers that are gone */
	uint64_t leader;
	char leader_name[NODE_NAME_MAX + 1];
	struct mono leader_since; /* or since when there is none */
	sd_event_source *quorum;  /* when to say that it is lost */
	bool quorum_lost;
	bool disk_low;
	uint64_t pending, applied, conflicts, unknown, hints;
	struct daemon_stat stats[16];
};

static const char *voter_name(const struct shell *shell, uint64_t id)
{
	const struct voter_list *list = voters_list(shell->voters);
	const struct engine_voter *voter = engine_voter_find(list->voter, list->count, id);

	return voter ? voter->name : "";
}

/* The facts are in etcd: no engine, tunnel, voters or others to be told. */
static bool with_etcd(const struct shell *shell)
{
	return shell->settings->etcd_count > 0;
}

static uint64_t revision_now(void *arg)
{
	const struct shell *shell = arg;

	return with_etcd(shell) ? store_etcd_revision(shell->store)
				: store_dqlite_revision(shell->store);
}

/* --- answers --- */

/* Packs a message and answers the call with it; a macro because each message has its own type. */
#define REPLY(call, name, pack, message)                                                           \
	do {                                                                                       \
		_cleanup_buf_ struct buf buf_ = {0};                                               \
		if (pack((message), &buf_) < 0)                                                    \
			rpc_fail((call), RPC_FAILED, "the answer does not fit its message");       \
		else                                                                               \
			rpc_reply((call), (name), buf_.data, buf_.size);                           \
	} while (0)

static void fail(struct rpc_call *call, int error)
{
	switch (error) {
	case -EINVAL:
		rpc_fail(call, RPC_INVALID,
		    "a key is empty, repeated, or not printable ASCII, or "
		    "there is nothing to do");
		break;
	case -EMSGSIZE:
		rpc_fail(call, RPC_INVALID, "too many operations or bytes");
		break;
	case -ETIMEDOUT:
		rpc_fail(call, RPC_TIMEOUT, "no voter leads or answers; nothing was applied");
		break;
	case -ENOSPC:
		rpc_fail(call, RPC_FAILED,
		    "the disk of the voter that leads is nearly full (min_free_mb), or etcd's quota is "
		    "used up: facts can be read, not written; nothing was applied");
		break;
	case -EACCES:
		rpc_fail(call, RPC_DENIED,
		    "etcd refuses us, metad's log tells why; nothing was applied");
		break;
	case -EBUSY:
		rpc_fail(call, RPC_FAILED, "too many requests are under way");
		break;
	default:
		rpc_fail(call, RPC_FAILED, "store: %s", strerror(-error));
	}
}

static struct mono deadline_of(const struct rpc_call *call)
{
	return mono_add_ms(rpc_call_deadline(call), -ANSWER_MARGIN_MS);
}

/* What a callback needs; freed by it. */
struct ticket {
	struct shell *shell;
	struct rpc_call *call;
};

static struct ticket *ticket_new(struct shell *shell, struct rpc_call *call)
{
	struct ticket *ticket = malloc(sizeof(*ticket));

	if (!ticket) {
		fail(call, -ENOMEM);
		return NULL;
	}
	*ticket = (struct ticket){shell, call};
	shell->pending++;
	return ticket;
}

static struct rpc_call *ticket_use(struct ticket *ticket)
{
	struct rpc_call *call = ticket->call;

	ticket->shell->pending--;
	free(ticket);
	return call;
}

/* What the store refused at once. */
static void settle(struct ticket *ticket, int r)
{
	if (r < 0)
		fail(ticket_use(ticket), r);
}

/* --- get and scan --- */

static void fill_entry(struct msg_metad_entry *to, const struct store_entry *from)
{
	snprintf(to->key, sizeof(to->key), "%s", from->key);
	to->version = from->version;
	to->value = from->value;
	to->value_size = from->size;
}

static void got(void *arg, const struct store_reply *reply)
{
	struct rpc_call *call = ticket_use(arg);
	struct msg_metad_got message = {.revision = reply->revision};

	if (reply->rc != 0) {
		fail(call, reply->rc);
		return;
	}
	fill_entry(&message.entry, &reply->entries[0]);
	REPLY(call, MSG_METAD_GOT, msg_metad_got_pack, &message);
}

static void on_get(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_metad_get message;
	struct ticket *ticket;

	if (rpc_unpack(call, &message, msg_metad_get_unpack, body, size) < 0)
		return;
	ticket = ticket_new(shell, call);
	if (ticket)
		settle(
		    ticket, store_get(shell->store, message.key, deadline_of(call), got, ticket));
}

static void scanned(void *arg, const struct store_reply *reply)
{
	struct rpc_call *call = ticket_use(arg);
	struct msg_metad_page *message;

	if (reply->rc != 0) {
		fail(call, reply->rc);
		return;
	}
	message = calloc(1, sizeof(*message));
	if (!message) {
		fail(call, -ENOMEM);
		return;
	}
	message->revision = reply->revision;
	message->more = reply->more;
	for (size_t i = 0; i < reply->count; i++)
		fill_entry(&message->entries.item[message->entries.count++], &reply->entries[i]);
	REPLY(call, MSG_METAD_PAGE, msg_metad_page_pack, message);
	free(message);
}

static void on_scan(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_metad_scan message;
	struct ticket *ticket;

	if (rpc_unpack(call, &message, msg_metad_scan_unpack, body, size) < 0)
		return;
	ticket = ticket_new(shell, call);
	if (ticket)
		settle(ticket, store_scan(shell->store, message.prefix, message.after,
				   message.limit, deadline_of(call), scanned, ticket));
}

/* --- txn --- */

static void count_result(struct shell *shell, int rc)
{
	shell->applied += rc == 0;
	shell->conflicts += rc == STORE_CONFLICT;
	shell->unknown += rc == STORE_UNKNOWN;
}

static void txn_done(void *arg, const struct store_reply *reply)
{
	struct shell *shell = ((struct ticket *)arg)->shell;
	struct rpc_call *call = ticket_use(arg);
	struct msg_metad_txn_reply message = {.result = MSG_METAD_RESULT_UNKNOWN};

	count_result(shell, reply->rc);
	if (reply->rc < 0) {
		fail(call, reply->rc);
		return;
	}
	if (reply->rc == 0) {
		message.result = MSG_METAD_RESULT_APPLIED;
		message.version = reply->revision;
	} else if (reply->rc == STORE_CONFLICT) {
		message.result = MSG_METAD_RESULT_CONFLICT;
		message.conflict = (uint32_t)reply->conflict;
		message.conflict_version = reply->conflict_version;
	}
	REPLY(call, MSG_METAD_TXN_REPLY, msg_metad_txn_reply_pack, &message);
}

static struct store_op op_of(const struct msg_metad_op *op)
{
	static const enum store_kind kinds[] = {
	    [MSG_METAD_KIND_CHECK] = STORE_CHECK,
	    [MSG_METAD_KIND_PUT] = STORE_PUT,
	    [MSG_METAD_KIND_DELETE] = STORE_DELETE,
	};

	return (struct store_op){
	    .key = op->key,
	    .expected = op->has_expected ? op->expected : STORE_ANY,
	    .kind = kinds[op->kind],
	    .value = op->has_value ? op->value : NULL,
	    .size = op->has_value ? op->value_size : 0,
	};
}

static void on_txn(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct store_op ops[STORE_OPS_MAX];
	struct store_txn txn = {.ops = ops, .deadline = deadline_of(call)};
	struct msg_metad_txn message;
	struct ticket *ticket;

	if (rpc_unpack(call, &message, msg_metad_txn_unpack, body, size) < 0)
		return;
	for (size_t i = 0; i < message.ops.count; i++)
		ops[txn.count++] = op_of(&message.ops.item[i]);
	if (message.has_nonce)
		memcpy(&txn.nonce, message.nonce, sizeof(txn.nonce));
	ticket = ticket_new(shell, call);
	if (ticket)
		settle(ticket, store_txn(shell->store, &txn, txn_done, ticket));
}

/* --- watches --- */

static void watcher_free(struct watcher *watcher)
{
	LIST_REMOVE(watcher, link);
	store_unwatch(watcher->shell->store, watcher->watch);
	free(watcher);
}

static int sweep(sd_event_source *source, void *userdata)
{
	struct shell *shell = userdata;
	struct watcher *watcher, *next;

	(void)source;
	for (watcher = LIST_FIRST(&shell->watchers); watcher; watcher = next) {
		next = LIST_NEXT(watcher, link);
		if (watcher->gone)
			watcher_free(watcher);
	}
	return 0;
}

/* The caller has gone; not freed here, since a hint may be on its way through the list. */
static void give_up(struct watcher *watcher)
{
	rpc_call_drop(watcher->call);
	watcher->gone = true;
	sd_event_source_set_enabled(watcher->shell->sweep, SD_EVENT_ONESHOT);
}

static void hint(void *arg, const char *key, uint64_t revision)
{
	struct watcher *watcher = arg;
	struct msg_metad_hint message = {.revision = revision};
	_cleanup_buf_ struct buf out = {0};

	if (watcher->gone)
		return;
	snprintf(message.key, sizeof(message.key), "%s", key ? key : "");
	watcher->shell->hints++;
	if (msg_metad_hint_pack(&message, &out) < 0 ||
	    !rpc_notice(watcher->call, MSG_METAD_HINT, out.data, out.size))
		give_up(watcher);
}

static void on_watch(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_metad_watch message;
	struct watcher *watcher;
	int r;

	if (rpc_unpack(call, &message, msg_metad_watch_unpack, body, size) < 0)
		return;
	watcher = calloc(1, sizeof(*watcher));
	r = watcher ? store_watch(shell->store, message.prefix, hint, watcher, &watcher->watch)
		    : -ENOMEM;
	if (r < 0) {
		free(watcher);
		fail(call, r);
		return;
	}
	watcher->shell = shell;
	watcher->call = call;
	LIST_INSERT_HEAD(&shell->watchers, watcher, link);
	hint(watcher, NULL, revision_now(shell));
}

/* --- between metads --- */

static void told(void *userdata, const struct rpc_answer *answer)
{
	if (!answer->more)
		((struct other *)userdata)->unanswered--;
}

/* A metad that does not answer is passed over; its poll will find the change. */
static void tell_others(void *arg, uint64_t revision, const char *const *keys, size_t count)
{
	struct shell *shell = arg;
	struct msg_metad_changed message = {.revision = revision};
	_cleanup_buf_ struct buf out = {0};

	if (count == 0)
		return;
	for (size_t i = 0; i < count; i++)
		snprintf(message.keys.item[message.keys.count++], sizeof(message.keys.item[0]),
		    "%s", keys[i]);
	if (msg_metad_changed_pack(&message, &out) < 0)
		return;
	for (size_t i = 0; i < PEERS_MAX; i++) {
		struct other *other = &shell->others[i];

		if (other->client && other->unanswered < TELL_MAX &&
		    rpc_request(other->client, MSG_METAD_CHANGED, out.data, out.size,
			TELL_TIMEOUT_MS, told, other) > 0)
			other->unanswered++;
	}
}

static void on_changed(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	const char *keys[STORE_OPS_MAX];
	struct msg_metad_changed message;

	if (rpc_unpack(call, &message, msg_metad_changed_unpack, body, size) < 0)
		return;
	for (size_t i = 0; i < message.keys.count; i++)
		keys[i] = message.keys.item[i];
	if (!with_etcd(shell)) /* another's configuration differs */
		store_dqlite_changed(shell->store, message.revision, keys, message.keys.count);
	rpc_reply(call, MSG_COMMON_DONE, "\x80", 1);
}

static int connect_other(struct shell *shell, const struct peer *peer)
{
	struct daemon *daemon = shell->daemon;
	struct other *other = &shell->others[peers_place(&daemon->node.peers, peer)];
	int r;

	if (peer == daemon->node.self || peer->old)
		return 0;
	r = rpc_client_new_peer(&other->client, daemon->zmq, daemon->loop, peer, PORT_METAD_RPC);
	return r < 0 ? r : 0;
}

static void disconnect_other(struct other *other)
{
	other->client = rpc_client_free(other->client); /* answers what is outstanding */
	other->unanswered = 0;
}

static void on_peer(void *userdata, const struct peer *peer)
{
	struct shell *shell = userdata;
	int r = 0;

	if (peer->gone)
		tunnel_drop(shell->tunnel, peer);
	if (peer->gone || peer->old)
		disconnect_other(&shell->others[peers_place(&shell->daemon->node.peers, peer)]);
	else
		r = connect_other(shell, peer);
	if (r < 0)
		log_error("connect to %s: %s", peer->name, strerror(-r));
}

static int connect_others(struct shell *shell)
{
	const struct peers *peers = &shell->daemon->node.peers;
	const struct peer *peer = NULL;
	int r = 0;

	while (r >= 0 && (peer = peers_next(peers, peer)))
		r = connect_other(shell, peer);
	shell->listener = (struct peers_listener){.changed = on_peer, .userdata = shell};
	daemon_listen_peers(shell->daemon, &shell->listener);
	return r;
}

static void disconnect_others(struct shell *shell)
{
	daemon_unlisten_peers(shell->daemon, &shell->listener);
	for (size_t i = 0; i < PEERS_MAX; i++)
		disconnect_other(&shell->others[i]);
}

/* --- who leads --- */

static uint64_t since_ms(struct mono then)
{
	return (uint64_t)mono_to_ms(mono_sub(mono_now(), then));
}

static int say_quorum_lost(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shell *shell = userdata;
	struct msg_meta_quorum_lost event = {.silent_ms = since_ms(shell->leader_since)};

	(void)source;
	(void)usec;
	shell->quorum_lost = true;
	log_warning("no voter leads silent_ms=%lu", event.silent_ms);
	daemon_tell(shell->daemon, MSG_META_QUORUM_LOST, msg_meta_quorum_lost_pack, &event);
	return 0;
}

/* Three elections' time: one that fails for a split vote is not worth an alarm. */
static int await_leader(struct shell *shell)
{
	uint64_t election_ms =
	    with_etcd(shell) ? ETCD_ELECTION_MS : (uint64_t)shell->settings->latency_ms * 15 * 2;
	uint64_t limit_us = election_ms * 3 * 1000;
	int r = sd_event_source_set_time_relative(shell->quorum, limit_us);

	return r < 0 ? r : sd_event_source_set_enabled(shell->quorum, SD_EVENT_ONESHOT);
}

static void say_quorum_back(struct shell *shell, uint64_t gap_ms)
{
	struct msg_meta_quorum_back event = {.lost_ms = gap_ms};

	shell->quorum_lost = false;
	daemon_tell(shell->daemon, MSG_META_QUORUM_BACK, msg_meta_quorum_back_pack, &event);
}

static void set_leader(struct shell *shell, uint64_t id, const char *name)
{
	struct msg_meta_leader event = {.leader = id, .gap_ms = since_ms(shell->leader_since)};
	bool had_none = shell->leader == 0;

	shell->leader = id;
	shell->leader_since = mono_now();
	snprintf(shell->leader_name, sizeof(shell->leader_name), "%s", name);
	if (id == 0) {
		await_leader(shell);
		return;
	}
	sd_event_source_set_enabled(shell->quorum, SD_EVENT_OFF);
	snprintf(event.name, sizeof(event.name), "%s", name);
	event.gap_ms = had_none ? event.gap_ms : 0;
	log_info("leader=%s gap_ms=%lu", event.name, event.gap_ms);
	daemon_tell(shell->daemon, MSG_META_LEADER, msg_meta_leader_pack, &event);
	if (shell->quorum_lost)
		say_quorum_back(shell, event.gap_ms);
}

static void leader_changed(void *arg, uint64_t id)
{
	struct shell *shell = arg;

	voters_leader(shell->voters, id);
	set_leader(shell, id, voter_name(shell, id));
}

static void etcd_leader_changed(void *arg, uint64_t id, const char *name)
{
	set_leader(arg, id, name);
}

static void fill_voters(const struct shell *shell, struct msg_metad_status_reply *message)
{
	const struct voter_list *list = voters_list(shell->voters);

	message->voter = voters_votes(shell->voters);
	for (size_t i = 0; i < list->count; i++) {
		struct msg_metad_voter *voter = &message->voters.item[message->voters.count++];

		voter->id = list->voter[i].id;
		snprintf(voter->name, sizeof(voter->name), "%s", list->name[i]);
	}
}

static void on_status(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_metad_status_reply message = {
	    .leader = shell->leader,
	    .leader_for_ms = since_ms(shell->leader_since),
	    .private = shell->private,
	    .revision = revision_now(shell),
	    .pending = shell->pending,
	};

	(void)body;
	(void)size;
	snprintf(message.leader_name, sizeof(message.leader_name), "%s", shell->leader_name);
	if (!with_etcd(shell))
		fill_voters(shell, &message);
	REPLY(call, MSG_METAD_STATUS_REPLY, msg_metad_status_reply_pack, &message);
}

/* --- export --- */

static void exported(void *arg, const struct export_result *result)
{
	struct rpc_call *call = ticket_use(arg);
	struct msg_metad_exported message = {
	    .facts = result->facts, .revision = result->from, .to = result->to};

	if (result->rc < 0) {
		fail(call, result->rc);
		return;
	}
	snprintf(message.path, sizeof(message.path), "%.1023s", result->path);
	REPLY(call, MSG_METAD_EXPORTED, msg_metad_exported_pack, &message);
}

static void on_export(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct ticket *ticket = ticket_new(shell, call);

	(void)body;
	(void)size;
	if (ticket)
		settle(ticket, export_begin(shell->export, exported, ticket));
}

static bool export_wanted(void *arg)
{
	struct shell *shell = arg;

	return with_etcd(shell) || voters_votes(shell->voters);
}

static int start_export(struct shell *shell)
{
	const struct settings *settings = shell->settings;
	struct export_config config = {
	    .loop = shell->daemon->loop,
	    .store = shell->store,
	    .dir = shell->export_dir,
	    .cluster = shell->daemon->node.cluster,
	    .node = shell->daemon->node.name,
	    .interval_ms = settings->export_minutes * 60000,
	    .wanted = export_wanted,
	    .arg = shell,
	    .keep = (unsigned)settings->export_keep,
	};

	snprintf(shell->export_dir, sizeof(shell->export_dir), "%.4000s/export", shell->dir);
	return export_new(&shell->export, &config);
}

/* --- disk --- */

static int check_disk(const struct shell *shell)
{
	int r = engine_check_disk(shell->dir, (uint64_t)shell->settings->min_free_mb << 20);

	if (r == -ENOSPC)
		log_error("store in %s: the disk has less than %ld MB free ([metad] min_free_mb)",
		    shell->dir, shell->settings->min_free_mb);
	else if (r < 0)
		log_error("store in %s: %s", shell->dir, strerror(-r));
	return r;
}

static int disk_due(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shell *shell = userdata;
	struct msg_meta_disk_low event = {.path = ""};
	bool low;

	(void)usec;
	low = shell->engine_runs && engine_check_disk(shell->dir,
					(uint64_t)shell->settings->min_free_mb << 19) == -ENOSPC;
	if (low && !shell->disk_low) {
		log_warning("store in %s: the disk is nearly full: facts can be read, not written",
		    shell->dir);
		snprintf(event.path, sizeof(event.path), "%.255s", shell->dir);
		daemon_tell(shell->daemon, MSG_META_DISK_LOW, msg_meta_disk_low_pack, &event);
	}
	shell->disk_low = low;
	sd_event_source_set_time_relative(source, DISK_CHECK_S * 1000000ULL);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- start --- */

static int take_stream(void *arg, const struct peer *from, int *fd)
{
	struct shell *shell = arg;

	(void)from;
	return shell->engine_runs ? engine_connect(shell->engine, fd) : -EOPNOTSUPP;
}

static int dial_voter(void *arg, const char *voter, int *fd)
{
	struct shell *shell = arg;
	const struct node_config *node = &shell->daemon->node;
	const struct peer *peer = peers_by_name(&node->peers, voter);

	if (strcmp(voter, node->name) == 0)
		return shell->engine_runs ? engine_connect(shell->engine, fd) : -ENOTCONN;
	return peer ? tunnel_dial(shell->tunnel, peer, NULL, NULL, fd) : -ENOENT;
}

static int start_tunnel(struct shell *shell)
{
	const struct node_config *node = &shell->daemon->node;
	struct tunnel_config config = {
	    .loop = shell->daemon->loop,
	    .keys = &shell->daemon->keys,
	    .peers = &node->peers,
	    .self = node->self,
	    .accept = take_stream,
	    .arg = shell,
	};
	int r = tunnel_new(&shell->tunnel, &config);

	if (r < 0)
		log_error("listen on %s port %d: %s", node->address,
		    (int)node->port + PORT_METAD_TUNNEL, strerror(-r));
	return r;
}

static int start_engine(void *arg, const struct voter_list *first)
{
	struct shell *shell = arg;
	const struct settings *settings = shell->settings;
	const char *name = shell->daemon->node.name;
	char error[300];
	int r = check_disk(shell);

	if (r < 0)
		return r;
	shell->engine_config = (struct engine_config){
	    .dir = shell->dir,
	    .self = settings_engine_id(name),
	    .name = name,
	    .voters = first ? first->voter : NULL,
	    .count = first ? first->count : 0,
	    .latency_ms = (unsigned)settings->latency_ms,
	    .floor_bytes = (uint64_t)settings->min_free_mb << 19,
	    .dial = dialer_dial,
	    .arg = shell->dialer,
	};
	r = engine_start(shell->engine, &shell->engine_config, error, sizeof(error));
	if (r < 0)
		log_error("start the engine: %s", error);
	shell->engine_runs = r >= 0;
	return r;
}

static struct rpc_client *client_of(void *arg, const char *node)
{
	struct shell *shell = arg;
	const struct peers *peers = &shell->daemon->node.peers;
	const struct peer *peer = peers_by_name(peers, node);

	return peer ? shell->others[peers_place(peers, peer)].client : NULL;
}

static void voters_changed(void *arg, const struct voter_list *list)
{
	struct shell *shell = arg;

	store_dqlite_set_voters(shell->store, list->voter, list->count);
}

static int make_voters(struct shell *shell)
{
	struct voters_config config = {
	    .daemon = shell->daemon,
	    .dir = shell->dir,
	    .first = &shell->settings->first,
	    .dial = dial_voter,
	    .client = client_of,
	    .revision = revision_now,
	    .start = start_engine,
	    .changed = voters_changed,
	    .arg = shell,
	};

	return voters_new(&shell->voters, &config);
}

static int start_store(struct shell *shell)
{
	const struct voter_list *list = voters_list(shell->voters);
	struct store_dqlite_config config = {
	    .loop = shell->daemon->loop,
	    .voters = list->voter,
	    .count = list->count,
	    .latency_ms = (unsigned)shell->settings->latency_ms,
	    .dial = dial_voter,
	    .leader = leader_changed,
	    .applied = tell_others,
	    .arg = shell,
	};

	return store_dqlite_open(&shell->store, &config);
}

static int start_timers(struct shell *shell)
{
	sd_event *loop = shell->daemon->loop;
	int r;

	shell->leader_since = mono_now();
	r = sd_event_add_time_relative(
	    loop, &shell->quorum, MONO_CLOCK, 0, 0, say_quorum_lost, shell);
	if (r >= 0)
		r = await_leader(shell);
	if (r >= 0)
		r = sd_event_add_defer(loop, &shell->sweep, sweep, shell);
	if (r >= 0)
		r = sd_event_source_set_enabled(shell->sweep, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_time_relative(
		    loop, NULL, MONO_CLOCK, DISK_CHECK_S * 1000000ULL, 1000000, disk_due, shell);
	return r;
}

static const char *leader_name(void *arg)
{
	const struct shell *shell = arg;

	return shell->leader ? shell->leader_name : "";
}

/* libcurl reads them for each connection; what is wrong with them is better said now. */
static int check_etcd_files(const struct https_files *files)
{
	const char *const paths[] = {files->ca, files->cert, files->key};

	for (size_t i = 0; i < 3; i++) {
		if (access(paths[i], R_OK) < 0) {
			log_error("read %s: %s", paths[i], strerror(errno));
			return -EACCES;
		}
	}
	return 0;
}

static int start_etcd(struct shell *shell)
{
	const struct settings *settings = shell->settings;
	struct store_etcd_config config = {
	    .loop = shell->daemon->loop,
	    .cluster = shell->daemon->node.cluster,
	    .count = settings->etcd_count,
	    .files = settings->etcd_files,
	    .leader = etcd_leader_changed,
	    .arg = shell,
	};
	int r = check_etcd_files(&settings->etcd_files);

	memcpy(config.endpoint, settings->etcd, sizeof(config.endpoint));
	if (engine_has_log(shell->dir))
		log_warning(
		    "the facts are in etcd now; those in %s/dqlite are not used (depctl meta "
		    "export, import)",
		    shell->dir);
	if (r == 0)
		r = start_timers(shell);
	if (r >= 0)
		r = store_etcd_open(&shell->store, &config);
	if (r >= 0)
		r = start_export(shell);
	if (r >= 0)
		r = etcd_members_start(shell->daemon, settings, leader_name, shell);
	return r;
}

static int start_dqlite(struct shell *shell)
{
	int r = start_tunnel(shell);

	if (r >= 0)
		r = dialer_new(
		    &shell->dialer, shell->daemon->loop, shell->tunnel, &shell->daemon->node.peers);
	if (r >= 0)
		r = make_voters(shell);
	if (r >= 0)
		r = start_timers(shell);
	if (r >= 0)
		r = start_store(shell);
	if (r >= 0)
		r = start_export(shell);
	return r >= 0 ? connect_others(shell) : r;
}

static void list_stats(struct shell *shell)
{
	static const struct tunnel_counts none;
	const struct tunnel_counts *tunnel =
	    with_etcd(shell) ? &none : tunnel_counts(shell->tunnel);
	const struct daemon_stat stats[] = {
	    {"txn_applied", &shell->applied, "transactions of this node that were applied"},
	    {"txn_conflicts", &shell->conflicts, "that did not match"},
	    {"txn_unknown", &shell->unknown, "that ended in doubt"},
	    {"hints", &shell->hints, "sent to watchers"},
	    {"tunnel_accepted", &tunnel->accepted, "streams from other nodes"},
	    {"tunnel_refused", &tunnel->refused, "streams refused: not a peer, or not its key"},
	    {"tunnel_dialled", &tunnel->dialled, "streams to other nodes"},
	    {"tunnel_failed", &tunnel->failed, "attempts that came to nothing"},
	    {"tunnel_open", &tunnel->open, "streams now"},
	};

	memcpy(shell->stats, stats, sizeof(stats));
	shell->daemon->stats = shell->stats;
}

static const struct rpc_method methods[] = {
    {MSG_METAD_GET, on_get, true},
    {MSG_METAD_TXN, on_txn, true},
    {MSG_METAD_SCAN, on_scan, true},
    {MSG_METAD_WATCH, on_watch, true},
    {MSG_METAD_STATUS, on_status, true},
    {MSG_METAD_EXPORT, on_export, true},
    {MSG_METAD_CHANGED, on_changed, false},
    {0},
};

int shell_new(struct shell **out, struct daemon *daemon, const struct settings *settings,
    struct engine *engine, bool private)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	shell->settings = settings;
	shell->engine = engine;
	shell->private = private;
	snprintf(
	    shell->dir, sizeof(shell->dir), "%s/%s", daemon->node.state_dir, daemon->spec->name);
	r = with_etcd(shell) ? start_etcd(shell) : start_dqlite(shell);
	if (r >= 0)
		r = rpc_server_add(daemon->rpc, methods, shell);
	if (r >= 0 && !with_etcd(shell))
		r = voters_start(shell->voters);
	if (r < 0) {
		log_start_failed(r);
		disconnect_others(shell);
		return r;
	}
	list_stats(shell);
	*out = shell;
	return 0;
}

void shell_end(struct shell *shell)
{
	struct watcher *watcher;

	while ((watcher = LIST_FIRST(&shell->watchers))) {
		if (!watcher->gone)
			rpc_reply(watcher->call, MSG_METAD_WATCH_ENDED, "\x80", 1);
		watcher_free(watcher);
	}
	disconnect_others(shell);
}
