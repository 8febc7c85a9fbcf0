/*
 * A number that outlives the process: an incarnation.
 */
#ifndef COMMON_NUMBER_FILE_H
#define COMMON_NUMBER_FILE_H

#include <stdint.h>

/* 0 with *value = 0 when there is no file; -EBADMSG when it holds no number; negative errno. */
int number_file_read(const char *path, uint64_t *value);
/* Replaces the file as a whole and durably; negative errno after logging. */
int number_file_write(const char *path, uint64_t value);

#endif
