/*
 * LXC (Debian's lxc, 5.0) as the engine: lxc-start makes the container from a configuration that lxc-config.c translates
 * from the bundle's.
 *
 * LXC wants control groups of its own, at the top of each hierarchy; in a mount namespace where it sees none it makes none, and
 * all that it starts is born in the VE's.  It leaves a monitor as the parent of the VE's first process.  That one is ended as
 * soon as the VE runs: it would be frozen, dumped and killed with the VE, as it is in its groups, and a VE that criu has
 * restored has none.
 *
 * Rejected: lxc-checkpoint.  It works here, but it writes down and makes anew the network namespace and the control groups
 * as well, so that neither gate nor fence would be there before the first task of a restored VE; crun checkpoint is not
 * used for the same reason (criu.h).  Rejected: liblxc in ved-worker, for a monitor that we then end.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "ved/files.h"
#include "ved/lxc-config.h"
#include "ved/runner.h"

#define LOCKS "/run/lxc" /* what lxc-start locks, by the path of its containers: left behind else */

enum { END_MS = 5000 };

static int prepare(const struct runner_order *order, struct engine_error *error)
{
	char containers[VE_PATH * 3];
	int rc = path_set(containers, "%s/lxc", order->dir);

	if (rc == 0)
		rc = dir_make(containers, 0700);
	if (rc == 0)
		rc = dir_make(LOCKS, 0755);
	return rc < 0 ? engine_fail(error, rc, "make %s and " LOCKS, containers)
		      : lxc_config_write(order, error);
}

static int hide(void)
{
	if (umount2("/sys/fs/cgroup", MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return -errno;
	return mount("lxc", LOCKS, "tmpfs", 0, NULL) < 0 ? -errno : 0;
}

static void become(const struct runner_order *order)
{
	char containers[VE_PATH * 3], pid_file[VE_PATH * 3], log[VE_PATH * 3], config[VE_PATH * 3];
	struct lxc_command command;

	path_set(containers, "%s/lxc", order->dir);
	path_set(pid_file, "%s/pid", order->dir);
	path_set(log, "%s/lxc.log", order->dir);
	path_set(config, "%s/lxc.conf", order->dir);
	const char *const before[] = {order->program, "--lxcpath", containers, "--name",
	    order->name, "--rcfile", config, "--pidfile", pid_file, "--logfile", log,
	    "--logpriority", "ERROR", "--daemon", "--"};

	if (lxc_command_make(&command, order->dir, before, sizeof(before) / sizeof(before[0])) == 0)
		execv(order->program, command.argv);
}

/* "lxc-start NAME TIME ERROR  conf - FILE:FUNCTION:LINE - WORDS" */
static const char *reason(const char *log, size_t *length)
{
	const char *words = log, *end = log + strcspn(log, "\n");

	for (const char *at = log; (at = strstr(at, " - ")) && at < end; at += 3)
		words = at + 3;
	*length = (size_t)(end - words);
	return words;
}

/* The only child of the monitor. */
static int first_child(pid_t monitor, pid_t *pid, struct engine_error *error)
{
	_cleanup_buf_ struct buf text = {0};
	char path[64];

	path_set(path, "/proc/%d/task/%d/children", (int)monitor, (int)monitor);
	*pid = file_read(path, 4096, &text) < 0 || !text.data
		   ? 0
		   : (pid_t)strtol((const char *)text.data, NULL, 10);
	return *pid > 0 ? 0 : engine_refuse(error, -EIO, "lxc: the VE ended as soon as it ran");
}

static int end_monitor(pid_t monitor, struct engine_error *error)
{
	_cleanup_fd_ int fd = (int)syscall(SYS_pidfd_open, monitor, 0);
	struct pollfd ended = {.fd = fd, .events = POLLIN};

	if (fd < 0)
		return errno == ESRCH ? 0 : engine_fail(error, -errno, "find the monitor of LXC");
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return engine_fail(error, -errno, "end the monitor of LXC");
	return poll(&ended, 1, END_MS) == 1
		   ? 0
		   : engine_refuse(error, -ETIMEDOUT, "the monitor of LXC does not end");
}

static int find(const struct runner_order *order, pid_t *pid, struct engine_error *error)
{
	pid_t monitor;
	int rc = runner_read_pid(order, &monitor, error);

	if (rc == 0)
		rc = first_child(monitor, pid, error);
	return rc < 0 ? rc : end_monitor(monitor, error);
}

const struct runner runner_lxc = {
    .name = "lxc",
    .program = "lxc-start",
    .setting = "[ved] lxc",
    .confines = "capabilities; a bundle with seccomp, masked paths or labels is refused",
    .prepare = prepare,
    .hide = hide,
    .become = become,
    .reason = reason,
    .find = find,
};
