#include "migrated/fencer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "migrated/core.h"
#include "migrated/shell.h"

#define WORDS_MAX 32
#define TAIL 128 /* of what it says */

struct run {
	struct fencer *fencer;
	pid_t pid; /* 0: the place is free */
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch;
	int64_t timeout_s;
	bool late, spared;
	int output;
	char tail[TAIL + 1]; /* the last bytes of its standard error */
	size_t length;
	sd_event_source *child, *said, *timer;
};

struct fencer {
	struct daemon *daemon;
	struct shell *shell;
	const struct fences *fences;
	struct run runs[FENCING_MAX];
};

int fences_check(const struct fences *fences, struct config_error *error)
{
	for (size_t i = 0; i < fences->count; i++)
		if (fences->fence[i].command[0] != '/') {
			snprintf(error->text, sizeof(error->text),
			    "[fence %s]: command: an absolute path with its arguments, not \"%.60s\"",
			    fences->fence[i].name, fences->fence[i].command);
			return -EINVAL;
		}
	return 0;
}

int fencer_new(
    struct fencer **out, struct daemon *daemon, struct shell *shell, const struct fences *fences)
{
	struct fencer *fencer = calloc(1, sizeof(*fencer));
	sigset_t set;

	if (!fencer)
		return -ENOMEM;
	fencer->daemon = daemon;
	fencer->shell = shell;
	fencer->fences = fences;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD); /* sd-event waits for children by it */
	sigprocmask(SIG_BLOCK, &set, NULL);
	*out = fencer;
	return 0;
}

static void answer(
    struct fencer *fencer, const char *name, uint64_t epoch, bool ok, const char *reason)
{
	struct migrated_event event = {
	    .kind = MIGRATED_FENCED, .name = name, .epoch = epoch, .ok = ok, .reason = reason};

	shell_step(fencer->shell, &event);
}

/* --- one run --- */

/* Whatever it has started goes with it. */
static void run_end(struct run *run)
{
	if (run->pid > 0)
		kill(-run->pid, SIGKILL);
	run->said = sd_event_source_disable_unref(run->said);
	run->timer = sd_event_source_disable_unref(run->timer);
	run->child = sd_event_source_disable_unref(run->child);
	if (run->output >= 0)
		close(run->output);
	run->output = -1;
	run->pid = 0;
}

/* Keeps the last bytes.  False: there is nothing more, now or ever. */
static bool hear(struct run *run)
{
	char data[512];
	ssize_t size = read(run->output, data, sizeof(data));
	size_t count, keep;

	if (size <= 0)
		return false;
	count = (size_t)size < TAIL ? (size_t)size : TAIL;
	keep = run->length + count > TAIL ? TAIL - count : run->length;
	memmove(run->tail, run->tail + run->length - keep, keep);
	memcpy(run->tail + keep, data + size - count, count);
	run->length = keep + count;
	run->tail[run->length] = '\0';
	return true;
}

static int on_said(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct run *run = userdata;

	(void)fd;
	(void)events;
	if (!hear(run))
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

/* The last line that is not empty, in characters that any terminal can bear. */
static const char *last_line(struct run *run)
{
	char *line;

	while (
	    run->length > 0 && run->tail[run->length - 1] <= ' ' && run->tail[run->length - 1] >= 0)
		run->tail[--run->length] = '\0';
	line = memrchr(run->tail, '\n', run->length);
	line = line ? line + 1 : run->tail;
	for (char *at = line; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = '?';
	return line;
}

static void explain(struct run *run, const siginfo_t *end, char *why, size_t size)
{
	const char *line = last_line(run);

	if (run->late)
		snprintf(why, size, "no end within %" PRId64 " s", run->timeout_s);
	else if (end->si_code != CLD_EXITED)
		snprintf(why, size, "killed by signal %d", end->si_status);
	else
		snprintf(why, size, "exit status %d", end->si_status);
	if (*line)
		snprintf(why + strlen(why), size - strlen(why), ": %s", line);
}

static int on_child(sd_event_source *source, const siginfo_t *end, void *userdata)
{
	struct run *run = userdata, over = *run;
	bool ok = !run->late && end->si_code == CLD_EXITED && end->si_status == 0;
	char why[2 * TAIL];

	(void)source;
	for (int i = 0; i < 256 && hear(run); i++)
		;
	explain(run, end, why, sizeof(why));
	run_end(run);
	if (over.spared)
		return 0;
	log_notice("fence command ve=%s epoch=%" PRIu64 " %s", over.name, over.epoch,
	    ok ? "confirms" : why);
	answer(over.fencer, over.name, over.epoch, ok, why);
	return 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct run *run = userdata;

	(void)source;
	(void)usec;
	run->late = true;
	kill(-run->pid, SIGKILL);
	return 0;
}

/* --- starting one --- */

static void split(char *command, char *argv[WORDS_MAX + 1])
{
	size_t count = 0;
	char *at = NULL;

	for (char *word = strtok_r(command, " \t", &at); word && count < WORDS_MAX;
	     word = strtok_r(NULL, " \t", &at))
		argv[count++] = word;
	argv[count] = NULL;
}

/* posix_spawn and not fork: this process has ZeroMQ's threads. */
static int spawn(const char *command, char *const environment[], int output, pid_t *pid)
{
	char text[sizeof(((struct fence_settings *)0)->command)], *argv[WORDS_MAX + 1];
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	snprintf(text, sizeof(text), "%s", command);
	split(text, argv);
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(
	    &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	r = -posix_spawn(pid, argv[0], &files, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return r;
}

static int start(
    struct run *run, const struct fence_settings *fence, const struct migrated_action *action)
{
	sd_event *loop = run->fencer->daemon->loop;
	char ve[NODE_NAME_MAX + 16], node[NODE_NAME_MAX + 16], epoch[48],
	    path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *environment[] = {path, ve, node, epoch, NULL};
	int ends[2], r;

	snprintf(ve, sizeof(ve), "DEPSYS_VE=%s", action->name);
	snprintf(node, sizeof(node), "DEPSYS_NODE=%s", action->fact.node);
	snprintf(epoch, sizeof(epoch), "DEPSYS_EPOCH=%" PRIu64, action->epoch);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	run->output = ends[0];
	r = fcntl(ends[0], F_SETFL, O_NONBLOCK) < 0
		? -errno
		: spawn(fence->command, environment, ends[1], &run->pid);
	close(ends[1]);
	if (r < 0) {
		run->pid = 0;
		return r;
	}
	r = sd_event_add_child(loop, &run->child, run->pid, WEXITED, on_child, run);
	if (r >= 0)
		r = sd_event_add_io(loop, &run->said, run->output, EPOLLIN, on_said, run);
	if (r >= 0)
		r = sd_event_add_time_relative(loop, &run->timer, MONO_CLOCK,
		    (uint64_t)fence->timeout_s * 1000000, 100000, on_late, run);
	return r < 0 ? r : 0;
}

static const struct fence_settings *find_fence(const struct fences *fences, const char *name)
{
	for (size_t i = 0; i < fences->count; i++)
		if (strcmp(fences->fence[i].name, name) == 0)
			return &fences->fence[i];
	return NULL;
}

static struct run *free_run(struct fencer *fencer)
{
	for (size_t i = 0; i < FENCING_MAX; i++)
		if (fencer->runs[i].pid == 0)
			return &fencer->runs[i];
	return NULL;
}

void fencer_run(struct fencer *fencer, const struct migrated_action *action)
{
	const struct fence_settings *fence = find_fence(fencer->fences, action->fact.fence);
	struct run *run = NULL;
	char why[2 * TAIL];
	int r = -EBUSY;

	fencer_spare(fencer, action->name);
	if (!fence) {
		snprintf(why, sizeof(why), "%s, which coordinates, has no section [fence %s]",
		    fencer->daemon->node.name, action->fact.fence);
		answer(fencer, action->name, action->epoch, false, why);
		return;
	}
	run = free_run(fencer);
	if (run) {
		*run = (struct run){.fencer = fencer,
		    .epoch = action->epoch,
		    .timeout_s = fence->timeout_s,
		    .output = -1};
		memcpy(run->name, action->name, sizeof(run->name));
		r = start(run, fence, action);
	}
	log_notice("fence command %s ve=%s epoch=%" PRIu64 " node=%s", fence->command, action->name,
	    action->epoch, action->fact.node);
	if (r == 0)
		return;
	if (run)
		run_end(run);
	snprintf(why, sizeof(why), "it cannot be run: %s", strerror(-r));
	answer(fencer, action->name, action->epoch, false, why);
}

void fencer_spare(struct fencer *fencer, const char *name)
{
	for (size_t i = 0; i < FENCING_MAX; i++)
		if (fencer->runs[i].pid && !fencer->runs[i].spared &&
		    (!name || strcmp(fencer->runs[i].name, name) == 0)) {
			log_notice("fence command is ended ve=%s", fencer->runs[i].name);
			fencer->runs[i].spared = true; /* its place is free when it is reaped */
			kill(-fencer->runs[i].pid, SIGKILL);
		}
}

struct fencer *fencer_free(struct fencer *fencer)
{
	for (size_t i = 0; fencer && i < FENCING_MAX; i++)
		if (fencer->runs[i].pid)
			run_end(&fencer->runs[i]);
	free(fencer);
	return NULL;
}
