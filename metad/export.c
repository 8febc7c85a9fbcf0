#include "metad/export.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/replace-file.h"
#include "metad/base64.h"

#define TRIES 5 /* for one revision in all pages */
#define READ_MS 10000
#define PREFIX "facts-"
#define SUFFIX ".jsonl"

struct export
{
	struct export_config config;
	sd_event_source *timer;
	bool busy;
	unsigned tries;
	export_done *done;
	void *arg;
	struct buf text;
	char after[STORE_KEY_MAX + 1];
	char path[PATH_MAX];
	struct export_result result;
};

/* --- the text --- */

static int put_entry(struct buf *text, const struct store_entry *entry)
{
	int r = buf_printf(text, "{\"key\":");

	if (r == 0)
		r = buf_json(text, entry->key);
	if (r == 0)
		r = buf_printf(text, ",\"version\":%lu,\"value\":\"", entry->version);
	if (r == 0)
		r = base64_put(text, entry->value, entry->size);
	return r == 0 ? buf_printf(text, "\"}\n") : r;
}

static void utc(char *text, size_t size, const char *format)
{
	time_t now = time(NULL);
	struct tm parts;

	strftime(text, size, format, gmtime_r(&now, &parts));
}

static int put_head(struct export *export)
{
	char now[32];

	utc(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ");
	return buf_printf(&export->text,
	    "{\"format\":\"depsys-facts-1\",\"cluster\":\"%s\",\"node\":\"%s\",\"time\":\"%s\"}\n",
	    export->config.cluster, export->config.node, now);
}

/* --- the file --- */

static int is_ours(const struct dirent *entry)
{
	size_t size = strlen(entry->d_name), end = strlen(SUFFIX);

	return size > end && strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
	       strcmp(entry->d_name + size - end, SUFFIX) == 0;
}

static int earlier(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name); /* their names tell the time */
}

static void remove_old(const struct export *export)
{
	struct dirent **names;
	int count = scandir(export->config.dir, &names, is_ours, earlier);
	char path[PATH_MAX + 300];

	for (int i = 0; i < count; i++) {
		if (i + (int)export->config.keep < count) {
			snprintf(path, sizeof(path), "%s/%s", export->config.dir, names[i]->d_name);
			unlink(path);
		}
		free(names[i]);
	}
	if (count >= 0)
		free(names);
}

/* Whole under its name or not at all. */
static int save(struct export *export)
{
	char fresh[PATH_MAX + 8], now[32];
	int r;

	if (mkdir(export->config.dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	utc(now, sizeof(now), "%Y%m%dT%H%M%SZ");
	snprintf(
	    export->path, sizeof(export->path), "%s/" PREFIX "%s" SUFFIX, export->config.dir, now);
	snprintf(fresh, sizeof(fresh), "%s.new", export->path); /* replace_file()'s */
	r = replace_file(export->path, export->text.data, export->text.size, 0600);
	if (r < 0)
		unlink(fresh); /* a full disk has no room for half a file */
	else
		remove_old(export);
	return r;
}

/* --- page by page --- */

static void ask_page(struct export *export);

static void finish(struct export *export, int rc)
{
	struct export_result result = export->result;
	export_done *done = export->done;

	result.rc = rc;
	result.path = export->path;
	buf_fini(&export->text);
	export->busy = false;
	if (rc < 0)
		log_warning("export to %s: %s", export->config.dir, strerror(-rc));
	else
		log_info("exported path=%s facts=%zu", result.path, result.facts);
	if (done)
		done(export->arg, &result);
}

static void start_over(struct export *export)
{
	int r;

	export->tries++;
	export->result = (struct export_result){0};
	export->after[0] = 0;
	buf_clear(&export->text);
	r = put_head(export);
	if (r < 0)
		finish(export, r);
	else
		ask_page(export);
}

static int take_page(struct export *export, const struct store_reply *reply)
{
	struct export_result *result = &export->result;
	int r = 0;

	if (result->from == 0)
		result->from = reply->revision;
	result->to = reply->revision;
	for (size_t i = 0; r == 0 && i < reply->count; i++)
		r = put_entry(&export->text, &reply->entries[i]);
	if (reply->count)
		snprintf(export->after, sizeof(export->after), "%s",
		    reply->entries[reply->count - 1].key);
	result->facts += reply->count;
	return r;
}

static void end_text(struct export *export)
{
	const struct export_result *result = &export->result;
	int r = buf_printf(&export->text, "{\"facts\":%zu,\"revision\":%lu,\"to\":%lu}\n",
	    result->facts, result->from, result->to);

	finish(export, r == 0 ? save(export) : r);
}

static void paged(void *arg, const struct store_reply *reply)
{
	struct export *export = arg;
	int r = reply->rc == 0 ? take_page(export, reply) : reply->rc;

	if (r < 0)
		finish(export, r);
	else if (export->result.from != export->result.to && export->tries < TRIES)
		start_over(export);
	else if (reply->more)
		ask_page(export);
	else
		end_text(export);
}

static void ask_page(struct export *export)
{
	int r = store_scan(export->config.store, "", export->after, STORE_PAGE_MAX,
	    mono_add_ms(mono_now(), READ_MS), paged, export);

	if (r < 0)
		finish(export, r);
}

int export_begin(struct export *export, export_done *done, void *arg)
{
	if (export->busy)
		return -EBUSY;
	export->busy = true;
	export->tries = 0;
	export->done = done;
	export->arg = arg;
	start_over(export);
	return 0;
}

static int due(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct export *export = userdata;

	(void)usec;
	if (export->config.wanted(export->config.arg))
		(void)export_begin(export, NULL, NULL); /* one that was asked for will do */
	sd_event_source_set_time_relative(source, (uint64_t) export->config.interval_ms * 1000);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int export_new(struct export **out, const struct export_config *config)
{
	struct export *export = calloc(1, sizeof(*export));
	int r = 0;

	if (!export)
		return -ENOMEM;
	export->config = *config;
	if (config->interval_ms)
		r = sd_event_add_time_relative(config->loop, &export->timer, MONO_CLOCK,
		    (uint64_t)config->interval_ms * 1000, 1000000, due, export);
	if (r < 0)
		return export_free(export), r;
	*out = export;
	return 0;
}

struct export *export_free(struct export *export)
{
	if (!export)
		return NULL;
	sd_event_source_disable_unref(export->timer);
	buf_fini(&export->text);
	free(export);
	return NULL;
}
