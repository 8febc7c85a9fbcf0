/*
 * Tells what becomes of a socket's connections: a caller need not wait for a deadline to learn that a server died,
 * and a server can count those who come and speak no ZMTP.
 */
#ifndef COMMON_ZMONITOR_H
#define COMMON_ZMONITOR_H

#include "common/zsock.h"

struct zmonitor;
/*
 * happened() is called from the loop with each of the ZMQ_EVENT_* that the mask holds.  Call it from the created()
 * option of zsock_new: later it could miss the first connection.
 */
int zmonitor_new(struct zmonitor **out, struct zcontext *context, sd_event *loop, void *socket,
    int mask, void (*happened)(void *userdata, int event), void *userdata);
/* Before the socket itself is freed. */
struct zmonitor *zmonitor_free(struct zmonitor *monitor);

#endif
