/*
 * The step: dispatch on the event, then write out what is due.
 *
 * What has to be told is kept as state, not as a queue: each gauge knows its rank and the rank that
 * was told, each peer whether it is owed a heartbeat.  The last act of a step walks over that and
 * writes as many actions as fit; what did not fit makes the deadline due at once.  So the memory is
 * bounded by the configuration, and nothing is lost, only overtaken.
 *
 * Judging happens in TIMEOUT and DRAINED only: while the shell hands over heartbeats from its socket,
 * a peer's own one may still be in there.
 *
 * Own slowness is not blamed on others: the core has a deadline at least once an interval (its own
 * heartbeat), so a step that comes much later than the deadline means that this process, or the
 * whole machine, stood still.  Then nobody is judged until the socket was read empty, and the
 * silence of that time does not count even so: what came in may have overrun the socket's buffer.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/rng.h"
#include "fdd/fdd.h"
#include "fdd/peer.h"
#include "fdd/registrations.h"

static const unsigned calm_ticks_per_lhm = 20;

struct fdd {
	struct fdd_config config;
	struct rng rng;
	struct mono now; /* of the last step */
	bool started;
	bool unfinished; /* actions did not fit */

	uint64_t incarnation, sequence;
	bool persist; /* the incarnation is to be stored */
	struct mono next_tick;
	struct mono deadline; /* of the last step */

	bool held; /* we stood still; no judging until DRAINED */
	struct mono held_from;
	struct mono stalled;      /* to be told; 0: nothing */
	bool drain;               /* to be asked for */
	unsigned lhm, calm_ticks; /* own intervals since the last change of lhm */

	size_t count;
	size_t nodes, room; /* of count; room for nodes and services */
	struct peer *peers; /* room */
	struct registrations registrations;
	struct gauge *gauges;         /* room * registrations_max */
	struct fdd_arrival *arrivals; /* room * arrivals_max */
	struct fdd_counters counters;
};

bool fdd_thresholds_valid(const struct fdd_thresholds *thresholds)
{
	double below = thresholds->clear;

	if (thresholds->count < 1 || thresholds->count > FDD_THRESHOLDS_MAX || !(below >= 0))
		return false;
	for (size_t i = 0; i < thresholds->count; i++) {
		if (!(thresholds->raise[i] > below && thresholds->raise[i] < 1))
			return false;
		below = thresholds->raise[i];
	}
	return true;
}

static bool config_valid(const struct fdd_config *config)
{
	return config->self && config->peers_max && config->peers_max <= 65536 &&
	       config->services_max <= 65536 && config->registrations_max <= 65536 &&
	       config->arrivals_max <= 1 << 20 && config->stall.ns > 0 &&
	       mono_cmp(config->interval, FDD_INTERVAL_MIN) >= 0 &&
	       mono_cmp(config->interval, FDD_INTERVAL_MAX) <= 0 &&
	       estimator_config_valid(&config->estimator) && fdd_thresholds_valid(&config->suspect);
}

int fdd_new(struct fdd **out, const struct fdd_config *config, uint64_t seed)
{
	struct fdd *fdd;

	if (!config_valid(config))
		return -EINVAL;
	fdd = calloc(1, sizeof(*fdd));
	if (!fdd)
		return -ENOMEM;
	fdd->config = *config;
	fdd->room = config->peers_max + config->services_max;
	fdd->deadline = MONO_NEVER;
	rng_init(&fdd->rng, seed);
	fdd->peers = calloc(fdd->room, sizeof(*fdd->peers));
	fdd->gauges = calloc(fdd->room * config->registrations_max + 1, sizeof(*fdd->gauges));
	fdd->arrivals = calloc(fdd->room * config->arrivals_max + 1, sizeof(*fdd->arrivals));
	if (registrations_init(&fdd->registrations, config->registrations_max) < 0 || !fdd->peers ||
	    !fdd->gauges || !fdd->arrivals) {
		fdd_free(fdd);
		return -ENOMEM;
	}
	for (size_t i = 0; i < fdd->room; i++) {
		fdd->peers[i].gauges = fdd->gauges + i * config->registrations_max;
		fdd->peers[i].arrivals.ring = fdd->arrivals + i * config->arrivals_max;
		fdd->peers[i].arrivals.max = config->arrivals_max;
	}
	*out = fdd;
	return 0;
}

struct fdd *fdd_free(struct fdd *fdd)
{
	if (fdd) {
		free(fdd->peers);
		registrations_fini(&fdd->registrations);
		free(fdd->gauges);
		free(fdd->arrivals);
		free(fdd);
	}
	return NULL;
}

uint64_t fdd_incarnation(uint64_t stored, uint64_t wall_s)
{
	uint64_t from_clock = wall_s << 24;

	return from_clock > stored ? from_clock : stored + 1;
}

static struct peer *find(const struct fdd *fdd, uint64_t id)
{
	for (size_t i = 0; i < fdd->count; i++)
		if (fdd->peers[i].id == id)
			return &fdd->peers[i];
	return NULL;
}

/* --- events --- */

static enum fdd_answer on_start(struct fdd *fdd, const struct fdd_event *event)
{
	if (fdd->started)
		return FDD_REFUSED;
	fdd->started = true;
	fdd->incarnation = fdd_incarnation(event->start.stored_incarnation, event->start.wall_s);
	fdd->persist = true;
	fdd->next_tick = fdd->now;
	return FDD_OK;
}

/* An own interval went by. */
static void recover(struct fdd *fdd)
{
	if (!fdd->lhm || ++fdd->calm_ticks < calm_ticks_per_lhm)
		return;
	fdd->lhm--;
	fdd->calm_ticks = 0;
}

/* Own heartbeats are due.  The first comes at once, the second at a random phase, so that nodes
 * started together do not send together for ever. */
static void tick(struct fdd *fdd)
{
	int64_t interval = fdd->config.interval.ns;

	if (!mono_due(fdd->next_tick, fdd->now))
		return;
	if (++fdd->sequence == 1)
		interval -= (int64_t)rng_below(&fdd->rng, (uint64_t)interval / 2);
	fdd->next_tick = mono_add(fdd->next_tick, mono_ns(interval));
	if (mono_due(fdd->next_tick, fdd->now))
		fdd->next_tick = mono_add(fdd->now, fdd->config.interval);
	for (size_t i = 0; i < fdd->count; i++)
		fdd->peers[i].owed = fdd->peers[i].send;
	recover(fdd);
}

static struct mono peer_deadline(const struct fdd *fdd, const struct peer *peer)
{
	struct mono deadline = gauge_deadline(&peer->own, &fdd->config.suspect, peer);

	for (size_t s = 0; s < fdd->registrations.end; s++) {
		const struct slot *slot = &fdd->registrations.slots[s];

		if (slot_concerns(slot, peer->id, peer->service))
			deadline = mono_min(deadline,
			    gauge_deadline(&peer->gauges[s], &slot->registration.thresholds, peer));
	}
	return deadline;
}

/* Crossings are worked out when something has changed, not at each look at the clock: most steps are
 * a heartbeat of one peer. */
static struct mono peer_due(const struct fdd *fdd, struct peer *peer)
{
	if (!peer->due_known)
		peer->due = peer_deadline(fdd, peer);
	peer->due_known = true;
	return peer->due;
}

static void forget_due(struct fdd *fdd)
{
	for (size_t i = 0; i < fdd->count; i++)
		fdd->peers[i].due_known = false;
}

static void judge(struct fdd *fdd)
{
	for (size_t i = 0; i < fdd->count; i++) {
		struct peer *peer = &fdd->peers[i];

		if (!peer->watch || !mono_due(peer_due(fdd, peer), fdd->now))
			continue;
		peer->due_known = false;
		gauge_judge(&peer->own, &fdd->config.suspect, peer, fdd->now);
		peer_update(peer);
		for (size_t s = 0; s < fdd->registrations.end; s++) {
			const struct slot *slot = &fdd->registrations.slots[s];

			if (slot_concerns(slot, peer->id, peer->service))
				gauge_judge(&peer->gauges[s], &slot->registration.thresholds, peer,
				    fdd->now);
		}
	}
}

/* Leases that ended, values that are to be told. */
static void attend(struct fdd *fdd)
{
	for (size_t s = 0; s < fdd->registrations.end; s++) {
		struct slot *slot = &fdd->registrations.slots[s];

		slot_expire(slot, fdd->now);
		if (!slot_values_due(slot, fdd->now))
			continue;
		for (size_t i = 0; i < fdd->count; i++) {
			struct peer *peer = &fdd->peers[i];

			peer->gauges[s].value =
			    peer->watch && slot_concerns(slot, peer->id, peer->service);
		}
	}
}

static enum fdd_answer on_timeout(struct fdd *fdd)
{
	tick(fdd);
	if (fdd->held)
		return FDD_OK;
	judge(fdd);
	attend(fdd);
	return FDD_OK;
}

static enum fdd_answer on_drained(struct fdd *fdd)
{
	if (!fdd->held)
		return FDD_OK;
	fdd->held = false;
	for (size_t i = 0; i < fdd->count; i++)
		if (fdd->peers[i].watch)
			peer_excuse(&fdd->peers[i], fdd->held_from, fdd->now);
	registrations_excuse(&fdd->registrations, mono_sub(fdd->now, fdd->held_from));
	forget_due(fdd);
	judge(fdd);
	return FDD_OK;
}

static void calm_gauges(struct fdd *fdd, struct peer *peer, double level)
{
	gauge_calm(&peer->own, &fdd->config.suspect, level);
	peer_update(peer);
	for (size_t s = 0; s < fdd->registrations.end; s++)
		if (fdd->registrations.slots[s].used)
			gauge_calm(&peer->gauges[s],
			    &fdd->registrations.slots[s].registration.thresholds, level);
}

/* We woke too late to see the alarm that this heartbeat ends.  Nobody is told of it, so a replay of
 * the log must pass over it too. */
static void note_lateness(struct fdd *fdd, struct peer *peer, struct mono arrived)
{
	struct mono due = gauge_deadline(&peer->own, &fdd->config.suspect, peer);

	if (!fdd->held && mono_before(due, arrived))
		arrivals_add(&peer->arrivals, &(struct fdd_arrival){.at = fdd->now, .from = due});
}

static enum fdd_answer on_heartbeat(struct fdd *fdd, const struct fdd_event *event)
{
	struct mono arrived = mono_min(event->heartbeat.arrived, fdd->now);
	struct peer *peer = find(fdd, event->heartbeat.from);
	double level;

	fdd->counters.received++;
	if (!peer || !peer->watch) {
		fdd->counters.unwatched++;
		return FDD_OK;
	}
	note_lateness(fdd, peer, arrived);
	level = peer_level(peer, arrived);
	peer->due_known = false;
	switch (peer_heartbeat(peer, &event->heartbeat.beat, arrived)) {
	case PEER_FRESH:
		calm_gauges(fdd, peer, level);
		return FDD_OK;
	case PEER_REPEATED:
		fdd->counters.repeated++;
		return FDD_OK;
	case PEER_OLD:
		fdd->counters.old++;
		return FDD_OK;
	case PEER_REFUSED:
		fdd->counters.refused++;
		break;
	}
	return FDD_REFUSED;
}

static const struct fdd_peer_role *role_of(const struct fdd_event *event, uint64_t id)
{
	for (size_t i = 0; i < event->peers.count; i++)
		if (event->peers.list[i].id == id)
			return &event->peers.list[i];
	return NULL;
}

static void give_role(struct fdd *fdd, struct peer *peer, const struct fdd_peer_role *role)
{
	if (role->watch && !peer->watch)
		peer_begin(peer, &fdd->config, fdd->config.interval, fdd->now);
	if (!role->watch)
		peer->own = (struct gauge){0};
	if (role->send && !peer->send)
		peer->owed = fdd->sequence > 0; /* it need not wait for the next tick */
	if (!role->send)
		peer->owed = false;
	peer->watch = role->watch;
	peer->send = role->send;
}

static void remove_peer(struct fdd *fdd, size_t n)
{
	struct peer gone = fdd->peers[n];

	fdd->nodes -= !gone.service;
	fdd->peers[n] = fdd->peers[--fdd->count];
	memset(&fdd->peers[fdd->count], 0, sizeof(gone));
	/* The memory stays with the table. */
	fdd->peers[fdd->count].gauges = gone.gauges;
	fdd->peers[fdd->count].arrivals =
	    (struct arrivals){.ring = gone.arrivals.ring, .max = gone.arrivals.max};
}

static enum fdd_answer on_set_peers(struct fdd *fdd, const struct fdd_event *event)
{
	enum fdd_answer answer = FDD_OK;

	for (size_t i = fdd->count; i-- > 0;)
		if (!fdd->peers[i].service && !role_of(event, fdd->peers[i].id))
			remove_peer(fdd, i);
	for (size_t i = 0; i < event->peers.count; i++) {
		const struct fdd_peer_role *role = &event->peers.list[i];
		struct peer *peer = find(fdd, role->id);

		if (!role->id || role->id == fdd->config.self || (peer && peer->service) ||
		    (!peer && fdd->nodes == fdd->config.peers_max)) {
			answer = FDD_REFUSED;
			continue;
		}
		if (!peer) {
			peer = &fdd->peers[fdd->count++];
			peer->id = role->id;
			fdd->nodes++;
		}
		give_role(fdd, peer, role);
	}
	return answer;
}

static enum fdd_answer on_watch_service(struct fdd *fdd, const struct fdd_event *event)
{
	struct mono interval = event->service.interval;
	struct peer *peer = find(fdd, event->service.id);

	if (!event->service.id || event->service.id == fdd->config.self ||
	    mono_before(interval, FDD_INTERVAL_MIN) || mono_before(FDD_INTERVAL_MAX, interval) ||
	    (peer && !peer->service) ||
	    (!peer && fdd->count - fdd->nodes == fdd->config.services_max))
		return FDD_REFUSED;
	if (peer && peer->announced.ns == interval.ns)
		return FDD_OK;
	if (!peer)
		peer = &fdd->peers[fdd->count++];
	peer->id = event->service.id;
	peer->service = peer->watch = true;
	peer->announced = interval;
	peer_begin(peer, &fdd->config, interval, fdd->now);
	return FDD_OK;
}

static enum fdd_answer on_drop_service(struct fdd *fdd, const struct fdd_event *event)
{
	struct peer *peer = find(fdd, event->service.id);

	if (!peer || !peer->service)
		return FDD_REFUSED;
	remove_peer(fdd, (size_t)(peer - fdd->peers));
	return FDD_OK;
}

static void reset_gauges(struct fdd *fdd, const struct slot *slot)
{
	for (size_t i = 0; i < fdd->room; i++)
		fdd->peers[i].gauges[slot - fdd->registrations.slots] = (struct gauge){0};
}

static void forget(struct fdd *fdd, struct slot *slot)
{
	reset_gauges(fdd, slot);
	registrations_remove(&fdd->registrations, slot);
	forget_due(fdd);
}

static enum fdd_answer on_register(struct fdd *fdd, const struct fdd_event *event)
{
	struct slot *slot;

	if (!registration_valid(&event->registration))
		return FDD_REFUSED;
	slot = registrations_put(&fdd->registrations, &event->registration, fdd->now);
	if (!slot)
		return FDD_REFUSED;
	reset_gauges(fdd, slot);
	return FDD_OK;
}

static enum fdd_answer on_unregister(struct fdd *fdd, const struct fdd_event *event)
{
	struct slot *slot = registrations_find(&fdd->registrations, event->registration_id);

	if (!slot)
		return FDD_REFUSED;
	forget(fdd, slot);
	return FDD_OK;
}

static enum fdd_answer on_renew(struct fdd *fdd, const struct fdd_event *event)
{
	struct slot *slot = registrations_find(&fdd->registrations, event->registration_id);

	if (!slot || slot->expired)
		return FDD_REFUSED;
	slot_renew(slot, fdd->now);
	return FDD_OK;
}

/* --- actions --- */

static struct fdd_action *add(
    struct fdd *fdd, struct fdd_actions *actions, enum fdd_action_type type)
{
	struct fdd_action *action;

	if (actions->count == FDD_ACTIONS_MAX) {
		fdd->unfinished = true;
		return NULL;
	}
	action = &actions->list[actions->count++];
	memset(action, 0, sizeof(*action));
	action->type = type;
	return action;
}

/* An action about this peer's level, but for which threshold of whom. */
static struct fdd_action *add_level(struct fdd *fdd, struct fdd_actions *actions,
    enum fdd_action_type type, const struct peer *peer)
{
	struct fdd_action *action = add(fdd, actions, type);

	if (action)
		action->level = (struct fdd_level){
		    .peer = peer->id,
		    .heard = peer->heard,
		    .level = peer_level(peer, fdd->now),
		    .incarnation = peer->incarnation,
		    .elapsed = mono_sub(fdd->now, peer->silent_from),
		    .predicted = peer_predicted(peer),
		};
	return action;
}

static void tell_beats(struct fdd *fdd, struct fdd_actions *actions)
{
	for (size_t i = 0; i < fdd->count; i++) {
		struct fdd_action *action;

		if (!fdd->peers[i].owed)
			continue;
		action = add(fdd, actions, FDD_SEND_HEARTBEAT);
		if (!action)
			return;
		action->send.to = fdd->peers[i].id;
		action->send.beat =
		    (struct fdd_heartbeat){fdd->incarnation, fdd->sequence, fdd->config.interval};
		fdd->peers[i].owed = false;
		fdd->counters.sent++;
	}
}

static void tell_state(struct fdd *fdd, struct fdd_actions *actions, struct peer *peer)
{
	bool silent = peer->state == PEER_SILENT;
	struct fdd_action *action;

	if (peer->state == peer->told)
		return;
	action = add_level(fdd, actions, silent ? FDD_SUSPECT : FDD_TRUST, peer);
	if (action) {
		action->level.raised = silent;
		peer->told = peer->state;
	}
}

static void tell_value(
    struct fdd *fdd, struct fdd_actions *actions, const struct peer *peer, size_t s)
{
	struct fdd_action *action;

	if (!peer->gauges[s].value)
		return;
	action = add_level(fdd, actions, FDD_VALUE, peer);
	if (!action)
		return;
	action->level.registration = fdd->registrations.slots[s].registration.id;
	peer->gauges[s].value = false;
	fdd->counters.values++;
}

/* One notice for each threshold that was crossed since the last time. */
static void tell_crossings(
    struct fdd *fdd, struct fdd_actions *actions, const struct peer *peer, size_t s)
{
	struct gauge *gauge = &peer->gauges[s];

	while (gauge->told != gauge->rank) {
		bool raised = gauge->told < gauge->rank;
		struct fdd_action *action = add_level(fdd, actions, FDD_LEVEL, peer);

		if (!action)
			return;
		action->level.registration = fdd->registrations.slots[s].registration.id;
		action->level.raised = raised;
		action->level.threshold = raised ? gauge->told++ : --gauge->told;
		fdd->counters.notices++;
	}
}

static void tell_expired(struct fdd *fdd, struct fdd_actions *actions)
{
	for (size_t s = 0; s < fdd->registrations.end; s++) {
		struct slot *slot = &fdd->registrations.slots[s];
		struct fdd_action *action;

		if (!slot->expired)
			continue;
		action = add(fdd, actions, FDD_EXPIRED);
		if (!action)
			return;
		action->registration = slot->registration.id;
		forget(fdd, slot);
		fdd->counters.expired++;
	}
}

static void tell_peer(struct fdd *fdd, struct fdd_actions *actions, struct peer *peer)
{
	tell_state(fdd, actions, peer);
	for (size_t s = 0; s < fdd->registrations.end; s++) {
		if (!slot_concerns(&fdd->registrations.slots[s], peer->id, peer->service))
			continue;
		tell_crossings(fdd, actions, peer, s);
		tell_value(fdd, actions, peer, s);
	}
}

static void tell(struct fdd *fdd, struct fdd_actions *actions)
{
	struct fdd_action *action;

	fdd->unfinished = false;
	if (fdd->persist && (action = add(fdd, actions, FDD_PERSIST))) {
		action->incarnation = fdd->incarnation;
		fdd->persist = false;
	}
	tell_beats(fdd, actions);
	if (fdd->stalled.ns && (action = add(fdd, actions, FDD_STALLED))) {
		action->stalled = fdd->stalled;
		fdd->stalled = MONO_ZERO;
	}
	if (fdd->drain && add(fdd, actions, FDD_DRAIN))
		fdd->drain = false;
	tell_expired(fdd, actions);
	for (size_t i = 0; i < fdd->count; i++)
		if (fdd->peers[i].watch)
			tell_peer(fdd, actions, &fdd->peers[i]);
}

/* --- the step --- */

static void notice_stall(struct fdd *fdd, struct mono now)
{
	struct mono deadline = fdd_deadline(fdd);

	if (!fdd->started || fdd->held || mono_before(now, mono_add(deadline, fdd->config.stall)))
		return;
	fdd->held = fdd->drain = true;
	fdd->held_from = fdd->now;
	fdd->next_tick = now; /* others wait for us */
	fdd->stalled = mono_sub(now, deadline);
	fdd->counters.stalls++;
	fdd->calm_ticks = 0;
	if (fdd->lhm < FDD_LHM_MAX)
		fdd->lhm++;
}

/* Never before the last step: what that step made due (a registration over a peer long silent) is
 * no sign of a stall. */
static struct mono next_deadline(struct fdd *fdd)
{
	struct mono deadline = fdd->next_tick;

	if (!fdd->started)
		return MONO_NEVER;
	if (fdd->unfinished)
		return fdd->now;
	for (size_t i = 0; i < fdd->count && !fdd->held; i++)
		if (fdd->peers[i].watch)
			deadline = mono_min(deadline, peer_due(fdd, &fdd->peers[i]));
	for (size_t s = 0; s < fdd->registrations.end && !fdd->held; s++)
		deadline = mono_min(deadline, slot_deadline(&fdd->registrations.slots[s]));
	return mono_before(deadline, fdd->now) ? fdd->now : deadline;
}

struct mono fdd_deadline(const struct fdd *fdd)
{
	return fdd->deadline;
}

enum fdd_answer fdd_step(
    struct fdd *fdd, const struct fdd_event *event, struct fdd_actions *actions)
{
	struct mono now = mono_before(event->now, fdd->now) ? fdd->now : event->now;
	enum fdd_answer answer = FDD_REFUSED;

	actions->count = 0;
	notice_stall(fdd, now);
	fdd->now = now;
	switch (event->type) {
	case FDD_START:
		answer = on_start(fdd, event);
		break;
	case FDD_TIMEOUT:
		answer = fdd->started ? on_timeout(fdd) : FDD_REFUSED;
		break;
	case FDD_DRAINED:
		answer = on_drained(fdd);
		break;
	case FDD_HEARTBEAT:
		answer = on_heartbeat(fdd, event);
		break;
	case FDD_SET_PEERS:
		answer = on_set_peers(fdd, event);
		break;
	case FDD_WATCH_SERVICE:
		answer = on_watch_service(fdd, event);
		break;
	case FDD_DROP_SERVICE:
		answer = on_drop_service(fdd, event);
		break;
	case FDD_REGISTER:
		answer = on_register(fdd, event);
		break;
	case FDD_UNREGISTER:
		answer = on_unregister(fdd, event);
		break;
	case FDD_RENEW:
		answer = on_renew(fdd, event);
		break;
	case FDD_EVENT_TYPES:
		break;
	}
	if (event->type != FDD_HEARTBEAT && event->type != FDD_TIMEOUT)
		forget_due(fdd);
	tell(fdd, actions);
	fdd->deadline = next_deadline(fdd);
	return answer;
}

/* --- questions --- */

bool fdd_status(const struct fdd *fdd, size_t n, struct mono now, struct fdd_status *status)
{
	const struct peer *peer;

	if (n >= fdd->count)
		return false;
	peer = &fdd->peers[n];
	memset(status, 0, sizeof(*status));
	status->id = peer->id;
	status->service = peer->service;
	status->watch = peer->watch;
	status->send = peer->send;
	status->state = peer->watch ? peer_state_name(peer->state) : "unwatched";
	if (!peer->watch)
		return true;
	status->heard = peer->heard;
	status->level = peer_level(peer, now);
	status->incarnation = peer->incarnation;
	status->sequence = peer->sequence;
	status->last_arrival = peer->last_arrival;
	status->elapsed = mono_sub(now, peer->silent_from);
	status->predicted = peer_predicted(peer);
	estimator_numbers(&peer->estimator, &status->numbers);
	status->received = peer->received;
	status->lost = peer->lost;
	status->repeated = peer->repeated;
	status->old = peer->old;
	return true;
}

bool fdd_find(const struct fdd *fdd, uint64_t id, struct mono now, struct fdd_status *status)
{
	const struct peer *peer = find(fdd, id);

	return peer && fdd_status(fdd, (size_t)(peer - fdd->peers), now, status);
}

bool fdd_arrival_log(const struct fdd *fdd, uint64_t id, struct fdd_arrival_log *log)
{
	const struct peer *peer = find(fdd, id);

	if (!peer || !peer->watch)
		return false;
	*log = (struct fdd_arrival_log){
	    peer->arrivals.since, peer->arrivals.count, peer->arrivals.dropped};
	return true;
}

const struct fdd_arrival *fdd_arrival(const struct fdd *fdd, uint64_t id, size_t n)
{
	const struct peer *peer = find(fdd, id);

	return peer ? arrivals_get(&peer->arrivals, n) : NULL;
}

const struct fdd_counters *fdd_counters(const struct fdd *fdd)
{
	return &fdd->counters;
}

uint64_t fdd_own_incarnation(const struct fdd *fdd)
{
	return fdd->incarnation;
}

unsigned fdd_lhm(const struct fdd *fdd)
{
	return fdd->lhm;
}

static const char *gauges_invariant(const struct fdd *fdd, const struct peer *peer)
{
	for (size_t s = 0; s < fdd->config.registrations_max; s++) {
		const struct slot *slot = &fdd->registrations.slots[s];
		size_t limit = slot->used ? slot->registration.thresholds.count : 0;

		if (peer->gauges[s].value && !slot->registration.period.ns)
			return "a value is owed to one who did not ask for it";
		if (peer->gauges[s].rank > limit || peer->gauges[s].told > limit)
			return "a gauge stands higher than its registration has thresholds";
	}
	return NULL;
}

const char *fdd_invariant(const struct fdd *fdd)
{
	const char *fault;
	size_t nodes = 0;

	if (fdd->nodes > fdd->config.peers_max ||
	    fdd->count - fdd->nodes > fdd->config.services_max)
		return "more peers than there is room for";
	for (size_t i = 0; i < fdd->count; i++) {
		const struct peer *peer = &fdd->peers[i];

		if (!peer->id || peer->id == fdd->config.self)
			return "a peer that is nobody or ourselves";
		if (find(fdd, peer->id) != peer)
			return "a peer stands in the table twice";
		nodes += !peer->service;
		if (peer->service && (peer->send || !peer->watch))
			return "a service that gets heartbeats, or is not watched";
		if (peer->watch && peer->due_known &&
		    mono_cmp(peer->due, peer_deadline(fdd, peer)) != 0)
			return "a crossing is remembered wrongly";
		if (peer->owed && !peer->send)
			return "a heartbeat is owed to one who gets none";
		fault = peer_invariant(peer, fdd->now);
		if (!fault)
			fault = gauges_invariant(fdd, peer);
		if (fault)
			return fault;
	}
	if (nodes != fdd->nodes)
		return "nodes are miscounted";
	return fdd->started && !fdd->incarnation ? "started without an incarnation" : NULL;
}
