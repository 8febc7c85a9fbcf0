/* What the nodes of a simulated cluster hold of each other, and whether that is right. */
#include "tests/sim/membership.h"

enum gossipd_state cluster_state(const struct cluster *cluster, unsigned a, unsigned b)
{
	const struct gossipd *core = cluster_core(cluster, a);
	struct gossipd_status status;

	if (!core || !gossipd_status(core, b, MONO_ZERO, &status))
		return GOSSIPD_UNKNOWN;
	return status.state;
}

bool cluster_agrees(const struct cluster *cluster, unsigned b, enum gossipd_state state)
{
	for (unsigned a = 0; a < cluster->config.nodes; a++) {
		if (cluster_core(cluster, a) && !cluster->nodes[a].left &&
		    (a != b || state == GOSSIPD_ALIVE) && cluster_state(cluster, a, b) != state)
			return false;
	}
	return true;
}

bool cluster_wait(struct cluster *cluster, unsigned b, enum gossipd_state state, int64_t limit_ms)
{
	struct mono limit = mono_add_ms(sim_time(cluster->sim), limit_ms);

	while (!cluster_agrees(cluster, b, state)) {
		if (mono_due(limit, sim_time(cluster->sim)) || sim_broken(cluster->sim))
			return false;
		sim_run(cluster->sim, mono_add_ms(sim_time(cluster->sim), 5));
	}
	return true;
}

bool cluster_up(const struct cluster *cluster, unsigned node)
{
	return sim_running(cluster->sim, cluster->nodes[node].fdd) &&
	       sim_running(cluster->sim, cluster->nodes[node].gossipd);
}

const char *cluster_views_equal(struct cluster *cluster)
{
	for (unsigned b = 0; b < cluster->config.nodes; b++) {
		bool left = cluster->nodes[b].left;
		enum gossipd_state truth = left                       ? GOSSIPD_LEFT
					   : cluster_core(cluster, b) ? GOSSIPD_ALIVE
								      : GOSSIPD_DEAD;

		for (unsigned a = 0; a < cluster->config.nodes; a++) {
			if (!cluster_core(cluster, a) || cluster->nodes[a].left ||
			    cluster_state(cluster, a, b) == truth)
				continue;
			return sim_complain(cluster->sim, "n%u holds n%u for %s, and it is %s",
			    a + 1, b + 1, gossipd_state_name(cluster_state(cluster, a, b)),
			    gossipd_state_name(truth));
		}
	}
	return NULL;
}

int cluster_holder(const struct cluster *cluster)
{
	for (unsigned i = 0; i < cluster->config.nodes; i++) {
		const struct gossipd *core = cluster_core(cluster, i);
		uint64_t coordinator, epoch;
		bool held = false;

		if (core)
			gossipd_coordinator(core, sim_now(cluster->sim, cluster->nodes[i].gossipd),
			    &coordinator, &epoch, &held);
		if (held)
			return (int)i;
	}
	return -1;
}
