/*
 * The core in a small world: a store with versions, nodes with a ved each.  Histories of faults are searched in
 * tests/sim/recovery.c.
 */
#include "migrated/migrated.h"

#include <errno.h>

#include "common/rng.h"
#include "common/test.h"

#define NODES 3

enum { RPC_OK, RPC_FAILED, RPC_NOT_FOUND = 4 };

struct copy {
	bool present, running;
	uint64_t epoch, ckpt;
	struct mono gate; /* it is heard until then */
	bool hangs;       /* its probes fail, if it has any */
};

struct node {
	char name[8];
	bool up, ved_up, revoked;
	bool cut; /* from all others and the store, which take it for dead */
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

static struct {
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
} world;

static const struct migrated_config config = {.scan_ms = 1000,
    .restarts_max = 3,
    .steady_ms = 60000,
    .retry_ms = 1000,
    .backoff_ms = 1000,
    .backoff_max_ms = 6000,
    .answer_ms = 3000,
    .lease = {.lease = {2000000000}, .slack = {50000000}, .drift = 0.01, .renewal = {500000000}}};

/* It is raised whenever it is told. */
static const struct mono reign = {2000000000};

/* One copy is heard at a time, and none that is older than one that was heard. */
static void check_heard(void)
{
	const struct node *heard = NULL;

	for (size_t i = 0; i < NODES; i++) {
		const struct copy *copy = &world.nodes[i].copy;

		if (!copy->running || !mono_before(world.now, copy->gate))
			continue;
		check(!heard);
		heard = &world.nodes[i];
		check(copy->epoch >= world.heard);
		world.heard = copy->epoch;
	}
}

/* To the node that asked; an answer that is overtaken by the next is lost. */
static void carry_grant(const struct migrated_action *action)
{
	for (size_t i = 0; i < NODES; i++) {
		struct node *node = &world.nodes[i];

		if (strcmp(node->name, action->name) != 0)
			continue;
		node->granted = true;
		node->grant_id = action->id;
		node->n_grants = action->count;
		node->length = action->length;
		check(action->count <= 4);
		if (action->count)
			memcpy(
			    node->grants, action->leases, action->count * sizeof(node->grants[0]));
	}
}

static void step(struct node *node, struct migrated_event *event)
{
	struct migrated_actions actions = {0};

	event->now = world.now;
	event->revoked = node->revoked;
	migrated_step(node->core, event, &actions);
	migrated_check(node->core);
	for (size_t i = 0; i < actions.count; i++) {
		if (actions.list[i].kind == MIGRATED_GRANT) {
			carry_grant(&actions.list[i]);
			continue;
		}
		check(node->n_todo < sizeof(node->todo) / sizeof(node->todo[0]));
		node->todo[node->n_todo++] = actions.list[i];
	}
	check_heard();
}

static void tell_nodes(struct node *node)
{
	struct migrated_node nodes[NODES] = {0};

	for (size_t i = 0; i < NODES; i++) {
		snprintf(nodes[i].name, sizeof(nodes[i].name), "%s", world.nodes[i].name);
		nodes[i].alive = world.nodes[i].up && !world.nodes[i].cut;
		nodes[i].dead = !nodes[i].alive;
		nodes[i].left_at = MONO_NEVER;
	}
	step(
	    node, &(struct migrated_event){.kind = MIGRATED_NODES, .nodes = nodes, .count = NODES});
}

static void tell_coord(struct node *node)
{
	step(node, &(struct migrated_event){.kind = MIGRATED_COORD,
		       .mine = node == &world.nodes[world.coordinator],
		       .epoch = world.reign,
		       .since = world.reign_since,
		       .until = mono_add(world.now, reign)});
}

static void raise_reign(void)
{
	if (world.nodes[world.coordinator].up)
		tell_coord(&world.nodes[world.coordinator]);
}

static void start_process(struct node *node)
{
	struct migrated_config own = config;
	struct migrated_begun begun = {.epoch = node->journal};

	own.self = node->name;
	node->core = migrated_free(node->core);
	node->n_todo = node->done = 0;
	node->answer = (struct migrated_event){0};
	node->granted = false;
	check_int(migrated_new(&node->core, &own), 0);
	snprintf(begun.name, sizeof(begun.name), "ve");
	step(node, &(struct migrated_event){
		       .kind = MIGRATED_START, .begun = &begun, .count = node->journal != 0});
	tell_nodes(node);
	tell_coord(node);
}

/* The reign before has run out. */
static void set_coordinator(size_t i)
{
	world.now = mono_add(world.now, reign);
	world.coordinator = i;
	world.reign++;
	world.reign_since = world.now;
	for (size_t k = 0; k < NODES; k++)
		if (world.nodes[k].up)
			tell_coord(&world.nodes[k]);
}

static void kill_node(size_t i)
{
	struct node *node = &world.nodes[i];

	node->up = false;
	node->copy = (struct copy){0};
	node->core = migrated_free(node->core);
	node->n_todo = node->done = 0;
	for (size_t k = 0; k < NODES; k++)
		if (world.nodes[k].up)
			tell_nodes(&world.nodes[k]);
}

static void boot_node(size_t i)
{
	world.nodes[i].up = world.nodes[i].ved_up = true;
	start_process(&world.nodes[i]);
	for (size_t k = 0; k < NODES; k++)
		if (world.nodes[k].up)
			tell_nodes(&world.nodes[k]);
}

static void world_init(uint64_t seed)
{
	for (size_t i = 0; i < NODES; i++)
		migrated_free(world.nodes[i].core);
	memset(&world, 0, sizeof(world));
	rng_init(&world.rng, seed);
	world.revision = 10;
	world.now = mono_ms(1000);
	for (size_t i = 0; i < NODES; i++) {
		snprintf(world.nodes[i].name, sizeof(world.nodes[i].name), "n%zu", i + 1);
		world.nodes[i].up = world.nodes[i].ved_up = true;
	}
	for (size_t i = 0; i < NODES; i++)
		start_process(&world.nodes[i]);
}

static void add_ckpt(uint64_t id, const char *replica)
{
	struct migrated_ckpt ckpt = {.id = id, .n_replicas = 1};

	snprintf(ckpt.replicas[0], sizeof(ckpt.replicas[0]), "%s", replica);
	ckpt.oid[0] = (uint8_t)id;
	if (world.ve.n_ckpts == MIGRATED_CKPTS_MAX)
		memmove(&world.ve.ckpts[0], &world.ve.ckpts[1], --world.ve.n_ckpts * sizeof(ckpt));
	world.ve.ckpts[world.ve.n_ckpts++] = ckpt;
	world.ve.cat_version = ++world.revision;
}

/* --- what the shell would do --- */

static void do_read(struct node *node)
{
	world.ve.node_revoked = world.nodes[0].revoked && strcmp(world.ve.fact.node, "n1") == 0;
	step(node, &(struct migrated_event){.kind = MIGRATED_FACTS,
		       .ok = !node->revoked && !node->cut,
		       .revision = world.revision,
		       .ves = &world.ve,
		       .count = world.exists,
		       .elsewhere = &world.elsewhere,
		       .n_elsewhere = migrated_asks_for(node->core, world.elsewhere.name)});
}

static void do_list(struct node *node)
{
	struct migrated_local local = {.epoch = node->copy.epoch, .running = node->copy.running};

	snprintf(local.name, sizeof(local.name), "ve");
	step(node, &(struct migrated_event){.kind = MIGRATED_LOCALS,
		       .ok = node->ved_up,
		       .locals = &local,
		       .count = node->copy.present});
}

static void do_run(struct node *node, const struct migrated_action *action)
{
	struct migrated_event event = {
	    .kind = MIGRATED_RAN, .name = "ve", .epoch = action->fact.epoch};

	check(node->journal == action->fact.epoch); /* durable before it is begun */
	if (!node->ved_up) {
		event.result = -EAGAIN;
	} else if (action->fact.has_start_from && action->fact.start_ckpt == world.bad_ckpt) {
		event.result = -EIO;
		event.trouble = MSG_MIGRATED_TROUBLE_RESTORE_FAILED;
		event.reason = "image cannot be used";
	} else if (node->copy.present && node->copy.epoch >= action->fact.epoch) {
		event.result = -ESTALE;
	} else {
		/* One epoch is started at most once, wherever. */
		check(action->fact.epoch < 512 && world.runs_begun[action->fact.epoch]++ == 0);
		node->copy = (struct copy){true, true, action->fact.epoch, action->fact.start_ckpt,
		    migrated_lease_until(node->core, "ve", action->fact.epoch),
		    action->fact.has_start_from && action->fact.start_ckpt == world.mute_ckpt};
		world.ran_at = world.now;
	}
	step(node, &event);
}

/* What is said of the lease that had to end is so: it is over, and every gate that was open by it was closed by then. */
static void check_wait(const struct migrated_action *action)
{
	check(!mono_before(world.now, action->free_at));
	check(!mono_before(action->free_at, action->silent_at));
	for (size_t i = 0; i < NODES; i++)
		check(!mono_before(action->silent_at, world.nodes[i].copy.gate) ||
		      !world.nodes[i].copy.running);
	world.waits++;
}

static void do_write(struct node *node, const struct migrated_action *action)
{
	bool same = world.exists ? action->version == world.ve.version &&
				       action->cat_version == world.ve.cat_version
				 : action->version == 0;
	bool match = same && !*world.elsewhere.name;
	bool mine = node == &world.nodes[world.coordinator] && !node->cut;
	bool lost = world.lose_writes && rng_chance(&world.rng, 0.3);

	if (match && mine) {
		if (action->waited)
			check_wait(action);
		check(!world.exists || action->kind == MIGRATED_REMOVE ||
		      action->fact.epoch > world.ve.fact.epoch);
		world.exists = action->kind == MIGRATED_WRITE;
		world.ve.version = ++world.revision;
		world.ve.fact = action->fact;
		if (!world.exists)
			memset(&world.ve, 0, sizeof(world.ve));
	}
	step(node, &(struct migrated_event){
		       .kind = MIGRATED_WRITTEN, .name = "ve", .ok = match && mine && !lost});
}

static void do_tell(const struct node *node, const struct migrated_action *action)
{
	struct node *coordinator = &world.nodes[world.coordinator];

	if (coordinator->up && (node == coordinator || !(node->cut || coordinator->cut)))
		step(coordinator, &(struct migrated_event){.kind = MIGRATED_REPORT,
				      .name = "ve",
				      .epoch = action->epoch,
				      .trouble = action->trouble,
				      .runs = action->runs,
				      .reason = action->reason});
}

static void do_renew(struct node *node, const struct migrated_action *action)
{
	struct node *coordinator = &world.nodes[world.coordinator];
	struct migrated_event event = {.kind = MIGRATED_RENEWAL,
	    .name = node->name,
	    .id = action->id,
	    .length = config.lease.lease};
	struct migrated_lease leases[4];

	event.leases = leases;
	event.count = migrated_leases(node->core, leases, 4);
	if (coordinator->up && (node == coordinator || !(node->cut || coordinator->cut)))
		step(coordinator, &event);
	else
		step(node, &(struct migrated_event){.kind = MIGRATED_GRANTED, .id = action->id});
}

static void take_grant(struct node *node)
{
	struct migrated_lease leases[4];
	struct migrated_event event = {.kind = MIGRATED_GRANTED,
	    .ok = true,
	    .id = node->grant_id,
	    .leases = leases,
	    .count = node->n_grants,
	    .length = node->length};

	memcpy(leases, node->grants, sizeof(leases));
	node->granted = false;
	step(node, &event);
}

/* A lease under another epoch leaves the gate as it is. */
static void arm(struct node *node)
{
	struct mono until = migrated_lease_until(node->core, "ve", node->copy.epoch);

	if (mono_before(node->copy.gate, until))
		node->copy.gate = until;
}

static bool do_one(struct node *node)
{
	struct migrated_action action;

	if (node->up && node->granted) {
		take_grant(node);
		return true;
	}
	if (!node->up || node->done == node->n_todo)
		return false;
	action = node->todo[node->done++];
	if (node->done == node->n_todo)
		node->done = node->n_todo = 0;
	switch (action.kind) {
	case MIGRATED_READ:
		do_read(node);
		break;
	case MIGRATED_LIST:
		do_list(node);
		break;
	case MIGRATED_JOURNAL:
		node->journal = action.epoch;
		break;
	case MIGRATED_RUN:
		do_run(node, &action);
		break;
	case MIGRATED_END:
		if (node->ved_up)
			node->copy = (struct copy){0};
		step(node, &(struct migrated_event){.kind = MIGRATED_ENDED, .name = "ve"});
		break;
	case MIGRATED_WRITE:
	case MIGRATED_REMOVE:
		do_write(node, &action);
		break;
	case MIGRATED_TELL:
		do_tell(node, &action);
		break;
	case MIGRATED_RENEW:
		do_renew(node, &action);
		break;
	case MIGRATED_ARM:
		if (node->copy.present)
			arm(node);
		check_heard();
		break;
	case MIGRATED_GRANT: /* see step() */
		break;
	case MIGRATED_ANSWER:
		world.answers++;
		world.last_status = (uint64_t)action.status;
		snprintf(world.last_reason, sizeof(world.last_reason), "%s", action.reason);
		break;
	case MIGRATED_RUNS:
		check_int(action.epoch, node->copy.epoch);
		break;
	}
	return true;
}

/* Of a copy that has just begun nothing is known yet; one behind a closed gate cannot answer. */
static void tell_health(struct node *node)
{
	const struct copy *copy = &node->copy;
	struct migrated_health health = {
	    .name = "ve", .epoch = copy->epoch, .interval_ms = 500, .fault = "ve/tcp: refused"};

	health.answered = copy->ckpt != world.mute_ckpt || !copy->hangs;
	health.suspect = copy->hangs || !mono_before(world.now, copy->gate);
	step(node, &(struct migrated_event){.kind = MIGRATED_HEALTH,
		       .health = &health,
		       .count = copy->running && mono_before(world.ran_at, world.now)});
}

/* All that can be done without time going by. */
static void carry_out(void)
{
	bool busy = true;

	for (int guard = 0; busy && guard < 2000; guard++) {
		busy = false;
		for (size_t k = 0; k < NODES; k++)
			busy |= do_one(&world.nodes[k]);
	}
	check(!busy);
}

static void settle_for(int halves)
{
	for (int i = 0; i < halves; i++) {
		carry_out();
		world.now = mono_add_ms(world.now, 500);
		raise_reign();
		for (size_t k = 0; k < NODES; k++)
			if (world.nodes[k].up) {
				step(&world.nodes[k],
				    &(struct migrated_event){.kind = MIGRATED_TIMEOUT});
				tell_health(&world.nodes[k]);
			}
	}
}

/* 20 s. */
static void settle(void)
{
	settle_for(40);
}

/* Heard, and by one's own lease. */
static bool runs(const struct node *node)
{
	return node->up && node->copy.running && mono_before(world.now, node->copy.gate);
}

static unsigned running(void)
{
	unsigned count = 0;

	for (size_t i = 0; i < NODES; i++)
		count += runs(&world.nodes[i]);
	return count;
}

static struct node *runner(void)
{
	for (size_t i = 0; i < NODES; i++)
		if (runs(&world.nodes[i]))
			return &world.nodes[i];
	return NULL;
}

static void ask(enum migrated_ask what, const char *node, uint64_t ckpt)
{
	struct migrated_request request = {.ask = what, .id = 1, .ckpt = ckpt};

	snprintf(request.name, sizeof(request.name), "ve");
	snprintf(request.fact.node, sizeof(request.fact.node), "%s", node);
	request.fact.hung_ms = world.hung_ms;
	step(&world.nodes[world.coordinator],
	    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &request});
	settle();
}

static void run_on_n1_with_probes(uint64_t hung_ms)
{
	world_init(1);
	world.hung_ms = hung_ms;
	settle();
	ask(MIGRATED_ASK_RUN, "n1", 0);
	check_int(world.last_status, RPC_OK);
	check_int(running(), 1);
	check_str(runner()->name, "n1");
}

static void run_on_n1(void)
{
	run_on_n1_with_probes(0);
}

/* --- claims --- */

static void a_check_says_what_a_run_would_and_does_nothing(void)
{
	struct migrated_request request = {
	    .ask = MIGRATED_ASK_RUN, .id = 1, .name = "ve", .check = true};
	struct migrated_event event = {.kind = MIGRATED_ASKED, .request = &request};

	world_init(1);
	settle();
	step(&world.nodes[world.coordinator], &event);
	settle();
	check_int(world.last_status, RPC_OK);
	check_int(running(), 0);
	ask(MIGRATED_ASK_RUN, "n1", 0);
	step(&world.nodes[world.coordinator], &event);
	settle();
	check_int(world.last_status, RPC_FAILED);
	check_str(world.last_reason, "there is a VE ve already");
}

static void a_new_ve_runs_where_it_was_asked_for(void)
{
	run_on_n1();
	check(
	    world.nodes[0].copy.epoch > 10); /* above what an earlier VE of the name can have had */
	ask(MIGRATED_ASK_RUN, "n1", 0);
	check_int(world.last_status, RPC_FAILED);
	check_str(world.last_reason, "there is a VE ve already");
}

/* The store has one fact of each name, and that one is another coordinator's. */
static void a_ve_of_another_site_is_refused_with_where_it_is(void)
{
	world_init(1);
	settle();
	world.elsewhere = (struct migrated_elsewhere){"ve", "paris", "n9"};
	ask(MIGRATED_ASK_RUN, "", 0);
	check_int(world.last_status, RPC_FAILED);
	check_str(world.last_reason,
	    "there is a VE ve already, of site paris, on node n9; names are one for all sites");
	ask(MIGRATED_ASK_RM, "", 0);
	check_int(world.last_status, RPC_FAILED);
	check_str(world.last_reason, "VE ve is of site paris, on node n9: ask there");
	check(!world.exists);
	/* It is removed there: the name is free. */
	world.elsewhere = (struct migrated_elsewhere){0};
	ask(MIGRATED_ASK_RUN, "", 0);
	check_int(world.last_status, RPC_OK);
	check_int(running(), 1);
}

static void a_dead_node_s_ve_goes_on_from_its_last_checkpoint_where_the_image_is(void)
{
	run_on_n1();
	add_ckpt(7, "n2");
	add_ckpt(8, "n3");
	set_coordinator(1);
	uint64_t epoch = world.ve.fact.epoch;

	kill_node(0);
	settle();
	check_int(world.waits, 1);
	check_int(running(), 1);
	check_str(runner()->name, "n3");
	check_int(runner()->copy.ckpt, 8);
	check_int(runner()->copy.epoch, epoch + 1);
	check_str(world.ve.fact.reason, "node n1 is dead");
}

/* What a reign granted ends with it. */
static void whoever_takes_over_from_a_dead_coordinator_waits_for_nothing(void)
{
	run_on_n1();
	add_ckpt(7, "n2");
	kill_node(0);
	set_coordinator(1);
	carry_out();
	check_str(world.ve.fact.node, "n2");
	check(runs(&world.nodes[1]));
}

static void a_coordinator_s_process_that_restarts_waits_out_what_its_predecessor_granted(void)
{
	run_on_n1();
	add_ckpt(7, "n2");
	set_coordinator(1);
	settle();
	kill_node(0);
	world.now = mono_add_ms(world.now, 1);
	start_process(&world.nodes[1]);
	carry_out();
	check_str(world.ve.fact.node, "n1");
	settle();
	check_str(world.ve.fact.node, "n2");
}

/* By what the coordinator has, and not at all where the node would count by its own. */
static void a_node_with_another_length_gets_the_coordinator_s(void)
{
	const struct mono lengths[] = {MONO_ZERO, {1000000000}, {60000000000}};

	run_on_n1();
	for (size_t i = 0; i < 3; i++) {
		struct migrated_lease lease = {.name = "ve", .epoch = world.ve.fact.epoch};

		step(&world.nodes[0], &(struct migrated_event){.kind = MIGRATED_RENEWAL,
					  .name = "n1",
					  .id = 1,
					  .leases = &lease,
					  .count = 1,
					  .length = lengths[i]});
		check_int(world.nodes[0].n_grants, i > 0);
		check(
		    world.nodes[0].length.ns <= lease_length(&config.lease, config.lease.lease).ns);
	}
}

/* It hears no facts: those that it has say that all is as it should be. */
static void a_revoked_node_ends_what_it_runs_and_the_coordinator_places_it_elsewhere(void)
{
	run_on_n1();
	add_ckpt(7, "n2");
	set_coordinator(1);
	world.nodes[0].revoked = true;
	settle();
	check(!world.nodes[0].copy.present);
	check_int(running(), 1);
	check_str(runner()->name, "n2");
	check_int(runner()->copy.ckpt, 7);
	check_str(world.ve.fact.reason, "node n1 is revoked");
}

static void the_old_copy_ends_when_its_node_is_back(void)
{
	run_on_n1();
	struct copy old = world.nodes[0].copy;

	set_coordinator(1);
	kill_node(0);
	settle();
	boot_node(0);
	world.nodes[0].copy = old; /* it was cut off, not dead */
	settle();
	check_int(running(), 1);
	check(!world.nodes[0].copy.present);
}

static void a_ve_that_dies_restarts_in_place_then_elsewhere_then_is_given_up(void)
{
	run_on_n1();
	add_ckpt(5, "n2");
	for (int i = 0; i < 3; i++) {
		world.nodes[0].copy.running = false;
		settle();
		check_str(runner()->name, "n1");
		check_int(runner()->copy.ckpt, 5);
	}
	for (int i = 0; i < 3; i++) {
		const char *before = world.ve.fact.node;
		char name[64];

		snprintf(name, sizeof(name), "%s", before);
		runner()->copy.running = false;
		settle();
		check(strcmp(runner()->name, name) != 0);
	}
	runner()->copy.running = false;
	settle();
	check_int(running(), 0);
	check_int(world.ve.fact.want, MSG_MIGRATED_WANT_FAILED);
	check_str(world.ve.fact.reason, "ended again and again: its processes ended");
	ask(MIGRATED_ASK_RESTORE, "", 0);
	check_int(running(), 1);
}

static void a_ve_that_ran_steadily_gets_its_restarts_back(void)
{
	run_on_n1();
	for (int i = 0; i < 8; i++) {
		for (int k = 0; k < 5; k++)
			settle(); /* 20 s each */
		world.nodes[0].copy.running = false;
		settle();
		check_str(runner()->name, "n1");
		check_int(world.ve.fact.restarts, 1);
	}
}

static void a_checkpoint_that_fails_twice_is_set_aside(void)
{
	run_on_n1();
	add_ckpt(5, "n2");
	add_ckpt(6, "n2");
	world.bad_ckpt = 6;
	world.nodes[0].copy.running = false;
	settle();
	check_int(running(), 1);
	check_int(runner()->copy.ckpt, 5);
	check_int(world.ve.fact.set_aside.count, 1);
	check_int(world.ve.fact.set_aside.item[0], 6);
}

static void a_ve_that_hangs_is_restarted_in_place(void)
{
	run_on_n1_with_probes(2000);
	add_ckpt(5, "n2");
	world.nodes[0].copy.hangs = true;
	settle();
	check_str(runner()->name, "n1");
	check_int(runner()->copy.ckpt, 5);
	check(!runner()->copy.hangs);
	check_int(world.ve.fact.restarts, 1);
	check_str(world.ve.fact.reason, "restart in place: it hangs: ve/tcp: refused");
}

static void a_ve_that_answers_again_in_time_is_left_alone(void)
{
	run_on_n1_with_probes(5000);
	uint64_t epoch = world.ve.fact.epoch;

	for (int i = 0; i < 10; i++) {
		world.nodes[0].copy.hangs = true;
		settle_for(8); /* 4 s */
		world.nodes[0].copy.hangs = false;
		settle_for(2);
	}
	check_int(world.ve.fact.epoch, epoch);
}

static void probes_without_a_limit_are_for_people(void)
{
	run_on_n1_with_probes(0);
	uint64_t epoch = world.ve.fact.epoch;

	world.nodes[0].copy.hangs = true;
	settle();
	settle();
	check_int(world.ve.fact.epoch, epoch);
}

/* Its gate is closed, so no probe can succeed: that is no hang. */
static void a_ve_that_nobody_may_hear_is_not_hung(void)
{
	run_on_n1_with_probes(1000);
	set_coordinator(1);
	uint64_t epoch = world.ve.fact.epoch;

	world.nodes[1].cut = true; /* nobody is told: no verdict */
	settle();
	check_int(running(), 0);
	world.nodes[1].cut = false;
	settle();
	check_int(running(), 1);
	check_int(world.ve.fact.epoch, epoch);
}

/* It goes on answering nobody; somebody may hear it, so it is silenced first (see check_heard()). */
static void a_ve_that_hangs_again_and_again_goes_elsewhere_when_it_is_silent(void)
{
	run_on_n1_with_probes(1000);
	add_ckpt(5, "n2");
	for (int i = 0; i < 3; i++) {
		runner()->copy.hangs = true;
		settle();
		check_str(runner()->name, "n1");
	}
	world.nodes[0].copy.hangs = true;
	settle();
	check_str(runner()->name, "n2");
	check(!world.nodes[0].copy.present);
}

static void a_checkpoint_whose_probe_never_succeeds_is_set_aside(void)
{
	run_on_n1_with_probes(1000);
	add_ckpt(5, "n2");
	add_ckpt(6, "n2");
	world.mute_ckpt = 6;
	world.nodes[0].copy.running = false;
	settle();
	settle();
	check_int(running(), 1);
	check_int(runner()->copy.ckpt, 5);
	check_int(world.ve.fact.set_aside.count, 1);
	check_int(world.ve.fact.set_aside.item[0], 6);
	check_int(world.ve.fact.want, MSG_MIGRATED_WANT_RUN);
}

/* 0, 1, 2, 4, then the maximum of 6 s, each less by up to a half; this world has steps of half a second. */
static void each_restart_in_a_row_waits_longer_up_to_a_maximum(void)
{
	static const int64_t most_ms[] = {0, 1000, 2000, 4000, 6000, 6000};

	run_on_n1();
	add_ckpt(5, "n2");
	for (size_t i = 0; i < sizeof(most_ms) / sizeof(most_ms[0]); i++) {
		struct mono died = world.now;
		int64_t waited_ms;

		runner()->copy.running = false;
		for (int halves = 0; halves < 40 && !mono_before(died, world.ran_at); halves++)
			settle_for(1);
		waited_ms = mono_to_ms(mono_sub(world.ran_at, died));
		check(waited_ms >= most_ms[i] / 2);
		check(waited_ms <= most_ms[i] + 2500); /* it is seen, and told, once a second */
		settle_for(2);
	}
}

static void without_a_usable_checkpoint_it_says_so_and_does_not_start_cold(void)
{
	run_on_n1();
	add_ckpt(6, "n2");
	world.bad_ckpt = 6;
	world.nodes[0].copy.running = false;
	settle();
	check_int(running(), 0);
	check_int(world.ve.fact.want, MSG_MIGRATED_WANT_FAILED);
	check_str(world.ve.fact.reason, "no checkpoint could be restored: image cannot be used");
}

static void stop_and_remove_end_it(void)
{
	run_on_n1();
	ask(MIGRATED_ASK_STOP, "", 0);
	check_int(running(), 0);
	check(!world.nodes[0].copy.present);
	ask(MIGRATED_ASK_RM, "", 0);
	check(!world.exists);
	check_int(world.nodes[0].journal, 0);
	ask(MIGRATED_ASK_STOP, "", 0);
	check_int(world.last_status, RPC_NOT_FOUND);
}

static void the_last_node_alive_takes_it(void)
{
	run_on_n1();
	set_coordinator(1);
	kill_node(2);
	kill_node(0);
	settle();
	check_str(runner()->name, "n2");
}

static void a_killed_process_changes_nothing_for_its_services(void)
{
	run_on_n1();
	uint64_t epoch = world.ve.fact.epoch;

	for (size_t i = 0; i < NODES; i++)
		start_process(&world.nodes[i]);
	settle();
	check_int(world.ve.fact.epoch, epoch);
	check_int(running(), 1);
}

static void a_write_in_doubt_is_not_done_twice(void)
{
	for (uint64_t seed = 0; seed < 50; seed++) {
		world_init(seed);
		settle();
		world.lose_writes = true;
		ask(MIGRATED_ASK_RUN, "n1", 0);
		check_int(world.last_status, RPC_OK);
		check_int(world.answers, 1);
		check_int(running(), 1);
	}
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_new_ve_runs_where_it_was_asked_for),
	    TEST(a_check_says_what_a_run_would_and_does_nothing),
	    TEST(a_ve_of_another_site_is_refused_with_where_it_is),
	    TEST(a_dead_node_s_ve_goes_on_from_its_last_checkpoint_where_the_image_is),
	    TEST(whoever_takes_over_from_a_dead_coordinator_waits_for_nothing),
	    TEST(a_coordinator_s_process_that_restarts_waits_out_what_its_predecessor_granted),
	    TEST(a_node_with_another_length_gets_the_coordinator_s),
	    TEST(a_revoked_node_ends_what_it_runs_and_the_coordinator_places_it_elsewhere),
	    TEST(the_old_copy_ends_when_its_node_is_back),
	    TEST(a_ve_that_dies_restarts_in_place_then_elsewhere_then_is_given_up),
	    TEST(a_ve_that_ran_steadily_gets_its_restarts_back),
	    TEST(a_checkpoint_that_fails_twice_is_set_aside),
	    TEST(without_a_usable_checkpoint_it_says_so_and_does_not_start_cold),
	    TEST(a_ve_that_hangs_is_restarted_in_place),
	    TEST(a_ve_that_answers_again_in_time_is_left_alone),
	    TEST(probes_without_a_limit_are_for_people),
	    TEST(a_ve_that_nobody_may_hear_is_not_hung),
	    TEST(a_ve_that_hangs_again_and_again_goes_elsewhere_when_it_is_silent),
	    TEST(a_checkpoint_whose_probe_never_succeeds_is_set_aside),
	    TEST(each_restart_in_a_row_waits_longer_up_to_a_maximum),
	    TEST(stop_and_remove_end_it),
	    TEST(the_last_node_alive_takes_it),
	    TEST(a_killed_process_changes_nothing_for_its_services),
	    TEST(a_write_in_doubt_is_not_done_twice),
	    {0},
	});
}
