/*
 * The network of one VE: a namespace of its own, kept by a bind mount so that it outlives every process, joined to the
 * node's bridge by a veth pair, with the VE's one address.  The hardware address follows from the IP address, so that the
 * VE keeps both wherever it is restored and no neighbour has to learn anew; the switch ports between are taught by an
 * announcement (gratuitous ARP, unsolicited neighbour advertisement).
 *
 * The gate holds what is on its way into the VE: while tasks are frozen and written down, packets wait in a queue on the
 * node's side of the pair and are delivered at the thaw, so that a pause costs its own length and not a retransmission
 * timeout (200 ms; 1 s for a SYN).  What waits was seen by nobody, so it is not part of any image: the cut is clean.
 */
#ifndef VED_NET_H
#define VED_NET_H

#include "ved/engine.h"
#include "ved/fence.h"

enum net_gate {
	GATE_PASS,
	GATE_HOLD,
};

struct net {
	char netns[VE_PATH * 2]; /* RUN/ve/NAME/netns */
	char host[IFNAMSIZ];     /* the node's end of the pair, "ve" and a hash of the name */
};

/* Name and path of what belongs to a VE; makes nothing. */
int net_find(struct net *out, const struct engine_config *config, const char *name);
/* Makes namespace, pair, address and route; a bridge is needed when the VE has an address.  fence may be NULL. */
int net_make(const struct net *net, const struct engine_config *config, const struct ve_spec *spec,
    enum net_gate gate, const struct fence *fence, struct engine_error *error);
/* 0 also for a VE without a network. */
int net_gate(const struct net *net, enum net_gate gate);
/*
 * Of a frozen VE: nothing that its kernel still sends (late acknowledgements, probes) leaves it; what was kept back is
 * dropped when it may speak again.  A packet sent after the instant that an image holds carries a later TCP timestamp than
 * the first ones after a restore, and peers would take those for old duplicates (PAWS, RFC 7323, 5) until time has caught
 * up: a second and more.
 */
int net_mute(const struct net *net, bool mute);
/* Says on the bridge where the VE's address now is. */
int net_announce(const struct net *net, const struct ve_spec *spec);
/* Takes the pair away first (nothing leaves the VE any more), then the namespace; 0 when there is none. */
int net_remove(const struct net *net);

/* 02:.. from an IPv4 address, a hash of an IPv6 address; -EINVAL: not an address. */
int net_hardware_address(const char *address, unsigned char out[6]);

#endif
