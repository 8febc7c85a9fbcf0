/*
 * The signed records of a running daemon (members.h): read from STATE/members at its start, then whenever gossipd of
 * this node writes one there, and each brought to bear on the daemon's peers at the second from which it counts.
 *
 * Each daemon checks every signature itself: that a file is there proves nothing.  A file a node, replaced as a whole, in
 * a directory that only gossipd may write.  Rejected: asking gossipd over its socket, because then a daemon that starts
 * while gossipd is down would let in who was revoked.
 */
#ifndef COMMON_ROSTER_H
#define COMMON_ROSTER_H

#include "common/daemon.h"
#include "common/members.h"

struct roster;

/* STATE/members. */
void roster_directory(char *path, size_t size, const struct node_config *node);

/* Reads all records there are and applies them to daemon->node.peers; what cannot be read is logged and passed over. */
int roster_new(struct roster **out, struct daemon *daemon);
/* From now on changes are noticed. */
int roster_watch(struct roster *roster, sd_event *loop);
struct roster *roster_free(struct roster *roster);

const struct members *roster_members(const struct roster *roster);
/* gossipd only: takes a record, stores it, and applies it when the loop runs next.  As members_take. */
int roster_take(struct roster *roster, const void *bytes, size_t size, char why[MEMBERS_WHY]);
/*
 * gossipd only, now and then: writes the files that are missing, damaged or old, of a few records each time.  The other
 * daemons have nothing else to go by when they start, and a revoked node could come back to one that does not know.
 */
void roster_repair(struct roster *roster);

#endif
