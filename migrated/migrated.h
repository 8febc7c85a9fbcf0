/*
 * The core of migrated: where each VE runs (depsys paper, section 5: "the coordinator uses the last saved checkpoint to
 * initiate a recovery procedure and spawn new nodes", "on different adjacent nodes").
 *
 * It plays two parts, both level-triggered: each looks at the last snapshot of the facts, never at a history of messages,
 * so that any process may die between any two actions and its successor goes on.
 *
 *	placement (placement.c)		on the coordinator's node only: for every VE that is on a dead node, has no node, or
 *					is in trouble, one transaction that raises its epoch and names node and checkpoint
 *				choose.c: which node; images.c: from which checkpoint
 *				sets.c: VEs that go back together
 *	keeping (keep.c)		on every node: makes what ved runs agree with what the facts say of this node
 *	health (health.c)		on every node: tells the coordinator of a VE here whose probes fail
 *
 * The writer is checked by the transaction itself (versions of coord/<cluster>, ve/<name> and cat/<name>); a conflict or a
 * result in doubt means: read again.  That an epoch was begun here is journaled before ved is asked, so that a VE that is
 * missing later is known to have died, and is not started twice from the same checkpoint under one epoch.
 *
 * A VE is heard only under a lease (lease.h): keeping asks the coordinator to renew it, starts nothing without one, and has
 * ved's gate set to its end; placement puts a VE elsewhere only when its lease has run out, or when its node has said that
 * the copy is gone.  Grants stop while a placement is being written, so that none is given for what is being taken away, and
 * none lasts longer than the coordinator's own lease.
 *
 * Where the end of a lease silences nothing (gone.c), a VE stays where it is until somebody says that the copy is gone.
 *
 * A failed start is tried on another node first; the second failure of one checkpoint sets it aside and takes the one
 * before; a copy whose probes never succeed has failed to start.  What a node could not even begin, since it cannot get hold
 * of the image or of its own ved, is tried elsewhere, and nothing is set aside for it.  Which checkpoint: images.c.  A VE that dies or hangs is restarted in place, then
 * elsewhere, then given up (want = failed), with the reason told.  Each restart in a row waits twice as long as the one
 * before, less up to a half (backoff() in placement.c).  It dies when its first process ends: what becomes of the others is
 * that one's business, which may well restart a worker by itself, and if it does not a probe tells.
 * Rejected: letting the node itself restart a dead VE without a new epoch (its state would go back under an epoch in which
 * clients have seen more).
 */
#ifndef MIGRATED_MIGRATED_H
#define MIGRATED_MIGRATED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/keys.h"
#include "common/mono.h"
#include "migrated/lease.h"
#include "proto/migrated.h"

#define MIGRATED_VES_MAX 256
#define MIGRATED_CKPTS_MAX 32
#define MIGRATED_REPLICAS_MAX 4
#define MIGRATED_ACTIONS_MAX 64
#define MIGRATED_REASON 256
#define MIGRATED_ASKS_MAX 32 /* requests that wait */
#define SET_MAX 15    /* VEs of one set: each has two of the 32 operations of a transaction */
#define FENCING_MAX 8 /* fence commands at once */

struct migrated;

struct migrated_config {
	const char *self;      /* node name; copied */
	uint32_t scan_ms;      /* between two looks at the facts without a hint */
	uint32_t restarts_max; /* in place; as many again elsewhere, then failed */
	uint32_t steady_ms;    /* running this long makes earlier restarts forgotten */
	uint32_t retry_ms;     /* before the same thing is tried again */
	/* Before the second restart in a row; doubled by each further one, up to the second figure. */
	uint32_t backoff_ms, backoff_max_ms;
	uint32_t answer_ms; /* within it the probes of a VE succeed after its start */
	uint32_t
	    image_wait_ms; /* an older checkpoint is taken when the newest one's image has been away so long */
	struct lease_rule lease;
};

/* A committed checkpoint, from the catalogue. */
struct migrated_ckpt {
	uint64_t id;
	uint8_t oid[32];
	size_t n_replicas;
	char replicas[MIGRATED_REPLICAS_MAX][NODE_NAME_MAX + 1];
};

struct migrated_ve {
	struct msg_migrated_ve_fact fact;
	uint64_t version;     /* of ve/<name> */
	uint64_t cat_version; /* of cat/<name>; 0: none */
	bool node_revoked;    /* the node that it is on is let in no more */
	size_t n_ckpts;       /* newest last */
	struct migrated_ckpt ckpts[MIGRATED_CKPTS_MAX];
};

/* A VE of another site.  Its coordinator's business; but names are one for all sites, and whoever asks for it here is
 * told where it is. */
struct migrated_elsewhere {
	char name[NODE_NAME_MAX + 1];
	char site[NODE_NAME_MAX + 1];
	char node[NODE_NAME_MAX + 1]; /* may be empty, as both */
};

struct migrated_node {
	char name[NODE_NAME_MAX + 1];
	bool alive;          /* may be given VEs */
	bool dead;           /* verdict, or left: its VEs are to go elsewhere */
	bool unheard;        /* not a word of it yet: neither */
	struct mono left_at; /* MONO_NEVER: it has not left */
};

struct migrated_local {
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch;
	bool running;  /* or frozen; false: its processes have ended, or are being ended: */
	bool whole;    /* all of it is made, or restored */
	bool stopping; /* it may be heard still */
	bool unfenced;
};

struct migrated_begun {
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch;
};

/* The probes of one VE, as fdd of this node has them. */
struct migrated_health {
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch;
	bool answered;        /* each has succeeded under this epoch */
	bool suspect;         /* one has not succeeded for far longer than expected */
	uint32_t interval_ms; /* the longest */
	char fault[128];      /* which, and of what it failed */
};

struct migrated_lease {
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch;
	bool unfenced; /* of a renewal: its end will silence nothing */
	bool ready;    /* of a renewal: its copy stands */
	bool silent;   /* of a grant: it may be begun, and is not to be heard yet */
};

enum migrated_event_kind {
	MIGRATED_START, /* begun: the journal */
	MIGRATED_TIMEOUT,
	MIGRATED_FACTS, /* ves, count, revision: all facts of this site; elsewhere: of the other sites' VEs those of which
			    migrated_asks_for(); ok = false: they could not be read */
	MIGRATED_NODES, /* nodes, count */
	MIGRATED_TOLD, /* name (of a node), memory, cpu, mounts (NULL: not told): what it tells of itself */
	MIGRATED_COORD, /* epoch; mine: this node holds the coordinator's lease, until; since it took over from one whose
			     lease had run out, MONO_ZERO: not known */
	MIGRATED_RENEWAL, /* on the coordinator: name (of a node) asks, as id, for leases, count; length: L there */
	MIGRATED_GRANTED, /* answer to RENEW id: leases, count, for length; ok = false: there was none */
	MIGRATED_LOCALS, /* locals, count: all that ved has; unfenced: it can fence none more; ok = false: ved does not answer */
	MIGRATED_HINT,   /* facts or VEs may have changed */
	MIGRATED_HEALTH, /* health, count: of the VEs here that have probes */
	MIGRATED_RAN, /* name, epoch, result, trouble, reason: answer to RUN; -EAGAIN: nothing was begun, -ENOKEY: nor can be until the
			 service's key is sealed for this node, -EHOSTUNREACH: nor can be until a node that has its bundle or
			 image answers, -ETIMEDOUT: in doubt */
	MIGRATED_ENDED,   /* name, result: answer to END */
	MIGRATED_WRITTEN, /* name, ok: answer to WRITE or REMOVE; then a new look at the facts */
	MIGRATED_FENCED,  /* name, epoch, ok, reason: answer to FENCE */
	MIGRATED_REPORT,  /* name, epoch, trouble, runs, reason: from a node */
	MIGRATED_ASKED,   /* request: by a client, on the coordinator */
};

enum migrated_ask {
	MIGRATED_ASK_RUN,
	MIGRATED_ASK_STOP,
	MIGRATED_ASK_RM,
	MIGRATED_ASK_RESTORE,
	MIGRATED_ASK_FENCED,
};

struct migrated_request {
	enum migrated_ask ask;
	uint64_t id; /* comes back in ANSWER */
	char name[NODE_NAME_MAX + 1];
	uint64_t ckpt;                    /* RESTORE */
	uint64_t epoch;                   /* FENCED */
	bool check;                       /* RUN: say whether it could be done, and do nothing */
	struct msg_migrated_ve_fact fact; /* RUN: what the client wants; node may be empty */
};

struct migrated_event {
	enum migrated_event_kind kind;
	struct mono now;
	bool revoked; /* any event: the administrator has revoked this node */
	bool ok, mine, unfenced;
	uint64_t revision;
	size_t count;
	const struct migrated_ve *ves;
	const struct migrated_elsewhere *elsewhere;
	size_t n_elsewhere;
	const struct migrated_node *nodes;
	const struct migrated_local *locals;
	const struct migrated_begun *begun;
	const char *name;
	uint64_t epoch;
	int result;
	enum msg_migrated_trouble trouble;
	const char *reason;
	bool runs; /* the copy in trouble is there still */
	const struct migrated_health *health;
	const struct migrated_request *request;
	const struct migrated_lease *leases;
	uint64_t id;
	struct mono until, since, length;
	uint64_t memory, cpu; /* free bytes; features, see cpu.h */
	const char *mounts;   /* directories of the host that VEs may have, between blanks */
};

enum migrated_action_kind {
	MIGRATED_READ,    /* read all facts; answer FACTS */
	MIGRATED_LIST,    /* ask ved; answer LOCALS */
	MIGRATED_JOURNAL, /* name, epoch (0: forget): durable before the next action */
	MIGRATED_RUN,     /* fact: fetch what is needed, start or restore; answer RAN */
	MIGRATED_END,     /* name, epoch, silent: stop it; answer ENDED */
	MIGRATED_WRITE, /* fact, version, cat_version: transaction, with those after it while there is more; answer WRITTEN for each */
	MIGRATED_REMOVE, /* name, version, cat_version: facts away; answer WRITTEN */
	MIGRATED_RENEW,  /* id: ask the coordinator for migrated_leases(); answer GRANTED */
	MIGRATED_GRANT,  /* id: answer that renewal with leases, count, for length */
	MIGRATED_FENCE,  /* name, epoch, fact: run the command that it names; answer FENCED */
	MIGRATED_SPARE,  /* name: end it, without an answer */
	MIGRATED_ARM,    /* migrated_leases() may be heard until migrated_lease_until() */
	MIGRATED_TELL,   /* name, epoch, trouble, runs, reason: report to the coordinator */
	MIGRATED_ANSWER, /* id, status (enum rpc_status), fact or reason */
	MIGRATED_RUNS,   /* fact, took_ms: it runs (event ve.recovered) */
};

struct migrated_action {
	enum migrated_action_kind kind;
	uint64_t id;
	int status;
	bool silent; /* its connections go on in a copy elsewhere */
	bool runs;
	bool note;   /* WRITE: the placement stays what it was, something is said about it */
	bool more;   /* WRITE: of one transaction with the next action, which is another one */
	bool let_go; /* WRITE, a note: its set is whole */
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch, version, cat_version, took_ms;
	enum msg_migrated_trouble trouble;
	char reason[MIGRATED_REASON];
	struct msg_migrated_ve_fact fact;
	bool waited;                         /* WRITE: a lease had to end first; it did */
	struct mono free_at;                 /* then, on the coordinator's count, */
	struct mono silent_at;               /* and its node's gate was closed by then */
	const struct migrated_lease *leases; /* until the next step */
	size_t count;
	struct mono length;
};

struct migrated_actions {
	size_t count;
	struct migrated_action list[MIGRATED_ACTIONS_MAX + 1]; /* one more takes what is too much */
};

int migrated_new(struct migrated **out, const struct migrated_config *config);
struct migrated *migrated_free(struct migrated *migrated);
void migrated_step(struct migrated *migrated, const struct migrated_event *event,
    struct migrated_actions *actions);
struct mono migrated_deadline(const struct migrated *migrated);

/* The last snapshot, in the order of names. */
size_t migrated_count(const struct migrated *migrated);
const struct migrated_ve *migrated_at(const struct migrated *migrated, size_t i);
/* Does a request about this name wait for the next snapshot? */
bool migrated_asks_for(const struct migrated *migrated, const char *name);
/* When the facts were last read; MONO_NEVER: not yet. */
struct mono migrated_read_at(const struct migrated *migrated);
/* The leases that this node wants, and until when it has one (MONO_ZERO: it has none). */
size_t migrated_leases(const struct migrated *migrated, struct migrated_lease *leases, size_t max);
/* Of one that is to be silent yet: MONO_ZERO. */
struct mono migrated_lease_until(const struct migrated *migrated, const char *name, uint64_t epoch);
/* Asserts what must always hold. */
void migrated_check(const struct migrated *migrated);

#endif
