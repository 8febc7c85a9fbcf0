/*
 * What ved and gosd of this node do for a seat.  Images go through a directory of ours on the
 * node's tmpfs: we make it, ved writes into it, gosd reads it, we remove it.
 */
#include "ckptd/shell-internal.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crashpoint.h"
#include "common/service-key.h"
#include "proto/gosd.h"
#include "proto/migrated.h"
#include "proto/ved.h"

#define THAW_RETRY_MS 100
#define THAW_TRIES 100
#define LOCAL_TIMEOUT_MS 10000

/* Something ved or gosd is doing for a seat. */
struct job {
	struct shell *shell;
	uint64_t id;
	char ve[CKPTD_VE_SIZE];
	uint64_t ve_epoch;
	uint32_t copies;
	unsigned tries;
	sd_event_source *timer;
};

static struct job *job_new(struct shell *shell, const struct ckptd_action *action)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job) {
		log_error("no memory for a job");
		abort();
	}
	job->shell = shell;
	job->id = action->id;
	job->ve_epoch = action->ve_epoch;
	job->copies = action->copies;
	ckptd_name_copy(job->ve, action->ve);
	return job;
}

static void job_free(struct job *job)
{
	sd_event_source_unref(job->timer);
	free(job);
}

/* Ends the job with its event. */
static void post(struct job *job, struct ckptd_event event)
{
	struct shell *shell = job->shell;
	char ve[CKPTD_VE_SIZE];

	memcpy(ve, job->ve, sizeof(ve));
	event.id = job->id;
	event.epoch = job->ve_epoch;
	event.ve = ve;
	job_free(job);
	shell_post(shell, &event);
}

int oid_parse(uint8_t oid[32], const char *text)
{
	size_t size = 0;

	if (sodium_hex2bin(oid, 32, text, strlen(text), NULL, &size, NULL) < 0 || size != 32)
		return -EINVAL;
	return 0;
}

void oid_format(char text[CKPTD_OID_SIZE], const uint8_t oid[32])
{
	sodium_bin2hex(text, CKPTD_OID_SIZE, oid, 32);
}

/* ---- how long a VE stands, and what is said of it */

static struct freeze_info *freeze_find(struct shell *shell, const char *ve)
{
	struct freeze_info *free = NULL;

	for (size_t i = 0; i < SHELL_SEATS_MAX; i++) {
		if (!strcmp(shell->freezes[i].ve, ve))
			return &shell->freezes[i];
		if (!shell->freezes[i].ve[0])
			free = &shell->freezes[i];
	}
	return free ? free : &shell->freezes[0];
}

static uint32_t frozen_ms(struct shell *shell, const char *ve, uint64_t id)
{
	const struct freeze_info *info = freeze_find(shell, ve);

	return info->id == id ? (uint32_t)mono_to_ms(mono_sub(mono_now(), info->since)) : 0;
}

/* A file's name may be in what criu says: any byte. */
static void copy_printable(char *out, size_t size, const char *text)
{
	size_t i;

	for (i = 0; i + 1 < size && text[i]; i++)
		out[i] = (char)(text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
	out[i] = 0;
}

static void complain(const struct job *job, const char *what, const char *why)
{
	struct freeze_info *info = freeze_find(job->shell, job->ve);

	log_notice("%s failed ve=%s id=%016" PRIx64 ": %s", what, job->ve, job->id, why);
	if (info->id == job->id && !strcmp(info->ve, job->ve))
		copy_printable(info->detail, sizeof(info->detail), why);
}

const char *local_detail(struct shell *shell, const char *ve, uint64_t id)
{
	const struct freeze_info *info = freeze_find(shell, ve);

	return info->id == id && !strcmp(info->ve, ve) ? info->detail : "";
}

/* ---- ved */

static void on_frozen(void *userdata, const struct rpc_answer *answer)
{
	struct job *job = userdata;

	crash_point("ckptd.frozen");
	if (answer->status != RPC_OK)
		complain(job, "freeze", answer->error);
	post(job, (struct ckptd_event){
		      .kind = CKPTD_EV_FROZEN, .result = answer->status == RPC_OK ? 0 : -EIO});
}

static void freeze_well(struct job *job)
{
	struct shell *shell = job->shell;
	struct msg_ved_freeze freeze = {
	    .epoch = job->ve_epoch,
	    .max_freeze_ms = (uint64_t)shell->settings.hold_ms * 2,
	    .hold = job->id,
	};
	struct freeze_info *info = freeze_find(shell, job->ve);
	_cleanup_buf_ struct buf body = {0};

	*info = (struct freeze_info){.id = job->id, .since = mono_now()};
	ckptd_name_copy(info->ve, job->ve);
	memcpy(freeze.name, job->ve, sizeof(freeze.name));
	if (msg_ved_freeze_pack(&freeze, &body) < 0 ||
	    rpc_request(shell->ved, MSG_VED_FREEZE, body.data, body.size, shell->settings.hold_ms,
		on_frozen, job) < 0)
		post(job, (struct ckptd_event){.kind = CKPTD_EV_FROZEN, .result = -EIO});
}

static void on_health(void *userdata, const char *fault)
{
	struct job *job = userdata;

	if (!*fault) {
		freeze_well(job);
		return;
	}
	complain(job, "freeze", fault);
	post(job, (struct ckptd_event){.kind = CKPTD_EV_FROZEN, .result = -EAGAIN});
}

void local_freeze(struct shell *shell, const struct ckptd_action *action)
{
	struct job *job = job_new(shell, action);

	health_ask(shell, job->ve, job->ve_epoch, on_health, job);
}

static void image_dir(const struct shell *shell, const char *ve, uint64_t id, char path[IMAGE_PATH])
{
	snprintf(path, IMAGE_PATH, "%s/%s.%016" PRIx64, shell->images_dir, ve, id);
}

static void on_dumped(void *userdata, const struct rpc_answer *answer)
{
	struct job *job = userdata;
	struct ckptd_event event = {.kind = CKPTD_EV_CAPTURED};

	crash_point("ckptd.dumped");
	event.image.frozen_ms = frozen_ms(job->shell, job->ve, job->id);
	if (answer->status != RPC_OK) {
		complain(job, "dump", answer->error);
		event.result = -EIO;
	}
	post(job, event);
}

void local_dump(struct shell *shell, const struct ckptd_action *action)
{
	struct msg_ved_dump dump = {.epoch = action->ve_epoch, .hold = action->id};
	struct job *job = job_new(shell, action);
	_cleanup_buf_ struct buf body = {0};
	char path[IMAGE_PATH];

	image_dir(shell, action->ve, action->id, path);
	memcpy(dump.name, action->ve, sizeof(dump.name));
	if (mkdir(path, 0750) < 0 && errno != EEXIST) {
		complain(job, path, strerror(errno));
		post(job, (struct ckptd_event){.kind = CKPTD_EV_CAPTURED, .result = -EIO});
		return;
	}
	snprintf(dump.image_dir, sizeof(dump.image_dir), "%s", path);
	if (msg_ved_dump_pack(&dump, &body) < 0 ||
	    rpc_request(shell->ved, MSG_VED_DUMP, body.data, body.size, shell->settings.dump_ms,
		on_dumped, job) < 0)
		post(job, (struct ckptd_event){.kind = CKPTD_EV_CAPTURED, .result = -EIO});
}

static void thaw(struct job *job);

static int on_thaw_again(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct job *job = userdata;

	(void)source;
	(void)usec;
	job->timer = sd_event_source_unref(job->timer);
	thaw(job);
	return 0;
}

/* ved does one thing at a time for each VE and may be busy; in the end its own timer thaws. */
static void thaw_later(struct job *job, const char *why)
{
	uint64_t at = (uint64_t)mono_add_ms(mono_now(), THAW_RETRY_MS).ns / 1000;

	if (++job->tries < THAW_TRIES && sd_event_add_time(job->shell->daemon->loop, &job->timer,
					     MONO_CLOCK, at, 1000, on_thaw_again, job) >= 0)
		return;
	complain(job, "thaw", why);
	job_free(job);
}

static void on_thawed(void *userdata, const struct rpc_answer *answer)
{
	struct job *job = userdata;

	crash_point("ckptd.thawed");
	if (answer->status == RPC_OK || answer->status == RPC_NOT_FOUND ||
	    answer->status == RPC_DENIED)
		job_free(job);
	else
		thaw_later(job, answer->error);
}

static void thaw(struct job *job)
{
	struct msg_ved_thaw message = {.epoch = job->ve_epoch, .hold = job->id};
	_cleanup_buf_ struct buf body = {0};

	memcpy(message.name, job->ve, sizeof(message.name));
	if (msg_ved_thaw_pack(&message, &body) < 0 ||
	    rpc_request(job->shell->ved, MSG_VED_THAW, body.data, body.size, LOCAL_TIMEOUT_MS,
		on_thawed, job) < 0)
		thaw_later(job, "no request could be sent to ved");
}

void local_thaw(struct shell *shell, const struct ckptd_action *action)
{
	thaw(job_new(shell, action));
}

/* ---- gosd */

static void on_stored(void *userdata, const struct rpc_answer *answer)
{
	struct job *job = userdata;
	struct shell *shell = job->shell;
	struct ckptd_event event = {.kind = CKPTD_EV_STORED, .result = -EIO};
	struct msg_gosd_put_done done;
	struct mpr_error error;

	if (answer->more)
		return;
	crash_point("ckptd.stored");
	if (answer->status != RPC_OK) {
		complain(job, "store", answer->error);
	} else if (msg_gosd_put_done_unpack(&done, answer->body, answer->size, &error) < 0) {
		complain(job, "store", error.text);
	} else {
		event.result = 0;
		oid_format(event.image.oid, done.oid);
		event.image.bytes = done.bytes;
		for (size_t i = 0; i < done.replicas.count; i++) {
			const struct peer *peer =
			    peers_by_name(&shell->daemon->node.peers, done.replicas.item[i]);

			if (peer && event.image.n_replicas < CKPTD_REPLICAS_MAX)
				event.image.replicas[event.image.n_replicas++] = peer->id;
		}
	}
	post(job, event);
}

/* The key of the VE's images, from its fact, opened with this node's key. */
static int open_key(const struct shell *shell, const struct fact *fact, uint8_t key[32])
{
	struct msg_migrated_key_fact sealed;
	struct mpr_error error;

	if (!fact->version)
		return -ENOKEY;
	if (msg_migrated_key_fact_unpack(&sealed, fact->value.data, fact->value.size, &error) < 0)
		return -EBADMSG;
	return service_key_open(&sealed, shell->daemon, key);
}

static int put(struct job *job, const uint8_t key[32])
{
	struct shell *shell = job->shell;
	struct msg_gosd_put message = {.has_key = true, .copies = (uint8_t)job->copies};
	_cleanup_buf_ struct buf body = {0};
	char path[IMAGE_PATH];
	int r;

	image_dir(shell, job->ve, job->id, path);
	snprintf(message.path, sizeof(message.path), "%s", path);
	memcpy(message.key, key, sizeof(message.key));
	image_name(message.name, job->ve, job->id);
	snprintf(message.kind, sizeof(message.kind), "image");
	r = msg_gosd_put_pack(&message, &body);
	if (r == 0 && rpc_request(shell->gosd, MSG_GOSD_PUT, body.data, body.size,
			  shell->settings.dump_ms, on_stored, job) < 0)
		r = -EIO;
	sodium_memzero(&message, sizeof(message));
	if (body.size)
		sodium_memzero(body.data, body.size);
	return r;
}

static void on_key(struct reading *reading)
{
	struct job *job = reading->userdata;
	uint8_t key[32];
	int r = reading->failed ? -EIO : open_key(job->shell, &reading->facts[0], key);

	if (r == 0)
		r = put(job, key);
	sodium_memzero(key, sizeof(key));
	if (r == 0)
		return;
	complain(job, "store: key of its images", strerror(-r));
	post(job, (struct ckptd_event){.kind = CKPTD_EV_STORED, .result = r});
}

void local_store(struct shell *shell, const struct ckptd_action *action)
{
	struct reading *reading = reading_new(shell, on_key, job_new(shell, action));

	reading_add(reading, "key/%s", action->ve);
	reading_go(reading);
}

static void on_removed(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	if (answer->status != RPC_OK && answer->status != RPC_NOT_FOUND)
		log_info("an image was not removed, a sweep will do it: %s", answer->error);
}

void local_remove(
    struct shell *shell, const uint8_t oid[32], const char *ve, uint64_t id, bool only_here)
{
	struct msg_gosd_rm message = {.has_name = true, .local = only_here};
	_cleanup_buf_ struct buf body = {0};

	memcpy(message.oid, oid, sizeof(message.oid));
	image_name(message.name, ve, id);
	if (msg_gosd_rm_pack(&message, &body) == 0)
		rpc_request(shell->gosd, MSG_GOSD_RM, body.data, body.size, LOCAL_TIMEOUT_MS,
		    on_removed, NULL);
}

/* ---- directories */

static void remove_dir(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && unlinkat(dirfd(dir), entry->d_name, 0) < 0)
			log_warning("remove %s/%s: %s", path, entry->d_name, strerror(errno));
	}
	if (dir)
		closedir(dir);
	if (rmdir(path) < 0 && errno != ENOENT)
		log_warning("remove %s: %s", path, strerror(errno));
}

void local_clean(struct shell *shell, const struct ckptd_action *action)
{
	char path[IMAGE_PATH];
	uint8_t oid[32];

	image_dir(shell, action->ve, action->id, path);
	remove_dir(path);
	if (!action->keep && action->image.oid[0] && oid_parse(oid, action->image.oid) == 0)
		local_remove(shell, oid, action->ve, action->id, false);
}

static bool wanted(
    const struct shell *shell, const struct ckptd_record *records, size_t n, const char *path)
{
	char mine[IMAGE_PATH];

	for (size_t i = 0; i < n; i++) {
		image_dir(shell, records[i].ve, records[i].id, mine);
		if (records[i].state == CKPTD_SEAT_CAPTURED && !strcmp(mine, path))
			return true;
	}
	return false;
}

void local_tidy(struct shell *shell, const struct ckptd_record *records, size_t n)
{
	DIR *dir = opendir(shell->images_dir);
	struct dirent *entry;
	char path[600];

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", shell->images_dir, entry->d_name);
		if (entry->d_name[0] != '.' && !wanted(shell, records, n, path))
			remove_dir(path);
	}
	if (dir)
		closedir(dir);
}
