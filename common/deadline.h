/*
 * The one timer of a shell: it wakes when the core wants to be asked next.
 */
#ifndef COMMON_DEADLINE_H
#define COMMON_DEADLINE_H

#include <systemd/sd-event.h>

#include "common/mono.h"

/*
 * Has the timer (MONO_CLOCK) fire once as soon as the deadline has passed, so that the core finds itself due;
 * never: not at all, until set again.
 */
void deadline_set(sd_event_source *timer, struct mono deadline);

#endif
