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

static bool takes_part(const struct cluster *cluster, unsigned node)
{
	return cluster_core(cluster, node) && !cluster->nodes[node].left;
}

/* What a says of its own part towards b. */
static struct gossipd_status part(const struct cluster *cluster, unsigned a, unsigned b)
{
	struct gossipd_status status = {0};

	(void)gossipd_status(cluster_core(cluster, a), b, MONO_ZERO, &status);
	return status;
}

static const char *observed(struct cluster *cluster, unsigned b, unsigned wanted)
{
	unsigned watching = 0;

	for (unsigned a = 0; a < cluster->config.nodes; a++) {
		struct gossipd_status status;

		if (a == b || !takes_part(cluster, a))
			continue;
		status = part(cluster, a, b);
		watching += status.watch;
		if (status.observers != wanted)
			return sim_complain(cluster->sim, "n%u has %u observers in n%u's view",
			    b + 1, status.observers, a + 1);
		if (status.watch != part(cluster, b, a).send)
			return sim_complain(cluster->sim,
			    status.watch ? "n%u does not send its heartbeats to its observer n%u"
					 : "n%u sends its heartbeats to n%u, who does not watch it",
			    b + 1, a + 1);
	}
	return watching == wanted
		   ? NULL
		   : sim_complain(cluster->sim, "n%u is watched by %u", b + 1, watching);
}

const char *cluster_observed(struct cluster *cluster)
{
	unsigned living = 0, wanted = cluster->config.gossipd.observers;
	const char *complaint = NULL;

	for (unsigned i = 0; i < cluster->config.nodes; i++)
		living += takes_part(cluster, i);
	for (unsigned b = 0; b < cluster->config.nodes && !complaint; b++) {
		if (takes_part(cluster, b))
			complaint = observed(cluster, b, wanted < living ? wanted : living - 1);
	}
	return complaint;
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
