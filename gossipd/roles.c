#include "gossipd/core.h"
#include "gossipd/observers.h"

static bool may_observe(const struct gossipd *core, const struct member *member)
{
	switch (member->state) {
	case GOSSIPD_ALIVE:
		return true;
	case GOSSIPD_SUSPECT:
		return !elapsed(core, member->suspect_at, core->config.linger);
	case GOSSIPD_UNKNOWN:
		return !elapsed(core, core->started_at, mono_ms(ABSENT_MS));
	default:
		return false;
	}
}

static void choose_observers(struct gossipd *core)
{
	uint64_t candidates = 0;

	for (size_t i = 0; i < core->count; i++)
		candidates |= may_observe(core, &core->members[i]) ? bit(i) : 0;
	if (candidates == core->candidates && core->roles_told)
		return;
	core->candidates = candidates;
	for (size_t i = 0; i < core->count; i++)
		core->members[i].observers =
		    observers_choose(core->ids, core->count, i, candidates, core->config.observers);
}

static uint64_t receivers(const struct gossipd *core)
{
	uint64_t set = core->members[core->self].observers;

	for (size_t i = 0; i < core->count; i++) {
		const struct member *member = &core->members[i];

		if (i != core->self && !mono_is_never(member->receiver_until) &&
		    mono_before(core->now, member->receiver_until) && member_counts(member))
			set |= bit(i);
	}
	return core->leaving ? 0 : set;
}

/* Sets whom we watch and who hears our heartbeats; tells fdd when that differs from the last. */
void assign_roles(struct gossipd *core, struct gossipd_actions *actions)
{
	uint64_t watch = 0, receive;

	choose_observers(core);
	receive = receivers(core);
	for (size_t i = 0; i < core->count; i++) {
		struct member *member = &core->members[i];
		bool wanted = !core->leaving && member_counts(member) &&
			      (member->observers & bit(core->self));

		if (wanted != member->watch) {
			member->silent = member->voting = false;
			member->confirm_at = MONO_NEVER;
		}
		member->watch = wanted;
		watch |= wanted ? bit(i) : 0;
	}
	if (core->roles_told && watch == core->watch && receive == core->receivers)
		return;
	core->roles_told = true;
	core->watch = watch;
	core->receivers = receive;
	append(actions, GOSSIPD_PEERS);
	actions->role_count = 0;
	for (size_t i = 0; i < core->count; i++) {
		if (i != core->self)
			actions->roles[actions->role_count++] =
			    (struct gossipd_role){core->ids[i], watch >> i & 1, receive >> i & 1};
	}
}
