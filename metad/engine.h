/*
 * dqlite in this process, out of everyone's reach.
 *
 * dqlite accepts whoever connects to its socket, so nobody may: it listens on an abstract unix
 * socket inside a network namespace that has no other inhabitant than the thread made here and
 * dqlite's own threads, which are its children.  Abstract names belong to the network namespace of
 * the socket that asks for them, so no other process of the node can even name it; besides, dqlite
 * refuses unix peers of another process.  What connects does so through engine_connect: this
 * process for itself, and the tunnel (tunnel.h) for nodes that it knows.  dqlite's way out, to the
 * other voters, is the function dial.  Rejected: iptables rules (others' to change), a uid check
 * (dqlite has none).
 *
 * Every one of the first voters starts its fresh directory with the same first log entry, the list
 * of them all, so that there is one cluster from the start.  Others are added and removed when an
 * operator says so (voters.h); automatic roles (a client's matter in dqlite) do not exist here.
 */
#ifndef METAD_ENGINE_H
#define METAD_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOTERS_MAX 7

struct engine_voter {
	uint64_t id; /* not 0 */
	const char *name;
};

/* NULL when it is not among them. */
const struct engine_voter *engine_voter_find(
    const struct engine_voter *voters, size_t count, uint64_t id);

struct engine_config {
	const char *dir; /* of the daemon's state; the engine uses dir/dqlite */
	uint64_t self;
	const char *name;
	/* Where there is no dir/dqlite: the first voters of a new store, the same on all of them, and this node is one; or
	 * none, and this node has to be added by the others. */
	const struct engine_voter *voters;
	size_t count;
	unsigned latency_ms;  /* one way; an election is due after 15 times this without a leader */
	uint64_t floor_bytes; /* no writes while the disk has less free; 0: whatever it has */
	/* A connected stream to dqlite on the named voter: 0 or negative errno.  Called from
	 * dqlite's worker threads, may block for about a second. */
	int (*dial)(void *arg, const char *name, int *fd);
	void *arg;
};

struct engine;

/* Makes the thread and its namespace: call as root, before privilege is given up.  *private tells
 * whether the namespace could be made; if not (no privilege), only dqlite's own check is left. */
int engine_new(struct engine **out, bool *private);
/* Is there a log in dir/dqlite? */
bool engine_has_log(const char *dir);
/* Removes it; while the engine does not run. */
void engine_forget(const char *dir);
/* Starts dqlite.  0 or negative errno with the reason in error. */
int engine_start(
    struct engine *engine, const struct engine_config *config, char *error, size_t error_size);
/* A stream connected to this node's dqlite. */
int engine_connect(struct engine *engine, int *fd);
/* The abstract name that dqlite listens on ("@..."); of use only where it can be reached. */
const char *engine_name(const struct engine *engine);
/* Stops dqlite; returns NULL. */
struct engine *engine_free(struct engine *engine);

/* Is there room to write in dir?  0; -ENOSPC below need_bytes; or why it cannot be written. */
int engine_check_disk(const char *dir, uint64_t need_bytes);

#endif
