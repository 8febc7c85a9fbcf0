#include "ved/criu.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ved/criu-rpc.pb-c.h"
#include "ved/criu-words.h"
#include "ved/files.h"

enum {
	ANSWER_BYTES = 64 * 1024,
	GHOST_LIMIT =
	    64 << 20, /* unlinked files that are still open go into the image up to this size */
	LOG_LEVEL = 2,
};

#define NETNS_KEY "ve-net"
#define LOG_FILE "criu.log"

struct worker {
	pid_t pid;
	int socket;
};

/* In the child, between fork and exec. */
static void become_criu(const char *program, int sock, const struct cgroup *cgroup)
{
	sigset_t none;
	char number[16];

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (cgroup && cgroup_join(cgroup) < 0)
		_exit(126);
	path_set(number, "%d", sock);
	execl(program, program, "swrk", number, (char *)NULL);
	_exit(127);
}

static int worker_start(struct worker *worker, const char *program, const struct cgroup *cgroup,
    struct engine_error *error)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
		return engine_fail(error, -errno, "make a socket pair for criu");
	worker->pid = fork();
	if (worker->pid == 0) {
		close(pair[0]);
		become_criu(program, pair[1], cgroup);
	}
	close(pair[1]);
	worker->socket = pair[0];
	fcntl(pair[0], F_SETFD, FD_CLOEXEC);
	if (worker->pid < 0) {
		close(pair[0]);
		return engine_fail(error, -errno, "start %s", program);
	}
	return 0;
}

/* Closes the conversation; criu then ends by itself. */
static void worker_end(
    struct worker *worker, const char *program, struct engine_error *error, bool answered)
{
	int status = 0;

	close(worker->socket);
	waitpid(worker->pid, &status, 0);
	if (answered || !WIFEXITED(status))
		return;
	if (WEXITSTATUS(status) == 127)
		engine_refuse(error, -ENOENT, "start %s: no such program ([ved] criu)", program);
	if (WEXITSTATUS(status) == 126)
		engine_refuse(
		    error, -EIO, "start %s: its control groups cannot be joined", program);
}

static int say(int sock, const CriuReq *request)
{
	size_t size = criu_req__get_packed_size(request);
	_cleanup_text_ char *data = malloc(size);

	if (!data)
		return -ENOMEM;
	criu_req__pack(request, (uint8_t *)data);
	return send(sock, data, size, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -EPIPE;
}

static CriuResp *hear(int sock)
{
	static uint8_t data[ANSWER_BYTES];
	ssize_t size;

	do
		size = recv(sock, data, sizeof(data), 0);
	while (size < 0 && errno == EINTR);
	return size > 0 ? criu_resp__unpack(NULL, (size_t)size, data) : NULL;
}

/* What we have to do where criu is; does it go well? */
static bool act_at(const char *where, const struct criu_job *job)
{
	if (strcmp(where, "pre-dump") == 0 && job->on_ready)
		return job->on_ready(job->data) == 0;
	if (strcmp(where, "network-unlock") == 0 && job->on_connected)
		return job->on_connected(job->data) == 0;
	return true;
}

/* criu tells where it is (notify) and waits for our word; at last comes the answer to the request itself. */
static CriuResp *converse(int sock, CriuReq *request, const struct criu_job *job)
{
	CriuReq go_on = CRIU_REQ__INIT;
	CriuResp *answer;

	if (say(sock, request) < 0)
		return NULL;
	while ((answer = hear(sock)) && answer->type == CRIU_REQ_TYPE__NOTIFY) {
		const char *where =
		    answer->notify && answer->notify->script ? answer->notify->script : "";

		go_on.type = CRIU_REQ_TYPE__NOTIFY;
		go_on.has_notify_success = true;
		go_on.notify_success = act_at(where, job);
		criu_resp__free_unpacked(answer, NULL);
		if (say(sock, &go_on) < 0)
			return NULL;
	}
	return answer;
}

static int run(const struct criu_job *job, CriuReq *request, const struct cgroup *cgroup,
    CriuResp **answer, struct engine_error *error)
{
	struct worker worker = {.pid = -1, .socket = -1};
	int rc = worker_start(&worker, job->program, cgroup, error);

	if (rc < 0)
		return rc;
	error->text[0] = 0;
	*answer = converse(worker.socket, request, job);
	worker_end(&worker, job->program, error, *answer != NULL);
	if (*answer && (*answer)->success)
		return 0;
	if (!error->text[0])
		criu_explain(job->work_dir, LOG_FILE, *answer ? (*answer)->cr_errmsg : NULL,
		    job->pid ? job->cgroup->unified : NULL, error);
	return -EIO;
}

/* Directories and namespace that a job needs open; handed to criu by number. */
struct handles {
	int images, work, netns;
};

static int open_handles(
    struct handles *handles, const struct criu_job *job, struct engine_error *error)
{
	handles->images = open(job->image_dir, O_RDONLY | O_DIRECTORY);
	handles->work = open(job->work_dir, O_RDONLY | O_DIRECTORY);
	handles->netns = open(job->netns, O_RDONLY);
	if (handles->images >= 0 && handles->work >= 0 && handles->netns >= 0)
		return 0;
	return engine_fail(error, -errno, "open %s",
	    handles->images < 0 ? job->image_dir
	    : handles->work < 0 ? job->work_dir
				: job->netns);
}

static void close_handles(struct handles *handles)
{
	fd_close(&handles->images);
	fd_close(&handles->work);
	fd_close(&handles->netns);
}

#define set_option(options, field, value)                                                          \
	((options)->has_##field = true, (options)->field = (value))

static void common_options(CriuOpts *options, const struct handles *handles)
{
	options->images_dir_fd = handles->images;
	set_option(options, work_dir_fd, handles->work);
	set_option(options, log_level, LOG_LEVEL);
	options->log_file = (char *)LOG_FILE;
	set_option(options, notify_scripts, true);
	set_option(options, tcp_established, true);
	set_option(options, file_locks, true);
	set_option(options, ghost_limit, GHOST_LIMIT);
	set_option(options, link_remap, true);
	set_option(options, orphan_pts_master, true);
	set_option(options, manage_cgroups, true);
	set_option(options, manage_cgroups_mode, CRIU_CG_MODE__IGNORE);
	/* The gate holds what comes from outside; within a frozen VE nothing moves on the loopback. */
	set_option(options, network_lock, CRIU_NETWORK_LOCK_METHOD__SKIP);
}

/* What criu shall not look into: the network namespace, and each mount of a host directory. */
struct externals {
	char *list[1 + BINDS_MAX];
	char net[64];
	char mount[BINDS_MAX][2 * VE_PATH + 16];
};

/* A mount's key is where it is in the VE; its value is that too when it is written down, and then where it comes from. */
static void set_external(
    CriuOpts *options, struct externals *externals, const struct criu_job *job, bool restores)
{
	size_t count = 0;

	if (!restores)
		externals->list[count++] = externals->net;
	for (size_t i = 0; i < job->binds->count; i++) {
		const struct bind *bind = &job->binds->bind[i];

		path_set(
		    externals->mount[i], "mnt[%s]:%s", bind->to, restores ? bind->from : bind->to);
		externals->list[count++] = externals->mount[i];
	}
	options->external = externals->list;
	options->n_external = count;
}

int criu_dump(const struct criu_job *job, struct engine_error *error)
{
	CriuOpts options = CRIU_OPTS__INIT;
	CriuReq request = CRIU_REQ__INIT;
	struct handles handles;
	struct stat st;
	struct externals externals;
	CriuResp *answer = NULL;
	int rc = criu_foresee(job->cgroup->unified, error);

	if (rc < 0)
		return rc;
	rc = open_handles(&handles, job, error);
	if (rc == 0 && fstat(handles.netns, &st) < 0)
		rc = engine_fail(error, -errno, "look at %s", job->netns);
	if (rc == 0) {
		path_set(externals.net, "net[%lu]:" NETNS_KEY, (unsigned long)st.st_ino);
		common_options(&options, &handles);
		set_option(&options, pid, job->pid);
		set_option(&options, leave_running, true);
		set_option(&options, tcp_skip_in_flight, true);
		options.freeze_cgroup = (char *)job->cgroup->unified;
		set_external(&options, &externals, job, false);
		request.type = CRIU_REQ_TYPE__DUMP;
		request.opts = &options;
		rc = run(job, &request, NULL, &answer, error);
	}
	if (answer)
		criu_resp__free_unpacked(answer, NULL);
	close_handles(&handles);
	return rc;
}

int criu_restore(const struct criu_job *job, pid_t *pid, struct engine_error *error)
{
	CriuOpts options = CRIU_OPTS__INIT;
	CriuReq request = CRIU_REQ__INIT;
	InheritFd netns = INHERIT_FD__INIT, *inherit[] = {&netns};
	struct externals externals;
	struct handles handles;
	CriuResp *answer = NULL;
	int rc = open_handles(&handles, job, error);

	if (rc == 0) {
		common_options(&options, &handles);
		options.root = (char *)job->root;
		netns.key = (char *)NETNS_KEY;
		netns.fd = handles.netns;
		options.inherit_fd = inherit;
		options.n_inherit_fd = 1;
		set_external(&options, &externals, job, true);
		set_option(&options, rst_sibling, true);
		request.type = CRIU_REQ_TYPE__RESTORE;
		request.opts = &options;
		rc = run(job, &request, job->cgroup, &answer, error);
	}
	if (rc == 0 && !answer->restore)
		rc = engine_refuse(error, -EIO, "criu restored but does not say which process");
	if (rc == 0)
		*pid = answer->restore->pid;
	if (answer)
		criu_resp__free_unpacked(answer, NULL);
	close_handles(&handles);
	return rc;
}

int criu_version(const char *program, struct engine_error *error)
{
	struct criu_job job = {.program = program, .work_dir = "/"};
	CriuReq request = CRIU_REQ__INIT;
	CriuResp *answer = NULL;
	int rc;

	request.type = CRIU_REQ_TYPE__VERSION;
	rc = run(&job, &request, NULL, &answer, error);
	if (rc == 0 && !answer->version)
		rc = engine_refuse(error, -EIO, "%s does not tell its version", program);
	if (rc == 0)
		rc = answer->version->major_number * 10000 + answer->version->minor_number * 100 +
		     (answer->version->has_sublevel ? answer->version->sublevel : 0);
	if (answer)
		criu_resp__free_unpacked(answer, NULL);
	return rc;
}
