#include "tests/sim/liar.h"

#include <string.h>

/* Of a member as it is, a little later, much later, and as late as can be said. */
static uint64_t some_incarnation(struct rng *rng, uint64_t present)
{
	switch (rng_below(rng, 5)) {
	case 0:
		return present + 1;
	case 1:
		return present + ((uint64_t)1 << 30);
	case 2:
		return ((uint64_t)1 << 62) - 1 - rng_below(rng, 2);
	default:
		return present;
	}
}

static enum gossipd_state some_state(struct rng *rng)
{
	static const enum gossipd_state states[] = {GOSSIPD_ALIVE, GOSSIPD_DEAD, GOSSIPD_LEFT};

	return states[rng_below(rng, 3)];
}

size_t liar_view(
    struct rng *rng, const struct gossipd *core, uint64_t self, struct gossipd_entry *entries)
{
	struct gossipd_status status;
	size_t count = 0;

	for (size_t i = 0; gossipd_status(core, i, MONO_ZERO, &status); i++) {
		struct gossipd_entry *entry = &entries[count];

		if (status.id == self || status.incarnation == 0)
			continue;
		memset(entry, 0, sizeof(*entry)); /* padding too: messages are hashed */
		entry->id = status.id;
		entry->incarnation = some_incarnation(rng, status.incarnation);
		entry->state = some_state(rng);
		count++;
	}
	return count;
}

static uint64_t incarnation_of(const struct gossipd *core, uint64_t id)
{
	struct gossipd_status status;

	for (size_t i = 0; gossipd_status(core, i, MONO_ZERO, &status); i++) {
		if (status.id == id)
			return status.incarnation;
	}
	return 0;
}

void liar_gram(struct rng *rng, const struct gossipd *core, uint64_t self, uint64_t receiver,
    struct gossipd_gram *gram)
{
	struct gossipd_entry entries[GOSSIPD_MEMBERS_MAX];
	size_t count = liar_view(rng, core, self, entries);
	size_t first = count > 0 ? (size_t)rng_below(rng, count) : 0;

	gram->digest = rng_u64(rng);
	gram->accused = some_incarnation(rng, incarnation_of(core, receiver));
	gram->reply = rng_chance(rng, 0.1);
	gram->ballot_count = gram->rumour_count = 0;
	for (size_t i = 0; i < count && i < GOSSIPD_RUMOURS_MAX; i++) {
		const struct gossipd_entry *entry = &entries[(first + i) % count];

		gram->rumours[gram->rumour_count++] = *entry;
		gram->ballots[gram->ballot_count++] = (struct gossipd_ballot){
		    entry->id, incarnation_of(core, entry->id), rng_chance(rng, 0.5)};
	}
}
