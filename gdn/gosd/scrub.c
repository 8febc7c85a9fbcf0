/*
 * Scrubbing: every `scrub_days` each chunk of this node is read and checked, a little at each tick, and
 * what is damaged or missing is fetched from other nodes.  A pass starts with the daemon, and takes no
 * more of the disk than it needs to be done in time (and STEP_MIN a tick, so that small stores are done soon).
 *
 * Damage that nobody looks for is found when its copy is damaged as well; what is read by checkpoints and
 * restores alone is the newest image.
 */
#include "gdn/gosd/gosd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STEP_MIN (UINT64_C(4) << 20)
#define TICK_S 2
#define DAY_S INT64_C(86400)
/* What could not be repaired, its nodes being down, is tried again: soon, then more seldom. */
#define RETRY_MIN_MS 30000
#define RETRY_MAX_MS 3600000

struct scrubber {
	struct job job;
	struct gosd *gosd;
	struct mono next_at; /* the next pass, when none is under way */
	bool passing, working;
	uint64_t step; /* bytes a tick */
	struct mono retry_at;
	int64_t retry_ms; /* 0: nothing is broken */
	/* Of the worker thread while it works. */
	struct scrub scrub;
	uint64_t repaired, broken; /* objects; broken: when last looked at */
	bool retrying;
	struct fault fault;
	int r;
};

int scrubber_new(struct scrubber **out, struct gosd *gosd)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->gosd = gosd;
	(*out)->next_at = mono_now();
	return 0;
}

struct scrubber *scrubber_free(struct scrubber *scrubber)
{
	free(scrubber);
	return NULL;
}

/* --- in a worker thread --- */

/* Fetches what the object lacks, as a request would. */
static int repair(struct gosd *gosd, const struct id *oid, struct fault *fault)
{
	struct request *request = calloc(1, sizeof(*request));
	struct copy_result copies = {0};
	int r;

	if (!request)
		return -ENOMEM;
	request->gosd = gosd;
	r = gosd_fetch(request, oid, &copies);
	*fault = request->fault;
	free(request);
	return r;
}

static void look_after(struct scrubber *scrubber, const struct id *oid)
{
	struct gosd *gosd = scrubber->gosd;
	struct fault fault = {0};
	char text[128], hex[ID_HEX];

	if (store_has(gosd->store, oid) != -ENODATA)
		return;
	snprintf(text, sizeof(text), "object %s: scrubbing found a chunk damaged or missing",
	    id_hex(oid, hex));
	if (!scrubber->retrying)
		gosd_tell_damaged(gosd, oid, text);
	if (repair(gosd, oid, &fault) == 0) {
		scrubber->repaired++;
	} else {
		scrubber->broken++;
		log_warning("scrub: %s", fault.text);
	}
}

/* Which objects a chunk belongs to is not noted anywhere: all are asked. */
static void look_after_all(struct scrubber *scrubber)
{
	struct gosd *gosd = scrubber->gosd;
	struct oids oids = {0};

	scrubber->broken = 0;
	if (gosd_list(gosd->store, &oids) == 0)
		for (size_t i = 0; i < oids.count && !work_stopping(gosd->work); i++)
			look_after(scrubber, &oids.at[i]);
	free(oids.at);
}

static void run_step(struct job *job)
{
	struct scrubber *scrubber = (struct scrubber *)job;
	uint64_t before = scrubber->scrub.damaged + scrubber->scrub.missing;

	if (scrubber->passing)
		scrubber->r = store_scrub(
		    scrubber->gosd->store, &scrubber->scrub, scrubber->step, &scrubber->fault);
	if (scrubber->retrying || scrubber->scrub.damaged + scrubber->scrub.missing > before)
		look_after_all(scrubber);
}

/* --- in the loop --- */

static void tell_scrubbed(struct scrubber *scrubber)
{
	const struct scrub *scrub = &scrubber->scrub;
	struct msg_obj_scrubbed event = {.chunks = scrub->chunks,
	    .bytes = scrub->bytes,
	    .damaged = scrub->damaged,
	    .missing = scrub->missing,
	    .repaired = scrubber->repaired,
	    .broken = scrubber->broken};
	struct buf body = {0};

	if (msg_obj_scrubbed_pack(&event, &body) == 0)
		gosd_tell(scrubber->gosd, MSG_OBJ_SCRUBBED, &body);
}

static void plan_retry(struct scrubber *scrubber)
{
	if (scrubber->broken == 0) {
		scrubber->retry_ms = 0;
	} else if (scrubber->retrying || scrubber->retry_ms == 0) {
		scrubber->retry_ms *= 2;
		if (scrubber->retry_ms < RETRY_MIN_MS)
			scrubber->retry_ms = RETRY_MIN_MS;
		if (scrubber->retry_ms > RETRY_MAX_MS)
			scrubber->retry_ms = RETRY_MAX_MS;
		scrubber->retry_at = mono_add_ms(mono_now(), scrubber->retry_ms);
	}
	scrubber->retrying = false;
}

static void end_step(struct job *job)
{
	struct scrubber *scrubber = (struct scrubber *)job;

	scrubber->working = false;
	plan_retry(scrubber);
	if (scrubber->r < 0)
		log_warning("%s", scrubber->fault.text);
	if (!scrubber->passing || scrubber->r == 0)
		return;
	scrubber->passing = false;
	if (scrubber->r > 0 && scrubber->scrub.chunks > 0)
		tell_scrubbed(scrubber);
}

static void begin_pass(struct scrubber *scrubber, struct mono now)
{
	int64_t period_s = scrubber->gosd->settings->scrub_days * DAY_S;
	struct index_totals totals;

	scrubber->next_at = mono_add_ms(now, 1000 * period_s);
	if (store_totals(scrubber->gosd->store, &totals) < 0)
		return;
	scrubber->passing = true;
	scrubber->step = STEP_MIN + totals.pack_bytes * TICK_S / (uint64_t)period_s;
	scrubber->scrub = (struct scrub){0};
	scrubber->repaired = 0;
}

void scrubber_tick(struct scrubber *scrubber, struct mono now)
{
	if (scrubber->working || scrubber->gosd->settings->scrub_days == 0)
		return;
	if (!scrubber->passing && mono_due(scrubber->next_at, now))
		begin_pass(scrubber, now);
	scrubber->retrying = scrubber->retry_ms > 0 && mono_due(scrubber->retry_at, now);
	if (!scrubber->passing && !scrubber->retrying)
		return;
	scrubber->fault = (struct fault){0};
	scrubber->r = 0;
	scrubber->job = (struct job){.run = run_step, .done = end_step};
	scrubber->working = true;
	if (work_start(scrubber->gosd->work, LANE_LOCAL, &scrubber->job) < 0)
		scrubber->working = false; /* the lane is full: at the next tick */
}
