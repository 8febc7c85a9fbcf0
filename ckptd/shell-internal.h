/*
 * What the files of ckptd's shell share.
 */
#ifndef CKPTD_SHELL_INTERNAL_H
#define CKPTD_SHELL_INTERNAL_H

#include "ckptd/catalogue.h"
#include "ckptd/ckptd.h"
#include "ckptd/journal.h"
#include "ckptd/schedule.h"
#include "ckptd/shell.h"
#include "common/buf.h"
#include "common/rpc-stream.h"

#include <sys/queue.h>

#define SHELL_ROUNDS_MAX 16
#define SHELL_MEMBERS_MAX 15 /* of a round: its transaction has 2 + 2 n operations, of 32 */
#define SHELL_SEATS_MAX 64
#define SHELL_STATS_MAX 12
#define META_TIMEOUT_MS 4000
#define IMAGE_PATH 256 /* what ved takes */
#define DETAIL_SIZE 512

/* An event with the memory of what it points to. */
struct queued {
	struct queued *next;
	struct ckptd_event event;
	char ve[CKPTD_VE_SIZE];
	struct ckptd_message message;
};

/* One member's entry of the transaction that commits, and what it makes superfluous. */
struct commit_member {
	char ve[CKPTD_VE_SIZE];
	struct msg_ckptd_checkpoint checkpoint;
	size_t n_retired;
	struct msg_ckptd_checkpoint retired[CATALOGUE_MAX];
};

/* What is remembered of a round of ours beside the core. */
struct round_info {
	uint64_t id; /* 0: free */
	struct mono started;
	struct rpc_call *waiter;
	size_t n_ves;
	char ves[SHELL_MEMBERS_MAX][CKPTD_VE_SIZE];
	char detail[DETAIL_SIZE]; /* what the first member that refused said of it */
	bool committing;          /* members are filled */
	size_t n_members;
	struct commit_member members[SHELL_MEMBERS_MAX];
};

/* A VE of this node in its newest round, to say how long it stood, or what ved or gosd said when it failed. */
struct freeze_info {
	char ve[CKPTD_VE_SIZE];
	uint64_t id;
	struct mono since;
	char detail[DETAIL_SIZE];
};

struct node_status {
	uint64_t id;
	enum ckptd_status status;
};

struct shell {
	struct daemon *daemon;
	struct ckptd_settings settings;
	char images_dir[IMAGE_PATH - CKPTD_VE_SIZE - 18];
	struct ckptd *core;
	struct ckptd_actions actions;
	struct journal *journal;
	struct queued *queue_first, **queue_last;
	bool pumping;
	sd_event_source *timer, *scan_timer, *sweep_timer;
	struct rpc_client *ved, *gosd, *metad, *gossipd, *fdd;
	struct rpc_stream *watch;
	struct rpc_client *peers[PEERS_MAX]; /* by place; made when first needed */
	struct peers_listener listener;

	/* as gossipd says */
	bool mine;
	uint64_t epoch, coordinator; /* node id; 0: not known */
	size_t n_nodes;
	struct node_status nodes[CLUSTER_MAX];

	struct schedule schedule;
	bool scanning, sweeping, listing;
	uint64_t scans; /* of placements, begun */
	LIST_HEAD(, early_create) early;
	uint32_t objects_seen; /* of the listing */
	uint64_t begun;        /* the answer to the last BEGIN: id, or 0 and the reason */
	enum ckptd_reason begun_reason;
	struct round_info rounds[SHELL_ROUNDS_MAX];
	struct freeze_info freezes[SHELL_SEATS_MAX];
	uint64_t rounds_begun, rounds_committed, rounds_aborted, refused, swept, bugs;
	struct daemon_stat stats[SHELL_STATS_MAX];
};

/* shell.c */
/* Hands an event to the core now or, from within a step, after it.  The event is copied. */
void shell_post(struct shell *shell, const struct ckptd_event *event);
void shell_tell_coordinator(struct shell *shell);
/* Begins a round; its id, or 0 with begun_reason set. */
uint64_t shell_begin(struct shell *shell, const struct ckptd_place *places, size_t n);
struct round_info *shell_round(struct shell *shell, uint64_t id);
/* Notes down what a member said when it refused, for people; the first one's word stays. */
void shell_blame(struct shell *shell, uint64_t id, const char *detail);
const char *shell_node_name(const struct shell *shell, uint64_t id);
enum ckptd_status shell_node_status(const struct shell *shell, uint64_t id);

/* links.c: messages between nodes */
extern const struct rpc_method links_methods[];
void links_send(struct shell *shell, const struct ckptd_action *action);
struct rpc_client *links_client(struct shell *shell, uint64_t node);
/* For daemon_listen_peers. */
void links_peer_changed(void *userdata, const struct peer *peer);

/* local.c: ved and gosd of this node */
void local_freeze(struct shell *shell, const struct ckptd_action *action);
/* What ved or gosd said when it failed for this VE in that round; empty: nothing. */
const char *local_detail(struct shell *shell, const char *ve, uint64_t id);
void local_dump(struct shell *shell, const struct ckptd_action *action);
void local_thaw(struct shell *shell, const struct ckptd_action *action);
void local_store(struct shell *shell, const struct ckptd_action *action);
void local_clean(struct shell *shell, const struct ckptd_action *action);
/* Takes the name of a checkpoint off an object, here or on all nodes. */
void local_remove(
    struct shell *shell, const uint8_t oid[32], const char *ve, uint64_t id, bool only_here);
/* Removes image directories that no seat of the journal will store. */
void local_tidy(struct shell *shell, const struct ckptd_record *records, size_t n);
int oid_parse(uint8_t oid[32], const char *text);
void oid_format(char text[CKPTD_OID_SIZE], const uint8_t oid[32]);

/* health.c: probes, as this node's fdd has them */
#define HEALTH_FAULT 128
/* fault: the probe that fails and why, or "". */
typedef void health_done(void *userdata, const char *fault);
void health_ask(
    struct shell *shell, const char *ve, uint64_t ve_epoch, health_done *done, void *userdata);

/* facts.c: reading several keys of metad */
#define FACTS_MAX (2 * SHELL_MEMBERS_MAX + 2)

struct fact {
	char key[CATALOGUE_KEY_SIZE];
	uint64_t version; /* 0: absent */
	struct buf value;
};

struct reading {
	struct shell *shell;
	void (*done)(struct reading *reading);
	void *userdata;
	bool failed;
	size_t n, pending;
	struct fact facts[FACTS_MAX];
};

struct reading *reading_new(struct shell *shell, void (*done)(struct reading *), void *userdata);
void reading_add(struct reading *reading, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Asks; done is called once, maybe at once, and frees the reading. */
void reading_go(struct reading *reading);
struct reading *reading_free(struct reading *reading);

/* cell.c: the decision cells */
void cell_do(struct shell *shell, const struct ckptd_action *action);

/* scan.c: placements, left-over cells and images */
void scan_ves(struct shell *shell);
void scan_cells(struct shell *shell);
void scan_images(struct shell *shell);

/* plans.c: when a VE is checkpointed and what is kept, where that was changed; and taking checkpoints away */
extern const struct rpc_method plans_methods[];
struct retention plans_retention(const struct shell *shell, const char *ve);
/* Puts a plan into what the placement says. */
void plans_apply(const struct msg_ckptd_plan *plan, struct schedule_ve *ve);

/* watch.c: gossipd */
int watch_open(struct shell *shell);

/* requests.c */
extern const struct rpc_method requests_methods[];
/* A scan of the placements has ended: VEs that were asked for before it are found now, or are not there. */
void requests_scanned(struct shell *shell, bool whole);
void requests_committed(struct shell *shell, struct round_info *info);
void requests_aborted(
    struct shell *shell, struct round_info *info, enum ckptd_reason reason, const char *ve);

#endif
