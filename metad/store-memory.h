/*
 * The store in memory, for simulators and tests: pure and deterministic.  One database is shared
 * by any number of clients (one for each simulated node).  A request waits in line until the
 * simulator takes a step, so that it decides when it happens and what may happen in between; and
 * the simulator may decide the fate of each transaction.
 */
#ifndef METAD_STORE_MEMORY_H
#define METAD_STORE_MEMORY_H

#include "metad/store.h"

enum store_fate {
	STORE_FATE_NORMAL,
	STORE_FATE_UNREACHABLE,     /* not applied, and the client knows: -ETIMEDOUT */
	STORE_FATE_UNKNOWN_LOST,    /* not applied, the client is told UNKNOWN */
	STORE_FATE_UNKNOWN_APPLIED, /* carried out, the client is told UNKNOWN */
	STORE_FATE_UNKNOWN_LATE,    /* the client is told UNKNOWN, then it is carried out once all
				       that now waits in line is done */
};

struct store_memory;

struct store_memory_config {
	size_t max_pending; /* requests in line; 0: 1024 */
	/* Asked as each transaction reaches its turn; NULL: all are normal. */
	enum store_fate (*fate)(void *arg, const struct store_txn *txn);
	void *arg;
};

int store_memory_new(struct store_memory **out, const struct store_memory_config *config);
/* All clients must have been closed; returns NULL. */
struct store_memory *store_memory_free(struct store_memory *memory);
/* A client; close it with store_close. */
int store_memory_open(struct store_memory *memory, struct store **out);
/* Carries out the oldest request and calls back; false: nothing waited. */
bool store_memory_step(struct store_memory *memory);
/* Steps until nothing waits, at most limit times; returns the number of steps. */
size_t store_memory_run(struct store_memory *memory, size_t limit);
size_t store_memory_pending(const struct store_memory *memory);
uint64_t store_memory_revision(const struct store_memory *memory);

#endif
