/*
 * Never blocks: the socket is written and read when the loop says that it can be.  A hung service is one
 * whose kernel still accepts connections: TCP connect alone succeeds there, HTTP gets no answer.
 */
#include "fdd/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fdd/http.h"

enum { ANSWER_MAX = 64 * 1024, REQUEST_MAX = 512 };

struct probe {
	int fd;
	sd_event_source *io;
	const struct msg_common_probe *what;
	probe_done done;
	void *userdata;
	size_t request_size, written, size;
	char request[REQUEST_MAX];
	char answer[]; /* ANSWER_MAX for http */
};

static int fill_address(const char *text, uint16_t port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return sizeof(*v6);
	}
	return -EINVAL;
}

static void finish(struct probe *probe, const char *fault)
{
	sd_event_source_set_enabled(probe->io, SD_EVENT_OFF);
	probe->done(probe->userdata, fault);
}

static void on_writable(struct probe *probe)
{
	size_t left = probe->request_size - probe->written;
	ssize_t sent = send(probe->fd, probe->request + probe->written, left, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN && errno != EINTR) {
		finish(probe, strerror(errno));
		return;
	}
	if (sent > 0)
		probe->written += (size_t)sent;
	if (probe->written == probe->request_size)
		sd_event_source_set_io_events(probe->io, EPOLLIN);
}

static void on_readable(struct probe *probe)
{
	ssize_t got = recv(probe->fd, probe->answer + probe->size, ANSWER_MAX - probe->size, 0);
	enum http_verdict verdict;
	char why[128];

	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			finish(probe, strerror(errno));
		return;
	}
	probe->size += (size_t)got;
	verdict = http_judge(probe->answer, probe->size, got == 0 || probe->size == ANSWER_MAX,
	    probe->what->status, probe->what->match, why, sizeof(why));
	if (verdict != HTTP_MORE)
		finish(probe, verdict == HTTP_GOOD ? NULL : why);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct probe *probe = userdata;
	socklen_t length = sizeof(int);
	int error = 0;

	(void)source;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error)
		finish(probe, strerror(error));
	else if (probe->what->kind == MSG_COMMON_PROBE_KIND_TCP)
		finish(probe, NULL);
	else if (events & EPOLLOUT && probe->written < probe->request_size)
		on_writable(probe);
	else
		on_readable(probe);
	return 0;
}

static int open_socket(struct probe *probe, const char *text, uint16_t port)
{
	struct sockaddr_storage address;
	int length = fill_address(text, port, &address);

	if (length < 0)
		return length;
	probe->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (probe->fd < 0)
		return -errno;
	if (connect(probe->fd, (struct sockaddr *)&address, (socklen_t)length) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	return 0;
}

int probe_new(struct probe **out, sd_event *loop, const char *address,
    const struct msg_common_probe *what, probe_done done, void *userdata)
{
	bool http = what->kind == MSG_COMMON_PROBE_KIND_HTTP;
	struct probe *probe = malloc(sizeof(*probe) + (http ? ANSWER_MAX : 0));
	int r;

	if (!probe)
		return -ENOMEM;
	*probe = (struct probe){.fd = -1, .what = what, .done = done, .userdata = userdata};
	if (http)
		probe->request_size =
		    http_request(probe->request, sizeof(probe->request), address, what->target);
	r = open_socket(probe, address, what->port);
	if (r == 0)
		r = sd_event_add_io(loop, &probe->io, probe->fd, EPOLLOUT, on_io, probe);
	if (r < 0) {
		probe_free(probe);
		return r;
	}
	*out = probe;
	return 0;
}

struct probe *probe_free(struct probe *probe)
{
	if (!probe)
		return NULL;
	sd_event_source_disable_unref(probe->io);
	if (probe->fd >= 0)
		close(probe->fd);
	free(probe);
	return NULL;
}
