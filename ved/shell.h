/*
 * Between the core and the world: requests and events on one side, workers and the engine's records on the other.
 */
#ifndef VED_SHELL_H
#define VED_SHELL_H

#include <stdint.h>

#include "common/daemon.h"
#include "ved/fence.h"
#include "ved/names.h"

/* [ved] fence: the kinds by their own numbers, and auto behind them. */
enum { FENCE_AUTO = FENCE_KINDS };

struct ved_settings {
	char bridge[16];
	char criu[256];
	char crun[256];
	char lxc[256];
	int engine; /* enum engine_kind */
	char cgroup[256];
	int64_t max_freeze_ms;
	int fence; /* enum fence_kind, or FENCE_AUTO */
	char mounts[VE_MOUNTS];
};

extern const struct config_key ved_keys[];
/* What no table can say: are the programs there? */
int ved_check(const struct node_config *node, const void *settings, struct config_error *error);

struct shell;
/* Before any socket: can the engine work here? Logs why not. */
int shell_new(struct shell **out, struct daemon *daemon, const struct ved_settings *settings);
/* Takes requests from now on, and looks what is there from before. */
int shell_open(struct shell *shell);
struct shell *shell_free(struct shell *shell);

#endif
