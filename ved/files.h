/*
 * Small things with whole files and directories, for ved's engine: paths are formatted in place, contents are short.
 * All return 0 or a negative errno.
 */
#ifndef VED_FILES_H
#define VED_FILES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/buf.h"

/* Formats into a char array; -ENAMETOOLONG when it does not fit. */
#define path_set(array, ...) path_format((array), sizeof(array), __VA_ARGS__)
int path_format(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes a control file (cgroup, /proc) or a plain file that exists: one write(). */
int file_put(const char *path, const char *text);
/* Writes a new file beside the old and renames it into place. */
int file_replace(const char *path, const void *data, size_t size, mode_t mode);
/* Reads a whole file of at most max bytes and adds a zero that is not counted; -EFBIG. */
int file_read(const char *path, size_t max, struct buf *out);
/* Makes a directory and its parents. */
int dir_make(const char *path, mode_t mode);
/* Removes a tree; never crosses into another file system. 0 when it is not there. */
int dir_remove(const char *path);
/* The sum of the sizes of a directory's plain files. */
uint64_t dir_bytes(const char *path);

static inline void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static inline void text_free(char **text)
{
	free(*text);
}

#define _cleanup_fd_ __attribute__((cleanup(fd_close)))
#define _cleanup_text_ __attribute__((cleanup(text_free)))

#endif
