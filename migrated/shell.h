/*
 * The shell of migrated: frames to events of the core, actions to frames.  Its files:
 *	shell.c		the core's step, what clients and other nodes ask
 *	renewals.c	leases of VEs: asked for, granted, told to ved
 *	facts.c		all facts read, one fact written
 *	keys.c		the services' keys: what keyring.h wants, and who asks for one
 *	launch.c	what RUN and END mean: bundle, image, key, ved
 *	cluster.c	who is a member, who coordinates (gossipd)
 *	probes.c	what this node's fdd watches of the VEs that run here, and what it sees
 *	capacity.c	what this node could run, told to the coordinator
 *	journal.c	the epochs that were begun on this node
 */
#ifndef MIGRATED_SHELL_H
#define MIGRATED_SHELL_H

#include "common/daemon.h"
#include "common/udp.h"
#include "migrated/migrated.h"

/* How long leases last, where lease_ms says nothing else. */
enum lease_profile { LEASE_LAN, LEASE_DEFAULT };

struct fences;
struct migrated_settings {
	int64_t scan_ms, restarts_max, steady_ms, retry_ms, backoff_ms, backoff_max_ms, answer_ms,
	    image_wait_ms;
	int64_t keys_ms, left_ms, lease_ms;
	int profile; /* enum lease_profile */
};

struct shell;
/* Takes over the socket, as sealed_udp_new(). */
int shell_new(struct shell **out, struct daemon *daemon, const struct migrated_settings *settings,
    const struct fences *fences, struct udp *udp);
struct shell *shell_free(struct shell *shell);

/* --- between the files --- */

struct facts;
struct keys;
struct launcher;
struct cluster;
struct journal;

/* Runs the core on an event and carries out what it wants; sets the time. */
void shell_step(struct shell *shell, struct migrated_event *event);
const struct migrated *shell_core(const struct shell *shell);
/* What ved has, after the core has seen it. */
void shell_listed(struct shell *shell, const struct migrated_local *locals, size_t count);
/* A transaction was applied: subscribers are told, and the images of what was removed go. */
void shell_written(struct shell *shell, const struct migrated_action *action);

/* NULL when the coordinator is this node, or none is known. */
struct rpc_client *shell_coordinator(struct shell *shell);
const struct peer *shell_coordinator_peer(const struct shell *shell);
bool shell_coordinates(const struct shell *shell);
const struct migrated *shell_core(const struct shell *shell);

/* renewals.c */
struct renewals;
int renewals_new(struct renewals **out, struct daemon *daemon, struct shell *shell,
    uint32_t lease_ms, struct udp *udp);
struct renewals *renewals_free(struct renewals *renewals);
/* RENEW; answers with MIGRATED_GRANTED. */
void renewals_ask(struct renewals *renewals, uint64_t id);
/* GRANT: the answer to the renewal that is being looked at. */
void renewals_grant(struct renewals *renewals, const struct migrated_action *action);
/* Reads what renewals and answers have come: before a timer of this process is judged. */
void renewals_drain(struct renewals *renewals);
/* migrated.renew, of another node. */
void renewals_asked(
    struct renewals *renewals, struct rpc_call *call, const void *body, size_t size);
/* ARM. */
void renewals_arm(struct renewals *renewals);

/* facts.c */
int facts_new(struct facts **out, struct daemon *daemon, struct shell *shell);
struct facts *facts_free(struct facts *facts);
/* Answers with MIGRATED_FACTS. */
void facts_read(struct facts *facts);
/* WRITEs of one transaction, or REMOVE; answers with MIGRATED_WRITTEN for each.  epoch: the coordinator's epoch that must still stand. */
void facts_write(
    struct facts *facts, const struct migrated_action *actions, size_t count, uint64_t epoch);
/* Replaces the fact key/<ve> if it has this version still; done is called once, perhaps at once. */
/*
 * Has the administrator revoked it?  Then it is in no view of gossipd's, so that a migrated that started since hears nothing
 * of it from there.
 */
bool facts_say_revoked(const struct daemon *daemon, const char *node);
struct facts_key {
	const char *ve; /* NODE_NAME_MAX + 1 bytes */
	uint64_t version;
	const struct buf *value;
	uint64_t epoch; /* the coordinator's, which must still stand */
};
typedef void facts_written(void *userdata, bool ok, const char *why);
void facts_write_key(
    struct facts *facts, const struct facts_key *key, facts_written *done, void *userdata);

/* keys.c */
struct keys_parts {
	struct facts *facts;
	const struct cluster *cluster;
	const struct migrated *core;
	uint32_t sweep_ms, left_ms; /* as in keyring_config */
};
int keys_new(struct keys **out, struct daemon *daemon, const struct keys_parts *parts);
struct keys *keys_free(struct keys *keys);
/* This node coordinates, or not; members came, went, or changed. */
void keys_coord(struct keys *keys, bool mine);
void keys_look(struct keys *keys);
/* The service key of a VE: 0, -ENOKEY and -EKEYREJECTED as service_key_open, -ENOENT: there is no fact, -EAGAIN, or another. */
typedef void keys_opened(void *userdata, int result, const uint8_t key[KEY_SIZE]);
void keys_open(struct keys *keys, const char *ve, keys_opened *opened, void *userdata);
/* The fact of a new service: a new key, sealed for every node of the cluster. */
int keys_make(const struct node_config *node, struct buf *out);

/* launch.c */
int launcher_new(
    struct launcher **out, struct daemon *daemon, struct shell *shell, struct keys *keys);
struct launcher *launcher_free(struct launcher *launcher);
void launcher_list(struct launcher *launcher); /* answers with MIGRATED_LOCALS */
/* The directories of the host that VEs may have here, as ved says (NULL: it does not); false: it has not answered yet. */
bool launcher_mounts(const struct launcher *launcher, const char **mounts);
void launcher_run(
    struct launcher *launcher, const struct msg_migrated_ve_fact *fact); /* MIGRATED_RAN */
void launcher_end(
    struct launcher *launcher, const char *name, uint64_t epoch, bool silent); /* MIGRATED_ENDED */
/* An object that a removed VE kept under name (NULL: all names). */
void launcher_discard(struct launcher *launcher, const uint8_t oid[32], const char *name);

/* cluster.c */
int cluster_new(struct cluster **out, struct daemon *daemon, struct shell *shell);
struct cluster *cluster_free(struct cluster *cluster);
void cluster_start(struct cluster *cluster);
/* The coordinator's node, NULL when none is known; its epoch. */
const struct peer *cluster_coordinator(const struct cluster *cluster, uint64_t *epoch);
/* What gossipd last said of it, or NULL. */
const struct migrated_node *cluster_node(const struct cluster *cluster, const char *name);

/* probes.c */
struct probes;
int probes_new(struct probes **out, struct daemon *daemon, struct shell *shell);
struct probes *probes_free(struct probes *probes);
/* Brings fdd in line with the facts and with what runs here, and asks it how that is: MIGRATED_HEALTH. */
void probes_look(struct probes *probes, const struct migrated *core,
    const struct migrated_local *locals, size_t count);

/* capacity.c */
struct capacity_teller;
int capacity_new(struct capacity_teller **out, struct daemon *daemon, struct shell *shell,
    const struct launcher *launcher);
struct capacity_teller *capacity_free(struct capacity_teller *teller);
/* migrated.capacity, of another node. */
void capacity_told(
    struct capacity_teller *teller, struct rpc_call *call, const void *body, size_t size);

/* journal.c */
int journal_open(struct journal **out, const char *directory);
struct journal *journal_free(struct journal *journal);
size_t journal_count(const struct journal *journal);
const struct migrated_begun *journal_list(const struct journal *journal);
/* epoch 0 forgets; durable when it returns 0. */
int journal_put(struct journal *journal, const char *name, uint64_t epoch);

#endif
