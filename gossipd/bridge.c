/*
 * What a gateway sends, and when: news at once and a few times more, and a tick of its own in
 * quiet, in which it also judges whose beat stands still.  All limits are per gateway, so its
 * traffic does not grow with the number of clusters; what grows is the time between two beats.
 *
 * A beat is pushed: whoever hears it tells it MARKS_SENDS times, which misses one gateway in some
 * hundreds (e^-MARKS_SENDS), so beats rise no faster than datagrams can carry each that often.
 * With hundreds of clusters some are late everywhere at any time, and only an unanswered question
 * makes a cluster unknown.  (Rejected: a longer patience, which a few misses in a row outlast all
 * the same, and which delays what is true; pulls of all beats, whose size grows with the clusters.)
 */
#include "gossipd/bridge.h"

#include <assert.h>

enum {
	FANOUT = 4,        /* clusters that are told news at once */
	SPREADS = 12,      /* datagrams that carry them, all in all */
	TELLS_GATEWAY = 4, /* datagrams to members, beside the one that goes to all at once */
	TELLS_MEMBER = 1,  /* by a member that is no gateway */
	BULK = 2 * GOSSIPD_SUMMARIES_MAX, /* more news at once than that are left to the digests */
	MARKS_SENDS = 6,                  /* datagrams that carry one beat */
	BEATS_A_TURN = GOSSIPD_MARKS_MAX / MARKS_SENDS, /* beats that can rise in one turn */
	HOP_TURNS = 2,     /* for a beat from one gateway to twice as many */
	PROBES = 4,        /* clusters asked in one tick */
	QUESTIONS = 4,     /* without an answer, before a silence counts */
	CUT_OFF = 16,      /* questions after which nobody at all was heard: nobody hears us */
	JUDGED = 64,       /* clusters declared unknown in one tick */
	STILL_TICKS = 4,   /* that long between two ticks: we stood still ourselves */
	MARKED_NOW = 0x80, /* in .marked, while a datagram is filled */
};

/* Turns of exchange between two beats of a cluster. */
static unsigned beat_turns(const struct clusters *clusters)
{
	return (unsigned)(clusters->count / BEATS_A_TURN) + 1;
}

/* Turns after which a beat that has not risen here is late: the time between two, and what it takes
 * to reach everybody, which grows with the logarithm of the number of clusters. */
static unsigned stale_turns(const struct clusters *clusters)
{
	unsigned turns = beat_turns(clusters);

	for (size_t left = clusters->count; left > 0; left /= 2)
		turns += HOP_TURNS;
	return turns;
}

static struct mono times(struct mono length, int64_t n)
{
	return mono_ns(length.ns * n);
}

/* ---- whom to send to */

static void add_target(struct clusters *clusters, uint64_t id, bool reply)
{
	for (size_t i = 0; i < clusters->target_count; i++) {
		if (clusters->targets[i].id == id) {
			clusters->targets[i].reply = clusters->targets[i].reply || reply;
			return;
		}
	}
	if (clusters->target_count == CLUSTERS_TARGETS_MAX || id == clusters->self)
		return;
	clusters->targets[clusters->target_count].id = id;
	clusters->targets[clusters->target_count++].reply = reply;
}

static uint64_t any_member(struct clusters *clusters, const struct cluster_record *record)
{
	return clusters_roster(clusters, record)[rng_below(&clusters->rng, record->size)].id;
}

/* One of the cluster's gateways; any member if we do not know them. */
static uint64_t any_gateway(struct clusters *clusters, const struct cluster_record *record)
{
	uint64_t ids[2];
	size_t count = record->summary.unknown
			   ? 0
			   : clusters_gateways(clusters, record, &record->summary, ids);

	return count > 0 ? ids[rng_below(&clusters->rng, count)] : any_member(clusters, record);
}

/* The next cluster in a round over all others. */
static struct cluster_record *next(struct clusters *clusters, size_t *turn)
{
	do
		*turn = (*turn + 1) % clusters->count;
	while (*turn == clusters->own);
	return &clusters->records[*turn];
}

/* ---- news */

static void set_left(uint8_t *left, size_t *count, unsigned n)
{
	*count += (n > 0) - (size_t)(*left > 0);
	*left = (uint8_t)n;
}

static bool has_room(uint8_t left, size_t pending)
{
	return left > 0 || pending < BULK;
}

void bridge_news(
    struct clusters *clusters, struct cluster_record *record, bool abroad, struct mono now)
{
	bool own = record == &clusters->records[clusters->own];

	if (clusters->gateway && abroad &&
	    (own || has_room(record->spreads, clusters->spreading))) {
		set_left(
		    &record->spreads, &clusters->spreading, clusters->pulling ? FANOUT : SPREADS);
		clusters->spread_at = now;
	}
	/* Of our own cluster the members know more than a summary says. */
	if (own || !has_room(record->tells, clusters->telling))
		return;
	if (clusters->gateway)
		set_left(&record->tells, &clusters->telling, TELLS_GATEWAY);
	else
		set_left(&record->tells, &clusters->telling, clusters->pulling ? 0 : TELLS_MEMBER);
	clusters->tell_all = clusters->tell_all || clusters->gateway;
}

static void spread(struct clusters *clusters, struct mono now)
{
	size_t others = clusters->count - 1;

	clusters->spread_at = mono_add(now, clusters->tell);
	for (size_t i = 0; i < FANOUT && i < others; i++) {
		size_t at = others <= FANOUT ? i : (size_t)rng_below(&clusters->rng, others);

		at += at >= clusters->own;
		add_target(clusters, any_gateway(clusters, &clusters->records[at]), false);
	}
}

static void raise_own(struct clusters *clusters, struct mono now)
{
	struct cluster_record *own = &clusters->records[clusters->own];

	own->summary.beat++;
	own->raised_at = now;
	own->marked = 0;
}

/* Who is asked speaks for its cluster, gateway or not.  A beat that the asker has not heard is
 * answer enough: a new one would have to go round to all the others too. */
void bridge_answer(struct clusters *clusters, uint64_t to, uint32_t heard, struct mono now)
{
	if (clusters->records[clusters->own].summary.beat <= heard)
		raise_own(clusters, now);
	clusters->records[clusters->own].owed = true;
	clusters->exchange = true;
	add_target(clusters, to, false);
}

/* ---- the tick */

/* Nothing was heard of silence before we began to listen. */
static void begin_to_listen(struct clusters *clusters, struct mono now)
{
	clusters->unanswered = 0;
	for (size_t i = 0; i < clusters->count; i++) {
		clusters->records[i].raised_at = now;
		clusters->records[i].asked = 0;
	}
}

void bridge_set_gateway(struct clusters *clusters, bool gateway, struct mono now)
{
	bool was = clusters->gateway;

	clusters->gateway = gateway && clusters->count > 1;
	if (!clusters->gateway) {
		clusters->tick_at = MONO_NEVER;
		return;
	}
	if (was)
		return;
	clusters->tick_at = now;
	begin_to_listen(clusters, now);
	/* Clusters that started together do not raise their beats together, the two gateways of
	 * one do: the earlier of two at random would be early too often. */
	clusters->records[clusters->own].raised_at = mono_sub(now,
	    times(clusters->period, (int64_t)(rng_mix(clusters->name, 0) % beat_turns(clusters))));
}

static void ask(struct clusters *clusters, struct cluster_record *record)
{
	/* A member that does not know how far its cluster's beat has come is to answer with more. */
	record->owed = true;
	if (record->asked < QUESTIONS)
		record->asked++;
	clusters->unanswered++;
	clusters->exchange = true;
	add_target(clusters, any_member(clusters, record), true);
}

/*
 * Asks the clusters whose beat is late in turn, those first that were not asked for longest, and
 * declares unknown who was asked and is still silent.  A beat that did not come this way tells
 * nothing: with many clusters one or two are late here at any time, and are well.
 */
static void judge_silence(
    struct clusters *clusters, struct mono now, struct gossipd_actions *actions)
{
	struct mono stale = times(clusters->period, stale_turns(clusters));
	struct mono limit = mono_add(stale, clusters->silence);
	bool cut_off = clusters->unanswered >= CUT_OFF;
	size_t asked = 0, judged = 0, last = clusters->probe;

	for (size_t i = 0; i + 1 < clusters->count; i++) {
		struct cluster_record *record = next(clusters, &clusters->probe);

		if (!mono_due(mono_add(record->raised_at, stale), now))
			continue;
		if (!record->summary.unknown && judged < JUDGED &&
		    (cut_off || record->asked == QUESTIONS) &&
		    mono_due(mono_add(record->raised_at, limit), now)) {
			judged++;
			clusters_set_unknown(clusters, record, true, now, actions);
		}
		if (asked < PROBES) {
			asked++;
			ask(clusters, record);
			last = clusters->probe;
		}
	}
	clusters->probe = last;
}

static void tick(struct clusters *clusters, struct mono now, struct gossipd_actions *actions)
{
	struct mono half = mono_ns(clusters->period.ns / 2);
	struct cluster_record *own = &clusters->records[clusters->own];
	double wobble = 0.9 + 0.2 * rng_unit(&clusters->rng);

	if (mono_due(mono_add(clusters->tick_at, times(half, STILL_TICKS)), now))
		begin_to_listen(clusters, now);
	clusters->tick_at = mono_add(now, mono_ns((int64_t)((double)half.ns * wobble)));
	clusters_author(clusters, now, actions);
	judge_silence(clusters, now, actions);
	if (clusters->ticks++ % 2 != 0)
		return;
	/* The gateway that was first goes on: its beat comes back to the other one. */
	if (mono_due(mono_add(own->raised_at, times(clusters->period, beat_turns(clusters))), now))
		raise_own(clusters, now);
	clusters->exchange = true;
	add_target(clusters, any_gateway(clusters, next(clusters, &clusters->turn)), false);
}

struct mono clusters_deadline(const struct clusters *clusters)
{
	if (clusters->count < 2 || !clusters->gateway)
		return MONO_NEVER;
	return clusters->spreading > 0 ? mono_min(clusters->tick_at, clusters->spread_at)
				       : clusters->tick_at;
}

/* ---- datagrams */

/* The summaries with most sends left of one kind; counts this one. */
static size_t fill_summaries(
    struct clusters *clusters, bool abroad, struct gossipd_summary *summaries, unsigned receivers)
{
	size_t *pending = abroad ? &clusters->spreading : &clusters->telling, count = 0;
	struct cluster_record *chosen[GOSSIPD_SUMMARIES_MAX];

	if (*pending == 0)
		return 0;
	while (count < GOSSIPD_SUMMARIES_MAX) {
		struct cluster_record *best = NULL;
		uint8_t best_left = 0;

		for (size_t i = 0; i < clusters->count; i++) {
			struct cluster_record *record = &clusters->records[i];
			uint8_t left = abroad ? record->spreads : record->tells;
			bool used = false;

			for (size_t k = 0; k < count; k++)
				used = used || chosen[k] == record;
			if (!used && left > best_left) {
				best = record;
				best_left = left;
			}
		}
		if (!best)
			break;
		chosen[count] = best;
		summaries[count++] = best->summary;
	}
	for (size_t i = 0; i < count; i++) {
		uint8_t *left = abroad ? &chosen[i]->spreads : &chosen[i]->tells;

		set_left(left, pending, *left > receivers ? *left - receivers : 0);
		summaries[i].unknown = summaries[i].unknown && !abroad;
	}
	return count;
}

/* Beats that the receiver must have, then those that were sent least since they rose. */
static void fill_marks(struct clusters *clusters, struct gossipd_bridge *bridge)
{
	for (int sent = -1; sent < MARKS_SENDS; sent++) {
		for (size_t i = 0; i < clusters->count; i++) {
			struct cluster_record *record =
			    &clusters->records[(clusters->turn + i) % clusters->count];

			if (record->summary.beat == 0 ||
			    (sent < 0 ? !record->owed : record->marked != sent))
				continue;
			if (bridge->mark_count == GOSSIPD_MARKS_MAX)
				return;
			/* The order of the loops lets it be met again with what it has now. */
			if (record->marked < MARKS_SENDS)
				record->marked++;
			record->marked |= MARKED_NOW;
			record->owed = false;
			bridge->marks[bridge->mark_count++] =
			    record->summary.cluster >> 32 << 32 | record->summary.beat;
		}
	}
}

static void send(struct clusters *clusters, struct gossipd_actions *actions)
{
	struct gossipd_bridge *bridge = &actions->bridge;

	*bridge = (struct gossipd_bridge){.digest = clusters->digest};
	bridge->summary_count =
	    fill_summaries(clusters, true, bridge->summaries, (unsigned)clusters->target_count);
	if (clusters->exchange)
		fill_marks(clusters, bridge);
	for (size_t i = 0; i < clusters->count; i++)
		clusters->records[i].marked &= (uint8_t)~MARKED_NOW;
	for (size_t i = 0; i < clusters->target_count; i++) {
		struct gossipd_action *action = &actions->list[actions->count++];

		assert(actions->count <= GOSSIPD_ACTIONS_MAX);
		*action = (struct gossipd_action){.type = GOSSIPD_CROSS};
		action->cross.to = clusters->targets[i].id;
		action->cross.reply = clusters->targets[i].reply;
	}
	clusters->target_count = 0;
	clusters->exchange = false;
}

void clusters_run(struct clusters *clusters, struct mono now, struct gossipd_actions *actions)
{
	if (clusters->count < 2)
		return;
	if (clusters->gateway && mono_due(clusters->tick_at, now))
		tick(clusters, now, actions);
	if (clusters->gateway && clusters->spreading > 0 && mono_due(clusters->spread_at, now))
		spread(clusters, now);
	if (clusters->target_count > 0)
		send(clusters, actions);
}

bool clusters_tell_all(const struct clusters *clusters)
{
	return clusters->tell_all;
}

size_t clusters_tell_some(const struct clusters *clusters, uint64_t ids[2])
{
	if (!clusters->tell_gateways || clusters->count == 0)
		return 0;
	return clusters_gateways(clusters, &clusters->records[clusters->own], &clusters->mine, ids);
}

void clusters_fill(struct clusters *clusters, struct gossipd_gram *gram, unsigned receivers)
{
	if (clusters->count < 2)
		return;
	gram->clusters = clusters_digest(clusters);
	gram->summary_count = fill_summaries(clusters, false, gram->summaries, receivers);
	clusters->tell_all = clusters->tell_gateways = false;
}
