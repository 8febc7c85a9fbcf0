/*
 * Keeping: what ved runs is made to agree with what the facts say of this node.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "migrated/core.h"

/*
 * What cannot be begun here is tried again for so long: a node that has just joined waits for the service's key to be sealed
 * for it; those that have the image may be back in a moment; ved or gosd may be starting.  Then another node is tried.
 */
#define KEYLESS_MS 30000
#define AWAY_MS 4000
#define BUSY_MS 30000

struct keep *find_keep(struct migrated *migrated, const char *name)
{
	for (size_t i = 0; i < migrated->n_keeps; i++)
		if (strcmp(migrated->keeps[i].name, name) == 0)
			return &migrated->keeps[i];
	return NULL;
}

static struct keep *add_keep(struct migrated *migrated, const char *name)
{
	struct keep *keep = find_keep(migrated, name);

	if (keep || migrated->n_keeps == MIGRATED_VES_MAX)
		return keep;
	keep = &migrated->keeps[migrated->n_keeps++];
	memset(keep, 0, sizeof(*keep));
	copy_text(keep->name, sizeof(keep->name), name);
	return keep;
}

const struct migrated_local *find_local(const struct migrated *migrated, const char *name)
{
	for (size_t i = 0; i < migrated->n_locals; i++)
		if (strcmp(migrated->locals[i].name, name) == 0)
			return &migrated->locals[i];
	return NULL;
}

void keep_begun(struct migrated *migrated, const struct migrated_begun *begun, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct keep *keep = add_keep(migrated, begun[i].name);

		if (!keep)
			continue;
		keep->begun = begun[i].epoch;
		/* It may run: its lease is not to lapse while the facts are read. */
		lease_want(&migrated->holder, begun[i].name, begun[i].epoch);
	}
}

static void run(struct migrated *migrated, struct keep *keep,
    const struct msg_migrated_ve_fact *fact, struct migrated_actions *actions)
{
	/* Journal and RUN go together or wait for the next look. */
	if (mono_before(migrated->now, keep->run_at) || actions->count + 2 > MIGRATED_ACTIONS_MAX)
		return;
	keep->begun = keep->busy = fact->epoch;
	keep->began = migrated->now;
	action_add(actions, MIGRATED_JOURNAL, fact->name)->epoch = fact->epoch;
	action_add(actions, MIGRATED_RUN, fact->name)->fact = *fact;
}

static void end(struct keep *keep, uint64_t epoch, bool silent, struct migrated_actions *actions)
{
	struct migrated_action *action;

	if (keep->busy || actions->count == MIGRATED_ACTIONS_MAX)
		return;
	keep->busy = epoch;
	action = action_add(actions, MIGRATED_END, keep->name);
	action->epoch = epoch;
	action->silent = silent;
}

void keep_tell(struct migrated *migrated, struct keep *keep, uint64_t epoch,
    const struct migrated_trouble *trouble, struct migrated_actions *actions)
{
	struct migrated_action *action;

	if (mono_before(migrated->now, keep->tell_at))
		return;
	keep->tell_at = mono_add_ms(migrated->now, migrated->config.retry_ms);
	action = action_add(actions, MIGRATED_TELL, keep->name);
	action->epoch = epoch;
	action->trouble = trouble->kind;
	action->runs = trouble->runs;
	copy_text(action->reason, sizeof(action->reason), trouble->reason);
}

/* That it stands, and that it is let go, goes with renewals: at once, and not when the next one is due. */
static void hurry_gathering(struct migrated *migrated, struct keep *keep,
    const struct msg_migrated_ve_fact *fact, const struct migrated_local *local)
{
	if (fact->gathering && local->whole && keep->stood != fact->epoch) {
		keep->stood = fact->epoch;
		lease_ask_again(&migrated->holder);
	} else if (!fact->gathering && keep->stood == fact->epoch) {
		keep->stood = 0;
		lease_ask_again(&migrated->holder);
	}
}

/* The facts want this VE here, under this epoch. */
static void keep_running(struct migrated *migrated, struct keep *keep,
    const struct msg_migrated_ve_fact *fact, const struct migrated_local *local,
    struct migrated_actions *actions)
{
	/* The copy of an epoch before may be heard still, if ved was not asked to replace it, and so may one that is being ended. */
	bool old_runs = local && local->epoch <= fact->epoch && (local->running || local->stopping);
	const struct migrated_trouble died = {
	    .kind = MSG_MIGRATED_TROUBLE_DIED, .runs = old_runs, .reason = "its processes ended"};

	keep->trouble.runs = old_runs;
	if (keep->busy || (local && local->epoch > fact->epoch))
		return;
	if (local && local->epoch == fact->epoch && local->running) {
		hurry_gathering(migrated, keep, fact, local);
		return;
	}
	if (keep->failed == fact->epoch)
		keep_tell(migrated, keep, fact->epoch, &keep->trouble, actions);
	else if (keep->begun == fact->epoch || (local && local->epoch == fact->epoch))
		keep_tell(migrated, keep, fact->epoch, &died, actions);
	else if (migrated->unfenced && !fact->unfenced)
		return; /* a renewal tells the coordinator first */
	else if (mono_before(
		     migrated->now, lease_until(&migrated->holder, fact->name, fact->epoch)))
		run(migrated, keep, fact, actions);
}

static void keep_fact(struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    struct migrated_actions *actions)
{
	static const struct migrated_trouble stopped = {
	    .kind = MSG_MIGRATED_TROUBLE_STOPPED, .reason = "it is stopped"};
	const struct migrated_local *local = find_local(migrated, fact->name);
	struct keep *keep = add_keep(migrated, fact->name);

	if (!keep)
		return;
	if (fact->want == MSG_MIGRATED_WANT_RUN)
		keep_running(migrated, keep, fact, local, actions);
	else if (local && local->epoch <= fact->epoch)
		end(keep, local->epoch, false, actions);
	else if (!local && !keep->busy && !gone_is_sure(find_ve(migrated, fact->name)))
		keep_tell(migrated, keep, fact->epoch, &stopped, actions);
}

/* A VE that the facts want elsewhere, or no more. */
static void keep_stray(
    struct migrated *migrated, const struct migrated_local *local, struct migrated_actions *actions)
{
	const struct migrated_ve *ve = find_ve(migrated, local->name);
	struct keep *keep;

	if (ve && (strcmp(ve->fact.node, migrated->self) == 0 || ve->fact.epoch <= local->epoch))
		return;
	keep = add_keep(migrated, local->name);
	if (keep)
		end(keep, local->epoch, ve && ve->fact.want == MSG_MIGRATED_WANT_RUN, actions);
}

static bool is_wanted_here(const struct migrated *migrated, const char *name)
{
	const struct migrated_ve *ve = find_ve(migrated, name);

	return ve && strcmp(ve->fact.node, migrated->self) == 0;
}

/* What has left this node is forgotten, also in the journal. */
static void forget_others(struct migrated *migrated, struct migrated_actions *actions)
{
	for (size_t i = migrated->n_keeps; i-- > 0;) {
		struct keep *keep = &migrated->keeps[i];

		if (keep->busy || is_wanted_here(migrated, keep->name) ||
		    find_local(migrated, keep->name))
			continue;
		if (keep->begun) {
			if (actions->count == MIGRATED_ACTIONS_MAX)
				return;
			action_add(actions, MIGRATED_JOURNAL, keep->name)->epoch = 0;
		}
		*keep = migrated->keeps[--migrated->n_keeps];
	}
}

/* A VE that is to run here needs a lease under its epoch; one that is being stopped, under that which it runs under. */
static bool needs_lease(const struct migrated *migrated, const char *name, uint64_t *epoch)
{
	const struct migrated_local *local = find_local(migrated, name);
	const struct migrated_ve *ve = find_ve(migrated, name);

	if (!ve || strcmp(ve->fact.node, migrated->self) != 0)
		return false;
	if (ve->fact.want == MSG_MIGRATED_WANT_RUN)
		*epoch = ve->fact.epoch;
	else if (local && local->running)
		*epoch = local->epoch;
	else
		return false;
	return true;
}

static void want_leases(struct migrated *migrated)
{
	uint64_t epoch;

	for (size_t i = migrated->holder.count; i-- > 0;) {
		char name[NODE_NAME_MAX + 1];

		copy_text(name, sizeof(name), migrated->holder.leases[i].name);
		if (!needs_lease(migrated, name, &epoch))
			lease_drop(&migrated->holder, name);
	}
	for (size_t i = 0; i < migrated->n_ves; i++)
		if (needs_lease(migrated, migrated->ves[i].fact.name, &epoch))
			lease_want(&migrated->holder, migrated->ves[i].fact.name, epoch);
}

bool keep_is_unfenced(const struct migrated *migrated, const char *name, uint64_t epoch)
{
	const struct migrated_local *local = find_local(migrated, name);

	return local && local->running && local->epoch == epoch ? local->unfenced
								: migrated->unfenced;
}

bool keep_is_ready(const struct migrated *migrated, const char *name, uint64_t epoch)
{
	const struct keep *keep = find_keep((struct migrated *)migrated, name);
	const struct migrated_local *local = find_local(migrated, name);

	return migrated->have_locals && !(keep && keep->busy) && local && local->whole &&
	       local->running && local->epoch == epoch;
}

void keep_all(struct migrated *migrated, struct migrated_actions *actions)
{
	want_leases(migrated);
	for (size_t i = 0; i < migrated->n_ves; i++)
		if (strcmp(migrated->ves[i].fact.node, migrated->self) == 0)
			keep_fact(migrated, &migrated->ves[i].fact, actions);
	for (size_t i = 0; i < migrated->n_locals; i++)
		keep_stray(migrated, &migrated->locals[i], actions);
	forget_others(migrated, actions);
}

static bool was_not_begun(const struct migrated_event *event)
{
	return event->result == -EAGAIN || event->result == -EHOSTUNREACH ||
	       event->result == -ENOKEY;
}

static bool is_tried_again(
    const struct migrated *migrated, struct keep *keep, const struct migrated_event *event)
{
	int64_t ms = event->result == -ENOKEY         ? KEYLESS_MS
		     : event->result == -EHOSTUNREACH ? AWAY_MS
						      : BUSY_MS;

	if (keep->waits != event->epoch)
		keep->waits_at = migrated->now;
	keep->waits = event->epoch;
	return mono_before(migrated->now, mono_add_ms(keep->waits_at, ms));
}

/*
 * This node is revoked.  It reads no facts any more and need not: whatever ran here is placed elsewhere, with the same
 * addresses.
 */
void keep_none(struct migrated *migrated, struct migrated_actions *actions)
{
	for (size_t i = 0; i < migrated->n_locals; i++) {
		struct keep *keep = add_keep(migrated, migrated->locals[i].name);

		if (keep)
			end(keep, migrated->locals[i].epoch, true, actions);
	}
}

void keep_ran(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	struct keep *keep = find_keep(migrated, event->name);
	const struct migrated_ve *ve = find_ve(migrated, event->name);
	struct migrated_action *action;

	/* What ved has must be seen again before anything is concluded. */
	migrated->have_locals = false;
	list_locals(migrated, actions);
	if (!keep || keep->busy != event->epoch)
		return;
	keep->busy = 0;
	if (event->result == 0) {
		keep->ran = event->epoch;
		action = action_add(actions, MIGRATED_RUNS, event->name);
		action->epoch = event->epoch;
		action->took_ms = (uint64_t)mono_to_ms(mono_sub(migrated->now, keep->began));
		if (ve)
			action->fact = ve->fact;
		return;
	}
	/* In doubt: the list will show whether it runs. */
	if (event->result == -ETIMEDOUT)
		return;
	if (was_not_begun(event) && is_tried_again(migrated, keep, event)) {
		keep->begun = 0;
		keep->run_at = mono_add_ms(migrated->now, migrated->config.retry_ms);
		return;
	}
	keep->failed = event->epoch;
	keep->tell_at = MONO_ZERO;
	keep->trouble = (struct migrated_trouble){
	    .kind = was_not_begun(event) ? MSG_MIGRATED_TROUBLE_NOT_BEGUN : event->trouble};
	copy_text(
	    keep->trouble.reason, sizeof(keep->trouble.reason), event->reason ? event->reason : "");
}

void keep_ended(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	struct keep *keep = find_keep(migrated, event->name);

	migrated->have_locals = false;
	list_locals(migrated, actions);
	if (keep)
		keep->busy = 0;
}
