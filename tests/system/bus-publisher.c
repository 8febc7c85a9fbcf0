/*
 * A publisher to be killed: RUN_DIR RUN RATE LEDGER.  Publishes test.count {run, n} at RATE events a second (0: as
 * fast as busd takes them) and writes into LEDGER, which outlives it, how many it published and how many are
 * acknowledged.  With a COUNT as fifth argument it ends when so many are acknowledged.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/bus.h"
#include "common/mono.h"
#include "common/pack.h"
#include "tests/system/ledger.h"

#define BURST 64
#define AHEAD 1024 /* events kept at full speed */

static int publish(struct bus_publisher *publisher, uint64_t run, uint64_t n)
{
	static struct buf body;

	buf_clear(&body);
	if (pack_map(&body, 3) < 0 || pack_str(&body, "run") < 0 || pack_u64(&body, run) < 0 ||
	    pack_str(&body, "n") < 0 || pack_u64(&body, n) < 0 || pack_str(&body, "t") < 0 ||
	    pack_i64(&body, mono_now().ns) < 0)
		return -ENOMEM;
	return bus_publish(publisher, "test.count", body.data, body.size);
}

/* How many should have been told by now. */
static uint64_t due(struct mono start, uint64_t rate, uint64_t acked, uint64_t count)
{
	uint64_t n = rate ? (uint64_t)(mono_to_s(mono_sub(mono_now(), start)) * (double)rate)
			  : acked + AHEAD;

	return count && n > count ? count : n;
}

int main(int argc, char **argv)
{
	struct bus_publisher *publisher;
	struct zcontext *context;
	struct ledger *ledger;
	sd_event *loop;
	uint64_t run, rate, count;
	struct mono start;
	int fd, r = -EINVAL;

	if (argc < 5 || sodium_init() < 0)
		return 2;
	run = strtoull(argv[2], NULL, 10);
	rate = strtoull(argv[3], NULL, 10);
	count = argc > 5 ? strtoull(argv[5], NULL, 10) : 0;
	fd = open(argv[4], O_RDWR | O_CLOEXEC);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ledger == MAP_FAILED || sd_event_new(&loop) < 0 ||
	    zcontext_new(&context, loop, NULL, NULL) < 0 ||
	    (r = bus_publisher_new(&publisher, context, loop, argv[1], "test", "n1")) < 0) {
		fprintf(stderr, "bus-publisher: start: %s\n", strerror(-r));
		return 1;
	}
	start = mono_now();
	while (!count || ledger->acked[run] < count) {
		uint64_t until = due(start, rate, ledger->acked[run], count);

		for (int i = 0; i < BURST && ledger->published[run] < until; i++)
			if (publish(publisher, run, ++ledger->published[run]) < 0)
				return 1;
		sd_event_run(loop, ledger->published[run] < until ? 0 : 500);
		ledger->acked[run] = ledger->published[run] - bus_publisher_pending(publisher);
	}
	bus_publisher_free(publisher);
	zcontext_free(context);
	sd_event_unref(loop);
	return 0;
}
