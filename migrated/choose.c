/*
 * Choosing a node for a VE.
 *
 * A node is out of the question when
 *	it is not alive			suspicion is enough: nothing is lost by another choice
 *	it lacks a directory		of the host that the VE mounts ([ved] mounts lists them all)
 *	it lacks CPU features		of the node that the VE runs on, whose images cannot be restored without them; a cold
 *					start needs none
 *	another of its group is there	and the VE is to be kept apart from them at any price
 *	its memory is short		of what the VE is said to need
 * What a node has not told of itself yet excludes it from nothing: a start that fails there is tried elsewhere.  But for the
 * directories: they are told in two seconds, and what ved refuses without them would count against the checkpoint, of a VE that
 * is sure to have waited for longer (gone.c).
 *
 * Of the others, in this order: one that is not the node where it has just failed; the fewest of its group (one is bad
 * luck, two are an outage); one that has the image (no transfer stands between failure and service); the fewest VEs; the
 * name, so that all coordinators choose alike.  What is being written counts both where it is and where it goes: two VEs of
 * one dead node are placed at the same moment, and a write may fail.
 *
 * Rejected: one weighted sum of it all (nobody could say why a node was chosen, and a large cluster would buy a second
 * replica on one node with enough free memory).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/words.h"
#include "migrated/core.h"
#include "migrated/cpu.h"

#define MIB (1024 * 1024)

/* --- what nodes tell of themselves --- */

static const struct capacity *find_capacity(const struct migrated *migrated, const char *node)
{
	for (size_t i = 0; i < migrated->n_capacities; i++)
		if (strcmp(migrated->capacities[i].node, node) == 0)
			return &migrated->capacities[i];
	return NULL;
}

void choose_told(struct migrated *migrated, const struct migrated_event *event)
{
	struct capacity *capacity = (struct capacity *)find_capacity(migrated, event->name);

	/* Members come and go; one that is none any more gives up its place. */
	for (size_t i = migrated->n_capacities; i-- > 0 && !capacity;)
		if (migrated->n_capacities == NODES_MAX &&
		    !find_node(migrated, migrated->capacities[i].node))
			migrated->capacities[i] = migrated->capacities[--migrated->n_capacities];
	if (!capacity && migrated->n_capacities < NODES_MAX)
		capacity = &migrated->capacities[migrated->n_capacities++];
	if (!capacity)
		return;
	*capacity = (struct capacity){
	    .memory = event->memory, .cpu = event->cpu, .tells_mounts = event->mounts};
	copy_text(capacity->node, sizeof(capacity->node), event->name);
	copy_text(capacity->mounts, sizeof(capacity->mounts), event->mounts ? event->mounts : "");
}

uint64_t choose_cpu(const struct migrated *migrated, const char *node)
{
	const struct capacity *capacity = find_capacity(migrated, node);

	return capacity ? capacity->cpu : 0;
}

/* --- what is there --- */

/* What is being written is there and will be: the write may fail. */
static bool is_there(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct msg_migrated_ve_fact *fact, const char *node)
{
	const char *next = place_next(migrated, ve->fact.name);

	return ve->fact.want == MSG_MIGRATED_WANT_RUN && strcmp(ve->fact.name, fact->name) != 0 &&
	       (strcmp(ve->fact.node, node) == 0 || (next && strcmp(next, node) == 0));
}

static unsigned count_ves(
    const struct migrated *migrated, const struct msg_migrated_ve_fact *fact, const char *node)
{
	unsigned count = 0;

	for (size_t i = 0; i < migrated->n_ves; i++)
		count += is_there(migrated, &migrated->ves[i], fact, node);
	return count;
}

/* Others of its group; *which is one of them. */
static unsigned count_group(const struct migrated *migrated,
    const struct msg_migrated_ve_fact *fact, const char *node, const char **which)
{
	unsigned count = 0;

	for (size_t i = 0; i < migrated->n_ves && *fact->group; i++) {
		const struct migrated_ve *ve = &migrated->ves[i];

		if (strcmp(ve->fact.group, fact->group) != 0 || !is_there(migrated, ve, fact, node))
			continue;
		*which = ve->fact.name;
		count++;
	}
	return count;
}

/* What is promised to VEs that came so lately that the node's own figure does not show it. */
static uint64_t promised(
    const struct migrated *migrated, const struct msg_migrated_ve_fact *fact, const char *node)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < migrated->n_ves; i++)
		if (is_there(migrated, &migrated->ves[i], fact, node) &&
		    place_is_new(migrated, migrated->ves[i].fact.name))
			sum += migrated->ves[i].fact.memory;
	return sum;
}

static bool holds_replica(const struct migrated_ckpt *ckpt, const char *node)
{
	for (size_t i = 0; ckpt && i < ckpt->n_replicas; i++)
		if (strcmp(ckpt->replicas[i], node) == 0)
			return true;
	return false;
}

/* --- the choice --- */

/* One of the directories that the VE needs and may not have there, or what else is not known of them. */
static bool lacks_mount(const struct capacity *capacity, const struct msg_migrated_ve_fact *fact,
    char *why, size_t size)
{
	size_t length;

	if (!*fact->mounts || (capacity && !capacity->tells_mounts))
		return false;
	if (!capacity) {
		snprintf(why, size, "has not told yet what it mounts");
		return true;
	}
	for (const char *word = words_next(fact->mounts, &length); length;
	     word = words_next(word + length, &length))
		if (!words_have(capacity->mounts, word, length)) {
			snprintf(why, size, "does not mount %.*s", (int)length, word);
			return true;
		}
	return false;
}

/* Why this node is out of the question; false: it is not. */
static bool is_out(const struct migrated *migrated, const struct migrated_node *node,
    const struct msg_migrated_ve_fact *fact, const struct migrated_ckpt *ckpt, char *why,
    size_t size)
{
	const struct capacity *capacity = find_capacity(migrated, node->name);
	uint64_t lacks = ckpt && capacity && capacity->cpu ? fact->cpu & ~capacity->cpu : 0;
	uint64_t taken = promised(migrated, fact, node->name);
	const char *other = "";
	char names[64];

	if (!node->alive) {
		snprintf(why, size, "is not alive");
	} else if (lacks_mount(capacity, fact, why, size)) {
		return true;
	} else if (lacks) {
		cpu_names(names, sizeof(names), lacks);
		snprintf(why, size, "its CPU lacks %s", names);
	} else if (fact->apart && count_group(migrated, fact, node->name, &other) > 0) {
		snprintf(why, size, "%s of group %s is there", other, fact->group);
	} else if (fact->memory && capacity && capacity->memory < fact->memory + taken) {
		snprintf(why, size,
		    "%" PRIu64 " MiB of memory are free, %" PRIu64 " of them promised, %" PRIu64
		    " needed",
		    capacity->memory / MIB, taken / MIB, fact->memory / MIB);
	} else {
		return false;
	}
	return true;
}

static bool is_better(const struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt *ckpt, const char *a, const char *b)
{
	const char *other;
	unsigned group_a = count_group(migrated, fact, a, &other);
	unsigned group_b = count_group(migrated, fact, b, &other);
	bool holds_a = holds_replica(ckpt, a), holds_b = holds_replica(ckpt, b);
	unsigned count_a = count_ves(migrated, fact, a), count_b = count_ves(migrated, fact, b);

	if (group_a != group_b)
		return group_a < group_b;
	if (holds_a != holds_b)
		return holds_a;
	if (count_a != count_b)
		return count_a < count_b;
	return strcmp(a, b) < 0;
}

const char *choose_node(const struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt *ckpt, const char * not )
{
	const char *best = "", *last = "";
	char why[128];

	for (size_t i = 0; i < migrated->n_nodes; i++) {
		const struct migrated_node *node = &migrated->nodes[i];

		if (is_out(migrated, node, fact, ckpt, why, sizeof(why)))
			continue;
		if (strcmp(node->name, not ) == 0)
			last = node->name;
		else if (!*best || is_better(migrated, fact, ckpt, node->name, best))
			best = node->name;
	}
	return *best ? best : last;
}

bool choose_allows(const struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt *ckpt, const char *node, char *why, size_t size)
{
	const struct migrated_node *found = find_node(migrated, node);

	return found && !is_out(migrated, found, fact, ckpt, why, size);
}

bool choose_may_learn(
    const struct migrated *migrated, const struct msg_migrated_ve_fact *fact, const char *node)
{
	for (size_t i = 0; i < migrated->n_nodes && *fact->mounts; i++) {
		const struct migrated_node *one = &migrated->nodes[i];

		if (one->alive && !find_capacity(migrated, one->name) &&
		    (!*node || strcmp(one->name, node) == 0))
			return true;
	}
	return false;
}

void choose_explain(const struct migrated *migrated, const struct msg_migrated_ve_fact *fact,
    const struct migrated_ckpt *ckpt, char *text, size_t size)
{
	size_t used = (size_t)snprintf(text, size, "no node can run it");
	char why[128];

	for (size_t i = 0; i < migrated->n_nodes && used < size; i++)
		if (is_out(migrated, &migrated->nodes[i], fact, ckpt, why, sizeof(why)))
			used += (size_t)snprintf(
			    text + used, size - used, "; %s: %s", migrated->nodes[i].name, why);
}
