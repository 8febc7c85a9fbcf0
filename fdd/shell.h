/*
 * fdd's shell: frames -> events, actions -> frames.
 */
#ifndef FDD_SHELL_H
#define FDD_SHELL_H

#include "common/daemon.h"
#include "common/udp.h"
#include "fdd/settings.h"

struct shell;
/* Takes over *udp.  0 or negative errno after logging. */
int shell_new(struct shell **out, struct daemon *daemon, const struct fdd_settings *settings,
    struct udp *udp);
struct shell *shell_free(struct shell *shell);

#endif
