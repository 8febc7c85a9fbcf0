/*
 * The registrations of the web service: what each asked for, its lease, and its last events, which any number of
 * streams read at their own pace.  Part of the core: no clock, no socket.
 */
#ifndef WEBD_REGISTRATIONS_H
#define WEBD_REGISTRATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/mono.h"

#define REGISTRATION_ID_MAX 16
#define RAISE_MAX 4
#define EVENT_MAX 1024 /* bytes of one event's text */
#define APPLICATION_MAX 63

/* What fdd.register offers, with names for ids; empty strings: none. */
struct wish {
	char application[APPLICATION_MAX + 1];
	char node[64], service[64]; /* one at most */
	double raise[RAISE_MAX];
	size_t raise_count;
	double clear;
	uint32_t beats, period_ms, lease_ms;
};

enum standing {
	OPENING,  /* fdd has not said yes yet */
	STANDING, /* fdd tells */
	LOST,     /* fdd is gone, or silent; events are missed until it stands again */
	ENDED,    /* nobody finds it any more; streams read what is left */
};
const char *standing_name(enum standing standing);

struct registration {
	char id[REGISTRATION_ID_MAX + 1];
	struct wish wish;
	enum standing standing;
	struct mono lease_end; /* while it is opening: when to give up */
	uint64_t first, next;  /* numbers of the kept events: first to next - 1 */
	char **events;         /* the text of number n at n % capacity */
	size_t capacity;
	unsigned readers;
	void *userdata;
	struct registration *following;
};

struct registry;
/* At most max registrations, each with its last `kept` events. */
int registry_new(struct registry **out, size_t max, size_t kept);
struct registry *registry_free(struct registry *registry);

/* One that is opening until the time given; NULL: all places are taken (-ENOSPC), or no memory (-ENOMEM, in *why). */
struct registration *registry_add(struct registry *registry, const char *id,
    const struct wish *wish, struct mono open_until, int *why);
size_t registry_count(const struct registry *registry);
/* By its id, or its application's name; NULL: there is none that has not ended. */
struct registration *registry_find(const struct registry *registry, const char *id);
struct registration *registry_find_application(const struct registry *registry, const char *name);
/* In the order in which they came, NULL: the first; NULL at the end.  Without those that have ended. */
struct registration *registry_next(
    const struct registry *registry, const struct registration *after);
/* Tells its streams why, as an event "end"; it is gone with its last stream.  NULL: tells nothing. */
void registry_end(struct registry *registry, struct registration *registration, const char *reason);

/* fdd has said yes: the lease begins. */
void registration_stand(struct registration *registration, struct mono now);
void registration_renew(struct registration *registration, struct mono now);
/* One whose lease has run out, or that was opening for too long; NULL: none. */
struct registration *registry_due(const struct registry *registry, struct mono now);
struct mono registry_deadline(const struct registry *registry);
/* Appends an event with data in one line; the oldest makes room.  0, -EMSGSIZE, -ENOMEM. */
int registration_append(struct registration *registration, const char *type, const char *data);

/* One stream over a registration's events. */
struct reader {
	struct registration *registration;
	uint64_t next;        /* event to give */
	uint64_t missed;      /* overwritten before it came to them */
	size_t given;         /* bytes of the text */
	char text[EVENT_MAX]; /* what is being given, so that no event breaks off; empty: nothing */
};

#define READER_END (-1)

/* after: the last event that it has (Last-Event-ID), 0: all that are kept.  -EINVAL: no such event has been yet. */
int reader_open(struct reader *reader, struct registration *registration, uint64_t after);
void reader_close(struct registry *registry, struct reader *reader);
/* Bytes copied, 0: nothing for now, or READER_END. */
int reader_take(struct reader *reader, char *out, size_t max);
/* A comment, so that both ends and all between see that the connection is used. */
void reader_keep_alive(struct reader *reader);

#endif
