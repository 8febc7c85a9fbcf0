#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int syslog_level;
} levels[] = {
    [LOG_LEVEL_DEBUG] = {"debug", 7},
    [LOG_LEVEL_INFO] = {"info", 6},
    [LOG_LEVEL_NOTICE] = {"notice", 5},
    [LOG_LEVEL_WARNING] = {"warning", 4},
    [LOG_LEVEL_ERROR] = {"error", 3},
};

static struct {
	const char *name;
	enum log_level level;
	bool journal;
	bool error_told;
} log_state = {.name = "depsys", .level = LOG_LEVEL_INFO};

void log_init(const char *name)
{
	log_state.name = name;
	log_state.journal = getenv("JOURNAL_STREAM") != NULL;
}

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

int log_level_parse(const char *name)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(levels[i].name, name) == 0)
			return (int)i;
	return -1;
}

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

/* The line is written whole by one call, so that lines of several processes do not mix. */
static void write_line(enum log_level level, const char *word, const char *format, va_list args)
{
	char line[1024];
	int at = 0;
	size_t end;

	if (level < log_state.level)
		return;
	if (level == LOG_LEVEL_ERROR)
		log_state.error_told = true;
	if (log_state.journal)
		at = snprintf(line, sizeof(line), "<%d>", levels[level].syslog_level);
	at += snprintf(line + at, sizeof(line) - (size_t)at, "%s: %s: ", log_state.name, word);
	vsnprintf(line + at, sizeof(line) - (size_t)at, format, args);
	end = strnlen(line, sizeof(line) - 2);
	for (size_t i = 0; i < end; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[end] = '\n';
	line[end + 1] = '\0';
	fputs(line, stderr);
}

#define DEFINE_LOG(function, level, word)                                                          \
	void function(const char *format, ...)                                                     \
	{                                                                                          \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, format);                                                            \
		write_line(level, word, format, args);                                             \
		va_end(args);                                                                      \
	}

DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG, "debug")
DEFINE_LOG(log_info, LOG_LEVEL_INFO, "info")
DEFINE_LOG(log_notice, LOG_LEVEL_NOTICE, "notice")
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING, "warning")
DEFINE_LOG(log_error, LOG_LEVEL_ERROR, "error")
DEFINE_LOG(log_bug, LOG_LEVEL_ERROR, "BUG")

void log_start_failed(int error)
{
	if (!log_state.error_told)
		log_error("start: %s", strerror(-error));
}

bool log_limit(struct log_limit *limit, struct mono now, unsigned *missed)
{
	if (mono_before(now, limit->next)) {
		limit->missed++;
		return false;
	}
	*missed = limit->missed;
	limit->missed = 0;
	limit->next = mono_add_ms(now, 10000);
	return true;
}
