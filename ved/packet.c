#include "ved/packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

int packet_send(const char *interface, unsigned short type, const unsigned char to[6],
    const void *data, size_t size)
{
	int sock = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* stays open, see packet.h */
	struct sockaddr_ll where = {.sll_family = AF_PACKET,
	    .sll_protocol = htons(type),
	    .sll_halen = ETH_ALEN,
	    .sll_ifindex = (int)if_nametoindex(interface)};

	if (sock < 0)
		return -errno;
	memcpy(where.sll_addr, to, ETH_ALEN);
	return sendto(sock, data, size, 0, (struct sockaddr *)&where, sizeof(where)) < 0 ? -errno
											 : 0;
}
