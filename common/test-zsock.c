/* Each trap of ZeroMQ that DESIGN names, and that it does not catch us. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/mono.h"
#include "common/test.h"
#include "common/zcontext.h"
#include "common/zsock.h"

#define ZAP_ENFORCE_DOMAIN 93
#define PATIENCE_MS 60000 /* the longest wait for what must come */

static char dir[] = "/tmp/dst-zsock-XXXXXX";
static char ipc[64]; /* endpoint */
static const char *ipc_path;

/* A server node and its world: one context, a loop, keys; a second context plays the client. */
struct world {
	sd_event *loop;
	struct node_keys server_keys, client_keys;
	struct peers peers;
	struct zcontext *server, *client;
	void *router, *dealer;
	struct zwatch *watch;
	char endpoint[64];
	int received;
	char from[2 * KEY_SIZE + 1];
};

static void make_keys(struct node_keys *keys)
{
	char public_text[41], secret_text[41];

	check(zmq_curve_keypair(public_text, secret_text) == 0);
	check(zmq_z85_decode(keys->public_key, public_text) != NULL);
	check(zmq_z85_decode(keys->secret_key, secret_text) != NULL);
}

static void on_message(void *userdata)
{
	struct world *world = userdata;
	struct zframes frames;

	while (zsock_recv(world->router, &frames) == 0) {
		const char *peer = zframe_peer(&frames, frames.count - 1);

		snprintf(world->from, sizeof(world->from), "%s", peer ? peer : "");
		world->received++;
		zframes_fini(&frames);
	}
}

static void world_open(struct world *world, bool client_is_known)
{
	size_t size = sizeof(world->endpoint);

	*world = (struct world){0};
	check(sd_event_new(&world->loop) >= 0);
	make_keys(&world->server_keys);
	make_keys(&world->client_keys);
	if (client_is_known) {
		world->peers.count = 1;
		memcpy(world->peers.peer[0].name, "n2", sizeof("n2"));
		memcpy(world->peers.peer[0].public_key, world->client_keys.public_key, KEY_SIZE);
	}
	check_int(zcontext_new(&world->server, world->loop, &world->server_keys, &world->peers), 0);
	check_int(zcontext_new(&world->client, world->loop, &world->client_keys, NULL), 0);
	check_int(zsock_new(&world->router, world->server,
		      &(struct zsock_options){.type = ZMQ_ROUTER, .bind = "tcp://127.0.0.1:*"}),
	    0);
	check(zmq_getsockopt(world->router, ZMQ_LAST_ENDPOINT, world->endpoint, &size) == 0);
	check_int(zwatch_new(&world->watch, world->loop, world->router, on_message, world), 0);
	check_int(zsock_new(&world->dealer, world->client,
		      &(struct zsock_options){.type = ZMQ_DEALER,
			  .connect = world->endpoint,
			  .server_key = world->server_keys.public_key}),
	    0);
}

static void world_close(struct world *world)
{
	world->watch = zwatch_free(world->watch);
	world->dealer = zsock_free(world->dealer);
	world->router = zsock_free(world->router);
	world->client = zcontext_free(world->client);
	world->server = zcontext_free(world->server);
	world->loop = sd_event_unref(world->loop);
}

/* Runs the loop until count messages were received or the time is over. */
static void run(struct world *world, int count, int64_t limit_ms)
{
	struct mono end = mono_add_ms(mono_now(), limit_ms);

	while (world->received < count && mono_before(mono_now(), end))
		check(sd_event_run(world->loop, 10000) >= 0);
}

static void say(struct world *world, const char *text)
{
	check_int(zsock_send(world->dealer, &(struct zpart){text, strlen(text)}, 1), 0);
}

static void a_known_key_is_let_in_under_its_name(void)
{
	struct world world;

	world_open(&world, true);
	say(&world, "hello");
	run(&world, 1, PATIENCE_MS);
	check_int(world.received, 1);
	check_str(world.from, "n2");
	world_close(&world);
}

static void an_unknown_key_gets_nothing_through(void)
{
	struct zcontext_counts counts = {0};
	struct world world;

	world_open(&world, false);
	say(&world, "hello");
	for (int tries = 0; counts.refused == 0 && tries < PATIENCE_MS / 10; tries++) {
		run(&world, 1, 10);
		zcontext_counts(world.server, &counts);
	}
	check_int(world.received, 0);
	check_int(counts.allowed, 0);
	check(counts.refused > 0);
	world_close(&world);
}

static void a_revoked_key_is_cut_off_and_stays_out(void)
{
	struct world world;

	world_open(&world, true);
	say(&world, "hello");
	run(&world, 1, PATIENCE_MS);
	check_int(world.received, 1);
	check_int(zcontext_revoke(world.server, world.client_keys.public_key), 0);
	for (int i = 0; i < 20; i++) {
		(void)zsock_send(world.dealer, &(struct zpart){"again", 5}, 1);
		run(&world, 2, 20);
	}
	check_int(world.received, 1);
	world_close(&world);
}

static void a_key_given_back_is_let_in_again(void)
{
	struct world world;

	world_open(&world, true);
	check_int(zcontext_revoke(world.server, world.client_keys.public_key), 0);
	say(&world, "refused");
	run(&world, 1, 300);
	check_int(world.received, 0);
	zcontext_allow(world.server, world.client_keys.public_key);
	zsock_free(world.dealer); /* one that was told of its revocation does not try again */
	check_int(zsock_new(&world.dealer, world.client,
		      &(struct zsock_options){.type = ZMQ_DEALER,
			  .connect = world.endpoint,
			  .server_key = world.server_keys.public_key}),
	    0);
	say(&world, "hello");
	run(&world, 1, PATIENCE_MS);
	check_int(world.received, 1);
	world_close(&world);
}

static void a_stranger_is_let_in_under_its_key_where_strangers_are_and_a_crowd_is_not(void)
{
	char expected[2 * KEY_SIZE + 1];
	struct zcontext_counts counts = {0};
	struct world world;
	size_t size = sizeof(world.endpoint);
	void *crowd[60] = {NULL};

	world_open(&world, false);
	world.watch = zwatch_free(world.watch);
	world.router = zsock_free(world.router);
	world.dealer = zsock_free(world.dealer);
	world.server = zcontext_free(world.server);
	check_int(zcontext_new_for_strangers(&world.server, world.loop, &world.server_keys), 0);
	check_int(zsock_new(&world.router, world.server,
		      &(struct zsock_options){.type = ZMQ_ROUTER, .bind = "tcp://127.0.0.1:*"}),
	    0);
	check(zmq_getsockopt(world.router, ZMQ_LAST_ENDPOINT, world.endpoint, &size) == 0);
	check_int(zwatch_new(&world.watch, world.loop, world.router, on_message, &world), 0);
	for (size_t i = 0; i < 60; i++) {
		check_int(zsock_new(&crowd[i], world.client,
			      &(struct zsock_options){.type = ZMQ_DEALER,
				  .connect = world.endpoint,
				  .server_key = world.server_keys.public_key}),
		    0);
		check_int(zsock_send(crowd[i], &(struct zpart){"hello", 5}, 1), 0);
	}
	run(&world, 1, PATIENCE_MS);
	key_format(expected, world.client_keys.public_key);
	check_str(world.from, expected);
	for (int tries = 0; (counts.allowed < 32 || !counts.refused) && tries < PATIENCE_MS / 10;
	     tries++) {
		run(&world, 60, 10);
		zcontext_counts(world.server, &counts);
	}
	check(counts.allowed >= 32 && counts.refused > 0);
	for (size_t i = 0; i < 60; i++)
		zsock_free(crowd[i]);
	world_close(&world);
}

/* A server without ZAP handler, as libzmq makes it; does a client with any key get in? */
static bool raw_server_lets_in(bool enforce)
{
	void *context = zmq_ctx_new(), *server = zmq_socket(context, ZMQ_PULL),
	     *client = zmq_socket(context, ZMQ_PUSH);
	struct node_keys server_keys, client_keys;
	int one = 1, zero = 0, wait_ms = enforce ? 300 : 3000;
	char endpoint[64], got[8];
	size_t size = sizeof(endpoint);
	bool in;

	make_keys(&server_keys);
	make_keys(&client_keys);
	zmq_setsockopt(server, ZMQ_CURVE_SERVER, &one, sizeof(one));
	zmq_setsockopt(server, ZMQ_CURVE_SECRETKEY, server_keys.secret_key, KEY_SIZE);
	zmq_setsockopt(server, ZMQ_ZAP_DOMAIN, "depsys", 6);
	zmq_setsockopt(server, ZMQ_RCVTIMEO, &wait_ms, sizeof(wait_ms));
	if (enforce)
		check(zmq_setsockopt(server, ZAP_ENFORCE_DOMAIN, &one, sizeof(one)) == 0);
	check(zmq_bind(server, "tcp://127.0.0.1:*") == 0);
	zmq_getsockopt(server, ZMQ_LAST_ENDPOINT, endpoint, &size);
	zmq_setsockopt(client, ZMQ_LINGER, &zero, sizeof(zero));
	zmq_setsockopt(client, ZMQ_CURVE_SERVERKEY, server_keys.public_key, KEY_SIZE);
	zmq_setsockopt(client, ZMQ_CURVE_PUBLICKEY, client_keys.public_key, KEY_SIZE);
	zmq_setsockopt(client, ZMQ_CURVE_SECRETKEY, client_keys.secret_key, KEY_SIZE);
	check(zmq_connect(client, endpoint) == 0);
	check(zmq_send(client, "hello", 5, 0) == 5);
	in = zmq_recv(server, got, sizeof(got), 0) == 5;
	zmq_close(client);
	zmq_close(server);
	zmq_ctx_term(context);
	return in;
}

static void without_a_zap_handler_nobody_is_let_in(void)
{
	struct world world;
	int enforce = 0;
	size_t size = sizeof(enforce);

	check(raw_server_lets_in(false)); /* the trap */
	check(!raw_server_lets_in(true));
	world_open(&world, false);
	check(zmq_getsockopt(world.router, ZAP_ENFORCE_DOMAIN, &enforce, &size) == 0);
	check_int(enforce, 1);
	world_close(&world);
}

static void tcp_without_keys_is_refused(void)
{
	struct zcontext *context;
	sd_event *loop;
	void *socket;

	check(sd_event_new(&loop) >= 0);
	check_int(zcontext_new(&context, loop, NULL, NULL), 0);
	check_int(zsock_new(&socket, context,
		      &(struct zsock_options){.type = ZMQ_ROUTER, .bind = "tcp://127.0.0.1:*"}),
	    -ENOKEY);
	check_int(zsock_new(&socket, context,
		      &(struct zsock_options){.type = ZMQ_DEALER, .connect = "tcp://127.0.0.1:9"}),
	    -ENOKEY);
	zcontext_free(context);
	sd_event_unref(loop);
}

/* --- local sockets --- */

static void local_open(struct world *world, const struct zsock_options *options)
{
	*world = (struct world){0};
	check(sd_event_new(&world->loop) >= 0);
	check_int(zcontext_new(&world->server, world->loop, NULL, NULL), 0);
	check_int(zsock_new(&world->router, world->server, options), 0);
	check_int(zwatch_new(&world->watch, world->loop, world->router, on_message, world), 0);
}

static int connect_raw(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", ipc_path);
	check(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

/* Not the pages of programs and libraries, which come in as they are used. */
static long own_kib(void)
{
	long resident = 0, shared = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	check(file && fscanf(file, "%*d %ld %ld", &resident, &shared) == 2);
	fclose(file);
	return (resident - shared) * (sysconf(_SC_PAGESIZE) / 1024);
}

/* ZMTP 3.1 (RFC 37): greeting, NULL mechanism's READY, then a frame that says it has size bytes. */
static size_t send_huge_frame(int fd, uint64_t size)
{
	static const uint8_t ready[] = "\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06"
				       "DEALER";
	static uint8_t block[65536];
	uint8_t greeting[64] = {0xff, [9] = 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
	uint8_t header[9] = {0x02}, answer[128];
	size_t sent = 0;

	for (int i = 0; i < 8; i++)
		header[1 + i] = (uint8_t)(size >> (56 - 8 * i));
	check(write(fd, greeting, sizeof(greeting)) == sizeof(greeting));
	check(write(fd, ready, sizeof(ready) - 1) == sizeof(ready) - 1);
	for (ssize_t n, got = 0; got < 64 + 30; got += n) { /* its greeting and READY */
		n = read(fd, answer, sizeof(answer));
		check(n > 0);
	}
	check(write(fd, header, sizeof(header)) == sizeof(header));
	while (sent < size) {
		size_t left = size - sent;
		ssize_t n =
		    send(fd, block, left < sizeof(block) ? left : sizeof(block), MSG_NOSIGNAL);

		if (n < 0)
			break;
		sent += (size_t)n;
	}
	return sent;
}

static void a_stranger_sending_200_mib_is_cut_and_memory_stays_flat(void)
{
	struct world world;
	long before;
	int fd;

	local_open(&world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc});
	fd = connect_raw();
	send_huge_frame(fd, 1000); /* a small one gets through */
	run(&world, 1, PATIENCE_MS);
	check_int(world.received, 1);
	close(fd);
	before = own_kib();
	for (int i = 0; i < 5; i++) {
		fd = connect_raw();
		check_range(send_huge_frame(fd, 200 << 20), 0, 8 << 20);
		close(fd);
	}
	run(&world, 2, 50);
	check_int(world.received, 1);
	check_range(own_kib() - before, -100000, 4096);
	world_close(&world);
}

static void a_live_ipc_path_is_not_stolen(void)
{
	struct zsock_options options = {.type = ZMQ_ROUTER, .bind = ipc};
	struct world world;
	void *second;
	int fd;

	local_open(&world, &options);
	check_int(zsock_new(&second, world.server, &options), -EADDRINUSE);
	fd = connect_raw(); /* the first one still listens there */
	send_huge_frame(fd, 1000);
	run(&world, 1, PATIENCE_MS);
	check_int(world.received, 1);
	close(fd);
	world_close(&world);
	check(access(ipc_path, F_OK) < 0);
}

static int listen_raw(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", ipc_path);
	check(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0);
	return fd;
}

static void a_listener_that_does_not_know_our_lock_is_not_robbed(void)
{
	struct zcontext *context;
	sd_event *loop;
	void *socket;
	int fd = listen_raw();

	check(sd_event_new(&loop) >= 0);
	check_int(zcontext_new(&context, loop, NULL, NULL), 0);
	check_int(
	    zsock_new(&socket, context, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc}),
	    -EADDRINUSE);
	close(fd);
	zcontext_free(context);
	sd_event_unref(loop);
}

static void the_path_of_a_dead_process_is_taken_over(void)
{
	struct world world;

	/* the path of the test before is still there, and nobody listens */
	check(access(ipc_path, F_OK) == 0);
	local_open(&world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc});
	close(connect_raw());
	world_close(&world);
}

static void an_ipc_path_has_its_mode_and_group_whatever_the_umask(void)
{
	const struct group *group = getgrgid(getgid());
	struct world world;
	struct stat st;
	mode_t old = umask(0);

	check(group != NULL);
	local_open(&world,
	    &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc, .group = group->gr_name});
	check(stat(ipc_path, &st) == 0);
	check_int(st.st_mode & 07777, 0660);
	check_int(st.st_gid, group->gr_gid);
	world_close(&world);
	umask(077);
	local_open(&world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc, .mode = 0666});
	check(stat(ipc_path, &st) == 0);
	check_int(st.st_mode & 07777, 0666);
	world_close(&world);
	umask(old);
}

static void five_thousand_subscriptions_all_count(void)
{
	enum { COUNT = 5000 };
	struct zframes frames;
	struct world world;
	void *sub;
	int got = 0;

	world = (struct world){0};
	check(sd_event_new(&world.loop) >= 0);
	check_int(zcontext_new(&world.server, world.loop, NULL, NULL), 0);
	check_int(
	    zsock_new(&sub, world.server, &(struct zsock_options){.type = ZMQ_SUB, .connect = ipc}),
	    0);
	for (int i = 0; i < COUNT; i++) { /* nobody listens yet: they wait in the queue */
		char topic[16];

		snprintf(topic, sizeof(topic), "t%d.", i);
		check_int(zsock_subscribe(sub, topic), 0);
	}
	check_int(zsock_new(&world.router, world.server,
		      &(struct zsock_options){.type = ZMQ_XPUB, .bind = ipc}),
	    0);
	check_int(zwatch_new(&world.watch, world.loop, world.router, on_message, &world), 0);
	run(&world, COUNT, PATIENCE_MS);
	check_int(world.received, COUNT);
	for (int i = COUNT - 100; i < COUNT; i++) {
		char topic[16];
		int length = snprintf(topic, sizeof(topic), "t%d.", i);

		check_int(zsock_send(world.router, &(struct zpart){topic, (size_t)length}, 1), 0);
	}
	for (int tries = 0; got < 100 && tries < PATIENCE_MS / 10; tries++) {
		while (zsock_recv(sub, &frames) == 0) {
			zframes_fini(&frames);
			got++;
		}
		usleep(10000);
	}
	check_int(got, 100);
	zsock_free(sub);
	world_close(&world);
}

/* Takes one message a call, and sends in between, which may consume the edge. */
static void on_message_one_at_a_time(void *userdata)
{
	struct world *world = userdata;
	struct zframes frames;

	if (zsock_recv(world->router, &frames) < 0)
		return;
	check_int(
	    zsock_send(world->router,
		(struct zpart[]){{zframe_data(&frames, 0), zframe_size(&frames, 0)}, {"ack", 3}},
		2),
	    0);
	world->received++;
	zframes_fini(&frames);
}

static void an_edge_consumed_by_a_send_is_not_lost(void)
{
	enum { ROUNDS = 50, BURST = 200 };
	struct world world;
	struct zframes frames;

	local_open(&world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc});
	zwatch_free(world.watch);
	check_int(
	    zwatch_new(&world.watch, world.loop, world.router, on_message_one_at_a_time, &world),
	    0);
	check_int(zsock_new(&world.dealer, world.server,
		      &(struct zsock_options){.type = ZMQ_DEALER, .connect = ipc}),
	    0);
	for (int round = 1; round <= ROUNDS; round++) {
		for (int i = 0; i < BURST; i++)
			say(&world, "x");
		run(&world, round * BURST, PATIENCE_MS);
		check_int(world.received, round * BURST);
		while (zsock_recv(world.dealer, &frames) == 0)
			zframes_fini(&frames);
	}
	world_close(&world);
}

static void a_message_of_too_many_frames_is_refused_whole(void)
{
	struct zpart parts[ZFRAMES_MAX + 3];
	struct zframes frames;
	struct world world;
	int r = -EAGAIN;

	local_open(&world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc});
	check_int(zsock_new(&world.dealer, world.server,
		      &(struct zsock_options){.type = ZMQ_DEALER, .connect = ipc}),
	    0);
	for (int i = 0; i < ZFRAMES_MAX + 3; i++)
		parts[i] = (struct zpart){"x", 1};
	check_int(zsock_send(world.dealer, parts, ZFRAMES_MAX + 3), 0);
	say(&world, "good");
	for (int tries = 0; r == -EAGAIN && tries < PATIENCE_MS / 10; tries++, usleep(10000))
		r = zsock_recv(world.router, &frames);
	check_int(r, -EBADMSG);
	for (r = -EAGAIN; r == -EAGAIN; usleep(1000))
		r = zsock_recv(world.router, &frames);
	check_int(frames.count, 2);
	zframes_fini(&frames);
	world_close(&world);
}

static void a_frame_beyond_the_limit_is_refused_and_told(void)
{
	_cleanup_buf_ struct buf big = {0};
	struct zframes frames;
	struct world world;
	int r;

	check(buf_reserve(&big, 5000) != NULL);
	memset(big.data, 0, 5000);
	local_open(
	    &world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc, .max_message = 4999});
	check_int(zsock_new(&world.dealer, world.server,
		      &(struct zsock_options){.type = ZMQ_DEALER, .connect = ipc}),
	    0);
	check_int(zsock_send(world.dealer, &(struct zpart){big.data, 5000}, 1), 0);
	check_int(zsock_send(world.dealer, &(struct zpart){big.data, 4999}, 1), 0);
	for (r = -EAGAIN; r == -EAGAIN; usleep(1000))
		r = zsock_recv(world.router, &frames);
	check_int(r, -EMSGSIZE);
	for (r = -EAGAIN; r == -EAGAIN; usleep(1000))
		r = zsock_recv(world.router, &frames);
	check_int(r, 0);
	check_int(zframe_size(&frames, 1), 4999);
	zframes_fini(&frames);
	world_close(&world);
}

/* The monitor tells in its own time. */
static void wait_unfinished(struct world *world, uint64_t unfinished, uint64_t connections)
{
	struct zcontext_counts counts = {0};

	for (int tries = 0; tries < PATIENCE_MS / 10; tries++) {
		check(sd_event_run(world->loop, 10000) >= 0);
		zcontext_counts(world->server, &counts);
		if (counts.connections == connections && counts.unfinished == unfinished)
			return;
	}
	check_int(counts.connections, connections);
	check_int(counts.unfinished, unfinished);
}

static void who_speaks_no_zmtp_is_counted(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct world world;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	local_open(&world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc});
	check_int(zsock_new(&world.dealer, world.server,
		      &(struct zsock_options){.type = ZMQ_DEALER, .connect = ipc}),
	    0);
	wait_unfinished(&world, 0, 1);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", ipc_path);
	check_int(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	check_int(write(fd, "GET / HTTP/1.0\r\n\r\n", 18), 18);
	close(fd);
	wait_unfinished(&world, 1, 2);
	world_close(&world);
}

static void an_announcing_dealer_queues_nothing_and_says_when_it_is_connected(void)
{
	struct zframes frames;
	struct world world = {0};
	void *dealer;

	check(sd_event_new(&world.loop) >= 0);
	check_int(zcontext_new(&world.server, world.loop, NULL, NULL), 0);
	check_int(
	    zsock_new(&dealer, world.server,
		&(struct zsock_options){.type = ZMQ_DEALER, .connect = ipc, .announce = true}),
	    0);
	check_int(zsock_send(dealer, &(struct zpart){"x", 1}, 1), -EAGAIN);
	check_int(zsock_new(&world.router, world.server,
		      &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc}),
	    0);
	for (int tries = 0; zsock_recv(world.router, &frames) == -EAGAIN; tries++, usleep(1000)) {
		struct zframes none;

		check(tries < 30000);
		check_int(zsock_recv(dealer, &none), -EAGAIN); /* lets the dealer do its work */
	}
	check_int(frames.count, 2);
	check_int(zframe_size(&frames, 1), 0);
	zframes_fini(&frames);
	zsock_free(dealer);
	world_close(&world);
}

static const char retries[] = "inproc://test-retries";

static int tell_retries(void *userdata, void *socket)
{
	(void)userdata;
	return zmq_socket_monitor(socket, retries, ZMQ_EVENT_CONNECT_RETRIED) < 0 ? -zmq_errno()
										  : 0;
}

/* The pause before the next attempt, as libzmq tells it. */
static unsigned next_pause_ms(void *monitor)
{
	struct zframes frames;
	uint32_t pause = 0;

	while (zsock_recv(monitor, &frames) == -EAGAIN)
		usleep(1000);
	check(zframe_size(&frames, 0) == sizeof(uint16_t) + sizeof(pause));
	memcpy(&pause, (const uint8_t *)zframe_data(&frames, 0) + sizeof(uint16_t), sizeof(pause));
	zframes_fini(&frames);
	return pause;
}

static void an_absent_daemon_is_asked_for_less_and_less_often_but_found_soon(void)
{
	struct world world = {0};
	void *dealer, *monitor;
	unsigned pause = 0;

	check(sd_event_new(&world.loop) >= 0);
	check_int(zcontext_new(&world.server, world.loop, NULL, NULL), 0);
	monitor = zmq_socket(zcontext_native(world.server), ZMQ_PAIR);
	check(monitor && zmq_connect(monitor, retries) == 0); /* before: it misses no attempt */
	check_int(
	    zsock_new(&dealer, world.server,
		&(struct zsock_options){
		    .type = ZMQ_DEALER, .connect = ipc, .announce = true, .created = tell_retries}),
	    0);
	check_range(next_pause_ms(monitor), 20, 40);
	for (int i = 0; i < 5; i++) {
		pause = next_pause_ms(monitor);
		check_range(pause, 20, 300);
	}
	check_range(pause, 250, 300);
	check(zmq_socket_monitor(dealer, NULL, 0) == 0);
	zmq_close(monitor);
	zsock_free(dealer);
	world_close(&world);
}

static void fork_after_a_socket_ends_the_process(void)
{
	struct world world;
	int status;
	pid_t child = fork(); /* no socket is open here */

	check(child >= 0);
	if (child == 0) {
		freopen("/dev/null", "w", stderr);
		local_open(&world, &(struct zsock_options){.type = ZMQ_ROUTER, .bind = ipc});
		fork();
		_exit(0);
	}
	check(waitpid(child, &status, 0) == child);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
	int r;

	check(mkdtemp(dir) != NULL);
	snprintf(ipc, sizeof(ipc), "ipc://%s/socket", dir);
	ipc_path = ipc + strlen("ipc://");
	r = test_main((struct test[]){
	    TEST(a_known_key_is_let_in_under_its_name),
	    TEST(an_unknown_key_gets_nothing_through),
	    TEST(a_revoked_key_is_cut_off_and_stays_out),
	    TEST(a_key_given_back_is_let_in_again),
	    TEST(a_stranger_is_let_in_under_its_key_where_strangers_are_and_a_crowd_is_not),
	    TEST(without_a_zap_handler_nobody_is_let_in),
	    TEST(tcp_without_keys_is_refused),
	    TEST(a_stranger_sending_200_mib_is_cut_and_memory_stays_flat),
	    TEST(a_live_ipc_path_is_not_stolen),
	    TEST(a_listener_that_does_not_know_our_lock_is_not_robbed),
	    TEST(the_path_of_a_dead_process_is_taken_over),
	    TEST(an_ipc_path_has_its_mode_and_group_whatever_the_umask),
	    TEST(five_thousand_subscriptions_all_count),
	    TEST(an_edge_consumed_by_a_send_is_not_lost),
	    TEST(a_message_of_too_many_frames_is_refused_whole),
	    TEST(a_frame_beyond_the_limit_is_refused_and_told),
	    TEST(who_speaks_no_zmtp_is_counted),
	    TEST(an_announcing_dealer_queues_nothing_and_says_when_it_is_connected),
	    TEST(an_absent_daemon_is_asked_for_less_and_less_often_but_found_soon),
	    TEST(fork_after_a_socket_ends_the_process),
	    {0},
	});
	if (chdir(dir) == 0) {
		unlink("socket");
		unlink("socket.lock");
		rmdir(dir);
	}
	return r;
}
