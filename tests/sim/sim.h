/*
 * A seeded simulator of processes on hosts: virtual time, a network that loses, delays, doubles
 * and reorders, partitions, pauses, clocks of different rates, crashes between any two actions and
 * restarts.  It knows no protocol.  A program under test is a protocol core of a daemon (the same
 * object file) with a few lines around it that hand events in and carry actions out.
 *
 * Everything follows from the seed, so any failure replays; every dispatched event enters one
 * hash, so two runs can be compared; what a program says with sim_trace() is kept as lines that a
 * person can read, and these are what scenarios assert (cowsql/raft's fixtures, TigerBeetle's
 * VOPR).  Threads or real sockets under a fake clock were rejected: they do not replay.
 *
 *	struct sim *sim = sim_new(seed, hosts);
 *	unsigned p = sim_spawn(sim, host, "fdd", &program, context);
 *	sim_at(sim, mono_ms(5000), kill_n1, context);
 *	sim_run(sim, mono_ms(20000));
 *	check(sim_find(sim, 0, "n2/gossipd", "dead n1"));
 *	sim_free(sim);
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mono.h"
#include "common/rng.h"

struct sim;

enum sim_channel {
	/* Lost, doubled and reordered as the link says; lost when it is cut. */
	SIM_DATAGRAM,
	/* In order and not lost on the way, as ZeroMQ over TCP: loss becomes delay, a cut link holds
	 * it until healed.  What arrives at a process that is down is gone; one that came back in
	 * the meantime gets it (as a peer's queue does). */
	SIM_STREAM,
};

struct sim_message {
	unsigned from; /* process */
	unsigned kind; /* the sender's own tag */
	enum sim_channel channel;
	const void *data; /* the simulator's copy; valid during the call */
	size_t size;
	struct mono
	    arrived; /* receiver's clock, when the kernel got it (earlier than now after a pause) */
};

/*
 * What runs in a process.  Times are the host's own clock (sim_now).  Each callback may send,
 * schedule, trace, and crash others; it must call sim_act() before each action it carries out.
 */
struct sim_program {
	/* Starts it; returns its state.  What must survive a crash lives in the context. */
	void *(*boot)(struct sim *sim, unsigned process, void *context);
	/* Frees the state: the process has crashed or the run is over. */
	void (*halt)(void *state);
	void (*receive)(
	    struct sim *sim, unsigned process, void *state, const struct sim_message *message);
	/* The deadline has come.  Pending messages were delivered before it. */
	void (*timeout)(struct sim *sim, unsigned process, void *state);
	/* When to call timeout, on the host's clock; MONO_NEVER for not at all. */
	struct mono (*deadline)(void *state);
};

/* One direction between two hosts.  All zero is a perfect link without delay. */
struct sim_link {
	double loss; /* of each datagram by itself, in the good state */
	/* Gilbert-Elliott bursts: chance per datagram to enter and to leave the bad state, and the
	 * loss in it. */
	double burst_enter, burst_leave, burst_loss;
	struct mono delay;  /* least */
	struct mono jitter; /* mean of an exponential on top of it */
	double duplicate;   /* chance that a datagram arrives twice */
	double reorder;     /* chance that a datagram takes up to ten times the delay more */
	bool cut;
	bool bad; /* state of the burst model */
};

struct sim_line {
	struct mono at; /* true time */
	unsigned process;
	const char *who; /* "n3/gossipd" */
	const char *text;
};

/* hosts are numbered from 0 and named n1, n2, ...; each gets a clock with an offset of its own. */
struct sim *sim_new(uint64_t seed, unsigned hosts);
struct sim *sim_free(struct sim *sim);

/* Starts a process on a host at the present time; returns its number, counted from 0.  name and
 * context must outlive the run.  Not from within a callback of a program. */
unsigned sim_spawn(struct sim *sim, unsigned host, const char *name,
    const struct sim_program *program, void *context);
/* Runs until the true time given, or until an invariant fails. */
void sim_run(struct sim *sim, struct mono until);

/* ---- for programs */

/* The host's clock, as its process reads it. */
struct mono sim_now(const struct sim *sim, unsigned process);
/* To be asked before each action is carried out: false when the process has crashed at this
 * point (a fault set before), and then the callback returns at once. */
bool sim_act(struct sim *sim, unsigned process);
/* Sends a copy of size bytes.  Between processes of one host it always arrives, in order.  One to
 * a process that has not been spawned yet is lost. */
void sim_send(struct sim *sim, unsigned from, unsigned to, enum sim_channel channel, unsigned kind,
    const void *data, size_t size);
/* A readable line, with time and process put before it. */
void sim_trace(struct sim *sim, unsigned process, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- for scenarios; times are true times */

/* A line of the scenario's own in the trace: which fault begins. */
void sim_note(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct mono sim_time(const struct sim *sim);
struct rng *sim_rng(struct sim *sim);
unsigned sim_hosts(const struct sim *sim);
unsigned sim_processes(const struct sim *sim);
unsigned sim_host_of(const struct sim *sim, unsigned process);
bool sim_running(const struct sim *sim, unsigned process);
void *sim_state(const struct sim *sim, unsigned process); /* NULL when it is down */
const char *sim_name(const struct sim *sim, unsigned process);

/* Calls back at a time; for faults, workloads and checks in the middle. */
void sim_at(
    struct sim *sim, struct mono at, void (*call)(struct sim *sim, void *argument), void *argument);
/* The link from one host to another, to be changed at will; valid until the next call. */
struct sim_link *sim_link(struct sim *sim, unsigned from, unsigned to);
/* Sets all links between different hosts and heals what was cut. */
void sim_link_all(struct sim *sim, const struct sim_link *link);
/* Cuts or heals one direction, or both.  A partition cuts all links that cross the border of a set:
 * of the first 64 hosts, a bit each, or of a range. */
void sim_cut_one_way(struct sim *sim, unsigned from, unsigned to, bool cut);
void sim_cut(struct sim *sim, unsigned a, unsigned b, bool cut);
void sim_partition(struct sim *sim, uint64_t hosts);
void sim_partition_range(struct sim *sim, unsigned first, unsigned count);
bool sim_reaches(struct sim *sim, unsigned from, unsigned to);
void sim_heal(struct sim *sim);
/* kill -9: state gone, messages to it lost while it is down.  Context stays. */
void sim_crash(struct sim *sim, unsigned process);
void sim_crash_host(struct sim *sim, unsigned host);
/* Crashes a process in the middle: before the action number `actions` from now (0: the next). */
void sim_crash_in(struct sim *sim, unsigned process, unsigned actions);
void sim_boot(struct sim *sim, unsigned process);
void sim_boot_host(struct sim *sim, unsigned host);
/* SIGSTOP for a while: messages wait in its buffer and come before its timers afterwards. */
void sim_pause(struct sim *sim, unsigned process, struct mono length);
void sim_pause_host(struct sim *sim, unsigned host, struct mono length);
/* Rate of a host's clock from now on (1.01: one per cent fast). */
void sim_clock_rate(struct sim *sim, unsigned host, double rate);

/* Called after each step of a process; returns NULL or what is broken.  The first complaint ends
 * the run. */
void sim_invariant(struct sim *sim,
    const char *(*holds)(struct sim *sim, unsigned process, void *argument), void *argument);
/* What an invariant said, or NULL. */
const char *sim_broken(const struct sim *sim);

/* ---- the trace */

/* Forgets all but the last lines, so many at least; for long runs. */
void sim_keep(struct sim *sim, size_t lines);
/* Also prints each line as it is made. */
void sim_echo(struct sim *sim, bool echo);
size_t sim_lines(const struct sim *sim);
const struct sim_line *sim_line(const struct sim *sim, size_t index);
/* First line at or after index whose process name and text match the patterns (fnmatch; NULL for
 * any); NULL for none. */
const struct sim_line *sim_find(
    const struct sim *sim, size_t index, const char *who, const char *text);
/* First such line at or after a true time. */
const struct sim_line *sim_find_after(
    const struct sim *sim, struct mono at, const char *who, const char *text);
size_t sim_count(const struct sim *sim, const char *who, const char *text);
/* The last lines. */
void sim_print(const struct sim *sim, size_t tail);
/* Hash over every event dispatched so far. */
uint64_t sim_hash(const struct sim *sim);
uint64_t sim_events(const struct sim *sim);
uint64_t sim_bytes(const struct sim *sim); /* sent in datagrams between hosts */

/* ---- main of a scenario program */

/* A scenario builds, runs and judges one simulation: it returns NULL or its complaint, which may
 * come from sim_complain().  It leaves the simulation in *out, for sim_main to show and free. */
struct sim_scenario {
	const char *claim;
	const char *(*run)(uint64_t seed, struct sim **out);
	bool must_fail; /* the case that shows that the checks check: a complaint is the pass */
};

/* Formats a complaint that lives as long as the simulation. */
const char *sim_complain(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Runs all scenarios (TAP), each with the seed given by --seed N or the default one; --seeds N
 * for N seeds from there (soak), --only PATTERN (fnmatch, extended), --trace to print all lines kept.  On a failure
 * prints the trace's end, the complaint and the command line that replays it; exit code 1.
 */
int sim_main(int argc, char **argv, const struct sim_scenario *scenarios);

#endif
