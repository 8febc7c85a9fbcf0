/*
 * The published detectors, each from its paper, and ours from the daemon's own object files.
 *
 * Fixed    a timeout since the last arrival.  Parameter: the timeout, in intervals.
 * Chen     W. Chen, S. Toueg, M. K. Aguilera: On the Quality of Service of Failure Detectors, IEEE
 *          Trans. Computers 51(5), 2002; NFD-E.  EA = mean over the window of (A_i - D s_i), plus
 *          D times the next number; suspected at EA + alpha.  Parameter: alpha.
 * 2W       A. Tomsic, P. Sens, J. Garcia, L. Arantes, J. Sopena: 2W-FD: A Failure Detector Algorithm
 *          with QoS, IPDPS 2015.  The later of two such EA, windows 1 and 1000, plus a margin.
 * Bertier  M. Bertier, O. Marin, P. Sens: Implementation and Performance Evaluation of an Adaptable
 *          Failure Detector, DSN 2002.  Chen's EA, and Jacobson's margin beta delay + phi var with
 *          gamma = 0.1, beta = 1.  Parameter: phi (4 in the paper).
 * phi      N. Hayashibara, X. Defago, R. Yared, T. Katayama: The phi Accrual Failure Detector, SRDS
 *          2004.  Normal distribution of the times between arrivals, window 1000.  The parameter
 *          is the number of standard deviations, which is a monotonous function of phi.
 * Akka     akka.remote.PhiAccrualFailureDetector: a logistic approximation of the normal
 *          distribution, window 1000, least standard deviation 0.1 D (100 ms at the default interval
 *          of 1 s), acceptable pause; a time between arrivals that was suspected is not learnt.
 *          Parameter: below 1 a share of the threshold 8 without pause, from 1 on the pause.
 * Exp.phi  Cassandra's FailureDetector: phi with exponential distribution, so t / mean; window 1000,
 *          times above two intervals are not learnt.
 * Satzger  B. Satzger, A. Pietzowski, W. Trumler, T. Ungerer: A New Adaptive Accrual Failure Detector
 *          for Dependable Distributed Systems, SAC 2007.  Histogram of the times between arrivals,
 *          window 1000.  Parameter: below 1 the share of them that must be exceeded, from 1 on the
 *          factor (alpha of the paper) by which the longest must be.
 * KAMA     "Depsys", section 4, to the letter: the daemon's estimator `kama-paper`.
 * ours     the daemon's default estimator.  Parameter of both: predicted intervals of silence, that
 *          is (1 + sl) / (1 - sl) for the suspicion level sl of formula 4.1.
 *
 * Windows are 1000 as in most of the papers (Chen et al. use 32 once; their EA with 32 is worse on
 * nearly all of the traces).
 */
#include <math.h>
#include <string.h>
#include "bench/detectors/detector.h"
#include "fdd/estimator.h"

enum { WINDOW = 1000 };

/* The last WINDOW values and their sums. */
struct window {
	double values[WINDOW];
	size_t count, next;
	double sum, squares;
};

static void window_add(struct window *w, double value)
{
	if (w->count == WINDOW) {
		w->sum -= w->values[w->next];
		w->squares -= w->values[w->next] * w->values[w->next];
	} else {
		w->count++;
	}
	w->values[w->next] = value;
	w->next = (w->next + 1) % WINDOW;
	w->sum += value;
	w->squares += value * value;
}

static double window_mean(const struct window *w)
{
	return w->sum / (double)w->count;
}

static double window_deviation(const struct window *w)
{
	double mean = window_mean(w), variance = w->squares / (double)w->count - mean * mean;

	return sqrt(fmax(0, variance));
}

/* What every detector keeps. */
struct common {
	double interval_s, parameter, at_s;
};

static void common_begin(struct common *c, double interval_s, double parameter, double at_s)
{
	*c = (struct common){interval_s, parameter, at_s};
}

/* The time since the arrival before. */
static double common_arrive(struct common *c, double at_s)
{
	double since = at_s - c->at_s;

	c->at_s = at_s;
	return since;
}

/* --- fixed timeout --- */

static void fixed_begin(void *state, double interval_s, double parameter, double at_s)
{
	common_begin(state, interval_s, parameter, at_s);
}

static void fixed_arrive(void *state, double at_s, uint64_t gap)
{
	(void)gap;
	common_arrive(state, at_s);
}

static double fixed_deadline(const void *state)
{
	const struct common *c = state;

	return c->at_s + c->parameter * c->interval_s;
}

static const struct detector fixed = {"fixed timeout", true, 0, 1e4, sizeof(struct common),
    fixed_begin, fixed_arrive, fixed_deadline};

/* --- Chen, 2W-FD, Bertier: the expected arrival of the next number --- */

struct chen {
	struct common common;
	struct window offsets; /* A_i - D s_i */
	double sequence;       /* counted from the first heartbeat */
	double delay_s, var_s; /* Bertier */
};

static double chen_expected(const struct chen *c)
{
	return window_mean(&c->offsets) + (c->sequence + 1) * c->common.interval_s;
}

static void chen_begin(void *state, double interval_s, double parameter, double at_s)
{
	struct chen *c = state;

	memset(c, 0, sizeof(*c));
	common_begin(&c->common, interval_s, parameter, at_s);
	window_add(&c->offsets, at_s);
}

static void chen_arrive(void *state, double at_s, uint64_t gap)
{
	struct chen *c = state;

	common_arrive(&c->common, at_s);
	c->sequence += (double)gap;
	window_add(&c->offsets, at_s - c->sequence * c->common.interval_s);
}

static double chen_deadline(const void *state)
{
	const struct chen *c = state;

	return chen_expected(c) + c->common.parameter * c->common.interval_s;
}

static double two_windows_deadline(const void *state)
{
	const struct chen *c = state;
	double soon = c->common.at_s + c->common.interval_s; /* a window of one */

	return fmax(soon, chen_expected(c)) + c->common.parameter * c->common.interval_s;
}

static void bertier_arrive(void *state, double at_s, uint64_t gap)
{
	const double gamma = 0.1;
	struct chen *c = state;
	double expected = chen_expected(c) + (double)(gap - 1) * c->common.interval_s;
	double error = at_s - expected - c->delay_s;

	c->delay_s += gamma * error;
	c->var_s += gamma * (fabs(error) - c->var_s);
	chen_arrive(state, at_s, gap);
}

static double bertier_deadline(const void *state)
{
	const struct chen *c = state;

	return chen_expected(c) + c->delay_s + c->common.parameter * c->var_s;
}

static const struct detector chen = {
    "Chen", true, -1e3, 1e4, sizeof(struct chen), chen_begin, chen_arrive, chen_deadline};
static const struct detector two_windows = {
    "2W-FD", true, -1e3, 1e4, sizeof(struct chen), chen_begin, chen_arrive, two_windows_deadline};
static const struct detector bertier = {
    "Bertier", true, -1e3, 1e6, sizeof(struct chen), chen_begin, bertier_arrive, bertier_deadline};

/* --- phi, Akka's phi, exponential phi: the times between arrivals --- */

struct phi {
	struct common common;
	struct window times;
	double deviations, pause_s; /* Akka: of the threshold; acceptable pause */
};

static void phi_begin(void *state, double interval_s, double parameter, double at_s)
{
	struct phi *p = state;

	memset(p, 0, sizeof(*p));
	common_begin(&p->common, interval_s, parameter, at_s);
	window_add(&p->times, interval_s * 0.75); /* mean D, deviation D / 4, as Akka begins */
	window_add(&p->times, interval_s * 1.25);
}

static void phi_arrive(void *state, double at_s, uint64_t gap)
{
	struct phi *p = state;

	(void)gap;
	window_add(&p->times, common_arrive(&p->common, at_s));
}

static double phi_deadline(const void *state)
{
	const struct phi *p = state;

	return p->common.at_s + window_mean(&p->times) +
	       p->common.parameter * window_deviation(&p->times);
}

/* Akka's phi of a number of standard deviations, and its inverse by bisection. */
static double akka_phi(double y)
{
	double e = exp(-y * (1.5976 + 0.070566 * y * y));

	return y > 0 ? -log10(e / (1 + e)) : -log10(1 - 1 / (1 + e));
}

static double akka_inverse(double phi)
{
	double low = -6, high = 20;

	for (int i = 0; i < 60; i++) {
		double middle = (low + high) / 2;

		*(akka_phi(middle) < phi ? &low : &high) = middle;
	}
	return high;
}

static void akka_begin(void *state, double interval_s, double parameter, double at_s)
{
	struct phi *p = state;

	phi_begin(state, interval_s, parameter, at_s);
	p->deviations = akka_inverse(8 * fmin(parameter, 1));
	p->pause_s = fmax(parameter - 1, 0) * interval_s;
}

static double akka_deadline(const void *state)
{
	const struct phi *p = state;
	double deviation = fmax(window_deviation(&p->times), 0.1 * p->common.interval_s);

	return p->common.at_s + window_mean(&p->times) + p->pause_s + p->deviations * deviation;
}

static void akka_arrive(void *state, double at_s, uint64_t gap)
{
	struct phi *p = state;

	if (at_s < akka_deadline(state))
		phi_arrive(state, at_s, gap);
	else
		p->common.at_s = at_s;
}

static void exponential_arrive(void *state, double at_s, uint64_t gap)
{
	struct phi *p = state;
	double since = common_arrive(&p->common, at_s);

	(void)gap;
	if (since <= 2 * p->common.interval_s)
		window_add(&p->times, since);
}

static double exponential_deadline(const void *state)
{
	const struct phi *p = state;

	return p->common.at_s + p->common.parameter * window_mean(&p->times);
}

static const struct detector phi = {
    "phi", true, -1e3, 1e6, sizeof(struct phi), phi_begin, phi_arrive, phi_deadline};
static const struct detector akka = {
    "Akka's phi", true, 1e-6, 1e4, sizeof(struct phi), akka_begin, akka_arrive, akka_deadline};
static const struct detector exponential = {"exponential phi", true, 0, 1e4, sizeof(struct phi),
    phi_begin, exponential_arrive, exponential_deadline};

/* --- Satzger: their histogram --- */

struct satzger {
	struct common common;
	struct window times;
	double sorted[WINDOW];
};

/* Place of the first value that is not below. */
static size_t satzger_place(const struct satzger *s, size_t count, double value)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (s->sorted[middle] < value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void satzger_add(struct satzger *s, double value)
{
	size_t count = s->times.count, place;

	if (count == WINDOW) {
		place = satzger_place(s, count, s->times.values[s->times.next]);
		count--;
		memmove(&s->sorted[place], &s->sorted[place + 1], (count - place) * sizeof(double));
	}
	place = satzger_place(s, count, value);
	memmove(&s->sorted[place + 1], &s->sorted[place], (count - place) * sizeof(double));
	s->sorted[place] = value;
	window_add(&s->times, value);
}

static void satzger_begin(void *state, double interval_s, double parameter, double at_s)
{
	struct satzger *s = state;

	memset(s, 0, sizeof(*s));
	common_begin(&s->common, interval_s, parameter, at_s);
	satzger_add(s, interval_s);
}

static void satzger_arrive(void *state, double at_s, uint64_t gap)
{
	struct satzger *s = state;

	(void)gap;
	satzger_add(s, common_arrive(&s->common, at_s));
}

static double satzger_deadline(const void *state)
{
	const struct satzger *s = state;
	double share = fmin(s->common.parameter, 1), factor = fmax(s->common.parameter, 1);
	double place = share * (double)(s->times.count - 1);
	size_t below = (size_t)place, above = below + 1 < s->times.count ? below + 1 : below;
	double time =
	    s->sorted[below] + (place - (double)below) * (s->sorted[above] - s->sorted[below]);

	return s->common.at_s + factor * time;
}

static const struct detector satzger = {"Satzger", true, 0, 1e4, sizeof(struct satzger),
    satzger_begin, satzger_arrive, satzger_deadline};

/* --- the daemon's own estimators --- */

struct own {
	struct common common;
	struct estimator estimator;
};

static void own_begin(
    struct own *own, enum estimator_kind kind, double interval_s, double parameter, double at_s)
{
	common_begin(&own->common, interval_s, parameter, at_s);
	estimator_init(&own->estimator, &(struct estimator_config){.kind = kind},
	    mono_ns(llround(interval_s * 1e9)));
}

static void literal_begin(void *state, double interval_s, double parameter, double at_s)
{
	own_begin(state, ESTIMATOR_KAMA_PAPER, interval_s, parameter, at_s);
}

static void ours_begin(void *state, double interval_s, double parameter, double at_s)
{
	own_begin(state, ESTIMATOR_DEFAULT, interval_s, parameter, at_s);
}

static void own_arrive(void *state, double at_s, uint64_t gap)
{
	struct own *own = state;
	double since = common_arrive(&own->common, at_s);

	estimator_sample(&own->estimator, mono_ns(llround(since * 1e9)), gap);
}

static double own_deadline(const void *state)
{
	const struct own *own = state;

	return own->common.at_s +
	       own->common.parameter * mono_to_s(estimator_predicted(&own->estimator));
}

static const struct detector literal = {
    "literal KAMA", true, 0, 1e4, sizeof(struct own), literal_begin, own_arrive, own_deadline};
static const struct detector ours = {
    "depsys", false, 1, 1e4, sizeof(struct own), ours_begin, own_arrive, own_deadline};

const struct detector *const detectors[] = {
    &fixed, &chen, &two_windows, &bertier, &phi, &akka, &exponential, &satzger, &literal, &ours};
const size_t detectors_count = sizeof(detectors) / sizeof(detectors[0]);
