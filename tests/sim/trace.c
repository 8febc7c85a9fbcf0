/*
 * The trace of a simulation, and the main of a scenario program.
 */
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <getopt.h>

#include "tests/sim/sim-internal.h"

enum {
	DEFAULT_SEED = 1,
	TAIL_LINES = 200, /* shown after a failure */
};

static void print_line(const struct sim_line *line)
{
	printf("# %11.6f %-14s %s\n", mono_to_s(line->at), line->who, line->text);
}

void sim_keep(struct sim *sim, size_t lines)
{
	sim->lines_kept = lines;
}

/* Drops the older half when there are twice as many lines as are to be kept. */
static void forget_lines(struct sim *sim)
{
	size_t gone = sim->line_count - sim->lines_kept;

	if (sim->lines_kept == 0 || sim->line_count < 2 * sim->lines_kept)
		return;
	for (size_t i = 0; i < gone; i++)
		free((char *)sim->lines[i].text);
	memmove(sim->lines, sim->lines + gone, sim->lines_kept * sizeof(*sim->lines));
	sim->line_count = sim->lines_kept;
}

static void add_line(
    struct sim *sim, unsigned process, const char *who, const char *format, va_list arguments)
{
	struct sim_line *line;
	char *text;

	forget_lines(sim);
	if (sim->line_count == sim->line_capacity) {
		sim->line_capacity = sim->line_capacity ? 2 * sim->line_capacity : 256;
		sim->lines = realloc(sim->lines, sim->line_capacity * sizeof(*sim->lines));
		if (!sim->lines)
			abort();
	}
	if (vasprintf(&text, format, arguments) < 0)
		abort();
	line = &sim->lines[sim->line_count++];
	*line = (struct sim_line){mono_ns(sim->now), process, who, text};
	if (sim->echo)
		print_line(line);
}

void sim_trace(struct sim *sim, unsigned process, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add_line(sim, process, sim_name(sim, process), format, arguments);
	va_end(arguments);
}

void sim_note(struct sim *sim, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	add_line(sim, UINT_MAX, "----", format, arguments);
	va_end(arguments);
}

void sim_trace_fini(struct sim *sim)
{
	for (size_t i = 0; i < sim->line_count; i++)
		free((char *)sim->lines[i].text);
	free(sim->lines);
}

const char *sim_complain(struct sim *sim, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(sim->complaint, sizeof(sim->complaint), format, arguments);
	va_end(arguments);
	return sim->complaint;
}

void sim_echo(struct sim *sim, bool echo)
{
	sim->echo = echo;
}

size_t sim_lines(const struct sim *sim)
{
	return sim->line_count;
}

const struct sim_line *sim_line(const struct sim *sim, size_t index)
{
	return index < sim->line_count ? &sim->lines[index] : NULL;
}

static bool matches(const char *pattern, const char *text)
{
	return !pattern || fnmatch(pattern, text, 0) == 0;
}

const struct sim_line *sim_find(
    const struct sim *sim, size_t index, const char *who, const char *text)
{
	for (; index < sim->line_count; index++) {
		const struct sim_line *line = &sim->lines[index];

		if (matches(who, line->who) && matches(text, line->text))
			return line;
	}
	return NULL;
}

const struct sim_line *sim_find_after(
    const struct sim *sim, struct mono at, const char *who, const char *text)
{
	size_t index = 0;

	while (index < sim->line_count && mono_before(sim->lines[index].at, at))
		index++;
	return sim_find(sim, index, who, text);
}

size_t sim_count(const struct sim *sim, const char *who, const char *text)
{
	size_t count = 0;

	for (size_t i = 0; i < sim->line_count; i++)
		count += matches(who, sim->lines[i].who) && matches(text, sim->lines[i].text);
	return count;
}

void sim_print(const struct sim *sim, size_t tail)
{
	for (size_t i = sim->line_count > tail ? sim->line_count - tail : 0; i < sim->line_count;
	     i++)
		print_line(&sim->lines[i]);
}

/* ---- main of a scenario program */

struct options {
	uint64_t seed, seeds;
	const char *only;
	bool trace;
};

static const struct option long_options[] = {
    {"seed", required_argument, NULL, 's'},
    {"seeds", required_argument, NULL, 'n'},
    {"only", required_argument, NULL, 'o'},
    {"trace", no_argument, NULL, 't'},
    {0},
};

static int read_options(int argc, char **argv, struct options *options)
{
	int option;

	*options = (struct options){.seed = DEFAULT_SEED, .seeds = 1};
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (option) {
		case 's':
			options->seed = strtoull(optarg, NULL, 0);
			break;
		case 'n':
			options->seeds = strtoull(optarg, NULL, 0);
			break;
		case 'o':
			options->only = optarg;
			break;
		case 't':
			options->trace = true;
			break;
		default:
			fprintf(stderr,
			    "usage: %s [--seed N] [--seeds N] [--only PATTERN] [--trace]\n",
			    argv[0]);
			return -1;
		}
	}
	return 0;
}

static bool run_one(
    const struct sim_scenario *scenario, const char *program, uint64_t seed, bool trace, bool quiet)
{
	struct sim *sim = NULL;
	const char *complaint = scenario->run(seed, &sim);
	bool pass = (complaint != NULL) == scenario->must_fail;

	if (trace || !pass)
		sim_print(sim, trace ? SIZE_MAX : TAIL_LINES);
	if (!pass)
		printf("# %s: %s\n# replay: %s --seed %llu --only %s --trace\n", scenario->claim,
		    complaint ? complaint : "nothing failed, and it must", program,
		    (unsigned long long)seed, scenario->claim);
	else if (!quiet)
		printf("# seed %llu, %.0f s simulated, %llu events, trace hash %016llx\n",
		    (unsigned long long)seed, mono_to_s(sim_time(sim)),
		    (unsigned long long)sim_events(sim), (unsigned long long)sim_hash(sim));
	sim_free(sim);
	return pass;
}

int sim_main(int argc, char **argv, const struct sim_scenario *scenarios)
{
	struct options options;
	int number = 0, failed = 0;

	if (read_options(argc, argv, &options) < 0)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (const struct sim_scenario *s = scenarios; s->claim; s++) {
		bool pass = true;

		if (options.only && fnmatch(options.only, s->claim, FNM_EXTMATCH) != 0)
			continue;
		for (uint64_t seed = options.seed; pass && seed < options.seed + options.seeds;
		     seed++)
			pass = run_one(s, argv[0], seed, options.trace, options.seeds > 100);
		if (pass && options.seeds > 100)
			printf("# %llu seeds from %llu\n", (unsigned long long)options.seeds,
			    (unsigned long long)options.seed);
		printf("%sok %d - %s\n", pass ? "" : "not ", ++number, s->claim);
		failed += !pass;
	}
	printf("1..%d\n", number);
	return failed ? 1 : 0;
}
