/*
 * What ved asks of a container engine: run a virtual environment (VE), hold it still, write it down, bring it back.  The
 * interface is this narrow so that engines stand beside each other without a change above it; everything that is known of
 * a VE is in a record on disk, so that a restarted ved, or another process, finds it again.
 *
 * Engines differ in one thing: who makes the container of a VE that starts (runner.h: crun or LXC).  Its files, network,
 * fence and control groups are ved's, and CRIU writes it down and brings it back, whoever has made it.  So an image does
 * not depend on the engine: each node restores those of both.
 *
 * All calls block and may take seconds (start, dump, restore, stop); ved makes them in a short-lived worker process.
 * They return 0 or a negative errno, and then say in error->text what was attempted and why it failed, for a person.
 */
#ifndef VED_ENGINE_H
#define VED_ENGINE_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ved/fence.h"
#include "ved/names.h"

enum engine_kind { ENGINE_CRUN, ENGINE_LXC, ENGINE_KINDS };

struct engine_config {
	char run
	    [VE_PATH]; /* tmpfs: records, mount points, network namespaces of the VEs (RUN/ve/NAME) */
	char state
	    [VE_PATH]; /* disk: unpacked bundles (STATE/lower), upper directories (STATE/ve/NAME) */
	char cgroup
	    [VE_PATH]; /* cgroup under which each VE gets its own, in each hierarchy: "depsys/n1" */
	char bridge
	    [IFNAMSIZ]; /* bridge of this node that VEs are attached to; empty: VEs have a loopback only */
	char criu[VE_PATH];                 /* programs */
	char runner[ENGINE_KINDS][VE_PATH]; /* crun and lxc-start; empty: there is none */
	enum engine_kind engine;            /* of VEs that are started from now on */
	int criu_version;                   /* as check() answered; 0: asked when it is needed */
	gid_t group;            /* who may read the images: group depsys; (gid_t)-1: root only */
	enum fence_kind fence;  /* of VEs with a lease that are started from now on */
	char mounts[VE_MOUNTS]; /* host directories that bundles may mount, between blanks */
};

/* What a VE is, independent of where it runs. */
/* A lease that has not begun: its copy is made behind a closed fence, and frozen until it is told when the lease ends. */
#define UNTIL_TOLD 1

struct ve_spec {
	char name[VE_NAME];
	uint64_t epoch;
	char address[VE_ADDRESS]; /* "10.1.2.3/24", "fd00::3/64" or empty */
	char gateway[VE_ADDRESS]; /* default route, or empty */
	char bundle[VE_OID];      /* object id of the bundle */
	int64_t
	    until_ns; /* of start and restore: its lease, CLOCK_BOOTTIME; 0: it needs none.  Not in the record */
	bool shared; /* the same: its placement knows that it has directories of the host */
	enum engine_kind engine; /* that has made it */
};

enum ve_record_state {
	RECORD_STARTING, /* being made; whoever finds it without its maker removes it */
	RECORD_RUNNING,
	RECORD_FROZEN, /* the tasks stand and the network is held until thaw_by */
};

/* The record of a VE on this node, as it is on disk. */
struct ve_record {
	struct ve_spec spec;
	enum ve_record_state state;
	pid_t pid; /* of the VE's first process, in the pid namespace of ved */
	uint64_t
	    start_ticks; /* its start time (field 22 of /proc/PID/stat): a pid alone is no identity */
	int64_t thaw_by_ms;    /* CLOCK_BOOTTIME; when frozen: the latest thaw */
	enum fence_kind fence; /* that it was started with */
	bool alive;            /* not on disk: found when it was read */
};

struct engine_error {
	char text[VE_ERROR];
};

struct dump_options {
	bool kill; /* end the VE once its image is whole, without a word to its peers (a move) */
};

/* How long the parts of a dump or restore took, in microseconds. */
struct engine_times {
	int64_t freeze_us; /* network held and tasks frozen */
	int64_t criu_us;
	int64_t files_us; /* upper directory captured or unpacked */
	int64_t total_us;
	int64_t
	    armed_at_us; /* of a restore, CLOCK_BOOTTIME: the gate is set, no process is there; 0: no gate */
	int64_t announced_at_us; /* the address is announced, nothing has passed yet */
	uint64_t image_bytes;
};

/* Makes and runs a VE from a bundle directory (config.json, rootfs.tar). A VE of that name must not exist. */
int engine_start(const struct engine_config *config, const struct ve_spec *spec,
    const char *bundle_dir, struct engine_error *error);
/* The same from an image that dump wrote; spec->bundle must be the bundle it was dumped with. */
int engine_restore(const struct engine_config *config, const struct ve_spec *spec,
    const char *bundle_dir, const char *image_dir, struct engine_times *times,
    struct engine_error *error);
/* Writes the VE into image_dir (made if absent); leaves it as it was, frozen or running, also on failure. */
int engine_dump(const struct engine_config *config, const char *name, const char *image_dir,
    const struct dump_options *options, struct engine_times *times, struct engine_error *error);
/* Holds the network, then the tasks; the record says until when (thaw_by). A frozen VE gets the new time. */
int engine_freeze(const struct engine_config *config, const char *name, int64_t max_ms,
    struct engine_error *error);
int engine_thaw(const struct engine_config *config, const char *name, struct engine_error *error);
/*
 * Ends the VE and removes its network, mounts, cgroups and record. SIGTERM, and SIGKILL after grace_ms; a grace below 0
 * kills silently: no FIN or RST leaves the VE, so that its connections live on in a copy elsewhere. 0 also when there is
 * no such VE.
 */
int engine_stop(const struct engine_config *config, const char *name, int64_t grace_ms,
    struct engine_error *error);
/* The VE's record, with alive as found now; -ENOENT: no such VE here. */
int engine_inspect(const struct engine_config *config, const char *name, struct ve_record *out);
/* Calls each() for each VE with a record, until it returns other than 0; that is then the answer. */
int engine_scan(const struct engine_config *config,
    int (*each)(const struct ve_record *record, void *data), void *data);
/* Can VEs be started, dumped and restored here: programs there, new enough? A positive number: criu's version. */
int engine_check(const struct engine_config *config, struct engine_error *error);

/* "crun", "lxc" */
const char *engine_kind_name(enum engine_kind kind);
int engine_kind_parse(const char *name, enum engine_kind *out);

/* Fills error->text and returns code: return engine_fail(error, -ENOENT, "open %s", path). Adds the errno's words. */
int engine_fail(struct engine_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same without the errno's words, for errors whose text says it all. */
int engine_refuse(struct engine_error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
