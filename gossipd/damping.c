/*
 * Members that come and go (after BGP's route flap damping, RFC 2439).  Each return from the dead, and
 * each restart without a leave, adds to a member's penalty, which halves in PENALTY_HALF_MS.  Above
 * one limit it is damped: no observer, and the last choice for coordinator, so that neither roles
 * nor the lease move with it; below a lower one it is stable again.  The penalty is capped, so nobody is
 * held back for more than some half-lives after the last flap.
 *
 * Only what all members know counts, as all have to agree on the observers.  Suspicions do not:
 * few hear of them, and loss makes them, not the member.  Rejected: to hide a damped member's
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

static void tell(struct gossipd *core, const struct member *member, struct gossipd_actions *actions)
{
	struct gossipd_action *action = append(actions, GOSSIPD_DAMPED);

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
	core->damped |= bit_of(core, member);
	tell(core, member, actions);
}

void damping_decay(struct gossipd *core, struct gossipd_actions *actions)
{
	for (uint64_t set = core->damped; set != 0;) {
		struct member *member = &core->members[take(&set)];

		if (present_penalty(core, member) >= PENALTY_REUSE)
			continue;
		core->damped &= ~bit_of(core, member);
		tell(core, member, actions);
	}
}

uint64_t damping_stable(const struct gossipd *core, uint64_t candidates)
{
	uint64_t stable = candidates & ~core->damped;

	return size(stable) > core->config.observers ? stable : candidates;
}
