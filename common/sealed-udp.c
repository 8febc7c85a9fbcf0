/*
 * A payload for a peer with whom no keys are agreed yet (one of the two is new) is put off: the
 * hello goes out in its place, and the payload as soon as the answer is in, so that a restarted
 * node is heard after one round trip and not after an interval.  Only the latest is kept: these
 * are heartbeats and gossip, of which a newer one says all that an older one did.
 */
#include "common/sealed-udp.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define DATAGRAMS_A_WAKE 2048 /* a flood must not keep the timers from being judged */

/* How to reach a node, and what it is owed. */
struct sealed_peer {
	const struct peer *peer; /* NULL: a free entry */
	struct udp_address address;
	bool put_off; /* payload goes out when the peer can be sent to */
	size_t size;
	uint8_t payload[SEAL_PAYLOAD_MAX];
};

struct sealed_udp {
	struct sealed_udp_options options;
	struct udp udp;
	struct seal *seal;
	sd_event_source *readable;
	struct daemon *daemon;
	struct peers_listener listener;
	size_t count; /* entries used so far */
	struct sealed_peer peers[PEERS_MAX];
	uint64_t sends_failed, bodies_refused;
	struct log_limit send_limit, refuse_limit;
};

static struct sealed_peer *find(struct sealed_udp *sealed, uint64_t id)
{
	for (size_t i = 0; i < sealed->count; i++)
		if (sealed->peers[i].peer && sealed->peers[i].peer->id == id)
			return &sealed->peers[i];
	return NULL;
}

bool sealed_udp_knows(const struct sealed_udp *sealed, uint64_t peer)
{
	return find((struct sealed_udp *)sealed, peer) != NULL;
}

bool sealed_udp_ready(const struct sealed_udp *sealed, uint64_t peer)
{
	return seal_ready(sealed->seal, peer);
}

bool sealed_udp_opening(const struct sealed_udp *sealed, uint64_t peer)
{
	return seal_opening(sealed->seal, peer);
}

/* --- out --- */

static void send_datagram(
    struct sealed_udp *sealed, struct sealed_peer *to, const struct seal_datagram *datagram)
{
	unsigned missed;
	int r;

	if (!to || !datagram->size)
		return;
	r = udp_send(&sealed->udp, &to->address, datagram->bytes, datagram->size);
	if (r == 0)
		return;
	sealed->sends_failed++;
	if (log_limit(&sealed->send_limit, mono_now(), &missed))
		log_warning("send to %s: %s missed=%u", to->peer->name, strerror(-r), missed);
}

static void seal_and_send(
    struct sealed_udp *sealed, struct sealed_peer *to, const void *payload, size_t size)
{
	struct seal_datagram datagram;
	int r = seal_seal(sealed->seal, to->peer->id, payload, size, &datagram);

	if (r < 0) {
		log_bug("seal a datagram for %s: %s", to->peer->name, strerror(-r));
		return;
	}
	to->put_off = r == SEAL_HELLO;
	if (to->put_off) {
		memmove(to->payload, payload, size); /* it may be the one that was put off */
		to->size = size;
	}
	send_datagram(sealed, to, &datagram);
}

void sealed_udp_send(struct sealed_udp *sealed, uint64_t peer, const void *payload, size_t size)
{
	struct sealed_peer *to = find(sealed, peer);

	if (to)
		seal_and_send(sealed, to, payload, size);
}

/* --- in --- */

static void refuse(struct sealed_udp *sealed, const struct udp_datagram *datagram, const char *why)
{
	unsigned missed;

	if (log_limit(&sealed->refuse_limit, datagram->arrived, &missed))
		log_warning("datagram refused: %s from=%s size=%zu missed=%u", why, datagram->from,
		    datagram->size, missed);
}

static void take_payload(struct sealed_udp *sealed, const struct udp_datagram *datagram,
    const struct seal_opened *opened)
{
	struct sealed_payload payload = {.from = opened->peer,
	    .arrived = datagram->arrived,
	    .data = opened->payload,
	    .size = opened->size};
	struct mpr_error error;
	int r = sealed->options.take(sealed->options.userdata, &payload, &error);

	sealed->bodies_refused += r < 0;
	if (r != 0)
		refuse(sealed, datagram, error.text);
}

static void take_datagram(struct sealed_udp *sealed, const struct udp_datagram *datagram)
{
	struct sealed_peer *peer;
	struct seal_opened opened;
	int r =
	    seal_open(sealed->seal, datagram->bytes, datagram->size, datagram->arrived, &opened);

	send_datagram(sealed, find(sealed, opened.reply_to), &opened.reply);
	if (r == SEAL_REFUSED)
		refuse(sealed, datagram, seal_refusal_name(opened.refusal));
	if (r == SEAL_OK)
		take_payload(sealed, datagram, &opened);
	peer = opened.ready ? find(sealed, opened.peer) : NULL;
	if (peer && peer->put_off)
		seal_and_send(sealed, peer, peer->payload, peer->size);
}

void sealed_udp_drain(struct sealed_udp *sealed)
{
	struct udp_datagram datagram;

	for (int i = 0; i < DATAGRAMS_A_WAKE; i++) {
		int r = udp_receive(&sealed->udp, &datagram);

		if (r == -EAGAIN)
			return;
		if (r == 0)
			take_datagram(sealed, &datagram);
		/* else: an ICMP error of an earlier datagram; it is used up by reading it */
	}
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct sealed_udp *sealed = userdata;

	(void)source;
	(void)fd;
	(void)events;
	sealed->options.wake(sealed->options.userdata);
	return 0;
}

/* --- making and unmaking --- */

void sealed_udp_stats(
    const struct sealed_udp *sealed, const char *refused_body, struct daemon_stat *stats)
{
	const struct seal_counters *seal = seal_counters(sealed->seal);
	const struct daemon_stat all[] = {
	    {"sends_failed", &sealed->sends_failed, "the kernel refused to send"},
	    {"control_sent", &seal->control_sent, "hellos and answers to hellos"},
	    {"control_received", &seal->control_received, "the same, from peers"},
	    {"refused_body", &sealed->bodies_refused, refused_body},
#define X(name, label, text) {"refused_" label, &seal->refused[SEAL_##name], text},
	    SEAL_REFUSALS(X)
#undef X
	};

	_Static_assert(sizeof(all) == SEALED_UDP_STATS * sizeof(all[0]), "SEALED_UDP_STATS is off");
	memcpy(stats, all, sizeof(all));
}

static struct sealed_peer *free_entry(struct sealed_udp *sealed)
{
	for (size_t i = 0; i < sealed->count; i++)
		if (!sealed->peers[i].peer)
			return &sealed->peers[i];
	return &sealed->peers
		    [sealed->count++]; /* there is one for each place of the table of peers */
}

static int add_peer(struct sealed_udp *sealed, const struct peer *peer)
{
	struct udp_address address;
	struct sealed_peer *to;
	uint16_t port = (uint16_t)(peer->port + sealed->options.port);
	int r = udp_address(&address, peer->address, port);

	if (r == 0)
		r = seal_add_peer(sealed->seal, peer->public_key);
	if (r < 0) {
		log_error("[peer %s]: address or key of no use", peer->name);
		return r;
	}
	to = free_entry(sealed);
	*to = (struct sealed_peer){.peer = peer, .address = address};
	return 0;
}

static void remove_peer(struct sealed_udp *sealed, const struct peer *peer)
{
	struct sealed_peer *entry = find(sealed, peer->id);

	if (!entry)
		return;
	(void)seal_remove_peer(sealed->seal, peer->id);
	sodium_memzero(entry, sizeof(*entry));
}

static void on_peer(void *userdata, const struct peer *peer)
{
	if (peer->gone)
		remove_peer(userdata, peer);
	else if (!find(userdata, peer->id))
		(void)add_peer(userdata, peer); /* says what failed */
}

static int make_seal(struct sealed_udp *sealed, const struct daemon *daemon)
{
	const struct peers *peers = &daemon->node.peers;
	struct seal_config config = {.context = daemon->spec->name, .peers_max = PEERS_MAX};
	int r;

	memcpy(config.public_key, daemon->keys.public_key, KEY_SIZE);
	memcpy(config.secret_key, daemon->keys.secret_key, KEY_SIZE);
	randombytes_buf(config.random, sizeof(config.random));
	r = seal_new(&sealed->seal, &config);
	sodium_memzero(&config, sizeof(config));
	for (size_t i = 0; r == 0 && i < peers->count; i++)
		if (&peers->peer[i] != daemon->node.self && !peers->peer[i].gone)
			r = add_peer(sealed, &peers->peer[i]);
	return r;
}

int sealed_udp_new(struct sealed_udp **out, struct daemon *daemon, struct udp *udp,
    const struct sealed_udp_options *options)
{
	struct sealed_udp *sealed = calloc(1, sizeof(*sealed));
	int r;

	if (!sealed) {
		udp_close(udp);
		return -ENOMEM;
	}
	sealed->options = *options;
	sealed->daemon = daemon;
	sealed->listener = (struct peers_listener){.changed = on_peer, .userdata = sealed};
	daemon_listen_peers(daemon, &sealed->listener);
	sealed->udp = *udp;
	udp->fd = -1;
	r = make_seal(sealed, daemon);
	if (r == 0)
		r = sd_event_add_io(
		    daemon->loop, &sealed->readable, sealed->udp.fd, EPOLLIN, on_readable, sealed);
	if (r < 0) {
		sealed_udp_free(sealed);
		return r;
	}
	*out = sealed;
	return 0;
}

struct sealed_udp *sealed_udp_free(struct sealed_udp *sealed)
{
	if (!sealed)
		return NULL;
	daemon_unlisten_peers(sealed->daemon, &sealed->listener);
	sd_event_source_disable_unref(sealed->readable);
	seal_free(sealed->seal);
	udp_close(&sealed->udp);
	free(sealed);
	return NULL;
}
