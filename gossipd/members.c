/*
 * Who is a member at all.  The table stays dense, so that a set of members is the bits below count:
 * the last member takes the place of a removed one, and its bit moves with it in every set.
 * Rejected: places that are never used again, as 64 joins and leaves would then fill a cluster.
 */
#include "gossipd/core.h"

static void member_init(const struct gossipd *core, struct member *member, uint64_t id)
{
	*member = (struct member){
	    .id = id,
	    .added_at = core->now,
	    .again = core->config.again,
	    .heard_at = MONO_NEVER,
	    .answered_at = MONO_NEVER,
	    .asked_at = MONO_NEVER,
	    .refuted_at = MONO_NEVER,
	    .corrected_at = MONO_NEVER,
	    .ballots_at = MONO_NEVER,
	    .suspect_at = MONO_NEVER,
	    .confirm_at = MONO_NEVER,
	    .contact_at = MONO_NEVER,
	    .stalled_at = MONO_NEVER,
	    .credit = core->config.stall,
	    .credit_at = core->now,
	};
}

static struct member *place(struct gossipd *core, uint64_t id)
{
	struct member *member = &core->members[core->count];

	member_init(core, member, id);
	core->ids[core->count] = id;
	core->in[GOSSIPD_UNKNOWN] |= bit(core->count);
	core->count++;
	return member;
}

/* The ring is drawn anew before it is used next. */
static void renew_ring(struct gossipd *core)
{
	for (size_t i = 0; i < core->count; i++)
		core->ring[i] = (uint8_t)i;
	core->ring_at = core->count;
}

void members_init(struct gossipd *core, const struct gossipd_config *config)
{
	for (size_t i = 0; i < config->member_count; i++) {
		place(core, config->members[i]);
		if (config->members[i] == config->self)
			core->self = i;
	}
	renew_ring(core);
}

/* ---- tombstones */

static void drop_tombstone(struct gossipd *core, size_t i)
{
	core->tombstones[i] = core->tombstones[--core->tombstone_count];
}

/* The oldest makes room. */
static void bury(struct gossipd *core, const struct member *member)
{
	size_t oldest = 0;

	for (size_t i = 1; i < core->tombstone_count; i++) {
		if (mono_before(core->tombstones[i].at, core->tombstones[oldest].at))
			oldest = i;
	}
	if (core->tombstone_count == GOSSIPD_MEMBERS_MAX)
		drop_tombstone(core, oldest);
	core->tombstones[core->tombstone_count++] =
	    (struct tombstone){member_entry(member), core->now};
}

/* What was known of it, if that is not too long ago. */
static void exhume(struct gossipd *core, struct member *member)
{
	for (size_t i = 0; i < core->tombstone_count; i++) {
		const struct tombstone *found = &core->tombstones[i];

		if (found->entry.id != member->id)
			continue;
		if (within(core, found->at, mono_ms(TOMBSTONE_MS))) {
			core->in[GOSSIPD_UNKNOWN] &= ~bit_of(core, member);
			core->in[found->entry.state] |= bit_of(core, member);
			member->state = found->entry.state;
			member->incarnation = found->entry.incarnation;
		}
		drop_tombstone(core, i);
		return;
	}
}

/* ---- the two events */

static void set_changed(struct gossipd *core)
{
	renew_ring(core);
	core->roles_told = false;
	core->ranked = 0;
	core->digest = member_digest(core->members, core->count);
	core->changed_at = core->now;
}

enum gossipd_answer members_add(struct gossipd *core, uint64_t id)
{
	if (id == 0 || find(core, id) || core->count == GOSSIPD_MEMBERS_MAX)
		return GOSSIPD_REFUSED;
	exhume(core, place(core, id));
	if (!core->leaving)
		core->ask |= bit(core->count - 1);
	set_changed(core);
	return GOSSIPD_OK;
}

/* The set when the member `from` has moved to the place `to`, whose own is gone. */
static uint64_t moved(uint64_t set, size_t from, size_t to)
{
	bool in = set & bit(from);

	set &= ~(bit(from) | bit(to));
	return in && from != to ? set | bit(to) : set;
}

static void close_gap(struct gossipd *core, size_t gap)
{
	uint64_t *const sets[] = {&core->voters, &core->damped, &core->damping_us, &core->reaching,
	    &core->send, &core->ask, &core->answer, &core->watch, &core->receivers, &core->observed,
	    &core->wish, &core->candidates};
	size_t last = --core->count;

	core->members[gap] = core->members[last];
	core->ids[gap] = core->ids[last];
	if (core->self == last)
		core->self = gap;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		*sets[i] = moved(*sets[i], last, gap);
	for (unsigned state = 0; state < GOSSIPD_STATES; state++)
		core->in[state] = moved(core->in[state], last, gap);
	for (size_t i = 0; i < core->count; i++) {
		struct member *member = &core->members[i];

		member->observers = moved(member->observers, last, gap);
		member->postponed_by = moved(member->postponed_by, last, gap);
		member->dead_by = moved(member->dead_by, last, gap);
		member->left_by = moved(member->left_by, last, gap);
	}
}

enum gossipd_answer members_remove(
    struct gossipd *core, uint64_t id, struct gossipd_actions *actions)
{
	struct member *member = find(core, id);
	bool known;

	if (!member || is_self(core, member))
		return GOSSIPD_REFUSED;
	known = member->state != GOSSIPD_UNKNOWN;
	if (member_counts(member))
		view_move(core, member, GOSSIPD_LEFT, member->incarnation, actions);
	if (known)
		bury(core, member);
	stall_forget(core, member, actions);
	close_gap(core, (size_t)(member - core->members));
	set_changed(core);
	return GOSSIPD_OK;
}
