#include "ved/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "ved/files.h"

enum { LOG_BYTES = 64 * 1024, NOT_JOINED = 126, NOT_RUN = 127 };

const struct runner *const runners[ENGINE_KINDS] = {
    [ENGINE_CRUN] = &runner_crun,
    [ENGINE_LXC] = &runner_lxc,
};

const char *engine_kind_name(enum engine_kind kind)
{
	return runners[kind]->name;
}

int engine_kind_parse(const char *name, enum engine_kind *out)
{
	for (size_t i = 0; i < ENGINE_KINDS; i++)
		if (strcmp(name, runners[i]->name) == 0) {
			*out = (enum engine_kind)i;
			return 0;
		}
	return -EINVAL;
}

/* The namespace is private: what is mounted for the VE is seen by nobody else, nor the other way round. */
static int enter_own_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	return 0;
}

/* In the child, between fork and exec: into the VE's groups; the program opens /dev/null anew inside the VE. */
static void become(const struct runner *runner, const struct runner_order *order)
{
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (nothing < 0 || dup2(nothing, 0) < 0 || dup2(nothing, 1) < 0 || dup2(nothing, 2) < 0 ||
	    cgroup_join(order->cgroup) < 0 || enter_own_mounts() < 0 || runner->hide() < 0)
		_exit(NOT_JOINED);
	runner->become(order);
	_exit(NOT_RUN);
}

static int explain(const struct runner *runner, const struct runner_order *order, int status,
    struct engine_error *error)
{
	_cleanup_buf_ struct buf log = {0};
	char path[VE_PATH * 3];
	const char *words;
	size_t length;

	path_set(path, "%s/%s.log", order->dir, runner->name);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_RUN)
		return engine_refuse(error, -ENOENT, "start %s: no such program (%s)",
		    order->program, runner->setting);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_JOINED)
		return engine_refuse(error, -EIO, "start %s: control group %s cannot be joined",
		    order->program, order->cgroup->unified);
	if (file_read(path, LOG_BYTES, &log) < 0 || !log.data || !log.size)
		return engine_refuse(
		    error, -EIO, "%s failed with status %d and said nothing", runner->name, status);
	words = runner->reason((const char *)log.data, &length);
	return engine_refuse(error, -EIO, "%s: %.*s", runner->name, (int)length, words);
}

int runner_run(const struct runner *runner, const struct runner_order *order, pid_t *pid,
    struct engine_error *error)
{
	int status, rc = runner->prepare ? runner->prepare(order, error) : 0;
	pid_t child = rc < 0 ? -1 : fork();

	if (rc < 0)
		return rc;
	if (child < 0)
		return engine_fail(error, -errno, "start %s", order->program);
	if (child == 0)
		become(runner, order);
	if (waitpid(child, &status, 0) < 0)
		return engine_fail(error, -errno, "wait for %s", runner->name);
	if (status != 0)
		return explain(runner, order, status, error);
	return runner->find(order, pid, error);
}

int runner_read_pid(const struct runner_order *order, pid_t *pid, struct engine_error *error)
{
	_cleanup_buf_ struct buf text = {0};
	char path[VE_PATH * 3];

	path_set(path, "%s/pid", order->dir);
	*pid =
	    file_read(path, 32, &text) < 0 ? 0 : (pid_t)strtol((const char *)text.data, NULL, 10);
	return *pid > 0 ? 0
			: engine_refuse(error, -EIO, "%s left no pid in %s", order->program, path);
}

static int spawn_version(const char *program, int output, pid_t *pid)
{
	char *argv[] = {(char *)program, "--version", NULL};
	posix_spawn_file_actions_t files;
	int rc;

	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
	rc = -posix_spawn(pid, program, &files, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

void runner_version(const char *program, char *out, size_t size)
{
	char text[256] = "";
	int ends[2], status;
	const char *word;
	ssize_t got = 0;
	pid_t pid;

	path_format(out, size, "?");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	if (spawn_version(program, ends[1], &pid) == 0) {
		fd_close(&ends[1]);
		got = read(ends[0], text, sizeof(text) - 1);
		waitpid(pid, &status, 0);
	}
	fd_close(&ends[0]);
	fd_close(&ends[1]);
	text[got > 0 ? strcspn(text, "\n") : 0] = 0;
	word = strrchr(text, ' ');
	if (text[0])
		path_format(out, size, "%s", word ? word + 1 : text);
}
