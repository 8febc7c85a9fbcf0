#include "ved/ve.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIT(state) (1U << (state))

enum { RETRY_THAW_MS = 500, RETRY_LAPSE_MS = 500 };

/* How long a worker may take before it is killed; stop adds its grace. */
static const int64_t job_limit_ms[] = {
    [VE_START] = 60000,
    [VE_RESTORE] = 300000,
    [VE_STOP] = 30000,
    [VE_FREEZE] = 10000,
    [VE_THAW] = 10000,
    [VE_DUMP] = 600000,
    [VE_RECOVER] = 660000, /* may wait for the end of a dump that the ved before began */
};

static const struct {
	const char *name;
	unsigned next; /* allowed successors */
} states[VE_STATES] = {
    [VE_ABSENT] = {"absent", BIT(VE_STARTING) | BIT(VE_RESTORING) | BIT(VE_RECOVERING) |
				 BIT(VE_RUNNING) | BIT(VE_FROZEN) | BIT(VE_DEAD)},
    [VE_RECOVERING] = {"recovering",
	BIT(VE_ABSENT) | BIT(VE_RUNNING) | BIT(VE_FROZEN) | BIT(VE_DEAD)},
    [VE_STARTING] = {"starting", BIT(VE_ABSENT) | BIT(VE_RUNNING) | BIT(VE_FROZEN) | BIT(VE_DEAD)},
    [VE_RUNNING] = {"running",
	BIT(VE_FREEZING) | BIT(VE_DUMPING) | BIT(VE_STOPPING) | BIT(VE_DEAD)},
    [VE_FREEZING] = {"freezing", BIT(VE_FROZEN) | BIT(VE_RUNNING) | BIT(VE_DEAD) | BIT(VE_ABSENT)},
    [VE_FROZEN] = {"frozen",
	BIT(VE_FREEZING) | BIT(VE_THAWING) | BIT(VE_DUMPING) | BIT(VE_STOPPING) | BIT(VE_DEAD)},
    [VE_DUMPING] = {"dumping", BIT(VE_RUNNING) | BIT(VE_FROZEN) | BIT(VE_DEAD) | BIT(VE_ABSENT)},
    [VE_THAWING] = {"thawing", BIT(VE_RUNNING) | BIT(VE_FROZEN) | BIT(VE_DEAD) | BIT(VE_ABSENT)},
    [VE_STOPPING] = {"stopping", BIT(VE_ABSENT) | BIT(VE_RUNNING) | BIT(VE_FROZEN) | BIT(VE_DEAD)},
    [VE_RESTORING] = {"restoring",
	BIT(VE_ABSENT) | BIT(VE_RUNNING) | BIT(VE_FROZEN) | BIT(VE_DEAD)},
    [VE_DEAD] = {"dead", BIT(VE_STOPPING)},
};

enum { VE_FREEZE_ASKED = VE_THAW_ASKED, VE_FREEZE_LAPSED };

struct ve {
	char name[VE_NAME]; /* empty: the place is free */
	uint64_t epoch;     /* the highest seen; kept while absent */
	enum ve_state state;
	struct mono touched;
	char address[VE_ADDRESS];
	char bundle[VE_OID];

	bool working; /* a worker does job */
	bool killed;  /* and was told to end */
	struct ve_request job;
	struct mono job_deadline;
	int job_reason; /* ve_stop_reason, ve_thaw_reason, or of a freeze: */

	bool waiting; /* pending is to be done when the job has ended */
	struct ve_request pending;

	bool was_frozen; /* dump: what it found */
	uint64_t hold;   /* frozen, and dumped while frozen: for whom */
	struct mono frozen_since;
	struct mono thaw_by;
	struct mono lapse_at;    /* its lease ends; MONO_NEVER: it needs none */
	struct mono lapse_try;   /* it could not be frozen then: not before */
	bool lapsed;             /* frozen for that, whoever froze it first */
	unsigned clear_failures; /* of clearing away a dead one: each waits longer */
	struct mono clear_at;
};

struct ve_table {
	struct ve_config config;
	struct ve ve[];
};

const char *ve_state_name(enum ve_state state)
{
	return state < VE_STATES ? states[state].name : "?";
}

int ve_table_new(struct ve_table **out, const struct ve_config *config)
{
	struct ve_table *table = calloc(1, sizeof(*table) + config->max * sizeof(table->ve[0]));

	if (!table)
		return -ENOMEM;
	table->config = *config;
	*out = table;
	return 0;
}

struct ve_table *ve_table_free(struct ve_table *table)
{
	free(table);
	return NULL;
}

/* ---- actions ---- */

static struct ve_action *act(
    struct ve_actions *actions, enum ve_action_type type, const struct ve *ve)
{
	struct ve_action *action = &actions->item[actions->count];

	assert(actions->count < VE_ACTIONS_MAX);
	actions->count++;
	*action = (struct ve_action){.type = type};
	if (ve) {
		memcpy(action->name, ve->name, sizeof(action->name));
		action->epoch = ve->epoch;
		action->state = ve->state;
	}
	return action;
}

static void refuse(struct ve_actions *actions, const struct ve_request *request,
    enum ve_refusal refusal, const char *text)
{
	struct ve_action *action;

	if (!request->token)
		return;
	action = act(actions, VE_ACTION_REFUSE, NULL);
	memcpy(action->name, request->name, sizeof(action->name));
	action->token = request->token;
	action->refusal = refusal;
	snprintf(action->text, sizeof(action->text), "%s", text);
}

static void reply(struct ve_actions *actions, const struct ve *ve, const struct ve_request *request)
{
	struct ve_action *action;

	if (!request->token)
		return;
	action = act(actions, VE_ACTION_REPLY, ve);
	action->token = request->token;
	action->op = request->op;
}

static struct ve_action *tell(
    struct ve_actions *actions, const struct ve *ve, enum ve_told told, int reason)
{
	struct ve_action *action = act(actions, VE_ACTION_TELL, ve);

	action->told = told;
	action->reason = reason;
	memcpy(action->address, ve->address, sizeof(action->address));
	return action;
}

/* ---- the table ---- */

static struct ve *find(struct ve_table *table, const char *name)
{
	for (unsigned i = 0; i < table->config.max; i++)
		if (table->ve[i].name[0] && strcmp(table->ve[i].name, name) == 0)
			return &table->ve[i];
	return NULL;
}

/* A free place, or that of the VE which has been absent longest. */
static struct ve *find_place(struct ve_table *table)
{
	struct ve *best = NULL;

	for (unsigned i = 0; i < table->config.max; i++) {
		struct ve *ve = &table->ve[i];

		if (!ve->name[0])
			return ve;
		if (ve->state == VE_ABSENT && !ve->working &&
		    (!best || mono_before(ve->touched, best->touched)))
			best = ve;
	}
	return best;
}

static struct ve *have(struct ve_table *table, const char *name, struct mono now)
{
	struct ve *ve = find(table, name);

	if (!ve && (ve = find_place(table))) {
		*ve = (struct ve){.thaw_by = MONO_NEVER,
		    .clear_at = MONO_NEVER,
		    .job_deadline = MONO_NEVER,
		    .lapse_at = MONO_NEVER};
		snprintf(ve->name, sizeof(ve->name), "%s", name);
	}
	if (ve)
		ve->touched = now;
	return ve;
}

static void move(struct ve *ve, enum ve_state to)
{
	if (ve->state == to)
		return;
	assert(states[ve->state].next & BIT(to));
	ve->state = to;
}

static void set_frozen(struct ve *ve, struct mono now, struct mono thaw_by)
{
	if (ve->state != VE_FROZEN && !ve->was_frozen)
		ve->frozen_since = now;
	ve->thaw_by = thaw_by;
	move(ve, VE_FROZEN);
}

/* ---- jobs ---- */

static enum ve_state working_state(enum ve_op op)
{
	static const enum ve_state state[] = {
	    [VE_START] = VE_STARTING,
	    [VE_RESTORE] = VE_RESTORING,
	    [VE_STOP] = VE_STOPPING,
	    [VE_FREEZE] = VE_FREEZING,
	    [VE_THAW] = VE_THAWING,
	    [VE_DUMP] = VE_DUMPING,
	    [VE_RECOVER] = VE_RECOVERING,
	};

	return state[op];
}

static void run(struct ve *ve, const struct ve_request *request, int reason, struct mono now,
    struct ve_actions *actions)
{
	int64_t limit = job_limit_ms[request->op];

	if (request->op == VE_STOP && request->limit_ms > 0)
		limit += request->limit_ms;
	if (request->op == VE_START || request->op == VE_RESTORE) {
		memcpy(ve->address, request->address, sizeof(ve->address));
		memcpy(ve->bundle, request->bundle, sizeof(ve->bundle));
		ve->lapse_at = request->until_ns ? mono_ns((int64_t)request->until_ns) : MONO_NEVER;
	}
	ve->was_frozen = ve->state == VE_FROZEN;
	ve->job = *request;
	ve->job_reason = reason;
	ve->job_deadline = mono_add_ms(now, limit);
	ve->working = true;
	ve->killed = false;
	move(ve, working_state(request->op));
	act(actions, VE_ACTION_RUN, ve)->job = &ve->job;
}

/* Of our own accord: nobody waits for the answer. */
static void run_own(struct ve *ve, enum ve_op op, int64_t limit_ms, int reason, struct mono now,
    struct ve_actions *actions)
{
	struct ve_request request = {.op = op, .epoch = ve->epoch, .limit_ms = limit_ms};

	memcpy(request.name, ve->name, sizeof(request.name));
	run(ve, &request, reason, now, actions);
}

/* Its lease has run out. */
static void lapse(struct ve *ve, struct mono now, struct ve_actions *actions)
{
	if (ve->state == VE_FROZEN) {
		ve->lapsed = true;
		tell(actions, ve, TOLD_LAPSED, 0);
	} else {
		run_own(ve, VE_FREEZE, 0, VE_FREEZE_LAPSED, now, actions);
	}
}

/* Frozen for longer than it may be. */
static void thaw_in_time(struct ve *ve, struct mono now, struct ve_actions *actions)
{
	if (mono_due(ve->lapse_at, now))
		lapse(ve, now, actions);
	else
		run_own(ve, VE_THAW, 0, VE_THAW_TIMEOUT, now, actions);
}

static void clear_away(struct ve *ve, struct mono now, struct ve_actions *actions)
{
	ve->clear_at = MONO_NEVER;
	run_own(ve, VE_STOP, -1, VE_STOP_ASKED, now, actions);
}

/* ---- requests ---- */

static bool is_present(const struct ve *ve)
{
	return ve->state == VE_RUNNING || ve->state == VE_FROZEN;
}

/* Does the freeze that the request is about belong to somebody else, or no longer exist? */
static bool is_held_from(const struct ve *ve, const struct ve_request *request)
{
	bool frozen = ve->state == VE_FROZEN;

	switch (request->op) {
	case VE_FREEZE:
		return frozen && ve->hold && ve->hold != request->hold;
	case VE_THAW:
		return frozen && ve->hold && request->hold && ve->hold != request->hold;
	case VE_DUMP:
		return request->hold && (!frozen || ve->hold != request->hold);
	default:
		return false;
	}
}

/* Of a VE that is idle, and of its own epoch. */
static void admit(const struct ve_table *table, struct ve *ve, const struct ve_request *request,
    struct mono now, struct ve_actions *actions)
{
	struct ve_request job = *request;

	switch (request->op) {
	case VE_START:
	case VE_RESTORE:
		if (is_present(ve))
			reply(actions, ve, request);
		else
			run(ve, request, 0, now, actions);
		return;
	case VE_STOP:
		if (ve->state == VE_ABSENT)
			reply(actions, ve, request);
		else
			run(ve, request, VE_STOP_ASKED, now, actions);
		return;
	case VE_FREEZE:
		if (job.limit_ms <= 0 || job.limit_ms > table->config.max_freeze_ms)
			job.limit_ms = table->config.max_freeze_ms;
		break;
	case VE_THAW:
		if (ve->state == VE_RUNNING) {
			reply(actions, ve, request);
			return;
		}
		break;
	case VE_DUMP:
	case VE_RECOVER:
		break;
	}
	if (is_present(ve) && ve->lapsed)
		refuse(actions, request, VE_REFUSED_HELD, "its lease has run out");
	else if (is_present(ve) && is_held_from(ve, request))
		refuse(actions, request, VE_REFUSED_HELD,
		    ve->state == VE_FROZEN ? "it stands for somebody else"
					   : "it has run on since it was frozen");
	else if (is_present(ve))
		run(ve, &job, VE_THAW_ASKED, now, actions);
	else
		refuse(actions, request, VE_REFUSED_NOT_HERE, "it is not here");
}

static bool supersedes(const struct ve *ve, const struct ve_request *request)
{
	return request->op == VE_STOP || request->epoch > ve->epoch;
}

static void wait_for_job(
    struct ve *ve, const struct ve_request *request, struct ve_actions *actions)
{
	char text[128];

	if (!ve->waiting && supersedes(ve, request)) {
		ve->waiting = true;
		ve->pending = *request;
		return;
	}
	snprintf(text, sizeof(text), "busy: it is %s; ask again", states[ve->state].name);
	refuse(actions, request, VE_REFUSED_BUSY, text);
}

static void consider(const struct ve_table *table, struct ve *ve, const struct ve_request *request,
    struct mono now, struct ve_actions *actions)
{
	if (ve->working) {
		wait_for_job(ve, request, actions);
		return;
	}
	if (ve->state == VE_DEAD || (request->epoch > ve->epoch && ve->state != VE_ABSENT)) {
		/* First the old copy goes. */
		ve->waiting = true;
		ve->pending = *request;
		if (ve->state == VE_DEAD)
			clear_away(ve, now, actions);
		else
			run_own(ve, VE_STOP, -1, VE_STOP_SUPERSEDED, now, actions);
		return;
	}
	if (request->epoch > ve->epoch)
		ve->epoch = request->epoch;
	admit(table, ve, request, now, actions);
}

static void on_request(
    struct ve_table *table, const struct ve_event *event, struct ve_actions *actions)
{
	const struct ve_request *request = event->request;
	struct ve *ve = have(table, request->name, event->now);
	char text[128];

	if (!ve) {
		refuse(
		    actions, request, VE_REFUSED_FULL, "this node has as many VEs as it can hold");
		return;
	}
	if (request->epoch < ve->epoch) {
		snprintf(text, sizeof(text),
		    "epoch %" PRIu64 " is over: %" PRIu64 " is the present one", request->epoch,
		    ve->epoch);
		refuse(actions, request, VE_REFUSED_STALE, text);
		return;
	}
	consider(table, ve, request, event->now, actions);
}

/* ---- the end of a job, and what was found then ---- */

static void tell_thawed(
    struct ve *ve, enum ve_thaw_reason reason, struct mono now, struct ve_actions *actions)
{
	enum ve_told told = reason == VE_THAW_RENEWED ? TOLD_RESUMED : TOLD_THAWED;

	tell(actions, ve, told, reason)->frozen_ms = mono_to_ms(mono_sub(now, ve->frozen_since));
}

/* Takes over what the record says; the states between follow from it. */
static void settle(struct ve *ve, const struct ve_sight *sight, struct mono now)
{
	if (sight->found != FOUND_NOTHING && sight->found != FOUND_HALF && sight->bundle[0]) {
		memcpy(ve->address, sight->address, sizeof(ve->address));
		memcpy(ve->bundle, sight->bundle, sizeof(ve->bundle));
	}
	switch (sight->found) {
	case FOUND_NOTHING:
		move(ve, VE_ABSENT);
		break;
	case FOUND_RUNNING:
		move(ve, VE_RUNNING);
		break;
	case FOUND_FROZEN:
		set_frozen(ve, now, sight->thaw_by);
		break;
	case FOUND_HALF:
	case FOUND_ENDED:
		move(ve, VE_DEAD);
		break;
	}
	if (!is_present(ve) || sight->lease.ns)
		ve->lapse_at = is_present(ve) ? sight->lease : MONO_NEVER;
	if (ve->state != VE_FROZEN) {
		ve->thaw_by = MONO_NEVER;
		ve->hold = 0;
		ve->lapsed = false;
	}
}

/* Events of a job that did what it was to do. */
static void tell_done(struct ve *ve, struct mono now, struct ve_actions *actions)
{
	switch (ve->job.op) {
	case VE_START:
		tell(actions, ve, TOLD_STARTED, 0);
		break;
	case VE_RESTORE:
		tell(actions, ve, TOLD_RESTORED, 0);
		break;
	case VE_STOP:
		tell(actions, ve, TOLD_STOPPED, ve->job_reason);
		break;
	case VE_FREEZE:
		ve->hold = ve->job.hold;
		ve->lapsed = ve->job_reason == VE_FREEZE_LAPSED;
		if (ve->lapsed)
			tell(actions, ve, TOLD_LAPSED, 0);
		else if (!ve->was_frozen)
			tell(actions, ve, TOLD_FROZEN, 0);
		break;
	case VE_THAW:
		tell_thawed(ve, (enum ve_thaw_reason)ve->job_reason, now, actions);
		break;
	case VE_DUMP:
		tell(actions, ve, TOLD_DUMPED, 0);
		if (ve->job.kill)
			tell(actions, ve, TOLD_STOPPED, VE_STOP_MOVED);
		break;
	case VE_RECOVER:
		break;
	}
}

/* Is what was found what the job was for? */
static bool reached(const struct ve *ve)
{
	switch (ve->job.op) {
	case VE_START:
	case VE_RESTORE:
	case VE_THAW:
		return ve->state == VE_RUNNING;
	case VE_STOP:
		return ve->state == VE_ABSENT;
	case VE_FREEZE:
		return ve->state == VE_FROZEN;
	case VE_DUMP:
		return ve->job.kill ? ve->state == VE_ABSENT : is_present(ve);
	case VE_RECOVER:
		return true;
	}
	return false;
}

static void go_on(
    const struct ve_table *table, struct ve *ve, struct mono now, struct ve_actions *actions)
{
	struct ve_request pending = ve->pending;

	if (ve->waiting) {
		ve->waiting = false;
		consider(table, ve, &pending, now, actions);
	} else if (ve->state == VE_DEAD) {
		clear_away(ve, now, actions);
	} else if (ve->lapsed) {
		if (mono_before(now, ve->lapse_at))
			run_own(ve, VE_THAW, 0, VE_THAW_RENEWED, now, actions);
	} else if (ve->state == VE_FROZEN && mono_due(ve->thaw_by, now)) {
		thaw_in_time(ve, now, actions);
	}
}

/* What could not be ended is tried again, ever more rarely, and who waits for its end is told. */
static void stop_failed(
    struct ve *ve, const char *text, struct mono now, struct ve_actions *actions)
{
	int64_t wait_ms = 500LL << (ve->clear_failures < 6 ? ve->clear_failures : 6);

	ve->clear_failures++;
	if (ve->state == VE_DEAD)
		ve->clear_at = mono_add_ms(now, wait_ms);
	if (ve->waiting) {
		ve->waiting = false;
		refuse(actions, &ve->pending, VE_REFUSED_FAILED, text);
	}
}

static void job_failed(struct ve *ve, const char *text, struct mono now, struct ve_actions *actions)
{
	refuse(actions, &ve->job, VE_REFUSED_FAILED, text);
	if (ve->state == VE_RUNNING && ve->was_frozen && ve->job.op != VE_STOP)
		tell_thawed(ve, VE_THAW_FAILED, now, actions);
	if (ve->state == VE_FROZEN && ve->job.op == VE_DUMP && !ve->was_frozen)
		ve->thaw_by = now; /* the worker died in the middle of it */
	if (ve->state == VE_FROZEN && ve->job.op == VE_THAW)
		ve->thaw_by = mono_add_ms(now, RETRY_THAW_MS);
	if (ve->job.op == VE_FREEZE && ve->job_reason == VE_FREEZE_LAPSED)
		ve->lapse_try = mono_add_ms(now, RETRY_LAPSE_MS);
	/* A failed start is not a death: it is told to who asked for it. */
	if (ve->state == VE_DEAD && ve->job.op != VE_STOP && ve->job.op != VE_START &&
	    ve->job.op != VE_RESTORE)
		tell(actions, ve, TOLD_DIED, 0);
}

static void on_job_done(
    struct ve_table *table, const struct ve_event *event, struct ve_actions *actions)
{
	struct ve *ve = find(table, event->name);
	const char *text = event->text ? event->text : "";

	if (!ve || !ve->working)
		return;
	ve->working = false;
	ve->job_deadline = MONO_NEVER;
	settle(ve, &event->sight, event->now);
	if (event->error == 0 && reached(ve)) {
		tell_done(ve, event->now, actions);
		reply(actions, ve, &ve->job);
		ve->clear_failures = 0;
	} else {
		job_failed(ve, text, event->now, actions);
		if (ve->job.op == VE_STOP) {
			stop_failed(ve, text, event->now, actions);
			return;
		}
	}
	go_on(table, ve, event->now, actions);
}

/* ---- the other events ---- */

static void on_found(
    struct ve_table *table, const struct ve_event *event, struct ve_actions *actions)
{
	struct ve *ve = have(table, event->name, event->now);

	if (!ve)
		return; /* the engine's directory holds more than this node may: left alone */
	ve->epoch = event->sight.epoch;
	memcpy(ve->address, event->sight.address, sizeof(ve->address));
	memcpy(ve->bundle, event->sight.bundle, sizeof(ve->bundle));
	if (event->busy) {
		run_own(ve, VE_RECOVER, 0, 0, event->now, actions);
		return;
	}
	settle(ve, &event->sight, event->now);
	if (ve->state == VE_DEAD)
		tell(actions, ve, TOLD_DIED, 0);
	go_on(table, ve, event->now, actions);
}

static void on_ended(
    struct ve_table *table, const struct ve_event *event, struct ve_actions *actions)
{
	struct ve *ve = find(table, event->name);

	if (!ve || ve->working || !is_present(ve))
		return; /* the end of the job will find it */
	move(ve, VE_DEAD);
	ve->thaw_by = MONO_NEVER;
	tell(actions, ve, TOLD_DIED, 0);
	clear_away(ve, event->now, actions);
}

/* Later than it was, or sooner; what is under way is done first. */
static void on_lease(
    struct ve_table *table, const struct ve_event *event, struct ve_actions *actions)
{
	struct ve *ve = find(table, event->name);

	if (!ve || !(ve->working || is_present(ve)))
		return;
	ve->lapse_at = event->sight.lease;
	if (!ve->working)
		go_on(table, ve, event->now, actions);
}

/* When something is to be done about a VE without being asked. */
static struct mono deadline_of(const struct ve *ve)
{
	if (!ve->name[0])
		return MONO_NEVER;
	if (ve->working)
		return ve->killed ? MONO_NEVER : ve->job_deadline;
	if (ve->state == VE_RUNNING)
		return mono_before(ve->lapse_at, ve->lapse_try) ? ve->lapse_try : ve->lapse_at;
	return ve->lapsed ? MONO_NEVER : mono_min(ve->thaw_by, ve->clear_at);
}

static void on_timeout(struct ve_table *table, struct mono now, struct ve_actions *actions)
{
	for (unsigned i = 0; i < table->config.max; i++) {
		struct ve *ve = &table->ve[i];

		if (!mono_due(deadline_of(ve), now))
			continue;
		if (ve->working) {
			ve->killed = true;
			act(actions, VE_ACTION_KILL_JOB, ve);
		} else if (ve->state == VE_RUNNING) {
			lapse(ve, now, actions);
		} else if (ve->state == VE_FROZEN) {
			thaw_in_time(ve, now, actions);
		} else {
			clear_away(ve, now, actions);
		}
		return;
	}
}

void ve_table_step(struct ve_table *table, const struct ve_event *event, struct ve_actions *actions)
{
	actions->count = 0;
	switch (event->type) {
	case VE_EVENT_FOUND:
		on_found(table, event, actions);
		break;
	case VE_EVENT_REQUEST:
		on_request(table, event, actions);
		break;
	case VE_EVENT_JOB_DONE:
		on_job_done(table, event, actions);
		break;
	case VE_EVENT_ENDED:
		on_ended(table, event, actions);
		break;
	case VE_EVENT_LEASE:
		on_lease(table, event, actions);
		break;
	case VE_EVENT_TIMEOUT:
		on_timeout(table, event->now, actions);
		break;
	}
}

struct mono ve_table_deadline(const struct ve_table *table)
{
	struct mono first = MONO_NEVER;

	for (unsigned i = 0; i < table->config.max; i++)
		first = mono_min(first, deadline_of(&table->ve[i]));
	return first;
}

bool ve_table_view(const struct ve_table *table, unsigned i, struct ve_view *out)
{
	for (unsigned j = 0; j < table->config.max; j++) {
		const struct ve *ve = &table->ve[j];

		if (!ve->name[0] || ve->state == VE_ABSENT || i-- > 0)
			continue;
		*out = (struct ve_view){.epoch = ve->epoch,
		    .state = ve->state,
		    .frozen_since = ve->frozen_since,
		    .lease = ve->lapse_at};
		memcpy(out->name, ve->name, sizeof(out->name));
		memcpy(out->address, ve->address, sizeof(out->address));
		memcpy(out->bundle, ve->bundle, sizeof(out->bundle));
		return true;
	}
	return false;
}

void ve_table_check(const struct ve_table *table)
{
	for (unsigned i = 0; i < table->config.max; i++) {
		const struct ve *ve = &table->ve[i];

		if (!ve->name[0])
			continue;
		/* A job is under way in the states between, and only there. */
		assert(ve->working == (ve->state != VE_ABSENT && ve->state != VE_RUNNING &&
					  ve->state != VE_FROZEN && ve->state != VE_DEAD));
		assert(!ve->waiting || ve->working);
		/* A frozen VE will be thawed, a dead one cleared away. */
		assert(ve->state != VE_FROZEN || !mono_is_never(ve->thaw_by));
		assert(!ve->lapsed || ve->state == VE_FROZEN || ve->working);
		assert(ve->state != VE_DEAD || !mono_is_never(ve->clear_at));
	}
}
