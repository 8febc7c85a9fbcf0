/*
 * Each file begins with its head and the table of publishers as of then, so that a start reads the newest file
 * only, whatever the size of the log.
 */
#include "busd/eventlog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "busd/segment.h"
#include "busd/syncer.h"
#include "common/log.h"

#define NAME_FORMAT "%016" PRIx64 "-%016" PRIx64 ".log"
#define NAME_SIZE 40
#define HINTS 8

struct segment {
	struct position first;
	uint64_t bytes;
};

/* Where the event after a position stands: who reads on asks for just that. */
struct hint {
	struct position after, segment;
	uint64_t offset;
};

struct eventlog {
	struct eventlog_options options;
	struct sources *sources;
	int directory, file;
	struct segment *segments; /* oldest first; the last one is written */
	size_t count, capacity;
	struct position last;
	struct buf batch;
	size_t batch_events;
	bool dirty;
	uint64_t cut_bytes;
	struct hint hints[HINTS];
	size_t next_hint;
};

static void segment_name(char name[NAME_SIZE], struct position first)
{
	snprintf(name, NAME_SIZE, NAME_FORMAT, first.epoch, first.seq);
}

static int add_segment(struct eventlog *log, struct position first, uint64_t bytes)
{
	if (log->count == log->capacity) {
		size_t capacity = log->capacity ? 2 * log->capacity : 32;
		struct segment *more = reallocarray(log->segments, capacity, sizeof(*more));

		if (!more)
			return -ENOMEM;
		log->segments = more;
		log->capacity = capacity;
	}
	log->segments[log->count++] = (struct segment){first, bytes};
	return 0;
}

static int by_first(const void *a, const void *b)
{
	return position_cmp(((const struct segment *)a)->first, ((const struct segment *)b)->first);
}

static int list_segments(struct eventlog *log)
{
	int r = 0, fd = openat(log->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);

	if (!directory)
		return -errno;
	for (struct dirent *entry; r == 0 && (entry = readdir(directory));) {
		struct position first;
		struct stat st;
		int length = 0;

		if (sscanf(entry->d_name, "%16" SCNx64 "-%16" SCNx64 ".log%n", &first.epoch,
			&first.seq, &length) != 2 ||
		    length != 37 || entry->d_name[length])
			continue;
		if (fstatat(log->directory, entry->d_name, &st, 0) == 0)
			r = add_segment(log, first, (uint64_t)st.st_size);
	}
	closedir(directory);
	if (log->count)
		qsort(log->segments, log->count, sizeof(log->segments[0]), by_first);
	return r;
}

/* A segment's bytes in memory. */
struct mapping {
	const uint8_t *data;
	size_t size;
};

static int map_segment(
    const struct eventlog *log, const struct segment *segment, struct mapping *map)
{
	char name[NAME_SIZE];
	int fd;
	void *data;

	*map = (struct mapping){0};
	if (!segment->bytes)
		return 0;
	segment_name(name, segment->first);
	fd = openat(log->directory, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	data = mmap(NULL, segment->bytes, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (data == MAP_FAILED)
		return -errno;
	*map = (struct mapping){data, segment->bytes};
	return 0;
}

static void unmap_segment(struct mapping *map)
{
	if (map->size)
		munmap((void *)map->data, map->size);
	*map = (struct mapping){0};
}

static void delete_segment(struct eventlog *log, size_t i)
{
	char name[NAME_SIZE];

	segment_name(name, log->segments[i].first);
	if (unlinkat(log->directory, name, 0) < 0)
		log_error("delete %s/%s: %s", log->options.directory, name, strerror(errno));
	log->count--;
	memmove(
	    &log->segments[i], &log->segments[i + 1], (log->count - i) * sizeof(log->segments[0]));
}

/* What a walk over the newest file found. */
struct walk {
	struct segment_head head;
	uint64_t good_bytes;
	enum record_verdict end;
};

static int restore_record(struct eventlog *log, struct walk *walk, const struct record *record)
{
	switch (record->type) {
	case RECORD_HEAD:
		walk->head = record->head;
		log->last = (struct position){record->head.first.epoch, record->head.first.seq - 1};
		return 0;
	case RECORD_SOURCE:
		return sources_restore(
		    log->sources, record->source.name, record->source.boot, record->source.next);
	case RECORD_EVENT:
		log->last.seq = record->event.seq;
		return sources_restore(log->sources, record->event.source, record->event.boot,
		    record->event.number + 1);
	}
	return 0;
}

static int walk_segment(struct eventlog *log, const struct mapping *map, struct walk *walk)
{
	struct record record;
	int r = 0;

	*walk = (struct walk){0};
	while (r == 0) {
		walk->end = record_read(
		    &record, map->data + walk->good_bytes, map->size - walk->good_bytes);
		if (walk->end != RECORD_OK)
			break;
		if (walk->good_bytes == 0 && record.type != RECORD_HEAD) {
			walk->end = RECORD_DAMAGED;
			break;
		}
		r = restore_record(log, walk, &record);
		walk->good_bytes += record.size;
	}
	return r;
}

static int open_segment(struct eventlog *log, const struct segment *segment, int flags)
{
	char name[NAME_SIZE];

	segment_name(name, segment->first);
	log->file = openat(log->directory, name, O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0640);
	return log->file < 0 ? -errno : 0;
}

static int cut_segment(struct eventlog *log, struct segment *segment, const struct walk *walk)
{
	uint64_t cut = segment->bytes - walk->good_bytes;

	if (!cut)
		return 0;
	log_warning("log %s: last record %s, cut bytes=%" PRIu64, log->options.directory,
	    walk->end == RECORD_TORN ? "torn" : "damaged", cut);
	log->cut_bytes += cut;
	segment->bytes = walk->good_bytes;
	return ftruncate(log->file, (off_t)walk->good_bytes) < 0 ? -errno : 0;
}

/* Writes all of it or nothing. */
static int append_bytes(struct eventlog *log, const struct buf *bytes)
{
	struct segment *segment = &log->segments[log->count - 1];
	size_t done = 0;

	while (done < bytes->size) {
		ssize_t n = write(log->file, bytes->data + done, bytes->size - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int r = -errno;

			if (done && ftruncate(log->file, (off_t)segment->bytes) < 0)
				log_error("log %s: take back a cut write: %s",
				    log->options.directory, strerror(errno));
			return r;
		}
		done += (size_t)n;
	}
	segment->bytes += done;
	log->dirty = true;
	return 0;
}

static int pack_beginning(const struct eventlog *log, struct position first, struct buf *out)
{
	struct segment_head head = {.first = first};
	int r;

	memcpy(head.machine_boot, log->options.machine_boot, sizeof(head.machine_boot));
	r = record_pack_head(out, &head);
	for (const struct source *source = sources_oldest(log->sources); r == 0 && source;
	     source = source->newer) {
		struct segment_source known = {.boot = source->boot, .next = source->committed};

		if (!source->committed)
			continue;
		memcpy(known.name, source->name, sizeof(known.name));
		r = record_pack_source(out, &known);
	}
	return r;
}

static void close_file(struct eventlog *log)
{
	if (log->file < 0)
		return;
	if (log->options.syncer)
		syncer_push(log->options.syncer, log->file);
	else
		close(log->file);
	log->file = -1;
}

static int begin_segment(struct eventlog *log, struct position first)
{
	_cleanup_buf_ struct buf bytes = {0};
	int old = log->file;
	int r = pack_beginning(log, first, &bytes);

	if (r == 0)
		r = add_segment(log, first, 0);
	if (r < 0)
		return r;
	log->file = -1;
	r = open_segment(log, &log->segments[log->count - 1], O_CREAT | O_EXCL);
	if (r == 0)
		r = append_bytes(log, &bytes);
	if (r < 0) {
		if (log->file >= 0)
			close(log->file);
		delete_segment(log, log->count - 1);
		log->file = old;
		return r;
	}
	int new = log->file;

	log->file = old;
	close_file(log);
	log->file = new;
	return 0;
}

static uint64_t total_bytes(const struct eventlog *log)
{
	uint64_t total = 0;

	for (size_t i = 0; i < log->count; i++)
		total += log->segments[i].bytes;
	return total;
}

/* The newest file has just begun: leaves room for all of it. */
static void drop_old_segments(struct eventlog *log)
{
	while (log->count > 1 &&
	       total_bytes(log) + log->options.segment_bytes > log->options.total_bytes)
		delete_segment(log, 0);
}

static int begin_epoch(struct eventlog *log)
{
	struct position first = {log->last.epoch + 1, 1};
	int r;

	if (first.epoch < log->options.new_epoch)
		first.epoch = log->options.new_epoch;
	r = begin_segment(log, first);
	if (r == 0)
		log->last = (struct position){first.epoch, 0};
	return r;
}

/* Goes on with the newest file that has a head; what a crash left of a younger one is deleted. */
static int take_newest(struct eventlog *log, bool *goes_on)
{
	bool lost = false;

	*goes_on = false;
	while (log->count) {
		struct segment *segment = &log->segments[log->count - 1];
		struct mapping map;
		struct walk walk;
		int r = map_segment(log, segment, &map);

		if (r == 0)
			r = walk_segment(log, &map, &walk);
		unmap_segment(&map);
		if (r < 0)
			return r;
		if (!walk.good_bytes) {
			lost |= walk.end == RECORD_DAMAGED;
			log->cut_bytes += segment->bytes;
			log->last = (struct position){segment->first.epoch, segment->first.seq - 1};
			delete_segment(log, log->count - 1);
			continue;
		}
		r = open_segment(log, segment, 0);
		if (r == 0)
			r = cut_segment(log, segment, &walk);
		*goes_on = !lost && walk.end != RECORD_DAMAGED &&
			   memcmp(walk.head.machine_boot, log->options.machine_boot, 16) == 0;
		return r;
	}
	return 0;
}

int eventlog_open(
    struct eventlog **out, const struct eventlog_options *options, struct sources *sources)
{
	struct eventlog *log = calloc(1, sizeof(*log));
	bool goes_on;
	int r;

	if (!log)
		return -ENOMEM;
	log->options = *options;
	log->sources = sources;
	log->file = -1;
	log->directory = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = log->directory < 0 ? -errno : list_segments(log);
	if (r == 0)
		r = take_newest(log, &goes_on);
	if (r == 0 && !goes_on)
		r = begin_epoch(log);
	if (r < 0) {
		log_error("open log %s: %s", options->directory, strerror(-r));
		eventlog_free(log);
		return r;
	}
	drop_old_segments(log);
	*out = log;
	return 0;
}

struct eventlog *eventlog_free(struct eventlog *log)
{
	if (!log)
		return NULL;
	close_file(log);
	if (log->directory >= 0)
		close(log->directory);
	buf_fini(&log->batch);
	free(log->segments);
	free(log);
	return NULL;
}

struct position eventlog_next(const struct eventlog *log)
{
	return (struct position){log->last.epoch, log->last.seq + log->batch_events + 1};
}

int eventlog_append(struct eventlog *log, const struct logged_event *event)
{
	struct logged_event stamped = *event;
	int r;

	stamped.seq = eventlog_next(log).seq;
	r = record_pack_event(&log->batch, &stamped);
	if (r == 0)
		log->batch_events++;
	return r;
}

void eventlog_discard(struct eventlog *log)
{
	log->batch_events = 0;
	buf_clear(&log->batch);
}

static int write_batch(struct eventlog *log)
{
	const struct segment *segment = &log->segments[log->count - 1];
	int r;

	if (segment->bytes + log->batch.size > log->options.segment_bytes &&
	    segment->first.seq <= log->last.seq) {
		r = begin_segment(log, (struct position){log->last.epoch, log->last.seq + 1});
		if (r < 0)
			return r;
		drop_old_segments(log);
	}
	return append_bytes(log, &log->batch);
}

int eventlog_commit(struct eventlog *log,
    void (*done)(void *userdata, const struct logged_event *event), void *userdata)
{
	struct record record;
	int r;

	if (!log->batch_events)
		return 0;
	r = write_batch(log);
	if (r == 0) {
		log->last.seq += log->batch_events;
		for (size_t at = 0; done && at < log->batch.size; at += record.size) {
			record_view(&record, log->batch.data + at);
			done(userdata, &record.event);
		}
	}
	eventlog_discard(log);
	return r;
}

/* The newest file whose first event is not after the one that is wanted. */
static size_t find_segment(const struct eventlog *log, struct position after)
{
	size_t low = 0, high = log->count;

	after.seq++;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (position_cmp(log->segments[middle].first, after) <= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static uint64_t find_hint(
    const struct eventlog *log, const struct segment *segment, struct position after)
{
	for (size_t i = 0; i < HINTS; i++)
		if (position_cmp(log->hints[i].after, after) == 0 &&
		    position_cmp(log->hints[i].segment, segment->first) == 0 &&
		    log->hints[i].offset)
			return log->hints[i].offset;
	return 0;
}

static void keep_hint(
    struct eventlog *log, const struct segment *segment, struct position after, uint64_t offset)
{
	log->hints[log->next_hint++ % HINTS] = (struct hint){after, segment->first, offset};
}

struct reading {
	size_t left;
	bool (*event)(void *userdata, const struct logged_event *event);
	void *userdata;
	struct eventlog_page *page;
	bool stopped;
};

static void read_records(struct eventlog *log, const struct segment *segment,
    const struct mapping *map, struct reading *reading)
{
	struct eventlog_page *page = reading->page;
	uint64_t at = find_hint(log, segment, page->reached);
	struct record record;

	for (; !reading->stopped; at += record.size) {
		struct position position;

		if (record_read(&record, map->data + at, map->size - at) != RECORD_OK)
			return;
		if (record.type != RECORD_EVENT)
			continue;
		position = (struct position){segment->first.epoch, record.event.seq};
		if (position_cmp(position, page->reached) <= 0)
			continue;
		if (!reading->left || !reading->event(reading->userdata, &record.event)) {
			keep_hint(log, segment, page->reached, at);
			reading->stopped = page->more = true;
			return;
		}
		reading->left--;
		page->reached = position;
	}
}

int eventlog_read(struct eventlog *log, struct position after, size_t limit,
    bool (*event)(void *userdata, const struct logged_event *event), void *userdata,
    struct eventlog_page *page)
{
	struct reading reading = {limit, event, userdata, page, false};

	*page = (struct eventlog_page){.reached = after};
	for (size_t i = find_segment(log, after); i < log->count && !reading.stopped; i++) {
		struct mapping map;
		int r = map_segment(log, &log->segments[i], &map);

		if (r < 0)
			return r;
		read_records(log, &log->segments[i], &map, &reading);
		unmap_segment(&map);
	}
	return 0;
}

void eventlog_status(const struct eventlog *log, struct eventlog_status *status)
{
	*status = (struct eventlog_status){
	    .last = log->last,
	    .oldest = log->segments[0].first,
	    .segments = log->count,
	    .bytes = total_bytes(log),
	    .cut_bytes = log->cut_bytes,
	};
}

void eventlog_sync(struct eventlog *log)
{
	if (!log->dirty || !log->options.syncer)
		return;
	log->dirty = false;
	syncer_push(log->options.syncer, fcntl(log->file, F_DUPFD_CLOEXEC, 3));
}
