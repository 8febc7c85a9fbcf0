#include "metad/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"

/* TLS 1.3 only, a pre-shared key with an ephemeral exchange only, one group. */
static const char priorities[] = "NONE:+VERS-TLS1.3:+CHACHA20-POLY1305:+AES-256-GCM:+AEAD:"
				 "+SHA256:+SHA384:+ECDHE-PSK:+GROUP-X25519:+SIGN-ALL";

#define LOST_MS 3000 /* data not acknowledged for this long: the other node is gone */

/* Bytes on their way in one direction. */
struct flow {
	uint8_t data[16384];
	size_t size, done;
};

struct stream {
	struct tunnel *tunnel;
	struct stream *next, **link;
	gnutls_session_t tls;
	gnutls_psk_client_credentials_t credentials; /* of our own dialling */
	int tcp, plain;                              /* plain: -1 until it is known who asks */
	sd_event_source *tcp_source, *plain_source, *deadline;
	bool ours; /* we dialled */
	bool handshaking;
	bool full; /* TCP took no more; GnuTLS's own word for it is lost at the next read */
	bool plain_ended, tls_ended; /* nothing more comes from there */
	const struct peer *peer;     /* of our own dialling, or once authenticated */
	tunnel_established *established;
	void *arg;
	struct flow in, out; /* in: from the network to plain */
};

struct tunnel {
	struct tunnel_config config;
	int listener;
	sd_event_source *source;
	gnutls_psk_server_credentials_t server;
	gnutls_priority_t priority;
	struct stream *streams;
	size_t strangers;
	struct tunnel_counts counts;
	struct log_limit limit;
};

/* --- the life of a stream --- */

static void stream_free(struct stream *stream)
{
	struct tunnel *tunnel = stream->tunnel;

	*stream->link = stream->next;
	if (stream->next)
		stream->next->link = stream->link;
	tunnel->counts.open--;
	if (!stream->ours && stream->handshaking)
		tunnel->strangers--;
	sd_event_source_disable_unref(stream->tcp_source);
	sd_event_source_disable_unref(stream->plain_source);
	sd_event_source_disable_unref(stream->deadline);
	if (stream->tls)
		gnutls_deinit(stream->tls);
	if (stream->credentials)
		gnutls_psk_free_client_credentials(stream->credentials);
	if (stream->tcp >= 0)
		close(stream->tcp);
	if (stream->plain >= 0)
		close(stream->plain);
	free(stream);
}

static void tell_established(struct stream *stream, int result)
{
	tunnel_established *established = stream->established;

	stream->established = NULL;
	if (established)
		established(stream->arg, result);
}

/* The handshake came to nothing. */
static void refuse(struct stream *stream, int error, const char *why)
{
	struct tunnel *tunnel = stream->tunnel;
	unsigned missed;

	if (stream->ours) {
		tunnel->counts.failed++;
		log_debug("tunnel to peer=%s failed: %s", stream->peer->name, why);
		tell_established(stream, error);
	} else {
		tunnel->counts.refused++;
		if (log_limit(&tunnel->limit, mono_now(), &missed))
			log_warning("tunnel refused: %s missed=%u", why, missed);
	}
	stream_free(stream);
}

static int timed_out(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	refuse(userdata, -ETIMEDOUT, "no handshake in time");
	return 0;
}

static int stream_new(struct stream **out, struct tunnel *tunnel, int tcp, bool ours)
{
	struct stream *stream;

	if (tunnel->counts.open >= TUNNEL_STREAMS_MAX)
		return -EMFILE;
	stream = calloc(1, sizeof(*stream));
	if (!stream)
		return -ENOMEM;
	stream->tunnel = tunnel;
	stream->tcp = tcp;
	stream->plain = -1;
	stream->ours = ours;
	stream->handshaking = true;
	stream->next = tunnel->streams;
	stream->link = &tunnel->streams;
	if (stream->next)
		stream->next->link = &stream->next;
	tunnel->streams = stream;
	tunnel->counts.open++;
	if (!ours)
		tunnel->strangers++;
	*out = stream;
	return 0;
}

static int set_options(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
	    {IPPROTO_TCP, TCP_NODELAY, 1},
	    {IPPROTO_TCP, TCP_USER_TIMEOUT, LOST_MS},
	    {IPPROTO_TCP, TCP_KEEPIDLE, 1},
	    {IPPROTO_TCP, TCP_KEEPINTVL, 1},
	    {IPPROTO_TCP, TCP_KEEPCNT, 3},
	    {SOL_SOCKET, SO_KEEPALIVE, 1},
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (setsockopt(fd, options[i].level, options[i].name, &options[i].value,
			sizeof(options[i].value)) < 0)
			return -errno;
	}
	return 0;
}

/* --- moving bytes --- */

/* Each returns 1 when it moved something, 0 when it must wait, -1 when its side has ended. */
static int read_plain(struct stream *stream)
{
	struct flow *out = &stream->out;
	ssize_t n;

	if (out->size || stream->plain_ended)
		return 0;
	n = recv(stream->plain, out->data, sizeof(out->data), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	if (n == 0)
		return -1;
	out->size = (size_t)n;
	out->done = 0;
	return 1;
}

static int write_tls(struct stream *stream)
{
	struct flow *out = &stream->out;
	ssize_t n;

	if (!out->size)
		return 0;
	n = gnutls_record_send(stream->tls, out->data + out->done, out->size - out->done);
	stream->full = n == GNUTLS_E_AGAIN;
	if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
		return 0;
	if (n < 0)
		return -1;
	out->done += (size_t)n;
	if (out->done == out->size)
		out->size = 0;
	return 1;
}

static int read_tls(struct stream *stream)
{
	struct flow *in = &stream->in;
	ssize_t n;

	if (in->size || stream->tls_ended)
		return 0;
	n = gnutls_record_recv(stream->tls, in->data, sizeof(in->data));
	if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
		return 0;
	if (n <= 0)
		return -1;
	in->size = (size_t)n;
	in->done = 0;
	return 1;
}

static int write_plain(struct stream *stream)
{
	struct flow *in = &stream->in;
	ssize_t n;

	if (!in->size)
		return 0;
	n = send(
	    stream->plain, in->data + in->done, in->size - in->done, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN ? 0 : -1;
	in->done += (size_t)n;
	if (in->done == in->size)
		in->size = 0;
	return 1;
}

/* A descriptor that has ended would wake the loop for ever. */
static void set_source(sd_event_source *source, uint32_t events, bool ended)
{
	sd_event_source_set_io_events(source, events);
	sd_event_source_set_enabled(source, ended ? SD_EVENT_OFF : SD_EVENT_ON);
}

/* What the loop shall wait for. */
static void set_interest(struct stream *stream)
{
	uint32_t tcp = EPOLLIN, plain = 0;

	if (stream->handshaking ? gnutls_record_get_direction(stream->tls) : stream->full)
		tcp |= EPOLLOUT;
	if (!stream->handshaking && stream->in.size)
		tcp &= ~(uint32_t)EPOLLIN;
	set_source(stream->tcp_source, tcp, stream->tls_ended);
	if (!stream->plain_source)
		return;
	if (!stream->handshaking && !stream->out.size)
		plain |= EPOLLIN;
	if (stream->in.size)
		plain |= EPOLLOUT;
	set_source(stream->plain_source, plain, stream->plain_ended);
}

static bool is_over(const struct stream *stream)
{
	return (stream->plain_ended && !stream->out.size) ||
	       (stream->tls_ended && !stream->in.size);
}

/* Moves all there is.  What a side wrote before it ended is still passed on. */
static void move(struct stream *stream)
{
	int from_plain, to_tls, from_tls, to_plain;

	do {
		from_plain = read_plain(stream);
		to_tls = write_tls(stream);
		from_tls = read_tls(stream);
		to_plain = write_plain(stream);
		stream->plain_ended |= from_plain < 0;
		stream->tls_ended |= from_tls < 0;
		if (to_tls < 0 || to_plain < 0 || is_over(stream)) {
			gnutls_bye(stream->tls, GNUTLS_SHUT_WR);
			stream_free(stream);
			return;
		}
	} while (from_plain > 0 || to_tls > 0 || from_tls > 0 || to_plain > 0);
	set_interest(stream);
}

/* --- the handshake --- */

static int plain_ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct stream *stream = userdata;

	(void)source;
	(void)fd;
	if (!stream->handshaking)
		move(stream);
	else if (events & (EPOLLHUP | EPOLLERR))
		refuse(stream, -ECANCELED, "the caller has gone");
	return 0;
}

static int attach_plain(struct stream *stream, int fd)
{
	stream->plain = fd;
	return sd_event_add_io(
	    stream->tunnel->config.loop, &stream->plain_source, fd, 0, plain_ready, stream);
}

static const struct peer *stranger(const struct stream *stream)
{
	const struct tunnel_config *config = &stream->tunnel->config;
	const char *name = gnutls_psk_server_get_username(stream->tls);
	const struct peer *peer = name ? peers_by_name(config->peers, name) : NULL;

	return peer == config->self ? NULL : peer;
}

/* The other node has proved who it is. */
static void established(struct stream *stream)
{
	struct tunnel *tunnel = stream->tunnel;
	int fd, r;

	if (stream->ours) {
		tunnel->counts.dialled++;
		stream->handshaking = false;
		tell_established(stream, 0);
		move(stream);
		return;
	}
	stream->peer = stranger(stream);
	r = stream->peer ? tunnel->config.accept(tunnel->config.arg, stream->peer, &fd) : -EACCES;
	if (r == 0)
		r = attach_plain(stream, fd);
	if (r < 0) {
		refuse(stream, r, "this node takes no streams");
		return;
	}
	tunnel->counts.accepted++;
	tunnel->strangers--;
	stream->handshaking = false;
	move(stream);
}

static void handshake(struct stream *stream)
{
	int r = gnutls_handshake(stream->tls);

	if (r == GNUTLS_E_AGAIN || r == GNUTLS_E_INTERRUPTED) {
		set_interest(stream);
	} else if (r < 0) {
		refuse(stream, -EACCES, gnutls_strerror(r));
	} else {
		stream->deadline = sd_event_source_disable_unref(stream->deadline);
		established(stream);
	}
}

static int tcp_ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct stream *stream = userdata;

	(void)source;
	(void)fd;
	(void)events;
	if (stream->handshaking)
		handshake(stream);
	else
		move(stream);
	return 0;
}

/* GnuTLS asks for the key of the name that a client claims. */
static int find_key(gnutls_session_t tls, const char *name, gnutls_datum_t *key)
{
	const struct stream *stream = gnutls_session_get_ptr(tls);
	const struct tunnel_config *config = &stream->tunnel->config;
	const struct peer *peer = peers_by_name(config->peers, name);

	if (!peer || peer == config->self)
		return -1;
	key->data = gnutls_malloc(KEY_SIZE);
	if (!key->data)
		return -1;
	key->size = KEY_SIZE;
	if (tunnel_key(key->data, config->keys, peer->public_key) == 0)
		return 0;
	gnutls_free(key->data);
	key->data = NULL;
	return -1;
}

static int use_own_key(struct stream *stream, gnutls_psk_client_credentials_t *credentials)
{
	const struct tunnel_config *config = &stream->tunnel->config;
	uint8_t key[KEY_SIZE];
	gnutls_datum_t datum = {key, sizeof(key)};
	int r = tunnel_key(key, config->keys, stream->peer->public_key);

	if (r < 0)
		return r;
	if (gnutls_psk_allocate_client_credentials(credentials) < 0)
		return -ENOMEM;
	r = gnutls_psk_set_client_credentials(
	    *credentials, config->self->name, &datum, GNUTLS_PSK_KEY_RAW);
	sodium_memzero(key, sizeof(key));
	return r < 0 ? -ENOMEM : 0;
}

/* The session keeps a pointer to the credentials; they are freed with it. */
static int set_credentials(struct stream *stream)
{
	gnutls_psk_client_credentials_t own = NULL;
	int r;

	if (!stream->ours)
		return gnutls_credentials_set(stream->tls, GNUTLS_CRD_PSK, stream->tunnel->server) <
			       0
			   ? -ENOMEM
			   : 0;
	r = use_own_key(stream, &own);
	if (r == 0 && gnutls_credentials_set(stream->tls, GNUTLS_CRD_PSK, own) < 0)
		r = -ENOMEM;
	stream->credentials = own;
	return r;
}

static int begin(struct stream *stream)
{
	unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS |
			 (stream->ours ? GNUTLS_CLIENT : GNUTLS_SERVER);
	sd_event *loop = stream->tunnel->config.loop;
	int r;

	if (gnutls_init(&stream->tls, flags) < 0)
		return -ENOMEM;
	gnutls_session_set_ptr(stream->tls, stream);
	gnutls_transport_set_int(stream->tls, stream->tcp);
	gnutls_handshake_set_timeout(stream->tls, GNUTLS_INDEFINITE_TIMEOUT); /* we have our own */
	if (gnutls_priority_set(stream->tls, stream->tunnel->priority) < 0)
		return -EINVAL;
	r = set_credentials(stream);
	if (r == 0)
		r = sd_event_add_time_relative(loop, &stream->deadline, MONO_CLOCK,
		    TUNNEL_HANDSHAKE_MS * 1000, 1000, timed_out, stream);
	if (r >= 0)
		r = sd_event_add_io(
		    loop, &stream->tcp_source, stream->tcp, EPOLLIN | EPOLLOUT, tcp_ready, stream);
	return r < 0 ? r : 0;
}

/* --- dialling and listening --- */

static int peer_address(const struct peer *peer, struct sockaddr_storage *address, socklen_t *size)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	uint16_t port = htons((uint16_t)(peer->port + PORT_METAD_TUNNEL));

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, peer->address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = port;
		*size = sizeof(*v4);
		return 0;
	}
	if (inet_pton(AF_INET6, peer->address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = port;
		*size = sizeof(*v6);
		return 0;
	}
	return -EINVAL;
}

static int open_tcp(const struct peer *peer, struct sockaddr_storage *address, socklen_t *size)
{
	int r = peer_address(peer, address, size), fd;

	if (r < 0)
		return r;
	fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

static int connect_tcp(const struct peer *peer)
{
	struct sockaddr_storage address;
	socklen_t size;
	int fd = open_tcp(peer, &address, &size), r;

	if (fd < 0)
		return fd;
	r = set_options(fd);
	if (r == 0 && connect(fd, (struct sockaddr *)&address, size) < 0 && errno != EINPROGRESS)
		r = -errno;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

int tunnel_dial(struct tunnel *tunnel, const struct peer *peer, tunnel_established *established_cb,
    void *arg, int *fd)
{
	int pair[2], tcp = connect_tcp(peer), r;
	struct stream *stream;

	if (tcp < 0)
		return tcp;
	r = stream_new(&stream, tunnel, tcp, true);
	if (r < 0) {
		close(tcp);
		return r;
	}
	stream->peer = peer;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		r = -errno;
		stream_free(stream);
		return r;
	}
	r = attach_plain(stream, pair[0]);
	if (r >= 0)
		r = begin(stream);
	if (r < 0) {
		stream_free(stream);
		close(pair[1]);
		return r;
	}
	stream->established = established_cb;
	stream->arg = arg;
	*fd = pair[1];
	return 0;
}

void tunnel_drop(struct tunnel *tunnel, const struct peer *peer)
{
	for (struct stream *next, *stream = tunnel->streams; stream; stream = next) {
		next = stream->next;
		if (stream->peer != peer)
			continue;
		if (stream->handshaking)
			refuse(stream, -EKEYREVOKED, "it is no longer a peer");
		else
			stream_free(stream);
	}
}

static void take_stranger(struct tunnel *tunnel, int tcp)
{
	struct stream *stream;
	int r;

	if (tunnel->strangers >= TUNNEL_STRANGERS_MAX) {
		tunnel->counts.refused++;
		close(tcp);
		return;
	}
	r = stream_new(&stream, tunnel, tcp, false);
	if (r < 0) {
		tunnel->counts.refused++;
		close(tcp);
		return;
	}
	r = set_options(tcp);
	if (r == 0)
		r = begin(stream);
	if (r < 0)
		refuse(stream, r, strerror(-r));
}

static int listener_ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	int tcp;

	(void)source;
	(void)events;
	while ((tcp = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		take_stranger(userdata, tcp);
	return 0;
}

static int listen_tcp(struct tunnel *tunnel)
{
	struct sockaddr_storage address;
	const int on = 1;
	socklen_t size;
	int fd = open_tcp(tunnel->config.self, &address, &size);

	if (fd < 0)
		return fd;
	tunnel->listener = fd;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 64) < 0)
		return -errno;
	return sd_event_add_io(
	    tunnel->config.loop, &tunnel->source, fd, EPOLLIN, listener_ready, tunnel);
}

int tunnel_new(struct tunnel **out, const struct tunnel_config *config)
{
	struct tunnel *tunnel = calloc(1, sizeof(*tunnel));
	const char *position;
	int r;

	if (!tunnel)
		return -ENOMEM;
	tunnel->config = *config;
	tunnel->listener = -1;
	if (gnutls_psk_allocate_server_credentials(&tunnel->server) < 0 ||
	    gnutls_priority_init(&tunnel->priority, priorities, &position) < 0) {
		tunnel_free(tunnel);
		return -ENOMEM;
	}
	gnutls_psk_set_server_credentials_function(tunnel->server, find_key);
	r = listen_tcp(tunnel);
	if (r < 0) {
		tunnel_free(tunnel);
		return r;
	}
	*out = tunnel;
	return 0;
}

struct tunnel *tunnel_free(struct tunnel *tunnel)
{
	if (!tunnel)
		return NULL;
	while (tunnel->streams) {
		tell_established(tunnel->streams, -ECANCELED);
		stream_free(tunnel->streams);
	}
	sd_event_source_disable_unref(tunnel->source);
	if (tunnel->listener >= 0)
		close(tunnel->listener);
	if (tunnel->priority)
		gnutls_priority_deinit(tunnel->priority);
	if (tunnel->server)
		gnutls_psk_free_server_credentials(tunnel->server);
	free(tunnel);
	return NULL;
}

const struct tunnel_counts *tunnel_counts(const struct tunnel *tunnel)
{
	return &tunnel->counts;
}
