/*
 * The [gossipd] section of the configuration.
 */
#include <errno.h>
#include <stdio.h>

#include "gossipd/gossipd.h"
#include "gossipd/shell.h"

#define INT_KEY(key, text, low, high, what)                                                        \
	{                                                                                          \
		"gossipd", #key, CONFIG_INT, offsetof(struct gossipd_settings, key), 0, text, low, \
		    high, NULL, what                                                               \
	}

const struct config_key gossipd_config_keys[] = {
    INT_KEY(observers, "3", 1, GOSSIPD_OBSERVERS_MAX, "nodes that watch each member"),
    {"gossipd", "suspect", CONFIG_FLOAT, offsetof(struct gossipd_settings, suspect), 0, "0.5", 0.05,
	0.99, NULL, "suspicion level of a vote; 1/2 is 3 predicted intervals"},
    INT_KEY(confirm_ms, "200", 20, 60000, "a majority of votes must hold for that long"),
    INT_KEY(gossip_ms, "500", 20, 60000, "between two datagrams to somebody"),
    INT_KEY(tell_ms, "50", 10, 10000, "between two tellings of a vote"),
    INT_KEY(lease_ms, "2000", 200, 600000, "of the coordinator"),
    INT_KEY(stagger_ms, "150", 1, 60000, "between two candidates for coordinator"),
    {0},
};

int gossipd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error)
{
	const struct gossipd_settings *s = settings;

	/* Otherwise no vote is ever told twice within the confirmation, and one lost datagram
	 * undoes it. */
	if (2 * s->tell_ms <= s->confirm_ms)
		return 0;
	snprintf(error->text, sizeof(error->text),
	    "node %s: [gossipd]: confirm_ms must be at least twice tell_ms", node->name);
	return -EINVAL;
}
