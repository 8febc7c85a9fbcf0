/*
 * A daemon's datagrams to and from its peers on the other nodes: the socket, the seal, the peers'
 * addresses, what is put off until a peer can be sent to, and the counts of all this.
 *
 * How a daemon uses it.  Open the socket while privileged (udp.h) and hand it over.  wake() is
 * called from the loop when datagrams may be there; the daemon reads them with sealed_udp_drain(),
 * there and before it judges any timer, and take() gets each authentic payload.
 */
#ifndef COMMON_SEALED_UDP_H
#define COMMON_SEALED_UDP_H

#include "common/daemon.h"
#include "common/mono.h"
#include "common/mpr.h"
#include "common/udp.h"

/* Borrowed until take() returns. */
struct sealed_payload {
	uint64_t from; /* the peer's node id */
	struct mono arrived;
	const void *data;
	size_t size;
};

/*
 * 0: taken.  Otherwise refused, with the reason in error: negative when it cannot be read (counted
 * as refused_body), positive when it says what cannot be (the core counts those).
 */
typedef int (*sealed_udp_take)(
    void *userdata, const struct sealed_payload *payload, struct mpr_error *error);

struct sealed_udp_options {
	enum port_offset port; /* of the peers */
	sealed_udp_take take;
	void (*wake)(void *userdata);
	void *userdata;
};

struct sealed_udp;

/*
 * Takes over the socket (udp->fd is -1 afterwards, also on failure).  The peers are those of the daemon but this node,
 * also as they come and go; the daemon's name is the seal's context.  Negative errno, logged when it is a peer's fault.
 */
int sealed_udp_new(struct sealed_udp **out, struct daemon *daemon, struct udp *udp,
    const struct sealed_udp_options *options);
struct sealed_udp *sealed_udp_free(struct sealed_udp *sealed); /* returns NULL */

/* Is this the id of a peer that can be addressed? */
bool sealed_udp_knows(const struct sealed_udp *sealed, uint64_t peer);
/* Are keys agreed with this peer? */
bool sealed_udp_ready(const struct sealed_udp *sealed, uint64_t peer);
/* seal_opening(): what is sent now has to say what later ones leave out. */
bool sealed_udp_opening(const struct sealed_udp *sealed, uint64_t peer);
/*
 * Sends to a peer, or puts off until keys are agreed: the latest payload only.  Copies it; size is at most
 * SEAL_PAYLOAD_MAX.  Nothing is sent to who is no peer; what fails is counted and logged.
 */
void sealed_udp_send(struct sealed_udp *sealed, uint64_t peer, const void *payload, size_t size);
/* Reads the socket empty, within a limit. */
void sealed_udp_drain(struct sealed_udp *sealed);

#define SEALED_UDP_STATS (4 + SEAL_REFUSALS_COUNT)
/* Writes SEALED_UDP_STATS entries; refused_body explains the count of that name. */
void sealed_udp_stats(
    const struct sealed_udp *sealed, const char *refused_body, struct daemon_stat *stats);

#endif
