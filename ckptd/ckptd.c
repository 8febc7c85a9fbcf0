#include "ckptd/core.h"

#include "common/rng.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *ckptd_reason_text(enum ckptd_reason reason)
{
	static const char *const texts[] = {
#define X(name, text) [CKPTD_REASON_##name] = text,
	    CKPTD_REASONS(X)
#undef X
	};

	return (size_t)reason < sizeof(texts) / sizeof(texts[0]) ? texts[reason] : "unknown reason";
}

int ckptd_new(struct ckptd **out, const struct ckptd_config *config)
{
	struct ckptd *ckptd;
	size_t n = config->rounds_max;

	if (!n || !config->seats_max || !config->round_members_max ||
	    config->round_members_max > CKPTD_ROUND_MEMBERS_MAX)
		return -EINVAL;
	ckptd = calloc(1, sizeof(*ckptd));
	if (!ckptd)
		return -ENOMEM;
	ckptd->config = *config;
	ckptd->rounds = calloc(n, sizeof(*ckptd->rounds));
	ckptd->members = calloc(n * config->round_members_max, sizeof(*ckptd->members));
	ckptd->seats = calloc(config->seats_max, sizeof(*ckptd->seats));
	if (!ckptd->rounds || !ckptd->members || !ckptd->seats) {
		ckptd_free(ckptd);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		ckptd->rounds[i].members = &ckptd->members[i * config->round_members_max];
		ckptd->rounds[i].deadline = ckptd->rounds[i].resend = MONO_NEVER;
	}
	for (size_t i = 0; i < config->seats_max; i++)
		ckptd->seats[i].deadline = MONO_NEVER;
	*out = ckptd;
	return 0;
}

struct ckptd *ckptd_free(struct ckptd *ckptd)
{
	if (!ckptd)
		return NULL;
	free(ckptd->rounds);
	free(ckptd->members);
	free(ckptd->seats);
	free(ckptd);
	return NULL;
}

struct ckptd_action *ckptd_act(
    struct ckptd_actions *actions, enum ckptd_action_kind kind, uint64_t id, const char *ve)
{
	struct ckptd_action *action;

	assert(actions->n < CKPTD_ACTIONS_MAX);
	action = &actions->list[actions->n++];
	memset(action, 0, sizeof(*action));
	action->kind = kind;
	action->id = id;
	ckptd_name_copy(action->ve, ve);
	return action;
}

void ckptd_name_copy(char to[static CKPTD_VE_SIZE], const char *from)
{
	size_t length = strnlen(from, CKPTD_VE_SIZE - 1);

	memset(to, 0, CKPTD_VE_SIZE);
	memcpy(to, from, length);
}

static void start(struct ckptd *ckptd, const struct ckptd_event *event)
{
	if (event->last_id > ckptd->last_id)
		ckptd->last_id = event->last_id;
	for (size_t i = 0; i < event->n_journal; i++)
		seat_load(ckptd, &event->journal[i], event->now);
}

static void coordinator_changed(struct ckptd *ckptd, const struct ckptd_event *event)
{
	bool deposed = ckptd->mine && (!event->mine || event->epoch != ckptd->epoch);

	ckptd->mine = event->mine;
	ckptd->epoch = event->epoch;
	for (size_t i = 0; deposed && i < ckptd->config.rounds_max; i++)
		round_deposed(&ckptd->rounds[i], event->now);
}

/* Serves what is due while the actions have room; the rest stays due. */
static void timeout(struct ckptd *ckptd, struct mono now, struct ckptd_actions *actions)
{
	for (size_t i = 0; i < ckptd->config.seats_max; i++) {
		if (actions->n + CKPTD_STEP_ROOM > CKPTD_ACTIONS_MAX)
			return;
		if (mono_due(ckptd->seats[i].deadline, now))
			seat_timeout(ckptd, &ckptd->seats[i], now, actions);
	}
	for (size_t i = 0; i < ckptd->config.rounds_max; i++) {
		if (actions->n + CKPTD_STEP_ROOM > CKPTD_ACTIONS_MAX)
			return;
		if (mono_due(round_deadline(&ckptd->rounds[i]), now))
			round_timeout(ckptd, &ckptd->rounds[i], now, actions);
	}
}

static void message(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	switch (event->message->kind) {
	case CKPTD_VOTE_REQUEST:
	case CKPTD_DUMP:
	case CKPTD_GLOBAL_COMMIT:
	case CKPTD_GLOBAL_ABORT:
		seat_message(ckptd, event, actions);
		break;
	case CKPTD_VOTE_COMMIT:
	case CKPTD_VOTE_ABORT:
	case CKPTD_DUMPED:
		round_message(ckptd, event, actions);
		break;
	}
}

void ckptd_step(struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions)
{
	bool of_seat = event->ve && event->ve[0];

	switch (event->kind) {
	case CKPTD_EV_START:
		start(ckptd, event);
		break;
	case CKPTD_EV_TIMEOUT:
		timeout(ckptd, event->now, actions);
		break;
	case CKPTD_EV_MESSAGE:
		message(ckptd, event, actions);
		break;
	case CKPTD_EV_COORD:
		coordinator_changed(ckptd, event);
		break;
	case CKPTD_EV_BEGIN:
		round_begin(ckptd, event, actions);
		break;
	case CKPTD_EV_ORPHAN:
		round_orphan(ckptd, event->id, actions);
		break;
	case CKPTD_EV_FROZEN:
		seat_frozen(ckptd, event, actions);
		break;
	case CKPTD_EV_CAPTURED:
		seat_captured(ckptd, event, actions);
		break;
	case CKPTD_EV_STORED:
		seat_stored(ckptd, event, actions);
		break;
	case CKPTD_EV_CELL:
		(of_seat ? seat_cell : round_cell)(ckptd, event, actions);
		break;
	case CKPTD_EV_STATUS:
		(of_seat ? seat_status : round_status)(ckptd, event, actions);
		break;
	}
}

struct mono ckptd_deadline(const struct ckptd *ckptd)
{
	struct mono first = MONO_NEVER;

	for (size_t i = 0; i < ckptd->config.seats_max; i++)
		first = mono_min(first, ckptd->seats[i].deadline);
	for (size_t i = 0; i < ckptd->config.rounds_max; i++)
		first = mono_min(first, round_deadline(&ckptd->rounds[i]));
	return first;
}

void ckptd_check(const struct ckptd *ckptd)
{
	for (size_t i = 0; i < ckptd->config.seats_max; i++)
		seat_check(&ckptd->seats[i]);
	for (size_t i = 0; i < ckptd->config.rounds_max; i++)
		round_check(ckptd, &ckptd->rounds[i]);
}

void ckptd_copy(struct ckptd *to, const struct ckptd *from)
{
	const struct ckptd_config *config = &from->config;

	assert(to->config.rounds_max == config->rounds_max &&
	       to->config.round_members_max == config->round_members_max &&
	       to->config.seats_max == config->seats_max);
	to->config = *config;
	to->last_id = from->last_id;
	to->epoch = from->epoch;
	to->mine = from->mine;
	memcpy(to->seats, from->seats, config->seats_max * sizeof(*to->seats));
	memcpy(to->members, from->members,
	    (size_t)config->rounds_max * config->round_members_max * sizeof(*to->members));
	for (size_t i = 0; i < config->rounds_max; i++) {
		to->rounds[i] = from->rounds[i];
		to->rounds[i].members = &to->members[i * config->round_members_max];
	}
}

static uint64_t mix_timer(uint64_t hash, struct mono timer, bool times)
{
	return rng_mix(hash, times ? (uint64_t)timer.ns : mono_is_never(timer));
}

/* REFUSED and ABORTED differ in nothing that a seat does afterwards. */
static uint64_t mix_seat(uint64_t hash, const struct seat *seat, bool times)
{
	bool over = seat->state == CKPTD_SEAT_REFUSED || seat->state == CKPTD_SEAT_ABORTED;
	uint64_t state = over ? CKPTD_SEAT_ABORTED : seat->state;

	hash = rng_mix(hash, state | (uint64_t)seat->resume << 8 | (uint64_t)seat->tries << 16 |
				 (uint64_t)(seat->image.oid[0] != 0) << 48);
	hash = rng_mix(hash, seat->id);
	hash = rng_mix(hash, seat->coordinator);
	return mix_timer(hash, seat->deadline, times);
}

static uint64_t mix_round(uint64_t hash, const struct round *round, bool times)
{
	hash = rng_mix(hash, (uint64_t)round->state | (uint64_t)round->commit_tried << 8 |
				 (uint64_t)round->deposed << 9 | (uint64_t)round->tries << 16);
	hash = rng_mix(hash, round->id);
	hash = mix_timer(hash, round->deadline, times);
	return mix_timer(hash, round->resend, times);
}

uint64_t ckptd_fingerprint(const struct ckptd *ckptd, bool times)
{
	uint64_t hash = rng_mix(ckptd->last_id, ckptd->epoch * 2 + ckptd->mine);

	for (size_t i = 0; i < ckptd->config.seats_max; i++)
		hash = mix_seat(hash, &ckptd->seats[i], times);
	for (size_t i = 0; i < ckptd->config.rounds_max; i++)
		hash = mix_round(hash, &ckptd->rounds[i], times);
	return hash;
}

uint64_t ckptd_fingerprint_member(const struct ckptd *ckptd, const char *ve)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < ckptd->config.rounds_max; i++) {
		const struct round *round = &ckptd->rounds[i];

		for (size_t k = 0; k < round->n_members; k++) {
			const struct round_member *member = &round->members[k];

			if (strcmp(member->ve, ve) == 0)
				hash = rng_mix(hash, round->id << 3 | (uint64_t)member->frozen |
							 (uint64_t)member->durable << 1 |
							 (uint64_t)member->asking << 2);
		}
	}
	return hash;
}

bool ckptd_may_commit(const struct ckptd *ckptd)
{
	for (size_t i = 0; i < ckptd->config.rounds_max; i++) {
		const struct round *round = &ckptd->rounds[i];

		if (round->state != ROUND_FREE && round->state != ROUND_ASKING &&
		    (round->state != ROUND_ABORTING || round->commit_tried))
			return true;
	}
	return false;
}
