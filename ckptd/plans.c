/*
 * Plans: when a VE is checkpointed and what is kept of it, where somebody wants that otherwise than `ve run` and the configuration
 * say (fact plan/<ve>); and checkpoints that somebody takes away.  Any instance does it: a transaction checks what it read.
 *
 * A fact of its own, as the placement is migrated's to write, and a round in which it changes is aborted.
 */
#include "ckptd/shell-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/common.h"
#include "proto/metad.h"
#include "proto/migrated.h"

#define SHARE 10      /* thousandths */
#define LOSS_MS 60000 /* of an adaptive VE for which nothing else was said */
#define TRIES_MAX 5   /* after others' writes */

struct retention plans_retention(const struct shell *shell, const char *name)
{
	const struct schedule_ve *ve = schedule_find(&shell->schedule, name);
	struct retention retention = {
	    (size_t)shell->settings.keep, (size_t)shell->settings.keep_hourly};

	if (ve && ve->keep)
		retention = (struct retention){ve->keep, ve->keep_hourly};
	if (retention.last + retention.hourly > CATALOGUE_MAX)
		retention.hourly = CATALOGUE_MAX - retention.last;
	return retention;
}

void plans_apply(const struct msg_ckptd_plan *plan, struct schedule_ve *ve)
{
	if (plan->has_interval_ms)
		ve->interval_ms = (uint32_t)plan->interval_ms;
	ve->adaptive = plan->adaptive;
	ve->share = plan->has_share ? plan->share : SHARE;
	ve->loss_ms = plan->has_loss_ms ? (uint32_t)plan->loss_ms : LOSS_MS;
	if (ve->adaptive && !ve->interval_ms)
		ve->interval_ms = SCHEDULE_SHORTEST_MS; /* until its cost is known */
	ve->keep = plan->has_keep ? plan->keep : 0;
	ve->keep_hourly = plan->has_keep_hourly ? plan->keep_hourly : 0;
}

/* ---- one request: facts are read, one is written if they are still so */

enum { PLAN_VE, PLAN_OTHER }; /* of the reading: ve/<ve>; plan/<ve> or cat/<ve> */

struct order {
	struct shell *shell;
	struct rpc_call *call;
	struct msg_ckptd_schedule schedule;
	struct msg_ckptd_rm rm;
	struct msg_ckptd_checkpoint removed;
	struct buf answer; /* once it is written */
	const char *answer_name;
	unsigned tries;
};

static void ask_facts(struct order *order);

static struct order *order_new(struct shell *shell, struct rpc_call *call)
{
	struct order *order = calloc(1, sizeof(*order));

	if (order) {
		order->shell = shell;
		order->call = call;
	} else {
		rpc_fail(call, RPC_FAILED, "no memory");
	}
	return order;
}

static void order_free(struct order *order)
{
	buf_fini(&order->answer);
	free(order);
}

static void answer(struct order *order)
{
	if (order->removed.id)
		local_remove(
		    order->shell, order->removed.oid, order->rm.ve, order->removed.id, false);
	rpc_reply(order->call, order->answer_name, order->answer.data, order->answer.size);
	order_free(order);
}

static void on_written(void *userdata, const struct rpc_answer *reply)
{
	struct order *order = userdata;
	struct msg_metad_txn_reply txn = {.result = MSG_METAD_RESULT_UNKNOWN};
	struct mpr_error error;

	if (reply->status == RPC_OK &&
	    msg_metad_txn_reply_unpack(&txn, reply->body, reply->size, &error) < 0)
		txn.result = MSG_METAD_RESULT_UNKNOWN;
	if (txn.result == MSG_METAD_RESULT_APPLIED) {
		answer(order);
	} else if (txn.result != MSG_METAD_RESULT_UNKNOWN && ++order->tries < TRIES_MAX) {
		ask_facts(order);
	} else {
		rpc_fail(order->call, RPC_FAILED,
		    "metad does not say whether it was done; look, and ask again");
		order_free(order);
	}
}

static void put_op(struct msg_metad_txn *txn, const struct fact *fact, enum msg_metad_kind kind)
{
	struct msg_metad_op *op = &txn->ops.item[txn->ops.count++];

	*op = (struct msg_metad_op){.kind = kind, .has_expected = true, .expected = fact->version};
	snprintf(op->key, sizeof(op->key), "%s", fact->key);
}

/* The placement must be as it was read, and the other fact becomes this. */
static void write_fact(struct order *order, const struct reading *reading, const struct buf *value)
{
	struct msg_metad_txn txn = {0};
	_cleanup_buf_ struct buf body = {0};

	put_op(&txn, &reading->facts[PLAN_VE], MSG_METAD_KIND_CHECK);
	put_op(&txn, &reading->facts[PLAN_OTHER], MSG_METAD_KIND_PUT);
	txn.ops.item[1].has_value = true;
	txn.ops.item[1].value = value->data;
	txn.ops.item[1].value_size = value->size;
	if (msg_metad_txn_pack(&txn, &body) == 0 &&
	    rpc_request(order->shell->metad, MSG_METAD_TXN, body.data, body.size, META_TIMEOUT_MS,
		on_written, order) >= 0)
		return;
	rpc_fail(order->call, RPC_UNREACHABLE, "metad cannot be asked");
	order_free(order);
}

/* The placement of the VE; false when the call was refused and the order is gone. */
static bool take_placement(struct order *order, const struct reading *reading, const char *ve,
    struct msg_migrated_ve_fact *placement)
{
	const struct fact *fact = &reading->facts[PLAN_VE];
	struct mpr_error error;

	if (reading->failed)
		rpc_fail(order->call, RPC_UNREACHABLE,
		    "the facts of VE %s cannot be read from metad", ve);
	else if (!fact->version)
		rpc_fail(order->call, RPC_NOT_FOUND, "no VE %s", ve);
	else if (msg_migrated_ve_fact_unpack(
		     placement, fact->value.data, fact->value.size, &error) < 0)
		rpc_fail(order->call, RPC_FAILED, "fact %s: %s", fact->key, error.text);
	else
		return true;
	order_free(order);
	return false;
}

static void refuse(struct order *order, enum rpc_status status, const char *why)
{
	rpc_fail(order->call, status, "%s", why);
	order_free(order);
}

/* ---- schedule */

/* What was asked goes over what is. */
static void merge(struct msg_ckptd_plan *plan, const struct msg_ckptd_plan *asked)
{
	if (asked->has_interval_ms) {
		plan->has_interval_ms = true;
		plan->interval_ms = asked->interval_ms;
		plan->adaptive = false;
	}
	if (asked->adaptive)
		plan->adaptive = true;
	if (asked->has_share) {
		plan->has_share = true;
		plan->share = asked->share;
	}
	if (asked->has_loss_ms) {
		plan->has_loss_ms = true;
		plan->loss_ms = asked->loss_ms;
	}
	if (asked->has_keep) {
		plan->has_keep = true;
		plan->keep = asked->keep;
		plan->has_keep_hourly = true;
		plan->keep_hourly = asked->has_keep_hourly ? asked->keep_hourly : 0;
	}
}

static int describe(struct order *order, const struct msg_ckptd_plan *plan, uint64_t interval_ms)
{
	const struct ckptd_settings *settings = &order->shell->settings;
	struct msg_ckptd_scheduled reply = {
	    .interval_ms = plan->has_interval_ms ? plan->interval_ms : interval_ms,
	    .adaptive = plan->adaptive,
	    .share = plan->has_share ? plan->share : SHARE,
	    .loss_ms = plan->has_loss_ms ? plan->loss_ms : LOSS_MS,
	    .keep = plan->has_keep ? plan->keep : (uint8_t)settings->keep,
	    .keep_hourly = plan->has_keep ? plan->keep_hourly : (uint8_t)settings->keep_hourly,
	};

	memcpy(reply.ve, order->schedule.ve, sizeof(reply.ve));
	order->answer_name = MSG_CKPTD_SCHEDULED;
	return msg_ckptd_scheduled_pack(&reply, &order->answer);
}

static void on_plan(struct reading *reading)
{
	struct order *order = reading->userdata;
	const struct fact *fact = &reading->facts[PLAN_OTHER];
	struct msg_migrated_ve_fact placement;
	struct msg_ckptd_plan plan = {0};
	_cleanup_buf_ struct buf value = {0};
	struct mpr_error error;

	if (!take_placement(order, reading, order->schedule.ve, &placement))
		return;
	if (fact->version &&
	    msg_ckptd_plan_unpack(&plan, fact->value.data, fact->value.size, &error) < 0) {
		refuse(order, RPC_FAILED, error.text);
		return;
	}
	if (order->schedule.change)
		merge(&plan, &order->schedule.plan);
	if (describe(order, &plan, placement.interval_ms) < 0 ||
	    msg_ckptd_plan_pack(&plan, &value) < 0)
		refuse(order, RPC_FAILED, "no memory");
	else if (order->schedule.change)
		write_fact(order, reading, &value);
	else
		answer(order);
}

/* NULL, or what is wrong with it. */
static const char *fault_of(const struct msg_ckptd_plan *plan)
{
	if (plan->has_keep && plan->keep < 1)
		return "at least one checkpoint is to be kept";
	if (plan->has_keep_hourly && !plan->has_keep)
		return "hours are kept beside the last ones: say how many of these, too";
	if (plan->has_keep && plan->keep + plan->keep_hourly > CATALOGUE_MAX)
		return "more than 32 checkpoints of one VE cannot be kept";
	if (plan->has_interval_ms && plan->adaptive)
		return "an interval, or adaptive: not both";
	if (plan->has_interval_ms && plan->interval_ms && plan->interval_ms < 100)
		return "an interval has 100 ms and more, or 0: none";
	return NULL;
}

static void on_schedule(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ckptd_schedule schedule;
	struct order *order;
	const char *fault;

	if (rpc_unpack(call, &schedule, msg_ckptd_schedule_unpack, body, size) < 0)
		return;
	fault = schedule.change && !schedule.has_plan ? "no plan" : fault_of(&schedule.plan);
	if (schedule.change && fault) {
		rpc_fail(call, RPC_INVALID, "%s", fault);
		return;
	}
	order = order_new(userdata, call);
	if (!order)
		return;
	order->schedule = schedule;
	ask_facts(order);
}

/* ---- rm */

static void on_catalogue(struct reading *reading)
{
	struct order *order = reading->userdata;
	const struct fact *fact = &reading->facts[PLAN_OTHER];
	struct msg_ckptd_catalogue catalogue = {0};
	struct msg_migrated_ve_fact placement;
	_cleanup_buf_ struct buf value = {0};
	struct mpr_error error;
	size_t n;

	if (!take_placement(order, reading, order->rm.ve, &placement))
		return;
	if (fact->version && msg_ckptd_catalogue_unpack(
				 &catalogue, fact->value.data, fact->value.size, &error) < 0) {
		refuse(order, RPC_FAILED, error.text);
		return;
	}
	n = catalogue.checkpoints.count;
	if (!catalogue_has(&catalogue, order->rm.id))
		refuse(order, RPC_NOT_FOUND, "the VE has no such checkpoint");
	else if (catalogue.checkpoints.item[n - 1].id == order->rm.id)
		refuse(order, RPC_FAILED,
		    "it is the newest: the VE would go on from it if its node were lost");
	else if (placement.start_ckpt == order->rm.id)
		refuse(order, RPC_FAILED, "the VE was last restored from it");
	else if (!catalogue_remove(&catalogue, order->rm.id, &order->removed) ||
		 msg_ckptd_catalogue_pack(&catalogue, &value) < 0 ||
		 buf_append(&order->answer, "\x80", 1) < 0)
		refuse(order, RPC_FAILED, "no memory");
	else
		write_fact(order, reading, &value);
}

static void on_rm(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct order *order = order_new(userdata, call);

	if (!order)
		return;
	if (rpc_unpack(call, &order->rm, msg_ckptd_rm_unpack, body, size) < 0) {
		order_free(order);
		return;
	}
	if (!order->rm.id) {
		refuse(order, RPC_INVALID, "no checkpoint has the number 0");
		return;
	}
	ask_facts(order);
}

static void ask_facts(struct order *order)
{
	bool rm = order->rm.id != 0;
	struct reading *reading = reading_new(order->shell, rm ? on_catalogue : on_plan, order);
	const char *ve = rm ? order->rm.ve : order->schedule.ve;

	buf_clear(&order->answer);
	order->answer_name = MSG_COMMON_DONE;
	reading_add(reading, "ve/%s", ve);
	reading_add(reading, rm ? "cat/%s" : "plan/%s", ve);
	reading_go(reading);
}

const struct rpc_method plans_methods[] = {
    {MSG_CKPTD_SCHEDULE, on_schedule, false},
    {MSG_CKPTD_RM, on_rm, false},
    {0},
};
