/*
 * The part that all engines share, which is nearly all: a runner (crun, LXC) makes the container, CRIU writes it down and
 * brings it back, and what lies around it (overlay, network, control groups, record) is ved's own, so that a VE is the same
 * thing however it came to run.
 *
 * Order.  Making: record first (who finds it half made removes it), then files, network, groups, tasks.  Removing: tasks,
 * network, files, groups, record last.  Freezing: gate, then tasks.  A dump: frozen throughout, tasks by criu, then the
 * upper directory.  The gate stays shut from before the freeze until the thaw, not only while criu works: of several VEs
 * written down together, one that is thawed early must not put a later message into an image that is still being made.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "common/crashpoint.h"
#include "ved/archive.h"
#include "ved/bundle.h"
#include "ved/criu.h"
#include "ved/engine.h"
#include "ved/fence.h"
#include "ved/files.h"
#include "ved/net.h"
#include "ved/overlay.h"
#include "ved/record.h"
#include "ved/runner.h"

enum {
	FREEZE_TIMEOUT_MS = 2000,
	KILL_TIMEOUT_MS = 5000,
	TERM_POLL_MS = 20,
	LAST_REQUESTS_US = 2000, /* some round trips of a local network */
};

/* All the parts of one VE, found by its name. */
struct parts {
	const struct engine_config *config;
	char dir[VE_PATH * 2]; /* RUN/ve/NAME */
	struct overlay overlay;
	struct net net;
	struct cgroup cgroup;
	char name[VE_NAME];
};

static int64_t clock_us(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int find_parts(
    struct parts *parts, const struct engine_config *config, const struct ve_spec *spec)
{
	int rc = path_set(parts->dir, "%s/ve/%s", config->run, spec->name);

	parts->config = config;
	if (rc == 0)
		rc = overlay_find(&parts->overlay, config, spec);
	if (rc == 0)
		rc = net_find(&parts->net, config, spec->name);
	if (rc == 0)
		rc = cgroup_find(&parts->cgroup, config->cgroup, spec->name);
	if (rc == 0)
		rc = path_set(parts->name, "%s", spec->name);
	return rc;
}

static int check_spec(const struct ve_spec *spec, struct engine_error *error)
{
	if (!ve_name_ok(spec->name))
		return engine_refuse(error, -EINVAL, "name \"%s\": 1 to %d of a-z, 0-9 and -",
		    spec->name, VE_NAME - 1);
	if (!ve_oid_ok(spec->bundle))
		return engine_refuse(
		    error, -EINVAL, "bundle id \"%s\": letters, digits, - and _", spec->bundle);
	return 0;
}

/* ---- making and removing ---- */

static enum fence_kind fence_of(const struct engine_config *config, const struct ve_spec *spec)
{
	return spec->until_ns ? config->fence : FENCE_NONE;
}

/* Network and control group; with a lease, behind a fence that is there before anything could pass. */
static int make_border(const struct parts *parts, const struct engine_config *config,
    const struct ve_spec *spec, const struct cgroup_limits *limits, enum net_gate gate,
    struct engine_error *error)
{
	enum fence_kind kind = fence_of(config, spec);
	struct fence fence = {.map = -1};
	const struct fence *used = kind == FENCE_NONE ? NULL : &fence;
	int rc = 0;

	if (used)
		rc = fence_make(&fence, kind, config, spec->name, parts->net.host, error);
	if (rc == 0 && used && (rc = fence_set(used, spec->until_ns)) < 0)
		engine_fail(error, rc, "set the fence of %s", spec->name);
	if (rc == 0)
		rc = net_make(&parts->net, config, spec, gate, used, error);
	if (rc == 0 && (rc = cgroup_make(&parts->cgroup, limits)) < 0)
		engine_fail(error, rc, "make control group %s", parts->cgroup.unified);
	if (rc == 0 && used)
		rc = fence_cgroup(used, parts->cgroup.unified, error);
	fence_close(&fence);
	return rc;
}

/* Everything but the tasks, in the order of making. A failure leaves the rest to remove(). */
static int make_parts(const struct parts *parts, const struct engine_config *config,
    const struct ve_spec *spec, const char *bundle_dir, const char *upper_tar, enum net_gate gate,
    struct engine_error *error)
{
	struct ve_record record = {
	    .spec = *spec, .state = RECORD_STARTING, .fence = fence_of(config, spec)};
	struct cgroup_limits limits;
	char work[VE_PATH * 3];
	int rc = path_set(work, "%s/criu", parts->dir);

	if (rc == 0)
		rc = dir_make(work, 0700);
	if (rc == 0)
		rc = record_save(config, &record);
	if (rc < 0)
		return engine_fail(error, rc, "write the record in %s", parts->dir);
	rc = bundle_prepare(bundle_dir, config, spec, parts->overlay.root, parts->net.netns,
	    parts->dir, &limits, error);
	if (rc == 0)
		rc = overlay_make(&parts->overlay, bundle_dir, upper_tar, error);
	return rc < 0 ? rc : make_border(parts, config, spec, &limits, gate, error);
}

enum farewell {
	ALOUD, /* tasks die first: their sockets tell the peers */
	SILENTLY, /* the link goes first: no FIN or RST gets out, and connections can live on in a copy */
};

/* Tasks, network, files, groups, record; goes on after a failure and tells the first. */
static int remove_parts(
    const struct parts *parts, enum farewell farewell, struct engine_error *error)
{
	const char *what = "kill the tasks of";
	int rc = 0, next;

	if (farewell == SILENTLY)
		net_remove(&parts->net); /* a failure shows again below */
	rc = cgroup_kill(&parts->cgroup, KILL_TIMEOUT_MS);

	if ((next = net_remove(&parts->net)) < 0 && rc == 0)
		rc = next, what = "remove the network of";
	if ((next = overlay_remove(&parts->overlay)) < 0 && rc == 0)
		rc = next, what = "remove the files of";
	if ((next = cgroup_remove(&parts->cgroup)) < 0 && rc == 0)
		rc = next, what = "remove the control groups of";
	if ((next = fence_remove(parts->config, parts->name)) < 0 && rc == 0)
		rc = next, what = "remove the fence of";
	if (rc == 0 && (rc = dir_remove(parts->dir)) < 0)
		what = "remove the record of";
	return rc < 0 ? engine_fail(error, rc, "%s %s", what, parts->dir) : 0;
}

/* After a failed start or restore; the first error is the one to tell. */
static void remove_failed(const struct parts *parts)
{
	struct engine_error ignored;

	remove_parts(parts, SILENTLY, &ignored);
}

static int save_running(const struct engine_config *config, const struct ve_spec *spec, pid_t pid,
    struct engine_error *error)
{
	struct ve_record record = {
	    .spec = *spec, .state = RECORD_RUNNING, .pid = pid, .fence = fence_of(config, spec)};
	int rc = process_start_ticks(pid, &record.start_ticks);

	if (rc < 0)
		return engine_refuse(error, rc, "%s ended as soon as it ran", spec->name);
	rc = record_save(config, &record);
	return rc < 0 ? engine_fail(error, rc, "write the record of %s", spec->name) : 0;
}

/* ---- start ---- */

static int run(
    const struct parts *parts, const struct ve_spec *spec, pid_t *pid, struct engine_error *error)
{
	const struct runner_order order = {.program = parts->config->runner[spec->engine],
	    .cgroup = &parts->cgroup,
	    .dir = parts->dir,
	    .root = parts->overlay.root,
	    .netns = parts->net.netns,
	    .name = spec->name};

	return runner_run(runners[spec->engine], &order, pid, error);
}

int engine_start(const struct engine_config *config, const struct ve_spec *spec,
    const char *bundle_dir, struct engine_error *error)
{
	struct parts parts;
	pid_t pid = 0;
	int rc = check_spec(spec, error);

	if (rc < 0)
		return rc;
	rc = find_parts(&parts, config, spec);
	if (rc < 0)
		return engine_fail(error, rc, "find a place for %s", spec->name);
	if (access(parts.dir, F_OK) == 0)
		return engine_refuse(error, -EEXIST, "%s is here already", spec->name);
	rc = make_parts(&parts, config, spec, bundle_dir, NULL, GATE_PASS, error);
	if (rc == 0)
		rc = run(&parts, spec, &pid, error);
	if (rc == 0)
		rc = save_running(config, spec, pid, error);
	if (rc < 0)
		remove_failed(&parts);
	else
		net_announce(&parts.net, spec);
	return rc;
}

/* ---- restore ---- */

/* What has made the container is told by the image. */
static int check_image(const char *image_dir, struct ve_spec *spec, struct engine_error *error)
{
	struct image_info image, here = {0};
	int rc = image_load(image_dir, &image);

	if (rc < 0)
		return engine_fail(error, rc, "read %s/ve.json", image_dir);
	image_describe(&here);
	if (image.version != IMAGE_VERSION)
		return engine_refuse(error, -EPROTONOSUPPORT,
		    "image %s has layout %d, this ved reads %d", image_dir, image.version,
		    IMAGE_VERSION);
	if (strcmp(image.machine, here.machine) != 0)
		return engine_refuse(error, -ENOEXEC, "image %s is of a %s, this node is a %s",
		    image_dir, image.machine, here.machine);
	if (strcmp(image.spec.bundle, spec->bundle) != 0)
		return engine_refuse(error, -EINVAL, "image %s was made with bundle %s, not %s",
		    image_dir, image.spec.bundle, spec->bundle);
	if (strcmp(image.spec.address, spec->address) != 0)
		return engine_refuse(error, -EINVAL, "image %s has address %s, not %s", image_dir,
		    image.spec.address, spec->address);
	spec->engine = image.spec.engine;
	return 0;
}

struct connected {
	const struct parts *parts;
	const struct ve_spec *spec;
	struct engine_times *times;
};

/* Connections are whole and tasks about to run: tell where the address is, and let in what waits. */
static int on_connected(void *data)
{
	const struct connected *connected = data;

	net_announce(&connected->parts->net, connected->spec);
	connected->times->announced_at_us = clock_us(CLOCK_BOOTTIME);
	return net_gate(&connected->parts->net, GATE_PASS);
}

static int restore_tasks(const struct engine_config *config, const struct parts *parts,
    const struct ve_spec *spec, const char *image_dir, struct engine_times *times,
    struct engine_error *error)
{
	char work[VE_PATH * 3];
	struct connected connected = {parts, spec, times};
	struct binds binds;
	struct criu_job job = {
	    .program = config->criu,
	    .image_dir = image_dir,
	    .work_dir = work,
	    .netns = parts->net.netns,
	    .cgroup = &parts->cgroup,
	    .root = parts->overlay.root,
	    .binds = &binds,
	    .on_connected = on_connected,
	    .data = &connected,
	};
	pid_t pid = 0;
	int rc;

	path_set(work, "%s/criu", parts->dir);
	rc = binds_load(parts->dir, &binds, error);
	if (rc == 0)
		rc = criu_restore(&job, &pid, error);
	return rc < 0 ? rc : save_running(config, spec, pid, error);
}

int engine_restore(const struct engine_config *config, const struct ve_spec *wanted,
    const char *bundle_dir, const char *image_dir, struct engine_times *times,
    struct engine_error *error)
{
	int64_t begin = clock_us(CLOCK_MONOTONIC), made;
	char upper[VE_PATH * 2];
	struct ve_spec own = *wanted, *spec = &own;
	struct parts parts;
	int rc = check_spec(spec, error);

	if (rc == 0)
		rc = check_image(image_dir, spec, error);
	if (rc < 0)
		return rc;
	rc = find_parts(&parts, config, spec);
	if (rc == 0)
		rc = path_set(upper, "%s/upper.tar", image_dir);
	if (rc < 0)
		return engine_fail(error, rc, "find a place for %s", spec->name);
	if (access(parts.dir, F_OK) == 0)
		return engine_refuse(error, -EEXIST, "%s is here already", spec->name);
	rc = make_parts(&parts, config, spec, bundle_dir, upper, GATE_HOLD, error);
	made = clock_us(CLOCK_MONOTONIC);
	if (rc == 0 && spec->until_ns)
		times->armed_at_us = clock_us(CLOCK_BOOTTIME);
	if (rc == 0)
		rc = restore_tasks(config, &parts, spec, image_dir, times, error);
	if (rc < 0)
		remove_failed(&parts);
	times->files_us = made - begin;
	times->criu_us = clock_us(CLOCK_MONOTONIC) - made;
	times->total_us = clock_us(CLOCK_MONOTONIC) - begin;
	times->image_bytes = dir_bytes(image_dir);
	return rc;
}

/* ---- freeze, thaw ---- */

static int load_parts(const struct engine_config *config, const char *name,
    struct ve_record *record, struct parts *parts, struct engine_error *error)
{
	int rc = record_load(config, name, record);

	if (rc == -ENOENT)
		return engine_refuse(error, rc, "%s is not here", name);
	if (rc == 0)
		rc = find_parts(parts, config, &record->spec);
	if (rc < 0)
		return engine_fail(error, rc, "read the record of %s", name);
	return record->alive ? 0 : engine_refuse(error, -ESRCH, "%s has ended", name);
}

static int hold_record(const struct engine_config *config, struct ve_record *record, int64_t max_ms)
{
	record->state = RECORD_FROZEN;
	record->thaw_by_ms = clock_us(CLOCK_BOOTTIME) / 1000 + max_ms;
	return record_save(config, record);
}

/* The record says "frozen" before it is, and "running" after it runs: a crash between leaves a VE that will be thawed. */
static int hold(const struct engine_config *config, struct ve_record *record,
    const struct parts *parts, int64_t max_ms, struct engine_error *error)
{
	int rc = hold_record(config, record, max_ms);

	crash_point("ved-worker.freeze-recorded");
	if (rc == 0)
		rc = net_gate(&parts->net, GATE_HOLD);
	crash_point("ved-worker.gate-shut");
	if (rc == 0)
		rc = cgroup_freeze(&parts->cgroup, FREEZE_TIMEOUT_MS);
	crash_point("ved-worker.frozen");
	if (rc == 0)
		rc = net_mute(&parts->net, true);
	return rc < 0 ? engine_fail(error, rc, "freeze %s", record->spec.name) : 0;
}

/*
 * The same for a VE that is to go on elsewhere: what waits at the gate would be lost, and come again only after a
 * retransmission timeout.  So the gate stays open a little longer: requests that answer the last replies are still taken
 * by the VE's kernel, and travel in the image.
 */
static int hold_for_move(const struct engine_config *config, struct ve_record *record,
    const struct parts *parts, int64_t max_ms, struct engine_error *error)
{
	int rc = hold_record(config, record, max_ms);

	if (rc == 0)
		rc = cgroup_freeze(&parts->cgroup, FREEZE_TIMEOUT_MS);
	if (rc == 0) {
		usleep(LAST_REQUESTS_US);
		rc = net_gate(&parts->net, GATE_HOLD);
	}
	if (rc == 0)
		rc = net_mute(&parts->net, true);
	return rc < 0 ? engine_fail(error, rc, "freeze %s", record->spec.name) : 0;
}

static int release(const struct engine_config *config, struct ve_record *record,
    const struct parts *parts, struct engine_error *error)
{
	int rc = net_mute(&parts->net, false), next = cgroup_thaw(&parts->cgroup);

	crash_point("ved-worker.thawed");
	if (rc == 0)
		rc = next;
	next = net_gate(&parts->net, GATE_PASS);
	crash_point("ved-worker.gate-open");
	if (rc == 0)
		rc = next;
	if (rc == 0) {
		record->state = RECORD_RUNNING;
		record->thaw_by_ms = 0;
		rc = record_save(config, record);
	}
	return rc < 0 ? engine_fail(error, rc, "thaw %s", record->spec.name) : 0;
}

int engine_freeze(const struct engine_config *config, const char *name, int64_t max_ms,
    struct engine_error *error)
{
	struct engine_error ignored;
	struct ve_record record;
	struct parts parts;
	int rc = load_parts(config, name, &record, &parts, error);

	if (rc < 0)
		return rc;
	rc = hold(config, &record, &parts, max_ms, error);
	if (rc < 0)
		release(config, &record, &parts, &ignored);
	return rc;
}

int engine_thaw(const struct engine_config *config, const char *name, struct engine_error *error)
{
	struct ve_record record;
	struct parts parts;
	int rc = load_parts(config, name, &record, &parts, error);

	return rc < 0 ? rc : release(config, &record, &parts, error);
}

/* ---- dump ---- */

static int share_one(const char *dir, const char *name, gid_t group)
{
	char path[VE_PATH * 3];
	int rc = path_set(path, "%s/%s", dir, name);

	if (rc < 0)
		return rc;
	if (group != (gid_t)-1 && chown(path, 0, group) < 0)
		return -errno;
	return chmod(path, name[0] ? 0640 : 02770) < 0 ? -errno : 0;
}

/* The image becomes readable for those who store it. */
static int share_image(const char *image_dir, gid_t group)
{
	DIR *dir = opendir(image_dir);
	struct dirent *entry;
	int rc = 0;

	if (!dir)
		return -errno;
	while (rc == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			rc = share_one(image_dir, entry->d_name, group);
	closedir(dir);
	return rc < 0 ? rc : share_one(image_dir, "", group);
}

static int describe_image(const struct engine_config *config, const struct ve_spec *spec,
    const char *image_dir, struct engine_error *error)
{
	struct image_info info = {.spec = *spec, .version = IMAGE_VERSION};
	int rc = config->criu_version ? config->criu_version : criu_version(config->criu, error);

	if (rc < 0)
		return rc;
	info.criu = rc;
	image_describe(&info);
	rc = image_save(image_dir, &info);
	if (rc == 0)
		rc = share_image(image_dir, config->group);
	return rc < 0 ? engine_fail(error, rc, "finish the image %s", image_dir) : 0;
}

/* What a dump does besides: it freezes what runs, once criu is ready to look. */
struct dumping {
	const struct engine_config *config;
	const struct dump_options *options;
	const struct parts *parts;
	struct ve_record *record;
	struct engine_times *times;
	struct engine_error *error;
	int64_t frozen_at;
	bool holds; /* it froze, or began to */
};

static int hold_for_dump(struct dumping *dumping)
{
	enum { WHILE_DUMPING_MS = 600000 }; /* a dump that we do ends by itself */

	dumping->holds = true;
	return (dumping->options->kill ? hold_for_move : hold)(
	    dumping->config, dumping->record, dumping->parts, WHILE_DUMPING_MS, dumping->error);
}

/* criu's start, 10 to 20 ms, is over: what runs need not stand still for that. */
static int stand_still(void *data)
{
	int64_t begin = clock_us(CLOCK_MONOTONIC);
	struct dumping *dumping = data;
	int rc = dumping->record->state == RECORD_FROZEN ? 0 : hold_for_dump(dumping);

	if (dumping->holds)
		dumping->frozen_at = clock_us(CLOCK_MONOTONIC);
	dumping->times->freeze_us = dumping->holds ? dumping->frozen_at - begin : 0;
	crash_point("ved-worker.dump");
	return rc;
}

/* While all stands still: tasks by criu, then the upper directory with what criu may have linked back into it. */
static int dump_frozen(struct dumping *dumping, const char *image_dir)
{
	const struct parts *parts = dumping->parts;
	char work[VE_PATH * 3], upper[VE_PATH * 2];
	struct binds binds;
	struct criu_job job = {
	    .program = dumping->config->criu,
	    .image_dir = image_dir,
	    .work_dir = work,
	    .netns = parts->net.netns,
	    .cgroup = &parts->cgroup,
	    .pid = dumping->record->pid,
	    .binds = &binds,
	    .on_ready = stand_still,
	    .data = dumping,
	};
	int64_t dumped;
	int rc;

	path_set(work, "%s/criu", parts->dir);
	rc = path_set(upper, "%s/upper.tar", image_dir);
	if (rc < 0)
		return engine_fail(dumping->error, rc, "image directory %s", image_dir);
	dumping->frozen_at = clock_us(CLOCK_MONOTONIC);
	rc = binds_load(parts->dir, &binds, dumping->error);
	if (rc == 0)
		rc = criu_dump(&job, dumping->error);
	dumped = clock_us(CLOCK_MONOTONIC);
	if (rc == 0)
		rc = archive_pack(parts->overlay.upper, upper, dumping->error);
	dumping->times->criu_us = dumped - dumping->frozen_at;
	dumping->times->files_us = clock_us(CLOCK_MONOTONIC) - dumped;
	return rc;
}

int engine_dump(const struct engine_config *config, const char *name, const char *image_dir,
    const struct dump_options *options, struct engine_times *times, struct engine_error *error)
{
	int64_t begin = clock_us(CLOCK_MONOTONIC);
	struct engine_error ignored;
	struct ve_record record;
	struct parts parts;
	struct dumping dumping = {config, options, &parts, &record, times, error, 0, false};
	int rc = load_parts(config, name, &record, &parts, error);

	*times = (struct engine_times){0};
	if (rc < 0)
		return rc;
	rc = dir_make(image_dir, 02770);
	if (rc < 0)
		return engine_fail(error, rc, "make %s", image_dir);
	rc = dump_frozen(&dumping, image_dir);
	crash_point("ved-worker.dumped");
	if (rc == 0 && options->kill)
		rc = describe_image(config, &record.spec, image_dir, error);
	if (rc == 0 && options->kill)
		rc = remove_parts(&parts, SILENTLY, error);
	else if (dumping.holds)
		release(config, &record, &parts, rc < 0 ? &ignored : error);
	if (rc == 0 && !options->kill)
		rc = describe_image(config, &record.spec, image_dir, error);
	times->total_us = clock_us(CLOCK_MONOTONIC) - begin;
	times->image_bytes = dir_bytes(image_dir);
	return rc;
}

/* ---- stop, find again ---- */

static bool ended_within(const struct engine_config *config, const char *name, int64_t grace_ms)
{
	int64_t end = clock_us(CLOCK_MONOTONIC) + grace_ms * 1000;
	struct ve_record record;

	while (record_load(config, name, &record) == 0 && record.alive) {
		if (clock_us(CLOCK_MONOTONIC) >= end)
			return false;
		usleep(TERM_POLL_MS * 1000);
	}
	return true;
}

int engine_stop(const struct engine_config *config, const char *name, int64_t grace_ms,
    struct engine_error *error)
{
	struct engine_error ignored;
	struct ve_record record;
	struct parts parts;
	int rc;

	if (!ve_name_ok(name))
		return engine_refuse(error, -EINVAL, "name \"%s\"", name);
	rc = record_load(config, name, &record);
	if (rc < 0) /* unreadable or half made: by its name all is found */
		path_set(record.spec.name, "%s", name);
	rc = find_parts(&parts, config, &record.spec);
	if (rc < 0)
		return engine_fail(error, rc, "find %s", name);
	if (access(parts.dir, F_OK) < 0)
		return 0;
	if (grace_ms < 0)
		return remove_parts(&parts, SILENTLY, error);
	if (record.alive) {
		release(config, &record, &parts, &ignored);
		kill(record.pid, SIGTERM);
		ended_within(config, name, grace_ms);
	}
	return remove_parts(&parts, ALOUD, error);
}

int engine_inspect(const struct engine_config *config, const char *name, struct ve_record *out)
{
	return ve_name_ok(name) ? record_load(config, name, out) : -EINVAL;
}

/* A directory without a readable record is reported too, as a VE that is starting and not alive: to be removed. */
int engine_scan(const struct engine_config *config,
    int (*each)(const struct ve_record *record, void *data), void *data)
{
	char path[VE_PATH * 2];
	struct dirent *entry;
	struct ve_record record;
	int rc = path_set(path, "%s/ve", config->run);
	DIR *dir = rc < 0 ? NULL : opendir(path);

	if (!dir)
		return rc < 0 ? rc : errno == ENOENT ? 0 : -errno;
	while (rc == 0 && (entry = readdir(dir))) {
		if (!ve_name_ok(entry->d_name))
			continue;
		if (record_load(config, entry->d_name, &record) < 0) {
			record = (struct ve_record){.state = RECORD_STARTING};
			path_set(record.spec.name, "%s", entry->d_name);
		}
		rc = each(&record, data);
	}
	closedir(dir);
	return rc;
}

int engine_check(const struct engine_config *config, struct engine_error *error)
{
	struct cgroup cgroup;
	int rc = cgroup_find(&cgroup, config->cgroup, "check");

	if (rc < 0)
		return engine_refuse(
		    error, rc, "no unified cgroup hierarchy is mounted: ved freezes by it");
	if (access(config->runner[config->engine], X_OK) < 0)
		return engine_fail(
		    error, -errno, "run %s (see [ved] engine)", config->runner[config->engine]);
	rc = criu_version(config->criu, error);
	if (rc < 0)
		return rc;
	if (rc < 40100)
		return engine_refuse(error, -ENOTSUP,
		    "%s is version %d.%d.%d; 4.1 or newer is needed", config->criu, rc / 10000,
		    rc / 100 % 100, rc % 100);
	return rc;
}
