/*
 * What the engines differ in: the program that makes the container of a VE that starts, in the network namespace, root
 * file system and control groups that ved has made for it.  It says its VE's first process and is then out of the way: no
 * process of the engine stays with the VE, so that a VE that was started and one that was restored are the same.
 */
#ifndef VED_RUNNER_H
#define VED_RUNNER_H

#include "ved/cgroup.h"
#include "ved/engine.h"

struct runner_order {
	const char *program;
	const struct cgroup *cgroup;
	const char *dir;   /* RUN/ve/NAME, with the config.json that bundle_prepare() wrote */
	const char *root;  /* the overlay */
	const char *netns; /* the VE's network namespace */
	const char *name;
};

struct runner {
	const char *name;     /* as [ved] engine says it */
	const char *program;  /* what it is called in PATH */
	const char *setting;  /* that names another one */
	const char *confines; /* for a person: what of a bundle's confinement it keeps */
	/* Before the fork: writes what the program needs, or refuses what it cannot do.  NULL: nothing to do. */
	int (*prepare)(const struct runner_order *order, struct engine_error *error);
	/* In the child, in a mount namespace of its own: hides what would disturb the program; -errno. */
	int (*hide)(void);
	/* Then becomes the program; returns when that fails. */
	void (*become)(const struct runner_order *order);
	/* Its log, DIR/NAME.log: the beginning and length of the words that say why it failed. */
	const char *(*reason)(const char *log, size_t *length);
	/* The program has ended well: the VE's first process. */
	int (*find)(const struct runner_order *order, pid_t *pid, struct engine_error *error);
};

extern const struct runner runner_crun, runner_lxc;
extern const struct runner *const runners[ENGINE_KINDS];

int runner_run(const struct runner *runner, const struct runner_order *order, pid_t *pid,
    struct engine_error *error);
/* The last word of the first line of PROGRAM --version; "?" when it does not say. */
void runner_version(const char *program, char *out, size_t size);
/* The number in DIR/pid; -EIO. */
int runner_read_pid(const struct runner_order *order, pid_t *pid, struct engine_error *error);

#endif
