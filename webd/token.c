#include "webd/token.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

#define MODE_MOST 0640

static ssize_t read_token(const char *path, char text[TOKEN_MAX + 2])
{
	struct stat st;
	ssize_t size;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		size = -errno;
		log_error("open token file %s: %s", path, strerror(errno));
		return size;
	}
	if (fstat(fd, &st) < 0 || (st.st_mode & 0777 & ~(mode_t)MODE_MOST)) {
		log_error("token file %s: mode %04o, may be at most %04o", path, st.st_mode & 07777,
		    MODE_MOST);
		size = -EPERM;
	} else {
		size = read(fd, text, TOKEN_MAX + 1);
		if (size < 0)
			log_error("read token file %s: %s", path, strerror(errno));
	}
	close(fd);
	return size;
}

int token_load(struct gate *gate, const char *path)
{
	char text[TOKEN_MAX + 2] = "";
	ssize_t size = read_token(path, text);
	int r = 0;

	if (size < 0)
		return (int)size;
	if (gate_set_token(gate, text, strcspn(text, "\r\n")) < 0) {
		log_error("token file %s: expected %d to %d characters without blanks in one line",
		    path, TOKEN_MIN, TOKEN_MAX);
		r = -EINVAL;
	}
	sodium_memzero(text, sizeof(text));
	return r;
}
