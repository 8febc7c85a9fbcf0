/*
 * Events in, actions out.  Nothing here decides anything.
 *
 * An action that must be durable and cannot be made so ends the process: its successor reads what
 * the disk does hold, and the protocol is made for that.
 */
#include "ckptd/shell-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/crashpoint.h"
#include "common/deadline.h"

#define SCAN_MS 1000
#define SWEEP_MS 30000

const char *shell_node_name(const struct shell *shell, uint64_t id)
{
	const struct peer *peer = peers_by_id(&shell->daemon->node.peers, id);

	return peer ? peer->name : "?";
}

enum ckptd_status shell_node_status(const struct shell *shell, uint64_t id)
{
	for (size_t i = 0; i < shell->n_nodes; i++) {
		if (shell->nodes[i].id == id)
			return shell->nodes[i].status;
	}
	return CKPTD_STATUS_UNKNOWN;
}

/* ---- rounds of ours */

struct round_info *shell_round(struct shell *shell, uint64_t id)
{
	for (size_t i = 0; i < SHELL_ROUNDS_MAX; i++) {
		if (shell->rounds[i].id == id)
			return &shell->rounds[i];
	}
	return NULL;
}

static void tell_started(struct shell *shell, uint64_t id)
{
	struct msg_ckpt_started event = {.id = id};
	struct ckptd_member_view view;

	for (size_t i = 0; ckptd_round_member(shell->core, id, i, &view); i++)
		snprintf(
		    event.ves.item[event.ves.count++], sizeof(event.ves.item[0]), "%s", view.ve);
	daemon_tell(shell->daemon, MSG_CKPT_STARTED, msg_ckpt_started_pack, &event);
	log_info("round begun id=%016" PRIx64 " members=%zu first=%s", id, event.ves.count,
	    event.ves.count ? event.ves.item[0] : "");
}

static void note_round(struct shell *shell, struct round_info *info, uint64_t id)
{
	struct ckptd_member_view view;

	*info = (struct round_info){.id = id, .started = mono_now()};
	while (info->n_ves < SHELL_MEMBERS_MAX &&
	       ckptd_round_member(shell->core, id, info->n_ves, &view))
		snprintf(info->ves[info->n_ves++], sizeof(info->ves[0]), "%s", view.ve);
}

static void begun(struct shell *shell, uint64_t id)
{
	struct round_info *info = shell_round(shell, 0);

	shell->begun = id;
	shell->rounds_begun++;
	if (info)
		note_round(shell, info, id);
	tell_started(shell, id);
}

static void tell_committed(
    struct shell *shell, const struct round_info *info, const struct commit_member *member)
{
	const struct msg_ckptd_checkpoint *checkpoint = &member->checkpoint;
	struct msg_ckpt_committed event = {
	    .id = info->id,
	    .bytes = checkpoint->bytes,
	    .frozen_ms = checkpoint->frozen_ms,
	    .took_ms = (uint64_t)mono_to_ms(mono_sub(mono_now(), info->started)),
	};

	memcpy(event.ve, member->ve, sizeof(event.ve));
	memcpy(event.oid, checkpoint->oid, sizeof(event.oid));
	event.replicas.count = checkpoint->replicas.count;
	memcpy(event.replicas.item, checkpoint->replicas.item, sizeof(event.replicas.item));
	daemon_tell(shell->daemon, MSG_CKPT_COMMITTED, msg_ckpt_committed_pack, &event);
	log_info("checkpoint committed ve=%s id=%016" PRIx64 " bytes=%" PRIu64
		 " frozen_ms=%u took_ms=%" PRIu64,
	    event.ve, event.id, event.bytes, event.frozen_ms, event.took_ms);
}

static void committed(struct shell *shell, uint64_t id)
{
	struct round_info *info = shell_round(shell, id);

	shell->rounds_committed++;
	if (!info)
		return;
	for (size_t i = 0; i < info->n_members; i++) {
		struct commit_member *member = &info->members[i];

		tell_committed(shell, info, member);
		schedule_committed(&shell->schedule, member->ve);
		schedule_learn(&shell->schedule, member->ve,
		    (struct schedule_cost){member->checkpoint.frozen_ms,
			(uint32_t)mono_to_ms(mono_sub(mono_now(), info->started))});
		for (size_t k = 0; k < member->n_retired; k++)
			local_remove(shell, member->retired[k].oid, member->ve,
			    member->retired[k].id, false);
	}
	requests_committed(shell, info);
	info->id = 0;
}

void shell_blame(struct shell *shell, uint64_t id, const char *detail)
{
	struct round_info *info = id ? shell_round(shell, id) : NULL;

	if (info && !info->detail[0])
		snprintf(info->detail, sizeof(info->detail), "%s", detail);
}

static void note_failure(
    struct shell *shell, const struct round_info *info, const struct ckptd_action *action)
{
	struct schedule_failure failure = {
	    .id = action->id, .reason = action->reason, .node = action->node};

	memcpy(failure.at, action->ve, sizeof(failure.at));
	for (size_t i = 0; i < info->n_ves; i++)
		schedule_failed(&shell->schedule, info->ves[i], &failure, mono_now());
}

static void aborted(struct shell *shell, const struct ckptd_action *action)
{
	struct round_info *info = action->id ? shell_round(shell, action->id) : NULL;
	struct msg_ckpt_aborted event = {
	    .id = action->id, .reason = (enum msg_ckptd_reason)action->reason};

	if (!action->id) {
		shell->begun = 0;
		shell->begun_reason = action->reason;
	}
	shell->rounds_aborted++;
	snprintf(event.text, sizeof(event.text), "%s", ckptd_reason_text(action->reason));
	memcpy(event.ve, action->ve, sizeof(event.ve));
	if (action->node)
		snprintf(
		    event.node, sizeof(event.node), "%s", shell_node_name(shell, action->node));
	if (info)
		memcpy(event.detail, info->detail, sizeof(event.detail));
	daemon_tell(shell->daemon, MSG_CKPT_ABORTED, msg_ckpt_aborted_pack, &event);
	log_notice("round aborted: %s id=%016" PRIx64 " ve=%s node=%s%s%s", event.text, event.id,
	    event.ve, event.node, event.detail[0] ? ": " : "", event.detail);
	if (!info)
		return;
	note_failure(shell, info, action);
	requests_aborted(shell, info, action->reason, action->ve);
	info->id = 0;
}

static void tell_verdict(struct shell *shell, const struct ckptd_action *action)
{
	struct msg_ckpt_verdict event = {
	    .id = action->id, .status = (enum msg_ckptd_verdict)action->status};

	snprintf(event.node, sizeof(event.node), "%s", shell_node_name(shell, action->node));
	daemon_tell(shell->daemon, MSG_CKPT_VERDICT, msg_ckpt_verdict_pack, &event);
	log_notice(
	    "silent in a round: node=%s is %s", event.node, msg_ckptd_verdict_name(event.status));
}

/* ---- actions */

static void answer_status(struct shell *shell, const struct ckptd_action *action)
{
	shell_post(shell, &(struct ckptd_event){
			      .kind = CKPTD_EV_STATUS,
			      .id = action->id,
			      .ve = action->ve,
			      .node = action->node,
			      .status = shell_node_status(shell, action->node),
			  });
}

static void crash_before_journal(enum ckptd_seat_state state)
{
	if (state == CKPTD_SEAT_FREEZING)
		crash_point("ckptd.journal-freezing");
	else if (state == CKPTD_SEAT_REFUSED)
		crash_point("ckptd.journal-refused");
	else if (state == CKPTD_SEAT_CAPTURED)
		crash_point("ckptd.journal-captured");
	else if (state == CKPTD_SEAT_STORED)
		crash_point("ckptd.journal-stored");
	else if (state == CKPTD_SEAT_COMMITTED)
		crash_point("ckptd.journal-committed");
	else if (state == CKPTD_SEAT_ABORTED)
		crash_point("ckptd.journal-aborted");
}

static void crash_before_cell(enum ckptd_cell_op op)
{
	if (op == CKPTD_CELL_CREATE)
		crash_point("ckptd.create-cell");
	else if (op == CKPTD_CELL_COMMIT)
		crash_point("ckptd.commit-cell");
	else if (op == CKPTD_CELL_ABORT)
		crash_point("ckptd.abort-cell");
	else
		crash_point("ckptd.read-cell");
}

/* 0, or negative errno when what must be durable is not. */
static int carry_out(struct shell *shell, const struct ckptd_action *action)
{
	switch (action->kind) {
	case CKPTD_AC_JOURNAL:
		crash_before_journal(action->record.state);
		return journal_put(shell->journal, &action->record);
	case CKPTD_AC_FORGET:
		return journal_forget(shell->journal, action->ve);
	case CKPTD_AC_JOURNAL_ID:
		crash_point("ckptd.journal-id");
		return journal_put_id(shell->journal, action->id);
	case CKPTD_AC_SEND:
		links_send(shell, action);
		break;
	case CKPTD_AC_FREEZE:
		crash_point("ckptd.freeze");
		local_freeze(shell, action);
		break;
	case CKPTD_AC_DUMP:
		crash_point("ckptd.dump");
		local_dump(shell, action);
		break;
	case CKPTD_AC_THAW:
		crash_point("ckptd.thaw");
		local_thaw(shell, action);
		break;
	case CKPTD_AC_STORE:
		crash_point("ckptd.store");
		local_store(shell, action);
		break;
	case CKPTD_AC_CLEAN:
		crash_point("ckptd.clean");
		local_clean(shell, action);
		break;
	case CKPTD_AC_CELL:
		crash_before_cell(action->op);
		cell_do(shell, action);
		break;
	case CKPTD_AC_STATUS:
		answer_status(shell, action);
		break;
	case CKPTD_AC_BEGUN:
		begun(shell, action->id);
		break;
	case CKPTD_AC_COMMITTED:
		crash_point("ckptd.committed");
		committed(shell, action->id);
		break;
	case CKPTD_AC_ABORTED:
		crash_point("ckptd.aborted");
		aborted(shell, action);
		break;
	case CKPTD_AC_VERDICT:
		tell_verdict(shell, action);
		break;
	case CKPTD_AC_MOVED:
		log_debug("seat ve=%s id=%016" PRIx64 " %s -> %s", action->ve, action->id,
		    ckptd_seat_state_name(action->from), ckptd_seat_state_name(action->to));
		break;
	case CKPTD_AC_BUG:
		shell->bugs++;
		log_bug("round %016" PRIx64 " ve=%s: %s", action->id, action->ve, action->text);
		break;
	}
	return 0;
}

static void set_timer(struct shell *shell)
{
	deadline_set(shell->timer,
	    mono_min(ckptd_deadline(shell->core), schedule_deadline(&shell->schedule)));
}

static void step(struct shell *shell, struct ckptd_event *event)
{
	event->now = mono_now();
	shell->actions.n = 0;
	ckptd_step(shell->core, event, &shell->actions);
	for (size_t i = 0; i < shell->actions.n; i++) {
		if (carry_out(shell, &shell->actions.list[i]) == 0)
			continue;
		log_error(
		    "the journal cannot be written: ending, to start again from what it holds");
		_exit(1);
	}
}

static void pump(struct shell *shell)
{
	struct queued *queued;

	if (shell->pumping)
		return;
	shell->pumping = true;
	while ((queued = shell->queue_first)) {
		shell->queue_first = queued->next;
		if (!shell->queue_first)
			shell->queue_last = &shell->queue_first;
		step(shell, &queued->event);
		free(queued);
	}
	shell->pumping = false;
	set_timer(shell);
}

void shell_post(struct shell *shell, const struct ckptd_event *event)
{
	struct queued *queued = calloc(1, sizeof(*queued));

	if (!queued) {
		log_error("no memory for an event");
		return;
	}
	queued->event = *event;
	snprintf(queued->ve, sizeof(queued->ve), "%s", event->ve ? event->ve : "");
	queued->event.ve = queued->ve;
	if (event->message) {
		queued->message = *event->message;
		queued->event.message = &queued->message;
	}
	*shell->queue_last = queued;
	shell->queue_last = &queued->next;
	pump(shell);
}

uint64_t shell_begin(struct shell *shell, const struct ckptd_place *places, size_t n)
{
	shell->begun = 0;
	shell->begun_reason = CKPTD_REASON_NONE;
	shell_post(
	    shell, &(struct ckptd_event){.kind = CKPTD_EV_BEGIN, .places = places, .n_places = n});
	/* What is busy has a round of its own, which tells more. */
	if (shell->begun_reason != CKPTD_REASON_NONE && shell->begun_reason != CKPTD_REASON_BUSY)
		for (size_t i = 0; i < n; i++)
			schedule_failed(&shell->schedule, places[i].ve,
			    &(struct schedule_failure){.reason = shell->begun_reason}, mono_now());
	return shell->begun;
}

void shell_tell_coordinator(struct shell *shell)
{
	shell_post(shell, &(struct ckptd_event){
			      .kind = CKPTD_EV_COORD, .mine = shell->mine, .epoch = shell->epoch});
	if (!shell->mine)
		schedule_update(&shell->schedule, NULL, 0, mono_now());
	scan_ves(shell);
	scan_cells(shell);
}

/* ---- timers */

/* A VE with its set: all of them, or none. */
static void begin_with_set(struct shell *shell, const char *ve)
{
	struct ckptd_place places[SHELL_MEMBERS_MAX];
	const char *idle;
	size_t n = 0;
	int r = schedule_places(&shell->schedule, ve, places, &n, SHELL_MEMBERS_MAX, &idle);

	if (r < 0) {
		log_info("no round for the set of ve=%s: %s %s", ve, idle,
		    r == -E2BIG ? "is one too many" : "is not running");
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (ckptd_ve_busy(shell->core, places[i].ve))
			return;
	}
	shell_begin(shell, places, n);
}

static void begin_due(struct shell *shell)
{
	const struct schedule_ve *ve;

	while ((ve = schedule_take(&shell->schedule, mono_now())))
		begin_with_set(shell, ve->place.ve);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shell *shell = userdata;

	(void)source;
	(void)usec;
	while (mono_due(ckptd_deadline(shell->core), mono_now()))
		shell_post(shell, &(struct ckptd_event){.kind = CKPTD_EV_TIMEOUT});
	if (shell->mine)
		begin_due(shell);
	set_timer(shell);
	return 0;
}

static int again(sd_event_source *source, uint64_t usec, int64_t ms)
{
	int r = sd_event_source_set_time(source, usec + (uint64_t)ms * 1000);

	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int on_scan(sd_event_source *source, uint64_t usec, void *userdata)
{
	scan_ves(userdata);
	return again(source, usec, SCAN_MS);
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata)
{
	scan_cells(userdata);
	scan_images(userdata);
	return again(source, usec, SWEEP_MS);
}

static int add_timer(
    struct shell *shell, sd_event_source **out, int64_t after_ms, sd_event_time_handler_t handler)
{
	uint64_t usec = (uint64_t)mono_add_ms(mono_now(), after_ms).ns / 1000;

	return sd_event_add_time(shell->daemon->loop, out, MONO_CLOCK, usec, 1000, handler, shell);
}

/* ---- making and unmaking */

static int make_core(struct shell *shell)
{
	const struct ckptd_settings *s = &shell->settings;
	struct ckptd_config config = {
	    .self = shell->daemon->node.self->id,
	    .rounds_max = SHELL_ROUNDS_MAX,
	    .round_members_max = SHELL_MEMBERS_MAX,
	    .seats_max = SHELL_SEATS_MAX,
	    .resend_ms = (uint32_t)s->resend_ms,
	    .vote_ms = (uint32_t)s->vote_ms,
	    .dump_ms = (uint32_t)s->dump_ms,
	    .hold_ms = (uint32_t)s->hold_ms,
	    .outcome_ms = (uint32_t)s->outcome_ms,
	    .patience = 5,
	};

	return ckptd_new(&shell->core, &config);
}

static int start_core(struct shell *shell)
{
	struct ckptd_record *records = calloc(SHELL_SEATS_MAX, sizeof(*records));
	struct ckptd_event event = {.kind = CKPTD_EV_START, .journal = records};
	int r = records ? 0 : -ENOMEM;

	if (r == 0)
		r = journal_load(
		    shell->journal, records, SHELL_SEATS_MAX, &event.n_journal, &event.last_id);
	if (r == 0) {
		local_tidy(shell, records, event.n_journal);
		shell_post(shell, &event);
	}
	free(records);
	return r;
}

static int open_directories(struct shell *shell)
{
	const struct node_config *node = &shell->daemon->node;
	char path[400];

	if (snprintf(shell->images_dir, sizeof(shell->images_dir), "%s/ckptd-images",
		node->run_dir) >= (int)sizeof(shell->images_dir)) {
		log_error("[node] run: %s is too long", node->run_dir);
		return -ENAMETOOLONG;
	}
	if (mkdir(shell->images_dir, 0750) < 0 && errno != EEXIST) {
		log_error("create %s: %s", shell->images_dir, strerror(errno));
		return -EACCES;
	}
	snprintf(path, sizeof(path), "%s/ckptd/journal.db", node->state_dir);
	return journal_open(&shell->journal, path);
}

static int open_clients(struct shell *shell)
{
	struct daemon *daemon = shell->daemon;
	const struct {
		struct rpc_client **client;
		const char *name;
	} locals[] = {{&shell->ved, "ved"}, {&shell->gosd, "gosd"}, {&shell->metad, "metad"},
	    {&shell->gossipd, "gossipd"}, {&shell->fdd, "fdd"}};
	int r = 0;

	for (size_t i = 0; r >= 0 && i < sizeof(locals) / sizeof(locals[0]); i++)
		r = rpc_client_new_local(locals[i].client, daemon->zmq, daemon->loop,
		    daemon->node.run_dir, locals[i].name);
	return r;
}

static int open_timers(struct shell *shell)
{
	int r = add_timer(shell, &shell->timer, 0, on_timer);

	if (r >= 0)
		r = add_timer(shell, &shell->scan_timer, SCAN_MS, on_scan);
	if (r >= 0)
		r = add_timer(shell, &shell->sweep_timer, SWEEP_MS / 3, on_sweep);
	return r;
}

static void list_stats(struct shell *shell)
{
	const struct daemon_stat stats[] = {
	    {"rounds_begun", &shell->rounds_begun, "as coordinator"},
	    {"rounds_committed", &shell->rounds_committed, "as coordinator"},
	    {"rounds_aborted", &shell->rounds_aborted, "as coordinator"},
	    {"messages_refused", &shell->refused, "of a round, from who may not send them"},
	    {"images_swept", &shell->swept, "images found that no catalogue has"},
	    {"bugs", &shell->bugs, "broken promises of the protocol"},
	    {0},
	};

	memcpy(shell->stats, stats, sizeof(stats));
	shell->daemon->stats = shell->stats;
}

int shell_new(struct shell **out, struct daemon *daemon, const struct ckptd_settings *settings)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	shell->listener = (struct peers_listener){.changed = links_peer_changed, .userdata = shell};
	daemon_listen_peers(daemon, &shell->listener);
	shell->settings = *settings;
	shell->queue_last = &shell->queue_first;
	*out = shell;
	r = make_core(shell);
	if (r == 0)
		r = open_directories(shell);
	if (r >= 0)
		r = open_clients(shell);
	if (r >= 0)
		r = watch_open(shell);
	if (r >= 0)
		r = open_timers(shell);
	if (r >= 0)
		r = start_core(shell);
	if (r >= 0)
		r = rpc_server_add(daemon->rpc, links_methods, shell);
	if (r >= 0)
		r = rpc_server_add(daemon->rpc, requests_methods, shell);
	if (r >= 0)
		r = rpc_server_add(daemon->rpc, plans_methods, shell);
	if (r < 0) {
		log_start_failed(r);
		return r;
	}
	list_stats(shell);
	rpc_stream_ask(shell->watch);
	return 0;
}

struct shell *shell_free(struct shell *shell)
{
	struct queued *queued;

	if (!shell)
		return NULL;
	shell->pumping = true; /* what ends now is for the next process to find */
	daemon_unlisten_peers(shell->daemon, &shell->listener);
	rpc_client_free(shell->fdd); /* first: whoever asks it goes on with ved */
	rpc_client_free(shell->ved);
	rpc_client_free(shell->gosd);
	rpc_client_free(shell->metad);
	rpc_stream_free(shell->watch);
	rpc_client_free(shell->gossipd);
	for (size_t i = 0; i < PEERS_MAX; i++)
		rpc_client_free(shell->peers[i]);
	for (size_t i = 0; i < SHELL_ROUNDS_MAX; i++) {
		if (shell->rounds[i].waiter)
			rpc_call_drop(shell->rounds[i].waiter);
	}
	while ((queued = shell->queue_first)) {
		shell->queue_first = queued->next;
		free(queued);
	}
	sd_event_source_unref(shell->timer);
	sd_event_source_unref(shell->scan_timer);
	sd_event_source_unref(shell->sweep_timer);
	journal_close(shell->journal);
	ckptd_free(shell->core);
	free(shell);
	return NULL;
}
