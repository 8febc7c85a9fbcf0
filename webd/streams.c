/*
 * The streams: each is a reader over a registration's events, and the connection that it goes out by.
 */
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>

#include "webd/detection-internal.h"

struct stream {
	TAILQ_ENTRY(stream) link;
	struct detection *detection;
	struct exchange *exchange;
	struct reader reader;
	struct mono keepalive;
};

static void set_keepalive(struct stream *stream)
{
	stream->keepalive = mono_add_ms(mono_now(), stream->detection->options.keepalive_ms);
}

static int take(void *userdata, char *out, size_t max)
{
	struct stream *stream = userdata;
	uint64_t missed = stream->reader.missed;
	int taken = reader_take(&stream->reader, out, max);

	stream->detection->counts.missed += stream->reader.missed - missed;
	if (taken == READER_END)
		return SOURCE_END;
	if (taken > 0)
		set_keepalive(stream);
	return taken;
}

static void closed(void *userdata)
{
	struct stream *stream = userdata;
	struct detection *detection = stream->detection;

	TAILQ_REMOVE(&detection->streams, stream, link);
	detection->counts.streams--;
	reader_close(detection->registry, &stream->reader);
	free(stream);
}

static const struct http_source source = {take, closed};

void streams_wake(struct detection *detection, const struct registration *registration)
{
	struct stream *stream;

	TAILQ_FOREACH(stream, &detection->streams, link)
	if (stream->reader.registration == registration)
		exchange_wake(stream->exchange);
}

void streams_tick(struct detection *detection, struct mono now)
{
	struct stream *stream;

	TAILQ_FOREACH(stream, &detection->streams, link)
	{
		if (!mono_due(stream->keepalive, now))
			continue;
		set_keepalive(stream);
		reader_keep_alive(&stream->reader);
		exchange_wake(stream->exchange);
	}
}

/* The number behind which to go on: of Last-Event-ID, 0 without it; false when it is no number. */
static bool last_event(const struct exchange *exchange, uint64_t *after)
{
	const char *text = exchange_header(exchange, "Last-Event-ID");
	char *end;

	*after = 0;
	if (!text || !*text)
		return true;
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*after = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0';
}

void streams_begin(void *userdata, struct exchange *exchange)
{
	struct detection *detection = userdata;
	struct registration *registration = detection_wanted(detection, exchange);
	struct stream *stream;
	uint64_t after;

	if (!registration)
		return;
	if (detection->counts.streams == detection->options.streams) {
		exchange_fail(exchange, MHD_HTTP_TOO_MANY_REQUESTS, "streams",
		    "%zu streams are open already", detection->options.streams);
		return;
	}
	stream = calloc(1, sizeof(*stream));
	if (!stream) {
		exchange_fail(exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "webd", "no memory");
		return;
	}
	if (!last_event(exchange, &after) ||
	    reader_open(&stream->reader, registration, after) < 0) {
		free(stream);
		exchange_fail(exchange, MHD_HTTP_BAD_REQUEST, "Last-Event-ID",
		    "not the number of an event of this registration");
		return;
	}
	stream->detection = detection;
	stream->exchange = exchange;
	set_keepalive(stream);
	TAILQ_INSERT_TAIL(&detection->streams, stream, link);
	detection->counts.streams++;
	exchange_stream(exchange, &source, stream);
}
