/*
 * A registration asks for crossings of its thresholds, for values each period, or for both, and may
 * run on a lease.  The lease is there for applications whose end nobody would notice: a socket
 * between processes tells its loss, a relay that serves others over the network does not.  Time in
 * which this process itself stood still is not held against a lease, as it is not against a peer.
 *
 * Rejected: a queue of values to tell.  A slow reader would see old levels; here each peer is marked
 * as owed, and what is told is its level at that moment.
 */
#include "fdd/registrations.h"

#include <errno.h>
#include <stdlib.h>

int registrations_init(struct registrations *all, size_t max)
{
	*all = (struct registrations){.max = max};
	all->slots = calloc(max + 1, sizeof(*all->slots));
	return all->slots ? 0 : -ENOMEM;
}

void registrations_fini(struct registrations *all)
{
	free(all->slots);
	*all = (struct registrations){0};
}

static bool within(struct mono t, struct mono low, struct mono high)
{
	return mono_cmp(t, low) >= 0 && mono_cmp(t, high) <= 0;
}

bool registration_valid(const struct fdd_registration *registration)
{
	bool values = registration->period.ns != 0;

	if (!registration->id)
		return false;
	if (values && !within(registration->period, FDD_PERIOD_MIN, FDD_PERIOD_MAX))
		return false;
	if (registration->lease.ns && !within(registration->lease, FDD_LEASE_MIN, FDD_LEASE_MAX))
		return false;
	return (values && registration->thresholds.count == 0) ||
	       fdd_thresholds_valid(&registration->thresholds);
}

struct slot *registrations_find(const struct registrations *all, uint64_t id)
{
	for (size_t s = 0; s < all->end; s++)
		if (all->slots[s].used && all->slots[s].registration.id == id)
			return &all->slots[s];
	return NULL;
}

static struct slot *free_slot(const struct registrations *all)
{
	for (size_t s = 0; s < all->max; s++)
		if (!all->slots[s].used)
			return &all->slots[s];
	return NULL;
}

static void trim(struct registrations *all)
{
	all->end = all->max;
	while (all->end && !all->slots[all->end - 1].used)
		all->end--;
}

struct slot *registrations_put(
    struct registrations *all, const struct fdd_registration *registration, struct mono now)
{
	struct slot *slot = registrations_find(all, registration->id);

	if (!slot)
		slot = free_slot(all);
	if (!slot)
		return NULL;
	*slot = (struct slot){.used = true, .registration = *registration};
	slot->next_values = registration->period.ns ? now : MONO_NEVER;
	slot_renew(slot, now);
	trim(all);
	return slot;
}

void registrations_remove(struct registrations *all, struct slot *slot)
{
	*slot = (struct slot){0};
	trim(all);
}

void registrations_excuse(struct registrations *all, struct mono lost)
{
	for (size_t s = 0; s < all->end; s++) {
		struct slot *slot = &all->slots[s];

		if (slot->used && !mono_is_never(slot->lease_end))
			slot->lease_end = mono_add(slot->lease_end, lost);
	}
}

bool slot_concerns(const struct slot *slot, uint64_t peer, bool service)
{
	return slot->used && !slot->expired &&
	       (slot->registration.peer ? slot->registration.peer == peer : !service);
}

void slot_renew(struct slot *slot, struct mono now)
{
	slot->lease_end =
	    slot->registration.lease.ns ? mono_add(now, slot->registration.lease) : MONO_NEVER;
}

void slot_expire(struct slot *slot, struct mono now)
{
	if (slot->used && mono_due(slot->lease_end, now))
		slot->expired = true;
}

bool slot_values_due(struct slot *slot, struct mono now)
{
	if (!slot->used || slot->expired || !mono_due(slot->next_values, now))
		return false;
	slot->next_values = mono_add(slot->next_values, slot->registration.period);
	if (mono_due(slot->next_values, now)) /* missed some: they are not made up for */
		slot->next_values = mono_add(now, slot->registration.period);
	return true;
}

struct mono slot_deadline(const struct slot *slot)
{
	if (!slot->used || slot->expired)
		return MONO_NEVER;
	return mono_min(slot->next_values, slot->lease_end);
}
