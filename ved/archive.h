/*
 * Trees of files as tar archives (pax format, by libarchive): with owners, modes, times, extended attributes, hard links,
 * device nodes.  An overlay's upper directory is such a tree: its whiteouts are device nodes 0/0, and what it hides are
 * trusted.overlay.* attributes, so both survive as they are; opaque directories too.
 */
#ifndef VED_ARCHIVE_H
#define VED_ARCHIVE_H

#include "ved/engine.h"

/* Writes all below dir into a new archive at path. */
int archive_pack(const char *dir, const char *path, struct engine_error *error);
/*
 * Unpacks into dir, which must exist; entries that would land outside of it are refused.  Changes the working directory
 * while it runs, so path is absolute and no other thread is at work.
 */
int archive_unpack(const char *path, const char *dir, struct engine_error *error);

#endif
