#include "gossipd/core.h"

static bool happened(struct mono at, struct mono since)
{
	return !mono_is_never(at) && !mono_before(at, since);
}

void ask_unheard(struct gossipd *core, struct mono since)
{
	for (uint64_t set = others(core, COUNTED); set != 0;) {
		size_t i = take(&set);

		core->ask |= happened(core->members[i].heard_at, since) ? 0 : bit(i);
	}
}

void ask_silent(struct gossipd *core, struct mono since)
{
	for (uint64_t set = others(core, COUNTED); set != 0;) {
		size_t i = take(&set);

		core->ask |= happened(core->members[i].answered_at, since) ? 0 : bit(i);
	}
}

unsigned rumour_sends(const struct gossipd *core)
{
	unsigned bits = 1;

	while (core->count >> bits)
		bits++;
	return RUMOUR_SENDS * bits;
}

static void fill_ballots(const struct gossipd *core, struct gossipd_gram *gram)
{
	uint64_t suspects = others(core, STATE(SUSPECT));

	while (suspects != 0 && gram->ballot_count < GOSSIPD_BALLOTS_MAX) {
		const struct member *member = &core->members[take(&suspects)];

		if (member->voting)
			gram->ballots[gram->ballot_count++] = (struct gossipd_ballot){
			    member->id, member->incarnation, stall_excuses(core, member)};
	}
}

/* The entries that have been sent least. */
static void fill_rumours(struct gossipd *core, struct gossipd_gram *gram, unsigned sends)
{
	uint64_t left = 0;

	for (size_t i = 0; i < core->count; i++)
		left |= core->members[i].rumour > 0 ? bit(i) : 0;
	while (left != 0 && gram->rumour_count < GOSSIPD_RUMOURS_MAX) {
		struct member *best = NULL;

		for (uint64_t set = left; set != 0;) {
			struct member *member = &core->members[take(&set)];

			if (!best || member->rumour > best->rumour)
				best = member;
		}
		left &= ~bit_of(core, best);
		best->rumour -= best->rumour < sends ? best->rumour : sends;
		gram->rumours[gram->rumour_count++] = member_entry(best);
	}
}

/* The incarnation that this one must exceed to be alive in our view, or 0. */
static uint64_t accusation(const struct member *member)
{
	bool accused = member->state != GOSSIPD_ALIVE && member->state != GOSSIPD_UNKNOWN;

	return accused || member->behind ? member->incarnation : 0;
}

static void send_to(struct gossipd *core, size_t i, struct gossipd_actions *actions)
{
	struct gossipd_action *action = append(actions, GOSSIPD_SEND);

	action->send.to = core->ids[i];
	action->send.accused = accusation(&core->members[i]);
	action->send.damped = core->damped >> i & 1;
	action->send.reply = core->ask >> i & 1;
	action->send.answer = core->answer >> i & 1;
	core->counters.grams_sent++;
}

/* One body for all receivers of a step; the accused are told first. */
void send_all(struct gossipd *core, struct gossipd_actions *actions)
{
	uint64_t to = (core->send | core->ask | core->answer) & ~bit(core->self);
	struct gossipd_gram *gram = &actions->gram;

	if (to == 0)
		return;
	gram->incarnation = self(core)->incarnation;
	gram->number = ++core->number;
	gram->digest = core->digest;
	gram->accused = 0;
	gram->damped = gram->reply = gram->answer = false;
	gram->ballot_count = gram->rumour_count = gram->summary_count = 0;
	gram->clusters = 0;
	fill_ballots(core, gram);
	fill_rumours(core, gram, size(to));
	clusters_fill(&core->clusters, gram, size(to));
	for (int accused = 1; accused >= 0; accused--) {
		for (uint64_t set = to; set != 0;) {
			size_t i = take(&set);

			if ((accusation(&core->members[i]) != 0) == accused)
				send_to(core, i, actions);
		}
	}
	core->send = core->ask = core->answer = 0;
}

/* ---- gossip's round and what is told again */

void shuffle(struct gossipd *core)
{
	for (size_t i = core->count; i > 1; i--) {
		size_t j = (size_t)rng_below(&core->rng, i);
		uint8_t swap = core->ring[i - 1];

		core->ring[i - 1] = core->ring[j];
		core->ring[j] = swap;
	}
	core->ring_at = 0;
}

static bool news(const struct gossipd *core)
{
	for (size_t i = 0; i < core->count; i++) {
		if (core->members[i].rumour > 0)
			return true;
	}
	return false;
}

/* The next one in a random order that is drawn anew each round: nobody waits for more than two
 * rounds.  The dead are among them: that is how they learn of it, and how partitions heal.  Without
 * news a datagram holds little more than the digest, and there is time for it. */
void gossip(struct gossipd *core)
{
	double wobble = 0.9 + 0.2 * rng_unit(&core->rng);
	struct mono wait;

	wait = news(core) || unrest(core) ? core->config.hurry : core->config.gossip;
	core->gossip_at = mono_add(core->now, mono_ns((int64_t)((double)wait.ns * wobble)));
	for (size_t tries = 0; tries < 2 * core->count; tries++) {
		size_t i;

		if (core->ring_at >= core->count)
			shuffle(core);
		i = core->ring[core->ring_at++];
		if (i != core->self && core->members[i].state != GOSSIPD_LEFT) {
			core->send |= bit(i);
			return;
		}
	}
}

/* Is anything going on that has to be told again soon? */
bool unrest(const struct gossipd *core)
{
	if (!mono_is_never(core->doubt_at) || core->leaving)
		return true;
	if (!elapsed(core, core->started_at, mono_ms(GREET_MS)))
		return true;
	return others(core, STATE(SUSPECT)) != 0;
}

/* One that stands still for a while is no news, and cannot listen: what is said of it is repeated just so
 * often that the suspicion does not lapse, to the observers and, more seldom, to all. */
static bool quiet_about(const struct gossipd *core, const struct member *member)
{
	return member->stalled && elapsed(core, member->suspect_at, core->config.linger);
}

/* Is it everybody's turn to hear of our vote? */
static bool tells_all(const struct gossipd *core, const struct member *member)
{
	if (quiet_about(core, member))
		return core->tellings % (2 * STALLED_EVERY) == 0;
	return elapsed(core, member->suspect_at, core->config.linger) && core->number % 4 == 0;
}

static void tell_vote(struct gossipd *core, const struct member *member)
{
	core->send |= (bit_of(core, member) | member->observers) & ~bit(core->self);
	if (tells_all(core, member))
		core->send |= others(core, STATE(ALIVE) | STATE(SUSPECT));
	if (!mono_is_never(member->confirm_at))
		ask_silent(core, member->confirm_at);
}

/* Tells each standing vote again to the accused and to the other observers, and to everybody when
 * it stays: then others must take the place of the suspect as observers.  The accused is to hear of it by
 * every path that there is, so those who do not vote tell it, too. */
static void tell_suspects(struct gossipd *core)
{
	for (uint64_t set = others(core, STATE(SUSPECT)); set != 0;) {
		const struct member *member = &core->members[take(&set)];

		if (quiet_about(core, member) && core->tellings % STALLED_EVERY != 0)
			continue;
		if (member->voting)
			tell_vote(core, member);
		else
			core->send |= bit_of(core, member);
	}
}

void tell_again(struct gossipd *core)
{
	core->tell_at = mono_add(core->now, core->config.tell);
	core->tellings++;
	tell_suspects(core);
	if (!mono_is_never(core->doubt_at))
		ask_silent(core, core->doubt_at);
	if (!elapsed(core, core->started_at, mono_ms(GREET_MS)))
		ask_unheard(core, core->started_at);
}
