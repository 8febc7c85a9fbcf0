/*
 * "This address is here now": gratuitous ARP for IPv4 (RFC 5227, both as request and as reply, since hosts differ in
 * which they heed), unsolicited neighbour advertisement with the override flag for IPv6 (RFC 4861, 7.2.6).
 */
#ifndef VED_ANNOUNCE_H
#define VED_ANNOUNCE_H

/* Sends on an interface of this network namespace; address is "A/prefix" or "A". */
int announce_address(const char *interface, const char *address, const unsigned char mac[6]);

#endif
