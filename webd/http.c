/*
 * libmicrohttpd without threads: its epoll descriptor is a source of the loop, MHD_run does what is due.
 *
 * Every connection has a place with the time since which its client owes us something (the rest of a request, or room
 * for an answer).  MHD's own time-out counts from the last byte, so a client that sends one byte in nine seconds would
 * stay for a day; here the whole request has to be there in time.  Who is late is cut by shutting the socket down:
 * MHD then ends the connection in its own way.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "webd/http-internal.h"

#define HEADERS_MAX                                                                                \
	((size_t)16 << 10) /* bytes of a connection: headers, and a part of the answer */
#define SWEEP_MS 500
#define BACKLOG 64

/* --- places --- */

void place_set(struct place *place, enum doing doing)
{
	place->doing = doing;
	place->since = mono_now();
}

/* Ends the connection of a client that is too slow. */
static void place_cut(struct place *place)
{
	const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

	if (place->cut)
		return;
	place->cut = true;
	place->http->counts.cut++;
	/* What it did not take is not kept for it by the kernel either. */
	(void)setsockopt(place->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	shutdown(place->fd, SHUT_RDWR);
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct http *http = userdata;
	struct mono limit = mono_add_ms(mono_now(), -http->options.patience_ms);

	(void)usec;
	for (unsigned i = 0; i < http->options.connections; i++) {
		struct place *place = &http->places[i];

		if (place->fd >= 0 && place->doing != WAITING && place->doing != QUIET &&
		    mono_before(place->since, limit))
			place_cut(place);
	}
	if (http->used == 0)
		return 0;
	(void)sd_event_source_set_time_relative(source, SWEEP_MS * 1000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void place_take(struct http *http, struct MHD_Connection *connection, void **context)
{
	const union MHD_ConnectionInfo *info =
	    MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct place *place = http->places;

	while (place->fd >= 0)
		place++; /* MHD lets in no more than there are */
	*place = (struct place){.http = http, .fd = info ? info->connect_fd : -1};
	place_set(place, READING);
	*context = place;
	http->counts.connections++;
	if (http->used++ == 0) {
		(void)sd_event_source_set_time_relative(http->sweep, SWEEP_MS * 1000);
		(void)sd_event_source_set_enabled(http->sweep, SD_EVENT_ONESHOT);
	}
}

static void on_connection(void *userdata, struct MHD_Connection *connection, void **context,
    enum MHD_ConnectionNotificationCode code)
{
	struct http *http = userdata;
	struct place *place = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		place_take(http, connection, context);
		return;
	}
	http->counts.unfinished += !place->asked;
	place->fd = -1;
	http->used--;
}

/* --- the loop --- */

void http_run_again(struct http *http, uint64_t after_ms)
{
	(void)sd_event_source_set_time_relative(http->again, after_ms * 1000);
	(void)sd_event_source_set_enabled(http->again, SD_EVENT_ONESHOT);
}

static void run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;

	(void)MHD_run(http->daemon);
	if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES)
		http_run_again(http, wait_ms);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source;
	(void)fd;
	(void)events;
	run(userdata);
	return 0;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	run(userdata);
	return 0;
}

/* --- what MHD calls --- */

/* Called with the headers, with each piece of the body, at its end, and again when the connection is resumed. */
static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection,
    const char *path, const char *method, const char *version, const char *data, size_t *size,
    void **context)
{
	struct exchange *exchange = *context;

	(void)version;
	if (!exchange) {
		exchange = *context = exchange_new(userdata, connection);
		if (!exchange)
			return MHD_NO;
		return exchange_admit(exchange, path, method) ? MHD_YES : exchange_queue(exchange);
	}
	if (*size > 0) {
		/* MHD gives no more than was announced; that was checked. */
		int r = buf_append(&exchange->body, data, *size);

		*size = 0;
		return r < 0 ? MHD_NO : MHD_YES;
	}
	if (!exchange->dispatched) {
		exchange->dispatched = true;
		exchange_dispatch(exchange);
	}
	return exchange->status ? exchange_queue(exchange) : MHD_YES;
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **context,
    enum MHD_RequestTerminationCode code)
{
	struct exchange *exchange = *context;

	(void)userdata;
	(void)connection;
	(void)code;
	*context = exchange_free(exchange);
}

/* --- start and end --- */

static int open_listener(const struct http_options *options)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(options->port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(options->port)};
	const struct sockaddr *address = (const struct sockaddr *)&v4;
	const int yes = 1;
	socklen_t size = sizeof(v4);
	int fd, r;

	if (inet_pton(AF_INET, options->address, &v4.sin_addr) != 1) {
		if (inet_pton(AF_INET6, options->address, &v6.sin6_addr) != 1)
			return -EINVAL;
		address = (const struct sockaddr *)&v6;
		size = sizeof(v6);
	}
	fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
	    bind(fd, address, size) < 0 || listen(fd, BACKLOG) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int start_daemon(struct http *http, int fd)
{
	http->daemon =
	    MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request,
		http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
		http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_CONNECTION_LIMIT,
		http->options.connections, MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADERS_MAX,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (http->daemon)
		return 0;
	close(fd);
	return -ENOMEM;
}

static int open_sources(struct http *http, sd_event *loop)
{
	const union MHD_DaemonInfo *info =
	    MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int r;

	if (!info)
		return -ENOSYS;
	r = sd_event_add_io(loop, &http->io, info->epoll_fd, EPOLLIN, on_io, http);
	if (r >= 0)
		r = sd_event_add_time_relative(
		    loop, &http->again, CLOCK_MONOTONIC, 0, 1, on_again, http);
	if (r >= 0)
		r = sd_event_add_time_relative(
		    loop, &http->sweep, CLOCK_MONOTONIC, 0, 100000, on_sweep, http);
	return r;
}

int http_new(struct http **out, sd_event *loop, const struct http_options *options)
{
	struct http *http = calloc(1, sizeof(*http));
	int r;

	if (!http)
		return -ENOMEM;
	http->options = *options;
	http->places = calloc(options->connections, sizeof(*http->places));
	for (unsigned i = 0; http->places && i < options->connections; i++)
		http->places[i].fd = -1;
	r = http->places ? open_listener(options) : -ENOMEM;
	if (r < 0) {
		log_error(
		    "listen at %s port %u: %s", options->address, options->port, strerror(-r));
		http_free(http);
		return r;
	}
	r = start_daemon(http, r);
	if (r >= 0)
		r = open_sources(http, loop);
	if (r < 0) {
		log_error("start HTTP: %s", strerror(-r));
		http_free(http);
		return r;
	}
	*out = http;
	return 0;
}

struct http *http_free(struct http *http)
{
	if (!http)
		return NULL;
	if (http->daemon) {
		for (int i = 0; i < 3; i++) /* what the streams were told last */
			(void)MHD_run(http->daemon);
		MHD_stop_daemon(http->daemon);
	}
	sd_event_source_disable_unref(http->io);
	sd_event_source_disable_unref(http->again);
	sd_event_source_disable_unref(http->sweep);
	free(http->places);
	free(http);
	return NULL;
}

int http_add(struct http *http, const struct http_endpoint *endpoints, void *userdata)
{
	if (http->n_tables == TABLES_MAX)
		return -ENOSPC;
	http->tables[http->n_tables].endpoints = endpoints;
	http->tables[http->n_tables++].userdata = userdata;
	return 0;
}

const struct http_counts *http_counts(const struct http *http)
{
	return &http->counts;
}
