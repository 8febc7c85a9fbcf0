#include "ved/shell.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "common/crashpoint.h"
#include "common/deadline.h"
#include "proto/ved.h"
#include "ved/binds.h"
#include "ved/commands.h"
#include "ved/engine.h"
#include "ved/engines.h"
#include "ved/fence.h"
#include "ved/files.h"
#include "ved/jobs.h"
#include "ved/lock.h"
#include "ved/net.h"
#include "ved/overlay.h"
#include "ved/record.h"
#include "ved/ve.h"

/* One VE whose first process is watched for its end. */
struct watch {
	struct shell *shell;
	char name[VE_NAME];
	pid_t pid;
	uint64_t start_ticks;
	enum fence_kind fence;
	enum engine_kind engine;
	int pidfd;
	sd_event_source *source; /* NULL: the place is free */
};

struct shell {
	struct daemon *daemon;
	struct engine_config engine;
	struct msg_ved_engines_told engines;
	struct ve_table *table;
	struct jobs *jobs;
	struct commands *commands;
	sd_event_source *timer;
	const struct msg_ved_job_done *result; /* of the job whose end is dealt with */
	struct watch watch[VE_MAX];
	int fence_wanted;
	char no_fence[VE_ERROR]; /* why there is none, or nothing better */
	uint64_t jobs_run, jobs_failed, deaths, thaws_on_time, lapses;
	struct daemon_stat stats[6];
};

static void step(struct shell *shell, struct ve_event *event);

int ved_check(const struct node_config *node, const void *data, struct config_error *error)
{
	const struct ved_settings *settings = data;
	struct engine_config engine;
	const char *missing, *word;
	size_t length;
	int rc = engines_find(settings, &engine, &missing);

	if (rc < 0) {
		path_set(error->text, "[ved] %s: no such program here (%s); tools/setup sees to it",
		    missing, strerror(-rc));
		return rc;
	}
	if (strpbrk(node->run_dir, ":,") || strpbrk(node->state_dir, ":,")) {
		path_set(error->text,
		    "[node] run, state: an overlay cannot lie below a path with ':' or ','");
		return -EINVAL;
	}
	if (strstr(settings->cgroup, "..") || settings->cgroup[0] == '/') {
		path_set(error->text,
		    "[ved] cgroup: %s: a path below the top of each hierarchy, as depsys/n1",
		    settings->cgroup);
		return -EINVAL;
	}
	if (!binds_allowed_ok(settings->mounts, &word, &length)) {
		path_set(error->text,
		    "[ved] mounts: %.*s: absolute paths without . and .., between blanks",
		    (int)length, word);
		return -EINVAL;
	}
	return 0;
}

/* ---- what the engine sees, in the core's terms ---- */

static void see(const struct ve_record *record, struct ve_sight *out)
{
	*out = (struct ve_sight){.epoch = record->spec.epoch};
	memcpy(out->address, record->spec.address, sizeof(out->address));
	memcpy(out->bundle, record->spec.bundle, sizeof(out->bundle));
	if (record->state == RECORD_STARTING)
		out->found = FOUND_HALF;
	else if (!record->alive)
		out->found = FOUND_ENDED;
	else if (record->state == RECORD_RUNNING)
		out->found = FOUND_RUNNING;
	else
		out->found = FOUND_FROZEN;
	if (out->found == FOUND_FROZEN)
		out->thaw_by = mono_ms(record->thaw_by_ms); /* of the same clock */
}

static void unwatch(struct watch *watch)
{
	watch->source = sd_event_source_disable_unref(watch->source);
	fd_close(&watch->pidfd);
}

static int on_ended(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct watch *watch = userdata;
	struct ve_event event = {.type = VE_EVENT_ENDED};
	char name[VE_NAME];

	(void)source;
	(void)fd;
	(void)events;
	memcpy(name, watch->name, sizeof(name));
	event.name = name;
	unwatch(watch);
	step(watch->shell, &event);
	return 0;
}

static struct watch *watch_of(struct shell *shell, const char *name)
{
	struct watch *place = NULL;

	for (size_t i = 0; i < VE_MAX; i++) {
		if (shell->watch[i].source && strcmp(shell->watch[i].name, name) == 0)
			return &shell->watch[i];
		if (!shell->watch[i].source && !place)
			place = &shell->watch[i];
	}
	return place;
}

/* A VE that ended between the record and the pidfd shows as ended when its start time is looked at again. */
static void watch_record(
    struct shell *shell, const struct ve_record *record, struct ve_sight *sight)
{
	struct watch *watch = watch_of(shell, record->spec.name);
	uint64_t ticks;

	if (!watch || (watch->source && watch->pid == record->pid &&
			  watch->start_ticks == record->start_ticks))
		return;
	if (watch->source)
		unwatch(watch);
	*watch = (struct watch){.shell = shell,
	    .pid = record->pid,
	    .start_ticks = record->start_ticks,
	    .fence = record->fence,
	    .engine = record->spec.engine,
	    .pidfd = -1};
	memcpy(watch->name, record->spec.name, sizeof(watch->name));
	watch->pidfd = (int)syscall(SYS_pidfd_open, record->pid, 0);
	if (watch->pidfd < 0 || process_start_ticks(record->pid, &ticks) < 0 ||
	    ticks != record->start_ticks) {
		fd_close(&watch->pidfd);
		sight->found = FOUND_ENDED;
		return;
	}
	if (sd_event_add_io(
		shell->daemon->loop, &watch->source, watch->pidfd, EPOLLIN, on_ended, watch) < 0)
		log_bug("watch the end of %s", watch->name);
}

/* Until when a VE may be heard: the kernel has it, so that a new ved knows it too.  MONO_ZERO: it does not say. */
static struct mono lease_of(const struct shell *shell, const char *name)
{
	struct fence fence;
	int64_t until_ns;
	struct net net;
	int rc = net_find(&net, &shell->engine, name);

	if (rc == 0)
		rc = fence_open(&fence, &shell->engine, name, net.host);
	if (rc < 0)
		return rc == -ENOENT ? MONO_NEVER : MONO_ZERO;
	rc = fence_get(&fence, &until_ns);
	fence_close(&fence);
	return rc < 0 ? MONO_ZERO : mono_ns(until_ns);
}

/* Looks what is there of a VE now. */
static void look(struct shell *shell, const char *name, struct ve_sight *sight)
{
	struct ve_record record;
	struct watch *watch;
	int rc = engine_inspect(&shell->engine, name, &record);

	if (rc == 0) {
		see(&record, sight);
		sight->lease = lease_of(shell, name);
		if (sight->found == FOUND_RUNNING || sight->found == FOUND_FROZEN)
			watch_record(shell, &record, sight);
		return;
	}
	*sight = (struct ve_sight){.found = rc == -ENOENT ? FOUND_NOTHING : FOUND_HALF};
	watch = watch_of(shell, name);
	if (watch && watch->source)
		unwatch(watch);
}

/* ---- actions ---- */

static void describe_job(
    const struct shell *shell, const struct ve_request *request, struct msg_ved_job *job)
{
	static const enum msg_ved_op ops[] = {
	    [VE_START] = MSG_VED_OP_START,
	    [VE_RESTORE] = MSG_VED_OP_RESTORE,
	    [VE_STOP] = MSG_VED_OP_STOP,
	    [VE_FREEZE] = MSG_VED_OP_FREEZE,
	    [VE_THAW] = MSG_VED_OP_THAW,
	    [VE_DUMP] = MSG_VED_OP_DUMP,
	    [VE_RECOVER] = MSG_VED_OP_RECOVER,
	};

	*job = (struct msg_ved_job){.op = ops[request->op],
	    .epoch = request->epoch,
	    .limit_ms = request->limit_ms,
	    .until_ns = request->until_ns,
	    .shared = request->shared,
	    .kill = request->kill};
	path_set(job->name, "%s", request->name);
	path_set(job->bundle, "%s", request->bundle);
	path_set(job->bundle_dir, "%s", request->bundle_dir);
	path_set(job->image_dir, "%s", request->image_dir);
	path_set(job->address, "%s", request->address);
	path_set(job->gateway, "%s", request->gateway);
	jobs_set_engine(job, &shell->engine);
}

static void job_ended(struct shell *shell, const char *name, const struct msg_ved_job_done *done)
{
	struct ve_event event = {.type = VE_EVENT_JOB_DONE,
	    .name = name,
	    .error = (int)done->error,
	    .text = done->text,
	    .now = mono_now()};

	if (done->error < 0) {
		shell->jobs_failed++;
		log_warning("job failed ve=%s: %s", name, done->text);
	}
	look(shell, name, &event.sight);
	shell->result = done;
	step(shell, &event);
	shell->result = NULL;
}

static void on_job_done(void *userdata, const char *name, const struct msg_ved_job_done *done)
{
	job_ended(userdata, name, done);
}

static void crash_before_job(enum ve_op op)
{
	if (op == VE_FREEZE)
		crash_point("ved.freeze");
	else if (op == VE_DUMP)
		crash_point("ved.dump");
	else if (op == VE_THAW)
		crash_point("ved.thaw");
}

static void crash_before_reply(enum ve_op op)
{
	if (op == VE_FREEZE)
		crash_point("ved.frozen");
	else if (op == VE_DUMP)
		crash_point("ved.dumped");
	else if (op == VE_THAW)
		crash_point("ved.thawed");
}

static void run_job(struct shell *shell, const struct ve_request *request)
{
	struct msg_ved_job_done failed = {0};
	struct msg_ved_job job;
	int rc;

	describe_job(shell, request, &job);
	shell->jobs_run++;
	crash_before_job(request->op);
	rc = jobs_start(shell->jobs, &job);
	if (rc == 0)
		return;
	failed.error = rc;
	path_set(failed.text, "start a worker: %s", strerror(-rc));
	job_ended(shell, job.name, &failed);
}

static struct msg_ved_times result_times(const struct shell *shell)
{
	return shell->result ? shell->result->times : (struct msg_ved_times){0};
}

static void reply_dumped(
    const struct shell *shell, const struct ve_action *action, struct rpc_call *call)
{
	struct msg_ved_dumped reply = {.epoch = action->epoch,
	    .times = result_times(shell),
	    .bytes = shell->result ? shell->result->bytes : 0};
	_cleanup_buf_ struct buf out = {0};

	path_set(reply.name, "%s", action->name);
	msg_ved_dumped_pack(&reply, &out);
	rpc_reply(call, MSG_VED_DUMPED, out.data, out.size);
}

static void reply_done(
    const struct shell *shell, const struct ve_action *action, struct rpc_call *call)
{
	struct msg_ved_done reply = {.epoch = action->epoch,
	    .state = (enum msg_ved_state)action->state,
	    .has_times = action->op == VE_RESTORE,
	    .times = result_times(shell)};
	_cleanup_buf_ struct buf out = {0};

	path_set(reply.name, "%s", action->name);
	msg_ved_done_pack(&reply, &out);
	rpc_reply(call, MSG_VED_DONE, out.data, out.size);
}

static void refuse(const struct shell *shell, const struct ve_action *action, struct rpc_call *call)
{
	static const enum rpc_status status[] = {
	    [VE_REFUSED_BUSY] = RPC_FAILED,
	    [VE_REFUSED_STALE] = RPC_DENIED,
	    [VE_REFUSED_HELD] = RPC_DENIED,
	    [VE_REFUSED_NOT_HERE] = RPC_NOT_FOUND,
	    [VE_REFUSED_FULL] = RPC_FAILED,
	    [VE_REFUSED_FAILED] = RPC_FAILED,
	};
	bool whole =
	    action->refusal == VE_REFUSED_FAILED && shell->result && shell->result->text[0];

	rpc_fail(call, status[action->refusal], "%s: %s", action->name,
	    whole ? shell->result->text : action->text);
}

/* Fills name and epoch of an event and publishes it. */
#define tell_event(shell, action, topic, type, ...)                                                \
	do {                                                                                       \
		struct msg_ve_##type event_ = {.epoch = (action)->epoch, ##__VA_ARGS__};           \
		path_set(event_.ve, "%s", (action)->name);                                         \
		daemon_tell((shell)->daemon, topic, msg_ve_##type##_pack, &event_);                \
	} while (0)

/* How long ago it was; false: it was not. */
static bool age(uint64_t *out, uint64_t at_us)
{
	*out = at_us ? (uint64_t)(mono_now().ns / 1000) - at_us : 0;
	return at_us != 0;
}

static void tell_ran(struct shell *shell, const struct ve_action *action)
{
	static const struct msg_ved_job_done nothing;
	const struct msg_ved_job_done *result = shell->result ? shell->result : &nothing;
	struct msg_ve_restored restored = {.epoch = action->epoch, .times = result->times};
	struct msg_ve_started started = {.epoch = action->epoch};

	path_set(restored.ve, "%s", action->name);
	path_set(started.ve, "%s", action->name);
	restored.has_armed_us = age(&restored.armed_us, result->armed_at_us);
	restored.has_announced_us = age(&restored.announced_us, result->announced_at_us);
	path_set(restored.address, "%s", action->address);
	path_set(started.address, "%s", action->address);
	if (action->told == TOLD_RESTORED)
		daemon_tell(shell->daemon, MSG_VE_RESTORED, msg_ve_restored_pack, &restored);
	else
		daemon_tell(shell->daemon, MSG_VE_STARTED, msg_ve_started_pack, &started);
}

static bool find_view(const struct shell *shell, const char *name, struct ve_view *view)
{
	for (unsigned i = 0; ve_table_view(shell->table, i, view); i++)
		if (strcmp(view->name, name) == 0)
			return true;
	return false;
}

/* It may be heard now, and was not: whatever tried to tell its neighbours where it is was dropped. */
static void announce(const struct shell *shell, const char *name)
{
	struct ve_spec spec = {0};
	struct ve_view view;
	struct net net;
	int rc = find_view(shell, name, &view) ? net_find(&net, &shell->engine, name) : -ENOENT;

	if (rc == 0)
		memcpy(spec.address, view.address, sizeof(spec.address));
	if (rc == 0)
		rc = net_announce(&net, &spec);
	if (rc < 0)
		log_warning("announce %s: %s", name, strerror(-rc));
}

static void tell(struct shell *shell, const struct ve_action *action)
{
	static const char *const words[] = {"started", "restored", "stopped", "died", "frozen",
	    "thawed", "dumped", "lease has run out: frozen", "lease is renewed: thawed"};

	log_info("%s ve=%s epoch=%llu", words[action->told], action->name,
	    (unsigned long long)action->epoch);
	switch (action->told) {
	case TOLD_STARTED:
	case TOLD_RESTORED:
		tell_ran(shell, action);
		break;
	case TOLD_STOPPED:
		tell_event(shell, action, MSG_VE_STOPPED, stopped,
		    .reason = (enum msg_ved_stop_reason)action->reason);
		break;
	case TOLD_DIED:
		shell->deaths++;
		tell_event(shell, action, MSG_VE_DIED, died);
		break;
	case TOLD_FROZEN:
		tell_event(shell, action, MSG_VE_FROZEN, frozen);
		break;
	case TOLD_THAWED:
		shell->thaws_on_time += action->reason == VE_THAW_TIMEOUT;
		tell_event(shell, action, MSG_VE_THAWED, thawed,
		    .reason = (enum msg_ved_thaw_reason)action->reason,
		    .frozen_ms = action->frozen_ms > 0 ? (uint64_t)action->frozen_ms : 0);
		break;
	case TOLD_LAPSED:
		shell->lapses++;
		tell_event(shell, action, MSG_VE_LAPSED, lapsed);
		break;
	case TOLD_RESUMED:
		announce(shell, action->name);
		tell_event(shell, action, MSG_VE_RESUMED, resumed,
		    .frozen_ms = action->frozen_ms > 0 ? (uint64_t)action->frozen_ms : 0);
		break;
	case TOLD_DUMPED:
		tell_event(shell, action, MSG_VE_DUMPED, dumped, .times = result_times(shell),
		    .bytes = shell->result ? shell->result->bytes : 0);
		break;
	}
}

static void do_action(struct shell *shell, const struct ve_action *action)
{
	struct rpc_call *call = (struct rpc_call *)(uintptr_t)action->token;

	switch (action->type) {
	case VE_ACTION_RUN:
		run_job(shell, action->job);
		break;
	case VE_ACTION_KILL_JOB:
		log_warning("job takes too long and is killed ve=%s", action->name);
		jobs_kill(shell->jobs, action->name);
		break;
	case VE_ACTION_REPLY:
		crash_before_reply(action->op);
		if (action->op == VE_DUMP)
			reply_dumped(shell, action, call);
		else
			reply_done(shell, action, call);
		break;
	case VE_ACTION_REFUSE:
		refuse(shell, action, call);
		break;
	case VE_ACTION_TELL:
		tell(shell, action);
		break;
	}
}

/* Actions are carried out in order; one may lead to a step of its own, so they are not shared. */
static void step(struct shell *shell, struct ve_event *event)
{
	struct ve_actions actions;

	event->now = mono_now();
	ve_table_step(shell->table, event, &actions);
	for (unsigned i = 0; i < actions.count; i++)
		do_action(shell, &actions.item[i]);
	deadline_set(shell->timer, ve_table_deadline(shell->table));
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct ve_event event = {.type = VE_EVENT_TIMEOUT};

	(void)source;
	(void)usec;
	step(userdata, &event);
	return 0;
}

/* ---- requests ---- */

/* Callers are of the group depsys, not root: a path of theirs stays within the node's directories. */
static bool path_allowed(const struct shell *shell, const char *path)
{
	const struct node_config *node = &shell->daemon->node;
	const char *tops[] = {node->run_dir, node->state_dir};

	if (strstr(path, "/../") || strstr(path, "//") ||
	    (strlen(path) > 3 && strcmp(path + strlen(path) - 3, "/..") == 0))
		return false;
	for (size_t i = 0; i < 2; i++) {
		size_t length = strlen(tops[i]);

		if (strncmp(path, tops[i], length) == 0 && path[length] == '/')
			return true;
	}
	return false;
}

static void submit(
    struct shell *shell, struct rpc_call *call, struct ve_request *request, const char *name)
{
	struct ve_event event = {.type = VE_EVENT_REQUEST, .request = request};
	const char *paths[] = {request->bundle_dir, request->image_dir};

	if (!ve_name_ok(name)) {
		rpc_fail(
		    call, RPC_INVALID, "name \"%s\": 1 to %d of a-z, 0-9 and -", name, VE_NAME - 1);
		return;
	}
	for (size_t i = 0; i < 2; i++)
		if (paths[i][0] && !path_allowed(shell, paths[i])) {
			rpc_fail(call, RPC_DENIED,
			    "%s: only directories below %s and %s are read or written", paths[i],
			    shell->daemon->node.run_dir, shell->daemon->node.state_dir);
			return;
		}
	path_set(request->name, "%s", name);
	request->token = (uint64_t)(uintptr_t)call;
	step(shell, &event);
}

static void set_bundle(struct ve_request *request, const uint8_t oid[32])
{
	for (size_t i = 0; i < 32; i++)
		snprintf(request->bundle + 2 * i, 3, "%02x", oid[i]);
}

static bool may_run(const struct shell *shell, struct rpc_call *call, bool needs_fence)
{
	if (!needs_fence || shell->engine.fence != FENCE_NONE)
		return true;
	rpc_fail(call, RPC_DENIED, "a VE with a lease needs a fence, and this node has none: %s",
	    shell->no_fence);
	return false;
}

static void on_start(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_start message;
	struct ve_request request = {.op = VE_START};

	if (rpc_unpack(call, &message, msg_ved_start_unpack, body, size) < 0)
		return;
	request.epoch = message.epoch;
	set_bundle(&request, message.bundle);
	path_set(request.bundle_dir, "%s", message.bundle_dir);
	path_set(request.address, "%s", message.address);
	path_set(request.gateway, "%s", message.gateway);
	request.until_ns = message.until_ns;
	request.shared = message.shared;
	if (may_run(userdata, call, message.until_ns != 0 && !message.unfenced))
		submit(userdata, call, &request, message.name);
}

static void on_restore(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_restore message;
	struct ve_request request = {.op = VE_RESTORE};

	if (rpc_unpack(call, &message, msg_ved_restore_unpack, body, size) < 0)
		return;
	request.epoch = message.epoch;
	set_bundle(&request, message.bundle);
	path_set(request.bundle_dir, "%s", message.bundle_dir);
	path_set(request.image_dir, "%s", message.image_dir);
	path_set(request.address, "%s", message.address);
	path_set(request.gateway, "%s", message.gateway);
	request.until_ns = message.until_ns;
	request.shared = message.shared;
	if (may_run(userdata, call, message.until_ns != 0 && !message.unfenced))
		submit(userdata, call, &request, message.name);
}

static void on_stop(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_stop message;
	struct ve_request request = {.op = VE_STOP};

	if (rpc_unpack(call, &message, msg_ved_stop_unpack, body, size) < 0)
		return;
	request.epoch = message.epoch;
	request.limit_ms = message.silent ? -1 : (int64_t)message.grace_ms;
	submit(userdata, call, &request, message.name);
}

static void on_freeze(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_freeze message;
	struct ve_request request = {.op = VE_FREEZE};

	if (rpc_unpack(call, &message, msg_ved_freeze_unpack, body, size) < 0)
		return;
	request.epoch = message.epoch;
	request.limit_ms = (int64_t)message.max_freeze_ms;
	request.hold = message.hold;
	submit(userdata, call, &request, message.name);
}

static void on_thaw(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_thaw message;
	struct ve_request request = {.op = VE_THAW};

	if (rpc_unpack(call, &message, msg_ved_thaw_unpack, body, size) < 0)
		return;
	request.epoch = message.epoch;
	request.hold = message.hold;
	submit(userdata, call, &request, message.name);
}

static void on_dump(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_dump message;
	struct ve_request request = {.op = VE_DUMP};

	if (rpc_unpack(call, &message, msg_ved_dump_unpack, body, size) < 0)
		return;
	request.epoch = message.epoch;
	request.kill = message.kill;
	request.hold = message.hold;
	path_set(request.image_dir, "%s", message.image_dir);
	submit(userdata, call, &request, message.name);
}

static bool parse_bundle(const char *hex, uint8_t out[32])
{
	if (strlen(hex) != 64)
		return false;
	for (size_t i = 0; i < 32; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &out[i]) != 1)
			return false;
	return true;
}

static void list_one(struct shell *shell, const struct ve_view *view, struct msg_ved_ve *out)
{
	const struct watch *watch = watch_of(shell, view->name);

	*out = (struct msg_ved_ve){.epoch = view->epoch, .state = (enum msg_ved_state)view->state};
	path_set(out->name, "%s", view->name);
	path_set(out->address, "%s", view->address);
	out->has_bundle = parse_bundle(view->bundle, out->bundle);
	out->pid = watch && watch->source ? (uint64_t)watch->pid : 0;
	out->has_fence = watch && watch->source;
	out->fence = out->has_fence ? (enum msg_ved_fence)watch->fence : MSG_VED_FENCE_NONE;
	out->has_engine = out->has_fence;
	out->engine = out->has_fence ? (enum msg_ved_engine)watch->engine : MSG_VED_ENGINE_CRUN;
	if (view->state == VE_FROZEN)
		out->frozen_ms = (uint64_t)mono_to_ms(mono_sub(mono_now(), view->frozen_since));
}

static void on_list(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_listed *reply = calloc(1, sizeof(*reply));
	_cleanup_buf_ struct buf out = {0};
	struct ve_view view;

	(void)body;
	(void)size;
	if (!reply) {
		rpc_fail(call, RPC_FAILED, "no memory");
		return;
	}
	for (unsigned i = 0;
	     i < VE_MAX && ve_table_view(((struct shell *)userdata)->table, i, &view); i++)
		list_one(userdata, &view, &reply->ves.item[reply->ves.count++]);
	reply->has_fence = true;
	reply->fence = (enum msg_ved_fence)((struct shell *)userdata)->engine.fence;
	reply->has_mounts = true;
	path_set(reply->mounts, "%s", ((struct shell *)userdata)->engine.mounts);
	msg_ved_listed_pack(reply, &out);
	free(reply);
	rpc_reply(call, MSG_VED_LISTED, out.data, out.size);
}

static void on_exec(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct shell *shell = userdata;
	struct msg_ved_exec message;

	if (rpc_unpack(call, &message, msg_ved_exec_unpack, body, size) < 0)
		return;
	if (!ve_name_ok(message.name))
		rpc_fail(call, RPC_INVALID, "name \"%s\": 1 to %d of a-z, 0-9 and -", message.name,
		    VE_NAME - 1);
	else
		commands_run(shell->commands, &shell->engine, call, &message);
}

static int set_fence(
    const struct engine_config *engine, const struct msg_ved_arm *message, uint64_t *dropped)
{
	struct fence fence;
	struct net net;
	int rc = net_find(&net, engine, message->name);

	if (rc == 0)
		rc = fence_open(&fence, engine, message->name, net.host);
	if (rc < 0)
		return rc;
	rc = fence_set(&fence, (int64_t)message->until_ns);
	if (rc == 0)
		rc = fence_dropped(&fence, dropped);
	fence_close(&fence);
	return rc;
}

static void take_lease(struct shell *shell, const struct msg_ved_arm *message)
{
	struct ve_event event = {.type = VE_EVENT_LEASE,
	    .name = message->name,
	    .sight = {.lease = mono_ns((int64_t)message->until_ns)}};

	step(shell, &event);
}

static void on_arm(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_ved_armed reply = {0};
	_cleanup_buf_ struct buf out = {0};
	struct shell *shell = userdata;
	struct msg_ved_arm message;
	struct ve_view view;
	uint64_t epoch;
	int rc;

	if (rpc_unpack(call, &message, msg_ved_arm_unpack, body, size) < 0)
		return;
	epoch = ve_name_ok(message.name) && find_view(shell, message.name, &view) ? view.epoch : 0;
	rc = epoch == message.epoch ? set_fence(&shell->engine, &message, &reply.dropped) : 0;
	if (epoch == 0)
		rpc_fail(call, RPC_NOT_FOUND, "%s is not here", message.name);
	else if (rc == -ENOENT)
		rpc_fail(call, RPC_NOT_FOUND, "%s has no fence", message.name);
	else if (epoch != message.epoch)
		rpc_fail(call, RPC_DENIED, "%s runs under epoch %llu", message.name,
		    (unsigned long long)epoch);
	else if (rc < 0)
		rpc_fail(call, RPC_FAILED, "set the fence of %s: %s", message.name, strerror(-rc));
	else if (msg_ved_armed_pack(&reply, &out) == 0)
		rpc_reply(call, MSG_VED_ARMED, out.data, out.size);
	if (epoch == 0 || epoch != message.epoch || rc < 0)
		return;
	if (view.lease.ns == UNTIL_TOLD && view.state == VE_RUNNING)
		announce(shell, message.name);
	take_lease(shell, &message);
}

static void on_engines(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	msg_ved_engines_told_pack(&((struct shell *)userdata)->engines, &out);
	rpc_reply(call, MSG_VED_ENGINES_TOLD, out.data, out.size);
}

static const struct rpc_method methods[] = {
    {MSG_VED_ARM, on_arm, true},
    {MSG_VED_EXEC, on_exec, true},
    {MSG_VED_START, on_start, true},
    {MSG_VED_RESTORE, on_restore, true},
    {MSG_VED_STOP, on_stop, true},
    {MSG_VED_FREEZE, on_freeze, true},
    {MSG_VED_THAW, on_thaw, true},
    {MSG_VED_DUMP, on_dump, true},
    {MSG_VED_LIST, on_list, true},
    {MSG_VED_ENGINES, on_engines, true},
    {0},
};

/* ---- begin and end ---- */

static int set_engine(struct engine_config *engine, const struct node_config *node,
    const struct ved_settings *settings)
{
	const struct group *group = *node->group ? getgrnam(node->group) : NULL;
	const char *missing;
	int rc = engines_find(settings, engine, &missing);

	if (rc < 0)
		return rc;
	engine->group = group ? group->gr_gid : (gid_t)-1;
	if (path_set(engine->run, "%s", node->run_dir) < 0 ||
	    path_set(engine->state, "%s/ved", node->state_dir) < 0 ||
	    path_set(engine->bridge, "%s", settings->bridge) < 0 ||
	    path_set(engine->mounts, "%s", settings->mounts) < 0)
		return -ENAMETOOLONG;
	if (settings->cgroup[0])
		return path_set(engine->cgroup, "%s", settings->cgroup);
	return path_set(engine->cgroup, "depsys/%s", node->name);
}

static void set_stats(struct shell *shell)
{
	shell->stats[0] = (struct daemon_stat){"jobs", &shell->jobs_run, "workers started"};
	shell->stats[1] =
	    (struct daemon_stat){"jobs_failed", &shell->jobs_failed, "workers that failed"};
	shell->stats[2] =
	    (struct daemon_stat){"deaths", &shell->deaths, "VEs that ended by themselves"};
	shell->stats[3] = (struct daemon_stat){
	    "thawed_by_timeout", &shell->thaws_on_time, "VEs that stood too long"};
	shell->stats[4] =
	    (struct daemon_stat){"lapses", &shell->lapses, "VEs frozen as their lease ran out"};
}

/*
 * What was asked for by name is taken or there is none: an administrator who says bpf does not want another one unawares.
 * VEs that run keep what they have.
 */
static void choose_fence(struct shell *shell)
{
	static const enum fence_kind by_worth[] = {FENCE_BPF, FENCE_NFT};
	struct engine_error error;
	size_t used = 0;

	shell->engine.fence = FENCE_NONE;
	if (shell->fence_wanted == FENCE_NONE)
		path_set(shell->no_fence, "[ved] fence = none");
	for (size_t i = 0; i < 2 && shell->engine.fence == FENCE_NONE; i++) {
		enum fence_kind kind = by_worth[i];

		if (shell->fence_wanted != FENCE_AUTO && shell->fence_wanted != (int)kind)
			continue;
		if (fence_probe(kind, &shell->engine, &error) == 0)
			shell->engine.fence = kind;
		else
			used += (size_t)snprintf(shell->no_fence + used,
			    sizeof(shell->no_fence) - used, "%s%s: %.200s", used ? "; " : "",
			    fence_kind_name(kind), error.text);
	}
}

int shell_new(struct shell **out, struct daemon *daemon, const struct ved_settings *settings)
{
	struct ve_config config = {.max = VE_MAX, .max_freeze_ms = settings->max_freeze_ms};
	struct shell *shell = calloc(1, sizeof(*shell));
	struct engine_error error;
	int rc = shell ? 0 : -ENOMEM;

	if (rc == 0) {
		shell->daemon = daemon;
		shell->fence_wanted = settings->fence;
		rc = set_engine(&shell->engine, &daemon->node, settings);
	}
	if (rc == 0)
		rc = ve_table_new(&shell->table, &config);
	if (rc == 0 && (rc = engine_check(&shell->engine, &error)) < 0)
		log_error("%s", error.text);
	if (rc < 0) {
		log_start_failed(rc);
		shell_free(shell);
		return rc;
	}
	shell->engine.criu_version = rc;
	engines_describe(&shell->engine, &shell->engines);
	choose_fence(shell);
	set_stats(shell);
	*out = shell;
	return 0;
}

static int find_again(const struct ve_record *record, void *userdata)
{
	struct shell *shell = userdata;
	struct ve_event event = {.type = VE_EVENT_FOUND, .name = record->spec.name};

	event.busy = lock_is_taken(&shell->engine, record->spec.name);
	see(record, &event.sight);
	event.sight.lease = lease_of(shell, record->spec.name);
	if (event.sight.found == FOUND_RUNNING || event.sight.found == FOUND_FROZEN)
		watch_record(shell, record, &event.sight);
	log_info("found ve=%s epoch=%llu alive=%d", record->spec.name,
	    (unsigned long long)record->spec.epoch, record->alive);
	step(shell, &event);
	return 0;
}

static bool bundle_in_use(const char *oid, void *userdata)
{
	struct shell *shell = userdata;
	struct ve_view view;

	for (unsigned i = 0; ve_table_view(shell->table, i, &view); i++)
		if (view.state == VE_RECOVERING || strcmp(view.bundle, oid) == 0)
			return true; /* what a recovering one uses is not yet known */
	return false;
}

static void tell_fence(struct shell *shell)
{
	struct msg_ve_fence event = {.fence = (enum msg_ved_fence)shell->engine.fence};
	const char *kind = fence_kind_name(shell->engine.fence);

	path_set(event.reason, "%.500s", shell->no_fence);
	daemon_tell(shell->daemon, MSG_VE_FENCE, msg_ve_fence_pack, &event);
	if (shell->engine.fence == FENCE_NONE)
		log_warning(
		    "fence kind=none: VEs that need a lease are refused (%s)", shell->no_fence);
	else if (shell->no_fence[0])
		log_notice("fence kind=%s (%s)", kind, shell->no_fence);
	else
		log_info("fence kind=%s", kind);
}

int shell_open(struct shell *shell)
{
	struct daemon *daemon = shell->daemon;
	int rc = jobs_new(&shell->jobs, daemon->loop, on_job_done, shell);

	if (rc == 0)
		rc = commands_new(&shell->commands, daemon->loop);
	if (rc == 0)
		rc = sd_event_add_time(
		    daemon->loop, &shell->timer, MONO_CLOCK, UINT64_MAX, 1000, on_timer, shell);
	if (rc < 0)
		return rc;
	sd_event_source_set_enabled(shell->timer, SD_EVENT_OFF);
	rc = engine_scan(&shell->engine, find_again, shell);
	if (rc < 0) {
		log_error("look for VEs in %s/ve: %s", shell->engine.run, strerror(-rc));
		return rc;
	}
	tell_fence(shell);
	overlay_prune(&shell->engine, bundle_in_use, shell);
	daemon->stats = shell->stats;
	return rpc_server_add(daemon->rpc, methods, shell);
}

struct shell *shell_free(struct shell *shell)
{
	if (!shell)
		return NULL;
	for (size_t i = 0; i < VE_MAX; i++)
		if (shell->watch[i].source)
			unwatch(&shell->watch[i]);
	commands_free(shell->commands);
	shell->jobs = jobs_free(shell->jobs);
	sd_event_source_unref(shell->timer);
	ve_table_free(shell->table);
	free(shell);
	return NULL;
}
