/* busd as a process, killed and abused.  Usage: test-bus BUSD BUS-PUBLISHER [KILLS [kills]] */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/rng.h"
#include "common/rpc.h"
#include "common/test.h"
#include "proto/busd.h"
#include "proto/common.h"
#include "tests/system/counting.h"
#include "tests/system/ledger.h"
#include "tests/system/rig.h"

#define RATE "2000"
#define PATIENCE_MS 60000 /* the longest wait for what must come */

static const char *busd_path, *publisher_path;
static int kills = 100;
static struct ledger *ledger;
static char ledger_path[128];

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

static void begin(struct rig *rig, const char *section)
{
	rig_open(rig, busd_path, section);
	open_ledger(rig);
	rig_start(rig);
}

static void end(struct rig *rig)
{
	munmap(ledger, sizeof(*ledger));
	rig_close(rig);
}

/* count: 0 for ever. */
static pid_t start_publisher(const struct rig *rig, int run, const char *rate, uint64_t count)
{
	char run_text[24], count_text[24];

	snprintf(run_text, sizeof(run_text), "%d", run);
	snprintf(count_text, sizeof(count_text), "%ju", (uintmax_t)count);
	return rig_spawn((char *[]){(char *)publisher_path, (char *)rig->run_dir, run_text,
	    (char *)rate, ledger_path, count_text, NULL});
}

static struct bus_subscriber *subscribe(
    struct rig *rig, struct bus_position since, struct counting *counting)
{
	struct bus_subscriber *subscriber;

	*counting = (struct counting){0};
	check_int(bus_subscriber_new(&subscriber, rig->zmq, rig->loop, rig->run_dir, since,
		      counting_event, counting_lost, counting),
	    0);
	return subscriber;
}

static void check_nothing_wrong(const struct counting *counting)
{
	check_int(counting->missing, 0);
	check_int(counting->repeated, 0);
	check_int(counting->lost, 0);
}

/*
 * Goal B1.  Half of the kills hit busd, half the publisher.  A publisher that lives stands behind all that it
 * told; of one that was killed everything that was acknowledged must be there, and what else is there
 * follows without a hole.
 */
static void no_event_is_lost_or_doubled_by_kills(void)
{
	static struct counting counting;
	struct bus_subscriber *subscriber;
	struct mono busd_gap = MONO_ZERO, publisher_gap = MONO_ZERO;
	uint64_t total = 0;
	struct rig rig;
	struct rng rng;
	pid_t publisher;
	int run = 1;

	rng_init(&rng, 1);
	begin(&rig, "");
	subscriber = subscribe(&rig, (struct bus_position){0, 0}, &counting);
	publisher = start_publisher(&rig, run, RATE, 0);
	check(rig_run(&rig, &counting.events, 500, PATIENCE_MS));
	for (int i = 0; i < kills; i++) {
		struct mono *gap = i % 2 ? &publisher_gap : &busd_gap;

		counting.longest_gap = MONO_ZERO;
		if (i % 2) {
			rig_reap(publisher, SIGKILL);
			publisher = start_publisher(&rig, ++run, RATE, 0);
		} else {
			rig_kill(&rig);
			rig_start(&rig);
		}
		check(rig_run(&rig, &counting.events, counting.events + 50, PATIENCE_MS));
		rig_run_ms(&rig, 100 + (int64_t)rng_below(&rng, 100));
		if (mono_before(*gap, counting.longest_gap))
			*gap = counting.longest_gap;
	}
	rig_reap(publisher, SIGKILL);
	check(rig_run(&rig, &counting.last[run], ledger->acked[run], PATIENCE_MS));
	rig_run_ms(&rig, 300);
	for (int i = 1; i <= run; i++) {
		check(counting.last[i] >= ledger->acked[i]);
		check(counting.last[i] <= ledger->published[i]);
		total += ledger->acked[i];
	}
	check_nothing_wrong(&counting);
	printf(
	    "# B1: kills %d, events acknowledged %ju, received %ju, lost %ju, repeated %ju, longest gap "
	    "%.0f ms (busd killed), %.0f ms (publisher killed)\n",
	    kills, (uintmax_t)total, (uintmax_t)counting.events, (uintmax_t)counting.missing,
	    (uintmax_t)counting.repeated, mono_to_s(busd_gap) * 1e3,
	    mono_to_s(publisher_gap) * 1e3);
	bus_subscriber_free(subscriber);
	end(&rig);
}

static void a_late_joiner_gets_the_whole_log_and_then_what_comes(void)
{
	static struct counting counting;
	struct bus_subscriber *subscriber;
	struct bus_position position;
	struct rig rig;

	begin(&rig, "");
	rig_reap(start_publisher(&rig, 1, "0", 20000), 0);
	subscriber = subscribe(&rig, (struct bus_position){0, 0}, &counting);
	rig_reap(start_publisher(&rig, 2, "0", 20000), 0);
	check(rig_run(&rig, &counting.events, 40000, PATIENCE_MS));
	check_nothing_wrong(&counting);
	position = bus_subscriber_position(subscriber);
	check_int(position.seq, 40000);
	bus_subscriber_free(subscriber);
	position.seq -= 10; /* and from a position in the middle */
	subscriber = subscribe(&rig, position, &counting);
	counting.last[2] = 19990;
	check(rig_run(&rig, &counting.events, 10, PATIENCE_MS));
	rig_run_ms(&rig, 100);
	check_int(counting.events, 10);
	check_nothing_wrong(&counting);
	bus_subscriber_free(subscriber);
	end(&rig);
}

static void a_subscriber_from_now_on_gets_no_old_events(void)
{
	static struct counting counting;
	struct bus_subscriber *subscriber;
	struct rig rig;

	begin(&rig, "");
	rig_reap(start_publisher(&rig, 1, "0", 100), 0);
	subscriber = subscribe(&rig, BUS_FROM_NOW, &counting);
	for (int i = 0; bus_subscriber_position(subscriber).seq != 100 && i < PATIENCE_MS / 10; i++)
		rig_run_ms(&rig, 10);
	check_int(bus_subscriber_position(subscriber).seq, 100); /* now is behind those */
	rig_reap(start_publisher(&rig, 2, "0", 100), 0);
	check(rig_run(&rig, &counting.events, 100, PATIENCE_MS));
	check_int(counting.last[1], 0);
	check_nothing_wrong(&counting);
	bus_subscriber_free(subscriber);
	end(&rig);
}

static void a_slow_subscriber_costs_busd_nothing_and_loses_nothing(void)
{
	enum { COUNT = 300000 };
	static struct counting counting;
	struct bus_subscriber *subscriber;
	struct rig rig;
	long before;

	begin(&rig, "");
	subscriber = subscribe(&rig, (struct bus_position){0, 0}, &counting);
	rig_reap(start_publisher(&rig, 1, "0", 100), 0);
	check(rig_run(&rig, &counting.events, 100, PATIENCE_MS));
	before = rig_busd_kib(&rig);
	rig_reap(start_publisher(&rig, 2, "0", COUNT), 0); /* meanwhile our loop stands still */
	check_range(rig_busd_kib(&rig) - before, -1000, (12 << 10) + rig_kept_kib());
	check(rig_run(&rig, &counting.events, 100 + COUNT, PATIENCE_MS));
	check_int(counting.last[2], COUNT);
	check_nothing_wrong(&counting);
	bus_subscriber_free(subscriber);
	end(&rig);
}

static void what_is_no_longer_in_the_log_is_told_as_lost(void)
{
	static struct counting counting;
	struct bus_subscriber *subscriber;
	struct bus_position first;
	struct rig rig;

	begin(&rig, "log_mb = 2\nsegment_mb = 1\n");
	subscriber = subscribe(&rig, (struct bus_position){0, 0}, &counting);
	rig_reap(start_publisher(&rig, 1, "0", 1), 0);
	check(rig_run(&rig, &counting.events, 1, PATIENCE_MS));
	first = bus_subscriber_position(subscriber);
	bus_subscriber_free(subscriber);
	rig_reap(start_publisher(&rig, 2, "0", 50000), 0);
	subscriber = subscribe(&rig, first, &counting);
	while (counting.last[2] < 50000)
		check(rig_run(&rig, &counting.events, counting.events + 1, PATIENCE_MS));
	check(counting.lost > 0);
	check_int(counting.lost + counting.events, 50000);
	check_int(counting.repeated, 0);
	bus_subscriber_free(subscriber);
	end(&rig);
}

static void events_wait_while_busd_is_away_and_a_loss_is_told(void)
{
	static struct counting counting;
	struct bus_subscriber *subscriber;
	struct bus_publisher *publisher;
	struct rig rig;

	begin(&rig, "");
	rig_run_ms(&rig, 100);
	rig_kill(&rig);
	check_int(bus_publisher_new(&publisher, rig.zmq, rig.loop, rig.run_dir, "test", "n1"), 0);
	for (int i = 0; i < 1000; i++)
		check_int(bus_publish(publisher, "test.other", "\x80", 1), 0);
	check_int(bus_publisher_pending(publisher), 1000);
	subscriber = subscribe(&rig, (struct bus_position){0, 0}, &counting);
	rig_start(&rig);
	check(rig_run(&rig, &counting.others, 1000, PATIENCE_MS));
	for (int i = 0; bus_publisher_pending(publisher) > 0 && i < PATIENCE_MS / 10; i++)
		rig_run_ms(&rig, 10);
	check_int(bus_publisher_pending(publisher), 0);
	rig_kill(&rig);
	for (int i = 0; i < 10000; i++)
		check_int(bus_publish(publisher, "test.other", "\x80", 1), 0);
	check_int(bus_publisher_pending(publisher), 8192);
	counting.others = 0;
	rig_start(&rig);
	check(rig_run(&rig, &counting.others, 8192 + 1, PATIENCE_MS)); /* one is bus.lost */
	rig_run_ms(&rig, 100);
	check_int(counting.others, 8192 + 1);
	bus_publisher_free(publisher);
	bus_subscriber_free(subscriber);
	end(&rig);
}

static void another_node_hears_the_stream_over_curve(void)
{
	char endpoint[64];
	struct zframes frames;
	struct rig rig;
	void *sub;
	int ticks = 0;

	begin(&rig, "");
	zsock_tcp_endpoint(endpoint, sizeof(endpoint), "127.0.0.1", rig.port + PORT_EVENTS);
	check_int(zsock_new(&sub, rig.zmq,
		      &(struct zsock_options){
			  .type = ZMQ_SUB, .connect = endpoint, .server_key = rig.keys.public_key}),
	    0);
	check_int(zsock_subscribe(sub, "bus."), 0);
	for (int i = 0; ticks == 0 && i < PATIENCE_MS / 10; i++) {
		rig_run_ms(&rig, 10);
		while (zsock_recv(sub, &frames) == 0) {
			check_int(frames.count, 3);
			zframes_fini(&frames);
			ticks++;
		}
	}
	check(ticks > 0);
	zsock_free(sub);
	end(&rig);
}

/* --- bad input --- */

/* A DEALER, SUB or raw connection that says things busd does not expect. */
static void send_frames(void *socket, struct rng *rng, const struct zpart *good, size_t count)
{
	uint8_t junk[8][2048];
	struct zpart parts[12];
	size_t n = count;

	for (size_t i = 0; i < count; i++) {
		size_t size = good[i].size < sizeof(junk[i]) ? good[i].size : sizeof(junk[i]);

		memcpy(junk[i], good[i].data, size);
		switch (rng_below(rng, 5)) {
		case 0: /* truncated */
			size = rng_below(rng, size + 1);
			break;
		case 1: /* one byte changed */
			if (size)
				junk[i][rng_below(rng, size)] = (uint8_t)rng_u64(rng);
			break;
		case 2: /* random */
			size = rng_below(rng, sizeof(junk[i]));
			for (size_t k = 0; k < size; k++)
				junk[i][k] = (uint8_t)rng_u64(rng);
			break;
		}
		parts[i] = (struct zpart){junk[i], size};
	}
	if (rng_below(rng, 4) == 0)
		n = 1 + rng_below(rng, 11);
	for (size_t i = count; i < n; i++)
		parts[i] = (struct zpart){"x", 1};
	(void)zsock_send(socket, parts, n);
}

static void raw_junk(const struct rig *rig, const char *name, struct rng *rng)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint8_t bytes[4096];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%.70s/%.20s", rig->run_dir, name);
	check(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)rng_u64(rng);
	(void)send(fd, bytes, rng_below(rng, sizeof(bytes)), MSG_NOSIGNAL);
	close(fd);
}

/* What a busd that waits for the processor has not taken when its connection ends is lost unseen. */
static bool much_is_refused(struct rig *rig)
{
	return rig_stat(rig, "messages_refused") > 500 && rig_stat(rig, "requests_refused") > 500;
}

static void junk_is_counted_and_changes_nothing(void)
{
	static const char *const names[] = {"busd.in", "busd.rpc", "busd.pub"};
	static const int types[] = {ZMQ_DEALER, ZMQ_DEALER, ZMQ_SUB};
	_cleanup_buf_ struct buf header = {0}, request = {0}, replay = {0};
	static struct counting counting;
	struct bus_subscriber *subscriber;
	struct rig rig;
	struct rng rng;
	pid_t publisher;
	long before;

	rng_init(&rng, 7);
	begin(&rig, "");
	subscriber = subscribe(&rig, (struct bus_position){0, 0}, &counting);
	publisher = start_publisher(&rig, 1, RATE, 0);
	check(rig_run(&rig, &counting.events, 100, PATIENCE_MS));
	check_int(
	    msg_bus_header_pack(
		&(struct msg_bus_header){.node = "n1", .source = "junk", .boot = 5, .number = 3},
		&header),
	    0);
	check_int(
	    msg_rpc_request_pack(
		&(struct msg_rpc_request){.name = MSG_BUSD_REPLAY, .id = 1, .timeout_ms = 100},
		&request),
	    0);
	check_int(msg_busd_replay_pack(&(struct msg_busd_replay){.limit = 3}, &replay), 0);
	before = rig_busd_kib(&rig);
	for (int round = 0; round < 30 || (round < 1000 && !much_is_refused(&rig)); round++) {
		for (int which = 0; which < 3; which++) {
			const struct zpart event[] = {
			    {"test.junk", 9}, {header.data, header.size}, {"\x81\xa1x\x01", 4}};
			const struct zpart ask[] = {
			    {request.data, request.size}, {replay.data, replay.size}};
			char endpoint[128];
			void *socket;

			snprintf(
			    endpoint, sizeof(endpoint), "ipc://%s/%s", rig.run_dir, names[which]);
			check_int(
			    zsock_new(&socket, rig.zmq,
				&(struct zsock_options){.type = types[which], .connect = endpoint}),
			    0);
			for (int i = 0; i < 100; i++) {
				if (which == 0)
					send_frames(socket, &rng, event, 3);
				else if (which == 1)
					send_frames(socket, &rng, ask, 2);
				else
					(void)zsock_subscribe(socket, "x");
			}
			raw_junk(&rig, names[which], &rng);
			rig_run_ms(&rig, 3);
			zsock_free(socket);
		}
	}
	check(much_is_refused(&rig));
	check_range(rig_busd_kib(&rig) - before, -2000, 4096 + rig_kept_kib());
	check(rig_run(&rig, &counting.events, counting.events + 100, PATIENCE_MS));
	check_nothing_wrong(&counting);
	rig_reap(publisher, SIGKILL);
	bus_subscriber_free(subscriber);
	end(&rig);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	busd_path = argv[1];
	publisher_path = argv[2];
	if (argc > 3)
		kills = (int)strtol(argv[3], NULL, 10);
	return test_main((struct test[]){
	    TEST(a_subscriber_from_now_on_gets_no_old_events),
	    TEST(a_late_joiner_gets_the_whole_log_and_then_what_comes),
	    TEST(events_wait_while_busd_is_away_and_a_loss_is_told),
	    TEST(what_is_no_longer_in_the_log_is_told_as_lost),
	    TEST(a_slow_subscriber_costs_busd_nothing_and_loses_nothing),
	    TEST(another_node_hears_the_stream_over_curve),
	    TEST(junk_is_counted_and_changes_nothing),
	    TEST(no_event_is_lost_or_doubled_by_kills),
	    {0},
	});
}
