/* A VE that cannot be fenced (gone.c), in the world of test-world.h. */
#include "migrated/test-world.h"

static void ask_fenced(uint64_t epoch)
{
	struct migrated_request request = {
	    .ask = MIGRATED_ASK_FENCED, .id = 1, .epoch = epoch, .name = "ve"};

	step(&world.nodes[world.coordinator],
	    &(struct migrated_event){.kind = MIGRATED_ASKED, .request = &request});
	settle();
}

static void set_cut(size_t i, bool cut)
{
	world.nodes[i].cut = cut;
	for (size_t k = 0; k < NODES; k++)
		tell_nodes(&world.nodes[k]);
	settle();
}

/* n1 has no fence; n2 coordinates. */
static void run_unfenced_on_n1(void)
{
	world_init(1);
	world.nodes[0].unfenced = true;
	settle();
	ask(MIGRATED_ASK_RUN, "n1", 0);
	check_int(running(), 1);
	check(world.ve.fact.unfenced);
	add_ckpt(7, "n2");
	set_coordinator(1);
	settle();
}

static void without_a_fence_a_ve_stays_until_somebody_says_that_its_copy_is_gone(void)
{
	run_unfenced_on_n1();
	kill_node(0);
	settle();
	check_int(running(), 0);
	check_str(world.ve.fact.node, "n1");
	check(strstr(world.ve.fact.held, "no fence") &&
	      strstr(world.ve.fact.held, "depctl ve fenced"));
	ask(MIGRATED_ASK_RESTORE, "", 0);
	check_int(world.last_status, RPC_FAILED);
	check(strstr(world.last_reason, "no fence"));
	check_int(running(), 0);
	ask_fenced(world.ve.fact.epoch - 1);
	check_int(world.last_status, RPC_FAILED);
	check(strstr(world.last_reason, "nothing is confirmed"));
	check_int(running(), 0);
	ask_fenced(world.ve.fact.epoch);
	check_int(world.last_status, RPC_OK);
	check_int(running(), 1);
	check_str(runner()->name, "n2");
	check(!world.ve.fact.unfenced && !*world.ve.fact.held);
}

static void without_a_fence_a_node_that_was_cut_off_goes_on_where_it_stood(void)
{
	uint64_t epoch;

	run_unfenced_on_n1();
	epoch = world.ve.fact.epoch;
	set_cut(0, true);
	check(*world.ve.fact.held);
	set_cut(0, false);
	check(!*world.ve.fact.held);
	check_int(world.ve.fact.epoch, epoch);
	check_str(runner()->name, "n1");
	ask_fenced(epoch);
	check_int(world.last_status, RPC_FAILED);
	check(strstr(world.last_reason, "is alive"));
}

static void without_a_fence_a_node_that_comes_back_says_itself_that_the_copy_is_gone(void)
{
	run_unfenced_on_n1();
	kill_node(0);
	settle();
	check(*world.ve.fact.held);
	boot_node(0);
	settle();
	check_int(running(), 1);
	check_int(runner()->copy.ckpt, 7);
	check(!*world.ve.fact.held);
}

static void a_ve_that_shares_directories_stays_too_behind_any_fence(void)
{
	world_init(1);
	settle();
	ask(MIGRATED_ASK_RUN, "n1", 0);
	world.ve.fact.shared = true;
	set_coordinator(1);
	settle();
	kill_node(0);
	settle();
	check_str(world.ve.fact.node, "n1");
	check(strstr(world.ve.fact.held, "shared directories"));
	ask_fenced(world.ve.fact.epoch);
	check_int(running(), 1);
	check_str(runner()->name, "n2");
	/* So it is everywhere. */
	check(world.ve.fact.shared);
	boot_node(0);
	settle();
	kill_node(1);
	set_coordinator(0);
	settle();
	check(*world.ve.fact.held);
}

/* It was given no node only when the copy before was known to be gone. */
static void one_that_waits_for_its_image_needs_no_second_word(void)
{
	world_init(1);
	settle();
	ask(MIGRATED_ASK_RUN, "n1", 0);
	world.ve.fact.shared = true;
	add_ckpt(7, "n1");
	set_coordinator(1);
	settle();
	kill_node(0);
	settle();
	check(*world.ve.fact.held);
	ask_fenced(world.ve.fact.epoch);
	check_str(world.ve.fact.node, "");
	check(!*world.ve.fact.held);
	boot_node(0);
	settle();
	check_int(running(), 1);
	check_int(runner()->copy.ckpt, 7);
}

/* n1 is cut off, the VE names a command, and n2 coordinates. */
static void lose_n1(bool works)
{
	run_unfenced_on_n1();
	snprintf(world.ve.fact.fence, sizeof(world.ve.fact.fence), "off");
	settle();
	world.fence_works = works;
	set_cut(0, true);
}

static void a_fence_command_that_confirms_lets_it_go_on_elsewhere(void)
{
	lose_n1(true);
	check_int(world.fences, 1);
	check_int(running(), 1);
	check_str(runner()->name, "n2");
	check(!*world.ve.fact.held);
}

static void one_that_fails_is_tried_again_with_pauses_that_grow_and_says_why(void)
{
	unsigned first;

	lose_n1(false);
	first = world.fences;
	check(first >= 3 && first <= 8);
	check_str(world.ve.fact.node, "n1");
	check(strstr(world.ve.fact.held, "off: no route"));
	settle();
	check(world.fences - first >= 3 &&
	      world.fences - first <= 7); /* 6 s at most, less up to a half */
	kill_node(0);
	ask_fenced(world.ve.fact.epoch);
	check_str(runner()->name, "n2");
}

static void one_that_speaks_of_an_earlier_epoch_confirms_nothing(void)
{
	run_unfenced_on_n1();
	snprintf(world.ve.fact.fence, sizeof(world.ve.fact.fence), "off");
	settle();
	world.fence_is_old = world.fence_works = true;
	kill_node(0);
	settle();
	check_int(world.fences, 1);
	check_str(world.ve.fact.node, "n1");
	check(*world.ve.fact.held);
}

static void one_that_runs_is_ended_when_the_node_is_back(void)
{
	run_unfenced_on_n1();
	snprintf(world.ve.fact.fence, sizeof(world.ve.fact.fence), "off");
	settle();
	world.fence_hangs = true;
	set_cut(0, true);
	check_int(world.fences, 1);
	check_int(world.spared, 0);
	set_cut(0, false);
	check_int(world.spared, 1);
	check_str(runner()->name, "n1");
	check(!*world.ve.fact.held);
}

/* Its node is lost before it hears of it. */
static void without_a_fence_a_copy_that_was_to_be_restarted_may_still_run(void)
{
	uint64_t epoch;

	run_unfenced_on_n1();
	epoch = world.ve.fact.epoch;
	world.nodes[0].cut = true; /* nobody knows */
	ask(MIGRATED_ASK_RESTORE, "", 0);
	check_int(world.ve.fact.epoch, epoch + 1);
	check_str(world.ve.fact.node, "n1");
	check_int(world.nodes[0].copy.epoch, epoch);
	set_cut(0, true);
	check_str(world.ve.fact.node, "n1");
	check(*world.ve.fact.held);
}

/* Its node was switched off, and is back before anybody knows: it may begin nothing that the word is not about. */
static void while_it_is_held_its_node_gets_no_lease_for_it(void)
{
	struct migrated_lease lease = {.name = "ve", .unfenced = true};
	struct migrated_event renewal = {
	    .kind = MIGRATED_RENEWAL, .name = "n1", .leases = &lease, .count = 1};

	run_unfenced_on_n1();
	ask_fenced(world.ve.fact.epoch);
	check_int(world.last_status, RPC_FAILED);
	kill_node(0);
	settle();
	check(*world.ve.fact.held);
	lease.epoch = world.ve.fact.epoch;
	renewal.length = config.lease.lease;
	step(&world.nodes[1], &renewal);
	check(world.nodes[0].granted);
	check_int(world.nodes[0].n_grants, 0);
	ask_fenced(lease.epoch);
	check_str(runner()->name, "n2");
}

/* Its node is alive, and not fit for it any more. */
static void without_a_fence_a_stopped_ve_starts_elsewhere_once_its_node_says_that_it_is_gone(void)
{
	run_unfenced_on_n1();
	ask(MIGRATED_ASK_STOP, "", 0);
	check_int(running(), 0);
	check_int(world.ve.fact.fenced, world.ve.fact.epoch);
	world.ve.fact.memory = 1 << 30;
	step(&world.nodes[1], &(struct migrated_event){.kind = MIGRATED_TOLD, .name = "n1"});
	ask(MIGRATED_ASK_RESTORE, "", 0);
	check_int(world.last_status, RPC_OK);
	check_int(running(), 1);
	check_str(runner()->name, "n2");
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(without_a_fence_a_ve_stays_until_somebody_says_that_its_copy_is_gone),
	    TEST(without_a_fence_a_node_that_was_cut_off_goes_on_where_it_stood),
	    TEST(without_a_fence_a_node_that_comes_back_says_itself_that_the_copy_is_gone),
	    TEST(a_ve_that_shares_directories_stays_too_behind_any_fence),
	    TEST(one_that_waits_for_its_image_needs_no_second_word),
	    TEST(a_fence_command_that_confirms_lets_it_go_on_elsewhere),
	    TEST(one_that_fails_is_tried_again_with_pauses_that_grow_and_says_why),
	    TEST(one_that_speaks_of_an_earlier_epoch_confirms_nothing),
	    TEST(one_that_runs_is_ended_when_the_node_is_back),
	    TEST(without_a_fence_a_copy_that_was_to_be_restarted_may_still_run),
	    TEST(without_a_fence_a_stopped_ve_starts_elsewhere_once_its_node_says_that_it_is_gone),
	    TEST(while_it_is_held_its_node_gets_no_lease_for_it), {0}});
}
