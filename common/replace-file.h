/*
 * A file replaced as a whole: write, fsync, rename, fsync of the directory.  Whoever reads it finds the old or the new one.
 */
#ifndef COMMON_REPLACE_FILE_H
#define COMMON_REPLACE_FILE_H

#include <stddef.h>

/* 0 or negative errno after logging. */
int replace_file(const char *path, const void *data, size_t size, unsigned mode);

#endif
