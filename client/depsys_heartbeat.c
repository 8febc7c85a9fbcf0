/*
 * One datagram to the broadcast address of each network that the program is in; fdd of the node takes those that
 * come from the address of a VE that it watches.  So nothing has to be mounted, set or known inside, and it goes
 * on after the VE has moved to another node.  The socket lives for one datagram: a checkpoint holds none of it.
 *
 * The text is MessagePack, {"i": incarnation, "s": sequence, "d": interval in ms} (fdd.heartbeat of proto/fdd.toml).
 */
#include <depsys_heartbeat.h>

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7419, SIZE = 30 };

static void put(uint8_t **at, char key, uint8_t type, uint64_t value, int bytes)
{
	*(*at)++ = 0xa1;
	*(*at)++ = (uint8_t)key;
	*(*at)++ = type;
	while (bytes-- > 0)
		*(*at)++ = (uint8_t)(value >> (8 * bytes));
}

static void pack(const struct depsys_heartbeat *heart, uint8_t text[SIZE])
{
	uint8_t *at = text;

	*at++ = 0x83;
	put(&at, 'i', 0xcf, heart->incarnation, 8);
	put(&at, 's', 0xcf, heart->sequence, 8);
	put(&at, 'd', 0xce, heart->interval_ms, 4);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void depsys_heartbeat_init(struct depsys_heartbeat *heart, uint32_t interval_ms)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(heart, 0, sizeof(*heart));
	heart->incarnation = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
	heart->interval_ms = interval_ms;
	heart->port = PORT;
}

/* To one network; 0 when it has no broadcast address of its own. */
static int send_to(int fd, const struct ifaddrs *network, uint16_t port, const uint8_t *text)
{
	struct sockaddr_in to;
	struct sockaddr_in mask;

	if (!network->ifa_addr || network->ifa_addr->sa_family != AF_INET ||
	    !network->ifa_netmask || network->ifa_flags & IFF_LOOPBACK ||
	    !(network->ifa_flags & IFF_UP))
		return 0;
	memcpy(&to, network->ifa_addr, sizeof(to));
	memcpy(&mask, network->ifa_netmask, sizeof(mask));
	to.sin_addr.s_addr |= ~mask.sin_addr.s_addr;
	to.sin_port = htons(port);
	return sendto(fd, text, SIZE, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) == SIZE
		   ? 1
		   : -1;
}

static int send_all(const struct depsys_heartbeat *heart)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1, sent = 0;
	struct ifaddrs *networks = NULL;
	uint8_t text[SIZE];

	if (fd < 0)
		return -1;
	pack(heart, text);
	if (setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)) == 0 &&
	    getifaddrs(&networks) == 0)
		for (const struct ifaddrs *n = networks; n; n = n->ifa_next)
			sent += send_to(fd, n, heart->port, text) > 0;
	if (networks)
		freeifaddrs(networks);
	close(fd);
	return sent ? 1 : -1;
}

int depsys_heartbeat_beat(struct depsys_heartbeat *heart)
{
	int64_t now = now_ms();

	/* A clock that ran backwards is that of another machine: the program was moved. */
	if (now < heart->next_ms && heart->next_ms - now <= (int64_t)heart->interval_ms)
		return 0;
	heart->next_ms = now + heart->interval_ms;
	heart->sequence++;
	return send_all(heart);
}
