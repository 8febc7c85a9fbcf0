/*
 * HTTP: connections and requests, over libmicrohttpd driven by the daemon's loop.  It knows no subject: each part of the
 * service (detection.c) brings a table of endpoints.
 *
 * An exchange is one request and its answer.  A handler answers it at once or later; whoever keeps an exchange answers it
 * within a bounded time.
 */
#ifndef WEBD_HTTP_H
#define WEBD_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/buf.h"
#include "common/mono.h"
#include "webd/gate.h"
#include "webd/path.h"

struct http;
struct exchange;

typedef void (*http_handler)(void *userdata, struct exchange *exchange);

struct http_endpoint {
	const char *pattern; /* path.h */
	enum verb verb;
	http_handler handler;
	size_t max_body;          /* of JSON; 0: it takes none */
	const char *arguments[4]; /* behind the question mark; ends with NULL */
};

struct http_options {
	const char *address; /* numeric IPv4 or IPv6 */
	uint16_t port;
	const struct gate *gate;
	unsigned connections;
	int64_t
	    patience_ms; /* how long a client may take to send a request, or to take what is there */
};

struct http_counts {
	uint64_t connections, requests;
	uint64_t unfinished; /* connections that never made a request: junk, or silence */
	uint64_t refused;    /* answered 4xx, beside denied */
	uint64_t denied;     /* 401, 403, 421: token, origin, host */
	uint64_t failed;     /* 5xx */
	uint64_t cut;        /* connections of clients that were too slow */
};

/* 0, or negative errno after telling. */
int http_new(struct http **out, sd_event *loop, const struct http_options *options);
/* Waiting exchanges must have been answered; streams are told to end. */
struct http *http_free(struct http *http);
/* endpoints ends with pattern NULL and is borrowed. */
int http_add(struct http *http, const struct http_endpoint *endpoints, void *userdata);
const struct http_counts *http_counts(const struct http *http);

/* --- the request --- */

void *exchange_userdata(const struct exchange *exchange);   /* of its endpoints */
const char *exchange_part(const struct exchange *exchange); /* what "*" of the pattern stood for */
/* NULL when it is not there. */
const char *exchange_argument(const struct exchange *exchange, const char *name);
const char *exchange_header(const struct exchange *exchange, const char *name);
const struct buf *exchange_body(const struct exchange *exchange);

/* --- its answer: one of these three ends it --- */

/* Takes over the value; NULL: no content.  location: of what was made, NULL: no such header. */
void exchange_answer(
    struct exchange *exchange, unsigned status, json_t *value, const char *location);
/* {"error": ..., "where": ...}; 429 and 503 say when to try again. */
void exchange_fail(struct exchange *exchange, unsigned status, const char *where,
    const char *format, ...) __attribute__((format(printf, 4, 5)));

#define SOURCE_END (-1)

struct http_source {
	/* Bytes copied (at most max), 0: nothing now (exchange_wake), or SOURCE_END. */
	int (*take)(void *userdata, char *out, size_t max);
	void (*close)(void *userdata); /* called once, when the stream is over */
};
/* text/event-stream, until the source ends or the client goes. */
void exchange_stream(struct exchange *exchange, const struct http_source *source, void *userdata);
/* The source has something again. */
void exchange_wake(struct exchange *exchange);

#endif
