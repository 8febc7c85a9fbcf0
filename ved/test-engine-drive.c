/* Drives the engine from a script: a subcommand for each of its calls, figures on stdout. Used by tests/system. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ved/engine.h"
#include "ved/files.h"

static struct engine_config config;

static int say_times(int rc, const struct engine_times *times)
{
	printf("freeze_us=%ld criu_us=%ld files_us=%ld total_us=%ld bytes=%lu\n",
	    (long)times->freeze_us, (long)times->criu_us, (long)times->files_us,
	    (long)times->total_us, (unsigned long)times->image_bytes);
	return rc;
}

static int say_record(const struct ve_record *record, void *data)
{
	(void)data;
	printf("%s epoch=%lu pid=%d state=%d alive=%d\n", record->spec.name,
	    (unsigned long)record->spec.epoch, (int)record->pid, record->state, record->alive);
	return 0;
}

static int drive(int argc, char **argv, struct engine_error *error)
{
	const struct engine *engine = &engine_crun;
	const char *what = argv[1], *name = argc > 2 ? argv[2] : "";
	struct ve_spec spec = {.epoch = 1};
	struct engine_times times;
	int rc = path_set(spec.name, "%s", name);

	if (rc == 0 && argc > 4)
		rc = path_set(spec.address, "%s", argv[3]);
	if (rc == 0 && argc > 5)
		rc = path_set(spec.bundle, "%s", argv[4]);
	if (rc < 0)
		return rc;
	if (strcmp(what, "start") == 0 && argc == 6)
		return engine->start(&config, &spec, argv[5], error);
	if (strcmp(what, "restore") == 0 && argc == 7)
		return say_times(
		    engine->restore(&config, &spec, argv[5], argv[6], &times, error), &times);
	if (strcmp(what, "dump") == 0 && argc >= 4)
		return say_times(engine->dump(&config, name, argv[3],
				     &(struct dump_options){.kill = argc > 4}, &times, error),
		    &times);
	if (strcmp(what, "freeze") == 0 && argc == 3)
		return engine->freeze(&config, name, 10000, error);
	if (strcmp(what, "thaw") == 0 && argc == 3)
		return engine->thaw(&config, name, error);
	if (strcmp(what, "stop") == 0 && argc == 4)
		return engine->stop(&config, name, strtol(argv[3], NULL, 10), error);
	if (strcmp(what, "list") == 0)
		return engine->scan(&config, say_record, NULL);
	if (strcmp(what, "check") == 0)
		return engine->check(&config, error);
	return engine_refuse(error, -EINVAL,
	    "usage: start NAME ADDRESS BUNDLE-ID DIR | restore NAME ADDRESS BUNDLE-ID DIR "
	    "IMAGE | dump NAME IMAGE [kill] | freeze|thaw NAME | stop NAME GRACE | list | check");
}

static const char *variable(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value ? value : otherwise;
}

int main(int argc, char **argv)
{
	struct engine_error error = {0};
	int rc;

	config.group = (gid_t)-1;
	path_set(config.run, "%s", variable("VED_RUN", "/run/depsys"));
	path_set(config.state, "%s", variable("VED_STATE", "/var/lib/depsys/ved"));
	path_set(config.cgroup, "%s", variable("VED_CGROUP", "depsys"));
	path_set(config.bridge, "%s", variable("VED_BRIDGE", "br0"));
	path_set(config.criu, "%s", variable("VED_CRIU", "criu"));
	path_set(config.crun, "%s", variable("VED_CRUN", "crun"));
	rc = argc < 2 ? -EINVAL : drive(argc, argv, &error);
	if (rc < 0)
		fprintf(stderr, "%s (%s)\n", error.text, strerror(-rc));
	return rc < 0;
}
