#include "common/zmonitor.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/zcontext.h"

struct zmonitor {
	void *socket; /* the one that is watched */
	void *events; /* PAIR: libzmq tells us through it */
	struct zwatch *watch;
	void (*happened)(void *userdata, int event);
	void *userdata;
	bool telling, ended; /* freed while it tells: the memory goes afterwards */
};

static void on_events(void *userdata)
{
	struct zmonitor *monitor = userdata;
	struct zframes frames;

	monitor->telling = true;
	while (!monitor->ended && zsock_recv(monitor->events, &frames) == 0) {
		uint16_t event = 0;

		if (zframe_size(&frames, 0) >= sizeof(event))
			memcpy(&event, zframe_data(&frames, 0), sizeof(event));
		zframes_fini(&frames);
		monitor->happened(monitor->userdata, event);
	}
	monitor->telling = false;
	if (monitor->ended)
		free(monitor);
}

int zmonitor_new(struct zmonitor **out, struct zcontext *context, sd_event *loop, void *socket,
    int mask, void (*happened)(void *userdata, int event), void *userdata)
{
	struct zmonitor *monitor = calloc(1, sizeof(*monitor));
	char endpoint[64];
	int r = 0;

	if (!monitor)
		return -ENOMEM;
	monitor->socket = socket;
	monitor->happened = happened;
	monitor->userdata = userdata;
	snprintf(endpoint, sizeof(endpoint), "inproc://monitor-%p", socket);
	if (zmq_socket_monitor(socket, endpoint, mask) < 0)
		r = -zmq_errno();
	if (r == 0) {
		monitor->events = zmq_socket(zcontext_native(context), ZMQ_PAIR);
		if (!monitor->events || zmq_connect(monitor->events, endpoint) < 0)
			r = -zmq_errno();
	}
	if (r == 0)
		r = zwatch_new(&monitor->watch, loop, monitor->events, on_events, monitor);
	if (r < 0) {
		zmonitor_free(monitor);
		return r;
	}
	*out = monitor;
	return 0;
}

struct zmonitor *zmonitor_free(struct zmonitor *monitor)
{
	if (!monitor)
		return NULL;
	zwatch_free(monitor->watch);
	zmq_socket_monitor(monitor->socket, NULL, 0);
	if (monitor->events)
		zmq_close(monitor->events);
	monitor->ended = true;
	if (!monitor->telling)
		free(monitor);
	return NULL;
}
