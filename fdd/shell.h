/*
 * fdd's shell: frames -> events, actions -> frames.
 */
#ifndef FDD_SHELL_H
#define FDD_SHELL_H

#include "common/daemon.h"
#include "common/udp.h"

/* The [fdd] section. */
struct fdd_settings {
	int64_t interval_ms; /* 0: as the profile says */
	int64_t stall_ms;    /* 0: half an interval */
	int64_t beats;
	double suspect, clear;
	int estimator; /* index in fdd_estimators */
	int64_t kama_window, kama_fast, kama_slow;
};

extern const struct config_key fdd_config_keys[];

/* D of the own heartbeats, by the profile if it is not set. */
int64_t fdd_interval_ms(const struct node_config *node, const struct fdd_settings *settings);
/* What no table of single values can say; for daemon_spec. */
int fdd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error);

struct shell;
/* Takes over *udp.  0 or negative errno after logging. */
int shell_new(struct shell **out, struct daemon *daemon, const struct fdd_settings *settings,
    struct udp *udp);
struct shell *shell_free(struct shell *shell);

#endif
