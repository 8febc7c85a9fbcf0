/*
 * Tells when a connecting socket gains and loses its peer, so that a caller need not wait for a
 * deadline to learn that a server died.
 */
#ifndef COMMON_ZMONITOR_H
#define COMMON_ZMONITOR_H

#include <stdbool.h>

#include "common/zsock.h"

struct zmonitor;
/*
 * changed() is called from the loop; connected means that the handshake is complete.  Call it from the created()
 * option of zsock_new: later it could miss the first connection.
 */
int zmonitor_new(struct zmonitor **out, struct zcontext *context, sd_event *loop, void *socket,
    void (*changed)(void *userdata, bool connected), void *userdata);
/* Before the socket itself is freed. */
struct zmonitor *zmonitor_free(struct zmonitor *monitor);

#endif
