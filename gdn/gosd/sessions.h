/*
 * Tickets for the bulk port, and what was received under one until it is committed.
 *
 * A peer gets a ticket by a request on the authenticated channel; the ticket is good once.  An
 * upload that is not committed in time is dropped, as is all after a restart: the sender asks again.
 */
#ifndef GDN_GOSD_SESSIONS_H
#define GDN_GOSD_SESSIONS_H

#include "common/keys.h"
#include "common/mono.h"
#include "gdn/gosd/transfer.h"

enum session_kind {
	SESSION_SEND,    /* the peer fetches */
	SESSION_RECEIVE, /* the peer brings */
};

struct session {
	enum session_kind kind;
	uint8_t ticket[TICKET_SIZE];
	char peer[NODE_NAME_MAX + 1];
	struct id oid;
	char tag[TAG_MAX + 1], tag_kind[32];
	struct upload *upload;
	struct received received;
	struct mono deadline;
	bool complete; /* received, waits for its commit */
	struct session *next;
};

struct sessions;

int sessions_new(struct sessions **out);
struct sessions *sessions_free(struct sessions *sessions);

/* Draws a ticket and takes over the session (from malloc).  -EBUSY: too many are open. */
int sessions_add(struct sessions *sessions, struct session *session, struct mono now);
/* The session with this ticket, now the caller's; NULL: none, or not in that state. */
struct session *sessions_take(
    struct sessions *sessions, const uint8_t ticket[TICKET_SIZE], bool complete);
/* Puts it back, complete, to wait for its commit. */
void sessions_keep(struct sessions *sessions, struct session *session, struct mono now);
/* Frees those that are late. */
void sessions_reap(struct sessions *sessions, struct mono now);
struct session *session_free(struct session *session);

#endif
