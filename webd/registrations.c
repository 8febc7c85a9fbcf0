/*
 * Server-Sent Events (HTML Living Standard, 9.2) over a ring of texts per registration.
 *
 * The lease is kept here and not at fdd: it is this service whom the client renews, and a registration outlives fdd,
 * which is told anew of all when it is back.  At fdd webd itself is the application, and its connection the lease.
 *
 * A stream does not hold a registration.  That a connection is open says that a kernel lives, not that somebody reads;
 * the client's own renewals say that.
 *
 * A stream reads at its own pace.  The ring never waits for one: a stream that comes too late for an event is told how
 * many it has missed, whether it was slow or had broken off.  Rejected: a queue per stream, which costs the same again and
 * loses the same events.
 */
#include "webd/registrations.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 2000 /* of a client that lost its connection */

struct registry {
	size_t max, kept, count;
	struct registration *first, **end;
};

static const char *const standing_names[] = {
    [OPENING] = "opening", [STANDING] = "standing", [LOST] = "lost", [ENDED] = "ended"};

const char *standing_name(enum standing standing)
{
	return standing_names[standing];
}

int registry_new(struct registry **out, size_t max, size_t kept)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (!registry)
		return -ENOMEM;
	registry->max = max;
	registry->kept = kept;
	registry->end = &registry->first;
	*out = registry;
	return 0;
}

static void registration_free(struct registration *registration)
{
	for (size_t i = 0; i < registration->capacity; i++)
		free(registration->events[i]);
	free(registration->events);
	free(registration);
}

struct registry *registry_free(struct registry *registry)
{
	struct registration *following;

	if (!registry)
		return NULL;
	for (struct registration *one = registry->first; one; one = following) {
		following = one->following;
		registration_free(one);
	}
	free(registry);
	return NULL;
}

struct registration *registry_add(struct registry *registry, const char *id,
    const struct wish *wish, struct mono open_until, int *why)
{
	struct registration *registration = NULL;

	*why = -ENOSPC;
	if (registry->count == registry->max)
		return NULL;
	*why = -ENOMEM;
	registration = calloc(1, sizeof(*registration));
	if (!registration)
		return NULL;
	registration->events = calloc(registry->kept, sizeof(*registration->events));
	if (!registration->events) {
		free(registration);
		return NULL;
	}
	registration->capacity = registry->kept;
	registration->wish = *wish;
	registration->first = registration->next = 1;
	registration->lease_end = open_until;
	snprintf(registration->id, sizeof(registration->id), "%s", id);
	*registry->end = registration;
	registry->end = &registration->following;
	registry->count++;
	*why = 0;
	return registration;
}

size_t registry_count(const struct registry *registry)
{
	return registry->count;
}

struct registration *registry_next(
    const struct registry *registry, const struct registration *after)
{
	struct registration *one = after ? after->following : registry->first;

	while (one && one->standing == ENDED)
		one = one->following;
	return one;
}

struct registration *registry_find(const struct registry *registry, const char *id)
{
	struct registration *one = NULL;

	while ((one = registry_next(registry, one)))
		if (strcmp(one->id, id) == 0)
			return one;
	return NULL;
}

struct registration *registry_find_application(const struct registry *registry, const char *name)
{
	struct registration *one = NULL;

	while (*name && (one = registry_next(registry, one)))
		if (strcmp(one->wish.application, name) == 0)
			return one;
	return NULL;
}

/* Takes it out when nobody reads it any more. */
static void collect(struct registry *registry, struct registration *registration)
{
	struct registration **link = &registry->first;

	if (registration->standing != ENDED || registration->readers > 0)
		return;
	while (*link != registration)
		link = &(*link)->following;
	*link = registration->following;
	if (registry->end == &registration->following)
		registry->end = link;
	registration_free(registration);
}

void registry_end(struct registry *registry, struct registration *registration, const char *reason)
{
	char data[64];

	if (reason) {
		snprintf(data, sizeof(data), "{\"reason\":\"%s\"}", reason);
		(void)registration_append(registration, "end", data);
	}
	registration->standing = ENDED;
	registration->userdata = NULL;
	registry->count--;
	collect(registry, registration);
}

/* --- leases --- */

void registration_renew(struct registration *registration, struct mono now)
{
	registration->lease_end = mono_add_ms(now, registration->wish.lease_ms);
}

void registration_stand(struct registration *registration, struct mono now)
{
	if (registration->standing == OPENING)
		registration_renew(registration, now);
	registration->standing = STANDING;
}

struct registration *registry_due(const struct registry *registry, struct mono now)
{
	struct registration *one = NULL;

	while ((one = registry_next(registry, one)))
		if (mono_due(one->lease_end, now))
			return one;
	return NULL;
}

struct mono registry_deadline(const struct registry *registry)
{
	struct registration *one = NULL;
	struct mono earliest = MONO_NEVER;

	while ((one = registry_next(registry, one)))
		earliest = mono_min(earliest, one->lease_end);
	return earliest;
}

/* --- events --- */

static char **place_of(const struct registration *registration, uint64_t number)
{
	return &registration->events[number % registration->capacity];
}

int registration_append(struct registration *registration, const char *type, const char *data)
{
	char text[EVENT_MAX], *copy;
	int size = snprintf(text, sizeof(text), "id: %llu\nevent: %s\ndata: %s\n\n",
	    (unsigned long long)registration->next, type, data);

	if (size < 0 || (size_t)size >= sizeof(text))
		return -EMSGSIZE;
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	if (registration->next - registration->first == registration->capacity)
		registration->first++;
	free(*place_of(registration, registration->next));
	*place_of(registration, registration->next) = copy;
	registration->next++;
	return 0;
}

int reader_open(struct reader *reader, struct registration *registration, uint64_t after)
{
	if (after >= registration->next)
		return -EINVAL;
	*reader = (struct reader){.registration = registration, .next = after + 1};
	snprintf(reader->text, sizeof(reader->text), "retry: %d\n\n", RETRY_MS);
	registration->readers++;
	return 0;
}

void reader_close(struct registry *registry, struct reader *reader)
{
	struct registration *registration = reader->registration;

	if (!registration)
		return;
	reader->registration = NULL;
	registration->readers--;
	collect(registry, registration);
}

/* It has no number: who comes back after it names the event before. */
static void write_gap(struct reader *reader)
{
	uint64_t missed = reader->registration->first - reader->next;

	snprintf(reader->text, sizeof(reader->text),
	    "event: gap\ndata: {\"reason\":\"overwritten\",\"missed\":%llu}\n\n",
	    (unsigned long long)missed);
	reader->missed += missed;
	reader->next = reader->registration->first;
}

/* false: there is nothing more for now. */
static bool next_text(struct reader *reader)
{
	const struct registration *registration = reader->registration;

	if (reader->next < registration->first)
		write_gap(reader);
	else if (reader->next < registration->next)
		snprintf(reader->text, sizeof(reader->text), "%s",
		    *place_of(registration, reader->next++));
	else
		return false;
	return true;
}

static size_t give_some(struct reader *reader, char *out, size_t max)
{
	size_t left = strlen(reader->text) - reader->given, size = left < max ? left : max;

	memcpy(out, reader->text + reader->given, size);
	reader->given += size;
	if (size == left) {
		reader->text[0] = '\0';
		reader->given = 0;
	}
	return size;
}

int reader_take(struct reader *reader, char *out, size_t max)
{
	size_t used = 0;

	while (used < max && (*reader->text || next_text(reader)))
		used += give_some(reader, out + used, max - used);
	if (used == 0 && reader->registration->standing == ENDED)
		return READER_END;
	return (int)used;
}

void reader_keep_alive(struct reader *reader)
{
	if (!*reader->text)
		snprintf(reader->text, sizeof(reader->text), ": still here\n\n");
}
