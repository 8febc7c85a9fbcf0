/*
 * What the files of the shell share: shell.c (datagrams and the loop) and requests.c.
 */
#ifndef FDD_SHELL_INTERNAL_H
#define FDD_SHELL_INTERNAL_H

#include <limits.h>

#include "common/sealed-udp.h"
#include "fdd/fdd.h"
#include "fdd/heartbeat-wire.h"
#include "fdd/services.h"
#include "fdd/shell.h"
#include "proto/fdd.h"

#define REGISTRATIONS_MAX 32
#define STATS_MAX 32

/* An application that is told; its number is the core's registration id. */
struct subscription {
	struct rpc_call *call; /* NULL: free */
	uint64_t id;
	struct msg_fdd_register request;
};

struct shell {
	struct daemon *daemon;
	struct fdd *fdd;
	struct sealed_udp *udp;
	struct heartbeat_wire wire;
	enum msg_fdd_estimator estimator;
	uint32_t interval_ms;
	sd_event_source *timer, *sweep;
	struct services *services;
	struct app_heartbeats *applications;
	bool drain; /* the core waits for DRAINED */
	char store[PATH_MAX];
	struct subscription subscriptions[REGISTRATIONS_MAX];
	uint64_t registrations; /* made so far */
	struct daemon_stat stats[STATS_MAX];
};

/* Of a node or a service. */
void shell_name_of(const struct shell *shell, uint64_t id, char *name, size_t size);

static inline double to_ms(struct mono t)
{
	return (double)t.ns / 1e6;
}

/* Hands an event to the core, now, and carries out what it asks for. */
enum fdd_answer shell_step(struct shell *shell, struct fdd_event *event);
/* Brings all up to date: socket, timers, and when to wake next. */
void shell_wake(struct shell *shell);
void shell_set_peers(struct shell *shell, const struct fdd_peer_role *roles, size_t count);

/* --- requests.c --- */

extern const struct rpc_method requests_methods[];
/* The core's FDD_LEVEL. */
void requests_tell_level(struct shell *shell, const struct fdd_level *level);
/* FDD_VALUE. */
void requests_tell_value(struct shell *shell, const struct fdd_level *level);
/* FDD_EXPIRED: ends the stream. */
void requests_tell_expired(struct shell *shell, uint64_t registration);
/* Tells each application that its registration stands; ends those whose application is gone. */
void requests_sweep(struct shell *shell);

#endif
