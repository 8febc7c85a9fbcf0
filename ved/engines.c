#include "ved/engines.h"

#include <errno.h>
#include <string.h>

#include "ved/files.h"
#include "ved/runner.h"

static int find_in_path(const char *name, char *out, size_t size)
{
	const char *path = getenv("PATH");

	for (const char *at = path ? path : "/usr/sbin:/usr/bin"; *at; at += strspn(at, ":")) {
		size_t length = strcspn(at, ":");

		if (path_format(out, size, "%.*s/%s", (int)length, at, name) == 0 &&
		    access(out, X_OK) == 0)
			return 0;
		at += length;
	}
	return -ENOENT;
}

/* A configured program has to be there; else the one that was built for us is taken, else the machine's. */
static int find_program(
    const char *configured, const char *built, const char *name, char *out, size_t size)
{
	int rc = path_format(out, size, "%s", configured[0] ? configured : built);

	if (rc == 0 && access(out, X_OK) < 0)
		rc = -errno;
	return rc < 0 && !configured[0] ? find_in_path(name, out, size) : rc;
}

int engines_find(
    const struct ved_settings *settings, struct engine_config *engine, const char **missing)
{
	int rc;

	*missing = "criu";
	rc = find_program(settings->criu, VED_CRIU, "criu", engine->criu, sizeof(engine->criu));
	if (rc < 0)
		return rc;
	engine->engine = (enum engine_kind)settings->engine;
	for (size_t i = 0; i < ENGINE_KINDS; i++) {
		char *program = engine->runner[i];

		rc = find_program(i == ENGINE_CRUN ? settings->crun : settings->lxc,
		    i == ENGINE_CRUN ? VED_CRUN : "", runners[i]->program, program, VE_PATH);
		if (rc < 0 && engine->engine == i) {
			*missing = runners[i]->name;
			return rc;
		}
		if (rc < 0)
			program[0] = 0;
	}
	return 0;
}

static void describe(
    const struct engine_config *config, enum engine_kind kind, struct msg_ved_engine_state *out)
{
	const struct runner *runner = runners[kind];
	const char *program = config->runner[kind];
	int criu = config->criu_version;

	*out = (struct msg_ved_engine_state){
	    .engine = (enum msg_ved_engine)kind, .used = config->engine == kind};
	path_set(out->program, "%s", program);
	path_set(out->criu, "%d.%d.%d", criu / 10000, criu / 100 % 100, criu % 100);
	path_set(out->confines, "%s", runner->confines);
	path_set(out->limits, "memory, cpu, pids");
	if (program[0] && access(program, X_OK) == 0)
		runner_version(program, out->version, sizeof(out->version));
	else
		path_set(out->missing, "no program %s (%s, or in PATH)", runner->program,
		    runner->setting);
}

void engines_describe(const struct engine_config *config, struct msg_ved_engines_told *out)
{
	*out = (struct msg_ved_engines_told){.engines.count = ENGINE_KINDS};
	for (size_t i = 0; i < ENGINE_KINDS; i++)
		describe(config, (enum engine_kind)i, &out->engines.item[i]);
}
