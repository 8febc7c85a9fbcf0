/*
 * The decision cells: ckpt/<id> in metad, swapped once.
 *
 * Each operation reads what it depends on and writes in one transaction that checks the versions
 * read; a conflict reads again, a few times.  COMMIT depends on the coordinator's fact (its epoch
 * is still ours), on the placement of every member (it still runs where and under which epoch it
 * was captured) and on every catalogue, and writes the cell and the catalogues together.
 */
#include "ckptd/shell-internal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/crashpoint.h"
#include "proto/gossipd.h"
#include "proto/metad.h"
#include "proto/migrated.h"

#define TRIES_MAX 5

struct cell_op {
	struct shell *shell;
	uint64_t id;
	char ve[CKPTD_VE_SIZE];
	enum ckptd_cell_op op;
	enum ckptd_decision target; /* what the transaction under way makes of the cell */
	unsigned tries;
};

static void go(struct cell_op *op);

static void finish(struct cell_op *op, enum ckptd_decision decision)
{
	struct ckptd_event event = {
	    .kind = CKPTD_EV_CELL, .id = op->id, .ve = op->ve, .op = op->op, .decision = decision};
	struct cell_op copy = *op;

	event.ve = copy.ve;
	free(op);
	shell_post(copy.shell, &event);
}

/* ---- the transaction */

static void crash_after_swap(enum ckptd_decision target)
{
	if (target == CKPTD_UNDECIDED)
		crash_point("ckptd.cell-created");
	else if (target == CKPTD_COMMIT)
		crash_point("ckptd.cell-committed");
	else
		crash_point("ckptd.cell-aborted");
}

static void on_txn(void *userdata, const struct rpc_answer *answer)
{
	struct cell_op *op = userdata;
	struct msg_metad_txn_reply reply;
	struct mpr_error error;

	if (answer->status != RPC_OK ||
	    msg_metad_txn_reply_unpack(&reply, answer->body, answer->size, &error) < 0 ||
	    reply.result == MSG_METAD_RESULT_UNKNOWN) {
		finish(op, CKPTD_UNKNOWN);
		return;
	}
	if (reply.result == MSG_METAD_RESULT_APPLIED) {
		crash_after_swap(op->target);
		finish(op, op->target);
	} else if (++op->tries < TRIES_MAX) {
		go(op);
	} else {
		finish(op, CKPTD_UNKNOWN);
	}
}

static void send_txn(struct cell_op *op, struct msg_metad_txn *txn, enum ckptd_decision target)
{
	_cleanup_buf_ struct buf body = {0};

	op->target = target;
	txn->has_nonce = true;
	randombytes_buf(txn->nonce, sizeof(txn->nonce));
	if (msg_metad_txn_pack(txn, &body) < 0) {
		log_bug("the transaction of round %016" PRIx64 " cannot be packed", op->id);
		finish(op, CKPTD_UNKNOWN);
	} else if (rpc_request(op->shell->metad, MSG_METAD_TXN, body.data, body.size,
		       META_TIMEOUT_MS, on_txn, op) < 0) {
		finish(op, CKPTD_UNKNOWN);
	}
}

static struct msg_metad_op *add_op(
    struct msg_metad_txn *txn, const struct fact *fact, enum msg_metad_kind kind)
{
	struct msg_metad_op *op = &txn->ops.item[txn->ops.count++];

	assert(txn->ops.count <= sizeof(txn->ops.item) / sizeof(txn->ops.item[0]));
	*op = (struct msg_metad_op){.kind = kind, .has_expected = true, .expected = fact->version};
	snprintf(op->key, sizeof(op->key), "%s", fact->key);
	return op;
}

static void add_put(struct msg_metad_txn *txn, const struct fact *fact, const struct buf *value)
{
	struct msg_metad_op *op = add_op(txn, fact, MSG_METAD_KIND_PUT);

	op->has_value = true;
	op->value = value->data;
	op->value_size = value->size;
}

/* ---- the cell */

static enum ckptd_decision decision_of(const struct fact *fact)
{
	struct msg_ckptd_decision decision;
	struct mpr_error error;

	if (!fact->version)
		return CKPTD_ABSENT;
	if (msg_ckptd_decision_unpack(&decision, fact->value.data, fact->value.size, &error) < 0) {
		log_error("fact %s: %s", fact->key, error.text);
		return CKPTD_UNKNOWN;
	}
	switch (decision.outcome) {
	case MSG_CKPTD_OUTCOME_COMMIT:
		return CKPTD_COMMIT;
	case MSG_CKPTD_OUTCOME_ABORT:
		return CKPTD_ABORT;
	case MSG_CKPTD_OUTCOME_UNDECIDED:
		return CKPTD_UNDECIDED;
	}
	return CKPTD_UNKNOWN;
}

static int pack_cell(const struct cell_op *op, const struct fact *before,
    enum msg_ckptd_outcome outcome, struct buf *out)
{
	struct msg_ckptd_decision decision = {0};
	struct ckptd_member_view view;
	struct mpr_error error;

	if (before->version && msg_ckptd_decision_unpack(
				   &decision, before->value.data, before->value.size, &error) < 0)
		return -EBADMSG;
	decision.outcome = outcome;
	if (!before->version) {
		snprintf(decision.coordinator, sizeof(decision.coordinator), "%s",
		    op->shell->daemon->node.name);
		for (size_t i = 0; ckptd_round_member(op->shell->core, op->id, i, &view); i++)
			snprintf(decision.ves.item[decision.ves.count++],
			    sizeof(decision.ves.item[0]), "%s", view.ve);
	}
	return msg_ckptd_decision_pack(&decision, out);
}

static void swap(struct cell_op *op, const struct fact *fact, enum msg_ckptd_outcome outcome,
    enum ckptd_decision target)
{
	_cleanup_buf_ struct buf value = {0};
	struct msg_metad_txn txn = {0};

	if (pack_cell(op, fact, outcome, &value) < 0) {
		finish(op, CKPTD_UNKNOWN);
		return;
	}
	add_put(&txn, fact, &value);
	send_txn(op, &txn, target);
}

/* ---- commit */

static bool still_coordinator(const struct shell *shell, const struct fact *fact)
{
	struct msg_gossipd_coord_fact coord;
	struct mpr_error error;

	return fact->version &&
	       msg_gossipd_coord_fact_unpack(&coord, fact->value.data, fact->value.size, &error) ==
		   0 &&
	       coord.epoch == shell->epoch && !strcmp(coord.node, shell->daemon->node.name);
}

static bool still_placed(
    const struct shell *shell, const struct fact *fact, const struct ckptd_member_view *view)
{
	struct msg_migrated_ve_fact ve;
	struct mpr_error error;

	return fact->version &&
	       msg_migrated_ve_fact_unpack(&ve, fact->value.data, fact->value.size, &error) == 0 &&
	       ve.epoch == view->ve_epoch && ve.want == MSG_MIGRATED_WANT_RUN &&
	       !strcmp(ve.node, shell_node_name(shell, view->node));
}

static int64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int describe(const struct shell *shell, uint64_t id, const struct ckptd_member_view *view,
    struct msg_ckptd_checkpoint *out)
{
	const struct ckptd_image *image = view->image;

	*out = (struct msg_ckptd_checkpoint){
	    .id = id,
	    .ve_epoch = view->ve_epoch,
	    .wall_ms = wall_ms(),
	    .bytes = image->bytes,
	    .frozen_ms = image->frozen_ms,
	};
	snprintf(out->node, sizeof(out->node), "%s", shell_node_name(shell, view->node));
	for (size_t i = 0; i < image->n_replicas; i++)
		snprintf(out->replicas.item[out->replicas.count++], sizeof(out->replicas.item[0]),
		    "%s", shell_node_name(shell, image->replicas[i]));
	return oid_parse(out->oid, image->oid);
}

/* The new catalogue of one member; 0 or negative errno. */
static int extend(struct cell_op *op, const struct fact *fact, const struct ckptd_member_view *view,
    struct commit_member *member, struct buf *out)
{
	struct msg_ckptd_catalogue catalogue = {0};
	struct mpr_error error;
	int r;

	if (fact->version && msg_ckptd_catalogue_unpack(
				 &catalogue, fact->value.data, fact->value.size, &error) < 0) {
		log_error("fact %s: %s", fact->key, error.text);
		return -EBADMSG;
	}
	memset(member, 0, sizeof(*member));
	ckptd_name_copy(member->ve, view->ve);
	r = describe(op->shell, op->id, view, &member->checkpoint);
	if (r < 0)
		return r;
	r = catalogue_add(
	    &catalogue, &member->checkpoint, plans_retention(op->shell, view->ve), member->retired);
	if (r < 0)
		return r;
	member->n_retired = (size_t)r;
	return msg_ckptd_catalogue_pack(&catalogue, out);
}

/* facts: coordinator, cell, and for each member its placement and its catalogue. */
static bool build_commit(struct cell_op *op, struct reading *reading, struct msg_metad_txn *txn,
    struct buf values[SHELL_MEMBERS_MAX + 1])
{
	struct round_info *info = shell_round(op->shell, op->id);
	struct ckptd_member_view view;
	size_t i;

	if (!info || !still_coordinator(op->shell, &reading->facts[0]) ||
	    pack_cell(op, &reading->facts[1], MSG_CKPTD_OUTCOME_COMMIT, &values[0]) < 0)
		return false;
	add_op(txn, &reading->facts[0], MSG_METAD_KIND_CHECK);
	add_put(txn, &reading->facts[1], &values[0]);
	for (i = 0; ckptd_round_member(op->shell->core, op->id, i, &view); i++) {
		const struct fact *placement = &reading->facts[2 + 2 * i];

		if (!still_placed(op->shell, placement, &view) ||
		    extend(op, placement + 1, &view, &info->members[i], &values[i + 1]) < 0)
			return false;
		add_op(txn, placement, MSG_METAD_KIND_CHECK);
		add_put(txn, placement + 1, &values[i + 1]);
	}
	info->n_members = i;
	return i > 0;
}

static void commit(struct cell_op *op, struct reading *reading)
{
	struct buf values[SHELL_MEMBERS_MAX + 1] = {0};
	struct msg_metad_txn txn = {0};

	if (build_commit(op, reading, &txn, values))
		send_txn(op, &txn, CKPTD_COMMIT);
	else
		finish(op, CKPTD_UNDECIDED);
	for (size_t i = 0; i <= SHELL_MEMBERS_MAX; i++)
		buf_fini(&values[i]);
}

/* ---- what was read decides what is done */

/* A cell that is gone: its round is over, and if the catalogue has it, it was committed. */
static enum ckptd_decision absent(const struct cell_op *op, const struct reading *reading)
{
	const struct fact *fact = &reading->facts[1];
	struct msg_ckptd_catalogue catalogue;
	struct mpr_error error;

	if (!op->ve[0] || !fact->version)
		return CKPTD_ABSENT;
	if (msg_ckptd_catalogue_unpack(&catalogue, fact->value.data, fact->value.size, &error) < 0)
		return CKPTD_UNKNOWN;
	return catalogue_has(&catalogue, op->id) ? CKPTD_COMMIT : CKPTD_ABSENT;
}

static void on_read(struct reading *reading)
{
	struct cell_op *op = reading->userdata;
	const struct fact *fact = &reading->facts[op->op == CKPTD_CELL_COMMIT ? 1 : 0];
	enum ckptd_decision decision = reading->failed ? CKPTD_UNKNOWN : decision_of(fact);
	bool open = decision == CKPTD_ABSENT || decision == CKPTD_UNDECIDED;

	if (decision == CKPTD_UNKNOWN)
		finish(op, CKPTD_UNKNOWN);
	else if (op->op == CKPTD_CELL_CREATE && decision == CKPTD_ABSENT)
		swap(op, fact, MSG_CKPTD_OUTCOME_UNDECIDED, CKPTD_UNDECIDED);
	else if (op->op == CKPTD_CELL_CREATE)
		finish(op, CKPTD_UNKNOWN); /* somebody has this id */
	else if (op->op == CKPTD_CELL_ABORT && open)
		swap(op, fact, MSG_CKPTD_OUTCOME_ABORT, CKPTD_ABORT);
	else if (op->op == CKPTD_CELL_COMMIT && decision == CKPTD_UNDECIDED)
		commit(op, reading);
	else if (op->op == CKPTD_CELL_READ && decision == CKPTD_ABSENT)
		finish(op, absent(op, reading));
	else
		finish(op, decision);
}

static void go(struct cell_op *op)
{
	struct shell *shell = op->shell;
	struct reading *reading = reading_new(shell, on_read, op);
	const struct node_config *node = &shell->daemon->node;
	char cluster[CLUSTER_NAME_MAX + 1];
	struct ckptd_member_view view;

	config_cluster_name(cluster, node, node->self);
	if (op->op == CKPTD_CELL_COMMIT)
		reading_add(reading, "coord/%s", cluster);
	reading_add(reading, "ckpt/%016" PRIx64, op->id);
	if (op->op == CKPTD_CELL_READ && op->ve[0])
		reading_add(reading, "cat/%s", op->ve);
	for (size_t i = 0;
	     op->op == CKPTD_CELL_COMMIT && ckptd_round_member(shell->core, op->id, i, &view);
	     i++) {
		reading_add(reading, "ve/%s", view.ve);
		reading_add(reading, "cat/%s", view.ve);
	}
	reading_go(reading);
}

void cell_do(struct shell *shell, const struct ckptd_action *action)
{
	struct cell_op *op = calloc(1, sizeof(*op));

	if (!op) {
		log_error("no memory for a cell operation");
		abort();
	}
	op->shell = shell;
	op->id = action->id;
	op->op = action->op;
	ckptd_name_copy(op->ve, action->ve);
	go(op);
}
