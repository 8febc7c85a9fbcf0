/*
 * The facts of migrated in metad: all of ve/ and cat/ read as one snapshot, one placement written by one transaction that
 * also checks coord/<cluster> and cat/<name>.  The version of coord/<cluster> rises with each renewal of the lease, so it
 * is read just before; a renewal in between is a conflict, and the core tries again.
 */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/roster.h"
#include "migrated/shell.h"
#include "proto/ckptd.h"
#include "proto/gossipd.h"
#include "proto/metad.h"

#define TIMEOUT_MS 3000
#define SETTLE_MS 100

struct facts {
	struct daemon *daemon;
	struct shell *shell;
	struct rpc_client *metad;
	/* a snapshot on its way: never two at once */
	struct migrated_ve *ves;
	size_t count;
	struct migrated_elsewhere elsewhere[MIGRATED_ASKS_MAX];
	size_t n_elsewhere;
	uint64_t revision;
	bool catalogues; /* the second scan */
	char after[256];
	struct msg_metad_page page; /* large: kept here */
	struct msg_metad_txn txn;
	LIST_HEAD(, writing) writings;
};

/*
 * One transaction on its way: a placement, or with done a key.  When its outcome is in doubt it is not over: it may be
 * applied later, and until then no lease may be granted for what it takes away.  It can no longer be applied once
 * coord/<cluster>, which it compares with, has changed; the coordinator itself raises that twice a second.
 */
struct writing {
	struct facts *facts;
	LIST_ENTRY(writing) link;
	/* Placements: several of one set together.  A key: its name and version. */
	size_t n_actions;
	struct migrated_action *actions;
	uint64_t epoch;
	uint64_t checked; /* version of coord/<cluster> that the transaction compares with */
	sd_event_source *again;
	struct buf placements[SET_MAX], keys;
	facts_written *done;
	void *userdata;
};

static void on_settled(void *userdata, const struct rpc_answer *answer);
static int on_again(sd_event_source *source, uint64_t usec, void *userdata);

static struct writing *writing_new(struct facts *facts, size_t n_actions)
{
	struct writing *writing = calloc(1, sizeof(*writing));

	if (writing)
		writing->actions = calloc(n_actions, sizeof(*writing->actions));
	if (!writing || !writing->actions ||
	    sd_event_add_time(
		facts->daemon->loop, &writing->again, MONO_CLOCK, 0, 1000, on_again, writing) < 0) {
		if (writing)
			free(writing->actions);
		free(writing);
		return NULL;
	}
	writing->n_actions = n_actions;
	sd_event_source_set_enabled(writing->again, SD_EVENT_OFF);
	LIST_INSERT_HEAD(&facts->writings, writing, link);
	writing->facts = facts;
	return writing;
}

static void writing_free(struct writing *writing)
{
	LIST_REMOVE(writing, link);
	sd_event_source_disable_unref(writing->again);
	for (size_t i = 0; i < SET_MAX; i++)
		buf_fini(&writing->placements[i]);
	buf_fini(&writing->keys);
	free(writing->actions);
	free(writing);
}

static void end_action(
    struct shell *shell, const struct migrated_action *action, bool ok, const char *why)
{
	struct migrated_event event = {.kind = MIGRATED_WRITTEN, .ok = ok, .name = action->name};

	if (!ok)
		log_info("placement not written: %s ve=%s epoch=%" PRIu64, why, action->name,
		    action->fact.epoch);
	else
		shell_written(shell, action);
	shell_step(shell, &event);
}

static void end_writing(struct writing *writing, bool ok, const char *why)
{
	struct shell *shell = writing->facts->shell;
	struct migrated_action *actions = writing->actions;
	size_t count = writing->n_actions;

	if (writing->done) {
		writing->done(writing->userdata, ok, why);
		writing_free(writing);
		return;
	}
	writing->actions = NULL;
	writing_free(writing);
	for (size_t i = 0; i < count; i++)
		end_action(shell, &actions[i], ok, why);
	free(actions);
}

int facts_new(struct facts **out, struct daemon *daemon, struct shell *shell)
{
	struct facts *facts = calloc(1, sizeof(*facts));
	int r;

	if (!facts)
		return -ENOMEM;
	facts->daemon = daemon;
	facts->shell = shell;
	LIST_INIT(&facts->writings);
	facts->ves = calloc(MIGRATED_VES_MAX, sizeof(*facts->ves));
	r = facts->ves ? rpc_client_new_local(&facts->metad, daemon->zmq, daemon->loop,
			     daemon->node.run_dir, "metad")
		       : -ENOMEM;
	if (r < 0) {
		facts_free(facts);
		return r;
	}
	*out = facts;
	return 0;
}

struct facts *facts_free(struct facts *facts)
{
	if (!facts)
		return NULL;
	rpc_client_free(facts->metad); /* ends what waits for an answer */
	while (!LIST_EMPTY(&facts->writings))
		end_writing(LIST_FIRST(&facts->writings), false, "migrated ends");
	free(facts->ves);
	free(facts);
	return NULL;
}

/* --- reading --- */

static void tell_snapshot(struct facts *facts, bool ok)
{
	struct migrated_event event = {.kind = MIGRATED_FACTS,
	    .ok = ok,
	    .ves = facts->ves,
	    .count = facts->count,
	    .elsewhere = facts->elsewhere,
	    .n_elsewhere = facts->n_elsewhere,
	    .revision = facts->revision};

	shell_step(facts->shell, &event);
}

bool facts_say_revoked(const struct daemon *daemon, const char *node)
{
	const struct member_record *record =
	    daemon->roster ? members_by_name(roster_members(daemon->roster), node) : NULL;

	return record && record->said.state == MSG_COMMON_MEMBER_STATE_REVOKED;
}

/* VEs of other clusters are their coordinators' business; of one that is asked for here it is known where it is. */
static void pass_over(struct facts *facts, const struct msg_migrated_ve_fact *fact)
{
	struct migrated_elsewhere *elsewhere = &facts->elsewhere[facts->n_elsewhere];

	if (facts->n_elsewhere == MIGRATED_ASKS_MAX ||
	    !migrated_asks_for(shell_core(facts->shell), fact->name))
		return;
	facts->n_elsewhere++;
	memcpy(elsewhere->name, fact->name, sizeof(elsewhere->name));
	memcpy(elsewhere->site, fact->site, sizeof(elsewhere->site));
	memcpy(elsewhere->node, fact->node, sizeof(elsewhere->node));
}

static void take_ve(struct facts *facts, const struct msg_metad_entry *entry)
{
	struct migrated_ve *ve = &facts->ves[facts->count];
	struct mpr_error error;

	if (facts->count == MIGRATED_VES_MAX) {
		log_error("more than %d VEs: %s is left out", MIGRATED_VES_MAX, entry->key);
		return;
	}
	memset(ve, 0, sizeof(*ve));
	if (msg_migrated_ve_fact_unpack(&ve->fact, entry->value, entry->value_size, &error) < 0) {
		log_error("fact %s cannot be read: %s", entry->key, error.text);
		return;
	}
	if (strcmp(ve->fact.site, config_site(&facts->daemon->node)) != 0) {
		pass_over(facts, &ve->fact);
		return;
	}
	ve->version = entry->version;
	ve->node_revoked = facts_say_revoked(facts->daemon, ve->fact.node);
	facts->count++;
}

static void copy_ckpt(struct migrated_ckpt *to, const struct msg_ckptd_checkpoint *from)
{
	memset(to, 0, sizeof(*to));
	to->id = from->id;
	memcpy(to->oid, from->oid, sizeof(to->oid));
	/* The node that made it holds it too, and counts as one of those that have the image. */
	snprintf(to->replicas[to->n_replicas++], sizeof(to->replicas[0]), "%s", from->node);
	for (size_t i = 0; i < from->replicas.count && to->n_replicas < MIGRATED_REPLICAS_MAX; i++)
		snprintf(to->replicas[to->n_replicas++], sizeof(to->replicas[0]), "%s",
		    from->replicas.item[i]);
}

static void take_catalogue(struct facts *facts, const struct msg_metad_entry *entry)
{
	const char *name = entry->key + strlen("cat/");
	struct msg_ckptd_catalogue catalogue;
	struct mpr_error error;
	struct migrated_ve *ve = facts->ves;

	while (ve < facts->ves + facts->count && strcmp(ve->fact.name, name) != 0)
		ve++;
	if (ve == facts->ves + facts->count)
		return;
	if (msg_ckptd_catalogue_unpack(&catalogue, entry->value, entry->value_size, &error) < 0) {
		log_error("fact %s cannot be read: %s", entry->key, error.text);
		return;
	}
	ve->cat_version = entry->version;
	for (size_t i = 0; i < catalogue.checkpoints.count && ve->n_ckpts < MIGRATED_CKPTS_MAX; i++)
		copy_ckpt(&ve->ckpts[ve->n_ckpts++], &catalogue.checkpoints.item[i]);
}

static void scan(struct facts *facts);

static void on_page(void *userdata, const struct rpc_answer *answer)
{
	struct facts *facts = userdata;
	struct msg_metad_page *page = &facts->page;
	struct mpr_error error;

	if (answer->status != RPC_OK ||
	    msg_metad_page_unpack(page, answer->body, answer->size, &error) < 0) {
		log_debug("facts cannot be read: %s",
		    answer->status == RPC_OK ? error.text : answer->error);
		tell_snapshot(facts, false);
		return;
	}
	if (!facts->revision)
		facts->revision = page->revision;
	for (size_t i = 0; i < page->entries.count; i++) {
		if (facts->catalogues)
			take_catalogue(facts, &page->entries.item[i]);
		else
			take_ve(facts, &page->entries.item[i]);
	}
	if (page->more && page->entries.count) {
		snprintf(facts->after, sizeof(facts->after), "%s",
		    page->entries.item[page->entries.count - 1].key);
	} else if (!facts->catalogues) {
		facts->catalogues = true;
		facts->after[0] = '\0';
	} else {
		tell_snapshot(facts, true);
		return;
	}
	scan(facts);
}

static void scan(struct facts *facts)
{
	struct msg_metad_scan request = {.limit = 256};
	_cleanup_buf_ struct buf body = {0};

	snprintf(request.prefix, sizeof(request.prefix), "%s", facts->catalogues ? "cat/" : "ve/");
	snprintf(request.after, sizeof(request.after), "%s", facts->after);
	msg_metad_scan_pack(&request, &body);
	if (rpc_request(
		facts->metad, MSG_METAD_SCAN, body.data, body.size, TIMEOUT_MS, on_page, facts) < 0)
		tell_snapshot(facts, false);
}

void facts_read(struct facts *facts)
{
	facts->count = facts->n_elsewhere = 0;
	facts->revision = 0;
	facts->catalogues = false;
	facts->after[0] = '\0';
	scan(facts);
}

/* --- writing --- */

static int read_fact(struct writing *writing, const char *prefix, const char *name, rpc_done done)
{
	struct msg_metad_get request = {0};
	_cleanup_buf_ struct buf body = {0};
	int64_t r;

	snprintf(request.key, sizeof(request.key), "%s%s", prefix, name);
	msg_metad_get_pack(&request, &body);
	r = rpc_request(
	    writing->facts->metad, MSG_METAD_GET, body.data, body.size, TIMEOUT_MS, done, writing);
	return r < 0 ? (int)r : 0;
}

static int read_coord(struct writing *writing, rpc_done done)
{
	const struct node_config *node = &writing->facts->daemon->node;
	char cluster[CLUSTER_NAME_MAX + 1];

	config_cluster_name(cluster, node, node->self);
	return read_fact(writing, "coord/", cluster, done);
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	if (read_coord(userdata, on_settled) < 0)
		end_writing(userdata, false, "no memory");
	return 0;
}

/* In doubt: looks again and again until the transaction can no longer be applied. */
static void settle(struct writing *writing)
{
	int r = sd_event_source_set_time_relative(writing->again, SETTLE_MS * 1000);

	if (r >= 0)
		r = sd_event_source_set_enabled(writing->again, SD_EVENT_ONESHOT);
	if (r < 0)
		end_writing(writing, false, "in doubt, and no timer");
}

/* It can be applied no more: has it been?  With all of its placements, or with none, so that one tells.  Nobody else writes what it wrote while this node coordinates. */
static bool stands(const struct writing *writing, const struct msg_metad_entry *entry)
{
	const struct buf *wanted = writing->done ? &writing->keys : &writing->placements[0];

	if (writing->actions[0].kind == MIGRATED_REMOVE && !writing->done)
		return entry->version == 0;
	return entry->version != 0 && entry->value_size == wanted->size &&
	       memcmp(entry->value, wanted->data, wanted->size) == 0;
}

static void on_stands(void *userdata, const struct rpc_answer *answer)
{
	struct writing *writing = userdata;
	struct msg_metad_got got;
	struct mpr_error error;

	if (answer->status != RPC_OK ||
	    msg_metad_got_unpack(&got, answer->body, answer->size, &error) < 0)
		settle(writing);
	else if (stands(writing, &got.entry))
		end_writing(writing, true, "");
	else
		end_writing(writing, false, "it was in doubt, and is not what stands there");
}

static void on_settled(void *userdata, const struct rpc_answer *answer)
{
	struct writing *writing = userdata;
	struct msg_metad_got got;
	struct mpr_error error;

	if (answer->status != RPC_OK ||
	    msg_metad_got_unpack(&got, answer->body, answer->size, &error) < 0 ||
	    got.entry.version == writing->checked)
		settle(writing);
	else if (read_fact(writing, writing->done ? "key/" : "ve/", writing->actions[0].name,
		     on_stands) < 0)
		end_writing(writing, false, "no memory");
}

static void on_txn(void *userdata, const struct rpc_answer *answer)
{
	struct msg_metad_txn_reply reply;
	struct mpr_error error;

	if (answer->status != RPC_OK ||
	    msg_metad_txn_reply_unpack(&reply, answer->body, answer->size, &error) < 0)
		settle(userdata);
	else if (reply.result == MSG_METAD_RESULT_APPLIED)
		end_writing(userdata, true, "");
	else if (reply.result == MSG_METAD_RESULT_CONFLICT)
		end_writing(userdata, false, "a fact changed meanwhile");
	else
		settle(userdata);
}

static struct msg_metad_op *add_op(struct msg_metad_txn *txn, enum msg_metad_kind kind,
    const char *prefix, const char *name, uint64_t expected)
{
	struct msg_metad_op *op = &txn->ops.item[txn->ops.count++];

	memset(op, 0, sizeof(*op));
	op->kind = kind;
	op->has_expected = true;
	op->expected = expected;
	snprintf(op->key, sizeof(op->key), "%s%s", prefix, name);
	return op;
}

static void set_value(struct msg_metad_op *op, const struct buf *value)
{
	op->has_value = true;
	op->value = value->data;
	op->value_size = value->size;
}

/* The placement, the catalogue that it was made from, and with the first placement the service's key. */
static int add_placement(struct writing *writing, size_t i)
{
	struct facts *facts = writing->facts;
	const struct migrated_action *action = &writing->actions[i];
	bool removes = action->kind == MIGRATED_REMOVE, is_new = action->version == 0;
	struct msg_metad_txn *txn = &facts->txn;
	struct msg_metad_op *op;
	int r = 0;

	op = add_op(txn, removes ? MSG_METAD_KIND_DELETE : MSG_METAD_KIND_PUT, "ve/", action->name,
	    action->version);
	if (!removes) {
		r = msg_migrated_ve_fact_pack(&action->fact, &writing->placements[i]);
		set_value(op, &writing->placements[i]);
	}
	add_op(txn, removes && action->cat_version ? MSG_METAD_KIND_DELETE : MSG_METAD_KIND_CHECK,
	    "cat/", action->name, action->cat_version);
	if (removes)
		add_op(txn, MSG_METAD_KIND_DELETE, "key/", action->name, 0)->has_expected = false;
	if (is_new && !removes && r == 0) {
		r = keys_make(&facts->daemon->node, &writing->keys);
		op = add_op(txn, MSG_METAD_KIND_PUT, "key/", action->name, 0);
		op->has_expected = false;
		set_value(op, &writing->keys);
	}
	return r;
}

static int fill_txn(struct writing *writing, uint64_t coord_version)
{
	const struct node_config *node = &writing->facts->daemon->node;
	struct msg_metad_txn *txn = &writing->facts->txn;
	char cluster[CLUSTER_NAME_MAX + 1];
	int r = 0;

	config_cluster_name(cluster, node, node->self);
	txn->ops.count = 0;
	txn->has_nonce = true;
	randombytes_buf(txn->nonce, sizeof(txn->nonce));
	add_op(txn, MSG_METAD_KIND_CHECK, "coord/", cluster, coord_version);
	for (size_t i = 0; !writing->done && r >= 0 && i < writing->n_actions; i++)
		r = add_placement(writing, i);
	if (writing->done)
		set_value(add_op(txn, MSG_METAD_KIND_PUT, "key/", writing->actions[0].name,
			      writing->actions[0].version),
		    &writing->keys);
	return r;
}

static void on_coord(void *userdata, const struct rpc_answer *answer)
{
	struct writing *writing = userdata;
	struct facts *facts = writing->facts;
	struct msg_gossipd_coord_fact coord;
	_cleanup_buf_ struct buf body = {0};
	struct msg_metad_got got;
	struct mpr_error error;

	if (answer->status != RPC_OK) {
		end_writing(writing, false, answer->error);
		return;
	}
	if (msg_metad_got_unpack(&got, answer->body, answer->size, &error) < 0 ||
	    msg_gossipd_coord_fact_unpack(&coord, got.entry.value, got.entry.value_size, &error) <
		0) {
		end_writing(writing, false, error.text);
		return;
	}
	if (coord.epoch != writing->epoch || strcmp(coord.node, facts->daemon->node.name) != 0) {
		end_writing(writing, false, "this node is no longer the coordinator");
		return;
	}
	writing->checked = got.entry.version;
	if (fill_txn(writing, got.entry.version) < 0 ||
	    msg_metad_txn_pack(&facts->txn, &body) < 0 ||
	    rpc_request(
		facts->metad, MSG_METAD_TXN, body.data, body.size, TIMEOUT_MS, on_txn, writing) < 0)
		end_writing(writing, false, "no memory");
}

/* First who coordinates, and at which version that was said. */
static void begin_writing(struct writing *writing)
{
	if (read_coord(writing, on_coord) < 0)
		end_writing(writing, false, "no memory");
}

void facts_write(
    struct facts *facts, const struct migrated_action *actions, size_t count, uint64_t epoch)
{
	struct writing *writing = writing_new(facts, count);

	if (!writing) {
		log_error("no memory: placement of %s is not written", actions[0].name);
		return;
	}
	memcpy(writing->actions, actions, count * sizeof(*actions));
	writing->epoch = epoch;
	begin_writing(writing);
}

void facts_write_key(
    struct facts *facts, const struct facts_key *key, facts_written *done, void *userdata)
{
	struct writing *writing = writing_new(facts, 1);
	int r = writing ? buf_append(&writing->keys, key->value->data, key->value->size) : -ENOMEM;

	if (r < 0) {
		if (writing)
			writing_free(writing);
		done(userdata, false, "no memory");
		return;
	}
	memcpy(writing->actions[0].name, key->ve, sizeof(writing->actions[0].name));
	writing->actions[0].version = key->version;
	writing->epoch = key->epoch;
	writing->done = done;
	writing->userdata = userdata;
	begin_writing(writing);
}
