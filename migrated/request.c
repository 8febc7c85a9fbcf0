/*
 * What clients ask of the coordinator: each request becomes one transaction, evaluated anew on each snapshot until it is
 * written, refused, or was tried too often.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/rpc.h"
#include "migrated/core.h"

static void answer(const struct migrated_request *request, enum rpc_status status,
    const char *reason, const struct msg_migrated_ve_fact *fact, struct migrated_actions *actions)
{
	struct migrated_action *action = action_add(actions, MIGRATED_ANSWER, request->name);

	action->id = request->id;
	action->status = (int)status;
	copy_text(action->reason, sizeof(action->reason), reason);
	if (fact)
		action->fact = *fact;
}

static void drop(struct migrated *migrated, size_t i)
{
	migrated->pending[i] = migrated->pending[--migrated->n_pending];
}

/* Two CIDRs of one host; the length of the prefix does not make another of it. */
static bool is_same_host(const char *a, const char *b)
{
	size_t length = strcspn(a, "/");

	return length == strcspn(b, "/") && memcmp(a, b, length) == 0;
}

/* Whoever asks right after an election is not refused for what will be known in a moment. */
static enum rpc_status not_placed(
    const struct migrated *migrated, const struct msg_migrated_ve_fact *fact, const char *node)
{
	return choose_may_learn(migrated, fact, node) ? RPC_UNREACHABLE : RPC_FAILED;
}

static enum rpc_status want_new(const struct migrated *migrated,
    const struct migrated_request *request, struct msg_migrated_ve_fact *fact, char *why,
    size_t size)
{
	const struct migrated_node *node = find_node(migrated, request->fact.node);
	char reason[MIGRATED_REASON / 2];

	if (find_ve(migrated, request->name)) {
		snprintf(why, size, "there is a VE %s already", request->name);
		return RPC_FAILED;
	}
	if (!sets_allow(migrated, request->name, request->fact.set, why, size))
		return RPC_FAILED;
	if (migrated->n_ves == MIGRATED_VES_MAX) {
		snprintf(why, size, "there are %d VEs, no more can be kept", MIGRATED_VES_MAX);
		return RPC_FAILED;
	}
	for (size_t i = 0; i < migrated->n_ves && *request->fact.address; i++)
		if (is_same_host(migrated->ves[i].fact.address, request->fact.address)) {
			snprintf(why, size, "VE %s has the address %s", migrated->ves[i].fact.name,
			    migrated->ves[i].fact.address);
			return RPC_FAILED;
		}
	if (*request->fact.node && (!node || !node->alive)) {
		snprintf(why, size, node ? "node %s is not alive" : "there is no node %s",
		    request->fact.node);
		return node ? RPC_FAILED : RPC_NOT_FOUND;
	}
	*fact = request->fact;
	copy_text(fact->name, sizeof(fact->name), request->name);
	fact->want = MSG_MIGRATED_WANT_RUN;
	/* Above every epoch that an earlier VE of this name can have had: each was a revision of the store. */
	fact->epoch = migrated->revision;
	snprintf(fact->reason, sizeof(fact->reason), "run");
	if (node && !choose_allows(migrated, fact, NULL, node->name, reason, sizeof(reason))) {
		snprintf(why, size, "node %s cannot run it: %s", node->name, reason);
		return not_placed(migrated, fact, node->name);
	}
	next_fact(fact, NULL, node ? node->name : choose_node(migrated, fact, NULL, ""));
	if (!*fact->node) {
		choose_explain(migrated, fact, NULL, why, size);
		return not_placed(migrated, fact, "");
	}
	fact->cpu = choose_cpu(migrated, fact->node);
	return RPC_OK;
}

static const struct migrated_ckpt *find_ckpt(const struct migrated_ve *ve, uint64_t id)
{
	for (size_t i = 0; i < ve->n_ckpts; i++)
		if (ve->ckpts[i].id == id)
			return &ve->ckpts[i];
	return NULL;
}

static enum rpc_status want_restored(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct migrated_request *request, struct msg_migrated_ve_fact *fact, char *why,
    size_t size)
{
	const struct migrated_ckpt *ckpt;
	const struct migrated_node *node = find_node(migrated, fact->node);
	char reason[MIGRATED_REASON / 2];
	bool in_place;

	/* Whoever asks may have mended what was wrong with them. */
	fact->set_aside.count = 0;
	ckpt = request->ckpt ? find_ckpt(ve, request->ckpt) : images_newest(ve, fact);
	if (request->ckpt && !ckpt) {
		snprintf(why, size, "%s has no checkpoint %u.%u", request->name,
		    (unsigned)(request->ckpt >> 32), (unsigned)request->ckpt);
		return RPC_NOT_FOUND;
	}
	fact->want = MSG_MIGRATED_WANT_RUN;
	fact->restarts = fact->attempts = 0;
	snprintf(fact->reason, sizeof(fact->reason), "restore on request");
	in_place = node && node->alive &&
		   (ve->fact.want == MSG_MIGRATED_WANT_RUN ||
		       choose_allows(migrated, fact, ckpt, node->name, reason, sizeof(reason)));
	next_fact(
	    fact, ckpt, in_place ? node->name : choose_node(migrated, fact, ckpt, fact->node));
	if (!*fact->node) {
		choose_explain(migrated, fact, ckpt, why, size);
		return not_placed(migrated, fact, "");
	}
	return RPC_OK;
}

/* The word is for one copy, on a node that cannot be asked: one that lives ends its copies itself. */
static enum rpc_status want_fenced(const struct migrated *migrated, const struct migrated_ve *ve,
    const struct migrated_request *request, struct msg_migrated_ve_fact *fact, char *why,
    size_t size)
{
	if (request->epoch != ve->fact.epoch) {
		snprintf(why, size,
		    "%s is under epoch %" PRIu64 ", not %" PRIu64 ": nothing is confirmed",
		    request->name, ve->fact.epoch, request->epoch);
		return RPC_FAILED;
	}
	if (gone_can_ask(migrated, ve)) {
		snprintf(why, size, "node %s is alive: it ends the copy itself", ve->fact.node);
		return RPC_FAILED;
	}
	if (!*ve->fact.held) {
		snprintf(
		    why, size, "%s is not held (yet): there is nothing to confirm", request->name);
		return RPC_FAILED;
	}
	fact->fenced = request->epoch;
	memset(fact->held, 0, sizeof(fact->held));
	return RPC_OK;
}

/* Another coordinator writes its facts, and the store has one fact of each name. */
static enum rpc_status refuse_elsewhere(
    const struct migrated_elsewhere *elsewhere, enum migrated_ask ask, char *why, size_t size)
{
	char place[2 * NODE_NAME_MAX + 64];

	snprintf(place, sizeof(place), "%s%s, %s%s",
	    *elsewhere->site ? "of site " : "of the nodes without a site", elsewhere->site,
	    *elsewhere->node ? "on node " : "on no node now", elsewhere->node);
	if (ask == MIGRATED_ASK_RUN)
		snprintf(why, size, "there is a VE %s already, %s; names are one for all sites",
		    elsewhere->name, place);
	else
		snprintf(why, size, "VE %s is %s: ask there", elsewhere->name, place);
	return RPC_FAILED;
}

/* The fact that the request wants. */
static enum rpc_status want(
    struct migrated *migrated, struct pending *pending, char *why, size_t size)
{
	const struct migrated_request *request = &pending->request;
	const struct migrated_ve *ve = find_ve(migrated, request->name);
	struct msg_migrated_ve_fact *fact = &pending->wanted;

	if (*pending->elsewhere.name)
		return refuse_elsewhere(&pending->elsewhere, request->ask, why, size);
	if (request->ask == MIGRATED_ASK_RUN)
		return want_new(migrated, request, fact, why, size);
	if (!ve) {
		snprintf(why, size, "there is no VE %s%s",
		    request->ask == MIGRATED_ASK_RESTORE ? "or set " : "", request->name);
		return RPC_NOT_FOUND;
	}
	*fact = ve->fact;
	if (request->ask == MIGRATED_ASK_FENCED)
		return want_fenced(migrated, ve, request, fact, why, size);
	if (request->ask == MIGRATED_ASK_RESTORE && *ve->fact.set)
		return sets_want(migrated, ve, request, fact, why, size);
	if (request->ask == MIGRATED_ASK_RESTORE)
		return want_restored(migrated, ve, request, fact, why, size);
	fact->want = MSG_MIGRATED_WANT_STOPPED;
	fact->gathering = false;
	fact->epoch++;
	snprintf(fact->reason, sizeof(fact->reason), "stop on request");
	return RPC_OK;
}

bool ask_is_pending(const struct migrated *migrated, const char *name)
{
	for (size_t i = 0; i < migrated->n_pending; i++)
		if (strcmp(migrated->pending[i].request.name, name) == 0)
			return true;
	return false;
}

bool ask_is_writing(const struct migrated *migrated, const char *name)
{
	for (size_t i = 0; i < migrated->n_pending; i++)
		if (migrated->pending[i].writing &&
		    strcmp(migrated->pending[i].request.name, name) == 0)
			return true;
	return false;
}

bool ask_is_placing(const struct migrated *migrated, const char *group)
{
	for (size_t i = 0; i < migrated->n_pending && *group; i++)
		if (migrated->pending[i].writing &&
		    strcmp(migrated->pending[i].wanted.group, group) == 0)
			return true;
	return false;
}

/* Did an earlier try succeed whose result was in doubt? */
static bool is_done(const struct migrated *migrated, const struct pending *pending)
{
	const struct migrated_ve *ve = find_ve(migrated, pending->request.name);

	if (pending->tries == 0)
		return false;
	if (pending->request.ask == MIGRATED_ASK_RM)
		return !ve;
	return ve && ve->fact.epoch == pending->wanted.epoch &&
	       ve->fact.fenced == pending->wanted.fenced && ve->fact.want == pending->wanted.want &&
	       ve->fact.start_ckpt == pending->wanted.start_ckpt &&
	       strcmp(ve->fact.node, pending->wanted.node) == 0;
}

bool ask_is_held(const struct migrated *migrated, const struct migrated_ve *ve, const char *node,
    char *why, size_t size)
{
	if (strcmp(ve->fact.node, node) == 0 || gone_can_ask(migrated, ve) || gone_is_sure(ve))
		return false;
	gone_why_held(migrated, ve, why, size);
	return true;
}

/* By a decision of this coordinator: it, or another one of its set. */
static bool is_being_written(struct migrated *migrated, const char *name)
{
	const struct migrated_ve *ve = find_ve(migrated, name);

	for (size_t i = 0; ve && *ve->fact.set && i < migrated->n_ves; i++)
		if (strcmp(migrated->ves[i].fact.set, ve->fact.set) == 0 &&
		    (place_is_writing(migrated, migrated->ves[i].fact.name) ||
			ask_is_writing(migrated, migrated->ves[i].fact.name)))
			return true;
	return place_is_writing(migrated, name);
}

/* A restore of one of a set is one of all: sets_want() has put them into migrated->set. */
static bool is_of_set(const struct pending *pending)
{
	return pending->request.ask == MIGRATED_ASK_RESTORE && *pending->wanted.set;
}

static bool is_held(
    const struct migrated *migrated, const struct pending *pending, char *why, size_t size)
{
	const struct migrated_ve *ve = find_ve(migrated, pending->request.name);

	return ve && pending->request.ask == MIGRATED_ASK_RESTORE &&
	       ask_is_held(migrated, ve, pending->wanted.node, why, size);
}

/* Has every copy before fallen silent that has to, and is nobody of its group on the way? */
static bool is_free(struct migrated *migrated, const struct pending *pending)
{
	if (pending->request.ask == MIGRATED_ASK_FENCED)
		return true;
	if (is_of_set(pending) && !sets_are_free(migrated))
		return false;
	return !ask_is_placing(migrated, pending->wanted.group) &&
	       place_is_free(migrated, &pending->wanted);
}

/* Who names a set means the VE that stands for it. */
static void resolve_set(const struct migrated *migrated, struct migrated_request *request)
{
	const struct migrated_ve *first = sets_find(migrated, request->name);

	if (request->ask == MIGRATED_ASK_RESTORE && !find_ve(migrated, request->name) && first)
		copy_text(request->name, sizeof(request->name), first->fact.name);
}

static void write_wanted(
    struct migrated *migrated, struct pending *pending, struct migrated_actions *actions)
{
	const struct migrated_ve *ve = find_ve(migrated, pending->request.name);
	bool removes = pending->request.ask == MIGRATED_ASK_RM;
	struct migrated_action *action;

	pending->writing = true;
	pending->tries++;
	if (is_of_set(pending)) {
		sets_write(migrated, actions);
		return;
	}
	action =
	    action_add(actions, removes ? MIGRATED_REMOVE : MIGRATED_WRITE, pending->request.name);

	action->fact = pending->wanted;
	action->note = pending->request.ask == MIGRATED_ASK_FENCED;
	if (!action->note)
		place_note_lease(migrated, action);
	action->version = ve ? ve->version : 0;
	action->cat_version = ve ? ve->cat_version : 0;
}

void ask_all(struct migrated *migrated, struct migrated_actions *actions)
{
	for (size_t i = migrated->n_pending; i-- > 0;) {
		struct pending *pending = &migrated->pending[i];
		char why[MIGRATED_REASON] = "";
		enum rpc_status status;

		resolve_set(migrated, &pending->request);
		if (pending->reads_left || pending->writing ||
		    is_being_written(migrated, pending->request.name) ||
		    actions->count + 2 + SET_MAX > MIGRATED_ACTIONS_MAX)
			continue;
		if (is_done(migrated, pending)) {
			answer(&pending->request, RPC_OK, "", &pending->wanted, actions);
			drop(migrated, i);
			continue;
		}
		status = want(migrated, pending, why, sizeof(why));
		if (status == RPC_OK && pending->request.check) {
			answer(&pending->request, RPC_OK, "", &pending->wanted, actions);
			drop(migrated, i);
			continue;
		}
		if (status == RPC_OK && is_held(migrated, pending, why, sizeof(why)))
			status = RPC_FAILED;
		if (status == RPC_OK && !is_free(migrated, pending))
			continue;
		if (status == RPC_OK && pending->tries < ASK_TRIES_MAX) {
			write_wanted(migrated, pending, actions);
			continue;
		}
		if (status == RPC_OK)
			copy_text(why, sizeof(why),
			    "the facts changed each time it was tried, or metad did not answer");
		answer(&pending->request, status == RPC_OK ? RPC_UNREACHABLE : status, why, NULL,
		    actions);
		drop(migrated, i);
	}
}

void ask_take(struct migrated *migrated, const struct migrated_request *request,
    struct migrated_actions *actions)
{
	struct pending *pending;

	if (!migrated->mine) {
		answer(request, RPC_UNREACHABLE, "this node is not the coordinator", NULL, actions);
		return;
	}
	if (migrated->n_pending == MIGRATED_ASKS_MAX) {
		answer(request, RPC_FAILED, "too many requests wait", NULL, actions);
		return;
	}
	for (size_t i = 0; i < migrated->n_pending; i++)
		if (strcmp(migrated->pending[i].request.name, request->name) == 0) {
			answer(request, RPC_FAILED, "another request for this VE is under way",
			    NULL, actions);
			return;
		}
	pending = &migrated->pending[migrated->n_pending++];
	memset(pending, 0, sizeof(*pending));
	pending->request = *request;
	pending->reads_left = migrated->reading ? 2 : 1; /* one under way may be too old */
	read_facts(migrated, actions);
}

static void note_elsewhere(struct pending *pending, const struct migrated_event *event)
{
	memset(&pending->elsewhere, 0, sizeof(pending->elsewhere));
	for (size_t i = 0; i < event->n_elsewhere; i++)
		if (strcmp(event->elsewhere[i].name, pending->request.name) == 0)
			pending->elsewhere = event->elsewhere[i];
}

void ask_read(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	for (size_t i = migrated->n_pending; i-- > 0;) {
		struct pending *pending = &migrated->pending[i];

		if (event->ok)
			note_elsewhere(pending, event);
		if (pending->reads_left && event->ok) {
			pending->reads_left--;
		} else if (pending->reads_left && actions->count + 2 <= MIGRATED_ACTIONS_MAX) {
			answer(&pending->request, RPC_UNREACHABLE, "metad does not answer", NULL,
			    actions);
			drop(migrated, i);
		}
	}
}

bool ask_written(
    struct migrated *migrated, const struct migrated_event *event, struct migrated_actions *actions)
{
	for (size_t i = 0; i < migrated->n_pending; i++) {
		struct pending *pending = &migrated->pending[i];

		if (!pending->writing || strcmp(pending->request.name, event->name) != 0)
			continue;
		pending->writing = false;
		distrust_facts(migrated);
		if (event->ok) {
			answer(&pending->request, RPC_OK, "", &pending->wanted, actions);
			drop(migrated, i);
		}
		return true;
	}
	return false;
}

void ask_refuse_all(struct migrated *migrated, struct migrated_actions *actions)
{
	while (migrated->n_pending > 0) {
		struct pending *pending = &migrated->pending[migrated->n_pending - 1];

		answer(&pending->request, pending->writing ? RPC_UNKNOWN : RPC_UNREACHABLE,
		    "this node is no longer the coordinator", NULL, actions);
		migrated->n_pending--;
	}
}
