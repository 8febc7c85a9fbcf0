/*
 * Own stalls stand in the ring beside the arrivals, and so does an alarm that was missed by waking late:
 * whoever replays the log must pass over the same silence.
 */
#include "fdd/arrivals.h"

void arrivals_begin(struct arrivals *arrivals, struct mono now)
{
	arrivals->next = arrivals->count = 0;
	arrivals->dropped = 0;
	arrivals->since = now;
}

void arrivals_add(struct arrivals *arrivals, const struct fdd_arrival *arrival)
{
	if (!arrivals->max)
		return;
	arrivals->ring[arrivals->next] = *arrival;
	arrivals->next = (arrivals->next + 1) % arrivals->max;
	if (arrivals->count < arrivals->max)
		arrivals->count++;
	else
		arrivals->dropped++;
}

const struct fdd_arrival *arrivals_get(const struct arrivals *arrivals, size_t n)
{
	if (n >= arrivals->count)
		return NULL;
	return &arrivals
		    ->ring[(arrivals->next + arrivals->max - arrivals->count + n) % arrivals->max];
}
