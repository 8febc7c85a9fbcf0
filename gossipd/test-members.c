/* Members that come and go while the core runs, by the thousand; single ones are in test-gossipd.c. */
#include "gossipd/gossipd.h"

#include "common/rng.h"
#include "common/test.h"

static struct gossipd_actions actions;

/* Indices move; what is told of whom must not. */
static void roles_after_any_changes_are_those_of_a_new_core_with_the_same_members(void)
{
	uint64_t ids[GOSSIPD_MEMBERS_MAX] = {1};
	struct gossipd_event start = {.type = GOSSIPD_START, .now = mono_ms(1)};
	struct gossipd_event event = {.now = mono_ms(1)};
	struct gossipd_config config;
	struct gossipd *changed, *made;
	bool in[100] = {[1] = true}, watch[100] = {false};
	struct rng rng;

	gossipd_config_profile(&config, GOSSIPD_BALANCED);
	config.observers = 3;
	config.self = 1;
	config.members = ids;
	config.member_count = 1;
	check_int(gossipd_new(&changed, &config, 1), 0);
	gossipd_step(changed, &start, &actions);
	rng_init(&rng, 7);
	for (int i = 0; i < 2000; i++) {
		uint64_t id = 2 + rng_below(&rng, 98);

		event.type = in[id] ? GOSSIPD_REMOVE_MEMBER : GOSSIPD_ADD_MEMBER;
		event.member.id = id;
		if (gossipd_step(changed, &event, &actions) == GOSSIPD_OK)
			in[id] = !in[id];
		check(!gossipd_invariant(changed));
		if (i % 10 != 0)
			continue;
		config.member_count = 0;
		for (unsigned n = 1; n < 100; n++) {
			if (in[n])
				ids[config.member_count++] = n;
		}
		for (size_t r = 0; r < actions.role_count; r++)
			watch[actions.roles[r].id] = actions.roles[r].watch;
		check_int(gossipd_new(&made, &config, 1), 0);
		gossipd_step(made, &start, &actions);
		check_int(actions.role_count + 1, config.member_count);
		for (size_t r = 0; r < actions.role_count; r++)
			check_int(watch[actions.roles[r].id], actions.roles[r].watch);
		gossipd_free(made);
	}
	gossipd_free(changed);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(roles_after_any_changes_are_those_of_a_new_core_with_the_same_members),
	    {0},
	});
}
