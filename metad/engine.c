#include "metad/engine.h"

#include <assert.h>
#include <dirent.h>
#include <dqlite.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <raft.h>
#include <raft/uv.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "metad/raft-guard.h"

enum order {
	ORDER_NONE,
	ORDER_START,
	ORDER_CONNECT,
	ORDER_STOP,
};

/*
 * The engine's thread carries out one order at a time, because a socket belongs to the namespace of
 * the thread that makes it.
 */
struct engine {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum order order;
	bool private;
	bool ready;
	const struct engine_config *config;
	struct dqlite_node *node;
	char bound[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
	int fd;
	int result;
	char error[300];
};

static int fail(struct engine *engine, int error, const char *what, const char *why)
{
	snprintf(engine->error, sizeof(engine->error), "%.160s: %.130s", what, why);
	return error;
}

/* --- a fresh directory --- */

static void raft_closed(struct raft *raft)
{
	(void)raft;
}

static int bootstrap_raft(struct engine *engine, struct raft *raft)
{
	const struct engine_config *config = engine->config;
	struct raft_configuration voters;
	int r = 0;

	raft_configuration_init(&voters);
	for (size_t i = 0; r == 0 && i < config->count; i++)
		r = raft_configuration_add(
		    &voters, config->voters[i].id, config->voters[i].name, RAFT_VOTER);
	if (r == 0)
		r = raft_bootstrap(raft, &voters);
	raft_configuration_close(&voters);
	return r == 0 ? 0 : fail(engine, -EIO, "write the first log entry", raft_errmsg(raft));
}

/* raft's own I/O over a loop of its own, for as long as it takes to write the first entry. */
static int bootstrap_dir(struct engine *engine, const char *dir)
{
	struct raft_uv_transport transport = {0};
	struct raft_fsm fsm = {.version = 1};
	struct raft_io io = {0};
	struct raft raft = {0};
	struct uv_loop_s loop;
	int r;

	if (uv_loop_init(&loop) != 0)
		return fail(engine, -ENOMEM, "make a loop", "no memory");
	r = raft_uv_tcp_init(&transport, &loop);
	if (r == 0)
		r = raft_uv_init(&io, &loop, dir, &transport);
	if (r == 0)
		r = raft_init(&raft, &io, &fsm, engine->config->self, "127.0.0.1:1");
	if (r != 0) {
		r = fail(engine, -EIO, dir, r == RAFT_NOMEM ? "no memory" : io.errmsg);
		uv_loop_close(&loop);
		return r;
	}
	r = bootstrap_raft(engine, &raft);
	raft_close(&raft, raft_closed);
	uv_run(&loop, UV_RUN_DEFAULT);
	raft_uv_close(&io);
	raft_uv_tcp_close(&transport);
	uv_loop_close(&loop);
	return r;
}

static int sync_path(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static void remove_flat_dir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	closedir(dir);
	rmdir(path);
}

/* Built beside its place and moved there whole: a crash leaves a fresh directory or none. */
static int make_dir(struct engine *engine, const char *dir)
{
	char fresh[PATH_MAX + 8];
	int r;

	snprintf(fresh, sizeof(fresh), "%s.new", dir);
	remove_flat_dir(fresh);
	if (mkdir(fresh, 0700) < 0)
		return fail(engine, -errno, fresh, strerror(errno));
	r = bootstrap_dir(engine, fresh);
	if (r == 0)
		r = sync_path(fresh);
	if (r == 0 && rename(fresh, dir) < 0)
		r = fail(engine, -errno, dir, strerror(errno));
	return r == 0 ? sync_path(engine->config->dir) : r;
}

static int prepare_dir(struct engine *engine, const char *dir)
{
	if (access(dir, F_OK) == 0)
		return 0;
	if (engine->config->count > 0)
		return make_dir(engine, dir);
	return mkdir(dir, 0700) < 0 ? fail(engine, -errno, dir, strerror(errno)) : 0;
}

static void log_dir(char path[PATH_MAX], const char *dir)
{
	snprintf(path, PATH_MAX, "%s/dqlite", dir);
}

bool engine_has_log(const char *dir)
{
	char path[PATH_MAX];

	log_dir(path, dir);
	return access(path, F_OK) == 0;
}

void engine_forget(const char *dir)
{
	char path[PATH_MAX];

	log_dir(path, dir);
	remove_flat_dir(path);
}

const struct engine_voter *engine_voter_find(
    const struct engine_voter *voters, size_t count, uint64_t id)
{
	for (size_t i = 0; i < count; i++) {
		if (voters[i].id == id)
			return &voters[i];
	}
	return NULL;
}

/* --- dqlite --- */

static int dial(void *arg, const char *address, int *fd)
{
	const struct engine_config *config = arg;

	return config->dial(config->arg, address, fd) == 0 ? 0 : 1;
}

static int configure(struct engine *engine)
{
	/* Raft keeps the entries between snapshots in memory, each some pages of 4 KiB. */
	const unsigned threshold = 128, trailing = 128;
	struct dqlite_node *node = engine->node;

	if (dqlite_node_set_bind_address(node, "@") != 0 ||
	    dqlite_node_set_connect_func(node, dial, (void *)engine->config) != 0 ||
	    dqlite_node_set_network_latency_ms(node, engine->config->latency_ms) != 0 ||
	    dqlite_node_set_snapshot_params(node, threshold, trailing) != 0)
		return fail(engine, -EIO, "set up dqlite", dqlite_node_errmsg(node));
	snprintf(engine->bound, sizeof(engine->bound), "%s", dqlite_node_get_bind_address(node));
	return 0;
}

static int start(struct engine *engine)
{
	char dir[PATH_MAX];
	int r;

	log_dir(dir, engine->config->dir);
	raft_guard_set_floor(engine->config->floor_bytes);
	r = prepare_dir(engine, dir);
	if (r < 0)
		return r;
	if (dqlite_node_create(engine->config->self, engine->config->name, dir, &engine->node) !=
	    0) {
		engine->node = NULL;
		return fail(engine, -EIO, dir, "dqlite cannot open it");
	}
	r = configure(engine);
	if (r == 0 && dqlite_node_start(engine->node) != 0)
		r = fail(engine, -EIO, dir, dqlite_node_errmsg(engine->node));
	if (r < 0) {
		dqlite_node_destroy(engine->node);
		engine->node = NULL;
	}
	return r;
}

static int connect_here(struct engine *engine)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size =
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(engine->bound));
	int fd;

	if (!engine->node)
		return -ENOTCONN;
	memcpy(address.sun_path + 1, engine->bound + 1, strlen(engine->bound) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, size) < 0) {
		int error = -errno;

		close(fd);
		return error;
	}
	engine->fd = fd;
	return 0;
}

static void stop(struct engine *engine)
{
	if (!engine->node)
		return;
	dqlite_node_stop(engine->node);
	dqlite_node_destroy(engine->node);
	engine->node = NULL;
}

/* --- the thread --- */

static void carry_out(struct engine *engine, enum order order)
{
	switch (order) {
	case ORDER_START:
		engine->result = start(engine);
		break;
	case ORDER_CONNECT:
		engine->result = connect_here(engine);
		break;
	case ORDER_STOP:
		stop(engine);
		break;
	case ORDER_NONE:
		break;
	}
}

static void *run(void *arg)
{
	struct engine *engine = arg;
	bool private = unshare(CLONE_NEWNET) == 0;
	enum order order = ORDER_NONE;

	pthread_mutex_lock(&engine->lock);
	engine->private = private;
	engine->ready = true;
	pthread_cond_broadcast(&engine->changed);
	while (order != ORDER_STOP) {
		while (engine->order == ORDER_NONE)
			pthread_cond_wait(&engine->changed, &engine->lock);
		order = engine->order;
		carry_out(engine, order);
		engine->order = ORDER_NONE;
		pthread_cond_broadcast(&engine->changed);
	}
	pthread_mutex_unlock(&engine->lock);
	return NULL;
}

/* Waits until it is done; only one thread, the loop's, gives orders. */
static int give(struct engine *engine, enum order order)
{
	int r;

	pthread_mutex_lock(&engine->lock);
	engine->order = order;
	pthread_cond_broadcast(&engine->changed);
	while (engine->order != ORDER_NONE)
		pthread_cond_wait(&engine->changed, &engine->lock);
	r = engine->result;
	pthread_mutex_unlock(&engine->lock);
	return r;
}

int engine_new(struct engine **out, bool *private)
{
	struct engine *engine = calloc(1, sizeof(*engine));
	sigset_t all, before;
	int r;

	if (!engine)
		return -ENOMEM;
	pthread_mutex_init(&engine->lock, NULL);
	pthread_cond_init(&engine->changed, NULL);
	sigfillset(&all); /* signals are for the loop; dqlite's threads inherit this */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&engine->thread, NULL, run, engine);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r != 0) {
		free(engine);
		return -r;
	}
	pthread_mutex_lock(&engine->lock);
	while (!engine->ready)
		pthread_cond_wait(&engine->changed, &engine->lock);
	*private = engine->private;
	pthread_mutex_unlock(&engine->lock);
	*out = engine;
	return 0;
}

int engine_start(
    struct engine *engine, const struct engine_config *config, char *error, size_t error_size)
{
	int r;

	assert(config->name && config->count <= VOTERS_MAX);
	engine->config = config;
	r = give(engine, ORDER_START);
	if (r < 0)
		snprintf(error, error_size, "%s", engine->error);
	return r;
}

int engine_connect(struct engine *engine, int *fd)
{
	int r = give(engine, ORDER_CONNECT);

	if (r == 0)
		*fd = engine->fd;
	return r;
}

const char *engine_name(const struct engine *engine)
{
	return engine->bound;
}

struct engine *engine_free(struct engine *engine)
{
	if (!engine)
		return NULL;
	give(engine, ORDER_STOP);
	pthread_join(engine->thread, NULL);
	pthread_cond_destroy(&engine->changed);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
	return NULL;
}

int engine_check_disk(const char *dir, uint64_t need_bytes)
{
	struct statvfs fs;

	if (access(dir, W_OK | X_OK) < 0 || statvfs(dir, &fs) < 0)
		return -errno;
	return (uint64_t)fs.f_bavail * fs.f_frsize < need_bytes ? -ENOSPC : 0;
}
