#include "tests/sim/round-model.h"

#include "common/rng.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *ve_of(unsigned node)
{
	static const char *const names[MODEL_NODES] = {"a", "b", "c", "d", "e"};

	return names[node];
}

static void broken(struct model *model, const char *what)
{
	if (!model->broken)
		model->broken = what;
}

static struct model_round *round_of(struct model *model, uint64_t id)
{
	for (unsigned i = 0; i < model->n_rounds; i++) {
		if (model->rounds[i].id == id)
			return &model->rounds[i];
	}
	if (model->n_rounds == MODEL_ROUNDS) {
		model->overflow = true;
		return &model->rounds[0];
	}
	model->rounds[model->n_rounds] = (struct model_round){.id = id, .cell = CKPTD_ABSENT};
	return &model->rounds[model->n_rounds++];
}

/* ---- the world around the cores */

/* VE i runs on.  From now on any other VE that was not frozen yet for the round may hear of it. */
static void thaw(struct model *model, unsigned i)
{
	struct model_node *node = &model->nodes[i];
	struct model_round *round;

	if (!node->frozen_for)
		return;
	round = round_of(model, node->frozen_for);
	node->frozen_for = 0;
	node->unwatched = false;
	if (round->phase[i] == PHASE_FROZEN) {
		round->phase[i] = PHASE_SPOILED;
		round->doomed = true;
	}
	for (unsigned k = 0; k < model->config.members; k++) {
		if (round->phase[k] == PHASE_NONE || round->phase[k] == PHASE_SPOILED)
			round->doomed = true;
	}
}

static int freeze(struct model *model, unsigned i, uint64_t id)
{
	struct model_node *node = &model->nodes[i];

	if (node->frozen_for && node->frozen_for != id)
		return -EBUSY;
	node->frozen_for = id;
	round_of(model, id)->phase[i] = PHASE_FROZEN;
	return 0;
}

static int dump(struct model *model, unsigned i, uint64_t id)
{
	struct model_node *node = &model->nodes[i];

	if (node->frozen_for != id && !model->config.sloppy_ved)
		return -ESTALE;
	round_of(model, id)->phase[i] = PHASE_CAPTURED;
	return 0;
}

static int store(struct model *model, unsigned i, uint64_t id)
{
	struct model_round *round = round_of(model, id);

	if (round->phase[i] != PHASE_CAPTURED)
		return -ENOENT;
	round->stored[i] = true;
	return 0;
}

static void commit(struct model *model, struct model_round *round)
{
	if (round->cell != CKPTD_UNDECIDED || round->id >> 32 != model->epoch)
		return;
	round->cell = CKPTD_COMMIT;
	if (round->doomed)
		broken(model,
		    "a member ran on before every member was frozen, and the round committed");
	for (unsigned i = 0; i < model->config.members; i++) {
		if (!round->stored[i])
			broken(model, "committed without a durable image");
	}
}

static enum ckptd_decision swap_cell(struct model *model, uint64_t id, enum ckptd_cell_op op)
{
	struct model_round *round = round_of(model, id);

	switch (op) {
	case CKPTD_CELL_CREATE:
		if (round->cell == CKPTD_ABSENT)
			round->cell = CKPTD_UNDECIDED;
		break;
	case CKPTD_CELL_COMMIT:
		commit(model, round);
		break;
	case CKPTD_CELL_ABORT:
		if (round->cell == CKPTD_UNDECIDED || round->cell == CKPTD_ABSENT)
			round->cell = CKPTD_ABORT;
		break;
	case CKPTD_CELL_READ:
		break;
	}
	return round->cell;
}

static enum ckptd_status status_of(const struct model *model, unsigned i)
{
	return model->nodes[i].up ? CKPTD_STATUS_ALIVE : CKPTD_STATUS_DEAD;
}

/* ---- actions out */

static bool is_parked(const struct model *model, unsigned i)
{
	return model->parked >> i & 1;
}

static void put(struct model *model, const struct model_item *item)
{
	if (item->kind == ITEM_MESSAGE && is_parked(model, item->to))
		return;
	if (model->n_bag == MODEL_BAG)
		model->overflow = true;
	else
		model->bag[model->n_bag++] = *item;
}

static void take(struct model *model, unsigned index)
{
	model->bag[index] = model->bag[--model->n_bag];
}

static void clean(struct model *model, unsigned i, const struct ckptd_action *action)
{
	struct model_round *round = round_of(model, action->id);

	if (action->keep || !action->image.oid[0])
		return;
	round->stored[i] = false;
	if (round->cell == CKPTD_COMMIT)
		broken(model, "the image of a committed round was thrown away");
}

static void told(struct model *model, const struct ckptd_action *action)
{
	enum ckptd_decision cell = round_of(model, action->id)->cell;

	if (action->kind == CKPTD_AC_COMMITTED && cell != CKPTD_COMMIT)
		broken(model, "the coordinator says committed, the cell does not");
	if (action->kind == CKPTD_AC_ABORTED && cell != CKPTD_ABORT)
		broken(model, "the coordinator says aborted, the cell does not");
}

static struct model_item item_of(
    const struct model *model, unsigned i, const struct ckptd_action *action)
{
	bool message = action->kind == CKPTD_AC_SEND;

	return (struct model_item){
	    .kind = message ? ITEM_MESSAGE : ITEM_OPERATION,
	    .from = (uint8_t)i,
	    .to = (uint8_t)action->node,
	    .boot = message ? 0 : model->nodes[i].boot,
	    .what = (uint8_t)(message ? (unsigned)action->message.kind : (unsigned)action->kind),
	    .ve = (uint8_t)action->ve[0],
	    .op = (uint8_t)action->op,
	    .reason = (uint8_t)action->message.reason,
	    .id = action->id,
	};
}

static void carry_out(struct model *model, unsigned i, const struct ckptd_action *action)
{
	struct model_node *node = &model->nodes[i];
	struct model_item item = item_of(model, i, action);

	switch (action->kind) {
	case CKPTD_AC_JOURNAL:
		node->record = action->record;
		break;
	case CKPTD_AC_JOURNAL_ID:
		node->last_id = action->id;
		break;
	case CKPTD_AC_SEND:
	case CKPTD_AC_FREEZE:
	case CKPTD_AC_DUMP:
	case CKPTD_AC_STORE:
	case CKPTD_AC_CELL:
	case CKPTD_AC_STATUS:
		put(model, &item);
		break;
	case CKPTD_AC_THAW:
		if (node->frozen_for == action->id)
			thaw(model, i);
		break;
	case CKPTD_AC_CLEAN:
		clean(model, i, action);
		break;
	case CKPTD_AC_COMMITTED:
		told(model, action);
		break;
	case CKPTD_AC_ABORTED:
		if (action->id)
			told(model, action);
		break;
	case CKPTD_AC_BUG:
		broken(model, action->text);
		break;
	case CKPTD_AC_BEGUN:
	case CKPTD_AC_FORGET:
	case CKPTD_AC_VERDICT:
	case CKPTD_AC_MOVED:
		break;
	}
}

/*
 * Is a crash before this action a case of its own?  One before a message is to be sent is that after it with the message lost.
 */
static bool visible(const struct ckptd_action *action)
{
	return action->kind != CKPTD_AC_SEND && action->kind != CKPTD_AC_MOVED &&
	       action->kind != CKPTD_AC_BEGUN && action->kind != CKPTD_AC_VERDICT &&
	       action->kind != CKPTD_AC_COMMITTED && action->kind != CKPTD_AC_ABORTED;
}

static void crash(struct model *model, unsigned i)
{
	struct model_node *node = &model->nodes[i];

	node->up = false;
	node->unwatched = node->frozen_for != 0;
	model->crashes--;
	for (unsigned k = 0; k < model->n_bag; k++) {
		if (model->bag[k].kind == ITEM_OPERATION && model->bag[k].from == i)
			model->bag[k].boot = 0;
	}
}

/* Hands an event to a core; false when the crash lies behind its last action. */
static bool step(struct model *model, unsigned i, struct ckptd_event *event, int crash_before)
{
	struct ckptd_actions *actions = malloc(sizeof(*actions));
	int n = 0;

	assert(actions);
	actions->n = 0;
	ckptd_step(model->nodes[i].core, event, actions);
	for (size_t k = 0; k < actions->n; k++) {
		if (visible(&actions->list[k]) && n++ == crash_before) {
			crash(model, i);
			free(actions);
			return true;
		}
		carry_out(model, i, &actions->list[k]);
	}
	free(actions);
	return crash_before < 0;
}

/* ---- moves */

static bool answered(const struct model_item *item)
{
	return item->boot != 0;
}

static void name_image(struct ckptd_image *image, const struct model_item *item)
{
	snprintf(image->oid, sizeof(image->oid), "%c%u", item->ve, (unsigned)item->id);
}

static bool deliver_message(struct model *model, const struct model_item *item, int crash_before)
{
	struct ckptd_message message = {
	    .kind = (enum ckptd_message_kind)item->what,
	    .id = item->id,
	    .ve = {(char)item->ve},
	    .copies = 1,
	    .reason = (enum ckptd_reason)item->reason,
	};
	struct ckptd_event event = {
	    .kind = CKPTD_EV_MESSAGE, .node = item->from, .message = &message};

	if (message.kind == CKPTD_DUMPED)
		name_image(&message.image, item);
	return step(model, item->to, &event, crash_before);
}

/* Does what was asked for; fills in the answer. */
static void perform(struct model *model, const struct model_item *item, struct ckptd_event *event)
{
	unsigned i = item->from;

	switch ((enum ckptd_action_kind)item->what) {
	case CKPTD_AC_FREEZE:
		event->result = freeze(model, i, item->id);
		break;
	case CKPTD_AC_DUMP:
		event->result = dump(model, i, item->id);
		break;
	case CKPTD_AC_STORE:
		event->result = store(model, i, item->id);
		name_image(&event->image, item);
		break;
	case CKPTD_AC_CELL:
		event->decision = swap_cell(model, item->id, (enum ckptd_cell_op)item->op);
		break;
	case CKPTD_AC_STATUS:
		event->status = status_of(model, item->to);
		break;
	default:
		break;
	}
}

static enum ckptd_event_kind answer_kind(enum ckptd_action_kind kind)
{
	switch (kind) {
	case CKPTD_AC_FREEZE:
		return CKPTD_EV_FROZEN;
	case CKPTD_AC_DUMP:
		return CKPTD_EV_CAPTURED;
	case CKPTD_AC_STORE:
		return CKPTD_EV_STORED;
	case CKPTD_AC_CELL:
		return CKPTD_EV_CELL;
	default:
		return CKPTD_EV_STATUS;
	}
}

static bool operate(
    struct model *model, const struct model_item *item, const struct model_move *move)
{
	struct ckptd_event event = {
	    .kind = answer_kind((enum ckptd_action_kind)item->what),
	    .id = item->id,
	    .ve = (char[]){(char)item->ve, 0},
	    .op = (enum ckptd_cell_op)item->op,
	    .node = item->to,
	};
	struct model_node *node = &model->nodes[item->from];

	if (move->kind != MOVE_DELIVER)
		model->faults--;
	if (move->kind == MOVE_LATE) {
		struct model_item late = *item;

		late.boot = 0;
		put(model, &late);
	}
	if (move->kind == MOVE_DELIVER || move->kind == MOVE_MUTE)
		perform(model, item, &event);
	if (!answered(item) || move->kind == MOVE_MUTE || move->kind == MOVE_LATE)
		node->unwatched |= node->frozen_for == item->id;
	if (!answered(item))
		return move->crash_before < 0;
	if (move->kind != MOVE_DELIVER) {
		event.result = -ETIMEDOUT;
		event.decision = CKPTD_UNKNOWN;
		event.status = CKPTD_STATUS_UNKNOWN;
	}
	return step(model, item->from, &event, move->crash_before);
}

static bool fire(struct model *model, unsigned i, int crash_before)
{
	struct ckptd_event event = {
	    .kind = CKPTD_EV_TIMEOUT, .now = ckptd_deadline(model->nodes[i].core)};

	return step(model, i, &event, crash_before);
}

static void tell_coordinator(struct model *model, unsigned i)
{
	struct ckptd_event event = {
	    .kind = CKPTD_EV_COORD, .mine = model->coordinator == i, .epoch = model->epoch};

	step(model, i, &event, -1);
}

static void restart(struct model *model, unsigned i)
{
	struct model_node *node = &model->nodes[i];
	struct ckptd_event event = {
	    .kind = CKPTD_EV_START,
	    .journal = &node->record,
	    .n_journal = node->record.id ? 1 : 0,
	    .last_id = node->last_id,
	};
	struct ckptd_config config = {
	    .self = i,
	    .rounds_max = 1,
	    .round_members_max = model->config.members,
	    .seats_max = 1,
	    .resend_ms = model->config.resend_ms,
	    .vote_ms = model->config.vote_ms,
	    .dump_ms = 10000,
	    .hold_ms = model->config.hold_ms,
	    .outcome_ms = 5000,
	    .patience = model->config.patience,
	};
	int r;

	ckptd_free(node->core);
	r = ckptd_new(&node->core, &config);
	assert(r == 0);
	node->up = true;
	node->boot++;
	node->orphans_told = false;
	step(model, i, &event, -1);
	tell_coordinator(model, i);
}

static bool orphans(struct model *model, unsigned i, int crash_before)
{
	model->nodes[i].orphans_told = true;
	for (unsigned k = 0; k < model->n_rounds; k++) {
		struct ckptd_event event = {.kind = CKPTD_EV_ORPHAN, .id = model->rounds[k].id};

		if (model->rounds[k].cell == CKPTD_UNDECIDED &&
		    !step(model, i, &event, crash_before))
			return false;
	}
	return crash_before < 0;
}

/* Both hear of it at once: who is late is a process that gets no moves. */
static void depose(struct model *model)
{
	model->depositions--;
	model->coordinator = (model->coordinator + 1) % model->config.nodes;
	model->epoch++;
	for (unsigned i = 0; i < model->config.nodes; i++) {
		model->nodes[i].orphans_told = false;
		if (model->nodes[i].up)
			tell_coordinator(model, i);
	}
}

static bool begin(struct model *model, int crash_before)
{
	struct ckptd_place places[MODEL_NODES] = {0};
	struct ckptd_event event = {.kind = CKPTD_EV_BEGIN, .places = places};

	for (unsigned i = 0; i < model->config.members; i++) {
		snprintf(places[i].ve, sizeof(places[i].ve), "%s", ve_of(i));
		places[i].node = i;
		places[i].copies = 1;
	}
	event.n_places = model->config.members;
	model->begun++;
	return step(model, model->coordinator, &event, crash_before);
}

/* Can the message still change anything?  A round that its coordinator closed never opens again,
 * and a seat that knows the outcome has its last word. */
static bool dead(const struct model *model, const struct model_item *item)
{
	const struct model_node *node = &model->nodes[item->to];

	switch ((enum ckptd_message_kind)item->what) {
	case CKPTD_VOTE_COMMIT:
	case CKPTD_VOTE_ABORT:
	case CKPTD_DUMPED:
		return !node->up || !ckptd_round_open(node->core, item->id);
	default:
		return node->record.id == item->id &&
		       (node->record.state == CKPTD_SEAT_COMMITTED ||
			   node->record.state == CKPTD_SEAT_ABORTED ||
			   (node->record.state == CKPTD_SEAT_REFUSED &&
			       item->what == CKPTD_GLOBAL_ABORT));
	}
}

static void forget_dead(struct model *model)
{
	for (unsigned k = model->n_bag; k-- > 0;) {
		if (model->bag[k].kind == ITEM_MESSAGE && dead(model, &model->bag[k]))
			take(model, k);
	}
}

static void check(struct model *model)
{
	for (unsigned i = 0; i < model->config.nodes; i++) {
		struct model_node *node = &model->nodes[i];
		struct ckptd_record *record = &node->record;
		enum ckptd_decision cell;

		if (node->up)
			ckptd_check(node->core);
		if (node->up && node->frozen_for && !node->unwatched &&
		    mono_is_never(ckptd_deadline(node->core)))
			broken(model, "frozen for ever");
		if (!record->id)
			continue;
		cell = round_of(model, record->id)->cell;
		if (record->state == CKPTD_SEAT_COMMITTED && cell != CKPTD_COMMIT)
			broken(model, "a member committed another outcome than the cell's");
		if ((record->state == CKPTD_SEAT_ABORTED || record->state == CKPTD_SEAT_REFUSED) &&
		    cell == CKPTD_COMMIT)
			broken(model, "a member aborted or refused a round that is committed");
	}
	for (unsigned k = 0; k < model->n_rounds; k++) {
		for (unsigned i = 0; i < model->config.members; i++) {
			if (model->rounds[k].cell == CKPTD_COMMIT && !model->rounds[k].stored[i])
				broken(model, "the catalogue points to an image that is gone");
		}
	}
}

/*
 * Does it matter that the node is down for a while?  Members ask whether their coordinator lives; but for that, being down is
 * being up and getting no messages.
 */
static bool is_missed(const struct model *model, unsigned i)
{
	return model->config.depositions || i == model->coordinator;
}

bool model_make(struct model *model, const struct model_move *move)
{
	struct model_item item;
	bool whole = true;

	switch (move->kind) {
	case MOVE_DELIVER:
	case MOVE_DUPLICATE:
	case MOVE_FAIL:
	case MOVE_MUTE:
	case MOVE_LATE:
		item = model->bag[move->index];
		if (move->kind != MOVE_DUPLICATE)
			take(model, move->index);
		whole = item.kind == ITEM_MESSAGE
			    ? deliver_message(model, &item, move->crash_before)
			    : operate(model, &item, move);
		break;
	case MOVE_TIMER:
		whole = fire(model, move->index, move->crash_before);
		break;
	case MOVE_WATCHDOG:
		model->watchdogs -= !model->nodes[move->index].unwatched;
		thaw(model, move->index);
		break;
	case MOVE_CRASH:
		crash(model, move->index);
		break;
	case MOVE_RESTART:
		restart(model, move->index);
		break;
	case MOVE_ORPHANS:
		whole = orphans(model, move->index, move->crash_before);
		break;
	case MOVE_DEPOSE:
		depose(model);
		break;
	case MOVE_BEGIN:
		whole = begin(model, move->crash_before);
		break;
	case MOVE_PART:
		model_part(model, move->index);
		break;
	case MOVE_SWAP:
		model->rounds[0].cell = CKPTD_ABORT;
		break;
	}
	for (unsigned i = 0; i < model->config.nodes; i++)
		if (!model->nodes[i].up && !is_missed(model, i))
			restart(model, i);
	check(model);
	if (!model->config.duplicates)
		forget_dead(model);
	return whole;
}

bool model_move_steps(const struct model_move *move)
{
	return move->kind == MOVE_DELIVER || move->kind == MOVE_TIMER || move->kind == MOVE_BEGIN ||
	       move->kind == MOVE_ORPHANS;
}

static size_t add(struct model_move *moves, size_t n, enum model_move_kind kind, unsigned index)
{
	assert(n < MODEL_MOVES_MAX);
	moves[n] = (struct model_move){kind, (uint8_t)index, -1};
	return n + 1;
}

static size_t item_moves(const struct model *model, unsigned k, struct model_move *moves, size_t n)
{
	const struct model_item *item = &model->bag[k];

	if (is_parked(model, item->kind == ITEM_MESSAGE ? item->to : item->from))
		return n;
	if (item->kind == ITEM_MESSAGE) {
		if (!model->nodes[item->to].up)
			return n;
		n = add(moves, n, MOVE_DELIVER, k);
		return model->config.duplicates ? add(moves, n, MOVE_DUPLICATE, k) : n;
	}
	n = add(moves, n, MOVE_DELIVER, k);
	if (!answered(item) || !model->faults)
		return n;
	n = add(moves, n, MOVE_FAIL, k);
	if (item->what == CKPTD_AC_STATUS)
		return n;
	n = add(moves, n, MOVE_MUTE, k);
	return add(moves, n, MOVE_LATE, k);
}

/* An answer of metad or gossipd comes, if only as UNKNOWN, before the core's own safety net. */
static bool waits_for_answer(const struct model *model, unsigned i)
{
	for (unsigned k = 0; k < model->n_bag; k++) {
		const struct model_item *item = &model->bag[k];

		if (item->kind == ITEM_OPERATION && item->from == i && answered(item) &&
		    (item->what == CKPTD_AC_CELL || item->what == CKPTD_AC_STATUS))
			return true;
	}
	return false;
}

static size_t node_moves(const struct model *model, unsigned i, struct model_move *moves, size_t n)
{
	const struct model_node *node = &model->nodes[i];

	if (node->frozen_for && (node->unwatched || model->watchdogs))
		n = add(moves, n, MOVE_WATCHDOG, i);
	if (!node->up)
		return add(moves, n, MOVE_RESTART, i);
	if (!mono_is_never(ckptd_deadline(node->core)) && !waits_for_answer(model, i))
		n = add(moves, n, MOVE_TIMER, i);
	if (model->crashes)
		n = add(moves, n, MOVE_CRASH, i);
	if (model->coordinator == i && !node->orphans_told)
		n = add(moves, n, MOVE_ORPHANS, i);
	return n;
}

size_t model_moves(const struct model *model, struct model_move *moves)
{
	size_t n = 0;

	for (unsigned k = 0; k < model->n_bag; k++)
		n = item_moves(model, k, moves, n);
	for (unsigned i = 0; i < model->config.nodes; i++)
		if (!is_parked(model, i))
			n = node_moves(model, i, moves, n);
	if (model->parked && model->rounds[0].cell == CKPTD_UNDECIDED)
		n = add(moves, n, MOVE_SWAP, 0);
	if (model->depositions)
		n = add(moves, n, MOVE_DEPOSE, 0);
	if (model->begun < model->config.rounds && model->nodes[model->coordinator].up)
		n = add(moves, n, MOVE_BEGIN, 0);
	return n;
}

bool model_falls_apart(const struct model *model)
{
	if (model->config.depositions || model->config.rounds > 1 || !model->n_rounds ||
	    model->begun < model->config.rounds || model->rounds[0].cell == CKPTD_COMMIT)
		return false;
	for (unsigned i = 0; i < model->config.nodes; i++)
		if (model->nodes[i].up && ckptd_may_commit(model->nodes[i].core))
			return false;
	for (unsigned k = 0; k < model->n_bag; k++)
		if (model->bag[k].kind == ITEM_OPERATION && model->bag[k].what == CKPTD_AC_CELL &&
		    model->bag[k].op != CKPTD_CELL_READ && model->bag[k].op != CKPTD_CELL_ABORT)
			return false;
	return true;
}

void model_part(struct model *model, unsigned i)
{
	model->parked = ((1u << model->config.nodes) - 1) & ~(1u << i);
	for (unsigned k = model->n_bag; k-- > 0;) {
		const struct model_item *item = &model->bag[k];

		if (is_parked(model, item->kind == ITEM_MESSAGE ? item->to : item->from))
			take(model, k);
	}
}

bool model_settled(const struct model *model)
{
	for (unsigned i = 0; i < model->config.nodes; i++) {
		const struct model_node *node = &model->nodes[i];

		if (is_parked(model, i))
			continue;
		if (node->frozen_for)
			return false;
		if (node->up && !mono_is_never(ckptd_deadline(node->core)))
			return false;
	}
	return true;
}

/* ---- copies and digests */

struct model *model_new(const struct model_config *config)
{
	struct model *model = calloc(1, sizeof(*model));

	assert(model && config->nodes <= MODEL_NODES && config->members <= config->nodes);
	model->config = *config;
	model->coordinator = config->first_coordinator;
	model->epoch = 1;
	model->crashes = config->crashes;
	model->faults = config->faults;
	model->depositions = config->depositions;
	model->watchdogs = config->watchdogs;
	for (unsigned i = 0; i < config->nodes; i++) {
		restart(model, i);
		model->nodes[i].orphans_told = true;
	}
	return model;
}

struct model *model_free(struct model *model)
{
	for (unsigned i = 0; model && i < model->config.nodes; i++)
		ckptd_free(model->nodes[i].core);
	free(model);
	return NULL;
}

void model_copy(struct model *to, const struct model *from)
{
	struct ckptd *cores[MODEL_NODES];

	for (unsigned i = 0; i < from->config.nodes; i++) {
		cores[i] = to->nodes[i].core;
		ckptd_copy(cores[i], from->nodes[i].core);
	}
	memcpy(to, from, offsetof(struct model, bag));
	memcpy(to->bag, from->bag, from->n_bag * sizeof(to->bag[0]));
	to->broken = from->broken;
	for (unsigned i = 0; i < from->config.nodes; i++)
		to->nodes[i].core = cores[i];
}

/* The member that an item is about, or -1: the coordinator alone. */
static int member_of(const struct model_item *item)
{
	if (item->ve)
		return item->ve - 'a';
	return item->what == CKPTD_AC_STATUS ? item->to : -1;
}

static uint64_t item_fingerprint(const struct model_item *item)
{
	const unsigned own = 255; /* the member itself, whichever it is */
	int member = member_of(item);
	uint64_t from = item->from == member ? own : item->from;
	uint64_t to = item->to == member ? own : item->to;

	return rng_mix(item->id, (uint64_t)item->kind | (uint64_t)item->what << 8 |
				     (uint64_t)item->op << 16 | (uint64_t)(item->boot != 0) << 24 |
				     from << 32 | to << 40);
}

/* Can the node have two timers at a time, its own seat's and a round's? */
static bool has_two_timers(const struct model *model, unsigned i)
{
	return model->config.depositions || (model->coordinator == i && i < model->config.members);
}

static uint64_t node_fingerprint(const struct model *model, unsigned i)
{
	const struct model_node *node = &model->nodes[i];
	bool asks = model->coordinator == i || model->config.depositions;
	bool over = node->record.state == CKPTD_SEAT_REFUSED;
	uint64_t state = over ? CKPTD_SEAT_ABORTED : node->record.state;
	uint64_t core = node->up ? ckptd_fingerprint(node->core, has_two_timers(model, i)) : 0;
	uint64_t hash =
	    rng_mix(core, (uint64_t)node->up | (uint64_t)(asks && node->orphans_told) << 1 |
			      (uint64_t)node->unwatched << 2 | state << 8);

	hash = rng_mix(hash, node->frozen_for);
	hash = rng_mix(hash, node->record.id);
	return rng_mix(hash, node->last_id);
}

/* Of a parked one only matters whether gossipd finds it alive. */
static uint64_t parked_or_node_fingerprint(const struct model *model, unsigned i)
{
	return is_parked(model, i) ? model->nodes[i].up : node_fingerprint(model, i);
}

/* A round that can no longer commit: of what its VEs went through only matters whether they were captured. */
static bool is_void(const struct model_round *round)
{
	return round->doomed || round->cell == CKPTD_ABORT;
}

static uint64_t round_fingerprint(const struct model_round *round)
{
	return rng_mix(round->id, (uint64_t)round->cell | (uint64_t)is_void(round) << 8);
}

static uint64_t part_fingerprint(const struct model_round *round, unsigned i)
{
	uint64_t phase = round->phase[i];

	if (is_void(round))
		phase = phase == PHASE_CAPTURED;
	return phase | (uint64_t)round->stored[i] << 8;
}

/* All that the world holds about one member. */
static uint64_t member_fingerprint(const struct model *model, unsigned i)
{
	uint64_t hash = parked_or_node_fingerprint(model, i), bag = 0;

	for (unsigned k = 0; k < model->n_rounds && !is_parked(model, i); k++)
		hash = rng_mix(hash, part_fingerprint(&model->rounds[k], i));
	for (unsigned k = 0; k < model->config.nodes; k++)
		if (model->nodes[k].up && !is_parked(model, k))
			hash = rng_mix(
			    hash, rng_mix(k == i ? 255 : k,
				      ckptd_fingerprint_member(model->nodes[k].core, ve_of(i))));
	for (unsigned k = 0; k < model->n_bag; k++)
		bag += member_of(&model->bag[k]) == (int)i ? item_fingerprint(&model->bag[k]) : 0;
	return rng_mix(hash, bag);
}

uint64_t model_fingerprint(const struct model *model)
{
	uint64_t hash = rng_mix(model->coordinator | (uint64_t)model->begun << 8,
	    (uint64_t)model->crashes << 48 | (uint64_t)model->faults << 32 |
		(uint64_t)model->depositions << 16 | model->watchdogs);
	uint64_t bag = 0, members = 0;

	for (unsigned i = model->config.members; i < model->config.nodes; i++)
		hash = rng_mix(hash, parked_or_node_fingerprint(model, i));
	for (unsigned i = 0; i < model->n_rounds; i++)
		hash = rng_mix(hash, round_fingerprint(&model->rounds[i]));
	for (unsigned i = 0; i < model->n_bag; i++)
		bag += member_of(&model->bag[i]) < 0 ? item_fingerprint(&model->bag[i]) : 0;
	for (unsigned i = 0; i < model->config.members; i++) {
		bool alike = !model->config.depositions && i != model->coordinator;

		members += rng_mix(member_fingerprint(model, i), alike ? MODEL_NODES : i);
	}
	return rng_mix(rng_mix(hash, bag), members);
}

void model_print_move(const struct model *model, const struct model_move *move)
{
	static const char *const kinds[] = {"deliver", "duplicate", "fail", "mute", "late", "timer",
	    "watchdog", "crash", "restart", "orphans", "depose", "begin", "part", "swap"};
	static const char *const messages[] = {
#define X(name) #name,
	    CKPTD_MESSAGES(X)
#undef X
	};
	static const char *const operations[] = {[CKPTD_AC_FREEZE] = "freeze",
	    [CKPTD_AC_DUMP] = "dump",
	    [CKPTD_AC_STORE] = "store",
	    [CKPTD_AC_CELL] = "cell",
	    [CKPTD_AC_STATUS] = "status"};
	const struct model_item *item = &model->bag[move->index];

	printf("# %s", kinds[move->kind]);
	if (move->kind > MOVE_LATE)
		printf(" n%u", move->index);
	else if (item->kind == ITEM_MESSAGE)
		printf(" %s %c n%u -> n%u", messages[item->what], item->ve, item->from, item->to);
	else
		printf(" %s %c of n%u op=%u", operations[item->what], item->ve ? item->ve : '-',
		    item->from, item->op);
	if (move->crash_before >= 0)
		printf(", crash before action %d", move->crash_before);
	printf("\n");
}
