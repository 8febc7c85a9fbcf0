#include "ved/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "common/log.h"
#include "ved/files.h"

enum { ANSWER_BYTES = 8192 };

struct job {
	struct jobs *jobs;
	char name[VE_NAME];
	pid_t pid; /* 0: the place is free */
	int output;
	sd_event_source *child;
};

struct jobs {
	sd_event *loop;
	job_done done;
	void *userdata;
	char program[PATH_MAX];
	struct job job[VE_MAX];
};

/* The worker lies beside ved. */
static int find_program(char *out, size_t size)
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length < 0)
		return -errno;
	self[length] = 0;
	return path_format(out, size, "%s-worker", self);
}

int jobs_new(struct jobs **out, sd_event *loop, job_done done, void *userdata)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));
	sigset_t set;
	int rc;

	if (!jobs)
		return -ENOMEM;
	jobs->loop = sd_event_ref(loop);
	jobs->done = done;
	jobs->userdata = userdata;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD); /* sd-event waits for children by it */
	sigprocmask(SIG_BLOCK, &set, NULL);
	rc = find_program(jobs->program, sizeof(jobs->program));
	if (rc == 0 && access(jobs->program, X_OK) < 0)
		rc = -errno;
	if (rc < 0) {
		log_error("run %s: %s", jobs->program, strerror(-rc));
		jobs_free(jobs);
		return rc;
	}
	*out = jobs;
	return 0;
}

static void job_end(struct job *job)
{
	sd_event_source_unref(job->child);
	fd_close(&job->output);
	job->child = NULL;
	job->pid = 0;
}

struct jobs *jobs_free(struct jobs *jobs)
{
	for (size_t i = 0; jobs && i < VE_MAX; i++)
		if (jobs->job[i].pid)
			job_end(&jobs->job[i]);
	if (jobs)
		sd_event_unref(jobs->loop);
	free(jobs);
	return NULL;
}

/* What the worker wrote is in the pipe when it has ended: less than a pipe holds. */
static void read_answer(const struct job *job, const siginfo_t *end, struct msg_ved_job_done *done)
{
	uint8_t data[ANSWER_BYTES];
	ssize_t size = read(job->output, data, sizeof(data));
	struct mpr_error fault;

	if (end->si_code == CLD_EXITED && size > 0 &&
	    msg_ved_job_done_unpack(done, data, (size_t)size, &fault) == 0)
		return;
	*done = (struct msg_ved_job_done){.error = -EIO};
	if (end->si_code == CLD_EXITED)
		path_set(
		    done->text, "the worker ended without an answer, status %d", end->si_status);
	else
		path_set(done->text, "the worker was killed by signal %d", end->si_status);
}

static int on_child(sd_event_source *source, const siginfo_t *end, void *userdata)
{
	struct job *job = userdata;
	struct jobs *jobs = job->jobs;
	struct msg_ved_job_done done;
	char name[VE_NAME];

	(void)source;
	read_answer(job, end, &done);
	memcpy(name, job->name, sizeof(name));
	job_end(job);
	jobs->done(jobs->userdata, name, &done);
	return 0;
}

/* The job as the worker's standard input: a file in memory. */
static int make_input(const struct msg_ved_job *job)
{
	_cleanup_buf_ struct buf text = {0};
	_cleanup_fd_ int fd = -1;
	int rc = msg_ved_job_pack(job, &text), out;

	if (rc < 0)
		return rc;
	fd = memfd_create("job", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text.data, text.size) != (ssize_t)text.size || lseek(fd, 0, SEEK_SET) < 0)
		return -EIO;
	out = fd;
	fd = -1;
	return out;
}

/* posix_spawn and not fork: this process has ZeroMQ's threads. A session of its own, so that it can be killed whole. */
static int spawn(const char *program, int input, int output, pid_t *pid)
{
	char *argv[] = {(char *)program, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	posix_spawn_file_actions_adddup2(&files, input, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(
	    &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	rc = -posix_spawn(pid, program, &files, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&files);
	return rc;
}

void jobs_set_engine(struct msg_ved_job *job, const struct engine_config *engine)
{
	path_set(job->run, "%s", engine->run);
	path_set(job->state, "%s", engine->state);
	path_set(job->cgroup, "%s", engine->cgroup);
	path_set(job->bridge, "%s", engine->bridge);
	path_set(job->mounts, "%s", engine->mounts);
	path_set(job->criu, "%s", engine->criu);
	path_set(job->crun, "%s", engine->runner[ENGINE_CRUN]);
	path_set(job->lxc, "%s", engine->runner[ENGINE_LXC]);
	job->engine = (enum msg_ved_engine)engine->engine;
	job->criu_version = (uint64_t)engine->criu_version;
	job->has_fence = true;
	job->fence = (enum msg_ved_fence)engine->fence;
	job->gid = engine->group == (gid_t)-1 ? -1 : (int64_t)engine->group;
}

int jobs_start(struct jobs *jobs, const struct msg_ved_job *description)
{
	_cleanup_fd_ int input = make_input(description);
	_cleanup_fd_ int write_end = -1;
	struct job *job = jobs->job;
	int ends[2], rc;

	while (job < jobs->job + VE_MAX && job->pid)
		job++;
	if (job == jobs->job + VE_MAX)
		return -EBUSY;
	if (input < 0)
		return input;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	*job = (struct job){.jobs = jobs, .output = ends[0]};
	write_end = ends[1];
	memcpy(job->name, description->name, sizeof(job->name));
	rc = spawn(jobs->program, input, write_end, &job->pid);
	if (rc == 0)
		rc = sd_event_add_child(jobs->loop, &job->child, job->pid, WEXITED, on_child, job);
	if (rc < 0)
		job_end(job);
	return rc < 0 ? rc : 0;
}

void jobs_kill(struct jobs *jobs, const char *name)
{
	for (size_t i = 0; i < VE_MAX; i++)
		if (jobs->job[i].pid && strcmp(jobs->job[i].name, name) == 0)
			kill(-jobs->job[i].pid, SIGKILL);
}
