/*
 * A stream request that is asked again when it ends: whoever watches another daemon goes on watching
 * when that daemon was restarted, or was not there yet.  The answerer begins each stream with all that
 * holds (gossipd.watch), or its notices are hints only (metad.watch), so nothing is made up for here.
 */
#ifndef COMMON_RPC_STREAM_H
#define COMMON_RPC_STREAM_H

#include "common/rpc.h"

struct rpc_stream_options {
	const char *request; /* the message's name; borrowed */
	const void *body;    /* copied; size 0: an empty map */
	size_t size;
	int64_t again_ms; /* after an end; 0: not before the next rpc_stream_ask() */
	rpc_done
	    done; /* as of rpc_request(), for each end (more = false), too; must not free the stream */
	void *userdata;
};

struct rpc_stream;

/* The client is borrowed; it may be freed before the stream, or after it. */
int rpc_stream_new(struct rpc_stream **out, struct rpc_client *client, sd_event *loop,
    const struct rpc_stream_options *options);
/* Asks, unless the stream stands. */
void rpc_stream_ask(struct rpc_stream *stream);
/* done is not called any more.  Returns NULL. */
struct rpc_stream *rpc_stream_free(struct rpc_stream *stream);

#endif
