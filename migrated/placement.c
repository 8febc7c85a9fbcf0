/*
 * Placement: the coordinator's part.  Each decision is one fact with the next epoch, written by one transaction.
 */
#include <stdio.h>
#include <string.h>

#include "migrated/core.h"

#define ATTEMPTS_PER_CKPT 2
#define COLD_ATTEMPTS_MAX 3
/* Times retry_ms: a copy that runs and is not reported for so long is well again. */
#define TOLD_AGAIN 5
#define SETTLE_MS 10000 /* after it the free memory that a node tells shows what was placed there */

static struct place *find_place(struct migrated *migrated, const char *name)
{
	for (size_t i = 0; i < migrated->n_places; i++)
		if (strcmp(migrated->places[i].name, name) == 0)
			return &migrated->places[i];
	return NULL;
}

/* Never fails for a VE of the snapshot: there are as many places, and those of VEs that are gone are dropped first. */
static struct place *add_place(struct migrated *migrated, const char *name)
{
	struct place *place = find_place(migrated, name);

	if (place)
		return place;
	for (size_t i = migrated->n_places; i-- > 0 && migrated->n_places == MIGRATED_VES_MAX;)
		if (!find_ve(migrated, migrated->places[i].name))
			migrated->places[i] = migrated->places[--migrated->n_places];
	if (migrated->n_places == MIGRATED_VES_MAX)
		return NULL;
	place = &migrated->places[migrated->n_places++];
	memset(place, 0, sizeof(*place));
	copy_text(place->name, sizeof(place->name), name);
	return place;
}

bool place_is_writing(struct migrated *migrated, const char *name)
{
	const struct place *place = find_place(migrated, name);

	return place && place->writing;
}

const char *place_next(const struct migrated *migrated, const char *name)
{
	const struct place *place = find_place((struct migrated *)migrated, name);

	return place && place->writing ? place->next : NULL;
}

bool place_is_new(const struct migrated *migrated, const char *name)
{
	const struct place *place = find_place((struct migrated *)migrated, name);

	return place && (place->writing || mono_before(migrated->now, place->settled_at));
}

void place_forget(struct migrated *migrated)
{
	migrated->n_places = 0;
}

/* --- choosing --- */

void next_fact(
    struct msg_migrated_ve_fact *fact, const struct migrated_ckpt *ckpt, const char *node)
{
	fact->epoch++;
	/* Where it stays the copy before may go on for a while under the new epoch. */
	fact->unfenced &= strcmp(fact->node, node) == 0;
	fact->gathering = false;
	memset(fact->held, 0, sizeof(fact->held));
	copy_text(fact->node, sizeof(fact->node), node);
	fact->has_start_from = ckpt != NULL;
	fact->start_ckpt = ckpt ? ckpt->id : 0;
	memset(fact->start_from, 0, sizeof(fact->start_from));
	if (ckpt)
		memcpy(fact->start_from, ckpt->oid, sizeof(fact->start_from));
}

/* --- back-off --- */

/* FNV-1a: what failed together is spread, and nothing is left to chance. */
static uint32_t jitter_of(const struct msg_migrated_ve_fact *fact)
{
	uint32_t hash = 2166136261u;

	for (const char *at = fact->name; *at; at++)
		hash = (hash ^ (uint8_t)*at) * 16777619u;
	for (int shift = 0; shift < 64; shift += 8)
		hash = (hash ^ (uint8_t)(fact->epoch >> shift)) * 16777619u;
	return hash % 1024;
}

/*
 * How long a VE in trouble waits for its n-th try since it was last well: nothing, base, twice that and so on up to a
 * maximum, less by up to a half.  The first one is at once, as most failures come alone.
 */
struct mono place_backoff(
    const struct migrated *migrated, const struct msg_migrated_ve_fact *fact, uint32_t tries)
{
	int64_t ms = migrated->config.backoff_ms, max = migrated->config.backoff_max_ms;

	if (tries == 0)
		return mono_ms(0);
	for (uint32_t i = 1; i < tries && ms < max; i++)
		ms *= 2;
	ms = ms < max ? ms : max;
	return mono_ms(ms - ms * jitter_of(fact) / 2048);
}

/* From when on the decision that follows a report may be written. */
static struct mono backed_off(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, const struct msg_migrated_ve_fact *next)
{
	uint32_t tries = place->trouble.kind == MSG_MIGRATED_TROUBLE_DIED
			     ? next->restarts - 1
			     : ve->fact.attempts + images_set_aside(ve, &ve->fact);

	return mono_add(place->reported_at, place_backoff(migrated, &ve->fact, tries));
}

/* --- deciding --- */

void place_give_up(struct msg_migrated_ve_fact *fact, const char *why, const char *reason)
{
	fact->want = MSG_MIGRATED_WANT_FAILED;
	fact->epoch++;
	snprintf(fact->reason, sizeof(fact->reason), "%s: %.200s", why, reason);
}

/* A checkpoint that failed twice is set aside; the oldest entry makes room. */
void place_set_aside(struct msg_migrated_ve_fact *fact, uint64_t ckpt)
{
	const size_t max = sizeof(fact->set_aside.item) / sizeof(fact->set_aside.item[0]);

	if (fact->set_aside.count == max)
		memmove(&fact->set_aside.item[0], &fact->set_aside.item[1],
		    --fact->set_aside.count * sizeof(fact->set_aside.item[0]));
	fact->set_aside.item[fact->set_aside.count++] = ckpt;
	fact->has_set_aside = true;
}

static enum judged judge_died(
    const struct migrated *migrated, const struct place *place, struct msg_migrated_ve_fact *fact)
{
	uint32_t max = migrated->config.restarts_max;
	bool steady =
	    !mono_before(migrated->now, mono_add_ms(place->since, migrated->config.steady_ms));
	const struct migrated_node *node = find_node(migrated, fact->node);
	bool in_place;

	fact->restarts = steady ? 1 : fact->restarts + 1;
	fact->attempts = 0;
	in_place = fact->restarts <= max && node && node->alive;
	if (fact->restarts > 2 * max) {
		place_give_up(fact, "ended again and again", place->trouble.reason);
		return JUDGED_GIVEN_UP;
	}
	snprintf(fact->reason, sizeof(fact->reason), "%s: %.200s",
	    in_place ? "restart in place" : "restart elsewhere", place->trouble.reason);
	return in_place ? JUDGED_IN_PLACE : JUDGED_ELSEWHERE;
}

static enum judged judge_failed_start(const struct place *place, struct msg_migrated_ve_fact *fact)
{
	bool cold = !fact->has_start_from;

	fact->attempts++;
	if (cold && fact->attempts >= COLD_ATTEMPTS_MAX) {
		place_give_up(fact, "could not be started", place->trouble.reason);
		return JUDGED_GIVEN_UP;
	}
	if (!cold && fact->attempts >= ATTEMPTS_PER_CKPT) {
		place_set_aside(fact, fact->start_ckpt);
		fact->attempts = 0;
	}
	snprintf(fact->reason, sizeof(fact->reason), "%s failed on %.63s: %.140s",
	    cold ? "start" : "restore", fact->node, place->trouble.reason);
	return JUDGED_ELSEWHERE;
}

/* Nothing is wrong with what it starts from: that node could not get hold of it, or of its own ved. */
static enum judged judge_not_begun(const struct place *place, struct msg_migrated_ve_fact *fact)
{
	snprintf(fact->reason, sizeof(fact->reason), "could not be begun on %.63s: %.140s",
	    fact->node, place->trouble.reason);
	return JUDGED_ELSEWHERE;
}

static enum judged judge_lost_node(const struct migrated *migrated, const struct migrated_ve *ve,
    struct msg_migrated_ve_fact *fact)
{
	const struct migrated_node *node = find_node(migrated, fact->node);
	bool left = node && !mono_is_never(node->left_at);

	if (*fact->node)
		snprintf(fact->reason, sizeof(fact->reason), "node %s %s", fact->node,
		    ve->node_revoked ? "is revoked"
		    : left           ? "has left"
				     : "is dead");
	else
		snprintf(fact->reason, sizeof(fact->reason), "there is a node again");
	fact->attempts = 0;
	return JUDGED_ELSEWHERE;
}

/* A copy that an administrator has said to be gone is lost, also when its node is back. */
bool place_has_lost_its_node(const struct migrated *migrated, const struct migrated_ve *ve)
{
	const struct migrated_node *node = find_node(migrated, ve->fact.node);

	return !*ve->fact.node || ve->node_revoked || (node && node->dead) ||
	       ve->fact.fenced == ve->fact.epoch;
}

/* A copy that runs is reported for as long as it is in trouble; it may be well again. */
static bool is_reported(
    const struct migrated *migrated, const struct migrated_ve *ve, const struct place *place)
{
	int64_t fresh_ms = TOLD_AGAIN * (int64_t)migrated->config.retry_ms;

	return place->reported == ve->fact.epoch &&
	       (!place->trouble.runs ||
		   mono_before(migrated->now, mono_add_ms(place->told_at, fresh_ms)));
}

bool place_has_failed(
    const struct migrated *migrated, const struct migrated_ve *ve, const struct place *place)
{
	return is_reported(migrated, ve, place) && !place_has_lost_its_node(migrated, ve) &&
	       (place->trouble.kind == MSG_MIGRATED_TROUBLE_START_FAILED ||
		   place->trouble.kind == MSG_MIGRATED_TROUBLE_RESTORE_FAILED);
}

enum judged place_judge(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact)
{
	*fact = ve->fact;
	if (ve->fact.want != MSG_MIGRATED_WANT_RUN)
		return JUDGED_WELL;
	if (place_has_lost_its_node(migrated, ve))
		return judge_lost_node(migrated, ve, fact);
	if (!is_reported(migrated, ve, place))
		return JUDGED_WELL;
	if (place->trouble.kind == MSG_MIGRATED_TROUBLE_DIED)
		return judge_died(migrated, place, fact);
	if (place->trouble.kind == MSG_MIGRATED_TROUBLE_NOT_BEGUN)
		return judge_not_begun(place, fact);
	return judge_failed_start(place, fact);
}

/*
 * The next placement: from the checkpoint that counts, on the node where it is or one that is chosen, or on none while that
 * checkpoint's image is out of reach.
 */
static void place_next_epoch(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, bool in_place, struct msg_migrated_ve_fact *fact)
{
	const struct migrated_ckpt *ckpt;
	bool there = images_choose(migrated, ve, place, fact, &ckpt);

	if (place_has_failed(migrated, ve, place) && ve->fact.has_start_from &&
	    !images_newest(ve, fact))
		place_give_up(fact, "no checkpoint could be restored", place->trouble.reason);
	else if (!there)
		next_fact(fact, ckpt, "");
	else
		next_fact(fact, ckpt,
		    in_place ? ve->fact.node : choose_node(migrated, fact, ckpt, ve->fact.node));
}

/* Fills fact with the next placement and returns true when there is something to do. */
static bool decide(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact)
{
	enum judged judged = place_judge(migrated, ve, place, fact);

	if (judged == JUDGED_IN_PLACE || judged == JUDGED_ELSEWHERE)
		place_next_epoch(migrated, ve, place, judged == JUDGED_IN_PLACE, fact);
	if (judged == JUDGED_WELL)
		return false;
	/* Without any node it has none; that is said once. */
	if (place_has_lost_its_node(migrated, ve))
		return *fact->node || *ve->fact.node;
	gone_pin(ve, place, fact);
	return true;
}

/* Is there a copy before fact that may be heard beside it, unless something is waited for? */
static bool has_rival(struct migrated *migrated, const struct msg_migrated_ve_fact *fact)
{
	const struct migrated_ve *ve = find_ve(migrated, fact->name);
	const struct place *place = find_place(migrated, fact->name);

	/* ved of one node ends the old copy before it begins the new one. */
	if (fact->want != MSG_MIGRATED_WANT_RUN || (ve && strcmp(ve->fact.node, fact->node) == 0))
		return false;
	/* The node itself has said that there is no copy under this epoch, and it will start none. */
	return !ve || !place || place->reported != ve->fact.epoch || place->trouble.runs;
}

void place_note_lease(struct migrated *migrated, struct migrated_action *action)
{
	struct mono at = lease_free_at(&migrated->giver, action->name);

	if (at.ns == 0 || !has_rival(migrated, &action->fact) || !find_ve(migrated, action->name))
		return;
	action->waited = true;
	action->free_at = at;
	action->silent_at = lease_silent_at(&migrated->giver, action->name);
}

/* The lease of the copy before has ended, and that silenced it. */
bool place_is_free(struct migrated *migrated, const struct msg_migrated_ve_fact *fact)
{
	const struct migrated_ve *ve = find_ve(migrated, fact->name);
	struct mono at = lease_free_at(&migrated->giver, fact->name);

	if (!has_rival(migrated, fact))
		return true;
	if (mono_due(at, migrated->now))
		return !ve || gone_is_sure(ve);
	migrated->place_at = mono_min(migrated->place_at, at);
	return false;
}

static bool is_granted(
    struct migrated *migrated, const char *node, const struct migrated_lease *lease)
{
	const struct migrated_ve *ve = find_ve(migrated, lease->name);
	const struct place *place = find_place(migrated, lease->name);

	/* Somebody may be making sure of a copy that is held: none is begun meanwhile. */
	if (!ve || ve->node_revoked || strcmp(ve->fact.node, node) != 0 || *ve->fact.held ||
	    ve->fact.fenced == ve->fact.epoch ||
	    (place && (place->writing || place->leaving == ve->fact.epoch)) ||
	    ask_is_writing(migrated, lease->name))
		return false;
	return ve->fact.want == MSG_MIGRATED_WANT_RUN ? lease->epoch == ve->fact.epoch
						      : lease->epoch <= ve->fact.epoch;
}

/* What cannot be fenced is granted when the fact says so; that is written with the next look at the facts. */
static bool is_known_unfenced(struct migrated *migrated, const struct migrated_lease *lease)
{
	const struct migrated_ve *ve = find_ve(migrated, lease->name);
	struct place *place;

	if (!lease->unfenced || ve->fact.unfenced || lease->epoch != ve->fact.epoch)
		return true;
	place = add_place(migrated, lease->name);
	if (place)
		place->unfenced = lease->epoch;
	return false;
}

/* A copy of a set that is not whole may be begun, and is not heard. */
static void grant(
    struct migrated *migrated, const struct migrated_lease *lease, struct migrated_action *action)
{
	const struct migrated_ve *ve = find_ve(migrated, lease->name);
	struct place *place = add_place(migrated, lease->name);
	struct migrated_lease *granted = &migrated->granted[action->count++];

	*granted = *lease;
	granted->silent = ve->fact.gathering && lease->epoch == ve->fact.epoch;
	if (!place || !granted->silent || !lease->ready || place->ready == lease->epoch)
		return;
	place->ready = lease->epoch;
	migrated->place_at = migrated->now;
}

void place_grant(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	struct mono left = mono_sub(migrated->reign_until, migrated->now);
	struct mono length = lease_length(&migrated->config.lease, left);
	bool reigns = migrated->mine && migrated->have_facts && length.ns > 0;
	struct migrated_action *action = action_add(actions, MIGRATED_GRANT, event->name);

	action->id = event->id;
	action->length = length;
	action->leases = migrated->granted;
	for (size_t i = 0;
	     reigns && event->length.ns > 0 && i < event->count && action->count < MIGRATED_VES_MAX;
	     i++)
		if (is_granted(migrated, event->name, &event->leases[i]) &&
		    is_known_unfenced(migrated, &event->leases[i]) &&
		    lease_hear(&migrated->giver, event->leases[i].name, migrated->now) == 0)
			grant(migrated, &event->leases[i], action);
}

/* In trouble, and not to be tried again yet.  To give it up needs no patience. */
bool place_waits(struct migrated *migrated, const struct migrated_ve *ve, const struct place *place,
    const struct msg_migrated_ve_fact *fact)
{
	struct mono at;

	if (place_has_lost_its_node(migrated, ve) || fact->want != MSG_MIGRATED_WANT_RUN)
		return false;
	at = backed_off(migrated, ve, place, fact);
	if (mono_due(at, migrated->now))
		return false;
	migrated->place_at = mono_min(migrated->place_at, at);
	return true;
}

/* What is known of the node; and if there is none, why. */
void place_finish(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact)
{
	const struct migrated_ckpt *ckpt;
	uint64_t cpu = choose_cpu(migrated, fact->node);
	char why[sizeof(fact->reason)], all[2 * sizeof(why)];

	if (cpu)
		fact->cpu = cpu;
	if (fact->want != MSG_MIGRATED_WANT_RUN || *fact->node)
		return;
	if (images_choose(migrated, ve, place, fact, &ckpt))
		choose_explain(migrated, fact, ckpt, why, sizeof(why));
	else
		images_explain(ckpt, why, sizeof(why));
	snprintf(all, sizeof(all), "%.100s: %s", fact->reason, why);
	copy_text(fact->reason, sizeof(fact->reason), all);
}

struct migrated_action *place_write(const struct migrated_ve *ve, struct place *place,
    const struct msg_migrated_ve_fact *fact, struct migrated_actions *actions)
{
	struct migrated_action *action = action_add(actions, MIGRATED_WRITE, ve->fact.name);

	place->writing = true;
	copy_text(place->next, sizeof(place->next), fact->node);
	action->fact = *fact;
	action->version = ve->version;
	action->cat_version = ve->cat_version;
	return action;
}

struct place *place_of(struct migrated *migrated, const char *name)
{
	return add_place(migrated, name);
}

bool place_tend(
    struct migrated *migrated, const struct migrated_ve *ve, struct migrated_actions *actions)
{
	struct place *place = add_place(migrated, ve->fact.name);
	struct msg_migrated_ve_fact noted;

	if (!place)
		return false;
	if (place->epoch != ve->fact.epoch) {
		place->epoch = ve->fact.epoch;
		place->since = migrated->now;
	}
	images_look(migrated, ve, place);
	if (place->writing || ask_is_pending(migrated, ve->fact.name) ||
	    ask_is_placing(migrated, ve->fact.group) ||
	    mono_before(migrated->now, place->retry_at) || actions->count == MIGRATED_ACTIONS_MAX)
		return false;
	place->leaving = 0;
	gone_fence(migrated, ve, place, actions);
	if (gone_note(migrated, ve, place, &noted)) {
		place_write(ve, place, &noted, actions)->note = true;
		return false;
	}
	return true;
}

/* A dead node's copy may go on while it renews; one that hangs has to go. */
void place_leave(const struct migrated_ve *ve, struct place *place)
{
	if (place->reported == ve->fact.epoch && place->trouble.runs)
		place->leaving = ve->fact.epoch;
}

static void place_one(
    struct migrated *migrated, const struct migrated_ve *ve, struct migrated_actions *actions)
{
	struct msg_migrated_ve_fact fact;
	struct place *place;

	if (!place_tend(migrated, ve, actions))
		return;
	place = find_place(migrated, ve->fact.name);
	if (!decide(migrated, ve, place, &fact) || place_waits(migrated, ve, place, &fact))
		return;
	if (!place_is_free(migrated, &fact)) {
		place_leave(ve, place);
		return;
	}
	place_finish(migrated, ve, place, &fact);
	place_note_lease(migrated, place_write(ve, place, &fact, actions));
}

void place_all(struct migrated *migrated, struct migrated_actions *actions)
{
	for (size_t i = 0; i < migrated->n_ves; i++)
		if (!*migrated->ves[i].fact.set)
			place_one(migrated, &migrated->ves[i], actions);
}

void place_report(struct migrated *migrated, const struct migrated_event *event)
{
	struct place *place = migrated->mine && find_ve(migrated, event->name)
				  ? add_place(migrated, event->name)
				  : NULL;

	if (!place)
		return;
	if (place->reported != event->epoch)
		place->reported_at = migrated->now;
	place->reported = event->epoch;
	place->told_at = migrated->now;
	place->trouble = (struct migrated_trouble){.kind = event->trouble, .runs = event->runs};
	copy_text(place->trouble.reason, sizeof(place->trouble.reason),
	    event->reason ? event->reason : "");
}

void place_fenced(struct migrated *migrated, const struct migrated_event *event)
{
	struct place *place = migrated->mine ? find_place(migrated, event->name) : NULL;

	/* One that was ended, or of an earlier epoch, confirms nothing. */
	if (!place || place->fencing == 0 || place->fencing != event->epoch)
		return;
	place->fencing = 0;
	if (event->ok) {
		place->vouched = event->epoch;
		return;
	}
	place->tries = place->tried == event->epoch ? place->tries + 1 : 1;
	place->tried = event->epoch;
	copy_text(place->said, sizeof(place->said), event->reason ? event->reason : "");
	place->fence_at =
	    find_ve(migrated, event->name)
		? mono_add(migrated->now,
		      place_backoff(migrated, &find_ve(migrated, event->name)->fact, place->tries))
		: migrated->now;
}

void place_written(struct migrated *migrated, const struct migrated_event *event)
{
	struct place *place = find_place(migrated, event->name);

	if (!place)
		return;
	place->writing = false;
	/* Until the facts have been read again this snapshot must not be acted on twice. */
	distrust_facts(migrated);
	if (event->ok)
		place->settled_at = mono_add_ms(migrated->now, SETTLE_MS);
	else
		place->retry_at = mono_add_ms(migrated->now, migrated->config.retry_ms / 10);
}
