#include "ved/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "ved/files.h"

static int lock_path(char *out, size_t size, const struct engine_config *config, const char *name)
{
	return path_format(out, size, "%s/ve/%s.lock", config->run, name);
}

int lock_take(const struct engine_config *config, const char *name)
{
	char dir[VE_PATH * 2], path[VE_PATH * 2];
	struct stat mine, there;
	int fd, rc = path_set(dir, "%s/ve", config->run);

	if (rc == 0)
		rc = lock_path(path, sizeof(path), config, name);
	if (rc == 0)
		rc = dir_make(dir, 0700);
	if (rc < 0)
		return rc;
	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX) < 0) {
			rc = -errno;
			close(fd);
			return rc;
		}
		/* The holder before may have removed the file that we waited for. */
		if (fstat(fd, &mine) == 0 && stat(path, &there) == 0 && mine.st_ino == there.st_ino)
			return fd;
		close(fd);
	}
}

bool lock_is_taken(const struct engine_config *config, const char *name)
{
	char path[VE_PATH * 2];
	_cleanup_fd_ int fd = -1;

	if (lock_path(path, sizeof(path), config, name) < 0)
		return false;
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

void lock_forget(const struct engine_config *config, const char *name)
{
	char path[VE_PATH * 2];

	if (lock_path(path, sizeof(path), config, name) == 0)
		unlink(path);
}
