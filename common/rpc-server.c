/*
 * The answering end of requests.  A call lives until it is answered or dropped; how many may wait is
 * bounded, so that a caller that only asks cannot grow the daemon.
 */
#include "common/rpc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/log.h"
#include "proto/common.h"

#define CALLS_MAX 1024
#define TABLES_MAX 4
#define BATCH 64
#define ROUTING_ID_MAX 255

struct listener {
	struct rpc_server *server;
	void *socket;
	struct zwatch *watch;
	bool remote;
};

struct rpc_server {
	struct listener local, remote;
	struct {
		const struct rpc_method *methods;
		void *userdata;
	} tables[TABLES_MAX];
	size_t n_tables, n_calls;
	LIST_HEAD(, rpc_call) calls;
	uint64_t requests, refused;
	struct log_limit refused_limit;
};

struct rpc_call {
	LIST_ENTRY(rpc_call) link;
	struct rpc_server *server;
	void *socket;
	uint64_t id;
	struct mono deadline;
	size_t routing_id_size;
	uint8_t routing_id[ROUTING_ID_MAX];
	char peer[2 * KEY_SIZE + 1]; /* a name, or a stranger's key */
	struct mpr_error error;
};

const char *rpc_status_name(enum rpc_status status)
{
	static const char *const names[] = {
	    "ok", "failed", "invalid", "unreachable", "not found", "denied", "timeout", "unknown"};

	return (unsigned)status < sizeof(names) / sizeof(names[0]) ? names[status] : "unknown";
}

static void refuse(struct rpc_server *server, const char *why)
{
	struct mono now = mono_now();
	unsigned missed;

	server->refused++;
	if (log_limit(&server->refused_limit, now, &missed))
		log_warning("request refused: %s missed=%u", why, missed);
}

static int send_answer(
    struct rpc_call *call, const struct msg_rpc_reply *header, const void *body, size_t size)
{
	_cleanup_buf_ struct buf packed = {0};
	int r = msg_rpc_reply_pack(header, &packed);

	if (r < 0)
		return r;
	return zsock_send(call->socket,
	    (struct zpart[]){{call->routing_id, call->routing_id_size}, {packed.data, packed.size},
		{body, size}},
	    3);
}

static struct rpc_call *call_new(
    struct listener *listener, const struct zframes *frames, const struct msg_rpc_request *header)
{
	struct rpc_server *server = listener->server;
	const char *peer = listener->remote ? zframe_peer(frames, 1) : NULL;
	struct rpc_call *call = server->n_calls < CALLS_MAX ? calloc(1, sizeof(*call)) : NULL;

	if (!call)
		return NULL;
	call->server = server;
	call->socket = listener->socket;
	call->id = header->id;
	call->deadline =
	    header->timeout_ms ? mono_add_ms(mono_now(), (int64_t)header->timeout_ms) : MONO_NEVER;
	call->routing_id_size = zframe_size(frames, 0);
	memcpy(call->routing_id, zframe_data(frames, 0), call->routing_id_size);
	snprintf(call->peer, sizeof(call->peer), "%s", peer ? peer : "");
	LIST_INSERT_HEAD(&server->calls, call, link);
	server->n_calls++;
	return call;
}

static const struct rpc_method *find_method(
    const struct rpc_server *server, const char *name, void **userdata)
{
	for (size_t i = 0; i < server->n_tables; i++)
		for (const struct rpc_method *method = server->tables[i].methods; method->name;
		     method++)
			if (strcmp(method->name, name) == 0) {
				*userdata = server->tables[i].userdata;
				return method;
			}
	return NULL;
}

static void dispatch(struct listener *listener, struct rpc_call *call, const char *name,
    const struct zframes *frames)
{
	void *userdata;
	const struct rpc_method *method = find_method(listener->server, name, &userdata);

	if (!method)
		rpc_fail(call, RPC_INVALID, "no such request: %s", name);
	else if (method->local_only && listener->remote)
		rpc_fail(call, RPC_DENIED, "%s is not for other nodes", name);
	else
		method->handler(userdata, call, zframe_data(frames, 2), zframe_size(frames, 2));
}

static void take_request(struct listener *listener, const struct zframes *frames)
{
	struct rpc_server *server = listener->server;
	struct msg_rpc_request header;
	struct mpr_error error;
	struct rpc_call *call;

	/* A prober's empty frame only announces it. */
	if (frames->count == 2 && zframe_size(frames, 1) == 0)
		return;
	if (frames->count != 3) {
		refuse(server, "not three frames");
		return;
	}
	if (msg_rpc_request_unpack(
		&header, zframe_data(frames, 1), zframe_size(frames, 1), &error) < 0) {
		refuse(server, error.text);
		return;
	}
	call = call_new(listener, frames, &header);
	if (!call) {
		refuse(server, "too many requests wait for an answer");
		return;
	}
	server->requests++;
	dispatch(listener, call, header.name, frames);
}

static void on_ready(void *userdata)
{
	struct listener *listener = userdata;
	struct zframes frames;

	for (int i = 0; i < BATCH; i++) {
		int r = zsock_recv(listener->socket, &frames);

		if (r == -EBADMSG || r == -EMSGSIZE) {
			refuse(listener->server,
			    r == -EMSGSIZE ? "frame too long" : "too many frames");
			continue;
		}
		if (r < 0)
			return;
		take_request(listener, &frames);
		zframes_fini(&frames);
	}
}

static int listen_on(struct rpc_server *server, struct listener *listener, struct zcontext *context,
    sd_event *loop, const char *endpoint, const struct rpc_server_options *options)
{
	struct zsock_options socket_options = {.type = ZMQ_ROUTER,
	    .bind = endpoint,
	    .group = options->group,
	    .max_message = options->max_body};
	int r;

	listener->server = server;
	r = zsock_new(&listener->socket, context, &socket_options);
	if (r < 0) {
		log_error("bind %s: %s", endpoint, strerror(-r));
		return r;
	}
	return zwatch_new(&listener->watch, loop, listener->socket, on_ready, listener);
}

int rpc_server_new(struct rpc_server **out, struct zcontext *context, sd_event *loop,
    const struct rpc_server_options *options)
{
	struct rpc_server *server = calloc(1, sizeof(*server));
	int r = 0;

	if (!server)
		return -ENOMEM;
	LIST_INIT(&server->calls);
	server->remote.remote = true;
	if (options->ipc)
		r = listen_on(server, &server->local, context, loop, options->ipc, options);
	if (r == 0 && options->tcp)
		r = listen_on(server, &server->remote, context, loop, options->tcp, options);
	if (r < 0) {
		rpc_server_free(server);
		return r;
	}
	*out = server;
	return 0;
}

int rpc_server_add(struct rpc_server *server, const struct rpc_method *methods, void *userdata)
{
	if (server->n_tables == TABLES_MAX)
		return -ENOSPC;
	server->tables[server->n_tables].methods = methods;
	server->tables[server->n_tables++].userdata = userdata;
	return 0;
}

static void listener_close(struct listener *listener)
{
	zwatch_free(listener->watch);
	zsock_free(listener->socket);
}

struct rpc_server *rpc_server_free(struct rpc_server *server)
{
	if (!server)
		return NULL;
	while (!LIST_EMPTY(&server->calls))
		rpc_call_drop(LIST_FIRST(&server->calls));
	listener_close(&server->local);
	listener_close(&server->remote);
	free(server);
	return NULL;
}

void rpc_server_counts(const struct rpc_server *server, uint64_t *requests, uint64_t *refused)
{
	*requests = server->requests;
	*refused = server->refused;
}

void rpc_reply(struct rpc_call *call, const char *name, const void *body, size_t size)
{
	struct msg_rpc_reply header = {.id = call->id};
	int r;

	snprintf(header.name, sizeof(header.name), "%s", name);
	r = send_answer(call, &header, body, size);
	if (r < 0)
		log_debug("answer %s: %s", name, strerror(-r));
	rpc_call_drop(call);
}

bool rpc_notice(struct rpc_call *call, const char *name, const void *body, size_t size)
{
	struct msg_rpc_reply header = {.id = call->id, .more = true};

	snprintf(header.name, sizeof(header.name), "%s", name);
	return send_answer(call, &header, body, size) == 0;
}

void rpc_fail(struct rpc_call *call, enum rpc_status status, const char *format, ...)
{
	struct msg_rpc_reply header = {.id = call->id, .status = (uint8_t)status};
	va_list args;

	va_start(args, format);
	vsnprintf(header.error, sizeof(header.error), format, args);
	va_end(args);
	if (status == RPC_INVALID || status == RPC_DENIED)
		refuse(call->server, header.error);
	send_answer(call, &header, "\x80", 1);
	rpc_call_drop(call);
}

void rpc_call_drop(struct rpc_call *call)
{
	LIST_REMOVE(call, link);
	call->server->n_calls--;
	free(call);
}

const char *rpc_call_peer(const struct rpc_call *call)
{
	return call->peer[0] ? call->peer : NULL;
}

struct mono rpc_call_deadline(const struct rpc_call *call)
{
	return call->deadline;
}

struct mpr_error *rpc_call_error(struct rpc_call *call)
{
	return &call->error;
}

int rpc_check(struct rpc_call *call, int result)
{
	if (result < 0)
		rpc_fail(call, RPC_INVALID, "%s", call->error.text);
	return result;
}
