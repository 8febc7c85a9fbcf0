/*
 * Members that come and go (after BGP's route flap damping, RFC 2439).  Each return from the dead, and
 * each restart without a leave, adds to a member's penalty, which halves in PENALTY_HALF_MS.  Above
 * one limit it is damped: no observer, and the last choice for coordinator, so that neither roles
 * nor the lease move with it; below a lower one it is stable again.  The penalty is capped, so nobody is
 * held back for more than some half-lives after the last flap.
 *
 * Only what all members know counts, as all have to agree on the observers.  Suspicions do not:
 * few hear of them, and loss makes them, not the member.  The damped one cannot count: it does not know
 * who held it for dead.  So each tells it, and it believes a majority.  (While it was not told, it went on
 * watching members that sent their heartbeats to others by then, and accused them all.)  Rejected: to hide a damped member's
 * states, as RFC 2439 does with routes; a service on it must be recovered all the same.
 */
#include "gossipd/core.h"

enum {
	PENALTY_FLAP = 1000,
	PENALTY_DAMP = 2500, /* three flaps in quick succession */
	PENALTY_REUSE = 1000,
	PENALTY_MAX = 8000, /* three half-lives above reuse */
	PENALTY_HALF_MS = 60000,
};

/* Halved for each half-life, and linear between. */
static uint64_t present_penalty(const struct gossipd *core, const struct member *member)
{
	int64_t ms = mono_to_ms(mono_sub(core->now, member->penalty_at));
	uint64_t halves = (uint64_t)(ms / PENALTY_HALF_MS), rest = (uint64_t)(ms % PENALTY_HALF_MS);
	uint64_t penalty = halves < 32 ? member->penalty >> halves : 0;

	return penalty - penalty * rest / (2 * PENALTY_HALF_MS);
}

static void move(struct gossipd *core, const struct member *member, struct gossipd_actions *actions)
{
	struct gossipd_action *action = append(actions, GOSSIPD_DAMPED);

	core->damped ^= bit_of(core, member);
	core->send |= bit_of(core, member) & ~bit(core->self);
	action->damped.id = member->id;
	action->damped.damped = core->damped & bit_of(core, member);
}

void damping_flap(struct gossipd *core, struct member *member, struct gossipd_actions *actions)
{
	uint64_t penalty = present_penalty(core, member) + PENALTY_FLAP;

	member->penalty = penalty < PENALTY_MAX ? penalty : PENALTY_MAX;
	member->penalty_at = core->now;
	if (member->penalty < PENALTY_DAMP || (core->damped & bit_of(core, member)))
		return;
	move(core, member, actions);
}

void damping_of_us(struct gossipd *core, const struct member *by, bool damped)
{
	core->damping_us &= ~bit_of(core, by);
	core->damping_us |= damped ? bit_of(core, by) : 0;
}

static void review_ourselves(struct gossipd *core, struct gossipd_actions *actions)
{
	uint64_t counted = others(core, COUNTED);
	bool damped = 2 * size(core->damping_us & counted) > size(counted);

	if (damped != (core->damped >> core->self & 1))
		move(core, self(core), actions);
}

void damping_review(struct gossipd *core, struct gossipd_actions *actions)
{
	for (uint64_t set = core->damped & ~bit(core->self); set != 0;) {
		struct member *member = &core->members[take(&set)];

		if (present_penalty(core, member) < PENALTY_REUSE)
			move(core, member, actions);
	}
	review_ourselves(core, actions);
}

uint64_t damping_stable(const struct gossipd *core, uint64_t candidates)
{
	uint64_t stable = candidates & ~core->damped;

	return size(stable) > core->config.observers ? stable : candidates;
}
