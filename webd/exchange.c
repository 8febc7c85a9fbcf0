/*
 * An exchange that waits for another daemon, or a stream with nothing to say, is suspended: MHD forgets the connection
 * until it is resumed.  So an idle stream costs nothing, and its client's going is noticed by the next keep-alive.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "webd/http-internal.h"

#define BLOCK 4096
#define SEND_BUFFER (16 << 10) /* of a stream, in the kernel */

struct exchange *exchange_new(struct http *http, struct MHD_Connection *connection)
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

struct exchange *exchange_free(struct exchange *exchange)
{
	if (!exchange)
		return NULL;
	if (exchange->source)
		exchange->source->close(exchange->source_userdata);
	if (exchange->response)
		MHD_destroy_response(exchange->response);
	place_set(exchange->place, READING);
	buf_fini(&exchange->body);
	free(exchange);
	return NULL;
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
	http_run_again(exchange->http, 0);
}

void exchange_dispatch(struct exchange *exchange)
{
	place_set(exchange->place, WAITING);
	exchange->endpoint->handler(exchange->userdata, exchange);
	if (!exchange->status)
		suspend(exchange);
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

void exchange_add_header(struct exchange *exchange, const char *name, const char *value)
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
		exchange_add_header(exchange, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
		exchange_add_header(exchange, "X-Content-Type-Options", "nosniff");
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
		exchange_add_header(exchange, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
}

void exchange_answer(
    struct exchange *exchange, unsigned status, json_t *value, const char *location)
{
	give_json(exchange, status, value);
	if (location && exchange->response)
		exchange_add_header(exchange, MHD_HTTP_HEADER_LOCATION, location);
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
		exchange_add_header(exchange, MHD_HTTP_HEADER_RETRY_AFTER, "2");
	if (status == MHD_HTTP_UNAUTHORIZED)
		exchange_add_header(exchange, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
}

enum MHD_Result exchange_queue(struct exchange *exchange)
{
	enum MHD_Result result;

	if (!exchange->response)
		return MHD_NO;
	result = MHD_queue_response(exchange->connection, exchange->status, exchange->response);
	MHD_destroy_response(exchange->response);
	exchange->response = NULL;
	return result;
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
	exchange_add_header(exchange, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
	exchange_add_header(
	    exchange, "X-Accel-Buffering", "no"); /* a proxy in front must not collect */
}

void exchange_wake(struct exchange *exchange)
{
	if (exchange->suspended && exchange->source)
		place_set(exchange->place, STREAMING);
	resume(exchange);
}
