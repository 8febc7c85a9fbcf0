/* The two pictures of docs/detection.md, as SVG. */
#ifndef BENCH_DETECTORS_PLOT_H
#define BENCH_DETECTORS_PLOT_H

#include <stddef.h>

struct curve {
	const char *label;
	const char *colour;
	double width;
	const double *x, *y; /* NAN: no point */
	size_t count;
};

struct plot {
	const char *title, *x_label, *y_label;
	double x_low, x_high, y_low, y_high;
	double x_tick;
	double y_tick; /* 0: logarithmic, a tick at each power of ten */
	const struct curve *curves;
	size_t curve_count;
};

/* Plots one below the other; -errno. */
int plot_write(const char *path, const struct plot *plots, size_t count);

#endif
