/* What zsock.c, zcontext.c and zwatch.c tell each other. */
#ifndef COMMON_ZCONTEXT_H
#define COMMON_ZCONTEXT_H

#include "common/zsock.h"

void *zcontext_native(const struct zcontext *context);
sd_event *zcontext_loop(const struct zcontext *context);
/* What the monitor of a bound socket said. */
#define HANDSHAKE_FAILED                                                                           \
	(ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
void zcontext_note_connection(struct zcontext *context, int event);
/* NULL: local sockets only. */
const struct node_keys *zcontext_keys(const struct zcontext *context);
/* Ends all connections that came in over CURVE. */
int zsock_cut_connections(struct zcontext *context);
/* Was the socket used (its edge may be gone), or seen empty? */
void zwatch_note(void *socket, bool used);

#endif
