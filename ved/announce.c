#include "ved/announce.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/socket.h>

#include "ved/files.h"
#include "ved/packet.h"

static int announce_ipv4(
    const char *interface, const unsigned char ip[4], const unsigned char mac[6])
{
	static const unsigned char everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct ether_arp arp = {.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
				    .ar_pro = htons(ETHERTYPE_IP),
				    .ar_hln = 6,
				    .ar_pln = 4,
				    .ar_op = htons(ARPOP_REQUEST)}};
	int rc;

	memcpy(arp.arp_sha, mac, 6);
	memcpy(arp.arp_spa, ip, 4);
	memcpy(arp.arp_tpa, ip, 4);
	rc = packet_send(interface, ETHERTYPE_ARP, everyone, &arp, sizeof(arp));
	if (rc < 0)
		return rc;
	arp.ea_hdr.ar_op = htons(ARPOP_REPLY);
	memcpy(arp.arp_tha, mac, 6);
	return packet_send(interface, ETHERTYPE_ARP, everyone, &arp, sizeof(arp));
}

struct advertisement {
	struct ip6_hdr ip;
	struct nd_neighbor_advert body;
	struct nd_opt_hdr option;
	unsigned char mac[6];
} __attribute__((packed));

static uint32_t sum16(const void *data, size_t size, uint32_t sum)
{
	const unsigned char *byte = data;

	for (size_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)byte[i] << 8 | byte[i + 1];
	return sum;
}

/* Over the pseudo header (addresses, length, next header) and the message: RFC 4443, 2.3. */
static uint16_t checksum(const struct advertisement *message)
{
	size_t size = sizeof(*message) - sizeof(message->ip);
	uint32_t sum = sum16((const char *)message + offsetof(struct ip6_hdr, ip6_src), 32,
	    (uint32_t)size + IPPROTO_ICMPV6);

	sum = sum16((const char *)message + sizeof(message->ip), size, sum);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static int announce_ipv6(
    const char *interface, const struct in6_addr *ip, const unsigned char mac[6])
{
	static const unsigned char all_nodes[6] = {0x33, 0x33, 0, 0, 0, 1};
	struct advertisement message = {
	    .ip = {.ip6_flow = htonl(6U << 28),
		.ip6_plen = htons(sizeof(message) - sizeof(struct ip6_hdr)),
		.ip6_nxt = IPPROTO_ICMPV6,
		.ip6_hlim = 255,
		.ip6_src = *ip},
	    .body = {.nd_na_hdr = {.icmp6_type = ND_NEIGHBOR_ADVERT}, .nd_na_target = *ip},
	    .option = {.nd_opt_type = ND_OPT_TARGET_LINKADDR, .nd_opt_len = 1},
	};

	inet_pton(AF_INET6, "ff02::1", &message.ip.ip6_dst);
	message.body.nd_na_hdr.icmp6_data32[0] = ND_NA_FLAG_OVERRIDE;
	memcpy(message.mac, mac, 6);
	message.body.nd_na_hdr.icmp6_cksum = checksum(&message);
	return packet_send(interface, ETHERTYPE_IPV6, all_nodes, &message, sizeof(message));
}

int announce_address(const char *interface, const char *address, const unsigned char mac[6])
{
	char host[INET6_ADDRSTRLEN];
	struct in6_addr ip6;
	unsigned char ip4[4];

	if (path_set(host, "%.*s", (int)strcspn(address, "/"), address) < 0)
		return -EINVAL;
	if (inet_pton(AF_INET, host, ip4) == 1)
		return announce_ipv4(interface, ip4, mac);
	if (inet_pton(AF_INET6, host, &ip6) == 1)
		return announce_ipv6(interface, &ip6, mac);
	return -EINVAL;
}
