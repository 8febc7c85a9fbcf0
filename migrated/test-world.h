/*
 * The core in a small world, for its tests: a store with versions, nodes with a ved each.  Histories of faults are searched
 * in tests/sim/recovery.c.
 */
#ifndef MIGRATED_TEST_WORLD_H
#define MIGRATED_TEST_WORLD_H

#include "common/rng.h"
#include "common/test.h"
#include "migrated/migrated.h"

#define NODES 3

enum { RPC_OK, RPC_FAILED, RPC_NOT_FOUND = 4 };

struct copy {
	bool present, running;
	uint64_t epoch, ckpt;
	struct mono gate; /* it is heard until then */
	bool hangs;       /* its probes fail, if it has any */
	bool stopping;    /* so ved says, and it runs for a while yet */
};

struct node {
	char name[8];
	bool up, ved_up, revoked;
	bool unfenced; /* its copies are heard as long as they run */
	bool cut;      /* from all others and the store, which take it for dead */
	bool silent;   /* it gives no images, and is not taken for dead */
	struct migrated *core;
	bool granted; /* an answer to its renewal is on its way */
	struct migrated_lease grants[4];
	size_t n_grants;
	struct mono length;
	uint64_t grant_id;
	struct migrated_action todo[256];
	size_t n_todo, done; /* actions of todo carried out */
	uint64_t journal;    /* epoch begun, on disk */
	struct copy copy;
	struct migrated_event answer; /* one answer that waits to be delivered */
	char answer_name[64];
};

struct world {
	struct mono now;
	uint64_t revision;
	bool exists;
	struct migrated_ve ve;
	struct node nodes[NODES];
	size_t coordinator;
	uint64_t reign; /* its epoch */
	struct mono reign_since;
	uint64_t bad_ckpt;
	uint64_t mute_ckpt;       /* restored it answers nobody */
	uint64_t hung_ms;         /* of the VE that is asked for */
	struct mono ran_at;       /* when a copy was last begun */
	uint64_t runs_begun[512]; /* how often each epoch was started */
	uint64_t answers, last_status;
	char last_reason[MIGRATED_REASON];
	bool lose_writes;
	struct migrated_elsewhere elsewhere; /* a VE of another site; name empty: none */
	uint64_t heard;                      /* the highest epoch */
	uint64_t waits;                      /* placements for which a lease had to end */
	struct rng rng;
	bool fence_works, fence_hangs, fence_is_old; /* the fence command */
	unsigned fences, spared;                     /* how often it was run, was ended */
};

extern struct world world;
extern const struct migrated_config config;
extern const struct mono reign; /* it is raised whenever it is told */

/* One copy is heard at a time, and none that is older than one that was heard. */
void check_heard(void);
void step(struct node *node, struct migrated_event *event);
void tell_nodes(struct node *node);
void start_process(struct node *node);
/* The reign before has run out. */
void set_coordinator(size_t i);
void kill_node(size_t i);
void boot_node(size_t i);
void world_init(uint64_t seed);
void add_ckpt(uint64_t id, const char *replica);
/* All that can be done without time going by. */
void carry_out(void);
void settle_for(int halves);
/* 20 s. */
void settle(void);
/* Heard, and by one's own lease. */
bool runs(const struct node *node);
unsigned running(void);
struct node *runner(void);
void ask(enum migrated_ask what, const char *node, uint64_t ckpt);
void run_on_n1_with_probes(uint64_t hung_ms);
void run_on_n1(void);

#endif
