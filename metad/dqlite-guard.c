/*
 * A waste of libdqlite 1.11 kept out (Debian 12 has that version; 1.16 still does the same).
 *
 * With each entry that a voter applies, libdqlite opens a connection of SQLite, pragmas and all, and closes it, only to learn how
 * long the write-ahead log is: a checkpoint is due at 1000 pages.  That was two thirds of a follower's CPU for a write, and a
 * follower applies the entry before when the next one comes, before it answers.  So the connection is refused while an entry is
 * applied, which libdqlite takes for "another time", until enough was applied that the answer may have changed.  The log outgrows
 * its 1000 pages by that much and no more: while a snapshot holds checkpoints up, libdqlite does not come to ask, and what is
 * applied goes on being counted.
 *
 * Where the database does not exist yet the connection is there to make it, and is let through.
 *
 * This works as raft-guard.c does: definitions that stand before the libraries' own.  Rejected: to hand out one connection that
 * stays open, which a snapshot that is restored would pull the file away from.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <raft.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

#define LOOK_BYTES (64 * 4096) /* applied between two looks at the length of the log */

/* The libraries' own, the same for every engine of a process. */
static struct {
	pthread_once_t once;
	int (*raft_init)(struct raft *raft, struct raft_io *io, struct raft_fsm *fsm, raft_id id,
	    const char *address);
	int (*open)(const char *name, sqlite3 **out, int flags, const char *vfs);
	int (*apply)(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result);
} theirs = {.once = PTHREAD_ONCE_INIT};

/* Each engine applies in a thread of its own. */
static _Thread_local struct {
	bool applying;
	size_t bytes; /* applied since the last look */
} here;

static void find_theirs(void)
{
	*(void **)&theirs.raft_init = dlsym(RTLD_NEXT, "raft_init"); /* as dlsym(3) has it */
	*(void **)&theirs.open = dlsym(RTLD_NEXT, "sqlite3_open_v2");
}

static int guarded_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
	int r;

	here.bytes += buf->len;
	here.applying = true;
	r = theirs.apply(fsm, buf, result);
	here.applying = false;
	return r;
}

int raft_init(
    struct raft *raft, struct raft_io *io, struct raft_fsm *fsm, raft_id id, const char *address)
{
	pthread_once(&theirs.once, find_theirs);
	if (!theirs.raft_init || !theirs.open)
		return RAFT_NOTFOUND;
	if (fsm->apply && fsm->apply != guarded_apply) {
		theirs.apply = fsm->apply;
		fsm->apply = guarded_apply;
	}
	return theirs.raft_init(raft, io, fsm, id, address);
}

static bool exists(const char *name, const char *vfs_name)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find(vfs_name);
	int there = 0;

	return vfs && vfs->xAccess(vfs, name, SQLITE_ACCESS_EXISTS, &there) == SQLITE_OK && there;
}

int sqlite3_open_v2(const char *name, sqlite3 **out, int flags, const char *vfs)
{
	pthread_once(&theirs.once, find_theirs);
	if (here.applying && exists(name, vfs)) {
		if (here.bytes < LOOK_BYTES) {
			*out = NULL;
			return SQLITE_BUSY;
		}
		here.bytes = 0;
	}
	return theirs.open(name, out, flags, vfs);
}
