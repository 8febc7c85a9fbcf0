/*
 * The fence by BPF.  A program compares bpf_ktime_get_boot_ns() with one 64-bit number in an array map.  It hangs on the VE's
 * control group (cgroup_skb, both directions: what its sockets say) and on the host side of its network pair (clsact, both
 * directions: also what has no socket of the VE, as packets that the kernel answers or that were queued before).  Map and
 * links are pinned in RUN/bpf, so the fence outlives ved.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ved/engine.h"
#include "ved/fence.h"
#include "ved/files.h"

/* The values of the map. */
enum slot {
	SLOT_DEADLINE, /* ns, CLOCK_BOOTTIME */
	SLOT_DROPPED,
	SLOTS,
};

/* ---- the program, by hand: a compiler for it would be a dependency for thirty instructions */

#define INSN(c, d, s, o, i)                                                                        \
	((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})
#define MOV_REG(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define MOV_IMM(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ADD_IMM(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define STORE_IMM32(d, o, i) INSN(BPF_ST | BPF_MEM | BPF_W, d, 0, o, i)
#define LOAD32(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_W, d, s, o, 0)
#define LOAD64(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define ATOMIC_ADD64(d, s, o) INSN(BPF_STX | BPF_ATOMIC | BPF_DW, d, s, o, BPF_ADD)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define JUMP_EQ(d, i, o) INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, o, i)
#define JUMP_EQ0(d, o) INSN(BPF_JMP | BPF_JEQ | BPF_K, d, 0, o, 0)
#define JUMP_LT(d, s, o) INSN(BPF_JMP | BPF_JLT | BPF_X, d, s, o, 0)
#define LOOPBACK 1 /* the first of each namespace */
#define NO_INTERFACE 0
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define LOAD_MAP(d, fd)                                                                            \
	INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_FD, 0, fd), INSN(0, 0, 0, 0, 0)

/*
 *	if (interface is loopback, and this is a control group's) return pass
 *	deadline = map[0]; if (!deadline-slot) drop
 *	if (boot_ns < *deadline) return pass
 *	map[1] += 1; return drop
 */
static int load_program(int map, enum bpf_prog_type type, const char *name, int pass, int drop)
{
	/* Nobody elsewhere hears what stays in a namespace; and criu, which looks at its kernel there, would wait for ever. */
	const int inside = type == BPF_PROG_TYPE_CGROUP_SKB ? LOOPBACK : NO_INTERFACE;
	const struct bpf_insn program[] = {
	    LOAD32(BPF_REG_7, BPF_REG_1, offsetof(struct __sk_buff, ifindex)),
	    JUMP_EQ(BPF_REG_7, inside, 21), /* to pass */
	    STORE_IMM32(BPF_REG_10, -4, SLOT_DEADLINE),
	    MOV_REG(BPF_REG_2, BPF_REG_10),
	    ADD_IMM(BPF_REG_2, -4),
	    LOAD_MAP(BPF_REG_1, map),
	    CALL(BPF_FUNC_map_lookup_elem),
	    JUMP_EQ0(BPF_REG_0, 12), /* to drop; an array always has its slots */
	    LOAD64(BPF_REG_6, BPF_REG_0, 0),
	    CALL(BPF_FUNC_ktime_get_boot_ns),
	    JUMP_LT(BPF_REG_0, BPF_REG_6, 11), /* to pass */
	    STORE_IMM32(BPF_REG_10, -4, SLOT_DROPPED),
	    MOV_REG(BPF_REG_2, BPF_REG_10),
	    ADD_IMM(BPF_REG_2, -4),
	    LOAD_MAP(BPF_REG_1, map),
	    CALL(BPF_FUNC_map_lookup_elem),
	    JUMP_EQ0(BPF_REG_0, 2),
	    MOV_IMM(BPF_REG_1, 1),
	    ATOMIC_ADD64(BPF_REG_0, BPF_REG_1, 0),
	    MOV_IMM(BPF_REG_0, drop),
	    EXIT,
	    MOV_IMM(BPF_REG_0, pass),
	    EXIT,
	};
	int fd =
	    bpf_prog_load(type, name, "GPL", program, sizeof(program) / sizeof(program[0]), NULL);

	return fd < 0 ? -errno : fd;
}

/* ---- where it is pinned */

static int pins_of(char *out, size_t size, const struct engine_config *config, const char *name)
{
	return path_format(out, size, "%s/bpf/%s", config->run, name);
}

int fence_bpf_mount(const struct engine_config *config)
{
	char base[VE_PATH];
	struct statfs there;
	int rc = path_set(base, "%s/bpf", config->run);

	if (rc == 0 && mkdir(base, 0700) < 0 && errno != EEXIST)
		rc = -errno;
	if (rc < 0 || (statfs(base, &there) == 0 && there.f_type == BPF_FS_MAGIC))
		return rc;
	return mount("bpf", base, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0 ? -errno
											    : 0;
}

/* ---- life */

static int pin_path(char *out, size_t size, const struct fence *fence, const char *what)
{
	return path_format(out, size, "%s/%s", fence->directory, what);
}

/* Whether there is one is asked of the file system: a process that may not use BPF finds out too. */
int fence_bpf_open(struct fence *fence, const struct engine_config *config)
{
	char path[VE_PATH];
	int rc = pins_of(fence->directory, sizeof(fence->directory), config, fence->name);

	if (rc == 0)
		rc = pin_path(path, sizeof(path), fence, "map");
	if (rc == 0 && access(path, F_OK) < 0)
		rc = -errno;
	if (rc < 0)
		return rc;
	fence->map = bpf_obj_get(path);
	return fence->map < 0 ? -errno : 0;
}

int fence_bpf_make(
    struct fence *fence, const struct engine_config *config, struct engine_error *error)
{
	char path[VE_PATH];
	int rc = fence_bpf_open(fence, config);

	if (rc != -ENOENT)
		return rc < 0 ? engine_fail(error, rc, "open the fence %s", fence->directory) : 0;
	if (mkdir(fence->directory, 0700) < 0 && errno != EEXIST)
		return engine_fail(error, -errno, "make %s", fence->directory);
	fence->map = bpf_map_create(
	    BPF_MAP_TYPE_ARRAY, "depsys_fence", sizeof(uint32_t), sizeof(uint64_t), SLOTS, NULL);
	if (fence->map < 0)
		return engine_fail(error, -errno, "make the map of the fence");
	rc = pin_path(path, sizeof(path), fence, "map");
	if (rc == 0 && bpf_obj_pin(fence->map, path) < 0)
		rc = -errno;
	if (rc < 0) {
		fd_close(&fence->map);
		return engine_fail(error, rc, "pin the fence in %s", fence->directory);
	}
	return 0;
}

/* ---- what it hangs on */

static int bind_cgroup(const struct fence *fence, int cgroup, enum bpf_attach_type direction)
{
	char path[VE_PATH];
	_cleanup_fd_ int program = -1;
	_cleanup_fd_ int link = -1;

	if (pin_path(path, sizeof(path), fence,
		direction == BPF_CGROUP_INET_INGRESS ? "cgroup-in" : "cgroup-out") < 0)
		return -ENAMETOOLONG;
	program = load_program(fence->map, BPF_PROG_TYPE_CGROUP_SKB, "depsys_fence", 1, 0);
	if (program < 0)
		return program;
	link = bpf_link_create(program, cgroup, direction, NULL);
	if (link < 0)
		return -errno;
	unlink(path); /* of an earlier control group of the same VE */
	return bpf_obj_pin(link, path) < 0 ? -errno : 0;
}

int fence_bpf_cgroup(const struct fence *fence, const char *cgroup, struct engine_error *error)
{
	_cleanup_fd_ int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : bind_cgroup(fence, fd, BPF_CGROUP_INET_INGRESS);

	if (rc == 0)
		rc = bind_cgroup(fence, fd, BPF_CGROUP_INET_EGRESS);
	return rc < 0 ? engine_fail(error, rc, "bind the fence to %s", cgroup) : 0;
}

int fence_bpf_interface(const struct fence *fence, struct engine_error *error)
{
	_cleanup_fd_ int program = load_program(
	    fence->map, BPF_PROG_TYPE_SCHED_CLS, "depsys_fence", TC_ACT_OK, TC_ACT_SHOT);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)if_nametoindex(fence->interface));
	static const enum bpf_tc_attach_point points[] = {BPF_TC_INGRESS, BPF_TC_EGRESS};
	int rc = program;

	if (rc >= 0 && hook.ifindex == 0)
		rc = -ENODEV;
	if (rc >= 0) {
		hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
		rc = bpf_tc_hook_create(&hook);
	}
	for (size_t i = 0; rc >= 0 && i < 2; i++) {
		LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program, .handle = 1, .priority = 1,
		    .flags = BPF_TC_F_REPLACE);

		hook.attach_point = points[i];
		rc = bpf_tc_attach(&hook, &options);
	}
	return rc < 0 ? engine_fail(error, rc, "bind the fence to %s", fence->interface) : 0;
}

/* ---- its deadline */

static int put(const struct fence *fence, uint32_t slot, uint64_t value)
{
	return bpf_map_update_elem(fence->map, &slot, &value, BPF_ANY) < 0 ? -errno : 0;
}

static int get(const struct fence *fence, uint32_t slot, uint64_t *value)
{
	return bpf_map_lookup_elem(fence->map, &slot, value) < 0 ? -errno : 0;
}

int fence_bpf_set(const struct fence *fence, int64_t deadline_ns)
{
	return put(fence, SLOT_DEADLINE, (uint64_t)deadline_ns);
}

int fence_bpf_get(const struct fence *fence, int64_t *deadline_ns)
{
	return get(fence, SLOT_DEADLINE, (uint64_t *)deadline_ns);
}

int fence_bpf_dropped(const struct fence *fence, uint64_t *packets)
{
	return get(fence, SLOT_DROPPED, packets);
}

int fence_bpf_remove(const struct engine_config *config, const char *name)
{
	static const char *const pins[] = {"map", "cgroup-in", "cgroup-out"};
	char directory[VE_PATH], path[VE_PATH * 2];
	int rc = pins_of(directory, sizeof(directory), config, name);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < sizeof(pins) / sizeof(pins[0]); i++) {
		path_set(path, "%s/%s", directory, pins[i]);
		if (unlink(path) < 0 && errno != ENOENT)
			rc = -errno;
	}
	if (rmdir(directory) < 0 && errno != ENOENT && rc == 0)
		rc = -errno;
	return rc;
}
