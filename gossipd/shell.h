/*
 * gossipd's shell: frames -> events, actions -> frames.
 */
#ifndef GOSSIPD_SHELL_H
#define GOSSIPD_SHELL_H

#include "common/daemon.h"
#include "common/udp.h"
#include "gossipd/gossipd.h"

/* The [gossipd] section; of what the profile sets, 0 stands for that. */
struct gossipd_settings {
	int64_t observers;
	double suspect; /* level of fdd at which an observer votes */
	int64_t quorum;
	int64_t confirm_ms, stall_ms, gossip_ms, hurry_ms, tell_ms;
	int64_t lease_ms, stagger_ms;
	int64_t bridge_ms, silence_ms;
	char join[160]; /* "ADDRESS PORT KEY" of a member, or "" */
};

extern const struct config_key gossipd_config_keys[];

/* The profile of the node with the single values of the section over it. */
void gossipd_settings_apply(const struct gossipd_settings *settings, const struct node_config *node,
    struct gossipd_config *config);
/* What no table of single values can say; for daemon_spec. */
int gossipd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error);

/* "ADDRESS PORT KEY" of a member to join by. */
bool joining_target_is_valid(const char *text);

struct shell;
/* Takes over *udp.  0 or negative errno after logging. */
int shell_new(struct shell **out, struct daemon *daemon, const struct gossipd_settings *settings,
    struct udp *udp);
struct shell *shell_free(struct shell *shell);

#endif
