/*
 * dqlite's worker threads ask for streams to other voters; the tunnel lives in the loop's thread.
 * The dialer stands between: a thread hands in its question and waits for the loop's answer.
 */
#ifndef METAD_DIALER_H
#define METAD_DIALER_H

#include "metad/tunnel.h"

struct dialer;

int dialer_new(
    struct dialer **out, sd_event *loop, struct tunnel *tunnel, const struct peers *peers);
/* From any thread but the loop's: waits until the peer has proved itself.  0 or negative errno;
 * the tunnel's handshake limit bounds the wait. */
int dialer_dial(void *dialer, const char *name, int *fd);

#endif
