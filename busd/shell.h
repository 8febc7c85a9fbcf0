/* Frames -> sources and log, log -> frames: busd's only user of sockets. */
#ifndef BUSD_SHELL_H
#define BUSD_SHELL_H

#include "common/daemon.h"

struct busd_settings {
	int64_t log_mb, segment_mb;
};

struct shell;
/* Opens the log and the sockets; borrowed arguments must outlive it.  0, or negative errno after telling. */
int shell_new(struct shell **out, struct daemon *daemon, const struct busd_settings *settings);
struct shell *shell_free(struct shell *shell);

#endif
