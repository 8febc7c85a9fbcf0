/*
 * A process that stands still on a node that lives: stopped, swapped out, out of its quota.  To its
 * observers it is as silent as a dead one, and most detectors call it dead; but its kernel still answers
 * for it.  So an observer that votes has a TCP connection opened to the member's gossipd, in the same
 * moment, so that it costs no time on the way to the verdict:
 *	refused, or no answer	the process or the node is gone: the vote counts, as it would without;
 *	accepted, and not a word	the process stands still: the vote stands, so all see a suspect, but it
 *				carries no verdict for a while;
 *	and then it speaks, or is reset	it lives and can refute, or has been killed: the vote counts.
 * The connection is kept while it excuses, as the kernel tells by it of the end of the process, and
 * keep-alives of the end of the node.
 *
 * Nobody is excused without end, whatever its kernel says and whoever answers in its place: each member
 * has an account of config.stall with each observer, from which an excuse is taken and which fills as time
 * goes by.  When it is empty the verdict falls.  So one that hangs is failed over config.stall later
 * than one that died, and one that hangs again and again is excused for half of the time at most.  An
 * observer that cannot reach the member votes as ever; a majority of those that cannot kills.
 *
 * Rejected: longer silence before the vote, which delays every verdict; to ask a helper process of that node,
 * which an overloaded node does not run either.
 */
#include "gossipd/core.h"

/* What is left in the account; at the time of the excuse that runs, or now. */
static struct mono credit(const struct gossipd *core, const struct member *member)
{
	struct mono until = mono_is_never(member->stalled_at) ? core->now : member->stalled_at;
	struct mono filled = mono_add(member->credit, mono_sub(until, member->credit_at));

	return mono_min(filled, core->config.stall);
}

struct mono stall_excused_until(const struct gossipd *core, const struct member *member)
{
	return mono_is_never(member->stalled_at)
		   ? MONO_ZERO
		   : mono_add(member->stalled_at, credit(core, member));
}

bool stall_excuses(const struct gossipd *core, const struct member *member)
{
	return member->voting && mono_before(core->now, stall_excused_until(core, member));
}

/* The account pays for it. */
static void end_excuse(const struct gossipd *core, struct member *member)
{
	struct mono until = stall_excused_until(core, member);

	if (mono_is_never(member->stalled_at))
		return;
	member->credit = mono_before(core->now, until) ? mono_sub(until, core->now) : MONO_ZERO;
	member->credit_at = core->now;
	member->stalled_at = MONO_NEVER;
}

enum gossipd_answer stall_reached(struct gossipd *core, const struct gossipd_event *event)
{
	struct member *member = find(core, event->reached.id);

	if (!member || is_self(core, member))
		return GOSSIPD_REFUSED;
	if (!(core->reaching & bit_of(core, member)))
		return GOSSIPD_OK; /* of a vote that has ended */
	if (!event->reached.mute)
		end_excuse(core, member);
	else if (mono_is_never(member->stalled_at))
		member->stalled_at = core->now;
	return GOSSIPD_OK;
}

static void reach(
    struct gossipd *core, struct member *member, bool begin, struct gossipd_actions *actions)
{
	struct gossipd_action *action = append(actions, GOSSIPD_REACH);

	action->reach.id = member->id;
	action->reach.begin = begin;
	core->reaching ^= bit_of(core, member);
}

void stall_forget(struct gossipd *core, struct member *member, struct gossipd_actions *actions)
{
	end_excuse(core, member);
	if (core->reaching & bit_of(core, member))
		reach(core, member, false, actions);
}

/* Votes that carry no verdict, told within the time in which a suspicion stands. */
static uint64_t excusing(const struct gossipd *core, const struct member *member)
{
	struct mono hold = mono_ns(3 * core->config.fresh.ns);

	return accusers(core, member, hold) & ~convinced(core, member, hold) & member->observers;
}

/* A quorum finds it so: that is told once for each suspicion. */
static void tell_stalled(
    struct gossipd *core, struct member *member, struct gossipd_actions *actions)
{
	bool stalled = size(excusing(core, member)) >= quorum_of(core, member);

	if (stalled && !member->told_stalled) {
		struct gossipd_action *action = append(actions, GOSSIPD_STALLED);

		action->member.id = member->id;
		action->member.incarnation = member->incarnation;
		action->member.votes = size(excusing(core, member));
		action->member.observers = size(member->observers);
		member->told_stalled = true;
	}
	member->stalled = stalled;
}

/* An excuse that begins or ends is news like a vote. */
static void tell_excuse(struct gossipd *core, struct member *member)
{
	bool excused = stall_excuses(core, member);

	if (excused != member->excused)
		core->send |= (bit_of(core, member) | member->observers) & ~bit(core->self);
	member->excused = excused;
}

void stall_review(struct gossipd *core, struct gossipd_actions *actions)
{
	uint64_t suspects = others(core, STATE(SUSPECT));

	if (core->config.stall.ns == 0)
		return;
	for (uint64_t set = core->reaching; set != 0;) {
		struct member *member = &core->members[take(&set)];

		if (!member->voting)
			stall_forget(core, member, actions);
	}
	while (suspects != 0) {
		struct member *member = &core->members[take(&suspects)];

		if (member->voting && !(core->reaching & bit_of(core, member)))
			reach(core, member, true, actions);
		tell_excuse(core, member);
		tell_stalled(core, member, actions);
	}
}
