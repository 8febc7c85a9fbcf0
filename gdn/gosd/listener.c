/*
 * The bulk port.  Only addresses of the list of peers are let in, and of these only who says a
 * ticket within two seconds; how many may stand at the door is bounded.
 */
#include "gdn/gosd/gosd.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define AT_ONCE_MAX 16

struct visit {
	struct job job;
	struct gosd *gosd;
	int fd;
	const char *refused; /* why, or NULL */
	struct fault failed; /* why a transfer that was let in broke off, or empty */
	char address[NODE_ADDRESS_MAX + 1];
};

static int serve_send(
    struct gosd *gosd, struct bulk *bulk, const struct session *session, struct fault *fault)
{
	struct object *object = NULL;
	int r = object_open(&object, gosd->store, &session->oid, fault);

	if (r < 0)
		return r;
	r = transfer_send(bulk, object, NULL, fault);
	if (r == -EBADMSG)
		gosd_tell_damaged(gosd, &session->oid, fault->text);
	object_close(object);
	return r;
}

/* Sessions are short-lived things of a thread: this one becomes known again when all is there. */
static int serve_receive(
    struct gosd *gosd, struct bulk *bulk, struct session *session, struct fault *fault)
{
	int r = upload_new(&session->upload, gosd->store);

	if (r < 0)
		return r;
	return transfer_receive(
	    bulk, &session->oid, session->upload, &session->received, NULL, fault);
}

static void serve(
    struct gosd *gosd, struct bulk *bulk, struct session *session, struct fault *failed)
{
	struct fault fault = {0};
	char hex[ID_HEX];
	int r;

	if (session->kind == SESSION_SEND)
		r = serve_send(gosd, bulk, session, &fault);
	else
		r = serve_receive(gosd, bulk, session, &fault);
	if (r < 0)
		fault_set(failed, r, "%s peer=%s oid=%s", fault.text, session->peer,
		    id_hex(&session->oid, hex));
	if (r < 0 || session->kind == SESSION_SEND) {
		session_free(session);
		return;
	}
	sessions_keep(gosd->sessions, session, mono_now());
	transfer_done(bulk);
}

static void run_visit(struct job *job)
{
	struct visit *visit = (struct visit *)job;
	struct gosd *gosd = visit->gosd;
	uint8_t ticket[TICKET_SIZE];
	struct session *session;
	struct bulk bulk;
	int r = bulk_accept(&bulk, &gosd->channels, visit->fd, ticket);

	visit->fd = -1;
	if (r < 0) {
		visit->refused = "no ticket";
		return;
	}
	session = sessions_take(gosd->sessions, ticket, false);
	if (session)
		serve(gosd, &bulk, session, &visit->failed);
	else
		visit->refused = "unknown ticket";
	bulk_close(&bulk);
}

static void tell_refused(const struct visit *visit)
{
	unsigned int missed;

	visit->gosd->strangers++;
	if (log_limit(&visit->gosd->strangers_limit, mono_now(), &missed))
		log_warning("bulk port: refused: %s from=%s missed=%u", visit->refused,
		    visit->address, missed);
}

static void tell_failed(const struct visit *visit)
{
	unsigned int missed;

	visit->gosd->broken++;
	if (log_limit(&visit->gosd->broken_limit, mono_now(), &missed))
		log_notice("transfer failed: %s missed=%u", visit->failed.text, missed);
}

/* On the loop's thread. */
static void end_visit(struct job *job)
{
	struct visit *visit = (struct visit *)job;

	visit->gosd->bulk_jobs--;
	if (visit->refused)
		tell_refused(visit);
	if (visit->failed.text[0])
		tell_failed(visit);
	if (visit->fd >= 0)
		close(visit->fd);
	free(visit);
}

static bool is_peer_address(const struct gosd *gosd, const char *address)
{
	const struct peer *peer = NULL;

	while ((peer = peers_next(&gosd->daemon->node.peers, peer)))
		if (strcmp(peer->address, address) == 0)
			return true;
	return false;
}

static struct visit *visit_new(
    struct gosd *gosd, int fd, const struct sockaddr_storage *from, socklen_t size)
{
	struct visit *visit = calloc(1, sizeof(*visit));

	if (!visit)
		return NULL;
	*visit =
	    (struct visit){.job = {.run = run_visit, .done = end_visit}, .gosd = gosd, .fd = fd};
	if (getnameinfo((const struct sockaddr *)from, size, visit->address, sizeof(visit->address),
		NULL, 0, NI_NUMERICHOST) != 0)
		visit->address[0] = '\0';
	return visit;
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata)
{
	struct gosd *gosd = userdata;
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	struct visit *visit;
	int fd = accept4(listen_fd, (struct sockaddr *)&from, &size, SOCK_CLOEXEC);

	(void)source;
	(void)revents;
	if (fd < 0)
		return 0;
	visit = visit_new(gosd, fd, &from, size);
	if (!visit) {
		close(fd);
		return 0;
	}
	gosd->bulk_jobs++;
	if (!is_peer_address(gosd, visit->address))
		visit->refused = "not a node's address";
	else if (gosd->bulk_jobs > AT_ONCE_MAX ||
		 work_start(gosd->work, LANE_BULK, &visit->job) < 0)
		visit->refused = "too many at once";
	else
		return 0;
	end_visit(&visit->job);
	return 0;
}

static int bind_to(const struct node_config *node)
{
	struct addrinfo hints = {
	    .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
	struct addrinfo *at;
	char port[16];
	int fd, on = 1, r = 0;

	snprintf(port, sizeof(port), "%d", (int)node->port + PORT_GOSD_BULK);
	if (getaddrinfo(node->address, port, &hints, &at) != 0)
		return -EINVAL;
	fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, AT_ONCE_MAX) < 0)
		r = -errno;
	freeaddrinfo(at);
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

int gosd_listen(struct gosd *gosd)
{
	const struct node_config *node = &gosd->daemon->node;

	gosd->listen_fd = bind_to(node);
	if (gosd->listen_fd < 0) {
		log_error("bind %s port %d: %s", node->address, (int)node->port + PORT_GOSD_BULK,
		    strerror(-gosd->listen_fd));
		return gosd->listen_fd;
	}
	return sd_event_add_io(gosd->daemon->loop, &gosd->listen_source, gosd->listen_fd, EPOLLIN,
	    on_connection, gosd);
}
