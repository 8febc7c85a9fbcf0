/*
 * What is looked at before a byte of the body is read: who asks, for what, and how much is going to follow.  Bodies need a
 * Content-Length, so that one which is too long is refused before it is read.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "webd/http-internal.h"

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
		exchange_add_header(exchange, MHD_HTTP_HEADER_ALLOW, allow);
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

static bool is_json(const char *type)
{
	const size_t size = sizeof("application/json") - 1;

	return type && strncasecmp(type, "application/json", size) == 0 &&
	       strchr("; \t", type[size]) != NULL;
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
	else if (size > 0 && !is_json(type))
		exchange_fail(exchange, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
		    "expected application/json");
	return exchange->status == 0;
}

bool exchange_admit(struct exchange *exchange, const char *path, const char *method)
{
	if (!check_gate(exchange) || !find_endpoint(exchange, path, method))
		return false;
	(void)MHD_get_connection_values(
	    exchange->connection, MHD_GET_ARGUMENT_KIND, check_argument, exchange);
	return exchange->status == 0 && check_body(exchange);
}
