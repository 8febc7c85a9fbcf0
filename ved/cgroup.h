/*
 * The control groups of one VE: a directory of the same path in every hierarchy that matters.  The unified one (version
 * 2) freezes and kills, and is what sockets and BPF programs are tied to; memory, cpu and pids are limited by whichever
 * version has the controller.  On a hybrid machine those are version 1 and the unified hierarchy is nearly bare, which is
 * enough: cgroup.freeze and cgroup.kill need no controller.
 *
 * The version 1 freezer is not used: criu polls it in steps of 100 ms and ptrace cannot stop a task in it.
 */
#ifndef VED_CGROUP_H
#define VED_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "ved/names.h"

struct cgroup {
	char unified[VE_PATH *
		     2]; /* directories of this VE; empty where there is no such hierarchy */
	char memory[VE_PATH * 2];
	char cpu[VE_PATH * 2];
	char pids[VE_PATH * 2];
};

/* 0: no limit. */
struct cgroup_limits {
	uint64_t memory_bytes;
	uint64_t cpu_quota_us; /* of each cpu_period_us */
	uint64_t cpu_period_us;
	uint64_t pids;
};

/* Finds the mounted hierarchies and the paths of a VE in them; makes nothing. -ENOTSUP: no unified hierarchy. */
int cgroup_find(struct cgroup *out, const char *base, const char *name);
int cgroup_make(const struct cgroup *cgroup, const struct cgroup_limits *limits);
/* Moves the calling process in; its later children are born there. */
int cgroup_join(const struct cgroup *cgroup);
/* Freezes and waits until all tasks stand; -ETIMEDOUT, and then they run again. */
int cgroup_freeze(const struct cgroup *cgroup, int timeout_ms);
int cgroup_thaw(const struct cgroup *cgroup);
/* Kills all in it, frozen or not, and waits until it is empty. */
int cgroup_kill(const struct cgroup *cgroup, int timeout_ms);
/* Removes the (empty) directories; 0 when they are not there. */
int cgroup_remove(const struct cgroup *cgroup);

#endif
