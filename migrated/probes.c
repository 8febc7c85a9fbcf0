/*
 * The services of the VEs that run here are watched by this node's fdd: what the facts say of probes is told
 * to it when a VE runs, and taken back when it does not.  Level triggered: told again every ten seconds, so
 * that a restarted fdd, or one that was out of reach, has them soon; fdd drops what nobody tells any more.
 *
 * How they are is asked at each look, as what ved runs is; a registration for crossings would save a small local request
 * a second and would have to be made anew after each restart of either side, with what was missed between.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrated/shell.h"
#include "proto/fdd.h"

#define AGAIN_MS 10000
#define ASK_MS 2000
#define LEASE_MS 120000
#define SERVICES_MAX 64 /* in fdd.ls */
#define INTERVAL_MAX_MS 60000
#define SUSPECT 0.8 /* nine times the silence that is expected */

/* What fdd was told of one VE. */
struct told {
	char name[64]; /* "": the place is free */
	uint64_t epoch;
	struct mono again;
	bool wanted; /* by the facts, at the present look */
};

struct probes {
	struct shell *shell;
	struct rpc_client *fdd;
	bool asking;
	struct migrated_health health[SERVICES_MAX];
	struct msg_fdd_ls_reply listed; /* large: kept here */
	struct told told[MIGRATED_VES_MAX];
};

int probes_new(struct probes **out, struct daemon *daemon, struct shell *shell)
{
	struct probes *probes = calloc(1, sizeof(*probes));
	int r;

	if (!probes)
		return -ENOMEM;
	probes->shell = shell;
	r = rpc_client_new_local(
	    &probes->fdd, daemon->zmq, daemon->loop, daemon->node.run_dir, "fdd");
	if (r < 0) {
		free(probes);
		return r;
	}
	*out = probes;
	return 0;
}

struct probes *probes_free(struct probes *probes)
{
	if (!probes)
		return NULL;
	rpc_client_free(probes->fdd);
	free(probes);
	return NULL;
}

static void on_told(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	if (answer->status != RPC_OK)
		log_info("probes: fdd: %s", answer->error);
}

/* fact NULL: the VE does not run here any more. */
static void tell(struct probes *probes, struct told *told, const struct msg_migrated_ve_fact *fact)
{
	struct msg_fdd_probes request = {.epoch = told->epoch, .lease_ms = LEASE_MS};
	_cleanup_buf_ struct buf body = {0};

	told->again = mono_add_ms(mono_now(), AGAIN_MS);
	memcpy(request.ve, told->name, sizeof(request.ve));
	if (fact) {
		memcpy(request.address, fact->address, sizeof(request.address));
		request.probes.count = fact->probes.count;
		memcpy(request.probes.item, fact->probes.item, sizeof(request.probes.item));
	}
	if (msg_fdd_probes_pack(&request, &body) == 0)
		rpc_request(
		    probes->fdd, MSG_FDD_PROBES, body.data, body.size, ASK_MS, on_told, NULL);
}

static struct told *find_told(struct probes *probes, const char *name)
{
	for (size_t i = 0; i < MIGRATED_VES_MAX; i++)
		if (strcmp(probes->told[i].name, name) == 0)
			return &probes->told[i];
	return NULL;
}

static bool runs(
    const struct msg_migrated_ve_fact *fact, const struct migrated_local *locals, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(locals[i].name, fact->name) == 0)
			return locals[i].running && locals[i].epoch == fact->epoch;
	return false;
}

static void want(struct probes *probes, const struct msg_migrated_ve_fact *fact)
{
	struct told *told = find_told(probes, fact->name);

	if (!told)
		told = find_told(probes, "");
	if (!told)
		return;
	told->wanted = true;
	if (*told->name && told->epoch == fact->epoch && !mono_due(told->again, mono_now()))
		return;
	memcpy(told->name, fact->name, sizeof(told->name));
	told->epoch = fact->epoch;
	tell(probes, told, fact);
}

/* --- how they are --- */

static struct migrated_health *find_health(
    struct probes *probes, size_t *count, const struct msg_fdd_service *service)
{
	struct migrated_health *health;

	for (size_t i = 0; i < *count; i++)
		if (strcmp(probes->health[i].name, service->ve) == 0)
			return &probes->health[i];
	health = &probes->health[(*count)++];
	*health = (struct migrated_health){.epoch = service->epoch, .answered = true};
	memcpy(health->name, service->ve, sizeof(health->name));
	return health;
}

/* A VE is as its worst probe. */
static void add_service(struct migrated_health *health, const struct msg_fdd_service *service)
{
	uint32_t interval_ms = service->interval_ms < INTERVAL_MAX_MS
				   ? (uint32_t)service->interval_ms
				   : INTERVAL_MAX_MS;
	bool suspect = service->level >= SUSPECT, good = service->good > 0;

	if (interval_ms > health->interval_ms)
		health->interval_ms = interval_ms;
	health->suspect |= suspect;
	health->answered &= good;
	if ((suspect || !good) && !*health->fault)
		snprintf(health->fault, sizeof(health->fault), "%.60s: %.60s", service->name,
		    *service->fault ? service->fault : "silence");
}

static void on_health(void *userdata, const struct rpc_answer *answer)
{
	struct probes *probes = userdata;
	struct msg_fdd_ls_reply *listed = &probes->listed;
	struct migrated_event event = {.kind = MIGRATED_HEALTH, .health = probes->health};
	struct mpr_error error;

	probes->asking = false;
	if (answer->status != RPC_OK ||
	    msg_fdd_ls_reply_unpack(listed, answer->body, answer->size, &error) < 0)
		return;
	for (size_t i = 0; listed->has_services && i < listed->services.count; i++) {
		const struct msg_fdd_service *service = &listed->services.item[i];

		add_service(find_health(probes, &event.count, service), service);
	}
	shell_step(probes->shell, &event);
}

static void ask_health(struct probes *probes)
{
	if (!probes->asking &&
	    rpc_request(probes->fdd, MSG_FDD_LS, NULL, 0, ASK_MS, on_health, probes) > 0)
		probes->asking = true;
}

void probes_look(struct probes *probes, const struct migrated *core,
    const struct migrated_local *locals, size_t count)
{
	for (size_t i = 0; i < MIGRATED_VES_MAX; i++)
		probes->told[i].wanted = false;
	for (size_t i = 0; i < migrated_count(core); i++) {
		const struct msg_migrated_ve_fact *fact = &migrated_at(core, i)->fact;

		if (fact->has_probes && fact->probes.count && fact->want == MSG_MIGRATED_WANT_RUN &&
		    runs(fact, locals, count))
			want(probes, fact);
	}
	for (size_t i = 0; i < MIGRATED_VES_MAX; i++) {
		struct told *told = &probes->told[i];

		if (!*told->name || told->wanted)
			continue;
		tell(probes, told, NULL);
		*told = (struct told){0};
	}
	for (size_t i = 0; i < MIGRATED_VES_MAX; i++)
		if (probes->told[i].wanted) {
			ask_health(probes);
			break;
		}
}
