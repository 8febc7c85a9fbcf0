/* The inside of the world of recovery.h, shared by its two files. */
#ifndef TESTS_SIM_RECOVERY_INTERNAL_H
#define TESTS_SIM_RECOVERY_INTERNAL_H

#include "migrated/migrated.h"
#include "tests/sim/recovery.h"

#define NODES 3
#define VES 3
/* Hosts and processes: the store, then migrated of each node on a host of its own, the store's way for writes, which takes
 * its own time, and on the nodes' hosts their veds. */
#define STORE 0
#define WRITER (NODES + 1)
#define VED(node) (WRITER + (node))

enum {
	LEASE_MS = 2000,
	REIGN_MS = 2000,
	RAISE_MS = 500,
	SCAN_MS = 1000,
	HUNG_MS = 1500,
	ANSWER_MS = 3000,
	IMAGE_WAIT_MS = 2000,
	INTERVAL_MS = 200, /* of probes */
	BACKOFF_MS = 3000,
	BACKOFF_MAX_MS = 12000,
	RESTARTS = 3,
	PATIENCE_MS = 1000, /* for an answer */
	DOUBT_MS = 200,     /* for that to a write */
	DETECT_MS = 1500,
	WEATHER_MS = 12000,
	QUIET_MS = 90000,
	LOOK_MS = 500,
	HELD_MS = 2500, /* a node that was down is known to be up */
};

enum kind {
	/* to the store */
	KIND_GET,
	KIND_WATCH,
	KIND_WRITE,
	KIND_RAISE,
	/* from it */
	KIND_FACTS,
	KIND_COORD,
	KIND_WRITTEN,
	/* between nodes */
	KIND_RENEW,
	KIND_GRANT,
	KIND_REPORT,
	/* to ved, and back */
	KIND_LIST,
	KIND_LISTED,
	KIND_RUN,
	KIND_RAN,
	KIND_END,
	KIND_ENDED,
	KIND_ARM,
};

struct coord {
	uint64_t version, epoch;
	unsigned node;
};

struct copy {
	bool present, running, hangs, mute;
	uint64_t epoch, ckpt;
	struct mono gate, ill_since;
	struct mono ready; /* it is being started until then; MONO_ZERO: it is not */
	uint64_t ticket;   /* of who asked for it */
};

/* What the kernel of a host keeps: it survives every process, and goes with the host. */
struct host {
	struct world *world;
	unsigned node;
	bool unfenced; /* its copies are heard as long as they run */
	bool down;
	struct mono down_since, up_since, shunned_until;
	struct copy copies[VES];
	uint64_t journal[VES]; /* on disk, as is: */
	uint64_t image[VES];   /* of the checkpoint that was restored here last */
};

struct message {
	enum kind kind;
	bool ok, runs, note;
	uint64_t ticket, epoch, version, cat_version, revision;
	struct mono until, length;
	struct coord coord;
	unsigned ve;
	int result;
	enum msg_migrated_trouble trouble;
	size_t count;
	union {
		struct migrated_lease leases[VES];
		struct copy copies[VES];
		struct msg_migrated_ve_fact fact;
	};
};

/* What was read of the facts: messages bear its revision, since it is large and most of them read the same. */
struct snapshot {
	uint64_t revision;
	struct migrated_ve ves[VES];
};
#define EPOCHS 256   /* more than a run has */
#define SNAPSHOTS 64 /* one that is on its way for so many changes is lost */
#define FENCINGS 64  /* more than run at one time */

/* What waits for an answer; ticket 0: nothing does. */
struct asked {
	uint64_t ticket;
	struct mono at, until;
	uint64_t checked; /* a write: the version of coord that it compares with */
};

struct node {
	struct host *host;
	struct migrated *core;
	struct coord coord;
	struct mono seen_at, look_at, reign_since, reign_until;
	uint64_t ticket;
	bool reigns;
	struct asked raise, read, list, writes[VES], runs[VES], ends[VES], fences[VES];
};

struct ve {
	uint64_t heard; /* the highest epoch */
	bool begun[EPOCHS];
	struct mono written_at; /* the present placement */
	bool last_bad;
};

/* A fence command that a coordinator runs. */
struct fencing {
	struct world *world;
	unsigned by, ve, target;
	uint64_t epoch, ticket;
};

struct world {
	enum recovery_weakness weakness;
	uint64_t revision, ckpts;
	struct coord coord;
	struct migrated_ve ves[VES];
	struct snapshot snapshots[SNAPSHOTS];
	struct ve about[VES];
	struct host hosts[NODES + 1];
	struct fencing fencings[FENCINGS]; /* the latest */
	unsigned n_fencings;
	bool calm;
	const char *wrong; /* what the store saw */
};

/* recovery-node.c */
extern const struct sim_program recovery_node;
/* Begins a fence command. */
void recovery_fence(struct sim *sim, struct world *world, const struct fencing *fencing);
/* Its end is told to the core that waits for this ticket, if it does so still. */
void recovery_fenced(struct sim *sim, struct node *node, const struct fencing *fencing, bool ok);
/* Hands an event to the core in this process, and carries out what it wants. */
void recovery_step(
    struct sim *sim, unsigned process, struct node *node, struct migrated_event *event);

/* recovery.c */
void recovery_name_ve(char *name, unsigned ve);
void recovery_name_node(char *name, unsigned node);
unsigned recovery_ve_of(const char *name);
unsigned recovery_node_of(const char *name);
/* The next message to be posted, of which only the head is cleared. */
struct message *recovery_compose(enum kind kind);
void recovery_post(struct sim *sim, unsigned from, unsigned to, const struct message *message);
void recovery_take(const struct sim_message *packet, struct message *message);

#endif
