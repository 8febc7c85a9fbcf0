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
    INT_KEY(observers, "0", 0, GOSSIPD_OBSERVERS_MAX, "nodes that watch each member"),
    INT_KEY(
	quorum, "0", 0, 100, "per cent of the observers that a verdict takes; a majority always"),
    {"gossipd", "suspect", CONFIG_FLOAT, offsetof(struct gossipd_settings, suspect), 0, "0.45",
	0.05, 0.99, NULL, "suspicion level of a vote; 0.45 is 2.6 predicted intervals"},
    INT_KEY(confirm_ms, "0", 0, 60000, "a majority of votes must hold for that long"),
    INT_KEY(stall_ms, "0", 0, 60000,
	"a member that stands still while its kernel answers is dead that much later"),
    INT_KEY(gossip_ms, "0", 0, 60000, "between two datagrams to somebody in quiet times"),
    INT_KEY(hurry_ms, "0", 0, 60000, "the same while there is news"),
    INT_KEY(tell_ms, "0", 0, 10000, "between two tellings of a vote"),
    INT_KEY(lease_ms, "2000", 200, 600000, "of the coordinator"),
    INT_KEY(stagger_ms, "150", 1, 60000, "between two candidates for coordinator"),
    INT_KEY(bridge_ms, "1000", 100, 60000, "between two datagrams of a gateway in quiet"),
    INT_KEY(silence_ms, "5000", 500, 600000, "a cluster asked for that long in vain is unknown"),
    {"gossipd", "join", CONFIG_STRING, offsetof(struct gossipd_settings, join),
	sizeof(((struct gossipd_settings *)0)->join), "", 0, 0, NULL,
	"ADDRESS PORT KEY of a member to join by, when this node has no record yet"},
    {0},
};

static void override(struct mono *time, int64_t ms)
{
	if (ms > 0)
		*time = mono_ms(ms);
}

void gossipd_settings_apply(const struct gossipd_settings *settings, const struct node_config *node,
    struct gossipd_config *config)
{
	static const enum gossipd_profile profiles[] = {[PROFILE_FAST] = GOSSIPD_FAST,
	    [PROFILE_BALANCED] = GOSSIPD_BALANCED,
	    [PROFILE_ECONOMY] = GOSSIPD_ECONOMY};

	gossipd_config_profile(config, profiles[node->profile]);
	if (settings->observers > 0)
		config->observers = (unsigned)settings->observers;
	if (settings->quorum > 0)
		config->quorum = (unsigned)settings->quorum;
	override(&config->confirm, settings->confirm_ms);
	override(&config->stall, settings->stall_ms);
	override(&config->gossip, settings->gossip_ms);
	override(&config->hurry, settings->hurry_ms);
	override(&config->tell, settings->tell_ms);
	config->lease = mono_ms(settings->lease_ms);
	config->stagger = mono_ms(settings->stagger_ms);
	config->bridge = mono_ms(settings->bridge_ms);
	config->silence = mono_ms(settings->silence_ms);
	gossipd_config_derive(config);
}

int gossipd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error)
{
	const char *join = ((const struct gossipd_settings *)settings)->join;
	struct gossipd_config config;

	if (join[0] && (!joining_target_is_valid(join) || !node->has_admin)) {
		snprintf(error->text, sizeof(error->text), "node %s: [gossipd]: join: %s",
		    node->name,
		    node->has_admin ? "a numeric address, a port, and a key of 64 hex digits"
				    : "needs [node] admin");
		return -EINVAL;
	}
	gossipd_settings_apply(settings, node, &config);
	/* Otherwise no vote is ever told twice within the confirmation, and one lost datagram
	 * undoes it. */
	if (2 * config.tell.ns <= config.confirm.ns)
		return 0;
	snprintf(error->text, sizeof(error->text),
	    "node %s: [gossipd]: confirm_ms must be at least twice tell_ms", node->name);
	return -EINVAL;
}
