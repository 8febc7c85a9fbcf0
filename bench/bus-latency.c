/*
 * Goal B2: the bus beside bare ZeroMQ, in the same run and in turns.
 *
 *	one way    a DEALER's message in another process's ROUTER  |  publisher -> busd (logged) -> subscriber
 *	request    DEALER -> ROUTER -> DEALER, blocking calls      |  rpc client -> rpc server, event loops
 *	events/s   one publisher at full speed until all is acknowledged, with a subscriber that takes all
 *
 * Usage: bus-latency BUSD BUS-PUBLISHER.  The other modes are for itself: each end is a process of its own.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/rpc.h"
#include "common/test.h"
#include "tests/system/counting.h"
#include "tests/system/rig.h"

#define ROUNDS 5
#define MESSAGES 2000
#define REQUESTS 5000
#define RATE 1000
#define FULL_SPEED 400000
#define HEADER_BYTES 100 /* about that of an event */
#define BODY_BYTES 24

static char ledger_path[128], endpoint[128];
static struct ledger *ledger;
static const char *self, *publisher_path;

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static double quantile_us(int64_t *ns, size_t count, double q)
{
	qsort(ns, count, sizeof(*ns), by_value);
	return (double)ns[(size_t)((double)(count - 1) * q)] / 1e3;
}

static double median(double *values, size_t count)
{
	for (size_t i = 1; i < count; i++)
		for (size_t k = i; k > 0 && values[k] < values[k - 1]; k--) {
			double swap = values[k];

			values[k] = values[k - 1];
			values[k - 1] = swap;
		}
	return values[count / 2];
}

/* --- the other ends --- */

static void *bare_socket(int type, const char *bind, const char *connect)
{
	void *socket = zmq_socket(zmq_ctx_new(), type);
	int zero = 0;

	zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof(zero));
	check(bind ? zmq_bind(socket, bind) == 0 : zmq_connect(socket, connect) == 0);
	return socket;
}

/* Sends messages of three frames, the time in the last one. */
static _Noreturn void bare_sender(const char *to)
{
	char header[HEADER_BYTES] = {0}, body[BODY_BYTES] = {0};
	void *socket = bare_socket(ZMQ_DEALER, NULL, to);
	const struct timespec rest = {.tv_nsec = 1000000000 / RATE};

	for (int i = 0; i < MESSAGES; i++) {
		int64_t now;

		nanosleep(&rest, NULL);
		now = mono_now().ns;
		memcpy(body, &now, sizeof(now));
		zmq_send(socket, "test.count", 10, ZMQ_SNDMORE);
		zmq_send(socket, header, sizeof(header), ZMQ_SNDMORE);
		zmq_send(socket, body, sizeof(body), 0);
	}
	for (;;)
		pause(); /* until killed: all has been taken then */
}

static _Noreturn void bare_echo(const char *at)
{
	void *socket = bare_socket(ZMQ_ROUTER, at, NULL);

	for (;;) {
		zmq_msg_t message;
		int more;

		zmq_msg_init(&message);
		check(zmq_msg_recv(&message, socket, 0) >= 0);
		more = zmq_msg_more(&message);
		check(zmq_msg_send(&message, socket, more ? ZMQ_SNDMORE : 0) >= 0);
	}
}

static void on_echo(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	(void)userdata;
	rpc_reply(call, "test.echo_reply", body, size);
}

static int rpc_echo(const char *at)
{
	static const struct rpc_method methods[] = {{"test.echo", on_echo, false}, {0}};
	struct zcontext *context;
	struct rpc_server *server;
	sd_event *loop;

	check(sd_event_new(&loop) >= 0);
	check_int(zcontext_new(&context, loop, NULL, NULL), 0);
	check_int(
	    rpc_server_new(&server, context, loop, &(struct rpc_server_options){.ipc = at}), 0);
	check_int(rpc_server_add(server, methods, NULL), 0);
	return sd_event_loop(loop);
}

static pid_t start(const char *mode)
{
	return rig_spawn((char *[]){(char *)self, (char *)mode, endpoint, NULL});
}

/* --- one way --- */

static double bare_one_way(struct rig *rig)
{
	static int64_t latency[MESSAGES];
	void *socket;
	pid_t sender;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/bare", rig->directory);
	socket = bare_socket(ZMQ_ROUTER, endpoint, NULL);
	sender = start("bare-sender");
	for (int i = 0; i < MESSAGES; i++) {
		char frame[256];
		int64_t sent;

		for (int k = 0; k < 4; k++)
			check(zmq_recv(socket, frame, sizeof(frame), 0) >= 0);
		memcpy(&sent, frame, sizeof(sent));
		latency[i] = mono_now().ns - sent;
	}
	rig_reap(sender, SIGKILL);
	zmq_close(socket);
	return quantile_us(latency, MESSAGES, 0.5);
}

static pid_t start_publisher(struct rig *rig, int run, int rate, int count)
{
	char texts[3][24];

	snprintf(texts[0], 24, "%d", run);
	snprintf(texts[1], 24, "%d", rate);
	snprintf(texts[2], 24, "%d", count);
	return rig_spawn((char *[]){
	    (char *)publisher_path, rig->run_dir, texts[0], texts[1], ledger_path, texts[2], NULL});
}

static double bus_one_way(struct rig *rig, int run, double *p99)
{
	static int64_t latency[MESSAGES];
	static struct counting counting;
	struct bus_subscriber *subscriber;
	pid_t publisher;
	double p50;

	counting = (struct counting){.latency_ns = latency, .latency_max = MESSAGES};
	check_int(bus_subscriber_new(&subscriber, rig->zmq, rig->loop, rig->run_dir, BUS_FROM_NOW,
		      counting_event, counting_lost, &counting),
	    0);
	rig_run_ms(rig, 200);
	publisher = start_publisher(rig, run, RATE, MESSAGES);
	check(rig_run(rig, &counting.events, MESSAGES, 30000));
	rig_reap(publisher, 0);
	bus_subscriber_free(subscriber);
	p50 = quantile_us(latency, MESSAGES, 0.5);
	*p99 = quantile_us(latency, MESSAGES, 0.99);
	return p50;
}

/* --- requests --- */

static double bare_request(struct rig *rig)
{
	static int64_t latency[REQUESTS];
	char frame[256] = {0};
	void *socket;
	pid_t server;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/echo", rig->directory);
	server = start("bare-echo");
	socket = bare_socket(ZMQ_DEALER, NULL, endpoint);
	for (int i = -100; i < REQUESTS; i++) {
		int64_t begin = mono_now().ns;

		check(zmq_send(socket, frame, 60, ZMQ_SNDMORE) == 60 &&
		      zmq_send(socket, frame, 24, 0) == 24);
		check(zmq_recv(socket, frame, sizeof(frame), 0) == 60 &&
		      zmq_recv(socket, frame, sizeof(frame), 0) == 24);
		latency[i < 0 ? 0 : i] = mono_now().ns - begin;
	}
	rig_reap(server, SIGKILL);
	zmq_close(socket);
	return quantile_us(latency, REQUESTS, 0.5);
}

static void on_answer(void *userdata, const struct rpc_answer *answer)
{
	check_int(answer->status, RPC_OK);
	++*(uint64_t *)userdata;
}

static double rpc_requests(struct rig *rig)
{
	static int64_t latency[REQUESTS];
	struct rpc_client *client;
	uint64_t answers = 0;
	pid_t server;

	snprintf(endpoint, sizeof(endpoint), "ipc://%s/rpc", rig->directory);
	server = start("rpc-echo");
	while (access(endpoint + strlen("ipc://"), F_OK) < 0)
		usleep(1000);
	check_int(rpc_client_new(&client, rig->zmq, rig->loop, endpoint, NULL), 0);
	rig_run_ms(rig, 200);
	for (int i = -100; i < REQUESTS; i++) {
		int64_t begin = mono_now().ns;
		uint64_t before = answers;

		check(rpc_request(client, "test.echo", "123456789012345678901234", 24, 3000,
			  on_answer, &answers) > 0);
		while (answers == before)
			check(sd_event_run(rig->loop, UINT64_MAX) >= 0);
		latency[i < 0 ? 0 : i] = mono_now().ns - begin;
	}
	rpc_client_free(client);
	rig_reap(server, SIGKILL);
	return quantile_us(latency, REQUESTS, 0.5);
}

/* --- full speed --- */

static double full_speed(struct rig *rig, int run, bool with_subscriber)
{
	static struct counting counting;
	struct bus_subscriber *subscriber = NULL;
	struct mono begin;
	double seconds;
	pid_t publisher;

	counting = (struct counting){0};
	if (with_subscriber)
		check_int(bus_subscriber_new(&subscriber, rig->zmq, rig->loop, rig->run_dir,
			      BUS_FROM_NOW, counting_event, counting_lost, &counting),
		    0);
	rig_run_ms(rig, 200);
	begin = mono_now();
	publisher = start_publisher(rig, run, 0, FULL_SPEED);
	while (ledger->acked[run] < FULL_SPEED)
		rig_run_ms(rig, 1);
	seconds = mono_to_s(mono_sub(mono_now(), begin));
	rig_reap(publisher, 0);
	if (with_subscriber) {
		check(rig_run(rig, &counting.events, FULL_SPEED, 60000));
		check_int(counting.missing + counting.repeated + counting.lost, 0);
	}
	bus_subscriber_free(subscriber);
	return FULL_SPEED / seconds;
}

static void open_ledger(const struct rig *rig)
{
	int fd;

	snprintf(ledger_path, sizeof(ledger_path), "%s/ledger", rig->directory);
	fd = open(ledger_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	check(fd >= 0 && ftruncate(fd, sizeof(*ledger)) == 0);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(ledger != MAP_FAILED);
	close(fd);
}

static void goal(const char *what, double value, double limit, bool at_least)
{
	bool met = at_least ? value >= limit : value <= limit;

	printf("goal B2: %s %.*f (%s %.*f) %s\n", what, at_least ? 0 : 2, value,
	    at_least ? ">=" : "<=", at_least ? 0 : 1, limit, met ? "met" : "missed");
}

int main(int argc, char **argv)
{
	double bare[ROUNDS], bus[ROUNDS], bare_rtt[ROUNDS], rpc_rtt[ROUNDS], p99[ROUNDS], alone,
	    taken;
	struct rig rig;

	self = argv[0];
	if (argc == 3 && strcmp(argv[1], "bare-sender") == 0)
		bare_sender(argv[2]);
	if (argc == 3 && strcmp(argv[1], "bare-echo") == 0)
		bare_echo(argv[2]);
	if (argc == 3 && strcmp(argv[1], "rpc-echo") == 0)
		return rpc_echo(argv[2]);
	if (argc != 3)
		return 2;
	publisher_path = argv[2];
	rig_open(&rig, argv[1], "");
	open_ledger(&rig);
	rig_start(&rig);
	rig_run_ms(&rig, 300);
	for (int i = 0; i < ROUNDS; i++) {
		bare[i] = bare_one_way(&rig);
		bus[i] = bus_one_way(&rig, 1 + i, &p99[i]);
		bare_rtt[i] = bare_request(&rig);
		rpc_rtt[i] = rpc_requests(&rig);
	}
	alone = full_speed(&rig, 100, false);
	taken = full_speed(&rig, 101, true);
	munmap(ledger, sizeof(*ledger));
	rig_close(&rig);
	printf("%-34s %10s\n", "medians of 5 rounds, in turns", "p50 us");
	printf("%-34s %10.0f\n", "one way, bare ZeroMQ", median(bare, ROUNDS));
	printf("%-34s %10.0f   p99 %.0f\n", "one way, through busd, logged", median(bus, ROUNDS),
	    median(p99, ROUNDS));
	printf("%-34s %10.0f\n", "request, bare DEALER/ROUTER", median(bare_rtt, ROUNDS));
	printf("%-34s %10.0f\n", "request, rpc", median(rpc_rtt, ROUNDS));
	printf("%-34s %10.0f\n", "logged events/s, no subscriber", alone);
	printf("%-34s %10.0f\n", "logged events/s, one subscriber", taken);
	goal("one way p50 / bare", median(bus, ROUNDS) / median(bare, ROUNDS), 2.5, false);
	goal("request p50 / bare", median(rpc_rtt, ROUNDS) / median(bare_rtt, ROUNDS), 1.2, false);
	goal("logged events/s", alone, 80000, true);
	return 0;
}
