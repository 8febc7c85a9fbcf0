/*
 * One wake-up, whatever woke us: read the socket empty, then TIMEOUT while due, as fdd does it; a
 * refutation that waits in our own socket is thus read before anybody is judged.
 *
 * A datagram for a peer with whom no keys are agreed yet (one of the two is new) is put off: the
 * hello goes out in its place, and the datagram as soon as the answer is in.
 */
#include "gossipd/shell-internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/number-file.h"
#include "common/seal.h"

#define DATAGRAMS_A_WAKE 2048 /* a flood must not keep the timers from being judged */
#define TIMEOUTS_A_WAKE 64

_Static_assert(MSG_GOSSIPD_GRAM_SIZE_MAX <= SEAL_PAYLOAD_MAX, "a datagram must fit");
_Static_assert(PEERS_MAX <= GOSSIPD_MEMBERS_MAX, "each peer is a member");
_Static_assert((int)MSG_GOSSIPD_STATE_LEFT == (int)GOSSIPD_LEFT, "states are sent as they are");

struct route *shell_route(struct shell *shell, uint64_t id)
{
	for (size_t i = 0; i < shell->n_routes; i++)
		if (shell->routes[i].peer->id == id)
			return &shell->routes[i];
	return NULL;
}

const char *shell_name_of(const struct shell *shell, uint64_t id)
{
	const struct peer *peer = peers_by_id(&shell->daemon->node.peers, id);

	return peer ? peer->name : id == 0 ? "" : "?";
}

uint64_t shell_id_of(const struct shell *shell, const char *name)
{
	const struct peer *peer = peers_by_name(&shell->daemon->node.peers, name);

	return peer ? peer->id : name[0] != '\0';
}

/* --- datagrams out --- */

static void send_datagram(
    struct shell *shell, struct route *route, const struct seal_datagram *datagram)
{
	unsigned missed;
	int r;

	if (!route || !datagram->size)
		return;
	r = udp_send(&shell->udp, &route->address, datagram->bytes, datagram->size);
	if (r == 0)
		return;
	shell->sends_failed++;
	if (log_limit(&shell->send_limit, mono_now(), &missed))
		log_warning("send to %s: %s missed=%u", route->peer->name, strerror(-r), missed);
}

static void send_gram(struct shell *shell, struct route *route, const struct msg_gossipd_gram *gram)
{
	_cleanup_buf_ struct buf body = {0};
	struct seal_datagram datagram;
	int r;

	if (msg_gossipd_gram_pack(gram, &body) < 0)
		return;
	r = seal_seal(shell->seal, route->peer->id, body.data, body.size, &datagram);
	if (r < 0) {
		log_bug("seal a datagram for %s: %s", route->peer->name, strerror(-r));
		return;
	}
	route->put_off = r == SEAL_HELLO;
	if (route->put_off)
		route->gram = *gram;
	send_datagram(shell, route, &datagram);
}

/* The core's datagram as a message. */
static void write_gram(struct msg_gossipd_gram *message, const struct gossipd_gram *gram)
{
	*message = (struct msg_gossipd_gram){
	    .incarnation = gram->incarnation,
	    .number = gram->number,
	    .digest = gram->digest,
	    .has_ballots = gram->ballot_count > 0,
	    .has_rumours = gram->rumour_count > 0,
	};
	for (size_t i = 0; i < gram->ballot_count; i++)
		message->ballots.item[message->ballots.count++] =
		    (struct msg_gossipd_ballot){gram->ballots[i].id, gram->ballots[i].incarnation};
	for (size_t i = 0; i < gram->rumour_count; i++)
		message->rumours.item[message->rumours.count++] =
		    (struct msg_gossipd_entry){gram->rumours[i].id, gram->rumours[i].incarnation,
			(enum msg_gossipd_state)gram->rumours[i].state};
}

static void read_gram(struct gossipd_gram *gram, const struct msg_gossipd_gram *message)
{
	*gram = (struct gossipd_gram){
	    .incarnation = message->incarnation,
	    .number = message->number,
	    .digest = message->digest,
	    .accused = message->accused,
	    .reply = message->reply,
	};
	for (size_t i = 0; message->has_ballots && i < message->ballots.count; i++)
		gram->ballots[gram->ballot_count++] = (struct gossipd_ballot){
		    message->ballots.item[i].id, message->ballots.item[i].incarnation};
	for (size_t i = 0; message->has_rumours && i < message->rumours.count; i++)
		gram->rumours[gram->rumour_count++] = (struct gossipd_entry){
		    message->rumours.item[i].id, message->rumours.item[i].incarnation,
		    (enum gossipd_state)message->rumours.item[i].state};
}

/* --- actions --- */

static void carry_out(struct shell *shell, const struct gossipd_action *action,
    const struct gossipd_actions *actions, struct msg_gossipd_gram *gram)
{
	struct route *route;

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
	case GOSSIPD_ISOLATED:
		requests_tell_isolated(shell, action->isolated);
		break;
	case GOSSIPD_COORD:
		requests_tell_coord(shell, action);
		break;
	case GOSSIPD_META_GET:
	case GOSSIPD_META_PUT:
		links_meta(shell, action);
		break;
	case GOSSIPD_PULL:
		links_pull(shell, action->peer);
		break;
	case GOSSIPD_SEND:
		route = shell_route(shell, action->send.to);
		gram->accused = action->send.accused;
		gram->reply = action->send.reply;
		if (route)
			send_gram(shell, route, gram);
		break;
	case GOSSIPD_GONE:
		requests_tell_gone(shell);
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
		write_gram(&gram, &actions.gram);
	for (size_t i = 0; i < actions.count; i++)
		carry_out(shell, &actions.list[i], &actions, &gram);
	return answer;
}

/* --- datagrams in --- */

static void refuse(struct shell *shell, const struct udp_datagram *datagram, const char *why)
{
	unsigned missed;

	if (log_limit(&shell->refuse_limit, datagram->arrived, &missed))
		log_warning("datagram refused: %s from=%s size=%zu missed=%u", why, datagram->from,
		    datagram->size, missed);
}

static void take_gram(
    struct shell *shell, const struct udp_datagram *datagram, const struct seal_opened *opened)
{
	struct gossipd_event event = {.type = GOSSIPD_GRAM};
	struct msg_gossipd_gram message;
	struct gossipd_gram gram;
	struct mpr_error error;

	if (msg_gossipd_gram_unpack(&message, opened->payload, opened->size, &error) < 0) {
		shell->bodies_refused++;
		refuse(shell, datagram, error.text);
		return;
	}
	read_gram(&gram, &message);
	event.gram.from = opened->peer;
	event.gram.gram = &gram;
	if (shell_step(shell, &event) == GOSSIPD_REFUSED)
		refuse(shell, datagram, "impossible values");
}

static void take_datagram(struct shell *shell, const struct udp_datagram *datagram)
{
	struct seal_opened opened;
	struct route *route;
	int r = seal_open(shell->seal, datagram->bytes, datagram->size, datagram->arrived, &opened);

	send_datagram(shell, shell_route(shell, opened.reply_to), &opened.reply);
	if (r == SEAL_REFUSED)
		refuse(shell, datagram, seal_refusal_name(opened.refusal));
	if (r == SEAL_OK)
		take_gram(shell, datagram, &opened);
	route = opened.ready ? shell_route(shell, opened.peer) : NULL;
	if (route && route->put_off)
		send_gram(shell, route, &route->gram);
}

static void drain(struct shell *shell)
{
	struct udp_datagram datagram;

	for (int i = 0; i < DATAGRAMS_A_WAKE; i++) {
		int r = udp_receive(&shell->udp, &datagram);

		if (r == -EAGAIN)
			return;
		if (r == 0)
			take_datagram(shell, &datagram);
		/* else: an ICMP error of an earlier datagram; it is used up by reading it */
	}
}

/* --- the loop --- */

static void set_timer(struct shell *shell)
{
	struct mono deadline = gossipd_deadline(shell->core);
	uint64_t usec = mono_is_never(deadline) ? UINT64_MAX : (uint64_t)deadline.ns / 1000 + 1;
	int r = sd_event_source_set_time(shell->timer, usec);

	if (r >= 0)
		r = sd_event_source_set_enabled(shell->timer, SD_EVENT_ONESHOT);
	if (r < 0)
		log_bug("set the timer: %s", strerror(-r));
}

void shell_wake(struct shell *shell)
{
	if (shell->closing)
		return;
	drain(shell);
	for (int i = 0; i < TIMEOUTS_A_WAKE; i++) {
		if (!mono_due(gossipd_deadline(shell->core), mono_now()))
			break;
		shell_step(shell, &(struct gossipd_event){.type = GOSSIPD_TIMEOUT});
	}
	set_timer(shell);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source;
	(void)fd;
	(void)events;
	shell_wake(userdata);
	return 0;
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
	if (++shell->seconds % 10 == 0)
		requests_sweep(shell);
	shell_wake(shell);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- making and unmaking --- */

static void list_stats(struct shell *shell)
{
	const struct gossipd_counters *core = gossipd_counters(shell->core);
	const struct seal_counters *seal = seal_counters(shell->seal);
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
	    {"sends_failed", &shell->sends_failed, "the kernel refused to send"},
	    {"control_sent", &seal->control_sent, "hellos and answers to hellos"},
	    {"control_received", &seal->control_received, "the same, from peers"},
	    {"refused_body", &shell->bodies_refused, "authentic, but not gossip"},
#define X(name, label, text) {"refused_" label, &seal->refused[SEAL_##name], text},
	    SEAL_REFUSALS(X)
#undef X
	};

	_Static_assert(sizeof(stats) < sizeof(shell->stats), "STATS_MAX is too small");
	memcpy(shell->stats, stats, sizeof(stats));
	shell->daemon->stats = shell->stats;
}

static uint64_t hash_of(const char *text)
{
	uint64_t hash;

	crypto_generichash(
	    (uint8_t *)&hash, sizeof(hash), (const uint8_t *)text, strlen(text), NULL, 0);
	return hash;
}

static int make_core(struct shell *shell, const struct gossipd_settings *settings)
{
	const struct node_config *node = &shell->daemon->node;
	uint64_t ids[PEERS_MAX], seed;
	struct gossipd_config config;

	for (size_t i = 0; i < node->peers.count; i++)
		ids[i] = node->peers.peer[i].id;
	gossipd_config_defaults(&config);
	config.self = node->self->id;
	config.cluster = hash_of(node->cluster);
	config.members = ids;
	config.member_count = node->peers.count;
	config.observers = (unsigned)settings->observers;
	config.gossip = mono_ms(settings->gossip_ms);
	config.tell = mono_ms(settings->tell_ms);
	config.fresh = mono_ms(8 * settings->tell_ms);
	config.confirm = mono_ms(settings->confirm_ms);
	config.linger = mono_ms(3 * settings->confirm_ms);
	config.lease = mono_ms(settings->lease_ms);
	config.stagger = mono_ms(settings->stagger_ms);
	randombytes_buf(&seed, sizeof(seed));
	return gossipd_new(&shell->core, &config, seed);
}

static int add_peer(struct shell *shell, const struct peer *peer)
{
	struct route *route = &shell->routes[shell->n_routes];
	int r = udp_address(&route->address, peer->address, (uint16_t)(peer->port + PORT_GOSSIPD));

	if (r == 0)
		r = seal_add_peer(shell->seal, peer->public_key);
	if (r < 0) {
		log_error("[peer %s]: address or key of no use", peer->name);
		return r;
	}
	route->peer = peer;
	route->shell = shell;
	shell->n_routes++;
	return 0;
}

static int make_seal(struct shell *shell)
{
	const struct peers *peers = &shell->daemon->node.peers;
	struct seal_config config = {.context = "gossipd", .peers_max = PEERS_MAX};
	int r;

	memcpy(config.public_key, shell->daemon->keys.public_key, KEY_SIZE);
	memcpy(config.secret_key, shell->daemon->keys.secret_key, KEY_SIZE);
	randombytes_buf(config.random, sizeof(config.random));
	r = seal_new(&shell->seal, &config);
	sodium_memzero(&config, sizeof(config));
	for (size_t i = 0; r == 0 && i < peers->count; i++)
		if (&peers->peer[i] != shell->daemon->node.self)
			r = add_peer(shell, &peers->peer[i]);
	return r;
}

static int add_sources(struct shell *shell)
{
	sd_event *loop = shell->daemon->loop;
	uint64_t now = (uint64_t)mono_now().ns / 1000;
	int r = sd_event_add_io(loop, &shell->readable, shell->udp.fd, EPOLLIN, on_readable, shell);

	if (r >= 0)
		r = sd_event_add_time(
		    loop, &shell->timer, CLOCK_MONOTONIC, now, 1000, on_timer, shell);
	if (r >= 0)
		r = sd_event_add_time(
		    loop, &shell->second, CLOCK_MONOTONIC, now + 1000000, 10000, on_second, shell);
	if (r >= 0)
		r = rpc_server_add(shell->daemon->rpc, requests_methods, shell);
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
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	shell->udp = *udp;
	udp->fd = -1;
	shell->suspect = settings->suspect;
	snprintf(
	    shell->store, sizeof(shell->store), "%s/gossipd/incarnation", daemon->node.state_dir);
	snprintf(shell->key, sizeof(shell->key), "coord/%s", daemon->node.cluster);
	r = make_core(shell, settings);
	if (r == 0)
		r = make_seal(shell);
	if (r == 0)
		r = add_sources(shell);
	if (r == 0)
		r = links_open(shell);
	if (r < 0) {
		log_start_failed(r);
		shell_free(shell);
		return r;
	}
	list_stats(shell);
	start(shell);
	*out = shell;
	return 0;
}

struct shell *shell_free(struct shell *shell)
{
	if (!shell)
		return NULL;
	shell->daemon->stats = NULL;
	shell->closing = true;
	requests_fini(shell);
	links_close(shell);
	sd_event_source_disable_unref(shell->readable);
	sd_event_source_disable_unref(shell->timer);
	sd_event_source_disable_unref(shell->second);
	seal_free(shell->seal);
	gossipd_free(shell->core);
	udp_close(&shell->udp);
	free(shell);
	return NULL;
}
