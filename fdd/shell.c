/*
 * One wake-up, whatever woke us: read the socket empty (heartbeats go to the core with the kernel's
 * time of arrival), tell the core when it asked for that, then TIMEOUT while due.  So the order is
 * always the one that fdd.h asks for, and nobody is judged while his heartbeat waits in our socket.
 */
#include "fdd/shell-internal.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/deadline.h"
#include "common/number-file.h"

#define SWEEP_MS 10000

void shell_name_of(const struct shell *shell, uint64_t id, char *name, size_t size)
{
	const struct peer *peer = peers_by_id(&shell->daemon->node.peers, id);
	struct fdd_status status = {.id = id};
	struct msg_fdd_service service;

	if (peer)
		snprintf(name, size, "%s", peer->name);
	else if (services_describe(shell->services, &status, &service))
		snprintf(name, size, "%s", service.name);
	else
		snprintf(name, size, "?");
}

static bool is_service(const struct shell *shell, uint64_t id)
{
	struct fdd_status status;

	return fdd_find(shell->fdd, id, mono_now(), &status) && status.service;
}

/* --- actions --- */

static void send_heartbeat(struct shell *shell, uint64_t to, const struct fdd_heartbeat *beat)
{
	_cleanup_buf_ struct buf body = {0};

	if (heartbeat_pack(beat, sealed_udp_opening(shell->udp, to), &body) == 0)
		sealed_udp_send(shell->udp, to, body.data, body.size);
}

static void tell_suspect(struct shell *shell, const struct fdd_level *level)
{
	struct msg_fd_suspect event = {.peer = level->peer,
	    .level = level->level,
	    .heard = level->heard,
	    .incarnation = level->incarnation,
	    .elapsed_ms = to_ms(level->elapsed),
	    .predicted_ms = to_ms(level->predicted)};

	shell_name_of(shell, level->peer, event.name, sizeof(event.name));
	log_notice("suspect %s level=%.3f elapsed_ms=%.0f predicted_ms=%.0f%s", event.name,
	    event.level, event.elapsed_ms, event.predicted_ms, event.heard ? "" : " never heard");
	daemon_tell(shell->daemon, MSG_FD_SUSPECT, msg_fd_suspect_pack, &event);
}

static void tell_trust(struct shell *shell, const struct fdd_level *level)
{
	struct msg_fd_trust event = {.peer = level->peer,
	    .incarnation = level->incarnation,
	    .predicted_ms = to_ms(level->predicted)};

	shell_name_of(shell, level->peer, event.name, sizeof(event.name));
	log_notice("trust %s incarnation=%llu", event.name, (unsigned long long)event.incarnation);
	daemon_tell(shell->daemon, MSG_FD_TRUST, msg_fd_trust_pack, &event);
}

static void tell_stall(struct shell *shell, struct mono stalled)
{
	struct msg_fd_stall event = {.stalled_ms = (uint64_t)mono_to_ms(stalled),
	    .lhm = fdd_lhm(shell->fdd),
	    .stalls = fdd_counters(shell->fdd)->stalls};

	log_notice(
	    "stood still stalled_ms=%llu lhm=%u", (unsigned long long)event.stalled_ms, event.lhm);
	daemon_tell(shell->daemon, MSG_FD_STALL, msg_fd_stall_pack, &event);
	requests_sweep(shell);
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
	case FDD_VALUE:
		requests_tell_value(shell, &action->level);
		break;
	case FDD_EXPIRED:
		requests_tell_expired(shell, action->registration);
		break;
	case FDD_SUSPECT:
	case FDD_TRUST:
		if (is_service(shell, action->level.peer))
			services_tell(shell->services, &action->level, action->type == FDD_SUSPECT);
		else if (action->type == FDD_SUSPECT)
			tell_suspect(shell, &action->level);
		else
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

/* What sealed_udp_drain() finds. */
static int take_heartbeat(
    void *userdata, const struct sealed_payload *payload, struct mpr_error *error)
{
	struct fdd_event event = {.type = FDD_HEARTBEAT,
	    .heartbeat = {.from = payload->from, .arrived = payload->arrived}};
	struct shell *shell = userdata;
	const struct peers *peers = &shell->daemon->node.peers;
	const struct peer *peer = peers_by_id(peers, payload->from);
	int r;

	if (!peer) {
		snprintf(error->text, sizeof(error->text), "a heartbeat of nobody");
		return -ENOENT;
	}
	r = heartbeat_unpack(&shell->wire, peers_place(peers, peer), payload->from, payload->data,
	    payload->size, &event.heartbeat.beat, error);
	if (r < 0)
		return r;
	shell_step(shell, &event);
	return 0;
}

/* --- the loop --- */

void shell_wake(struct shell *shell)
{
	do {
		sealed_udp_drain(shell->udp);
		if (shell->drain) {
			shell->drain = false;
			shell_step(shell, &(struct fdd_event){.type = FDD_DRAINED});
		}
		while (!shell->drain && mono_due(fdd_deadline(shell->fdd), mono_now()))
			shell_step(shell, &(struct fdd_event){.type = FDD_TIMEOUT});
	} while (shell->drain);
	deadline_set(shell->timer, fdd_deadline(shell->fdd));
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

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct shell *shell = userdata;
	int r = sd_event_source_set_time(source, usec + SWEEP_MS * 1000);

	requests_sweep(shell);
	services_sweep(shell->services);
	shell_wake(shell);
	return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- making and unmaking --- */

static void list_stats(struct shell *shell)
{
	const struct fdd_counters *core = fdd_counters(shell->fdd);
	const struct daemon_stat stats[] = {
	    {"heartbeats_sent", &core->sent, "heartbeats the core asked to send"},
	    {"heartbeats_received", &core->received, "authentic heartbeats"},
	    {"heartbeats_repeated", &core->repeated, "duplicate or overtaken"},
	    {"heartbeats_old", &core->old, "of a former incarnation"},
	    {"heartbeats_unwatched", &core->unwatched, "of nodes that are not watched"},
	    {"heartbeats_impossible", &core->refused, "with values that cannot be"},
	    {"stalls", &core->stalls, "this process stood still"},
	    {"notices", &core->notices, "crossings told to applications"},
	    {"values", &core->values, "periodic values told to applications"},
	    {"expired", &core->expired, "registrations whose lease ran out"},
	};

	const size_t count = sizeof(stats) / sizeof(stats[0]);

	_Static_assert(sizeof(stats) / sizeof(stats[0]) + SEALED_UDP_STATS < STATS_MAX,
	    "STATS_MAX is too small");
	memcpy(shell->stats, stats, sizeof(stats));
	sealed_udp_stats(shell->udp, "authentic, but not a heartbeat", &shell->stats[count]);
	shell->daemon->stats = shell->stats;
}

static int make_core(struct shell *shell, const struct fdd_settings *settings)
{
	struct fdd_config config = fdd_settings_core(&shell->daemon->node, settings);
	uint64_t seed;

	config.self = shell->daemon->node.self->id;
	config.peers_max = CLUSTER_MAX;
	config.services_max = SERVICES_MAX;
	config.registrations_max = REGISTRATIONS_MAX;
	randombytes_buf(&seed, sizeof(seed));
	return fdd_new(&shell->fdd, &config, seed);
}

static int open_udp(struct shell *shell, struct udp *udp)
{
	const struct sealed_udp_options options = {
	    .port = PORT_FDD, .take = take_heartbeat, .wake = on_datagrams, .userdata = shell};

	return sealed_udp_new(&shell->udp, shell->daemon, udp, &options);
}

static int add_sources(struct shell *shell)
{
	sd_event *loop = shell->daemon->loop;
	uint64_t now = (uint64_t)mono_now().ns / 1000;
	int r = sd_event_add_time(loop, &shell->timer, MONO_CLOCK, now, 1000, on_timer, shell);

	if (r >= 0)
		r = sd_event_add_time(loop, &shell->sweep, MONO_CLOCK, now + SWEEP_MS * 1000,
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

/* Until gossipd says otherwise everybody of the cluster watches everybody. */
static void start(struct shell *shell)
{
	const struct peers *peers = &shell->daemon->node.peers;
	struct fdd_event event = {.type = FDD_START};
	struct fdd_peer_role roles[CLUSTER_MAX];
	const struct peer *peer = NULL;
	size_t count = 0;
	int r = number_file_read(shell->store, &event.start.stored_incarnation);

	if (r < 0)
		log_warning("read %s: %s; the clock alone gives the incarnation", shell->store,
		    strerror(-r));
	event.start.wall_s = (uint64_t)time(NULL);
	shell_step(shell, &event);
	while (count < CLUSTER_MAX && (peer = peers_next(peers, peer)))
		if (peer != shell->daemon->node.self && config_is_near(&shell->daemon->node, peer))
			roles[count++] = (struct fdd_peer_role){peer->id, true, true};
	shell_set_peers(shell, roles, count);
}

int shell_new(
    struct shell **out, struct daemon *daemon, const struct fdd_settings *settings, struct udp *udp)
{
	struct shell *shell = calloc(1, sizeof(*shell));
	int r;

	if (!shell)
		return -ENOMEM;
	shell->daemon = daemon;
	shell->estimator = (enum msg_fdd_estimator)settings->estimator;
	shell->interval_ms = (uint32_t)fdd_interval_ms(&daemon->node, settings);
	snprintf(shell->store, sizeof(shell->store), "%s/fdd/incarnation", daemon->node.state_dir);
	r = make_core(shell, settings);
	if (r == 0)
		r = open_udp(shell, udp);
	if (r == 0)
		r = services_new(&shell->services, shell);
	if (r == 0)
		r = app_heartbeats_new(&shell->applications, shell);
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
	sd_event_source_disable_unref(shell->timer);
	sd_event_source_disable_unref(shell->sweep);
	app_heartbeats_free(shell->applications);
	services_free(shell->services);
	sealed_udp_free(shell->udp);
	fdd_free(shell->fdd);
	free(shell);
	return NULL;
}
