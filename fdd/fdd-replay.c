/*
 * fdd-replay: the verdicts that fdd would reach over an exported arrival log.  See fdd-replay.8.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdd/replay.h"
#include "fdd/settings.h"

static const char help[] =
    "usage: fdd-replay [--config FILE] LOG\n"
    "The verdicts that fdd reaches over an arrival log (depctl fd log NODE); LOG - is standard input.\n"
    "  --config FILE  read [fdd] from it: thresholds, hysteresis, estimator (default: fdd's own)\n"
    "\nexample: depctl fd log n2 | fdd-replay -\n";

struct tally {
	unsigned long suspects, trusts;
};

static void print_verdict(
    void *userdata, struct mono at, const struct fdd_level *level, bool raised)
{
	struct tally *tally = userdata;

	if (raised) {
		tally->suspects++;
		printf("%" PRId64 " suspect level=%.3f elapsed_ms=%.3f predicted_ms=%.3f%s\n",
		    at.ns, level->level, (double)level->elapsed.ns / 1e6,
		    (double)level->predicted.ns / 1e6, level->heard ? "" : " never heard");
	} else {
		tally->trusts++;
		printf("%" PRId64 " trust incarnation=%" PRIu64 " predicted_ms=%.3f\n", at.ns,
		    level->incarnation, (double)level->predicted.ns / 1e6);
	}
}

static int read_log(struct replay_log *log, const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	unsigned long number = 0;
	const char *fault = NULL;
	char *line = NULL;
	size_t size = 0;

	if (!file) {
		fprintf(stderr, "fdd-replay: open %s: %s\n", path, strerror(errno));
		return 1;
	}
	while (!fault && getline(&line, &size, file) >= 0) {
		number++;
		fault = replay_take(log, line);
	}
	free(line);
	if (!fault && ferror(file))
		fault = "read error";
	if (!fault)
		fault = replay_finish(log);
	if (file != stdin)
		fclose(file);
	if (fault)
		fprintf(stderr, "fdd-replay: %s:%lu: %s\n", path, number, fault);
	return fault ? 1 : 0;
}

static int replay(const char *config_path, const char *log_path)
{
	struct tally tally = {0};
	struct replay_log log = {0};
	struct fdd_settings settings;
	struct fdd_counters counters;
	struct config_error error;
	struct fdd_config config;
	int r = config_load(config_path, NULL, fdd_config_keys, &settings, &error);

	if (r == 0)
		r = fdd_settings_check(NULL, &settings, &error);
	if (r < 0) {
		fprintf(stderr, "fdd-replay: %s\n", error.text);
		return 1;
	}
	config = fdd_settings_core(NULL, &settings);
	r = read_log(&log, log_path);
	if (r == 0 && replay_run(&log, &config, print_verdict, &tally, &counters) < 0) {
		fprintf(stderr, "fdd-replay: replay %s: out of memory\n", log_path);
		r = 1;
	}
	replay_fini(&log);
	if (r == 0)
		fprintf(stderr,
		    "arrivals %" PRIu64 ", own stalls %" PRIu64 ", suspicions %lu, ended %lu\n",
		    counters.received, counters.stalls, tally.suspects, tally.trusts);
	return r;
}

int main(int argc, char **argv)
{
	const char *config = "/dev/null"; /* all defaults */
	int i = 1;

	if (argc == 2 && strcmp(argv[1], "--help") == 0) {
		fputs(help, stdout);
		return 0;
	}
	if (argc == 4 && strcmp(argv[1], "--config") == 0) {
		config = argv[2];
		i = 3;
	}
	if (argc != i + 1 || (argv[i][0] == '-' && argv[i][1])) {
		fputs(help, stderr);
		return 2;
	}
	return replay(config, argv[i]);
}
