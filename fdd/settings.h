/*
 * The [fdd] section of the configuration, and what it means for the core.
 */
#ifndef FDD_SETTINGS_H
#define FDD_SETTINGS_H

#include "common/config.h"
#include "fdd/fdd.h"

struct fdd_settings {
	int64_t interval_ms; /* 0: as the profile says */
	int64_t stall_ms;    /* 0: half an interval */
	int64_t beats;
	double suspect, clear;
	int estimator; /* index in fdd_estimators */
	int64_t kama_window, kama_fast, kama_slow;
	int64_t arrival_log;
};

extern const struct config_key fdd_config_keys[];

/* D of the own heartbeats, by the profile if it is not set; node NULL: the usual profile. */
int64_t fdd_interval_ms(const struct node_config *node, const struct fdd_settings *settings);
/* What no table of single values can say; for daemon_spec.  node may be NULL. */
int fdd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error);

/* The core's configuration but for self and the sizes of its tables. */
struct fdd_config fdd_settings_core(
    const struct node_config *node, const struct fdd_settings *settings);

#endif
