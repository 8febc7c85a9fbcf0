#include "webd/path.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *method;
	enum verb verb;
} verbs[] = {{"GET", VERB_GET}, {"HEAD", VERB_GET}, {"POST", VERB_POST}, {"PUT", VERB_PUT},
    {"DELETE", VERB_DELETE}};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

enum verb verb_of(const char *method)
{
	for (size_t i = 0; i < VERBS; i++)
		if (strcmp(verbs[i].method, method) == 0)
			return verbs[i].verb;
	return 0;
}

void verbs_write(char *text, size_t size, unsigned wanted)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < VERBS && used < size; i++)
		if (verbs[i].verb & wanted)
			used += (size_t)snprintf(
			    text + used, size - used, "%s%s", used ? ", " : "", verbs[i].method);
}

bool path_matches(const char *pattern, const char *path, char part[PATH_PART_MAX + 1])
{
	size_t before = strcspn(pattern, "*"), length;

	part[0] = '\0';
	if (pattern[before] == '\0')
		return strcmp(pattern, path) == 0;
	if (strncmp(pattern, path, before) != 0)
		return false;
	length = strcspn(path + before, "/");
	if (length == 0 || length > PATH_PART_MAX ||
	    strcmp(pattern + before + 1, path + before + length) != 0)
		return false;
	memcpy(part, path + before, length);
	part[length] = '\0';
	return true;
}
