/*
 * One line an event on standard error: words first, then key=value.  Under a service manager that
 * captures standard error a syslog level prefix ("<6>") is written before each line (sd-daemon(3)).
 * log_bug() is for what our own code promised and did not keep: it fails every test.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

#include "common/mono.h"

enum log_level {
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_NOTICE,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ERROR
};

/* name is kept, not copied. */
void log_init(const char *name);
void log_set_level(enum log_level level);
/* The level of that name ("debug" ...), or -1. */
int log_level_parse(const char *name);
const char *log_level_name(enum log_level level);

#define LOG_PRINTF __attribute__((format(printf, 1, 2)))
LOG_PRINTF void log_debug(const char *format, ...);
LOG_PRINTF void log_info(const char *format, ...);
LOG_PRINTF void log_notice(const char *format, ...);
LOG_PRINTF void log_warning(const char *format, ...);
LOG_PRINTF void log_error(const char *format, ...);
LOG_PRINTF void log_bug(const char *format, ...);

/*
 * The last word of a start that came to nothing: tells error (negative errno) unless an error line told
 * the cause already, so that the user sees exactly one.
 */
void log_start_failed(int error);

/*
 * A limit for lines that foreign input can cause: at most one line in ten seconds, with how many
 * were kept back.  Usage: if (log_limit(&limit, now, &missed)) log_warning("... missed=%u", missed);
 */
struct log_limit {
	struct mono next;
	unsigned missed;
};
bool log_limit(struct log_limit *limit, struct mono now, unsigned *missed);

#endif
