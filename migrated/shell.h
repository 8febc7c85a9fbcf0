/*
 * The shell of migrated: frames to events of the core, actions to frames.  Its files:
 *	shell.c		the core's step, what clients and other nodes ask
 *	facts.c		all facts read, one fact written
 *	launch.c	what RUN and END mean: bundle, image, key, ved
 *	cluster.c	who is a member, who coordinates (gossipd)
 *	probes.c	what this node's fdd watches of the VEs that run here
 *	journal.c	the epochs that were begun on this node
 */
#ifndef MIGRATED_SHELL_H
#define MIGRATED_SHELL_H

#include "common/daemon.h"
#include "migrated/migrated.h"

struct migrated_settings {
	int64_t scan_ms, restarts_max, steady_ms, retry_ms;
};

struct shell;
int shell_new(struct shell **out, struct daemon *daemon, const struct migrated_settings *settings);
struct shell *shell_free(struct shell *shell);

/* --- between the files --- */

struct facts;
struct launcher;
struct cluster;
struct journal;

/* Runs the core on an event and carries out what it wants; sets the time. */
void shell_step(struct shell *shell, struct migrated_event *event);
/* What ved has, after the core has seen it. */
void shell_listed(struct shell *shell, const struct migrated_local *locals, size_t count);
/* A transaction was applied: subscribers are told, and the images of what was removed go. */
void shell_written(struct shell *shell, const struct migrated_action *action);

/* facts.c */
int facts_new(struct facts **out, struct daemon *daemon, struct shell *shell);
struct facts *facts_free(struct facts *facts);
/* Answers with MIGRATED_FACTS. */
void facts_read(struct facts *facts);
/* WRITE or REMOVE; answers with MIGRATED_WRITTEN.  epoch: the coordinator's epoch that must still stand. */
void facts_write(struct facts *facts, const struct migrated_action *action, uint64_t epoch);

/* The service key of a VE, opened with this node's key; done gets 0, -ENOENT, or another errno. */
void facts_key(struct facts *facts, const char *ve,
    void (*done)(void *userdata, int result, const uint8_t key[KEY_SIZE]), void *userdata);

/* launch.c */
int launcher_new(
    struct launcher **out, struct daemon *daemon, struct shell *shell, struct facts *facts);
struct launcher *launcher_free(struct launcher *launcher);
void launcher_list(struct launcher *launcher); /* answers with MIGRATED_LOCALS */
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

/* probes.c */
struct probes;
int probes_new(struct probes **out, struct daemon *daemon);
struct probes *probes_free(struct probes *probes);
/* Brings fdd in line with the facts and with what runs here. */
void probes_look(struct probes *probes, const struct migrated *core,
    const struct migrated_local *locals, size_t count);

/* journal.c */
int journal_open(struct journal **out, const char *directory);
struct journal *journal_free(struct journal *journal);
size_t journal_count(const struct journal *journal);
const struct migrated_begun *journal_list(const struct journal *journal);
/* epoch 0 forgets; durable when it returns 0. */
int journal_put(struct journal *journal, const char *name, uint64_t epoch);

#endif
