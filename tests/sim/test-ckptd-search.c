/*
 * All orders of small rounds, and random walks through large ones, over the real core of ckptd (goal C3).
 *
 * An exhaustive search of four members is possible because much of what could be told apart need not be: members are alike, so
 * states that differ in who is which are one (round-model.c, model_fingerprint); a round that can no longer commit falls apart into
 * its nodes (model_falls_apart); a crash before a message is sent is one after it with the message lost.  From every part, and from
 * every CALMED-th state, the storm is also let calm down: everybody must thaw and every seat and round finish.
 */
#include "common/rng.h"
#include "common/test.h"
#include "tests/sim/round-model.h"

#include <time.h>

#define DEPTH_MAX 200
#define CALMED 64

struct seen {
	uint64_t *slots;
	size_t mask;
	size_t n;
};

struct search {
	struct seen seen;
	struct model *worlds[DEPTH_MAX];
	struct model_move path[DEPTH_MAX];
	size_t moves;
	size_t settled;
	size_t commits;
	size_t limit;
	size_t calmed;
	struct model *scratch;
	const char *broken;
	unsigned broken_depth;
};

static bool seen_add(struct seen *seen, uint64_t key)
{
	size_t i;

	key += key == 0;
	for (i = key & seen->mask; seen->slots[i]; i = (i + 1) & seen->mask) {
		if (seen->slots[i] == key)
			return false;
	}
	check(seen->n * 4 < seen->mask * 3);
	seen->slots[i] = key;
	seen->n++;
	return true;
}

static void print_path(const struct model_config *config, const struct model_move *path, unsigned n)
{
	struct model *model = model_new(config);

	for (unsigned i = 0; i < n; i++) {
		model_print_move(model, &path[i]);
		model_make(model, &path[i]);
	}
	printf("# broken: %s\n", model->broken ? model->broken : "nothing");
	model_free(model);
}

static void visit(struct search *search, unsigned depth);
static void visit_parts(struct search *search, unsigned depth);

/* One move from worlds[depth]; false when it is no case of its own. */
static bool try_move(struct search *search, unsigned depth, const struct model_move *move)
{
	struct model *next = search->worlds[depth + 1];

	model_copy(next, search->worlds[depth]);
	search->path[depth] = *move;
	search->moves++;
	if (!model_make(next, move))
		return false;
	check(!next->overflow);
	if (next->broken) {
		search->broken = next->broken;
		search->broken_depth = depth + 1;
		return true;
	}
	if (!seen_add(&search->seen, model_fingerprint(next)))
		return true;
	if (!next->parked && model_falls_apart(next))
		visit_parts(search, depth + 1);
	else
		visit(search, depth + 1);
	return true;
}

static void visit_parts(struct search *search, unsigned depth)
{
	const struct model *world = search->worlds[depth];
	struct model *part = search->worlds[depth + 1];

	for (unsigned i = 0; i < world->config.nodes && !search->broken; i++) {
		model_copy(part, world);
		model_part(part, i);
		search->path[depth] = (struct model_move){MOVE_PART, (uint8_t)i, -1};
		if (seen_add(&search->seen, model_fingerprint(part)))
			visit(search, depth + 1);
	}
}

/*
 * After the storm everything is delivered, and timers fire only when nothing else is left.  Broken: it does not settle so.
 */
static void calm_down(struct model *model)
{
	struct model_move moves[MODEL_MOVES_MAX];

	model->faults = model->depositions = model->crashes = model->watchdogs = 0;
	model->config.duplicates = false;
	for (unsigned i = 0; i < 3000 && !model->broken; i++) {
		size_t n = model_moves(model, moves), pick = n;

		for (size_t k = 0; k < n; k++) {
			if (moves[k].kind != MOVE_TIMER && moves[k].kind != MOVE_BEGIN &&
			    (pick == n || moves[k].kind == MOVE_RESTART))
				pick = k;
		}
		for (size_t k = 0; k < n && pick == n; k++)
			pick = moves[k].kind == MOVE_TIMER ? k : n;
		if (pick == n)
			break;
		model_make(model, &moves[pick]);
	}
	if (!model->broken && !model_settled(model))
		model->broken = "not settled after the storm";
}

static void see_it_calm(struct search *search, unsigned depth)
{
	model_copy(search->scratch, search->worlds[depth]);
	calm_down(search->scratch);
	search->calmed++;
	search->broken = search->scratch->broken;
	search->broken_depth = depth;
}

static void visit(struct search *search, unsigned depth)
{
	const struct model *world = search->worlds[depth];
	struct model_move moves[MODEL_MOVES_MAX];
	size_t n = model_moves(world, moves);

	check(depth + 1 < DEPTH_MAX);
	if (world->begun && (world->parked || search->seen.n % CALMED == 0))
		see_it_calm(search, depth);
	search->settled += model_settled(world) && world->begun;
	search->commits += world->n_rounds && world->rounds[0].cell == CKPTD_COMMIT;
	for (size_t i = 0; i < n && !search->broken && search->seen.n < search->limit; i++) {
		struct model_move move = moves[i];

		try_move(search, depth, &move);
		/* before its first action is before the event, which then is lost or late */
		for (move.crash_before = 1;
		     world->crashes && model_move_steps(&move) && !search->broken;
		     move.crash_before++) {
			if (!try_move(search, depth, &move))
				break;
		}
	}
}

/* bits: of the number of states that there is room for, 8 bytes each. */
static void search_all(
    const char *name, const struct model_config *config, unsigned bits, struct search *search)
{
	size_t slots = (size_t)1 << bits;
	clock_t start = clock();

	memset(search, 0, sizeof(*search));
	search->limit = slots / 4 * 3 - 1024;
	search->seen = (struct seen){calloc(slots, sizeof(uint64_t)), slots - 1, 0};
	check(search->seen.slots);
	for (unsigned i = 0; i < DEPTH_MAX; i++)
		search->worlds[i] = model_new(config);
	search->scratch = model_new(config);
	visit(search, 0);
	printf("# %s: %zu states, %zu moves, %zu settled, %zu after a commit, %zu calmed, %.1f s\n",
	    name, search->seen.n, search->moves, search->settled, search->commits, search->calmed,
	    (double)(clock() - start) / CLOCKS_PER_SEC);
	fflush(stdout);
	if (search->broken)
		print_path(config, search->path, search->broken_depth);
	for (unsigned i = 0; i < DEPTH_MAX; i++)
		model_free(search->worlds[i]);
	model_free(search->scratch);
	free(search->seen.slots);
}

static const struct model_config base = {
    .nodes = 2,
    .members = 2,
    .first_coordinator = 0,
    .rounds = 1,
    .vote_ms = 1000,
    .hold_ms = 1500,
    .patience = 2,
};

static void must_hold_of(const char *name, const struct model_config *config, unsigned bits)
{
	struct search search;

	search_all(name, config, bits, &search);
	check(!search.broken);
	check(search.seen.n < search.limit);
	check(search.commits > 0 && search.settled > 0 && search.calmed > 0);
}

static void must_hold(const char *name, const struct model_config *config)
{
	must_hold_of(name, config, 23);
}

/* So many members, with the coordinator as one of them or apart. */
static struct model_config round_of(unsigned members, bool apart, unsigned crashes)
{
	struct model_config config = base;

	config.members = members;
	config.nodes = members + apart;
	config.first_coordinator = apart ? members : 0;
	config.crashes = crashes;
	config.patience = 1;
	return config;
}

static void two_members_with_every_order_and_one_crash(void)
{
	struct model_config config = base;

	config.crashes = 1;
	must_hold("coordinator is a member, hold timer after vote timer", &config);
	config.hold_ms = 500;
	must_hold("coordinator is a member, hold timer before vote timer", &config);
	config.nodes = 3;
	config.first_coordinator = 2;
	must_hold("coordinator apart", &config);
}

static void two_members_with_a_failing_operation_and_an_early_watchdog(void)
{
	struct model_config config = base;

	config.nodes = 3;
	config.first_coordinator = 2;
	config.faults = 1;
	config.watchdogs = 1;
	must_hold("fault and watchdog", &config);
}

static void two_members_while_the_coordinator_changes(void)
{
	struct model_config config = base;

	config.depositions = 1;
	config.faults = 1;
	must_hold("deposed, and a fault", &config);
}

static void three_members_with_every_order(void)
{
	struct model_config config = base;

	config.nodes = 3;
	config.members = 3;
	must_hold("three members", &config);
}

static void two_members_with_every_order_and_two_crashes(void)
{
	struct model_config config = round_of(2, false, 2);

	must_hold("two members, two crashes", &config);
	config = round_of(2, true, 2);
	must_hold("two members, coordinator apart, two crashes", &config);
}

static void three_members_with_every_order_and_one_crash(void)
{
	struct model_config config = round_of(3, false, 1);

	must_hold("three members, one crash", &config);
	config = round_of(3, true, 1);
	must_hold("three members, coordinator apart, one crash", &config);
}

static void three_members_with_every_order_and_two_crashes(void)
{
	struct model_config config = round_of(3, false, 2);

	must_hold_of("three members, two crashes", &config, 26);
	config = round_of(3, true, 2);
	must_hold_of("three members, coordinator apart, two crashes", &config, 26);
}

static void four_members_with_every_order(void)
{
	struct model_config config = round_of(4, false, 0);

	must_hold("four members", &config);
}

static void four_members_with_every_order_and_one_crash(void)
{
	struct model_config config = round_of(4, false, 1);

	must_hold_of("four members, one crash", &config, 26);
	config = round_of(4, true, 1);
	must_hold_of("four members, coordinator apart, one crash", &config, 26);
}

static void four_members_with_every_order_and_two_crashes(void)
{
	struct model_config config = round_of(4, false, 2);

	must_hold_of("four members, two crashes", &config, 29);
	printf("goal C3: four members and two crashes, every order, loss and timer: 0 violations, "
	       "0 blocked\n");
}

/* The control: the search must see what goes wrong when ved dumps a VE that has run on. */
static void a_ved_that_dumps_what_is_not_frozen_is_found_out(void)
{
	struct model_config config = base;
	struct search search;

	config.watchdogs = 1;
	config.sloppy_ved = true;
	search_all("sloppy ved", &config, 23, &search);
	check(search.broken);
	check_str(search.broken,
	    "a member ran on before every member was frozen, and the round committed");
}

/* ---- random walks */

struct walk {
	unsigned commits;
	unsigned aborts;
	unsigned steps;
};

static void fail_walk(const struct model *model, uint64_t seed)
{
	printf("Bail out! seed %" PRIu64 ": %s\n", seed, model->broken);
	exit(1);
}

static void random_move(struct model *model, struct rng *rng, struct model_move *moves, size_t n)
{
	struct model_move move = moves[rng_below(rng, n)];
	bool rare =
	    move.kind != MOVE_DELIVER && move.kind != MOVE_BEGIN && move.kind != MOVE_RESTART;

	if (rare && !rng_chance(rng, 0.01))
		return;
	if (model->crashes && model_move_steps(&move) && rng_chance(rng, 0.02))
		move.crash_before = (int8_t)rng_below(rng, 4);
	model_make(model, &move);
}

static void walk_once(const struct model_config *config, uint64_t seed, struct walk *walk)
{
	struct model *model = model_new(config);
	struct model_move moves[MODEL_MOVES_MAX];
	struct rng rng;
	size_t n;

	rng_init(&rng, seed);
	for (unsigned i = 0; i < 3000 && !model->overflow; i++) {
		n = model_moves(model, moves);
		if (!n)
			break;
		random_move(model, &rng, moves, n);
		walk->steps++;
		if (model->broken)
			fail_walk(model, seed);
	}
	if (!model->overflow)
		calm_down(model);
	if (model->broken)
		fail_walk(model, seed);
	for (unsigned i = 0; i < model->n_rounds; i++) {
		walk->commits += model->rounds[i].cell == CKPTD_COMMIT;
		walk->aborts += model->rounds[i].cell == CKPTD_ABORT;
	}
	model_free(model);
}

static void four_members_in_random_storms(void)
{
	struct model_config config = base;
	struct walk walk = {0};

	config.nodes = 5;
	config.members = 4;
	config.rounds = MODEL_ROUNDS - 1;
	config.crashes = 3;
	config.faults = 3;
	config.watchdogs = 1;
	config.depositions = 1;
	config.resend_ms = 200;
	config.duplicates = true;
	for (uint64_t seed = 1; seed <= 6000; seed++)
		walk_once(&config, seed, &walk);
	printf(
	    "# %u rounds committed, %u aborted, %u steps\n", walk.commits, walk.aborts, walk.steps);
	check(walk.commits > 1000 && walk.aborts > 3000);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--long"))
		return test_main((struct test[]){
		    TEST(three_members_with_every_order_and_two_crashes),
		    TEST(four_members_with_every_order_and_one_crash),
		    {0},
		});
	if (argc > 1 && !strcmp(argv[1], "--longest")) /* hours */
		return test_main((struct test[]){
		    TEST(four_members_with_every_order_and_two_crashes),
		    {0},
		});
	return test_main((struct test[]){
	    TEST(a_ved_that_dumps_what_is_not_frozen_is_found_out),
	    TEST(two_members_with_every_order_and_one_crash),
	    TEST(two_members_with_a_failing_operation_and_an_early_watchdog),
	    TEST(two_members_while_the_coordinator_changes),
	    TEST(two_members_with_every_order_and_two_crashes),
	    TEST(three_members_with_every_order),
	    TEST(three_members_with_every_order_and_one_crash),
	    TEST(four_members_with_every_order),
	    TEST(four_members_in_random_storms),
	    {0},
	});
}
