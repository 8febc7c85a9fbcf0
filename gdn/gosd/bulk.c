#include "gdn/gosd/bulk.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO "GDNBULK1"
#define HELLO_SIZE (8 + TICKET_SIZE)
#define HEAD_SIZE 5
#define SEND_SIZE (256u << 10)
#define READ_SIZE (256u << 10)
#define CONNECT_MS 2000
#define HELLO_S 2
#define SILENCE_S 20

void bulk_set_init(struct bulk_set *set)
{
	*set = (struct bulk_set){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void bulk_set_cut(struct bulk_set *set)
{
	pthread_mutex_lock(&set->lock);
	set->closed = true;
	for (struct bulk *bulk = set->first; bulk; bulk = bulk->next)
		shutdown(bulk->fd, SHUT_RDWR);
	pthread_mutex_unlock(&set->lock);
}

int bulk_take(struct bulk *bulk, struct bulk_set *set, int fd)
{
	*bulk = (struct bulk){.fd = fd, .set = set};
	pthread_mutex_lock(&set->lock);
	if (set->closed) {
		pthread_mutex_unlock(&set->lock);
		close(fd);
		return -ECANCELED;
	}
	bulk->next = set->first;
	bulk->link = &set->first;
	if (bulk->next)
		bulk->next->link = &bulk->next;
	set->first = bulk;
	pthread_mutex_unlock(&set->lock);
	return 0;
}

void bulk_close(struct bulk *bulk)
{
	pthread_mutex_lock(&bulk->set->lock);
	*bulk->link = bulk->next;
	if (bulk->next)
		bulk->next->link = bulk->link;
	pthread_mutex_unlock(&bulk->set->lock);
	close(bulk->fd);
	buf_fini(&bulk->in);
	buf_fini(&bulk->out);
}

static void set_patience(int fd, int seconds)
{
	struct timeval wait = {.tv_sec = seconds};
	int on = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Connects within CONNECT_MS; fd is non-blocking until then. */
static int connect_in_time(int fd, const struct addrinfo *to)
{
	struct pollfd waiting = {.fd = fd, .events = POLLOUT};
	socklen_t size = sizeof(int);
	int error = 0;

	if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	if (poll(&waiting, 1, CONNECT_MS) <= 0)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		return -errno;
	return -error;
}

static int open_connection(const struct peer *peer)
{
	struct addrinfo hints = {
	    .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *to;
	char port[16];
	int fd, r;

	snprintf(port, sizeof(port), "%d", peer->port + PORT_GOSD_BULK);
	if (getaddrinfo(peer->address, port, &hints, &to) != 0)
		return -EINVAL;
	fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : connect_in_time(fd, to);
	freeaddrinfo(to);
	if (r == 0 && fcntl(fd, F_SETFL, 0) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

int bulk_connect(struct bulk *bulk, struct bulk_set *set, const struct peer *peer,
    const uint8_t ticket[TICKET_SIZE])
{
	int r, fd = open_connection(peer);

	if (fd < 0)
		return fd;
	set_patience(fd, SILENCE_S);
	r = bulk_take(bulk, set, fd);
	if (r < 0)
		return r;
	r = buf_append(&bulk->out, HELLO, 8);
	if (r == 0)
		r = buf_append(&bulk->out, ticket, TICKET_SIZE);
	if (r == 0)
		r = bulk_flush(bulk);
	if (r < 0)
		bulk_close(bulk);
	return r;
}

/* Reads until `need` bytes wait behind what was taken. */
static int fill(struct bulk *bulk, size_t need)
{
	if (bulk->taken > 0 && bulk->in.size - bulk->taken < need) {
		memmove(bulk->in.data, bulk->in.data + bulk->taken, bulk->in.size - bulk->taken);
		bulk->in.size -= bulk->taken;
		bulk->taken = 0;
	}
	while (bulk->in.size - bulk->taken < need) {
		size_t room = need > READ_SIZE ? need : READ_SIZE;
		uint8_t *to = buf_reserve(&bulk->in, room - (bulk->in.size - bulk->taken));
		ssize_t n;

		if (!to)
			return -ENOMEM;
		n = recv(bulk->fd, to, room - (bulk->in.size - bulk->taken), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : -errno;
		bulk->in.size += (size_t)n;
	}
	return 0;
}

int bulk_accept(struct bulk *bulk, struct bulk_set *set, int fd, uint8_t ticket[TICKET_SIZE])
{
	int r = bulk_take(bulk, set, fd);

	if (r < 0)
		return r;
	set_patience(fd, HELLO_S);
	r = fill(bulk, HELLO_SIZE);
	if (r == 0 && memcmp(bulk->in.data, HELLO, 8) != 0)
		r = -EBADMSG;
	if (r < 0) {
		bulk_close(bulk);
		return r;
	}
	memcpy(ticket, bulk->in.data + 8, TICKET_SIZE);
	bulk->taken = HELLO_SIZE;
	set_patience(fd, SILENCE_S);
	return 0;
}

int bulk_flush(struct bulk *bulk)
{
	for (size_t at = 0; at < bulk->out.size;) {
		ssize_t n = send(bulk->fd, bulk->out.data + at, bulk->out.size - at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		at += (size_t)n;
	}
	buf_clear(&bulk->out);
	return 0;
}

int bulk_send(struct bulk *bulk, enum bulk_type type, const void *head, size_t head_size,
    const void *data, size_t size)
{
	uint32_t length = htole32((uint32_t)(head_size + size));
	uint8_t kind = (uint8_t)type;
	int r = buf_append(&bulk->out, &length, sizeof(length));

	if (r == 0)
		r = buf_append(&bulk->out, &kind, 1);
	if (r == 0)
		r = buf_append(&bulk->out, head, head_size);
	if (r == 0)
		r = buf_append(&bulk->out, data, size);
	if (r == 0 && bulk->out.size >= SEND_SIZE)
		r = bulk_flush(bulk);
	return r;
}

int bulk_recv(struct bulk *bulk, enum bulk_type *type, const uint8_t **data, size_t *size)
{
	uint32_t length;
	int r = fill(bulk, HEAD_SIZE);

	if (r < 0)
		return r;
	memcpy(&length, bulk->in.data + bulk->taken, sizeof(length));
	length = le32toh(length);
	if (length > BULK_FRAME_MAX)
		return -EBADMSG;
	r = fill(bulk, HEAD_SIZE + length);
	if (r < 0)
		return r;
	*type = bulk->in.data[bulk->taken + 4];
	*data = bulk->in.data + bulk->taken + HEAD_SIZE;
	*size = length;
	bulk->taken += HEAD_SIZE + length;
	return 0;
}
