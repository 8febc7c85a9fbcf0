#include <math.h>
#include "common/rng.h"
#include "common/test.h"
#include "fdd/estimator.h"

static const struct estimator_config plain = {.kind = ESTIMATOR_DEFAULT};
static const struct estimator_config paper = {.kind = ESTIMATOR_KAMA_PAPER};
static const double d_s = 0.5; /* the announced interval of these tests */

static struct estimator fresh(const struct estimator_config *config)
{
	struct estimator e;

	estimator_init(&e, config, mono_ms(500));
	return e;
}

static void arrive(struct estimator *e, double delta_s, uint64_t gap)
{
	estimator_sample(e, mono_ns((int64_t)(delta_s * 1e9)), gap);
}

/* Regular heartbeats with up to 2 ms of jitter. */
static void arrive_regularly(struct estimator *e, int count)
{
	static struct rng rng;

	if (!rng.s[0])
		rng_init(&rng, 5);
	for (int i = 0; i < count; i++)
		arrive(e, d_s + 0.004 * (rng_unit(&rng) - 0.5), 1);
}

static void check_kama(const double *samples, const double *expected, size_t count)
{
	struct kama kama = {0};

	for (size_t i = 0; i < count; i++) {
		kama_add(&kama, &plain, samples[i]);
		check_range(kama.value, expected[i] - 1e-12, expected[i] + 1e-12);
	}
}

/* A straight line: the efficiency ratio is 1, the weight (2/3)^2 = 4/9.
 * 1; 1 + 4/9 (2 - 1) = 13/9; 13/9 + 4/9 (3 - 13/9) = 173/81; 173/81 + 4/9 (4 - 173/81) ... */
static void kama_follows_a_trend_with_weight_four_ninths(void)
{
	check_kama((double[]){1, 2, 3, 4}, (double[]){1, 13.0 / 9, 173.0 / 81, 2161.0 / 729}, 4);
}

/* To and fro: after 1 2 1 nothing was gained (ratio 0, weight (2/31)^2); after 1 2 1 2 one step
 * in three (ratio 1/3, weight (1/3 (2/3 - 2/31) + 2/31)^2 = (74/279)^2). */
static void kama_hardly_moves_in_noise(void)
{
	double third = 13.0 / 9 + 4.0 / 961 * (1 - 13.0 / 9);
	double fourth = third + 5476.0 / 77841 * (2 - third);

	check_kama((double[]){1, 2, 1, 2}, (double[]){1, 13.0 / 9, third, fourth}, 4);
}

/* The thirteenth sample of 1 2 1 2 ...: the window holds eleven, so 1 2 ... 1 gained nothing. */
static void kama_forgets_what_left_its_window(void)
{
	static const double samples[] = {5, 9, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1};
	struct kama kama = {0};
	double before = 0;

	for (size_t i = 0; i < 13; i++) {
		before = kama.value;
		kama_add(&kama, &plain, samples[i]);
	}
	check_range(kama.value - (before + 4.0 / 961 * (1 - before)), -1e-12, 1e-12);
}

static void kama_of_a_constant_is_the_constant(void)
{
	check_kama((double[]){3, 3, 3, 3}, (double[]){3, 3, 3, 3}, 4);
}

static void kama_constants_are_configuration(void)
{
	struct estimator_config quick = {.window = 2, .fast = 1, .slow = 3};
	struct kama kama = {0};

	kama_add(&kama, &quick, 1);
	kama_add(&kama, &quick, 2); /* ratio 1, weight (2/2)^2 */
	check_range(kama.value, 2, 2);
	kama_add(&kama, &quick, 1); /* ratio 0, weight (2/4)^2 */
	check_range(kama.value, 1.75, 1.75);
	check(!estimator_config_valid(&(struct estimator_config){.window = 33}));
	check(!estimator_config_valid(&(struct estimator_config){.fast = 30, .slow = 2}));
	check(estimator_config_valid(&plain) && estimator_config_valid(&paper));
}

/* First sample 0.6 s: median(0.5, 0.5, 0.6) = 0.5 leaves K = 0.5; late 0.1;
 * dev_fast = 0.125 + (0.1 - 0.125) / 16; t_pred = 0.5 + 2 dev_fast. */
static void the_first_prediction_by_hand(void)
{
	struct estimator e = fresh(&plain);

	check_range(e.predicted_s, 0.75, 0.75);
	arrive(&e, 0.6, 1);
	check_range(e.predicted_s, 0.7468749, 0.7468751);
}

static void regular_heartbeats_predict_little_more_than_the_interval(void)
{
	struct estimator e = fresh(&plain);

	arrive_regularly(&e, 200);
	check_range(e.predicted_s, d_s, 1.02 * d_s);
}

static void loss_is_not_taken_for_slowness(void)
{
	struct estimator e = fresh(&plain), literal = fresh(&paper);
	struct rng rng;
	double worst = 0, worst_literal = 0;

	rng_init(&rng, 8);
	for (int i = 0; i < 2000; i++) {
		uint64_t gap = 1;

		while (rng_chance(&rng, 0.2))
			gap++;
		arrive(&e, d_s * (double)gap, gap);
		arrive(&literal, d_s * (double)gap, gap);
		if (i > 50) {
			worst = fmax(worst, e.predicted_s);
			worst_literal = fmax(worst_literal, literal.predicted_s);
		}
	}
	check_range(e.loss_slow, 0.15, 0.25);
	check_range(worst, 1.5 * d_s, 2.3 * d_s);        /* widened for loss, on purpose */
	check_range(worst_literal, 1.5 * d_s, 10 * d_s); /* the control */
}

/* F2: what an outage leaves behind.  cut: nothing arrives; pause: the sender stands still;
 * held: everything arrives at once when it is over. */
static void after_an_outage_detection_is_soon_as_fast_as_before(void)
{
	for (double outage_s = 1; outage_s < 4000; outage_s *= 1.7) {
		uint64_t beats = (uint64_t)(outage_s / d_s);

		for (int kind = 0; kind < 3; kind++) {
			struct estimator e = fresh(&plain);
			double before, worst = 0;

			arrive_regularly(&e, 400);
			before = e.predicted_s;
			if (kind == 0)
				arrive(&e, outage_s, beats ? beats : 1);
			else
				arrive(&e, outage_s, 1);
			worst = e.predicted_s;
			for (uint64_t i = 0; kind == 2 && i < beats; i++) {
				arrive(&e, 0.0001, 1);
				worst = fmax(worst, e.predicted_s);
			}
			for (int i = 0; i < 50; i++) {
				arrive_regularly(&e, 1);
				worst = fmax(worst, e.predicted_s);
			}
			check_range(worst / before, 1, 2);
			check_range(e.predicted_s / before, 0.9, 1.1);
		}
	}
}

/* The control: what the departures from the paper are for. */
static void the_literal_estimator_predicts_half_a_minute_after_an_outage(void)
{
	struct estimator e;

	estimator_init(&e, &paper, mono_ms(100));
	for (int i = 0; i < 100; i++)
		arrive(&e, 0.1, 1);
	check_range(e.predicted_s, 0.0999, 0.1001);
	arrive(&e, 108, 1);
	check_range(e.predicted_s, 40, 50);
}

static void a_slower_sender_is_followed(void)
{
	struct estimator e = fresh(&plain);

	arrive_regularly(&e, 50);
	for (int i = 0; i < 50; i++)
		arrive(&e, 0.8, 1);
	check_range(e.kama.value, 0.79, 0.81);
	check_range(e.predicted_s, 0.8, 1.0);
}

static void jitter_widens_the_prediction_within_ten_heartbeats_and_calm_narrows_it(void)
{
	struct estimator e = fresh(&plain);

	arrive_regularly(&e, 200);
	for (int i = 0; i < 10; i++)
		arrive(&e, i % 2 ? 0.3 : 0.7, 1);
	check_range(e.predicted_s, 1.1 * d_s, 1.6 * d_s);
	arrive_regularly(&e, 300);
	check_range(e.predicted_s, d_s, 1.05 * d_s);
}

/* Arrivals at i D + delay, with delays of our making. */
static double arrive_with_delays(
    struct estimator *e, int count, double keep, double jitter_s, struct rng *rng)
{
	double delay_s = 0, before_s;

	for (int i = 0; i < count; i++) {
		before_s = delay_s;
		delay_s = keep * delay_s + jitter_s * rng_unit(rng);
		arrive(e, d_s + delay_s - before_s, 1);
	}
	return delay_s;
}

static void a_late_heartbeat_shortens_the_next_silence_when_delays_are_independent(void)
{
	struct estimator e = fresh(&plain);
	struct rng rng;
	double usual, delay_s;

	rng_init(&rng, 11);
	delay_s = arrive_with_delays(&e, 500, 0, 0.2 * d_s, &rng);
	check_range(e.regained / e.variance, 0.7, 1.1);
	arrive(&e, d_s + 0.1 * d_s - delay_s, 1); /* a mean delay */
	usual = e.predicted_s;
	arrive(&e, d_s + 0.1 * d_s, 1); /* the longest one */
	check_range(e.predicted_s, 0.8 * usual, 0.97 * usual);
}

static void a_queue_is_not_expected_to_be_gone_at_once(void)
{
	struct estimator e = fresh(&plain);
	struct rng rng;

	rng_init(&rng, 12);
	arrive_with_delays(&e, 2000, 0.95, 0.02 * d_s, &rng);
	check_range(e.regained / e.variance, -0.1, 0.3);
}

static void a_sender_that_paused_is_not_held_to_its_old_schedule(void)
{
	struct estimator e = fresh(&plain);
	double before;

	arrive_regularly(&e, 400);
	before = e.predicted_s;
	for (int pause = 2; pause < 40; pause++) {
		arrive(&e, pause * d_s, 1);
		check_range(e.predicted_s / before, 0.97, 2);
		arrive_regularly(&e, 200);
	}
}

static void the_fifty_heartbeats_after_bursts_of_loss_are_watched_with_patience(void)
{
	struct estimator e = fresh(&plain);
	double before;

	arrive_regularly(&e, 400);
	before = e.predicted_s;
	for (int i = 0; i < 10; i++)
		arrive(&e, 2 * d_s, 2);
	check_range(e.predicted_s / before, 1.8, 2.5);
	arrive_regularly(&e, 50);
	check_range(e.predicted_s / before, 1, 1.15);
}

static void a_new_interval_begins_anew(void)
{
	struct estimator e = fresh(&plain);

	arrive_regularly(&e, 50);
	estimator_interval(&e, mono_ms(2000));
	check_range(e.predicted_s, 3, 3);
}

static void whatever_arrives_the_prediction_stays_finite_and_positive(void)
{
	struct rng rng;

	rng_init(&rng, 4);
	for (int run = 0; run < 200; run++) {
		struct estimator e = fresh(run % 2 ? &plain : &paper);

		for (int i = 0; i < 300; i++) {
			int64_t delta = (int64_t)(rng_u64(&rng) >> 1 >> rng_below(&rng, 63));
			uint64_t gap = 1 + (rng_u64(&rng) >> 1 >> rng_below(&rng, 63));

			estimator_sample(&e, mono_ns(rng_chance(&rng, 0.1) ? -delta : delta), gap);
			check(estimator_predicted(&e).ns > 0);
			check(isfinite(e.predicted_s));
			check(run % 2 == 0 || e.predicted_s <= 6 * d_s + 6 * d_s + 2.5 * d_s);
		}
	}
}

/* F3: formula 4.1. */
static void the_level_is_zero_until_due_then_rises_towards_one(void)
{
	struct rng rng;

	rng_init(&rng, 6);
	for (int run = 0; run < 2000; run++) {
		struct mono predicted = mono_ns((int64_t)rng_below(&rng, 100000000000) + 1000);
		double last = 0;

		check(level_of(MONO_ZERO, predicted) == 0);
		check(level_of(predicted, predicted) == 0);
		for (int64_t elapsed = 0; elapsed < 30 * predicted.ns;
		     elapsed += 1 + predicted.ns / 7) {
			double level = level_of(mono_ns(elapsed), predicted);

			check(level >= last && level < 1);
			check(elapsed > predicted.ns || level == 0);
			check(elapsed <= predicted.ns || level > last);
			last = level;
		}
		check_range(level_of(mono_ns(predicted.ns * 1000), predicted), 0.998, 1);
	}
}

static void a_third_a_half_six_tenths_and_eight_tenths_are_two_three_four_and_nine_intervals(void)
{
	static const double levels[] = {1.0 / 3, 0.5, 0.6, 0.8}, intervals[] = {2, 3, 4, 9};

	for (int i = 0; i < 4; i++) {
		check_range(level_of(mono_ns((int64_t)(intervals[i] * 1e9)), mono_ns(1000000000)),
		    levels[i] - 1e-9, levels[i] + 1e-9);
		check_range(mono_to_s(level_elapsed(levels[i], mono_ns(1000000000))),
		    intervals[i] - 1e-6, intervals[i] + 1e-6);
	}
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(kama_follows_a_trend_with_weight_four_ninths),
	    TEST(kama_hardly_moves_in_noise),
	    TEST(kama_forgets_what_left_its_window),
	    TEST(kama_of_a_constant_is_the_constant),
	    TEST(kama_constants_are_configuration),
	    TEST(the_first_prediction_by_hand),
	    TEST(regular_heartbeats_predict_little_more_than_the_interval),
	    TEST(loss_is_not_taken_for_slowness),
	    TEST(after_an_outage_detection_is_soon_as_fast_as_before),
	    TEST(the_literal_estimator_predicts_half_a_minute_after_an_outage),
	    TEST(a_slower_sender_is_followed),
	    TEST(jitter_widens_the_prediction_within_ten_heartbeats_and_calm_narrows_it),
	    TEST(a_late_heartbeat_shortens_the_next_silence_when_delays_are_independent),
	    TEST(a_queue_is_not_expected_to_be_gone_at_once),
	    TEST(a_sender_that_paused_is_not_held_to_its_old_schedule),
	    TEST(the_fifty_heartbeats_after_bursts_of_loss_are_watched_with_patience),
	    TEST(a_new_interval_begins_anew),
	    TEST(whatever_arrives_the_prediction_stays_finite_and_positive),
	    TEST(the_level_is_zero_until_due_then_rises_towards_one),
	    TEST(a_third_a_half_six_tenths_and_eight_tenths_are_two_three_four_and_nine_intervals),
	    {0},
	});
}
