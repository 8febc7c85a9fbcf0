#include "migrated/test-world.h"

#include <errno.h>

struct world world;

const struct migrated_config config = {.scan_ms = 1000,
    .restarts_max = 3,
    .steady_ms = 60000,
    .retry_ms = 1000,
    .backoff_ms = 1000,
    .backoff_max_ms = 6000,
    .answer_ms = 3000,
    .image_wait_ms = 8000,
    .lease = {.lease = {2000000000}, .slack = {50000000}, .drift = 0.01, .renewal = {500000000}}};

const struct mono reign = {2000000000};

void check_heard(void)
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

void step(struct node *node, struct migrated_event *event)
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

void tell_nodes(struct node *node)
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

void start_process(struct node *node)
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

void set_coordinator(size_t i)
{
	world.now = mono_add(world.now, reign);
	world.coordinator = i;
	world.reign++;
	world.reign_since = world.now;
	for (size_t k = 0; k < NODES; k++)
		if (world.nodes[k].up)
			tell_coord(&world.nodes[k]);
}

void kill_node(size_t i)
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

void boot_node(size_t i)
{
	world.nodes[i].up = world.nodes[i].ved_up = true;
	start_process(&world.nodes[i]);
	for (size_t k = 0; k < NODES; k++)
		if (world.nodes[k].up)
			tell_nodes(&world.nodes[k]);
}

void world_init(uint64_t seed)
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

void add_ckpt(uint64_t id, const char *replica)
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
	struct migrated_local local = {.epoch = node->copy.epoch,
	    .running = node->copy.running && !node->copy.stopping,
	    .stopping = node->copy.stopping,
	    .unfenced = node->unfenced};

	snprintf(local.name, sizeof(local.name), "ve");
	step(node, &(struct migrated_event){.kind = MIGRATED_LOCALS,
		       .ok = node->ved_up,
		       .unfenced = node->unfenced,
		       .locals = &local,
		       .count = node->copy.present});
}

/* A node that is up gives it, or it was restored here. */
static bool can_be_fetched(const struct node *node, uint64_t id)
{
	if (node->copy.ckpt == id)
		return true;
	for (size_t i = 0; i < world.ve.n_ckpts; i++)
		for (size_t k = 0; k < NODES && world.ve.ckpts[i].id == id; k++)
			if (strcmp(world.nodes[k].name, world.ve.ckpts[i].replicas[0]) == 0)
				return world.nodes[k].up && !world.nodes[k].silent;
	return true;
}

static void do_run(struct node *node, const struct migrated_action *action)
{
	struct migrated_event event = {
	    .kind = MIGRATED_RAN, .name = "ve", .epoch = action->fact.epoch};

	check(node->journal == action->fact.epoch); /* durable before it is begun */
	if (!node->ved_up) {
		event.result = -EAGAIN;
	} else if (action->fact.has_start_from && !can_be_fetched(node, action->fact.start_ckpt)) {
		event.result = -EHOSTUNREACH;
		event.reason = "it could not be fetched";
	} else if (action->fact.has_start_from && action->fact.start_ckpt == world.bad_ckpt) {
		event.result = -EIO;
		event.trouble = MSG_MIGRATED_TROUBLE_RESTORE_FAILED;
		event.reason = "image cannot be used";
	} else if (node->copy.present && node->copy.epoch >= action->fact.epoch) {
		event.result = -ESTALE;
	} else {
		/* One epoch is started at most once, wherever. */
		check(action->fact.epoch < 512 && world.runs_begun[action->fact.epoch]++ == 0);
		node->copy = (struct copy){.present = true,
		    .running = true,
		    .epoch = action->fact.epoch,
		    .ckpt = action->fact.start_ckpt,
		    .gate = migrated_lease_until(node->core, "ve", action->fact.epoch),
		    .hangs =
			action->fact.has_start_from && action->fact.start_ckpt == world.mute_ckpt};
		world.ran_at = world.now;
		check(!node->unfenced || action->fact.unfenced);
		if (node->unfenced)
			node->copy.gate = MONO_NEVER;
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
		      action->fact.epoch > world.ve.fact.epoch ||
		      (action->note && action->fact.epoch == world.ve.fact.epoch));
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

/* The command switches the node off, or fails. */
static void do_fence(struct node *node, const struct migrated_action *action)
{
	struct migrated_event event = {.kind = MIGRATED_FENCED,
	    .name = "ve",
	    .epoch = action->epoch - world.fence_is_old,
	    .ok = world.fence_works,
	    .reason = "no route"};

	check_str(action->fact.fence, "off");
	world.fences++;
	for (size_t i = 0; i < NODES && world.fence_works; i++)
		if (strcmp(world.nodes[i].name, action->fact.node) == 0)
			world.nodes[i].copy = (struct copy){0};
	if (!world.fence_hangs)
		step(node, &event);
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
	case MIGRATED_FENCE:
		do_fence(node, &action);
		break;
	case MIGRATED_SPARE:
		world.spared++;
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

void carry_out(void)
{
	bool busy = true;

	for (int guard = 0; busy && guard < 2000; guard++) {
		busy = false;
		for (size_t k = 0; k < NODES; k++)
			busy |= do_one(&world.nodes[k]);
	}
	check(!busy);
}

void settle_for(int halves)
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

void settle(void)
{
	settle_for(40);
}

bool runs(const struct node *node)
{
	return node->up && node->copy.running && mono_before(world.now, node->copy.gate);
}

unsigned running(void)
{
	unsigned count = 0;

	for (size_t i = 0; i < NODES; i++)
		count += runs(&world.nodes[i]);
	return count;
}

struct node *runner(void)
{
	for (size_t i = 0; i < NODES; i++)
		if (runs(&world.nodes[i]))
			return &world.nodes[i];
	return NULL;
}

void ask(enum migrated_ask what, const char *node, uint64_t ckpt)
{
	struct migrated_request request = {.ask = what, .id = 1, .ckpt = ckpt};

	snprintf(request.name, sizeof(request.name), "ve");
	snprintf(request.fact.node, sizeof(request.fact.node), "%s", node);
	request.fact.hung_ms = world.hung_ms;
	step(&world.nodes[world.coordinator],
	    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &request});
	settle();
}

void run_on_n1_with_probes(uint64_t hung_ms)
{
	world_init(1);
	world.hung_ms = hung_ms;
	settle();
	ask(MIGRATED_ASK_RUN, "n1", 0);
	check_int(world.last_status, RPC_OK);
	check_int(running(), 1);
	check_str(runner()->name, "n1");
}

void run_on_n1(void)
{
	run_on_n1_with_probes(0);
}
