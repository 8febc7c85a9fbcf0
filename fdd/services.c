/*
 * A success is a heartbeat: its sequence is the number of the probe, so that a failed probe is a lost one,
 * its incarnation changes with the epoch of the VE, its interval that of the probe.  So a service's level is made by
 * the estimator of the nodes, out of how the service really answers.
 *
 * A probe that fails is not a verdict, as a lost heartbeat is none; what it failed of is kept for people.
 * Probes of one VE begin at different moments, so that they do not load it together.
 */
#include "fdd/services.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "fdd/probe.h"
#include "fdd/shell-internal.h"
#include "proto/ved.h"

struct service {
	struct services *services; /* NULL: the place is free */
	uint64_t id, epoch;
	uint64_t life;     /* rises when it is another one: the incarnation in the core */
	struct mono lease; /* MONO_NEVER: none */
	char ve[64], name[64], address[64];
	struct msg_common_probe what;
	uint64_t asked, good;
	uint64_t told_by; /* heartbeat: the incarnation of the program that tells */
	char fault[128];
	struct mono next;  /* probe */
	struct mono limit; /* of the present one; MONO_NEVER: none */
	sd_event_source *timer;
	struct probe *probe; /* tcp, http */
	int64_t request;     /* process, command: what ved was asked */
};

struct services {
	struct shell *shell;
	struct rpc_client *ved; /* made when it is needed */
	struct service list[SERVICES_MAX];
	struct msg_ved_listed listed; /* large: kept here */
};

/* --- one service --- */

static void set_timer(struct service *service)
{
	deadline_set(service->timer, mono_min(service->next, service->limit));
}

static void forget_attempt(struct service *service)
{
	service->probe = probe_free(service->probe);
	if (service->request > 0)
		rpc_cancel(service->services->ved, service->request);
	service->request = 0;
	service->limit = MONO_NEVER;
}

static void take_success(struct service *service, struct mono at, uint32_t interval_ms)
{
	struct fdd_event event = {.type = FDD_HEARTBEAT};

	service->good++;
	event.heartbeat.from = service->id;
	event.heartbeat.arrived = at;
	event.heartbeat.beat =
	    (struct fdd_heartbeat){service->life, service->asked, mono_ms(interval_ms)};
	shell_step(service->services->shell, &event);
	shell_wake(service->services->shell);
}

/* The present attempt has ended. */
static void on_done(void *userdata, const char *fault)
{
	struct service *service = userdata;

	snprintf(service->fault, sizeof(service->fault), "%s", fault ? fault : "");
	forget_attempt(service);
	set_timer(service);
	if (fault) {
		log_debug("probe failed service=%s: %s", service->name, fault);
		return;
	}
	take_success(service, mono_now(), service->what.interval_ms);
}

static const char *process_fault(
    struct services *services, const struct service *service, const struct rpc_answer *answer)
{
	struct msg_ved_listed *listed = &services->listed;
	struct mpr_error error;

	if (answer->status != RPC_OK)
		return answer->error;
	if (msg_ved_listed_unpack(listed, answer->body, answer->size, &error) < 0)
		return "ved's list cannot be read";
	for (size_t i = 0; i < listed->ves.count; i++) {
		const struct msg_ved_ve *ve = &listed->ves.item[i];

		if (strcmp(ve->name, service->ve) != 0)
			continue;
		return ve->state == MSG_VED_STATE_DEAD ? "its processes have ended" : NULL;
	}
	return "no such VE runs here";
}

static void on_listed(void *userdata, const struct rpc_answer *answer)
{
	struct service *service = userdata;

	if (answer->more)
		return;
	service->request = 0;
	on_done(service, process_fault(service->services, service, answer));
}

static void on_executed(void *userdata, const struct rpc_answer *answer)
{
	struct service *service = userdata;
	struct msg_ved_executed executed;
	struct mpr_error error;
	char why[128];

	if (answer->more)
		return;
	service->request = 0;
	if (answer->status != RPC_OK) {
		on_done(service, answer->error);
	} else if (msg_ved_executed_unpack(&executed, answer->body, answer->size, &error) < 0) {
		on_done(service, "ved's answer cannot be read");
	} else if (executed.status == 0) {
		on_done(service, NULL);
	} else {
		snprintf(why, sizeof(why), "exit status %lld: %.90s", (long long)executed.status,
		    executed.output);
		on_done(service, why);
	}
}

static int ask_command(struct service *service)
{
	struct msg_ved_exec request = {
	    .epoch = service->epoch, .timeout_ms = service->what.timeout_ms};
	_cleanup_buf_ struct buf body = {0};
	int r;

	snprintf(request.name, sizeof(request.name), "%s", service->ve);
	snprintf(request.command, sizeof(request.command), "%s", service->what.target);
	r = msg_ved_exec_pack(&request, &body);
	if (r < 0)
		return r;
	service->request = rpc_request(service->services->ved, MSG_VED_EXEC, body.data, body.size,
	    service->what.timeout_ms, on_executed, service);
	return service->request < 0 ? (int)service->request : 0;
}

static int ask_ved(struct service *service)
{
	struct services *services = service->services;
	struct daemon *daemon = services->shell->daemon;
	int r = 0;

	if (!services->ved)
		r = rpc_client_new_local(
		    &services->ved, daemon->zmq, daemon->loop, daemon->node.run_dir, "ved");
	if (r < 0)
		return r;
	if (service->what.kind == MSG_COMMON_PROBE_KIND_COMMAND)
		return ask_command(service);
	service->request = rpc_request(
	    services->ved, MSG_VED_LIST, NULL, 0, service->what.timeout_ms, on_listed, service);
	return service->request < 0 ? (int)service->request : 0;
}

static void begin_attempt(struct service *service)
{
	int r = -ENOTSUP;

	service->asked++;
	service->limit = mono_add_ms(mono_now(), service->what.timeout_ms);
	switch (service->what.kind) {
	case MSG_COMMON_PROBE_KIND_TCP:
	case MSG_COMMON_PROBE_KIND_HTTP:
		r = probe_new(&service->probe, service->services->shell->daemon->loop,
		    service->address, &service->what, on_done, service);
		break;
	case MSG_COMMON_PROBE_KIND_PROCESS:
	case MSG_COMMON_PROBE_KIND_COMMAND:
		r = ask_ved(service);
		break;
	case MSG_COMMON_PROBE_KIND_HEARTBEAT:
		break;
	}
	if (r < 0)
		on_done(service, strerror(-r));
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct service *service = userdata;
	struct mono now = mono_now();

	(void)source;
	(void)usec;
	if (mono_due(service->limit, now))
		on_done(service, "no answer in time");
	if (mono_due(service->next, now)) {
		service->next = mono_add_ms(now, service->what.interval_ms);
		if (mono_is_never(service->limit))
			begin_attempt(service);
		else
			service->asked++; /* the one before is still under way: this one is lost */
	}
	set_timer(service);
	return 0;
}

static void name_service(
    const struct msg_common_probe *what, const char *ve, char *name, size_t size)
{
	const char *kind = msg_common_probe_kind_name(what->kind);

	if (what->kind == MSG_COMMON_PROBE_KIND_TCP)
		snprintf(name, size, "%.40s/%s:%u", ve, kind, what->port);
	else if (what->kind == MSG_COMMON_PROBE_KIND_HTTP)
		snprintf(name, size, "%.30s/%s:%u%.18s", ve, kind, what->port, what->target);
	else
		snprintf(name, size, "%.50s/%s", ve, kind);
}

/* Everything that makes it this probe and not another one goes in. */
static uint64_t id_of(const char *ve, const struct msg_common_probe *what)
{
	_cleanup_buf_ struct buf body = {0};
	uint8_t hash[8];
	uint64_t id = 0;
	crypto_generichash_state state;

	msg_common_probe_pack(what, &body);
	crypto_generichash_init(&state, NULL, 0, sizeof(hash));
	crypto_generichash_update(&state, (const uint8_t *)ve, strlen(ve) + 1);
	crypto_generichash_update(&state, body.data, body.size);
	crypto_generichash_final(&state, hash, sizeof(hash));
	for (int i = 0; i < 8; i++)
		id = id << 8 | hash[i];
	return id ? id : 1;
}

static void end_service(struct service *service)
{
	struct fdd_event event = {.type = FDD_DROP_SERVICE, .service = {.id = service->id}};
	struct shell *shell = service->services->shell;

	forget_attempt(service);
	service->timer = sd_event_source_disable_unref(service->timer);
	log_info("service ended name=%s", service->name);
	*service = (struct service){0};
	shell_step(shell, &event);
}

/* --- all of them --- */

static struct service *find_service(const struct services *services, uint64_t id)
{
	for (size_t i = 0; i < SERVICES_MAX; i++)
		if (services->list[i].services && services->list[i].id == id)
			return (struct service *)&services->list[i];
	return NULL;
}

static struct service *free_place(struct services *services)
{
	for (size_t i = 0; i < SERVICES_MAX; i++)
		if (!services->list[i].services)
			return &services->list[i];
	return NULL;
}

static const char *probe_fault(
    const struct msg_fdd_probes *request, const struct msg_common_probe *what)
{
	bool network =
	    what->kind == MSG_COMMON_PROBE_KIND_TCP || what->kind == MSG_COMMON_PROBE_KIND_HTTP;

	if (network && !what->port)
		return "tcp, http: a port is needed";
	if (network && !*request->address)
		return "tcp, http: the VE has no address";
	if (what->kind == MSG_COMMON_PROBE_KIND_HTTP && *what->target && *what->target != '/')
		return "http: the path begins with /";
	if (strpbrk(what->target, "\r\n"))
		return "target: one line";
	if (what->kind == MSG_COMMON_PROBE_KIND_COMMAND && !*what->target)
		return "command: what to run?";
	return NULL;
}

/* Adds it, or brings the present one up to date. */
static const char *put_service(struct services *services, const struct msg_fdd_probes *request,
    const struct msg_common_probe *what, uint64_t id)
{
	struct fdd_event event = {
	    .type = FDD_WATCH_SERVICE, .service = {id, mono_ms(what->interval_ms)}};
	struct service *service = find_service(services, id);
	bool fresh = !service;
	uint32_t phase;

	if (fresh)
		service = free_place(services);
	if (!service)
		return "too many services are watched on this node";
	snprintf(service->address, sizeof(service->address), "%.*s",
	    (int)strcspn(request->address, "/"), request->address);
	service->lease =
	    request->lease_ms ? mono_add_ms(mono_now(), request->lease_ms) : MONO_NEVER;
	if (service->epoch != request->epoch) {
		if (!fresh)
			forget_attempt(service); /* it asks the copy before */
		service->asked = service->good =
		    0; /* a restored program counts on from an older number */
		service->life++;
	}
	service->epoch = request->epoch;
	if (!fresh)
		return NULL;
	service->services = services;
	service->id = id;
	service->what = *what;
	snprintf(service->ve, sizeof(service->ve), "%s", request->ve);
	name_service(what, request->ve, service->name, sizeof(service->name));
	phase = randombytes_uniform(what->interval_ms);
	service->limit = MONO_NEVER;
	service->next = what->kind == MSG_COMMON_PROBE_KIND_HEARTBEAT
			    ? MONO_NEVER
			    : mono_add_ms(mono_now(), phase);
	if (sd_event_add_time(services->shell->daemon->loop, &service->timer, MONO_CLOCK,
		UINT64_MAX, 1000, on_timer, service) < 0) {
		*service = (struct service){0};
		return "out of memory";
	}
	set_timer(service);
	log_info("service watched name=%s epoch=%llu", service->name,
	    (unsigned long long)service->epoch);
	shell_step(services->shell, &event);
	return NULL;
}

static bool is_listed(const struct msg_fdd_probes_reply *wanted, uint64_t id)
{
	for (size_t i = 0; i < wanted->services.count; i++)
		if (wanted->services.item[i] == id)
			return true;
	return false;
}

const char *services_set(struct services *services, const struct msg_fdd_probes *request,
    struct msg_fdd_probes_reply *reply)
{
	const char *fault = NULL;

	reply->services.count = 0;
	for (size_t i = 0; i < request->probes.count && !fault; i++) {
		fault = probe_fault(request, &request->probes.item[i]);
		reply->services.item[reply->services.count++] =
		    id_of(request->ve, &request->probes.item[i]);
	}
	if (fault)
		return fault;
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		struct service *service = &services->list[i];

		if (service->services && strcmp(service->ve, request->ve) == 0 &&
		    !is_listed(reply, service->id))
			end_service(service);
	}
	for (size_t i = 0; i < request->probes.count && !fault; i++)
		fault = put_service(
		    services, request, &request->probes.item[i], reply->services.item[i]);
	return fault;
}

static void take_told(struct service *service, const struct app_heartbeat *heartbeat)
{
	if (service->told_by != heartbeat->incarnation) {
		service->told_by = heartbeat->incarnation;
		service->life++;
	} else if (heartbeat->sequence <= service->asked) {
		return; /* repeated, or overtaken */
	}
	service->asked = heartbeat->sequence;
	take_success(service, heartbeat->arrived, heartbeat->interval_ms);
}

void services_heard(struct services *services, const struct app_heartbeat *heartbeat)
{
	for (size_t i = 0; i < SERVICES_MAX; i++) {
		struct service *service = &services->list[i];

		if (service->services && service->what.kind == MSG_COMMON_PROBE_KIND_HEARTBEAT &&
		    strcmp(service->address, heartbeat->from) == 0)
			take_told(service, heartbeat);
	}
}

void services_sweep(struct services *services)
{
	for (size_t i = 0; i < SERVICES_MAX; i++)
		if (services->list[i].services && mono_due(services->list[i].lease, mono_now()))
			end_service(&services->list[i]);
}

bool services_describe(
    const struct services *services, const struct fdd_status *status, struct msg_fdd_service *row)
{
	const struct service *service = find_service(services, status->id);

	if (!service)
		return false;
	*row = (struct msg_fdd_service){.id = status->id,
	    .epoch = service->epoch,
	    .level = status->level,
	    .elapsed_ms = to_ms(status->elapsed),
	    .predicted_ms = to_ms(status->predicted),
	    .interval_ms = service->what.interval_ms,
	    .asked = service->asked,
	    .good = service->good};
	snprintf(row->name, sizeof(row->name), "%s", service->name);
	snprintf(row->ve, sizeof(row->ve), "%s", service->ve);
	snprintf(row->fault, sizeof(row->fault), "%s", service->fault);
	return true;
}

static void tell_suspect(
    struct shell *shell, const struct service *service, const struct fdd_level *level)
{
	struct msg_fd_service_suspect event = {.service = service->id,
	    .epoch = service->epoch,
	    .level = level->level,
	    .heard = level->heard,
	    .elapsed_ms = to_ms(level->elapsed),
	    .predicted_ms = to_ms(level->predicted)};

	snprintf(event.name, sizeof(event.name), "%s", service->name);
	snprintf(event.ve, sizeof(event.ve), "%s", service->ve);
	snprintf(event.fault, sizeof(event.fault), "%s", service->fault);
	log_notice("suspect service %s level=%.3f elapsed_ms=%.0f predicted_ms=%.0f: %s",
	    event.name, event.level, event.elapsed_ms, event.predicted_ms,
	    *event.fault ? event.fault : "silence");
	daemon_tell(shell->daemon, MSG_FD_SERVICE_SUSPECT, msg_fd_service_suspect_pack, &event);
}

static void tell_trust(
    struct shell *shell, const struct service *service, const struct fdd_level *level)
{
	struct msg_fd_service_trust event = {.service = service->id,
	    .epoch = service->epoch,
	    .predicted_ms = to_ms(level->predicted)};

	snprintf(event.name, sizeof(event.name), "%s", service->name);
	snprintf(event.ve, sizeof(event.ve), "%s", service->ve);
	log_notice("trust service %s", event.name);
	daemon_tell(shell->daemon, MSG_FD_SERVICE_TRUST, msg_fd_service_trust_pack, &event);
}

void services_tell(struct services *services, const struct fdd_level *level, bool suspect)
{
	const struct service *service = find_service(services, level->peer);

	if (!service)
		return;
	if (suspect)
		tell_suspect(services->shell, service, level);
	else
		tell_trust(services->shell, service, level);
}

int services_new(struct services **out, struct shell *shell)
{
	struct services *services = calloc(1, sizeof(*services));

	if (!services)
		return -ENOMEM;
	services->shell = shell;
	*out = services;
	return 0;
}

struct services *services_free(struct services *services)
{
	if (!services)
		return NULL;
	for (size_t i = 0; i < SERVICES_MAX; i++)
		if (services->list[i].services) {
			forget_attempt(&services->list[i]);
			sd_event_source_disable_unref(services->list[i].timer);
		}
	rpc_client_free(services->ved);
	free(services);
	return NULL;
}
