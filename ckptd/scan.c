/*
 * Looking at everything from time to time: placements (what to checkpoint), cells that a dead
 * coordinator left undecided and decided ones that nobody needs any more, and images that no
 * catalogue has, whatever was killed before it could remove them.
 */
#include "ckptd/shell-internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/gosd.h"
#include "proto/metad.h"
#include "proto/migrated.h"

/* Decided cells are kept for members that were away; this many beside those of catalogues. */
#define CELLS_KEPT 64
#define CELLS_SEEN 512

/* ---- pages of metad */

struct plan_read {
	char key[CATALOGUE_KEY_SIZE];
	uint64_t version;
	bool wanted; /* there is such a VE */
	struct msg_ckptd_plan plan;
};

struct scan {
	struct shell *shell;
	char prefix[16];
	char after[CATALOGUE_KEY_SIZE];
	void (*entry)(struct scan *scan, const struct msg_metad_entry *entry);
	void (*done)(struct scan *scan, bool whole); /* frees it */

	size_t n_ves; /* of ve/ */
	struct schedule_ve ves[SCHEDULE_MAX];
	size_t n_plans; /* of plan/ */
	struct plan_read plans[SCHEDULE_MAX];
	size_t n_kept; /* of cat/: rounds in catalogues */
	uint64_t kept[SCHEDULE_MAX * CATALOGUE_MAX];
	size_t n_decided; /* of ckpt/, oldest first */
	struct {
		uint64_t id, version;
	} decided[CELLS_SEEN];
};

static void ask_page(struct scan *scan);

static void on_page(void *userdata, const struct rpc_answer *answer)
{
	struct scan *scan = userdata;
	struct msg_metad_page *page = calloc(1, sizeof(*page));
	struct mpr_error error;

	if (!page || answer->status != RPC_OK ||
	    msg_metad_page_unpack(page, answer->body, answer->size, &error) < 0) {
		free(page);
		scan->done(scan, false);
		return;
	}
	for (size_t i = 0; i < page->entries.count; i++)
		scan->entry(scan, &page->entries.item[i]);
	if (page->more && page->entries.count) {
		snprintf(scan->after, sizeof(scan->after), "%s",
		    page->entries.item[page->entries.count - 1].key);
		ask_page(scan);
	} else {
		scan->done(scan, true);
	}
	free(page);
}

static void ask_page(struct scan *scan)
{
	struct msg_metad_scan message = {.limit = 64};
	_cleanup_buf_ struct buf body = {0};

	memcpy(message.prefix, scan->prefix, sizeof(scan->prefix));
	memcpy(message.after, scan->after, sizeof(message.after));
	if (msg_metad_scan_pack(&message, &body) < 0 ||
	    rpc_request(scan->shell->metad, MSG_METAD_SCAN, body.data, body.size, META_TIMEOUT_MS,
		on_page, scan) < 0)
		scan->done(scan, false);
}

static void start_scan(struct scan *scan, const char *prefix,
    void (*entry)(struct scan *, const struct msg_metad_entry *), void (*done)(struct scan *, bool))
{
	snprintf(scan->prefix, sizeof(scan->prefix), "%s", prefix);
	scan->after[0] = 0;
	scan->entry = entry;
	scan->done = done;
	ask_page(scan);
}

static struct scan *scan_new(struct shell *shell)
{
	struct scan *scan = calloc(1, sizeof(*scan));

	if (scan)
		scan->shell = shell;
	return scan;
}

static void on_deleted(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	(void)answer;
}

static void delete_fact(struct shell *shell, const char *key, uint64_t version)
{
	struct msg_metad_txn txn = {.ops = {.count = 1}};
	_cleanup_buf_ struct buf body = {0};

	snprintf(txn.ops.item[0].key, sizeof(txn.ops.item[0].key), "%s", key);
	txn.ops.item[0].kind = MSG_METAD_KIND_DELETE;
	txn.ops.item[0].has_expected = true;
	txn.ops.item[0].expected = version;
	if (msg_metad_txn_pack(&txn, &body) == 0)
		rpc_request(shell->metad, MSG_METAD_TXN, body.data, body.size, META_TIMEOUT_MS,
		    on_deleted, NULL);
}

/* ---- placements and plans */

static void take_plan(struct scan *scan, const struct msg_metad_entry *entry)
{
	struct plan_read *read = &scan->plans[scan->n_plans];
	struct mpr_error error;

	if (scan->n_plans == SCHEDULE_MAX)
		return;
	if (msg_ckptd_plan_unpack(&read->plan, entry->value, entry->value_size, &error) < 0) {
		log_warning("fact %s: %s", entry->key, error.text);
		return;
	}
	snprintf(read->key, sizeof(read->key), "%s", entry->key);
	read->version = entry->version;
	scan->n_plans++;
}

static struct plan_read *find_plan(struct scan *scan, const char *ve)
{
	for (size_t i = 0; i < scan->n_plans; i++) {
		if (strcmp(scan->plans[i].key + strlen("plan/"), ve) == 0)
			return &scan->plans[i];
	}
	return NULL;
}

static void take_ve(struct scan *scan, const struct msg_metad_entry *entry)
{
	const struct node_config *node = &scan->shell->daemon->node;
	struct schedule_ve *ve = &scan->ves[scan->n_ves];
	struct msg_migrated_ve_fact fact;
	struct plan_read *plan;
	const struct peer *peer;
	struct mpr_error error;

	if (scan->n_ves == SCHEDULE_MAX)
		return;
	if (msg_migrated_ve_fact_unpack(&fact, entry->value, entry->value_size, &error) < 0) {
		log_warning("fact %s: %s", entry->key, error.text);
		return;
	}
	plan = find_plan(scan, fact.name);
	if (plan)
		plan->wanted = true;
	/* VEs of other clusters are their coordinators' business. */
	if (strcmp(fact.site, config_site(node)) != 0)
		return;
	peer = peers_by_name(&node->peers, fact.node);
	*ve = (struct schedule_ve){.interval_ms = (uint32_t)fact.interval_ms};
	memcpy(ve->place.ve, fact.name, sizeof(ve->place.ve));
	ve->place.ve_epoch = fact.epoch;
	ve->place.node = peer ? peer->id : 0;
	ve->place.copies = fact.copies;
	memcpy(ve->set, fact.set, sizeof(ve->set));
	if (plan)
		plans_apply(&plan->plan, ve);
	ve->eligible = fact.want == MSG_MIGRATED_WANT_RUN && !fact.gathering && peer &&
		       shell_node_status(scan->shell, peer->id) != CKPTD_STATUS_DEAD;
	scan->n_ves++;
}

/* The plans were read before the VEs, and are written for VEs that are there: what has none now has lost it. */
static void forget_plans(struct scan *scan)
{
	for (size_t i = 0; i < scan->n_plans; i++) {
		if (!scan->plans[i].wanted)
			delete_fact(scan->shell, scan->plans[i].key, scan->plans[i].version);
	}
}

static void ves_taken(struct scan *scan, bool whole)
{
	struct shell *shell = scan->shell;

	shell->scanning = false;
	if (whole && scan->n_ves < SCHEDULE_MAX)
		forget_plans(scan);
	if (whole && shell->mine) {
		schedule_update(&shell->schedule, scan->ves, scan->n_ves, mono_now());
		sd_event_source_set_time(shell->timer, 0);
		sd_event_source_set_enabled(shell->timer, SD_EVENT_ONESHOT);
	}
	free(scan);
	requests_scanned(shell, whole);
}

static void plans_taken(struct scan *scan, bool whole)
{
	if (whole)
		start_scan(scan, "ve/", take_ve, ves_taken);
	else
		ves_taken(scan, false);
}

void scan_ves(struct shell *shell)
{
	struct scan *scan = shell->mine && !shell->scanning ? scan_new(shell) : NULL;

	if (!scan)
		return;
	shell->scanning = true;
	shell->scans++;
	start_scan(scan, "plan/", take_plan, plans_taken);
}

/* ---- cells */

static void delete_cell(struct shell *shell, uint64_t id, uint64_t version)
{
	char key[CATALOGUE_KEY_SIZE];

	cell_key(key, id);
	delete_fact(shell, key, version);
}

static void take_cell(struct scan *scan, const struct msg_metad_entry *entry)
{
	const struct node_config *node = &scan->shell->daemon->node;
	struct msg_ckptd_decision decision;
	const struct peer *coordinator;
	struct mpr_error error;
	uint64_t id;

	if (!cell_parse(entry->key, &id) ||
	    msg_ckptd_decision_unpack(&decision, entry->value, entry->value_size, &error) < 0)
		return;
	coordinator = peers_by_name(&node->peers, decision.coordinator);
	if (coordinator && !config_is_near(node, coordinator))
		return;
	if (decision.outcome == MSG_CKPTD_OUTCOME_UNDECIDED) {
		shell_post(scan->shell, &(struct ckptd_event){.kind = CKPTD_EV_ORPHAN, .id = id});
		return;
	}
	for (size_t i = 0; i < scan->n_kept; i++) {
		if (scan->kept[i] == id)
			return;
	}
	if (scan->n_decided == CELLS_SEEN)
		return;
	scan->decided[scan->n_decided].id = id;
	scan->decided[scan->n_decided++].version = entry->version;
}

static void cells_taken(struct scan *scan, bool whole)
{
	for (size_t i = 0; whole && i + CELLS_KEPT < scan->n_decided; i++)
		delete_cell(scan->shell, scan->decided[i].id, scan->decided[i].version);
	scan->shell->sweeping = false;
	free(scan);
}

static void take_catalogue(struct scan *scan, const struct msg_metad_entry *entry)
{
	struct msg_ckptd_catalogue catalogue;
	struct mpr_error error;

	if (msg_ckptd_catalogue_unpack(&catalogue, entry->value, entry->value_size, &error) < 0) {
		log_warning("fact %s: %s", entry->key, error.text);
		return;
	}
	for (size_t i = 0; i < catalogue.checkpoints.count &&
			   scan->n_kept < sizeof(scan->kept) / sizeof(scan->kept[0]);
	     i++)
		scan->kept[scan->n_kept++] = catalogue.checkpoints.item[i].id;
}

static void catalogues_taken(struct scan *scan, bool whole)
{
	if (whole) {
		start_scan(scan, "ckpt/", take_cell, cells_taken);
		return;
	}
	scan->shell->sweeping = false;
	free(scan);
}

void scan_cells(struct shell *shell)
{
	struct scan *scan = shell->mine && !shell->sweeping ? scan_new(shell) : NULL;

	if (!scan)
		return;
	shell->sweeping = true;
	start_scan(scan, "cat/", take_catalogue, catalogues_taken);
}

/* ---- images */

/* An object of this node that bears the name of a checkpoint. */
struct suspect {
	uint8_t oid[32];
	char ve[CKPTD_VE_SIZE];
	uint64_t id;
};

static void judge_by_catalogue(struct reading *reading)
{
	struct suspect *suspect = reading->userdata;
	struct msg_ckptd_catalogue catalogue = {0};
	const struct fact *fact = &reading->facts[0];
	struct mpr_error error;
	bool read = !reading->failed &&
		    (!fact->version || msg_ckptd_catalogue_unpack(&catalogue, fact->value.data,
					   fact->value.size, &error) == 0);

	if (read && !catalogue_has(&catalogue, suspect->id)) {
		log_info(
		    "image of no catalogue removed ve=%s id=%016" PRIx64, suspect->ve, suspect->id);
		reading->shell->swept++;
		local_remove(reading->shell, suspect->oid, suspect->ve, suspect->id, true);
	}
	free(suspect);
}

/*
 * The cell first, and the catalogue only after it: a round that commits between the two is still
 * open in the cell that was read, or already in the catalogue.  Asked together they could tell of
 * a committed round and of the catalogue before it.
 */
static void judge_by_cell(struct reading *reading)
{
	struct suspect *suspect = reading->userdata;
	struct msg_ckptd_decision decision = {.outcome = MSG_CKPTD_OUTCOME_ABORT};
	const struct fact *fact = &reading->facts[0];
	struct mpr_error error;

	if (reading->failed ||
	    (fact->version && msg_ckptd_decision_unpack(
				  &decision, fact->value.data, fact->value.size, &error) < 0) ||
	    decision.outcome == MSG_CKPTD_OUTCOME_UNDECIDED) {
		free(suspect);
		return;
	}
	reading = reading_new(reading->shell, judge_by_catalogue, suspect);
	reading_add(reading, "cat/%s", suspect->ve);
	reading_go(reading);
}

static void suspect_tag(
    struct shell *shell, const struct msg_gosd_object *object, const struct msg_gosd_tag *tag)
{
	struct suspect *suspect = calloc(1, sizeof(*suspect));
	struct reading *reading;

	if (!suspect || !image_parse(tag->name, suspect->ve, &suspect->id) ||
	    ckptd_round_open(shell->core, suspect->id)) {
		free(suspect);
		return;
	}
	memcpy(suspect->oid, object->oid, sizeof(suspect->oid));
	reading = reading_new(shell, judge_by_cell, suspect);
	reading_add(reading, "ckpt/%016" PRIx64, suspect->id);
	reading_go(reading);
}

static void ask_objects(struct shell *shell);

static void on_objects(void *userdata, const struct rpc_answer *answer)
{
	struct shell *shell = userdata;
	struct msg_gosd_ls_reply *reply = calloc(1, sizeof(*reply));
	struct mpr_error error;
	bool more = false;

	if (reply && answer->status == RPC_OK &&
	    msg_gosd_ls_reply_unpack(reply, answer->body, answer->size, &error) == 0) {
		for (size_t i = 0; i < reply->objects.count; i++) {
			const struct msg_gosd_object *object = &reply->objects.item[i];

			for (size_t k = 0; k < object->tags.count; k++)
				suspect_tag(shell, object, &object->tags.item[k]);
		}
		shell->objects_seen += (uint32_t)reply->objects.count;
		more = reply->more && reply->objects.count;
	}
	free(reply);
	if (more)
		ask_objects(shell);
	else
		shell->listing = false;
}

static void ask_objects(struct shell *shell)
{
	struct msg_gosd_ls message = {.skip = shell->objects_seen};
	_cleanup_buf_ struct buf body = {0};

	if (msg_gosd_ls_pack(&message, &body) < 0 ||
	    rpc_request(shell->gosd, MSG_GOSD_LS, body.data, body.size, META_TIMEOUT_MS, on_objects,
		shell) < 0)
		shell->listing = false;
}

/* Objects removed meanwhile shift the pages: what is passed over is seen by the next sweep. */
void scan_images(struct shell *shell)
{
	if (shell->listing)
		return;
	shell->listing = true;
	shell->objects_seen = 0;
	ask_objects(shell);
}
