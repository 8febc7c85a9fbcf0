/*
 * VEs that are restored together (depsys paper, section 5: "State restoring is similar to the distributed checkpointing
 * approach. Again, a coordinator initiates the restore and if all nodes agree the system is restored to a consistent state").
 *
 * Members of a set talk to each other, so that one alone that went back to its checkpoint would not know what the others know
 * of it.  ckptd captures them at one instant (ckptd/schedule.h), and here they go back to one instant, all or none:
 *
 *	coordinator				node of a member
 *	one transaction raises the epochs of
 *	all members, names one checkpoint
 *	and says `gathering` ---------------->	the copy before is ended in silence; the next one is begun under a
 *						lease that is `silent`: ved keeps it frozen, its gate shut (launch.c)
 *	      <-------------------------------	renewal of the lease: `ready`, the copy stands.  Or a report: it failed
 *	all are ready: one transaction takes
 *	`gathering` from all ---------------->	the next grant is not silent, and the gate opens
 *	one has failed: one transaction gives
 *	the attempt up with the next epochs ->	all begin again, or none is left running
 *
 * Both transactions check the version of each member's fact, so that of an attempt one of them can be applied and the other
 * not: the facts of all members are one decision cell, swapped once.  A coordinator that dies leaves nothing that its
 * successor does not find there; what is ready, it is told again.
 *
 * The same when a member dies, hangs or loses its node: the others are well, and go back with it.  All rules for one VE hold
 * for each member: nothing is written before every copy that is to move is known to be silent, a copy is begun under a lease
 * only, what fails is tried elsewhere, a checkpoint that fails twice is set aside (for all), tries in a row wait longer.
 * Attempts belong to the set, restarts to the one that ended.
 *
 * The checkpoint is the newest one that all members have.  A member that has none at all joined the set after it, and starts
 * cold, as it was then.  A member that is stopped stays so, unless somebody asks for the set.
 *
 * A silent copy is as one whose lease has run out: ved drops its packets, and freezes it as soon as it is restored (ved/ve.h),
 * so that it is found at the checkpoint, or thereabouts, when it is let go.  Rejected: a fact
 * of its own for the set (its members could disagree with it), and letting go by a message of the coordinator (a lost one
 * leaves half of the set silent; a grant is renewed).  Where ved has no fence there is no gate: a member is heard there as soon
 * as it stands.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "migrated/core.h"

/* --- who --- */

const struct migrated_ve *sets_find(const struct migrated *migrated, const char *set)
{
	for (size_t i = 0; i < migrated->n_ves && *set; i++)
		if (strcmp(migrated->ves[i].fact.set, set) == 0)
			return &migrated->ves[i];
	return NULL;
}

/* All members; only those that are to run. */
static void gather(struct migrated *migrated, const char *set, bool running)
{
	struct gathering *gathering = &migrated->set;

	gathering->n = 0;
	for (size_t i = 0; i < migrated->n_ves && gathering->n < SET_MAX; i++) {
		const struct migrated_ve *ve = &migrated->ves[i];

		if (strcmp(ve->fact.set, set) != 0 ||
		    (running && ve->fact.want != MSG_MIGRATED_WANT_RUN))
			continue;
		gathering->members[gathering->n++] = (struct gathered){
		    .ve = ve, .place = place_of(migrated, ve->fact.name), .fact = ve->fact};
	}
}

bool sets_allow(
    const struct migrated *migrated, const char *name, const char *set, char *why, size_t size)
{
	size_t count = 0;

	for (size_t i = 0; i < migrated->n_ves; i++)
		count += *set && strcmp(migrated->ves[i].fact.set, set) == 0;
	if (*set && (find_ve(migrated, set) || strcmp(set, name) == 0))
		snprintf(why, size, "%s is a VE: a set needs a name of its own", set);
	else if (sets_find(migrated, name))
		snprintf(why, size, "%s is a set: a VE needs a name of its own", name);
	else if (count >= SET_MAX)
		snprintf(
		    why, size, "set %s has %d VEs, no more can go back together", set, SET_MAX);
	else
		return true;
	return false;
}

/* --- from which checkpoint --- */

static const struct migrated_ckpt *ckpt_of(const struct migrated_ve *ve, uint64_t id)
{
	for (size_t i = 0; i < ve->n_ckpts; i++)
		if (ve->ckpts[i].id == id)
			return &ve->ckpts[i];
	return NULL;
}

/* Whoever has checkpoints has this one, and nobody has set it aside. */
static bool is_common(const struct gathering *gathering, uint64_t id)
{
	for (size_t i = 0; i < gathering->n; i++) {
		const struct gathered *member = &gathering->members[i];

		if ((member->ve->n_ckpts && !ckpt_of(member->ve, id)) ||
		    images_is_set_aside(&member->fact, id))
			return false;
	}
	return true;
}

static bool is_reached(
    const struct migrated *migrated, const struct gathering *gathering, uint64_t id)
{
	for (size_t i = 0; i < gathering->n; i++) {
		const struct gathered *member = &gathering->members[i];
		const struct migrated_ckpt *ckpt = ckpt_of(member->ve, id);

		if (ckpt && !images_is_in_reach(migrated, member->ve, member->place, ckpt))
			return false;
	}
	return true;
}

/* The newest one in common, in reach if that is asked; 0: there is none. */
static uint64_t newest(
    const struct migrated *migrated, const struct gathering *gathering, bool reached)
{
	uint64_t best = 0;

	for (size_t i = 0; i < gathering->n; i++) {
		const struct migrated_ve *ve = gathering->members[i].ve;

		for (size_t k = 0; k < ve->n_ckpts; k++) {
			uint64_t id = ve->ckpts[k].id;

			if (id > best && is_common(gathering, id) &&
			    (!reached || is_reached(migrated, gathering, id)))
				best = id;
		}
	}
	return best;
}

static bool has_ckpts(const struct gathering *gathering)
{
	for (size_t i = 0; i < gathering->n; i++)
		if (gathering->members[i].ve->n_ckpts)
			return true;
	return false;
}

/* Some member's image of this one may be back soon: see images.c. */
static bool is_waited_for(
    const struct migrated *migrated, const struct gathering *gathering, uint64_t id)
{
	for (size_t i = 0; i < gathering->n; i++) {
		const struct place *place = gathering->members[i].place;

		if (place->away == id &&
		    mono_before(migrated->now,
			mono_add_ms(place->away_since, migrated->config.image_wait_ms)))
			return true;
	}
	return false;
}

/* What to start from, 0: cold.  False: it waits for the nodes that have the images. */
static bool choose_ckpt(
    const struct migrated *migrated, const struct gathering *gathering, uint64_t *id)
{
	uint64_t reached = newest(migrated, gathering, true);

	*id = newest(migrated, gathering, false);
	if (*id == reached)
		return true;
	if (!reached || is_waited_for(migrated, gathering, *id))
		return false;
	*id = reached;
	return true;
}

/* --- where --- */

/* Those of one set are placed at one moment: each choice counts for the next ones, as if it were being written. */
static void mark(struct gathered *member, bool writing)
{
	member->place->writing = writing;
	if (writing)
		copy_text(member->place->next, sizeof(member->place->next), member->fact.node);
}

static void unmark_all(struct gathering *gathering)
{
	for (size_t i = 0; i < gathering->n; i++)
		mark(&gathering->members[i], false);
}

/* One that is well stays where it is; what hangs, and nothing else silences, is ended there. */
static void place_member(const struct migrated *migrated, struct gathered *member, uint64_t id)
{
	const struct migrated_ckpt *ckpt = ckpt_of(member->ve, id);
	const char *node = member->ve->fact.node;

	if (member->judged == JUDGED_ELSEWHERE)
		node = choose_node(migrated, &member->fact, ckpt, node);
	next_fact(&member->fact, ckpt, node);
	if (member->judged != JUDGED_WELL && !place_has_lost_its_node(migrated, member->ve))
		gone_pin(member->ve, member->place, &member->fact);
	member->fact.gathering = true;
	mark(member, true);
}

/* False: for one of them there is no node. */
static bool place_members(struct migrated *migrated, uint64_t id)
{
	bool all = true;

	for (size_t i = 0; i < migrated->set.n; i++) {
		place_member(migrated, &migrated->set.members[i], id);
		all &= *migrated->set.members[i].fact.node != '\0';
	}
	unmark_all(&migrated->set);
	return all;
}

/*
 * They cannot all be placed: those in trouble have no node until they can, and the others go on as they are: nobody of them
 * is at another state than before.  True: that is news.
 */
static bool leave_waiting(struct gathering *gathering)
{
	size_t kept = 0;

	for (size_t i = 0; i < gathering->n; i++) {
		struct gathered *member = &gathering->members[i];

		if (member->judged == JUDGED_WELL || !*member->ve->fact.node)
			continue;
		memset(member->fact.node, 0, sizeof(member->fact.node));
		member->fact.epoch = member->ve->fact.epoch + 1;
		member->fact.gathering = true;
		member->fact.unfenced = false;
		gathering->members[kept++] = *member;
	}
	gathering->n = kept;
	return kept > 0;
}

/* --- deciding --- */

static void give_all_up(struct gathering *gathering, const char *why, const char *reason)
{
	for (size_t i = 0; i < gathering->n; i++) {
		struct msg_migrated_ve_fact *fact = &gathering->members[i].fact;

		/* One that was given up already has its epoch and its own reason. */
		if (fact->want == MSG_MIGRATED_WANT_RUN)
			place_give_up(fact, why, reason);
		fact->gathering = false;
	}
}

static const struct gathered *first_judged(const struct gathering *gathering, enum judged judged)
{
	for (size_t i = 0; i < gathering->n; i++)
		if (gathering->members[i].judged == judged)
			return &gathering->members[i];
	return NULL;
}

static const struct gathered *first_in_trouble(const struct gathering *gathering)
{
	for (size_t i = 0; i < gathering->n; i++)
		if (gathering->members[i].judged != JUDGED_WELL)
			return &gathering->members[i];
	return NULL;
}

/* A checkpoint that one of them has set aside is of no use to any. */
static void share_set_aside(struct gathering *gathering)
{
	struct msg_migrated_ve_fact *first = &gathering->members[0].fact;

	for (size_t i = 1; i < gathering->n; i++) {
		const struct msg_migrated_ve_fact *fact = &gathering->members[i].fact;

		for (size_t k = 0; k < fact->set_aside.count; k++)
			if (!images_is_set_aside(first, fact->set_aside.item[k]))
				place_set_aside(first, fact->set_aside.item[k]);
	}
	for (size_t i = 1; i < gathering->n; i++) {
		gathering->members[i].fact.set_aside = first->set_aside;
		gathering->members[i].fact.has_set_aside = first->has_set_aside;
	}
}

/* Attempts are those of the set, unless they are over with this checkpoint. */
static void share_attempts(struct gathering *gathering)
{
	uint32_t attempts = 0;

	for (size_t i = 0; i < gathering->n; i++) {
		const struct gathered *member = &gathering->members[i];

		if (member->judged != JUDGED_WELL && member->fact.attempts > attempts)
			attempts = member->fact.attempts;
	}
	for (size_t i = 0; i < gathering->n; i++) {
		struct gathered *member = &gathering->members[i];

		member->fact.attempts =
		    images_is_set_aside(&member->fact, member->ve->fact.start_ckpt) ? 0 : attempts;
	}
}

static void say_why(struct gathering *gathering)
{
	const struct gathered *cause = first_in_trouble(gathering);

	for (size_t i = 0; i < gathering->n; i++)
		if (gathering->members[i].judged == JUDGED_WELL)
			snprintf(gathering->members[i].fact.reason,
			    sizeof(gathering->members[i].fact.reason), "with %.63s: %.170s",
			    cause->fact.name, cause->fact.reason);
}

/* The next facts of all.  False: there is nothing to write. */
static bool decide(struct migrated *migrated)
{
	struct gathering *gathering = &migrated->set;
	const struct gathered *given_up = first_judged(gathering, JUDGED_GIVEN_UP);
	const struct gathered *cause = first_in_trouble(gathering);
	uint64_t id;
	bool there;

	if (given_up) {
		char reason[sizeof(given_up->fact.reason)];

		copy_text(reason, sizeof(reason), given_up->fact.reason);
		give_all_up(gathering, given_up->fact.name, reason);
		return true;
	}
	share_set_aside(gathering);
	share_attempts(gathering);
	say_why(gathering);
	there = choose_ckpt(migrated, gathering, &id);
	if (id == 0 && has_ckpts(gathering)) {
		char reason[sizeof(cause->fact.reason)];

		copy_text(reason, sizeof(reason), cause->fact.reason);
		give_all_up(gathering, "no checkpoint of the set could be restored", reason);
		return true;
	}
	return (there && place_members(migrated, id)) || leave_waiting(gathering);
}

/* --- writing --- */

bool sets_are_free(struct migrated *migrated)
{
	struct gathering *gathering = &migrated->set;
	bool free = true;

	for (size_t i = 0; i < gathering->n; i++) {
		struct gathered *member = &gathering->members[i];

		if (place_is_free(migrated, &member->fact))
			continue;
		place_leave(member->ve, member->place);
		free = false;
	}
	return free;
}

static bool is_anyone_placing(const struct gathering *gathering, const struct migrated *migrated)
{
	for (size_t i = 0; i < gathering->n; i++)
		if (ask_is_placing(migrated, gathering->members[i].fact.group))
			return true;
	return false;
}

void sets_write(struct migrated *migrated, struct migrated_actions *actions)
{
	struct gathering *gathering = &migrated->set;

	for (size_t i = 0; i < gathering->n; i++) {
		struct gathered *member = &gathering->members[i];
		struct migrated_action *action;

		place_finish(migrated, member->ve, member->place, &member->fact);
		action = place_write(member->ve, member->place, &member->fact, actions);
		action->more = i + 1 < gathering->n;
		place_note_lease(migrated, action);
	}
}

/* Every copy stands: they are let go. */
static void let_go(struct migrated *migrated, struct migrated_actions *actions)
{
	struct gathering *gathering = &migrated->set;
	bool any = false;

	for (size_t i = 0; i < gathering->n; i++) {
		const struct gathered *member = &gathering->members[i];

		any |= member->ve->fact.gathering;
		if (member->ve->fact.gathering && member->place->ready != member->ve->fact.epoch)
			return;
	}
	for (size_t i = 0; i < gathering->n && any; i++) {
		struct gathered *member = &gathering->members[i];
		struct migrated_action *action;

		member->fact = member->ve->fact;
		member->fact.gathering = false;
		action = place_write(member->ve, member->place, &member->fact, actions);
		action->note = action->let_go = true;
		action->more = i + 1 < gathering->n;
	}
}

static bool waits(struct migrated *migrated)
{
	bool any = false;

	for (size_t i = 0; i < migrated->set.n; i++) {
		const struct gathered *member = &migrated->set.members[i];

		if (member->judged != JUDGED_WELL)
			any |= place_waits(migrated, member->ve, member->place, &member->fact);
	}
	return any;
}

static void look(struct migrated *migrated, const char *set, struct migrated_actions *actions)
{
	struct gathering *gathering = &migrated->set;
	bool free = !ask_is_pending(migrated, set);

	gather(migrated, set, false);
	for (size_t i = 0; i < gathering->n; i++)
		free &= place_tend(migrated, gathering->members[i].ve, actions);
	gather(migrated, set, true);
	if (!free || actions->count + gathering->n > MIGRATED_ACTIONS_MAX)
		return;
	for (size_t i = 0; i < gathering->n; i++) {
		struct gathered *member = &gathering->members[i];

		member->judged = place_judge(migrated, member->ve, member->place, &member->fact);
	}
	if (!first_in_trouble(gathering)) {
		let_go(migrated, actions);
		return;
	}
	/* Before anything is decided: whose patience is asked for is told by its own count. */
	if (waits(migrated) || !decide(migrated) || is_anyone_placing(gathering, migrated) ||
	    !sets_are_free(migrated))
		return;
	sets_write(migrated, actions);
}

void sets_all(struct migrated *migrated, struct migrated_actions *actions)
{
	for (size_t i = 0; i < migrated->n_ves; i++)
		if (sets_find(migrated, migrated->ves[i].fact.set) == &migrated->ves[i])
			look(migrated, migrated->ves[i].fact.set, actions);
}

/* --- what a client asks for --- */

static enum rpc_status find_asked(const struct gathering *gathering,
    const struct migrated *migrated, const struct migrated_request *request, uint64_t *id,
    char *why, size_t size)
{
	*id = request->ckpt ? request->ckpt : newest(migrated, gathering, false);
	if (request->ckpt && !(has_ckpts(gathering) && is_common(gathering, *id))) {
		snprintf(why, size, "set %s has no checkpoint %u.%u of all its VEs",
		    gathering->members[0].fact.set, (unsigned)(*id >> 32), (unsigned)*id);
		return RPC_NOT_FOUND;
	}
	if (*id == 0 && has_ckpts(gathering)) {
		snprintf(why, size, "the VEs of set %s have no checkpoint in common",
		    gathering->members[0].fact.set);
		return RPC_FAILED;
	}
	return RPC_OK;
}

/* Where it is, if it can be there. */
static enum judged judge_asked(
    const struct migrated *migrated, const struct gathered *member, uint64_t id)
{
	const struct migrated_node *node = find_node(migrated, member->ve->fact.node);
	char why[MIGRATED_REASON / 2];
	bool in_place = node && node->alive &&
			(member->ve->fact.want == MSG_MIGRATED_WANT_RUN ||
			    choose_allows(migrated, &member->fact, ckpt_of(member->ve, id),
				node->name, why, sizeof(why)));

	return in_place ? JUDGED_IN_PLACE : JUDGED_ELSEWHERE;
}

static enum rpc_status explain(const struct migrated *migrated, uint64_t id, char *why, size_t size)
{
	const struct gathering *gathering = &migrated->set;
	char all[MIGRATED_REASON];

	for (size_t i = 0; i < gathering->n; i++) {
		const struct gathered *member = &gathering->members[i];

		if (*member->fact.node)
			continue;
		choose_explain(migrated, &member->fact, ckpt_of(member->ve, id), all, sizeof(all));
		snprintf(why, size, "%.63s: %.180s", member->fact.name, all);
		break;
	}
	return RPC_FAILED;
}

enum rpc_status sets_want(struct migrated *migrated, const struct migrated_ve *ve,
    const struct migrated_request *request, struct msg_migrated_ve_fact *fact, char *why,
    size_t size)
{
	struct gathering *gathering = &migrated->set;
	enum rpc_status status;
	uint64_t id;

	gather(migrated, ve->fact.set, false);
	/* Whoever asks may have mended what was wrong with them. */
	for (size_t i = 0; i < gathering->n; i++) {
		struct msg_migrated_ve_fact *next = &gathering->members[i].fact;

		next->set_aside.count = 0;
		next->restarts = next->attempts = 0;
		next->want = MSG_MIGRATED_WANT_RUN;
		snprintf(next->reason, sizeof(next->reason), "restore of set %s on request",
		    ve->fact.set);
	}
	status = find_asked(gathering, migrated, request, &id, why, size);
	if (status != RPC_OK)
		return status;
	for (size_t i = 0; i < gathering->n; i++)
		gathering->members[i].judged = judge_asked(migrated, &gathering->members[i], id);
	if (!place_members(migrated, id))
		return explain(migrated, id, why, size);
	for (size_t i = 0; i < gathering->n; i++) {
		const struct gathered *member = &gathering->members[i];

		if (ask_is_held(migrated, member->ve, member->fact.node, why, size))
			return RPC_FAILED;
		if (member->ve == ve)
			*fact = member->fact;
	}
	return RPC_OK;
}
