/*
 * The few ways the store changes a disk, so that a test can fail or end the process at each.
 * Writing is complete or an error; nothing is retried but EINTR.
 */
#ifndef GDN_STORE_DISK_H
#define GDN_STORE_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum disk_op {
	DISK_WRITE,
	DISK_FSYNC,
	DISK_RENAME,
	DISK_UNLINK,
	DISK_COMMIT, /* SQLite's, announced before it happens */
};

struct disk {
	/* NULL outside of tests.  A negative errno is what the operation then answers. */
	int (*before)(void *arg, enum disk_op op, const char *path);
	void *arg;
};

/* Asks the hook; for operations made elsewhere. */
int disk_before(const struct disk *disk, enum disk_op op, const char *path);
int disk_write(const struct disk *disk, int fd, const char *path, const void *data, size_t size);
int disk_write_at(const struct disk *disk, int fd, const char *path, const void *data, size_t size,
    uint64_t offset);
int disk_fsync(const struct disk *disk, int fd, const char *path);
/* Renames and makes the new name durable (fsync of its directory). */
int disk_rename(const struct disk *disk, const char *from, const char *to, int dir_fd);
int disk_unlink(const struct disk *disk, const char *path);
/* Reads exactly size bytes; -ENODATA at an early end. */
int disk_read_at(int fd, void *data, size_t size, uint64_t offset);

#endif
