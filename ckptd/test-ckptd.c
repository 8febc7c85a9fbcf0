#include "ckptd/ckptd.h"
#include "common/test.h"

#include <assert.h>
#include <errno.h>

enum { N1 = 1, N2 = 2 };

static const struct ckptd_config config = {
    .self = N1,
    .rounds_max = 2,
    .round_members_max = 4,
    .seats_max = 2,
    .resend_ms = 200,
    .vote_ms = 1000,
    .dump_ms = 30000,
    .hold_ms = 1500,
    .outcome_ms = 5000,
    .patience = 3,
};

static const struct ckptd_place places[] = {
    {.ve = "a", .ve_epoch = 7, .node = N1, .copies = 1},
    {.ve = "b", .ve_epoch = 9, .node = N2, .copies = 1},
};

static struct ckptd *ckptd;
static struct ckptd_actions actions;
static int64_t now_ms;

static void step(struct ckptd_event event)
{
	event.now = mono_ms(now_ms);
	actions.n = 0;
	ckptd_step(ckptd, &event, &actions);
	ckptd_check(ckptd);
}

static void fresh(const struct ckptd_record *journal, size_t n)
{
	ckptd = ckptd_free(ckptd);
	check_int(ckptd_new(&ckptd, &config), 0);
	now_ms = 0;
	step((struct ckptd_event){.kind = CKPTD_EV_START, .journal = journal, .n_journal = n});
}

/* The action number `skip` of a kind, NULL when there is none. */
static const struct ckptd_action *nth(enum ckptd_action_kind kind, unsigned skip)
{
	for (size_t i = 0; i < actions.n; i++) {
		if (actions.list[i].kind == kind && !skip--)
			return &actions.list[i];
	}
	return NULL;
}

static const struct ckptd_action *first(enum ckptd_action_kind kind)
{
	return nth(kind, 0);
}

/* The first action of a kind, which must be there. */
static const struct ckptd_action *the(enum ckptd_action_kind kind)
{
	const struct ckptd_action *action = first(kind);

	if (!action) {
		printf("Bail out! no action of kind %d\n", kind);
		exit(1);
	}
	return action;
}

static bool before(enum ckptd_action_kind a, enum ckptd_action_kind b)
{
	return first(a) && first(b) && first(a) < first(b);
}

static unsigned sent(enum ckptd_message_kind kind)
{
	unsigned n = 0;

	for (size_t i = 0; i < actions.n; i++)
		n += actions.list[i].kind == CKPTD_AC_SEND && actions.list[i].message.kind == kind;
	return n;
}

static void message(enum ckptd_message_kind kind, uint64_t from, uint64_t id, const char *ve)
{
	struct ckptd_message m = {.kind = kind, .id = id, .ve_epoch = 7, .copies = 1};

	snprintf(m.ve, sizeof(m.ve), "%s", ve);
	if (kind == CKPTD_DUMPED)
		snprintf(m.image.oid, sizeof(m.image.oid), "image-%s", ve);
	if (kind == CKPTD_VOTE_ABORT)
		m.reason = CKPTD_REASON_FREEZE;
	step((struct ckptd_event){.kind = CKPTD_EV_MESSAGE, .node = from, .message = &m});
}

static void cell(uint64_t id, const char *ve, enum ckptd_cell_op op, enum ckptd_decision decision)
{
	step((struct ckptd_event){
	    .kind = CKPTD_EV_CELL, .id = id, .ve = ve, .op = op, .decision = decision});
}

static void answer(enum ckptd_event_kind kind, uint64_t id, const char *ve, int result)
{
	struct ckptd_event event = {.kind = kind, .id = id, .ve = ve, .result = result};

	if (kind == CKPTD_EV_STORED)
		snprintf(event.image.oid, sizeof(event.image.oid), "image-%s", ve);
	step(event);
}

static void timer(void)
{
	now_ms = mono_to_ms(ckptd_deadline(ckptd));
	step((struct ckptd_event){.kind = CKPTD_EV_TIMEOUT});
}

static uint64_t begin(void)
{
	step((struct ckptd_event){.kind = CKPTD_EV_COORD, .mine = true, .epoch = 3});
	step((struct ckptd_event){.kind = CKPTD_EV_BEGIN, .places = places, .n_places = 2});
	check(first(CKPTD_AC_BEGUN));
	return the(CKPTD_AC_BEGUN)->id;
}

static uint64_t begin_voting(void)
{
	uint64_t id = begin();

	cell(id, "", CKPTD_CELL_CREATE, CKPTD_UNDECIDED);
	return id;
}

static uint64_t begin_dumping(void)
{
	uint64_t id = begin_voting();

	message(CKPTD_VOTE_COMMIT, N1, id, "a");
	message(CKPTD_VOTE_COMMIT, N2, id, "b");
	return id;
}

static uint64_t begin_committing(void)
{
	uint64_t id = begin_dumping();

	message(CKPTD_DUMPED, N1, id, "a");
	message(CKPTD_DUMPED, N2, id, "b");
	return id;
}

/* ---- coordinator */

static void a_round_asks_nobody_before_its_cell_exists(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin();
	check(id >> 32 == 3);
	check(before(CKPTD_AC_JOURNAL_ID, CKPTD_AC_CELL));
	check_int(sent(CKPTD_VOTE_REQUEST), 0);
	cell(id, "", CKPTD_CELL_CREATE, CKPTD_UNDECIDED);
	check_int(sent(CKPTD_VOTE_REQUEST), 2);
}

static void nobody_dumps_before_everybody_is_frozen(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_voting();
	message(CKPTD_VOTE_COMMIT, N1, id, "a");
	check_int(sent(CKPTD_DUMP), 0);
	message(CKPTD_VOTE_COMMIT, N1, id, "b"); /* b sits on N2: not its vote */
	check_int(sent(CKPTD_DUMP), 0);
	message(CKPTD_VOTE_COMMIT, N2, id, "b");
	check_int(sent(CKPTD_DUMP), 2);
}

static void the_cell_is_swapped_only_when_every_image_is_durable(void)
{
	struct ckptd_member_view view;
	uint64_t id;

	fresh(NULL, 0);
	id = begin_dumping();
	message(CKPTD_DUMPED, N1, id, "a");
	check(!first(CKPTD_AC_CELL));
	message(CKPTD_DUMPED, N2, id, "b");
	check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_COMMIT);
	check(ckptd_round_member(ckptd, id, 1, &view));
	check_str(view.image->oid, "image-b");
	check_int(sent(CKPTD_GLOBAL_COMMIT), 0);
	cell(id, "", CKPTD_CELL_COMMIT, CKPTD_COMMIT);
	check_int(sent(CKPTD_GLOBAL_COMMIT), 2);
	check(first(CKPTD_AC_COMMITTED) && !ckptd_round_open(ckptd, id));
}

static void one_refusal_aborts_and_everybody_hears_it_at_once(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_voting();
	message(CKPTD_VOTE_COMMIT, N1, id, "a");
	message(CKPTD_VOTE_ABORT, N2, id, "b");
	check_int(sent(CKPTD_GLOBAL_ABORT), 2);
	check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_ABORT);
	cell(id, "", CKPTD_CELL_ABORT, CKPTD_ABORT);
	check_int(the(CKPTD_AC_ABORTED)->reason, CKPTD_REASON_FREEZE);
	check_str(the(CKPTD_AC_ABORTED)->ve, "b");
}

static void unanswered_requests_are_repeated(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_voting();
	message(CKPTD_VOTE_COMMIT, N1, id, "a");
	timer();
	check_int(now_ms, 200);
	check_int(sent(CKPTD_VOTE_REQUEST), 1);
	check_int(the(CKPTD_AC_SEND)->node, N2);
}

static void a_silent_member_aborts_the_round_and_gossipd_says_what_became_of_it(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_voting();
	message(CKPTD_VOTE_COMMIT, N1, id, "a");
	while (!first(CKPTD_AC_CELL))
		timer();
	check_int(now_ms, 1000);
	cell(id, "", CKPTD_CELL_ABORT, CKPTD_ABORT);
	check_int(the(CKPTD_AC_ABORTED)->reason, CKPTD_REASON_SILENT);
	check_int(the(CKPTD_AC_STATUS)->node, N2);
	check(!nth(CKPTD_AC_STATUS, 1));
	step((struct ckptd_event){
	    .kind = CKPTD_EV_STATUS, .id = id, .node = N2, .status = CKPTD_STATUS_DEAD});
	check_int(the(CKPTD_AC_VERDICT)->status, CKPTD_STATUS_DEAD);
	check(!ckptd_round_open(ckptd, id));
}

static void after_an_unknown_commit_only_the_cell_knows(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_committing();
	for (int i = 0; i < 2; i++) {
		cell(id, "", CKPTD_CELL_COMMIT, CKPTD_UNKNOWN);
		timer();
		check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_COMMIT);
	}
	cell(id, "", CKPTD_CELL_COMMIT, CKPTD_UNKNOWN);
	timer();
	check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_ABORT);
	check_int(sent(CKPTD_GLOBAL_ABORT), 0);
	cell(id, "", CKPTD_CELL_ABORT, CKPTD_COMMIT);
	check_int(sent(CKPTD_GLOBAL_COMMIT), 2);
	check(first(CKPTD_AC_COMMITTED) && !first(CKPTD_AC_BUG));
}

static void changed_facts_abort_the_round(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_committing();
	cell(id, "", CKPTD_CELL_COMMIT, CKPTD_UNDECIDED);
	check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_ABORT);
	check_int(sent(CKPTD_GLOBAL_ABORT), 0);
	cell(id, "", CKPTD_CELL_ABORT, CKPTD_ABORT);
	check_int(sent(CKPTD_GLOBAL_ABORT), 2);
	check_int(the(CKPTD_AC_ABORTED)->reason, CKPTD_REASON_FACTS);
}

static void a_deposed_coordinator_aborts_what_it_runs(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_voting();
	step((struct ckptd_event){.kind = CKPTD_EV_COORD, .mine = false, .epoch = 4});
	timer();
	check_int(sent(CKPTD_GLOBAL_ABORT), 2);
	cell(id, "", CKPTD_CELL_ABORT, CKPTD_ABORT);
	check_int(the(CKPTD_AC_ABORTED)->reason, CKPTD_REASON_DEPOSED);
	step((struct ckptd_event){.kind = CKPTD_EV_BEGIN, .places = places, .n_places = 2});
	check_int(the(CKPTD_AC_ABORTED)->id, 0);
}

static void one_ve_is_in_one_round_at_a_time(void)
{
	fresh(NULL, 0);
	begin_voting();
	step((struct ckptd_event){.kind = CKPTD_EV_BEGIN, .places = places, .n_places = 1});
	check_int(the(CKPTD_AC_ABORTED)->reason, CKPTD_REASON_BUSY);
}

static void cells_left_behind_are_aborted_unless_the_round_is_ours(void)
{
	uint64_t id;

	fresh(NULL, 0);
	id = begin_voting();
	step((struct ckptd_event){.kind = CKPTD_EV_ORPHAN, .id = id});
	check(!first(CKPTD_AC_CELL));
	step((struct ckptd_event){.kind = CKPTD_EV_ORPHAN, .id = 17});
	check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_ABORT);
}

static void ids_rise_above_what_a_member_has_seen(void)
{
	struct ckptd_message m = {.kind = CKPTD_VOTE_ABORT,
	    .ve = "b",
	    .reason = CKPTD_REASON_STALE,
	    .last_id = (uint64_t)3 << 32 | 40};
	uint64_t id;

	fresh(NULL, 0);
	m.id = id = begin_voting();
	step((struct ckptd_event){.kind = CKPTD_EV_MESSAGE, .node = N2, .message = &m});
	cell(id, "", CKPTD_CELL_ABORT, CKPTD_ABORT);
	check_int(begin(), (int64_t)3 << 32 | 41);
}

/* ---- member */

static void freeze_seat(uint64_t id)
{
	fresh(NULL, 0);
	message(CKPTD_VOTE_REQUEST, N2, id, "a");
	answer(CKPTD_EV_FROZEN, id, "a", 0);
}

static void a_member_journals_before_it_freezes_and_votes_when_frozen(void)
{
	fresh(NULL, 0);
	message(CKPTD_VOTE_REQUEST, N2, 5, "a");
	check(before(CKPTD_AC_JOURNAL, CKPTD_AC_FREEZE));
	check_int(the(CKPTD_AC_FREEZE)->ve_epoch, 7);
	check_int(sent(CKPTD_VOTE_COMMIT), 0);
	answer(CKPTD_EV_FROZEN, 5, "a", 0);
	check_int(sent(CKPTD_VOTE_COMMIT), 1);
}

static void a_member_thaws_as_soon_as_its_own_dump_is_complete(void)
{
	freeze_seat(5);
	message(CKPTD_DUMP, N2, 5, "a");
	check(first(CKPTD_AC_DUMP) && !first(CKPTD_AC_THAW));
	answer(CKPTD_EV_CAPTURED, 5, "a", 0);
	check(before(CKPTD_AC_THAW, CKPTD_AC_JOURNAL));
	check(before(CKPTD_AC_JOURNAL, CKPTD_AC_STORE));
	check_int(sent(CKPTD_DUMPED), 0);
	answer(CKPTD_EV_STORED, 5, "a", 0);
	check(before(CKPTD_AC_JOURNAL, CKPTD_AC_SEND));
	check_int(sent(CKPTD_DUMPED), 1);
}

static void a_frozen_member_that_hears_nothing_refuses_and_thaws(void)
{
	freeze_seat(5);
	timer();
	check_int(now_ms, 1500);
	check(before(CKPTD_AC_JOURNAL, CKPTD_AC_THAW));
	check_int(sent(CKPTD_VOTE_ABORT), 1);
	message(CKPTD_DUMP, N2, 5, "a");
	check(!first(CKPTD_AC_DUMP));
	check_int(sent(CKPTD_VOTE_ABORT), 1);
}

static void a_dump_that_fails_refuses_and_thaws(void)
{
	freeze_seat(5);
	message(CKPTD_DUMP, N2, 5, "a");
	answer(CKPTD_EV_CAPTURED, 5, "a", -EIO);
	check(first(CKPTD_AC_THAW) && sent(CKPTD_VOTE_ABORT) == 1);
	check_int(ckptd_seat(ckptd, "a"), CKPTD_SEAT_REFUSED);
}

static void a_service_that_is_unwell_is_not_captured_and_that_is_said(void)
{
	fresh(NULL, 0);
	message(CKPTD_VOTE_REQUEST, N2, 5, "a");
	answer(CKPTD_EV_FROZEN, 5, "a", -EAGAIN);
	check_int(sent(CKPTD_VOTE_ABORT), 1);
	check_int(the(CKPTD_AC_SEND)->message.reason, CKPTD_REASON_UNWELL);
	check_int(ckptd_seat(ckptd, "a"), CKPTD_SEAT_REFUSED);
}

static void a_freeze_that_comes_too_late_is_undone(void)
{
	fresh(NULL, 0);
	message(CKPTD_VOTE_REQUEST, N2, 5, "a");
	timer();
	check_int(ckptd_seat(ckptd, "a"), CKPTD_SEAT_REFUSED);
	answer(CKPTD_EV_FROZEN, 5, "a", 0);
	check_int(the(CKPTD_AC_THAW)->id, 5);
}

static void global_abort_thaws_a_frozen_member(void)
{
	freeze_seat(5);
	message(CKPTD_GLOBAL_ABORT, N1, 5, "a"); /* not its coordinator */
	check(!first(CKPTD_AC_THAW));
	message(CKPTD_GLOBAL_ABORT, N2, 5, "a");
	check(first(CKPTD_AC_THAW));
	check_int(ckptd_seat(ckptd, "a"), CKPTD_SEAT_ABORTED);
}

static void an_older_round_is_refused_and_told_the_newest(void)
{
	freeze_seat(5);
	message(CKPTD_GLOBAL_ABORT, N2, 5, "a");
	message(CKPTD_VOTE_REQUEST, N2, 4, "a");
	check_int(the(CKPTD_AC_SEND)->message.reason, CKPTD_REASON_STALE);
	check_int(the(CKPTD_AC_SEND)->message.last_id, 5);
}

static void a_member_in_a_round_refuses_the_next(void)
{
	freeze_seat(5);
	message(CKPTD_VOTE_REQUEST, N2, 6, "a");
	check_int(the(CKPTD_AC_SEND)->message.reason, CKPTD_REASON_BUSY);
	check_int(ckptd_seat(ckptd, "a"), CKPTD_SEAT_VOTED);
}

static struct ckptd_record record_of(enum ckptd_seat_state state)
{
	return (struct ckptd_record){.ve = "a",
	    .id = 5,
	    .coordinator = N2,
	    .copies = 1,
	    .state = state,
	    .image = {.oid = "image-a"}};
}

static void a_restart_while_frozen_refuses_and_thaws(void)
{
	struct ckptd_record record = record_of(CKPTD_SEAT_FREEZING);

	fresh(&record, 1);
	timer();
	check(first(CKPTD_AC_THAW) && sent(CKPTD_VOTE_ABORT) == 1);
	message(CKPTD_VOTE_REQUEST, N2, 5, "a");
	check(!first(CKPTD_AC_FREEZE));
}

static void a_restart_while_storing_stores_again(void)
{
	struct ckptd_record record = record_of(CKPTD_SEAT_CAPTURED);

	fresh(&record, 1);
	timer();
	check(before(CKPTD_AC_THAW, CKPTD_AC_STORE));
}

static void silence_after_dumped_reads_the_cell(void)
{
	struct ckptd_record record = record_of(CKPTD_SEAT_STORED);

	fresh(&record, 1);
	timer();
	check_int(sent(CKPTD_DUMPED), 1);
	timer();
	check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_READ);
	cell(5, "a", CKPTD_CELL_READ, CKPTD_COMMIT);
	check(the(CKPTD_AC_CLEAN)->keep);
	check_int(ckptd_seat(ckptd, "a"), CKPTD_SEAT_COMMITTED);
}

static void a_member_of_a_dead_coordinator_swaps_abort_itself(void)
{
	struct ckptd_record record = record_of(CKPTD_SEAT_STORED);

	fresh(&record, 1);
	timer();
	timer();
	cell(5, "a", CKPTD_CELL_READ, CKPTD_UNDECIDED);
	check_int(the(CKPTD_AC_STATUS)->node, N2);
	step((struct ckptd_event){
	    .kind = CKPTD_EV_STATUS, .id = 5, .ve = "a", .node = N2, .status = CKPTD_STATUS_DEAD});
	check_int(the(CKPTD_AC_CELL)->op, CKPTD_CELL_ABORT);
	cell(5, "a", CKPTD_CELL_ABORT, CKPTD_ABORT);
	check(!the(CKPTD_AC_CLEAN)->keep);
	check_int(ckptd_seat(ckptd, "a"), CKPTD_SEAT_ABORTED);
}

static void a_new_ve_takes_the_seat_of_the_one_longest_settled(void)
{
	struct ckptd_record journal[] = {record_of(CKPTD_SEAT_COMMITTED),
	    {.ve = "z", .id = 3, .coordinator = N2, .state = CKPTD_SEAT_ABORTED}};

	fresh(journal, 2);
	timer();
	message(CKPTD_VOTE_REQUEST, N2, 9, "new");
	check_str(the(CKPTD_AC_FORGET)->ve, "z");
	check(before(CKPTD_AC_FORGET, CKPTD_AC_JOURNAL));
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_round_asks_nobody_before_its_cell_exists),
	    TEST(nobody_dumps_before_everybody_is_frozen),
	    TEST(the_cell_is_swapped_only_when_every_image_is_durable),
	    TEST(one_refusal_aborts_and_everybody_hears_it_at_once),
	    TEST(unanswered_requests_are_repeated),
	    TEST(a_silent_member_aborts_the_round_and_gossipd_says_what_became_of_it),
	    TEST(after_an_unknown_commit_only_the_cell_knows),
	    TEST(changed_facts_abort_the_round),
	    TEST(a_deposed_coordinator_aborts_what_it_runs),
	    TEST(one_ve_is_in_one_round_at_a_time),
	    TEST(cells_left_behind_are_aborted_unless_the_round_is_ours),
	    TEST(ids_rise_above_what_a_member_has_seen),
	    TEST(a_member_journals_before_it_freezes_and_votes_when_frozen),
	    TEST(a_member_thaws_as_soon_as_its_own_dump_is_complete),
	    TEST(a_frozen_member_that_hears_nothing_refuses_and_thaws),
	    TEST(a_dump_that_fails_refuses_and_thaws),
	    TEST(a_service_that_is_unwell_is_not_captured_and_that_is_said),
	    TEST(a_freeze_that_comes_too_late_is_undone),
	    TEST(global_abort_thaws_a_frozen_member),
	    TEST(an_older_round_is_refused_and_told_the_newest),
	    TEST(a_member_in_a_round_refuses_the_next),
	    TEST(a_restart_while_frozen_refuses_and_thaws),
	    TEST(a_restart_while_storing_stores_again),
	    TEST(silence_after_dumped_reads_the_cell),
	    TEST(a_member_of_a_dead_coordinator_swaps_abort_itself),
	    TEST(a_new_ve_takes_the_seat_of_the_one_longest_settled),
	    {0},
	});
}
