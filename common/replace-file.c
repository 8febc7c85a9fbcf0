#include "common/replace-file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

static int write_file(const char *path, const void *data, size_t size, unsigned mode)
{
	int r = 0, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, data, size);
	if (written < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0)
		r = -errno;
	else if ((size_t)written != size)
		r = -ENOSPC;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	return r;
}

static int sync_directory(const char *path)
{
	char copy[PATH_MAX];
	int r = 0, fd;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

int replace_file(const char *path, const void *data, size_t size, unsigned mode)
{
	char new_path[PATH_MAX + 4];
	int r;

	snprintf(new_path, sizeof(new_path), "%s.new", path);
	r = write_file(new_path, data, size, mode);
	if (r == 0 && rename(new_path, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_directory(path);
	if (r < 0)
		log_error("store %s: %s", path, strerror(-r));
	return r;
}
