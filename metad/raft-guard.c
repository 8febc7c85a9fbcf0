/*
 * Four faults of libraft 0.15 kept out (Debian 12 has that version).
 *
 * The first is a crash (canonical/raft issue 350).
 * A follower answers an AppendEntries when its disk has written the entries, to the leader of that moment.  When the
 * leader was lost in between there is none: libraft then sends to the address NULL, and takes its length.  The window is
 * the write of one batch, so a voter falls now and then just when the leader does, and the two together are a majority.
 * So there is a check before send.  A message to nobody is not sent; libraft drops it as it does when memory is short,
 * and the next leader asks again.
 *
 * The second is a wait.  Each voter has a connection of its own to each other one and speaks on that one only, its votes
 * too.  When dialling fails it waits a second before the next attempt, and libdqlite has no way to choose another time: a
 * voter that has just come back gets no vote and gives none for so long, however short the election timeout, if the leader
 * is lost in that second.  So the wait is set here.
 *
 * The third is a full disk.  After one write that failed libraft's files take no other until the process is new, and the
 * voter neither leads nor follows.  So the space is looked at before: a leader that has too little refuses the entry, which
 * is then surely not in the log and fails alone, and a follower lets the message go, which to the leader is one lost on the
 * way.  Both go on with all that writes nothing, and with the rest once there is room.
 *
 * The fourth is a broken disk, for the same reason: any other write that failed, and be it a single one, leaves a voter that
 * neither leads nor follows, for ever and without a word; two such voters at different times, and nothing is decided any more.
 * What is on the disk after a failed write only a new process can tell, which reads it.  So the process ends there, and its
 * supervisor starts it again: the voter is down for as long as its disk is, and no longer.
 *
 * This definition of raft_uv_init stands before libraft's own: the program's symbols are looked up first, by libdqlite
 * too.  Rejected: a patched libraft of our own, which then misses Debian's security updates.
 */
#include "metad/raft-guard.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <raft.h>
#include <raft/uv.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log.h"
#include "metad/engine.h"

#define REDIAL_MS 100 /* a third of the shortest election timeout by default */

typedef int init_function(struct raft_io *io, struct uv_loop_s *loop, const char *dir,
    struct raft_uv_transport *transport);

/* libraft's own; the same for every io, set once. */
static struct {
	pthread_once_t once;
	init_function *init;
	int (*send)(struct raft_io *io, struct raft_io_send *req,
	    const struct raft_message *message, raft_io_send_cb cb);
	int (*append)(struct raft_io *io, struct raft_io_append *req,
	    const struct raft_entry entries[], unsigned n, raft_io_append_cb cb);
	int (*start)(
	    struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv);
	raft_io_tick_cb tick;
	raft_io_recv_cb recv;
} libraft = {.once = PTHREAD_ONCE_INIT};

/* There is one log in a process. */
static struct {
	char dir[PATH_MAX];
	uint64_t bytes;
} floor_of;

void raft_guard_set_floor(uint64_t bytes)
{
	floor_of.bytes = bytes;
}

static bool disk_is_full(void)
{
	return floor_of.bytes && engine_check_disk(floor_of.dir, floor_of.bytes) == -ENOSPC;
}

static void find_libraft(void)
{
	*(void **)&libraft.init = dlsym(RTLD_NEXT, "raft_uv_init"); /* as dlsym(3) has it */
}

static int guarded_send(struct raft_io *io, struct raft_io_send *req,
    const struct raft_message *message, raft_io_send_cb cb)
{
	if (!message->server_address)
		return RAFT_NOCONNECTION;
	return libraft.send(io, req, message, cb);
}

/* An append of raft's, under way as one of ours. */
struct append {
	struct raft_io_append req;
	struct raft_io_append *theirs;
	raft_io_append_cb cb;
};

__attribute__((noreturn)) static void end(const char *why)
{
	log_error(
	    "the log cannot be written: %s; metad ends, to be started again and read it", why);
	_exit(
	    EXIT_FAILURE); /* nothing here is to be closed in order: it is a crash that was chosen */
}

static void on_appended(struct raft_io_append *req, int status)
{
	struct append *append = req->data;

	if (status != 0 && status != RAFT_CANCELED && status != RAFT_SHUTDOWN)
		end(raft_strerror(status));
	append->cb(append->theirs, status);
	raft_free(append);
}

/* A follower's entries were looked at when they came; it could not bear a refusal here. */
static int guarded_append(struct raft_io *io, struct raft_io_append *req,
    const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
	struct append *append;
	int r;

	if (raft_state(io->data) == RAFT_LEADER && disk_is_full())
		return RAFT_NOSPACE;
	append = raft_malloc(sizeof(*append));
	if (!append)
		return RAFT_NOMEM;
	*append = (struct append){.req.data = append, .theirs = req, .cb = cb};
	r = libraft.append(io, &append->req, entries, n, on_appended);
	if (r == RAFT_IOERR ||
	    r == RAFT_NOSPACE) /* an earlier failure, of a file made in advance */
		end(raft_strerror(r));
	if (r != 0)
		raft_free(append);
	return r;
}

/* Whatever made it so: a failed write of term or vote, or of a snapshot. */
static void guarded_tick(struct raft_io *io)
{
	libraft.tick(io);
	if (raft_state(io->data) == RAFT_UNAVAILABLE)
		end("raft has given up");
}

/* What the receiver of these messages would have taken over. */
static void discard(struct raft_message *message)
{
	struct raft_append_entries *append = &message->append_entries;
	void *batch = NULL;

	if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
		raft_configuration_close(&message->install_snapshot.conf);
		raft_free(message->install_snapshot.data.base);
		return;
	}
	for (unsigned i = 0; i < append->n_entries; i++) {
		if (append->entries[i].batch != batch)
			raft_free(append->entries[i].batch);
		batch = append->entries[i].batch;
	}
	raft_free(append->entries);
}

static void guarded_recv(struct raft_io *io, struct raft_message *message)
{
	bool writes =
	    message->type == RAFT_IO_INSTALL_SNAPSHOT ||
	    (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries > 0);

	if (writes && disk_is_full())
		discard(message);
	else
		libraft.recv(io, message);
}

static int guarded_start(
    struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
	libraft.tick = tick;
	libraft.recv = recv;
	return libraft.start(io, msecs, guarded_tick, guarded_recv);
}

int raft_uv_init(struct raft_io *io, struct uv_loop_s *loop, const char *dir,
    struct raft_uv_transport *transport)
{
	int r;

	pthread_once(&libraft.once, find_libraft);
	if (!libraft.init)
		return RAFT_NOTFOUND;
	r = libraft.init(io, loop, dir, transport);
	if (r == 0) {
		snprintf(floor_of.dir, sizeof(floor_of.dir), "%s", dir);
		raft_uv_set_connect_retry_delay(io, REDIAL_MS);
		libraft.send = io->send;
		libraft.append = io->append;
		libraft.start = io->start;
		io->send = guarded_send;
		io->append = guarded_append;
		io->start = guarded_start;
	}
	return r;
}
