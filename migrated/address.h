/*
 * The address that a client wants for a VE.  One that a node has would take that node off the network, so it is refused
 * before it is placed.
 */
#ifndef MIGRATED_ADDRESS_H
#define MIGRATED_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/keys.h"

/* Can a VE have it?  cidr is "HOST/PREFIX", IPv4 or IPv6, or empty for none; false and why (one line) when not. */
bool address_is_usable(const char *cidr, const struct peers *peers, char *why, size_t size);

#endif
