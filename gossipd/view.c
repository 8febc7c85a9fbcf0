#include "gossipd/core.h"

/* A refutation is told by its member to those concerned; it makes no difference to the rest. */
static bool is_news(const struct member *member, enum gossipd_state to, uint64_t incarnation)
{
	if (to == GOSSIPD_SUSPECT)
		return false;
	return to != GOSSIPD_ALIVE ||
	       (member->state != GOSSIPD_ALIVE && member->state != GOSSIPD_SUSPECT) ||
	       member_epoch(incarnation) != member_epoch(member->incarnation);
}

static void spread(struct gossipd *core, struct member *member)
{
	member->rumour = rumour_sends(core);
	core->digest = member_digest(core->members, core->count);
	core->changed_at = core->now;
	core->gossip_at = mono_min(core->gossip_at, mono_add(core->now, core->config.hurry));
	for (size_t i = 0; i < core->count; i++)
		core->members[i].pull_at = core->members[i].pull_wait = MONO_ZERO;
}

static void tell_move(struct gossipd *core, const struct member *member, enum gossipd_state to,
    uint64_t incarnation, struct gossipd_actions *actions)
{
	struct gossipd_action *action = append(actions, GOSSIPD_MEMBER);

	action->member.id = member->id;
	action->member.from = member->state;
	action->member.to = to;
	action->member.incarnation = incarnation;
	action->member.votes = size(accusers(core, member, core->config.fresh));
	action->member.observers = size(member->observers);
}

/* Back from the dead, or a new process that nobody saw leave. */
static bool is_flap(const struct member *member, enum gossipd_state to, uint64_t incarnation)
{
	if (to != GOSSIPD_ALIVE)
		return false;
	return member->state == GOSSIPD_DEAD ||
	       ((member->state == GOSSIPD_ALIVE || member->state == GOSSIPD_SUSPECT) &&
		   member_epoch(incarnation) != member_epoch(member->incarnation));
}

/* The one place where a state or an incarnation changes. */
void view_move(struct gossipd *core, struct member *member, enum gossipd_state to,
    uint64_t incarnation, struct gossipd_actions *actions)
{
	enum gossipd_state from = member->state;
	bool news = is_news(member, to, incarnation);

	assert(member_may_move(from, to) && incarnation >= member->incarnation);
	if (from != to || member_epoch(incarnation) != member_epoch(member->incarnation))
		tell_move(core, member, to, incarnation, actions);
	if (is_flap(member, to, incarnation) && !is_self(core, member))
		damping_flap(core, member, actions);
	/* Its silence until now was that of one who was not there. */
	if (to == GOSSIPD_ALIVE && from != GOSSIPD_ALIVE && from != GOSSIPD_SUSPECT)
		member->again_at = mono_add(core->now, core->config.again);
	if (incarnation != member->incarnation) {
		member->learned_at = core->now;
		member->dead_by = member->left_by = 0;
	}
	core->in[from] &= ~bit_of(core, member);
	core->in[to] |= bit_of(core, member);
	member->state = to;
	member->incarnation = incarnation;
	member->postponed_by = 0;
	member->suspect_at = to == GOSSIPD_SUSPECT ? core->now : MONO_NEVER;
	if (to != GOSSIPD_SUSPECT) {
		member->voting = member->excused = member->stalled = false;
		member->told_stalled = false;
		member->confirm_at = MONO_NEVER;
	}
	if (news)
		spread(core, member);
}

/* Our own incarnation is raised above what was said of us; observers and accusers hear it first. */
void view_refute(struct gossipd *core, uint64_t incarnation, struct gossipd_actions *actions)
{
	struct member *me = self(core);
	uint64_t accusing = accusers(core, me, mono_add(core->config.fresh, core->config.fresh));

	if (core->leaving || incarnation < me->incarnation || !incarnation_valid(incarnation + 1))
		return;
	core->counters.refutations++;
	core->send |= (me->observers | accusing) & ~bit(core->self);
	/* Two are near a verdict: then others are to know better, too. */
	if (size(accusing) >= 2)
		core->send |= others(core, COUNTED);
	view_move(core, me, GOSSIPD_ALIVE, incarnation + 1, actions);
}

bool incarnation_valid(uint64_t incarnation)
{
	return incarnation != 0 && !(incarnation >> INCARNATION_MAX_BITS);
}

/* One entry that is true, about another member. */
void view_believe(struct gossipd *core, struct member *member, const struct gossipd_entry *entry,
    struct gossipd_actions *actions)
{
	if (!member_overrides(member, entry))
		return;
	if (member->voting && entry->state == GOSSIPD_ALIVE) {
		/* Refuted.  If our own path to it stays silent we begin again, later and later. */
		member->again_at = mono_add(core->now, member->again);
		member->again =
		    mono_min(mono_add(member->again, member->again), mono_ms(AGAIN_MAX_MS));
	}
	if (member->state == GOSSIPD_SUSPECT && entry->state == GOSSIPD_ALIVE) {
		core->send |= accusers(core, member, core->config.fresh) & ~bit(core->self);
		member->rumour += member->rumour == 0;
	}
	view_move(core, member, entry->state, entry->incarnation, actions);
}

/* ---- repair of differences */

void view_compare(
    struct gossipd *core, struct member *member, uint64_t digest, struct gossipd_actions *actions)
{
	bool settled = elapsed(core, core->changed_at, mono_ms(PULL_GAP_MS));

	if (digest == core->digest) {
		member->pull_at = member->pull_wait = MONO_ZERO;
		return;
	}
	if (core->leaving || !mono_due(member->pull_at, core->now))
		return;
	if (core->pulling && !elapsed(core, core->pulled_at, mono_ms(PULL_WAIT_MS)))
		return;
	if (within(core, core->pulled_at, mono_ms(PULL_GAP_MS)))
		return;
	/* News are still on their way, unless we have none at all. */
	if (!settled && others(core, STATE(UNKNOWN)) == 0)
		return;
	core->pulling = true;
	core->pulled_at = core->now;
	/* One whose view stays different, or who lies about it, is asked more and more seldom. */
	member->pull_wait =
	    mono_min(mono_add(mono_ms(PULL_GAP_MS), mono_add(member->pull_wait, member->pull_wait)),
		mono_ms(PULL_AGAIN_MAX_MS));
	member->pull_at = mono_add(core->now, member->pull_wait);
	core->counters.pulls++;
	append(actions, GOSSIPD_PULL)->peer = member->id;
}

enum gossipd_answer view_pulled(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	struct member *from = find(core, event->view.from);

	if (!from || is_self(core, from) || event->view.count > GOSSIPD_MEMBERS_MAX)
		return GOSSIPD_REFUSED;
	core->pulling = false;
	for (size_t i = 0; i < event->view.count; i++)
		hear(core, from, &event->view.entries[i], actions);
	judge_all(core, actions);
	return GOSSIPD_OK;
}
