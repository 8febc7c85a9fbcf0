/*
 * The shell of ckptd: requests and answers of other daemons become events of the core, its actions
 * become requests.
 */
#ifndef CKPTD_SHELL_H
#define CKPTD_SHELL_H

#include "common/daemon.h"

struct ckptd_settings {
	int64_t vote_ms, dump_ms, hold_ms, outcome_ms, resend_ms;
	int64_t keep, keep_hourly;
};

extern const struct config_key ckptd_config_keys[];
int ckptd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error);

struct shell;

/* Opens the journal, starts the core with it, and asks the other daemons for what it needs. */
int shell_new(struct shell **out, struct daemon *daemon, const struct ckptd_settings *settings);
struct shell *shell_free(struct shell *shell);

#endif
