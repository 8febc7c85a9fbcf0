/*
 * A line of text in a file of its own.
 */
#include "common/number-file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/replace-file.h"

int number_file_read(const char *path, uint64_t *value)
{
	FILE *file = fopen(path, "re");
	int fields;

	*value = 0;
	if (!file)
		return errno == ENOENT ? 0 : -errno;
	fields = fscanf(file, "%" SCNu64, value);
	fclose(file);
	return fields == 1 ? 0 : -EBADMSG;
}

int number_file_write(const char *path, uint64_t value)
{
	char text[24];
	int length = snprintf(text, sizeof(text), "%" PRIu64 "\n", value);

	return replace_file(path, text, (size_t)length, 0600);
}
