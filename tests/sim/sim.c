/*
 * The event loop of the simulator: one heap of events ordered by true time, then messages before
 * calls before timers, then by age.  A process that is paused gets its events when it goes on;
 * sockets are thus drained before its timers are judged, as the shells do it.
 */
#include "tests/sim/sim.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/heap.h"
#include "tests/sim/sim-internal.h"

enum {
	LOCAL_NS = 20000,              /* between two processes of one host */
	RETRANSMIT_NS = 200 * 1000000, /* first of a stream after a loss, doubled each time */
	RETRY_NS = 200 * 1000000,      /* a stream looks again whether a cut has healed */
	BUFFER_MESSAGES = 2000,        /* what a paused process's socket holds */
	SPIN_LIMIT = 1000,             /* timeouts at one instant */
};

static const int64_t RETRANSMIT_MAX_NS = 10 * (int64_t)1000000000;

static void *need(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

/* ---- clocks */

static struct mono host_clock(const struct host *host, int64_t true_ns)
{
	int64_t run = true_ns - host->base_true;

	if (host->rate != 1)
		run = (int64_t)((double)run * host->rate);
	return mono_ns(host->base_local + run);
}

/* The first true time at which the host's clock shows at least local. */
static int64_t host_true(const struct host *host, struct mono local)
{
	int64_t ns;

	if (host->rate == 1)
		return host->base_true + (local.ns - host->base_local);
	ns = host->base_true + (int64_t)((double)(local.ns - host->base_local) / host->rate);
	while (host_clock(host, ns).ns < local.ns)
		ns++;
	return ns;
}

static void reset_timer(struct sim *sim, unsigned process)
{
	sim->processes[process].timer_at = INT64_MAX;
	sim_set_timer(sim, process);
}

void sim_clock_rate(struct sim *sim, unsigned host, double rate)
{
	struct host *h = &sim->hosts[host];

	h->base_local = host_clock(h, sim->now).ns;
	h->base_true = sim->now;
	h->rate = rate;
	for (unsigned i = 0; i < sim->process_count; i++) {
		if (sim->processes[i].host == host)
			reset_timer(sim, i);
	}
}

/* ---- life of a simulation */

struct sim *sim_new(uint64_t seed, unsigned hosts)
{
	struct sim *sim = need(calloc(1, sizeof(*sim)));

	rng_init(&sim->rng, rng_mix(seed, 1));
	rng_init(&sim->net, rng_mix(seed, 2));
	sim->hash = 14695981039346656037u;
	sim->links.value_size = sizeof(struct sim_link);
	sim->streams.value_size = sizeof(struct stream);
	sim->host_count = hosts;
	sim->hosts = need(calloc(hosts, sizeof(*sim->hosts)));
	for (unsigned i = 0; i < hosts; i++) {
		struct host *host = &sim->hosts[i];

		host->rate = 1;
		host->base_local = (int64_t)rng_below(&sim->rng, 1000000) * 1000000 + 1000000000;
	}
	return sim;
}

struct sim *sim_free(struct sim *sim)
{
	struct event event;

	if (!sim)
		return NULL;
	while (heap_pop(&sim->heap, &event)) {
		if (event.kind == EVENT_MESSAGE)
			free(event.data);
	}
	heap_fini(&sim->heap);
	for (unsigned i = 0; i < sim->process_count; i++) {
		struct process *process = &sim->processes[i];

		if (process->state)
			process->program->halt(process->state);
		free(process->who);
	}
	pairs_fini(&sim->links);
	pairs_fini(&sim->streams);
	sim_trace_fini(sim);
	free(sim->processes);
	free(sim->hosts);
	free(sim);
	return NULL;
}

/* ---- steps of a process */

/* Crashes take effect when no callback of the process is on the stack. */
static void settle(struct sim *sim, unsigned number)
{
	struct process *process = &sim->processes[number];

	if (!process->crashing || process->depth > 0)
		return;
	process->crashing = false;
	process->crash_set = false;
	process->program->halt(process->state);
	process->state = NULL;
	process->timer_at = INT64_MAX;
	process->waiting = 0;
	process->paused_until = 0;
	sim_trace(sim, number, "crashed");
}

/* What follows each step: crash if one is due, timer, invariants. */
static void after_step(struct sim *sim, unsigned number)
{
	struct process *process = &sim->processes[number];

	settle(sim, number);
	if (process->state)
		sim_set_timer(sim, number);
	for (unsigned i = 0; i < sim->invariant_count && !sim->broken; i++) {
		sim->broken = sim->invariants[i].holds(sim, number, sim->invariants[i].argument);
		if (sim->broken)
			sim_trace(sim, number, "BROKEN: %s", sim->broken);
	}
}

/* A timer event is lazy: an earlier one in the heap serves, since it asks again when it fires. */
void sim_set_timer(struct sim *sim, unsigned number)
{
	struct process *process = &sim->processes[number];
	struct mono deadline;
	int64_t at;

	if (!process->state || process->crashing)
		return;
	deadline = process->program->deadline(process->state);
	if (mono_is_never(deadline))
		return;
	at = host_true(&sim->hosts[process->host], deadline);
	if (at < sim->now)
		at = sim->now;
	if (at >= process->timer_at)
		return;
	process->timer_at = at;
	sim_push(sim, (struct event){.at = at,
			  .kind = EVENT_TIMER,
			  .to = number,
			  .generation = ++process->timer_generation});
}

void sim_boot(struct sim *sim, unsigned number)
{
	struct process *process = &sim->processes[number];

	assert(!process->state);
	sim_trace(sim, number, "boots");
	process->depth++;
	/* Crashing during boot is only told after it: there is no state to free before. */
	process->state = need(process->program->boot(sim, number, process->context));
	process->depth--;
	after_step(sim, number);
}

unsigned sim_spawn(struct sim *sim, unsigned host, const char *name,
    const struct sim_program *program, void *context)
{
	unsigned number = sim->process_count++;
	struct process *process;
	char who[64];

	assert(host < sim->host_count);
	sim->processes =
	    need(realloc(sim->processes, sim->process_count * sizeof(*sim->processes)));
	process = &sim->processes[number];
	*process = (struct process){
	    .host = host, .program = program, .context = context, .timer_at = INT64_MAX};
	snprintf(who, sizeof(who), "n%u/%s", host + 1, name);
	process->who = need(strdup(who));
	sim_boot(sim, number);
	return number;
}

static void fire_timer(struct sim *sim, const struct event *event)
{
	struct process *process = &sim->processes[event->to];

	if (!process->state || event->generation != process->timer_generation)
		return;
	process->timer_at = INT64_MAX;
	if (mono_due(process->program->deadline(process->state), sim_now(sim, event->to))) {
		process->spins = process->spun_at == sim->now ? process->spins + 1 : 0;
		process->spun_at = sim->now;
		if (process->spins > SPIN_LIMIT) {
			sim->broken = "a process spins: its deadline stays in the past";
			return;
		}
		process->depth++;
		process->program->timeout(sim, event->to, process->state);
		process->depth--;
	}
	after_step(sim, event->to);
}

static void deliver(struct sim *sim, const struct event *event)
{
	struct process *process = &sim->processes[event->to];
	struct sim_message message = {
	    .from = event->from,
	    .kind = event->tag,
	    .channel = event->channel,
	    .data = event->data,
	    .size = event->size,
	    .arrived = host_clock(&sim->hosts[process->host], event->arrived),
	};

	if (!process->state)
		return;
	process->depth++;
	process->program->receive(sim, event->to, process->state, &message);
	process->depth--;
	after_step(sim, event->to);
}

/* ---- dispatch */

/* FNV's step on words, with what it lacks there: high bits come down again. */
static void hash_word(struct sim *sim, uint64_t word)
{
	sim->hash = (sim->hash ^ word) * 1099511628211u;
	sim->hash ^= sim->hash >> 32;
}

static void hash_event(struct sim *sim, const struct event *event)
{
	const uint8_t *bytes = event->data;
	uint64_t word;

	hash_word(sim, (uint64_t)event->at);
	hash_word(sim, (uint64_t)event->kind << 32 | event->to);
	if (event->kind != EVENT_MESSAGE)
		return;
	hash_word(sim, (uint64_t)event->from << 32 | event->tag);
	for (size_t at = 0; at < event->size; at += sizeof(word)) {
		size_t left = event->size - at;

		word = 0;
		memcpy(&word, bytes + at, left < sizeof(word) ? left : sizeof(word));
		hash_word(sim, word);
	}
}

/* Puts an event of a paused process off until it goes on; false if it is not paused. */
static bool postpone(struct sim *sim, struct event *event)
{
	struct process *process = &sim->processes[event->to];

	if (event->kind == EVENT_CALL || !process->state || process->paused_until <= sim->now)
		return false;
	if (event->kind == EVENT_MESSAGE && !event->waited) {
		if (event->channel == SIM_DATAGRAM && process->waiting >= BUFFER_MESSAGES) {
			free(event->data);
			return true;
		}
		process->waiting++;
		event->waited = true;
	}
	event->at = process->paused_until;
	sim_push(sim, *event);
	return true;
}

static void dispatch(struct sim *sim, struct event *event)
{
	if (event->kind == EVENT_MESSAGE && !sim_stream_ready(sim, event))
		return;
	if (postpone(sim, event))
		return;
	hash_event(sim, event);
	sim->event_count++;
	switch (event->kind) {
	case EVENT_MESSAGE:
		if (event->waited && sim->processes[event->to].waiting > 0)
			sim->processes[event->to].waiting--;
		if (event->channel == SIM_STREAM)
			sim_stream(sim, event)->delivered++;
		deliver(sim, event);
		free(event->data);
		break;
	case EVENT_CALL:
		event->call(sim, event->argument);
		break;
	case EVENT_TIMER:
		fire_timer(sim, event);
		break;
	}
}

void sim_run(struct sim *sim, struct mono until)
{
	struct event event;

	while (!sim->broken && heap_next(&sim->heap) <= until.ns && heap_pop(&sim->heap, &event)) {
		sim->now = event.at;
		dispatch(sim, &event);
	}
	if (!sim->broken && sim->now < until.ns)
		sim->now = until.ns;
}

void sim_push(struct sim *sim, struct event event)
{
	event.order = sim->order++;
	if (!heap_push(&sim->heap, &event))
		abort();
}

void sim_at(
    struct sim *sim, struct mono at, void (*call)(struct sim *sim, void *argument), void *argument)
{
	sim_push(sim, (struct event){.at = at.ns < sim->now ? sim->now : at.ns,
			  .kind = EVENT_CALL,
			  .call = call,
			  .argument = argument});
}

/* ---- what programs ask */

struct mono sim_now(const struct sim *sim, unsigned process)
{
	return host_clock(&sim->hosts[sim->processes[process].host], sim->now);
}

bool sim_act(struct sim *sim, unsigned number)
{
	struct process *process = &sim->processes[number];

	if (process->crash_set && process->crash_in-- == 0)
		process->crashing = true;
	return !process->crashing;
}

/* ---- faults of processes */

void sim_crash(struct sim *sim, unsigned number)
{
	struct process *process = &sim->processes[number];

	if (!process->state && process->depth == 0)
		return;
	process->crashing = true;
	settle(sim, number);
}

void sim_crash_in(struct sim *sim, unsigned number, unsigned actions)
{
	sim->processes[number].crash_set = true;
	sim->processes[number].crash_in = actions;
}

void sim_pause(struct sim *sim, unsigned number, struct mono length)
{
	if (!sim->processes[number].state)
		return;
	sim_trace(sim, number, "pauses for %.1f s", mono_to_s(length));
	if (sim->processes[number].paused_until < sim->now + length.ns)
		sim->processes[number].paused_until = sim->now + length.ns;
}

void sim_crash_host(struct sim *sim, unsigned host)
{
	for (unsigned i = 0; i < sim->process_count; i++) {
		if (sim->processes[i].host == host)
			sim_crash(sim, i);
	}
}

void sim_boot_host(struct sim *sim, unsigned host)
{
	for (unsigned i = 0; i < sim->process_count; i++) {
		if (sim->processes[i].host == host && !sim->processes[i].state)
			sim_boot(sim, i);
	}
}

void sim_pause_host(struct sim *sim, unsigned host, struct mono length)
{
	for (unsigned i = 0; i < sim->process_count; i++) {
		if (sim->processes[i].host == host)
			sim_pause(sim, i, length);
	}
}

void sim_invariant(struct sim *sim,
    const char *(*holds)(struct sim *sim, unsigned process, void *argument), void *argument)
{
	assert(sim->invariant_count < INVARIANTS_MAX);
	sim->invariants[sim->invariant_count++] = (struct invariant){holds, argument};
}

/* ---- links */

/* As it is used: one that loses in bursts has a state of its own, any other may be the common one. */
static struct sim_link *link_of(struct sim *sim, unsigned from, unsigned to)
{
	struct sim_link *link = pairs_find(&sim->links, from, to);

	if (link)
		return link;
	return sim->common.burst_enter > 0 ? sim_link(sim, from, to) : &sim->common;
}

struct sim_link *sim_link(struct sim *sim, unsigned from, unsigned to)
{
	struct sim_link *link;

	assert(from < sim->host_count && to < sim->host_count);
	link = pairs_find(&sim->links, from, to);
	if (link)
		return link;
	link = need(pairs_get(&sim->links, from, to));
	*link = sim->common;
	return link;
}

bool sim_reaches(struct sim *sim, unsigned from, unsigned to)
{
	return sim->hosts[from].island == sim->hosts[to].island && !link_of(sim, from, to)->cut;
}

static void join_islands(struct sim *sim)
{
	for (unsigned i = 0; i < sim->host_count; i++)
		sim->hosts[i].island = 0;
}

void sim_link_all(struct sim *sim, const struct sim_link *link)
{
	pairs_clear(&sim->links);
	sim->common = *link;
	join_islands(sim);
}

void sim_cut_one_way(struct sim *sim, unsigned from, unsigned to, bool cut)
{
	sim_link(sim, from, to)->cut = cut;
}

void sim_cut(struct sim *sim, unsigned a, unsigned b, bool cut)
{
	sim_cut_one_way(sim, a, b, cut);
	sim_cut_one_way(sim, b, a, cut);
}

/* Islands add up: two hosts have the same number if no partition has ever parted them. */
void sim_partition(struct sim *sim, uint64_t hosts)
{
	uint64_t border = rng_mix(++sim->partitions, 0);

	for (unsigned i = 0; i < 64 && i < sim->host_count; i++)
		sim->hosts[i].island ^= hosts >> i & 1 ? border : 0;
}

void sim_partition_range(struct sim *sim, unsigned first, unsigned count)
{
	uint64_t border = rng_mix(++sim->partitions, 0);

	for (unsigned i = first; i < first + count && i < sim->host_count; i++)
		sim->hosts[i].island ^= border;
}

void sim_heal(struct sim *sim)
{
	for (size_t i = 0; i < sim->links.capacity; i++) {
		struct sim_link *link = pairs_at(&sim->links, i);

		if (link)
			link->cut = false;
	}
	sim->common.cut = false;
	join_islands(sim);
}

/* ---- network: what happens to one message */

/* Gilbert-Elliott: a chain of two states, moved once per datagram. */
static bool lost(struct sim *sim, struct sim_link *link)
{
	if (link->burst_enter > 0) {
		double leave = link->bad ? link->burst_leave : link->burst_enter;

		if (rng_chance(&sim->net, leave))
			link->bad = !link->bad;
	}
	return rng_chance(&sim->net, link->bad ? link->burst_loss : link->loss);
}

static int64_t travel(struct sim *sim, const struct sim_link *link)
{
	double ns = (double)link->delay.ns;

	if (link->jitter.ns > 0)
		ns += -log(1 - rng_unit(&sim->net)) * (double)link->jitter.ns;
	if (link->reorder > 0 && rng_chance(&sim->net, link->reorder))
		ns += rng_unit(&sim->net) * 10 * (double)(link->delay.ns + link->jitter.ns);
	return (int64_t)ns;
}

static void put(struct sim *sim, struct event event, int64_t after, const void *data)
{
	event.at = event.arrived = sim->now + after;
	event.data = NULL;
	if (event.size > 0) {
		event.data = need(malloc(event.size));
		memcpy(event.data, data, event.size);
	}
	sim_push(sim, event);
}

static void send_datagram(
    struct sim *sim, struct event event, struct sim_link *link, bool cut, const void *data)
{
	int copies = link->duplicate > 0 && rng_chance(&sim->net, link->duplicate) ? 2 : 1;

	sim->byte_count += event.size;
	if (lost(sim, link) || cut)
		return;
	while (copies-- > 0)
		put(sim, event, travel(sim, link), data);
}

struct stream *sim_stream(struct sim *sim, const struct event *event)
{
	return need(pairs_get(&sim->streams, event->from, event->to));
}

static void send_stream(
    struct sim *sim, struct event event, struct sim_link *link, const void *data)
{
	int64_t after = link ? travel(sim, link) : LOCAL_NS;
	struct stream *stream;

	for (int64_t wait = RETRANSMIT_NS; link && lost(sim, link) && wait < RETRANSMIT_MAX_NS;
	     wait *= 2)
		after += wait;
	stream = sim_stream(sim, &event);
	event.number = stream->sent++;
	if (stream->arrives < sim->now + after)
		stream->arrives = sim->now + after;
	put(sim, event, stream->arrives - sim->now, data);
}

void sim_send(struct sim *sim, unsigned from, unsigned to, enum sim_channel channel, unsigned kind,
    const void *data, size_t size)
{
	unsigned a = sim->processes[from].host, b;
	struct event event = {.kind = EVENT_MESSAGE,
	    .from = from,
	    .to = to,
	    .tag = kind,
	    .channel = channel,
	    .size = size};

	if (sim->processes[from].crashing || to >= sim->process_count)
		return;
	b = sim->processes[to].host;
	if (channel == SIM_STREAM)
		send_stream(sim, event, a == b ? NULL : link_of(sim, a, b), data);
	else if (a == b)
		put(sim, event, LOCAL_NS, data);
	else
		send_datagram(sim, event, link_of(sim, a, b), !sim_reaches(sim, a, b), data);
}

/*
 * A message of a stream may go on when the link is whole and all before it have; otherwise it is
 * put back, and false.
 */
bool sim_stream_ready(struct sim *sim, struct event *event)
{
	unsigned a = sim->processes[event->from].host, b = sim->processes[event->to].host;

	if (event->channel != SIM_STREAM)
		return true;
	if (event->number == sim_stream(sim, event)->delivered &&
	    (a == b || sim_reaches(sim, a, b)))
		return true;
	/* All that wait look again at the same instants, so they keep their order. */
	event->at = event->arrived = (sim->now / RETRY_NS + 1) * RETRY_NS;
	sim_push(sim, *event);
	return false;
}

/* ---- what scenarios ask */

struct mono sim_time(const struct sim *sim)
{
	return mono_ns(sim->now);
}

struct rng *sim_rng(struct sim *sim)
{
	return &sim->rng;
}

unsigned sim_hosts(const struct sim *sim)
{
	return sim->host_count;
}

unsigned sim_processes(const struct sim *sim)
{
	return sim->process_count;
}

unsigned sim_host_of(const struct sim *sim, unsigned process)
{
	return sim->processes[process].host;
}

bool sim_running(const struct sim *sim, unsigned process)
{
	return sim->processes[process].state != NULL;
}

void *sim_state(const struct sim *sim, unsigned process)
{
	return sim->processes[process].state;
}

const char *sim_name(const struct sim *sim, unsigned process)
{
	return sim->processes[process].who;
}

const char *sim_broken(const struct sim *sim)
{
	return sim->broken;
}

uint64_t sim_hash(const struct sim *sim)
{
	return sim->hash;
}

uint64_t sim_events(const struct sim *sim)
{
	return sim->event_count;
}

uint64_t sim_bytes(const struct sim *sim)
{
	return sim->byte_count;
}
