#include "ved/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "common/mono.h"
#include "ved/files.h"

static bool has_word(const char *list, char between, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += length)
		if ((at == list || at[-1] == between) &&
		    (at[length] == between || at[length] == '\n' || at[length] == 0))
			return true;
	return false;
}

/* One line of mountinfo: "36 35 98:0 /root /mount options - type source super-options". */
static int consider_mount(struct cgroup *out, char *line, const char *base, const char *name)
{
	char mount[VE_PATH], type[32], super[VE_PATH];
	char *tail = strstr(line, " - ");
	int rc = 0;

	if (!tail || sscanf(line, "%*s %*s %*s %*s %255s", mount) != 1 ||
	    sscanf(tail, " - %31s %*s %255s", type, super) != 2)
		return 0;
	if (strcmp(type, "cgroup2") == 0 && !out->unified[0])
		return path_set(out->unified, "%s/%s/%s", mount, base, name);
	if (strcmp(type, "cgroup") != 0)
		return 0;
	if (has_word(super, ',', "memory"))
		rc = path_set(out->memory, "%s/%s/%s", mount, base, name);
	if (rc == 0 && has_word(super, ',', "cpu"))
		rc = path_set(out->cpu, "%s/%s/%s", mount, base, name);
	if (rc == 0 && has_word(super, ',', "pids"))
		rc = path_set(out->pids, "%s/%s/%s", mount, base, name);
	return rc;
}

int cgroup_find(struct cgroup *out, const char *base, const char *name)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	int rc = 0;

	*out = (struct cgroup){0};
	if (!mounts)
		return -errno;
	while (rc == 0 && getline(&line, &size, mounts) > 0)
		rc = consider_mount(out, line, base, name);
	free(line);
	fclose(mounts);
	return rc == 0 && !out->unified[0] ? -ENOTSUP : rc;
}

static int put(const char *dir, const char *file, const char *text)
{
	char path[VE_PATH * 3];
	int rc = path_set(path, "%s/%s", dir, file);

	return rc < 0 ? rc : file_put(path, text);
}

static int put_number(const char *dir, const char *file, uint64_t number)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	return put(dir, file, text);
}

/* Is a controller in a control group's list of them? */
static bool lists(const char *dir, const char *file, const char *controller)
{
	_cleanup_buf_ struct buf text = {0};
	char path[VE_PATH * 3];

	return path_set(path, "%s/%s", dir, file) == 0 && file_read(path, 4096, &text) == 0 &&
	       text.data && has_word((const char *)text.data, ' ', controller);
}

/* A write stops all forks and exits of the machine for some milliseconds, also one that changes nothing or fails. */
static void hand_down(const char *dir, const char *controller)
{
	char word[32];

	path_set(word, "+%s", controller);
	if (lists(dir, "cgroup.controllers", controller) &&
	    !lists(dir, "cgroup.subtree_control", controller))
		put(dir, "cgroup.subtree_control", word);
}

/* Makes a version 2 directory, with the controllers handed down to it from the top as far as they are there. */
static int make_unified(const char *path)
{
	char part[VE_PATH * 2];
	int rc = dir_make(path, 0755);

	if (rc < 0)
		return rc;
	memcpy(part, path, sizeof(part));
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		hand_down(part, "memory");
		hand_down(part, "cpu");
		hand_down(part, "pids");
		*slash = '/';
	}
	return 0;
}

static int limit_memory(const struct cgroup *cgroup, uint64_t bytes)
{
	if (!bytes)
		return 0;
	if (cgroup->memory[0])
		return put_number(cgroup->memory, "memory.limit_in_bytes", bytes);
	return put_number(cgroup->unified, "memory.max", bytes);
}

static int limit_cpu(const struct cgroup *cgroup, uint64_t quota_us, uint64_t period_us)
{
	char text[64];
	int rc;

	if (!quota_us)
		return 0;
	if (!period_us)
		period_us = 100000;
	if (!cgroup->cpu[0]) {
		snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64, quota_us, period_us);
		return put(cgroup->unified, "cpu.max", text);
	}
	rc = put_number(cgroup->cpu, "cpu.cfs_period_us", period_us);
	return rc < 0 ? rc : put_number(cgroup->cpu, "cpu.cfs_quota_us", quota_us);
}

static int limit_pids(const struct cgroup *cgroup, uint64_t pids)
{
	if (!pids)
		return 0;
	return put_number(cgroup->pids[0] ? cgroup->pids : cgroup->unified, "pids.max", pids);
}

int cgroup_make(const struct cgroup *cgroup, const struct cgroup_limits *limits)
{
	const char *old[] = {cgroup->memory, cgroup->cpu, cgroup->pids};
	int rc = make_unified(cgroup->unified);

	for (size_t i = 0; rc == 0 && i < sizeof(old) / sizeof(old[0]); i++)
		if (old[i][0])
			rc = dir_make(old[i], 0755);
	if (rc == 0)
		rc = limit_memory(cgroup, limits->memory_bytes);
	if (rc == 0)
		rc = limit_cpu(cgroup, limits->cpu_quota_us, limits->cpu_period_us);
	if (rc == 0)
		rc = limit_pids(cgroup, limits->pids);
	return rc;
}

int cgroup_join(const struct cgroup *cgroup)
{
	const char *all[] = {cgroup->unified, cgroup->memory, cgroup->cpu, cgroup->pids};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i][0])
			rc = put(all[i], "cgroup.procs", "0");
	return rc;
}

/* Waits until cgroup.events says so ("frozen 1", "populated 0"); the kernel tells changes of the file by POLLPRI. */
static int wait_event(const struct cgroup *cgroup, const char *wanted, int timeout_ms)
{
	char path[VE_PATH * 3], text[256];
	int64_t end = mono_to_ms(mono_now()) + timeout_ms;
	int rc = path_set(path, "%s/cgroup.events", cgroup->unified);
	_cleanup_fd_ int fd = rc < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return rc < 0 ? rc : -errno;
	for (;;) {
		struct pollfd poll_for = {.fd = fd, .events = POLLPRI};
		ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
		int64_t left = end - mono_to_ms(mono_now());

		if (got < 0)
			return -errno;
		text[got] = 0;
		if (strstr(text, wanted))
			return 0;
		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&poll_for, 1, (int)left) < 0 && errno != EINTR)
			return -errno;
	}
}

int cgroup_freeze(const struct cgroup *cgroup, int timeout_ms)
{
	int rc = put(cgroup->unified, "cgroup.freeze", "1");

	if (rc == 0)
		rc = wait_event(cgroup, "frozen 1", timeout_ms);
	if (rc < 0)
		put(cgroup->unified, "cgroup.freeze", "0");
	return rc;
}

int cgroup_thaw(const struct cgroup *cgroup)
{
	return put(cgroup->unified, "cgroup.freeze", "0");
}

int cgroup_kill(const struct cgroup *cgroup, int timeout_ms)
{
	int rc = put(cgroup->unified, "cgroup.kill", "1");

	if (rc == -ENOENT)
		return 0;
	return rc < 0 ? rc : wait_event(cgroup, "populated 0", timeout_ms);
}

static int remove_one(const char *dir)
{
	/* A task is out of cgroup.procs a moment before the directory may go. */
	for (int i = 0; i < 100; i++) {
		if (rmdir(dir) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return -errno;
		usleep(5000);
	}
	return -EBUSY;
}

int cgroup_remove(const struct cgroup *cgroup)
{
	const char *all[] = {cgroup->memory, cgroup->cpu, cgroup->pids, cgroup->unified};
	int rc = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int one = all[i][0] ? remove_one(all[i]) : 0;

		if (rc == 0)
			rc = one;
	}
	return rc;
}
