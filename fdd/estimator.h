/*
 * From times of arrival to a prediction, and from a prediction to a suspicion level.
 * Arithmetic only; estimator.c says what is computed and why.
 */
#ifndef FDD_ESTIMATOR_H
#define FDD_ESTIMATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/mono.h"

enum {
	ESTIMATOR_WINDOW_MAX = 32, /* longest window of the efficiency ratio */
};

enum estimator_kind {
	ESTIMATOR_DEFAULT,
	ESTIMATOR_KAMA_PAPER, /* the literal one of the paper, for comparison */
};

/* KAMA(window, fast, slow); all zero stands for (10, 2, 30). */
struct estimator_config {
	enum estimator_kind kind;
	unsigned window, fast, slow;
};

/* Kaufman's adaptive moving average. */
struct kama {
	double value;
	double history[ESTIMATOR_WINDOW_MAX + 1]; /* ring of the last samples */
	unsigned seen;                            /* samples so far, stops at the window's size */
	unsigned next;                            /* where the next one goes */
};

struct estimator {
	struct estimator_config config;
	struct kama kama;
	double interval_s; /* D as announced */
	double recent[2];  /* the two samples before, for the median */
	double dev_fast_s, dev_slow_s;
	double loss_fast, loss_slow; /* recent loss, 0 to 1 */
	double offset_s;             /* arrivals against the schedule, from the mean; late: > 0 */
	double variance, regained;   /* of offset_s; times the step to the next one */
	double predicted_s;          /* t_pred */
};

/* Its inner values, for people and tests.  Seconds. */
struct estimator_numbers {
	double interval_s, kama_s, dev_fast_s, dev_slow_s, loss, predicted_s;
};

bool estimator_config_valid(const struct estimator_config *config);

/* Begins with nothing but the announced interval. */
void estimator_init(
    struct estimator *estimator, const struct estimator_config *config, struct mono interval);
/* A heartbeat came `delta` after the one before it, `gap` numbers later (gap >= 1). */
void estimator_sample(struct estimator *estimator, struct mono delta, uint64_t gap);
/* The sender announces another interval: history is void. */
void estimator_interval(struct estimator *estimator, struct mono interval);
/* t_pred: how long a silence is still expected.  Always > 0. */
struct mono estimator_predicted(const struct estimator *estimator);
void estimator_numbers(const struct estimator *estimator, struct estimator_numbers *numbers);

/* Adds a sample; the parameters as in struct estimator_config. */
void kama_add(struct kama *kama, const struct estimator_config *config, double sample);

/* Formula 4.1: (t - 1) / (t + 1) with t = elapsed / predicted, 0 while t <= 1. */
double level_of(struct mono elapsed, struct mono predicted);
/* Its inverse: the shortest silence at which the level is reached; level in [0, 1). */
struct mono level_elapsed(double level, struct mono predicted);

#endif
