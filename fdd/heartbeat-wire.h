/*
 * Heartbeats as bytes.  Nearly all that an idle node sends is heartbeats, so each says only what changes: its number.
 * Incarnation and interval are those of the process; the heartbeats that open a session of the seal say them, and the
 * others need not, because nobody opens a datagram of a session before one that opens it (seal_opening()).
 */
#ifndef FDD_HEARTBEAT_WIRE_H
#define FDD_HEARTBEAT_WIRE_H

#include "common/buf.h"
#include "common/keys.h"
#include "common/mpr.h"
#include "fdd/fdd.h"

/* What each peer said when it opened its session, by the peer's place. */
struct heartbeat_wire {
	struct {
		uint64_t from; /* 0: nothing said yet */
		uint64_t incarnation;
		uint32_t interval_ms;
	} said[PEERS_MAX];
};

/* Appends to body; -ENOMEM. */
int heartbeat_pack(const struct fdd_heartbeat *beat, bool opening, struct buf *body);
/* place: of the peer `from` in the table of peers.  Negative with the reason in error. */
int heartbeat_unpack(struct heartbeat_wire *wire, size_t place, uint64_t from, const void *data,
    size_t size, struct fdd_heartbeat *beat, struct mpr_error *error);

#endif
