#include "metad/dialer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* On the stack of the thread that waits. */
struct question {
	struct question *next;
	struct dialer *dialer;
	const char *name;
	int fd;
	int result; /* 1: not answered yet */
};

struct dialer {
	struct tunnel *tunnel;
	const struct peers *peers;
	int wake;
	pthread_mutex_t lock;
	pthread_cond_t answered;
	struct question *waiting;
};

static void answer(struct question *question, int result)
{
	struct dialer *dialer = question->dialer;

	pthread_mutex_lock(&dialer->lock);
	question->result = result;
	pthread_cond_broadcast(&dialer->answered);
	pthread_mutex_unlock(&dialer->lock);
}

static void established(void *arg, int result)
{
	struct question *question = arg;

	if (result < 0)
		close(question->fd);
	answer(question, result);
}

static void take(struct dialer *dialer, struct question *question)
{
	const struct peer *peer = peers_by_name(dialer->peers, question->name);
	int r = peer ? tunnel_dial(dialer->tunnel, peer, established, question, &question->fd)
		     : -ENOENT;

	if (r < 0)
		answer(question, r);
}

static int ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct dialer *dialer = userdata;
	struct question *question, *next;
	eventfd_t count;

	(void)source;
	(void)events;
	eventfd_read(fd, &count);
	pthread_mutex_lock(&dialer->lock);
	question = dialer->waiting;
	dialer->waiting = NULL;
	pthread_mutex_unlock(&dialer->lock);
	for (; question; question = next) {
		next = question->next; /* once answered it is gone */
		take(dialer, question);
	}
	return 0;
}

int dialer_new(
    struct dialer **out, sd_event *loop, struct tunnel *tunnel, const struct peers *peers)
{
	struct dialer *dialer = calloc(1, sizeof(*dialer));
	int r;

	if (!dialer)
		return -ENOMEM;
	dialer->tunnel = tunnel;
	dialer->peers = peers;
	pthread_mutex_init(&dialer->lock, NULL);
	pthread_cond_init(&dialer->answered, NULL);
	dialer->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = dialer->wake < 0 ? -errno
			     : sd_event_add_io(loop, NULL, dialer->wake, EPOLLIN, ready, dialer);
	if (r < 0) {
		if (dialer->wake >= 0)
			close(dialer->wake);
		free(dialer);
		return r;
	}
	*out = dialer;
	return 0;
}

int dialer_dial(void *arg, const char *name, int *fd)
{
	struct dialer *dialer = arg;
	struct question question = {.dialer = dialer, .name = name, .fd = -1, .result = 1};

	pthread_mutex_lock(&dialer->lock);
	question.next = dialer->waiting;
	dialer->waiting = &question;
	eventfd_write(dialer->wake, 1);
	while (question.result > 0)
		pthread_cond_wait(&dialer->answered, &dialer->lock);
	pthread_mutex_unlock(&dialer->lock);
	*fd = question.fd;
	return question.result;
}
