/*
 * The tunnel between two nodes of one process, through a relay that sees the wire.
 */
#include "metad/tunnel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mono.h"
#include "common/test.h"

struct node {
	struct node_keys keys;
	struct peers peers;
	struct tunnel *tunnel;
	int accepted; /* streams that were asked for here */
	int last;     /* this end of the last one */
	char from[NODE_NAME_MAX + 1];
};

static sd_event *loop;

/* A port whose neighbour at + PORT_METAD_TUNNEL is free. */
static uint16_t free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check_int(bind(fd, (void *)&address, sizeof(address)), 0);
	check_int(getsockname(fd, (void *)&address, &size), 0);
	close(fd);
	return (uint16_t)(ntohs(address.sin_port) - PORT_METAD_TUNNEL);
}

static struct peer *add_peer(
    struct node *node, const char *name, uint16_t port, const uint8_t key[KEY_SIZE])
{
	struct peer *peer = &node->peers.peer[node->peers.count++];

	snprintf(peer->name, sizeof(peer->name), "%s", name);
	snprintf(peer->address, sizeof(peer->address), "127.0.0.1");
	peer->port = port;
	memcpy(peer->public_key, key, KEY_SIZE);
	peer->id = node_id(key);
	return peer;
}

static int accept_stream(void *arg, const struct peer *from, int *fd)
{
	struct node *node = arg;
	int pair[2];

	node->accepted++;
	snprintf(node->from, sizeof(node->from), "%s", from->name);
	check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	node->last = pair[0];
	*fd = pair[1];
	return 0;
}

static void start(struct node *node, const char *name)
{
	struct tunnel_config config = {
	    .loop = loop,
	    .keys = &node->keys,
	    .peers = &node->peers,
	    .self = peers_by_name(&node->peers, name),
	    .accept = accept_stream,
	    .arg = node,
	};

	node->last = -1;
	check_int(tunnel_new(&node->tunnel, &config), 0);
}

static void stop(struct node *node)
{
	tunnel_free(node->tunnel);
	if (node->last >= 0)
		close(node->last);
}

/* n1 and n2 know each other; n1 reaches n2 at port. */
static void pair_up(struct node *n1, struct node *n2, uint16_t via)
{
	uint16_t port1 = free_port(), port2 = free_port();

	*n1 = *n2 = (struct node){0};
	keys_generate(&n1->keys);
	keys_generate(&n2->keys);
	add_peer(n1, "n1", port1, n1->keys.public_key);
	add_peer(n1, "n2", via ? via : port2, n2->keys.public_key);
	add_peer(n2, "n1", port1, n1->keys.public_key);
	add_peer(n2, "n2", port2, n2->keys.public_key);
}

static void turn(void)
{
	check(sd_event_run(loop, 10000) >= 0);
}

static void note(void *arg, int result)
{
	*(int *)arg = result;
}

/* Dials and waits for the result. */
static int dial(struct node *from, const char *name, int *fd)
{
	int result = 1, r;

	r = tunnel_dial(from->tunnel, peers_by_name(&from->peers, name), note, &result, fd);
	if (r < 0)
		return r;
	while (result == 1)
		turn();
	return result;
}

static void bytes_pass_both_ways_and_in_order(void)
{
	static uint8_t sent[300000], got[sizeof(sent)];
	struct node n1, n2;
	size_t there = 0, back = 0, in = 0;
	ssize_t n;
	int fd;

	pair_up(&n1, &n2, 0);
	start(&n1, "n1");
	start(&n2, "n2");
	check_int(dial(&n1, "n2", &fd), 0);
	randombytes_buf(sent, sizeof(sent));
	while (in < sizeof(sent)) {
		static uint8_t echo[4096];
		static size_t echo_size, echo_done;

		n = send(fd, sent + there, sizeof(sent) - there, MSG_DONTWAIT);
		there += n > 0 ? (size_t)n : 0;
		turn();
		if (n2.last >= 0 && echo_done == echo_size) {
			n = read(n2.last, echo, sizeof(echo));
			echo_size = n > 0 ? (size_t)n : 0;
			echo_done = 0;
		}
		n = send(n2.last, echo + echo_done, echo_size - echo_done, MSG_DONTWAIT);
		echo_done += n > 0 ? (size_t)n : 0;
		back += n > 0 ? (size_t)n : 0;
		n = recv(fd, got + in, sizeof(got) - in, MSG_DONTWAIT);
		in += n > 0 ? (size_t)n : 0;
	}
	check(back == in && memcmp(sent, got, sizeof(sent)) == 0);
	check_str(n2.from, "n1");
	close(fd);
	while (tunnel_counts(n1.tunnel)->open || tunnel_counts(n2.tunnel)->open)
		turn();
	check_int(read(n2.last, got, 1), 0); /* the end is passed on */
	stop(&n1);
	stop(&n2);
}

/* Sends until all that lies between is full; not for longer: a window that stays shut for LOST_MS ends the stream. */
static size_t fill(int fd, const uint8_t *sent, size_t size)
{
	size_t there = 0;

	for (int refused = 0; refused < 10 && there < size;) {
		ssize_t n = send(fd, sent + there, size - there, MSG_DONTWAIT);

		there += n > 0 ? (size_t)n : 0;
		refused = n > 0 ? 0 : refused + 1;
		turn();
	}
	return there;
}

static void much_passes_one_way_without_an_answer(void)
{
	static uint8_t sent[24000000], got[sizeof(sent)];
	struct node n1, n2;
	size_t there, in = 0;
	ssize_t n;
	int fd;

	pair_up(&n1, &n2, 0);
	start(&n1, "n1");
	start(&n2, "n2");
	check_int(dial(&n1, "n2", &fd), 0);
	randombytes_buf(sent, sizeof(sent));
	there = fill(fd, sent, sizeof(sent));
	check(there < sizeof(sent));
	for (int turns = 0; in < sizeof(sent); turns++) {
		n = send(fd, sent + there, sizeof(sent) - there, MSG_DONTWAIT);
		there += n > 0 ? (size_t)n : 0;
		turn();
		check(turns < 20000);
		n = read(n2.last, got + in, sizeof(got) - in);
		in += n > 0 ? (size_t)n : 0;
	}
	check(memcmp(sent, got, sizeof(sent)) == 0);
	close(fd);
	stop(&n1);
	stop(&n2);
}

/* --- the relay --- */

struct relay {
	int listener, client, server;
	uint16_t port, to;
	uint8_t wire[65536];
	size_t size;
	bool flip; /* one bit of what passes next */
};

static void relay_start(struct relay *relay)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);

	*relay = (struct relay){.client = -1, .server = -1};
	relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check_int(bind(relay->listener, (void *)&address, sizeof(address)), 0);
	check_int(listen(relay->listener, 1), 0);
	check_int(getsockname(relay->listener, (void *)&address, &size), 0);
	relay->port = (uint16_t)(ntohs(address.sin_port) - PORT_METAD_TUNNEL);
}

static void relay_accept(struct relay *relay)
{
	struct sockaddr_in address = {.sin_family = AF_INET};

	relay->client = accept(relay->listener, NULL, NULL);
	if (relay->client < 0)
		return;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t)(relay->to + PORT_METAD_TUNNEL));
	relay->server = socket(AF_INET, SOCK_STREAM, 0);
	check_int(connect(relay->server, (void *)&address, sizeof(address)), 0);
}

static void relay_pass(struct relay *relay, int from, int to)
{
	uint8_t data[4096];
	ssize_t n = recv(from, data, sizeof(data), MSG_DONTWAIT);

	if (n <= 0)
		return;
	if (relay->flip) {
		data[n - 1] ^= 1;
		relay->flip = false;
	}
	check(relay->size + (size_t)n <= sizeof(relay->wire));
	memcpy(relay->wire + relay->size, data, (size_t)n);
	relay->size += (size_t)n;
	check_int(send(to, data, (size_t)n, MSG_NOSIGNAL), n);
}

static void relay_turn(struct relay *relay)
{
	if (relay->client < 0) {
		relay_accept(relay);
	} else {
		relay_pass(relay, relay->client, relay->server);
		relay_pass(relay, relay->server, relay->client);
	}
	turn();
}

static void relay_stop(struct relay *relay)
{
	close(relay->listener);
	close(relay->client);
	close(relay->server);
}

static const char secret[] = "INSERT INTO entry: the very secret placement of ve/counter";

static int dial_through(struct relay *relay, struct node *n1, struct node *n2, int *fd)
{
	int result = 1;

	relay_start(relay);
	pair_up(n1, n2, relay->port);
	relay->to = n2->peers.peer[1].port;
	start(n1, "n1");
	start(n2, "n2");
	check_int(tunnel_dial(n1->tunnel, peers_by_name(&n1->peers, "n2"), note, &result, fd), 0);
	while (result == 1)
		relay_turn(relay);
	return result;
}

static void nothing_readable_is_on_the_wire(void)
{
	static struct relay relay;
	struct node n1, n2;
	char got[sizeof(secret)];
	size_t in = 0;
	ssize_t n;
	int fd;

	check_int(dial_through(&relay, &n1, &n2, &fd), 0);
	for (int i = 0; i < 20; i++)
		check_int(write(fd, secret, sizeof(secret)), sizeof(secret));
	while (in < sizeof(got)) {
		relay_turn(&relay);
		n = n2.last < 0 ? 0 : read(n2.last, got + in, sizeof(got) - in);
		in += n > 0 ? (size_t)n : 0;
	}
	check_str(got, secret);
	check(relay.size > sizeof(secret));
	for (size_t length = 6; length + 6 < sizeof(secret); length += 6)
		check(!memmem(relay.wire, relay.size, secret + length, 6));
	check(memmem(relay.wire, relay.size, "n1", 2)); /* the name of who dials: that is all */
	close(fd);
	stop(&n1);
	stop(&n2);
	relay_stop(&relay);
}

static void a_flipped_bit_ends_the_stream(void)
{
	static struct relay relay;
	struct node n1, n2;
	char byte;
	int fd;

	check_int(dial_through(&relay, &n1, &n2, &fd), 0);
	while (n2.last < 0)
		relay_turn(&relay);
	relay.flip = true;
	check_int(write(fd, secret, sizeof(secret)), sizeof(secret));
	while (tunnel_counts(n2.tunnel)->open)
		relay_turn(&relay);
	check_int(read(n2.last, &byte, 1), 0);
	close(fd);
	stop(&n1);
	stop(&n2);
	relay_stop(&relay);
}

static void a_node_with_another_key_gets_nothing(void)
{
	struct node n1, n2;
	int fd;

	pair_up(&n1, &n2, 0);
	keys_generate(&n1.keys); /* not the one that n2 knows n1 by */
	start(&n1, "n1");
	start(&n2, "n2");
	check(dial(&n1, "n2", &fd) < 0);
	check_int(n2.accepted, 0);
	check_int(tunnel_counts(n2.tunnel)->refused, 1);
	close(fd);
	stop(&n1);
	stop(&n2);
}

static void a_node_that_is_not_configured_gets_nothing(void)
{
	struct node n1, n2;
	int fd;

	pair_up(&n1, &n2, 0);
	snprintf(n2.peers.peer[0].name, sizeof(n2.peers.peer[0].name), "nx");
	start(&n1, "n1");
	start(&n2, "n2");
	check(dial(&n1, "n2", &fd) < 0);
	check_int(n2.accepted, 0);
	close(fd);
	stop(&n1);
	stop(&n2);
}

static void the_streams_of_a_node_that_is_taken_out_end_and_it_gets_no_other(void)
{
	struct node n1, n2;
	char byte;
	int fd, again;

	pair_up(&n1, &n2, 0);
	start(&n1, "n1");
	start(&n2, "n2");
	check_int(dial(&n1, "n2", &fd), 0);
	while (n2.accepted == 0)
		turn();
	check_int(tunnel_counts(n2.tunnel)->open, 1);
	peers_remove(&n2.peers, &n2.peers.peer[0]);
	tunnel_drop(n2.tunnel, &n2.peers.peer[0]);
	check_int(tunnel_counts(n2.tunnel)->open, 0);
	while (tunnel_counts(n1.tunnel)->open)
		turn();
	check_int(read(fd, &byte, 1), 0);
	check(dial(&n1, "n2", &again) < 0);
	close(fd);
	close(again);
	stop(&n1);
	stop(&n2);
}

static void a_server_with_another_key_is_not_believed(void)
{
	struct node n1, n2;
	int fd;

	pair_up(&n1, &n2, 0);
	keys_generate(&n2.keys);
	start(&n1, "n1");
	start(&n2, "n2");
	check(dial(&n1, "n2", &fd) < 0);
	close(fd);
	stop(&n1);
	stop(&n2);
}

static void a_node_is_no_peer_of_itself(void)
{
	struct node n1, n2;
	int fd;

	pair_up(&n1, &n2, 0);
	start(&n1, "n1");
	check(dial(&n1, "n1", &fd) < 0);
	check_int(n1.accepted, 0);
	close(fd);
	stop(&n1);
}

static int knock(const struct node *node)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t)(node->peers.peer[0].port + PORT_METAD_TUNNEL));
	check_int(connect(fd, (void *)&address, sizeof(address)), 0);
	return fd;
}

static void dqlite_spoken_in_the_clear_is_refused(void)
{
	static const uint8_t who_leads[] = {
	    1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	struct node n1, n2;
	uint8_t reply[64];
	int fd;

	pair_up(&n1, &n2, 0);
	start(&n1, "n1");
	fd = knock(&n1);
	check_int(write(fd, who_leads, sizeof(who_leads)), sizeof(who_leads));
	while (tunnel_counts(n1.tunnel)->refused == 0)
		turn();
	check_int(n1.accepted, 0);
	check(recv(fd, reply, sizeof(reply), 0) <= 7); /* an alert at most */
	close(fd);
	stop(&n1);
}

static void silent_strangers_are_few_and_do_not_stay(void)
{
	struct node n1, n2;
	int fd[TUNNEL_STRANGERS_MAX + 8];
	struct mono begin = mono_now();

	pair_up(&n1, &n2, 0);
	start(&n1, "n1");
	start(&n2, "n2");
	for (size_t i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		fd[i] = knock(&n1);
	do {
		turn();
		check(tunnel_counts(n1.tunnel)->open <= TUNNEL_STRANGERS_MAX);
	} while (tunnel_counts(n1.tunnel)->refused < sizeof(fd) / sizeof(fd[0]));
	check_range(mono_to_ms(mono_sub(mono_now(), begin)), TUNNEL_HANDSHAKE_MS,
	    TUNNEL_HANDSHAKE_MS + 60000);
	for (size_t i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		close(fd[i]);
	check_int(dial(&n2, "n1", &fd[0]), 0); /* and a peer gets in again */
	close(fd[0]);
	stop(&n1);
	stop(&n2);
}

static void a_port_where_nobody_listens_is_told(void)
{
	struct node n1, n2;
	int fd;

	pair_up(&n1, &n2, 0);
	start(&n1, "n1");
	check(dial(&n1, "n2", &fd) < 0);
	close(fd);
	stop(&n1);
}

static void both_ends_derive_the_same_key_and_a_third_another(void)
{
	struct node_keys a, b, c;
	uint8_t ab[KEY_SIZE], ba[KEY_SIZE], cb[KEY_SIZE];
	static const uint8_t zero[KEY_SIZE];

	keys_generate(&a);
	keys_generate(&b);
	keys_generate(&c);
	check_int(tunnel_key(ab, &a, b.public_key), 0);
	check_int(tunnel_key(ba, &b, a.public_key), 0);
	check_int(tunnel_key(cb, &c, b.public_key), 0);
	check(memcmp(ab, ba, KEY_SIZE) == 0);
	check(memcmp(ab, cb, KEY_SIZE) != 0);
	check_int(tunnel_key(ab, &a, zero), -EKEYREJECTED);
}

int main(void)
{
	log_init("test-tunnel");
	check(sodium_init() >= 0);
	signal(SIGPIPE, SIG_IGN); /* a stream that has ended shall fail where it is used */
	check(sd_event_new(&loop) >= 0);
	return test_main((struct test[]){
	    TEST(both_ends_derive_the_same_key_and_a_third_another),
	    TEST(bytes_pass_both_ways_and_in_order),
	    TEST(much_passes_one_way_without_an_answer),
	    TEST(nothing_readable_is_on_the_wire),
	    TEST(a_flipped_bit_ends_the_stream),
	    TEST(a_node_with_another_key_gets_nothing),
	    TEST(a_node_that_is_not_configured_gets_nothing),
	    TEST(the_streams_of_a_node_that_is_taken_out_end_and_it_gets_no_other),
	    TEST(a_server_with_another_key_is_not_believed),
	    TEST(a_node_is_no_peer_of_itself),
	    TEST(dqlite_spoken_in_the_clear_is_refused),
	    TEST(silent_strangers_are_few_and_do_not_stay),
	    TEST(a_port_where_nobody_listens_is_told),
	    {0},
	});
}
