/*
 * One wake-up, whatever woke us: read the socket empty, then TIMEOUT while due, as fdd does it; a
 * refutation that waits in our own socket is thus read before anybody is judged.
 */
#include "gossipd/shell-internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/deadline.h"
#include "common/number-file.h"

#define TIMEOUTS_A_WAKE 64

_Static_assert(MSG_GOSSIPD_GRAM_SIZE_MAX <= SEAL_PAYLOAD_MAX, "a datagram must fit");
_Static_assert(CLUSTER_MAX <= GOSSIPD_MEMBERS_MAX, "each node of the cluster is a member");
_Static_assert((int)MSG_GOSSIPD_STATE_LEFT == (int)GOSSIPD_LEFT, "states are sent as they are");

const struct peer *shell_peer(const struct shell *shell, uint64_t id)
{
	const struct peers *peers = &shell->daemon->node.peers;
	const struct peer *peer = peers_by_id(peers, id);

	for (size_t i = 0; !peer && i < peers->count; i++)
		if (peers->peer[i].id == id)
			peer = &peers->peer[i];
	return peer;
}

const char *shell_name_of(const struct shell *shell, uint64_t id)
{
	const struct peer *peer = shell_peer(shell, id);

	return peer ? peer->name : id == 0 ? "" : "?";
}

uint64_t shell_id_of(const struct shell *shell, const char *name)
{
	const struct node_config *node = &shell->daemon->node;
	const struct peer *peer =
	    strcmp(name, node->name) == 0 ? node->self : peers_by_name(&node->peers, name);

	return peer ? peer->id : name[0] != '\0';
}

/* --- datagrams --- */

/* The core's datagram as a message. */
static void write_gram(
    struct msg_gossipd_gram *message, const struct gossipd_gram *gram, uint64_t records)
{
	*message = (struct msg_gossipd_gram){
	    .incarnation = gram->incarnation,
	    .number = gram->number,
	    .digest = gram->digest,
	    .has_ballots = gram->ballot_count > 0,
	    .has_rumours = gram->rumour_count > 0,
	    .clusters = gram->clusters,
	    .has_summaries = gram->summary_count > 0,
	    .summaries.count = gram->summary_count,
	    .records = records,
	};
	for (size_t i = 0; i < gram->ballot_count; i++)
		message->stalled |= (uint16_t)(gram->ballots[i].stalled << i);
	for (size_t i = 0; i < gram->ballot_count; i++)
		message->ballots.item[message->ballots.count++] =
		    (struct msg_gossipd_ballot){gram->ballots[i].id, gram->ballots[i].incarnation};
	for (size_t i = 0; i < gram->rumour_count; i++)
		message->rumours.item[message->rumours.count++] =
		    (struct msg_gossipd_entry){gram->rumours[i].id, gram->rumours[i].incarnation,
			(enum msg_gossipd_state)gram->rumours[i].state};
	for (size_t i = 0; i < gram->summary_count; i++)
		clusters_write(&message->summaries.item[i], &gram->summaries[i]);
}

static void read_gram(struct gossipd_gram *gram, const struct msg_gossipd_gram *message)
{
	*gram = (struct gossipd_gram){
	    .incarnation = message->incarnation,
	    .number = message->number,
	    .digest = message->digest,
	    .accused = message->accused,
	    .damped = message->damped,
	    .reply = message->reply,
	    .answer = message->answer,
	    .clusters = message->clusters,
	};
	for (size_t i = 0; message->has_ballots && i < message->ballots.count; i++)
		gram->ballots[gram->ballot_count++] =
		    (struct gossipd_ballot){message->ballots.item[i].id,
			message->ballots.item[i].incarnation, message->stalled >> i & 1};
	for (size_t i = 0; message->has_rumours && i < message->rumours.count; i++)
		gram->rumours[gram->rumour_count++] = (struct gossipd_entry){
		    message->rumours.item[i].id, message->rumours.item[i].incarnation,
		    (enum gossipd_state)message->rumours.item[i].state};
	for (size_t i = 0; message->has_summaries && i < message->summaries.count; i++)
		clusters_read(&gram->summaries[gram->summary_count++], &message->summaries.item[i]);
}

/* --- actions --- */

static void send_gram(
    struct shell *shell, const struct gossipd_action *action, struct msg_gossipd_gram *gram)
{
	_cleanup_buf_ struct buf body = {0};

	gram->accused = action->send.accused;
	gram->damped = action->send.damped;
	gram->reply = action->send.reply;
	gram->answer = action->send.answer;
	if (msg_gossipd_gram_pack(gram, &body) == 0)
		sealed_udp_send(shell->udp, action->send.to, body.data, body.size);
}

static void carry_out(struct shell *shell, const struct gossipd_action *action,
    const struct gossipd_actions *actions, struct msg_gossipd_gram *gram)
{
	switch (action->type) {
	case GOSSIPD_PERSIST:
		(void)number_file_write(shell->store, action->incarnation); /* says what failed */
		break;
	case GOSSIPD_PEERS:
		links_set_roles(shell, actions);
		break;
	case GOSSIPD_MEMBER:
		requests_tell_member(shell, action);
		break;
	case GOSSIPD_DAMPED:
		requests_tell_damped(shell, action->damped.id, action->damped.damped);
		break;
	case GOSSIPD_ISOLATED:
		requests_tell_isolated(shell, action->isolated);
		break;
	case GOSSIPD_COORD:
		requests_tell_coord(shell, action);
		break;
	case GOSSIPD_REIGN:
		requests_tell_reign(shell);
		break;
	case GOSSIPD_META_GET:
	case GOSSIPD_META_PUT:
		links_meta(shell, action);
		break;
	case GOSSIPD_PULL:
		links_pull(shell, action->peer);
		break;
	case GOSSIPD_REACH:
		reach_set(shell, action->reach.id, action->reach.begin);
		break;
	case GOSSIPD_STALLED:
		requests_tell_stalled(shell, action);
		break;
	case GOSSIPD_SEND:
		send_gram(shell, action, gram);
		break;
	case GOSSIPD_GONE:
		requests_tell_gone(shell);
		break;
	case GOSSIPD_CLUSTER:
		clusters_tell(shell, action);
		break;
	case GOSSIPD_CROSS:
		clusters_send(shell, action, &actions->bridge);
		break;
	case GOSSIPD_PULL_CLUSTERS:
		clusters_pull(shell, action->peer);
		break;
	}
}

enum gossipd_answer shell_step(struct shell *shell, struct gossipd_event *event)
{
	struct gossipd_actions actions;
	struct msg_gossipd_gram gram;
	enum gossipd_answer answer;

	if (shell->closing)
		return GOSSIPD_REFUSED;
	event->now = mono_now();
	answer = gossipd_step(shell->core, event, &actions);
	if (actions.count > 0 && actions.list[actions.count - 1].type == GOSSIPD_SEND)
		write_gram(&gram, &actions.gram, records_digest(shell));
	for (size_t i = 0; i < actions.count; i++)
		carry_out(shell, &actions.list[i], &actions, &gram);
	return answer;
}

static int take_gram(
    struct shell *shell, const struct sealed_payload *payload, struct mpr_error *error)
{
	struct gossipd_event event = {.type = GOSSIPD_GRAM};
	struct msg_gossipd_gram message;
	struct gossipd_gram gram;
	int r = msg_gossipd_gram_unpack(&message, payload->data, payload->size, error);

	if (r < 0)
		return r;
	read_gram(&gram, &message);
	event.gram.from = payload->from;
	event.gram.gram = &gram;
	records_compare(shell, payload->from, message.records);
	if (shell_step(shell, &event) != GOSSIPD_REFUSED)
		return 0;
	snprintf(error->text, sizeof(error->text), "impossible values");
	return 1;
}

/* What sealed_udp_drain() finds.  The two kinds of datagrams have different senders. */
static int take_payload(
    void *userdata, const struct sealed_payload *payload, struct mpr_error *error)
{
	struct shell *shell = userdata;
	const struct peer *peer = peers_by_id(&shell->daemon->node.peers, payload->from);

	if (peer && !config_is_near(&shell->daemon->node, peer))
		return clusters_take(shell, payload, error);
	return take_gram(shell, payload, error);
}

/* --- who is a member at all --- */

static bool is_up(const struct shell *shell, uint64_t id, enum gossipd_state *state)
{
	struct gossipd_status status;

	*state = GOSSIPD_UNKNOWN;
	for (size_t i = 0; gossipd_status(shell->core, i, mono_now(), &status); i++)
		if (status.id == id)
			*state = status.state;
	return *state == GOSSIPD_ALIVE || *state == GOSSIPD_SUSPECT;
}

bool shell_is_followed(const struct shell *shell, const struct peer *peer)
{
	const struct peer *now = peers_by_name(&shell->daemon->node.peers, peer->name);
	enum gossipd_state state;

	return peer->old && (!peer->gone || (now && is_up(shell, now->id, &state)));
}

static void step_member(struct shell *shell, enum gossipd_event_type type, const struct peer *peer)
{
	struct gossipd_event event = {.type = type};

	event.member.id = peer->id;
	if (shell_step(shell, &event) == GOSSIPD_REFUSED && type == GOSSIPD_ADD_MEMBER)
		log_error("%s is not taken as a member: the cluster has %d", peer->name,
		    GOSSIPD_MEMBERS_MAX);
}

/*
 * A node whose key was rotated leaves with the one and comes with the other.  That is told as neither; only when it has
 * not come until the old key ends, it has left.
 */
static void remove_member(struct shell *shell, const struct peer *peer)
{
	struct gossipd_action left = {.type = GOSSIPD_MEMBER};
	enum gossipd_state state;

	(void)is_up(shell, peer->id, &state);
	step_member(shell, GOSSIPD_REMOVE_MEMBER, peer);
	if (state != GOSSIPD_LEFT || !peer->old || shell_is_followed(shell, peer))
		return;
	left.member.id = peer->id;
	left.member.from = left.member.to = GOSSIPD_LEFT;
	requests_tell_member(shell, &left);
}

static void on_peer(void *userdata, const struct peer *peer)
{
	struct shell *shell = userdata;

	links_peer_changed(shell, peer);
	if (!config_is_near(&shell->daemon->node, peer))
		return;
	if (peer->gone)
		remove_member(shell, peer);
	else if (!peer->old)
		step_member(shell, GOSSIPD_ADD_MEMBER, peer);
	shell_wake(shell);
}

/* One key a member: the old one goes when the new one is heard. */
static void forget_old_keys(struct shell *shell)
{
	const struct peers *peers = &shell->daemon->node.peers;
	enum gossipd_state state;

	for (size_t i = 0; i < peers->count; i++) {
		const struct peer *peer = &peers->peer[i], *now;

		if (!peer->old || peer->gone)
			continue;
		now = peers_by_name(peers, peer->name);
		(void)is_up(shell, peer->id, &state);
		if (state != GOSSIPD_UNKNOWN && now && is_up(shell, now->id, &state))
			step_member(shell, GOSSIPD_REMOVE_MEMBER, peer);
	}
}

/* --- the loop --- */

void shell_wake(struct shell *shell)
{
	if (shell->closing)
		return;
	sealed_udp_drain(shell->udp);
	for (int i = 0; i < TIMEOUTS_A_WAKE; i++) {
		if (!mono_due(gossipd_deadline(shell->core), mono_now()))
			break;
		shell_step(shell, &(struct gossipd_event){.type = GOSSIPD_TIMEOUT});
	}
	deadline_set(
	    shell->timer, mono_min(requests_tell_pending(shell), gossipd_deadline(shell->core)));
}

static void on_datagrams(void *userdata)
{
	shell_wake(userdata);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	shell_wake(userdata);
	return 0;
}

static int on_second(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shell *shell = userdata;
	int r = sd_event_source_set_time(source, usec + 1000000);

	links_second(shell);
	records_second(shell);
	joining_second(shell);
	forget_old_keys(shell);
	if (++shell->seconds % 10 == 0)
		requests_tell_reign(shell);
	shell_wake(shell);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- making and unmaking --- */

static void list_stats(struct shell *shell)
{
	const struct gossipd_counters *core = gossipd_counters(shell->core);
	const struct daemon_stat stats[] = {
	    {"datagrams_sent", &core->grams_sent, "datagrams the core asked to send"},
	    {"datagrams_received", &core->grams_received, "authentic datagrams"},
	    {"datagrams_old", &core->grams_old, "overtaken: their votes passed over"},
	    {"datagrams_impossible", &core->grams_refused, "with values that cannot be"},
	    {"pulls", &core->pulls, "views asked for because digests differed"},
	    {"votes", &core->votes, "own votes against silent members"},
	    {"refutations", &core->refutations, "own incarnation raised"},
	    {"verdicts", &core->verdicts, "members that this node declared dead"},
	    {"stalls", &core->stalls, "this process stood still"},
	    {"crossings", &core->crossings, "datagrams of nodes of other clusters"},
	};

	size_t count = sizeof(stats) / sizeof(stats[0]);

	_Static_assert(
	    sizeof(stats) / sizeof(stats[0]) + SEALED_UDP_STATS + RECORDS_STATS + JOINING_STATS <
		STATS_MAX,
	    "STATS_MAX is too small");
	memcpy(shell->stats, stats, sizeof(stats));
	sealed_udp_stats(shell->udp, "authentic, but not gossip", &shell->stats[count]);
	count += SEALED_UDP_STATS;
	count += records_stats(shell, &shell->stats[count]);
	(void)joining_stats(shell, &shell->stats[count]);
	shell->daemon->stats = shell->stats;
}

static int make_core(struct shell *shell, const struct gossipd_settings *settings)
{
	const struct node_config *node = &shell->daemon->node;
	const struct peer *peer = NULL;
	uint64_t ids[CLUSTER_MAX], seed;
	struct gossipd_config config;
	size_t count = 0;
	int r;

	while ((peer = peers_next(&node->peers, peer))) {
		if (!config_is_near(node, peer))
			continue;
		if (count == CLUSTER_MAX) {
			log_error("more than %d nodes in cluster %s", CLUSTER_MAX, shell->key);
			return -E2BIG;
		}
		ids[count++] = peer->id;
	}
	gossipd_settings_apply(settings, node, &config);
	config.self = node->self->id;
	config.members = ids;
	config.member_count = count;
	randombytes_buf(&seed, sizeof(seed));
	r = clusters_configure(shell, &config);
	return r < 0 ? r : gossipd_new(&shell->core, &config, seed);
}

static int open_udp(struct shell *shell, struct udp *udp)
{
	const struct sealed_udp_options options = {
	    .port = PORT_GOSSIPD, .take = take_payload, .wake = on_datagrams, .userdata = shell};

	return sealed_udp_new(&shell->udp, shell->daemon, udp, &options);
}

static int add_sources(struct shell *shell)
{
	sd_event *loop = shell->daemon->loop;
	uint64_t now = (uint64_t)mono_now().ns / 1000;
	int r = sd_event_add_time(loop, &shell->timer, MONO_CLOCK, now, 1000, on_timer, shell);

	if (r >= 0)
		r = sd_event_add_time(
		    loop, &shell->second, MONO_CLOCK, now + 1000000, 10000, on_second, shell);
	if (r >= 0)
		r = rpc_server_add(shell->daemon->rpc, requests_methods, shell);
	if (r >= 0)
		r = rpc_server_add(shell->daemon->rpc, records_methods, shell);
	return r < 0 ? r : 0;
}

static void start(struct shell *shell)
{
	struct gossipd_event event = {.type = GOSSIPD_START};
	int r = number_file_read(shell->store, &event.start.stored_incarnation);

	if (r < 0)
		log_warning("read %s: %s; the clock alone gives the incarnation", shell->store,
		    strerror(-r));
	event.start.wall_s = (uint64_t)time(NULL);
	shell_step(shell, &event);
}

int shell_new(struct shell **out, struct daemon *daemon, const struct gossipd_settings *settings,
    struct udp *udp)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	char cluster[CLUSTER_NAME_MAX + 1];
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	shell->suspect = settings->suspect;
	snprintf(
	    shell->store, sizeof(shell->store), "%s/gossipd/incarnation", daemon->node.state_dir);
	config_cluster_name(cluster, &daemon->node, daemon->node.self);
	snprintf(shell->key, sizeof(shell->key), "coord/%s", cluster);
	r = make_core(shell, settings);
	if (r == 0)
		r = open_udp(shell, udp);
	if (r == 0)
		r = add_sources(shell);
	if (r == 0)
		r = links_open(shell);
	if (r == 0)
		r = joining_open(shell, settings->join);
	if (r < 0) {
		log_start_failed(r);
		shell_free(shell);
		return r;
	}
	list_stats(shell);
	start(shell);
	shell->listener = (struct peers_listener){.changed = on_peer, .userdata = shell};
	daemon_listen_peers(daemon, &shell->listener);
	*out = shell;
	return 0;
}

struct shell *shell_free(struct shell *shell)
{
	if (!shell)
		return NULL;
	shell->daemon->stats = NULL;
	shell->closing = true;
	daemon_unlisten_peers(shell->daemon, &shell->listener);
	requests_fini(shell);
	joining_close(shell);
	links_close(shell);
	sd_event_source_disable_unref(shell->timer);
	sd_event_source_disable_unref(shell->second);
	sealed_udp_free(shell->udp);
	gossipd_free(shell->core);
	free(shell->nodes);
	free(shell);
	return NULL;
}
