#include "ckptd/schedule.h"

#include <string.h>

static struct schedule_ve *find(struct schedule *schedule, const char *ve)
{
	for (size_t i = 0; i < schedule->n; i++) {
		if (!strcmp(schedule->ves[i].place.ve, ve))
			return &schedule->ves[i];
	}
	return NULL;
}

const struct schedule_ve *schedule_find(const struct schedule *schedule, const char *ve)
{
	return find((struct schedule *)schedule, ve);
}

static bool timed(const struct schedule_ve *ve)
{
	return ve->eligible && ve->interval_ms;
}

static void take_over(struct schedule_ve *kept, const struct schedule_ve *read, struct mono now)
{
	bool same = kept->place.ve_epoch == read->place.ve_epoch && timed(kept) && timed(read);
	struct mono next = timed(read) ? mono_add_ms(now, read->interval_ms) : MONO_NEVER;
	struct mono due = same ? mono_min(kept->due, next) : next;

	*kept = *read;
	kept->due = due;
	kept->seen = true;
}

static void add(struct schedule *schedule, const struct schedule_ve *read, struct mono now)
{
	struct schedule_ve *ve = find(schedule, read->place.ve);

	if (!ve) {
		if (schedule->n == SCHEDULE_MAX)
			return;
		ve = &schedule->ves[schedule->n++];
		*ve = (struct schedule_ve){.eligible = false};
	}
	take_over(ve, read, now);
}

void schedule_update(
    struct schedule *schedule, const struct schedule_ve *ves, size_t n, struct mono now)
{
	size_t kept = 0;

	for (size_t i = 0; i < schedule->n; i++)
		schedule->ves[i].seen = false;
	for (size_t i = 0; i < n; i++)
		add(schedule, &ves[i], now);
	for (size_t i = 0; i < schedule->n; i++) {
		if (schedule->ves[i].seen)
			schedule->ves[kept++] = schedule->ves[i];
	}
	schedule->n = kept;
}

const struct schedule_ve *schedule_take(struct schedule *schedule, struct mono now)
{
	for (size_t i = 0; i < schedule->n; i++) {
		struct schedule_ve *ve = &schedule->ves[i];

		if (!mono_due(ve->due, now))
			continue;
		/* in step with the first, unless it was missed by more than an interval */
		ve->due = mono_add_ms(ve->due, ve->interval_ms);
		if (mono_due(ve->due, now))
			ve->due = mono_add_ms(now, ve->interval_ms);
		return ve;
	}
	return NULL;
}

struct mono schedule_deadline(const struct schedule *schedule)
{
	struct mono first = MONO_NEVER;

	for (size_t i = 0; i < schedule->n; i++)
		first = mono_min(first, schedule->ves[i].due);
	return first;
}
