/* The core in the world of test-world.h. */
#include "migrated/test-world.h"

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
