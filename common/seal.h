/*
 * Sealed datagrams between nodes that know each other's static X25519 keys: private, authentic,
 * never accepted twice, and never accepted from an earlier life of the sender or of the receiver.
 * seal.c tells the protocol.  Functions over state and bytes: no socket, clock or random source in
 * here, so the simulator can run it.
 *
 * How a daemon uses it.  To send: seal_seal(), and send what it made, whichever answer it gave.
 * SEAL_HELLO means that the two are not in touch yet: the datagram made asks for a token, and the
 * payload was not sent.  On receipt: seal_open(); send opened.reply if it has a size, always to
 * the peer's configured address, never to where the datagram came from; when opened.ready is
 * set, the peer can now be sent to, so send at once what SEAL_HELLO had put off.
 */
#ifndef COMMON_SEAL_H
#define COMMON_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/mono.h"

enum {
	SEAL_KEY_SIZE = 32,
	SEAL_HEADER_SIZE = 9,       /* of a payload in a session that both know */
	SEAL_FULL_HEADER_SIZE = 33, /* of all others */
	SEAL_TAG_SIZE = 16,
	SEAL_DATAGRAM_MAX = 1200,
	SEAL_PAYLOAD_MAX = SEAL_DATAGRAM_MAX - SEAL_FULL_HEADER_SIZE - SEAL_TAG_SIZE,
	SEAL_OPENINGS = 4,  /* payloads of a new session that have the full header */
	SEAL_WINDOW = 1024, /* datagrams overtaken by more than this are refused */
	SEAL_CONTEXT_MAX = 16,
};

struct seal_config {
	const char *context;               /* the daemon's name: keys of two contexts differ */
	uint8_t public_key[SEAL_KEY_SIZE]; /* of this node */
	uint8_t secret_key[SEAL_KEY_SIZE];
	uint8_t random[SEAL_KEY_SIZE]; /* fresh random bytes at each start: the boot */
	size_t peers_max;
};

/* One counter for each reason to refuse a datagram. */
#define SEAL_REFUSALS(X)                                                                           \
	X(OVERSIZED, "oversized", "longer than anything that is sent")                             \
	X(TRUNCATED, "truncated", "shorter than a header and a tag")                               \
	X(MALFORMED, "malformed", "of an unknown kind, or control text of a wrong size")           \
	X(UNKNOWN_SENDER, "unknown_sender", "no peer has this node id")                            \
	X(BAD_TAG, "bad_tag", "forged, damaged, or sealed with another key")                       \
	X(REPLAYED, "replayed", "seen before, or overtaken by more than the window")               \
	X(OLD_BOOT, "old_boot", "of another session: an earlier life of the sender or of this node")

enum seal_refusal {
#define X(name, label, text) SEAL_##name,
	SEAL_REFUSALS(X)
#undef X
	    SEAL_REFUSALS_COUNT,
};

struct seal_counters {
	uint64_t sealed, opened;
	uint64_t control_sent, control_received;
	uint64_t refused[SEAL_REFUSALS_COUNT];
};

struct seal_datagram {
	size_t size;
	uint8_t bytes[SEAL_DATAGRAM_MAX];
};

enum seal_answer {
	SEAL_OK,      /* seal_seal: holds the payload; seal_open: a payload came */
	SEAL_HELLO,   /* seal_seal: a hello in place of the payload */
	SEAL_CONTROL, /* seal_open: authentic, no payload in it */
	SEAL_REFUSED, /* seal_open: opened.refusal tells why; it is counted */
};

struct seal_opened {
	uint64_t peer; /* node_id() of common/keys.h; 0 when refused */
	bool new_boot; /* first payload of a new life of the peer */
	bool ready;    /* sending to the peer has just become possible */
	enum seal_refusal refusal;
	size_t size;
	uint8_t payload[SEAL_PAYLOAD_MAX];
	struct seal_datagram reply; /* to be sent to the peer if size > 0, also when refused */
	uint64_t reply_to;          /* the peer it goes to */
};

struct seal;

/* Makes one; -ENOMEM, -EINVAL on a context too long or a degenerate key.  Copies the keys. */
int seal_new(struct seal **out, const struct seal_config *config);
/* Wipes the keys. */
struct seal *seal_free(struct seal *seal);

/* -EEXIST, -ENOSPC; -EINVAL for the own or a degenerate key. */
int seal_add_peer(struct seal *seal, const uint8_t public_key[SEAL_KEY_SIZE]);
/* Forgets a peer; -ENOENT. */
int seal_remove_peer(struct seal *seal, uint64_t peer);

/* SEAL_OK or SEAL_HELLO; -ENOENT, -EMSGSIZE beyond SEAL_PAYLOAD_MAX. */
int seal_seal(
    struct seal *seal, uint64_t peer, const void *payload, size_t size, struct seal_datagram *out);
/* SEAL_OK, SEAL_CONTROL or SEAL_REFUSED.  now limits how often strangers can make us answer. */
int seal_open(
    struct seal *seal, const void *datagram, size_t size, struct mono now, struct seal_opened *out);

/* Can payloads be sent to this peer? */
bool seal_ready(const struct seal *seal, uint64_t peer);
/*
 * Will the next payload open a session, as far as we know?  The peer opens none of a session before it has opened
 * one for which this was true: what each of these says needs no repetition in the later ones.
 */
bool seal_opening(const struct seal *seal, uint64_t peer);
const struct seal_counters *seal_counters(const struct seal *seal);
const char *seal_refusal_name(enum seal_refusal refusal);

#endif
