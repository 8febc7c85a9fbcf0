/*
 * The member's side of a round (listing 5.3): one seat for each VE of this node.
 *
 * The journal holds one row for each VE: the newest round and how far it went.  The row is written
 * before the freeze, so a seat that voted and lost its memory cannot vote again for the same round
 * from a second freeze: ids only rise, and what a restart finds before CAPTURED is REFUSED.  That
 * also spares a disk write while the VE stands still.
 *
 * A seat that REFUSED never sends DUMPED, so its round cannot commit and it may thaw without
 * asking anybody.  A seat that sent DUMPED has long been thawed and can wait for the outcome as
 * long as it takes; when it hears nothing it reads the cell (ESTABLISH_NEIGHBOUR_STATE), and when
 * the coordinator is dead, or nobody has decided after `patience` questions, it swaps ABORT.
 */
#include "ckptd/core.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define TO(name) (1u << CKPTD_SEAT_##name)
#define SETTLED (TO(IDLE) | TO(REFUSED) | TO(COMMITTED) | TO(ABORTED))
#define FROZEN (TO(FREEZING) | TO(VOTED) | TO(DUMPING))

/* X(name, allowed successors) */
#define SEAT_STATES(X)                                                                             \
	X(IDLE, TO(FREEZING))                                                                      \
	X(FREEZING, TO(VOTED) | TO(REFUSED) | TO(ABORTED))                                         \
	X(VOTED, TO(DUMPING) | TO(REFUSED) | TO(ABORTED))                                          \
	X(DUMPING, TO(CAPTURED) | TO(REFUSED) | TO(ABORTED))                                       \
	X(CAPTURED, TO(STORED) | TO(REFUSED) | TO(ABORTED))                                        \
	X(STORED, TO(COMMITTED) | TO(ABORTED))                                                     \
	X(REFUSED, TO(FREEZING) | TO(ABORTED))                                                     \
	X(COMMITTED, TO(FREEZING))                                                                 \
	X(ABORTED, TO(FREEZING))

static const struct {
	const char *name;
	unsigned successors;
} states[] = {
#define X(name_, mask) [CKPTD_SEAT_##name_] = {#name_, mask},
    SEAT_STATES(X)
#undef X
};

const char *ckptd_seat_state_name(enum ckptd_seat_state state)
{
	return (size_t)state < sizeof(states) / sizeof(states[0]) ? states[state].name : "?";
}

static bool in(const struct seat *seat, unsigned mask)
{
	return mask & 1u << seat->state;
}

static void move(struct seat *seat, enum ckptd_seat_state to, struct ckptd_actions *actions)
{
	struct ckptd_action *action = ckptd_act(actions, CKPTD_AC_MOVED, seat->id, seat->ve);

	assert(states[seat->state].successors & 1u << to);
	action->from = seat->state;
	action->to = to;
	seat->state = to;
}

static struct seat *find(const struct ckptd *ckptd, const char *ve)
{
	for (size_t i = 0; i < ckptd->config.seats_max; i++) {
		if (ckptd->seats[i].state != CKPTD_SEAT_IDLE && !strcmp(ckptd->seats[i].ve, ve))
			return &ckptd->seats[i];
	}
	return NULL;
}

static struct seat *find_round(const struct ckptd *ckptd, const char *ve, uint64_t id)
{
	struct seat *seat = find(ckptd, ve);

	return seat && seat->id == id ? seat : NULL;
}

/* A free seat, or the settled one with the oldest round. */
static struct seat *find_free(struct ckptd *ckptd)
{
	struct seat *oldest = NULL;

	for (size_t i = 0; i < ckptd->config.seats_max; i++) {
		struct seat *seat = &ckptd->seats[i];

		if (in(seat, SETTLED) && (!oldest || seat->id < oldest->id))
			oldest = seat;
	}
	return oldest;
}

enum ckptd_seat_state ckptd_seat(const struct ckptd *ckptd, const char *ve)
{
	const struct seat *seat = find(ckptd, ve);

	return seat ? seat->state : CKPTD_SEAT_IDLE;
}

bool ckptd_seat_at(const struct ckptd *ckptd, size_t i, struct ckptd_seat_view *out)
{
	for (size_t k = 0; k < ckptd->config.seats_max; k++) {
		const struct seat *seat = &ckptd->seats[k];

		if (seat->state == CKPTD_SEAT_IDLE || i-- > 0)
			continue;
		*out = (struct ckptd_seat_view){seat->ve, seat->id, seat->state};
		return true;
	}
	return false;
}

static void journal(const struct seat *seat, struct ckptd_actions *actions)
{
	struct ckptd_record *record =
	    &ckptd_act(actions, CKPTD_AC_JOURNAL, seat->id, seat->ve)->record;

	ckptd_name_copy(record->ve, seat->ve);
	record->id = seat->id;
	record->ve_epoch = seat->ve_epoch;
	record->coordinator = seat->coordinator;
	record->copies = seat->copies;
	record->state = seat->state;
	record->image = seat->image;
}

static struct ckptd_message *send_to(uint64_t node, enum ckptd_message_kind kind, uint64_t id,
    const char *ve, struct ckptd_actions *actions)
{
	struct ckptd_action *action = ckptd_act(actions, CKPTD_AC_SEND, id, ve);

	action->node = node;
	action->message.kind = kind;
	action->message.id = id;
	ckptd_name_copy(action->message.ve, ve);
	return &action->message;
}

static struct ckptd_message *send(
    const struct seat *seat, enum ckptd_message_kind kind, struct ckptd_actions *actions)
{
	return send_to(seat->coordinator, kind, seat->id, seat->ve, actions);
}

static void send_dumped(const struct seat *seat, struct ckptd_actions *actions)
{
	send(seat, CKPTD_DUMPED, actions)->image = seat->image;
}

static void cell(const struct seat *seat, enum ckptd_cell_op op, struct ckptd_actions *actions)
{
	ckptd_act(actions, CKPTD_AC_CELL, seat->id, seat->ve)->op = op;
}

static void clean(const struct seat *seat, bool keep, struct ckptd_actions *actions)
{
	struct ckptd_action *action = ckptd_act(actions, CKPTD_AC_CLEAN, seat->id, seat->ve);

	action->keep = keep;
	action->image = seat->image;
}

/* Something for ved or gosd of this node to do. */
static void local(
    const struct seat *seat, enum ckptd_action_kind kind, struct ckptd_actions *actions)
{
	struct ckptd_action *action = ckptd_act(actions, kind, seat->id, seat->ve);

	action->ve_epoch = seat->ve_epoch;
	action->copies = seat->copies;
}

/* From here on the round cannot commit: thaw first, ask nobody. */
static void refuse(struct seat *seat, enum ckptd_reason reason, struct ckptd_actions *actions)
{
	bool frozen = in(seat, FROZEN);

	move(seat, CKPTD_SEAT_REFUSED, actions);
	seat->deadline = MONO_NEVER;
	journal(seat, actions);
	if (frozen)
		local(seat, CKPTD_AC_THAW, actions);
	send(seat, CKPTD_VOTE_ABORT, actions)->reason = reason;
	clean(seat, false, actions);
}

static void settle(struct seat *seat, bool commit, struct ckptd_actions *actions)
{
	bool frozen = in(seat, FROZEN);

	move(seat, commit ? CKPTD_SEAT_COMMITTED : CKPTD_SEAT_ABORTED, actions);
	seat->resume = false;
	seat->deadline = MONO_NEVER;
	if (frozen)
		local(seat, CKPTD_AC_THAW, actions);
	journal(seat, actions);
	clean(seat, commit, actions);
}

static void vote_abort(const struct ckptd_event *event, enum ckptd_reason reason, uint64_t last_id,
    struct ckptd_actions *actions)
{
	struct ckptd_message *message =
	    send_to(event->node, CKPTD_VOTE_ABORT, event->message->id, event->message->ve, actions);

	message->reason = reason;
	message->last_id = last_id;
}

static void sit_down(struct ckptd *ckptd, struct seat *seat, const struct ckptd_event *event,
    struct ckptd_actions *actions)
{
	const struct ckptd_message *message = event->message;

	if (seat->resume)
		clean(seat, seat->state == CKPTD_SEAT_COMMITTED, actions);
	if (seat->ve[0] && strcmp(seat->ve, message->ve) != 0)
		ckptd_act(actions, CKPTD_AC_FORGET, seat->id, seat->ve);
	seat->resume = false;
	seat->id = message->id;
	ckptd_name_copy(seat->ve, message->ve);
	seat->ve_epoch = message->ve_epoch;
	seat->coordinator = event->node;
	seat->copies = message->copies;
	seat->tries = 0;
	memset(&seat->image, 0, sizeof(seat->image));
	seat->deadline = mono_add_ms(event->now, ckptd->config.hold_ms);
	move(seat, CKPTD_SEAT_FREEZING, actions);
	journal(seat, actions);
	local(seat, CKPTD_AC_FREEZE, actions);
}

/* A repeated request gets the answer it got before, if there was one. */
static void vote_again(struct seat *seat, struct ckptd_actions *actions)
{
	if (in(seat, TO(VOTED) | TO(DUMPING) | TO(CAPTURED) | TO(STORED)))
		send(seat, CKPTD_VOTE_COMMIT, actions);
	else if (in(seat, TO(REFUSED) | TO(ABORTED)))
		send(seat, CKPTD_VOTE_ABORT, actions)->reason = CKPTD_REASON_STALE;
}

static void vote_request(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct seat *seat = find(ckptd, event->message->ve);

	if (seat && seat->id == event->message->id) {
		if (seat->coordinator == event->node && !seat->resume)
			vote_again(seat, actions);
		return;
	}
	if (seat && seat->id > event->message->id) {
		vote_abort(event, CKPTD_REASON_STALE, seat->id, actions);
		return;
	}
	if (seat && !in(seat, SETTLED)) {
		vote_abort(event, CKPTD_REASON_BUSY, 0, actions);
		if (seat->state == CKPTD_SEAT_STORED)
			seat->deadline = event->now;
		return;
	}
	if (!seat)
		seat = find_free(ckptd);
	if (seat)
		sit_down(ckptd, seat, event, actions);
	else
		vote_abort(event, CKPTD_REASON_FULL, 0, actions);
}

static void dump(struct ckptd *ckptd, struct seat *seat, const struct ckptd_event *event,
    struct ckptd_actions *actions)
{
	if (seat->resume)
		return;
	switch (seat->state) {
	case CKPTD_SEAT_VOTED:
		move(seat, CKPTD_SEAT_DUMPING, actions);
		seat->deadline = mono_add_ms(event->now, ckptd->config.dump_ms);
		local(seat, CKPTD_AC_DUMP, actions);
		break;
	case CKPTD_SEAT_STORED:
		send_dumped(seat, actions);
		break;
	case CKPTD_SEAT_REFUSED:
	case CKPTD_SEAT_ABORTED:
		vote_abort(event, CKPTD_REASON_STALE, 0, actions);
		break;
	default:
		break;
	}
}

static void outcome(struct seat *seat, bool commit, struct ckptd_actions *actions)
{
	if (seat->state == CKPTD_SEAT_COMMITTED || seat->state == CKPTD_SEAT_ABORTED)
		return;
	if (commit && seat->state != CKPTD_SEAT_STORED) {
		ckptd_act(actions, CKPTD_AC_BUG, seat->id, seat->ve)->text =
		    "a round is committed without this member's image";
		return;
	}
	settle(seat, commit, actions);
}

void seat_message(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	const struct ckptd_message *message = event->message;
	struct seat *seat;

	if (message->kind == CKPTD_VOTE_REQUEST) {
		vote_request(ckptd, event, actions);
		return;
	}
	seat = find_round(ckptd, message->ve, message->id);
	if (!seat) {
		if (message->kind == CKPTD_DUMP)
			vote_abort(event, CKPTD_REASON_STALE, 0, actions);
		return;
	}
	if (seat->coordinator != event->node)
		return;
	if (message->kind == CKPTD_DUMP)
		dump(ckptd, seat, event, actions);
	else
		outcome(seat, message->kind == CKPTD_GLOBAL_COMMIT, actions);
}

void seat_frozen(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct seat *seat = find_round(ckptd, event->ve, event->id);

	if (!seat || seat->state != CKPTD_SEAT_FREEZING || seat->resume) {
		/* too late: nobody waits for this freeze any more */
		if (event->result == 0 && !(seat && in(seat, FROZEN)))
			ckptd_act(actions, CKPTD_AC_THAW, event->id, event->ve)->ve_epoch =
			    event->epoch;
		return;
	}
	if (event->result < 0) {
		refuse(seat, event->result == -EAGAIN ? CKPTD_REASON_UNWELL : CKPTD_REASON_FREEZE,
		    actions);
		return;
	}
	move(seat, CKPTD_SEAT_VOTED, actions);
	seat->deadline = mono_add_ms(event->now, ckptd->config.hold_ms);
	send(seat, CKPTD_VOTE_COMMIT, actions);
}

void seat_captured(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct seat *seat = find_round(ckptd, event->ve, event->id);

	if (!seat || seat->state != CKPTD_SEAT_DUMPING) {
		ckptd_act(actions, CKPTD_AC_CLEAN, event->id, event->ve);
		return;
	}
	if (event->result < 0) {
		refuse(seat, CKPTD_REASON_DUMP, actions);
		return;
	}
	seat->image.frozen_ms = event->image.frozen_ms;
	move(seat, CKPTD_SEAT_CAPTURED, actions);
	seat->deadline = mono_add_ms(event->now, ckptd->config.dump_ms);
	local(seat, CKPTD_AC_THAW, actions);
	journal(seat, actions);
	local(seat, CKPTD_AC_STORE, actions);
}

void seat_stored(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct seat *seat = find_round(ckptd, event->ve, event->id);
	struct ckptd_action *action;
	uint32_t frozen_ms;

	if (!seat || seat->state != CKPTD_SEAT_CAPTURED) {
		/* the round is over for this seat: the object is nobody's */
		if (event->result == 0 && !(seat && in(seat, TO(STORED) | TO(COMMITTED)))) {
			action = ckptd_act(actions, CKPTD_AC_CLEAN, event->id, event->ve);
			action->image = event->image;
		}
		return;
	}
	if (event->result < 0) {
		refuse(seat, CKPTD_REASON_STORE, actions);
		return;
	}
	frozen_ms = seat->image.frozen_ms;
	seat->image = event->image;
	seat->image.frozen_ms = frozen_ms;
	move(seat, CKPTD_SEAT_STORED, actions);
	seat->deadline = mono_add_ms(event->now, ckptd->config.outcome_ms);
	journal(seat, actions);
	send_dumped(seat, actions);
}

void seat_cell(struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct seat *seat = find_round(ckptd, event->ve, event->id);

	if (!seat || seat->state != CKPTD_SEAT_STORED)
		return;
	switch (event->decision) {
	case CKPTD_COMMIT:
		settle(seat, true, actions);
		break;
	case CKPTD_ABORT:
	case CKPTD_ABSENT: /* swept: only rounds whose images nobody needs are */
		settle(seat, false, actions);
		break;
	case CKPTD_UNDECIDED:
		seat->deadline = mono_add_ms(event->now, ckptd->config.outcome_ms);
		if (++seat->tries >= ckptd->config.patience) {
			cell(seat, CKPTD_CELL_ABORT, actions);
			break;
		}
		ckptd_act(actions, CKPTD_AC_STATUS, seat->id, seat->ve)->node = seat->coordinator;
		break;
	case CKPTD_UNKNOWN:
		seat->deadline = mono_add_ms(event->now, ckptd->config.outcome_ms);
		break;
	}
}

void seat_status(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	struct seat *seat = find_round(ckptd, event->ve, event->id);

	if (seat && seat->state == CKPTD_SEAT_STORED && event->status == CKPTD_STATUS_DEAD)
		cell(seat, CKPTD_CELL_ABORT, actions);
}

/* What a restart found: the freeze is lost before CAPTURED, and kept work goes on after it. */
static void resume(
    struct ckptd *ckptd, struct seat *seat, struct mono now, struct ckptd_actions *actions)
{
	seat->resume = false;
	seat->deadline = MONO_NEVER;
	switch (seat->state) {
	case CKPTD_SEAT_FREEZING:
	case CKPTD_SEAT_VOTED:
	case CKPTD_SEAT_DUMPING:
		refuse(seat, CKPTD_REASON_RESTART, actions);
		break;
	case CKPTD_SEAT_CAPTURED:
		seat->deadline = mono_add_ms(now, ckptd->config.dump_ms);
		local(seat, CKPTD_AC_THAW, actions);
		local(seat, CKPTD_AC_STORE, actions);
		break;
	case CKPTD_SEAT_STORED:
		seat->deadline = mono_add_ms(now, ckptd->config.outcome_ms);
		send_dumped(seat, actions);
		break;
	default:
		/* its cleaning may not have happened before the crash */
		clean(seat, seat->state == CKPTD_SEAT_COMMITTED, actions);
		break;
	}
}

void seat_timeout(
    struct ckptd *ckptd, struct seat *seat, struct mono now, struct ckptd_actions *actions)
{
	if (seat->resume) {
		resume(ckptd, seat, now, actions);
		return;
	}
	switch (seat->state) {
	case CKPTD_SEAT_FREEZING:
		refuse(seat, CKPTD_REASON_FREEZE, actions);
		break;
	case CKPTD_SEAT_VOTED:
		refuse(seat, CKPTD_REASON_TIMER, actions);
		break;
	case CKPTD_SEAT_DUMPING:
		refuse(seat, CKPTD_REASON_DUMP, actions);
		break;
	case CKPTD_SEAT_CAPTURED:
		refuse(seat, CKPTD_REASON_STORE, actions);
		break;
	case CKPTD_SEAT_STORED:
		seat->deadline = mono_add_ms(now, ckptd->config.outcome_ms);
		cell(seat, CKPTD_CELL_READ, actions);
		break;
	default:
		seat->deadline = MONO_NEVER;
		break;
	}
}

void seat_load(struct ckptd *ckptd, const struct ckptd_record *record, struct mono now)
{
	struct seat *seat = find_free(ckptd);

	if (!seat || record->state == CKPTD_SEAT_IDLE ||
	    (size_t)record->state >= sizeof(states) / sizeof(states[0]))
		return;
	memset(seat, 0, sizeof(*seat));
	ckptd_name_copy(seat->ve, record->ve);
	seat->id = record->id;
	seat->ve_epoch = record->ve_epoch;
	seat->coordinator = record->coordinator;
	seat->copies = record->copies;
	seat->image = record->image;
	seat->state = record->state;
	seat->resume = true;
	seat->deadline = now;
}

void seat_check(const struct seat *seat)
{
	bool timed = !mono_is_never(seat->deadline);

	assert(timed == (!in(seat, SETTLED) || seat->resume));
	assert(in(seat, TO(IDLE)) == (seat->ve[0] == 0));
	assert(!in(seat, TO(STORED) | TO(COMMITTED)) || seat->image.oid[0]);
}
