#include "gdn/gosd/gosd.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_US UINT64_C(2000000)
/* Collection by itself, and soon after something was removed. */
#define COLLECT_MS 300000
#define COLLECT_SOON_MS 5000

/* --- collection --- */

struct collection {
	struct job job;
	struct gosd *gosd;
	struct gc_result result;
	struct fault fault;
	int r;
};

static void run_collection(struct job *job)
{
	struct collection *collection = (struct collection *)job;

	collection->r = store_gc(collection->gosd->store, &collection->result, &collection->fault);
}

static void end_collection(struct job *job)
{
	struct collection *collection = (struct collection *)job;

	collection->gosd->collecting = false;
	if (collection->r < 0)
		log_warning("%s", collection->fault.text);
	else if (collection->result.chunks > 0)
		log_info("collected chunks=%llu bytes=%llu",
		    (unsigned long long)collection->result.chunks,
		    (unsigned long long)collection->result.bytes);
	free(collection);
	malloc_trim(0);
}

static void collect(struct gosd *gosd, struct mono now)
{
	struct collection *collection;

	if (gosd->removed) {
		gosd->removed = false;
		gosd->collect_at = mono_min(gosd->collect_at, mono_add_ms(now, COLLECT_SOON_MS));
	}
	if (gosd->collecting || !mono_due(gosd->collect_at, now))
		return;
	gosd->collect_at = mono_add_ms(now, COLLECT_MS);
	collection = calloc(1, sizeof(*collection));
	if (!collection)
		return;
	collection->job = (struct job){.run = run_collection, .done = end_collection};
	collection->gosd = gosd;
	gosd->collecting = true;
	if (work_start(gosd->work, LANE_LOCAL, &collection->job) < 0)
		end_collection(&collection->job);
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct gosd *gosd = userdata;
	struct mono now = mono_now();

	sessions_reap(gosd->sessions, now);
	collect(gosd, now);
	scrubber_tick(gosd->scrubber, now);
	sd_event_source_set_time(source, usec + TICK_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* --- the parts --- */

static void offer_statistics(struct gosd *gosd)
{
	const struct daemon_stat stats[] = {
	    {"objects_stored", &gosd->stored, "objects put on this node"},
	    {"objects_replicated", &gosd->replicated, "copies brought to or from other nodes"},
	    {"objects_removed", &gosd->removed_objects, "objects gone from this node"},
	    {"objects_damaged", &gosd->damaged, "times that damage was found"},
	    {"requests_failed", &gosd->failed, "requests answered with an error"},
	    {"bulk_refused", &gosd->strangers, "connections to the bulk port refused"},
	    {"transfers_broken", &gosd->broken, "transfers through the bulk port that broke off"},
	    {0},
	};

	memcpy(gosd->stats, stats, sizeof(stats));
	gosd->daemon->stats = gosd->stats;
}

static int open_store(struct gosd *gosd)
{
	struct fault fault = {0};
	char path[512];
	int r;

	snprintf(path, sizeof(path), "%s/gosd", gosd->daemon->node.state_dir);
	r = store_open(&gosd->store,
	    &(struct store_config){.path = path,
		.quota = (uint64_t)gosd->settings->quota_mb << 20,
		.reserve = (uint64_t)gosd->settings->reserve_mb << 20},
	    &fault);
	if (r < 0)
		log_error("%s", fault.text[0] ? fault.text : strerror(-r));
	return r;
}

static int open_parts(struct gosd *gosd)
{
	sd_event *loop = gosd->daemon->loop;
	uint64_t now;
	int r = sessions_new(&gosd->sessions);

	if (r == 0)
		r = scrubber_new(&gosd->scrubber, gosd);
	if (r == 0)
		r = work_new(&gosd->work, loop);
	if (r == 0)
		r = nodes_new(&gosd->nodes, gosd->daemon, gosd->work);
	if (r == 0)
		r = sd_event_now(loop, MONO_CLOCK, &now);
	if (r >= 0)
		r = sd_event_add_time(
		    loop, &gosd->timer, MONO_CLOCK, now + TICK_US, 0, on_tick, gosd);
	if (r >= 0)
		r = gosd_listen(gosd);
	if (r >= 0)
		r = rpc_server_add(gosd->daemon->rpc, gosd_local_methods, gosd);
	if (r >= 0)
		r = rpc_server_add(gosd->daemon->rpc, gosd_remote_methods, gosd);
	return r < 0 ? r : 0;
}

int gosd_new(struct gosd **out, struct daemon *daemon, const struct gosd_settings *settings)
{
	struct gosd *gosd = calloc(1, sizeof(*gosd));
	int r;

	if (!gosd)
		return -ENOMEM;
	/* Ten threads need no ten heaps. */
	mallopt(M_ARENA_MAX, 2);
	gosd->daemon = daemon;
	gosd->settings = settings;
	gosd->listen_fd = -1;
	gosd->collect_at = mono_add_ms(mono_now(), COLLECT_SOON_MS);
	bulk_set_init(&gosd->channels);
	offer_statistics(gosd);
	r = open_store(gosd);
	if (r == 0) {
		r = open_parts(gosd);
		if (r < 0)
			log_start_failed(r);
	}
	if (r < 0) {
		gosd_free(gosd);
		return r;
	}
	*out = gosd;
	return 0;
}

/* Asks all to give up, then waits for the threads: a transfer is cut, a put ends at its next step. */
struct gosd *gosd_free(struct gosd *gosd)
{
	if (!gosd)
		return NULL;
	gosd->daemon->stats = NULL;
	if (gosd->work)
		work_stop(gosd->work);
	bulk_set_cut(&gosd->channels);
	if (gosd->nodes)
		nodes_stop(gosd->nodes);
	sd_event_source_unref(gosd->listen_source);
	sd_event_source_unref(gosd->timer);
	if (gosd->listen_fd >= 0)
		close(gosd->listen_fd);
	work_free(gosd->work);
	scrubber_free(gosd->scrubber);
	nodes_free(gosd->nodes);
	sessions_free(gosd->sessions);
	store_close(gosd->store);
	free(gosd);
	return NULL;
}
