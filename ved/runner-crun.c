#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "ved/files.h"
#include "ved/runner.h"

/*
 * crun refuses a hybrid machine whose unified hierarchy has a controller left, though it is told to keep its hands off
 * control groups; so that hierarchy is not to be seen.
 */
static int hide(void)
{
	if (umount2("/sys/fs/cgroup/unified", MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return -errno;
	return 0;
}

static void become(const struct runner_order *order)
{
	char state[VE_PATH * 3], pid_file[VE_PATH * 3], log[VE_PATH * 3];

	path_set(state, "%s/crun", order->dir);
	path_set(pid_file, "%s/pid", order->dir);
	path_set(log, "%s/crun.log", order->dir);
	execl(order->program, order->program, "--root", state, "--cgroup-manager=disabled", "--log",
	    log, "run", "--detach", "--pid-file", pid_file, "--bundle", order->dir, order->name,
	    (char *)NULL);
}

static const char *reason(const char *log, size_t *length)
{
	*length = strcspn(log, "\n");
	return log;
}

const struct runner runner_crun = {
    .name = "crun",
    .program = "crun",
    .setting = "[ved] crun",
    .confines = "all that a bundle says: capabilities, seccomp, masked paths, labels",
    .hide = hide,
    .become = become,
    .reason = reason,
    .find = runner_read_pid,
};
