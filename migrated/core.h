/* The inside of migrated's core, shared by its files. */
#ifndef MIGRATED_CORE_H
#define MIGRATED_CORE_H

#include "common/rpc.h"
#include "migrated/migrated.h"

#define NODES_MAX CLUSTER_MAX
#define ASK_TRIES_MAX 6

/* What a node has told of itself. */
struct capacity {
	char node[NODE_NAME_MAX + 1];
	uint64_t memory, cpu;
	bool tells_mounts; /* one of an earlier version does not */
	char mounts[sizeof(((struct msg_migrated_capacity *)0)->mounts)];
};

struct migrated_trouble {
	enum msg_migrated_trouble kind;
	bool runs; /* the copy is there still */
	char reason[MIGRATED_REASON];
};

/* What this node knows of a VE that the facts do not say. */
struct keep {
	char name[NODE_NAME_MAX + 1];
	uint64_t begun;     /* epoch that was journaled here; 0: none */
	uint64_t busy;      /* epoch of the RUN or END under way; 0: none */
	struct mono began;  /* when the RUN was asked */
	struct mono run_at; /* not before */
	uint64_t waits;     /* epoch that cannot be begun yet, and since when */
	struct mono waits_at;
	uint64_t failed; /* epoch whose start failed, with ... */
	struct migrated_trouble trouble;
	struct mono tell_at; /* next time to tell the coordinator */
	/* health.c */
	uint64_t stood; /* epoch that was said to stand, while its set is gathering; 0: none */
	uint64_t ran,
	    answered;  /* epochs that were started by this process, whose probes have succeeded */
	uint64_t seen; /* epoch of the last look at its probes, ... */
	struct mono seen_at, ill_for;
};

/* What the coordinator knows of a VE that the facts do not say. */
struct place {
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch; /* the epoch seen, and since when */
	struct mono since;
	bool writing;
	char next[NODE_NAME_MAX + 1]; /* node that is being written */
	struct mono settled_at;
	struct mono retry_at;
	uint64_t reported; /* epoch that a node reported, 0: none */
	struct migrated_trouble trouble;
	struct mono reported_at, told_at; /* for the first time, and for the last */
	uint64_t
	    leaving; /* epoch whose copy runs and is to run elsewhere: its lease is not renewed */
	uint64_t unfenced; /* epoch that its node cannot fence, 0: none */
	uint64_t ready;    /* epoch whose copy stands, 0: none */
	uint64_t away;     /* checkpoint that it would start from, and that no node has; 0: none */
	struct mono away_since;
	/* gone.c: epochs, 0: none */
	uint64_t fencing, vouched; /* whose fence command runs; has confirmed */
	uint64_t tried; /* whose command has failed, how often, why, and until when it rests */
	uint32_t tries;
	char said[128];
	struct mono fence_at;
};

struct pending {
	struct migrated_request request;
	unsigned tries;
	bool writing;
	struct msg_migrated_ve_fact wanted;
	struct migrated_elsewhere
	    elsewhere; /* the VE of that name in another site; name empty: there is none */
	/* Reads of the facts to wait for: what the client knows may be newer than the last one. */
	unsigned reads_left;
};

/* What a look at a VE says: there is nothing to do, or it is to begin again: where it is, or elsewhere; or it is given up. */
enum judged {
	JUDGED_WELL,
	JUDGED_IN_PLACE,
	JUDGED_ELSEWHERE,
	JUDGED_GIVEN_UP,
};

/* The members of a set while something is decided for all of them. */
struct gathering {
	size_t n;
	struct gathered {
		const struct migrated_ve *ve;
		struct place *place;
		enum judged judged;
		struct msg_migrated_ve_fact fact; /* the next one */
	} members[SET_MAX];
};

struct migrated {
	struct migrated_config config;
	char self[NODE_NAME_MAX + 1];
	struct mono now, started_at, scan_at, read_at;
	bool started, reading, read_again, listing, list_again;
	bool
	    read_is_old; /* the read under way may have begun before something that is known to have been written */
	bool have_facts, have_locals, mine, revoked;
	uint64_t reign;          /* epoch of the coordinator */
	bool unfenced;           /* ved can fence nothing that it starts here */
	struct mono reign_until; /* mine */
	struct mono place_at;    /* a VE that is to be placed has run out of its lease then */
	uint64_t revision;
	size_t n_ves, n_nodes, n_locals, n_keeps, n_places, n_pending;
	struct migrated_ve ves[MIGRATED_VES_MAX];
	struct migrated_node nodes[NODES_MAX];
	struct migrated_local locals[MIGRATED_VES_MAX];
	struct keep keeps[MIGRATED_VES_MAX];
	struct place places[MIGRATED_VES_MAX];
	struct pending pending[MIGRATED_ASKS_MAX];
	size_t n_capacities;
	struct capacity capacities[NODES_MAX];
	struct lease_holder holder;
	struct lease_giver giver;
	struct migrated_lease granted[MIGRATED_VES_MAX]; /* in answer to the last renewal */
	struct gathering set; /* the one that is looked at; large: kept here */
};

/* The next free action; an action too many is dropped: the next look finds it again. */
struct migrated_action *action_add(
    struct migrated_actions *actions, enum migrated_action_kind kind, const char *name);
const struct migrated_ve *find_ve(const struct migrated *migrated, const char *name);
const struct migrated_node *find_node(const struct migrated *migrated, const char *name);
/* What is known of the facts, and what a read under way will tell, may be too old to act on: a new one is to be asked for. */
void distrust_facts(struct migrated *migrated);
void read_facts(struct migrated *migrated, struct migrated_actions *actions);
void list_locals(struct migrated *migrated, struct migrated_actions *actions);
void copy_text(char *to, size_t size, const char *from);

/* placement.c */
void place_all(struct migrated *migrated, struct migrated_actions *actions);
void place_report(struct migrated *migrated, const struct migrated_event *event);
void place_written(struct migrated *migrated, const struct migrated_event *event);
void place_forget(struct migrated *migrated);
/* May the VE of fact be heard elsewhere from now on?  If not yet, place_at is set. */
bool place_is_free(struct migrated *migrated, const struct msg_migrated_ve_fact *fact);
/* Says in a WRITE when the lease of the copy before it ended, if one had to. */
void place_note_lease(struct migrated *migrated, struct migrated_action *action);
void place_grant(struct migrated *migrated, const struct migrated_event *event,
    struct migrated_actions *actions);
/* The node of a placement that is being written, or NULL. */
const char *place_next(const struct migrated *migrated, const char *name);
/* It was placed so lately that its node's free memory does not show it. */
bool place_is_new(const struct migrated *migrated, const char *name);
bool place_is_writing(struct migrated *migrated, const char *name);
/* Never NULL for a VE of the snapshot. */
struct place *place_of(struct migrated *migrated, const char *name);
/* What is to be done for a VE whatever it stands with.  True: it may be decided where it runs. */
bool place_tend(
    struct migrated *migrated, const struct migrated_ve *ve, struct migrated_actions *actions);
/* What is to be done with it, but for node and checkpoint: those of a set are decided together.  Counts and reason go into fact. */
enum judged place_judge(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact);
/* Is a start that failed the reason to look at it? */
bool place_has_failed(
    const struct migrated *migrated, const struct migrated_ve *ve, const struct place *place);
void place_set_aside(struct msg_migrated_ve_fact *fact, uint64_t ckpt);
void place_give_up(struct msg_migrated_ve_fact *fact, const char *why, const char *reason);
/* Is it to wait before it is tried again?  Then place_at is set. */
bool place_waits(struct migrated *migrated, const struct migrated_ve *ve, const struct place *place,
    const struct msg_migrated_ve_fact *fact);
/* It cannot be written yet: a copy that hangs, of a node that lives, has to fall silent. */
void place_leave(const struct migrated_ve *ve, struct place *place);
void place_finish(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact);
struct migrated_action *place_write(const struct migrated_ve *ve, struct place *place,
    const struct msg_migrated_ve_fact *fact, struct migrated_actions *actions);
/* A fence command has ended. */
void place_fenced(struct migrated *migrated, const struct migrated_event *event);
struct mono place_backoff(
    const struct migrated *migrated, const struct msg_migrated_ve_fact *fact, uint32_t tries);
bool place_has_lost_its_node(const struct migrated *migrated, const struct migrated_ve *ve);
/* gone.c */
/* Is the copy that ve speaks of silent when its lease has ended?  If not, why_held() says for a person why, and what to do. */
bool gone_can_ask(const struct migrated *migrated, const struct migrated_ve *ve);
bool gone_is_sure(const struct migrated_ve *ve);
void gone_why_held(
    const struct migrated *migrated, const struct migrated_ve *ve, char *why, size_t size);
/* A copy that runs, and hangs, is ended by its own node before the next one: it stays there. */
void gone_pin(
    const struct migrated_ve *ve, const struct place *place, struct msg_migrated_ve_fact *fact);
/* Runs the VE's fence command while it is held, or ends it when it is held no more. */
void gone_fence(struct migrated *migrated, const struct migrated_ve *ve, struct place *place,
    struct migrated_actions *actions);
/* What is to be said about a placement that stays: fills fact and returns true when there is something new. */
bool gone_note(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact);
/* sets.c */
/* Decides for each set whose members are in trouble, or all stand. */
void sets_all(struct migrated *migrated, struct migrated_actions *actions);
/* The first member of this set, or NULL. */
const struct migrated_ve *sets_find(const struct migrated *migrated, const char *set);
/* What a client wants of ve's set, into migrated->set; fact: ve's own.  Nothing is written. */
enum rpc_status sets_want(struct migrated *migrated, const struct migrated_ve *ve,
    const struct migrated_request *request, struct msg_migrated_ve_fact *fact, char *why,
    size_t size);
/* May what stands in migrated->set be written: has every copy before fallen silent? */
bool sets_are_free(struct migrated *migrated);
/* Writes it, by one transaction. */
void sets_write(struct migrated *migrated, struct migrated_actions *actions);
/* May a new VE join this set?  If not, why. */
bool sets_allow(
    const struct migrated *migrated, const char *name, const char *set, char *why, size_t size);
/* request.c */
/* It would be placed on another node, and the copy before may never be silent.  Then why. */
bool ask_is_held(const struct migrated *migrated, const struct migrated_ve *ve, const char *node,
    char *why, size_t size);
bool ask_is_writing(const struct migrated *migrated, const char *name);
/* One of this group ("": none) is being written, and is in no snapshot yet. */
bool ask_is_placing(const struct migrated *migrated, const char *group);
bool ask_is_pending(const struct migrated *migrated, const char *name);
void ask_take(struct migrated *migrated, const struct migrated_request *request,
    struct migrated_actions *actions);
void ask_read(struct migrated *migrated, const struct migrated_event *event,
    struct migrated_actions *actions);
void ask_all(struct migrated *migrated, struct migrated_actions *actions);
bool ask_written(struct migrated *migrated, const struct migrated_event *event,
    struct migrated_actions *actions);
void ask_refuse_all(struct migrated *migrated, struct migrated_actions *actions);
/* choose.c */
void choose_told(struct migrated *migrated, const struct migrated_event *event);
/* Chooses a node for a VE that starts from ckpt (NULL: cold), not `not` unless it is the only one; "" when there is none. */
const char *choose_node(const struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt *ckpt, const char * not );
/* May this one be chosen?  If it may not, why. */
bool choose_allows(const struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt *ckpt, const char *node, char *why, size_t size);
/* Is one that is alive out of the question only until it tells of itself?  node: that one; "": any. */
bool choose_may_learn(
    const struct migrated *migrated, const struct msg_migrated_ve_fact *fact, const char *node);
/* Why there is none, node by node. */
void choose_explain(const struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt *ckpt, char *text, size_t size);
/* Its CPU features, 0: not told. */
uint64_t choose_cpu(const struct migrated *migrated, const char *node);
/* The fact that follows: next epoch, from this checkpoint, on that node. */
void next_fact(
    struct msg_migrated_ve_fact *fact, const struct migrated_ckpt *ckpt, const char *node);
/* images.c */
/* The newest checkpoint that is not set aside, or NULL. */
const struct migrated_ckpt *images_newest(
    const struct migrated_ve *ve, const struct msg_migrated_ve_fact *fact);
uint32_t images_set_aside(const struct migrated_ve *ve, const struct msg_migrated_ve_fact *fact);
/* What to start from, NULL: cold.  False: it waits for the nodes that have this one's image. */
bool images_choose(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt **ckpt);
/* Notes since when the newest one is out of reach; place_at is when an older one may be taken. */
void images_look(struct migrated *migrated, const struct migrated_ve *ve, struct place *place);
bool images_is_in_reach(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, const struct migrated_ckpt *ckpt);
bool images_is_set_aside(const struct msg_migrated_ve_fact *fact, uint64_t ckpt);
/* What is waited for. */
void images_explain(const struct migrated_ckpt *ckpt, char *text, size_t size);
/* keep.c */
void keep_all(struct migrated *migrated, struct migrated_actions *actions);
/* Does that copy stand here, whole? */
bool keep_is_ready(const struct migrated *migrated, const char *name, uint64_t epoch);
/* Will nothing silence that copy, which runs here or is to, at the end of its lease? */
bool keep_is_unfenced(const struct migrated *migrated, const char *name, uint64_t epoch);
void keep_none(struct migrated *migrated, struct migrated_actions *actions);
void keep_begun(struct migrated *migrated, const struct migrated_begun *begun, size_t count);
void keep_ran(struct migrated *migrated, const struct migrated_event *event,
    struct migrated_actions *actions);
struct keep *find_keep(struct migrated *migrated, const char *name);
const struct migrated_local *find_local(const struct migrated *migrated, const char *name);
/* To the coordinator, unless it was told a moment ago. */
void keep_tell(struct migrated *migrated, struct keep *keep, uint64_t epoch,
    const struct migrated_trouble *trouble, struct migrated_actions *actions);
void keep_ended(struct migrated *migrated, const struct migrated_event *event,
    struct migrated_actions *actions);
/* health.c */
void health_take(struct migrated *migrated, const struct migrated_event *event,
    struct migrated_actions *actions);

#endif
