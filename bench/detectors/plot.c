#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include "bench/detectors/plot.h"

enum { WIDTH = 820, PANEL = 300, LEFT = 70, RIGHT = 170, TOP = 30, BOTTOM = 45 };

static double place_x(const struct plot *p, double x)
{
	return LEFT + (x - p->x_low) / (p->x_high - p->x_low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct plot *p, double y)
{
	double share;

	if (p->y_tick > 0)
		share = (y - p->y_low) / (p->y_high - p->y_low);
	else
		share = log10(y / p->y_low) / log10(p->y_high / p->y_low);
	return PANEL - BOTTOM - share * (PANEL - BOTTOM - TOP);
}

static void write_text(FILE *file, double x, double y, const char *anchor, const char *text)
{
	fprintf(
	    file, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

static void write_line(FILE *file, double x1, double y1, double x2, double y2)
{
	fprintf(file, "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"#ddd\"/>\n", x1, y1, x2, y2);
}

static void write_axes(FILE *file, const struct plot *p)
{
	char text[32];

	for (double x = p->x_low; x <= p->x_high * 1.0001; x += p->x_tick) {
		write_line(file, place_x(p, x), TOP, place_x(p, x), PANEL - BOTTOM);
		snprintf(text, sizeof(text), "%g", x);
		write_text(file, place_x(p, x), PANEL - BOTTOM + 16, "middle", text);
	}
	for (double y = p->y_low; y <= p->y_high * 1.0001;
	     y = p->y_tick > 0 ? y + p->y_tick : 10 * y) {
		write_line(file, LEFT, place_y(p, y), WIDTH - RIGHT, place_y(p, y));
		snprintf(text, sizeof(text), "%g", y);
		write_text(file, LEFT - 6, place_y(p, y) + 4, "end", text);
	}
	write_text(file, LEFT, TOP - 12, "start", p->title);
	write_text(file, (LEFT + WIDTH - RIGHT) / 2.0, PANEL - 10, "middle", p->x_label);
	fprintf(file,
	    "<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
	    (TOP + PANEL - BOTTOM) / 2, p->y_label);
}

static void write_curve(FILE *file, const struct plot *p, const struct curve *curve)
{
	bool down = false;

	fprintf(file, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"%g\" d=\"", curve->colour,
	    curve->width);
	for (size_t i = 0; i < curve->count; i++) {
		if (isnan(curve->y[i]) || curve->y[i] < p->y_low) {
			down = false;
			continue;
		}
		fprintf(file, "%c%.1f %.1f", down ? 'L' : 'M', place_x(p, curve->x[i]),
		    place_y(p, fmin(curve->y[i], p->y_high)));
		down = true;
	}
	fprintf(file, "\"/>\n");
}

static void write_legend(FILE *file, const struct plot *p)
{
	for (size_t i = 0; i < p->curve_count; i++) {
		double y = TOP + 10 + 18 * (double)i;

		fprintf(file, "<path d=\"M%d %.1fh24\" stroke=\"%s\" stroke-width=\"%g\"/>\n",
		    WIDTH - RIGHT + 12, y, p->curves[i].colour, p->curves[i].width);
		write_text(file, WIDTH - RIGHT + 42, y + 4, "start", p->curves[i].label);
	}
}

int plot_write(const char *path, const struct plot *plots, size_t count)
{
	FILE *file = fopen(path, "we");
	int r = 0;

	if (!file)
		return -errno;
	fprintf(file,
	    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %zu\" font-family=\"sans-serif\" "
	    "font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
	    WIDTH, PANEL * count);
	for (size_t i = 0; i < count; i++) {
		fprintf(file, "<g transform=\"translate(0 %zu)\">\n", PANEL * i);
		write_axes(file, &plots[i]);
		for (size_t k = 0; k < plots[i].curve_count; k++)
			write_curve(file, &plots[i], &plots[i].curves[k]);
		write_legend(file, &plots[i]);
		fprintf(file, "</g>\n");
	}
	fprintf(file, "</svg>\n");
	if (ferror(file))
		r = -EIO;
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	return r;
}
