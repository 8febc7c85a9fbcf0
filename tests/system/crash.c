/*
 * Preloaded into a daemon: kills it at the crash points (common/crashpoint.h) that a test has armed.  CRASH_POINTS names a directory;
 * a file there with a label's name arms it, for whoever comes first: who removes the file dies.
 */
#include "common/crashpoint.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void crash_point_reached(const char *label)
{
	const char *directory = getenv("CRASH_POINTS");
	char path[512];

	if (!directory) /* a test that armed nothing would pass for nothing */
		abort();
	if (snprintf(path, sizeof(path), "%s/%s", directory, label) >= (int)sizeof(path))
		abort();
	if (unlink(path) == 0)
		kill(getpid(), SIGKILL);
	else if (errno != ENOENT)
		fprintf(stderr, "crash point %s: remove %s: %s\n", label, path, strerror(errno));
}
