#include "common/mono.h"

#include <time.h>

struct mono mono_now(void)
{
	struct timespec now;

	clock_gettime(MONO_CLOCK, &now);
	return mono_ns((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
}
