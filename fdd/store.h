/*
 * The one number that outlives the process: its incarnation.
 */
#ifndef FDD_STORE_H
#define FDD_STORE_H

#include <stdint.h>

/* 0 with *value = 0 when there is no file; -EBADMSG when it holds no number; negative errno. */
int store_read(const char *path, uint64_t *value);
/* Replaces the file as a whole and durably; negative errno after logging. */
int store_write(const char *path, uint64_t value);

#endif
