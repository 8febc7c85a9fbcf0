#include "ved/criu-words.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

#include "ved/files.h"

enum { LOG_BYTES = 4 << 20, STATUS_BYTES = 64 << 10, MQUEUE_MAGIC = 0x19800202 };

static const struct {
	const char *in_log;
	const char *words;
} causes[] = {
    {"xternal socket is used",
	"a unix socket of the service is connected to a process outside of the VE"},
    {"unix: Dangling connection",
	"a unix socket of the service is connected to a process outside of the VE"},
    {"Can't dump half of stream unix connection",
	"a unix socket of the service is connected to a process outside of the VE"},
    {" (chr ", "the service has a device open"},
    {" (blk ", "the service has a device open"},
    {"Unsupported proto 262",
	"the service has a socket of Multipath TCP, which cannot be written down "
	"(programs in Go: GODEBUG=multipathtcp=0)"},
    {"Unsupported proto",
	"the service has an internet socket of another protocol than TCP, UDP and "
	"raw ones, which cannot be written down"},
    {"Unknown socket collected",
	"the service has a socket of a family that cannot be written down (internet, UNIX, netlink "
	"and packet sockets can)"},
    {"doesn't belong to the target user namespace",
	"a process of the service is in a user namespace of its own, which cannot be written down"},
    {"nested pid namespace",
	"a process of the service is in a PID namespace of its own, which cannot be written down"},
    {"nested time namespace",
	"a process of the service is in a time namespace of its own, which cannot be written down"},
    {"Can't lookup mount", "the service has a file open that lies outside of the VE"},
    {"ghost file", "the service keeps a removed file open that is too large"},
    {"Can't bind", "an address or port of the service is taken on this node"},
    {"File exists (errno 17)", "something is there already"},
    {"CPU capabilities do not match", "this node's processor lacks what the image needs"},
    {"No space left", "there is no space left for the image"},
};

/* Lines that only say that it failed, or that tell of what does no harm. */
static bool is_noise(const char *line)
{
	static const char *const noise[] = {"Dumping FAILED", "Restoring FAILED", "Dump core (pid",
	    "RLIMIT_NOFILE for self", "Dump files (pid"};

	for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++) {
		const char *at = strstr(line, noise[i]), *end = strchr(line, '\n');

		if (at && (!end || at < end))
			return true;
	}
	return false;
}

/* Copies the log's last error lines, oldest first, without criu's time stamps. */
static void copy_errors(const char *log, char *out, size_t size)
{
	const char *lines[2] = {0};
	size_t used = 0;

	for (const char *at = log; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
		const char *mark = strstr(at, "Error (");
		const char *end = strchr(at, '\n');

		if (!mark || (end && mark > end) || is_noise(mark))
			continue;
		lines[0] = lines[1];
		lines[1] = mark;
	}
	out[0] = 0;
	for (size_t i = 0; i < 2; i++)
		if (lines[i] && used < size)
			used += (size_t)snprintf(out + used, size - used, "%s%.*s",
			    used ? "; " : "", (int)strcspn(lines[i], "\n"), lines[i]);
}

void criu_explain_text(
    const char *log, const char *message, const char *found, struct engine_error *error)
{
	const char *words = found ? found : "criu failed";
	char errors[VE_ERROR / 2];

	for (size_t i = 0; !found && i < sizeof(causes) / sizeof(causes[0]); i++)
		if (strstr(log, causes[i].in_log)) {
			words = causes[i].words;
			break;
		}
	if (message && is_noise(message))
		message = NULL;
	copy_errors(log, errors, sizeof(errors));
	engine_refuse(error, -EIO, "%s%s%s%s%s", words, errors[0] || message ? ": " : "", errors,
	    errors[0] && message ? "; " : "", message ? message : "");
}

/* ---- what the tasks have open ---- */

static const char *judge_file(const char *target)
{
	static const struct {
		const char *target;
		const char *words;
	} known[] = {
	    {"anon_inode:[io_uring]", "the service uses io_uring, which cannot be written down"},
	    {"anon_inode:[perf_event]",
		"the service has a perf event open, which cannot be written down"},
	    {"anon_inode:[userfaultfd]",
		"the service has a userfaultfd open, which cannot be written down"},
	    {"anon_inode:bpf", "the service has a BPF object open, which cannot be written down"},
	    {"anon_inode:kvm",
		"the service runs a virtual machine (KVM), which cannot be written down"},
	    {"/dev/fuse", "the service serves a FUSE file system, which cannot be written down"},
	    {"/dev/snd/", "the service has a sound device open"},
	    {"/dev/dri/", "the service has a graphics device open"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strncmp(target, known[i].target, strlen(known[i].target)) == 0)
			return known[i].words;
	return NULL;
}

/* What a name does not tell: the file system of an open file. */
static const char *judge_place(const char *path)
{
	struct statfs place;

	return statfs(path, &place) == 0 && place.f_type == MQUEUE_MAGIC
		   ? "the service has a POSIX message queue open, which cannot be written down"
		   : NULL;
}

static const char *judge_files(long pid)
{
	char path[VE_PATH * 2], target[VE_PATH];
	const char *words = NULL;
	struct dirent *entry;
	ssize_t length;
	DIR *dir;

	path_set(path, "/proc/%ld/fd", pid);
	dir = opendir(path);
	while (dir && !words && (entry = readdir(dir))) {
		length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		if (length <= 0)
			continue;
		target[length] = 0;
		words = judge_file(target);
		if (!words && path_set(path, "/proc/%ld/fd/%s", pid, entry->d_name) == 0)
			words = judge_place(path);
	}
	if (dir)
		closedir(dir);
	return words;
}

/* criu stops tasks as a debugger does, and a task has one debugger. */
static bool is_traced(long pid)
{
	_cleanup_buf_ struct buf status = {0};
	const char *tracer;
	char path[64];

	path_set(path, "/proc/%ld/status", pid);
	if (file_read(path, STATUS_BYTES, &status) < 0 || !status.data)
		return false;
	tracer = strstr((const char *)status.data, "\nTracerPid:");
	return tracer && strtol(tracer + strlen("\nTracerPid:"), NULL, 10) > 0;
}

static const char *judge_tracing(long pid)
{
	return is_traced(pid)
		   ? "a process of the service is traced by a debugger, which cannot be written down"
		   : NULL;
}

static const char *judge_group(const char *cgroup_dir, const char *(*judge)(long pid))
{
	_cleanup_buf_ struct buf pids = {0};
	char path[VE_PATH * 3];
	const char *words = NULL;

	if (path_set(path, "%s/cgroup.procs", cgroup_dir) < 0 ||
	    file_read(path, LOG_BYTES, &pids) < 0)
		return NULL;
	for (char *at = (char *)pids.data, *end; at && *at && !words; at = end + 1) {
		words = judge(strtol(at, &end, 10));
		if (*end != '\n')
			break;
	}
	return words;
}

int criu_foresee(const char *cgroup_dir, struct engine_error *error)
{
	const char *found = judge_group(cgroup_dir, judge_tracing);

	return found ? engine_refuse(error, -EBUSY, "%s", found) : 0;
}

void criu_explain(const char *dir, const char *log_file, const char *message,
    const char *cgroup_dir, struct engine_error *error)
{
	const char *found = cgroup_dir ? judge_group(cgroup_dir, judge_files) : NULL;
	_cleanup_buf_ struct buf log = {0};
	char path[VE_PATH * 2];

	if (path_set(path, "%s/%s", dir, log_file) < 0 || file_read(path, LOG_BYTES, &log) < 0 ||
	    !log.data)
		criu_explain_text("", message, found, error);
	else
		criu_explain_text((const char *)log.data, message, found, error);
}
