#include "ckptd/schedule.h"

#include <errno.h>
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
	struct schedule_failure failure = kept->failure;
	struct schedule_cost cost = kept->cost;
	struct mono due = kept->due, next;

	*kept = *read;
	kept->failure = failure;
	kept->cost = cost;
	if (kept->adaptive && cost.stood_ms)
		kept->interval_ms = schedule_adapt(&cost, kept->share, kept->loss_ms);
	next = timed(kept) ? mono_add_ms(now, kept->interval_ms) : MONO_NEVER;
	kept->due = same ? mono_min(due, next) : next;
	kept->seen = true;
}

uint32_t schedule_adapt(const struct schedule_cost *cost, uint32_t share, uint32_t loss_ms)
{
	uint64_t by_share = (uint64_t)cost->stood_ms * 1000 / (share ? share : 1);
	uint64_t by_loss = loss_ms > cost->took_ms ? 2ULL * (loss_ms - cost->took_ms) : 0;
	uint64_t interval_ms = by_share < by_loss ? by_share : by_loss;

	if (interval_ms > UINT32_MAX)
		return UINT32_MAX;
	return interval_ms < SCHEDULE_SHORTEST_MS ? SCHEDULE_SHORTEST_MS : (uint32_t)interval_ms;
}

static uint32_t smooth(uint32_t before, uint32_t now)
{
	return before ? (uint32_t)((3ULL * before + now) / 4) : now;
}

void schedule_learn(struct schedule *schedule, const char *name, struct schedule_cost cost)
{
	struct schedule_ve *ve = find(schedule, name);

	if (!ve)
		return;
	ve->cost.stood_ms = smooth(ve->cost.stood_ms, cost.stood_ms ? cost.stood_ms : 1);
	ve->cost.took_ms = smooth(ve->cost.took_ms, cost.took_ms);
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

static bool together(const struct schedule_ve *a, const struct schedule_ve *b)
{
	return a == b || (a->set[0] && !strcmp(a->set, b->set));
}

static uint32_t shortest_interval_ms(const struct schedule *schedule, const struct schedule_ve *ve)
{
	uint32_t shortest = ve->interval_ms;

	for (size_t i = 0; i < schedule->n; i++) {
		const struct schedule_ve *other = &schedule->ves[i];

		if (together(ve, other) && timed(other) && other->interval_ms < shortest)
			shortest = other->interval_ms;
	}
	return shortest;
}

const struct schedule_ve *schedule_take(struct schedule *schedule, struct mono now)
{
	const struct schedule_ve *first = NULL;
	uint32_t interval_ms;
	struct mono next;

	for (size_t i = 0; i < schedule->n && !first; i++) {
		if (mono_due(schedule->ves[i].due, now))
			first = &schedule->ves[i];
	}
	if (!first)
		return NULL;
	interval_ms = shortest_interval_ms(schedule, first);
	/* in step with the first, unless it was missed by more than an interval */
	next = mono_add_ms(first->due, interval_ms);
	if (mono_due(next, now))
		next = mono_add_ms(now, interval_ms);
	for (size_t i = 0; i < schedule->n; i++) {
		if (together(first, &schedule->ves[i]) && timed(&schedule->ves[i]))
			schedule->ves[i].due = next;
	}
	return first;
}

static bool has_place(const struct ckptd_place *places, size_t n, const char *ve)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(places[i].ve, ve))
			return true;
	}
	return false;
}

int schedule_places(const struct schedule *schedule, const char *name, struct ckptd_place *places,
    size_t *n, size_t max, const char **idle)
{
	const struct schedule_ve *named = schedule_find(schedule, name);
	int r = -ENOENT;

	for (size_t i = 0; i < schedule->n; i++) {
		const struct schedule_ve *ve = &schedule->ves[i];

		if (named ? !together(named, ve) : strcmp(ve->set, name) != 0)
			continue;
		r = 0;
		if (has_place(places, *n, ve->place.ve))
			continue;
		*idle = ve->place.ve;
		if (!ve->eligible)
			return -EAGAIN;
		if (*n == max)
			return -E2BIG;
		places[(*n)++] = ve->place;
	}
	return r;
}

void schedule_failed(struct schedule *schedule, const char *ve,
    const struct schedule_failure *failed, struct mono now)
{
	struct schedule_ve *found = find(schedule, ve);
	struct schedule_failure before;

	if (!found)
		return;
	before = found->failure;
	found->failure = *failed;
	found->failure.rounds = before.rounds + 1;
	found->failure.first = before.rounds ? before.first : now;
	found->failure.last = now;
}

void schedule_committed(struct schedule *schedule, const char *ve)
{
	struct schedule_ve *found = find(schedule, ve);

	if (found)
		found->failure.rounds = 0;
}

struct mono schedule_deadline(const struct schedule *schedule)
{
	struct mono first = MONO_NEVER;

	for (size_t i = 0; i < schedule->n; i++)
		first = mono_min(first, schedule->ves[i].due);
	return first;
}
