/*
 * The keyring in a small world: a store with versions, nodes that join, leave, are revoked, change their keys, die, lie.
 * test-keyring [--seed N]: replays one run of the search.
 */
#include "migrated/keyring.h"

#include "common/rng.h"
#include "common/test.h"

#define NODES 6
#define SERVICES 2
#define SWEEP_MS 30000
#define LEFT_MS 60000

struct node {
	char name[8];
	bool in, up, liar;
	uint64_t id, old_id;         /* as the membership has it; old_id 0: none */
	uint64_t secret, old_secret; /* of the daemons that run there */
	struct mono left_at;
	struct keyring *core;
	struct keyring_action todo;
};

struct service {
	uint64_t version;
	size_t count;
	struct keyring_seal seals[KEYRING_SEALS_MAX];
};

static const char *const names[SERVICES] = {"cart", "shop"};

static struct {
	struct mono now;
	uint64_t next_id;
	size_t coordinator;
	struct node nodes[NODES];
	struct service services[SERVICES];
	unsigned writes, keyless, asked;
	double trouble; /* that a write or an answer fails */
	struct rng rng;
} world;

static void step(struct node *node, struct keyring_event *event)
{
	struct keyring_action action;

	event->now = world.now;
	keyring_step(node->core, event, &action);
	if (action.kind != KEYRING_NOTHING)
		node->todo = action;
}

static bool opens(const struct node *node, const struct service *service)
{
	for (size_t i = 0; i < service->count; i++)
		if (strcmp(service->seals[i].node, node->name) == 0 &&
		    (service->seals[i].id == node->secret ||
			service->seals[i].id == node->old_secret))
			return true;
	return false;
}

static void add_member(struct keyring_member *members, size_t *count, const struct node *node,
    const struct node *of, bool old)
{
	struct keyring_member *member = &members[*count];

	if (!of->in && of != node)
		return;
	memset(member, 0, sizeof(*member));
	snprintf(member->name, sizeof(member->name), "%s", of->name);
	member->id = old ? of->old_id : of->id;
	member->old = old;
	if (of == node && !old)
		member->id = of->secret; /* its own key, whatever is said */
	member->alive = of->up && mono_is_never(of->left_at);
	member->left_at = of == node ? MONO_NEVER : of->left_at;
	*count += member->id != 0;
}

static void tell_members(struct node *node)
{
	struct keyring_member members[KEYRING_MEMBERS_MAX];
	struct keyring_event event = {.kind = KEYRING_MEMBERS, .members = members};

	if (!node->up)
		return;
	add_member(members, &event.count, node, node, false);
	for (size_t i = 0; i < NODES; i++)
		if (&world.nodes[i] != node)
			add_member(members, &event.count, node, &world.nodes[i], false);
	for (size_t i = 0; i < NODES; i++)
		if (&world.nodes[i] != node)
			add_member(members, &event.count, node, &world.nodes[i], true);
	step(node, &event);
}

static void tell_all(void)
{
	for (size_t i = 0; i < NODES; i++)
		tell_members(&world.nodes[i]);
}

static void set_coordinator(size_t k)
{
	world.coordinator = k;
	for (size_t i = 0; i < NODES; i++)
		if (world.nodes[i].up)
			step(&world.nodes[i],
			    &(struct keyring_event){.kind = KEYRING_COORD, .mine = i == k});
}

static void start(struct node *node)
{
	const struct keyring_config config = {
	    .self = node->name, .sweep_ms = SWEEP_MS, .retry_ms = 1000, .left_ms = LEFT_MS};

	node->core = keyring_free(node->core);
	node->up = true;
	node->todo.kind = KEYRING_NOTHING;
	check_int(keyring_new(&node->core, &config), 0);
	tell_members(node);
	step(node, &(struct keyring_event){
		       .kind = KEYRING_COORD, .mine = node == &world.nodes[world.coordinator]});
}

static void stop(struct node *node)
{
	node->up = false;
	node->core = keyring_free(node->core);
	node->todo.kind = KEYRING_NOTHING;
	tell_all();
}

static void join(struct node *node)
{
	node->in = true;
	node->left_at = MONO_NEVER;
	node->id = node->secret = ++world.next_id;
	node->old_id = node->old_secret = 0;
	start(node);
	tell_all();
}

/* The administrator's word first; the daemons there have the new key later. */
static void announce_key(struct node *node)
{
	node->old_id = node->id;
	node->id = ++world.next_id;
	tell_all();
}

static void take_new_key(struct node *node)
{
	if (node->secret == node->id)
		return;
	node->old_secret = node->secret;
	node->secret = node->id;
	start(node);
}

static void world_init(uint64_t seed, size_t members)
{
	for (size_t i = 0; i < NODES; i++)
		keyring_free(world.nodes[i].core);
	memset(&world, 0, sizeof(world));
	rng_init(&world.rng, seed);
	world.now = mono_ms(1000);
	for (size_t i = 0; i < NODES; i++) {
		snprintf(world.nodes[i].name, sizeof(world.nodes[i].name), "n%zu", i + 1);
		world.nodes[i].left_at = MONO_NEVER;
	}
	for (size_t i = 0; i < members; i++)
		join(&world.nodes[i]);
	for (size_t s = 0; s < SERVICES; s++) {
		world.services[s].version = 1;
		world.services[s].count = members;
		for (size_t i = 0; i < members; i++) {
			memcpy(world.services[s].seals[i].node, world.nodes[i].name, 8);
			world.services[s].seals[i].id = world.nodes[i].id;
		}
	}
	set_coordinator(0);
}

/* --- what the shell would do --- */

static void do_read(struct node *node)
{
	struct keyring_event event = {.kind = KEYRING_FACT, .ok = true, .name = ""};
	size_t s = 0;

	while (s < SERVICES && strcmp(names[s], node->todo.name) <= 0)
		s++;
	if (s < SERVICES) {
		const struct service *service = &world.services[s];

		event.name = names[s];
		event.version = service->version;
		event.seals = service->seals;
		event.count = service->count;
		event.opens = opens(node, service);
	}
	event.ok = !rng_chance(&world.rng, world.trouble);
	node->todo.kind = KEYRING_NOTHING;
	step(node, &event);
}

static struct node *by_name(const char *name)
{
	for (size_t i = 0; i < NODES; i++)
		if (strcmp(world.nodes[i].name, name) == 0)
			return &world.nodes[i];
	return NULL;
}

/* Who is asked answers with the key, sealed for the one who asks as the membership has it. */
static bool is_given(const struct node *node, const char *from, const struct service *service)
{
	const struct node *holder = by_name(from);

	check(holder != node);
	world.asked++;
	return holder->up && holder->in && !holder->liar && opens(holder, service) &&
	       node->id == node->secret;
}

static void do_seal(struct node *node)
{
	const struct keyring_action *action = &node->todo;
	struct service *service = &world.services[strcmp(action->name, names[0]) != 0];
	bool ok = node == &world.nodes[world.coordinator] && node->in &&
		  service->version == action->version &&
		  (*action->from ? is_given(node, action->from, service) : opens(node, service)) &&
		  !rng_chance(&world.rng, world.trouble);

	if (ok) {
		service->version++;
		service->count = action->count;
		memcpy(service->seals, action->seals, sizeof(service->seals));
		world.writes++;
		check(opens(node, service)); /* who writes can open what it has written */
	}
	node->todo.kind = KEYRING_NOTHING;
	/* An answer may be lost though it was done. */
	step(node, &(struct keyring_event){
		       .kind = KEYRING_SEALED, .ok = ok && !rng_chance(&world.rng, world.trouble)});
}

static void carry_out(struct node *node)
{
	switch (node->todo.kind) {
	case KEYRING_NOTHING:
		if (mono_due(keyring_deadline(node->core), world.now))
			step(node, &(struct keyring_event){.kind = KEYRING_TIMEOUT});
		break;
	case KEYRING_READ:
		do_read(node);
		break;
	case KEYRING_SEAL:
		do_seal(node);
		break;
	case KEYRING_KEYLESS:
		world.keyless++;
		node->todo.kind = KEYRING_NOTHING;
		break;
	}
}

static void run(int64_t ms)
{
	struct mono end = mono_add_ms(world.now, ms);

	for (; mono_before(world.now, end); world.now = mono_add_ms(world.now, 200))
		for (int round = 0; round < 4; round++)
			for (size_t i = 0; i < NODES; i++)
				if (world.nodes[i].up)
					carry_out(&world.nodes[i]);
}

static bool is_sealed(const struct service *service, const char *node, uint64_t id)
{
	for (size_t i = 0; i < service->count; i++)
		if (service->seals[i].id == id && strcmp(service->seals[i].node, node) == 0)
			return true;
	return false;
}

/* Each service is sealed for exactly the keys that are let in. */
static void check_in_line(void)
{
	for (size_t s = 0; s < SERVICES; s++) {
		size_t wanted = 0;

		for (size_t i = 0; i < NODES; i++) {
			const struct node *node = &world.nodes[i];
			bool away = !mono_is_never(node->left_at) &&
				    mono_due(mono_add_ms(node->left_at, LEFT_MS), world.now);

			if (!node->in || away)
				continue;
			check(is_sealed(&world.services[s], node->name, node->id));
			wanted++;
			if (node->old_id && i != world.coordinator) {
				check(is_sealed(&world.services[s], node->name, node->old_id));
				wanted++;
			}
		}
		check_int(world.services[s].count, wanted);
	}
}

/* --- claims --- */

static void a_cluster_that_does_not_change_is_written_nothing(void)
{
	world_init(1, 3);
	run(10 * SWEEP_MS);
	check_int(world.writes, 0);
	check_in_line();
}

static void a_node_that_joins_has_every_key_at_once(void)
{
	world_init(1, 3);
	run(1000);
	join(&world.nodes[3]);
	run(1000);
	check_int(world.writes, SERVICES);
	check_in_line();
}

static void a_revoked_node_s_seals_are_dropped(void)
{
	world_init(1, 3);
	world.nodes[2].in = false;
	tell_all();
	run(1000);
	check_in_line();
	check(!is_sealed(&world.services[0], "n3", world.nodes[2].id));
}

static void a_node_that_is_dead_keeps_its_seals(void)
{
	world_init(1, 3);
	stop(&world.nodes[2]);
	run(10 * SWEEP_MS);
	check_int(world.writes, 0);
}

static void a_node_that_left_keeps_them_for_a_while(void)
{
	world_init(1, 3);
	stop(&world.nodes[2]);
	world.nodes[2].left_at = world.now;
	tell_all();
	run(LEFT_MS - 1000);
	check_int(world.writes, 0);
	run(SWEEP_MS + 2000);
	check_int(world.writes, SERVICES);
	check_in_line();
	world.nodes[2].left_at = MONO_NEVER;
	start(&world.nodes[2]);
	tell_all();
	run(1000);
	check_in_line();
	check_int(world.services[0].count, 3);
}

static void a_new_key_is_sealed_for_beside_the_old_one_while_that_is_let_in(void)
{
	struct node *node;

	world_init(1, 3);
	node = &world.nodes[1];
	announce_key(node);
	run(1000);
	check(is_sealed(&world.services[0], "n2", node->id));
	check(is_sealed(&world.services[0], "n2", node->old_id));
	check(opens(node, &world.services[0])); /* also before it is restarted */
	take_new_key(node);
	node->old_id = 0;
	tell_all();
	run(1000);
	check_in_line();
	check_int(world.services[0].count, 3);
}

static void a_seal_that_does_not_say_for_which_key_is_made_anew(void)
{
	world_init(1, 3);
	world.services[1].seals[2].id = 0;
	run(SWEEP_MS + 1000);
	check_int(world.writes, 1);
	check_in_line();
}

static void a_coordinator_that_joined_later_asks_who_holds_the_key(void)
{
	world_init(1, 3);
	stop(&world.nodes[0]); /* nobody writes */
	join(&world.nodes[3]);
	world.nodes[1].liar = true;
	set_coordinator(3);
	run(5000);
	check(world.asked >= SERVICES);
	check_in_line();
}

static void without_any_holder_it_is_told_and_nothing_is_written(void)
{
	world_init(1, 3);
	for (size_t i = 0; i < 3; i++)
		stop(&world.nodes[i]);
	join(&world.nodes[3]);
	set_coordinator(3);
	run(10 * SWEEP_MS);
	check_int(world.writes, 0);
	check_range(world.keyless, 2 * SERVICES, 2 * SERVICES * 15); /* less and less often */
	start(&world.nodes[1]);
	tell_all();
	run(2000);
	check_in_line();
}

static void what_a_node_holds_is_told_apart(void)
{
	const struct service *service = &world.services[0];
	struct node *node;

	world_init(1, 3);
	node = &world.nodes[1];
	announce_key(node);
	check_int(keyring_holds(world.nodes[0].core, "n1", service->seals, service->count),
	    KEYRING_HOLDS);
	check_int(keyring_holds(world.nodes[0].core, "n2", service->seals, service->count),
	    KEYRING_HOLDS_OLD);
	check_int(keyring_holds(world.nodes[0].core, "n4", service->seals, service->count),
	    KEYRING_LACKS);
	run(1000);
	check_int(keyring_holds(world.nodes[0].core, "n2", service->seals, service->count),
	    KEYRING_HOLDS);
}

static void more_keys_than_there_is_room_for_leave_the_old_ones_out(void)
{
	struct keyring_member members[KEYRING_MEMBERS_MAX] = {0};
	struct keyring_event event = {
	    .kind = KEYRING_MEMBERS, .members = members, .count = KEYRING_MEMBERS_MAX};
	struct node *node;

	world_init(1, 1);
	node = &world.nodes[0];
	for (size_t i = 0; i < KEYRING_MEMBERS_MAX; i++) {
		snprintf(members[i].name, sizeof(members[i].name), "n%zu", i % CLUSTER_MAX + 1);
		members[i].id = i == 0 ? node->secret : 1000 + i;
		members[i].old = i >= CLUSTER_MAX;
		members[i].left_at = MONO_NEVER;
	}
	step(node, &event);
	run(SWEEP_MS);
	check_int(world.services[0].count, KEYRING_SEALS_MAX);
	check(!is_sealed(&world.services[0], "n1", 1000 + CLUSTER_MAX));
	run(10 * SWEEP_MS);
	check_int(world.writes, SERVICES);
}

/* --- the search --- */

static void change_something(void)
{
	struct node *node = &world.nodes[rng_below(&world.rng, NODES)];
	size_t members = 0;

	for (size_t i = 0; i < NODES; i++)
		members += world.nodes[i].in && world.nodes[i].up;
	switch (rng_below(&world.rng, 8)) {
	case 0:
		if (!node->in)
			join(node);
		break;
	case 1:
		if (node->in && members > 2 && node != &world.nodes[world.coordinator]) {
			node->in = false;
			stop(node);
		}
		break;
	case 2:
		if (node->in && node->up && node->secret == node->id && !node->old_id)
			announce_key(node);
		break;
	case 3:
		if (node->in && node->up)
			take_new_key(node);
		break;
	case 4:
		if (node->secret == node->id)
			node->old_id = 0;
		tell_all();
		break;
	case 5:
		if (node->up && members > 1 && node != &world.nodes[world.coordinator]) {
			if (rng_chance(&world.rng, 0.5))
				node->left_at = world.now;
			stop(node);
		}
		break;
	case 6:
		if (node->in && !node->up) {
			node->left_at = MONO_NEVER;
			start(node);
			tell_all();
		}
		break;
	default:
		if (node->in && node->up)
			set_coordinator((size_t)(node - world.nodes));
	}
}

/* All that are in come back, with the keys that the membership has. */
static void come_to_rest(void)
{
	world.trouble = 0;
	for (size_t i = 0; i < NODES; i++) {
		struct node *node = &world.nodes[i];

		if (!node->in)
			continue;
		node->left_at = MONO_NEVER;
		if (!node->up)
			start(node);
		take_new_key(node);
		node->old_id = 0;
	}
	tell_all();
}

static bool is_lost(const struct service *service)
{
	for (size_t i = 0; i < NODES; i++)
		if (world.nodes[i].in && opens(&world.nodes[i], service))
			return false;
	return true;
}

static unsigned search_one(uint64_t seed)
{
	bool lost = false;

	world_init(seed, 3);
	world.trouble = 0.1;
	for (int i = 0; i < 60; i++) {
		change_something();
		run((int64_t)rng_below(&world.rng, 3000));
	}
	come_to_rest();
	/* All who held a key may have been revoked, or have changed their keys twice, before anybody could ask them. */
	for (size_t s = 0; s < SERVICES; s++)
		lost |= is_lost(&world.services[s]);
	run(3 * SWEEP_MS);
	if (!lost)
		check_in_line();
	return lost;
}

static void after_any_changes_the_seals_are_those_of_the_members(void)
{
	unsigned lost = 0;

	for (uint64_t seed = 1; seed <= 2000; seed++)
		lost += search_one(seed);
	printf("# lost=%u\n", lost);
	check_int(lost, 0);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
		printf("lost=%u\n", search_one(strtoull(argv[2], NULL, 10)));
		return 0;
	}
	return test_main((struct test[]){
	    TEST(a_cluster_that_does_not_change_is_written_nothing),
	    TEST(a_node_that_joins_has_every_key_at_once),
	    TEST(a_revoked_node_s_seals_are_dropped),
	    TEST(a_node_that_is_dead_keeps_its_seals),
	    TEST(a_node_that_left_keeps_them_for_a_while),
	    TEST(a_new_key_is_sealed_for_beside_the_old_one_while_that_is_let_in),
	    TEST(a_seal_that_does_not_say_for_which_key_is_made_anew),
	    TEST(a_coordinator_that_joined_later_asks_who_holds_the_key),
	    TEST(without_any_holder_it_is_told_and_nothing_is_written),
	    TEST(what_a_node_holds_is_told_apart),
	    TEST(more_keys_than_there_is_room_for_leave_the_old_ones_out),
	    TEST(after_any_changes_the_seals_are_those_of_the_members),
	    {0},
	});
}
