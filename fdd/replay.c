/*
 * Each arrival is a step at its own time of arrival, each TIMEOUT one at its deadline: what the daemon
 * does late by the time that the kernel takes to wake it, happens here on the dot.
 *
 * A stall must be a stall for the core too, so that it excuses the same silence.  The core finds stalls
 * by a deadline that it missed; the replay gives it one at the beginning of each: a registration whose
 * first value is due at once.
 */
#include "fdd/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char first_line[] = "# depsys-arrivals 1";
enum { OBSERVER = 1, SUBJECT = 2, REGISTRATION = 1 };

/* --- reading --- */

static const char *append(struct replay_log *log, const struct fdd_arrival *arrival)
{
	if (log->count == log->room) {
		size_t room = log->room ? 2 * log->room : 1024;
		struct fdd_arrival *list = reallocarray(log->list, room, sizeof(*list));

		if (!list)
			return "out of memory";
		log->list = list;
		log->room = room;
	}
	log->list[log->count++] = *arrival;
	return NULL;
}

/* Reads `count` numbers that fill the rest of the line. */
static bool numbers(const char *text, size_t count, int64_t *values)
{
	for (size_t i = 0; i < count; i++) {
		char *end;

		text += strspn(text, " \t");
		if (*text < '0' || *text > '9')
			return false;
		errno = 0;
		values[i] = strtoll(text, &end, 10);
		if (errno)
			return false;
		text = end;
	}
	return text[strspn(text, " \t\r\n")] == '\0';
}

static const char *take_remark(struct replay_log *log, const char *line)
{
	int64_t value[2] = {0};
	bool good = true;

	if (strncmp(line, "# since ", 8) == 0) {
		good = log->has_since = numbers(line + 8, 1, value);
		log->since = mono_ns(value[0]);
	} else if (strncmp(line, "# until ", 8) == 0) {
		good = log->has_until = numbers(line + 8, 1, value);
		log->until = mono_ns(value[0]);
	} else if (strncmp(line, "# interval ", 11) == 0) {
		good = numbers(line + 11, 1, value);
		log->interval = mono_ns(value[0]);
	} else if (strncmp(line, "# stall ", 8) == 0) {
		if (numbers(line + 8, 2, value) && value[1] > value[0])
			return append(log, &(struct fdd_arrival){
					       .from = mono_ns(value[0]), .at = mono_ns(value[1])});
		good = false;
	}
	return good ? NULL : "a remark is: # since NS, # until NS, # interval NS, # stall FROM TO";
}

const char *replay_take(struct replay_log *log, const char *line)
{
	int64_t value[4] = {0};

	if (!log->begun) {
		size_t size = sizeof(first_line) - 1;

		log->begun = strncmp(line, first_line, size) == 0 &&
			     line[size + strspn(line + size, " \t\r\n")] == '\0';
		return log->begun ? NULL : "the first line is not \"# depsys-arrivals 1\"";
	}
	if (*line == '#')
		return take_remark(log, line);
	if (line[strspn(line, " \t\r\n")] == '\0')
		return NULL;
	line += strcspn(line, " \t"); /* when it was sent: nobody here can know */
	if (!numbers(line, 4, value) || value[1] < 1)
		return "an arrival is: sent_ns received_ns sequence interval_ns incarnation";
	return append(log, &(struct fdd_arrival){.at = mono_ns(value[0]),
			       .sequence = (uint64_t)value[1],
			       .interval = mono_ns(value[2]),
			       .incarnation = (uint64_t)value[3]});
}

static struct mono beginning(const struct fdd_arrival *entry)
{
	return entry->sequence ? entry->at : entry->from;
}

/* By time; what arrived during a stall after it, as it was read then. */
static int by_time(const void *a, const void *b)
{
	return mono_cmp(beginning(a), beginning(b));
}

const char *replay_finish(struct replay_log *log)
{
	if (!log->begun || !log->count)
		return "no arrivals in it";
	qsort(log->list, log->count, sizeof(*log->list), by_time);
	if (!log->has_since || mono_before(beginning(&log->list[0]), log->since))
		log->since = beginning(&log->list[0]);
	if (!log->has_until || mono_before(log->until, log->list[log->count - 1].at))
		log->until = log->list[log->count - 1].at;
	return NULL;
}

void replay_fini(struct replay_log *log)
{
	free(log->list);
	*log = (struct replay_log){0};
}

/* --- running --- */

struct replay {
	struct fdd *fdd;
	replay_verdict verdict;
	void *userdata;
};

static void step(struct replay *replay, struct mono now, struct fdd_event *event)
{
	struct fdd_actions actions;

	event->now = now;
	fdd_step(replay->fdd, event, &actions);
	for (size_t i = 0; i < actions.count; i++) {
		const struct fdd_action *action = &actions.list[i];

		if (action->type == FDD_SUSPECT || action->type == FDD_TRUST)
			replay->verdict(
			    replay->userdata, now, &action->level, action->type == FDD_SUSPECT);
	}
}

static void simple_step(struct replay *replay, struct mono now, enum fdd_event_type type)
{
	step(replay, now, &(struct fdd_event){.type = type});
}

/* Gives each TIMEOUT that is due before `until`. */
static void run_until(struct replay *replay, struct mono until)
{
	while (mono_before(fdd_deadline(replay->fdd), until))
		simple_step(replay, fdd_deadline(replay->fdd), FDD_TIMEOUT);
}

static void take_arrival(struct replay *replay, struct mono now, const struct fdd_arrival *arrival)
{
	step(replay, now,
	    &(struct fdd_event){.type = FDD_HEARTBEAT,
		.heartbeat = {SUBJECT, arrival->at,
		    {arrival->incarnation, arrival->sequence, arrival->interval}}});
}

/* Stands still as the observer did; returns how many of the arrivals after it came meanwhile. */
static size_t stand_still(
    struct replay *replay, const struct fdd_arrival *stall, const struct fdd_arrival *end)
{
	const struct fdd_arrival *next = stall + 1;

	run_until(replay, stall->from);
	step(replay, stall->from,
	    &(struct fdd_event){.type = FDD_REGISTER,
		.registration = {.id = REGISTRATION, .period = FDD_PERIOD_MAX}});
	simple_step(replay, stall->at, FDD_TIMEOUT);
	for (; next < end && next->sequence && mono_due(next->at, stall->at); next++)
		take_arrival(replay, stall->at, next);
	simple_step(replay, stall->at, FDD_DRAINED);
	step(replay, stall->at,
	    &(struct fdd_event){.type = FDD_UNREGISTER, .registration_id = REGISTRATION});
	return (size_t)(next - stall - 1);
}

static void run(struct replay *replay, const struct replay_log *log)
{
	const struct fdd_peer_role role = {.id = SUBJECT, .watch = true};
	const struct fdd_arrival *end = log->list + log->count;

	step(replay, log->since, &(struct fdd_event){.type = FDD_START, .start = {.wall_s = 1}});
	step(replay, log->since, &(struct fdd_event){.type = FDD_SET_PEERS, .peers = {&role, 1}});
	for (const struct fdd_arrival *entry = log->list; entry < end; entry++) {
		if (!entry->sequence) {
			entry += stand_still(replay, entry, end);
			continue;
		}
		run_until(replay, entry->at);
		take_arrival(replay, entry->at, entry);
	}
	run_until(replay, log->until);
}

int replay_run(const struct replay_log *log, const struct fdd_config *config,
    replay_verdict verdict, void *userdata, struct fdd_counters *counters)
{
	struct replay replay = {.verdict = verdict, .userdata = userdata};
	struct fdd_config own = *config;
	int r;

	own.self = OBSERVER;
	own.peers_max = own.registrations_max = 1;
	own.arrivals_max = 0;
	if (log->interval.ns)
		own.interval = log->interval;
	own.stall = mono_ns(1); /* nothing is late in here but what the log calls a stall */
	r = fdd_new(&replay.fdd, &own, 1);
	if (r < 0)
		return r;
	run(&replay, log);
	if (counters)
		*counters = *fdd_counters(replay.fdd);
	fdd_free(replay.fdd);
	return 0;
}
