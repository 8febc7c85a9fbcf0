/*
 * Which checkpoint a VE starts from: the newest one that is not set aside and whose image can be had.
 *
 * An image counts while a node that has it is not dead, nor one that was never heard of since gossipd began.  Those that have it are, as far as is known here, the nodes of the
 * catalogue, and the present node of the VE if it has started from it.  Several nodes that die at once may have had all
 * images of the newest checkpoint.  They may also be back soon, disks and all, and an older checkpoint throws away what the
 * service did since: so it is taken only when the newest one has been away for image_wait_ms, and until then, or when there
 * is none, the VE has no node, and its fact says what it waits for.
 *
 * Rejected: to place it all the same and let the node look for the image (it looks for ever, and nobody is told); to ask
 * every gosd before each placement (a dead node costs it two seconds, and the answer may be old when it is used).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "migrated/core.h"

static bool is_there(const struct migrated *migrated, const char *name)
{
	const struct migrated_node *node = find_node(migrated, name);

	/* Of a node of another site nothing is known here. */
	return !node || (!node->dead && !node->unheard);
}

/* It has been restored from this one where it is now. */
static bool was_fetched(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, const struct migrated_ckpt *ckpt)
{
	bool begun = place->reported != ve->fact.epoch ||
		     place->trouble.kind != MSG_MIGRATED_TROUBLE_NOT_BEGUN;

	return begun && ve->fact.has_start_from && ve->fact.start_ckpt == ckpt->id &&
	       *ve->fact.node && is_there(migrated, ve->fact.node);
}

bool images_is_in_reach(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, const struct migrated_ckpt *ckpt)
{
	if (was_fetched(migrated, ve, place, ckpt))
		return true;
	for (size_t i = 0; i < ckpt->n_replicas; i++)
		if (is_there(migrated, ckpt->replicas[i]))
			return true;
	return false;
}

bool images_is_set_aside(const struct msg_migrated_ve_fact *fact, uint64_t ckpt)
{
	for (size_t i = 0; i < fact->set_aside.count; i++)
		if (fact->set_aside.item[i] == ckpt)
			return true;
	return false;
}

uint32_t images_set_aside(const struct migrated_ve *ve, const struct msg_migrated_ve_fact *fact)
{
	uint32_t count = 0;

	for (size_t i = 0; i < ve->n_ckpts; i++)
		count += images_is_set_aside(fact, ve->ckpts[i].id);
	return count;
}

const struct migrated_ckpt *images_newest(
    const struct migrated_ve *ve, const struct msg_migrated_ve_fact *fact)
{
	for (size_t i = ve->n_ckpts; i-- > 0;)
		if (!images_is_set_aside(fact, ve->ckpts[i].id))
			return &ve->ckpts[i];
	return NULL;
}

static const struct migrated_ckpt *newest_in_reach(const struct migrated *migrated,
    const struct migrated_ve *ve, const struct place *place,
    const struct msg_migrated_ve_fact *fact)
{
	for (size_t i = ve->n_ckpts; i-- > 0;)
		if (!images_is_set_aside(fact, ve->ckpts[i].id) &&
		    images_is_in_reach(migrated, ve, place, &ve->ckpts[i]))
			return &ve->ckpts[i];
	return NULL;
}

bool images_choose(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt **ckpt)
{
	const struct migrated_ckpt *newest = images_newest(ve, fact);
	const struct migrated_ckpt *reached = newest_in_reach(migrated, ve, place, fact);

	*ckpt = newest;
	if (newest == reached)
		return true;
	if (!reached || place->away != newest->id ||
	    mono_before(
		migrated->now, mono_add_ms(place->away_since, migrated->config.image_wait_ms)))
		return false;
	*ckpt = reached;
	return true;
}

void images_look(struct migrated *migrated, const struct migrated_ve *ve, struct place *place)
{
	const struct migrated_ckpt *newest = images_newest(ve, &ve->fact);
	struct mono until;

	if (!newest || images_is_in_reach(migrated, ve, place, newest)) {
		place->away = 0;
		return;
	}
	if (place->away != newest->id)
		place->away_since = migrated->now;
	place->away = newest->id;
	until = mono_add_ms(place->away_since, migrated->config.image_wait_ms);
	if (!mono_due(until, migrated->now))
		migrated->place_at = mono_min(migrated->place_at, until);
}

void images_explain(const struct migrated_ckpt *ckpt, char *text, size_t size)
{
	size_t used = (size_t)snprintf(text, size, "checkpoint %" PRIu64 ".%" PRIu64 " is on",
	    ckpt->id >> 32, ckpt->id & UINT32_MAX);

	for (size_t i = 0; i < ckpt->n_replicas && used < size; i++)
		used += (size_t)snprintf(
		    text + used, size - used, "%s %s", i ? "," : "", ckpt->replicas[i]);
	if (used < size)
		snprintf(text + used, size - used,
		    ckpt->n_replicas > 1 ? ", none of which is alive" : ", which is not alive");
}
