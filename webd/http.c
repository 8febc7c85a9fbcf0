/*
 * libmicrohttpd without threads: its epoll descriptor is a source of the loop, MHD_run does what is due.
 *
 * An exchange that waits for another daemon, or a stream with nothing to say, is suspended: MHD forgets the connection
 * until it is resumed.  So an idle stream costs nothing, and its client's going is noticed by the next keep-alive.
 *
 * Every connection has a place with the time since which its client owes us something (the rest of a request, or room
 * for an answer).  MHD's own time-out counts from the last byte, so a client that sends one byte in nine seconds would
 * stay for a day; here the whole request has to be there in time.  Who is late is cut by shutting the socket down:
 * MHD then ends the connection in its own way.
 *
 * Bodies need a Content-Length: one that is too long is then refused before it is read.
 */
#include "webd/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"

#define TABLES_MAX 8
#define HEADERS_MAX                                                                                \
	((size_t)16 << 10) /* bytes of a connection: headers, and a part of the answer */
#define BLOCK 4096
#define SEND_BUFFER (16 << 10) /* of a stream, in the kernel */
#define SWEEP_MS 500
#define BACKLOG 64

enum doing {
	READING,   /* a request; or nothing, between two of them */
	WAITING,   /* for our answer */
	WRITING,   /* it */
	STREAMING, /* there is something that the client has not taken yet */
	QUIET,     /* a stream with nothing to say */
};

struct place {
	struct http *http;
	int fd; /* -1: free */
	enum doing doing;
	struct mono since;
	bool asked; /* a request came */
	bool cut;
};

struct exchange {
	struct http *http;
	struct MHD_Connection *connection;
	struct place *place;
	const struct http_endpoint *endpoint;
	void *userdata;
	char part[PATH_PART_MAX + 1];
	struct buf body;
	bool dispatched, suspended;
	unsigned status; /* 0: not answered yet */
	struct MHD_Response *response;
	const struct http_source *source;
	void *source_userdata;
};

struct http {
	struct http_options options;
	struct MHD_Daemon *daemon;
	sd_event_source *io, *again, *sweep;
	struct {
		const struct http_endpoint *endpoints;
		void *userdata;
	} tables[TABLES_MAX];
	size_t n_tables;
	struct http_counts counts;
	unsigned used; /* places */
	struct place *places;
	struct log_limit denied_limit;
};

/* --- places --- */

static void place_set(struct place *place, enum doing doing)
{
	place->doing = doing;
	place->since = mono_now();
}

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

/* MHD has work that no descriptor tells of. */
static void run_again(struct http *http, uint64_t after_ms)
{
	(void)sd_event_source_set_time_relative(http->again, after_ms * 1000);
	(void)sd_event_source_set_enabled(http->again, SD_EVENT_ONESHOT);
}

static void run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG wait_ms;

	(void)MHD_run(http->daemon);
	if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES)
		run_again(http, wait_ms);
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

static void suspend(struct exchange *exchange)
{
	exchange->suspended = true;
	MHD_suspend_connection(exchange->connection);
}

static void resume(struct exchange *exchange)
{
	if (!exchange->suspended)
		return;
	exchange->suspended = false;
	MHD_resume_connection(exchange->connection);
	run_again(exchange->http, 0);
}

/* --- the request --- */

void *exchange_userdata(const struct exchange *exchange)
{
	return exchange->userdata;
}

const char *exchange_part(const struct exchange *exchange)
{
	return exchange->part;
}

const char *exchange_argument(const struct exchange *exchange, const char *name)
{
	return MHD_lookup_connection_value(exchange->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *exchange_header(const struct exchange *exchange, const char *name)
{
	return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

const struct buf *exchange_body(const struct exchange *exchange)
{
	return &exchange->body;
}

/* --- the answer --- */

static void count_status(struct http *http, unsigned status)
{
	if (status == 401 || status == 403 || status == 421)
		http->counts.denied++;
	else if (status >= 500)
		http->counts.failed++;
	else if (status >= 400)
		http->counts.refused++;
}

static void add_header(struct exchange *exchange, const char *name, const char *value)
{
	(void)MHD_add_response_header(exchange->response, name, value);
}

/* Takes over the response; NULL (no memory) ends the connection. */
static void give(struct exchange *exchange, unsigned status, struct MHD_Response *response)
{
	exchange->status = status;
	exchange->response = response;
	count_status(exchange->http, status);
	place_set(exchange->place, WRITING);
	if (response) {
		add_header(exchange, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
		add_header(exchange, "X-Content-Type-Options", "nosniff");
	}
	resume(exchange);
}

static void give_json(struct exchange *exchange, unsigned status, json_t *value)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
	size_t size = text ? strlen(text) : 0;
	struct MHD_Response *response =
	    MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);

	json_decref(value);
	give(exchange, status, response);
	if (response && text)
		add_header(exchange, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
}

void exchange_answer(
    struct exchange *exchange, unsigned status, json_t *value, const char *location)
{
	give_json(exchange, status, value);
	if (location && exchange->response)
		add_header(exchange, MHD_HTTP_HEADER_LOCATION, location);
}

void exchange_fail(
    struct exchange *exchange, unsigned status, const char *where, const char *format, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	give_json(exchange, status, json_pack("{s:s*, s:s*}", "error", text, "where", where));
	if (!exchange->response)
		return;
	if (status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE)
		add_header(exchange, MHD_HTTP_HEADER_RETRY_AFTER, "2");
	if (status == MHD_HTTP_UNAUTHORIZED)
		add_header(exchange, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
}

/* --- streams --- */

static ssize_t on_read(void *userdata, uint64_t at, char *out, size_t max)
{
	struct exchange *exchange = userdata;
	int taken = exchange->source->take(exchange->source_userdata, out, max);

	(void)at;
	place_set(exchange->place, STREAMING);
	if (taken == SOURCE_END)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (taken == SOURCE_CUT) {
		place_cut(exchange->place);
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	if (taken == 0) {
		exchange->place->doing = QUIET;
		suspend(exchange);
	}
	return taken;
}

void exchange_stream(struct exchange *exchange, const struct http_source *source, void *userdata)
{
	const int size = SEND_BUFFER;

	/* So that a client that does not read is noticed by its place, and costs the kernel no megabytes. */
	(void)setsockopt(exchange->place->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	exchange->source = source;
	exchange->source_userdata = userdata;
	give(exchange, MHD_HTTP_OK,
	    MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, on_read, exchange, NULL));
	if (!exchange->response)
		return;
	add_header(exchange, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
	add_header(exchange, "X-Accel-Buffering", "no"); /* a proxy in front must not collect */
}

void exchange_wake(struct exchange *exchange)
{
	if (exchange->suspended && exchange->source)
		place_set(exchange->place, STREAMING);
	resume(exchange);
}

void exchange_cut(struct exchange *exchange)
{
	place_cut(exchange->place);
	resume(exchange);
}

/* --- admission --- */

static enum MHD_Result check_argument(
    void *userdata, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct exchange *exchange = userdata;

	(void)kind;
	for (size_t i = 0; exchange->endpoint->arguments[i]; i++)
		if (value && strcmp(exchange->endpoint->arguments[i], key) == 0)
			return MHD_YES;
	exchange_fail(exchange, MHD_HTTP_BAD_REQUEST, key, "unknown argument");
	return MHD_NO;
}

/* Chooses the endpoint; false after refusing. */
static bool find_endpoint(struct exchange *exchange, const char *path, const char *method)
{
	const struct http *http = exchange->http;
	enum verb verb = verb_of(method);
	char part[PATH_PART_MAX + 1], allow[64];
	unsigned verbs = 0;

	for (size_t i = 0; i < http->n_tables; i++)
		for (const struct http_endpoint *one = http->tables[i].endpoints; one->pattern;
		     one++) {
			if (!path_matches(one->pattern, path, part))
				continue;
			verbs |= one->verb;
			if (one->verb != verb)
				continue;
			exchange->endpoint = one;
			exchange->userdata = http->tables[i].userdata;
			memcpy(exchange->part, part, sizeof(part));
		}
	if (exchange->endpoint)
		return true;
	if (!verbs) {
		exchange_fail(exchange, MHD_HTTP_NOT_FOUND, "path", "no such resource");
		return false;
	}
	verbs_write(allow, sizeof(allow), verbs);
	exchange_fail(
	    exchange, MHD_HTTP_METHOD_NOT_ALLOWED, "method", "%s is not for this resource", method);
	if (exchange->response)
		add_header(exchange, MHD_HTTP_HEADER_ALLOW, allow);
	return false;
}

static void tell_denied(struct http *http, const char *what)
{
	unsigned missed;

	if (log_limit(&http->denied_limit, mono_now(), &missed))
		log_notice("request denied: %s missed=%u", what, missed);
}

/* Who asks; false after refusing. */
static bool check_gate(struct exchange *exchange)
{
	const struct gate *gate = exchange->http->options.gate;
	const char *host = exchange_header(exchange, MHD_HTTP_HEADER_HOST);

	if (!gate_host_allowed(gate, host)) {
		exchange_fail(exchange, MHD_HTTP_MISDIRECTED_REQUEST, "Host",
		    "not an address, localhost, this node's name or one of [webd] hosts");
		tell_denied(exchange->http, "host");
	} else if (!gate_origin_allowed(exchange_header(exchange, MHD_HTTP_HEADER_ORIGIN), host)) {
		exchange_fail(
		    exchange, MHD_HTTP_FORBIDDEN, "Origin", "pages of other hosts get no answer");
		tell_denied(exchange->http, "origin");
	} else if (!gate_is_authorized(
		       gate, exchange_header(exchange, MHD_HTTP_HEADER_AUTHORIZATION))) {
		exchange_fail(exchange, MHD_HTTP_UNAUTHORIZED, "Authorization",
		    "expected Bearer and the token of this service");
		tell_denied(exchange->http, "token");
	}
	return exchange->status == 0;
}

/* What is going to follow the headers; false after refusing. */
static bool check_body(struct exchange *exchange)
{
	const char *length = exchange_header(exchange, MHD_HTTP_HEADER_CONTENT_LENGTH);
	const char *type = exchange_header(exchange, MHD_HTTP_HEADER_CONTENT_TYPE);
	const size_t max = exchange->endpoint->max_body;
	unsigned long long size = length ? strtoull(length, NULL, 10) : 0;

	if (exchange_header(exchange, MHD_HTTP_HEADER_TRANSFER_ENCODING))
		exchange_fail(exchange, MHD_HTTP_LENGTH_REQUIRED, "Content-Length",
		    "a body is taken with its length only");
	else if (size > max)
		exchange_fail(exchange, MHD_HTTP_CONTENT_TOO_LARGE, "body",
		    "at most %zu bytes are taken here", max);
	else if (size > 0 && (!type || strncasecmp(type, "application/json", 16) != 0))
		exchange_fail(exchange, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
		    "expected application/json");
	return exchange->status == 0;
}

static bool admit(struct exchange *exchange, const char *path, const char *method)
{
	if (!check_gate(exchange) || !find_endpoint(exchange, path, method))
		return false;
	(void)MHD_get_connection_values(
	    exchange->connection, MHD_GET_ARGUMENT_KIND, check_argument, exchange);
	return exchange->status == 0 && check_body(exchange);
}

/* --- what MHD calls --- */

static struct exchange *exchange_new(struct http *http, struct MHD_Connection *connection)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));
	const union MHD_ConnectionInfo *info =
	    MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	if (!exchange)
		return NULL;
	exchange->http = http;
	exchange->connection = connection;
	exchange->place = info->socket_context;
	exchange->place->asked = true;
	http->counts.requests++;
	return exchange;
}

static enum MHD_Result queue(struct exchange *exchange)
{
	enum MHD_Result result;

	if (!exchange->response)
		return MHD_NO;
	result = MHD_queue_response(exchange->connection, exchange->status, exchange->response);
	MHD_destroy_response(exchange->response);
	exchange->response = NULL;
	return result;
}

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
		return admit(exchange, path, method) ? MHD_YES : queue(exchange);
	}
	if (*size > 0) {
		/* MHD gives no more than was announced; that was checked. */
		int r = buf_append(&exchange->body, data, *size);

		*size = 0;
		return r < 0 ? MHD_NO : MHD_YES;
	}
	if (!exchange->dispatched) {
		exchange->dispatched = true;
		place_set(exchange->place, WAITING);
		exchange->endpoint->handler(exchange->userdata, exchange);
		if (!exchange->status)
			suspend(exchange);
	}
	return exchange->status ? queue(exchange) : MHD_YES;
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **context,
    enum MHD_RequestTerminationCode code)
{
	struct exchange *exchange = *context;

	(void)userdata;
	(void)connection;
	(void)code;
	if (!exchange)
		return;
	*context = NULL;
	if (exchange->source)
		exchange->source->close(exchange->source_userdata);
	if (exchange->response)
		MHD_destroy_response(exchange->response);
	place_set(exchange->place, READING);
	buf_fini(&exchange->body);
	free(exchange);
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
