/*
 * Heartbeats that services send by themselves (client/depsys_heartbeat.c), and the socket that they come to.
 */
#ifndef FDD_APP_HEARTBEATS_H
#define FDD_APP_HEARTBEATS_H

#include <stdint.h>

#include "common/mono.h"

/* Base port + this; client/ has the sum for the usual base port. */
#define PORT_APPLICATIONS 19

struct app_heartbeat {
	const char *from; /* numeric address */
	struct mono arrived;
	uint64_t incarnation, sequence;
	uint32_t interval_ms;
};

struct shell;
struct app_heartbeats;

/* Without its port (another fdd in this network namespace) it is made all the same, and hears nothing. */
int app_heartbeats_new(struct app_heartbeats **out, struct shell *shell);
struct app_heartbeats *app_heartbeats_free(struct app_heartbeats *heartbeats);

#endif
