/*
 * Heartbeats of an application, for `depctl ve run --probe heartbeat`.  Two functions, no thread, no library but
 * the C library; copy both files into your program, or link -ldepsys-heartbeat.
 *
 *	struct depsys_heartbeat heart;
 *
 *	depsys_heartbeat_init(&heart, 1000);
 *	for (;;) {
 *		do_some_work();
 *		depsys_heartbeat_beat(&heart);
 *	}
 *
 * Call beat() wherever the program makes progress, as often as you like: it sends once an interval and does
 * nothing in between.  So a program that hangs is silent, which is the point.
 */
#ifndef DEPSYS_HEARTBEAT_H
#define DEPSYS_HEARTBEAT_H

#include <stdint.h>

struct depsys_heartbeat {
	uint64_t incarnation; /* of this life of the program */
	uint64_t sequence;
	uint32_t interval_ms;
	uint16_t port;
	int64_t next_ms; /* CLOCK_MONOTONIC */
};

/* interval_ms: 100 to 60000; how often beat() will be called, at least. */
void depsys_heartbeat_init(struct depsys_heartbeat *heart, uint32_t interval_ms);
/* 1: sent, 0: not yet due, -1: could not be sent, see errno; there is nothing to be done about that but to go on. */
int depsys_heartbeat_beat(struct depsys_heartbeat *heart);

#endif
