/*
 * Three profiles: how soon a death is known, and for how much traffic.  What they cost and how often
 * they are wrong was measured in tests/sim/test-sim-profiles.c; docs/detection.md tells an operator
 * which one to take.
 *
 * The times belong together.  A vote is told each `tell`, so that one lost datagram, or two, do not
 * end a confirmation; it counts for `fresh`, eight tellings.  `stall` is how much later a node that hangs is
 * failed over than one that died: for `fast`, whose services have little time, next to nothing.
 */
#include "gossipd/gossipd.h"

static const struct {
	unsigned observers, quorum;
	int64_t gossip_ms, hurry_ms, tell_ms, confirm_ms, again_ms, stall_ms;
} profiles[] = {
    [GOSSIPD_FAST] = {5, 51, 1000, 100, 30, 150, 500, 1000},
    [GOSSIPD_BALANCED] = {5, 51, 2000, 200, 50, 200, 1000, 10000},
    [GOSSIPD_ECONOMY] = {3, 51, 3000, 300, 150, 600, 2000, 15000},
};

void gossipd_config_profile(struct gossipd_config *config, enum gossipd_profile profile)
{
	*config = (struct gossipd_config){
	    .observers = profiles[profile].observers,
	    .quorum = profiles[profile].quorum,
	    .witnesses = 2,
	    .gossip = mono_ms(profiles[profile].gossip_ms),
	    .hurry = mono_ms(profiles[profile].hurry_ms),
	    .tell = mono_ms(profiles[profile].tell_ms),
	    .confirm = mono_ms(profiles[profile].confirm_ms),
	    .again = mono_ms(profiles[profile].again_ms),
	    .stall = mono_ms(profiles[profile].stall_ms),
	    .lease = mono_ms(2000),
	    .stagger = mono_ms(150),
	    .bridge = mono_ms(1000),
	    .silence = mono_ms(5000),
	};
	gossipd_config_derive(config);
}

void gossipd_config_derive(struct gossipd_config *config)
{
	config->fresh = mono_ns(8 * config->tell.ns);
	config->linger = mono_ns(3 * config->confirm.ns);
}
