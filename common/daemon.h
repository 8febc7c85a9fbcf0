/*
 * What every daemon does in the same way: options, configuration, giving up privilege, readiness, the common
 * control messages (proto/common.toml: hello, stop, log level, statistics), and the loop.
 *
 * main() reads as a table of contents, in the order of privilege:
 *
 *	r = daemon_options(&daemon, &spec, argc, argv);   options and configuration; > 0: all done
 *	... privileged opens ...
 *	r = daemon_drop(&daemon);                         own user, group depsys
 *	r = daemon_open(&daemon);                         loop, sockets, bus
 *	r = shell_new(&shell, &daemon, &settings);
 *	r = daemon_run(&daemon);                          ready, loop
 */
#ifndef COMMON_DAEMON_H
#define COMMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "common/bus.h"
#include "common/config.h"
#include "common/keys.h"
#include "common/log.h"
#include "common/rpc.h"
#include "common/zsock.h"

/* One number of the statistics message; a table of these ends with name NULL. */
struct daemon_stat {
	const char *name; /* "heartbeats_received" */
	const uint64_t *value;
	const char *help;
};

struct daemon_spec {
	const char *name;              /* "fdd" */
	const char *summary;           /* one line for --help */
	const struct config_key *keys; /* of its own sections; NULL: none */
	void *settings;
	const struct config_named *named; /* sections with names of its own; NULL: none */
	/* Checks that no table can say; 0 or negative errno with the error filled.  May be NULL. */
	int (*check)(
	    const struct node_config *node, const void *settings, struct config_error *error);
	enum port_offset tcp_offset; /* 0: no requests from other nodes */
	bool keep_root;              /* ved */
	bool no_bus;                 /* busd itself */
	bool lean;                   /* its memory is tables; it handles nothing large and often */
	size_t max_body;             /* of a request; 0: 1 MiB */
	const char *shared_dir;      /* below state_dir, for the whole group; NULL: none */
};

/* Who wants to hear that a node has come, that its key is an old one now, or that it goes (the marks of peer tell; when it
 * is gone its contents are still there). */
struct peers_listener {
	struct peers_listener *next;
	void (*changed)(void *userdata, const struct peer *peer);
	void *userdata;
};

struct daemon {
	const struct daemon_spec *spec;
	struct node_config node;
	struct node_keys keys;
	bool has_old_keys; /* of before the last depctl key rotate */
	struct node_keys old_keys;
	sd_event *loop;
	struct zcontext *zmq;
	struct rpc_server *rpc;
	struct bus_publisher *bus;       /* NULL with no_bus */
	const struct daemon_stat *stats; /* set by the shell; may stay NULL */
	uint64_t boot;                   /* a random number of this process */
	struct peers_listener *listeners;
	struct roster *roster; /* NULL: no administrator */
	void *private;
};

/* 0: go on; > 0: done, exit with *status; prints its own errors. */
int daemon_options(
    struct daemon *daemon, const struct daemon_spec *spec, int argc, char **argv, int *status);
/* Loads the node's key, makes state_dir/NAME, and becomes user depsys-NAME when started as root. */
int daemon_drop(struct daemon *daemon);
int daemon_open(struct daemon *daemon);
/* Tells readiness (sd_notify, and a newline on the descriptor in NOTIFY_FD, s6's way), publishes daemon.started, runs
 * until SIGTERM, SIGINT or the stop message.  Returns the exit code. */
int daemon_run(struct daemon *daemon);
void daemon_fini(struct daemon *daemon);

/* Opens what was sealed (crypto_box_seal) for this node, also with the key that it had before: 0 or -EKEYREJECTED. */
int daemon_open_sealed(
    const struct daemon *daemon, uint8_t *out, const uint8_t *sealed, size_t size);

/* Listeners hear in the order in which they came; the daemon borrows them. */
void daemon_listen_peers(struct daemon *daemon, struct peers_listener *listener);
void daemon_unlisten_peers(struct daemon *daemon, struct peers_listener *listener);
/* A node comes: its key is let in from now on, and all listeners hear of it.  0, -EEXIST (the key), -ENOSPC. */
int daemon_add_peer(struct daemon *daemon, const struct peer *peer);
/* A node has another key from now on: this one is still let in, but it is no longer the node's own.  Listeners hear of it. */
void daemon_retire_peer(struct daemon *daemon, const struct peer *peer);
/* A node goes: its key is refused, its connections are cut, and all listeners hear of it. */
void daemon_remove_peer(struct daemon *daemon, const struct peer *peer);

/* Packs message and publishes it: daemon_tell(d, MSG_VE_STARTED, msg_ve_started_pack, &event). */
#define daemon_tell(daemon, topic, pack, message)                                                  \
	do {                                                                                       \
		_cleanup_buf_ struct buf buf_ = {0};                                               \
		if (pack((message), &buf_) == 0)                                                   \
			(void)bus_publish((daemon)->bus, (topic), buf_.data, buf_.size);           \
	} while (0)

#endif
