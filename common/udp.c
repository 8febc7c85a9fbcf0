/*
 * The kernel stamps each datagram when it arrives (SO_TIMESTAMPNS), so a daemon that wakes late
 * still learns when its datagrams came.  The stamp is wall-clock time; it is brought to the
 * monotonic clock by reading both clocks when the datagram is taken.  A step of the wall clock in
 * between would falsify it, so it is held between the time at which the socket was last seen
 * empty and now.
 */
#include "common/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

/* 23 peers at 10 heartbeats a second fill 1 MiB of socket buffer in six seconds. */
#define RECEIVE_BUFFER (1 << 20)

int udp_address(struct udp_address *to, const char *address, uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&to->storage;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&to->storage;

	memset(to, 0, sizeof(*to));
	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		to->size = sizeof(*in);
	} else if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		to->size = sizeof(*in6);
	} else {
		return -EINVAL;
	}
	return 0;
}

static int set_options(int fd)
{
	int on = 1, size = RECEIVE_BUFFER;

	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) < 0)
		return -errno;
	/* Beyond net.core.rmem_max only with CAP_NET_ADMIN; less is not an error. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return 0;
}

int udp_open(struct udp *udp, const char *address, uint16_t port)
{
	struct udp_address own;
	int r = udp_address(&own, address, port);

	udp->fd = -1;
	if (r < 0) {
		log_error("[node] address %s: not a numeric address", address);
		return r;
	}
	udp->fd = socket(own.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (udp->fd < 0)
		r = -errno;
	if (r == 0)
		r = set_options(udp->fd);
	if (r == 0 && bind(udp->fd, (struct sockaddr *)&own.storage, own.size) < 0)
		r = -errno;
	if (r < 0) {
		log_error("bind udp %s port %u: %s", address, port, strerror(-r));
		udp_close(udp);
	}
	udp->emptied = mono_now();
	return r;
}

void udp_close(struct udp *udp)
{
	if (udp->fd >= 0)
		close(udp->fd);
	udp->fd = -1;
}

/* The kernel's stamp in this message as monotonic time; now when there is none. */
static struct mono arrival(const struct udp *udp, struct msghdr *message, struct mono now)
{
	struct timespec stamp, wall;
	struct mono arrived = now;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
			continue;
		memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
		clock_gettime(CLOCK_REALTIME, &wall);
		arrived.ns -= (int64_t)(wall.tv_sec - stamp.tv_sec) * 1000000000 + wall.tv_nsec -
			      stamp.tv_nsec;
	}
	if (mono_before(arrived, udp->emptied))
		arrived = udp->emptied;
	return mono_min(arrived, now);
}

static void write_address(char *text, size_t size, const struct sockaddr_storage *from)
{
	const void *address = from->ss_family == AF_INET6
				  ? (const void *)&((const struct sockaddr_in6 *)from)->sin6_addr
				  : (const void *)&((const struct sockaddr_in *)from)->sin_addr;

	if (!inet_ntop(from->ss_family, address, text, (socklen_t)size))
		text[0] = '\0';
}

int udp_receive(struct udp *udp, struct udp_datagram *datagram)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct timespec))];
		struct cmsghdr align;
	} control;
	struct sockaddr_storage from = {0};
	struct iovec iov = {datagram->bytes, sizeof(datagram->bytes)};
	struct msghdr message = {.msg_name = &from,
	    .msg_namelen = sizeof(from),
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control)};
	struct mono before = mono_now();
	ssize_t n = recvmsg(udp->fd, &message, 0);

	if (n < 0) {
		int r = -errno;

		if (r == -EAGAIN)
			udp->emptied = before;
		return r;
	}
	datagram->size = (size_t)n;
	datagram->arrived = arrival(udp, &message, mono_now());
	write_address(datagram->from, sizeof(datagram->from), &from);
	return 0;
}

int udp_send(struct udp *udp, const struct udp_address *to, const void *bytes, size_t size)
{
	if (sendto(udp->fd, bytes, size, 0, (const struct sockaddr *)&to->storage, to->size) < 0)
		return -errno;
	return 0;
}
