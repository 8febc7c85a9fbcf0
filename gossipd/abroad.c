/*
 * Where the core and its part about other clusters meet: what it is told of our own cluster, and
 * to whom of our own cluster it speaks.
 */
#include "gossipd/core.h"

static enum gossipd_answer on_bridge(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	enum gossipd_answer answer;

	if (core->leaving)
		return GOSSIPD_OK;
	answer = clusters_bridge(
	    &core->clusters, event->bridge.from, event->bridge.bridge, core->now, actions);
	core->counters.crossings += answer == GOSSIPD_OK;
	core->counters.grams_refused += answer != GOSSIPD_OK;
	return answer;
}

static enum gossipd_answer on_nodes(struct gossipd *core, const struct gossipd_event *event)
{
	core->summarized.digest = ~core->digest; /* places in the roster may be others now */
	return clusters_nodes(&core->clusters, event->nodes.list, event->nodes.count, core->now) < 0
		   ? GOSSIPD_REFUSED
		   : GOSSIPD_OK;
}

enum gossipd_answer abroad_event(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	if (event->type == GOSSIPD_BRIDGE)
		return on_bridge(core, event, actions);
	if (event->type == GOSSIPD_NODES)
		return on_nodes(core, event);
	return clusters_pulled(&core->clusters, event->summaries.from, event->summaries.list,
	    event->summaries.count, core->now, actions);
}

/* The summary of our own cluster follows our view; its gateways pass on what is new. */
void abroad(struct gossipd *core, struct gossipd_actions *actions)
{
	const struct gossipd_fact *fact = &core->coord.fact;
	struct gossipd_entry entries[GOSSIPD_MEMBERS_MAX];
	uint64_t ids[2];

	if (core->clusters.count == 0)
		return;
	if (core->summarized.digest != core->digest || core->summarized.epoch != fact->epoch ||
	    core->summarized.coordinator != fact->node ||
	    core->summarized.isolated != core->isolated) {
		core->summarized.digest = core->digest;
		core->summarized.epoch = fact->epoch;
		core->summarized.coordinator = fact->node;
		core->summarized.isolated = core->isolated;
		clusters_view(&core->clusters, entries, gossipd_view(core, entries), fact->node,
		    fact->epoch, core->isolated, core->now, actions);
	}
	clusters_run(&core->clusters, core->now, actions);
	if (clusters_tell_all(&core->clusters))
		core->send |= others(core, STATE(ALIVE) | STATE(SUSPECT));
	for (size_t i = clusters_tell_some(&core->clusters, ids); i > 0; i--)
		core->send |= find(core, ids[i - 1]) ? bit_of(core, find(core, ids[i - 1])) : 0;
}

size_t gossipd_summaries(
    const struct gossipd *core, uint64_t from, struct gossipd_summary *summaries, size_t room)
{
	return clusters_list(&core->clusters, from, summaries, room);
}

bool gossipd_cluster(const struct gossipd *core, size_t n, struct gossipd_cluster_status *status)
{
	return clusters_status(&core->clusters, n, status);
}
