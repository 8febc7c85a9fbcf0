/*
 * Is the copy before really gone?  That its lease has ended says so where a fence silences it.  Where none does (the fact's
 * `unfenced`), or where it writes to directories that other nodes have too (`shared`), a lost node may still run it and be
 * heard, and nothing that this side can see tells a dead one from one that is cut off.  Then the VE stays on its node until
 * the node itself says that the copy is gone (a report, as of any VE that ended), or an administrator does:
 * migrated.fenced, which names the epoch, so that a word about one copy is never taken for a word about a later one.  Or
 * the VE names a command that makes sure ([fence NAME], fencer.h): it is run while the VE is held, with pauses that grow to
 * backoff_max_ms, and is believed when it ends well.  Until then the fact's `held` tells why.
 *
 * Of one that is to stand still (stopped, or given up) the node says so until the fact has it (`fenced` again): it may be asked
 * for at any time, and then on another node.
 *
 * A node says with its renewals what it cannot fence.  It gets no grant, and starts nothing, before that stands in the fact:
 * a coordinator that comes later has nothing else to know it from.
 *
 * From the note that it is held until that is taken back, its epoch gets no grants: a node that was switched off and is back before
 * the word arrives would else begin a copy that the word is not about.
 *
 * Rejected: to let such nodes run no VEs at all (one node, or a test, has no use for a fence); to place them elsewhere after a
 * long time (no time is long enough).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "migrated/core.h"

/* An epoch without a node has no copy, and it was only written when the one before was gone. */
bool gone_is_sure(const struct migrated_ve *ve)
{
	return !*ve->fact.node || !(ve->fact.unfenced || ve->fact.shared) ||
	       ve->fact.fenced == ve->fact.epoch;
}

/* Then it ends the copy itself, or goes on with it. */
bool gone_can_ask(const struct migrated *migrated, const struct migrated_ve *ve)
{
	const struct migrated_node *node = find_node(migrated, ve->fact.node);

	return node && node->alive && !ve->node_revoked;
}

void gone_why_held(
    const struct migrated *migrated, const struct migrated_ve *ve, char *why, size_t size)
{
	const struct migrated_node *node = find_node(migrated, ve->fact.node);

	snprintf(why, size,
	    "node %s %s, and %s: its copy may still run; if not: depctl ve fenced %s %" PRIu64,
	    ve->fact.node,
	    ve->node_revoked                        ? "is revoked"
	    : node && !mono_is_never(node->left_at) ? "has left"
	    : node && node->dead                    ? "is dead"
						    : "is not alive",
	    ve->fact.unfenced ? "has no fence"
			      : "no fence stops what it writes to shared directories",
	    ve->fact.name, ve->fact.epoch);
}

void gone_pin(
    const struct migrated_ve *ve, const struct place *place, struct msg_migrated_ve_fact *fact)
{
	if (!gone_is_sure(ve) && place->trouble.runs && fact->want == MSG_MIGRATED_WANT_RUN)
		copy_text(fact->node, sizeof(fact->node), ve->fact.node);
}

/* Nobody is sure of the copy, and its node cannot be asked. */
static bool is_held(
    const struct migrated *migrated, const struct migrated_ve *ve, const struct place *place)
{
	bool said = place->reported == ve->fact.epoch && !place->trouble.runs;

	return ve->fact.want == MSG_MIGRATED_WANT_RUN && place_has_lost_its_node(migrated, ve) &&
	       !gone_is_sure(ve) && place->vouched != ve->fact.epoch && !said;
}

static size_t count_fencing(const struct migrated *migrated)
{
	size_t count = 0;

	for (size_t i = 0; i < migrated->n_places; i++)
		count += migrated->places[i].fencing != 0;
	return count;
}

/* It cannot be taken back: not before the store has taken that the VE is held, from a coordinator. */
void gone_fence(struct migrated *migrated, const struct migrated_ve *ve, struct place *place,
    struct migrated_actions *actions)
{
	bool wanted = is_held(migrated, ve, place) && *ve->fact.held && *ve->fact.fence;
	struct migrated_action *action;

	if (place->fencing && (!wanted || place->fencing != ve->fact.epoch)) {
		place->fencing = 0;
		action_add(actions, MIGRATED_SPARE, ve->fact.name);
	}
	if (!wanted || place->fencing || count_fencing(migrated) == FENCING_MAX ||
	    actions->count == MIGRATED_ACTIONS_MAX)
		return;
	if (place->tried == ve->fact.epoch && !mono_due(place->fence_at, migrated->now)) {
		migrated->place_at = mono_min(migrated->place_at, place->fence_at);
		return;
	}
	place->fencing = ve->fact.epoch;
	action = action_add(actions, MIGRATED_FENCE, ve->fact.name);
	action->epoch = ve->fact.epoch;
	action->fact = ve->fact;
}

/* None is begun under that epoch, so the word holds for good. */
static bool is_said_to_be_stopped(const struct migrated_ve *ve, const struct place *place)
{
	return ve->fact.want != MSG_MIGRATED_WANT_RUN && !gone_is_sure(ve) &&
	       place->reported == ve->fact.epoch &&
	       place->trouble.kind == MSG_MIGRATED_TROUBLE_STOPPED;
}

bool gone_note(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact)
{
	size_t length;

	*fact = ve->fact;
	fact->unfenced |= place->unfenced == fact->epoch;
	if (place->vouched == fact->epoch || is_said_to_be_stopped(ve, place))
		fact->fenced = fact->epoch;
	memset(fact->held, 0, sizeof(fact->held));
	if (is_held(migrated, ve, place)) {
		gone_why_held(migrated, ve, fact->held, sizeof(fact->held));
		length = strlen(fact->held);
		if (place->tried == fact->epoch)
			snprintf(fact->held + length, sizeof(fact->held) - length,
			    "; fence command %.63s: %s", fact->fence, place->said);
	}
	return fact->unfenced != ve->fact.unfenced || fact->fenced != ve->fact.fenced ||
	       strcmp(fact->held, ve->fact.held) != 0;
}
