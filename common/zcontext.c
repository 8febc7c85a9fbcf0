/*
 * A process's ZeroMQ context and its ZAP handler (RFC 27): libzmq asks it, over a socket inside the process,
 * whether a CURVE client may come in.
 *
 * Answers: 200 with the node's name for a known key; 300 for an unknown one, which closes the connection and
 * lets it be tried again (the node may be in the configuration soon); 400 for a revoked one, which also tells
 * the client why.
 */
#include "common/zcontext.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define BATCH 64
#define STRANGERS_BURST 32
#define STRANGER_EVERY_MS 100

struct zcontext {
	void *native;
	const struct node_keys *keys;
	const struct peers *peers;
	bool for_strangers;
	struct mono stranger_at; /* when the next one would be let in if they came evenly */
	char stranger[2 * KEY_SIZE + 1];
	void *zap;
	struct zwatch *watch;
	sd_event *loop;
	uint64_t allowed, refused, connections, handshakes;
	struct log_limit limit, handshake_limit;
	size_t revoked_count;
	uint8_t revoked[PEERS_MAX][KEY_SIZE];
};

/* The frames of a request; a reply begins with the first two of them. */
enum zap_frame {
	ZAP_VERSION,
	ZAP_REQUEST_ID,
	ZAP_DOMAIN_NAME,
	ZAP_ADDRESS,
	ZAP_IDENTITY,
	ZAP_MECHANISM,
	ZAP_CREDENTIALS,
	ZAP_FRAMES,
};

struct verdict {
	const char *code, *text, *user;
};

static bool is_revoked(const struct zcontext *context, const uint8_t *key)
{
	for (size_t i = 0; i < context->revoked_count; i++)
		if (memcmp(context->revoked[i], key, KEY_SIZE) == 0)
			return true;
	return false;
}

/* A bucket of STRANGERS_BURST that fills by one each STRANGER_EVERY_MS. */
static struct verdict judge_stranger(struct zcontext *context, const uint8_t *key)
{
	struct mono now = mono_now();

	if (mono_before(
		mono_add_ms(now, STRANGERS_BURST * STRANGER_EVERY_MS), context->stranger_at))
		return (struct verdict){"300", "too many strangers", ""};
	if (mono_before(context->stranger_at, now))
		context->stranger_at = now;
	context->stranger_at = mono_add_ms(context->stranger_at, STRANGER_EVERY_MS);
	key_format(context->stranger, key);
	return (struct verdict){"200", "OK", context->stranger};
}

static struct verdict judge(struct zcontext *context, const struct zframes *request)
{
	const uint8_t *key = zframe_data(request, ZAP_CREDENTIALS);
	const struct peer *peer;

	if (zframe_size(request, ZAP_MECHANISM) != 5 ||
	    memcmp(zframe_data(request, ZAP_MECHANISM), "CURVE", 5) != 0 ||
	    zframe_size(request, ZAP_CREDENTIALS) != KEY_SIZE)
		return (struct verdict){"400", "CURVE only", ""};
	if (context->for_strangers)
		return judge_stranger(context, key);
	if (is_revoked(context, key))
		return (struct verdict){"400", "key revoked", ""};
	peer = context->peers ? peers_by_key(context->peers, key) : NULL;
	if (!peer)
		return (struct verdict){"300", "key unknown", ""};
	return (struct verdict){"200", "OK", peer->name};
}

static void count_verdict(
    struct zcontext *context, const struct verdict *verdict, const struct zframes *request)
{
	unsigned missed;

	if (verdict->code[0] == '2') {
		context->allowed++;
		return;
	}
	context->refused++;
	if (log_limit(&context->limit, mono_now(), &missed))
		log_warning("connection refused: %s address=%.*s missed=%u", verdict->text,
		    (int)zframe_size(request, ZAP_ADDRESS),
		    (const char *)zframe_data(request, ZAP_ADDRESS), missed);
}

static void answer(struct zcontext *context, const struct zframes *request)
{
	struct verdict verdict = judge(context, request);
	struct zpart reply[] = {
	    {zframe_data(request, ZAP_VERSION), zframe_size(request, ZAP_VERSION)},
	    {zframe_data(request, ZAP_REQUEST_ID), zframe_size(request, ZAP_REQUEST_ID)},
	    {verdict.code, strlen(verdict.code)},
	    {verdict.text, strlen(verdict.text)},
	    {verdict.user, strlen(verdict.user)},
	    {"", 0},
	};
	int r;

	count_verdict(context, &verdict, request);
	r = zsock_send(context->zap, reply, sizeof(reply) / sizeof(reply[0]));
	if (r < 0)
		log_error("answer a connection: %s", strerror(-r));
}

static void on_zap(void *userdata)
{
	struct zcontext *context = userdata;
	struct zframes request;

	for (int i = 0; i < BATCH && zsock_recv(context->zap, &request) == 0; i++) {
		if (request.count == ZAP_FRAMES)
			answer(context, &request);
		else
			log_bug("ZAP request of %zu frames", request.count);
		zframes_fini(&request);
	}
}

/* The handler's own socket is inproc and hears only libzmq: it needs none of zsock's limits. */
static int start_zap(struct zcontext *context, sd_event *loop)
{
	context->zap = zmq_socket(context->native, ZMQ_REP);
	if (!context->zap || zmq_bind(context->zap, ZAP_ENDPOINT) < 0)
		return -zmq_errno();
	return zwatch_new(&context->watch, loop, context->zap, on_zap, context);
}

int zcontext_new(
    struct zcontext **out, sd_event *loop, const struct node_keys *keys, const struct peers *peers)
{
	struct zcontext *context = calloc(1, sizeof(*context));
	int r = 0;

	if (!context)
		return -ENOMEM;
	context->loop = loop;
	context->keys = keys;
	context->peers = peers;
	context->native = zmq_ctx_new();
	if (!context->native)
		r = -zmq_errno();
	else if (keys)
		r = start_zap(context, loop);
	if (r < 0) {
		zcontext_free(context);
		return r;
	}
	*out = context;
	return 0;
}

int zcontext_new_for_strangers(struct zcontext **out, sd_event *loop, const struct node_keys *keys)
{
	int r = zcontext_new(out, loop, keys, NULL);

	if (r == 0)
		(*out)->for_strangers = true;
	return r;
}

struct zcontext *zcontext_free(struct zcontext *context)
{
	if (!context)
		return NULL;
	zwatch_free(context->watch);
	if (context->zap)
		zmq_close(context->zap);
	while (context->native && zmq_ctx_term(context->native) < 0 && zmq_errno() == EINTR)
		continue;
	free(context);
	return NULL;
}

int zcontext_revoke(struct zcontext *context, const uint8_t public_key[KEY_SIZE])
{
	if (is_revoked(context, public_key))
		return 0;
	/* The oldest is forgotten: no peer has it, so it is an unknown key from then on. */
	if (context->revoked_count == PEERS_MAX)
		memmove(context->revoked[0], context->revoked[1],
		    sizeof(context->revoked[0]) * --context->revoked_count);
	memcpy(context->revoked[context->revoked_count++], public_key, KEY_SIZE);
	return zsock_cut_connections(context);
}

void zcontext_allow(struct zcontext *context, const uint8_t public_key[KEY_SIZE])
{
	for (size_t i = 0; i < context->revoked_count; i++)
		if (memcmp(context->revoked[i], public_key, KEY_SIZE) == 0) {
			memcpy(context->revoked[i], context->revoked[--context->revoked_count],
			    KEY_SIZE);
			return;
		}
}

void zcontext_note_connection(struct zcontext *context, int event)
{
	unsigned missed;

	if (event == ZMQ_EVENT_ACCEPTED)
		context->connections++;
	else if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
		context->handshakes++;
	else if (log_limit(&context->handshake_limit, mono_now(), &missed))
		log_warning("connection refused: no handshake missed=%u", missed);
}

void zcontext_counts(const struct zcontext *context, struct zcontext_counts *counts)
{
	*counts = (struct zcontext_counts){
	    .allowed = context->allowed,
	    .refused = context->refused,
	    .connections = context->connections,
	    .unfinished = context->connections - context->handshakes,
	};
}

sd_event *zcontext_loop(const struct zcontext *context)
{
	return context->loop;
}

void *zcontext_native(const struct zcontext *context)
{
	return context->native;
}

const struct node_keys *zcontext_keys(const struct zcontext *context)
{
	return context->keys;
}
