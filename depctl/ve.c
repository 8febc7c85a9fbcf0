/*
 * depctl ve and ckpt: services and their checkpoints.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "depctl/command.h"
#include "depctl/object.h"
#include "proto/ckptd.h"
#include "proto/migrated.h"

#define PLACE_MS 30000
#define CKPT_MS 120000
#define MEMORY_MAX_MIB (1 << 24)

static const struct column ve_columns[] = {{"VE", "name", NULL}, {"WANT", "want", NULL},
    {"NODE", "node", NULL}, {"EPOCH", "epoch", NULL}, {"ADDRESS", "address", NULL},
    {"FROM", "start_ckpt", format_ckpt}, {"INTERVAL", "interval_ms", format_interval},
    {"COPIES", "copies", NULL}, {"REASON", "reason", NULL}, {"HELD", "held", NULL}, {0}};

const struct column ckpt_columns[] = {{"VE", "ve", NULL}, {"CHECKPOINT", "id", format_ckpt},
    {"COMMITTED", "wall_ms", format_wall_ms}, {"EPOCH", "ve_epoch", NULL},
    {"IMAGE", "oid", format_id}, {"SIZE", "bytes", format_bytes}, {"STOOD", "frozen_ms", format_ms},
    {"MADE ON", "node", NULL}, {"ALSO ON", "replicas", NULL}, {0}};

/* What changes something may take longer than a look. */
static void allow(struct session *session, int64_t ms)
{
	if (!session->timeout_given)
		session->timeout_ms = ms;
}

static int show_placement(struct session *session, json_t *reply)
{
	json_t *rows;

	if (session->form == OUTPUT_TABLE) {
		rows = json_pack("[O]", json_object_get(reply, "ve"));
		output_rows(OUTPUT_TABLE, rows, ve_columns, "");
		json_decref(rows);
	} else {
		output_object(session->form, json_object_get(reply, "ve"), NULL);
	}
	json_decref(reply);
	return 0;
}

static int check_bundle(const char *path)
{
	static const char *const files[] = {"config.json", "rootfs.tar"};
	char name[PATH_MAX];

	for (size_t i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, files[i]);
		if (access(name, R_OK) < 0) {
			int error = errno;

			fprintf(stderr, "depctl: bundle %s: %s: %s\ntry: tools/bundle makes one\n",
			    path, files[i], strerror(error));
			return errno == ENOENT   ? RPC_NOT_FOUND
			       : errno == EACCES ? RPC_DENIED
						 : RPC_FAILED;
		}
	}
	return 0;
}

enum {
	RUN_ADDRESS,
	RUN_NODE,
	RUN_INTERVAL,
	RUN_COPIES,
	RUN_PROBE,
	RUN_PROBE_INTERVAL,
	RUN_HUNG_AFTER,
	RUN_GROUP,
	RUN_APART,
	RUN_MEMORY,
	RUN_FENCE,
	RUN_SET,
};

/* False with one line. */
static bool fill_probes(struct msg_migrated_run *request, const struct arguments *arguments)
{
	const char *every = arguments->option[RUN_PROBE_INTERVAL];
	uint64_t ms = 1000;

	if (every && !parse_duration_ms("--probe-interval", every, &ms))
		return false;
	if (ms < 100 || ms > 60000) {
		fprintf(stderr, "depctl: --probe-interval: 100ms to 1min\n");
		return false;
	}
	request->has_probes = arguments->n_many > 0;
	for (size_t i = 0; i < arguments->n_many; i++) {
		struct msg_common_probe *probe = &request->probes.item[i];

		if (!parse_probe(arguments->many[i], probe))
			return false;
		if ((probe->kind == MSG_COMMON_PROBE_KIND_TCP ||
			probe->kind == MSG_COMMON_PROBE_KIND_HTTP ||
			probe->kind == MSG_COMMON_PROBE_KIND_HEARTBEAT) &&
		    !*request->address) {
			fprintf(stderr, "depctl: --probe: %s: needs an --address\n",
			    arguments->many[i]);
			return false;
		}
		probe->interval_ms = probe->timeout_ms = (uint32_t)ms;
		request->probes.count++;
	}
	return true;
}

static int fill_run(struct msg_migrated_run *request, const struct arguments *arguments)
{
	const char *const *option = arguments->option;
	uint64_t copies = 1, memory_mib = 0;

	*request = (struct msg_migrated_run){.interval_ms = 10000, .hung_ms = 5000};
	if (!PARSE_TEXT("NAME", arguments->positional[0], request->name) ||
	    (option[RUN_ADDRESS] &&
		!PARSE_TEXT("--address", option[RUN_ADDRESS], request->address)) ||
	    (option[RUN_NODE] && !PARSE_TEXT("--node", option[RUN_NODE], request->node)) ||
	    (option[RUN_INTERVAL] &&
		!parse_duration_ms("--interval", option[RUN_INTERVAL], &request->interval_ms)) ||
	    (option[RUN_COPIES] && !parse_count("--copies", option[RUN_COPIES], 0, 4, &copies)) ||
	    (option[RUN_HUNG_AFTER] &&
		!parse_duration_ms("--hung-after", option[RUN_HUNG_AFTER], &request->hung_ms)) ||
	    (option[RUN_GROUP] && !PARSE_TEXT("--group", option[RUN_GROUP], request->group)) ||
	    (option[RUN_FENCE] && !PARSE_TEXT("--fence", option[RUN_FENCE], request->fence)) ||
	    (option[RUN_SET] && !PARSE_TEXT("--set", option[RUN_SET], request->set)) ||
	    (option[RUN_MEMORY] &&
		!parse_count("--memory", option[RUN_MEMORY], 1, MEMORY_MAX_MIB, &memory_mib)) ||
	    !fill_probes(request, arguments))
		return EXIT_USAGE;
	request->apart = option[RUN_APART] != NULL;
	if (request->apart && !*request->group) {
		fprintf(stderr, "depctl: --apart: from whom? It needs a --group\n");
		return EXIT_USAGE;
	}
	request->memory = memory_mib << 20;
	request->copies = (uint8_t)copies;
	return 0;
}

static bool is_of_the_host(const json_t *mount)
{
	const char *type = json_string_value(json_object_get(mount, "type"));
	bool found = type && strcmp(type, "bind") == 0;
	const json_t *option;
	size_t i;

	json_array_foreach(json_object_get(mount, "options"), i, option)
	{
		const char *word = json_string_value(option);

		found |= word && (strcmp(word, "bind") == 0 || strcmp(word, "rbind") == 0);
	}
	return found;
}

/* Which directories of the host does it mount?  What is wrong with them ved says when it runs. */
static int take_mounts(struct msg_migrated_run *request, const char *path)
{
	char name[PATH_MAX];
	json_t *config, *mount;
	size_t i, used = 0;

	snprintf(name, sizeof(name), "%s/config.json", path);
	config = json_load_file(name, 0, NULL);
	json_array_foreach(json_object_get(config, "mounts"), i, mount)
	{
		const char *source = json_string_value(json_object_get(mount, "source"));

		if (!is_of_the_host(mount))
			continue;
		request->shared = true;
		if (source && used < sizeof(request->mounts))
			used += (size_t)snprintf(request->mounts + used,
			    sizeof(request->mounts) - used, "%s%s", used ? " " : "", source);
	}
	json_decref(config);
	if (used < sizeof(request->mounts))
		return 0;
	fprintf(stderr,
	    "depctl: %s: the directories of the host that it mounts have names of more than %zu bytes together\n",
	    name, sizeof(request->mounts) - 1);
	return EXIT_USAGE;
}

static json_t *ask_run(struct session *session, const struct msg_migrated_run *request, int *status)
{
	_cleanup_buf_ struct buf body = {0};

	msg_migrated_run_pack(request, &body);
	return session_ask(session, "migrated", MSG_MIGRATED_RUN, &body, status);
}

int command_ve_run(struct session *session, const struct arguments *arguments)
{
	struct msg_migrated_run request;
	int status = fill_run(&request, arguments);
	json_t *reply;

	if (status == 0)
		status = check_bundle(arguments->positional[1]);
	if (status == 0)
		status = take_mounts(&request, arguments->positional[1]);
	if (status)
		return status;
	allow(session, PLACE_MS);
	/* What cannot be placed must not leave its bundle in the store. */
	request.check = true;
	reply = ask_run(session, &request, &status);
	json_decref(reply);
	if (!reply)
		return status;
	request.check = false;
	/* The bundle must be where the VE may go: on as many nodes as its images. */
	status = object_put(session, arguments->positional[1], request.name, "bundle",
	    request.copies, request.bundle);
	if (status)
		return status;
	reply = ask_run(session, &request, &status);
	return reply ? show_placement(session, reply) : status;
}

static double seconds(const json_t *object, const char *key)
{
	return (double)json_integer_value(json_object_get(object, key)) / 1000;
}

void warn_of_no_quorum(const json_t *reply)
{
	json_int_t heard = json_integer_value(json_object_get(reply, "heard"));
	json_int_t silent = json_integer_value(json_object_get(reply, "silent"));

	if (json_is_true(json_object_get(reply, "fresh")))
		return;
	if (json_object_get(reply, "age_ms"))
		fprintf(stderr,
		    "depctl: no quorum: metad has not answered this node for %.1f s (it is down, "
		    "or most of its voters are out of reach)\n",
		    seconds(reply, "age_ms"));
	else
		fprintf(stderr, "depctl: no quorum: metad has not answered this node yet\n");
	fprintf(stderr,
	    "  nothing is placed, restarted or checkpointed until it does; the VEs are shown as "
	    "they were last known\n");
	if (heard)
		fprintf(stderr,
		    "  VEs of this node that are heard under their leases: %lld, the first until "
		    "%.1f s from now unless its coordinator renews it\n",
		    (long long)heard, seconds(reply, "lease_ms"));
	if (silent)
		fprintf(stderr,
		    "  VEs of this node that are silent: %lld; their leases have ended, what runs of "
		    "them is cut off but not ended, and goes on when a coordinator renews them\n",
		    (long long)silent);
}

static json_t *list_ves(struct session *session, int *status)
{
	json_t *reply = session_ask(session, "migrated", MSG_MIGRATED_LS, NULL, status), *ves;

	if (!reply)
		return NULL;
	warn_of_no_quorum(reply);
	ves = json_incref(json_object_get(reply, "ves"));
	json_decref(reply);
	return ves;
}

int command_ve_ls(struct session *session, const struct arguments *arguments)
{
	int status;
	json_t *ves = list_ves(session, &status);

	(void)arguments;
	if (!ves)
		return status;
	output_rows(session->form, ves, ve_columns, "no VE; try: depctl ve run --help");
	json_decref(ves);
	return 0;
}

json_t *list_ckpts(struct session *session, const char *ve, int *status)
{
	struct msg_ckptd_ls request = {0};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply, *rows, *kept, *ckpt;
	size_t i, k;

	if (!PARSE_TEXT("VE", ve, request.ve)) {
		*status = EXIT_USAGE;
		return NULL;
	}
	msg_ckptd_ls_pack(&request, &body);
	reply = session_ask(session, "ckptd", MSG_CKPTD_LS, &body, status);
	if (!reply)
		return NULL;
	rows = json_array();
	json_array_foreach(json_object_get(reply, "ves"), i, kept)
	{
		json_array_foreach(json_object_get(kept, "checkpoints"), k, ckpt)
		{
			json_object_set(ckpt, "ve", json_object_get(kept, "ve"));
			json_array_append(rows, ckpt);
		}
	}
	json_decref(reply);
	return rows;
}

static json_t *find_ve(struct session *session, const char *name, int *status)
{
	json_t *ves = list_ves(session, status), *ve, *found = NULL;
	size_t i;

	if (!ves)
		return NULL;
	json_array_foreach(ves, i, ve)
	{
		if (strcmp(json_string_value(json_object_get(ve, "name")), name) == 0)
			found = json_incref(ve);
	}
	json_decref(ves);
	if (!found) {
		fprintf(stderr, "depctl: there is no VE %s\ntry: depctl ve ls\n", name);
		*status = RPC_NOT_FOUND;
	}
	return found;
}

/* Which nodes can open the VE's images; NULL after one line. */
static json_t *list_holders(struct session *session, const char *ve, int *status)
{
	struct msg_migrated_holders request = {0};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply, *holders;

	if (!PARSE_TEXT("VE", ve, request.name)) {
		*status = EXIT_USAGE;
		return NULL;
	}
	msg_migrated_holders_pack(&request, &body);
	reply = session_ask(session, "migrated", MSG_MIGRATED_HOLDERS, &body, status);
	holders = json_incref(json_object_get(reply, "holders"));
	json_decref(reply);
	return holders;
}

/* Why no round of it commits; NULL: nothing is known to fail. */
static json_t *find_failure(struct session *session, const char *ve, int *status)
{
	struct msg_ckptd_failing request = {0};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply, *failure;

	if (!PARSE_TEXT("VE", ve, request.ve)) {
		*status = EXIT_USAGE;
		return NULL;
	}
	msg_ckptd_failing_pack(&request, &body);
	reply = session_ask(session, "ckptd", MSG_CKPTD_FAILING, &body, status);
	failure = json_incref(json_object_get(reply, "failure"));
	json_decref(reply);
	return failure;
}

static void tell_failure(const json_t *failure)
{
	json_int_t rounds = json_integer_value(json_object_get(failure, "rounds"));
	const char *at = json_string_value(json_object_get(failure, "at"));
	const char *node = json_string_value(json_object_get(failure, "node"));
	bool placed = at && *at && node && *node;

	if (!failure)
		return;
	printf("checkpoints fail for %.1f s: %lld %s to nothing, the last %.1f s ago%s%s%s%s: %s\n",
	    seconds(failure, "since_ms"), (long long)rounds,
	    rounds == 1 ? "round came" : "rounds in a row came", seconds(failure, "age_ms"),
	    placed ? " at " : "", placed ? at : "", placed ? " on " : "", placed ? node : "",
	    json_string_value(json_object_get(failure, "text")));
}

static void warn_of_lackers(const json_t *holders)
{
	const json_t *holder;
	size_t i;

	json_array_foreach(holders, i, holder)
	{
		const char *node = json_string_value(json_object_get(holder, "node"));
		const char *key = json_string_value(json_object_get(holder, "key"));

		if (strcmp(key, "lacks") == 0)
			printf("%s lacks the key: it could not restore this VE\n", node);
		else if (strcmp(key, "old") == 0)
			printf("%s has the key by its old node key only\n", node);
	}
}

int command_ve_show(struct session *session, const struct arguments *arguments)
{
	const char *name = arguments->positional[0];
	json_t *found, *ckpts, *failure, *holders;
	int status, unknown;

	found = find_ve(session, name, &status);
	if (!found)
		return status;
	ckpts = list_ckpts(session, name, &status);
	failure = find_failure(session, name, &unknown);
	holders = list_holders(session, name, ckpts ? &status : &unknown);
	if (session->form == OUTPUT_TABLE) {
		output_object(OUTPUT_TABLE, found, ve_columns);
		putchar('\n');
		if (ckpts)
			output_rows(OUTPUT_TABLE, ckpts, ckpt_columns, "no checkpoint yet");
		tell_failure(failure);
		warn_of_lackers(holders);
	} else {
		if (ckpts)
			json_object_set(found, "checkpoints", ckpts);
		if (failure)
			json_object_set(found, "failing", failure);
		if (holders)
			json_object_set(found, "holders", holders);
		output_object(session->form, found, NULL);
	}
	json_decref(holders);
	json_decref(failure);
	json_decref(ckpts);
	json_decref(found);
	return status;
}

static int ask_named(
    struct session *session, const char *request_name, const char *name, uint64_t ckpt)
{
	struct msg_migrated_restore request = {
	    .ckpt = ckpt}; /* stop and rm have its first field only */
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	int status;

	if (!PARSE_TEXT("NAME", name, request.name))
		return EXIT_USAGE;
	allow(session, PLACE_MS);
	msg_migrated_restore_pack(&request, &body);
	reply = session_ask(session, "migrated", request_name, &body, &status);
	return reply ? show_placement(session, reply) : status;
}

int command_ve_stop(struct session *session, const struct arguments *arguments)
{
	return ask_named(session, MSG_MIGRATED_STOP, arguments->positional[0], 0);
}

int command_ve_rm(struct session *session, const struct arguments *arguments)
{
	return ask_named(session, MSG_MIGRATED_RM, arguments->positional[0], 0);
}

int command_ve_fenced(struct session *session, const struct arguments *arguments)
{
	struct msg_migrated_fenced request = {0};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	int status;

	if (!PARSE_TEXT("NAME", arguments->positional[0], request.name) ||
	    !parse_count("EPOCH", arguments->positional[1], 1, UINT32_MAX, &request.epoch))
		return EXIT_USAGE;
	allow(session, PLACE_MS);
	msg_migrated_fenced_pack(&request, &body);
	reply = session_ask(session, "migrated", MSG_MIGRATED_FENCED, &body, &status);
	return reply ? show_placement(session, reply) : status;
}

int command_ckpt_create(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"CHECKPOINT", "id", format_ckpt},
	    {"COMMITTED", "committed", NULL}, {"SIZE", "bytes", format_bytes},
	    {"STOOD", "frozen_ms", format_ms}, {"TOOK", "took_ms", format_ms}, {0}};
	struct msg_ckptd_create request = {.wait = true, .ves.count = arguments->n_positionals};
	_cleanup_buf_ struct buf body = {0};
	json_t *reply;
	int status;

	for (size_t i = 0; i < arguments->n_positionals; i++)
		if (!PARSE_TEXT("VE", arguments->positional[i], request.ves.item[i]))
			return EXIT_USAGE;
	allow(session, CKPT_MS);
	msg_ckptd_create_pack(&request, &body);
	reply = session_ask(session, "ckptd", MSG_CKPTD_CREATE, &body, &status);
	if (!reply)
		return status;
	output_object(session->form, reply, columns);
	json_decref(reply);
	return 0;
}

int command_ckpt_ls(struct session *session, const struct arguments *arguments)
{
	int status;
	json_t *rows =
	    list_ckpts(session, arguments->n_positionals ? arguments->positional[0] : "", &status);

	if (!rows)
		return status;
	/* None at all: is there such a VE? */
	if (arguments->n_positionals && json_array_size(rows) == 0)
		json_decref(find_ve(session, arguments->positional[0], &status));
	if (status == 0)
		output_rows(session->form, rows, ckpt_columns, "no checkpoint is kept");
	json_decref(rows);
	return status;
}

int command_ckpt_restore(struct session *session, const struct arguments *arguments)
{
	uint64_t ckpt = 0;

	if (arguments->n_positionals > 1 && !parse_ckpt(arguments->positional[1], &ckpt))
		return EXIT_USAGE;
	return ask_named(session, MSG_MIGRATED_RESTORE, arguments->positional[0], ckpt);
}
