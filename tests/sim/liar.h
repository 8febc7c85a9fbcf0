/*
 * A member with a good key that says whatever does harm: it accuses everybody, calls the living dead
 * or gone, gives them incarnations that they never had, and answers pulls with the same.
 */
#ifndef TESTS_SIM_LIAR_H
#define TESTS_SIM_LIAR_H

#include "common/rng.h"
#include "gossipd/gossipd.h"

/* A datagram of lies in place of an honest one; number and own incarnation stay as they are. */
void liar_gram(struct rng *rng, const struct gossipd *core, uint64_t self, uint64_t receiver,
    struct gossipd_gram *gram);
/* A view of lies; room for GOSSIPD_MEMBERS_MAX entries, returns their number. */
size_t liar_view(
    struct rng *rng, const struct gossipd *core, uint64_t self, struct gossipd_entry *entries);

#endif
