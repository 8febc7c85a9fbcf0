/*
 * What RUN and END mean: the bundle and, for a restore, the image are fetched from gosd, then ved is asked.
 * Bundles stay (another epoch needs the same one); images are removed when ved has read them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrated/shell.h"
#include "proto/gosd.h"
#include "proto/ved.h"

#define FETCH_MS 600000
#define VED_MS 120000
#define LIST_MS 2000

struct launcher {
	struct daemon *daemon;
	struct shell *shell;
	struct keys *keys;
	struct rpc_client *ved, *gosd;
	struct msg_ved_listed listed; /* large: kept here */
	struct migrated_local locals[MIGRATED_VES_MAX];
	bool heard, tells_mounts; /* ved has answered; and said what may be mounted */
	char mounts[sizeof(((struct msg_ved_listed *)0)->mounts)];
};

/* One RUN on its way. */
struct launch {
	struct launcher *launcher;
	struct msg_migrated_ve_fact fact;
	char bundle_dir[256], image_dir[256];
	uint8_t key[KEY_SIZE];
};

int launcher_new(
    struct launcher **out, struct daemon *daemon, struct shell *shell, struct keys *keys)
{
	struct launcher *launcher = calloc(1, sizeof(*launcher));
	const char *run_dir = daemon->node.run_dir;
	int r;

	if (!launcher)
		return -ENOMEM;
	launcher->daemon = daemon;
	launcher->shell = shell;
	launcher->keys = keys;
	r = rpc_client_new_local(&launcher->ved, daemon->zmq, daemon->loop, run_dir, "ved");
	if (r == 0)
		r = rpc_client_new_local(
		    &launcher->gosd, daemon->zmq, daemon->loop, run_dir, "gosd");
	if (r < 0) {
		launcher_free(launcher);
		return r;
	}
	*out = launcher;
	return 0;
}

struct launcher *launcher_free(struct launcher *launcher)
{
	if (!launcher)
		return NULL;
	rpc_client_free(launcher->ved);
	rpc_client_free(launcher->gosd);
	free(launcher);
	return NULL;
}

/* --- list --- */

static bool is_running(enum msg_ved_state state)
{
	return state != MSG_VED_STATE_ABSENT && state != MSG_VED_STATE_DEAD &&
	       state != MSG_VED_STATE_STOPPING;
}

static void note_mounts(struct launcher *launcher)
{
	launcher->heard = true;
	launcher->tells_mounts = launcher->listed.has_mounts;
	memcpy(launcher->mounts, launcher->listed.mounts, sizeof(launcher->mounts));
}

bool launcher_mounts(const struct launcher *launcher, const char **mounts)
{
	*mounts = launcher->tells_mounts ? launcher->mounts : NULL;
	return launcher->heard;
}

static bool is_whole(enum msg_ved_state state)
{
	return is_running(state) && state != MSG_VED_STATE_RECOVERING &&
	       state != MSG_VED_STATE_STARTING && state != MSG_VED_STATE_RESTORING;
}

static void on_listed(void *userdata, const struct rpc_answer *answer)
{
	struct launcher *launcher = userdata;
	struct migrated_event event = {.kind = MIGRATED_LOCALS, .locals = launcher->locals};
	struct msg_ved_listed *listed = &launcher->listed;
	struct mpr_error error;
	bool unfenced;

	event.ok = answer->status == RPC_OK &&
		   msg_ved_listed_unpack(listed, answer->body, answer->size, &error) == 0;
	unfenced = event.ok && listed->has_fence && listed->fence == MSG_VED_FENCE_NONE;
	event.unfenced = unfenced;
	for (size_t i = 0; event.ok && i < listed->ves.count && i < MIGRATED_VES_MAX; i++) {
		struct migrated_local *local = &launcher->locals[event.count++];

		snprintf(local->name, sizeof(local->name), "%s", listed->ves.item[i].name);
		local->epoch = listed->ves.item[i].epoch;
		local->running = is_running(listed->ves.item[i].state);
		local->whole = is_whole(listed->ves.item[i].state);
		local->stopping = listed->ves.item[i].state == MSG_VED_STATE_STOPPING;
		local->unfenced = listed->ves.item[i].has_fence
				      ? listed->ves.item[i].fence == MSG_VED_FENCE_NONE
				      : unfenced;
	}
	shell_step(launcher->shell, &event);
	if (event.ok)
		note_mounts(launcher);
	if (event.ok)
		shell_listed(launcher->shell, launcher->locals, event.count);
}

void launcher_list(struct launcher *launcher)
{
	if (rpc_request(launcher->ved, MSG_VED_LIST, NULL, 0, LIST_MS, on_listed, launcher) < 0)
		on_listed(
		    launcher, &(struct rpc_answer){.status = RPC_FAILED, .error = "no memory"});
}

/* --- run --- */

/* The directory was written by gosd for our group; its files lie flat in it. */
static void remove_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!directory) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(dirfd(directory), entry->d_name, 0);
	closedir(directory);
	if (rmdir(path) < 0)
		log_warning("remove %s: %s", path, strerror(errno));
}

static void finish(struct launch *launch, int result, const char *reason)
{
	struct shell *shell = launch->launcher->shell;
	struct migrated_event event = {.kind = MIGRATED_RAN,
	    .name = launch->fact.name,
	    .epoch = launch->fact.epoch,
	    .result = result,
	    .reason = reason,
	    .trouble = launch->fact.has_start_from ? MSG_MIGRATED_TROUBLE_RESTORE_FAILED
						   : MSG_MIGRATED_TROUBLE_START_FAILED};

	if (result < 0)
		log_warning("%s: %s ve=%s epoch=%" PRIu64,
		    launch->fact.has_start_from ? "restore" : "start", reason, launch->fact.name,
		    launch->fact.epoch);
	if (*launch->image_dir)
		remove_directory(launch->image_dir);
	shell_step(shell, &event);
	sodium_memzero(launch->key, sizeof(launch->key));
	free(launch);
}

/* Out of reach before ved was asked: nothing was begun, and it is not what it is made of that is at fault. */
static void finish_fetch(struct launch *launch, const struct rpc_answer *answer)
{
	bool away = answer->status == RPC_UNREACHABLE || answer->status == RPC_TIMEOUT;

	finish(launch, away ? -EHOSTUNREACH : -EIO, answer->error);
}

static void on_ved(void *userdata, const struct rpc_answer *answer)
{
	struct launch *launch = userdata;

	if (answer->more)
		return;
	if (answer->status == RPC_OK)
		finish(launch, 0, "");
	else if (answer->status == RPC_UNREACHABLE || answer->status == RPC_TIMEOUT)
		finish(launch, -ETIMEDOUT, answer->error);
	else if (strstr(answer->error, "busy"))
		finish(launch, -EAGAIN, answer->error);
	else
		finish(launch, -EIO, answer->error);
}

/* As it is now: it was renewed while bundle and image came.  One that has run out, or has not begun, is a closed gate, not an open one. */
static uint64_t lease_of(const struct launch *launch)
{
	struct mono until = migrated_lease_until(
	    shell_core(launch->launcher->shell), launch->fact.name, launch->fact.epoch);

	return until.ns > 0 ? (uint64_t)until.ns : 1;
}

static int pack_start(const struct launch *launch, struct buf *body)
{
	struct msg_ved_start request = {.epoch = launch->fact.epoch,
	    .until_ns = lease_of(launch),
	    .unfenced = launch->fact.unfenced,
	    .shared = launch->fact.shared};

	memcpy(request.name, launch->fact.name, sizeof(request.name));
	memcpy(request.bundle, launch->fact.bundle, sizeof(request.bundle));
	memcpy(request.bundle_dir, launch->bundle_dir, sizeof(launch->bundle_dir));
	memcpy(request.address, launch->fact.address, sizeof(request.address));
	memcpy(request.gateway, launch->fact.gateway, sizeof(request.gateway));
	return msg_ved_start_pack(&request, body);
}

static int pack_restore(const struct launch *launch, struct buf *body)
{
	struct msg_ved_restore request = {.epoch = launch->fact.epoch,
	    .until_ns = lease_of(launch),
	    .unfenced = launch->fact.unfenced,
	    .shared = launch->fact.shared};

	memcpy(request.name, launch->fact.name, sizeof(request.name));
	memcpy(request.bundle, launch->fact.bundle, sizeof(request.bundle));
	memcpy(request.bundle_dir, launch->bundle_dir, sizeof(launch->bundle_dir));
	memcpy(request.image_dir, launch->image_dir, sizeof(launch->image_dir));
	memcpy(request.address, launch->fact.address, sizeof(request.address));
	memcpy(request.gateway, launch->fact.gateway, sizeof(request.gateway));
	return msg_ved_restore_pack(&request, body);
}

static void ask_ved(struct launch *launch)
{
	bool restores = launch->fact.has_start_from;
	_cleanup_buf_ struct buf body = {0};
	int r = restores ? pack_restore(launch, &body) : pack_start(launch, &body);

	if (r < 0 || rpc_request(launch->launcher->ved, restores ? MSG_VED_RESTORE : MSG_VED_START,
			 body.data, body.size, VED_MS, on_ved, launch) < 0)
		finish(launch, -EAGAIN, "no memory");
}

static int ask_gosd(struct launch *launch, const uint8_t oid[32], const char *path,
    const uint8_t *key, rpc_done done)
{
	struct msg_gosd_get request = {.has_key = key != NULL};
	_cleanup_buf_ struct buf body = {0};
	int64_t id;

	memcpy(request.oid, oid, sizeof(request.oid));
	snprintf(request.path, sizeof(request.path), "%s", path);
	if (key)
		memcpy(request.key, key, sizeof(request.key));
	msg_gosd_get_pack(&request, &body);
	sodium_memzero(request.key, sizeof(request.key));
	id = rpc_request(
	    launch->launcher->gosd, MSG_GOSD_GET, body.data, body.size, FETCH_MS, done, launch);
	return id < 0 ? (int)id : 0;
}

static void on_image(void *userdata, const struct rpc_answer *answer)
{
	struct launch *launch = userdata;

	if (answer->more)
		return;
	if (answer->status == RPC_OK)
		ask_ved(launch);
	else
		finish_fetch(launch, answer);
}

static void finish_keyless(struct launch *launch, int result)
{
	char reason[MIGRATED_REASON];

	snprintf(reason, sizeof(reason), "%s %s", launch->launcher->daemon->node.name,
	    result == -ENOKEY         ? "has no seal of the service's key"
	    : result == -EKEYREJECTED ? "cannot open its seal of the service's key"
				      : "cannot read the service's key");
	if (result == -EKEYREJECTED)
		result = -ENOKEY; /* it may be made anew */
	finish(launch,
	    result == -ENOKEY                        ? -ENOKEY
	    : result == -EAGAIN || result == -ENOMEM ? -EAGAIN
						     : -EIO,
	    reason);
}

static void on_key(void *userdata, int result, const uint8_t key[KEY_SIZE])
{
	struct launch *launch = userdata;
	uint32_t suffix = randombytes_random();

	if (result < 0) {
		finish_keyless(launch, result);
		return;
	}
	snprintf(launch->image_dir, sizeof(launch->image_dir),
	    "%.120s/images/%s-%" PRIu64 "-%08" PRIx32, launch->launcher->daemon->node.run_dir,
	    launch->fact.name, launch->fact.epoch, suffix);
	if (ask_gosd(launch, launch->fact.start_from, launch->image_dir, key, on_image) < 0)
		finish(launch, -EAGAIN, "no memory");
}

static void after_bundle(struct launch *launch)
{
	if (launch->fact.has_start_from)
		keys_open(launch->launcher->keys, launch->fact.name, on_key, launch);
	else
		ask_ved(launch);
}

/* gosd.get is all or nothing: what is there is whole. */
static bool has_bundle(const struct launch *launch)
{
	return access(launch->bundle_dir, X_OK) == 0;
}

static void on_bundle(void *userdata, const struct rpc_answer *answer)
{
	struct launch *launch = userdata;

	if (answer->more)
		return;
	/* Another VE that runs the same bundle may have had it fetched meanwhile. */
	if (answer->status == RPC_OK || has_bundle(launch))
		after_bundle(launch);
	else
		finish_fetch(launch, answer);
}

void launcher_run(struct launcher *launcher, const struct msg_migrated_ve_fact *fact)
{
	struct launch *launch = calloc(1, sizeof(*launch));
	char hex[2 * sizeof(fact->bundle) + 1];

	if (!launch) {
		log_error("no memory: %s is not started", fact->name);
		return;
	}
	launch->launcher = launcher;
	launch->fact = *fact;
	sodium_bin2hex(hex, sizeof(hex), fact->bundle, sizeof(fact->bundle));
	snprintf(launch->bundle_dir, sizeof(launch->bundle_dir), "%.180s/bundles/%s",
	    launcher->daemon->node.state_dir, hex);
	if (has_bundle(launch))
		after_bundle(launch);
	else if (ask_gosd(launch, fact->bundle, launch->bundle_dir, NULL, on_bundle) < 0)
		finish(launch, -EAGAIN, "no memory");
}

/* --- end --- */

struct ending {
	struct launcher *launcher;
	char name[NODE_NAME_MAX + 1];
};

static void on_stopped(void *userdata, const struct rpc_answer *answer)
{
	struct ending *ending = userdata;
	struct shell *shell = ending->launcher->shell;
	struct migrated_event event = {
	    .kind = MIGRATED_ENDED, .name = ending->name, .result = (int)answer->status};

	if (answer->more)
		return;
	if (answer->status != RPC_OK)
		log_warning("stop: %s ve=%s", answer->error, ending->name);
	shell_step(shell, &event);
	free(ending);
}

void launcher_end(struct launcher *launcher, const char *name, uint64_t epoch, bool silent)
{
	struct ending *ending = calloc(1, sizeof(*ending));
	struct msg_ved_stop request = {.epoch = epoch, .grace_ms = 10000, .silent = silent};
	_cleanup_buf_ struct buf body = {0};

	if (!ending)
		return;
	ending->launcher = launcher;
	snprintf(ending->name, sizeof(ending->name), "%s", name);
	snprintf(request.name, sizeof(request.name), "%s", name);
	msg_ved_stop_pack(&request, &body);
	if (rpc_request(
		launcher->ved, MSG_VED_STOP, body.data, body.size, VED_MS, on_stopped, ending) < 0)
		on_stopped(
		    ending, &(struct rpc_answer){.status = RPC_FAILED, .error = "no memory"});
}

/* --- objects of a VE that was removed --- */

static void on_discarded(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	if (!answer->more && answer->status != RPC_OK && answer->status != RPC_NOT_FOUND)
		log_warning("remove an object: %s", answer->error);
}

void launcher_discard(struct launcher *launcher, const uint8_t oid[32], const char *name)
{
	struct msg_gosd_rm request = {.has_name = name != NULL};
	_cleanup_buf_ struct buf body = {0};

	memcpy(request.oid, oid, sizeof(request.oid));
	snprintf(request.name, sizeof(request.name), "%s", name ? name : "");
	msg_gosd_rm_pack(&request, &body);
	if (rpc_request(launcher->gosd, MSG_GOSD_RM, body.data, body.size, FETCH_MS, on_discarded,
		NULL) < 0)
		log_warning("remove an object: no memory");
}
