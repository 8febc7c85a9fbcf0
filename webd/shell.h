/* What webd is made of: the gate, HTTP, and the parts that it serves. */
#ifndef WEBD_SHELL_H
#define WEBD_SHELL_H

#include "common/daemon.h"
#include "webd/gate.h"

struct webd_settings {
	char listen[NODE_ADDRESS_MAX + 1];
	char token[256]; /* path */
	char hosts[400];
	int64_t port, connections, streams, registrations, kept, keepalive_ms, patience_ms;
};

extern const struct config_key webd_config_keys[];
int webd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error);

struct shell;
/* gate has the token already.  Borrowed arguments must outlive it.  0, or negative errno after telling. */
int shell_new(struct shell **out, struct daemon *daemon, const struct webd_settings *settings,
    struct gate *gate);
struct shell *shell_free(struct shell *shell);

#endif
