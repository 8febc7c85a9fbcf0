#include "busd/eventlog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "busd/crc32c.h"
#include "common/test.h"

static char directory[] = "/tmp/dst-eventlog-XXXXXX";
static struct sources *sources;
static struct eventlog_options options;

static void empty_directory(void)
{
	DIR *dir = opendir(directory);

	check(dir != NULL);
	for (struct dirent *entry; (entry = readdir(dir));)
		if (entry->d_name[0] != '.')
			check(unlinkat(dirfd(dir), entry->d_name, 0) == 0);
	closedir(dir);
	options = (struct eventlog_options){.directory = directory,
	    .segment_bytes = 1 << 20,
	    .total_bytes = 16 << 20,
	    .machine_boot = {1},
	    .new_epoch = 1000};
}

static struct eventlog *open_log(void)
{
	struct eventlog *log;

	sources = sources_free(sources);
	check_int(sources_new(&sources, 64), 0);
	check_int(eventlog_open(&log, &options, sources), 0);
	return log;
}

/* One event with number as its body, through the same steps as in busd. */
static int tell(struct eventlog *log, uint64_t number, size_t body_size)
{
	static const struct source_route route = {1, {1}};
	uint8_t body[4096] = {0};
	enum source_verdict verdict;
	int r;

	memcpy(body, &number, sizeof(number));
	check_int(sources_offer(sources, "fdd", 7, number, number == 1, &route, &verdict), 0);
	check_int(verdict, SOURCE_NEXT);
	check_int(eventlog_append(log, &(struct logged_event){.boot = 7,
					   .number = number,
					   .source = "fdd",
					   .topic = "t.x",
					   .topic_size = 3,
					   .header = "\x80",
					   .header_size = 1,
					   .body = body,
					   .body_size = body_size}),
	    0);
	r = eventlog_commit(log, NULL, NULL);
	if (r == 0)
		sources_commit(sources);
	else
		sources_roll_back(sources);
	return r;
}

static void tell_many(struct eventlog *log, uint64_t from, uint64_t to, size_t body_size)
{
	for (uint64_t number = from; number <= to; number++)
		check_int(tell(log, number, body_size), 0);
}

struct seen {
	uint64_t count, first, last;
};

/* The numbers must go up by one. */
static bool on_event(void *userdata, const struct logged_event *event)
{
	struct seen *seen = userdata;
	uint64_t number;

	memcpy(&number, event->body, sizeof(number));
	check(number == event->number);
	check(event->topic_size == 3 && memcmp(event->topic, "t.x", 3) == 0);
	check_str(event->source, "fdd");
	if (seen->count++ == 0)
		seen->first = number;
	else
		check_int(number, seen->last + 1);
	seen->last = number;
	return true;
}

static struct seen read_all(struct eventlog *log, struct position after, size_t limit)
{
	struct eventlog_page page = {.more = true, .reached = after};
	struct seen seen = {0};

	while (page.more)
		check_int(eventlog_read(log, page.reached, limit, on_event, &seen, &page), 0);
	return seen;
}

static void newest_file(char path[300])
{
	DIR *dir = opendir(directory);
	char best[64] = "";

	for (struct dirent *entry; (entry = readdir(dir));)
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, best) > 0)
			snprintf(best, sizeof(best), "%.60s", entry->d_name);
	closedir(dir);
	snprintf(path, 300, "%s/%s", directory, best);
}

static void crc32c_gives_the_published_value(void)
{
	uint8_t zeros[32] = {0};

	check(crc32c(0, "123456789", 9) == 0xe3069283);
	check(crc32c(0, zeros, 32) == 0x8a9136aa); /* RFC 3720, B.4 */
	check(crc32c(crc32c(0, "1234", 4), "56789", 5) == 0xe3069283);
}

static void what_was_committed_is_read_back_in_order(void)
{
	struct eventlog *log;
	struct seen seen;

	empty_directory();
	log = open_log();
	tell_many(log, 1, 3000, 100);
	seen = read_all(log, (struct position){0, 0}, 7);
	check_int(seen.count, 3000);
	check_int(seen.first, 1);
	seen = read_all(log, (struct position){1000, 2990}, 500);
	check_int(seen.count, 10);
	check_int(seen.first, 2991);
	seen = read_all(log, (struct position){1000, 3000}, 500);
	check_int(seen.count, 0);
	eventlog_free(log);
}

static void a_restart_goes_on_with_the_same_epoch_and_numbers(void)
{
	struct eventlog *log = open_log();
	enum source_verdict verdict;

	check_int(eventlog_next(log).epoch, 1000);
	check_int(eventlog_next(log).seq, 3001);
	check_int(
	    sources_offer(sources, "fdd", 7, 3000, false, &(struct source_route){0}, &verdict), 0);
	check_int(verdict, SOURCE_REPEATED);
	tell_many(log, 3001, 3010, 100);
	eventlog_free(log);
}

static void files_rotate_and_the_oldest_are_deleted(void)
{
	struct eventlog_status status;
	struct eventlog *log;
	struct seen seen;

	empty_directory();
	options.segment_bytes = 64 << 10;
	options.total_bytes = 512 << 10;
	log = open_log();
	tell_many(log, 1, 4000, 1000);
	eventlog_status(log, &status);
	check_range(status.bytes, 440 << 10, 512 << 10);
	check_range(status.segments, 7, 9);
	seen = read_all(log, (struct position){0, 0}, 500);
	check_int(seen.last, 4000);
	check_int(seen.first, status.oldest.seq);
	eventlog_free(log);
	log = open_log(); /* publishers are known from the head of the newest file */
	tell_many(log, 4001, 4002, 1000);
	eventlog_free(log);
}

static void a_torn_tail_is_cut_and_the_epoch_goes_on(void)
{
	char path[300];
	struct eventlog *log;
	struct eventlog_status status;
	struct stat st;

	empty_directory();
	log = open_log();
	tell_many(log, 1, 100, 50);
	eventlog_free(log);
	newest_file(path);
	check(stat(path, &st) == 0);
	for (off_t cut = 1; cut < 60; cut += 7) {
		check(truncate(path, st.st_size - cut) == 0);
		log = open_log();
		eventlog_status(log, &status);
		check(status.cut_bytes > 0);
		check_int(status.last.seq, 99);
		check_int(status.last.epoch, 1000);
		tell_many(log, 100, 100, 50);
		check_int(read_all(log, (struct position){0, 0}, 9).count, 100);
		eventlog_free(log);
	}
}

static void a_damaged_record_begins_a_new_epoch(void)
{
	char path[300], byte = 'x';
	struct eventlog *log;
	struct seen seen;
	int fd;

	empty_directory();
	log = open_log();
	tell_many(log, 1, 100, 50);
	eventlog_free(log);
	newest_file(path);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	check(pwrite(fd, &byte, 1, 1000) == 1);
	close(fd);
	log = open_log();
	check_int(eventlog_next(log).epoch, 1001);
	check_int(eventlog_next(log).seq, 1);
	seen = read_all(log, (struct position){0, 0}, 500);
	check_range(seen.count, 5, 20);
	eventlog_free(log);
}

static void a_reboot_begins_a_new_epoch(void)
{
	struct eventlog *log;

	empty_directory();
	log = open_log();
	tell_many(log, 1, 10, 50);
	eventlog_free(log);
	options.machine_boot[0] = 2;
	options.new_epoch = 2000;
	log = open_log();
	check_int(eventlog_next(log).epoch, 2000);
	check_int(eventlog_next(log).seq, 1);
	tell_many(log, 11, 20, 50);
	check_int(read_all(log, (struct position){1000, 5}, 3).count, 15);
	check_int(read_all(log, (struct position){1500, 77}, 3).count, 10);
	eventlog_free(log);
	log = open_log();
	check_int(eventlog_next(log).epoch, 2000);
	eventlog_free(log);
}

static void a_file_that_a_crash_left_empty_is_no_harm(void)
{
	char path[300];
	struct eventlog *log;

	empty_directory();
	log = open_log();
	tell_many(log, 1, 10, 50);
	eventlog_free(log);
	snprintf(path, sizeof(path), "%s/%016x-%016x.log", directory, 1000, 11);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	log = open_log();
	check_int(eventlog_next(log).epoch, 1000);
	tell_many(log, 11, 12, 50);
	eventlog_free(log);
}

/* A disk that is full: RLIMIT_FSIZE cuts the write as ENOSPC does. */
static void a_write_that_fails_leaves_nothing_and_is_made_up_later(void)
{
	struct rlimit limit;
	struct eventlog *log;
	struct eventlog_status status;

	empty_directory();
	signal(SIGXFSZ, SIG_IGN);
	log = open_log();
	tell_many(log, 1, 10, 1000);
	eventlog_status(log, &status);
	check(getrlimit(RLIMIT_FSIZE, &limit) == 0);
	check(setrlimit(RLIMIT_FSIZE, &(struct rlimit){status.bytes + 300, limit.rlim_max}) == 0);
	check_int(tell(log, 11, 1000), -EFBIG);
	check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	check_int(eventlog_next(log).seq, 11);
	tell_many(log, 11, 20, 1000);
	check_int(read_all(log, (struct position){0, 0}, 500).count, 20);
	eventlog_free(log);
	log = open_log();
	eventlog_status(log, &status);
	check_int(status.cut_bytes, 0);
	eventlog_free(log);
}

int main(void)
{
	int r;

	check(mkdtemp(directory) != NULL);
	r = test_main((struct test[]){
	    TEST(crc32c_gives_the_published_value),
	    TEST(what_was_committed_is_read_back_in_order),
	    TEST(a_restart_goes_on_with_the_same_epoch_and_numbers),
	    TEST(files_rotate_and_the_oldest_are_deleted),
	    TEST(a_torn_tail_is_cut_and_the_epoch_goes_on),
	    TEST(a_damaged_record_begins_a_new_epoch),
	    TEST(a_reboot_begins_a_new_epoch),
	    TEST(a_file_that_a_crash_left_empty_is_no_harm),
	    TEST(a_write_that_fails_leaves_nothing_and_is_made_up_later),
	    {0},
	});
	empty_directory();
	rmdir(directory);
	sources_free(sources);
	return r;
}
