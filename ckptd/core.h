/*
 * Inside of ckptd's core: the two tables, and what round.c and seat.c share.
 */
#ifndef CKPTD_CORE_H
#define CKPTD_CORE_H

#include "ckptd/ckptd.h"

/* How long to wait before metad is asked again after an UNKNOWN. */
#define CKPTD_RETRY_MS 500
/* TIMEOUT serves another timer only while this many actions fit. */
#define CKPTD_STEP_ROOM (3 * CKPTD_ROUND_MEMBERS_MAX + 8)

/* X(name, mask of allowed successors): a round, seen by its coordinator. */
#define ROUND_STATES(X)                                                                            \
	X(FREE, TO(CREATING))                                                                      \
	X(CREATING, TO(VOTING) | TO(ABORTING))                                                     \
	X(VOTING, TO(DUMPING) | TO(ABORTING))                                                      \
	X(DUMPING, TO(COMMITTING) | TO(ABORTING))                                                  \
	X(COMMITTING, TO(ABORTING) | TO(ASKING) | TO(FREE))                                        \
	X(ABORTING, TO(ASKING) | TO(FREE))                                                         \
	X(ASKING, TO(FREE))

enum round_state {
#define X(name, successors) ROUND_##name,
	ROUND_STATES(X)
#undef X
};

/* What the coordinator knows of one member. */
struct round_member {
	char ve[CKPTD_VE_SIZE];
	uint64_t ve_epoch;
	uint64_t node;
	uint32_t copies;
	bool frozen;  /* VOTE_COMMIT came */
	bool durable; /* DUMPED came */
	bool asking;  /* silent; gossipd was asked about its node */
	struct ckptd_image image;
};

struct round {
	enum round_state state;
	uint64_t id;
	struct mono deadline;
	struct mono resend;
	enum ckptd_reason reason;
	size_t blame;      /* index of the member to blame; n_members: nobody */
	bool commit_tried; /* a COMMIT may be on its way: only the cell knows the outcome */
	bool deposed;
	uint32_t tries;
	size_t n_members;
	struct round_member *members;
};

/* A VE of this node and the newest round it took part in. */
struct seat {
	enum ckptd_seat_state state;
	char ve[CKPTD_VE_SIZE];
	uint64_t id;
	uint64_t ve_epoch;
	uint64_t coordinator;
	uint32_t copies;
	bool resume; /* loaded from the journal, not looked at yet */
	uint32_t tries;
	struct mono deadline;
	struct ckptd_image image;
};

struct ckptd {
	struct ckptd_config config;
	uint64_t last_id;
	uint64_t epoch;
	bool mine;
	struct round *rounds;
	struct round_member *members; /* rounds_max x round_members_max */
	struct seat *seats;
};

/* Appends a zeroed action; the caller has seen to the room. */
struct ckptd_action *ckptd_act(
    struct ckptd_actions *actions, enum ckptd_action_kind kind, uint64_t id, const char *ve);

/* round.c */
void round_begin(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void round_orphan(struct ckptd *ckptd, uint64_t id, struct ckptd_actions *actions);
void round_message(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void round_cell(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void round_status(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void round_timeout(
    struct ckptd *ckptd, struct round *round, struct mono now, struct ckptd_actions *actions);
void round_deposed(struct round *round, struct mono now);
struct mono round_deadline(const struct round *round);
const struct round *round_find(const struct ckptd *ckptd, uint64_t id);
void round_check(const struct ckptd *ckptd, const struct round *round);

/* seat.c */
void seat_load(struct ckptd *ckptd, const struct ckptd_record *record, struct mono now);
void seat_message(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void seat_frozen(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void seat_captured(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void seat_stored(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void seat_cell(struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void seat_status(
    struct ckptd *ckptd, const struct ckptd_event *event, struct ckptd_actions *actions);
void seat_timeout(
    struct ckptd *ckptd, struct seat *seat, struct mono now, struct ckptd_actions *actions);
void seat_check(const struct seat *seat);

#endif
