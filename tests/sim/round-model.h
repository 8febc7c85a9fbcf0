/*
 * A small world for ckptd's core: the real cores of a few nodes, each with one VE, a ved for each
 * that can freeze, dump and lose its freeze to its watchdog, an object store, the decision cells of
 * metad, and a bag of everything in flight.  What may happen next is a list of moves, so one model
 * serves two searches: all orders of a small case, and random walks through a large one.
 *
 * There is no clock: any message may stay in the bag for ever (it is lost), come late or in any
 * order, and any timer may fire at any moment.  That is more than any network does.
 */
#ifndef TESTS_SIM_ROUND_MODEL_H
#define TESTS_SIM_ROUND_MODEL_H

#include "ckptd/ckptd.h"

#define MODEL_NODES 5
#define MODEL_ROUNDS 6
#define MODEL_BAG 96

struct model_config {
	unsigned nodes; /* node i holds VE i while i < members */
	unsigned members;
	unsigned first_coordinator;
	unsigned crashes; /* budgets */
	unsigned faults;  /* operations that fail, or whose answer is lost */
	unsigned depositions;
	unsigned watchdogs;
	unsigned rounds;
	bool duplicates; /* a message may be delivered and stay in the bag */
	uint32_t hold_ms, vote_ms, resend_ms;
	uint32_t
	    patience; /* of the cores; 1: a member swaps ABORT as soon as it finds the cell undecided */
	bool sloppy_ved; /* the case that must fail: dumps what is not frozen any more */
};

enum model_seat_phase { PHASE_NONE, PHASE_FROZEN, PHASE_CAPTURED, PHASE_SPOILED };

/* The truth about one round, which no core sees. */
struct model_round {
	uint64_t id;
	enum ckptd_decision cell;
	bool doomed; /* somebody ran on before all were frozen: it must never commit */
	enum model_seat_phase phase[MODEL_NODES];
	bool stored[MODEL_NODES];
};

enum model_item_kind { ITEM_MESSAGE, ITEM_OPERATION };

/* Small, for a search copies many: what follows from the model is left out. */
struct model_item {
	uint8_t kind;
	uint8_t from, to; /* message: nodes; operation: who asked, whom it is about */
	uint8_t boot;     /* of the process that waits for the answer; 0: nobody does */
	uint8_t what;     /* enum ckptd_message_kind or ckptd_action_kind */
	uint8_t ve;       /* 'a' + node, or 0 */
	uint8_t op;       /* cell operation */
	uint8_t reason;
	uint64_t id;
};

struct model_node {
	struct ckptd *core;
	bool up;
	uint8_t boot;
	bool orphans_told;
	struct ckptd_record record; /* the journal: one VE, one row */
	uint64_t last_id;
	uint64_t frozen_for; /* ved: the round its VE is frozen for, or 0 */
	bool unwatched;      /* the process that froze it is gone, or never heard of it */
};

struct model {
	struct model_config config;
	struct model_node nodes[MODEL_NODES];
	struct model_round rounds[MODEL_ROUNDS];
	unsigned n_rounds;
	unsigned coordinator; /* as gossipd and metad agree */
	uint64_t epoch;
	unsigned crashes, faults, depositions, watchdogs; /* left */
	unsigned begun;
	unsigned parked; /* mask: members that make no moves any more, see model_part */
	unsigned n_bag;
	bool overflow;
	struct model_item bag[MODEL_BAG];
	const char *broken;
};

enum model_move_kind {
	MOVE_DELIVER,   /* item: a message arrives, an operation is done and answered */
	MOVE_DUPLICATE, /* item: a message arrives and will once more */
	MOVE_FAIL,      /* item: an operation fails and says so (metad: UNKNOWN, not done) */
	MOVE_MUTE,      /* item: an operation is done, its answer lost */
	MOVE_LATE,      /* item: answered as failed, and done later all the same */
	MOVE_TIMER,     /* node */
	MOVE_WATCHDOG,  /* node: ved thaws by itself */
	MOVE_CRASH,     /* node */
	MOVE_RESTART,   /* node */
	MOVE_ORPHANS,   /* node: the coordinator's scan of the cells */
	MOVE_DEPOSE,    /* the next node becomes coordinator */
	MOVE_BEGIN,     /* the coordinator begins a round of all VEs */
	MOVE_PART,      /* node: only it goes on; never offered, see model_part */
	MOVE_SWAP,      /* somebody who is parked swaps ABORT */
};

struct model_move {
	enum model_move_kind kind;
	uint8_t index;
	int8_t crash_before; /* the process dies before its action of this number; -1: not */
};

#define MODEL_MOVES_MAX 1024

struct model *model_new(const struct model_config *config);
struct model *model_free(struct model *model);
void model_copy(struct model *to, const struct model *from);
/* What may happen next, without the variants that crash half-way. */
size_t model_moves(const struct model *model, struct model_move *moves);
/* Makes the move and checks every invariant: model->broken says which one fails.  Returns false
 * when crash_before lies behind the last action, so that this is no case of its own. */
bool model_make(struct model *model, const struct model_move *move);
/* Can moves of this kind be cut short by a crash? */
bool model_move_steps(const struct model_move *move);
/*
 * When no round can commit any more, the nodes have nothing left to say to each other: what becomes of one does not depend on what
 * becomes of another but for the cell, which any of them may swap to ABORT.  Then the search goes on with each node alone instead
 * of with all orders of all of them: the sum of their cases, not the product.
 */
bool model_falls_apart(const struct model *model);
/* Only node i goes on; the others stay where they are, and one of them may swap ABORT at any moment. */
void model_part(struct model *model, unsigned i);
uint64_t model_fingerprint(const struct model *model);
/* Is everybody thawed and every seat and round finished? */
bool model_settled(const struct model *model);
void model_print_move(const struct model *model, const struct model_move *move);

#endif
