/*
 * One attempt to reach a service over TCP: connect, and for HTTP a request and its answer.
 */
#ifndef FDD_PROBE_H
#define FDD_PROBE_H

#include <systemd/sd-event.h>

#include "proto/common.h"

struct probe;

/* fault NULL: the service answered.  Called once, from the loop; the probe is to be freed then. */
typedef void (*probe_done)(void *userdata, const char *fault);

/* kind tcp or http; address numeric.  what is borrowed until the probe is freed.  The caller sets the time limit. */
int probe_new(struct probe **out, sd_event *loop, const char *address,
    const struct msg_common_probe *what, probe_done done, void *userdata);
struct probe *probe_free(struct probe *probe);

#endif
