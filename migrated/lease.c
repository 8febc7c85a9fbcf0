#include "migrated/lease.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HURRY 3    /* so many times as often as usual */
#define RENEWALS 3 /* at least so many in the length of a lease */

struct mono lease_length(const struct lease_rule *rule, struct mono left)
{
	struct mono longest = mono_min(rule->lease, left);
	double ns =
	    ((double)longest.ns * (1 - rule->drift) - (double)rule->slack.ns) / (1 + rule->drift);

	return mono_ns(ns > 0 ? (int64_t)ns : 0);
}

struct mono lease_stretch(const struct lease_rule *rule, struct mono left)
{
	double ns =
	    (double)left.ns * (1 + rule->drift) / (1 - rule->drift) + (double)rule->slack.ns;

	return ns < (double)INT64_MAX ? mono_ns(ns > 0 ? (int64_t)ns : 0) : MONO_NEVER;
}

/* --- the node --- */

void lease_holder_init(struct lease_holder *holder, const struct lease_rule *rule)
{
	*holder = (struct lease_holder){.rule = *rule, .renew_at = MONO_NEVER};
}

static struct lease *find(const struct lease_holder *holder, const char *name)
{
	for (size_t i = 0; i < holder->count; i++)
		if (strcmp(holder->leases[i].name, name) == 0)
			return (struct lease *)&holder->leases[i];
	return NULL;
}

int lease_want(struct lease_holder *holder, const char *name, uint64_t epoch)
{
	struct lease *lease = find(holder, name);

	if (lease && lease->epoch >= epoch)
		return 0;
	if (!lease && holder->count == LEASE_MAX)
		return -ENOSPC;
	if (!lease)
		lease = &holder->leases[holder->count++];
	*lease = (struct lease){.epoch = epoch};
	snprintf(lease->name, sizeof(lease->name), "%s", name);
	holder->renew_at = MONO_ZERO;
	return 0;
}

void lease_drop(struct lease_holder *holder, const char *name)
{
	struct lease *lease = find(holder, name);

	if (!lease)
		return;
	*lease = holder->leases[--holder->count];
	if (holder->count == 0)
		holder->renew_at = MONO_NEVER;
}

uint64_t lease_renew(struct lease_holder *holder, struct mono now)
{
	size_t place = ++holder->last_id % LEASE_ASKED_MAX;

	holder->asked[place].id = holder->last_id;
	holder->asked[place].sent_at = now;
	holder->renew_at = holder->count ? mono_add(now, holder->rule.renewal) : MONO_NEVER;
	return holder->last_id;
}

void lease_hurry(struct lease_holder *holder, struct mono now)
{
	if (holder->count)
		holder->renew_at = mono_min(
		    holder->renew_at, mono_add(now, mono_ns(holder->rule.renewal.ns / HURRY)));
}

void lease_ask_again(struct lease_holder *holder)
{
	if (holder->count)
		holder->renew_at = MONO_ZERO;
}

/* A short lease is renewed more often, within limits. */
static void renew_in_time(struct lease_holder *holder, struct mono sent_at, struct mono length)
{
	int64_t usual = holder->rule.renewal.ns;
	int64_t often = length.ns / RENEWALS > usual / HURRY ? length.ns / RENEWALS : usual / HURRY;

	holder->renew_at = mono_min(holder->renew_at, mono_add(sent_at, mono_ns(often)));
}

bool lease_granted(
    struct lease_holder *holder, uint64_t id, struct mono length, const char *name, uint64_t epoch)
{
	size_t place = id % LEASE_ASKED_MAX;
	struct lease *lease = find(holder, name);
	struct mono until;

	if (!lease || lease->epoch != epoch || id == 0 || holder->asked[place].id != id)
		return false;
	until = mono_add(holder->asked[place].sent_at, length);
	if (!mono_before(lease->until, until))
		return false;
	lease->until = until;
	renew_in_time(holder, holder->asked[place].sent_at, length);
	return true;
}

void lease_open(struct lease_holder *holder, const char *name, uint64_t epoch)
{
	struct lease *lease = find(holder, name);

	if (lease && lease->epoch == epoch)
		lease->open = true;
}

bool lease_is_open(const struct lease_holder *holder, const char *name, uint64_t epoch)
{
	const struct lease *lease = find(holder, name);

	return lease && lease->epoch == epoch && lease->open;
}

struct mono lease_until(const struct lease_holder *holder, const char *name, uint64_t epoch)
{
	const struct lease *lease = find(holder, name);

	return lease && lease->epoch == epoch ? lease->until : MONO_ZERO;
}

/* --- the coordinator --- */

void lease_giver_init(struct lease_giver *giver, const struct lease_rule *rule, struct mono owed)
{
	*giver = (struct lease_giver){.rule = *rule, .owed = owed};
}

static struct lease_heard *find_heard(const struct lease_giver *giver, const char *name)
{
	for (size_t i = 0; i < giver->count; i++)
		if (strcmp(giver->heard[i].name, name) == 0)
			return (struct lease_heard *)&giver->heard[i];
	return NULL;
}

int lease_hear(struct lease_giver *giver, const char *name, struct mono now)
{
	struct lease_heard *heard = find_heard(giver, name);

	if (!heard && giver->count == LEASE_MAX)
		return -ENOSPC;
	if (!heard) {
		heard = &giver->heard[giver->count++];
		snprintf(heard->name, sizeof(heard->name), "%s", name);
	}
	heard->at = now;
	return 0;
}

struct mono lease_free_at(const struct lease_giver *giver, const char *name)
{
	const struct lease_heard *heard = find_heard(giver, name);

	struct mono own = heard ? mono_add(heard->at, giver->rule.lease) : MONO_ZERO;

	return mono_before(own, giver->owed) ? giver->owed : own;
}

struct mono lease_silent_at(const struct lease_giver *giver, const char *name)
{
	struct mono at = lease_free_at(giver, name);
	struct mono margin =
	    mono_sub(giver->rule.lease, lease_length(&giver->rule, giver->rule.lease));

	return mono_cmp(at, giver->owed) == 0 ? at : mono_sub(at, margin);
}
