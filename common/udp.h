/*
 * A socket for datagrams with their times of arrival on the monotonic clock.
 */
#ifndef COMMON_UDP_H
#define COMMON_UDP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/keys.h"
#include "common/mono.h"
#include "common/seal.h"

struct udp {
	int fd;
	struct mono emptied; /* when it was last seen empty: what comes now arrived after that */
};

struct udp_datagram {
	size_t size; /* SEAL_DATAGRAM_MAX + 1 when it was longer than allowed */
	uint8_t bytes[SEAL_DATAGRAM_MAX + 1];
	struct mono arrived;
	char from[NODE_ADDRESS_MAX + 1]; /* for the log only */
};

struct udp_address {
	struct sockaddr_storage storage;
	socklen_t size;
};

/* Binds; negative errno after logging what was wrong. */
int udp_open(struct udp *udp, const char *address, uint16_t port);
void udp_close(struct udp *udp);
/* A numeric address; -EINVAL. */
int udp_address(struct udp_address *to, const char *address, uint16_t port);
/* The next datagram: 0, or -EAGAIN when there is none, or another negative errno. */
int udp_receive(struct udp *udp, struct udp_datagram *datagram);
int udp_send(struct udp *udp, const struct udp_address *to, const void *bytes, size_t size);

#endif
