/* Choosing a node: each reason by itself, on clusters that are written down. */
#include "common/test.h"
#include "migrated/core.h"
#include "migrated/cpu.h"

#define GIB (UINT64_C(1) << 30)

static struct migrated *core;

static void told(const char *node, uint64_t memory, uint64_t cpu)
{
	choose_told(core, &(struct migrated_event){.name = node, .memory = memory, .cpu = cpu});
}

/* Nodes n1 to n4, and no VE. */
static void cluster(void)
{
	static const struct migrated_config config = {.self = "n1"};

	migrated_free(core);
	check_int(migrated_new(&core, &config), 0);
	core->now = mono_ms(1000);
	for (core->n_nodes = 0; core->n_nodes < 4; core->n_nodes++) {
		struct migrated_node *node = &core->nodes[core->n_nodes];

		snprintf(node->name, sizeof(node->name), "n%zu", core->n_nodes + 1);
		node->alive = true;
	}
}

static struct migrated_ve *runs(const char *name, const char *node, const char *group)
{
	struct migrated_ve *ve = &core->ves[core->n_ves++];

	ve->fact.want = MSG_MIGRATED_WANT_RUN;
	copy_text(ve->fact.name, sizeof(ve->fact.name), name);
	copy_text(ve->fact.node, sizeof(ve->fact.node), node);
	copy_text(ve->fact.group, sizeof(ve->fact.group), group);
	return ve;
}

static struct msg_migrated_ve_fact wanted(const char *group, bool apart)
{
	struct msg_migrated_ve_fact fact = {.name = "new", .apart = apart};

	copy_text(fact.group, sizeof(fact.group), group);
	return fact;
}

static const char *chosen(const struct msg_migrated_ve_fact *fact)
{
	return choose_node(core, fact, NULL, "");
}

static void the_node_with_the_fewest_ves_is_chosen(void)
{
	const struct msg_migrated_ve_fact fact = wanted("", false);

	cluster();
	check_str(chosen(&fact), "n1");
	runs("a", "n1", "");
	runs("b", "n2", "");
	check_str(chosen(&fact), "n3");
	core->nodes[2].alive = false;
	check_str(chosen(&fact), "n4");
}

static void one_that_has_the_image_goes_before_an_idle_one(void)
{
	const struct msg_migrated_ve_fact fact = wanted("", false);
	const struct migrated_ckpt ckpt = {.n_replicas = 1, .replicas = {"n2"}};

	cluster();
	runs("a", "n2", "");
	runs("b", "n2", "");
	check_str(choose_node(core, &fact, &ckpt, ""), "n2");
	check_str(choose_node(core, &fact, &ckpt, "n2"), "n1");
}

static void replicas_of_a_group_go_to_different_nodes_also_where_the_image_is_not(void)
{
	const struct msg_migrated_ve_fact fact = wanted("db", false);
	const struct migrated_ckpt ckpt = {.n_replicas = 1, .replicas = {"n1"}};

	cluster();
	runs("db-1", "n1", "db");
	runs("other", "n2", "shop");
	check_str(choose_node(core, &fact, &ckpt, ""), "n3");
}

static void when_there_is_no_other_way_a_soft_group_shares_a_node_and_a_hard_one_waits(void)
{
	const struct msg_migrated_ve_fact soft = wanted("db", false), hard = wanted("db", true);
	char why[256];

	cluster();
	runs("db-1", "n1", "db");
	runs("db-2", "n2", "db");
	core->nodes[2].alive = core->nodes[3].alive = false;
	check_str(chosen(&soft), "n1");
	check_str(chosen(&hard), "");
	choose_explain(core, &hard, NULL, why, sizeof(why));
	check_str(why,
	    "no node can run it; n1: db-1 of group db is there; n2: db-2 of group db is there; "
	    "n3: is not alive; n4: is not alive");
}

/* Two replicas of one dead node are placed at the same moment, from the same snapshot. */
static void what_is_being_written_counts_as_if_it_was_there(void)
{
	const struct msg_migrated_ve_fact fact = wanted("db", true);

	cluster();
	runs("db-1", "n4", "db");
	core->nodes[3].alive = false;
	core->places[0] = (struct place){.name = "db-1", .writing = true, .next = "n1"};
	core->n_places = 1;
	check_str(chosen(&fact), "n2");
}

static void what_is_stopped_is_in_nobody_s_way(void)
{
	const struct msg_migrated_ve_fact fact = wanted("db", true);

	cluster();
	runs("db-1", "n1", "db")->fact.want = MSG_MIGRATED_WANT_STOPPED;
	check_str(chosen(&fact), "n1");
}

static void a_node_without_the_memory_is_not_chosen_and_what_was_promised_lately_counts(void)
{
	struct msg_migrated_ve_fact fact = wanted("", false);
	char why[256];

	cluster();
	core->n_nodes = 2;
	fact.memory = 2 * GIB;
	told("n1", GIB, 0);
	check_str(chosen(&fact), "n2"); /* it has not told */
	told("n2", 3 * GIB, 0);
	check_str(chosen(&fact), "n2");
	runs("a", "n2", "")->fact.memory = 2 * GIB;
	check_str(chosen(&fact), "n2"); /* it runs: the figure shows what it takes */
	core->places[0] = (struct place){.name = "a", .settled_at = mono_ms(2000)};
	core->n_places = 1;
	check_str(chosen(&fact), "");
	choose_explain(core, &fact, NULL, why, sizeof(why));
	check_str(why,
	    "no node can run it; n1: 1024 MiB of memory are free, 0 of them promised, "
	    "2048 needed; n2: 3072 MiB of memory are free, 2048 of them promised, 2048 needed");
}

static void an_image_goes_only_where_the_cpu_has_all_that_its_node_had(void)
{
	struct msg_migrated_ve_fact fact = wanted("", false);
	const struct migrated_ckpt ckpt = {.n_replicas = 1, .replicas = {"n1"}};
	char why[256];

	cluster();
	fact.cpu = cpu_features("flags : fpu pni avx avx2 avx512f\n");
	told("n1", 0, cpu_features("pni avx"));
	told("n2", 0, cpu_features("pni avx avx2 avx512f rdpid"));
	check_str(choose_node(core, &fact, &ckpt, ""), "n2");
	check_str(chosen(&fact), "n1"); /* cold: it chooses its code anew */
	check(!choose_allows(core, &fact, &ckpt, "n1", why, sizeof(why)));
	check_str(why, "its CPU lacks avx2 avx512f");
}

static void the_node_that_just_failed_is_the_last_resort(void)
{
	const struct msg_migrated_ve_fact fact = wanted("", false);

	cluster();
	check_str(choose_node(core, &fact, NULL, "n1"), "n2");
	core->n_nodes = 1;
	check_str(choose_node(core, &fact, NULL, "n1"), "n1");
}

static void tell_mounts(const char *node, const char *mounts)
{
	choose_told(core, &(struct migrated_event){.name = node, .memory = GIB, .mounts = mounts});
}

static void a_ve_with_directories_of_the_host_goes_only_where_all_of_them_are_listed(void)
{
	struct msg_migrated_ve_fact fact = wanted("", false);
	const struct migrated_ckpt ckpt = {.n_replicas = 1, .replicas = {"n1"}};
	char why[256];

	cluster();
	copy_text(fact.mounts, sizeof(fact.mounts), "/srv/data /srv/more");
	tell_mounts("n1", "/srv/data");
	tell_mounts("n2", "");
	tell_mounts("n3", " /srv/more\t/srv/data/below  /srv/dat");
	check_str(choose_node(core, &fact, &ckpt, ""), "");
	choose_explain(core, &fact, &ckpt, why, sizeof(why));
	check_str(why,
	    "no node can run it; n1: does not mount /srv/more; n2: does not mount /srv/data; "
	    "n3: does not mount /srv/data; n4: has not told yet what it mounts");
	check(choose_may_learn(core, &fact, "") && choose_may_learn(core, &fact, "n4"));
	check(!choose_may_learn(core, &fact, "n3"));
	tell_mounts("n4", "/x /srv/more /srv/data");
	check_str(choose_node(core, &fact, &ckpt, ""), "n4");
	check(!choose_may_learn(core, &fact, ""));
	check(!choose_allows(core, &fact, &ckpt, "n1", why, sizeof(why)));
	tell_mounts("n1", "/srv/data /srv/more");
	check_str(choose_node(core, &fact, &ckpt, ""), "n1");
	check_str(choose_node(core, &fact, &ckpt, "n4"), "n1");
	tell_mounts("n1", "/srv/data");
	check_str(choose_node(core, &fact, &ckpt, "n4"), "n4"); /* the last resort */
}

static void directories_are_in_the_way_of_no_other_ve_nor_of_a_node_that_does_not_tell(void)
{
	struct msg_migrated_ve_fact fact = wanted("", false);

	cluster();
	tell_mounts("n1", "");
	check_str(chosen(&fact), "n1");
	copy_text(fact.mounts, sizeof(fact.mounts), "/srv/data");
	told("n3", GIB, 0); /* of an earlier version */
	check_str(chosen(&fact), "n3");
}

int main(void)
{
	int r = test_main((struct test[]){
	    TEST(the_node_with_the_fewest_ves_is_chosen),
	    TEST(one_that_has_the_image_goes_before_an_idle_one),
	    TEST(replicas_of_a_group_go_to_different_nodes_also_where_the_image_is_not),
	    TEST(when_there_is_no_other_way_a_soft_group_shares_a_node_and_a_hard_one_waits),
	    TEST(what_is_being_written_counts_as_if_it_was_there),
	    TEST(what_is_stopped_is_in_nobody_s_way),
	    TEST(a_node_without_the_memory_is_not_chosen_and_what_was_promised_lately_counts),
	    TEST(an_image_goes_only_where_the_cpu_has_all_that_its_node_had),
	    TEST(the_node_that_just_failed_is_the_last_resort),
	    TEST(a_ve_with_directories_of_the_host_goes_only_where_all_of_them_are_listed),
	    TEST(directories_are_in_the_way_of_no_other_ve_nor_of_a_node_that_does_not_tell),
	    {0},
	});

	migrated_free(core);
	return r;
}
