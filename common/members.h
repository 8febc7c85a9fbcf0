/*
 * Signed membership: what the administrator said of each node, as records that anybody may carry.
 *
 * The administrator has an Ed25519 key pair that is on no node; each node's configuration has the public half ([node]
 * admin).  A record names a node, where it is, its public key, and whether it is let in; its serial rises with each
 * change, and the highest counts.  So a member that lies can withhold records, but neither make nor alter one nor bring an
 * old one back.  Rejected: a list in metad, because who may talk to metad follows from the list; one secret that all
 * nodes share, because one lost node then is all of them; certificates (X.509), because a signature over a few fields
 * says all of it and needs no parser.
 *
 * Functions over state and bytes: the time is given, nothing is read or written here.
 */
#ifndef COMMON_MEMBERS_H
#define COMMON_MEMBERS_H

#include "common/buf.h"
#include "common/keys.h"
#include "proto/common.h"

#define ADMIN_SECRET_SIZE 64
#define MEMBERS_MAX PEERS_MAX

/* The longest way to say why a record is refused. */
#define MEMBERS_WHY 160

struct member_record {
	struct msg_member_record said;
	size_t size;
	uint8_t bytes[MSG_MEMBER_SIGNED_SIZE_MAX]; /* member.signed, as it came */
};

struct members_counters {
	uint64_t taken, malformed, forged, foreign, stale;
};

struct members {
	uint8_t admin[KEY_SIZE];
	char cluster[NODE_NAME_MAX + 1]; /* [node] cluster */
	struct members_counters counters;
	uint64_t
	    digest; /* the same for all who know the same records, in whatever order they came; 0: none are known */
	size_t count;
	struct member_record
	    record[MEMBERS_MAX]; /* at most one of a name; in the order in which they came */
};

/* Appends member.signed to out.  0, -EINVAL for a record that no node would take, -ENOMEM. */
int members_sign(const struct msg_member_record *record, const uint8_t secret[ADMIN_SECRET_SIZE],
    struct buf *out);
/* Reads and checks one: 0; -EBADMSG: not to be read, or impossible values; -EKEYREJECTED: not signed by the administrator. */
int members_open(struct member_record *record, const void *bytes, size_t size,
    const uint8_t admin[KEY_SIZE], char why[MEMBERS_WHY]);

/*
 * 1: it is newer than what was known, and *out is where it stands; 0: known already.  -ESTALE: older; -EXDEV: of another
 * cluster; -ENOSPC; as members_open.
 */
int members_take(struct members *members, const void *bytes, size_t size,
    const struct member_record **out, char why[MEMBERS_WHY]);
const struct member_record *members_by_name(const struct members *members, const char *name);

/* Is the node's present key, or its old one, good at this second since 1970? */
bool member_is_in(const struct msg_member_record *record, uint64_t now_s);
bool member_old_is_in(const struct msg_member_record *record, uint64_t now_s);
/* The next second at which one of these answers changes by itself; 0: none. */
uint64_t members_next_change(const struct members *members, uint64_t now_s);

#endif
