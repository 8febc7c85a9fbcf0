/*
 * Which engines are on this node, and the table of what they can do for `depctl ve engines`.  Their programs are run
 * to ask for their versions: once, when ved starts.
 */
#ifndef VED_ENGINES_H
#define VED_ENGINES_H

#include "proto/ved.h"
#include "ved/engine.h"
#include "ved/shell.h"

/* Programs of criu and of the engines; one that is not used may be absent.  A failure names in *missing what is not there. */
int engines_find(
    const struct ved_settings *settings, struct engine_config *engine, const char **missing);
void engines_describe(const struct engine_config *config, struct msg_ved_engines_told *out);

#endif
