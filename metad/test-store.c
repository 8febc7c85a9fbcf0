/*
 * The conformance suite on the store in memory, and the fates it can deal to transactions.
 */
#include "metad/store-memory.h"

#include <errno.h>

#include "common/rng.h"
#include "common/test.h"
#include "metad/store-suite.h"

static struct store *open_client(void *arg)
{
	struct store *store;

	return store_memory_open(arg, &store) == 0 ? store : NULL;
}

static void pump(void *arg)
{
	check(store_memory_step(arg));
}

static void conformance(int *n)
{
	struct store_memory *memory;

	check_int(store_memory_new(&memory, NULL), 0);
	suite_run(&(struct suite){open_client, NULL, pump, memory}, n);
	store_memory_free(memory);
}

struct world {
	struct store_memory *memory;
	struct store *store;
	enum store_fate fate;
	int rc;
	uint64_t revision;
	int answers;
};

static enum store_fate fate_of(void *arg, const struct store_txn *txn)
{
	(void)txn;
	return ((struct world *)arg)->fate;
}

static void take(void *arg, const struct store_reply *reply)
{
	struct world *world = arg;

	world->answers++;
	world->rc = reply->rc;
	world->revision = reply->revision;
}

static void world_init(struct world *world, size_t max_pending)
{
	struct store_memory_config config = {max_pending, fate_of, world};

	*world = (struct world){0};
	check_int(store_memory_new(&world->memory, &config), 0);
	check_int(store_memory_open(world->memory, &world->store), 0);
}

static void world_fini(struct world *world)
{
	store_close(world->store);
	store_memory_free(world->memory);
}

static int swap(struct world *world, uint64_t nonce)
{
	struct store_op op = {"k", 0, STORE_PUT, "v", 1};
	struct store_txn txn = {&op, 1, {{nonce, 0}}, MONO_NEVER};

	return store_txn(world->store, &txn, take, world);
}

static int swap_under(struct world *world, enum store_fate fate, uint64_t nonce)
{
	world->fate = fate;
	check_int(swap(world, nonce), 0);
	check_int(world->answers, 0);
	check(store_memory_step(world->memory));
	check_int(world->answers, 1);
	world->answers = 0;
	return world->rc;
}

static void unknown_lost_is_not_applied(void)
{
	struct world world;

	world_init(&world, 0);
	check_int(swap_under(&world, STORE_FATE_UNKNOWN_LOST, 0), STORE_UNKNOWN);
	check_int(store_memory_revision(world.memory), 0);
	check_int(swap_under(&world, STORE_FATE_UNREACHABLE, 0), -ETIMEDOUT);
	check_int(store_memory_revision(world.memory), 0);
	world_fini(&world);
}

static void unknown_applied_is_applied_and_its_nonce_tells(void)
{
	struct world world;

	world_init(&world, 0);
	check_int(swap_under(&world, STORE_FATE_UNKNOWN_APPLIED, 9), STORE_UNKNOWN);
	check_int(store_memory_revision(world.memory), 1);
	check_int(swap_under(&world, STORE_FATE_NORMAL, 9), 0);
	check_int(world.revision, 1);
	check_int(swap_under(&world, STORE_FATE_NORMAL, 0), STORE_CONFLICT);
	world_fini(&world);
}

static void unknown_late_happens_behind_what_waits(void)
{
	struct world world;

	world_init(&world, 0);
	world.fate = STORE_FATE_UNKNOWN_LATE;
	check_int(swap(&world, 5), 0);
	check_int(swap(&world, 6), 0);
	check(store_memory_step(world.memory));
	check_int(world.rc, STORE_UNKNOWN);
	world.fate = STORE_FATE_NORMAL;
	check(store_memory_step(world.memory));
	check_int(world.rc, 0);
	check_int(store_memory_run(world.memory, 10), 1);
	check_int(world.answers, 2);
	check_int(store_memory_revision(world.memory), 1);
	world_fini(&world);
}

static void the_line_is_bounded(void)
{
	struct world world;

	world_init(&world, 2);
	check_int(swap(&world, 0), 0);
	check_int(swap(&world, 0), 0);
	check_int(swap(&world, 0), -EBUSY);
	check_int(store_memory_pending(world.memory), 2);
	world_fini(&world);
}

static void nonces_are_remembered_for_as_long_as_promised(void)
{
	struct world world;

	world_init(&world, 0);
	check_int(swap_under(&world, STORE_FATE_NORMAL, 1), 0);
	for (int i = 1; i < STORE_NONCES; i++) {
		struct store_op op = {"other", STORE_ANY, STORE_PUT, "v", 1};
		struct store_txn txn = {&op, 1, {{0, 0}}, MONO_NEVER};

		check_int(store_txn(world.store, &txn, take, &world), 0);
		check(store_memory_step(world.memory));
	}
	world.answers = 0;
	check_int(swap_under(&world, STORE_FATE_NORMAL, 1), 0);
	check_int(world.revision, 1);
	world_fini(&world);
}

int main(void)
{
	static const struct test own[] = {
	    TEST(unknown_lost_is_not_applied),
	    TEST(unknown_applied_is_applied_and_its_nonce_tells),
	    TEST(unknown_late_happens_behind_what_waits),
	    TEST(the_line_is_bounded),
	    TEST(nonces_are_remembered_for_as_long_as_promised),
	};
	int n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	conformance(&n);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		own[i].run();
		printf("ok %d - %s\n", ++n, own[i].claim);
	}
	printf("1..%d\n", n);
	return 0;
}
