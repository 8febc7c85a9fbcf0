/*
 * Every option of a ZeroMQ socket is set here, because libzmq's defaults trust whoever connects.
 *
 *	MAXMSGSIZE              none by default: a stranger takes 200 MiB with one frame.  libzmq cuts the connection
 *	                        and tells nobody, so it gets four times our limit, and what lies between is
 *	                        refused by zsock_recv(), where it can be counted and told.
 *	SNDHWM, RCVHWM          queues are bounded; a SUB sends its subscriptions through the queue and silently
 *	                        loses those beyond SNDHWM, so there it is 0 (they are few and our own)
 *	LINGER                  infinite by default: a process with a dead peer does not end
 *	HANDSHAKE_IVL           who connects and says nothing is cut
 *	HEARTBEAT_*             a peer that vanished without a FIN is noticed (tcp)
 *	ROUTER_MANDATORY        a message to an unknown peer is an error, not dropped
 *	XPUB_VERBOSE            each new subscriber is seen, also one with a known topic
 *	ZAP_DOMAIN, 93          without a running ZAP handler libzmq lets every key in; option 93
 *	                        (ZMQ_ZAP_ENFORCE_DOMAIN) turns that into a refusal.  It is in Debian 12's libzmq
 *	                        4.3.4, but zmq.h shows it with draft functions only.
 *	RECONNECT_IVL*          how soon a restarted daemon is found again.  Without a MAX one that is not there is asked for
 *	                        33 times a second by each of its callers, which cost more than all else that an idle
 *	                        node does; with it the pause doubles up to that.
 *
 * libzmq's own ipc bind unlinks the path whoever listens there, and creates it with the umask's mode.  So we
 * bind ourselves, under a lock file, and hand over the descriptor (ZMQ_USE_FD): nobody can connect before
 * mode and group are right, because listen() comes after them.
 */
#include "common/zsock.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/log.h"
#include "common/zcontext.h"
#include "common/zmonitor.h"

#define ZAP_ENFORCE_DOMAIN 93 /* ZMQ_ZAP_ENFORCE_DOMAIN */
#define ZAP_DOMAIN "depsys"

#define HIGH_WATER 1000
#define MAX_MESSAGE ((size_t)1 << 20)
#define SMALL ((size_t)4096) /* no limit is below */
#define CUT_FACTOR 4
#define LISTEN_BACKLOG 128
#define LINGER_MS 200 /* last answers and events; only where a peer is connected */
#define HANDSHAKE_MS 2000
#define IPC_RECONNECT_MS 20
#define IPC_RECONNECT_MAX_MS 250
#define TCP_RECONNECT_MS 100
#define TCP_RECONNECT_MAX_MS 1000
#define TCP_CONNECT_MS 1000
#define TCP_LOST_MS 3000

/* What we must know of a socket beyond libzmq: how to undo its bind. */
struct entry {
	struct entry *next;
	struct zcontext *context;
	struct zmonitor *monitor; /* of a bound one */
	void *socket;
	size_t max_message;
	int lock;             /* of the ipc path, or -1 */
	char *ipc_path;       /* bound by us, or NULL */
	char *curve_endpoint; /* bound as CURVE server, or NULL */
};

/* All sockets of this process: zsock_free gets no more than the socket, and the guard counts them. */
static struct entry *entries;

static void refuse_fork(void)
{
	if (!entries)
		return;
	log_bug("fork after a ZeroMQ socket was created");
	abort();
}

static int guard_fork(void)
{
	static bool done;

	if (done)
		return 0;
	done = true;
	return -pthread_atfork(refuse_fork, NULL, NULL);
}

static int set_int(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) < 0 ? -zmq_errno() : 0;
}

static int set_bytes(void *socket, int option, const void *value, size_t size)
{
	return zmq_setsockopt(socket, option, value, size) < 0 ? -zmq_errno() : 0;
}

struct int_option {
	int option, value;
};

static int set_all(void *socket, const struct int_option *options, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r = set_int(socket, options[i].option, options[i].value);

		if (r < 0)
			return r;
	}
	return 0;
}

#define SET_ALL(socket, ...)                                                                       \
	set_all((socket), (struct int_option[]){__VA_ARGS__},                                      \
	    sizeof((struct int_option[]){__VA_ARGS__}) / sizeof(struct int_option))

static bool is_tcp(const char *endpoint)
{
	return strncmp(endpoint, "tcp://", 6) == 0;
}

static size_t max_message(const struct zsock_options *options)
{
	return options->max_message ? options->max_message : MAX_MESSAGE;
}

/* The limits that every socket has. */
static int set_limits(void *socket, const struct zsock_options *options)
{
	bool lingers =
	    options->type == ZMQ_ROUTER || options->type == ZMQ_XPUB || options->announce;
	int water = options->high_water ? options->high_water : HIGH_WATER;
	int64_t max = CUT_FACTOR * (int64_t)max_message(options);
	int r;

	r = set_bytes(socket, ZMQ_MAXMSGSIZE, &max, sizeof(max));
	if (r < 0)
		return r;
	r = SET_ALL(socket, {ZMQ_RCVHWM, water}, {ZMQ_SNDHWM, options->type == ZMQ_SUB ? 0 : water},
	    {ZMQ_LINGER, lingers ? LINGER_MS : 0}, {ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS},
	    {ZMQ_BACKLOG, LISTEN_BACKLOG});
	if (r < 0)
		return r;
	if (options->type == ZMQ_ROUTER)
		return set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
	if (options->type == ZMQ_XPUB)
		return set_int(socket, ZMQ_XPUB_VERBOSE, 1);
	if (options->announce)
		return SET_ALL(socket, {ZMQ_IMMEDIATE, 1}, {ZMQ_PROBE_ROUTER, 1});
	return options->immediate ? set_int(socket, ZMQ_IMMEDIATE, 1) : 0;
}

static int set_tcp(void *socket, const char *endpoint)
{
	return SET_ALL(socket, {ZMQ_IPV6, strchr(endpoint, '[') != NULL},
	    {ZMQ_HEARTBEAT_IVL, TCP_LOST_MS / 3}, {ZMQ_HEARTBEAT_TIMEOUT, TCP_LOST_MS},
	    {ZMQ_HEARTBEAT_TTL, TCP_LOST_MS}, {ZMQ_TCP_MAXRT, TCP_LOST_MS},
	    {ZMQ_CONNECT_TIMEOUT, TCP_CONNECT_MS}, {ZMQ_RECONNECT_IVL, TCP_RECONNECT_MS},
	    {ZMQ_RECONNECT_IVL_MAX, TCP_RECONNECT_MAX_MS});
}

static int set_curve_server(void *socket, const struct node_keys *keys)
{
	int r = SET_ALL(socket, {ZMQ_CURVE_SERVER, 1}, {ZAP_ENFORCE_DOMAIN, 1});

	if (r == 0)
		r = set_bytes(socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN, strlen(ZAP_DOMAIN));
	if (r == 0)
		r = set_bytes(socket, ZMQ_CURVE_SECRETKEY, keys->secret_key, KEY_SIZE);
	return r;
}

static int set_curve_client(void *socket, const struct node_keys *keys, const uint8_t *server_key)
{
	int r = set_bytes(socket, ZMQ_CURVE_SERVERKEY, server_key, KEY_SIZE);

	if (r == 0)
		r = set_bytes(socket, ZMQ_CURVE_PUBLICKEY, keys->public_key, KEY_SIZE);
	if (r == 0)
		r = set_bytes(socket, ZMQ_CURVE_SECRETKEY, keys->secret_key, KEY_SIZE);
	return r;
}

static int set_group(const char *path, const char *name)
{
	const struct group *group;

	if (!name)
		return 0;
	group = getgrnam(name);
	if (!group) {
		log_error("%s: no group %s", path, name);
		return -ENOENT;
	}
	return chown(path, (uid_t)-1, group->gr_gid) < 0 ? -errno : 0;
}

/* Holds PATH.lock for the life of the socket.  The file stays: to unlink it would be a race. */
static int lock_path(const char *path)
{
	char name[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
	int fd;

	snprintf(name, sizeof(name), "%s.lock", path);
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int r = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;

		close(fd);
		return r;
	}
	return fd;
}

/*
 * Does nobody listen there, with our lock or without?  0 when the path is free to be taken; whoever does not let
 * us ask may be alive.
 */
static int check_path(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r = -EADDRINUSE;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		r = errno == ENOENT || errno == ECONNREFUSED ? 0 : -errno;
	close(fd);
	return r;
}

/* A listening descriptor whose path has its mode and group before anyone can connect. */
static int listen_at(const struct sockaddr_un *address, const struct zsock_options *options)
{
	unsigned mode = options->mode ? options->mode : 0660;
	const char *path = address->sun_path;
	int fd, r = check_path(address);

	if (r < 0)
		return r;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
	if (r == 0)
		r = set_group(path, options->group);
	if (r == 0 && (chmod(path, mode) < 0 || listen(fd, LISTEN_BACKLOG) < 0))
		r = -errno;
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

static int bind_ipc(struct entry *entry, const struct zsock_options *options)
{
	const char *path = options->bind + strlen("ipc://");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path) + 1);
	entry->lock = lock_path(path);
	if (entry->lock < 0)
		return entry->lock;
	fd = listen_at(&address, options);
	if (fd < 0)
		return fd;
	r = set_int(entry->socket, ZMQ_USE_FD, fd);
	if (r == 0 && zmq_bind(entry->socket, options->bind) < 0)
		r = -zmq_errno();
	if (r < 0) {
		close(fd);
		return r;
	}
	entry->ipc_path = strdup(path);
	return entry->ipc_path ? 0 : -ENOMEM;
}

static int bind_curve(struct entry *entry, const char *endpoint)
{
	const struct node_keys *keys = zcontext_keys(entry->context);
	char bound[128];
	size_t size = sizeof(bound);
	int r;

	if (!keys)
		return -ENOKEY;
	r = set_curve_server(entry->socket, keys);
	if (r < 0)
		return r;
	if (zmq_bind(entry->socket, endpoint) < 0 ||
	    zmq_getsockopt(entry->socket, ZMQ_LAST_ENDPOINT, bound, &size) < 0)
		return -zmq_errno();
	entry->curve_endpoint = strdup(bound);
	return entry->curve_endpoint ? 0 : -ENOMEM;
}

static void on_connection(void *userdata, int event)
{
	const struct entry *entry = userdata;

	zcontext_note_connection(entry->context, event);
}

/* Who comes to a bound socket and speaks no ZMTP is seen by the monitor alone. */
static int watch_connections(struct entry *entry)
{
	sd_event *loop = zcontext_loop(entry->context);

	if (!loop)
		return 0;
	return zmonitor_new(&entry->monitor, entry->context, loop, entry->socket,
	    ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | HANDSHAKE_FAILED, on_connection,
	    entry);
}

static int bind_socket(struct entry *entry, const struct zsock_options *options)
{
	int r = watch_connections(entry);

	if (r < 0)
		return r;
	if (is_tcp(options->bind))
		return bind_curve(entry, options->bind);
	if (strncmp(options->bind, "ipc://", 6) == 0)
		return bind_ipc(entry, options);
	return -EPROTONOSUPPORT;
}

static int connect_socket(struct entry *entry, const struct zsock_options *options)
{
	const struct node_keys *keys = zcontext_keys(entry->context);
	int r;

	if (is_tcp(options->connect)) {
		if (!keys || !options->server_key)
			return -ENOKEY;
		r = set_curve_client(entry->socket, keys, options->server_key);
	} else if (strncmp(options->connect, "ipc://", 6) == 0) {
		r = SET_ALL(entry->socket, {ZMQ_RECONNECT_IVL, IPC_RECONNECT_MS},
		    {ZMQ_RECONNECT_IVL_MAX, IPC_RECONNECT_MAX_MS});
	} else {
		return -EPROTONOSUPPORT;
	}
	if (r == 0 && zmq_connect(entry->socket, options->connect) < 0)
		r = -zmq_errno();
	return r;
}

void zsock_tcp_endpoint(char *text, size_t size, const char *address, unsigned port)
{
	bool ipv6 = strchr(address, ':') != NULL;

	snprintf(text, size, "tcp://%s%s%s:%u", ipv6 ? "[" : "", address, ipv6 ? "]" : "", port);
}

int zsock_new(void **out, struct zcontext *context, const struct zsock_options *options)
{
	const char *endpoint = options->bind ? options->bind : options->connect;
	struct entry *entry;
	int r = guard_fork();

	if (r < 0)
		return r;
	if (!endpoint || (options->bind && options->connect))
		return -EINVAL;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	entry->context = context;
	entry->lock = -1;
	entry->max_message = max_message(options);
	entry->socket = zmq_socket(zcontext_native(context), options->type);
	if (!entry->socket) {
		r = -zmq_errno();
		free(entry);
		return r;
	}
	entry->next = entries;
	entries = entry;
	r = set_limits(entry->socket, options);
	if (r == 0 && is_tcp(endpoint))
		r = set_tcp(entry->socket, endpoint);
	if (r == 0 && options->created) {
		*out = entry->socket;
		r = options->created(options->userdata, entry->socket);
	}
	if (r == 0)
		r = options->bind ? bind_socket(entry, options) : connect_socket(entry, options);
	if (r < 0) {
		if (!options->created)
			zsock_free(entry->socket);
		return r;
	}
	*out = entry->socket;
	return 0;
}

static struct entry *take_entry(void *socket)
{
	for (struct entry **at = &entries; *at; at = &(*at)->next) {
		struct entry *entry = *at;

		if (entry->socket == socket) {
			*at = entry->next;
			return entry;
		}
	}
	return NULL;
}

void *zsock_free(void *socket)
{
	struct entry *entry;

	if (!socket)
		return NULL;
	entry = take_entry(socket);
	if (entry)
		zmonitor_free(entry->monitor);
	zmq_close(socket);
	if (!entry)
		return NULL;
	if (entry->ipc_path)
		unlink(entry->ipc_path);
	if (entry->lock >= 0)
		close(entry->lock);
	free(entry->ipc_path);
	free(entry->curve_endpoint);
	free(entry);
	return NULL;
}

int zsock_subscribe(void *socket, const char *prefix)
{
	return set_bytes(socket, ZMQ_SUBSCRIBE, prefix, strlen(prefix));
}

/*
 * Connections belong to their listener: to unbind ends them.  The listener goes away in ZeroMQ's own
 * thread, so the port can be taken for a moment still.
 */
static int bind_again(struct entry *entry)
{
	static const struct timespec pause = {.tv_nsec = 1000000};

	zwatch_note(entry->socket, true);
	if (zmq_unbind(entry->socket, entry->curve_endpoint) < 0)
		return -zmq_errno();
	for (int tries = 0; zmq_bind(entry->socket, entry->curve_endpoint) < 0; tries++) {
		if (zmq_errno() != EADDRINUSE || tries == 1000)
			return -zmq_errno();
		nanosleep(&pause, NULL);
	}
	return 0;
}

int zsock_cut_connections(struct zcontext *context)
{
	int result = 0;

	for (struct entry *entry = entries; entry; entry = entry->next) {
		int r = 0;

		if (entry->context == context && entry->curve_endpoint)
			r = bind_again(entry);
		if (r < 0) {
			log_error("bind %s again: %s", entry->curve_endpoint, strerror(-r));
			result = r;
		}
	}
	return result;
}

static bool too_long(void *socket, size_t size)
{
	if (size > SMALL)
		for (const struct entry *entry = entries; entry; entry = entry->next)
			if (entry->socket == socket)
				return size > entry->max_message;
	return false;
}

int zsock_recv(void *socket, struct zframes *frames)
{
	bool long_one = false;
	size_t count = 0;
	bool more = true;

	frames->count = 0;
	for (; more; count++) {
		zmq_msg_t spare, *frame = count < ZFRAMES_MAX ? &frames->frame[count] : &spare;

		zmq_msg_init(frame);
		while (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) < 0) {
			int r = -zmq_errno();

			if (r == -EINTR)
				continue;
			zmq_msg_close(frame);
			zframes_fini(frames);
			zwatch_note(socket, r != -EAGAIN);
			return r;
		}
		more = zmq_msg_more(frame);
		long_one = long_one || too_long(socket, zmq_msg_size(frame));
		if (frame == &spare)
			zmq_msg_close(&spare);
		else
			frames->count++;
	}
	zwatch_note(socket, true);
	if (count > ZFRAMES_MAX || long_one) {
		zframes_fini(frames);
		return long_one ? -EMSGSIZE : -EBADMSG;
	}
	return 0;
}

void zframes_fini(struct zframes *frames)
{
	for (size_t i = 0; i < frames->count; i++)
		zmq_msg_close(&frames->frame[i]);
	frames->count = 0;
}

/* Asking for ZMQ_EVENTS makes the socket look at what its connections told it; a send by itself may put that off. */
static bool can_send(void *socket)
{
	int events = 0;
	size_t size = sizeof(events);

	return zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLOUT);
}

static int send_part(void *socket, const struct zpart *part, int flags)
{
	while (zmq_send(socket, part->data, part->size, flags) < 0)
		if (zmq_errno() != EINTR)
			return -zmq_errno();
	return 0;
}

int zsock_send(void *socket, const struct zpart *parts, size_t count)
{
	zwatch_note(socket, true);
	for (size_t i = 0; i < count; i++) {
		int flags = ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0);
		int r = send_part(socket, &parts[i], flags);

		if (r == -EAGAIN && i == 0 && can_send(socket))
			r = send_part(socket, &parts[i], flags);
		if (r < 0)
			return r;
	}
	return 0;
}

const char *zframe_peer(const struct zframes *frames, size_t i)
{
	return zmq_msg_gets((zmq_msg_t *)&frames->frame[i], "User-Id");
}
