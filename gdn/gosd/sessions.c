#include "gdn/gosd/sessions.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#define SESSIONS_MAX 64
#define TICKET_MS 10000
#define COMMIT_MS 60000

struct sessions {
	pthread_mutex_t lock;
	struct session *first;
	size_t count;
};

int sessions_new(struct sessions **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	pthread_mutex_init(&(*out)->lock, NULL);
	return 0;
}

struct session *session_free(struct session *session)
{
	if (!session)
		return NULL;
	upload_free(session->upload);
	received_fini(&session->received);
	free(session);
	return NULL;
}

struct sessions *sessions_free(struct sessions *sessions)
{
	if (!sessions)
		return NULL;
	while (sessions->first) {
		struct session *session = sessions->first;

		sessions->first = session->next;
		session_free(session);
	}
	pthread_mutex_destroy(&sessions->lock);
	free(sessions);
	return NULL;
}

static int insert(struct sessions *sessions, struct session *session)
{
	int r = 0;

	pthread_mutex_lock(&sessions->lock);
	if (sessions->count >= SESSIONS_MAX) {
		r = -EBUSY;
	} else {
		session->next = sessions->first;
		sessions->first = session;
		sessions->count++;
	}
	pthread_mutex_unlock(&sessions->lock);
	return r;
}

int sessions_add(struct sessions *sessions, struct session *session, struct mono now)
{
	randombytes_buf(session->ticket, TICKET_SIZE);
	session->deadline = mono_add_ms(now, TICKET_MS);
	return insert(sessions, session);
}

void sessions_keep(struct sessions *sessions, struct session *session, struct mono now)
{
	session->complete = true;
	session->deadline = mono_add_ms(now, COMMIT_MS);
	if (insert(sessions, session) < 0)
		session_free(session);
}

struct session *sessions_take(
    struct sessions *sessions, const uint8_t ticket[TICKET_SIZE], bool complete)
{
	struct session *found = NULL;

	pthread_mutex_lock(&sessions->lock);
	for (struct session **at = &sessions->first; *at; at = &(*at)->next)
		if ((*at)->complete == complete &&
		    sodium_memcmp((*at)->ticket, ticket, TICKET_SIZE) == 0) {
			found = *at;
			*at = found->next;
			sessions->count--;
			break;
		}
	pthread_mutex_unlock(&sessions->lock);
	return found;
}

void sessions_reap(struct sessions *sessions, struct mono now)
{
	struct session *late = NULL;

	pthread_mutex_lock(&sessions->lock);
	for (struct session **at = &sessions->first; *at;) {
		struct session *session = *at;

		if (!mono_due(session->deadline, now)) {
			at = &session->next;
			continue;
		}
		*at = session->next;
		session->next = late;
		late = session;
		sessions->count--;
	}
	pthread_mutex_unlock(&sessions->lock);
	while (late) {
		struct session *next = late->next;

		session_free(late);
		late = next;
	}
}
