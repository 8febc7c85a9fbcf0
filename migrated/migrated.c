#include "migrated/migrated.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrated/core.h"

int migrated_new(struct migrated **out, const struct migrated_config *config)
{
	struct migrated *migrated = calloc(1, sizeof(*migrated));

	if (!migrated)
		return -ENOMEM;
	migrated->config = *config;
	copy_text(migrated->self, sizeof(migrated->self), config->self);
	migrated->config.self = migrated->self;
	migrated->scan_at = migrated->read_at = migrated->place_at = MONO_NEVER;
	lease_holder_init(&migrated->holder, &config->lease);
	*out = migrated;
	return 0;
}

struct migrated *migrated_free(struct migrated *migrated)
{
	free(migrated);
	return NULL;
}

void copy_text(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

struct migrated_action *action_add(
    struct migrated_actions *actions, enum migrated_action_kind kind, const char *name)
{
	struct migrated_action *action = &actions->list[actions->count];

	if (actions->count < MIGRATED_ACTIONS_MAX)
		actions->count++;
	memset(action, 0, sizeof(*action));
	action->kind = kind;
	copy_text(action->name, sizeof(action->name), name);
	return action;
}

const struct migrated_ve *find_ve(const struct migrated *migrated, const char *name)
{
	for (size_t i = 0; i < migrated->n_ves; i++)
		if (strcmp(migrated->ves[i].fact.name, name) == 0)
			return &migrated->ves[i];
	return NULL;
}

const struct migrated_node *find_node(const struct migrated *migrated, const char *name)
{
	for (size_t i = 0; i < migrated->n_nodes; i++)
		if (strcmp(migrated->nodes[i].name, name) == 0)
			return &migrated->nodes[i];
	return NULL;
}

void read_facts(struct migrated *migrated, struct migrated_actions *actions)
{
	if (migrated->reading) {
		migrated->read_again = true;
		return;
	}
	migrated->reading = true;
	action_add(actions, MIGRATED_READ, "");
}

void distrust_facts(struct migrated *migrated)
{
	migrated->have_facts = false;
	migrated->read_is_old = migrated->reading;
}

void list_locals(struct migrated *migrated, struct migrated_actions *actions)
{
	if (migrated->listing) {
		migrated->list_again = true;
		return;
	}
	migrated->listing = true;
	action_add(actions, MIGRATED_LIST, "");
}

static void look_at_everything(struct migrated *migrated, struct migrated_actions *actions)
{
	migrated->scan_at = mono_add_ms(migrated->now, migrated->config.scan_ms);
	read_facts(migrated, actions);
	list_locals(migrated, actions);
}

static void act(struct migrated *migrated, struct migrated_actions *actions)
{
	migrated->place_at = MONO_NEVER;
	if (migrated->mine && migrated->have_facts) {
		ask_all(migrated, actions);
		place_all(migrated, actions);
		sets_all(migrated, actions);
	}
	if (migrated->revoked && migrated->have_locals)
		keep_none(migrated, actions);
	else if (migrated->have_facts && migrated->have_locals)
		keep_all(migrated, actions);
}

static void take_facts(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	migrated->reading = false;
	ask_read(migrated, event, actions);
	if (event->ok && !migrated->read_is_old && event->revision >= migrated->revision) {
		migrated->have_facts = true;
		migrated->revision = event->revision;
		migrated->read_at = migrated->now;
		migrated->n_ves = event->count < MIGRATED_VES_MAX ? event->count : MIGRATED_VES_MAX;
		memcpy(migrated->ves, event->ves, migrated->n_ves * sizeof(migrated->ves[0]));
	}
	migrated->read_is_old = false;
	if (migrated->read_again) {
		migrated->read_again = false;
		read_facts(migrated, actions);
	}
}

static void take_locals(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	migrated->listing = false;
	migrated->have_locals = event->ok;
	migrated->n_locals = 0;
	if (event->ok) {
		migrated->unfenced = event->unfenced;
		migrated->n_locals =
		    event->count < MIGRATED_VES_MAX ? event->count : MIGRATED_VES_MAX;
		memcpy(migrated->locals, event->locals,
		    migrated->n_locals * sizeof(migrated->locals[0]));
	}
	if (migrated->list_again) {
		migrated->list_again = false;
		list_locals(migrated, actions);
	}
}

static void take_nodes(struct migrated *migrated, const struct migrated_event *event)
{
	migrated->n_nodes = event->count < NODES_MAX ? event->count : NODES_MAX;
	memcpy(migrated->nodes, event->nodes, migrated->n_nodes * sizeof(migrated->nodes[0]));
}

/*
 * When all leases are over that others gave before this reign, and that processes of this node gave under it.  Each ends with
 * the reign that it was given under.  Whoever took over from one that had run out, when this process was there already,
 * owes nothing.  Else the last one may have lasted as long as the one that runs now.
 */
static struct mono owed(const struct migrated *migrated, const struct migrated_event *event)
{
	if (mono_before(migrated->started_at, event->since))
		return event->since;
	return mono_add(migrated->now,
	    lease_stretch(&migrated->config.lease, mono_sub(event->until, migrated->now)));
}

static void take_coord(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	bool same = migrated->reign == event->epoch;

	if (!same)
		lease_ask_again(&migrated->holder);
	migrated->reign = event->epoch;
	migrated->reign_until = event->until;
	if (migrated->mine == event->mine && (same || !event->mine))
		return;
	migrated->mine = event->mine;
	lease_giver_init(&migrated->giver, &migrated->config.lease, owed(migrated, event));
	/* A reign begins with a fresh look, and with no memory of an earlier one. */
	place_forget(migrated);
	distrust_facts(migrated);
	read_facts(migrated, actions);
	if (!migrated->mine)
		ask_refuse_all(migrated, actions);
}

static void renew(struct migrated *migrated, struct migrated_actions *actions)
{
	if (mono_due(migrated->holder.renew_at, migrated->now))
		action_add(actions, MIGRATED_RENEW, "")->id =
		    lease_renew(&migrated->holder, migrated->now);
}

static void take_granted(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	bool longer = false;

	if (!event->ok || event->count < migrated->holder.count)
		lease_hurry(&migrated->holder, migrated->now);
	for (size_t i = 0; event->ok && i < event->count; i++) {
		if (!event->leases[i].silent)
			lease_open(
			    &migrated->holder, event->leases[i].name, event->leases[i].epoch);
		longer |= lease_granted(&migrated->holder, event->id, event->length,
		    event->leases[i].name, event->leases[i].epoch);
	}
	if (longer)
		action_add(actions, MIGRATED_ARM, "");
}

static void take_written(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	bool asked = ask_written(migrated, event, actions);

	/* Of a set that somebody asked for each member is marked as being written. */
	if (!asked || place_is_writing(migrated, event->name))
		place_written(migrated, event);
	read_facts(migrated, actions);
}

void migrated_step(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	assert(migrated->started == (event->kind != MIGRATED_START));
	migrated->now = event->now;
	migrated->revoked = event->revoked;
	switch (event->kind) {
	case MIGRATED_START:
		migrated->started = true;
		migrated->started_at = event->now;
		keep_begun(migrated, event->begun, event->count);
		look_at_everything(migrated, actions);
		renew(migrated, actions);
		return;
	case MIGRATED_TIMEOUT:
		if (mono_due(migrated->scan_at, event->now))
			look_at_everything(migrated, actions);
		if (mono_due(migrated->place_at, event->now))
			act(migrated, actions);
		renew(migrated, actions);
		return;
	case MIGRATED_RENEWAL:
		place_grant(migrated, event, actions);
		return;
	case MIGRATED_GRANTED:
		take_granted(migrated, event, actions);
		break;
	case MIGRATED_HINT:
		look_at_everything(migrated, actions);
		return;
	case MIGRATED_FACTS:
		take_facts(migrated, event, actions);
		break;
	case MIGRATED_NODES:
		take_nodes(migrated, event);
		break;
	case MIGRATED_COORD:
		take_coord(migrated, event, actions);
		renew(migrated, actions);
		return;
	case MIGRATED_LOCALS:
		take_locals(migrated, event, actions);
		break;
	case MIGRATED_TOLD:
		choose_told(migrated, event);
		return;
	case MIGRATED_HEALTH:
		health_take(migrated, event, actions);
		return;
	case MIGRATED_RAN:
		keep_ran(migrated, event, actions);
		return;
	case MIGRATED_ENDED:
		keep_ended(migrated, event, actions);
		return;
	case MIGRATED_WRITTEN:
		take_written(migrated, event, actions);
		return;
	case MIGRATED_FENCED:
		place_fenced(migrated, event);
		break;
	case MIGRATED_REPORT:
		place_report(migrated, event);
		break;
	case MIGRATED_ASKED:
		ask_take(migrated, event->request, actions);
		break;
	}
	act(migrated, actions);
	renew(migrated, actions);
}

struct mono migrated_deadline(const struct migrated *migrated)
{
	return mono_min(migrated->scan_at, mono_min(migrated->place_at, migrated->holder.renew_at));
}

size_t migrated_count(const struct migrated *migrated)
{
	return migrated->n_ves;
}

const struct migrated_ve *migrated_at(const struct migrated *migrated, size_t i)
{
	return &migrated->ves[i];
}

bool migrated_asks_for(const struct migrated *migrated, const char *name)
{
	return ask_is_pending(migrated, name);
}

size_t migrated_leases(const struct migrated *migrated, struct migrated_lease *leases, size_t max)
{
	size_t count = 0;

	for (; count < migrated->holder.count && count < max; count++) {
		const struct lease *lease = &migrated->holder.leases[count];

		copy_text(leases[count].name, sizeof(leases[count].name), lease->name);
		leases[count].epoch = lease->epoch;
		leases[count].unfenced = keep_is_unfenced(migrated, lease->name, lease->epoch);
		leases[count].ready = keep_is_ready(migrated, lease->name, lease->epoch);
		leases[count].silent = false;
	}
	return count;
}

struct mono migrated_lease_until(const struct migrated *migrated, const char *name, uint64_t epoch)
{
	return lease_is_open(&migrated->holder, name, epoch)
		   ? lease_until(&migrated->holder, name, epoch)
		   : MONO_ZERO;
}

struct mono migrated_read_at(const struct migrated *migrated)
{
	return migrated->read_at;
}

void migrated_check(const struct migrated *migrated)
{
	assert(migrated->n_ves <= MIGRATED_VES_MAX && migrated->n_keeps <= MIGRATED_VES_MAX);
	assert(migrated->n_places <= MIGRATED_VES_MAX && migrated->n_pending <= MIGRATED_ASKS_MAX);
	/* Nothing is begun without its journal, and one thing at a time is asked of ved for a VE. */
	for (size_t i = 0; i < migrated->n_keeps; i++)
		assert(migrated->keeps[i].failed <= migrated->keeps[i].begun);
	assert(migrated->mine || migrated->n_pending == 0);
}
