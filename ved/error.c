#include "ved/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int set_error(
    struct engine_error *error, int code, const char *format, va_list args, bool words)
{
	int length = vsnprintf(error->text, sizeof(error->text), format, args);

	if (words && length >= 0 && (size_t)length < sizeof(error->text))
		snprintf(error->text + length, sizeof(error->text) - (size_t)length, ": %s",
		    strerror(-code));
	return code;
}

int engine_fail(struct engine_error *error, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_error(error, code, format, args, true);
	va_end(args);
	return code;
}

int engine_refuse(struct engine_error *error, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_error(error, code, format, args, false);
	va_end(args);
	return code;
}
