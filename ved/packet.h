/*
 * Single frames onto an interface of the present network namespace.
 *
 * The socket is left open until the process ends: to close a packet socket the kernel waits for an RCU grace period, 10 ms
 * and more, which would stand between a restored service and its first packet.  The engine lives in short-lived workers.
 */
#ifndef VED_PACKET_H
#define VED_PACKET_H

#include <stddef.h>

int packet_send(const char *interface, unsigned short type, const unsigned char to[6],
    const void *data, size_t size);

#endif
