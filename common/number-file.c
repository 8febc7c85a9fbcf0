/*
 * A line of text in a file of its own, replaced by write, fsync, rename, fsync of the directory.
 */
#include "common/number-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

int number_file_read(const char *path, uint64_t *value)
{
	FILE *file = fopen(path, "re");
	int fields;

	*value = 0;
	if (!file)
		return errno == ENOENT ? 0 : -errno;
	fields = fscanf(file, "%" SCNu64, value);
	fclose(file);
	return fields == 1 ? 0 : -EBADMSG;
}

static int write_file(const char *path, uint64_t value)
{
	int r = 0, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%" PRIu64 "\n", value) < 0 || fsync(fd) < 0)
		r = -errno;
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

int number_file_write(const char *path, uint64_t value)
{
	char new_path[PATH_MAX + 4];
	int r;

	snprintf(new_path, sizeof(new_path), "%s.new", path);
	r = write_file(new_path, value);
	if (r == 0 && rename(new_path, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_directory(path);
	if (r < 0)
		log_error("store %s: %s", path, strerror(-r));
	return r;
}
