#include "gdn/gosd/work.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WAITING_MAX 256
#define THREADS_MAX 4

static const int threads_of[LANE_COUNT] = {[LANE_LOCAL] = 3, [LANE_QUICK] = 2, [LANE_BULK] = 4};

struct queue {
	struct job *first, **last;
	int count;
};

struct lane_state {
	struct work *work;
	struct queue waiting;
	pthread_cond_t wake;
	pthread_t threads[THREADS_MAX];
	int thread_count;
};

struct work {
	pthread_mutex_t lock;
	struct lane_state lanes[LANE_COUNT];
	struct queue posted;
	int wake_fd;
	sd_event_source *source;
	bool stopping;
};

static void queue_init(struct queue *queue)
{
	*queue = (struct queue){0};
	queue->last = &queue->first;
}

static void queue_add(struct queue *queue, struct job *job)
{
	job->next = NULL;
	*queue->last = job;
	queue->last = &job->next;
	queue->count++;
}

static struct job *queue_take(struct queue *queue)
{
	struct job *job = queue->first;

	if (!job)
		return NULL;
	queue->first = job->next;
	if (!queue->first)
		queue->last = &queue->first;
	queue->count--;
	return job;
}

static void *thread_main(void *arg)
{
	struct lane_state *lane = arg;
	struct work *work = lane->work;
	struct job *job;

	pthread_mutex_lock(&work->lock);
	while (!work->stopping) {
		job = queue_take(&lane->waiting);
		if (!job) {
			pthread_cond_wait(&lane->wake, &work->lock);
			continue;
		}
		pthread_mutex_unlock(&work->lock);
		job->run(job);
		work_post(work, job);
		pthread_mutex_lock(&work->lock);
	}
	pthread_mutex_unlock(&work->lock);
	return NULL;
}

static void end_posted(struct work *work)
{
	struct job *job;

	for (;;) {
		pthread_mutex_lock(&work->lock);
		job = queue_take(&work->posted);
		pthread_mutex_unlock(&work->lock);
		if (!job)
			return;
		job->done(job);
	}
}

static int on_posted(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	uint64_t count;

	(void)source;
	(void)revents;
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	end_posted(userdata);
	return 0;
}

static int start_threads(struct work *work)
{
	for (int i = 0; i < LANE_COUNT; i++) {
		struct lane_state *lane = &work->lanes[i];

		for (int k = 0; k < threads_of[i]; k++) {
			int r = pthread_create(&lane->threads[k], NULL, thread_main, lane);

			if (r != 0)
				return -r;
			lane->thread_count++;
		}
	}
	return 0;
}

int work_new(struct work **out, sd_event *loop)
{
	struct work *work = calloc(1, sizeof(*work));
	int r;

	if (!work)
		return -ENOMEM;
	pthread_mutex_init(&work->lock, NULL);
	queue_init(&work->posted);
	for (int i = 0; i < LANE_COUNT; i++) {
		work->lanes[i].work = work;
		queue_init(&work->lanes[i].waiting);
		pthread_cond_init(&work->lanes[i].wake, NULL);
	}
	work->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = work->wake_fd < 0 ? -errno : 0;
	if (r == 0)
		r = sd_event_add_io(loop, &work->source, work->wake_fd, EPOLLIN, on_posted, work);
	if (r >= 0)
		r = start_threads(work);
	if (r < 0) {
		work_stop(work);
		work_free(work);
		return r;
	}
	*out = work;
	return 0;
}

void work_stop(struct work *work)
{
	pthread_mutex_lock(&work->lock);
	work->stopping = true;
	for (int i = 0; i < LANE_COUNT; i++)
		pthread_cond_broadcast(&work->lanes[i].wake);
	pthread_mutex_unlock(&work->lock);
}

bool work_stopping(struct work *work)
{
	bool stopping;

	pthread_mutex_lock(&work->lock);
	stopping = work->stopping;
	pthread_mutex_unlock(&work->lock);
	return stopping;
}

struct work *work_free(struct work *work)
{
	struct job *job;

	if (!work)
		return NULL;
	for (int i = 0; i < LANE_COUNT; i++)
		for (int k = 0; k < work->lanes[i].thread_count; k++)
			pthread_join(work->lanes[i].threads[k], NULL);
	end_posted(work);
	for (int i = 0; i < LANE_COUNT; i++)
		while ((job = queue_take(&work->lanes[i].waiting)))
			job->done(job);
	sd_event_source_unref(work->source);
	if (work->wake_fd >= 0)
		close(work->wake_fd);
	for (int i = 0; i < LANE_COUNT; i++)
		pthread_cond_destroy(&work->lanes[i].wake);
	pthread_mutex_destroy(&work->lock);
	free(work);
	return NULL;
}

int work_start(struct work *work, enum lane lane, struct job *job)
{
	struct lane_state *state = &work->lanes[lane];
	int r = 0;

	pthread_mutex_lock(&work->lock);
	if (state->waiting.count >= WAITING_MAX || work->stopping)
		r = -EBUSY;
	else
		queue_add(&state->waiting, job);
	pthread_cond_signal(&state->wake);
	pthread_mutex_unlock(&work->lock);
	return r;
}

void work_post(struct work *work, struct job *job)
{
	uint64_t one = 1;

	pthread_mutex_lock(&work->lock);
	queue_add(&work->posted, job);
	pthread_mutex_unlock(&work->lock);
	/* Full is full of wakes: the loop comes in any case. */
	if (write(work->wake_fd, &one, sizeof(one)) < 0)
		return;
}
