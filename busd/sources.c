#include "busd/sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"

#define BUCKETS 1024 /* a power of two */

struct sources {
	size_t count, max;
	struct source *bucket[BUCKETS];
	struct source *oldest, *newest; /* by their last event */
	struct source *touched;         /* since the last commit, or to be answered */
};

int sources_new(struct sources **out, size_t max)
{
	struct sources *sources = calloc(1, sizeof(*sources));

	if (!sources)
		return -ENOMEM;
	sources->max = max;
	*out = sources;
	return 0;
}

struct sources *sources_free(struct sources *sources)
{
	if (!sources)
		return NULL;
	for (struct source *source = sources->oldest, *newer; source; source = newer) {
		newer = source->newer;
		free(source);
	}
	free(sources);
	return NULL;
}

size_t sources_count(const struct sources *sources)
{
	return sources->count;
}

const struct source *sources_oldest(const struct sources *sources)
{
	return sources->oldest;
}

static struct source **bucket_of(struct sources *sources, const char *name, uint64_t boot)
{
	return &sources->bucket[rng_mix(boot, (uint8_t)name[0]) & (BUCKETS - 1)];
}

static void age_unlink(struct sources *sources, struct source *source)
{
	*(source->older ? &source->older->newer : &sources->oldest) = source->newer;
	*(source->newer ? &source->newer->older : &sources->newest) = source->older;
}

static void age_append(struct sources *sources, struct source *source)
{
	source->older = sources->newest;
	source->newer = NULL;
	*(source->older ? &source->older->newer : &sources->oldest) = source;
	sources->newest = source;
}

/* The touched ones are not forgotten before they are answered: they are the newest. */
static void forget_oldest(struct sources *sources)
{
	struct source *source = sources->oldest;
	struct source **at = bucket_of(sources, source->name, source->boot);

	while (*at != source)
		at = &(*at)->bucket_next;
	*at = source->bucket_next;
	for (at = &sources->touched; *at; at = &(*at)->touched_next) {
		if (*at == source) {
			*at = source->touched_next;
			break;
		}
	}
	age_unlink(sources, source);
	sources->count--;
	free(source);
}

static struct source *find(struct sources *sources, const char *name, uint64_t boot)
{
	struct source *source = *bucket_of(sources, name, boot);

	while (source && (source->boot != boot || strcmp(source->name, name) != 0))
		source = source->bucket_next;
	return source;
}

static struct source *add(struct sources *sources, const char *name, uint64_t boot)
{
	struct source *source = calloc(1, sizeof(*source));
	struct source **bucket = bucket_of(sources, name, boot);

	if (!source)
		return NULL;
	if (sources->count == sources->max)
		forget_oldest(sources);
	strncpy(source->name, name, SOURCE_NAME_MAX);
	source->boot = boot;
	source->bucket_next = *bucket;
	*bucket = source;
	age_append(sources, source);
	sources->count++;
	return source;
}

static struct source *find_or_add(struct sources *sources, const char *name, uint64_t boot)
{
	struct source *source = find(sources, name, boot);

	if (!source)
		return add(sources, name, boot);
	if (source != sources->newest) {
		age_unlink(sources, source);
		age_append(sources, source);
	}
	return source;
}

static enum source_verdict judge(const struct source *source, uint64_t number, bool first)
{
	if (source->next && number < source->next)
		return SOURCE_REPEATED;
	if (number == source->next || first)
		return SOURCE_NEXT;
	return SOURCE_GAP;
}

static void touch(struct sources *sources, struct source *source)
{
	if (source->answer)
		return;
	source->answer = true;
	source->touched_next = sources->touched;
	sources->touched = source;
}

int sources_offer(struct sources *sources, const char *name, uint64_t boot, uint64_t number,
    bool first, const struct source_route *route, enum source_verdict *verdict)
{
	struct source *source = find_or_add(sources, name, boot);

	if (!source)
		return -ENOMEM;
	source->route = *route;
	*verdict = judge(source, number, first);
	if (*verdict == SOURCE_NEXT) {
		source->next = number + 1;
		source->asked = 0;
	} else if (*verdict == SOURCE_GAP) {
		if (source->asked && number > source->asked)
			return 0; /* the rest of the same flight: told already */
		source->asked = number;
		source->again = true;
	}
	touch(sources, source);
	return 0;
}

int sources_restore(struct sources *sources, const char *name, uint64_t boot, uint64_t next)
{
	struct source *source = find_or_add(sources, name, boot);

	if (!source)
		return -ENOMEM;
	source->next = source->committed = next;
	return 0;
}

void sources_commit(struct sources *sources)
{
	for (struct source *source = sources->touched; source; source = source->touched_next)
		source->committed = source->next;
}

void sources_roll_back(struct sources *sources)
{
	for (struct source *source = sources->touched; source; source = source->touched_next) {
		source->next = source->committed;
		source->asked = 0;
	}
}

struct source *sources_take_answer(struct sources *sources)
{
	struct source *source = sources->touched;

	if (source) {
		sources->touched = source->touched_next;
		source->answer = false;
	}
	return source;
}
