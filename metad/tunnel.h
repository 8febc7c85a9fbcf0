/*
 * Streams between the metads of a cluster, for dqlite, which has no authentication of its own.
 *
 * Each is a TCP connection with TLS 1.3: a pre-shared key for the two nodes, and an ephemeral
 * X25519 exchange for forward secrecy.  The pre-shared key is derived from the static keys that
 * the nodes have anyway: BLAKE2b over the X25519 product of one's secret and the other's public
 * key and both public keys; so it is known to these two only, and there is nothing to hand out.
 * The identity in the handshake is the node's name: it, the addresses and the times are all that
 * shows on the wire.  A node that is not in the configuration, or has another key, gets no stream.
 *
 * To both users a stream is a plain descriptor, one end of a socket pair; this module moves the
 * bytes.  Rejected: CURVE, because dqlite wants byte streams and ZeroMQ has messages; stunnel,
 * because it is a process more to watch and its keys are files.
 */
#ifndef METAD_TUNNEL_H
#define METAD_TUNNEL_H

#include <systemd/sd-event.h>

#include "common/keys.h"

#define TUNNEL_STREAMS_MAX 256  /* at once, all together */
#define TUNNEL_STRANGERS_MAX 32 /* of them not yet authenticated and not ours */
#define TUNNEL_HANDSHAKE_MS 1500

struct tunnel_config {
	sd_event *loop;
	const struct node_keys *keys;
	const struct peers *peers;
	const struct peer *self;
	/* A node asks for a stream: what shall be at this end of it?  0 and a connected descriptor,
	 * or negative errno to refuse. */
	int (*accept)(void *arg, const struct peer *from, int *fd);
	void *arg;
};

struct tunnel_counts {
	uint64_t accepted, refused, dialled, failed;
	uint64_t open; /* now */
};

struct tunnel;

/* Listens on the address of self, its port + PORT_METAD_TUNNEL; -EADDRINUSE and the like. */
int tunnel_new(struct tunnel **out, const struct tunnel_config *config);
struct tunnel *tunnel_free(struct tunnel *tunnel);
const struct tunnel_counts *tunnel_counts(const struct tunnel *tunnel);

/* Called once, from the loop: 0 when the other node has proved itself, or negative errno. */
typedef void tunnel_established(void *arg, int result);

/* A stream to the peer, for the caller to close; what is written before it is established waits.
 * When the peer cannot be reached, the stream ends.  established may be NULL. */
int tunnel_dial(struct tunnel *tunnel, const struct peer *peer, tunnel_established *established,
    void *arg, int *fd);

/* The peer is no longer one: its streams end, also those that are not yet established. */
void tunnel_drop(struct tunnel *tunnel, const struct peer *peer);

/* The key that two nodes share: 0, or -EKEYREJECTED for a public key that is none. */
int tunnel_key(uint8_t key[KEY_SIZE], const struct node_keys *own, const uint8_t other[KEY_SIZE]);

#endif
