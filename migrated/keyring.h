/*
 * Who has the services' keys: the part of migrated's core that keeps the facts key/<ve> in line with the membership.
 *
 * Idea.  A service's key is 32 random bytes, made at `ve run` and sealed (crypto_box_seal) for the key of each node that may
 * run it.  Nodes join later, change their keys, leave, are revoked.  So the coordinator's instance walks over the services,
 * at a change of the membership and at a slow period, and for each compares the seals with the keys that should have one:
 * those of the near nodes that the administrator lets in, and the old key of a node for as long as it is let in, because
 * the daemons there may not have been restarted with the new one.  What differs is written as one new fact, by
 * compare-and-swap on the version that was compared.
 *
 * The rule of authority stays DESIGN's: one writer, the instance on the coordinator's node.  A coordinator that joined
 * later cannot open the key itself; it then asks a node that holds a seal, which seals the key for the one who asks, by the
 * identity of the connection, and for nobody else.  The check value in the fact tells a wrong answer.  Rejected: that the
 * holder seals for all and writes, because then its view of the membership would count; that a holder is elected for each
 * service, because two rules say who may write; that each node seals its own key for newcomers it sees, because a hundred
 * services times sixty nodes then contend for the same facts.
 *
 * Who writes has opened the key, and is among those it seals for: so no sweep can drop the last seal that opens.
 * A node that is dead keeps its seal (it may come back); one that has left keeps it for left_ms, a rolling restart is not
 * worth two writes for each service.
 *
 * A function of state and event (STYLE: contract of a core); it never sees a key.
 */
#ifndef MIGRATED_KEYRING_H
#define MIGRATED_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/keys.h"
#include "common/mono.h"

#define KEYRING_SEALS_MAX CLUSTER_MAX         /* of one service: the limit of migrated.key_fact */
#define KEYRING_MEMBERS_MAX (2 * CLUSTER_MAX) /* each with its old key */

struct keyring;

struct keyring_config {
	const char *self;  /* node name; copied */
	uint32_t sweep_ms; /* between two sweeps that nothing asked for */
	uint32_t
	    retry_ms; /* after one that could not do all it wanted; doubled each time, up to sweep_ms */
	uint32_t left_ms; /* so long a node that has left keeps its seals */
};

/* A key that is let in. */
struct keyring_member {
	char name[NODE_NAME_MAX + 1];
	uint64_t id;
	bool old;            /* not the node's present key */
	bool alive;          /* the node can be asked */
	struct mono left_at; /* MONO_NEVER: it has not left */
};

/* A seal of a fact, or one that is wanted. */
struct keyring_seal {
	char node[NODE_NAME_MAX + 1];
	uint64_t id; /* of the key that it was made for; 0: it does not say */
};

enum keyring_event_kind {
	KEYRING_TIMEOUT,
	KEYRING_COORD,   /* mine: this node coordinates */
	KEYRING_MEMBERS, /* members, count: this node, the other near ones, then old keys: too many, and the last have no seal */
	KEYRING_FACT, /* answer to READ. ok = false: could not be read; name "": there is none behind; version 0: no fact */
	KEYRING_SEALED, /* answer to SEAL: ok */
};

struct keyring_event {
	enum keyring_event_kind kind;
	struct mono now;
	bool mine, ok;
	bool opens; /* FACT: this node has a seal that it can open */
	const char *name;
	uint64_t version;
	size_t count;
	const struct keyring_seal *seals;
	const struct keyring_member *members;
};

enum keyring_action_kind {
	KEYRING_NOTHING,
	KEYRING_READ, /* the fact of the first service whose name is behind `name` */
	KEYRING_SEAL, /* write the fact of `name` with exactly these seals, if it is still of this version */
	KEYRING_KEYLESS, /* no node that can be asked holds the key of `name`: tell it */
};

/* At most one; KEYLESS is followed by the next step at once (keyring_deadline). */
struct keyring_action {
	enum keyring_action_kind kind;
	char name[NODE_NAME_MAX + 1];
	char from[NODE_NAME_MAX +
		  1]; /* SEAL: who is to be asked for the key; "": this node opens it */
	uint64_t version;
	size_t count;
	struct keyring_seal seals[KEYRING_SEALS_MAX];
};

int keyring_new(struct keyring **out, const struct keyring_config *config);
struct keyring *keyring_free(struct keyring *keyring);
void keyring_step(
    struct keyring *keyring, const struct keyring_event *event, struct keyring_action *action);
struct mono keyring_deadline(const struct keyring *keyring);

/* Does this node have a seal for the key by which the others know it, or, if not, for its old one?  For who shows it. */
enum keyring_holds { KEYRING_LACKS, KEYRING_HOLDS_OLD, KEYRING_HOLDS };
enum keyring_holds keyring_holds(const struct keyring *keyring, const char *node,
    const struct keyring_seal *seals, size_t count);

#endif
