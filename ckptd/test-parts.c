/* The parts of ckptd's shell that need no other process: schedule, catalogue, journal. */
#include "ckptd/catalogue.h"
#include "ckptd/journal.h"
#include "ckptd/schedule.h"
#include "common/test.h"

#include <errno.h>
#include <unistd.h>

static struct schedule_ve ve(const char *name, uint64_t epoch, uint32_t interval_ms)
{
	struct schedule_ve v = {.interval_ms = interval_ms, .eligible = true};

	snprintf(v.place.ve, sizeof(v.place.ve), "%s", name);
	v.place.ve_epoch = epoch;
	return v;
}

static void the_first_checkpoint_comes_one_interval_after_the_ve_was_seen(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve a = ve("a", 1, 2000);

	schedule_update(s, &a, 1, mono_ms(100));
	check(!schedule_take(s, mono_ms(2099)));
	check_str(schedule_take(s, mono_ms(2100))->place.ve, "a");
	check_int(mono_to_ms(schedule_deadline(s)), 4100);
	free(s);
}

static void reading_the_facts_again_does_not_put_a_checkpoint_off(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve a = ve("a", 1, 2000);

	schedule_update(s, &a, 1, mono_ms(0));
	schedule_update(s, &a, 1, mono_ms(1900));
	check(schedule_take(s, mono_ms(2000)));
	a.place.ve_epoch = 2;
	schedule_update(s, &a, 1, mono_ms(3000));
	check_int(mono_to_ms(schedule_deadline(s)), 5000);
	free(s);
}

static void rounds_that_come_to_nothing_are_counted_until_one_commits(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve v[] = {ve("a", 1, 2000), ve("b", 1, 2000)};
	const struct schedule_failure silent = {.id = 7, .reason = CKPTD_REASON_SILENT};
	const struct schedule_failure unwell = {
	    .id = 8, .reason = CKPTD_REASON_UNWELL, .at = "a", .node = 5};
	const struct schedule_failure *a;

	schedule_update(s, v, 2, mono_ms(0));
	schedule_failed(s, "a", &silent, mono_ms(100));
	schedule_failed(s, "a", &unwell, mono_ms(200));
	schedule_failed(s, "no-such", &unwell, mono_ms(200));
	v[0].place.ve_epoch = 2; /* another copy, and no checkpoint all the same */
	schedule_update(s, v, 2, mono_ms(300));
	a = &schedule_find(s, "a")->failure;
	check_int(a->rounds, 2);
	check_int(mono_to_ms(a->first), 100);
	check_int(mono_to_ms(a->last), 200);
	check_int((int)a->reason, CKPTD_REASON_UNWELL);
	check_str(a->at, "a");
	check_int(schedule_find(s, "b")->failure.rounds, 0);
	schedule_committed(s, "a");
	check_int(schedule_find(s, "a")->failure.rounds, 0);
	schedule_failed(s, "a", &silent, mono_ms(500));
	check_int(mono_to_ms(schedule_find(s, "a")->failure.first), 500);
	schedule_update(s, &v[1], 1, mono_ms(600));
	schedule_update(s, v, 2, mono_ms(700));
	check_int(schedule_find(s, "a")->failure.rounds, 0); /* one that was made anew */
	free(s);
}

static void missed_checkpoints_are_not_made_up_for_in_a_burst(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve a = ve("a", 1, 1000);

	schedule_update(s, &a, 1, mono_ms(0));
	check(schedule_take(s, mono_ms(5500)));
	check(!schedule_take(s, mono_ms(5500)));
	check_int(mono_to_ms(schedule_deadline(s)), 6500);
	free(s);
}

static void stopped_and_untimed_ves_are_never_due(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve v[] = {ve("a", 1, 0), ve("b", 1, 1000), ve("c", 1, 1000)};

	v[1].eligible = false;
	schedule_update(s, v, 3, mono_ms(0));
	schedule_update(s, v, 2, mono_ms(10));
	check(mono_is_never(schedule_deadline(s)));
	check(!schedule_find(s, "c"));
	free(s);
}

static struct retention last(size_t n)
{
	return (struct retention){.last = n};
}

static void the_catalogue_keeps_the_newest_and_hands_out_the_rest(void)
{
	struct msg_ckptd_catalogue c = {0};
	struct msg_ckptd_checkpoint retired[CATALOGUE_MAX], one = {0};

	for (one.id = 1; one.id <= 3; one.id++)
		check_int(catalogue_add(&c, &one, last(3), retired), 0);
	check_int(catalogue_add(&c, &one, last(3), retired), 1);
	check_int(retired[0].id, 1);
	check_int(c.checkpoints.item[2].id, 4);
	check_int(catalogue_add(&c, &one, last(3), retired), -EALREADY);
	one.id = 5;
	check_int(catalogue_add(&c, &one, last(1), retired), 3);
	check(catalogue_has(&c, 5) && !catalogue_has(&c, 4));
	check(catalogue_remove(&c, 5, &one) && !catalogue_remove(&c, 5, &one));
	check_int(c.checkpoints.count, 0);
}

/* One each ten minutes for two days. */
static void the_newest_of_each_hour_is_kept_and_no_more(void)
{
	const struct retention retention = {.last = 3, .hourly = 24};
	struct msg_ckptd_catalogue c = {0};
	struct msg_ckptd_checkpoint retired[CATALOGUE_MAX], one = {0};
	const struct msg_ckptd_checkpoint *item = c.checkpoints.item;

	for (one.id = 1; one.id <= 288; one.id++) {
		one.wall_ms = (int64_t)one.id * 600000 - 1;
		/* one that left the last three, and one whose hour is too long ago */
		check(catalogue_add(&c, &one, retention, retired) <= 2);
	}
	/* the last one ends its hour: 24 hours, and the two before it */
	check_int(c.checkpoints.count, 26);
	check_int(item[25].id, 288);
	check_int(item[24].id, 287);
	check_int(item[23].id, 286);
	for (size_t i = 0; i < 23; i++)
		check_int(item[i].id, 150 + 6 * i);
	/* a narrower rule holds with the next one; a clock that was put back adds nothing */
	one.wall_ms = 0;
	check_int(catalogue_add(&c, &one, last(2), retired), 25);
	one.id++;
	check_int(catalogue_add(&c, &one, retention, retired), 0);
	check_int(c.checkpoints.count, 3);
}

static void an_adaptive_interval_keeps_to_the_share_until_the_loss_forbids(void)
{
	/* 100 ms in 1 %: each 10 s */
	check_int(schedule_adapt(&(struct schedule_cost){100, 500}, 10, 60000), 10000);
	check_int(schedule_adapt(&(struct schedule_cost){400, 500}, 10, 60000), 40000);
	/* on average half an interval and the time to commit are lost */
	check_int(schedule_adapt(&(struct schedule_cost){400, 1000}, 10, 6000), 10000);
	check_int(
	    schedule_adapt(&(struct schedule_cost){400, 7000}, 10, 6000), SCHEDULE_SHORTEST_MS);
	check_int(schedule_adapt(&(struct schedule_cost){1, 10}, 10, 60000), SCHEDULE_SHORTEST_MS);
}

static void what_checkpoints_cost_sets_the_interval_of_an_adaptive_ve(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve v = ve("a", 1, 5000);

	check(s);
	v.adaptive = true;
	v.share = 10;
	v.loss_ms = 60000;
	schedule_update(s, &v, 1, mono_ms(0));
	check_int(schedule_find(s, "a")->interval_ms, 5000); /* nothing is known yet */
	schedule_learn(s, "a", (struct schedule_cost){200, 1000});
	schedule_update(s, &v, 1, mono_ms(10));
	check_int(schedule_find(s, "a")->interval_ms, 20000);
	schedule_learn(s, "a", (struct schedule_cost){600, 1000}); /* a quarter of the way */
	schedule_update(s, &v, 1, mono_ms(20));
	check_int(schedule_find(s, "a")->interval_ms, 30000);
	free(s);
}

static void keys_and_names_are_read_as_they_are_written(void)
{
	char text[CATALOGUE_KEY_SIZE], name[64];
	uint64_t id = 0;

	cell_key(text, 0x300000007);
	check_str(text, "ckpt/0000000300000007");
	check(cell_parse(text, &id) && id == 0x300000007);
	check(!cell_parse("ckpt/03", &id) && !cell_parse("cat/0000000300000007", &id));
	image_name(text, "counter-1", 0xab);
	check(image_parse(text, name, &id) && id == 0xab);
	check_str(name, "counter-1");
	check(!image_parse("ckpt/x/12z", name, &id) && !image_parse("bundle", name, &id));
}

static void the_journal_holds_over_a_restart_what_was_written(void)
{
	char path[] = "/tmp/dst-ckptd-journal-XXXXXX";
	struct ckptd_record in = {.ve = "a",
	    .id = 7,
	    .ve_epoch = UINT64_MAX,
	    .coordinator = 1ULL << 63,
	    .copies = 2,
	    .state = CKPTD_SEAT_STORED,
	    .image = {.oid = "0123", .bytes = 9, .frozen_ms = 3, .n_replicas = 1, .replicas = {5}}};
	struct ckptd_record out[4];
	struct journal *journal;
	uint64_t last = 0;
	size_t n = 0;

	check(close(mkstemp(path)) == 0);
	check_int(journal_open(&journal, path), 0);
	check_int(journal_put(journal, &in), 0);
	in.state = CKPTD_SEAT_COMMITTED;
	check_int(journal_put(journal, &in), 0);
	check_int(journal_put_id(journal, 44), 0);
	journal_close(journal);
	check_int(journal_open(&journal, path), 0);
	check_int(journal_load(journal, out, 4, &n, &last), 0);
	check(n == 1 && last == 44 && !memcmp(&in, &out[0], sizeof(in)));
	check_int(journal_forget(journal, "a"), 0);
	check_int(journal_load(journal, out, 4, &n, &last), 0);
	check_int(n, 0);
	journal_close(journal);
	unlink(path);
}

static struct schedule_ve of_set(const char *name, const char *set, uint32_t interval_ms)
{
	struct schedule_ve v = ve(name, 1, interval_ms);

	ckptd_name_copy(v.set, set);
	return v;
}

static void a_set_is_due_as_one_at_its_shortest_interval(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve v[] = {of_set("a", "bank", 9000), of_set("b", "bank", 1000),
	    of_set("c", "bank", 0), of_set("d", "", 5000)};

	schedule_update(s, v, 4, mono_ms(0));
	check_str(schedule_take(s, mono_ms(1000))->place.ve, "b");
	check(!schedule_take(s, mono_ms(1000)));
	for (int i = 2; i < 5; i++) {
		check_int(mono_to_ms(schedule_deadline(s)), 1000 * i);
		check_str(schedule_take(s, mono_ms(1000 * i))->set, "bank");
		check(!schedule_take(s, mono_ms(1000 * i)));
	}
	free(s);
}

static void a_member_of_a_set_is_never_captured_alone(void)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct schedule_ve v[] = {
	    of_set("a", "bank", 1000), of_set("b", "bank", 1000), of_set("c", "", 1000)};
	struct ckptd_place places[3];
	const char *idle = NULL;
	size_t n = 0;

	schedule_update(s, v, 3, mono_ms(0));
	check_int(schedule_places(s, "b", places, &n, 3, &idle), 0);
	check(n == 2 && !strcmp(places[0].ve, "a") && !strcmp(places[1].ve, "b"));
	check_int(schedule_places(s, "bank", places, &n, 3, &idle), 0);
	check_int(n, 2); /* each once */
	check_int(schedule_places(s, "c", places, &n, 2, &idle), -E2BIG);
	check_int(schedule_places(s, "nobody", places, &n, 3, &idle), -ENOENT);
	v[0].eligible = false;
	schedule_update(s, v, 3, mono_ms(10));
	n = 0;
	check_int(schedule_places(s, "b", places, &n, 3, &idle), -EAGAIN);
	check_str(idle, "a");
	free(s);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(the_first_checkpoint_comes_one_interval_after_the_ve_was_seen),
	    TEST(reading_the_facts_again_does_not_put_a_checkpoint_off),
	    TEST(rounds_that_come_to_nothing_are_counted_until_one_commits),
	    TEST(missed_checkpoints_are_not_made_up_for_in_a_burst),
	    TEST(stopped_and_untimed_ves_are_never_due),
	    TEST(a_set_is_due_as_one_at_its_shortest_interval),
	    TEST(a_member_of_a_set_is_never_captured_alone),
	    TEST(the_catalogue_keeps_the_newest_and_hands_out_the_rest),
	    TEST(the_newest_of_each_hour_is_kept_and_no_more),
	    TEST(an_adaptive_interval_keeps_to_the_share_until_the_loss_forbids),
	    TEST(what_checkpoints_cost_sets_the_interval_of_an_adaptive_ve),
	    TEST(keys_and_names_are_read_as_they_are_written),
	    TEST(the_journal_holds_over_a_restart_what_was_written),
	    {0},
	});
}
