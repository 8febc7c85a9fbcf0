#include "common/deadline.h"

#include <string.h>

#include "common/log.h"

void deadline_set(sd_event_source *timer, struct mono deadline)
{
	int64_t ns = deadline.ns > 0 ? deadline.ns : 0;
	uint64_t usec = mono_is_never(deadline) ? UINT64_MAX : (uint64_t)ns / 1000 + 1;
	int r = sd_event_source_set_time(timer, usec);

	if (r >= 0)
		r = sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
	if (r < 0)
		log_bug("set the timer: %s", strerror(-r));
}
