#include "common/rpc-stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/log.h"

struct rpc_stream {
	struct rpc_client *client;
	struct rpc_stream_options options;
	struct buf body;
	sd_event_source *again;
	int64_t id; /* of the request that stands, 0: none */
};

static void ask_later(struct rpc_stream *stream)
{
	uint64_t usec = (uint64_t)stream->options.again_ms * 1000;
	int r;

	if (!stream->options.again_ms)
		return;
	r = sd_event_source_set_time_relative(stream->again, usec);
	if (r >= 0)
		r = sd_event_source_set_enabled(stream->again, SD_EVENT_ONESHOT);
	if (r < 0)
		log_error("no timer to ask %s again: %s", stream->options.request, strerror(-r));
}

static void on_answer(void *userdata, const struct rpc_answer *answer)
{
	struct rpc_stream *stream = userdata;

	if (!answer->more)
		stream->id = 0;
	stream->options.done(stream->options.userdata, answer);
	if (!answer->more)
		ask_later(stream);
}

void rpc_stream_ask(struct rpc_stream *stream)
{
	int64_t id;

	if (stream->id)
		return;
	id = rpc_request(stream->client, stream->options.request, stream->body.data,
	    stream->body.size, 0, on_answer, stream);
	if (id < 0)
		ask_later(stream);
	else
		stream->id = id;
}

static int on_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	rpc_stream_ask(userdata);
	return 0;
}

int rpc_stream_new(struct rpc_stream **out, struct rpc_client *client, sd_event *loop,
    const struct rpc_stream_options *options)
{
	struct rpc_stream *stream = calloc(1, sizeof(*stream));
	int r;

	if (!stream)
		return -ENOMEM;
	stream->client = client;
	stream->options = *options;
	r = options->size ? buf_append(&stream->body, options->body, options->size) : 0;
	if (r == 0)
		r = sd_event_add_time_relative(
		    loop, &stream->again, MONO_CLOCK, 0, 1000, on_again, stream);
	if (r >= 0)
		r = sd_event_source_set_enabled(stream->again, SD_EVENT_OFF);
	if (r < 0) {
		rpc_stream_free(stream);
		return r;
	}
	*out = stream;
	return 0;
}

struct rpc_stream *rpc_stream_free(struct rpc_stream *stream)
{
	if (!stream)
		return NULL;
	if (stream->id) /* none stands when the client is gone */
		rpc_cancel(stream->client, stream->id);
	sd_event_source_disable_unref(stream->again);
	buf_fini(&stream->body);
	free(stream);
	return NULL;
}
