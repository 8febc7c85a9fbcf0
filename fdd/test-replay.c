#include <inttypes.h>
#include <stdio.h>
#include "common/rng.h"
#include "common/test.h"
#include "fdd/replay.h"

/* What a run or its replay said, one word for each verdict. */
struct verdicts {
	size_t count;
	struct {
		bool raised;
		struct mono at, predicted;
	} list[256];
};

static void note(void *userdata, struct mono at, const struct fdd_level *level, bool raised)
{
	struct verdicts *verdicts = userdata;

	check(verdicts->count < 256);
	verdicts->list[verdicts->count].raised = raised;
	verdicts->list[verdicts->count].at = at;
	verdicts->list[verdicts->count++].predicted = level->predicted;
}

static struct fdd_config config_of(enum estimator_kind kind)
{
	return (struct fdd_config){.self = 9,
	    .interval = mono_ms(300),
	    .stall = mono_ms(150),
	    .estimator = {.kind = kind},
	    .suspect = {1, {0.5}, 0.2, 1},
	    .peers_max = 4,
	    .registrations_max = 1,
	    .arrivals_max = 4096};
}

static void perform(struct fdd *fdd, struct mono now, struct fdd_event *event, struct verdicts *out)
{
	struct fdd_actions actions;

	event->now = now;
	fdd_step(fdd, event, &actions);
	for (size_t i = 0; i < actions.count; i++)
		if (actions.list[i].type == FDD_SUSPECT || actions.list[i].type == FDD_TRUST)
			note(out, now, &actions.list[i].level, actions.list[i].type == FDD_SUSPECT);
}

/* The daemon sleeps until the deadline or an arrival and is up to 2 ms late. */
static void live_until(
    struct fdd *fdd, struct rng *rng, struct mono *now, struct mono until, struct verdicts *out)
{
	while (mono_before(fdd_deadline(fdd), until)) {
		*now = mono_add(fdd_deadline(fdd), mono_ns((int64_t)rng_below(rng, 2000000)));
		perform(fdd, *now, &(struct fdd_event){.type = FDD_TIMEOUT}, out);
	}
	*now = until;
}

static const struct mono begin = {1000000000000};

/* A peer with loss, restarts and outages, and an observer that sometimes stands still. */
static struct fdd *live(
    enum estimator_kind kind, uint64_t seed, struct mono *now, struct verdicts *out)
{
	struct fdd_config config = config_of(kind);
	struct fdd_peer_role role = {7, true, false};
	struct fdd_heartbeat beat = {1, 0, mono_ms(300)};
	struct mono sent = mono_add_ms(begin, 1800);
	struct fdd *fdd;
	struct rng rng;

	rng_init(&rng, seed);
	check_int(fdd_new(&fdd, &config, seed), 0);
	*now = begin;
	perform(fdd, *now, &(struct fdd_event){.type = FDD_START}, out);
	perform(fdd, *now, &(struct fdd_event){.type = FDD_SET_PEERS, .peers = {&role, 1}}, out);
	for (int i = 0; i < 2500; i++) {
		sent = mono_add_ms(sent, 300);
		beat.sequence++;
		if (rng_chance(&rng, 0.01)) { /* an outage, or a restart after one */
			sent = mono_add_ms(sent, (int64_t)rng_below(&rng, 5000));
			if (rng_chance(&rng, 0.5))
				beat =
				    (struct fdd_heartbeat){beat.incarnation + 1, 1, mono_ms(300)};
		}
		if (rng_chance(&rng, 0.15))
			continue;
		struct mono arrived =
		    mono_add(sent, mono_ns((int64_t)rng_below(&rng, 40000000) + 3000000));

		if (rng_chance(
			&rng, 0.005)) { /* the observer stands still; it reads this afterwards */
			live_until(fdd, &rng, now, sent, out);
			*now = mono_add_ms(*now, 2000);
			perform(fdd, *now, &(struct fdd_event){.type = FDD_TIMEOUT}, out);
			sent = mono_add_ms(sent, 2000);
		} else if (rng_chance(
			       &rng, 0.2)) { /* it wakes late, and the heartbeat is there already */
			live_until(fdd, &rng, now, mono_add_ms(sent, -80), out);
			*now = mono_add(arrived, mono_ns((int64_t)rng_below(&rng, 60000000)));
		} else {
			live_until(fdd, &rng, now, arrived, out);
		}
		perform(fdd, mono_add(*now, mono_ns(50000)),
		    &(struct fdd_event){.type = FDD_HEARTBEAT, .heartbeat = {7, arrived, beat}},
		    out);
		perform(fdd, mono_add(*now, mono_ns(60000)),
		    &(struct fdd_event){.type = FDD_DRAINED}, out);
	}
	return fdd;
}

static void export(const struct fdd *fdd, struct mono now, struct replay_log *log)
{
	struct fdd_arrival_log kept;
	char line[200];

	check(fdd_arrival_log(fdd, 7, &kept));
	check_int(kept.dropped, 0);
	check(!replay_take(log, "# depsys-arrivals 1\n"));
	snprintf(line, sizeof(line), "# since %" PRId64, kept.since.ns);
	check(!replay_take(log, line));
	for (size_t i = 0; i < kept.count; i++) {
		const struct fdd_arrival *a = fdd_arrival(fdd, 7, i);

		if (a->sequence)
			snprintf(line, sizeof(line),
			    "- %" PRId64 " %" PRIu64 " %" PRId64 " %" PRIu64, a->at.ns, a->sequence,
			    a->interval.ns, a->incarnation);
		else
			snprintf(line, sizeof(line), "# stall %" PRId64 " %" PRId64, a->from.ns,
			    a->at.ns);
		check(!replay_take(log, line));
	}
	check(!fdd_arrival(fdd, 7, kept.count));
	snprintf(line, sizeof(line), "# until %" PRId64, now.ns);
	check(!replay_take(log, line));
	check(!replay_finish(log));
}

/* Row 2. */
static void a_run_replayed_from_its_log_gives_the_same_verdicts(void)
{
	size_t verdicts = 0;
	uint64_t stalls = 0, late = 0;

	for (uint64_t seed = 1; seed <= 40; seed++) {
		enum estimator_kind kind = seed % 2 ? ESTIMATOR_DEFAULT : ESTIMATOR_KAMA_PAPER;
		struct verdicts run = {0}, again = {0};
		struct fdd_config config = config_of(kind);
		struct replay_log log = {0};
		struct fdd_counters counters;
		struct mono now;
		struct fdd *fdd = live(kind, seed, &now, &run);

		export(fdd, now, &log);
		check_int(replay_run(&log, &config, note, &again, &counters), 0);
		check_int(again.count, run.count);
		for (size_t i = 0; i < run.count && i < again.count; i++) {
			check_int(again.list[i].raised, run.list[i].raised);
			check(again.list[i].predicted.ns == run.list[i].predicted.ns);
			/* The run is later by its wake-ups; what it read after a stall is earlier
			 * by the time that reading took. */
			check_range(
			    mono_to_s(mono_sub(run.list[i].at, again.list[i].at)), -2e-5, 0.061);
		}
		check(counters.stalls >= fdd_counters(fdd)->stalls);
		late += counters.stalls - fdd_counters(fdd)->stalls;
		check_int(counters.received, fdd_counters(fdd)->received);
		verdicts += run.count;
		stalls += counters.stalls;
		replay_fini(&log);
		fdd_free(fdd);
	}
	check(verdicts > 200); /* there was something to agree on */
	check(stalls > 50);
	check(late > 5); /* alarms missed by waking late */
}

/* The other way round: a wrong setting is seen. */
static void another_threshold_gives_other_verdicts(void)
{
	struct fdd_config config = config_of(ESTIMATOR_DEFAULT);
	struct verdicts run = {0}, again = {0};
	struct replay_log log = {0};
	struct mono now;
	struct fdd *fdd = live(ESTIMATOR_DEFAULT, 3, &now, &run);

	export(fdd, now, &log);
	config.suspect.raise[0] = 0.8;
	check_int(replay_run(&log, &config, note, &again, NULL), 0);
	check(again.count < run.count);
	replay_fini(&log);
	fdd_free(fdd);
}

static void a_full_ring_drops_the_oldest_and_says_so(void)
{
	struct fdd_config config = config_of(ESTIMATOR_DEFAULT);
	struct fdd_peer_role role = {7, true, false};
	struct fdd_arrival_log kept;
	struct verdicts out = {0};
	struct fdd *fdd;

	config.arrivals_max = 10;
	check_int(fdd_new(&fdd, &config, 1), 0);
	perform(fdd, begin, &(struct fdd_event){.type = FDD_START}, &out);
	check(!fdd_arrival_log(fdd, 7, &kept));
	perform(fdd, begin, &(struct fdd_event){.type = FDD_SET_PEERS, .peers = {&role, 1}}, &out);
	for (uint64_t i = 1; i <= 25; i++) {
		struct mono at = mono_add_ms(begin, 10 * (int64_t)i);

		perform(fdd, at,
		    &(struct fdd_event){
			.type = FDD_HEARTBEAT, .heartbeat = {7, at, {1, i, mono_ms(300)}}},
		    &out);
	}
	check(fdd_arrival_log(fdd, 7, &kept));
	check_int(kept.count, 10);
	check_int(kept.dropped, 15);
	check_int(fdd_arrival(fdd, 7, 0)->sequence, 16);
	check_int(fdd_arrival(fdd, 7, 9)->sequence, 25);
	role.watch = false;
	perform(fdd, begin, &(struct fdd_event){.type = FDD_SET_PEERS, .peers = {&role, 1}}, &out);
	role.watch = true;
	perform(fdd, begin, &(struct fdd_event){.type = FDD_SET_PEERS, .peers = {&role, 1}}, &out);
	check(fdd_arrival_log(fdd, 7, &kept) && kept.count == 0);
	fdd_free(fdd);
}

static void nonsense_in_a_log_is_refused_with_what_was_expected(void)
{
	static const char *const bad[] = {"1 2 3", "- 1 0 500000000 7", "- x 1 500000000 7",
	    "- 1 1 500000000 7 8", "- -1 1 500000000 7", "- 99999999999999999999 1 500000000 7",
	    "# stall 5 5", "# stall 5", "# since soon", "# until"};
	struct replay_log log = {0};

	check(replay_take(&log, "- 1 1 500000000 7"));
	check(!replay_take(&log, "# depsys-arrivals 1\r\n"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]) - 1; i++)
		check(replay_take(&log, bad[i]));
	check(replay_finish(&log));
	check(!replay_take(&log, "# any remark\n"));
	check(!replay_take(&log, "\n"));
	check(!replay_take(&log, "123 1000 1 500000000 7\n"));
	check(!replay_take(&log, "-\t2000\t2\t500000000\t7"));
	check(!replay_finish(&log));
	check_int(log.count, 2);
	check_int(log.since.ns, 1000);
	check_int(log.until.ns, 2000);
	replay_fini(&log);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_run_replayed_from_its_log_gives_the_same_verdicts),
	    TEST(another_threshold_gives_other_verdicts),
	    TEST(a_full_ring_drops_the_oldest_and_says_so),
	    TEST(nonsense_in_a_log_is_refused_with_what_was_expected),
	    {0},
	});
}
