/*
 * Two faults of libraft 0.15 kept out (Debian 12 has that version).
 *
 * The first is a crash (canonical/raft issue 350).
 * A follower answers an AppendEntries when its disk has written the entries, to the leader of that moment.  When the
 * leader was lost in between there is none: libraft then sends to the address NULL, and takes its length.  The window is
 * the write of one batch, so a voter falls now and then just when the leader does, and the two together are a majority.
 *
 * This definition of raft_uv_init stands before libraft's own: the program's symbols are looked up first, by libdqlite
 * too.  It puts a check before send.  A message to nobody is not sent; libraft drops it as it does when memory is short,
 * and the next leader asks again.  Rejected: a patched libraft of our own, which then misses Debian's security updates.
 *
 * The second is a wait.  Each voter has a connection of its own to each other one and speaks on that one only, its votes
 * too.  When dialling fails it waits a second before the next attempt, and libdqlite has no way to choose another time: a
 * voter that has just come back gets no vote and gives none for so long, however short the election timeout, if the leader
 * is lost in that second.  So the wait is set here.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <raft.h>
#include <raft/uv.h>

typedef int init_function(struct raft_io *io, struct uv_loop_s *loop, const char *dir,
    struct raft_uv_transport *transport);

#define REDIAL_MS 100 /* a third of the shortest election timeout by default */

/* libraft's own; the same for every io, set once. */
static struct {
	pthread_once_t once;
	init_function *init;
	int (*send)(struct raft_io *io, struct raft_io_send *req,
	    const struct raft_message *message, raft_io_send_cb cb);
} libraft = {.once = PTHREAD_ONCE_INIT};

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

int raft_uv_init(struct raft_io *io, struct uv_loop_s *loop, const char *dir,
    struct raft_uv_transport *transport)
{
	int r;

	pthread_once(&libraft.once, find_libraft);
	if (!libraft.init)
		return RAFT_NOTFOUND;
	r = libraft.init(io, loop, dir, transport);
	if (r == 0) {
		raft_uv_set_connect_retry_delay(io, REDIAL_MS);
		libraft.send = io->send;
		io->send = guarded_send;
	}
	return r;
}
