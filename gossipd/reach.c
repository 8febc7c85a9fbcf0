/*
 * Does the kernel of a member answer for it?  (gossipd/stall.c says why.)  One TCP connection to the port at which
 * its gossipd takes requests of nodes: a kernel accepts it also for a process that stands still; a live
 * gossipd greets at once, as every ZeroMQ peer does; where there is no process, the kernel refuses.
 *
 * No byte is sent.  The connection is kept until the core ends it: a process that is killed while it stands
 * still has it reset by its kernel, and keep-alives find out within three seconds that the node has gone.  It
 * is ended by a reset, which leaves no TIME_WAIT at either end; a gossipd that wakes finds at most one for each
 * of its observers, far below the backlog of its port.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/udp.h"
#include "gossipd/shell-internal.h"

#define KEEPALIVE_S 1
#define KEEPALIVES 2

void reach_end(struct reach *reach)
{
	if (!reach->io)
		return;
	reach->io = sd_event_source_disable_unref(reach->io);
	close(reach->fd);
}

static void tell(struct reach *reach, bool mute)
{
	struct gossipd_event event = {.type = GOSSIPD_REACHED};

	event.reached.id = reach->id;
	event.reached.mute = mute;
	shell_step(reach->shell, &event);
}

/* What can be read: a greeting, the end, or an error; all of them end the silence. */
static bool is_mute(const struct reach *reach)
{
	char byte;

	return recv(reach->fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static int on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct reach *reach = userdata;
	struct shell *shell = reach->shell;

	(void)fd;
	(void)revents;
	if (!is_mute(reach)) {
		reach_end(reach);
		tell(reach, false);
	} else if (!reach->accepted) {
		reach->accepted = true;
		(void)sd_event_source_set_io_events(source, EPOLLIN);
		tell(reach, true);
	}
	shell_wake(shell);
	return 0;
}

static int open_socket(const struct udp_address *to)
{
	const int on = 1, seconds = KEEPALIVE_S, count = KEEPALIVES;
	const struct linger reset = {.l_onoff = 1, .l_linger = 0};
	int fd = socket(to->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	if (connect(fd, (const struct sockaddr *)&to->storage, to->size) < 0 &&
	    errno != EINPROGRESS) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int begin(struct shell *shell, struct neighbour *neighbour)
{
	const struct peer *peer = neighbour->peer;
	struct reach *reach = &neighbour->reach;
	struct udp_address to;
	int r = udp_address(&to, peer->address, (uint16_t)(peer->port + PORT_GOSSIPD_RPC));

	reach_end(reach);
	*reach = (struct reach){.shell = shell, .id = peer->id, .fd = -1};
	if (r == 0)
		r = reach->fd = open_socket(&to);
	if (r < 0)
		return r;
	r = sd_event_add_io(
	    shell->daemon->loop, &reach->io, reach->fd, EPOLLIN | EPOLLOUT, on_io, reach);
	if (r < 0)
		close(reach->fd);
	return r;
}

/* Without an answer the core judges as it would without asking. */
void reach_set(struct shell *shell, uint64_t id, bool to_begin)
{
	struct neighbour *neighbour = links_find(shell, id);
	int r;

	if (!neighbour)
		return;
	if (!to_begin) {
		reach_end(&neighbour->reach);
		return;
	}
	r = begin(shell, neighbour);
	if (r < 0)
		log_info("connect to %s: %s", neighbour->peer->name, strerror(-r));
}
