/*
 * Paths of the service and what may be done with them.  Part of the core.
 */
#ifndef WEBD_PATH_H
#define WEBD_PATH_H

#include <stdbool.h>
#include <stddef.h>

#define PATH_PART_MAX 63

enum verb {
	VERB_GET = 1, /* HEAD too */
	VERB_POST = 2,
	VERB_PUT = 4,
	VERB_DELETE = 8,
};

/* Of an HTTP method, 0 for one that is used nowhere. */
enum verb verb_of(const char *method);
/* "GET, HEAD, POST": the value of Allow. */
void verbs_write(char *text, size_t size, unsigned verbs);
/* One "*" in the pattern stands for 1 to 63 characters up to the next slash, which go to part. */
bool path_matches(const char *pattern, const char *path, char part[PATH_PART_MAX + 1]);

#endif
