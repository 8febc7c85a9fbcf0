/*
 * One worker at a time for each VE, also when ved was killed and its worker works on: a lock on RUN/ve/NAME.lock that the
 * kernel drops with its holder.
 */
#ifndef VED_LOCK_H
#define VED_LOCK_H

#include <stdbool.h>

#include "ved/engine.h"

/* Waits for the lock; a descriptor to be closed, or a negative errno. */
int lock_take(const struct engine_config *config, const char *name);
bool lock_is_taken(const struct engine_config *config, const char *name);
/* The holder removes the file when nothing is left of the VE. */
void lock_forget(const struct engine_config *config, const char *name);

#endif
