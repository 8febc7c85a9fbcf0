/*
 * The coordinator's side of a round (listing 5.2).
 *
 * The coordinator keeps no journal of rounds: the cell in metad is the round.  After a crash the
 * cells still UNDECIDED are found by a scan and aborted (ORPHAN), whoever is coordinator then.
 * Only the last id given out is journaled, because a seat takes part in an id once.
 *
 * As long as it has not tried to COMMIT, the coordinator is the only one who could, so its own
 * GLOBAL_ABORT is true before the cell says so and frozen members need not wait for metad.  After
 * the try only the cell knows.
 */
#include "ckptd/core.h"

#include <assert.h>
#include <string.h>

#define TO(name) (1u << ROUND_##name)

static const unsigned successors[] = {
#define X(name, mask) [ROUND_##name] = mask,
    ROUND_STATES(X)
#undef X
};

static void move(struct round *round, enum round_state to)
{
	assert(successors[round->state] & 1u << to);
	round->state = to;
}

static struct round *find(struct ckptd *ckptd, uint64_t id)
{
	for (size_t i = 0; i < ckptd->config.rounds_max; i++) {
		if (ckptd->rounds[i].state != ROUND_FREE && ckptd->rounds[i].id == id)
			return &ckptd->rounds[i];
	}
	return NULL;
}

const struct round *round_find(const struct ckptd *ckptd, uint64_t id)
{
	return find((struct ckptd *)ckptd, id);
}

static struct round *find_free(struct ckptd *ckptd)
{
	for (size_t i = 0; i < ckptd->config.rounds_max; i++) {
		if (ckptd->rounds[i].state == ROUND_FREE)
			return &ckptd->rounds[i];
	}
	return NULL;
}

static struct round_member *find_member(struct round *round, const char *ve, uint64_t node)
{
	for (size_t i = 0; i < round->n_members; i++) {
		if (round->members[i].node == node && !strcmp(round->members[i].ve, ve))
			return &round->members[i];
	}
	return NULL;
}

static bool in_open_round(const struct ckptd *ckptd, const char *ve)
{
	for (size_t i = 0; i < ckptd->config.rounds_max; i++) {
		const struct round *round = &ckptd->rounds[i];

		if (round->state == ROUND_FREE || round->state == ROUND_ASKING)
			continue;
		for (size_t k = 0; k < round->n_members; k++) {
			if (!strcmp(round->members[k].ve, ve))
				return true;
		}
	}
	return false;
}

bool ckptd_ve_busy(const struct ckptd *ckptd, const char *ve)
{
	return in_open_round(ckptd, ve);
}

static void send(const struct round *round, const struct round_member *member,
    enum ckptd_message_kind kind, struct ckptd_actions *actions)
{
	struct ckptd_action *action = ckptd_act(actions, CKPTD_AC_SEND, round->id, member->ve);

	action->node = member->node;
	action->message.kind = kind;
	action->message.id = round->id;
	ckptd_name_copy(action->message.ve, member->ve);
	if (kind == CKPTD_VOTE_REQUEST) {
		action->message.ve_epoch = member->ve_epoch;
		action->message.copies = member->copies;
	}
	if (kind == CKPTD_GLOBAL_ABORT)
		action->message.reason = round->reason;
}

static void send_all(
    const struct round *round, enum ckptd_message_kind kind, struct ckptd_actions *actions)
{
	for (size_t i = 0; i < round->n_members; i++)
		send(round, &round->members[i], kind, actions);
}

static void cell(const struct round *round, enum ckptd_cell_op op, struct ckptd_actions *actions)
{
	ckptd_act(actions, CKPTD_AC_CELL, round->id, "")->op = op;
}

static void set_resend(const struct ckptd *ckptd, struct round *round, struct mono now)
{
	round->resend =
	    ckptd->config.resend_ms ? mono_add_ms(now, ckptd->config.resend_ms) : MONO_NEVER;
}

static void release(struct round *round)
{
	struct round_member *members = round->members;

	move(round, ROUND_FREE);
	memset(members, 0, round->n_members * sizeof(*members));
	*round = (struct round){.members = members, .deadline = MONO_NEVER, .resend = MONO_NEVER};
}

static void refuse(enum ckptd_reason reason, const char *ve, struct ckptd_actions *actions)
{
	ckptd_act(actions, CKPTD_AC_ABORTED, 0, ve)->reason = reason;
}

static void fill(struct round *round, const struct ckptd_event *event)
{
	round->n_members = event->n_places;
	round->blame = round->n_members;
	for (size_t i = 0; i < event->n_places; i++) {
		struct round_member *member = &round->members[i];

		memset(member, 0, sizeof(*member));
		ckptd_name_copy(member->ve, event->places[i].ve);
		member->ve_epoch = event->places[i].ve_epoch;
		member->node = event->places[i].node;
		member->copies = event->places[i].copies;
	}
}

/* Ids rise with the coordinator's epoch, so that a deposed one's requests are old everywhere. */
static uint64_t next_id(struct ckptd *ckptd)
{
	uint64_t first = ckptd->epoch << 32 | 1;

	ckptd->last_id = ckptd->last_id + 1 > first ? ckptd->last_id + 1 : first;
	return ckptd->last_id;
}

void round_begin(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct round *round = find_free(ckptd);

	if (!ckptd->mine) {
		refuse(CKPTD_REASON_DEPOSED, "", actions);
		return;
	}
	for (size_t i = 0; i < event->n_places; i++) {
		if (in_open_round(ckptd, event->places[i].ve)) {
			refuse(CKPTD_REASON_BUSY, event->places[i].ve, actions);
			return;
		}
	}
	if (!round || !event->n_places || event->n_places > ckptd->config.round_members_max) {
		refuse(CKPTD_REASON_FULL, "", actions);
		return;
	}
	fill(round, event);
	round->id = next_id(ckptd);
	move(round, ROUND_CREATING);
	round->deadline = mono_add_ms(event->now, ckptd->config.dump_ms);
	ckptd_act(actions, CKPTD_AC_JOURNAL_ID, round->id, "");
	ckptd_act(actions, CKPTD_AC_BEGUN, round->id, "");
	cell(round, CKPTD_CELL_CREATE, actions);
}

void round_orphan(struct ckptd *ckptd, uint64_t id, struct ckptd_actions *actions)
{
	if (!find(ckptd, id))
		ckptd_act(actions, CKPTD_AC_CELL, id, "")->op = CKPTD_CELL_ABORT;
}

static void abort_round(struct ckptd *ckptd, struct round *round, enum ckptd_reason reason,
    const struct round_member *blame, struct mono now, struct ckptd_actions *actions)
{
	if (round->reason == CKPTD_REASON_NONE)
		round->reason = reason;
	if (blame)
		round->blame = (size_t)(blame - round->members);
	move(round, ROUND_ABORTING);
	round->resend = MONO_NEVER;
	round->deadline = mono_add_ms(now, ckptd->config.dump_ms);
	if (!round->commit_tried)
		send_all(round, CKPTD_GLOBAL_ABORT, actions);
	cell(round, CKPTD_CELL_ABORT, actions);
}

static void committed(struct round *round, struct ckptd_actions *actions)
{
	send_all(round, CKPTD_GLOBAL_COMMIT, actions);
	ckptd_act(actions, CKPTD_AC_COMMITTED, round->id, "");
}

/* ESTABLISH_CONNECTION_STATUS: what became of those that did not answer? */
static bool ask_about_silent(const struct round *round, struct ckptd_actions *actions)
{
	bool any = false;

	for (size_t i = 0; i < round->n_members; i++) {
		if (!round->members[i].asking)
			continue;
		ckptd_act(actions, CKPTD_AC_STATUS, round->id, "")->node = round->members[i].node;
		any = true;
	}
	return any;
}

static void aborted(
    struct ckptd *ckptd, struct round *round, struct mono now, struct ckptd_actions *actions)
{
	struct ckptd_action *action;

	if (round->commit_tried)
		send_all(round, CKPTD_GLOBAL_ABORT, actions);
	action = ckptd_act(actions, CKPTD_AC_ABORTED, round->id, "");
	action->reason = round->reason;
	if (round->blame < round->n_members) {
		ckptd_name_copy(action->ve, round->members[round->blame].ve);
		action->node = round->members[round->blame].node;
	}
	if (!ask_about_silent(round, actions)) {
		release(round);
		return;
	}
	move(round, ROUND_ASKING);
	round->deadline = mono_add_ms(now, ckptd->config.vote_ms);
}

static void created(struct ckptd *ckptd, struct round *round, const struct ckptd_event *event,
    struct ckptd_actions *actions)
{
	if (event->decision != CKPTD_UNDECIDED) {
		abort_round(
		    ckptd, round, CKPTD_REASON_STORE_UNREACHABLE, NULL, event->now, actions);
		return;
	}
	move(round, ROUND_VOTING);
	round->deadline = mono_add_ms(event->now, ckptd->config.vote_ms);
	set_resend(ckptd, round, event->now);
	send_all(round, CKPTD_VOTE_REQUEST, actions);
}

/* The answer to COMMIT: UNDECIDED means that the facts it depends on have changed. */
static void commit_answered(struct ckptd *ckptd, struct round *round,
    const struct ckptd_event *event, struct ckptd_actions *actions)
{
	switch (event->decision) {
	case CKPTD_COMMIT:
		committed(round, actions);
		release(round);
		break;
	case CKPTD_ABORT:
		round->reason = CKPTD_REASON_OUTCOME;
		aborted(ckptd, round, event->now, actions);
		break;
	case CKPTD_UNDECIDED:
	case CKPTD_ABSENT:
		abort_round(ckptd, round, CKPTD_REASON_FACTS, NULL, event->now, actions);
		break;
	case CKPTD_UNKNOWN:
		round->deadline = mono_add_ms(event->now, CKPTD_RETRY_MS);
		break;
	}
}

static void abort_answered(struct ckptd *ckptd, struct round *round,
    const struct ckptd_event *event, struct ckptd_actions *actions)
{
	switch (event->decision) {
	case CKPTD_COMMIT:
		if (!round->commit_tried)
			ckptd_act(actions, CKPTD_AC_BUG, round->id, "")->text =
			    "a round is committed that its coordinator did not commit";
		committed(round, actions);
		release(round);
		break;
	case CKPTD_ABORT:
		aborted(ckptd, round, event->now, actions);
		break;
	case CKPTD_UNDECIDED:
	case CKPTD_ABSENT:
	case CKPTD_UNKNOWN:
		round->deadline = mono_add_ms(event->now, CKPTD_RETRY_MS);
		break;
	}
}

void round_cell(struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct round *round = find(ckptd, event->id);

	if (!round)
		return;
	if (round->state == ROUND_CREATING && event->op == CKPTD_CELL_CREATE)
		created(ckptd, round, event, actions);
	else if (round->state == ROUND_COMMITTING && event->op == CKPTD_CELL_COMMIT)
		commit_answered(ckptd, round, event, actions);
	else if (round->state == ROUND_ABORTING && event->op == CKPTD_CELL_ABORT)
		abort_answered(ckptd, round, event, actions);
}

static bool all_frozen(const struct round *round)
{
	for (size_t i = 0; i < round->n_members; i++) {
		if (!round->members[i].frozen)
			return false;
	}
	return true;
}

static bool all_durable(const struct round *round)
{
	for (size_t i = 0; i < round->n_members; i++) {
		if (!round->members[i].durable)
			return false;
	}
	return true;
}

static void try_commit(
    struct ckptd *ckptd, struct round *round, struct mono now, struct ckptd_actions *actions)
{
	round->commit_tried = true;
	round->tries++;
	round->deadline = mono_add_ms(now, ckptd->config.dump_ms);
	cell(round, CKPTD_CELL_COMMIT, actions);
}

static void vote_commit(struct ckptd *ckptd, struct round *round, struct round_member *member,
    struct mono now, struct ckptd_actions *actions)
{
	member->frozen = true;
	if (round->state != ROUND_VOTING || !all_frozen(round))
		return;
	move(round, ROUND_DUMPING);
	round->deadline = mono_add_ms(now, ckptd->config.dump_ms);
	set_resend(ckptd, round, now);
	send_all(round, CKPTD_DUMP, actions);
}

static void dumped(struct ckptd *ckptd, struct round *round, struct round_member *member,
    const struct ckptd_event *event, struct ckptd_actions *actions)
{
	if (round->state != ROUND_DUMPING || member->durable)
		return;
	member->durable = true;
	member->image = event->message->image;
	if (!all_durable(round))
		return;
	move(round, ROUND_COMMITTING);
	round->resend = MONO_NEVER;
	try_commit(ckptd, round, event->now, actions);
}

/* A stale id heals itself: the next round starts above what the seat has seen. */
static void learn_last_id(struct ckptd *ckptd, const struct ckptd_message *message)
{
	if (message->last_id > ckptd->last_id && message->last_id >> 32 <= ckptd->epoch)
		ckptd->last_id = message->last_id;
}

void round_message(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	const struct ckptd_message *message = event->message;
	struct round *round = find(ckptd, message->id);
	struct round_member *member;

	if (!round)
		return;
	member = find_member(round, message->ve, event->node);
	if (!member)
		return;
	switch (message->kind) {
	case CKPTD_VOTE_COMMIT:
		vote_commit(ckptd, round, member, event->now, actions);
		break;
	case CKPTD_DUMPED:
		dumped(ckptd, round, member, event, actions);
		break;
	case CKPTD_VOTE_ABORT:
		learn_last_id(ckptd, message);
		if (round->state == ROUND_VOTING || round->state == ROUND_DUMPING)
			abort_round(ckptd, round, message->reason, member, event->now, actions);
		break;
	default:
		break;
	}
}

void round_status(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct round *round = find(ckptd, event->id);
	struct ckptd_action *action = NULL;
	bool open = false;

	if (!round || round->state != ROUND_ASKING)
		return;
	for (size_t i = 0; i < round->n_members; i++) {
		struct round_member *member = &round->members[i];

		if (member->asking && member->node == event->node) {
			member->asking = false;
			action = action
				     ? action
				     : ckptd_act(actions, CKPTD_AC_VERDICT, round->id, member->ve);
			action->node = event->node;
			action->status = event->status;
		}
		open |= member->asking;
	}
	if (!open)
		release(round);
}

static void silence(
    struct ckptd *ckptd, struct round *round, struct mono now, struct ckptd_actions *actions)
{
	struct round_member *first = NULL;

	for (size_t i = round->n_members; i-- > 0;) {
		struct round_member *member = &round->members[i];

		member->asking = round->state == ROUND_VOTING ? !member->frozen : !member->durable;
		if (member->asking)
			first = member;
	}
	abort_round(ckptd, round, CKPTD_REASON_SILENT, first, now, actions);
}

static void resend(
    struct ckptd *ckptd, struct round *round, struct mono now, struct ckptd_actions *actions)
{
	for (size_t i = 0; i < round->n_members; i++) {
		if (round->state == ROUND_VOTING && !round->members[i].frozen)
			send(round, &round->members[i], CKPTD_VOTE_REQUEST, actions);
		if (round->state == ROUND_DUMPING && !round->members[i].durable)
			send(round, &round->members[i], CKPTD_DUMP, actions);
	}
	set_resend(ckptd, round, now);
}

static void expired(
    struct ckptd *ckptd, struct round *round, struct mono now, struct ckptd_actions *actions)
{
	switch (round->state) {
	case ROUND_FREE:
		break;
	case ROUND_CREATING:
		abort_round(ckptd, round, CKPTD_REASON_STORE_UNREACHABLE, NULL, now, actions);
		break;
	case ROUND_VOTING:
	case ROUND_DUMPING:
		silence(ckptd, round, now, actions);
		break;
	case ROUND_COMMITTING:
		if (round->tries < ckptd->config.patience)
			try_commit(ckptd, round, now, actions);
		else
			abort_round(
			    ckptd, round, CKPTD_REASON_STORE_UNREACHABLE, NULL, now, actions);
		break;
	case ROUND_ABORTING:
		round->deadline = mono_add_ms(now, ckptd->config.dump_ms);
		cell(round, CKPTD_CELL_ABORT, actions);
		break;
	case ROUND_ASKING:
		release(round);
		break;
	}
}

void round_timeout(
    struct ckptd *ckptd, struct round *round, struct mono now, struct ckptd_actions *actions)
{
	bool abortable = round->state == ROUND_CREATING || round->state == ROUND_VOTING ||
			 round->state == ROUND_DUMPING;

	if (round->deposed && abortable)
		abort_round(ckptd, round, CKPTD_REASON_DEPOSED, NULL, now, actions);
	else if (mono_due(round->deadline, now))
		expired(ckptd, round, now, actions);
	else
		resend(ckptd, round, now, actions);
}

/* The successor will find the cell too; aborting now only frees the members sooner. */
void round_deposed(struct round *round, struct mono now)
{
	if (round->state != ROUND_CREATING && round->state != ROUND_VOTING &&
	    round->state != ROUND_DUMPING)
		return;
	round->deposed = true;
	round->deadline = now;
}

struct mono round_deadline(const struct round *round)
{
	return mono_min(round->deadline, round->resend);
}

size_t ckptd_round_size(const struct ckptd *ckptd, uint64_t id)
{
	const struct round *round = round_find(ckptd, id);

	return round ? round->n_members : 0;
}

bool ckptd_round_member(
    const struct ckptd *ckptd, uint64_t id, size_t i, struct ckptd_member_view *out)
{
	const struct round *round = round_find(ckptd, id);
	const struct round_member *member;

	if (!round || i >= round->n_members)
		return false;
	member = &round->members[i];
	*out = (struct ckptd_member_view){
	    .ve = member->ve,
	    .ve_epoch = member->ve_epoch,
	    .node = member->node,
	    .image = member->durable ? &member->image : NULL,
	};
	return true;
}

bool ckptd_round_open(const struct ckptd *ckptd, uint64_t id)
{
	return round_find(ckptd, id) != NULL;
}

void round_check(const struct ckptd *ckptd, const struct round *round)
{
	if (round->state == ROUND_FREE) {
		assert(mono_is_never(round->deadline) && mono_is_never(round->resend));
		return;
	}
	assert(!mono_is_never(round->deadline));
	assert(round->n_members && round->n_members <= ckptd->config.round_members_max);
	if (round->state >= ROUND_DUMPING && round->state <= ROUND_COMMITTING)
		assert(all_frozen(round));
	if (round->commit_tried)
		assert(all_durable(round));
}
