#include "gossipd/core.h"

/* ---- votes */

/* Does this one hold a vote against the member's present incarnation, told within the time?  Excused
 * ones count for a suspicion only. */
static bool votes_against(const struct gossipd *core, const struct member *voter,
    const struct member *member, struct mono fresh, bool excused)
{
	/* A verdict is more than the vote, which was given up for it. */
	if (member->dead_by & bit_of(core, voter))
		return member_counts(voter);
	if (is_self(core, voter))
		return member->voting && (excused || !stall_excuses(core, member));
	if (!within(core, voter->ballots_at, fresh))
		return false;
	for (size_t i = 0; i < voter->ballot_count; i++) {
		if (voter->ballots[i].id == member->id &&
		    concerns_present(core, member, voter->ballots[i].incarnation) &&
		    (excused || !voter->ballots[i].stalled))
			return member_counts(voter);
	}
	return false;
}

static uint64_t holders(
    const struct gossipd *core, const struct member *member, struct mono fresh, bool excused)
{
	uint64_t set = 0, voters = core->voters | member->dead_by | bit(core->self);

	while (voters != 0) {
		size_t i = take(&voters);
		const struct member *voter = &core->members[i];

		if (voter != member && votes_against(core, voter, member, fresh, excused))
			set |= bit(i);
	}
	return set;
}

uint64_t accusers(const struct gossipd *core, const struct member *member, struct mono fresh)
{
	return holders(core, member, fresh, true);
}

uint64_t convinced(const struct gossipd *core, const struct member *member, struct mono fresh)
{
	return holders(core, member, fresh, false);
}

/* A majority of the observers or the share that is configured; two at least, so that nobody ever judges alone. */
unsigned quorum_of(const struct gossipd *core, const struct member *member)
{
	unsigned observers = size(member->observers), majority = observers / 2 + 1;
	unsigned wanted = (observers * core->config.quorum + 99) / 100;

	if (wanted < majority)
		wanted = majority;
	return wanted < 2 ? 2 : wanted;
}

/* Did a majority of the cluster, ourselves included, answer us since then?  To hear them is not enough:
 * one that is not heard is held for dead, the others turn their heartbeats away from it, and it would
 * hold their silence for death. */
static bool majority_answers(const struct gossipd *core, struct mono since)
{
	uint64_t counted = others(core, COUNTED);
	unsigned answers = 1;

	for (uint64_t set = counted; set != 0;) {
		const struct member *member = &core->members[take(&set)];

		answers +=
		    !mono_is_never(member->answered_at) && !mono_before(member->answered_at, since);
	}
	return 2 * answers > size(counted) + 1;
}

/* ---- our own health */

/*
 * Who stood still of late finds others silent for his own slowness more often than for theirs.  So he votes
 * later, as probes and suspicions of Lifeguard take 1 + lhm times as long (Dadgar, Phillips and Currey,
 * 2018): one confirmation time for each point of fdd's multiplier, and one for a moment after this
 * process itself stood still, when what fdd said in between comes all at once.  In that time the member is
 * asked, and one who answers is not accused.  The vote of another observer, who is well, ends the waiting:
 * together they judge no later than healthy ones.
 */
static struct mono patience(const struct gossipd *core)
{
	unsigned points = core->lhm + !mono_due(core->shaken_until, core->now);

	return mono_ns(points * core->config.confirm.ns);
}

void doubt_finding(struct gossipd *core, struct member *member)
{
	member->found_at = core->now;
	if (patience(core).ns > 0)
		core->ask |= bit_of(core, member);
}

void doubt_findings(struct gossipd *core)
{
	for (uint64_t set = core->watch; set != 0;) {
		struct member *member = &core->members[take(&set)];

		if (member->silent && !member->voting)
			doubt_finding(core, member);
	}
}

struct mono first_vote_at(const struct gossipd *core, const struct member *member)
{
	struct mono at = mono_add(member->found_at, patience(core));

	return mono_before(at, member->again_at) ? member->again_at : at;
}

/* It has not answered since it was asked; if it has, it is asked again. */
static bool bears_out(struct gossipd *core, struct member *member)
{
	if (patience(core).ns == 0 || mono_is_never(member->answered_at) ||
	    mono_before(member->answered_at, member->found_at))
		return true;
	doubt_finding(core, member);
	return false;
}

/* ---- judgement of one member */

static bool may_vote(struct gossipd *core, struct member *member)
{
	if (!member->watch || !member->silent || core->fdd_lost || core->isolated || core->leaving)
		return false;
	if (member->voting || accusers(core, member, core->config.fresh) != 0)
		return true;
	return mono_due(first_vote_at(core, member), core->now) && bears_out(core, member);
}

static void vote(struct gossipd *core, struct member *member)
{
	bool want = may_vote(core, member);

	if (want == member->voting)
		return;
	member->voting = want;
	core->counters.votes += want;
	/* The accused first: sends are made in the order of need, see send_all(). */
	core->send |= (bit_of(core, member) | member->observers) & ~bit(core->self);
}

static void suspect(struct gossipd *core, struct member *member, struct gossipd_actions *actions)
{
	struct mono hold =
	    mono_add(core->config.fresh, mono_add(core->config.fresh, core->config.fresh));
	bool accused = (accusers(core, member, hold) & member->observers) != 0;

	if (accused && member->state == GOSSIPD_ALIVE) {
		view_move(core, member, GOSSIPD_SUSPECT, member->incarnation, actions);
		/* Tell it, in case that the accuser cannot. */
		core->send |= bit_of(core, member);
	} else if (!accused && member->state == GOSSIPD_SUSPECT) {
		view_move(core, member, GOSSIPD_ALIVE, member->incarnation, actions);
	}
}

/*
 * From a majority of votes to the verdict.  The confirmation time counts from the moment at which we
 * are known to be in touch, so that the accused has all of it to be heard by us: votes that were cast
 * while we were cut off would else become verdicts with the first answers after it.
 */
static void confirm(struct gossipd *core, struct member *member, struct gossipd_actions *actions)
{
	if (member->state != GOSSIPD_SUSPECT || !member->voting || stall_excuses(core, member) ||
	    size(convinced(core, member, core->config.fresh) & member->observers) <
		quorum_of(core, member)) {
		member->confirm_at = MONO_NEVER;
	} else if (mono_is_never(member->confirm_at)) {
		member->confirm_at = core->now;
		member->contact_at = MONO_NEVER;
		ask_silent(core, core->now);
	} else if (mono_is_never(member->contact_at)) {
		if (majority_answers(core, member->confirm_at))
			member->contact_at = core->now;
	} else if (elapsed(core, member->contact_at, core->config.confirm)) {
		core->counters.verdicts++;
		view_move(core, member, GOSSIPD_DEAD, member->incarnation, actions);
		member->dead_by |= bit(core->self);
		core->send |= others(core, STATE(ALIVE) | STATE(SUSPECT) | STATE(DEAD));
	}
}

void judge(struct gossipd *core, struct member *member, struct gossipd_actions *actions)
{
	if (is_self(core, member) ||
	    (member->state != GOSSIPD_ALIVE && member->state != GOSSIPD_SUSPECT))
		return;
	vote(core, member);
	suspect(core, member, actions);
	confirm(core, member, actions);
}

void judge_all(struct gossipd *core, struct gossipd_actions *actions)
{
	for (size_t i = 0; i < core->count; i++)
		judge(core, &core->members[i], actions);
}

void judge_suspects(struct gossipd *core, struct gossipd_actions *actions)
{
	for (uint64_t set = others(core, STATE(SUSPECT)); set != 0;)
		judge(core, &core->members[take(&set)], actions);
}

/* ---- are we the one who is cut off? */

/* What we missed while we were cut off accuses nobody: fdd is given time to hear them again. */
static void hold_back(struct gossipd *core)
{
	for (size_t i = 0; i < core->count; i++)
		core->members[i].again_at = mono_add(core->now, core->config.again);
}

/*
 * More than half of what we watch is silent: then we ask everybody, and unless a majority answers
 * we are isolated, cast no votes and hold the rest of the cluster for unknown, not for dead.
 */
void doubt_ourselves(struct gossipd *core, struct gossipd_actions *actions)
{
	unsigned watched = 0, silent = 0;
	bool isolated = core->isolated;

	for (uint64_t set = core->watch; set != 0;) {
		const struct member *member = &core->members[take(&set)];

		watched += member->watch;
		silent += member->watch && member->silent;
	}
	if (2 * silent <= watched || core->fdd_lost) {
		core->doubt_at = MONO_NEVER;
		isolated = false;
	} else if (mono_is_never(core->doubt_at) || elapsed(core, core->doubt_at, mono_ms(1000))) {
		core->doubt_at = core->now;
		ask_silent(core, core->now);
	} else if (majority_answers(core, core->doubt_at)) {
		isolated = false;
	} else if (elapsed(core, core->doubt_at, core->config.confirm)) {
		isolated = true;
	}
	if (core->isolated && !isolated)
		hold_back(core);
	if (isolated != core->isolated) {
		core->isolated = isolated;
		append(actions, GOSSIPD_ISOLATED)->isolated = isolated;
	}
}
