/*
 * A peer's level is a pure function of time: silence since the last heartbeat over the predicted
 * one (formula 4.1).  States and gauges only remember what was made of it.
 *
 *	waiting --heartbeat--> alive <--calm-- silent
 *	   \______________________\____level____^
 *
 * A never-heard peer is judged too, with a prediction of three of our own intervals: a node that is
 * down while we start must be found as well.
 */
#include <assert.h>
#include "fdd/peer.h"

/* A process whose clock and disk were lost announces a lower incarnation than its former life.
 * Such a one is believed once the higher one has been silent for 19 predicted intervals. */
static const double forgotten_level = 0.9;

static const char *const state_names[] = {
    [PEER_WAITING] = "waiting", [PEER_ALIVE] = "alive", [PEER_SILENT] = "silent"};

static const unsigned successors[] = {
    [PEER_WAITING] = 1u << PEER_ALIVE | 1u << PEER_SILENT,
    [PEER_ALIVE] = 1u << PEER_SILENT,
    [PEER_SILENT] = 1u << PEER_ALIVE,
};

const char *peer_state_name(enum peer_state state)
{
	return state_names[state];
}

static void peer_move(struct peer *peer, enum peer_state to)
{
	assert(successors[peer->state] & 1u << to);
	peer->state = to;
}

void peer_update(struct peer *peer)
{
	if (peer->own.rank && peer->state != PEER_SILENT)
		peer_move(peer, PEER_SILENT);
	else if (!peer->own.rank && peer->heard && peer->state != PEER_ALIVE)
		peer_move(peer, PEER_ALIVE);
}

void peer_begin(
    struct peer *peer, const struct fdd_config *config, struct mono interval, struct mono now)
{
	peer->state = peer->told = PEER_WAITING;
	peer->heard = false;
	peer->incarnation = peer->sequence = 0;
	peer->last_arrival = peer->silent_from = now;
	peer->first_wait = mono_ns(3 * interval.ns);
	peer->received = peer->lost = peer->repeated = peer->old = 0;
	peer->own = (struct gauge){0};
	for (size_t i = 0; i < config->registrations_max; i++)
		peer->gauges[i] = (struct gauge){0};
	arrivals_begin(&peer->arrivals, now);
	estimator_init(&peer->estimator, &config->estimator, interval);
}

struct mono peer_predicted(const struct peer *peer)
{
	return peer->heard ? estimator_predicted(&peer->estimator) : peer->first_wait;
}

double peer_level(const struct peer *peer, struct mono now)
{
	return level_of(mono_sub(now, peer->silent_from), peer_predicted(peer));
}

struct mono peer_crossing(const struct peer *peer, double level)
{
	return mono_add(peer->silent_from, level_elapsed(level, peer_predicted(peer)));
}

static bool plausible(const struct fdd_heartbeat *beat)
{
	return beat->incarnation && beat->sequence &&
	       mono_cmp(beat->interval, FDD_INTERVAL_MIN) >= 0 &&
	       mono_cmp(beat->interval, FDD_INTERVAL_MAX) <= 0;
}

/* Another life of the peer, or the first: its numbers begin anew, its network is the same. */
static void meet(struct peer *peer, const struct fdd_heartbeat *beat)
{
	if (!peer->heard || mono_to_s(beat->interval) != peer->estimator.interval_s)
		estimator_interval(&peer->estimator, beat->interval);
	peer->heard = true;
	peer->incarnation = beat->incarnation;
}

static void follow(struct peer *peer, const struct fdd_heartbeat *beat, struct mono arrived)
{
	uint64_t gap = beat->sequence - peer->sequence;

	if (mono_to_s(beat->interval) != peer->estimator.interval_s)
		estimator_interval(&peer->estimator, beat->interval);
	else
		estimator_sample(&peer->estimator, mono_sub(arrived, peer->last_arrival), gap);
	peer->lost += gap - 1;
}

enum peer_verdict peer_heartbeat(
    struct peer *peer, const struct fdd_heartbeat *beat, struct mono arrived)
{
	bool known = peer->heard && beat->incarnation == peer->incarnation;

	if (!plausible(beat))
		return PEER_REFUSED;
	arrivals_add(&peer->arrivals, &(struct fdd_arrival){.at = arrived,
					  .incarnation = beat->incarnation,
					  .sequence = beat->sequence,
					  .interval = beat->interval});
	if (peer->heard && beat->incarnation < peer->incarnation &&
	    peer_level(peer, arrived) < forgotten_level) {
		peer->old++;
		return PEER_OLD;
	}
	if (known && beat->sequence <= peer->sequence) {
		peer->repeated++;
		return PEER_REPEATED;
	}
	if (mono_before(arrived, peer->last_arrival)) /* a step of the clock mapping */
		arrived = peer->last_arrival;
	if (known)
		follow(peer, beat, arrived);
	else
		meet(peer, beat);
	peer->received++;
	peer->sequence = beat->sequence;
	peer->last_arrival = arrived;
	if (mono_before(peer->silent_from, arrived))
		peer->silent_from = arrived;
	return PEER_FRESH;
}

void peer_excuse(struct peer *peer, struct mono from, struct mono now)
{
	struct mono observed = mono_sub(from, peer->silent_from);

	if (observed.ns < 0)
		observed = MONO_ZERO;
	peer->silent_from = mono_sub(now, observed);
	arrivals_add(&peer->arrivals, &(struct fdd_arrival){.at = now, .from = from});
}

struct mono gauge_deadline(
    const struct gauge *gauge, const struct fdd_thresholds *thresholds, const struct peer *peer)
{
	if (gauge->rank == thresholds->count)
		return MONO_NEVER;
	return peer_crossing(peer, thresholds->raise[gauge->rank]);
}

void gauge_judge(struct gauge *gauge, const struct fdd_thresholds *thresholds,
    const struct peer *peer, struct mono now)
{
	while (mono_due(gauge_deadline(gauge, thresholds, peer), now)) {
		gauge->rank++;
		gauge->calm = 0;
	}
}

void gauge_calm(struct gauge *gauge, const struct fdd_thresholds *thresholds, double level)
{
	if (!gauge->rank)
		return;
	if (level > thresholds->clear)
		gauge->calm = 0;
	else
		gauge->calm++;
	if (gauge->calm >= thresholds->beats)
		gauge->rank = gauge->calm = 0;
}

const char *peer_invariant(const struct peer *peer, struct mono now)
{
	struct estimator_numbers numbers;

	if (!peer->watch)
		return peer->own.rank ? "a peer that is not watched is raised" : NULL;
	if (peer->state == PEER_WAITING && peer->heard)
		return "waiting for a peer that was heard";
	if (peer->state == PEER_ALIVE && !peer->heard)
		return "alive and never heard";
	if ((peer->state == PEER_SILENT) != (peer->own.rank > 0))
		return "silent does not go with the daemon's own threshold";
	if (mono_before(now, peer->last_arrival) || mono_before(now, peer->silent_from))
		return "an arrival lies in the future";
	if (mono_before(peer->silent_from, peer->last_arrival))
		return "silence counts from before the last arrival";
	if (peer_predicted(peer).ns <= 0)
		return "nothing is predicted";
	estimator_numbers(&peer->estimator, &numbers);
	if (!(numbers.loss >= 0 && numbers.loss <= 1))
		return "loss is not a share";
	if (!(peer_level(peer, now) >= 0 && peer_level(peer, now) < 1))
		return "the level is not in [0, 1)";
	return NULL;
}
