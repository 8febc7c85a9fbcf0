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
		return !elapsed(core, member->added_at, mono_ms(ABSENT_MS));
	default:
		return false;
	}
}

static void choose_observers(struct gossipd *core)
{
	uint64_t candidates = core->in[GOSSIPD_ALIVE];
	uint64_t doubtful = core->in[GOSSIPD_SUSPECT] | core->in[GOSSIPD_UNKNOWN];

	while (doubtful != 0) {
		size_t i = take(&doubtful);

		candidates |= may_observe(core, &core->members[i]) ? bit(i) : 0;
	}
	candidates = damping_stable(core, candidates);
	if (candidates == core->candidates && core->roles_told)
		return;
	core->candidates = candidates;
	core->observed = 0;
	for (size_t i = 0; i < core->count; i++) {
		core->members[i].observers =
		    observers_choose(core->ids, core->count, i, candidates, core->config.observers);
		core->observed |= core->members[i].observers & bit(core->self) ? bit(i) : 0;
	}
}

/* Who comes later than others does not know which of the unknown they still count on. */
static uint64_t own_observers(const struct gossipd *core)
{
	uint64_t set = core->members[core->self].observers;
	uint64_t unknown = core->candidates & core->in[GOSSIPD_UNKNOWN];

	if (unknown != 0)
		set |= observers_choose(core->ids, core->count, core->self,
		    core->candidates & ~unknown, core->config.observers);
	return set;
}

static uint64_t receivers(struct gossipd *core)
{
	uint64_t set = own_observers(core);

	for (uint64_t wish = core->wish; wish != 0;) {
		size_t i = take(&wish);

		if (!mono_before(core->now, core->members[i].receiver_until))
			core->wish &= ~bit(i);
		else if (member_counts(&core->members[i]))
			set |= bit(i);
	}
	return core->leaving ? 0 : set;
}

/* Sets whom we watch and who hears our heartbeats; tells fdd when that differs from the last. */
void assign_roles(struct gossipd *core, struct gossipd_actions *actions)
{
	uint64_t watch, receive;

	choose_observers(core);
	receive = receivers(core);
	watch = core->leaving ? 0 : core->observed & ~others(core, STATE(DEAD) | STATE(LEFT));
	for (uint64_t changed = watch ^ core->watch; changed != 0;) {
		size_t i = take(&changed);
		struct member *member = &core->members[i];

		member->watch = watch >> i & 1;
		member->silent = member->voting = false;
		member->confirm_at = MONO_NEVER;
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
