/*
 * One wake-up, whatever woke us: read the socket empty (heartbeats go to the core with the kernel's
 * time of arrival), tell the core when it asked for that, then TIMEOUT while due.  So the order is
 * always the one that fdd.h asks for, and nobody is judged while his heartbeat waits in our socket.
 *
 * A heartbeat for a peer with whom no keys are agreed yet (one of the two is new) is put off: the
 * hello goes out in its place, and the heartbeat as soon as the answer is in, so that a restarted
 * node is heard after one round trip and not after an interval.
 */
#include "fdd/shell-internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/number-file.h"

#define DATAGRAMS_A_WAKE 2048 /* a flood must not keep the timers from being judged */
#define SWEEP_MS 10000

struct route *shell_route(struct shell *shell, uint64_t id)
{
	for (size_t i = 0; i < shell->n_routes; i++)
		if (shell->routes[i].id == id)
			return &shell->routes[i];
	return NULL;
}

const char *shell_name_of(const struct shell *shell, uint64_t id)
{
	const struct peer *peer = peers_by_id(&shell->daemon->node.peers, id);

	return peer ? peer->name : "?";
}

/* --- datagrams out --- */

static void send_datagram(struct shell *shell, uint64_t to, const struct seal_datagram *datagram)
{
	struct route *route = shell_route(shell, to);
	unsigned missed;
	int r;

	if (!route || !datagram->size)
		return;
	r = udp_send(&shell->udp, &route->address, datagram->bytes, datagram->size);
	if (r == 0)
		return;
	shell->sends_failed++;
	if (log_limit(&shell->send_limit, mono_now(), &missed))
		log_warning(
		    "send to %s: %s missed=%u", shell_name_of(shell, to), strerror(-r), missed);
}

static void send_heartbeat(struct shell *shell, uint64_t to, const struct fdd_heartbeat *beat)
{
	struct msg_fdd_heartbeat message = {.incarnation = beat->incarnation,
	    .sequence = beat->sequence,
	    .interval_ms = (uint32_t)mono_to_ms(beat->interval)};
	struct route *route = shell_route(shell, to);
	_cleanup_buf_ struct buf body = {0};
	struct seal_datagram datagram;
	int r;

	if (!route || msg_fdd_heartbeat_pack(&message, &body) < 0)
		return;
	r = seal_seal(shell->seal, to, body.data, body.size, &datagram);
	if (r < 0) {
		log_bug("seal a heartbeat for %s: %s", shell_name_of(shell, to), strerror(-r));
		return;
	}
	route->put_off = r == SEAL_HELLO;
	route->beat = *beat;
	send_datagram(shell, to, &datagram);
}

/* --- actions --- */

static void tell_suspect(struct shell *shell, const struct fdd_level *level)
{
	struct msg_fd_suspect event = {.peer = level->peer,
	    .level = level->level,
	    .heard = level->heard,
	    .incarnation = level->incarnation,
	    .elapsed_ms = to_ms(level->elapsed),
	    .predicted_ms = to_ms(level->predicted)};

	snprintf(event.name, sizeof(event.name), "%s", shell_name_of(shell, level->peer));
	log_notice("suspect %s level=%.3f elapsed_ms=%.0f predicted_ms=%.0f%s", event.name,
	    event.level, event.elapsed_ms, event.predicted_ms, event.heard ? "" : " never heard");
	daemon_tell(shell->daemon, MSG_FD_SUSPECT, msg_fd_suspect_pack, &event);
}

static void tell_trust(struct shell *shell, const struct fdd_level *level)
{
	struct msg_fd_trust event = {.peer = level->peer,
	    .incarnation = level->incarnation,
	    .predicted_ms = to_ms(level->predicted)};

	snprintf(event.name, sizeof(event.name), "%s", shell_name_of(shell, level->peer));
	log_notice("trust %s incarnation=%llu", event.name, (unsigned long long)event.incarnation);
	daemon_tell(shell->daemon, MSG_FD_TRUST, msg_fd_trust_pack, &event);
}

static void tell_stall(struct shell *shell, struct mono stalled)
{
	struct msg_fd_stall event = {.stalled_ms = (uint64_t)mono_to_ms(stalled)};

	log_notice("stood still stalled_ms=%llu", (unsigned long long)event.stalled_ms);
	daemon_tell(shell->daemon, MSG_FD_STALL, msg_fd_stall_pack, &event);
}

static void carry_out(struct shell *shell, const struct fdd_action *action)
{
	switch (action->type) {
	case FDD_PERSIST:
		(void)number_file_write(
		    shell->store, action->incarnation); /* says itself what failed */
		break;
	case FDD_SEND_HEARTBEAT:
		send_heartbeat(shell, action->send.to, &action->send.beat);
		break;
	case FDD_LEVEL:
		requests_tell_level(shell, &action->level);
		break;
	case FDD_SUSPECT:
		tell_suspect(shell, &action->level);
		break;
	case FDD_TRUST:
		tell_trust(shell, &action->level);
		break;
	case FDD_STALLED:
		tell_stall(shell, action->stalled);
		break;
	case FDD_DRAIN:
		shell->drain = true;
		break;
	}
}

enum fdd_answer shell_step(struct shell *shell, struct fdd_event *event)
{
	struct fdd_actions actions;
	enum fdd_answer answer;

	event->now = mono_now();
	answer = fdd_step(shell->fdd, event, &actions);
	for (size_t i = 0; i < actions.count; i++)
		carry_out(shell, &actions.list[i]);
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

static void take_heartbeat(
    struct shell *shell, const struct udp_datagram *datagram, const struct seal_opened *opened)
{
	struct fdd_event event = {.type = FDD_HEARTBEAT};
	struct msg_fdd_heartbeat message;
	struct mpr_error error;

	if (msg_fdd_heartbeat_unpack(&message, opened->payload, opened->size, &error) < 0) {
		shell->bodies_refused++;
		refuse(shell, datagram, error.text);
		return;
	}
	event.heartbeat.from = opened->peer;
	event.heartbeat.arrived = datagram->arrived;
	event.heartbeat.beat = (struct fdd_heartbeat){
	    message.incarnation, message.sequence, mono_ms(message.interval_ms)};
	shell_step(shell, &event);
}

static void take_datagram(struct shell *shell, const struct udp_datagram *datagram)
{
	struct seal_opened opened;
	struct route *route;
	int r = seal_open(shell->seal, datagram->bytes, datagram->size, datagram->arrived, &opened);

	send_datagram(shell, opened.reply_to, &opened.reply);
	if (r == SEAL_REFUSED)
		refuse(shell, datagram, seal_refusal_name(opened.refusal));
	if (r == SEAL_OK)
		take_heartbeat(shell, datagram, &opened);
	route = opened.ready ? shell_route(shell, opened.peer) : NULL;
	if (route && route->put_off)
		send_heartbeat(shell, route->id, &route->beat);
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
	struct mono deadline = fdd_deadline(shell->fdd);
	uint64_t usec = mono_is_never(deadline) ? UINT64_MAX : (uint64_t)deadline.ns / 1000 + 1;
	int r = sd_event_source_set_time(shell->timer, usec);

	if (r >= 0)
		r = sd_event_source_set_enabled(shell->timer, SD_EVENT_ONESHOT);
	if (r < 0)
		log_bug("set the timer: %s", strerror(-r));
}

void shell_wake(struct shell *shell)
{
	do {
		drain(shell);
		if (shell->drain) {
			shell->drain = false;
			shell_step(shell, &(struct fdd_event){.type = FDD_DRAINED});
		}
		while (!shell->drain && mono_due(fdd_deadline(shell->fdd), mono_now()))
			shell_step(shell, &(struct fdd_event){.type = FDD_TIMEOUT});
	} while (shell->drain);
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

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shell *shell = userdata;
	int r = sd_event_source_set_time(source, usec + SWEEP_MS * 1000);

	requests_sweep(shell);
	shell_wake(shell);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- making and unmaking --- */

static void list_stats(struct shell *shell)
{
	const struct fdd_counters *core = fdd_counters(shell->fdd);
	const struct seal_counters *seal = seal_counters(shell->seal);
	const struct daemon_stat stats[] = {
	    {"heartbeats_sent", &core->sent, "heartbeats the core asked to send"},
	    {"heartbeats_received", &core->received, "authentic heartbeats"},
	    {"heartbeats_repeated", &core->repeated, "duplicate or overtaken"},
	    {"heartbeats_old", &core->old, "of a former incarnation"},
	    {"heartbeats_unwatched", &core->unwatched, "of nodes that are not watched"},
	    {"heartbeats_impossible", &core->refused, "with values that cannot be"},
	    {"stalls", &core->stalls, "this process stood still"},
	    {"notices", &core->notices, "crossings told to applications"},
	    {"sends_failed", &shell->sends_failed, "the kernel refused to send"},
	    {"control_sent", &seal->control_sent, "hellos and answers to hellos"},
	    {"control_received", &seal->control_received, "the same, from peers"},
	    {"refused_body", &shell->bodies_refused, "authentic, but not a heartbeat"},
#define X(name, label, text) {"refused_" label, &seal->refused[SEAL_##name], text},
	    SEAL_REFUSALS(X)
#undef X
	};

	_Static_assert(sizeof(stats) < sizeof(shell->stats), "STATS_MAX is too small");
	memcpy(shell->stats, stats, sizeof(stats));
	shell->daemon->stats = shell->stats;
}

static int make_core(struct shell *shell, const struct fdd_settings *settings)
{
	struct fdd_config config = {
	    .self = shell->daemon->node.self->id,
	    .interval = mono_ms(settings->interval_ms),
	    .stall = settings->stall_ms ? mono_ms(settings->stall_ms)
					: mono_ns(settings->interval_ms * 500000),
	    .estimator = {(enum estimator_kind)settings->estimator, (unsigned)settings->kama_window,
		(unsigned)settings->kama_fast, (unsigned)settings->kama_slow},
	    .suspect = {1, {settings->suspect}, settings->clear, (uint32_t)settings->beats},
	    .peers_max = PEERS_MAX,
	    .registrations_max = REGISTRATIONS_MAX,
	};
	uint64_t seed;

	randombytes_buf(&seed, sizeof(seed));
	return fdd_new(&shell->fdd, &config, seed);
}

static int add_peer(struct shell *shell, const struct peer *peer)
{
	struct route *route = &shell->routes[shell->n_routes];
	int r = udp_address(&route->address, peer->address, (uint16_t)(peer->port + PORT_FDD));

	if (r == 0)
		r = seal_add_peer(shell->seal, peer->public_key);
	if (r < 0) {
		log_error("[peer %s]: address or key of no use", peer->name);
		return r;
	}
	route->id = peer->id;
	shell->n_routes++;
	return 0;
}

static int make_seal(struct shell *shell)
{
	const struct peers *peers = &shell->daemon->node.peers;
	struct seal_config config = {.context = "fdd", .peers_max = PEERS_MAX};
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
		r = sd_event_add_time(loop, &shell->sweep, CLOCK_MONOTONIC, now + SWEEP_MS * 1000,
		    1000000, on_sweep, shell);
	if (r >= 0)
		r = rpc_server_add(shell->daemon->rpc, requests_methods, shell);
	return r < 0 ? r : 0;
}

void shell_set_peers(struct shell *shell, const struct fdd_peer_role *roles, size_t count)
{
	struct fdd_event event = {.type = FDD_SET_PEERS, .peers = {roles, count}};

	shell_step(shell, &event);
}

/* Until gossipd says otherwise everybody watches everybody. */
static void start(struct shell *shell)
{
	struct fdd_event event = {.type = FDD_START};
	struct fdd_peer_role roles[PEERS_MAX];
	int r = number_file_read(shell->store, &event.start.stored_incarnation);

	if (r < 0)
		log_warning("read %s: %s; the clock alone gives the incarnation", shell->store,
		    strerror(-r));
	event.start.wall_s = (uint64_t)time(NULL);
	shell_step(shell, &event);
	for (size_t i = 0; i < shell->n_routes; i++)
		roles[i] = (struct fdd_peer_role){shell->routes[i].id, true, true};
	shell_set_peers(shell, roles, shell->n_routes);
}

int shell_new(
    struct shell **out, struct daemon *daemon, const struct fdd_settings *settings, struct udp *udp)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	shell->udp = *udp;
	udp->fd = -1;
	shell->estimator = (enum msg_fdd_estimator)settings->estimator;
	shell->interval_ms = (uint32_t)settings->interval_ms;
	snprintf(shell->store, sizeof(shell->store), "%s/fdd/incarnation", daemon->node.state_dir);
	r = make_core(shell, settings);
	if (r == 0)
		r = make_seal(shell);
	if (r == 0)
		r = add_sources(shell);
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
	sd_event_source_disable_unref(shell->readable);
	sd_event_source_disable_unref(shell->timer);
	sd_event_source_disable_unref(shell->sweep);
	seal_free(shell->seal);
	fdd_free(shell->fdd);
	udp_close(&shell->udp);
	free(shell);
	return NULL;
}
