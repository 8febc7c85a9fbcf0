#include "gossipd/core.h"

/* The one place where a state or an incarnation changes. */
void view_move(struct gossipd *core, struct member *member, enum gossipd_state to,
    uint64_t incarnation, struct gossipd_actions *actions)
{
	enum gossipd_state from = member->state;
	bool durable = to != GOSSIPD_SUSPECT && (from != GOSSIPD_SUSPECT || to != GOSSIPD_ALIVE ||
						    incarnation != member->incarnation);
	bool told = from != to || member_epoch(incarnation) != member_epoch(member->incarnation);

	assert(member_may_move(from, to) && incarnation >= member->incarnation);
	if (told) {
		struct gossipd_action *action = append(actions, GOSSIPD_MEMBER);

		action->member.id = member->id;
		action->member.from = from;
		action->member.to = to;
		action->member.incarnation = incarnation;
		action->member.votes = size(accusers(core, member, core->config.fresh));
		action->member.observers = size(member->observers);
	}
	core->in[from] &= ~bit_of(core, member);
	core->in[to] |= bit_of(core, member);
	member->state = to;
	member->incarnation = incarnation;
	member->suspect_at = to == GOSSIPD_SUSPECT ? core->now : MONO_NEVER;
	if (to != GOSSIPD_SUSPECT) {
		member->voting = false;
		member->confirm_at = MONO_NEVER;
	}
	if (durable) {
		member->rumour = rumour_sends(core);
		core->digest = member_digest(core->members, core->count);
		core->changed_at = core->now;
		core->gossip_at =
		    mono_min(core->gossip_at, mono_add(core->now, core->config.hurry));
	}
}

/* Our own incarnation is raised above what was said of us; observers and accusers hear it first. */
void view_refute(struct gossipd *core, uint64_t incarnation, struct gossipd_actions *actions)
{
	struct member *me = self(core);

	if (core->leaving || incarnation < me->incarnation)
		return;
	core->counters.refutations++;
	core->send |=
	    me->observers | accusers(core, me, mono_add(core->config.fresh, core->config.fresh));
	view_move(core, me, GOSSIPD_ALIVE, incarnation + 1, actions);
}

/* Somebody holds us for dead or gone, or knows of a later process of ours. */
static void answer_verdict(
    struct gossipd *core, const struct gossipd_entry *entry, struct gossipd_actions *actions)
{
	const struct member *me = self(core);

	if (core->leaving || entry->incarnation < me->incarnation ||
	    (entry->incarnation == me->incarnation && entry->state == GOSSIPD_ALIVE))
		return;
	view_refute(core, entry->incarnation, actions);
	core->send |= others(core, STATE(ALIVE) | STATE(SUSPECT));
}

bool incarnation_valid(uint64_t incarnation)
{
	return incarnation != 0 && !(incarnation >> INCARNATION_MAX_BITS);
}

static bool entry_valid(const struct gossipd_entry *entry)
{
	return (entry->state == GOSSIPD_ALIVE || entry->state == GOSSIPD_DEAD ||
		   entry->state == GOSSIPD_LEFT) &&
	       incarnation_valid(entry->incarnation);
}

/* One entry that somebody told. */
void view_apply(
    struct gossipd *core, const struct gossipd_entry *entry, struct gossipd_actions *actions)
{
	struct member *member = find(core, entry->id);

	if (!member || !entry_valid(entry))
		return;
	if (is_self(core, member)) {
		answer_verdict(core, entry, actions);
		return;
	}
	if (!member_overrides(member, entry))
		return;
	if (member->voting && entry->state == GOSSIPD_ALIVE) {
		/* Refuted.  If our own path to it stays silent we begin again, later and later. */
		member->again_at = mono_add(core->now, member->again);
		member->again =
		    mono_min(mono_add(member->again, member->again), mono_ms(AGAIN_MAX_MS));
	}
	if (member->state == GOSSIPD_SUSPECT && entry->state == GOSSIPD_ALIVE)
		core->send |= accusers(core, member, core->config.fresh) & ~bit(core->self);
	view_move(core, member, entry->state, entry->incarnation, actions);
}

/* ---- repair of differences */

void view_compare(
    struct gossipd *core, struct member *member, uint64_t digest, struct gossipd_actions *actions)
{
	bool settled = elapsed(core, core->changed_at, mono_ms(PULL_GAP_MS));

	if (digest == core->digest || core->leaving)
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
	core->counters.pulls++;
	append(actions, GOSSIPD_PULL)->peer = member->id;
}

enum gossipd_answer view_pulled(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	if (!find(core, event->view.from) || event->view.count > GOSSIPD_MEMBERS_MAX)
		return GOSSIPD_REFUSED;
	core->pulling = false;
	for (size_t i = 0; i < event->view.count; i++)
		view_apply(core, &event->view.entries[i], actions);
	judge_all(core, actions);
	return GOSSIPD_OK;
}
