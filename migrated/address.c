#include "migrated/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct host {
	int family;
	uint8_t bytes[16];
};

static bool parse_host(const char *text, struct host *host)
{
	memset(host, 0, sizeof(*host));
	host->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(host->family, text, host->bytes) == 1;
}

static bool parse_cidr(const char *cidr, struct host *host)
{
	char text[NODE_ADDRESS_MAX + 1];
	const char *slash = strchr(cidr, '/');
	unsigned long prefix;
	char *end;

	if (!slash || (size_t)(slash - cidr) >= sizeof(text) || !isdigit((unsigned char)slash[1]))
		return false;
	memcpy(text, cidr, (size_t)(slash - cidr));
	text[slash - cidr] = '\0';
	prefix = strtoul(slash + 1, &end, 10);
	return *end == '\0' && parse_host(text, host) && prefix > 0 &&
	       prefix <= (host->family == AF_INET ? 32 : 128);
}

bool address_is_usable(const char *cidr, const struct peers *peers, char *why, size_t size)
{
	const struct peer *peer = NULL;
	struct host wanted, own;

	if (!*cidr)
		return true;
	if (!parse_cidr(cidr, &wanted)) {
		snprintf(why, size, "address: like 10.77.0.100/24, not \"%s\"", cidr);
		return false;
	}
	while ((peer = peers_next(peers, peer)))
		if (parse_host(peer->address, &own) && memcmp(&own, &wanted, sizeof(own)) == 0) {
			snprintf(why, size, "address: %s is that of node %s", cidr, peer->name);
			return false;
		}
	return true;
}
