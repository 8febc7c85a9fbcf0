/*
 * A node's busd in a directory of its own, for tests and benchmarks: configuration and keys, a process that
 * can be killed and started again, and the loop and context of the program that looks on.
 */
#ifndef TESTS_SYSTEM_RIG_H
#define TESTS_SYSTEM_RIG_H

#include <sys/types.h>

#include "common/bus.h"
#include "common/mono.h"

struct rig {
	char directory[64];
	char run_dir[80];
	const char *busd; /* the program */
	pid_t pid;
	unsigned port;
	struct node_keys keys;
	struct peers peers; /* one: n1 */
	sd_event *loop;
	struct zcontext *zmq;
};

/* Ends the program on a failure, as checks do. */
void rig_open(struct rig *rig, const char *busd, const char *busd_section);
/* Kills busd, removes the directory. */
void rig_close(struct rig *rig);

void rig_start(struct rig *rig);
void rig_kill(struct rig *rig);
/* Starts a program, its standard output and error as ours. */
pid_t rig_spawn(char *const argv[]);
void rig_reap(pid_t pid, int signal); /* 0: waits only */

/* Runs the loop until *value >= least or the time is over; returns whether it is. */
bool rig_run(struct rig *rig, const uint64_t *value, uint64_t least, int64_t limit_ms);
void rig_run_ms(struct rig *rig, int64_t ms);
/* What busd holds itself; not the pages of programs and libraries that it has touched so far. */
long rig_busd_kib(const struct rig *rig);
/* What a busd with sanitizers may hold besides: it keeps freed memory for a while (tools/sanitized). */
long rig_kept_kib(void);

/* Asks busd; the reply is decoded by the caller.  Returns the status. */
struct buf;
int rig_ask(struct rig *rig, const char *request, struct buf *reply);
/* One counter of busd (common.stats). */
uint64_t rig_stat(struct rig *rig, const char *name);

#endif
