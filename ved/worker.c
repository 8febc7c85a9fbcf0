/*
 * ved-worker: does one slow thing to one VE and ends.  A process of its own, because crun and criu fork, change namespaces
 * and control groups, and may hang, none of which a daemon with sockets can afford; and because it outlives a ved that is
 * killed: what was begun is brought to its end.  Job on standard input, answer on standard output (proto/ved.toml).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/ved.h"
#include "ved/engine.h"
#include "ved/exec.h"
#include "ved/files.h"
#include "ved/lock.h"

enum { JOB_BYTES = 64 * 1024 };

static void configure(struct engine_config *config, const struct msg_ved_job *job)
{
	config->group = job->gid < 0 ? (gid_t)-1 : (gid_t)job->gid;
	config->criu_version = (int)job->criu_version;
	config->fence = job->has_fence ? (enum fence_kind)job->fence : FENCE_NONE;
	path_set(config->run, "%s", job->run);
	path_set(config->state, "%s", job->state);
	path_set(config->cgroup, "%s", job->cgroup);
	path_set(config->bridge, "%s", job->bridge);
	path_set(config->mounts, "%s", job->mounts);
	path_set(config->criu, "%s", job->criu);
	path_set(config->runner[ENGINE_CRUN], "%s", job->crun);
	path_set(config->runner[ENGINE_LXC], "%s", job->lxc);
	config->engine = (enum engine_kind)job->engine;
}

static struct ve_spec spec_of(const struct msg_ved_job *job)
{
	struct ve_spec spec = {.epoch = job->epoch,
	    .until_ns = (int64_t)job->until_ns,
	    .shared = job->shared,
	    .engine = (enum engine_kind)job->engine};

	path_set(spec.name, "%s", job->name);
	path_set(spec.address, "%s", job->address);
	path_set(spec.gateway, "%s", job->gateway);
	path_set(spec.bundle, "%s", job->bundle);
	return spec;
}

static int perform(const struct engine_config *config, const struct msg_ved_job *job,
    struct engine_times *times, struct engine_error *error)
{
	struct dump_options options = {.kill = job->kill};
	struct ve_spec spec = spec_of(job);

	switch (job->op) {
	case MSG_VED_OP_START:
		return engine_start(config, &spec, job->bundle_dir, error);
	case MSG_VED_OP_RESTORE:
		return engine_restore(config, &spec, job->bundle_dir, job->image_dir, times, error);
	case MSG_VED_OP_STOP:
		return engine_stop(config, job->name, job->limit_ms, error);
	case MSG_VED_OP_FREEZE:
		return engine_freeze(config, job->name, job->limit_ms, error);
	case MSG_VED_OP_THAW:
		return engine_thaw(config, job->name, error);
	case MSG_VED_OP_DUMP:
		return engine_dump(config, job->name, job->image_dir, &options, times, error);
	case MSG_VED_OP_RECOVER:
		return 0;     /* that the lock could be taken is all */
	case MSG_VED_OP_EXEC: /* without the lock: see main() */
		break;
	}
	return engine_refuse(error, -EINVAL, "no such operation: %d", (int)job->op);
}

static int locked(const struct engine_config *config, const struct msg_ved_job *job,
    struct engine_times *times, struct engine_error *error)
{
	_cleanup_fd_ int lock = lock_take(config, job->name);
	struct ve_record record;
	int rc;

	if (lock < 0)
		return engine_fail(error, lock, "lock %s", job->name);
	rc = perform(config, job, times, error);
	if (engine_inspect(config, job->name, &record) == -ENOENT)
		lock_forget(config, job->name);
	return rc;
}

static int send_answer(const struct msg_ved_job_done *done)
{
	_cleanup_buf_ struct buf out = {0};

	if (msg_ved_job_done_pack(done, &out) < 0)
		return 1;
	return write(STDOUT_FILENO, out.data, out.size) == (ssize_t)out.size ? 0 : 1;
}

/* A command in the VE, while whatever else may be done to it. */
static int execute(const struct engine_config *config, const struct msg_ved_job *job)
{
	const struct exec_order order = {job->name, job->epoch, job->command, job->limit_ms};
	struct msg_ved_job_done done = {0};
	struct exec_result result = {0};
	struct engine_error error = {0};

	done.error = exec_in_ve(config, &order, &result, &error);
	done.status = result.status;
	path_set(done.text, "%s", done.error < 0 ? error.text : result.output);
	return send_answer(&done);
}

static int answer(int rc, const struct engine_times *times, const struct engine_error *error)
{
	struct msg_ved_job_done done = {.error = rc,
	    .bytes = times->image_bytes,
	    .times = {.freeze_us = (uint64_t)times->freeze_us,
		.criu_us = (uint64_t)times->criu_us,
		.files_us = (uint64_t)times->files_us,
		.total_us = (uint64_t)times->total_us},
	    .armed_at_us = (uint64_t)times->armed_at_us,
	    .announced_at_us = (uint64_t)times->announced_at_us};

	path_set(done.text, "%s", rc < 0 ? error->text : "");
	return send_answer(&done);
}

int main(int argc, char **argv)
{
	struct engine_times times = {0};
	struct engine_error error = {0};
	struct engine_config config;
	struct mpr_error fault;
	struct msg_ved_job job;
	_cleanup_buf_ struct buf text = {0};
	int rc;

	if (argc > 1) {
		fprintf(stderr,
		    "%s: part of ved(8), which starts it; a job is expected on standard input\n",
		    argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	rc = file_read("/dev/stdin", JOB_BYTES, &text);
	if (rc == 0 && msg_ved_job_unpack(&job, text.data, text.size, &fault) < 0)
		rc = -EBADMSG;
	if (rc == 0 && !ve_name_ok(job.name))
		rc = -EINVAL;
	if (rc < 0)
		return answer(engine_fail(&error, rc, "read the job"), &times, &error);
	configure(&config, &job);
	if (job.op == MSG_VED_OP_EXEC)
		return execute(&config, &job);
	rc = locked(&config, &job, &times, &error);
	return answer(rc, &times, &error);
}
