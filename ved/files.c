#include "ved/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

int path_format(char *out, size_t size, const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(out, size, format, args);
	va_end(args);
	return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

int file_put(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t size = strlen(text);
	ssize_t done;

	if (fd < 0)
		return -errno;
	done = write(fd, text, size);
	if (done < 0)
		return -errno;
	return (size_t)done == size ? 0 : -EIO;
}

static int write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t done = write(fd, data, size);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		data += done;
		size -= (size_t)done;
	}
	return 0;
}

int file_replace(const char *path, const void *data, size_t size, mode_t mode)
{
	char temporary[PATH_MAX];
	int rc = path_set(temporary, "%s.new", path);
	_cleanup_fd_ int fd =
	    rc < 0 ? -1 : open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0)
		return rc < 0 ? rc : -errno;
	rc = write_all(fd, data, size);
	if (rc == 0 && rename(temporary, path) < 0)
		rc = -errno;
	if (rc < 0)
		unlink(temporary);
	return rc;
}

int file_read(const char *path, size_t max, struct buf *out)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (;;) {
		uint8_t *room = buf_reserve(out, 4096);
		ssize_t got;

		if (!room)
			return -ENOMEM;
		got = read(fd, room, 4095);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		room[got] = 0;
		if (got == 0)
			return 0;
		out->size += (size_t)got;
		if (out->size > max)
			return -EFBIG;
	}
}

int dir_make(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	int rc = path_set(part, "%s", path);

	if (rc < 0)
		return rc;
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	if (mkdir(part, mode) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *where)
{
	(void)st;
	(void)flag;
	(void)where;
	return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int dir_remove(const char *path)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) == 0 || errno == ENOENT)
		return 0;
	return -errno;
}

uint64_t dir_bytes(const char *path)
{
	DIR *dir = opendir(path);
	uint64_t sum = 0;
	struct dirent *entry;
	struct stat st;

	while (dir && (entry = readdir(dir)))
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	if (dir)
		closedir(dir);
	return sum;
}
