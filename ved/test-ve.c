/* The core: what becomes of a VE. Each step is followed by the check of the invariants. */
#include <stdio.h>

#include "common/rng.h"
#include "common/test.h"
#include "ved/ve.h"

static struct ve_table *table;
static struct ve_actions actions;
static struct mono now, lease; /* as the kernel has it */
static char trace[4096];

/* Actions as words: "run stop", "reply start running", "refuse 1: text", "tell 2/0". */
static void note_actions(void)
{
	static const char *const ops[] = {
	    "start", "restore", "stop", "freeze", "thaw", "dump", "recover"};
	static const char *const told[] = {"started", "restored", "stopped", "died", "frozen",
	    "thawed", "dumped", "lapsed", "resumed"};
	size_t used = 0;

	trace[0] = 0;
	for (unsigned i = 0; i < actions.count; i++) {
		const struct ve_action *a = &actions.item[i];
		char *out = trace + used;
		size_t room = sizeof(trace) - used;

		if (used)
			used += (size_t)snprintf(out, room, "; "), out = trace + used,
								   room = sizeof(trace) - used;
		if (a->type == VE_ACTION_RUN)
			used += (size_t)snprintf(out, room, "run %s%s", ops[a->job->op],
			    a->job->op == VE_STOP && a->job->limit_ms < 0 ? " silently" : "");
		else if (a->type == VE_ACTION_KILL_JOB)
			used += (size_t)snprintf(out, room, "kill job");
		else if (a->type == VE_ACTION_REPLY)
			used += (size_t)snprintf(
			    out, room, "reply %s %s", ops[a->op], ve_state_name(a->state));
		else if (a->type == VE_ACTION_REFUSE)
			used += (size_t)snprintf(out, room, "refuse: %s", a->text);
		else
			used += (size_t)snprintf(out, room, "tell %s %d", told[a->told], a->reason);
	}
}

static void step(const struct ve_event *event)
{
	struct ve_event timed = *event;

	timed.now = now;
	ve_table_step(table, &timed, &actions);
	ve_table_check(table);
	note_actions();
}

static void ask_limit(enum ve_op op, uint64_t epoch, int64_t limit_ms)
{
	struct ve_request request = {
	    .op = op, .name = "a", .epoch = epoch, .token = 1, .limit_ms = limit_ms};

	step(&(struct ve_event){.type = VE_EVENT_REQUEST, .request = &request});
}

static void ask(enum ve_op op, uint64_t epoch)
{
	ask_limit(op, epoch, 0);
}

static void done(int error, enum ve_found found)
{
	step(&(struct ve_event){.type = VE_EVENT_JOB_DONE,
	    .name = "a",
	    .error = error,
	    .text = error ? "no" : "",
	    .sight = {.found = found, .thaw_by = mono_add_ms(now, 1000), .lease = lease}});
}

static void find_it(enum ve_found found, bool busy)
{
	step(&(struct ve_event){.type = VE_EVENT_FOUND,
	    .name = "a",
	    .busy = busy,
	    .sight = {
		.found = found, .epoch = 5, .thaw_by = mono_add_ms(now, 1000), .lease = lease}});
}

static void timeout(void)
{
	now = ve_table_deadline(table);
	check(!mono_is_never(now));
	step(&(struct ve_event){.type = VE_EVENT_TIMEOUT});
}

static void fresh(void)
{
	struct ve_config config = {.max = 4, .max_freeze_ms = 5000};

	ve_table_free(table);
	check_int(ve_table_new(&table, &config), 0);
	now = mono_ms(1000);
	lease = MONO_NEVER;
}

static void renew(int64_t ms)
{
	lease = mono_add_ms(now, ms);
	step(&(struct ve_event){.type = VE_EVENT_LEASE, .name = "a", .sight = {.lease = lease}});
}

static void running(uint64_t epoch)
{
	fresh();
	ask(VE_START, epoch);
	done(0, FOUND_RUNNING);
}

static void a_ve_starts_and_stops(void)
{
	fresh();
	ask(VE_START, 1);
	check_str(trace, "run start");
	done(0, FOUND_RUNNING);
	check_str(trace, "tell started 0; reply start running");
	ask_limit(VE_STOP, 1, 500);
	check_str(trace, "run stop");
	done(0, FOUND_NOTHING);
	check_str(trace, "tell stopped 0; reply stop absent");
}

static void asking_again_for_what_is_there_is_done_at_once(void)
{
	running(3);
	ask(VE_START, 3);
	check_str(trace, "reply start running");
	ask(VE_RESTORE, 3);
	check_str(trace, "reply restore running");
	ask(VE_THAW, 3);
	check_str(trace, "reply thaw running");
	ask(VE_STOP, 3);
	done(0, FOUND_NOTHING);
	ask(VE_STOP, 3);
	check_str(trace, "reply stop absent");
}

static void a_lower_epoch_is_refused_even_after_the_end(void)
{
	running(5);
	for (enum ve_op op = VE_START; op <= VE_DUMP; op++) {
		ask(op, 4);
		check_str(trace, "refuse: epoch 4 is over: 5 is the present one");
	}
	ask(VE_STOP, 5);
	done(0, FOUND_NOTHING);
	ask(VE_START, 4);
	check_str(trace, "refuse: epoch 4 is over: 5 is the present one");
}

static void a_higher_epoch_ends_the_old_copy_silently_first(void)
{
	running(5);
	ask(VE_RESTORE, 6);
	check_str(trace, "run stop silently");
	done(0, FOUND_NOTHING);
	check_str(trace, "tell stopped 1; run restore");
	done(0, FOUND_RUNNING);
	check_str(trace, "tell restored 0; reply restore running");
	ask(VE_FREEZE, 7);
	check_str(trace, "run stop silently");
	done(0, FOUND_NOTHING);
	check_str(trace, "tell stopped 1; refuse: it is not here");
}

static void one_thing_at_a_time_but_the_end_may_queue(void)
{
	running(1);
	ask(VE_DUMP, 1);
	ask(VE_FREEZE, 1);
	check_str(trace, "refuse: busy: it is dumping; ask again");
	ask(VE_STOP, 1);
	check_str(trace, "");
	ask(VE_STOP, 1);
	check_str(trace, "refuse: busy: it is dumping; ask again");
	done(0, FOUND_RUNNING);
	check_str(trace, "tell dumped 0; reply dump running; run stop");
}

static void a_frozen_ve_is_thawed_when_its_time_is_over(void)
{
	running(1);
	ask_limit(VE_FREEZE, 1, 1000);
	check_int(actions.item[0].job->limit_ms, 1000);
	done(0, FOUND_FROZEN);
	check_str(trace, "tell frozen 0; reply freeze frozen");
	check_int(mono_to_ms(ve_table_deadline(table)), 2000);
	timeout();
	check_str(trace, "run thaw");
	done(0, FOUND_RUNNING);
	check_str(trace, "tell thawed 1");
	check_int(actions.item[0].frozen_ms, 1000);
}

static void ask_hold(enum ve_op op, uint64_t hold)
{
	struct ve_request request = {.op = op, .name = "a", .epoch = 1, .token = 1, .hold = hold};

	step(&(struct ve_event){.type = VE_EVENT_REQUEST, .request = &request});
}

static void nobody_ends_or_takes_over_a_freeze_that_stands_for_another(void)
{
	running(1);
	ask_hold(VE_FREEZE, 7);
	done(0, FOUND_FROZEN);
	ask_hold(VE_THAW, 6);
	check_str(trace, "refuse: it stands for somebody else");
	ask_hold(VE_FREEZE, 8);
	check_str(trace, "refuse: it stands for somebody else");
	ask_hold(VE_DUMP, 8);
	check_str(trace, "refuse: it stands for somebody else");
	ask_hold(VE_THAW, 7);
	check_str(trace, "run thaw");
}

static void a_dump_for_a_freeze_that_is_over_is_refused(void)
{
	running(1);
	ask_hold(VE_FREEZE, 7);
	done(0, FOUND_FROZEN);
	timeout();
	done(0, FOUND_RUNNING);
	ask_hold(VE_DUMP, 7);
	check_str(trace, "refuse: it has run on since it was frozen");
	ask_hold(VE_FREEZE, 8);
	done(0, FOUND_FROZEN);
	ask_hold(VE_DUMP, 8);
	check_str(trace, "run dump");
	done(0, FOUND_FROZEN);
	ask_hold(VE_DUMP, 8);
	check_str(trace, "run dump");
}

static void lapsed(void)
{
	running(1);
	renew(500);
	timeout();
	check_str(trace, "run freeze");
	done(0, FOUND_FROZEN);
	check_str(trace, "tell lapsed 0");
}

static void a_ve_whose_lease_runs_out_stands_still_until_it_is_renewed(void)
{
	lapsed();
	check(mono_is_never(ve_table_deadline(table)));
	now = mono_add_ms(now, 60000);
	renew(-1);
	check_str(trace, "");
	renew(500);
	check_str(trace, "run thaw");
	done(0, FOUND_RUNNING);
	check_str(trace, "tell resumed 3");
	check_int(mono_to_ms(mono_sub(ve_table_deadline(table), now)), 500);
}

static void a_lease_that_is_renewed_in_time_freezes_nothing(void)
{
	running(1);
	for (int i = 0; i < 5; i++) {
		renew(500);
		check_str(trace, "");
		now = mono_add_ms(now, 400);
		step(&(struct ve_event){.type = VE_EVENT_TIMEOUT});
		check_str(trace, "");
	}
}

static void a_lease_that_is_renewed_while_it_is_being_frozen_thaws_it_at_once(void)
{
	running(1);
	renew(500);
	timeout();
	renew(500);
	check_str(trace, "");
	done(0, FOUND_FROZEN);
	check_str(trace, "tell lapsed 0; run thaw");
}

static void nobody_thaws_freezes_or_dumps_a_ve_without_a_lease(void)
{
	lapsed();
	ask(VE_THAW, 1);
	check_str(trace, "refuse: its lease has run out");
	ask_hold(VE_FREEZE, 7);
	check_str(trace, "refuse: its lease has run out");
	ask_hold(VE_DUMP, 7);
	check_str(trace, "refuse: its lease has run out");
	ask(VE_START, 2);
	check_str(trace, "run stop silently");
}

static void a_checkpoint_keeps_its_freeze_when_the_lease_runs_out(void)
{
	running(1);
	ask_hold(VE_FREEZE, 7);
	done(0, FOUND_FROZEN);
	renew(-1);
	check_str(trace, "");
	ask_hold(VE_DUMP, 7);
	check_str(trace, "run dump");
	done(0, FOUND_FROZEN);
	ask_hold(VE_THAW, 7);
	check_str(trace, "run thaw");
	done(0, FOUND_RUNNING);
	timeout();
	check_str(trace, "run freeze");
}

static void a_freeze_whose_time_is_over_after_the_lease_becomes_one_for_the_lease(void)
{
	running(1);
	ask_hold(VE_FREEZE, 7);
	done(0, FOUND_FROZEN);
	renew(500);
	timeout();
	check_str(trace, "tell lapsed 0");
	renew(500);
	check_str(trace, "run thaw");
}

static void a_restart_knows_the_lease_from_the_kernel(void)
{
	fresh();
	lease = mono_add_ms(now, 500);
	find_it(FOUND_RUNNING, false);
	check_str(trace, "");
	timeout();
	check_str(trace, "run freeze");

	fresh();
	lease = mono_add_ms(now, -1);
	find_it(FOUND_FROZEN, false);
	timeout();
	check_str(trace, "tell lapsed 0");
	renew(500);
	check_str(trace, "run thaw");
}

static void a_ve_that_cannot_be_frozen_is_tried_again_but_not_at_once(void)
{
	running(1);
	renew(500);
	timeout();
	done(-5, FOUND_RUNNING);
	check_int(mono_to_ms(mono_sub(ve_table_deadline(table), now)), 500);
	timeout();
	check_str(trace, "run freeze");
}

static void a_freeze_is_never_longer_than_configured(void)
{
	running(1);
	ask_limit(VE_FREEZE, 1, 600000);
	check_int(actions.item[0].job->limit_ms, 5000);
	done(0, FOUND_FROZEN);
	ask_limit(VE_FREEZE, 1, 0);
	check_int(actions.item[0].job->limit_ms, 5000);
}

static void a_dump_is_not_torn_by_the_thaw_that_is_due(void)
{
	running(1);
	ask(VE_FREEZE, 1);
	done(0, FOUND_FROZEN);
	ask(VE_DUMP, 1);
	now = mono_add_ms(now, 9000);
	step(&(struct ve_event){.type = VE_EVENT_JOB_DONE,
	    .name = "a",
	    .sight = {.found = FOUND_FROZEN, .thaw_by = mono_ms(2000), .lease = lease}});
	check_str(trace, "tell dumped 0; reply dump frozen; run thaw");
}

static void a_dump_whose_worker_died_leaves_a_running_ve(void)
{
	running(1);
	ask(VE_DUMP, 1);
	done(-5, FOUND_FROZEN);
	check_str(trace, "refuse: no; run thaw");
	done(0, FOUND_RUNNING);
	check_str(trace, "tell thawed 1");
}

static void a_thaw_that_fails_is_tried_again_but_not_at_once(void)
{
	running(1);
	ask(VE_FREEZE, 1);
	done(0, FOUND_FROZEN);
	ask(VE_THAW, 1);
	done(-5, FOUND_FROZEN);
	check_str(trace, "refuse: no");
	timeout();
	check_str(trace, "run thaw");
}

static void a_failed_start_is_cleared_away_and_can_be_asked_again(void)
{
	fresh();
	ask(VE_START, 1);
	done(-5, FOUND_NOTHING);
	check_str(trace, "refuse: no");
	ask(VE_START, 1);
	done(-5, FOUND_HALF);
	check_str(trace, "refuse: no; run stop silently");
	ask(VE_START, 2);
	check_str(trace, "");
	done(0, FOUND_NOTHING);
	check_str(trace, "tell stopped 0; run start");
}

static void a_death_is_told_and_cleared_away(void)
{
	running(1);
	step(&(struct ve_event){.type = VE_EVENT_ENDED, .name = "a"});
	check_str(trace, "tell died 0; run stop silently");
	done(-16, FOUND_ENDED);
	check_str(trace, "");
	timeout();
	check_str(trace, "run stop silently");
	done(0, FOUND_NOTHING);
	ask(VE_DUMP, 1);
	check_str(trace, "refuse: it is not here");
}

static void a_death_during_a_job_is_seen_at_its_end(void)
{
	running(1);
	ask(VE_FREEZE, 1);
	step(&(struct ve_event){.type = VE_EVENT_ENDED, .name = "a"});
	check_str(trace, "");
	done(-3, FOUND_ENDED);
	check_str(trace, "refuse: no; tell died 0; run stop silently");
}

static void what_cannot_be_ended_is_told_to_who_waits_for_it(void)
{
	running(1);
	ask(VE_START, 2);
	done(-16, FOUND_RUNNING);
	check_str(trace, "refuse: no");
	ask(VE_FREEZE, 1);
	check_str(trace, "run freeze");
}

static void a_restart_finds_everything_again(void)
{
	fresh();
	find_it(FOUND_RUNNING, false);
	check_str(trace, "");
	ask(VE_START, 5);
	check_str(trace, "reply start running");
	fresh();
	find_it(FOUND_FROZEN, false);
	check_int(mono_to_ms(ve_table_deadline(table)), 2000);
	fresh();
	find_it(FOUND_ENDED, false);
	check_str(trace, "tell died 0; run stop silently");
	fresh();
	find_it(FOUND_HALF, false);
	check_str(trace, "tell died 0; run stop silently");
}

static void a_restart_waits_for_the_worker_of_the_ved_before(void)
{
	fresh();
	find_it(FOUND_HALF, true);
	check_str(trace, "run recover");
	ask(VE_FREEZE, 5);
	check_str(trace, "refuse: busy: it is recovering; ask again");
	done(0, FOUND_RUNNING);
	check_str(trace, "");
	ask(VE_FREEZE, 5);
	check_str(trace, "run freeze");
}

static void a_worker_that_hangs_is_killed_once(void)
{
	fresh();
	ask(VE_START, 1);
	timeout();
	check_str(trace, "kill job");
	check(mono_is_never(ve_table_deadline(table)));
	done(-62, FOUND_HALF);
	check_str(trace, "refuse: no; run stop silently");
}

static void a_full_node_takes_the_place_of_who_is_gone(void)
{
	struct ve_request request = {.op = VE_START, .epoch = 1, .token = 1};

	fresh();
	for (int i = 0; i < 5; i++) {
		snprintf(request.name, sizeof(request.name), "b%d", i);
		step(&(struct ve_event){.type = VE_EVENT_REQUEST, .request = &request});
		check_str(trace,
		    i < 4 ? "run start" : "refuse: this node has as many VEs as it can hold");
	}
	step(&(struct ve_event){.type = VE_EVENT_JOB_DONE, .name = "b2", .error = -5});
	step(&(struct ve_event){.type = VE_EVENT_REQUEST, .request = &request});
	check_str(trace, "run start");
}

struct tally {
	int asked, answered, jobs;
	bool ran[VE_STATES]; /* states that were seen */
};

static void count_actions(struct tally *tally)
{
	for (unsigned a = 0; a < actions.count; a++) {
		enum ve_action_type type = actions.item[a].type;

		tally->jobs += type == VE_ACTION_RUN;
		tally->answered += type == VE_ACTION_REPLY || type == VE_ACTION_REFUSE;
		tally->ran[actions.item[a].state] = true;
	}
}

static void any_event(struct rng *rng, struct tally *tally, uint64_t epoch)
{
	unsigned what = (unsigned)rng_below(rng, 9);

	now = mono_add_ms(now, (int64_t)rng_below(rng, 400));
	actions.count = 0;
	if (what < 3) {
		ask_limit((enum ve_op)rng_below(rng, 6), epoch + rng_below(rng, 2), 100);
		tally->asked++;
	} else if (what < 6 && tally->jobs > 0) {
		done(rng_chance(rng, 0.2) ? -5 : 0, (enum ve_found)rng_below(rng, FOUND_ENDED + 1));
		tally->jobs--;
	} else if (what == 8) {
		renew((int64_t)rng_below(rng, 20000) - 500);
	} else if (what == 6) {
		step(&(struct ve_event){.type = VE_EVENT_ENDED, .name = "a"});
	} else {
		step(&(struct ve_event){.type = VE_EVENT_TIMEOUT});
	}
	count_actions(tally);
	check_range(tally->jobs, 0, 1);
}

/* Whatever comes in whatever order: the invariants hold, and each request is answered exactly once. */
static void any_order_of_events_keeps_the_invariants(void)
{
	struct tally tally;
	struct rng rng;

	for (uint64_t seed = 0; seed < 200; seed++) {
		tally = (struct tally){0};
		fresh();
		rng_init(&rng, seed);
		for (uint64_t i = 0; i < 2000; i++)
			any_event(&rng, &tally, i / 300);
		for (; tally.jobs > 0; tally.jobs--) {
			done(0, FOUND_NOTHING);
			count_actions(&tally);
		}
		check_int(tally.answered, tally.asked);
		for (enum ve_state state = VE_ABSENT; state < VE_STATES; state++)
			check(tally.ran[state] || state == VE_RECOVERING);
	}
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_ve_starts_and_stops),
	    TEST(asking_again_for_what_is_there_is_done_at_once),
	    TEST(a_lower_epoch_is_refused_even_after_the_end),
	    TEST(a_higher_epoch_ends_the_old_copy_silently_first),
	    TEST(one_thing_at_a_time_but_the_end_may_queue),
	    TEST(a_frozen_ve_is_thawed_when_its_time_is_over),
	    TEST(a_freeze_is_never_longer_than_configured),
	    TEST(a_ve_whose_lease_runs_out_stands_still_until_it_is_renewed),
	    TEST(a_lease_that_is_renewed_in_time_freezes_nothing),
	    TEST(a_lease_that_is_renewed_while_it_is_being_frozen_thaws_it_at_once),
	    TEST(nobody_thaws_freezes_or_dumps_a_ve_without_a_lease),
	    TEST(a_checkpoint_keeps_its_freeze_when_the_lease_runs_out),
	    TEST(a_freeze_whose_time_is_over_after_the_lease_becomes_one_for_the_lease),
	    TEST(a_restart_knows_the_lease_from_the_kernel),
	    TEST(a_ve_that_cannot_be_frozen_is_tried_again_but_not_at_once),
	    TEST(nobody_ends_or_takes_over_a_freeze_that_stands_for_another),
	    TEST(a_dump_for_a_freeze_that_is_over_is_refused),
	    TEST(a_dump_is_not_torn_by_the_thaw_that_is_due),
	    TEST(a_dump_whose_worker_died_leaves_a_running_ve),
	    TEST(a_thaw_that_fails_is_tried_again_but_not_at_once),
	    TEST(a_failed_start_is_cleared_away_and_can_be_asked_again),
	    TEST(a_death_is_told_and_cleared_away),
	    TEST(a_death_during_a_job_is_seen_at_its_end),
	    TEST(what_cannot_be_ended_is_told_to_who_waits_for_it),
	    TEST(a_restart_finds_everything_again),
	    TEST(a_restart_waits_for_the_worker_of_the_ved_before),
	    TEST(a_worker_that_hangs_is_killed_once),
	    TEST(a_full_node_takes_the_place_of_who_is_gone),
	    TEST(any_order_of_events_keeps_the_invariants),
	    {0},
	});
}
