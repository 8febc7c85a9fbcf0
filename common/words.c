#include "common/words.h"

#include <string.h>

#define BLANKS " \t"

const char *words_next(const char *at, size_t *length)
{
	at += strspn(at, BLANKS);
	*length = strcspn(at, BLANKS);
	return at;
}

bool words_have(const char *words, const char *word, size_t length)
{
	size_t size;

	for (const char *at = words_next(words, &size); size; at = words_next(at + size, &size))
		if (size == length && memcmp(at, word, length) == 0)
			return true;
	return false;
}
