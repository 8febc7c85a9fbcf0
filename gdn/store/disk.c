#include "gdn/store/disk.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

int disk_before(const struct disk *disk, enum disk_op op, const char *path)
{
	return disk->before ? disk->before(disk->arg, op, path) : 0;
}

int disk_write(const struct disk *disk, int fd, const char *path, const void *data, size_t size)
{
	const uint8_t *at = data;
	int r = disk_before(disk, DISK_WRITE, path);

	while (r == 0 && size > 0) {
		ssize_t n = write(fd, at, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		size -= (size_t)n;
	}
	return r;
}

int disk_write_at(const struct disk *disk, int fd, const char *path, const void *data, size_t size,
    uint64_t offset)
{
	const uint8_t *at = data;
	int r = disk_before(disk, DISK_WRITE, path);

	while (r == 0 && size > 0) {
		ssize_t n = pwrite(fd, at, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return r;
}

int disk_fsync(const struct disk *disk, int fd, const char *path)
{
	int r = disk_before(disk, DISK_FSYNC, path);

	if (r < 0)
		return r;
	return fsync(fd) < 0 ? -errno : 0;
}

int disk_rename(const struct disk *disk, const char *from, const char *to, int dir_fd)
{
	int r = disk_before(disk, DISK_RENAME, to);

	if (r < 0)
		return r;
	if (rename(from, to) < 0)
		return -errno;
	return disk_fsync(disk, dir_fd, to);
}

int disk_unlink(const struct disk *disk, const char *path)
{
	int r = disk_before(disk, DISK_UNLINK, path);

	if (r < 0)
		return r;
	return unlink(path) < 0 ? -errno : 0;
}

int disk_read_at(int fd, void *data, size_t size, uint64_t offset)
{
	uint8_t *at = data;

	while (size > 0) {
		ssize_t n = pread(fd, at, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		at += n;
		offset += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}
