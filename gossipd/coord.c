#include "gossipd/coord.h"

#include <assert.h>

enum {
	ANSWER_MS = 1000, /* a request without an answer for that long is in doubt */
	RETRY_MS = 100,   /* after a doubt */
};

static struct mono fraction(struct mono length, int64_t of)
{
	return mono_ns(length.ns / of);
}

static struct gossipd_action *append(struct gossipd_actions *actions, enum gossipd_action_type type)
{
	struct gossipd_action *action = &actions->list[actions->count++];

	assert(actions->count <= GOSSIPD_ACTIONS_MAX);
	*action = (struct gossipd_action){.type = type};
	return action;
}

static void tell(struct coord *coord, bool lost, struct gossipd_actions *actions)
{
	struct gossipd_action *action = append(actions, GOSSIPD_COORD);

	action->coord.node = coord->fact.node;
	action->coord.epoch = coord->fact.epoch;
	action->coord.held = coord->held;
	action->coord.lost = lost;
}

void coord_init(struct coord *coord, const struct gossipd_config *config, struct mono now,
    uint64_t first_ticket)
{
	*coord = (struct coord){
	    .self = config->self,
	    .lease = config->lease,
	    .stagger = config->stagger,
	    .ticket = first_ticket,
	    .next_at = config->lease.ns > 0 ? now : MONO_NEVER,
	    .answer_at = now,
	};
}

/* How long the writer of what was seen, or one before it, may still count on its lease. */
static struct mono patience(const struct coord *coord)
{
	return mono_before(coord->lease, coord->fact.lease) ? coord->fact.lease : coord->lease;
}

/* An earlier process of this node, with a longer lease. */
static bool has_shortened(const struct coord *coord)
{
	return !coord->held && mono_before(coord->lease, coord->fact.lease);
}

/* When a candidate of our rank may take over what it has seen since seen_at. */
static struct mono takeover_at(const struct coord *coord)
{
	struct mono wait = mono_ns(coord->stagger.ns * coord->rank);

	/* Absent or given up: nobody's lease is to be waited for, unless what was granted under it can
	 * last longer than we would wait for it. */
	if (coord->version == 0 || (coord->fact.node == 0 && !has_shortened(coord)))
		return mono_add(coord->seen_at, wait);
	return mono_add(coord->seen_at, mono_add(patience(coord), wait));
}

struct mono coord_deadline(const struct coord *coord)
{
	struct mono at = coord->next_at;

	if (mono_is_never(coord->next_at))
		return at;
	if (coord->request != COORD_NONE)
		at = mono_add_ms(coord->sent_at, ANSWER_MS);
	else if (coord->hinted)
		at = MONO_ZERO;
	else if (coord->read && coord->fact.node != coord->self && !coord->leaving)
		at = mono_min(at, takeover_at(coord));
	return coord->held ? mono_min(at, coord->held_until) : at;
}

/* A store that was out of reach for a whole lease was so for the holder too: nothing follows from
 * its silence. */
static bool blind(const struct coord *coord, struct mono now)
{
	return mono_due(mono_add(coord->answer_at, patience(coord)), now);
}

/* ---- requests */

static struct gossipd_action *begin(struct coord *coord, enum coord_request request,
    struct mono now, struct gossipd_actions *actions)
{
	struct gossipd_action *action =
	    append(actions, request == COORD_GET ? GOSSIPD_META_GET : GOSSIPD_META_PUT);

	coord->request = request;
	coord->sent_at = now;
	action->meta.ticket = ++coord->ticket;
	return action;
}

static void get(struct coord *coord, struct mono now, struct gossipd_actions *actions)
{
	coord->next_at = mono_add(now, fraction(coord->lease, 4));
	begin(coord, COORD_GET, now, actions);
}

static void put(struct coord *coord, struct gossipd_fact fact, bool succeeds, struct mono now,
    struct gossipd_actions *actions)
{
	struct gossipd_action *action = begin(coord, COORD_PUT, now, actions);

	fact.lease = coord->lease;
	coord->wanted = fact;
	coord->succeeds = succeeds;
	coord->next_at = mono_add(now, fraction(coord->lease, 4));
	action->meta.expected = coord->version;
	action->meta.fact = fact;
}

/*
 * Our own name in the store means our own lease: raised here, by a process of this node that is
 * gone (the node's socket is held by one at a time), or by a put in doubt that went through.
 */
static void raise_own(struct coord *coord, struct mono now, struct gossipd_actions *actions)
{
	struct gossipd_fact fact = coord->fact;

	fact.seq++;
	if (coord->leaving)
		fact.node = 0;
	put(coord, fact, false, now, actions);
}

static void take_over(struct coord *coord, struct mono now, struct gossipd_actions *actions)
{
	struct gossipd_fact fact = {coord->fact.epoch + 1, coord->self, 1, coord->lease};

	put(coord, fact, coord->version != 0 && coord->fact.node != 0, now, actions);
}

static void start_request(struct coord *coord, struct mono now, struct gossipd_actions *actions)
{
	bool own = coord->read && coord->version != 0 && coord->fact.node == coord->self;
	bool ours = own && (!has_shortened(coord) || mono_due(takeover_at(coord), now));
	bool free = coord->read && !own && !coord->leaving && mono_due(takeover_at(coord), now);
	bool hinted = coord->hinted && !(own && coord->held); /* our own raises are no news */

	coord->hinted = false;
	if (hinted || (free && blind(coord, now)))
		get(coord, now, actions);
	else if (ours && (mono_due(coord->next_at, now) || coord->leaving))
		raise_own(coord, now, actions);
	else if (free)
		take_over(coord, now, actions);
	else if (mono_due(coord->next_at, now))
		get(coord, now, actions);
}

void coord_run(struct coord *coord, struct mono now, struct gossipd_actions *actions)
{
	if (mono_is_never(coord->next_at))
		return;
	if (coord->held && mono_due(coord->held_until, now)) {
		coord->held = false;
		tell(coord, true, actions);
	}
	if (coord->request != COORD_NONE && mono_due(mono_add_ms(coord->sent_at, ANSWER_MS), now)) {
		struct gossipd_event doubt = {.type = GOSSIPD_META_RESULT, .now = now};

		doubt.meta.ticket = coord->ticket;
		doubt.meta.rc = GOSSIPD_META_DOUBT;
		coord_result(coord, &doubt, actions);
	}
	if (coord->request == COORD_NONE)
		start_request(coord, now, actions);
}

/* ---- answers */

static bool same(struct gossipd_fact a, struct gossipd_fact b)
{
	return a.epoch == b.epoch && a.node == b.node && a.seq == b.seq;
}

/* Our lease runs from the moment at which the raise was sent, shortened by the drift of clocks. */
static void hold_from(struct coord *coord, struct mono sent_at)
{
	coord->held = true;
	coord->held_until = mono_add(sent_at, mono_ns(coord->lease.ns / 100 * 95));
}

/* Takes in what stands in the store. */
static void see(struct coord *coord, uint64_t version, struct gossipd_fact fact, struct mono now,
    struct gossipd_actions *actions)
{
	bool was_held = coord->held;
	bool news =
	    !coord->seen || coord->fact.node != fact.node || coord->fact.epoch != fact.epoch;

	if (!coord->seen || version != coord->version || blind(coord, now))
		coord->seen_at = now;
	coord->seen = true;
	coord->answer_at = now;
	coord->read = true;
	if (coord->fact.epoch != fact.epoch)
		coord->since = MONO_ZERO;
	coord->version = version;
	coord->fact = version != 0 ? fact : (struct gossipd_fact){.epoch = coord->fact.epoch};
	if (coord->fact.node != coord->self)
		coord->held = false;
	if (news || was_held != coord->held)
		tell(coord, was_held && !coord->held, actions);
}

static void put_succeeded(
    struct coord *coord, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	bool was_held = coord->held;
	bool news =
	    coord->fact.node != coord->wanted.node || coord->fact.epoch != coord->wanted.epoch;

	if (coord->fact.epoch != coord->wanted.epoch)
		coord->since = coord->succeeds ? coord->sent_at : MONO_ZERO;
	coord->version = event->meta.version;
	coord->fact = coord->wanted;
	coord->seen_at = event->now;
	coord->answer_at = event->now;
	if (coord->wanted.node == coord->self)
		hold_from(coord, coord->sent_at);
	else
		coord->held = false;
	if (coord->held && mono_due(coord->held_until, event->now))
		coord->held = false; /* the answer took longer than the lease */
	if (news || was_held != coord->held)
		tell(coord, was_held && !coord->held, actions);
	else if (coord->held)
		append(actions, GOSSIPD_REIGN);
}

/* A put in doubt that is found in the store did succeed, when it was sent. */
static void get_succeeded(
    struct coord *coord, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	bool ours = coord->doubtful.node == coord->self &&
		    same(coord->doubtful, event->meta.fact) && event->meta.version != 0;
	bool begins = ours && coord->fact.epoch != event->meta.fact.epoch;

	if (ours) {
		hold_from(coord, coord->doubt_sent_at);
		if (mono_due(coord->held_until, event->now))
			coord->held = false;
		coord->doubtful = (struct gossipd_fact){0};
		if (coord->held)
			append(actions, GOSSIPD_REIGN);
	} else if (event->meta.version != coord->doubt_expected) {
		coord->doubtful = (struct gossipd_fact){0}; /* it can succeed no more */
	}
	see(coord, event->meta.version, event->meta.fact, event->now, actions);
	if (begins)
		coord->since = coord->doubtful_succeeds ? coord->doubt_sent_at : MONO_ZERO;
	if (coord->version != 0 && coord->fact.node == coord->self && !coord->held &&
	    !has_shortened(coord))
		coord->next_at = event->now;
}

void coord_result(
    struct coord *coord, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	enum coord_request request = coord->request;

	if (request == COORD_NONE || event->meta.ticket != coord->ticket)
		return;
	coord->request = COORD_NONE;
	if (event->meta.rc == GOSSIPD_META_OK && request == COORD_PUT) {
		put_succeeded(coord, event, actions);
	} else if (event->meta.rc == GOSSIPD_META_OK) {
		get_succeeded(coord, event, actions);
	} else if (event->meta.rc == GOSSIPD_META_CONFLICT) {
		coord->hinted = true;
		coord->read = false; /* nothing may be built on what has changed */
	} else {
		if (request == COORD_PUT) {
			/* Two tries of one raise look alike in the store: it may have been the first one. */
			if (!same(coord->doubtful, coord->wanted))
				coord->doubt_sent_at = coord->sent_at;
			coord->doubtful = coord->wanted;
			coord->doubtful_succeeds = coord->succeeds;
			coord->doubt_expected = coord->version;
		}
		coord->read = false; /* read again before anything is built on it */
		coord->next_at = mono_add_ms(event->now, RETRY_MS);
	}
}

void coord_hint(struct coord *coord)
{
	coord->hinted = true;
}

void coord_leave(struct coord *coord)
{
	coord->leaving = true;
	if (coord->read && coord->fact.node == coord->self && coord->request == COORD_NONE)
		coord->next_at = MONO_ZERO;
}
