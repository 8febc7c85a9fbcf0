/*
 * Health: what fdd says of the probes of the VEs that run here, and when that is trouble.
 *
 * A service is well when each of its probes has succeeded and none is suspect.  Trouble is what lasts: for hung_ms (of the
 * VE) once it has answered under its epoch, for answer_ms (of the daemon) before; both and two intervals of its slowest
 * probe, since only the next one can tell that it works again.  A copy that this process has started and that never answered
 * is a start or a restore that failed, as if ved had said so: its checkpoint is the one to be doubted.
 *
 * Only time that was seen counts: of two looks far apart, after this daemon or the machine stood still, no more than two
 * scans; and only time in which the VE could be heard, since its gate stops the probes as it stops everybody.  Nothing is
 * done here but telling: a suspicion is no permission, and the copy runs until it is placed anew.
 *
 * Rejected: to act on fd.service_suspect at once (four intervals of silence are a reason to send requests elsewhere, not to
 * throw away what the service did since its last checkpoint).
 */
#include <stdio.h>
#include <string.h>

#include "migrated/core.h"

static bool is_looked_at(
    const struct migrated *migrated, const struct migrated_health *health, const struct keep *keep)
{
	const struct migrated_ve *ve = find_ve(migrated, health->name);
	const struct migrated_local *local = find_local(migrated, health->name);

	return keep && !keep->busy && ve && ve->fact.hung_ms > 0 &&
	       ve->fact.want == MSG_MIGRATED_WANT_RUN && ve->fact.epoch == health->epoch &&
	       strcmp(ve->fact.node, migrated->self) == 0 && local && local->running &&
	       local->epoch == health->epoch;
}

/* How much of the time since the last look counts. */
static struct mono time_seen(const struct migrated *migrated, struct keep *keep, uint64_t epoch)
{
	struct mono gap = mono_ms(0);

	if (keep->seen != epoch)
		keep->ill_for = mono_ms(0);
	else
		gap = mono_min(mono_sub(migrated->now, keep->seen_at),
		    mono_ms(2 * (int64_t)migrated->config.scan_ms));
	keep->seen = epoch;
	keep->seen_at = migrated->now;
	return gap;
}

static void tell_ill(struct migrated *migrated, struct keep *keep,
    const struct migrated_health *health, struct migrated_actions *actions)
{
	const struct migrated_ve *ve = find_ve(migrated, health->name);
	bool fails = keep->ran == health->epoch && keep->answered != health->epoch;
	struct migrated_trouble trouble = {.kind = !fails ? MSG_MIGRATED_TROUBLE_DIED
						   : ve->fact.has_start_from
						       ? MSG_MIGRATED_TROUBLE_RESTORE_FAILED
						       : MSG_MIGRATED_TROUBLE_START_FAILED,
	    .runs = true};

	snprintf(trouble.reason, sizeof(trouble.reason), "%s: %.160s",
	    fails ? "its probe has never succeeded" : "it hangs", health->fault);
	keep_tell(migrated, keep, health->epoch, &trouble, actions);
}

static void look(struct migrated *migrated, const struct migrated_health *health,
    struct migrated_actions *actions)
{
	struct keep *keep = find_keep(migrated, health->name);
	struct mono gap, limit;

	if (!is_looked_at(migrated, health, keep))
		return;
	gap = time_seen(migrated, keep, health->epoch);
	limit = mono_ms((health->answered ? (int64_t)find_ve(migrated, health->name)->fact.hung_ms
					  : (int64_t)migrated->config.answer_ms) +
			2 * (int64_t)health->interval_ms);
	if (health->answered && !health->suspect) {
		keep->answered = health->epoch;
		keep->ill_for = mono_ms(0);
	} else if (mono_before(keep->ill_for, limit)) {
		if (mono_before(
			migrated->now, migrated_lease_until(migrated, health->name, health->epoch)))
			keep->ill_for = mono_add(keep->ill_for, gap);
		else
			keep->ill_for = mono_ms(0);
	} else {
		tell_ill(migrated, keep, health, actions);
	}
}

void health_take(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	for (size_t i = 0; i < event->count; i++)
		look(migrated, &event->health[i], actions);
}
