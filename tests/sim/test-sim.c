/*
 * The simulator keeps its own promises.  The program under test sends a numbered message to the
 * next process each 100 ms and notes what it gets.
 */
#include "tests/sim/sim.h"

#include "common/test.h"

enum {
	PING_MS = 100,
};

struct pinger {
	struct mono next;
	unsigned peer;
	enum sim_channel channel;
	uint32_t sent, got, last, out_of_order, pings_at_timeout;
	struct mono delay_worst;
};

struct setup {
	unsigned peer;
	enum sim_channel channel;
};

static void *pinger_boot(struct sim *sim, unsigned process, void *context)
{
	const struct setup *setup = context;
	struct pinger *pinger = calloc(1, sizeof(*pinger));

	pinger->next = mono_add_ms(sim_now(sim, process), PING_MS);
	pinger->peer = setup->peer;
	pinger->channel = setup->channel;
	return pinger;
}

static void pinger_receive(
    struct sim *sim, unsigned process, void *state, const struct sim_message *message)
{
	struct pinger *pinger = state;
	uint32_t number;

	check_int(message->size, sizeof(number));
	memcpy(&number, message->data, sizeof(number));
	if (number < pinger->last)
		pinger->out_of_order++;
	pinger->last = number;
	pinger->got++;
	sim_trace(sim, process, "got %u", number);
}

static void pinger_timeout(struct sim *sim, unsigned process, void *state)
{
	struct pinger *pinger = state;

	pinger->next = mono_add_ms(pinger->next, PING_MS);
	pinger->pings_at_timeout = pinger->got;
	if (!sim_act(sim, process))
		return;
	pinger->sent++;
	sim_send(
	    sim, process, pinger->peer, pinger->channel, 0, &pinger->sent, sizeof(pinger->sent));
	if (!sim_act(sim, process))
		return;
	sim_trace(sim, process, "second action");
}

static struct mono pinger_deadline(void *state)
{
	return ((struct pinger *)state)->next;
}

static const struct sim_program pinger_program = {
    .boot = pinger_boot,
    .halt = free,
    .receive = pinger_receive,
    .timeout = pinger_timeout,
    .deadline = pinger_deadline,
};

static struct setup to_second = {1, SIM_DATAGRAM}, to_first = {0, SIM_DATAGRAM};
static struct setup stream_to_second = {1, SIM_STREAM}, stream_to_first = {0, SIM_STREAM};

/* Two hosts that ping each other. */
static struct sim *two(uint64_t seed, enum sim_channel channel)
{
	struct sim *sim = sim_new(seed, 2);

	sim_spawn(sim, 0, "ping", &pinger_program,
	    channel == SIM_STREAM ? &stream_to_second : &to_second);
	sim_spawn(
	    sim, 1, "ping", &pinger_program, channel == SIM_STREAM ? &stream_to_first : &to_first);
	return sim;
}

static const struct pinger *second(struct sim *sim)
{
	return sim_state(sim, 1);
}

static const struct sim_link rough = {
    .loss = 0.2, .delay = {1000000}, .jitter = {1000000}, .duplicate = 0.05, .reorder = 0.1};

static uint64_t hash_of(uint64_t seed)
{
	struct sim *sim = two(seed, SIM_DATAGRAM);
	uint64_t hash;

	sim_link_all(sim, &rough);
	sim_run(sim, mono_ms(60000));
	hash = sim_hash(sim);
	sim_free(sim);
	return hash;
}

static void the_same_seed_gives_the_same_trace(void)
{
	check(hash_of(5) == hash_of(5));
	check(hash_of(5) != hash_of(6));
}

static void datagrams_are_lost_as_often_as_the_link_says(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);
	struct sim_link link = {.loss = 0.2};

	sim_link_all(sim, &link);
	sim_run(sim, mono_ms(2000000));
	check_range(second(sim)->got, 15700, 16300);
	sim_free(sim);
}

static void bursts_lose_in_runs(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);
	struct sim_link link = {.burst_enter = 0.01, .burst_leave = 0.1, .burst_loss = 1};

	sim_link_all(sim, &link);
	sim_run(sim, mono_ms(2000000));
	/* A share of 0.01 / 0.11 of the time in the bad state. */
	check_range(second(sim)->got, 17500, 18800);
	sim_free(sim);
}

static void streams_lose_nothing_and_keep_their_order(void)
{
	struct sim *sim = two(1, SIM_STREAM);

	sim_link_all(sim, &rough);
	sim_run(sim, mono_ms(1000));
	sim_cut(sim, 0, 1, true);
	sim_run(sim, mono_ms(5000));
	check_range(second(sim)->got, 0, 12);
	sim_heal(sim);
	sim_run(sim, mono_ms(60000));
	check_range(second(sim)->got, 570, 600);
	check_int(second(sim)->out_of_order, 0);
	check_int(second(sim)->last, second(sim)->got);
	sim_free(sim);
}

static void a_one_way_cut_leaves_the_other_direction(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);

	sim_cut_one_way(sim, 0, 1, true);
	sim_run(sim, mono_ms(5050));
	check_int(second(sim)->got, 0);
	check_int(((struct pinger *)sim_state(sim, 0))->got, 50);
	sim_free(sim);
}

static void a_partition_cuts_only_across_its_border(void)
{
	struct sim *sim = sim_new(1, 3);

	sim_partition(sim, 1 << 2);
	check(sim_reaches(sim, 0, 1));
	check(!sim_reaches(sim, 0, 2) && !sim_reaches(sim, 2, 1));
	sim_free(sim);
}

static void a_paused_process_gets_its_messages_before_its_timer(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);

	sim_run(sim, mono_ms(1050));
	sim_pause(sim, 1, mono_ms(5000));
	sim_run(sim, mono_ms(6000));
	check_int(second(sim)->got, 10);
	/* At the first timeout after the pause all that waited has been read. */
	sim_run(sim, mono_ms(6050));
	check_int(second(sim)->pings_at_timeout, 60);
	sim_free(sim);
}

static void a_crash_falls_between_two_actions(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);

	sim_run(sim, mono_ms(1050));
	check_int(sim_count(sim, "n1/*", "second action"), 10);
	sim_crash_in(sim, 0, 1);
	sim_run(sim, mono_ms(2050));
	check(!sim_running(sim, 0));
	check_int(sim_count(sim, "n1/*", "second action"), 10);
	check_int(second(sim)->got, 11);
	sim_boot(sim, 0);
	sim_run(sim, mono_ms(3050));
	check_int(second(sim)->got, 21);
	sim_free(sim);
}

static void a_fast_clock_times_out_more_often(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);

	sim_clock_rate(sim, 0, 1.01);
	sim_run(sim, mono_ms(1000000));
	check_range(second(sim)->got, 10095, 10101);
	check_range(((struct pinger *)sim_state(sim, 0))->got, 9995, 10000);
	sim_free(sim);
}

static const char *never_above_ten(struct sim *sim, unsigned process, void *argument)
{
	const struct pinger *pinger = sim_state(sim, process);

	(void)argument;
	return pinger && pinger->got > 10 ? "more than ten" : NULL;
}

static void a_broken_invariant_stops_the_run_where_it_broke(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);

	sim_invariant(sim, never_above_ten, NULL);
	sim_run(sim, mono_ms(60000));
	check_str(sim_broken(sim), "more than ten");
	check_range(mono_to_ms(sim_time(sim)), 1100, 1101);
	sim_free(sim);
}

static void lines_are_found_by_pattern_and_time(void)
{
	struct sim *sim = two(1, SIM_DATAGRAM);
	const struct sim_line *line;

	sim_run(sim, mono_ms(5000));
	line = sim_find_after(sim, mono_ms(2000), "n2/*", "got *");
	check(line != NULL);
	check_range(mono_to_ms(line->at), 2000, 2101);
	check_str(line->who, "n2/ping");
	check(!sim_find(sim, 0, "n3/*", NULL));
	sim_free(sim);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(the_same_seed_gives_the_same_trace),
	    TEST(datagrams_are_lost_as_often_as_the_link_says),
	    TEST(bursts_lose_in_runs),
	    TEST(streams_lose_nothing_and_keep_their_order),
	    TEST(a_one_way_cut_leaves_the_other_direction),
	    TEST(a_partition_cuts_only_across_its_border),
	    TEST(a_paused_process_gets_its_messages_before_its_timer),
	    TEST(a_crash_falls_between_two_actions),
	    TEST(a_fast_clock_times_out_more_often),
	    TEST(a_broken_invariant_stops_the_run_where_it_broke),
	    TEST(lines_are_found_by_pattern_and_time),
	    {0},
	});
}
