#include "gossipd/clusters.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gossipd/bridge.h"

enum {
	/* A gateway that differs from what others hold of its own cluster, and has the lower
	 * version, for that long: the memory that made theirs is lost. */
	AMNESIA_MS = 30000,
	ROSTER_MS = 3000,        /* the same when the nodes are not the same */
	PULL_GAP_MS = 1000,      /* between two pulls; also how long news may be on their way */
	PULL_GAP_MAX_MS = 30000, /* when they bring nothing */
	BEATS_BEHIND = 8,        /* who tells a beat that old is to hear ours */
	INCARNATION_BITS = 55,   /* as much of one as enters a version: 64 of them, times 4, fit */
};

/* ---- the list of nodes */

static uint32_t upper(uint64_t cluster)
{
	return (uint32_t)(cluster >> 32);
}

static uint32_t roster_of(const struct gossipd_node *nodes, size_t size)
{
	uint64_t hash = 0;

	for (size_t i = 0; i < size; i++)
		hash = rng_mix(hash, nodes[i].id);
	return upper(hash);
}

static bool in_order(const struct gossipd_node *a, const struct gossipd_node *b)
{
	if (a->cluster == b->cluster)
		return a->id < b->id;
	return upper(a->cluster) < upper(b->cluster);
}

/* Number of clusters; 0 when the list is not as it must be. */
static size_t count_clusters(const struct gossipd_node *nodes, size_t count)
{
	size_t clusters = count > 0, size = 1;

	for (size_t i = 1; i < count; i++) {
		if (!in_order(&nodes[i - 1], &nodes[i]))
			return 0;
		size = nodes[i].cluster == nodes[i - 1].cluster ? size + 1 : 1;
		clusters += size == 1;
		if (size > GOSSIPD_MEMBERS_MAX)
			return 0;
	}
	return clusters > GOSSIPD_CLUSTERS_MAX ? 0 : clusters;
}

static void list_clusters(
    struct cluster_record *records, const struct gossipd_node *nodes, size_t count, struct mono now)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		struct cluster_record *record = &records[n - (n > 0)];

		if (i == 0 || nodes[i].cluster != nodes[i - 1].cluster) {
			record = &records[n++];
			record->summary.cluster = nodes[i].cluster;
			record->first = (uint32_t)i;
			record->raised_at = now;
		}
		record->size++;
	}
	for (size_t i = 0; i < n; i++)
		records[i].roster = roster_of(nodes + records[i].first, records[i].size);
}

static struct cluster_record *find_in(struct cluster_record *records, size_t count, uint32_t half)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (upper(records[middle].summary.cluster) < half)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && upper(records[low].summary.cluster) == half ? &records[low] : NULL;
}

struct cluster_record *clusters_find(struct clusters *clusters, uint32_t half)
{
	return find_in(clusters->records, clusters->count, half);
}

const struct gossipd_node *clusters_roster(
    const struct clusters *clusters, const struct cluster_record *record)
{
	return clusters->nodes + record->first;
}

/* Place of a node in a roster; size if it is not there. */
static size_t place_in(const struct gossipd_node *roster, size_t size, uint64_t id)
{
	size_t low = 0, high = size;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (roster[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low < size && roster[low].id == id ? low : size;
}

static struct cluster_record *own(struct clusters *clusters)
{
	return &clusters->records[clusters->own];
}

/* Place in our own roster; its size for a stranger. */
static size_t own_place(const struct clusters *clusters, uint64_t id)
{
	const struct cluster_record *record = &clusters->records[clusters->own];

	return place_in(clusters_roster(clusters, record), record->size, id);
}

static uint64_t everybody(const struct cluster_record *record)
{
	return ~(uint64_t)0 >> (64 - record->size);
}

/* ---- what a summary says */

static uint64_t digest_of(const struct gossipd_summary *summary)
{
	uint64_t hash;

	if (summary->version == 0)
		return 0;
	hash = rng_mix(summary->cluster, summary->dead);
	hash = rng_mix(hash, summary->left);
	hash = rng_mix(hash, summary->absent);
	return rng_mix(hash, (uint64_t)summary->roster << 8 | summary->coordinator);
}

static uint64_t unknown_digest_of(const struct gossipd_summary *summary)
{
	return summary->unknown ? rng_mix(summary->cluster, 1) : 0;
}

static bool same_members(const struct gossipd_summary *a, const struct gossipd_summary *b)
{
	return a->dead == b->dead && a->left == b->left && a->absent == b->absent &&
	       a->roster == b->roster;
}

/* Of two views that neither contains the other the sums may be equal; then any order will do, as
 * long as it is everybody's, until the view that contains both is there. */
static bool newer(const struct gossipd_summary *a, const struct gossipd_summary *b)
{
	if (a->version != b->version)
		return a->version > b->version;
	return digest_of(a) > digest_of(b);
}

static bool valid(const struct gossipd_summary *summary)
{
	return summary->version != 0 && !(summary->dead & summary->left) &&
	       !((summary->dead | summary->left) & summary->absent) &&
	       summary->coordinator <= GOSSIPD_MEMBERS_MAX;
}

enum gossipd_state gossipd_summary_state(const struct gossipd_summary *summary, size_t n)
{
	if (summary->version == 0 || summary->absent >> n & 1)
		return GOSSIPD_UNKNOWN;
	if (summary->dead >> n & 1)
		return GOSSIPD_DEAD;
	return summary->left >> n & 1 ? GOSSIPD_LEFT : GOSSIPD_ALIVE;
}

/* Its live members by place; none when the summary is of another roster than ours. */
uint64_t clusters_alive(const struct cluster_record *record, const struct gossipd_summary *summary)
{
	if (summary->version == 0 || summary->roster != record->roster)
		return 0;
	return everybody(record) & ~(summary->dead | summary->left | summary->absent);
}

/* The coordinator, and the first of the others in the order in which they would take its place. */
size_t clusters_gateways(const struct clusters *clusters, const struct cluster_record *record,
    const struct gossipd_summary *summary, uint64_t ids[2])
{
	const struct gossipd_node *roster = clusters_roster(clusters, record);
	uint64_t alive = clusters_alive(record, summary), weight, best_weight;
	size_t count = 0, coordinator = summary->coordinator - (size_t)1, best;

	if (summary->coordinator != 0 && (alive >> coordinator & 1)) {
		ids[count++] = roster[coordinator].id;
		alive &= ~((uint64_t)1 << coordinator);
	}
	for (; count < 2 && alive != 0; alive &= ~((uint64_t)1 << best)) {
		best_weight = best = 0;
		for (uint64_t left = alive; left != 0; left &= left - 1) {
			size_t i = (size_t)__builtin_ctzll(left);

			weight = rng_mix(summary->cluster, roster[i].id);
			if (left == alive || weight > best_weight) {
				best = i;
				best_weight = weight;
			}
		}
		ids[count++] = roster[best].id;
	}
	return count;
}

/* ---- changes of the table */

static void tell(const struct cluster_record *record, const struct clusters *clusters,
    const struct gossipd_summary *from, struct gossipd_actions *actions)
{
	struct gossipd_action *action = &actions->list[actions->count++];

	assert(actions->count <= GOSSIPD_ACTIONS_MAX);
	*action = (struct gossipd_action){.type = GOSSIPD_CLUSTER};
	action->cluster.nodes = clusters_roster(clusters, record);
	action->cluster.size = record->size;
	action->cluster.from = *from;
	action->cluster.to = record->summary;
}

/* The one place where what we hold of a cluster changes. */
static void hold(struct clusters *clusters, struct cluster_record *record,
    const struct gossipd_summary *summary, struct mono now, struct gossipd_actions *actions)
{
	struct gossipd_summary from = record->summary;

	record->summary = *summary;
	clusters->digest ^= digest_of(&from) ^ digest_of(summary);
	clusters->unknown_digest ^= unknown_digest_of(&from) ^ unknown_digest_of(summary);
	if (digest_of(&from) == digest_of(summary) && from.unknown == summary->unknown)
		return;
	clusters->pull_brought = true;
	clusters->changed_at = now;
	if (record != own(clusters))
		tell(record, clusters, &from, actions);
	bridge_news(clusters, record, digest_of(&from) != digest_of(summary), now);
}

void clusters_set_unknown(struct clusters *clusters, struct cluster_record *record, bool unknown,
    struct mono now, struct gossipd_actions *actions)
{
	struct gossipd_summary summary = record->summary;

	summary.unknown = unknown;
	hold(clusters, record, &summary, now, actions);
}

/* A higher beat: somebody of that cluster has spoken since.  A cluster that was restarted as a
 * whole counts from zero, until it hears how far it had come. */
static void raise_beat(struct clusters *clusters, struct cluster_record *record, uint32_t beat,
    bool unknown, struct mono now, struct gossipd_actions *actions)
{
	if (beat < record->summary.beat && record->summary.beat - beat > BEATS_BEHIND)
		record->owed = true;
	if (beat <= record->summary.beat)
		return;
	record->summary.beat = beat;
	record->raised_at = now;
	record->marked = 0;
	record->asked = 0;
	if (record->summary.unknown != unknown && record != own(clusters))
		clusters_set_unknown(clusters, record, unknown, now, actions);
}

/*
 * Our own cluster as we see it against what is held of it.  Where the members are the same, we
 * take over the version of others, so that our next one is above it.
 */
void clusters_author(struct clusters *clusters, struct mono now, struct gossipd_actions *actions)
{
	struct cluster_record *record = own(clusters);
	struct gossipd_summary mine = clusters->mine, *held = &record->summary;
	bool same = same_members(&mine, held), ahead;
	int64_t patience_ms = mine.roster == held->roster ? AMNESIA_MS : ROSTER_MS;

	mine.version += clusters->bias;
	mine.beat = held->beat;
	if (same && held->version > mine.version)
		clusters->bias += held->version - mine.version;
	ahead = newer(&mine, held);
	if (same || ahead || !clusters->gateway || clusters->isolated) {
		clusters->behind_since = MONO_NEVER;
	} else if (mono_is_never(clusters->behind_since)) {
		clusters->behind_since = now;
	} else if (mono_due(mono_add_ms(clusters->behind_since, patience_ms), now)) {
		clusters->bias += held->version + 1 - mine.version;
		mine.version = held->version + 1;
		clusters->behind_since = MONO_NEVER;
		ahead = true;
	}
	if (ahead)
		hold(clusters, record, &mine, now, actions);
}

/* One summary that somebody told; inside: a member of our own cluster, whose word counts for the
 * silence of others too. */
static void take(struct clusters *clusters, const struct gossipd_summary *told, bool inside,
    struct mono now, struct gossipd_actions *actions)
{
	struct cluster_record *record = clusters_find(clusters, upper(told->cluster));
	bool unknown = inside && told->unknown;
	struct gossipd_summary summary = *told;

	if (!record || record->summary.cluster != told->cluster || !valid(told))
		return;
	raise_beat(clusters, record, told->beat, unknown, now, actions);
	if (unknown && told->beat == record->summary.beat && !record->summary.unknown &&
	    record != own(clusters))
		clusters_set_unknown(clusters, record, true, now, actions);
	if (!newer(told, &record->summary))
		return;
	summary.beat = record->summary.beat;
	summary.unknown = record->summary.unknown;
	hold(clusters, record, &summary, now, actions);
	if (record == own(clusters))
		clusters_author(clusters, now, actions);
}

/* ---- our own view */

/* Where a member stands in the order in which views grow. */
static uint64_t measure(const struct gossipd_entry *entry)
{
	const uint64_t limit = (uint64_t)1 << INCARNATION_BITS;
	uint64_t incarnation = entry->incarnation < limit ? entry->incarnation : limit - 1;
	unsigned rank = entry->state == GOSSIPD_LEFT ? 2 : entry->state == GOSSIPD_DEAD;

	return incarnation << 2 | rank;
}

static void summarize(struct clusters *clusters, const struct gossipd_entry *entries, size_t count,
    uint64_t coordinator, uint64_t epoch)
{
	const struct cluster_record *record = own(clusters);
	struct gossipd_summary mine = {
	    .cluster = clusters->name,
	    .version = epoch,
	    .absent = everybody(record),
	    .roster = record->roster,
	};
	size_t at = coordinator == 0 ? record->size : own_place(clusters, coordinator);

	mine.coordinator = at < record->size ? (uint8_t)(at + 1) : 0;
	for (size_t i = 0; i < count; i++) {
		size_t place = own_place(clusters, entries[i].id);

		if (place == record->size)
			continue;
		mine.version += measure(&entries[i]);
		mine.absent &= ~((uint64_t)1 << place);
		mine.dead |= (uint64_t)(entries[i].state == GOSSIPD_DEAD) << place;
		mine.left |= (uint64_t)(entries[i].state == GOSSIPD_LEFT) << place;
	}
	clusters->mine = mine;
}

void clusters_view(struct clusters *clusters, const struct gossipd_entry *entries, size_t count,
    uint64_t coordinator, uint64_t epoch, bool isolated, struct mono now,
    struct gossipd_actions *actions)
{
	uint64_t ids[2];
	size_t gateways;
	bool gateway = false;

	if (clusters->count == 0)
		return;
	summarize(clusters, entries, count, coordinator, epoch);
	clusters->isolated = isolated;
	gateways = clusters_gateways(clusters, own(clusters), &clusters->mine, ids);
	for (size_t i = 0; i < gateways; i++)
		gateway = gateway || ids[i] == clusters->self;
	bridge_set_gateway(clusters, gateway, now);
	clusters_author(clusters, now, actions);
}

/* ---- what others tell */

static bool within(struct mono since, struct mono length, struct mono now)
{
	return !mono_is_never(since) && !mono_due(mono_add(since, length), now);
}

static bool knows_others(const struct clusters *clusters)
{
	for (size_t i = 0; i < clusters->count; i++) {
		if (i != clusters->own && clusters->records[i].summary.version != 0)
			return true;
	}
	return false;
}

/* Pulls the sender's summaries when they differ and no news on their way can explain it. */
static void compare(struct clusters *clusters, uint64_t from, uint64_t theirs, uint64_t ours,
    struct mono now, struct gossipd_actions *actions)
{
	struct gossipd_action *action;

	if (theirs == 0 || theirs == ours || within(clusters->pulled_at, clusters->pull_gap, now))
		return;
	if (within(clusters->changed_at, mono_ms(PULL_GAP_MS), now) && knows_others(clusters))
		return;
	if (clusters->pull_brought)
		clusters->pull_gap = mono_ms(PULL_GAP_MS);
	else
		clusters->pull_gap = mono_min(
		    mono_add(clusters->pull_gap, clusters->pull_gap), mono_ms(PULL_GAP_MAX_MS));
	clusters->pull_brought = false;
	clusters->pulled_at = now;
	action = &actions->list[actions->count++];
	assert(actions->count <= GOSSIPD_ACTIONS_MAX);
	*action = (struct gossipd_action){.type = GOSSIPD_PULL_CLUSTERS, .peer = from};
}

enum gossipd_answer clusters_bridge(struct clusters *clusters, uint64_t from,
    const struct gossipd_bridge *bridge, struct mono now, struct gossipd_actions *actions)
{
	struct mono changed_at = clusters->changed_at;
	uint32_t heard = 0; /* of our own beat */

	if (clusters->count == 0 || bridge->mark_count > GOSSIPD_MARKS_MAX ||
	    bridge->summary_count > GOSSIPD_SUMMARIES_MAX ||
	    own_place(clusters, from) < own(clusters)->size)
		return GOSSIPD_REFUSED;
	clusters->unanswered = 0;
	for (size_t i = 0; i < bridge->mark_count; i++) {
		struct cluster_record *record =
		    clusters_find(clusters, (uint32_t)(bridge->marks[i] >> 32));

		if (record == own(clusters))
			heard = (uint32_t)bridge->marks[i];
		if (record)
			raise_beat(
			    clusters, record, (uint32_t)bridge->marks[i], false, now, actions);
	}
	for (size_t i = 0; i < bridge->summary_count; i++)
		take(clusters, &bridge->summaries[i], false, now, actions);
	if (mono_cmp(changed_at, clusters->changed_at) != 0 && !clusters->gateway)
		clusters->tell_gateways = true;
	if (bridge->reply)
		bridge_answer(clusters, from, heard, now);
	compare(clusters, from, bridge->digest, clusters->digest, now, actions);
	return GOSSIPD_OK;
}

void clusters_gram(struct clusters *clusters, uint64_t from, const struct gossipd_gram *gram,
    struct mono now, struct gossipd_actions *actions)
{
	if (clusters->count == 0 || gram->summary_count > GOSSIPD_SUMMARIES_MAX)
		return;
	for (size_t i = 0; i < gram->summary_count; i++)
		take(clusters, &gram->summaries[i], true, now, actions);
	compare(clusters, from, gram->clusters, clusters_digest(clusters), now, actions);
}

enum gossipd_answer clusters_pulled(struct clusters *clusters, uint64_t from,
    const struct gossipd_summary *summaries, size_t count, struct mono now,
    struct gossipd_actions *actions)
{
	bool inside;

	if (clusters->count == 0 || count > GOSSIPD_PULLED_MAX)
		return GOSSIPD_REFUSED;
	inside = own_place(clusters, from) < own(clusters)->size;
	clusters->pulling = true;
	for (size_t i = 0; i < count; i++)
		take(clusters, &summaries[i], inside, now, actions);
	clusters->pulling = false;
	return GOSSIPD_OK;
}

/* Never 0. */
uint64_t clusters_digest(const struct clusters *clusters)
{
	return (clusters->digest ^ clusters->unknown_digest) | 1;
}

/* ---- life */

static int set_nodes(struct clusters *clusters, const struct gossipd_node *nodes, size_t count,
    uint64_t name, struct mono now)
{
	size_t number = count_clusters(nodes, count);
	struct cluster_record *records;
	size_t self_at;

	if (number == 0)
		return -EINVAL;
	records = calloc(number, sizeof(*records));
	if (!records)
		return -ENOMEM;
	list_clusters(records, nodes, count, now);
	for (size_t i = 0; i < number; i++) {
		self_at = place_in(nodes + records[i].first, records[i].size, clusters->self);
		if (records[i].summary.cluster != name || self_at == records[i].size)
			continue;
		free(clusters->records);
		clusters->records = records;
		clusters->count = number;
		clusters->own = i;
		clusters->nodes = nodes;
		/* Were all to go round in step, one beat would come to the same clusters by
		 * many ways and to others by none. */
		clusters->turn = (size_t)rng_below(&clusters->rng, number);
		clusters->probe = (size_t)rng_below(&clusters->rng, number);
		return 0;
	}
	free(records);
	return -EINVAL;
}

int clusters_init(struct clusters *clusters, const struct gossipd_config *config, uint64_t seed)
{
	*clusters = (struct clusters){
	    .self = config->self,
	    .name = config->cluster,
	    .period = config->bridge,
	    .silence = config->silence,
	    .tell = config->tell,
	    .behind_since = MONO_NEVER,
	    .tick_at = MONO_NEVER,
	    .spread_at = MONO_NEVER,
	    .changed_at = MONO_NEVER,
	    .pulled_at = MONO_NEVER,
	    .pull_gap = mono_ms(PULL_GAP_MS),
	};
	rng_init(&clusters->rng, seed);
	if (config->node_count == 0)
		return 0;
	return set_nodes(clusters, config->nodes, config->node_count, config->cluster, MONO_ZERO);
}

void clusters_fini(struct clusters *clusters)
{
	free(clusters->records);
	clusters->records = NULL;
	clusters->count = 0;
}

/* What was held of a cluster that is still there. */
static void keep(struct clusters *clusters, const struct cluster_record *old)
{
	struct cluster_record *record = clusters_find(clusters, upper(old->summary.cluster));

	if (!record || record->summary.cluster != old->summary.cluster)
		return;
	record->summary = old->summary;
	record->raised_at = old->raised_at;
	record->spreads = old->spreads;
	record->tells = old->tells;
}

int clusters_nodes(
    struct clusters *clusters, const struct gossipd_node *nodes, size_t count, struct mono now)
{
	struct cluster_record *records = clusters->records;
	size_t number = clusters->count;
	int r;

	clusters->records = NULL;
	r = set_nodes(clusters, nodes, count, clusters->name, now);
	if (r < 0) {
		clusters->records = records;
		return r;
	}
	clusters->digest = clusters->unknown_digest = 0;
	clusters->spreading = clusters->telling = 0;
	for (size_t i = 0; i < number; i++)
		keep(clusters, &records[i]);
	for (size_t i = 0; i < clusters->count; i++) {
		const struct cluster_record *record = &clusters->records[i];

		clusters->digest ^= digest_of(&record->summary);
		clusters->unknown_digest ^= unknown_digest_of(&record->summary);
		clusters->spreading += record->spreads > 0;
		clusters->telling += record->tells > 0;
	}
	free(records);
	return 0;
}

/* ---- looks */

size_t clusters_list(
    const struct clusters *clusters, uint64_t from, struct gossipd_summary *summaries, size_t room)
{
	size_t count = 0;

	for (size_t i = 0; i < clusters->count && count < room; i++) {
		const struct gossipd_summary *summary = &clusters->records[i].summary;

		if (summary->version != 0 && summary->cluster >= from)
			summaries[count++] = *summary;
	}
	return count;
}

bool clusters_status(
    const struct clusters *clusters, size_t n, struct gossipd_cluster_status *status)
{
	const struct cluster_record *record = &clusters->records[n];
	const struct gossipd_summary *summary = &record->summary;

	if (n >= clusters->count)
		return false;
	*status = (struct gossipd_cluster_status){
	    .cluster = summary->cluster,
	    .nodes = clusters_roster(clusters, record),
	    .size = record->size,
	    .alive = (size_t)__builtin_popcountll(clusters_alive(record, summary)),
	    .own = n == clusters->own,
	    .unknown = summary->unknown || summary->version == 0,
	    .heard = summary->version != 0,
	    .readable = summary->roster == record->roster,
	    .summary = *summary,
	};
	if (status->readable && summary->coordinator != 0)
		status->coordinator = status->nodes[summary->coordinator - 1].id;
	clusters_gateways(clusters, record, summary, status->gateways);
	return true;
}

const char *clusters_invariant(const struct clusters *clusters)
{
	uint64_t digest = 0;
	size_t spreading = 0, telling = 0;

	for (size_t i = 0; i < clusters->count; i++) {
		const struct cluster_record *record = &clusters->records[i];

		digest ^= digest_of(&record->summary);
		spreading += record->spreads > 0;
		telling += record->tells > 0;
		if (record->summary.version != 0 && !valid(&record->summary))
			return "an impossible summary is held";
	}
	if (digest != clusters->digest)
		return "the digest is not that of the summaries";
	if (spreading != clusters->spreading || telling != clusters->telling)
		return "news are not counted as they should be";
	if (clusters->count > 0 && clusters->records[clusters->own].summary.unknown)
		return "our own cluster is held for unknown";
	return NULL;
}
