/*
 * Drives a ZeroMQ socket from sd-event.
 *
 * ZMQ_FD is edge-triggered: it wakes when something changes inside the socket, and any call on the socket
 * (also a send) may consume the edge while messages stay in the queue.  So the descriptor only wakes the
 * loop; whether there is work is asked of ZMQ_EVENTS before the loop sleeps (the prepare callback), and then a
 * deferred source runs ready() in its turn beside the other sources.
 *
 * To ask costs two system calls a socket, so only those are asked that were used since they were last seen
 * empty: zsock_send() and zsock_recv() tell.
 */
#include "common/zcontext.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

struct zwatch {
	struct zwatch *next;
	void *socket;
	bool used; /* an edge may be gone, and messages there */
	sd_event_source *wake, *work;
	void (*ready)(void *userdata);
	void *userdata;
};

/* All watches of this process: a socket is all that is known when it is used. */
static struct zwatch *watches;

void zwatch_note(void *socket, bool used)
{
	for (struct zwatch *watch = watches; watch; watch = watch->next)
		if (watch->socket == socket)
			watch->used = used;
}

static bool has_messages(struct zwatch *watch)
{
	int events = 0;
	size_t size = sizeof(events);

	watch->used =
	    zmq_getsockopt(watch->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
	return watch->used;
}

/* ready() may free the watch: nothing is touched after it. */
static int on_wake(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct zwatch *watch = userdata;

	(void)source;
	(void)fd;
	(void)revents;
	if (has_messages(watch))
		watch->ready(watch->userdata);
	return 0;
}

static int on_work(sd_event_source *source, void *userdata)
{
	struct zwatch *watch = userdata;

	(void)source;
	watch->ready(watch->userdata);
	return 0;
}

static int on_prepare(sd_event_source *source, void *userdata)
{
	struct zwatch *watch = userdata;

	(void)source;
	if (watch->used && has_messages(watch))
		return sd_event_source_set_enabled(watch->work, SD_EVENT_ONESHOT);
	return 0;
}

static int add_sources(struct zwatch *watch, sd_event *loop)
{
	int fd, r;
	size_t size = sizeof(fd);

	if (zmq_getsockopt(watch->socket, ZMQ_FD, &fd, &size) < 0)
		return -zmq_errno();
	r = sd_event_add_io(loop, &watch->wake, fd, EPOLLIN, on_wake, watch);
	if (r >= 0)
		r = sd_event_source_set_prepare(watch->wake, on_prepare);
	if (r >= 0)
		r = sd_event_add_defer(loop, &watch->work, on_work, watch);
	return r < 0 ? r : 0;
}

int zwatch_new(struct zwatch **out, sd_event *loop, void *socket, void (*ready)(void *userdata),
    void *userdata)
{
	struct zwatch *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	watch->socket = socket;
	watch->ready = ready;
	watch->userdata = userdata;
	watch->used = true;
	watch->next = watches;
	watches = watch;
	r = add_sources(watch, loop);
	if (r < 0) {
		zwatch_free(watch);
		return r;
	}
	*out = watch;
	return 0;
}

struct zwatch *zwatch_free(struct zwatch *watch)
{
	if (!watch)
		return NULL;
	for (struct zwatch **at = &watches; *at; at = &(*at)->next) {
		if (*at == watch) {
			*at = watch->next;
			break;
		}
	}
	sd_event_source_disable_unref(watch->wake);
	sd_event_source_disable_unref(watch->work);
	free(watch);
	return NULL;
}
