/*
 * The section [metad] of the configuration.
 */
#ifndef METAD_SETTINGS_H
#define METAD_SETTINGS_H

#include "common/config.h"
#include "metad/engine.h"
#include "metad/store-etcd.h"

struct voter_list {
	uint64_t revision; /* of the store when it was read; 0: of the configuration */
	size_t count;
	struct engine_voter voter[VOTERS_MAX];
	char name[VOTERS_MAX][NODE_NAME_MAX + 1];
};

struct settings {
	char voters_text[512];
	int64_t latency_ms;
	int64_t min_free_mb;
	int64_t export_minutes;
	int64_t export_keep;
	struct voter_list first; /* from voters_text; none with etcd */
	char etcd_text[512];
	char etcd_ca[256], etcd_cert[256], etcd_key[256];
	size_t etcd_count; /* 0: the facts are in dqlite */
	char etcd[ETCD_ENDPOINTS_MAX][ETCD_ENDPOINT_MAX + 1];
	struct https_files etcd_files;
};

extern const struct config_key settings_keys[];

/* A node's id in the engine: of its name, because the engine keeps it for ever and a node's key can be rotated. */
uint64_t settings_engine_id(const char *name);
/*
 * Resolves the voters: names of peers, or, where membership is signed, of nodes that may only be known later; then they must
 * be given, because a node that is about to join knows nobody and would make a store of its own.
 */
int settings_resolve(
    struct settings *settings, const struct node_config *node, struct config_error *error);
/* Would they resolve?  Fits struct daemon_spec.check. */
int settings_check(
    const struct node_config *node, const void *settings, struct config_error *error);

#endif
