/*
 * The fence of a VE: after a moment on CLOCK_BOOTTIME the kernel itself drops all that the VE sends and receives, whatever
 * becomes of user space.  It is what makes a lease safe: a node that is stalled, cut off or without any daemon cannot go on
 * speaking for a VE that runs elsewhere by then (DESIGN, section 5).
 *
 * A BPF program compares bpf_ktime_get_boot_ns() with one 64-bit number in an array map.  It hangs on the VE's control
 * group (cgroup_skb, both directions: what its sockets say) and on the host side of its network pair (clsact, both
 * directions: also what has no socket of the VE, as packets that the kernel answers or that were queued before).  Map and
 * links are pinned, so the fence outlives ved.  It is made closed: nothing passes until somebody moves the deadline.
 *
 * Rejected: nftables (a rule with a time does not compare with the monotonic clock; timeouts of sets have a grain of
 * jiffies and are counted by a collector), and a daemon that freezes in time (that is what stalls).
 */
#ifndef VED_FENCE_H
#define VED_FENCE_H

#include <stdint.h>

#include "ved/names.h"

struct engine_config;
struct engine_error;

struct fence {
	char directory[VE_PATH]; /* in a bpf file system */
	int map;
};

/* Where the fences of this node are pinned: RUN/bpf, a bpf file system, mounted if it is not yet. */
int fence_base(char out[static VE_PATH], const struct engine_config *config);
int fence_mount(const struct engine_config *config);
/* Makes a closed fence and pins it in BASE/NAME; one that is there is opened.  Paths: base in a bpf file system. */
int fence_make(struct fence *out, const char *base, const char *name, struct engine_error *error);
/* Opens one that was made; -ENOENT. */
int fence_open(struct fence *out, const char *base, const char *name);
void fence_close(struct fence *fence);
/* Binds it to a control group (of the unified hierarchy), and to an interface of this network namespace. */
int fence_cgroup(const struct fence *fence, const char *cgroup, struct engine_error *error);
int fence_interface(const struct fence *fence, const char *interface, struct engine_error *error);
/* When it closes, CLOCK_BOOTTIME; 0: it is closed, INT64_MAX: never. */
int fence_set(const struct fence *fence, int64_t deadline_ns);
int fence_get(const struct fence *fence, int64_t *deadline_ns);
/* Packets that it dropped. */
int fence_dropped(const struct fence *fence, uint64_t *packets);
/* Unpins everything; what is bound to a control group or interface ends with that. */
int fence_remove(const char *base, const char *name);

#endif
