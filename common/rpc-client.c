/*
 * The asking end of requests.
 *
 * The socket sends only over a complete connection (ZMQ_IMMEDIATE): a request that waits for a server waits
 * here, where its deadline is seen, and not in a queue of libzmq that would deliver it long after the
 * caller gave up.  When the connection is lost, what was sent and not answered is told RPC_UNREACHABLE at once.
 */
#include "common/rpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/zmonitor.h"
#include "proto/common.h"

#define BATCH 64

struct request {
	TAILQ_ENTRY(request) link;
	uint64_t id;
	struct mono deadline;
	bool sent;
	struct buf header, body; /* kept until sent */
	rpc_done done;
	void *userdata;
};

TAILQ_HEAD(request_list, request);

struct rpc_client {
	struct zcontext *context;
	sd_event *loop;
	void *socket;
	struct zwatch *watch;
	struct zmonitor *monitor;
	sd_event_source *timer;
	struct request_list requests;
	uint64_t next_id;
	struct mono alarm; /* when the timer fires; never: it is off */
	bool connected, impatient;
	bool calling; /* callbacks, and goes on with the client then */
	bool ending;  /* it was freed; the memory goes when nobody calls any more */
	char endpoint[160];
};

static void request_free(struct rpc_client *client, struct request *request)
{
	TAILQ_REMOVE(&client->requests, request, link);
	buf_fini(&request->header);
	buf_fini(&request->body);
	free(request);
}

/*
 * Ends a request.  The request is gone before done is called: done may ask again, free other requests, or the client; the last
 * is for the caller to see (ending).
 */
static void finish(
    struct rpc_client *client, struct request *request, enum rpc_status status, const char *error)
{
	struct rpc_answer answer = {
	    .status = status, .name = "", .error = error, .body = "", .unheard = request->sent};
	rpc_done done = request->done;
	void *userdata = request->userdata;

	request_free(client, request);
	done(userdata, &answer);
}

static struct request *find(struct rpc_client *client, uint64_t id)
{
	struct request *request;

	TAILQ_FOREACH(request, &client->requests, link)
	if (request->id == id)
		return request;
	return NULL;
}

/* Never sets it later or off: it then fires once for nothing, which is cheaper than a system call a request. */
static int set_timer(struct rpc_client *client)
{
	struct mono earliest = MONO_NEVER;
	struct request *request;
	int r;

	TAILQ_FOREACH(request, &client->requests, link)
	earliest = mono_min(earliest, request->deadline);
	if (mono_cmp(client->alarm, earliest) <= 0)
		return 0;
	client->alarm = earliest;
	r = sd_event_source_set_time(client->timer, (uint64_t)(earliest.ns / 1000 + 1));
	return r < 0 ? r : sd_event_source_set_enabled(client->timer, SD_EVENT_ONESHOT);
}

/* The first request that fails the test is finished, until none is left: callbacks may change the list. */
static struct request *first_due(struct rpc_client *client, struct mono now)
{
	struct request *request;

	TAILQ_FOREACH(request, &client->requests, link)
	if (mono_due(request->deadline, now))
		return request;
	return NULL;
}

static struct request *first_sent(struct rpc_client *client)
{
	struct request *request;

	TAILQ_FOREACH(request, &client->requests, link)
	if (request->sent)
		return request;
	return NULL;
}

static void called_back(struct rpc_client *client)
{
	client->calling = false;
	if (client->ending)
		free(client);
	else
		set_timer(client);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct rpc_client *client = userdata;
	struct mono now = mono_now();
	struct request *request;

	(void)source;
	(void)usec;
	client->alarm = MONO_NEVER;
	client->calling = true;
	while (!client->ending && (request = first_due(client, now))) {
		bool sent = request->sent;
		char error[256];

		snprintf(error, sizeof(error), "%s does not answer", client->endpoint);
		finish(client, request, sent ? RPC_TIMEOUT : RPC_UNREACHABLE, error);
	}
	called_back(client);
	return 0;
}

static int send_request(struct rpc_client *client, struct request *request)
{
	int r = zsock_send(client->socket,
	    (struct zpart[]){{request->header.data, request->header.size},
		{request->body.data, request->body.size}},
	    2);

	if (r < 0)
		return r;
	request->sent = true;
	buf_fini(&request->header);
	buf_fini(&request->body);
	return 0;
}

static void send_waiting(struct rpc_client *client)
{
	struct request *request;

	TAILQ_FOREACH(request, &client->requests, link)
	if (!request->sent && send_request(client, request) < 0)
		return;
}

static void on_lost(struct rpc_client *client)
{
	struct request *request;
	char error[256];

	snprintf(error, sizeof(error), "connection to %s lost", client->endpoint);
	client->calling = true;
	while (!client->ending && !client->connected && (request = first_sent(client)))
		finish(client, request, RPC_UNREACHABLE, error);
	called_back(client);
}

/* The server's address refuses: nobody is there. */
static void on_refused(struct rpc_client *client)
{
	char error[256];

	snprintf(error, sizeof(error), "nobody listens at %s", client->endpoint);
	client->calling = true;
	while (!client->ending && client->impatient && !client->connected &&
	       !TAILQ_EMPTY(&client->requests))
		finish(client, TAILQ_FIRST(&client->requests), RPC_UNREACHABLE, error);
	called_back(client);
}

static void on_connection(void *userdata, int event)
{
	struct rpc_client *client = userdata;

	client->connected = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
	if (client->connected)
		send_waiting(client);
	else if (event == ZMQ_EVENT_CONNECT_RETRIED)
		on_refused(client);
	else
		on_lost(client);
}

static void take_answer(struct rpc_client *client, const struct zframes *frames)
{
	struct msg_rpc_reply header;
	struct rpc_answer answer;
	struct request *request;
	struct mpr_error error;
	rpc_done done;
	void *userdata;

	if (frames->count != 2 || msg_rpc_reply_unpack(&header, zframe_data(frames, 0),
				      zframe_size(frames, 0), &error) < 0) {
		log_debug("answer that cannot be read from %s", client->endpoint);
		return;
	}
	request = find(client, header.id);
	if (!request)
		return; /* it came too late */
	answer = (struct rpc_answer){.status = (enum rpc_status)header.status,
	    .more = header.more,
	    .name = header.name,
	    .error = header.error,
	    .body = zframe_data(frames, 1),
	    .size = zframe_size(frames, 1)};
	done = request->done;
	userdata = request->userdata;
	if (!header.more)
		request_free(client, request);
	done(userdata, &answer);
}

static void on_ready(void *userdata)
{
	struct rpc_client *client = userdata;
	struct zframes frames;

	client->calling = true;
	for (int i = 0; i < BATCH && !client->ending; i++) {
		int r = zsock_recv(client->socket, &frames);

		if (r == -EBADMSG || r == -EMSGSIZE)
			continue;
		if (r < 0)
			break;
		take_answer(client, &frames);
		zframes_fini(&frames);
	}
	called_back(client);
}

static int on_created(void *userdata, void *socket)
{
	struct rpc_client *client = userdata;

	return zmonitor_new(&client->monitor, client->context, client->loop, socket,
	    ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECT_RETRIED,
	    on_connection, client);
}

static int open_client(struct rpc_client *client, const char *endpoint, const uint8_t *server_key)
{
	struct zsock_options options = {.type = ZMQ_DEALER,
	    .connect = endpoint,
	    .server_key = server_key,
	    .immediate = true,
	    .max_message = 16 << 20,
	    .created = on_created,
	    .userdata = client};
	int r = zsock_new(&client->socket, client->context, &options);

	if (r == 0)
		r = zwatch_new(&client->watch, client->loop, client->socket, on_ready, client);
	if (r == 0)
		r = sd_event_add_time(
		    client->loop, &client->timer, MONO_CLOCK, 0, 1000, on_timer, client);
	if (r >= 0)
		r = sd_event_source_set_enabled(client->timer, SD_EVENT_OFF);
	return r < 0 ? r : 0;
}

int rpc_client_new(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const char *endpoint, const uint8_t *server_key)
{
	struct rpc_client *client = calloc(1, sizeof(*client));
	int r;

	if (!client)
		return -ENOMEM;
	client->context = context;
	client->loop = loop;
	client->next_id = 1;
	client->alarm = MONO_NEVER;
	TAILQ_INIT(&client->requests);
	snprintf(client->endpoint, sizeof(client->endpoint), "%s", endpoint);
	r = open_client(client, endpoint, server_key);
	if (r < 0) {
		rpc_client_free(client);
		return r;
	}
	*out = client;
	return 0;
}

int rpc_client_new_local(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const char *run_dir, const char *daemon)
{
	char endpoint[160];

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/%s.rpc", run_dir, daemon);
	return rpc_client_new(out, context, loop, endpoint, NULL);
}

int rpc_client_new_peer(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const struct peer *peer, enum port_offset offset)
{
	char endpoint[160];

	zsock_tcp_endpoint(
	    endpoint, sizeof(endpoint), peer->address, (unsigned)peer->port + (unsigned)offset);
	return rpc_client_new(out, context, loop, endpoint, peer->public_key);
}

struct rpc_client *rpc_client_free(struct rpc_client *client)
{
	if (!client || client->ending)
		return NULL;
	client->ending = true;
	while (!TAILQ_EMPTY(&client->requests))
		finish(client, TAILQ_FIRST(&client->requests), RPC_UNREACHABLE, "the client ends");
	sd_event_source_disable_unref(client->timer);
	zwatch_free(client->watch);
	zmonitor_free(client->monitor);
	zsock_free(client->socket);
	if (!client->calling)
		free(client);
	return NULL;
}

void rpc_client_set_impatient(struct rpc_client *client)
{
	client->impatient = true;
}

int64_t rpc_request(struct rpc_client *client, const char *name, const void *body, size_t size,
    int64_t timeout_ms, rpc_done done, void *userdata)
{
	struct msg_rpc_request header = {
	    .id = client->next_id++, .timeout_ms = (uint64_t)timeout_ms};
	struct request *request;
	int r;

	if (client->ending)
		return -ESHUTDOWN;
	request = calloc(1, sizeof(*request));
	if (!request)
		return -ENOMEM;
	snprintf(header.name, sizeof(header.name), "%s", name);
	request->id = header.id;
	request->deadline = timeout_ms ? mono_add_ms(mono_now(), timeout_ms) : MONO_NEVER;
	request->done = done;
	request->userdata = userdata;
	TAILQ_INSERT_TAIL(&client->requests, request, link);
	r = msg_rpc_request_pack(&header, &request->header);
	if (r == 0)
		r = size ? buf_append(&request->body, body, size)
			 : buf_append(&request->body, "\x80", 1);
	if (r == 0) {
		/* Without a connection it waits for on_connection(): libzmq may still take it for one that just died. */
		if (client->connected)
			send_request(client, request);
		r = set_timer(client);
	}
	if (r < 0) {
		request_free(client, request);
		return r;
	}
	return (int64_t)header.id;
}

void rpc_cancel(struct rpc_client *client, int64_t id)
{
	struct request *request = find(client, (uint64_t)id);

	if (request)
		request_free(client, request);
}

struct asking {
	bool answered;
	enum rpc_status status;
	struct buf *reply;
	char *error;
	size_t error_size;
};

static void on_asked(void *userdata, const struct rpc_answer *answer)
{
	struct asking *asking = userdata;

	if (answer->more)
		return;
	asking->answered = true;
	asking->status = answer->status;
	if (asking->reply && answer->status == RPC_OK &&
	    buf_append(asking->reply, answer->body, answer->size) < 0)
		asking->status = RPC_FAILED;
	if (asking->error_size)
		snprintf(asking->error, asking->error_size, "%s", answer->error);
}

enum rpc_status rpc_ask(struct rpc_client *client, sd_event *loop, const char *name,
    const void *body, size_t size, int64_t timeout_ms, struct buf *reply, char *error,
    size_t error_size)
{
	struct asking asking = {.reply = reply, .error = error, .error_size = error_size};
	int64_t id = rpc_request(client, name, body, size, timeout_ms, on_asked, &asking);

	if (id < 0)
		return RPC_FAILED;
	while (!asking.answered)
		if (sd_event_run(loop, UINT64_MAX) < 0) {
			rpc_cancel(client, id);
			return RPC_FAILED;
		}
	return asking.status;
}
