#include "gossipd/gossipd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gossipd/core.h"
#include "gossipd/observers.h"

/* ---- datagrams */

/* The sender's own ballots replace what it said before, unless this datagram was overtaken. */
static void take_ballots(struct gossipd *core, struct member *from, const struct gossipd_gram *gram,
    struct gossipd_actions *actions)
{
	uint64_t epoch = member_epoch(gram->incarnation), concerned = 0;

	if (epoch < from->epoch || (epoch == from->epoch && gram->number <= from->number)) {
		core->counters.grams_old++;
		return;
	}
	from->epoch = epoch;
	from->number = gram->number;
	damping_of_us(core, from, gram->damped);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < from->ballot_count; i++) {
			struct member *member = find(core, from->ballots[i].id);

			concerned |= member ? bit_of(core, member) : 0;
		}
		if (round == 0) {
			from->ballot_count = gram->ballot_count;
			memcpy(from->ballots, gram->ballots,
			    gram->ballot_count * sizeof(from->ballots[0]));
			from->ballots_at = core->now;
			core->voters &= ~bit_of(core, from);
			core->voters |= gram->ballot_count > 0 ? bit_of(core, from) : 0;
		}
	}
	for (size_t i = 0; i < gram->ballot_count; i++)
		hear_ballot(core, from, &gram->ballots[i], actions);
	while (concerned != 0)
		judge(core, &core->members[take(&concerned)], actions);
}

/* What the sender thinks of us. */
static void answer_accusation(struct gossipd *core, struct member *from,
    const struct gossipd_gram *gram, struct gossipd_actions *actions)
{
	struct member *me = self(core);

	if (gram->accused != 0) {
		hear_of_ourselves(core, from, gram->accused, true, actions);
		/* What refutes nothing is not worth a word: two would talk without end. */
		if (me->incarnation > gram->accused)
			core->send |= bit_of(core, from);
	}
	for (size_t i = 0; i < gram->ballot_count; i++) {
		/* It watches us, so it is to hear us, whatever our own view says. */
		if (gram->ballots[i].id == me->id && !(me->observers & bit_of(core, from))) {
			from->receiver_until = mono_add_ms(core->now, RECEIVER_MS);
			core->wish |= bit_of(core, from);
		}
	}
}

static bool gram_valid(const struct gossipd_gram *gram)
{
	return gram->ballot_count <= GOSSIPD_BALLOTS_MAX &&
	       gram->rumour_count <= GOSSIPD_RUMOURS_MAX && incarnation_valid(gram->incarnation);
}

/* Is the sender itself about to leave? */
static bool says_goodbye(const struct member *from, const struct gossipd_gram *gram)
{
	for (size_t i = 0; i < gram->rumour_count; i++) {
		if (gram->rumours[i].id == from->id && gram->rumours[i].state == GOSSIPD_LEFT)
			return true;
	}
	return false;
}

static enum gossipd_answer on_gram(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	const struct gossipd_gram *gram = event->gram.gram;
	struct member *from = find(core, event->gram.from);
	struct gossipd_entry sender;

	if (!from || is_self(core, from) || !gram_valid(gram)) {
		core->counters.grams_refused++;
		return GOSSIPD_REFUSED;
	}
	core->counters.grams_received++;
	if (core->leaving)
		return GOSSIPD_OK;
	sender = (struct gossipd_entry){from->id, gram->incarnation, GOSSIPD_ALIVE};
	view_believe(core, from, &sender, actions);
	from->behind = member_epoch(gram->incarnation) < member_epoch(from->incarnation);
	if (from->behind || from->state == GOSSIPD_DEAD ||
	    (from->state == GOSSIPD_LEFT && !says_goodbye(from, gram))) {
		/* It does not know what we hold of it. */
		correct(core, from, from);
	}
	if (from->behind)
		return GOSSIPD_OK;
	from->heard_at = core->now;
	for (size_t i = 0; i < gram->rumour_count; i++)
		hear(core, from, &gram->rumours[i], actions);
	clusters_gram(&core->clusters, from->id, gram, core->now, actions);
	answer_accusation(core, from, gram, actions);
	take_ballots(core, from, gram, actions);
	if (gram->answer) {
		from->answered_at = core->now;
		judge_suspects(core, actions);
	}
	if (gram->reply)
		core->answer |= bit_of(core, from);
	view_compare(core, from, gram->digest, actions);
	return GOSSIPD_OK;
}

/* ---- the other events */

static void say_goodbye(struct gossipd *core)
{
	self(core)->rumour = rumour_sends(core);
	core->send |= others(core, STATE(ALIVE) | STATE(SUSPECT) | STATE(DEAD));
	core->goodbyes++;
}

static enum gossipd_answer on_start(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	struct member *me = self(core);
	uint64_t incarnation =
	    gossipd_incarnation(event->start.stored_incarnation, event->start.wall_s);

	if (core->started || !incarnation_valid(incarnation))
		return GOSSIPD_REFUSED;
	core->started = true;
	core->started_at = core->now;
	for (size_t i = 0; i < core->count; i++)
		core->members[i].added_at = core->now;
	core->gossip_at = core->now;
	ask_unheard(core, core->now);
	append(actions, GOSSIPD_PERSIST)->incarnation = incarnation;
	view_move(core, me, GOSSIPD_ALIVE, incarnation, actions);
	shuffle(core);
	coord_init(&core->coord, &core->config, core->now, rng_u64(&core->rng) >> 1);
	return GOSSIPD_OK;
}

static enum gossipd_answer on_level(struct gossipd *core, const struct gossipd_event *event)
{
	struct member *member = find(core, event->level.id);

	if (!member || is_self(core, member))
		return GOSSIPD_REFUSED;
	core->fdd_lost = false;
	if (!member->watch)
		return GOSSIPD_OK;
	if (event->level.silent && !member->silent)
		doubt_finding(core, member);
	member->silent = event->level.silent;
	if (!member->silent) {
		member->again = core->config.again;
		member->again_at = MONO_ZERO;
	}
	return GOSSIPD_OK;
}

/* Worse than before: what fdd said until now is doubted, too. */
static void on_health(struct gossipd *core, const struct gossipd_event *event)
{
	if (event->lhm > core->lhm)
		doubt_findings(core);
	core->lhm = event->lhm;
}

/* Until it speaks again nobody is silent. */
static void on_fdd_lost(struct gossipd *core)
{
	core->fdd_lost = true;
	for (size_t i = 0; i < core->count; i++)
		core->members[i].silent = false;
}

static void on_leave(struct gossipd *core, struct gossipd_actions *actions)
{
	struct member *me = self(core);

	if (core->leaving)
		return;
	core->leaving = true;
	for (size_t i = 0; i < core->count; i++)
		core->members[i].voting = false;
	view_move(core, me, GOSSIPD_LEFT, me->incarnation, actions);
	say_goodbye(core);
	coord_leave(&core->coord);
}

/* A deadline long past: we stood still ourselves, and what was begun before proves nothing.  Once
 * for each such deadline: messages that waited may come before the timer. */
static void notice_stall(struct gossipd *core)
{
	struct mono due = gossipd_deadline(core);

	if (mono_cmp(due, core->stalled_at) == 0 || !elapsed(core, due, core->config.confirm))
		return;
	core->stalled_at = due;
	core->counters.stalls++;
	core->doubt_at = MONO_NEVER;
	core->shaken_until = mono_add(core->now, core->config.again);
	doubt_findings(core);
	for (size_t i = 0; i < core->count; i++)
		core->members[i].confirm_at = MONO_NEVER;
}

static void leave_again(struct gossipd *core, struct gossipd_actions *actions)
{
	if (!mono_due(core->tell_at, core->now))
		return;
	core->tell_at = mono_add(core->now, core->config.tell);
	say_goodbye(core);
	if (core->goodbyes == GOODBYES) {
		core->gone = true;
		append(actions, GOSSIPD_GONE);
	}
}

static void on_timeout(struct gossipd *core, struct gossipd_actions *actions)
{
	if (core->gone)
		return;
	if (core->leaving) {
		leave_again(core, actions);
		return;
	}
	if (mono_due(core->tell_at, core->now) && unrest(core))
		tell_again(core);
	if (mono_due(core->gossip_at, core->now))
		gossip(core);
	judge_all(core, actions);
}

static void rank_candidate(struct gossipd *core)
{
	const struct member *holder = find(core, core->coord.fact.node);
	uint64_t candidates = damping_stable(core, core->in[GOSSIPD_ALIVE]);
	bool stable = candidates >> core->self & 1;

	if (holder)
		candidates &= ~bit_of(core, holder);
	candidates |= bit(core->self);
	if (candidates != core->ranked)
		core->rank = observers_rank(
		    core->ids, core->count, core->self, candidates, core->config.cluster);
	core->ranked = candidates;
	/* Who is cut off or damped is the last to try. */
	core->coord.rank = core->rank + (core->isolated || !stable ? GOSSIPD_MEMBERS_MAX : 0);
}

static enum gossipd_answer dispatch(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	switch (event->type) {
	case GOSSIPD_START:
		return on_start(core, event, actions);
	case GOSSIPD_TIMEOUT:
		on_timeout(core, actions);
		return GOSSIPD_OK;
	case GOSSIPD_LEVEL:
		return on_level(core, event);
	case GOSSIPD_FDD_LOST:
		on_fdd_lost(core);
		return GOSSIPD_OK;
	case GOSSIPD_HEALTH:
		on_health(core, event);
		return GOSSIPD_OK;
	case GOSSIPD_GRAM:
		return on_gram(core, event, actions);
	case GOSSIPD_VIEW:
		return view_pulled(core, event, actions);
	case GOSSIPD_META_RESULT:
		coord_result(&core->coord, event, actions);
		return GOSSIPD_OK;
	case GOSSIPD_META_HINT:
		coord_hint(&core->coord);
		return GOSSIPD_OK;
	case GOSSIPD_LEAVE:
		on_leave(core, actions);
		return GOSSIPD_OK;
	case GOSSIPD_ADD_MEMBER:
		return members_add(core, event->member.id);
	case GOSSIPD_REMOVE_MEMBER:
		return members_remove(core, event->member.id, actions);
	case GOSSIPD_REACHED:
		return stall_reached(core, event);
	case GOSSIPD_BRIDGE:
	case GOSSIPD_SUMMARIES:
	case GOSSIPD_NODES:
		return abroad_event(core, event, actions);
	}
	return GOSSIPD_REFUSED;
}

/* What follows from any event: doubts about ourselves, roles, the coordinator's lease, datagrams. */
static void conclude(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	if (!core->gone) {
		bool isolated = core->isolated;

		doubt_ourselves(core, actions);
		damping_review(core, actions);
		if (event->type == GOSSIPD_LEVEL || event->type == GOSSIPD_FDD_LOST ||
		    event->type == GOSSIPD_REACHED || core->isolated != isolated)
			judge_all(core, actions);
		assign_roles(core, actions);
		stall_review(core, actions);
	}
	rank_candidate(core);
	coord_run(&core->coord, core->now, actions);
	if (!core->gone)
		abroad(core, actions);
	send_all(core, actions);
}

/* The earlier one, if it is still to come. */
static struct mono earlier(const struct gossipd *core, struct mono at, struct mono other)
{
	return mono_before(core->now, other) ? mono_min(at, other) : at;
}

static struct mono next_deadline(const struct gossipd *core)
{
	struct mono at = coord_deadline(&core->coord);
	uint64_t concerned = others(core, STATE(ALIVE) | STATE(SUSPECT));

	if (core->gone)
		return at;
	at = mono_min(at, core->leaving ? core->tell_at : core->gossip_at);
	at = mono_min(at, clusters_deadline(&core->clusters));
	if (unrest(core))
		at = mono_min(at, core->tell_at);
	while (concerned != 0) {
		const struct member *member = &core->members[take(&concerned)];

		/* One without contact waits for a majority to answer, not for the clock. */
		if (!mono_is_never(member->confirm_at))
			at = earlier(core, at, mono_add(member->contact_at, core->config.confirm));
		if (member->voting)
			at = earlier(core, at, stall_excused_until(core, member));
		if (member->silent && member->state == GOSSIPD_ALIVE)
			at = earlier(core, at, first_vote_at(core, member));
	}
	return at;
}

enum gossipd_answer gossipd_step(
    struct gossipd *core, const struct gossipd_event *event, struct gossipd_actions *actions)
{
	enum gossipd_answer answer;
	bool calm;

	actions->count = 0;
	if (!core->started && event->type != GOSSIPD_START)
		return GOSSIPD_REFUSED;
	if (mono_before(core->now, event->now))
		core->now = event->now;
	notice_stall(core);
	calm = !unrest(core);
	answer = dispatch(core, event, actions);
	if (answer == GOSSIPD_OK)
		conclude(core, event, actions);
	if (calm)
		core->tell_at = mono_add(core->now, core->config.tell);
	core->deadline = next_deadline(core);
	return answer;
}

struct mono gossipd_deadline(const struct gossipd *core)
{
	return core->deadline;
}

/* ---- life and looks */

static bool config_valid(const struct gossipd_config *config)
{
	bool found = false;

	if (config->member_count == 0 || config->member_count > GOSSIPD_MEMBERS_MAX ||
	    config->observers == 0 || config->observers > GOSSIPD_OBSERVERS_MAX ||
	    config->quorum > 100 || config->witnesses == 0 || config->witnesses > CLAIMS ||
	    config->gossip.ns <= 0 || config->hurry.ns <= 0 || config->tell.ns <= 0 ||
	    config->confirm.ns <= 0)
		return false;
	for (size_t i = 0; i < config->member_count; i++) {
		found = found || config->members[i] == config->self;
		for (size_t j = 0; j < i; j++) {
			if (config->members[i] == config->members[j])
				return false;
		}
	}
	return found && config->self != 0;
}

int gossipd_new(struct gossipd **out, const struct gossipd_config *config, uint64_t seed)
{
	struct gossipd *core;
	int r;

	if (!config_valid(config))
		return -EINVAL;
	core = calloc(1, sizeof(*core));
	if (!core)
		return -ENOMEM;
	core->config = *config;
	core->config.members = NULL;
	rng_init(&core->rng, seed);
	core->pulled_at = core->doubt_at = core->deadline = MONO_NEVER;
	members_init(core, config);
	r = clusters_init(&core->clusters, config, rng_mix(seed, config->self));
	if (r < 0)
		core = gossipd_free(core);
	*out = core;
	return r;
}

struct gossipd *gossipd_free(struct gossipd *core)
{
	if (core)
		clusters_fini(&core->clusters);
	free(core);
	return NULL;
}

size_t gossipd_view(const struct gossipd *core, struct gossipd_entry *entries)
{
	size_t count = 0;

	for (size_t i = 0; i < core->count; i++) {
		if (core->members[i].state != GOSSIPD_UNKNOWN)
			entries[count++] = member_entry(&core->members[i]);
	}
	return count;
}

bool gossipd_status(
    const struct gossipd *core, size_t n, struct mono now, struct gossipd_status *status)
{
	const struct member *member;

	if (n >= core->count)
		return false;
	member = &core->members[n];
	*status = (struct gossipd_status){
	    .id = member->id,
	    .state = member->state,
	    .incarnation = member->incarnation,
	    .watch = member->watch,
	    .send = core->receivers >> n & 1,
	    .damped = core->damped >> n & 1,
	    .silent = member->silent,
	    .stalled = member->stalled,
	    .votes = size(accusers(core, member, core->config.fresh) & member->observers),
	    .observers = size(member->observers),
	    .heard = !mono_is_never(member->heard_at),
	};
	if (status->heard)
		status->heard_ago = mono_sub(now, member->heard_at);
	return true;
}

const struct gossipd_counters *gossipd_counters(const struct gossipd *core)
{
	return &core->counters;
}

bool gossipd_isolated(const struct gossipd *core)
{
	return core->isolated;
}

void gossipd_coordinator(
    const struct gossipd *core, struct mono now, uint64_t *node, uint64_t *epoch, bool *held)
{
	*node = core->coord.fact.node;
	*epoch = core->coord.fact.epoch;
	*held = core->coord.held && mono_before(now, core->coord.held_until);
}

struct mono gossipd_reign_until(const struct gossipd *core)
{
	return core->coord.held ? core->coord.held_until : MONO_ZERO;
}

struct mono gossipd_reign_since(const struct gossipd *core)
{
	return core->coord.held ? core->coord.since : MONO_ZERO;
}

const char *gossipd_invariant(const struct gossipd *core)
{
	if (core->digest != member_digest(core->members, core->count) && core->started)
		return "the digest is not that of the view";
	for (unsigned state = 0; state < GOSSIPD_STATES; state++) {
		if (core->in[state] & ~all(core))
			return "a set of members holds one that is not there";
	}
	for (size_t i = 0; i < core->count; i++) {
		const struct member *member = &core->members[i];

		if (member->observers & ~all(core))
			return "an observer that is not there";
		if (!(core->in[member->state] & bit(i)))
			return "a member stands in the set of another state";
		if (member->voting && (!member->watch || !member->silent))
			return "a vote against one that is heard, or not watched";
		if (member->voting && member->state != GOSSIPD_SUSPECT)
			return "a vote against one that is not suspected";
		if (!mono_is_never(member->stalled_at) && !(core->reaching & bit(i)))
			return "an excuse without a connection";
		if (!mono_is_never(member->confirm_at) && !member->voting)
			return "a confirmation without an own vote";
		if (i == core->self && core->started && member->state != GOSSIPD_ALIVE &&
		    !core->leaving)
			return "we hold ourselves for something else than alive";
		if (size(member->observers) > core->config.observers ||
		    (member->observers & bit(i)))
			return "wrong observers";
	}
	return clusters_invariant(&core->clusters);
}
