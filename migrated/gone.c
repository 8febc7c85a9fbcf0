/*
 * Is the copy before really gone?  That its lease has ended says so where a fence silences it.  Where none does (the fact's
 * `unfenced`), or where it writes to directories that other nodes have too (`shared`), a lost node may still run it and be heard, and nothing that this side can see tells a dead one from one that is
 * cut off.  Then the VE stays on its node until the node itself says that the copy is gone (a report, as of any VE that
 * ended), or an administrator does: migrated.fenced, which names the epoch, so that a word about one copy is never taken for
 * a word about a later one.  Until then the fact's `held` tells why.
 *
 * A node says with its renewals what it cannot fence.  It gets no grant, and starts nothing, before that stands in the fact:
 * a coordinator that comes later has nothing else to know it from.
 *
 * Rejected: to let such nodes run no VEs at all (one node, or a test, has no use for a fence); to place them elsewhere after a
 * long time (no time is long enough).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "migrated/core.h"

bool gone_is_sure(const struct migrated_ve *ve)
{
	return !(ve->fact.unfenced || ve->fact.shared) || ve->fact.fenced == ve->fact.epoch;
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
	    "node %s %s, and %s: its copy may still run; when it does not: depctl ve fenced %s %" PRIu64,
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

bool gone_note(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct place *place, struct msg_migrated_ve_fact *fact)
{
	bool said = place->reported == ve->fact.epoch && !place->trouble.runs;

	*fact = ve->fact;
	fact->unfenced |= place->unfenced == fact->epoch;
	memset(fact->held, 0, sizeof(fact->held));
	if (ve->fact.want == MSG_MIGRATED_WANT_RUN && place_has_lost_its_node(migrated, ve) &&
	    !gone_is_sure(ve) && !said)
		gone_why_held(migrated, ve, fact->held, sizeof(fact->held));
	return fact->unfenced != ve->fact.unfenced || strcmp(fact->held, ve->fact.held) != 0;
}
