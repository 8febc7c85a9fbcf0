/*
 * The one place that creates ZeroMQ sockets, with every limit set, and the adapter that lets sd-event
 * drive them.  What each option is for stands in zsock.c beside it; each trap has a test.
 */
#ifndef COMMON_ZSOCK_H
#define COMMON_ZSOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>
#include <zmq.h>

#include "common/keys.h"

/* A process's ZeroMQ context, with the ZAP handler that judges CURVE clients against the peers. */
struct zcontext;
/* keys and peers may be NULL (local sockets only); they are borrowed and must outlive it. */
int zcontext_new(
    struct zcontext **out, sd_event *loop, const struct node_keys *keys, const struct peers *peers);
/*
 * One whose CURVE servers let any key in, a few a second: the caller has proved that it has the key, and zframe_peer()
 * is that key in hexadecimal digits.  A context of its own, so that nothing else can be reached through it.
 */
int zcontext_new_for_strangers(struct zcontext **out, sd_event *loop, const struct node_keys *keys);
struct zcontext *zcontext_free(struct zcontext *context); /* close all sockets first */
/*
 * Takes a node's key back: it is refused from now on, and connections that were let in are cut (all CURVE
 * servers of this context are unbound and bound again; those of others reconnect).  0 or negative errno.
 */
int zcontext_revoke(struct zcontext *context, const uint8_t public_key[KEY_SIZE]);
/* A key that was taken back is let in again, if it is that of a peer. */
void zcontext_allow(struct zcontext *context, const uint8_t public_key[KEY_SIZE]);
struct zcontext_counts {
	uint64_t allowed, refused; /* by the ZAP handler */
	uint64_t connections;      /* accepted by bound sockets */
	uint64_t unfinished;       /* of these, not (or not yet) through the handshake */
};
void zcontext_counts(const struct zcontext *context, struct zcontext_counts *counts);

struct zsock_options {
	int type;         /* ZMQ_ROUTER, ZMQ_DEALER, ZMQ_XPUB, ZMQ_SUB, ... */
	const char *bind; /* one of bind and connect: ipc:///path or tcp://address:port */
	const char *connect;
	const uint8_t *server_key; /* connect over tcp: the peer's public key */
	int high_water;            /* messages queued each way; 0: 1,000 */
	size_t max_message;        /* bytes of one frame taken from others, >= 4096; 0: 1 MiB.
				    * Beyond four times that the connection is cut. */
	unsigned mode;             /* of an ipc path; 0: 0660 */
	const char *group;         /* of an ipc path; NULL: as it is */
	/*
	 * A DEALER that keeps its messages itself: nothing is queued while there is no connection (-EAGAIN), and
	 * on each new one the server's ROUTER gets an empty message, so that it can say hello.
	 */
	bool announce;
	bool immediate; /* only the former half of announce */
	/*
	 * Called before the socket binds or connects, for what must see its first event; 0 or negative errno.
	 * With it, a failure later leaves the socket in *out: undo what created() did, then zsock_free.
	 */
	int (*created)(void *userdata, void *socket);
	void *userdata;
};

/* Writes tcp://ADDRESS:PORT, an IPv6 address in brackets. */
void zsock_tcp_endpoint(char *text, size_t size, const char *address, unsigned port);

/*
 * tcp sockets speak CURVE with the context's keys, always: there is no plain tcp.
 * Errors: negative errno, -EADDRINUSE also when a live process holds the ipc path.
 * From the first socket on the process must not fork() (posix_spawn is fine): ZeroMQ's threads and descriptors
 * would be shared with the child, so a fork is a bug and ends the process at once.
 */
int zsock_new(void **out, struct zcontext *context, const struct zsock_options *options);
void *zsock_free(void *socket); /* returns NULL */
/* Of a SUB: topics that begin with prefix ("": all); any number of them. */
int zsock_subscribe(void *socket, const char *prefix);

#define ZFRAMES_MAX 8

struct zframes {
	size_t count;
	zmq_msg_t frame[ZFRAMES_MAX];
};

static inline const void *zframe_data(const struct zframes *frames, size_t i)
{
	return zmq_msg_data((zmq_msg_t *)&frames->frame[i]);
}

static inline size_t zframe_size(const struct zframes *frames, size_t i)
{
	return zmq_msg_size(&frames->frame[i]);
}

/*
 * Takes one whole message, never waits.  0; -EAGAIN when there is none; -EBADMSG when it had more than
 * ZFRAMES_MAX frames, -EMSGSIZE when one was beyond max_message (it is gone).  Pair with zframes_fini.
 */
int zsock_recv(void *socket, struct zframes *frames);
void zframes_fini(struct zframes *frames);

struct zpart {
	const void *data;
	size_t size;
};
/* Sends one message of count frames, never waits: 0, -EAGAIN when the queue is full, -EHOSTUNREACH
 * when a ROUTER does not know the receiver. */
int zsock_send(void *socket, const struct zpart *parts, size_t count);
/* The name of the peer that ZAP let in with this frame (CURVE sockets), or NULL. */
const char *zframe_peer(const struct zframes *frames, size_t i);

/*
 * Calls ready() from the loop whenever messages may be there; ready() takes until -EAGAIN, or returns
 * early after a bounded number and is called again.  ZMQ_FD is edge-triggered: the adapter looks at
 * ZMQ_EVENTS before the loop sleeps, so that an edge consumed by a send is not lost.
 */
struct zwatch;
int zwatch_new(struct zwatch **out, sd_event *loop, void *socket, void (*ready)(void *userdata),
    void *userdata);
struct zwatch *zwatch_free(struct zwatch *watch);

#endif
