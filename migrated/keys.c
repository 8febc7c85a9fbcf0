/*
 * The services' keys: what the keyring (keyring.h) wants done.  A key is in this process's memory for as long as one
 * function runs, or between the answer of another node and the transaction.
 */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/service-key.h"
#include "migrated/keyring.h"
#include "migrated/shell.h"
#include "proto/metad.h"

#define TIMEOUT_MS 3000
#define RETRY_MS 1000

struct keys {
	struct daemon *daemon;
	struct facts *facts;
	const struct cluster *cluster;
	const struct migrated *core;
	struct rpc_client *metad;
	struct rpc_client *holder; /* that was asked last */
	uint64_t holder_id;
	struct keyring *keyring;
	struct keyring_member members[KEYRING_MEMBERS_MAX];
	size_t n_members;
	struct peers_listener listener;
	sd_event_source *timer;
	struct log_limit lost_limit, failed_limit, given_limit;
	bool closing;
};

/* --- reading a fact --- */

struct reading {
	struct keys *keys;
	/* fact: NULL when result is negative, or there is none (version 0). */
	void (*done)(
	    struct reading *reading, int result, uint64_t version, struct msg_migrated_key_fact *);
	void *userdata;
	keys_opened *opened; /* of keys_open */
	char name[NODE_NAME_MAX + 1];
};

static int take_fact(const struct rpc_answer *answer, uint64_t *version,
    struct msg_migrated_key_fact **out, const char *name)
{
	struct msg_migrated_key_fact *fact;
	struct msg_metad_got got;
	struct mpr_error error;

	if (answer->status != RPC_OK)
		return -EAGAIN;
	if (msg_metad_got_unpack(&got, answer->body, answer->size, &error) < 0)
		return -EAGAIN;
	*version = got.entry.version;
	if (!*version)
		return 0;
	fact = calloc(1, sizeof(*fact));
	if (!fact)
		return -ENOMEM;
	if (msg_migrated_key_fact_unpack(fact, got.entry.value, got.entry.value_size, &error) < 0) {
		log_error("fact key/%s cannot be read: %s", name, error.text);
		free(fact);
		return -EBADMSG;
	}
	*out = fact;
	return 0;
}

static void on_got(void *userdata, const struct rpc_answer *answer)
{
	struct reading *reading = userdata;
	struct msg_migrated_key_fact *fact = NULL;
	uint64_t version = 0;
	int r = take_fact(answer, &version, &fact, reading->name);

	reading->done(reading, r, version, fact);
	free(fact);
	free(reading);
}

/* done is called once, perhaps at once. */
static void read_fact(const struct reading *what)
{
	struct reading *reading = malloc(sizeof(*reading)), failed = *what;
	struct msg_metad_get request;
	_cleanup_buf_ struct buf body = {0};

	snprintf(request.key, sizeof(request.key), "key/%s", what->name);
	if (reading)
		*reading = *what;
	if (reading && msg_metad_get_pack(&request, &body) == 0 &&
	    rpc_request(what->keys->metad, MSG_METAD_GET, body.data, body.size, TIMEOUT_MS, on_got,
		reading) > 0)
		return;
	free(reading);
	failed.done(&failed, -ENOMEM, 0, NULL);
}

/* --- for who starts a VE --- */

static void give_key(
    struct reading *reading, int r, uint64_t version, struct msg_migrated_key_fact *fact)
{
	uint8_t key[KEY_SIZE] = {0};

	(void)version;
	if (r == 0)
		r = fact ? service_key_open(fact, reading->keys->daemon, key) : -ENOENT;
	reading->opened(reading->userdata, r, key);
	sodium_memzero(key, sizeof(key));
}

void keys_open(struct keys *keys, const char *ve, keys_opened *opened, void *userdata)
{
	struct reading reading = {
	    .keys = keys, .done = give_key, .opened = opened, .userdata = userdata};

	snprintf(reading.name, sizeof(reading.name), "%s", ve);
	read_fact(&reading);
}

int keys_make(const struct node_config *node, struct buf *out)
{
	struct msg_migrated_key_fact *fact = calloc(1, sizeof(*fact));
	const struct peer *peer = NULL;
	uint8_t key[KEY_SIZE];
	int r = fact ? 0 : -ENOMEM;

	randombytes_buf(key, sizeof(key));
	while (r == 0 && fact->keys.count < KEYRING_SEALS_MAX &&
	       (peer = peers_next(&node->peers, peer)))
		if (config_is_near(node, peer))
			r = service_key_seal(&fact->keys.item[fact->keys.count++], peer, key);
	if (r == 0) {
		service_key_set_check(fact, key);
		r = msg_migrated_key_fact_pack(fact, out);
	}
	sodium_memzero(key, sizeof(key));
	free(fact);
	return r;
}

/* --- sealing anew --- */

/* One service whose fact is being replaced. */
struct sealing {
	struct keys *keys;
	struct keyring_action action;
	struct msg_migrated_key_fact fact; /* as it is, then as it is to be */
	uint32_t added, dropped;
};

static void step(struct keys *keys, struct keyring_event *event);

static void end_sealing(struct sealing *sealing, bool ok, const char *why)
{
	struct keyring_event event = {.kind = KEYRING_SEALED, .ok = ok};
	struct keys *keys = sealing->keys;
	struct msg_ve_sealed told = {.added = sealing->added, .dropped = sealing->dropped};
	unsigned missed;

	memcpy(told.ve, sealing->action.name, sizeof(told.ve));
	free(sealing);
	if (ok) {
		log_notice("key sealed anew ve=%s added=%u dropped=%u", told.ve,
		    (unsigned)told.added, (unsigned)told.dropped);
		daemon_tell(keys->daemon, MSG_VE_SEALED, msg_ve_sealed_pack, &told);
	} else if (log_limit(&keys->failed_limit, mono_now(), &missed)) {
		log_warning("key is not sealed anew: %s ve=%s missed=%u", why, told.ve, missed);
	}
	step(keys, &event);
}

static void on_written(void *userdata, bool ok, const char *why)
{
	end_sealing(userdata, ok, why);
}

static const struct msg_migrated_sealed_key *find_seal(
    const struct msg_migrated_key_fact *fact, const struct keyring_seal *wanted)
{
	for (size_t i = 0; i < fact->keys.count; i++) {
		const struct msg_migrated_sealed_key *sealed = &fact->keys.item[i];

		if (sealed->has_key_id && sealed->key_id == wanted->id &&
		    strcmp(sealed->node, wanted->node) == 0)
			return sealed;
	}
	return NULL;
}

/* The seals that are wanted: what is there as it is, the others made. */
static int make_seals(
    struct sealing *sealing, struct msg_migrated_key_fact *next, const uint8_t key[KEY_SIZE])
{
	const struct keyring_action *action = &sealing->action;
	const struct peers *peers = &sealing->keys->daemon->node.peers;
	int r = 0;

	next->keys.count = action->count;
	sealing->dropped = (uint32_t)sealing->fact.keys.count;
	for (size_t i = 0; i < action->count && r == 0; i++) {
		const struct msg_migrated_sealed_key *known =
		    find_seal(&sealing->fact, &action->seals[i]);
		const struct peer *peer = peers_by_id(peers, action->seals[i].id);

		if (known) {
			next->keys.item[i] = *known;
			sealing->dropped--;
		} else {
			r = peer ? service_key_seal(&next->keys.item[i], peer, key) : -ESTALE;
			sealing->added++;
		}
	}
	return r;
}

static void write_seals(struct sealing *sealing, const uint8_t key[KEY_SIZE])
{
	struct msg_migrated_key_fact *next = calloc(1, sizeof(*next));
	struct keys *keys = sealing->keys;
	_cleanup_buf_ struct buf value = {0};
	struct facts_key what = {
	    .ve = sealing->action.name, .version = sealing->action.version, .value = &value};
	int r = next ? make_seals(sealing, next, key) : -ENOMEM;

	if (r == 0) {
		service_key_set_check(next, key);
		r = msg_migrated_key_fact_pack(next, &value);
	}
	free(next);
	cluster_coordinator(keys->cluster, &what.epoch);
	if (r == 0)
		facts_write_key(keys->facts, &what, on_written, sealing);
	else
		end_sealing(sealing, false, strerror(-r));
}

static void on_given(void *userdata, const struct rpc_answer *answer)
{
	struct sealing *sealing = userdata;
	struct msg_migrated_key_sealed reply;
	struct mpr_error error;
	uint8_t key[KEY_SIZE] = {0};
	char why[256];

	snprintf(
	    why, sizeof(why), "%s does not give it: %.150s", sealing->action.from, answer->error);
	if (answer->status != RPC_OK ||
	    msg_migrated_key_sealed_unpack(&reply, answer->body, answer->size, &error) < 0) {
		end_sealing(sealing, false, why);
		return;
	}
	if (daemon_open_sealed(
		sealing->keys->daemon, key, reply.key.sealed, sizeof(reply.key.sealed)) == 0 &&
	    service_key_fits(&sealing->fact, key)) {
		write_seals(sealing, key);
	} else {
		snprintf(why, sizeof(why), "what %s gave is not this key", sealing->action.from);
		end_sealing(sealing, false, why);
	}
	sodium_memzero(key, sizeof(key));
}

/* Never from its own callback: it is asked after a fact was read. */
static struct rpc_client *holder_client(struct keys *keys, const struct peer *peer)
{
	if (keys->holder && keys->holder_id == peer->id)
		return keys->holder;
	keys->holder = rpc_client_free(keys->holder);
	if (rpc_client_new_peer(
		&keys->holder, keys->daemon->zmq, keys->daemon->loop, peer, PORT_MIGRATED_RPC) < 0)
		return NULL;
	keys->holder_id = peer->id;
	return keys->holder;
}

static void ask_holder(struct sealing *sealing)
{
	struct keys *keys = sealing->keys;
	const struct peer *peer = peers_by_name(&keys->daemon->node.peers, sealing->action.from);
	struct rpc_client *client = peer ? holder_client(keys, peer) : NULL;
	struct msg_migrated_seal_key request;
	_cleanup_buf_ struct buf body = {0};

	memcpy(request.name, sealing->action.name, sizeof(request.name));
	msg_migrated_seal_key_pack(&request, &body);
	if (!client || rpc_request(client, MSG_MIGRATED_SEAL_KEY, body.data, body.size, TIMEOUT_MS,
			   on_given, sealing) < 0)
		end_sealing(sealing, false, "no connection to who holds it");
}

static void seal(struct keys *keys, const struct keyring_action *action,
    const struct msg_migrated_key_fact *fact)
{
	struct sealing *sealing = calloc(1, sizeof(*sealing));
	struct keyring_event failed = {.kind = KEYRING_SEALED};
	uint8_t key[KEY_SIZE];
	int r;

	if (!sealing) {
		step(keys, &failed);
		return;
	}
	sealing->keys = keys;
	sealing->action = *action;
	sealing->fact = *fact;
	if (*action->from) {
		ask_holder(sealing);
		return;
	}
	r = service_key_open(fact, keys->daemon, key);
	if (r == 0)
		write_seals(sealing, key);
	else
		end_sealing(sealing, false, strerror(-r));
	sodium_memzero(key, sizeof(key));
}

/* --- the keyring --- */

static void carry_out(struct keys *keys, const struct keyring_action *action,
    const struct msg_migrated_key_fact *fact);

static void copy_seals(struct keyring_seal *seals, const struct msg_migrated_key_fact *fact)
{
	for (size_t i = 0; i < fact->keys.count; i++) {
		const struct msg_migrated_sealed_key *sealed = &fact->keys.item[i];

		memcpy(seals[i].node, sealed->node, sizeof(seals[i].node));
		seals[i].id = sealed->has_key_id ? sealed->key_id : 0;
	}
}

static void step_with(
    struct keys *keys, struct keyring_event *event, const struct msg_migrated_key_fact *fact)
{
	struct keyring_action action;

	if (keys->closing)
		return;
	event->now = mono_now();
	keyring_step(keys->keyring, event, &action);
	carry_out(keys, &action, fact);
	deadline_set(keys->timer, keyring_deadline(keys->keyring));
}

static void step(struct keys *keys, struct keyring_event *event)
{
	step_with(keys, event, NULL);
}

static void tell_fact(
    struct reading *reading, int r, uint64_t version, struct msg_migrated_key_fact *fact)
{
	struct keyring_seal seals[KEYRING_SEALS_MAX];
	struct keyring_event event = {.kind = KEYRING_FACT,
	    .ok = r == 0 || r == -EBADMSG, /* what nobody can read holds up nothing else */
	    .name = reading->name,
	    .version = fact ? version : 0,
	    .seals = seals,
	    .count = fact ? fact->keys.count : 0};
	uint8_t key[KEY_SIZE];

	if (fact) {
		copy_seals(seals, fact);
		event.opens = service_key_open(fact, reading->keys->daemon, key) == 0;
		sodium_memzero(key, sizeof(key));
	}
	step_with(reading->keys, &event, fact);
}

/* The facts are in the order of their names. */
static void read_behind(struct keys *keys, const char *name)
{
	struct reading reading = {.keys = keys, .done = tell_fact};
	struct keyring_event none = {
	    .kind = KEYRING_FACT, .ok = !mono_is_never(migrated_read_at(keys->core)), .name = ""};
	size_t i = 0;

	while (i < migrated_count(keys->core) &&
	       strcmp(migrated_at(keys->core, i)->fact.name, name) <= 0)
		i++;
	if (i == migrated_count(keys->core)) {
		step(keys, &none);
		return;
	}
	memcpy(reading.name, migrated_at(keys->core, i)->fact.name, sizeof(reading.name));
	read_fact(&reading);
}

static void carry_out(struct keys *keys, const struct keyring_action *action,
    const struct msg_migrated_key_fact *fact)
{
	unsigned missed;

	switch (action->kind) {
	case KEYRING_NOTHING:
		break;
	case KEYRING_READ:
		read_behind(keys, action->name);
		break;
	case KEYRING_SEAL:
		seal(keys, action, fact);
		break;
	case KEYRING_KEYLESS:
		if (log_limit(&keys->lost_limit, mono_now(), &missed))
			log_error("no node that answers has the key of ve=%s; see depctl ve show "
				  "missed=%u",
			    action->name, missed);
		break;
	}
}

void keys_coord(struct keys *keys, bool mine)
{
	struct keyring_event event = {.kind = KEYRING_COORD, .mine = mine};

	step(keys, &event);
}

static void add_member(struct keys *keys, const struct peer *peer)
{
	const struct migrated_node *node = cluster_node(keys->cluster, peer->name);
	bool is_self = peer == keys->daemon->node.self;
	struct keyring_member *member = &keys->members[keys->n_members];

	if (keys->n_members == KEYRING_MEMBERS_MAX || peer->gone ||
	    !config_is_near(&keys->daemon->node, peer))
		return;
	keys->n_members++;
	memset(member, 0, sizeof(*member));
	snprintf(member->name, sizeof(member->name), "%s", peer->name);
	member->id = peer->id;
	member->old = peer->old;
	member->alive = is_self || (node && node->alive);
	member->left_at = is_self || !node ? MONO_NEVER : node->left_at;
}

void keys_look(struct keys *keys)
{
	const struct peers *peers = &keys->daemon->node.peers;
	const struct peer *peer = NULL;
	struct keyring_event event = {.kind = KEYRING_MEMBERS, .members = keys->members};

	keys->n_members = 0;
	add_member(keys, keys->daemon->node.self);
	while ((peer = peers_next(peers, peer)))
		if (peer != keys->daemon->node.self)
			add_member(keys, peer);
	for (size_t i = 0; i < peers->count; i++)
		if (peers->peer[i].old)
			add_member(keys, &peers->peer[i]);
	event.count = keys->n_members;
	step(keys, &event);
}

static void on_peer(void *userdata, const struct peer *peer)
{
	(void)peer;
	keys_look(userdata);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct keyring_event event = {.kind = KEYRING_TIMEOUT};

	(void)source;
	(void)usec;
	step(userdata, &event);
	return 0;
}

/* --- requests --- */

static void ask_fact(struct keys *keys, struct rpc_call *call, const char *ve,
    void (*done)(
	struct reading *reading, int result, uint64_t version, struct msg_migrated_key_fact *))
{
	struct reading reading = {.keys = keys, .done = done, .userdata = call};

	snprintf(reading.name, sizeof(reading.name), "%s", ve);
	read_fact(&reading);
}

/* True when there is a fact; else the call is answered. */
static bool is_there(
    struct reading *reading, int r, const struct msg_migrated_key_fact *fact, struct rpc_call *call)
{
	if (r < 0)
		rpc_fail(call, RPC_UNREACHABLE, "fact key/%s cannot be read", reading->name);
	else if (!fact)
		rpc_fail(call, RPC_NOT_FOUND, "there is no key of %s", reading->name);
	return r == 0 && fact;
}

static void give_seal(
    struct reading *reading, int r, uint64_t version, struct msg_migrated_key_fact *fact)
{
	struct rpc_call *call = reading->userdata;
	const struct node_config *node = &reading->keys->daemon->node;
	const struct peer *peer = peers_by_name(&node->peers, rpc_call_peer(call));
	struct msg_migrated_key_sealed reply;
	_cleanup_buf_ struct buf out = {0};
	uint8_t key[KEY_SIZE];
	unsigned missed;

	(void)version;
	if (!is_there(reading, r, fact, call))
		return;
	if (!peer || !config_is_near(node, peer)) {
		rpc_fail(call, RPC_DENIED, "not a node of this cluster");
		return;
	}
	r = service_key_open(fact, reading->keys->daemon, key);
	if (r == 0)
		r = service_key_seal(&reply.key, peer, key);
	sodium_memzero(key, sizeof(key));
	if (r == 0)
		r = msg_migrated_key_sealed_pack(&reply, &out);
	if (r < 0) {
		rpc_fail(call, RPC_FAILED, "%s cannot open it: %s", node->name, strerror(-r));
		return;
	}
	if (log_limit(&reading->keys->given_limit, mono_now(), &missed))
		log_notice("key given ve=%s to=%s missed=%u", reading->name, peer->name, missed);
	rpc_reply(call, MSG_MIGRATED_KEY_SEALED, out.data, out.size);
}

static void on_seal_key(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_migrated_seal_key request;

	if (rpc_unpack(call, &request, msg_migrated_seal_key_unpack, body, size) < 0)
		return;
	if (rpc_call_peer(call))
		ask_fact(userdata, call, request.name, give_seal);
	else
		rpc_fail(call, RPC_DENIED, "asked by other nodes only");
}

static void give_holders(
    struct reading *reading, int r, uint64_t version, struct msg_migrated_key_fact *fact)
{
	const struct keys *keys = reading->keys;
	struct rpc_call *call = reading->userdata;
	struct keyring_seal seals[KEYRING_SEALS_MAX];
	struct msg_migrated_holders_reply reply = {0};
	_cleanup_buf_ struct buf out = {0};

	(void)version;
	if (!is_there(reading, r, fact, call))
		return;
	copy_seals(seals, fact);
	for (size_t i = 0; i < keys->n_members && reply.holders.count < CLUSTER_MAX; i++) {
		const struct keyring_member *member = &keys->members[i];
		struct msg_migrated_holder *holder = &reply.holders.item[reply.holders.count];

		if (member->old)
			continue;
		memcpy(holder->node, member->name, sizeof(holder->node));
		holder->key = (enum msg_migrated_holds)keyring_holds(
		    keys->keyring, member->name, seals, fact->keys.count);
		reply.holders.count++;
	}
	msg_migrated_holders_reply_pack(&reply, &out);
	rpc_reply(call, MSG_MIGRATED_HOLDERS_REPLY, out.data, out.size);
}

static void on_holders(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_migrated_holders request;

	if (rpc_unpack(call, &request, msg_migrated_holders_unpack, body, size) == 0)
		ask_fact(userdata, call, request.name, give_holders);
}

static const struct rpc_method methods[] = {
    {MSG_MIGRATED_SEAL_KEY, on_seal_key, false},
    {MSG_MIGRATED_HOLDERS, on_holders, true},
    {0},
};

/* --- life --- */

int keys_new(struct keys **out, struct daemon *daemon, const struct keys_parts *parts)
{
	struct keys *keys = calloc(1, sizeof(*keys));
	struct keyring_config config = {.self = daemon->node.name,
	    .sweep_ms = parts->sweep_ms,
	    .retry_ms = RETRY_MS,
	    .left_ms = parts->left_ms};
	int r;

	if (!keys)
		return -ENOMEM;
	keys->daemon = daemon;
	keys->facts = parts->facts;
	keys->cluster = parts->cluster;
	keys->core = parts->core;
	keys->listener = (struct peers_listener){.changed = on_peer, .userdata = keys};
	r = keyring_new(&keys->keyring, &config);
	if (r == 0)
		r = rpc_client_new_local(
		    &keys->metad, daemon->zmq, daemon->loop, daemon->node.run_dir, "metad");
	if (r == 0)
		r = sd_event_add_time(
		    daemon->loop, &keys->timer, CLOCK_MONOTONIC, UINT64_MAX, 1000, on_timer, keys);
	if (r >= 0)
		r = rpc_server_add(daemon->rpc, methods, keys);
	if (r < 0) {
		keys_free(keys);
		return r;
	}
	daemon_listen_peers(daemon, &keys->listener);
	keys_look(keys);
	*out = keys;
	return 0;
}

struct keys *keys_free(struct keys *keys)
{
	if (!keys)
		return NULL;
	daemon_unlisten_peers(keys->daemon, &keys->listener);
	keys->closing = true;
	rpc_client_free(keys->holder);
	rpc_client_free(keys->metad);
	sd_event_source_disable_unref(keys->timer);
	keyring_free(keys->keyring);
	free(keys);
	return NULL;
}
