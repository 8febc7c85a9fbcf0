#include "gossipd/member.h"

#include "common/rng.h"

enum {
	REFUTATION_BITS = 20,
};

static const struct {
	const char *name;
	unsigned next; /* allowed successors, bit per state */
} states[] = {
#define TO(state) (1u << GOSSIPD_##state)
    [GOSSIPD_UNKNOWN] = {"unknown", TO(ALIVE) | TO(DEAD) | TO(LEFT)},
    [GOSSIPD_ALIVE] = {"alive", TO(ALIVE) | TO(SUSPECT) | TO(DEAD) | TO(LEFT)},
    [GOSSIPD_SUSPECT] = {"suspect", TO(ALIVE) | TO(DEAD) | TO(LEFT)},
    [GOSSIPD_DEAD] = {"dead", TO(ALIVE) | TO(DEAD) | TO(LEFT)},
    [GOSSIPD_LEFT] = {"left", TO(ALIVE) | TO(DEAD) | TO(LEFT)},
#undef TO
};

const char *gossipd_state_name(enum gossipd_state state)
{
	return states[state].name;
}

bool member_may_move(enum gossipd_state from, enum gossipd_state to)
{
	return states[from].next >> to & 1;
}

/* Seconds of the wall clock make it new even when the stored one is lost; the stored one makes it
 * rise when the clock has been set back. */
uint64_t gossipd_incarnation(uint64_t stored, uint64_t wall_s)
{
	uint64_t epoch = (stored >> REFUTATION_BITS) + 1;

	return (wall_s > epoch ? wall_s : epoch) << REFUTATION_BITS;
}

uint64_t member_epoch(uint64_t incarnation)
{
	return incarnation >> REFUTATION_BITS;
}

/* At one incarnation, left beats dead (a clean leave is no failure) and dead beats alive. */
static unsigned rank(enum gossipd_state state)
{
	return state == GOSSIPD_SUSPECT ? GOSSIPD_ALIVE : state;
}

bool member_overrides(const struct member *member, const struct gossipd_entry *entry)
{
	if (entry->incarnation != member->incarnation)
		return entry->incarnation > member->incarnation;
	return rank(entry->state) > rank(member->state);
}

bool member_counts(const struct member *member)
{
	return member->state != GOSSIPD_DEAD && member->state != GOSSIPD_LEFT;
}

struct gossipd_entry member_entry(const struct member *member)
{
	return (struct gossipd_entry){
	    member->id,
	    member->incarnation,
	    (enum gossipd_state)rank(member->state),
	};
}

/* Refutations are left out: two views that differ only in their count need no repair.  So are members
 * never heard of: one who has just been added need not be known everywhere at once. */
uint64_t member_digest(const struct member *members, size_t count)
{
	uint64_t digest = 0;

	for (size_t i = 0; i < count; i++) {
		struct gossipd_entry entry = member_entry(&members[i]);
		uint64_t what = member_epoch(entry.incarnation) << 3 | entry.state;

		if (entry.state != GOSSIPD_UNKNOWN)
			digest ^= rng_mix(entry.id, what);
	}
	return digest;
}
