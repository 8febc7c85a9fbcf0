/*
 * The fence of a VE: after a moment on CLOCK_BOOTTIME the kernel itself drops all that the VE sends and receives, whatever
 * becomes of user space.  It is what makes a lease safe: a node that is stalled, cut off or without any daemon cannot go on
 * speaking for a VE that runs elsewhere by then (DESIGN, section 5).  It is made closed, before the first process of the VE
 * exists: nothing passes until somebody moves the deadline.
 *
 * Two ways to build it, each in a file of its own; a node uses one for all VEs that it starts ([ved] fence), and a VE keeps
 * the one that it was started with:
 *
 *	bpf	(fence-bpf.c) a program compares the kernel's clock with a number in a map.  On the control group and on the
 *		node's end of the network pair.  Preferred: the clock is the very one that the lease is counted on.
 *	nft	(fence-nft.c) for kernels or hosts that do not let BPF in: netdev chains on the node's end of the pair.
 *
 * Rejected: a daemon that freezes in time (that is what stalls); taking the link down (needs somebody alive to do it).
 */
#ifndef VED_FENCE_H
#define VED_FENCE_H

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#include "ved/names.h"

struct engine_config;
struct engine_error;

enum fence_kind { FENCE_NONE, FENCE_BPF, FENCE_NFT, FENCE_KINDS };
/* "none", "bpf", "nft"; the other way round -EINVAL. */
const char *fence_kind_name(enum fence_kind kind);
int fence_kind_parse(const char *name, enum fence_kind *out);

struct fence {
	enum fence_kind kind;
	char name[VE_NAME];
	char
	    interface[IFNAMSIZ]; /* the node's end of the VE's network pair, whether it exists or not */
	char directory[VE_PATH]; /* bpf: of its pins, in a bpf file system */
	int map;                 /* bpf; -1 */
};

/* Can this kernel, as this process, build such a fence?  Builds one in a network namespace of its own and removes it. */
int fence_probe(
    enum fence_kind kind, const struct engine_config *config, struct engine_error *error);

/* Makes a closed one; of an earlier VE of that name it takes over what there is. */
int fence_make(struct fence *out, enum fence_kind kind, const struct engine_config *config,
    const char *name, const char *interface, struct engine_error *error);
/* Finds that of a VE here, of whatever kind; -ENOENT: it has none. */
int fence_open(
    struct fence *out, const struct engine_config *config, const char *name, const char *interface);
void fence_close(struct fence *fence);
/* Binds it to a control group (of the unified hierarchy), and to its interface in this network namespace. */
int fence_cgroup(const struct fence *fence, const char *cgroup, struct engine_error *error);
int fence_interface(const struct fence *fence, struct engine_error *error);
/* When it closes, CLOCK_BOOTTIME; what is over already: it is closed. */
int fence_set(const struct fence *fence, int64_t deadline_ns);
/* -ENOTSUP: of this kind it cannot be read. */
int fence_get(const struct fence *fence, int64_t *deadline_ns);
/* Packets that it dropped. */
int fence_dropped(const struct fence *fence, uint64_t *packets);
/* Takes it away, of whatever kind; 0 when there is none.  What is bound to a control group or interface ends with that. */
int fence_remove(const struct engine_config *config, const char *name);

/* --- the two kinds: the same contracts --- */

int fence_bpf_mount(const struct engine_config *config);
int fence_bpf_make(
    struct fence *fence, const struct engine_config *config, struct engine_error *error);
int fence_bpf_open(struct fence *fence, const struct engine_config *config);
int fence_bpf_cgroup(const struct fence *fence, const char *cgroup, struct engine_error *error);
int fence_bpf_interface(const struct fence *fence, struct engine_error *error);
int fence_bpf_set(const struct fence *fence, int64_t deadline_ns);
int fence_bpf_get(const struct fence *fence, int64_t *deadline_ns);
int fence_bpf_dropped(const struct fence *fence, uint64_t *packets);
int fence_bpf_remove(const struct engine_config *config, const char *name);

int fence_nft_make(struct fence *fence, struct engine_error *error);
int fence_nft_open(const struct fence *fence);
int fence_nft_interface(const struct fence *fence, struct engine_error *error);
int fence_nft_set(const struct fence *fence, int64_t deadline_ns);
int fence_nft_dropped(const struct fence *fence, uint64_t *packets);
int fence_nft_remove(const char *name);

#endif
