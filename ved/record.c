#include "ved/record.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/utsname.h>

#include "ved/files.h"

enum { RECORD_BYTES = 64 * 1024 };

static const char *const state_names[] = {
    [RECORD_STARTING] = "starting",
    [RECORD_RUNNING] = "running",
    [RECORD_FROZEN] = "frozen",
};

static int copy_text(char *out, size_t size, const char *text)
{
	return path_format(out, size, "%s", text ? text : "") < 0 ? -EBADMSG : 0;
}

static json_t *spec_pack(const struct ve_spec *spec)
{
	return json_pack("{ss sI ss ss ss ss}", "name", spec->name, "epoch",
	    (json_int_t)spec->epoch, "address", spec->address, "gateway", spec->gateway, "bundle",
	    spec->bundle, "engine", engine_kind_name(spec->engine));
}

static int spec_unpack(json_t *json, struct ve_spec *out)
{
	const char *name, *address, *gateway, *bundle, *engine = "crun"; /* when it is not said */
	json_int_t epoch;

	if (json_unpack(json, "{ss sI ss ss ss s?s}", "name", &name, "epoch", &epoch, "address",
		&address, "gateway", &gateway, "bundle", &bundle, "engine", &engine) < 0 ||
	    epoch < 0)
		return -EBADMSG;
	*out = (struct ve_spec){.epoch = (uint64_t)epoch};
	if (!ve_name_ok(name) || engine_kind_parse(engine, &out->engine) < 0 ||
	    copy_text(out->name, sizeof(out->name), name) < 0 ||
	    copy_text(out->address, sizeof(out->address), address) < 0 ||
	    copy_text(out->gateway, sizeof(out->gateway), gateway) < 0 ||
	    copy_text(out->bundle, sizeof(out->bundle), bundle) < 0)
		return -EBADMSG;
	return 0;
}

/* Takes the reference. */
static int save(json_t *json, const char *path, mode_t mode)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	int rc = text ? file_replace(path, text, strlen(text), mode) : -ENOMEM;

	free(text);
	json_decref(json);
	return rc;
}

static int load(const char *path, json_t **out)
{
	_cleanup_buf_ struct buf text = {0};
	int rc = file_read(path, RECORD_BYTES, &text);

	if (rc < 0)
		return rc;
	*out = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
	return *out ? 0 : -EBADMSG;
}

int record_save(const struct engine_config *config, const struct ve_record *record)
{
	char path[VE_PATH * 2];
	json_t *json = spec_pack(&record->spec);
	int rc = path_set(path, "%s/ve/%s/record.json", config->run, record->spec.name);

	if (rc == 0 &&
	    json_object_set_new(json, "state", json_string(state_names[record->state])) < 0)
		rc = -ENOMEM;
	if (rc == 0 && json_object_set_new(json, "pid", json_integer(record->pid)) < 0)
		rc = -ENOMEM;
	if (rc == 0 && json_object_set_new(
			   json, "start_ticks", json_integer((json_int_t)record->start_ticks)) < 0)
		rc = -ENOMEM;
	if (rc == 0 &&
	    json_object_set_new(json, "fence", json_string(fence_kind_name(record->fence))) < 0)
		rc = -ENOMEM;
	if (rc == 0 &&
	    json_object_set_new(json, "thaw_by_ms", json_integer(record->thaw_by_ms)) < 0)
		rc = -ENOMEM;
	if (rc < 0) {
		json_decref(json);
		return rc;
	}
	return save(json, path, 0600);
}

static int record_unpack(json_t *json, struct ve_record *out)
{
	json_int_t pid, ticks, thaw_by;
	const char *state, *fence = "none"; /* of a record that does not say it yet */
	int rc = spec_unpack(json, &out->spec);

	if (rc < 0)
		return rc;
	if (json_unpack(json, "{ss sI sI sI s?s}", "state", &state, "pid", &pid, "start_ticks",
		&ticks, "thaw_by_ms", &thaw_by, "fence", &fence) < 0 ||
	    pid < 0 || pid > INT32_MAX || fence_kind_parse(fence, &out->fence) < 0)
		return -EBADMSG;
	out->pid = (pid_t)pid;
	out->start_ticks = (uint64_t)ticks;
	out->thaw_by_ms = thaw_by;
	for (size_t i = 0; i < sizeof(state_names) / sizeof(state_names[0]); i++)
		if (strcmp(state, state_names[i]) == 0) {
			out->state = (enum ve_record_state)i;
			return 0;
		}
	return -EBADMSG;
}

int record_load(const struct engine_config *config, const char *name, struct ve_record *out)
{
	char path[VE_PATH * 2];
	json_t *json = NULL;
	uint64_t ticks;
	int rc = path_set(path, "%s/ve/%s/record.json", config->run, name);

	*out = (struct ve_record){0};
	if (rc == 0)
		rc = load(path, &json);
	if (rc == 0)
		rc = record_unpack(json, out);
	json_decref(json);
	if (rc == 0)
		out->alive = out->pid > 0 && process_start_ticks(out->pid, &ticks) == 0 &&
			     ticks == out->start_ticks;
	return rc;
}

int process_start_ticks(pid_t pid, uint64_t *out)
{
	_cleanup_buf_ struct buf text = {0};
	char path[64], state;
	unsigned long long ticks;
	const char *behind_name;

	path_set(path, "/proc/%d/stat", (int)pid);
	if (file_read(path, 4096, &text) < 0)
		return -ESRCH;
	behind_name = strrchr((const char *)text.data, ')'); /* the name may hold anything */
	if (!behind_name ||
	    sscanf(behind_name + 2,
		"%c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
		&state, &ticks) != 2)
		return -ESRCH;
	if (state == 'Z' || state == 'X')
		return -ESRCH;
	*out = ticks;
	return 0;
}

void image_describe(struct image_info *info)
{
	FILE *cpuinfo = fopen("/proc/cpuinfo", "re");
	struct utsname name;
	char line[256];

	if (uname(&name) == 0)
		path_set(info->machine, "%s", name.machine);
	while (cpuinfo && fgets(line, sizeof(line), cpuinfo))
		if (sscanf(line, "model name : %127[^\n]", info->processor) == 1)
			break;
	if (cpuinfo)
		fclose(cpuinfo);
}

int image_save(const char *image_dir, const struct image_info *info)
{
	char path[VE_PATH * 2];
	json_t *json;
	int rc = path_set(path, "%s/ve.json", image_dir);

	if (rc < 0)
		return rc;
	json = json_pack("{si si ss ss so}", "version", info->version, "criu", info->criu,
	    "machine", info->machine, "processor", info->processor, "ve", spec_pack(&info->spec));
	return save(json, path, 0640);
}

int image_load(const char *image_dir, struct image_info *out)
{
	char path[VE_PATH * 2];
	const char *machine, *processor;
	json_t *json = NULL, *ve;
	int rc = path_set(path, "%s/ve.json", image_dir);

	*out = (struct image_info){0};
	if (rc == 0)
		rc = load(path, &json);
	if (rc == 0 && json_unpack(json, "{si si ss ss so}", "version", &out->version, "criu",
			   &out->criu, "machine", &machine, "processor", &processor, "ve", &ve) < 0)
		rc = -EBADMSG;
	if (rc == 0 && (copy_text(out->machine, sizeof(out->machine), machine) < 0 ||
			   copy_text(out->processor, sizeof(out->processor), processor) < 0))
		rc = -EBADMSG;
	if (rc == 0)
		rc = spec_unpack(ve, &out->spec);
	json_decref(json);
	return rc;
}
