/* A list in one line, as configuration and messages have it: words between blanks. */
#ifndef COMMON_WORDS_H
#define COMMON_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* The first word at or behind `at`, and its length; length 0: there is none.  The next one: words_next(word + length, ...). */
const char *words_next(const char *at, size_t *length);
bool words_have(const char *words, const char *word, size_t length);

#endif
