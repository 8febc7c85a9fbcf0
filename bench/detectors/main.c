/*
 * Goals F1, F2 and F3: the published detectors beside ours.
 *
 *	bench-detectors [--quick] [--plots DIR] [ARRIVAL-LOG ...]
 *
 * Each detector's parameter is solved so that its mean detection time on the trace is 1, 1.25 ... 4
 * announced intervals; then the mistakes are compared.  A cell is one trace at one detection time;
 * it counts when the fixed timeout makes at least 30 mistakes in it (fewer say nothing) and ours can
 * be that quick there.  The mistakes of several seeds are added up.  Without arrival logs the
 * recorded ones of bench/traces are read.  --plots writes the pictures of docs/detection.md.
 */
#include <errno.h>
#include <getopt.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench/detectors/judge.h"
#include "bench/detectors/plot.h"
#include "common/rng.h"
#include "fdd/estimator.h"

enum {
	CELLS = 13,
	TRACES_MAX = 64,
	DETECTORS_MAX = 16,
	MISTAKES_MIN = 30,
	SEEDS = 2,
	BEATS = 60000,
	FIRST_SEED = 1001, /* not those that the estimator was chosen on */
};

struct row {
	char name[TRACE_NAME_MAX];
	bool jitter_changes;
	double mistakes[DETECTORS_MAX][CELLS]; /* NAN: cannot have this detection time */
	double hours;
};

struct table {
	struct row rows[TRACES_MAX];
	size_t count;
};

/* A geometric mean that grows, and the largest term. */
struct mean {
	double logs, worst;
	size_t count;
};

static double detection_of(size_t cell)
{
	return 1 + 0.25 * (double)cell;
}

static void mean_add(struct mean *mean, double value)
{
	mean->logs += log(value);
	mean->worst = fmax(mean->worst, value);
	mean->count++;
}

static double mean_value(const struct mean *mean)
{
	return mean->count ? exp(mean->logs / (double)mean->count) : (double)NAN;
}

/* --- measuring --- */

static int measure(struct row *row, const struct trace *trace)
{
	struct verdict verdict;
	int r;

	snprintf(row->name, sizeof(row->name), "%s", trace->name);
	row->jitter_changes = trace->jitter_changes;
	for (size_t d = 0; d < detectors_count; d++)
		for (size_t c = 0; c < CELLS; c++) {
			r = judge_at(detectors[d], trace, detection_of(c), &verdict);
			if (r < 0)
				return r;
			row->mistakes[d][c] += r ? (double)NAN : (double)verdict.mistakes;
		}
	row->hours += verdict.hours;
	return 0;
}

static int measure_generated(struct table *table, unsigned seeds, size_t beats)
{
	for (size_t recipe = 0; recipe < trace_recipes(); recipe++) {
		for (unsigned s = 0; s < seeds; s++) {
			struct trace trace;
			int r = trace_generate(&trace, recipe, FIRST_SEED + s, beats);

			if (r == 0)
				r = measure(&table->rows[table->count], &trace);
			trace_fini(&trace);
			if (r < 0)
				return r;
		}
		table->count++;
	}
	return 0;
}

static int measure_log(struct table *table, const char *path)
{
	struct trace trace;
	size_t line;
	int r = trace_read(&trace, path, &line);

	if (r < 0 && line) {
		fprintf(
		    stderr, "bench-detectors: %s:%zu: not a line of an arrival log\n", path, line);
		return r;
	}
	if (r == 0 && table->count < TRACES_MAX)
		r = measure(&table->rows[table->count++], &trace);
	if (r < 0)
		fprintf(stderr, "bench-detectors: read %s: %s\n", path, strerror(-r));
	trace_fini(&trace);
	return r;
}

static int measure_logs(struct table *table, char **paths, size_t count)
{
	glob_t recorded = {0};
	int r = 0;

	if (!count && glob(BENCH_TRACES "/*.txt", 0, NULL, &recorded) == 0) {
		paths = recorded.gl_pathv;
		count = recorded.gl_pathc;
	}
	for (size_t i = 0; i < count && r == 0; i++)
		r = measure_log(table, paths[i]);
	globfree(&recorded);
	return r;
}

/* --- comparing --- */

static bool counts(const struct row *row, size_t cell)
{
	return row->mistakes[0][cell] >= MISTAKES_MIN &&
	       !isnan(row->mistakes[detectors_count - 1][cell]);
}

/* One more on both sides: a detector without any mistake is not infinitely good. */
static double relative(double mistakes, double reference)
{
	return (mistakes + 1) / (reference + 1);
}

static double best_published(const struct row *row, size_t cell)
{
	double best = row->mistakes[0][cell];

	for (size_t d = 0; d < detectors_count; d++)
		if (detectors[d]->published)
			best = fmin(best, row->mistakes[d][cell]); /* fmin passes over NAN */
	return best;
}

static struct mean against_fixed(const struct row *row, size_t detector)
{
	struct mean mean = {0};

	for (size_t c = 0; c < CELLS; c++)
		if (counts(row, c) && !isnan(row->mistakes[detector][c]))
			mean_add(&mean, relative(row->mistakes[detector][c], row->mistakes[0][c]));
	return mean;
}

static struct mean against_best(const struct row *row)
{
	struct mean mean = {0};

	for (size_t c = 0; c < CELLS; c++)
		if (counts(row, c))
			mean_add(&mean, relative(row->mistakes[detectors_count - 1][c],
					    best_published(row, c)));
	return mean;
}

static void print_value(double value)
{
	if (isnan(value))
		printf(" %8s", "-");
	else
		printf(" %8.2f", value);
}

static void print_table(const struct table *table)
{
	struct mean all[DETECTORS_MAX] = {0};

	printf(
	    "Mistakes relative to a fixed timeout at equal mean detection time (geometric mean over 1 to 4 D)\n");
	printf("%-26s", "trace");
	for (size_t d = 1; d < detectors_count; d++)
		printf(" %8.8s", detectors[d]->name);
	printf("  cells\n");
	for (size_t t = 0; t < table->count; t++) {
		printf("%-26.26s", table->rows[t].name);
		for (size_t d = 1; d < detectors_count; d++) {
			double value;
			struct mean mean = against_fixed(&table->rows[t], d);

			value = mean_value(&mean);
			print_value(value);
			if (mean.count)
				mean_add(&all[d], value);
		}
		printf(" %6zu\n", against_best(&table->rows[t]).count);
	}
	printf("%-26s", "geometric mean");
	for (size_t d = 1; d < detectors_count; d++)
		print_value(mean_value(&all[d]));
	printf("\n%-26s", "worst");
	for (size_t d = 1; d < detectors_count; d++)
		print_value(all[d].worst);
	printf("\n\n");
}

static void print_cells(const struct table *table)
{
	printf(
	    "depsys relative to the best published detector of each cell (detection time in D)\n%-26s",
	    "trace");
	for (size_t c = 0; c < CELLS; c++)
		printf(" %5g", detection_of(c));
	printf("   mean\n");
	for (size_t t = 0; t < table->count; t++) {
		const struct row *row = &table->rows[t];
		struct mean mean = against_best(row);

		printf("%-26.26s", row->name);
		for (size_t c = 0; c < CELLS; c++)
			if (counts(row, c))
				printf(" %5.2f", relative(row->mistakes[detectors_count - 1][c],
						     best_published(row, c)));
			else
				printf(" %5s", "-");
		printf(" %6.2f\n", mean_value(&mean));
	}
	printf("\n");
}

static bool goal(const char *id, bool met, const char *text)
{
	printf("goal %s: %s %s\n", id, text, met ? "met" : "missed");
	return met;
}

static void goal_f1(const struct table *table)
{
	struct mean best = {0}, changing = {0};
	const char *worst_name = "none";
	char text[256];

	for (size_t t = 0; t < table->count; t++) {
		const struct row *row = &table->rows[t];
		struct mean mean = against_best(row),
			    fixed = against_fixed(row, detectors_count - 1);
		double worst = best.worst;

		if (!mean.count)
			continue;
		mean_add(&best, mean_value(&mean));
		if (best.worst > worst)
			worst_name = row->name;
		if (row->jitter_changes)
			mean_add(&changing, mean_value(&fixed));
	}
	snprintf(text, sizeof(text),
	    "%.2f x the best published (<= 1.05), worst trace %.2f x (<= 1.25; %s), %.2f x a fixed timeout "
	    "where jitter changes (<= 0.5)",
	    mean_value(&best), best.worst, worst_name, mean_value(&changing));
	goal("F1", mean_value(&best) <= 1.05 && best.worst <= 1.25 && mean_value(&changing) <= 0.5,
	    text);
}

/* --- outages --- */

enum outage { CUT, PAUSE, HELD, OUTAGES };

static const double outage_interval_s = 0.1;

static void beat(struct estimator *e, struct rng *rng, double jitter, double *delay_s)
{
	double now_s = jitter * outage_interval_s * rng_unit(rng);

	estimator_sample(e, mono_ns(llround((outage_interval_s + now_s - *delay_s) * 1e9)), 1);
	*delay_s = now_s;
}

/* The largest prediction within the outage's own arrivals. */
static double suffer(struct estimator *e, enum outage kind, uint64_t beats)
{
	struct mono whole = mono_ns(llround((double)beats * outage_interval_s * 1e9));
	double worst;

	estimator_sample(e, whole, kind == CUT ? beats : 1);
	worst = mono_to_s(estimator_predicted(e));
	for (uint64_t i = 1; kind == HELD && i < beats; i++) {
		estimator_sample(e, mono_ns(100000), 1);
		worst = fmax(worst, mono_to_s(estimator_predicted(e)));
	}
	return worst;
}

/* Mean detection time is proportional to the prediction at any threshold.  Normal is its mean over
 * 400 heartbeats before; afterwards the mean of 200 runs, since jitter alone moves single ones. */
static void outage(
    enum outage kind, uint64_t beats, double jitter, struct mean *at_once, struct mean *after)
{
	double normal_s = 0, worst_s = 0, after_s = 0;
	struct rng rng;

	rng_init(&rng, beats);
	for (int run = 0; run < 200; run++) {
		struct estimator e;
		double delay_s = 0, usual_s = 0;

		estimator_init(
		    &e, &(struct estimator_config){0}, mono_ns(llround(outage_interval_s * 1e9)));
		for (int i = 0; i < 800; i++) {
			beat(&e, &rng, jitter, &delay_s);
			if (i >= 400)
				usual_s += mono_to_s(estimator_predicted(&e)) / 400;
		}
		normal_s += usual_s;
		worst_s += suffer(&e, kind, beats);
		for (int i = 0; i < 50; i++)
			beat(&e, &rng, jitter, &delay_s);
		after_s += mono_to_s(estimator_predicted(&e));
	}
	mean_add(at_once, worst_s / normal_s);
	mean_add(after, after_s / normal_s);
}

static void goal_f2(void)
{
	static const char *const names[] = {"cut", "pause", "held back"};
	struct mean at_once_all = {0}, after_all = {0};
	char text[128];

	printf(
	    "Detection time after an outage, relative to before (mean; worst over 2 to 36,000 intervals)\n");
	for (enum outage kind = CUT; kind < OUTAGES; kind++) {
		struct mean at_once = {0}, after = {0};

		for (double beats = 2; beats < 36000; beats *= 2.3)
			for (double jitter = 0.01; jitter < 1; jitter *= 5)
				outage(kind, (uint64_t)beats, jitter, &at_once, &after);
		printf("%-26s at once %5.2f %5.2f   after 50 heartbeats %5.2f %5.2f\n", names[kind],
		    mean_value(&at_once), at_once.worst, mean_value(&after), after.worst);
		at_once_all.worst = fmax(at_once_all.worst, at_once.worst);
		after_all.worst = fmax(after_all.worst, after.worst);
	}
	printf("\n");
	snprintf(text, sizeof(text), "%.2f x at once (<= 2.0), %.2f x after 50 heartbeats (<= 1.1)",
	    at_once_all.worst, after_all.worst);
	goal("F2", at_once_all.worst <= 2 && after_all.worst <= 1.1, text);
}

/* --- pictures --- */

static const char *const colours[] = {"#888", "#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e",
    "#e6ab02", "#a6761d", "#17becf", "#000"};

static const struct row *row_named(const struct table *table, const char *name)
{
	for (size_t t = 0; t < table->count; t++)
		if (strcmp(table->rows[t].name, name) == 0)
			return &table->rows[t];
	return NULL;
}

static int plot_mistakes(const struct table *table, const char *path)
{
	static const char *const shown[] = {
	    "wan", "bursty loss", "jitter changes", "sender pauses"};
	static double x[CELLS], y[4][DETECTORS_MAX][CELLS];
	static struct curve curves[4][DETECTORS_MAX];
	struct plot plots[4];

	for (size_t c = 0; c < CELLS; c++)
		x[c] = detection_of(c);
	for (size_t p = 0; p < 4; p++) {
		const struct row *row = row_named(table, shown[p]);

		for (size_t d = 0; d < detectors_count; d++) {
			for (size_t c = 0; c < CELLS; c++)
				y[p][d][c] = row->mistakes[d][c] / row->hours;
			curves[p][d] = (struct curve){detectors[d]->name, colours[d],
			    detectors[d]->published ? 1.2 : 3, x, y[p][d], CELLS};
		}
		plots[p] = (struct plot){.title = shown[p],
		    .x_label = "mean detection time, in intervals",
		    .y_label = "mistakes an hour (10 heartbeats/s)",
		    .x_low = 1,
		    .x_high = 4,
		    .x_tick = 0.5,
		    .y_low = 1,
		    .y_high = 1e5,
		    .curves = curves[p],
		    .curve_count = detectors_count};
	}
	return plot_write(path, plots, 4);
}

enum { STORY = 700 };

/* One sender's life: quiet, jitter, quiet, a fifth lost, quiet, an outage of 100 intervals, quiet. */
static int plot_story(const char *path)
{
	static double x[STORY], arrived[STORY], ours[STORY], literal[STORY];
	const double interval = 0.1;
	struct estimator a, b;
	struct rng rng;
	double delay = 0, before;
	size_t n = 0;

	rng_init(&rng, 3);
	estimator_init(&a, &(struct estimator_config){.kind = ESTIMATOR_DEFAULT}, mono_ms(100));
	estimator_init(&b, &(struct estimator_config){.kind = ESTIMATOR_KAMA_PAPER}, mono_ms(100));
	for (uint64_t i = 1, last = 0; i < STORY; i++) {
		bool loud = i >= 100 && i < 200, lossy = i >= 300 && i < 400,
		     out = i >= 500 && i < 520;
		struct mono delta;

		if (out || (lossy && rng_chance(&rng, 0.2)))
			continue;
		before = delay;
		delay = (loud ? 0.6 : 0.05) * rng_unit(&rng);
		delta = mono_ns(llround(((double)(i - last) + delay - before) * interval * 1e9));
		x[n] = (double)i;
		arrived[n] = mono_to_s(delta) / interval;
		estimator_sample(&a, delta, i - last);
		estimator_sample(&b, delta, i - last);
		ours[n] = mono_to_s(estimator_predicted(&a)) / interval;
		literal[n++] = mono_to_s(estimator_predicted(&b)) / interval;
		last = i;
	}
	return plot_write(path,
	    &(struct plot){
		.title =
		    "prediction of the next silence: jitter (100-200), a fifth lost (300-400), outage (500-520)",
		.x_label = "heartbeat",
		.y_label = "announced intervals",
		.x_low = 0,
		.x_high = STORY,
		.x_tick = 100,
		.y_low = 0,
		.y_high = 4,
		.y_tick = 0.5,
		.curves = (struct curve[]){{"between arrivals", "#bbb", 0.8, x, arrived, n},
		    {"kama-paper", "#d95f02", 1.5, x, literal, n},
		    {"default", "#000", 2, x, ours, n}},
		.curve_count = 3},
	    1);
}

static int plot_both(const struct table *table, const char *directory)
{
	char path[512];
	int r;

	snprintf(path, sizeof(path), "%s/detection-mistakes.svg", directory);
	r = plot_mistakes(table, path);
	if (r == 0) {
		snprintf(path, sizeof(path), "%s/detection-prediction.svg", directory);
		r = plot_story(path);
	}
	if (r < 0)
		fprintf(stderr, "bench-detectors: write %s: %s\n", path, strerror(-r));
	return r;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"quick", no_argument, NULL, 'q'}, {"plots", required_argument, NULL, 'p'}, {0}};
	static struct table table;
	const char *plots = NULL;
	unsigned seeds = SEEDS;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'q')
			seeds = 1;
		else if (c == 'p')
			plots = optarg;
		else
			return 2;
	}
	if (measure_generated(&table, seeds, BEATS) < 0 ||
	    measure_logs(&table, argv + optind, (size_t)(argc - optind)) < 0)
		return 1;
	if (plots && plot_both(&table, plots) < 0)
		return 1;
	print_table(&table);
	print_cells(&table);
	goal_f1(&table);
	goal_f2();
	return 0;
}
