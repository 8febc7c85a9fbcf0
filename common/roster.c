#include "common/roster.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "common/replace-file.h"

#define FILES_MAX (4 * MEMBERS_MAX) /* looked at in one reading of the directory */
#define REPAIRS 16                  /* records looked at in one roster_repair() */

struct roster {
	struct daemon *daemon;
	struct members members;
	char directory[320];
	sd_event_source *changes, *due;
	bool unapplied;       /* one that was taken waits for the loop */
	uint64_t self_serial; /* of the record of this node that was last judged */
	size_t repaired;      /* records looked at so far, around and around */
};

void roster_directory(char *path, size_t size, const struct node_config *node)
{
	snprintf(path, size, "%s/members", node->state_dir);
}

static uint64_t now_s(void)
{
	return (uint64_t)time(NULL);
}

/* --- records to peers --- */

/* What a record makes of one key: nothing, the node's present key, or its old one. */
enum standing {
	OUT,
	IN,
	IN_AS_OLD,
};

static enum standing standing_of(
    const struct msg_member_record *record, const struct peer *peer, uint64_t now)
{
	if (memcmp(peer->public_key, record->public_key, KEY_SIZE) == 0)
		return member_is_in(record, now) ? IN : OUT;
	if (record->has_old_key && memcmp(peer->public_key, record->old_key, KEY_SIZE) == 0)
		return member_old_is_in(record, now) ? IN_AS_OLD : OUT;
	return OUT;
}

static bool is_elsewhere(const struct msg_member_record *record, const struct peer *peer)
{
	return strcmp(peer->address, record->address) != 0 || peer->port != record->port ||
	       strcmp(peer->site, record->site) != 0;
}

/* Takes away, or marks as old, what the record no longer says. */
static void trim(struct daemon *daemon, const struct msg_member_record *record, uint64_t now)
{
	struct peers *peers = &daemon->node.peers;

	for (size_t i = 0; i < peers->count; i++) {
		struct peer *peer = &peers->peer[i];
		enum standing standing;

		if (peer->gone || peer == daemon->node.self ||
		    strcmp(peer->name, record->name) != 0)
			continue;
		standing = standing_of(record, peer, now);
		if (standing == OUT || peer->old != (standing == IN_AS_OLD) ||
		    (standing == IN && is_elsewhere(record, peer))) {
			if (standing == IN_AS_OLD && !peer->old)
				daemon_retire_peer(daemon, peer);
			else
				daemon_remove_peer(daemon, peer);
			log_notice("node %s: key %016llx is %s serial=%llu", record->name,
			    (unsigned long long)peer->id, peer->gone ? "refused" : "its old one",
			    (unsigned long long)record->serial);
		}
	}
}

static void add(struct daemon *daemon, const struct msg_member_record *record, bool old)
{
	struct peer peer = {.port = record->port, .old = old};
	int r;

	memcpy(peer.name, record->name, sizeof(peer.name));
	memcpy(peer.site, record->site, sizeof(peer.site));
	memcpy(peer.address, record->address, sizeof(peer.address));
	memcpy(peer.public_key, old ? record->old_key : record->public_key, KEY_SIZE);
	r = daemon_add_peer(daemon, &peer);
	if (r == 0)
		log_notice("node %s is let in serial=%llu%s", record->name,
		    (unsigned long long)record->serial, old ? " with its old key" : "");
	else if (r != -EEXIST)
		log_error("node %s cannot be let in: %s", record->name, strerror(-r));
}

/* This node keeps its own key, whatever is said; but its operator is told. */
static void judge_self(struct roster *roster, const struct msg_member_record *record)
{
	const uint8_t *key = roster->daemon->keys.public_key;

	if (record->serial == roster->self_serial)
		return;
	roster->self_serial = record->serial;
	if (record->state == MSG_COMMON_MEMBER_STATE_REVOKED)
		log_error("this node, %s, is revoked: the others refuse it", record->name);
	else if (memcmp(record->public_key, key, KEY_SIZE) != 0)
		log_notice("this node, %s, has another key in its record: see depctl key rotate",
		    record->name);
}

static void apply(struct roster *roster, const struct msg_member_record *record)
{
	struct daemon *daemon = roster->daemon;
	uint64_t now = now_s();

	if (strcmp(record->name, daemon->node.name) == 0) {
		judge_self(roster, record);
		return;
	}
	if (record->state == MSG_COMMON_MEMBER_STATE_ALLOWED && now < record->not_before)
		return; /* until then it stands as it did */
	trim(daemon, record, now);
	if (member_is_in(record, now))
		add(daemon, record, false);
	if (member_old_is_in(record, now))
		add(daemon, record, true);
}

static void await_next(struct roster *roster)
{
	uint64_t next = members_next_change(&roster->members, now_s());

	if (!roster->due || roster->unapplied)
		return;
	if (next) {
		sd_event_source_set_time(roster->due, next * 1000000);
		sd_event_source_set_enabled(roster->due, SD_EVENT_ONESHOT);
	} else {
		sd_event_source_set_enabled(roster->due, SD_EVENT_OFF);
	}
}

static int on_due(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct roster *roster = userdata;

	(void)source;
	(void)usec;
	roster->unapplied = false;
	for (size_t i = 0; i < roster->members.count; i++)
		apply(roster, &roster->members.record[i].said);
	await_next(roster);
	return 0;
}

/* --- files --- */

/* Size, or negative errno; one byte more than a record may have tells that it is too long. */
static ssize_t read_file(const char *path, uint8_t *bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = read(fd, bytes, size);
	if (length < 0)
		length = -errno;
	close(fd);
	return length;
}

/* A file of the directory has come or was replaced. */
static void take_file(struct roster *roster, const char *name)
{
	uint8_t bytes[MSG_MEMBER_SIGNED_SIZE_MAX + 1];
	const struct member_record *record;
	char path[sizeof(roster->directory) + NODE_NAME_MAX + 2], why[MEMBERS_WHY];
	ssize_t size;
	int r;

	if (!config_name_is_valid(name))
		return; /* one that is being written */
	snprintf(path, sizeof(path), "%s/%s", roster->directory, name);
	size = read_file(path, bytes, sizeof(bytes));
	if (size < 0) {
		log_warning("read %s: %s", path, strerror((int)-size));
		return;
	}
	r = members_take(&roster->members, bytes, (size_t)size, &record, why);
	if (r < 0)
		log_warning("%s: %s", path, why);
	else if (r > 0)
		apply(roster, &record->said);
}

static int read_directory(struct roster *roster)
{
	DIR *directory = opendir(roster->directory);
	const struct dirent *entry;

	if (!directory && errno == ENOENT)
		return 0;
	if (!directory) {
		int r = -errno;

		log_error("open %s: %s", roster->directory, strerror(errno));
		return r;
	}
	for (int i = 0; i < FILES_MAX && (entry = readdir(directory)); i++)
		if (entry->d_name[0] != '.')
			take_file(roster, entry->d_name);
	closedir(directory);
	return 0;
}

static int on_change(sd_event_source *source, const struct inotify_event *event, void *userdata)
{
	struct roster *roster = userdata;

	(void)source;
	if (event->mask & IN_Q_OVERFLOW)
		(void)read_directory(roster);
	else if (event->len > 0)
		take_file(roster, event->name);
	await_next(roster);
	return 0;
}

static int store(const struct roster *roster, const struct member_record *record)
{
	char path[sizeof(roster->directory) + NODE_NAME_MAX + 2];

	snprintf(path, sizeof(path), "%s/%s", roster->directory, record->said.name);
	return replace_file(path, record->bytes, record->size, 0640);
}

static bool is_stored(const struct roster *roster, const struct member_record *record)
{
	char path[sizeof(roster->directory) + NODE_NAME_MAX + 2];
	uint8_t bytes[MSG_MEMBER_SIGNED_SIZE_MAX + 1];
	ssize_t size;

	snprintf(path, sizeof(path), "%s/%s", roster->directory, record->said.name);
	size = read_file(path, bytes, sizeof(bytes));
	return size == (ssize_t)record->size && memcmp(bytes, record->bytes, record->size) == 0;
}

void roster_repair(struct roster *roster)
{
	for (size_t i = 0; i < REPAIRS && i < roster->members.count; i++) {
		const struct member_record *record =
		    &roster->members.record[roster->repaired++ % roster->members.count];

		if (is_stored(roster, record))
			continue;
		take_file(roster, record->said.name); /* it may be newer */
		if (store(roster, record) < 0)
			return; /* the disk is full: the next time */
		log_notice("the record of %s was written again", record->said.name);
	}
}

int roster_take(struct roster *roster, const void *bytes, size_t size, char why[MEMBERS_WHY])
{
	const struct member_record *record;
	int r = members_take(&roster->members, bytes, size, &record, why);

	if (r <= 0)
		return r;
	if (store(roster, record) < 0)
		log_error("the record of %s is known to gossipd only, until it can be written",
		    record->said.name);
	/* From the loop: who brought it may be the one whose socket has to go. */
	roster->unapplied = true;
	sd_event_source_set_time(roster->due, 0);
	sd_event_source_set_enabled(roster->due, SD_EVENT_ONESHOT);
	return 1;
}

/* --- life --- */

const struct members *roster_members(const struct roster *roster)
{
	return &roster->members;
}

int roster_new(struct roster **out, struct daemon *daemon)
{
	struct roster *roster = calloc(1, sizeof(*roster));
	int r;

	if (!roster)
		return -ENOMEM;
	roster->daemon = daemon;
	memcpy(roster->members.admin, daemon->node.admin, KEY_SIZE);
	memcpy(roster->members.cluster, daemon->node.cluster, sizeof(roster->members.cluster));
	roster_directory(roster->directory, sizeof(roster->directory), &daemon->node);
	r = read_directory(roster);
	if (r < 0) {
		free(roster);
		return r;
	}
	*out = roster;
	return 0;
}

int roster_watch(struct roster *roster, sd_event *loop)
{
	int r = sd_event_add_inotify(
	    loop, &roster->changes, roster->directory, IN_MOVED_TO | IN_ONLYDIR, on_change, roster);

	if (r >= 0)
		r = sd_event_add_time(
		    loop, &roster->due, CLOCK_REALTIME, UINT64_MAX, 0, on_due, roster);
	if (r < 0) {
		log_error("watch %s: %s", roster->directory, strerror(-r));
		return r;
	}
	/* What came between the first reading and now. */
	r = read_directory(roster);
	await_next(roster);
	return r;
}

struct roster *roster_free(struct roster *roster)
{
	if (!roster)
		return NULL;
	sd_event_source_disable_unref(roster->changes);
	sd_event_source_disable_unref(roster->due);
	free(roster);
	return NULL;
}
