#include "migrated/keyring.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum state {
	IDLE,    /* until sweep_at */
	READING, /* behind `at` */
	SEALING, /* the service `at` */
	NEXT,    /* at the next step it goes on behind `at` */
};

struct keyring {
	struct keyring_config config;
	char self[NODE_NAME_MAX + 1];
	struct mono now, sweep_at;
	bool mine;
	enum state state;
	char at[NODE_NAME_MAX + 1]; /* the service that the sweep has come to; "": none yet */
	bool again;                 /* the membership changed under way */
	bool behind;                /* something could not be done */
	uint64_t wait_ms;           /* after the next sweep that is left behind */
	unsigned turn;              /* of those that can be asked for a key */
	size_t count;
	struct keyring_member members[KEYRING_MEMBERS_MAX];
};

int keyring_new(struct keyring **out, const struct keyring_config *config)
{
	struct keyring *keyring = calloc(1, sizeof(*keyring));

	if (!keyring)
		return -ENOMEM;
	keyring->config = *config;
	snprintf(keyring->self, sizeof(keyring->self), "%s", config->self);
	keyring->config.self = keyring->self;
	keyring->sweep_at = MONO_NEVER;
	keyring->wait_ms = config->retry_ms;
	*out = keyring;
	return 0;
}

struct keyring *keyring_free(struct keyring *keyring)
{
	free(keyring);
	return NULL;
}

/* --- what is, and what should be --- */

static bool is_sealed(const struct keyring_seal *seals, size_t count, const char *node, uint64_t id)
{
	for (size_t i = 0; i < count; i++)
		if (seals[i].id == id && strcmp(seals[i].node, node) == 0)
			return true;
	return false;
}

static bool is_wanted(const struct keyring *keyring, const struct keyring_member *member)
{
	return mono_is_never(member->left_at) ||
	       mono_before(keyring->now, mono_add_ms(member->left_at, keyring->config.left_ms));
}

static void want(const struct keyring *keyring, struct keyring_action *action)
{
	action->count = 0;
	for (size_t i = 0; i < keyring->count && action->count < KEYRING_SEALS_MAX; i++) {
		struct keyring_seal *seal = &action->seals[action->count];

		if (!is_wanted(keyring, &keyring->members[i]))
			continue;
		memcpy(seal->node, keyring->members[i].name, sizeof(seal->node));
		seal->id = keyring->members[i].id;
		action->count++;
	}
}

/* The seals of a fact are of different keys, so as many that are all wanted are the same. */
static bool is_as_wanted(const struct keyring_action *action, const struct keyring_event *fact)
{
	for (size_t i = 0; i < action->count; i++)
		if (!is_sealed(
			fact->seals, fact->count, action->seals[i].node, action->seals[i].id))
			return false;
	return action->count == fact->count;
}

static bool can_be_asked(const struct keyring *keyring, const struct keyring_seal *seal)
{
	if (strcmp(seal->node, keyring->self) == 0)
		return false;
	for (size_t i = 0; i < keyring->count; i++)
		if (keyring->members[i].alive && strcmp(keyring->members[i].name, seal->node) == 0)
			return true;
	return false;
}

/* Each time another one, so that one that does not answer, or answers wrongly, stops nobody. */
static const char *holder_to_ask(struct keyring *keyring, const struct keyring_event *fact)
{
	for (size_t i = 0; i < fact->count; i++) {
		const struct keyring_seal *seal = &fact->seals[(keyring->turn + i) % fact->count];

		if (!can_be_asked(keyring, seal))
			continue;
		keyring->turn = (unsigned)((keyring->turn + i) % fact->count) + 1;
		return seal->node;
	}
	return NULL;
}

enum keyring_holds keyring_holds(
    const struct keyring *keyring, const char *node, const struct keyring_seal *seals, size_t count)
{
	enum keyring_holds holds = KEYRING_LACKS;

	for (size_t i = 0; i < keyring->count; i++) {
		const struct keyring_member *member = &keyring->members[i];

		if (strcmp(member->name, node) != 0 || !is_sealed(seals, count, node, member->id))
			continue;
		if (!member->old)
			return KEYRING_HOLDS;
		holds = KEYRING_HOLDS_OLD;
	}
	return holds;
}

/* --- the sweep --- */

static void read_next(struct keyring *keyring, struct keyring_action *action)
{
	keyring->state = READING;
	action->kind = KEYRING_READ;
	memcpy(action->name, keyring->at, sizeof(action->name));
}

static void begin(struct keyring *keyring, struct keyring_action *action)
{
	keyring->again = keyring->behind = false;
	keyring->at[0] = '\0';
	read_next(keyring, action);
}

static void end(struct keyring *keyring)
{
	uint64_t wait_ms = keyring->again    ? 0
			   : keyring->behind ? keyring->wait_ms
					     : keyring->config.sweep_ms;

	keyring->wait_ms = keyring->behind ? 2 * keyring->wait_ms : keyring->config.retry_ms;
	if (keyring->wait_ms > keyring->config.sweep_ms)
		keyring->wait_ms = keyring->config.sweep_ms;
	keyring->state = IDLE;
	keyring->sweep_at = mono_add_ms(keyring->now, (int64_t)wait_ms);
}

static void seal(
    struct keyring *keyring, const struct keyring_event *fact, struct keyring_action *action)
{
	const char *holder = fact->opens ? "" : holder_to_ask(keyring, fact);

	if (!holder) {
		keyring->behind = true;
		keyring->state = NEXT;
		action->kind = KEYRING_KEYLESS;
	} else {
		keyring->state = SEALING;
		action->kind = KEYRING_SEAL;
		snprintf(action->from, sizeof(action->from), "%s", holder);
	}
	memcpy(action->name, keyring->at, sizeof(action->name));
	action->version = fact->version;
}

static void take_fact(
    struct keyring *keyring, const struct keyring_event *fact, struct keyring_action *action)
{
	if (keyring->state != READING)
		return;
	if (!fact->ok)
		keyring->behind = true;
	if (!fact->ok || !*fact->name) {
		end(keyring);
		return;
	}
	snprintf(keyring->at, sizeof(keyring->at), "%s", fact->name);
	want(keyring, action);
	if (!fact->version || is_as_wanted(action, fact))
		read_next(keyring, action);
	else
		seal(keyring, fact, action);
}

static void take_sealed(
    struct keyring *keyring, const struct keyring_event *event, struct keyring_action *action)
{
	if (keyring->state != SEALING)
		return;
	keyring->behind |= !event->ok;
	read_next(keyring, action);
}

static void take_members(struct keyring *keyring, const struct keyring_event *event)
{
	assert(event->count <= KEYRING_MEMBERS_MAX);
	keyring->count = event->count;
	memcpy(keyring->members, event->members, event->count * sizeof(keyring->members[0]));
	keyring->again = true;
	keyring->wait_ms = keyring->config.retry_ms;
	keyring->sweep_at = keyring->now;
}

static void take_coord(struct keyring *keyring, const struct keyring_event *event)
{
	if (keyring->mine == event->mine)
		return;
	/* What an earlier reign had under way is its own; a late answer finds another state, or fails at the version. */
	keyring->mine = event->mine;
	keyring->state = IDLE;
	keyring->sweep_at = keyring->now;
}

void keyring_step(
    struct keyring *keyring, const struct keyring_event *event, struct keyring_action *action)
{
	memset(action, 0, sizeof(*action));
	keyring->now = event->now;
	switch (event->kind) {
	case KEYRING_TIMEOUT:
		if (keyring->mine && keyring->state == NEXT)
			read_next(keyring, action);
		else if (keyring->mine && keyring->state == IDLE &&
			 mono_due(keyring->sweep_at, keyring->now))
			begin(keyring, action);
		break;
	case KEYRING_COORD:
		take_coord(keyring, event);
		break;
	case KEYRING_MEMBERS:
		take_members(keyring, event);
		break;
	case KEYRING_FACT:
		take_fact(keyring, event, action);
		break;
	case KEYRING_SEALED:
		take_sealed(keyring, event, action);
		break;
	}
}

struct mono keyring_deadline(const struct keyring *keyring)
{
	if (!keyring->mine || keyring->state == READING || keyring->state == SEALING)
		return MONO_NEVER;
	return keyring->state == NEXT ? keyring->now : keyring->sweep_at;
}
