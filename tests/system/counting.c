#include "tests/system/counting.h"

#include "common/mpr.h"
#include "common/test.h"

static void read_body(const struct bus_event *event, uint64_t *run, uint64_t *n, int64_t *sent_ns)
{
	struct mpr reader;
	uint32_t entries, length;
	const char *key;

	mpr_init(&reader, event->body, event->size, NULL);
	check_int(mpr_map(&reader, &entries), 0);
	while (entries-- > 0) {
		check_int(mpr_str(&reader, &key, &length), 0);
		if (mpr_is(key, length, "run"))
			check_int(mpr_u64(&reader, run), 0);
		else if (mpr_is(key, length, "n"))
			check_int(mpr_u64(&reader, n), 0);
		else
			check_int(mpr_i64(&reader, sent_ns), 0);
	}
}

static void note_time(struct counting *counting, int64_t sent_ns)
{
	struct mono now = mono_now();

	if (counting->latency_count < counting->latency_max)
		counting->latency_ns[counting->latency_count++] = now.ns - sent_ns;
	if (counting->last_arrival.ns) {
		struct mono gap = mono_sub(now, counting->last_arrival);

		if (mono_before(counting->longest_gap, gap))
			counting->longest_gap = gap;
	}
	counting->last_arrival = now;
}

void counting_event(void *userdata, const struct bus_event *event)
{
	struct counting *counting = userdata;
	uint64_t run = 0, n = 0;
	int64_t sent_ns = 0;

	if (strcmp(event->topic, "test.count") != 0) {
		counting->others++;
		return;
	}
	read_body(event, &run, &n, &sent_ns);
	check(run < RUNS_MAX);
	if (n <= counting->last[run])
		counting->repeated++;
	else
		counting->missing += n - counting->last[run] - 1;
	counting->last[run] = n;
	counting->events++;
	note_time(counting, sent_ns);
}

void counting_lost(void *userdata, uint64_t count)
{
	struct counting *counting = userdata;

	counting->lost += count ? count : 1;
}
