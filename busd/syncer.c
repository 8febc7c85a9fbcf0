#include "busd/syncer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

struct syncer {
	pthread_t thread;
	int in, out; /* a pipe of descriptor numbers */
};

static void *run(void *userdata)
{
	struct syncer *syncer = userdata;
	int fd;

	while (read(syncer->out, &fd, sizeof(fd)) == sizeof(fd)) {
		if (fdatasync(fd) < 0)
			log_error("sync the log: %s", strerror(errno));
		close(fd);
	}
	return NULL;
}

int syncer_new(struct syncer **out)
{
	struct syncer *syncer = calloc(1, sizeof(*syncer));
	int ends[2], r;

	if (!syncer)
		return -ENOMEM;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		r = -errno;
		free(syncer);
		return r;
	}
	syncer->out = ends[0];
	syncer->in = ends[1];
	(void)fcntl(syncer->in, F_SETFL, O_NONBLOCK);
	r = pthread_create(&syncer->thread, NULL, run, syncer);
	if (r != 0) {
		close(syncer->in);
		close(syncer->out);
		free(syncer);
		return -r;
	}
	*out = syncer;
	return 0;
}

struct syncer *syncer_free(struct syncer *syncer)
{
	if (!syncer)
		return NULL;
	close(syncer->in);
	pthread_join(syncer->thread, NULL);
	close(syncer->out);
	free(syncer);
	return NULL;
}

void syncer_push(struct syncer *syncer, int fd)
{
	if (fd >= 0 && write(syncer->in, &fd, sizeof(fd)) != sizeof(fd))
		close(fd);
}
