/*
 * metad's shell: engine, tunnel and store put together, and the requests that they answer.
 */
#ifndef METAD_SHELL_H
#define METAD_SHELL_H

#include "common/daemon.h"
#include "metad/engine.h"
#include "metad/settings.h"

struct shell;

/* Starts all; the engine runs once it is known that this node votes.  Logs what went wrong.  All arguments
 * are borrowed.  There is no end but that of the process, see main.c. */
int shell_new(struct shell **out, struct daemon *daemon, const struct settings *settings,
    struct engine *engine, bool private);
/* Tells the watchers that it ends. */
void shell_end(struct shell *shell);

#endif
