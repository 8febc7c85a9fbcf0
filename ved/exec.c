/*
 * The namespaces of the VE's first process are entered and its privileges taken over before anything of the VE's
 * own is executed: its user and groups, its capabilities as the bounding set too, no new privileges.  crun exec would
 * do the same, but crun knows nothing of a VE that criu has restored.
 *
 * The command stays out of the VE's control groups: a checkpoint freezes and dumps what is in there, and must not
 * find a process whose parent is outside.  It is bounded by its own time, and ends with the VE's pid namespace.
 */
#include "ved/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/mono.h"
#include "ved/files.h"
#include "ved/record.h"

/* The mount namespace last: the others are found below this one's /proc. */
static const char *const namespaces[] = {"cgroup", "ipc", "uts", "net", "pid", "mnt"};
enum { NAMESPACES = sizeof(namespaces) / sizeof(namespaces[0]), NOT_RUN = 127 };

/* What the command is to be: no more than the VE's first process. */
struct privilege {
	uid_t uid;
	gid_t gid;
	uint64_t permitted, bounding;
};

struct entry {
	int fd[NAMESPACES];
	struct privilege privilege;
};

static int read_field(const char *text, const char *name, const char *format, void *out)
{
	const char *at = strstr(text, name);

	return at && sscanf(at + strlen(name), format, out) == 1 ? 0 : -EBADMSG;
}

static int read_privilege(pid_t pid, struct privilege *out)
{
	_cleanup_buf_ struct buf text = {0};
	unsigned long long permitted, bounding;
	unsigned uid, gid;
	char path[64];
	int rc;

	path_set(path, "/proc/%d/status", (int)pid);
	rc = file_read(path, 16384, &text);
	if (rc == 0)
		rc = buf_append(&text, "", 1);
	if (rc == 0)
		rc = read_field((const char *)text.data, "\nUid:", "%u", &uid);
	if (rc == 0)
		rc = read_field((const char *)text.data, "\nGid:", "%u", &gid);
	if (rc == 0)
		rc = read_field((const char *)text.data, "\nCapPrm:", "%llx", &permitted);
	if (rc == 0)
		rc = read_field((const char *)text.data, "\nCapBnd:", "%llx", &bounding);
	if (rc == 0)
		*out = (struct privilege){uid, gid, permitted, bounding};
	return rc;
}

static void entry_close(struct entry *entry)
{
	for (size_t i = 0; i < NAMESPACES; i++)
		fd_close(&entry->fd[i]);
}

/* Its start time is looked at last: all that was opened is of this process and not of a later one with its number. */
static int entry_open(struct entry *entry, const struct ve_record *record)
{
	uint64_t ticks;
	char path[64];
	int rc = 0;

	for (size_t i = 0; i < NAMESPACES; i++)
		entry->fd[i] = -1;
	for (size_t i = 0; i < NAMESPACES && rc == 0; i++) {
		path_set(path, "/proc/%d/ns/%s", (int)record->pid, namespaces[i]);
		entry->fd[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (entry->fd[i] < 0)
			rc = -errno;
	}
	if (rc == 0)
		rc = read_privilege(record->pid, &entry->privilege);
	if (rc == 0)
		rc = process_start_ticks(record->pid, &ticks);
	return rc == 0 && ticks != record->start_ticks ? -ESRCH : rc;
}

static int drop_to(const struct privilege *to)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	for (unsigned cap = 0; cap < 64; cap++)
		if (!(to->bounding >> cap & 1) && prctl(PR_CAPBSET_READ, cap) == 1 &&
		    prctl(PR_CAPBSET_DROP, cap) < 0)
			return -errno;
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_setgroups, 0, NULL) < 0 || setresgid(to->gid, to->gid, to->gid) < 0 ||
	    setresuid(to->uid, to->uid, to->uid) < 0)
		return -errno;
	for (int i = 0; i < 2; i++)
		data[i].permitted = data[i].effective = (uint32_t)(to->permitted >> (32 * i));
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static void become_command(
    const struct exec_order *order, const struct privilege *privilege, int output)
{
	char *const argv[] = {"sh", "-c", (char *)order->command, NULL};
	char *const environment[] = {
	    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	const struct rlimit none = {0, 0};
	int null = open("/dev/null", O_RDWR);

	setsid();
	setrlimit(RLIMIT_CORE, &none);
	if (dup2(null < 0 ? output : null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0 || syscall(SYS_close_range, 3, ~0U, 0) < 0)
		_exit(NOT_RUN);
	if (chdir("/") < 0 || drop_to(privilege) < 0) {
		dprintf(STDERR_FILENO, "take over the VE's privileges: %s", strerror(errno));
		_exit(NOT_RUN);
	}
	execve("/bin/sh", argv, environment);
	dprintf(STDERR_FILENO, "run /bin/sh in the VE: %s", strerror(errno));
	_exit(NOT_RUN);
}

/* Reads what it writes until it ends or its time is over; what is too much is read and forgotten. */
static bool gather(int fd, int64_t until_ms, struct exec_result *result)
{
	size_t size = 0;

	for (;;) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};
		int64_t left = until_ms - mono_to_ms(mono_now());
		char text[512];
		ssize_t got;

		if (left <= 0 || poll(&ready, 1, (int)left) == 0)
			return false;
		got = read(fd, text, sizeof(text));
		if (got <= 0)
			return got == 0 || errno != EINTR;
		for (ssize_t i = 0; i < got && size < sizeof(result->output) - 1; i++)
			result->output[size++] = text[i] >= ' ' && text[i] <= '~' ? text[i] : ' ';
	}
}

/* Its end of the pipe may be closed before it has ended. */
static bool wait_for_end(pid_t child, int64_t until_ms, int *status)
{
	while (waitpid(child, status, WNOHANG) == 0) {
		if (mono_to_ms(mono_now()) >= until_ms)
			return false;
		usleep(2000);
	}
	return true;
}

/* In the namespaces: the child is in the pid namespace too. */
static int run(const struct exec_order *order, const struct privilege *privilege,
    struct exec_result *result, struct engine_error *error)
{
	int64_t until_ms = mono_to_ms(mono_now()) + order->limit_ms;
	int ends[2], status;
	pid_t child;
	bool ended;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return engine_fail(error, -errno, "make a pipe");
	child = fork();
	if (child == 0)
		become_command(order, privilege, ends[1]);
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return engine_fail(error, -errno, "start the command");
	}
	ended = gather(ends[0], until_ms, result) && wait_for_end(child, until_ms, &status);
	close(ends[0]);
	if (!ended) {
		kill(-child, SIGKILL);
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		return engine_refuse(error, -ETIME, "the command took longer than %lld ms",
		    (long long)order->limit_ms);
	}
	result->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	return 0;
}

static int enter_and_run(const struct entry *entry, const struct exec_order *order,
    struct exec_result *result, struct engine_error *error)
{
	for (size_t i = 0; i < NAMESPACES; i++)
		if (setns(entry->fd[i], 0) < 0)
			return engine_fail(error, -errno, "enter the %s namespace", namespaces[i]);
	return run(order, &entry->privilege, result, error);
}

int exec_in_ve(const struct engine_config *config, const struct exec_order *order,
    struct exec_result *result, struct engine_error *error)
{
	struct ve_record record;
	struct entry entry = {0};
	int rc = record_load(config, order->name, &record);

	*result = (struct exec_result){0};
	if (rc < 0 || !record.alive)
		return engine_refuse(error, -ENOENT, "no such VE runs here");
	if (record.spec.epoch != order->epoch)
		return engine_refuse(error, -ESTALE, "it runs under epoch %llu, not %llu",
		    (unsigned long long)record.spec.epoch, (unsigned long long)order->epoch);
	rc = entry_open(&entry, &record);
	rc = rc < 0 ? engine_fail(error, rc, "look at its first process")
		    : enter_and_run(&entry, order, result, error);
	entry_close(&entry);
	return rc;
}
