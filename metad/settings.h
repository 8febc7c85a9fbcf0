/*
 * The section [metad] of the configuration.
 */
#ifndef METAD_SETTINGS_H
#define METAD_SETTINGS_H

#include "common/config.h"
#include "metad/engine.h"

struct settings {
	char voters_text[512];
	int64_t latency_ms;
	int64_t min_free_mb;
	/* From voters_text; the names are those of the peers. */
	struct engine_voter voters[VOTERS_MAX];
	size_t count;
	bool is_voter; /* this node */
};

extern const struct config_key settings_keys[];

/* Resolves the voters against the peers. */
int settings_resolve(
    struct settings *settings, const struct node_config *node, struct config_error *error);
/* Would they resolve?  Fits struct daemon_spec.check. */
int settings_check(
    const struct node_config *node, const void *settings, struct config_error *error);

#endif
