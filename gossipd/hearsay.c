/*
 * What members say of each other, and when it is believed.
 *
 * Datagrams and views are authentic: we know who says something, not that it is true.  Of itself a
 * member is believed at once.  Of another one, it takes two who say the same, so that one who lies
 * (or whose memory is damaged) can neither kill anybody nor make him gone, nor raise an
 * incarnation beyond what he has reached and so shut him out.  The first who believe in a death
 * are the observers that hold a quorum of votes, each in its voter's own datagram; they tell
 * everybody, and everybody hears of it from several of them.
 *
 * An incarnation is believed when the second highest that different members tell is at least
 * that: one of the two is honest, and honest members tell only of what was reached.  So two claims
 * a member are all that is kept, and a liar with an absurd one cannot push honest ones out.
 * "Dead" and "left" count for the present incarnation only.  What is told of an older one counts
 * when the present one has been known for long, and the member does not answer when it is asked:
 * then the refutation was missed by those who tell.  Without asking, those who were cut off when it
 * came back would kill it with their old news.  The end of an earlier process is never that of the
 * present one.
 *
 * With f = 1 liar this needs 3f + 1 = 4 members (Pease, Shostak and Lamport, 1980); three cannot tell who lies, and
 * believe each other.
 *
 * Rejected: statements signed by their subject, which need 64 bytes each and do not help against a
 * false "dead", which the subject does not sign; a verdict that carries the signed votes of the
 * quorum, for the same size.
 */
#include "gossipd/core.h"

/* How many must say it.  One who has no two others left to ask must believe the one. */
static unsigned witnesses(const struct gossipd *core, const struct member *about)
{
	uint64_t possible =
	    others(core, STATE(UNKNOWN) | STATE(ALIVE) | STATE(SUSPECT)) & ~bit_of(core, about);

	return core->count < 4 || size(possible) < 2 ? 1 : core->config.witnesses;
}

/* ---- claims */

static void swap(struct claim *a, struct claim *b)
{
	struct claim c = *a;

	*a = *b;
	*b = c;
}

/* Keeps the highest incarnations that different members tell, in falling order. */
static void note(struct member *about, const struct member *by, const struct gossipd_entry *entry)
{
	size_t i = 0;

	while (i < CLAIMS - 1 && about->claims[i].by != by->id)
		i++;
	if (entry->incarnation < about->claims[i].incarnation)
		return;
	about->claims[i] = (struct claim){by->id, entry->incarnation, entry->state};
	for (; i > 0 && about->claims[i].incarnation > about->claims[i - 1].incarnation; i--)
		swap(&about->claims[i], &about->claims[i - 1]);
}

/* The highest incarnation that enough of them tell. */
static uint64_t reached(const struct gossipd *core, const struct member *about)
{
	return about->claims[witnesses(core, about) - 1].incarnation;
}

/* ---- the end of an incarnation */

static void mark(const struct gossipd *core, struct member *about, const struct member *by,
    enum gossipd_state state)
{
	if (state == GOSSIPD_DEAD)
		about->dead_by |= bit_of(core, by);
	else if (state == GOSSIPD_LEFT)
		about->left_by |= bit_of(core, by);
}

/* Who left is not dead; but if one says dead and one left, it is gone in any case. */
static enum gossipd_state end_of(const struct gossipd *core, const struct member *about)
{
	unsigned enough = witnesses(core, about);

	if (size(about->left_by) >= enough)
		return GOSSIPD_LEFT;
	return size(about->dead_by | about->left_by) >= enough ? GOSSIPD_DEAD : GOSSIPD_ALIVE;
}

bool concerns_present(const struct gossipd *core, const struct member *member, uint64_t incarnation)
{
	return incarnation == member->incarnation ||
	       (incarnation < member->incarnation &&
		   member_epoch(incarnation) == member_epoch(member->incarnation) &&
		   elapsed(core, member->learned_at, mono_ms(SETTLED_MS)));
}

/* A later incarnation, with what the same claims say of its end. */
static void rise(struct gossipd *core, struct member *about, uint64_t incarnation,
    struct gossipd_actions *actions)
{
	struct gossipd_entry entry = {about->id, incarnation, GOSSIPD_ALIVE};
	uint64_t dead_by, left_by;

	about->dead_by = about->left_by = 0;
	for (size_t i = 0; i < CLAIMS; i++) {
		const struct member *by = find(core, about->claims[i].by);

		if (by && about->claims[i].incarnation == incarnation)
			mark(core, about, by, about->claims[i].state);
	}
	entry.state = end_of(core, about);
	dead_by = about->dead_by;
	left_by = about->left_by;
	view_believe(core, about, &entry, actions);
	about->dead_by = dead_by;
	about->left_by = left_by;
}

/* One alone says that it has refuted.  That is no reason to believe so, but to wait for a second one:
 * the confirmation begins anew, once for each who says so. */
static void postpone(const struct gossipd *core, struct member *about, const struct member *by)
{
	if (about->state != GOSSIPD_SUSPECT || (about->postponed_by & bit_of(core, by)))
		return;
	about->postponed_by |= bit_of(core, by);
	about->confirm_at = MONO_NEVER;
}

/* Asked on each such claim, and claims are repeated while views differ. */
static bool stays_silent(struct gossipd *core, struct member *about)
{
	if (!within(core, about->asked_at, mono_ms(SETTLED_MS)))
		about->asked_at = core->now;
	if (!mono_is_never(about->heard_at) && !mono_before(about->heard_at, about->asked_at)) {
		about->dead_by = about->left_by = 0;
		about->asked_at = MONO_NEVER;
		return false;
	}
	core->ask |= bit_of(core, about);
	return elapsed(core, about->asked_at, core->config.confirm);
}

static void hear_of_another(struct gossipd *core, struct member *from, struct member *about,
    const struct gossipd_entry *entry, struct gossipd_actions *actions)
{
	struct gossipd_entry believed;

	note(about, from, entry);
	if (entry->incarnation > about->incarnation)
		postpone(core, about, from);
	if (reached(core, about) > about->incarnation)
		rise(core, about, reached(core, about), actions);
	if (!concerns_present(core, about, entry->incarnation))
		return;
	mark(core, about, from, entry->state);
	believed = (struct gossipd_entry){about->id, about->incarnation, end_of(core, about)};
	if (believed.state == GOSSIPD_ALIVE)
		return;
	if (entry->incarnation == about->incarnation || stays_silent(core, about))
		view_believe(core, about, &believed, actions);
}

/* Who accuses us without end moves our incarnation once in `tell` only. */
void hear_of_ourselves(struct gossipd *core, struct member *from, uint64_t incarnation, bool ended,
    struct gossipd_actions *actions)
{
	struct gossipd_entry entry = {self(core)->id, incarnation, GOSSIPD_ALIVE};

	if (!incarnation_valid(incarnation))
		return;
	note(self(core), from, &entry);
	if (reached(core, self(core)) > self(core)->incarnation)
		view_refute(core, reached(core, self(core)), actions);
	else if (ended && incarnation == self(core)->incarnation &&
		 !within(core, from->refuted_at, core->config.tell)) {
		from->refuted_at = core->now;
		view_refute(core, incarnation, actions);
	}
}

/* Of itself a member says that it is there, or that it leaves. */
static bool entry_valid(const struct member *from, const struct gossipd_entry *entry)
{
	if (entry->state == GOSSIPD_DEAD)
		return entry->id != from->id && incarnation_valid(entry->incarnation);
	return (entry->state == GOSSIPD_ALIVE || entry->state == GOSSIPD_LEFT) &&
	       incarnation_valid(entry->incarnation);
}

void hear(struct gossipd *core, struct member *from, const struct gossipd_entry *entry,
    struct gossipd_actions *actions)
{
	struct member *about = find(core, entry->id);

	if (!about || !entry_valid(from, entry))
		return;
	if (about == from)
		view_believe(core, about, entry, actions);
	else if (is_self(core, about))
		hear_of_ourselves(
		    core, from, entry->incarnation, entry->state != GOSSIPD_ALIVE, actions);
	else
		hear_of_another(core, from, about, entry, actions);
}

/* Two who correct each other, and are not believed, must not do so without end. */
void correct(struct gossipd *core, struct member *to, struct member *about)
{
	if (within(core, to->corrected_at, core->config.tell))
		return;
	to->corrected_at = core->now;
	core->send |= bit_of(core, to);
	about->rumour += about->rumour == 0;
}

/* A vote tells of the incarnation that it is against.  Who votes against an old one is told. */
void hear_ballot(struct gossipd *core, struct member *from, const struct gossipd_ballot *ballot,
    struct gossipd_actions *actions)
{
	struct gossipd_entry entry = {ballot->id, ballot->incarnation, GOSSIPD_ALIVE};
	struct member *about = find(core, ballot->id);

	if (!about || about == from || is_self(core, about))
		return;
	if (ballot->incarnation > about->incarnation) {
		hear(core, from, &entry, actions);
	} else if (ballot->incarnation < about->incarnation) {
		correct(core, from, about);
	}
}
