/*
 * Monotonic time as a type of its own, so that no wall clock value and no bare number of seconds
 * can be taken for it (OpenBGPD's monotime.h).  Points and lengths share the type: a length is
 * the difference of two points.  Only mono-clock.c reads a clock; cores are handed their time.
 */
#ifndef COMMON_MONO_H
#define COMMON_MONO_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct mono {
	int64_t ns;
};

#define MONO_ZERO ((struct mono){0})
#define MONO_NEVER ((struct mono){INT64_MAX})

/* The clock: it goes on while the machine is suspended, as leases must. */
#define MONO_CLOCK CLOCK_BOOTTIME

/* Reads MONO_CLOCK.  For shells; a core that links this fails the style test. */
struct mono mono_now(void);

static inline struct mono mono_ns(int64_t ns)
{
	return (struct mono){ns};
}

static inline struct mono mono_ms(int64_t ms)
{
	return (struct mono){ms * 1000000};
}

static inline int64_t mono_to_ms(struct mono t)
{
	return t.ns / 1000000;
}

static inline double mono_to_s(struct mono t)
{
	return (double)t.ns / 1e9;
}

static inline bool mono_is_never(struct mono t)
{
	return t.ns == INT64_MAX;
}

/* a + b; never stays never, and a sum that does not fit is never. */
static inline struct mono mono_add(struct mono a, struct mono b)
{
	int64_t sum;

	if (mono_is_never(a) || mono_is_never(b) || __builtin_add_overflow(a.ns, b.ns, &sum))
		return MONO_NEVER;
	return (struct mono){sum};
}

static inline struct mono mono_add_ms(struct mono t, int64_t ms)
{
	return mono_add(t, mono_ms(ms));
}

static inline struct mono mono_sub(struct mono a, struct mono b)
{
	return (struct mono){a.ns - b.ns};
}

/* -1, 0 or 1 as a is before, at or after b. */
static inline int mono_cmp(struct mono a, struct mono b)
{
	return (a.ns > b.ns) - (a.ns < b.ns);
}

static inline bool mono_before(struct mono a, struct mono b)
{
	return a.ns < b.ns;
}

/* Has the deadline come at time now? */
static inline bool mono_due(struct mono deadline, struct mono now)
{
	return deadline.ns <= now.ns;
}

static inline struct mono mono_min(struct mono a, struct mono b)
{
	return a.ns < b.ns ? a : b;
}

#endif
