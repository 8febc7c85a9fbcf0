/*
 * What this node could run, told to the coordinator's migrated: the memory that is available, what its CPU can do, and the
 * directories of the host that VEs may have here.  A hint: it is told again soon, to whoever coordinates then.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrated/cpu.h"
#include "migrated/shell.h"
#include "proto/common.h"

#define TELL_US 2000000
#define ANSWER_MS 2000

struct capacity_teller {
	struct daemon *daemon;
	struct shell *shell;
	const struct launcher *launcher;
	sd_event_source *timer;
	uint64_t cpu;
};

/* The first line of a file that begins with word, or "". */
static void read_line(const char *path, const char *word, char *line, size_t size)
{
	FILE *file = fopen(path, "re");
	bool found = false;

	while (file && !found && fgets(line, (int)size, file))
		found = strncmp(line, word, strlen(word)) == 0;
	if (file)
		fclose(file);
	if (!found)
		*line = '\0';
}

static uint64_t read_cpu(void)
{
	char line[8192];

	read_line("/proc/cpuinfo", "flags", line, sizeof(line));
	if (!*line)
		read_line("/proc/cpuinfo", "Features", line, sizeof(line));
	return cpu_features(line);
}

static uint64_t read_memory(void)
{
	char line[256];
	uint64_t kib = 0;

	read_line("/proc/meminfo", "MemAvailable:", line, sizeof(line));
	return sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1 ? kib * 1024 : 0;
}

static void on_told(void *userdata, const struct rpc_answer *answer)
{
	(void)userdata;
	if (answer->status != RPC_OK)
		log_debug("capacity: coordinator: %s", answer->error);
}

static void take(
    struct capacity_teller *teller, const char *node, const struct msg_migrated_capacity *capacity)
{
	struct migrated_event event = {.kind = MIGRATED_TOLD,
	    .name = node,
	    .memory = capacity->memory,
	    .cpu = capacity->cpu,
	    .mounts = capacity->has_mounts ? capacity->mounts : NULL};

	shell_step(teller->shell, &event);
}

/* Nothing before its ved has answered: what is told without directories is taken for what an earlier version tells. */
static void tell(struct capacity_teller *teller)
{
	struct msg_migrated_capacity request = {.memory = read_memory(), .cpu = teller->cpu};
	const char *mounts;
	struct rpc_client *client = shell_coordinator(teller->shell);
	_cleanup_buf_ struct buf body = {0};

	if (!launcher_mounts(teller->launcher, &mounts))
		return;
	request.has_mounts = mounts != NULL;
	snprintf(request.mounts, sizeof(request.mounts), "%s", mounts ? mounts : "");
	if (shell_coordinates(teller->shell))
		take(teller, teller->daemon->node.name, &request);
	else if (client && msg_migrated_capacity_pack(&request, &body) == 0)
		rpc_request(
		    client, MSG_MIGRATED_CAPACITY, body.data, body.size, ANSWER_MS, on_told, NULL);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)usec;
	tell(userdata);
	sd_event_source_set_time_relative(source, TELL_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int capacity_new(struct capacity_teller **out, struct daemon *daemon, struct shell *shell,
    const struct launcher *launcher)
{
	struct capacity_teller *teller = calloc(1, sizeof(*teller));
	int r;

	if (!teller)
		return -ENOMEM;
	teller->daemon = daemon;
	teller->shell = shell;
	teller->launcher = launcher;
	teller->cpu = read_cpu();
	r = sd_event_add_time_relative(
	    daemon->loop, &teller->timer, MONO_CLOCK, TELL_US / 4, 100000, on_timer, teller);
	if (r < 0)
		teller = capacity_free(teller);
	*out = teller;
	return r < 0 ? r : 0;
}

struct capacity_teller *capacity_free(struct capacity_teller *teller)
{
	if (teller)
		sd_event_source_disable_unref(teller->timer);
	free(teller);
	return NULL;
}

void capacity_told(
    struct capacity_teller *teller, struct rpc_call *call, const void *body, size_t size)
{
	const char *node = rpc_call_peer(call);
	struct msg_migrated_capacity message;

	if (rpc_unpack(call, &message, msg_migrated_capacity_unpack, body, size) < 0)
		return;
	if (node)
		take(teller, node, &message);
	rpc_reply(call, MSG_COMMON_DONE, "\x80", 1);
}
