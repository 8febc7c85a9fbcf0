#include "gossipd/terms.h"

static void forget(struct terms *terms, uint64_t id)
{
	for (size_t i = 0; i < terms->count; i++) {
		if (terms->pending[i].id == id)
			terms->pending[i--] = terms->pending[--terms->count];
	}
}

static void remember(struct terms *terms, const struct gossipd_status *status, struct mono now)
{
	if (terms->count == GOSSIPD_MEMBERS_MAX)
		return;
	terms->pending[terms->count++] =
	    (struct pending){status->id, status->incarnation, status->state, now, status->votes};
}

static bool met(const struct terms *terms, struct mono since, const struct gossipd_status *status,
    struct mono now)
{
	return mono_due(mono_add(since, terms->confirm), now) &&
	       100 * status->votes >= terms->quorum * status->observers;
}

void terms_change(struct terms *terms, struct gossipd_status *status, struct mono now)
{
	forget(terms, status->id);
	if (status->state == GOSSIPD_SUSPECT && terms->votes)
		remember(terms, status, now);
	if (status->state != GOSSIPD_DEAD || met(terms, now, status, now))
		return;
	remember(terms, status, now);
	status->state = GOSSIPD_SUSPECT;
}

static bool look_up(
    const struct gossipd *core, uint64_t id, struct mono now, struct gossipd_status *status)
{
	for (size_t i = 0; gossipd_status(core, i, now, status); i++) {
		if (status->id == id)
			return true;
	}
	return false;
}

bool terms_next(
    struct terms *terms, const struct gossipd *core, struct mono now, struct gossipd_status *status)
{
	for (size_t i = 0; i < terms->count; i++) {
		struct pending *pending = &terms->pending[i];

		if (!look_up(core, pending->id, now, status) || status->state != pending->state ||
		    status->incarnation != pending->incarnation)
			continue; /* its change comes, or has come, by itself */
		if (pending->state == GOSSIPD_SUSPECT && status->votes != pending->votes) {
			pending->votes = status->votes;
			return true;
		}
		if (pending->state == GOSSIPD_DEAD && met(terms, pending->since, status, now)) {
			forget(terms, status->id);
			return true;
		}
	}
	return false;
}

struct mono terms_deadline(const struct terms *terms, struct mono now)
{
	struct mono at = MONO_NEVER;

	for (size_t i = 0; i < terms->count; i++) {
		struct mono due = mono_add(terms->pending[i].since, terms->confirm);

		if (terms->pending[i].state == GOSSIPD_DEAD && mono_before(now, due))
			at = mono_min(at, due);
	}
	return at;
}
