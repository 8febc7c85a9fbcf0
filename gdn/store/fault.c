#include "gdn/store/fault.h"

#include <stdarg.h>
#include <stdio.h>

int fault_set(struct fault *fault, int code, const char *format, ...)
{
	va_list args;

	if (!fault || fault->text[0])
		return code;
	va_start(args, format);
	vsnprintf(fault->text, sizeof(fault->text), format, args);
	va_end(args);
	return code;
}
