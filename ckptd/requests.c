/*
 * What people and other daemons ask.  Rounds are begun by the instance on the coordinator's node;
 * the others pass the request on, once.
 */
#include "ckptd/shell-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/metad.h"

/* ---- create */

static void on_forwarded(void *userdata, const struct rpc_answer *answer)
{
	struct rpc_call *call = userdata;

	if (answer->status == RPC_OK)
		rpc_reply(call, answer->name, answer->body, answer->size);
	else
		rpc_fail(call, answer->status, "%s", answer->error);
}

static void forward(
    struct shell *shell, struct rpc_call *call, const char *request, const void *body, size_t size)
{
	int64_t left_ms = mono_to_ms(mono_sub(rpc_call_deadline(call), mono_now()));
	struct rpc_client *client;

	if (rpc_call_peer(call) || !shell->coordinator) {
		rpc_fail(call, RPC_UNREACHABLE,
		    "no coordinator is known at this moment; see depctl node ls");
		return;
	}
	client = links_client(shell, shell->coordinator);
	if (left_ms < 1)
		left_ms = 1;
	if (left_ms > 600000)
		left_ms = 600000;
	if (!client || rpc_request(client, request, body, size, left_ms, on_forwarded, call) < 0)
		rpc_fail(call, RPC_UNREACHABLE, "node %s, which coordinates, cannot be reached",
		    shell_node_name(shell, shell->coordinator));
}

static void reply_created(struct rpc_call *call, const struct msg_ckptd_created *created)
{
	_cleanup_buf_ struct buf out = {0};

	if (msg_ckptd_created_pack(created, &out) == 0)
		rpc_reply(call, MSG_CKPTD_CREATED, out.data, out.size);
	else
		rpc_fail(call, RPC_FAILED, "no memory");
}

/* A request whose VE is not known, or not known to run: it may be newer than the placements last read. */
struct early_create {
	LIST_ENTRY(early_create) link;
	struct rpc_call *call;
	uint64_t scan; /* the number of the first scan that must see the VE */
	struct msg_ckptd_create create;
};

/* Is one of them unknown or not running, as far as the placements were read? */
static bool is_early(const struct shell *shell, const struct msg_ckptd_create *create)
{
	struct ckptd_place places[SHELL_MEMBERS_MAX];
	const char *idle;
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < create->ves.count && r == 0; i++)
		r = schedule_places(
		    &shell->schedule, create->ves.item[i], places, &n, SHELL_MEMBERS_MAX, &idle);
	return r == -ENOENT || r == -EAGAIN;
}

/* Fills places from the facts last read, with all of each one's set; false when the call was refused. */
static bool find_places(struct shell *shell, struct rpc_call *call,
    const struct msg_ckptd_create *create, struct ckptd_place *places, size_t *n)
{
	const char *idle = "";

	*n = 0;
	for (size_t i = 0; i < create->ves.count; i++) {
		const char *name = create->ves.item[i];
		int r =
		    schedule_places(&shell->schedule, name, places, n, SHELL_MEMBERS_MAX, &idle);

		if (r == 0)
			continue;
		if (r == -ENOENT)
			rpc_fail(call, RPC_NOT_FOUND, "no VE or set %s", name);
		else if (r == -E2BIG)
			rpc_fail(call, RPC_INVALID, "with their sets these are more than %d VEs",
			    SHELL_MEMBERS_MAX);
		else if (strcmp(idle, name) == 0)
			rpc_fail(call, RPC_FAILED, "VE %s is not running", name);
		else
			rpc_fail(
			    call, RPC_FAILED, "VE %s of the set of %s is not running", idle, name);
		return false;
	}
	return true;
}

static void begin_round(
    struct shell *shell, struct rpc_call *call, const struct msg_ckptd_create *create)
{
	struct ckptd_place places[SHELL_MEMBERS_MAX];
	struct round_info *info;
	uint64_t id;
	size_t n;

	if (!find_places(shell, call, create, places, &n))
		return;
	id = shell_begin(shell, places, n);
	info = id ? shell_round(shell, id) : NULL;
	if (!id)
		rpc_fail(call, RPC_FAILED, "no round: %s", ckptd_reason_text(shell->begun_reason));
	else if (info && create->wait)
		info->waiter = call;
	else
		reply_created(call, &(struct msg_ckptd_created){.id = id});
}

static void wait_for_scan(
    struct shell *shell, struct rpc_call *call, const struct msg_ckptd_create *create)
{
	struct early_create *early = calloc(1, sizeof(*early));

	if (!early) {
		rpc_fail(call, RPC_FAILED, "no memory");
		return;
	}
	*early = (struct early_create){.call = call, .scan = shell->scans + 1, .create = *create};
	LIST_INSERT_HEAD(&shell->early, early, link);
	scan_ves(shell);
}

void requests_scanned(struct shell *shell, bool whole)
{
	struct early_create *early, *next;

	for (early = LIST_FIRST(&shell->early); early; early = next) {
		next = LIST_NEXT(early, link);
		if (shell->mine && early->scan > shell->scans)
			continue;
		LIST_REMOVE(early, link);
		if (!shell->mine)
			rpc_fail(early->call, RPC_UNREACHABLE, "another node coordinates now");
		else if (!whole)
			rpc_fail(early->call, RPC_UNREACHABLE, "metad does not answer");
		else
			begin_round(shell, early->call, &early->create);
		free(early);
	}
	if (!LIST_EMPTY(&shell->early))
		scan_ves(shell);
}

static void on_create(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_ckptd_create create;

	if (rpc_unpack(call, &create, msg_ckptd_create_unpack, body, size) < 0)
		return;
	if (!create.ves.count || create.ves.count > SHELL_MEMBERS_MAX) {
		rpc_fail(call, RPC_INVALID, "name 1 to %d VEs", SHELL_MEMBERS_MAX);
		return;
	}
	if (!shell->mine) {
		forward(shell, call, MSG_CKPTD_CREATE, body, size);
		return;
	}
	if (is_early(shell, &create))
		wait_for_scan(shell, call, &create);
	else
		begin_round(shell, call, &create);
}

void requests_committed(struct shell *shell, struct round_info *info)
{
	struct msg_ckptd_created created = {.id = info->id, .committed = true};

	(void)shell;
	if (!info->waiter)
		return;
	created.took_ms = (uint64_t)mono_to_ms(mono_sub(mono_now(), info->started));
	for (size_t i = 0; i < info->n_members; i++) {
		const struct msg_ckptd_checkpoint *checkpoint = &info->members[i].checkpoint;

		created.bytes += checkpoint->bytes;
		if (checkpoint->frozen_ms > created.frozen_ms)
			created.frozen_ms = checkpoint->frozen_ms;
	}
	reply_created(info->waiter, &created);
	info->waiter = NULL;
}

void requests_aborted(
    struct shell *shell, struct round_info *info, enum ckptd_reason reason, const char *ve)
{
	(void)shell;
	if (!info->waiter)
		return;
	rpc_fail(info->waiter, RPC_FAILED, "round %016" PRIx64 " was aborted%s%s: %s%s%s", info->id,
	    ve[0] ? " at VE " : "", ve, ckptd_reason_text(reason), info->detail[0] ? ": " : "",
	    info->detail);
	info->waiter = NULL;
}

/* ---- ls */

static void reply_ls(struct rpc_call *call, const struct msg_ckptd_ls_reply *reply)
{
	_cleanup_buf_ struct buf out = {0};

	if (msg_ckptd_ls_reply_pack(reply, &out) == 0)
		rpc_reply(call, MSG_CKPTD_LS_REPLY, out.data, out.size);
	else
		rpc_fail(call, RPC_FAILED, "the list cannot be packed");
}

static void on_catalogues(void *userdata, const struct rpc_answer *answer)
{
	struct rpc_call *call = userdata;
	struct msg_metad_page *page = calloc(1, sizeof(*page));
	struct msg_ckptd_ls_reply *reply = calloc(1, sizeof(*reply));
	struct mpr_error error = {0};

	if (!page || !reply || answer->status != RPC_OK ||
	    msg_metad_page_unpack(page, answer->body, answer->size, &error) < 0) {
		rpc_fail(call, RPC_UNREACHABLE, "metad: %s",
		    answer->error[0] ? answer->error : error.text);
		goto out;
	}
	for (size_t i = 0; i < page->entries.count && reply->ves.count < 64; i++) {
		struct msg_ckptd_kept *kept = &reply->ves.item[reply->ves.count];
		const struct msg_metad_entry *entry = &page->entries.item[i];
		struct msg_ckptd_catalogue catalogue;

		if (msg_ckptd_catalogue_unpack(
			&catalogue, entry->value, entry->value_size, &error) < 0)
			continue;
		snprintf(kept->ve, sizeof(kept->ve), "%.63s", entry->key + strlen("cat/"));
		memcpy(&kept->checkpoints, &catalogue.checkpoints, sizeof(kept->checkpoints));
		reply->ves.count++;
	}
	reply_ls(call, reply);
out:
	free(page);
	free(reply);
}

static void on_catalogue(struct reading *reading)
{
	struct rpc_call *call = reading->userdata;
	const struct fact *fact = &reading->facts[0];
	struct msg_ckptd_ls_reply *reply = calloc(1, sizeof(*reply));
	struct msg_ckptd_catalogue catalogue = {0};
	struct mpr_error error;

	if (!reply || reading->failed ||
	    (fact->version && msg_ckptd_catalogue_unpack(
				  &catalogue, fact->value.data, fact->value.size, &error) < 0)) {
		rpc_fail(call, RPC_UNREACHABLE, "%s cannot be read from metad", fact->key);
	} else {
		reply->ves.count = fact->version ? 1 : 0;
		snprintf(reply->ves.item[0].ve, sizeof(reply->ves.item[0].ve), "%.63s",
		    fact->key + strlen("cat/"));
		memcpy(&reply->ves.item[0].checkpoints, &catalogue.checkpoints,
		    sizeof(catalogue.checkpoints));
		reply_ls(call, reply);
	}
	free(reply);
}

static void on_ls(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_metad_scan scan = {.prefix = "cat/", .limit = 64};
	_cleanup_buf_ struct buf out = {0};
	struct shell *shell = userdata;
	struct reading *reading;
	struct msg_ckptd_ls ls;

	if (rpc_unpack(call, &ls, msg_ckptd_ls_unpack, body, size) < 0)
		return;
	if (ls.ve[0]) {
		reading = reading_new(shell, on_catalogue, call);
		reading_add(reading, "cat/%s", ls.ve);
		reading_go(reading);
	} else if (msg_metad_scan_pack(&scan, &out) < 0 ||
		   rpc_request(shell->metad, MSG_METAD_SCAN, out.data, out.size, META_TIMEOUT_MS,
		       on_catalogues, call) < 0) {
		rpc_fail(call, RPC_UNREACHABLE, "metad cannot be asked");
	}
}

/* ---- failing */

static void describe_failure(const struct shell *shell, const struct schedule_failure *failure,
    struct msg_ckptd_failure *out)
{
	struct mono now = mono_now();

	out->rounds = failure->rounds;
	out->since_ms = (uint64_t)mono_to_ms(mono_sub(now, failure->first));
	out->age_ms = (uint64_t)mono_to_ms(mono_sub(now, failure->last));
	out->id = failure->id;
	out->reason = (enum msg_ckptd_reason)failure->reason;
	snprintf(out->text, sizeof(out->text), "%s", ckptd_reason_text(failure->reason));
	memcpy(out->at, failure->at, sizeof(failure->at));
	if (failure->node)
		snprintf(out->node, sizeof(out->node), "%s", shell_node_name(shell, failure->node));
}

static void on_failing(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_ckptd_failing_reply reply = {0};
	const struct schedule_ve *ve;
	_cleanup_buf_ struct buf out = {0};
	struct msg_ckptd_failing failing;

	if (rpc_unpack(call, &failing, msg_ckptd_failing_unpack, body, size) < 0)
		return;
	if (!shell->mine) {
		forward(shell, call, MSG_CKPTD_FAILING, body, size);
		return;
	}
	ve = schedule_find(&shell->schedule, failing.ve);
	reply.has_failure = ve && ve->failure.rounds;
	if (reply.has_failure)
		describe_failure(shell, &ve->failure, &reply.failure);
	if (msg_ckptd_failing_reply_pack(&reply, &out) == 0)
		rpc_reply(call, MSG_CKPTD_FAILING_REPLY, out.data, out.size);
	else
		rpc_fail(call, RPC_FAILED, "no memory");
}

/* ---- status */

static void list_seats(const struct shell *shell, struct msg_ckptd_status_reply *reply)
{
	struct ckptd_seat_view view;

	for (size_t i = 0; reply->seats.count < 64 && ckptd_seat_at(shell->core, i, &view); i++) {
		struct msg_ckptd_seat *seat = &reply->seats.item[reply->seats.count++];

		snprintf(seat->ve, sizeof(seat->ve), "%s", view.ve);
		seat->id = view.id;
		seat->state = (enum msg_ckptd_seat_state)view.state;
	}
}

static void list_planned(const struct shell *shell, struct msg_ckptd_status_reply *reply)
{
	const struct schedule *schedule = &shell->schedule;

	for (size_t i = 0; i < schedule->n && reply->planned.count < 64; i++) {
		struct msg_ckptd_planned *planned = &reply->planned.item[reply->planned.count++];
		const struct schedule_ve *ve = &schedule->ves[i];

		memcpy(planned->ve, ve->place.ve, sizeof(planned->ve));
		snprintf(planned->node, sizeof(planned->node), "%s",
		    shell_node_name(shell, ve->place.node));
		planned->interval_ms = ve->interval_ms;
		planned->due_ms =
		    mono_is_never(ve->due) ? -1 : mono_to_ms(mono_sub(ve->due, mono_now()));
		planned->open = ckptd_ve_busy(shell->core, ve->place.ve);
	}
}

static void on_status(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_ckptd_status_reply *reply = calloc(1, sizeof(*reply));
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	if (!reply) {
		rpc_fail(call, RPC_FAILED, "no memory");
		return;
	}
	if (shell->coordinator)
		snprintf(reply->coordinator, sizeof(reply->coordinator), "%s",
		    shell_node_name(shell, shell->coordinator));
	reply->epoch = shell->epoch;
	reply->mine = shell->mine;
	list_seats(shell, reply);
	list_planned(shell, reply);
	if (msg_ckptd_status_reply_pack(reply, &out) == 0)
		rpc_reply(call, MSG_CKPTD_STATUS_REPLY, out.data, out.size);
	else
		rpc_fail(call, RPC_FAILED, "the status cannot be packed");
	free(reply);
}

const struct rpc_method requests_methods[] = {
    {MSG_CKPTD_CREATE, on_create, false},
    {MSG_CKPTD_LS, on_ls, true},
    {MSG_CKPTD_FAILING, on_failing, false},
    {MSG_CKPTD_STATUS, on_status, true},
    {0},
};
