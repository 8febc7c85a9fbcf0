/*
 * The store on dqlite: a client of whichever voter leads.
 *
 * Finding the leader: a connection to every voter; each is asked whether it leads itself, and only
 * one that says so of itself is believed (what others say may be old).  The connections stay, so
 * that a change of leader costs one question, not a handshake.
 *
 * One statement is one transaction: a row in the table txn whose trigger compares and applies.  Its
 * number is the revision, its nonce is unique, so that a transaction whose answer was lost is
 * submitted again without harm: the nonce tells that it was applied.  UNKNOWN is left for when the
 * deadline comes first.
 *
 * Reads come from the node that believes to lead.  Cut off from the others it goes on believing for
 * one election timeout, so a read can be that old; a transaction never: it goes through the log,
 * also when it only checks, and a conflict is told only after a write of our own has shown that the
 * node does lead.
 */
#ifndef METAD_STORE_DQLITE_H
#define METAD_STORE_DQLITE_H

#include <systemd/sd-event.h>

#include "metad/engine.h"
#include "metad/store.h"

struct store_dqlite_config {
	sd_event *loop;
	const struct engine_voter *voters; /* copied */
	size_t count;
	unsigned latency_ms; /* as the engine's */
	size_t max_pending;  /* requests under way; 0: 256 */
	/* A stream to dqlite on that voter, at once; if the voter cannot be reached it ends. */
	int (*dial)(void *arg, const char *voter, int *fd);
	/* The leader changed; 0: none is known.  May be NULL. */
	void (*leader)(void *arg, uint64_t id);
	/* This client's transaction was applied and changed these keys.  May be NULL. */
	void (*applied)(void *arg, uint64_t revision, const char *const *keys, size_t count);
	void *arg;
};

int store_dqlite_open(struct store **out, const struct store_dqlite_config *config);
/* Another client has heard of these changes: hints for them, or a look if some were missed. */
void store_dqlite_changed(
    struct store *store, uint64_t revision, const char *const *keys, size_t count);
/* Others vote from now on; copied. */
void store_dqlite_set_voters(struct store *store, const struct engine_voter *voters, size_t count);
/* The highest revision seen. */
uint64_t store_dqlite_revision(const struct store *store);

#endif
