/*
 * Idea.  A payload is sealed under a key that both a boot number of the sender and a token of the
 * receiver go into.  The boot number is random for each life of the sender, so a restarted node
 * never meets an old nonce under an old key.  The token is made by the receiver, for this boot of
 * this sender, from a secret of its present life, so what was captured in an earlier life of
 * either side opens no more.  No clock and nothing on disk is needed for that.
 *
 * Full header, 33 bytes, little endian, authenticated: kind 1, sender's node id 8, sender's boot 8,
 * receiver's token as known to the sender 8 (0 in control), counter 8.  Then ciphertext and tag of
 * ChaCha20-Poly1305 (RFC 8439); the nonce is the counter, which rises by one with every datagram to
 * this peer in this boot, whatever its kind.
 *
 * Short header, 9 bytes: kind 1, and the low ends of sender 2, token 4 and counter 2.  Heartbeats are
 * small and many, and 33 bytes were a third of them.  Who has accepted a session knows boot and token,
 * which are in its key, and the counter is the one with these low bits that is nearest to the highest
 * so far (as in QUIC, RFC 9000 section 17.1): so all of the full header still counts, and most of it is not sent.
 * The first SEAL_OPENINGS payloads of a session have the full header.  A short one that does not fit
 * an accepted session, or does not open, is answered like a token that is not valid, see below, and
 * that brings the full header back: the openings may all be lost, 32,768 datagrams in a row too.
 * Rejected: an index given by the receiver (as in WireGuard): after its restart nobody could tell whom to ask.
 *
 * Keys.  crypto_kx on the static keys, "client" being the node with the lower public key, gives one
 * key per direction; BLAKE2b keyed with it makes
 *     static  = H(direction, context)              another one for each daemon
 *     payload = H(static, "data" boot token)
 *     control = H(static, "ctrl" boot)
 *
 * Control.  One kind of datagram: challenge, answer, token (8 bytes each).  "challenge" not 0: give
 * me your token.  "answer": the challenge that this replies to, and "token" is the one asked for.  A
 * hello (a challenge that answers nothing) is answered with a challenge too: who says it may have forgotten ours.
 * A challenge is unpredictable and is used up by its answer, so an answer is known to be fresh.
 * Receiving control changes nothing else but the form of the next payloads (full header): a replayed one draws
 * one reply (and that at most one more), to the configured address, of the same size.  A restarted
 * node B thus says hello (challenge); A replies with its token and with a challenge of its own; from
 * there B's payloads are heard (one round trip after the start), and A's as soon as B's answer is in
 * (half of one more).
 *
 * A new boot of a sender is accepted with its first good payload, for which the token of the
 * *next* generation is needed.  Acceptance raises the generation, so payloads of a former boot can
 * never bring that boot back.  Offered and refused tokens are computed, not stored: the state per
 * peer is fixed, whatever arrives.
 *
 * A datagram with a known sender and a token that is not valid means that one of us is new: it is
 * refused unread, and a hello goes to that peer's configured address, at most one in
 * HELLO_PAUSE_MS, so that strangers cannot make us a source of traffic.  Two peers can have the low
 * end of their ids in common: the hello goes to the one that had none for longer.
 *
 * Rejected: a boot number that must rise (needs a right clock or a disk, and one wrong year locks
 * a node out); Noise IK as in WireGuard (ephemeral keys would add forward secrecy, but four
 * Diffie-Hellman operations for every forged hello); DTLS (a connection for each pair, and no
 * implementation without its own timers).  Heartbeats and gossip need no forward secrecy.
 */
#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include "common/keys.h"
#include "common/seal.h"

#define HELLO_PAUSE_MS 200

/* The first byte; the upper half is the version of all this. */
enum kind { CONTROL = 0x21, OPENING = 0x22, DATA = 0x23 };

enum { CONTROL_SIZE = 24 };

/* Of a short one only the low ends are known: 16, 32 and 16 bits; the boot is 0. */
struct header {
	uint8_t kind;
	uint64_t sender, boot, token, counter;
};

struct control {
	uint64_t challenge, answer, token;
};

/* RFC 6479: a ring of bits; the counters (top - SEAL_WINDOW, top] are told apart. */
struct window {
	uint64_t top;
	uint64_t bits[SEAL_WINDOW / 64];
};

struct key {
	uint8_t bytes[crypto_aead_chacha20poly1305_ietf_KEYBYTES];
};

struct seal_peer {
	uint64_t id;
	struct key to, from; /* the static keys of the two directions */

	/* Sending. */
	uint64_t counter;           /* of the last datagram sent */
	uint64_t challenge;         /* not yet answered, or 0 */
	uint64_t their_boot, token; /* the session; token 0: none */
	struct key tx;
	unsigned openings; /* payloads still to have the full header */
	struct mono hello_after;

	/* Receiving. */
	uint64_t generation; /* accepted boots so far */
	uint64_t boot;       /* the accepted one; 0: none */
	uint64_t our_token;  /* the token it uses */
	struct key rx;
	struct window window;
};

struct seal {
	uint8_t public_key[SEAL_KEY_SIZE], secret_key[SEAL_KEY_SIZE];
	uint8_t secret[SEAL_KEY_SIZE]; /* of this life: makes tokens and challenges */
	uint64_t self, boot;
	uint64_t challenges;          /* made so far */
	uint64_t counter, generation; /* highest of removed peers: they go on from there */
	char context[SEAL_CONTEXT_MAX + 1];
	struct seal_counters counters;
	size_t peers_max, count;
	struct seal_peer peers[];
};

static_assert(sizeof(struct key) == SEAL_KEY_SIZE && KEY_SIZE == SEAL_KEY_SIZE, "one key size");
static_assert(SEAL_TAG_SIZE == crypto_aead_chacha20poly1305_ietf_ABYTES, "RFC 8439");

static void put_uint(uint8_t *to, uint64_t value, int size)
{
	for (int i = 0; i < size; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_uint(const uint8_t *from, int size)
{
	uint64_t value = 0;

	for (int i = 0; i < size; i++)
		value |= (uint64_t)from[i] << (8 * i);
	return value;
}

static void put_u64(uint8_t *to, uint64_t value)
{
	put_uint(to, value, 8);
}

static uint64_t get_u64(const uint8_t *from)
{
	return get_uint(from, 8);
}

static size_t header_size(uint8_t kind)
{
	return kind == DATA ? SEAL_HEADER_SIZE : SEAL_FULL_HEADER_SIZE;
}

static void put_header(uint8_t *to, const struct header *header)
{
	to[0] = header->kind;
	if (header->kind == DATA) {
		put_uint(to + 1, header->sender, 2);
		put_uint(to + 3, header->token, 4);
		put_uint(to + 7, header->counter, 2);
		return;
	}
	put_u64(to + 1, header->sender);
	put_u64(to + 9, header->boot);
	put_u64(to + 17, header->token);
	put_u64(to + 25, header->counter);
}

static void get_header(struct header *header, const uint8_t *from)
{
	header->kind = from[0];
	if (header->kind == DATA) {
		header->boot = 0;
		header->sender = get_uint(from + 1, 2);
		header->token = get_uint(from + 3, 4);
		header->counter = get_uint(from + 7, 2);
		return;
	}
	header->sender = get_u64(from + 1);
	header->boot = get_u64(from + 9);
	header->token = get_u64(from + 17);
	header->counter = get_u64(from + 25);
}

/* 256 bits of BLAKE2b keyed with `key` over a four-letter label and three words. */
static void derive(uint8_t out[SEAL_KEY_SIZE], const uint8_t key[SEAL_KEY_SIZE], const char *label,
    uint64_t a, uint64_t b, uint64_t c)
{
	uint8_t text[28];

	memcpy(text, label, 4);
	put_u64(text + 4, a);
	put_u64(text + 12, b);
	put_u64(text + 20, c);
	crypto_generichash(out, SEAL_KEY_SIZE, text, sizeof(text), key, SEAL_KEY_SIZE);
}

/* 64 unpredictable bits that only this life of this node can make; never 0. */
static uint64_t make_word(
    const struct seal *seal, const char *label, uint64_t a, uint64_t b, uint64_t c)
{
	uint8_t hash[SEAL_KEY_SIZE];
	uint64_t word;

	derive(hash, seal->secret, label, a, b, c);
	word = get_u64(hash);
	return word ? word : 1;
}

static uint64_t make_token(
    const struct seal *seal, const struct seal_peer *peer, uint64_t boot, uint64_t generation)
{
	return make_word(seal, "tokn", peer->id, boot, generation);
}

/* The token that this boot of the peer is to use: its present one, or that of the next life. */
static uint64_t token_for(const struct seal *seal, const struct seal_peer *peer, uint64_t boot)
{
	if (peer->boot && peer->boot == boot)
		return peer->our_token;
	return make_token(seal, peer, boot, peer->generation + 1);
}

static struct seal_peer *find(struct seal *seal, uint64_t id)
{
	for (size_t i = 0; i < seal->count; i++)
		if (seal->peers[i].id == id)
			return &seal->peers[i];
	return NULL;
}

/* The peer whose accepted session a short header names, or NULL. */
static struct seal_peer *find_session(struct seal *seal, const struct header *header)
{
	for (size_t i = 0; i < seal->count; i++) {
		struct seal_peer *peer = &seal->peers[i];

		if (peer->boot && (uint16_t)peer->id == header->sender &&
		    (uint32_t)peer->our_token == header->token)
			return peer;
	}
	return NULL;
}

/* The peer that a short header may come from; of several the one that was said hello to before the others. */
static struct seal_peer *find_like(struct seal *seal, uint64_t sender)
{
	struct seal_peer *found = NULL;

	for (size_t i = 0; i < seal->count; i++) {
		struct seal_peer *peer = &seal->peers[i];

		if ((uint16_t)peer->id == sender &&
		    (!found || mono_before(peer->hello_after, found->hello_after)))
			found = peer;
	}
	return found;
}

int seal_new(struct seal **out, const struct seal_config *config)
{
	struct seal *seal;

	if (!config->context || strlen(config->context) > SEAL_CONTEXT_MAX || !config->peers_max)
		return -EINVAL;
	if (sodium_init() < 0)
		return -ENOSYS;
	seal = calloc(1, sizeof(*seal) + config->peers_max * sizeof(seal->peers[0]));
	if (!seal)
		return -ENOMEM;
	memcpy(seal->public_key, config->public_key, SEAL_KEY_SIZE);
	memcpy(seal->secret_key, config->secret_key, SEAL_KEY_SIZE);
	memcpy(seal->secret, config->random, SEAL_KEY_SIZE);
	memcpy(seal->context, config->context, strlen(config->context) + 1);
	seal->peers_max = config->peers_max;
	seal->self = node_id(seal->public_key);
	seal->boot = make_word(seal, "boot", seal->self, 0, 0);
	*out = seal;
	return 0;
}

struct seal *seal_free(struct seal *seal)
{
	if (seal) {
		sodium_memzero(seal, sizeof(*seal) + seal->peers_max * sizeof(seal->peers[0]));
		free(seal);
	}
	return NULL;
}

/* The two static keys of a pair; -1 when the peer's public key is degenerate. */
static int pair_keys(const struct seal *seal, const uint8_t *peer_key, struct seal_peer *peer)
{
	uint8_t rx[SEAL_KEY_SIZE], tx[SEAL_KEY_SIZE];
	bool client = memcmp(seal->public_key, peer_key, SEAL_KEY_SIZE) < 0;
	int r = client ? crypto_kx_client_session_keys(
			     rx, tx, seal->public_key, seal->secret_key, peer_key)
		       : crypto_kx_server_session_keys(
			     rx, tx, seal->public_key, seal->secret_key, peer_key);
	const uint8_t *context = (const uint8_t *)seal->context;
	size_t length = strlen(seal->context);

	crypto_generichash(peer->to.bytes, SEAL_KEY_SIZE, context, length, tx, SEAL_KEY_SIZE);
	crypto_generichash(peer->from.bytes, SEAL_KEY_SIZE, context, length, rx, SEAL_KEY_SIZE);
	sodium_memzero(rx, sizeof(rx));
	sodium_memzero(tx, sizeof(tx));
	return r;
}

int seal_add_peer(struct seal *seal, const uint8_t public_key[SEAL_KEY_SIZE])
{
	struct seal_peer peer = {
	    .id = node_id(public_key),
	    .counter = seal->counter,
	    .generation = seal->generation,
	};

	if (peer.id == seal->self)
		return -EINVAL;
	if (find(seal, peer.id))
		return -EEXIST;
	if (seal->count == seal->peers_max)
		return -ENOSPC;
	if (pair_keys(seal, public_key, &peer) < 0)
		return -EINVAL;
	seal->peers[seal->count++] = peer;
	sodium_memzero(&peer, sizeof(peer));
	return 0;
}

int seal_remove_peer(struct seal *seal, uint64_t id)
{
	struct seal_peer *peer = find(seal, id);

	if (!peer)
		return -ENOENT;
	if (peer->counter > seal->counter)
		seal->counter = peer->counter;
	if (peer->generation > seal->generation)
		seal->generation = peer->generation;
	*peer = seal->peers[--seal->count];
	sodium_memzero(&seal->peers[seal->count], sizeof(*peer));
	return 0;
}

/* Was this counter not yet seen?  Says nothing about who sent it, so it is asked first. */
static bool window_fresh(const struct window *window, uint64_t counter)
{
	if (counter > window->top)
		return true;
	if (window->top - counter >= SEAL_WINDOW)
		return false;
	return !(window->bits[counter / 64 % (SEAL_WINDOW / 64)] >> (counter % 64) & 1);
}

/* Takes note of a counter that was fresh and authentic. */
static void window_note(struct window *window, uint64_t counter)
{
	if (counter > window->top) {
		if (counter - window->top >= SEAL_WINDOW)
			memset(window->bits, 0, sizeof(window->bits));
		else
			for (uint64_t i = window->top + 1; i <= counter; i++)
				window->bits[i / 64 % (SEAL_WINDOW / 64)] &=
				    ~(UINT64_C(1) << (i % 64));
		window->top = counter;
	}
	window->bits[counter / 64 % (SEAL_WINDOW / 64)] |= UINT64_C(1) << (counter % 64);
}

/* The counter with these 16 low bits that is nearest to the highest seen. */
static uint64_t whole_counter(const struct window *window, uint64_t low)
{
	const uint64_t turn = UINT64_C(1) << 16;
	uint64_t counter = (window->top & ~(turn - 1)) | low;

	if (counter + turn / 2 <= window->top)
		return counter + turn;
	if (counter > window->top + turn / 2 && counter >= turn)
		return counter - turn;
	return counter;
}

static void make_nonce(uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES], uint64_t counter)
{
	memset(nonce, 0, 4);
	put_u64(nonce + 4, counter);
}

static void encrypt(struct seal *seal, struct seal_peer *peer, enum kind kind, uint64_t token,
    const struct key *key, const void *text, size_t size, struct seal_datagram *out)
{
	struct header header = {(uint8_t)kind, seal->self, seal->boot, token, ++peer->counter};
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
	size_t begin = header_size(header.kind);

	make_nonce(nonce, header.counter);
	put_header(out->bytes, &header);
	crypto_aead_chacha20poly1305_ietf_encrypt(
	    out->bytes + begin, NULL, text, size, out->bytes, begin, NULL, nonce, key->bytes);
	out->size = begin + size + SEAL_TAG_SIZE;
}

/* Opens a datagram whose text fits into `text`; true when it is authentic. */
static bool decrypt(
    const uint8_t *datagram, size_t size, uint64_t counter, const struct key *key, uint8_t *text)
{
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
	size_t begin = header_size(datagram[0]);

	make_nonce(nonce, counter);
	return crypto_aead_chacha20poly1305_ietf_decrypt(text, NULL, NULL, datagram + begin,
		   size - begin, datagram, begin, nonce, key->bytes) == 0;
}

/* The present challenge to a peer; made when there is none. */
static uint64_t challenge_to(struct seal *seal, struct seal_peer *peer)
{
	if (!peer->challenge)
		peer->challenge = make_word(seal, "chal", peer->id, ++seal->challenges, 0);
	return peer->challenge;
}

static void make_control(struct seal *seal, struct seal_peer *peer, const struct control *control,
    struct seal_datagram *out)
{
	uint8_t text[CONTROL_SIZE];
	struct key key;

	put_u64(text, control->challenge);
	put_u64(text + 8, control->answer);
	put_u64(text + 16, control->token);
	derive(key.bytes, peer->to.bytes, "ctrl", seal->boot, 0, 0);
	encrypt(seal, peer, CONTROL, 0, &key, text, sizeof(text), out);
	seal->counters.control_sent++;
}

int seal_seal(
    struct seal *seal, uint64_t id, const void *payload, size_t size, struct seal_datagram *out)
{
	struct seal_peer *peer = find(seal, id);

	if (!peer)
		return -ENOENT;
	if (size > SEAL_PAYLOAD_MAX)
		return -EMSGSIZE;
	if (!peer->token) {
		struct control hello = {.challenge = challenge_to(seal, peer)};

		make_control(seal, peer, &hello, out);
		return SEAL_HELLO;
	}
	encrypt(seal, peer, peer->openings ? OPENING : DATA, peer->token, &peer->tx, payload, size,
	    out);
	peer->openings -= peer->openings > 0;
	seal->counters.sealed++;
	return SEAL_OK;
}

static int refuse(struct seal *seal, struct seal_opened *out, enum seal_refusal why)
{
	out->refusal = why;
	seal->counters.refused[why]++;
	return SEAL_REFUSED;
}

/* One of us two is new: tells the peer our boot, which makes it ask for a token. */
static void say_hello(
    struct seal *seal, struct seal_peer *peer, struct mono now, struct seal_opened *out)
{
	struct control hello = {.challenge = challenge_to(seal, peer)};

	if (!mono_due(peer->hello_after, now))
		return;
	peer->hello_after = mono_add_ms(now, HELLO_PAUSE_MS);
	make_control(seal, peer, &hello, &out->reply);
	out->reply_to = peer->id;
}

static void adopt_token(
    const struct seal *seal, struct seal_peer *peer, uint64_t their_boot, uint64_t token)
{
	peer->challenge = 0;
	peer->their_boot = their_boot;
	peer->token = token;
	peer->openings = SEAL_OPENINGS;
	derive(peer->tx.bytes, peer->to.bytes, "data", seal->boot, token, 0);
}

static int open_control(struct seal *seal, struct seal_peer *peer, const struct header *header,
    const uint8_t *datagram, size_t size, struct seal_opened *out)
{
	uint8_t text[CONTROL_SIZE];
	struct control control, reply = {0};
	struct key key;

	if (size != SEAL_FULL_HEADER_SIZE + CONTROL_SIZE + SEAL_TAG_SIZE)
		return refuse(seal, out, SEAL_MALFORMED);
	derive(key.bytes, peer->from.bytes, "ctrl", header->boot, 0, 0);
	if (!decrypt(datagram, size, header->counter, &key, text))
		return refuse(seal, out, SEAL_BAD_TAG);
	control = (struct control){get_u64(text), get_u64(text + 8), get_u64(text + 16)};
	seal->counters.control_received++;
	out->peer = peer->id;
	if (control.answer && control.answer == peer->challenge && control.token) {
		adopt_token(seal, peer, header->boot, control.token);
		out->ready = true;
	}
	if (!control.challenge)
		return SEAL_CONTROL;
	if (!control.answer)
		peer->openings = SEAL_OPENINGS;
	reply.answer = control.challenge;
	reply.token = token_for(seal, peer, header->boot);
	if (!control.answer || !peer->token || peer->their_boot != header->boot)
		reply.challenge = challenge_to(seal, peer);
	make_control(seal, peer, &reply, &out->reply);
	out->reply_to = peer->id;
	return SEAL_CONTROL;
}

/* A payload of a boot that is not the accepted one: good only under the next generation's token. */
static bool accept_boot(struct seal *seal, struct seal_peer *peer, const struct header *header,
    const uint8_t *datagram, size_t size, struct seal_opened *out)
{
	struct key key;

	derive(key.bytes, peer->from.bytes, "data", header->boot, header->token, 0);
	if (!decrypt(datagram, size, header->counter, &key, out->payload))
		return false;
	peer->generation++;
	assert(header->token == make_token(seal, peer, header->boot, peer->generation));
	peer->boot = header->boot;
	peer->our_token = header->token;
	peer->rx = key;
	memset(&peer->window, 0, sizeof(peer->window));
	out->new_boot = true;
	return true;
}

/* An authentic payload. */
static int take_payload(struct seal *seal, struct seal_peer *peer, uint64_t counter,
    size_t text_size, struct seal_opened *out)
{
	window_note(&peer->window, counter);
	seal->counters.opened++;
	out->peer = peer->id;
	out->size = text_size;
	return SEAL_OK;
}

static int open_opening(struct seal *seal, struct seal_peer *peer, const struct header *header,
    const uint8_t *datagram, size_t size, struct mono now, struct seal_opened *out)
{
	if (!header->boot || header->token != token_for(seal, peer, header->boot)) {
		say_hello(seal, peer, now, out);
		return refuse(seal, out, SEAL_OLD_BOOT);
	}
	if (header->boot == peer->boot) {
		if (!window_fresh(&peer->window, header->counter))
			return refuse(seal, out, SEAL_REPLAYED);
		if (!decrypt(datagram, size, header->counter, &peer->rx, out->payload))
			return refuse(seal, out, SEAL_BAD_TAG);
	} else if (!accept_boot(seal, peer, header, datagram, size, out)) {
		return refuse(seal, out, SEAL_BAD_TAG);
	}
	return take_payload(
	    seal, peer, header->counter, size - SEAL_FULL_HEADER_SIZE - SEAL_TAG_SIZE, out);
}

static int open_data(struct seal *seal, const struct header *header, const uint8_t *datagram,
    size_t size, struct mono now, struct seal_opened *out)
{
	struct seal_peer *peer = find_session(seal, header);
	uint64_t counter;

	if (!peer) {
		peer = find_like(seal, header->sender);
		if (!peer)
			return refuse(seal, out, SEAL_UNKNOWN_SENDER);
		say_hello(seal, peer, now, out);
		return refuse(seal, out, SEAL_OLD_BOOT);
	}
	counter = whole_counter(&peer->window, header->counter);
	if (!window_fresh(&peer->window, counter))
		return refuse(seal, out, SEAL_REPLAYED);
	if (!decrypt(datagram, size, counter, &peer->rx, out->payload)) {
		say_hello(seal, peer, now, out);
		return refuse(seal, out, SEAL_BAD_TAG);
	}
	return take_payload(seal, peer, counter, size - SEAL_HEADER_SIZE - SEAL_TAG_SIZE, out);
}

static int open_full(struct seal *seal, const struct header *header, const uint8_t *datagram,
    size_t size, struct mono now, struct seal_opened *out)
{
	struct seal_peer *peer = find(seal, header->sender);

	if (!peer)
		return refuse(seal, out, SEAL_UNKNOWN_SENDER);
	if (header->kind == CONTROL)
		return open_control(seal, peer, header, datagram, size, out);
	return open_opening(seal, peer, header, datagram, size, now, out);
}

int seal_open(
    struct seal *seal, const void *datagram, size_t size, struct mono now, struct seal_opened *out)
{
	struct header header;
	uint8_t kind;

	out->new_boot = out->ready = false;
	out->peer = out->reply_to = 0;
	out->size = out->reply.size = 0;
	if (size > SEAL_DATAGRAM_MAX)
		return refuse(seal, out, SEAL_OVERSIZED);
	if (size < SEAL_HEADER_SIZE + SEAL_TAG_SIZE)
		return refuse(seal, out, SEAL_TRUNCATED);
	kind = *(const uint8_t *)datagram;
	if (kind != CONTROL && kind != OPENING && kind != DATA)
		return refuse(seal, out, SEAL_MALFORMED);
	if (size < header_size(kind) + SEAL_TAG_SIZE)
		return refuse(seal, out, SEAL_TRUNCATED);
	if (size - header_size(kind) - SEAL_TAG_SIZE > SEAL_PAYLOAD_MAX)
		return refuse(seal, out, SEAL_OVERSIZED);
	get_header(&header, datagram);
	if (kind == DATA)
		return open_data(seal, &header, datagram, size, now, out);
	return open_full(seal, &header, datagram, size, now, out);
}

bool seal_ready(const struct seal *seal, uint64_t id)
{
	for (size_t i = 0; i < seal->count; i++)
		if (seal->peers[i].id == id)
			return seal->peers[i].token != 0;
	return false;
}

bool seal_opening(const struct seal *seal, uint64_t id)
{
	for (size_t i = 0; i < seal->count; i++)
		if (seal->peers[i].id == id)
			return !seal->peers[i].token || seal->peers[i].openings;
	return true;
}

const struct seal_counters *seal_counters(const struct seal *seal)
{
	return &seal->counters;
}

const char *seal_refusal_name(enum seal_refusal refusal)
{
	static const char *const names[] = {
#define X(name, label, text) [SEAL_##name] = label,
	    SEAL_REFUSALS(X)
#undef X
	};

	return refusal < SEAL_REFUSALS_COUNT ? names[refusal] : "?";
}
