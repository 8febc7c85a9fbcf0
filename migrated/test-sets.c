/*
 * Sets of VEs in a small world of their own: a store with transactions, three nodes, each with the whole core and a ved that
 * restores at once, or fails, or takes its time.  After each step: of one VE one copy is heard, and all copies that are heard
 * are of one generation, which begins with the transaction that placed all of them.
 */
#include <errno.h>

#include "common/test.h"
#include "migrated/migrated.h"

#define NODES 3
#define VES 3
#define STEP_MS 50
#define TODO_MAX 1024
#define COORDINATOR 2

enum { RPC_OK, RPC_FAILED, RPC_NOT_FOUND = 4 };

static const char *const names[VES] = {"a", "b", "c"};
static const char *const set_of[VES] = {"bank", "bank", ""};

static const struct migrated_config config = {.scan_ms = 1000,
    .restarts_max = 3,
    .steady_ms = 60000,
    .retry_ms = 1000,
    .backoff_ms = 1000,
    .backoff_max_ms = 4000,
    .answer_ms = 3000,
    .image_wait_ms = 8000,
    .lease = {.lease = {2000000000}, .slack = {50000000}, .drift = 0.01, .renewal = {250000000}}};

struct copy {
	uint64_t epoch, ckpt, generation; /* epoch 0: there is none */
	struct mono gate;
};

static struct world {
	struct mono now;
	uint64_t revision, generation;
	size_t n_ves;
	struct migrated_ve ves[VES];
	uint64_t generation_of[VES];
	struct node {
		char name[8];
		bool up;
		struct migrated *core;
		struct copy copies[VES];
	} nodes[NODES];
	struct todo {
		struct node *node;
		struct migrated_action action;
		struct migrated_lease leases[VES];
	} todo[TODO_MAX];
	size_t first, n_todo;
	uint64_t bad_ckpt;      /* cannot be restored of bad_ve */
	const char *bad_ve;     /* NULL: of none */
	const char *slow_ve;    /* its restore does not end; NULL: of none */
	size_t asked, answered; /* by the client */
	int status;
	char reason[MIGRATED_REASON];
	uint64_t id;
	size_t transactions; /* of several facts */
} world;

static size_t index_of(const char *name)
{
	size_t i = 0;

	while (i < VES && strcmp(names[i], name) != 0)
		i++;
	check(i < VES);
	return i;
}

static struct node *node_of(const char *name)
{
	for (size_t i = 0; i < NODES; i++)
		if (strcmp(world.nodes[i].name, name) == 0)
			return &world.nodes[i];
	return NULL;
}

static bool is_heard(const struct copy *copy)
{
	return copy->epoch && mono_before(world.now, copy->gate);
}

static void check_heard(void)
{
	uint64_t generation = 0;

	for (size_t i = 0; i < VES; i++) {
		const struct copy *heard = NULL;

		for (size_t k = 0; k < NODES; k++) {
			const struct copy *copy = &world.nodes[k].copies[i];

			if (!is_heard(copy))
				continue;
			check(!heard);
			heard = copy;
		}
		/* What still runs of the generation before has met nobody of this one while that one is silent. */
		if (!heard || !*set_of[i])
			continue;
		check(generation == 0 || heard->generation == generation);
		generation = heard->generation;
	}
}

static void step(struct node *node, struct migrated_event *event)
{
	static struct migrated_actions actions;

	if (!node->up)
		return;
	actions.count = 0;
	event->now = world.now;
	migrated_step(node->core, event, &actions);
	migrated_check(node->core);
	for (size_t i = 0; i < actions.count; i++) {
		struct todo *todo = &world.todo[(world.first + world.n_todo) % TODO_MAX];

		check(world.n_todo < TODO_MAX);
		world.n_todo++;
		todo->node = node;
		todo->action = actions.list[i];
		check(todo->action.kind != MIGRATED_GRANT || todo->action.count <= VES);
		if (todo->action.kind == MIGRATED_GRANT && todo->action.count)
			memcpy(todo->leases, todo->action.leases,
			    todo->action.count * sizeof(todo->leases[0]));
	}
	check_heard();
}

/* --- what actions do --- */

static void tell_facts(struct node *node)
{
	step(node, &(struct migrated_event){.kind = MIGRATED_FACTS,
		       .ok = true,
		       .ves = world.ves,
		       .count = world.n_ves,
		       .revision = world.revision});
}

static void tell_locals(struct node *node)
{
	struct migrated_local locals[VES] = {0};
	struct migrated_event event = {.kind = MIGRATED_LOCALS, .ok = true, .locals = locals};

	for (size_t i = 0; i < VES; i++) {
		if (!node->copies[i].epoch)
			continue;
		snprintf(locals[event.count].name, sizeof(locals[0].name), "%s", names[i]);
		locals[event.count].epoch = node->copies[i].epoch;
		locals[event.count].running = locals[event.count].whole = true;
		event.count++;
	}
	step(node, &event);
}

static void run(struct node *node, const struct msg_migrated_ve_fact *fact)
{
	size_t i = index_of(fact->name);
	struct migrated_event event = {.kind = MIGRATED_RAN,
	    .name = fact->name,
	    .epoch = fact->epoch,
	    .trouble = MSG_MIGRATED_TROUBLE_RESTORE_FAILED,
	    .reason = "it is bad"};

	node->copies[i] = (struct copy){0}; /* the one before is ended first */
	if (world.slow_ve && strcmp(world.slow_ve, fact->name) == 0)
		return;
	if (world.bad_ve && strcmp(world.bad_ve, fact->name) == 0 &&
	    fact->start_ckpt == world.bad_ckpt)
		event.result = -EIO;
	else
		node->copies[i] = (struct copy){.epoch = fact->epoch,
		    .ckpt = fact->start_ckpt,
		    .generation = world.generation_of[i],
		    .gate = migrated_lease_until(node->core, fact->name, fact->epoch)};
	step(node, &event);
}

static void write_facts(struct node *node, const struct todo *todos[], size_t count)
{
	bool ok = true;

	for (size_t k = 0; k < count; k++)
		ok &=
		    todos[k]->action.version == world.ves[index_of(todos[k]->action.name)].version;
	if (ok && !todos[0]->action.note)
		world.generation++;
	for (size_t k = 0; ok && k < count; k++) {
		size_t i = index_of(todos[k]->action.name);

		world.ves[i].fact = todos[k]->action.fact;
		world.ves[i].version = ++world.revision;
		if (!todos[k]->action.note)
			world.generation_of[i] = world.generation;
	}
	world.transactions += ok && count > 1;
	for (size_t k = 0; k < count; k++)
		step(node, &(struct migrated_event){
			       .kind = MIGRATED_WRITTEN, .ok = ok, .name = todos[k]->action.name});
}

static void renew(struct node *node, uint64_t id)
{
	struct migrated_lease leases[VES];

	step(&world.nodes[COORDINATOR], &(struct migrated_event){.kind = MIGRATED_RENEWAL,
					    .name = node->name,
					    .id = id,
					    .leases = leases,
					    .count = migrated_leases(node->core, leases, VES),
					    .length = config.lease.lease});
}

static void arm(struct node *node)
{
	for (size_t i = 0; i < VES; i++) {
		struct copy *copy = &node->copies[i];
		struct mono until = migrated_lease_until(node->core, names[i], copy->epoch);

		if (copy->epoch && until.ns)
			copy->gate = until;
	}
	check_heard();
}

static struct todo take(void)
{
	struct todo todo = world.todo[world.first];

	world.first = (world.first + 1) % TODO_MAX;
	world.n_todo--;
	return todo;
}

static void carry_out(const struct todo *todo)
{
	const struct migrated_action *action = &todo->action;
	struct node *node = todo->node;

	if (!node->up && action->kind != MIGRATED_GRANT)
		return;
	switch (action->kind) {
	case MIGRATED_READ:
		tell_facts(node);
		break;
	case MIGRATED_LIST:
		tell_locals(node);
		break;
	case MIGRATED_RUN:
		run(node, &action->fact);
		break;
	case MIGRATED_END:
		node->copies[index_of(action->name)] = (struct copy){0};
		step(node, &(struct migrated_event){.kind = MIGRATED_ENDED, .name = action->name});
		break;
	case MIGRATED_RENEW:
		renew(node, action->id);
		break;
	case MIGRATED_GRANT:
		if (node_of(action->name))
			step(node_of(action->name),
			    &(struct migrated_event){.kind = MIGRATED_GRANTED,
				.ok = true,
				.id = action->id,
				.leases = todo->leases,
				.count = action->count,
				.length = action->length});
		break;
	case MIGRATED_ARM:
		arm(node);
		break;
	case MIGRATED_TELL:
		step(&world.nodes[COORDINATOR], &(struct migrated_event){.kind = MIGRATED_REPORT,
						    .name = action->name,
						    .epoch = action->epoch,
						    .trouble = action->trouble,
						    .runs = action->runs,
						    .reason = action->reason});
		break;
	case MIGRATED_ANSWER:
		world.answered++;
		world.status = action->status;
		snprintf(world.reason, sizeof(world.reason), "%s", action->reason);
		break;
	default:
		break;
	}
}

static void carry_out_all(void)
{
	while (world.n_todo) {
		struct todo todos[VES];
		const struct todo *parts[VES] = {&todos[0]};
		size_t count = 1;

		todos[0] = take();
		if (todos[0].action.kind != MIGRATED_WRITE) {
			carry_out(&todos[0]);
			continue;
		}
		for (; todos[count - 1].action.more; count++) {
			todos[count] = take();
			parts[count] = &todos[count];
		}
		if (todos[0].node->up)
			write_facts(todos[0].node, parts, count);
	}
}

/* --- time and faults --- */

static void tell_nodes(struct node *node)
{
	struct migrated_node nodes[NODES] = {0};

	for (size_t i = 0; i < NODES; i++) {
		snprintf(nodes[i].name, sizeof(nodes[i].name), "%s", world.nodes[i].name);
		nodes[i].alive = world.nodes[i].up;
		nodes[i].dead = !nodes[i].alive;
		nodes[i].left_at = MONO_NEVER;
	}
	step(
	    node, &(struct migrated_event){.kind = MIGRATED_NODES, .nodes = nodes, .count = NODES});
}

static void reign(void)
{
	for (size_t i = 0; i < NODES; i++)
		step(&world.nodes[i], &(struct migrated_event){.kind = MIGRATED_COORD,
					  .mine = i == COORDINATOR,
					  .epoch = 1,
					  .since = MONO_ZERO,
					  .until = mono_add_ms(world.now, 4000)});
}

static void go_on(int64_t ms)
{
	for (int64_t gone = 0; gone < ms; gone += STEP_MS) {
		world.now = mono_add_ms(world.now, STEP_MS);
		reign();
		for (size_t i = 0; i < NODES; i++)
			if (mono_due(migrated_deadline(world.nodes[i].core), world.now))
				step(&world.nodes[i],
				    &(struct migrated_event){.kind = MIGRATED_TIMEOUT});
		carry_out_all();
		check_heard();
	}
}

/* The machine is gone with all that ran on it; what was on its way to others is not. */
static void kill_node(const char *name)
{
	struct node *node = node_of(name);

	node->up = false;
	memset(node->copies, 0, sizeof(node->copies));
	for (size_t i = 0; i < NODES; i++)
		tell_nodes(&world.nodes[i]);
}

static void start(void)
{
	for (size_t i = 0; i < NODES; i++) {
		struct node *node = &world.nodes[i];
		struct migrated_config own = config;

		migrated_free(node->core);
		snprintf(node->name, sizeof(node->name), "n%zu", i + 1);
		own.self = node->name;
		check_int(migrated_new(&node->core, &own), 0);
	}
	memset(&world.now, 0, sizeof(world.now));
	world.now = mono_ms(1000000);
	for (size_t i = 0; i < NODES; i++) {
		world.nodes[i].up = true;
		memset(world.nodes[i].copies, 0, sizeof(world.nodes[i].copies));
		step(&world.nodes[i], &(struct migrated_event){.kind = MIGRATED_START});
		tell_nodes(&world.nodes[i]);
	}
}

static void add_ckpt(const char *name, uint64_t id)
{
	struct migrated_ve *ve = &world.ves[index_of(name)];
	struct migrated_ckpt *ckpt = &ve->ckpts[ve->n_ckpts++];

	*ckpt = (struct migrated_ckpt){.id = id, .n_replicas = 1};
	snprintf(ckpt->replicas[0], sizeof(ckpt->replicas[0]), "n3");
}

/* a runs on n1, b on n2, c on n1; a and b are a set, which has the checkpoints 5 and 6. */
static void init(void)
{
	static const char *const at[VES] = {"n1", "n2", "n1"};

	world.first = world.n_todo = 0;
	world.bad_ve = world.slow_ve = NULL;
	world.bad_ckpt = 0;
	world.asked = world.answered = world.transactions = 0;
	world.revision = 10;
	world.n_ves = VES;
	world.generation = 1;
	memset(world.ves, 0, sizeof(world.ves));
	start();
	for (size_t i = 0; i < VES; i++) {
		struct msg_migrated_ve_fact *fact = &world.ves[i].fact;

		world.generation_of[i] = 1;
		world.ves[i].version = ++world.revision;
		snprintf(fact->name, sizeof(fact->name), "%s", names[i]);
		snprintf(fact->node, sizeof(fact->node), "%s", at[i]);
		snprintf(fact->set, sizeof(fact->set), "%s", set_of[i]);
		fact->epoch = 1;
		fact->copies = 1;
	}
	go_on(6000);
	add_ckpt("a", 5);
	add_ckpt("b", 5);
	add_ckpt("a", 6);
	add_ckpt("b", 6);
	go_on(2000);
}

static const struct copy *heard(const char *name)
{
	for (size_t i = 0; i < NODES; i++)
		if (is_heard(&world.nodes[i].copies[index_of(name)]))
			return &world.nodes[i].copies[index_of(name)];
	return NULL;
}

static const struct msg_migrated_ve_fact *fact_of(const char *name)
{
	return &world.ves[index_of(name)].fact;
}

static void die(const char *name)
{
	for (size_t i = 0; i < NODES; i++)
		world.nodes[i].copies[index_of(name)] = (struct copy){0};
	for (size_t i = 0; i < NODES; i++)
		step(&world.nodes[i], &(struct migrated_event){.kind = MIGRATED_HINT});
}

static void restore(const char *name, uint64_t ckpt)
{
	struct migrated_request request = {
	    .ask = MIGRATED_ASK_RESTORE, .id = ++world.id, .ckpt = ckpt};

	snprintf(request.name, sizeof(request.name), "%s", name);
	step(&world.nodes[COORDINATOR],
	    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &request});
}

static void check_both(uint64_t ckpt)
{
	check(heard("a") && heard("b"));
	check_int(heard("a")->ckpt, ckpt);
	check_int(heard("b")->ckpt, ckpt);
	check(!fact_of("a")->gathering && !fact_of("b")->gathering);
}

/* --- claims --- */

static void all_of_a_set_goes_back_when_one_dies(void)
{
	init();
	check(heard("a") && heard("b") && heard("c"));
	die("b");
	go_on(5000);
	check_both(6);
	check_int(fact_of("a")->epoch, 2);
	check_str(fact_of("a")->reason, "with b: restart in place: its processes ended");
	check_int(heard("c")->epoch, 1); /* is none of theirs */
	check_int(world.transactions, 2);
}

static void all_of_a_set_goes_back_when_the_node_of_one_is_lost(void)
{
	init();
	kill_node("n1");
	go_on(10000);
	check_both(6);
	check(strcmp(fact_of("a")->node, "n1") != 0);
	check_str(fact_of("b")->node, "n2");
	check(heard("c"));
}

static void a_restore_on_request_of_one_is_one_of_all(void)
{
	init();
	restore("b", 5);
	go_on(5000);
	check_int(world.status, RPC_OK);
	check_both(5);
	restore("bank", 6);
	go_on(5000);
	check_int(world.status, RPC_OK);
	check_both(6);
	restore("a", 4);
	go_on(2000);
	check_int(world.status, RPC_NOT_FOUND);
	check_int(world.answered, 3);
	check_both(6);
}

static void nobody_is_heard_before_all_stand(void)
{
	init();
	world.slow_ve = "b";
	restore("bank", 0);
	go_on(20000);
	check(!heard("a") && !heard("b"));
	check(world.nodes[0].copies[0].epoch == 2 && world.nodes[0].copies[0].ckpt == 6);
	check(fact_of("a")->gathering && fact_of("b")->gathering);
}

static void
an_attempt_that_one_failed_is_given_up_by_all_and_the_second_takes_the_checkpoint_before(void)
{
	init();
	world.bad_ve = "b";
	world.bad_ckpt = 6;
	die("a");
	go_on(30000);
	check_both(5);
	check_int(fact_of("a")->set_aside.count, 1);
	check_int(fact_of("b")->set_aside.count, 1);
	check_int(fact_of("a")->epoch, 4);
	check_int(fact_of("b")->epoch, 4);
	/* Whoever asks for it may have mended it. */
	world.bad_ve = NULL;
	restore("b", 6);
	go_on(5000);
	check_both(6);
}

static void when_no_checkpoint_can_be_restored_of_one_none_is_left_running(void)
{
	init();
	world.ves[0].n_ckpts = world.ves[1].n_ckpts = 1; /* 5 */
	world.bad_ve = "a";
	world.bad_ckpt = 5;
	die("b");
	go_on(30000);
	check(!heard("a") && !heard("b"));
	check_int(fact_of("a")->want, MSG_MIGRATED_WANT_FAILED);
	check_int(fact_of("b")->want, MSG_MIGRATED_WANT_FAILED);
	check(strstr(fact_of("b")->reason, "no checkpoint of the set could be restored"));
	for (size_t i = 0; i < NODES; i++)
		check(!world.nodes[i].copies[0].epoch && !world.nodes[i].copies[1].epoch);
}

static void one_that_joined_later_starts_cold_and_a_checkpoint_of_some_is_none(void)
{
	init();
	world.ves[1].n_ckpts = 0;
	die("a");
	go_on(5000);
	check(heard("a") && heard("b"));
	check_int(heard("a")->ckpt, 6);
	check_int(heard("b")->ckpt, 0);
	add_ckpt("b", 7); /* of b alone: there is none in common */
	die("a");
	go_on(10000);
	check(!heard("a") && !heard("b"));
	check_int(fact_of("b")->want, MSG_MIGRATED_WANT_FAILED);
}

static void a_member_that_was_stopped_stays_so_until_the_set_is_asked_for(void)
{
	struct migrated_request stop = {.ask = MIGRATED_ASK_STOP, .id = ++world.id, .name = "b"};

	init();
	step(&world.nodes[COORDINATOR],
	    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &stop});
	go_on(3000);
	check(heard("a") && !heard("b"));
	die("a");
	go_on(5000);
	check(heard("a") && !heard("b"));
	check_int(heard("a")->ckpt, 6);
	restore("a", 0);
	go_on(5000);
	check_both(6);
}

static void a_set_of_which_one_dies_again_and_again_is_given_up_whole(void)
{
	init();
	for (int i = 0; i < 12; i++) {
		if (heard("b"))
			die("b");
		go_on(8000);
	}
	check_int(fact_of("a")->want, MSG_MIGRATED_WANT_FAILED);
	check_int(fact_of("b")->want, MSG_MIGRATED_WANT_FAILED);
	check(!heard("a") && !heard("b") && heard("c"));
}

static void a_name_means_a_set_or_a_ve(void)
{
	struct migrated_request run = {.ask = MIGRATED_ASK_RUN, .id = ++world.id, .name = "bank"};

	init();
	step(&world.nodes[COORDINATOR],
	    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &run});
	go_on(2000);
	check_str(world.reason, "bank is a set: a VE needs a name of its own");
	snprintf(run.name, sizeof(run.name), "d");
	snprintf(run.fact.set, sizeof(run.fact.set), "c");
	step(&world.nodes[COORDINATOR],
	    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &run});
	go_on(2000);
	check_str(world.reason, "c is a VE: a set needs a name of its own");
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(all_of_a_set_goes_back_when_one_dies),
	    TEST(all_of_a_set_goes_back_when_the_node_of_one_is_lost),
	    TEST(a_restore_on_request_of_one_is_one_of_all),
	    TEST(nobody_is_heard_before_all_stand),
	    TEST(
		an_attempt_that_one_failed_is_given_up_by_all_and_the_second_takes_the_checkpoint_before),
	    TEST(when_no_checkpoint_can_be_restored_of_one_none_is_left_running),
	    TEST(one_that_joined_later_starts_cold_and_a_checkpoint_of_some_is_none),
	    TEST(a_member_that_was_stopped_stays_so_until_the_set_is_asked_for),
	    TEST(a_set_of_which_one_dies_again_and_again_is_given_up_whole),
	    TEST(a_name_means_a_set_or_a_ve),
	    {0},
	});
}
