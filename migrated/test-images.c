/* Which checkpoint a VE starts from when images are out of reach (images.c), in the world of test-world.h. */
#include "migrated/test-world.h"

/* Of a VE of n1, whose newest image is on n3. */
static void n1_and_n3_die(int halves)
{
	set_coordinator(1);
	kill_node(0);
	kill_node(2);
	settle_for(halves);
	check_int(running(), 0);
}

static void an_older_checkpoint_is_taken_when_nobody_has_had_the_newest_one_for_long(void)
{
	run_on_n1();
	add_ckpt(6, "n2");
	add_ckpt(7, "n3");
	n1_and_n3_die(14);
	check_str(world.ve.fact.node, "");
	check_str(
	    world.ve.fact.reason, "node n1 is dead: checkpoint 0.7 is on n3, which is not alive");
	settle();
	check_int(running(), 1);
	check_int(runner()->copy.ckpt, 6);
}

static void a_ve_waits_for_the_only_node_that_has_its_image(void)
{
	run_on_n1();
	add_ckpt(7, "n3");
	n1_and_n3_die(100);
	check_int(world.ve.fact.want, MSG_MIGRATED_WANT_RUN);
	boot_node(2);
	settle();
	check_int(running(), 1);
	check_int(runner()->copy.ckpt, 7);
}

/* It hangs on n1, n2 alone has its image, and does not give it. */
static void what_cannot_be_begun_is_tried_elsewhere_when_the_old_copy_is_silent(void)
{
	run_on_n1_with_probes(2000);
	add_ckpt(7, "n2");
	world.nodes[1].silent = world.nodes[0].copy.hangs = true;
	settle();
	check(strstr(world.ve.fact.reason, "could not be begun on n"));
	check_int(world.ve.fact.set_aside.count, 0);
	check_range(world.waits, 1, 100);
	world.nodes[1].silent = false;
	settle();
	check_int(running(), 1);
	check_int(runner()->copy.ckpt, 7);
}

/* As the one before, but that ved is about to end the copy on n1, which takes its time. */
static void a_copy_that_is_being_ended_may_be_heard_still(void)
{
	run_on_n1();
	add_ckpt(7, "n2");
	world.nodes[1].silent = world.nodes[0].copy.stopping = true;
	settle();
	check(strstr(world.ve.fact.reason, "could not be begun on n"));
	check_range(world.waits, 1, 100);
	world.nodes[1].silent = false;
	settle();
	check_int(running(), 1);
}

/* Where it runs its image is, too, though the catalogue does not know. */
static void what_was_restored_once_is_restored_again_without_those_that_had_it(void)
{
	run_on_n1();
	add_ckpt(7, "n2");
	set_coordinator(1);
	kill_node(0);
	settle();
	check_str(runner()->name, "n2");
	world.ve.ckpts[0].replicas[0][1] = '1';
	runner()->copy.running = false;
	settle();
	check_str(runner()->name, "n2");
	check_int(runner()->copy.ckpt, 7);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(an_older_checkpoint_is_taken_when_nobody_has_had_the_newest_one_for_long),
	    TEST(a_ve_waits_for_the_only_node_that_has_its_image),
	    TEST(what_cannot_be_begun_is_tried_elsewhere_when_the_old_copy_is_silent),
	    TEST(a_copy_that_is_being_ended_may_be_heard_still),
	    TEST(what_was_restored_once_is_restored_again_without_those_that_had_it),
	    {0},
	});
}
