/*
 * The conformance suite on the store on dqlite: one voter in a directory of its own.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <raft.h>
#include <raft/uv.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "common/log.h"
#include "common/test-tree.h"
#include "common/test.h"
#include "metad/engine.h"
#include "metad/store-dqlite.h"
#include "metad/store-suite.h"

static const struct engine_voter voter = {0x1234, "n1"};
static char dir[] = "/tmp/dst-metad-XXXXXX";
static struct engine *engine;
static sd_event *loop;
static bool private;

static int no_dial(void *arg, const char *name, int *fd)
{
	(void)arg;
	(void)name;
	(void)fd;
	return -EHOSTUNREACH;
}

static const struct engine_config engine_config = {
    .dir = dir,
    .self = 0x1234,
    .name = "n1",
    .voters = &voter,
    .count = 1,
    .latency_ms = 20,
    .dial = no_dial,
};

static int dial_here(void *arg, const char *name, int *fd)
{
	check_str(name, "n1");
	return engine_connect(arg, fd);
}

static struct store *open_with(int (*dial)(void *, const char *, int *), void *arg)
{
	struct store_dqlite_config config = {
	    .loop = loop,
	    .voters = &voter,
	    .count = 1,
	    .latency_ms = 20,
	    .dial = dial,
	    .arg = arg,
	};
	struct store *store;

	return store_dqlite_open(&store, &config) == 0 ? store : NULL;
}

static struct store *open_client(void *arg)
{
	return open_with(dial_here, arg);
}

/* A stream that passes on what both say, until a transaction was sent: what is said to that is lost, and the stream too. */
static struct {
	int end[2]; /* to the client, to the engine */
	sd_event_source *source[2];
	bool sent, lost;
} lossy;

static int pass_on(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	char bytes[16384];
	int to = lossy.end[fd == lossy.end[0]];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)source;
	(void)events;
	(void)userdata;
	lossy.lost = lossy.sent && fd == lossy.end[1];
	if (fd == lossy.end[0] && n > 0)
		lossy.sent |= memmem(bytes, (size_t)n, "[[", 2) != NULL;
	if (n > 0 && !lossy.lost)
		return write(to, bytes, (size_t)n) == n ? 0 : -EIO;
	for (int i = 0; i < 2; i++) {
		sd_event_source_disable_unref(lossy.source[i]);
		close(lossy.end[i]);
	}
	return 0;
}

static int dial_lossy(void *arg, const char *name, int *fd)
{
	int pair[2];

	if (lossy.lost)
		return dial_here(arg, name, fd);
	check_int(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	check_int(dial_here(arg, name, &lossy.end[1]), 0);
	lossy.end[0] = pair[1];
	for (int i = 0; i < 2; i++)
		check(sd_event_add_io(
			  loop, &lossy.source[i], lossy.end[i], EPOLLIN, pass_on, NULL) >= 0);
	*fd = pair[0];
	return 0;
}

static struct store *open_lossy(void *arg)
{
	return open_with(dial_lossy, arg);
}

static void pump(void *arg)
{
	(void)arg;
	check(sd_event_run(loop, UINT64_MAX) >= 0);
}

static void clean_up(void)
{
	test_remove_tree(dir);
}

static void start(void)
{
	char error[300];

	check_int(engine_new(&engine, &private), 0);
	if (engine_start(engine, &engine_config, error, sizeof(error)) < 0) {
		printf("Bail out! %s\n", error);
		exit(1);
	}
}

static void keep_version(void *arg, const struct store_reply *reply)
{
	check_int(reply->rc, 0);
	*(uint64_t *)arg = reply->entries[0].version;
}

static uint64_t version_of(const char *key)
{
	struct store *store = open_client(engine);
	uint64_t version = UINT64_MAX;

	check_int(store_get(store, key, mono_add_ms(mono_now(), 60000), keep_version, &version), 0);
	while (version == UINT64_MAX)
		pump(NULL);
	store_close(store);
	return version;
}

static void a_restart_keeps_the_versions(void)
{
	uint64_t before = version_of("shared");

	check(before > 0);
	engine = engine_free(engine);
	start();
	check_int(version_of("shared"), before);
}

enum reach {
	REACH_NOTHING, /* no such name here */
	REACH_SILENCE, /* accepted and closed without an answer */
	REACH_ANSWER,
};

/* Asks dqlite by its name who leads, as a client would. */
static enum reach ask_by_name(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = (socklen_t)(sizeof(sa_family_t) + strlen(name));
	const uint64_t words[] = {1, 1, 0}; /* version, head of LEADER, its body */
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	enum reach reach = REACH_SILENCE;
	char byte;

	memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
	if (connect(fd, (void *)&address, size) < 0)
		reach = REACH_NOTHING;
	else if (write(fd, words, sizeof(words)) == sizeof(words) && read(fd, &byte, 1) == 1)
		reach = REACH_ANSWER;
	close(fd);
	return reach;
}

/* The exit code of a function in a process of its own. */
static int in_child(int (*function)(void))
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(function());
	check(waitpid(child, &status, 0) == child);
	check(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int ask_from_child(void)
{
	signal(SIGPIPE, SIG_IGN);
	return (int)ask_by_name(engine_name(engine));
}

static void another_process_cannot_reach_dqlite(void)
{
	if (private) {
		check_int(in_child(ask_from_child), REACH_NOTHING);
		check_int(ask_by_name(engine_name(engine)), REACH_NOTHING);
	} else {
		check_int(in_child(ask_from_child), REACH_SILENCE);
		check_int(ask_by_name(engine_name(engine)), REACH_ANSWER);
	}
}

static int check_disk_as_nobody(void)
{
	return setuid(65534) < 0 ? EXIT_FAILURE : -engine_check_disk(dir, 0);
}

static void a_full_or_forbidden_disk_is_told(void)
{
	check_int(engine_check_disk(dir, 4096), 0);
	check_int(engine_check_disk(dir, UINT64_MAX), -ENOSPC);
	check_int(engine_check_disk("/nonexistent", 0), -ENOENT);
	if (geteuid() == 0)
		check_int(in_child(check_disk_as_nobody), EACCES);
}

static void keep_rc(void *arg, const struct store_reply *reply)
{
	*(int *)arg = reply->rc;
}

static void the_deadline_ends_what_no_voter_answers(void)
{
	struct store_dqlite_config config = {
	    .loop = loop, .voters = &voter, .count = 1, .latency_ms = 20, .dial = no_dial};
	struct store_op op = {"k", 0, STORE_PUT, "v", 1};
	struct mono start_at = mono_now();
	struct store_txn txn = {&op, 1, {{0, 0}}, mono_add_ms(start_at, 300)};
	struct store *store;
	int rc = 1;

	check_int(store_dqlite_open(&store, &config), 0);
	check_int(store_txn(store, &txn, keep_rc, &rc), 0);
	while (rc == 1)
		pump(NULL);
	check_int(rc, -ETIMEDOUT);
	check_range(mono_to_ms(mono_sub(mono_now(), start_at)), 290, 60000);
	store_close(store);
}

static void write_random(struct store *store, size_t size)
{
	static uint8_t value[STORE_VALUE_MAX];
	struct store_op op = {"random", STORE_ANY, STORE_PUT, value, size};
	struct store_txn txn = {&op, 1, {{0, 0}}, mono_add_ms(mono_now(), 60000)};
	int rc = INT_MAX;

	check(getrandom(value, size, 0) == (ssize_t)size);
	check_int(store_txn(store, &txn, keep_rc, &rc), 0);
	while (rc == INT_MAX)
		pump(NULL);
	check_int(rc, 0);
}

static atomic_int connections;

static int count_connection(void)
{
	connections++;
	return SQLITE_OK;
}

/* The session's is open by then; a look at the log's length is let through once in 64 pages, of which a write takes three. */
static void an_entry_applied_opens_no_connection_of_sqlite(void)
{
	struct store *store = open_client(engine);

	write_random(store, 100);
	sqlite3_auto_extension((void (*)(void))count_connection);
	for (int i = 0; i < 20; i++)
		write_random(store, 100);
	sqlite3_cancel_auto_extension((void (*)(void))count_connection);
	check_range(connections, 0, 10);
	store_close(store);
}

struct snapshot {
	unsigned long index;
	off_t size; /* of the database and its write-ahead log */
};

static struct snapshot newest_snapshot(void)
{
	struct snapshot newest = {0};
	char path[PATH_MAX];
	struct dirent *entry;
	unsigned long index;
	struct stat st;
	DIR *found;

	snprintf(path, sizeof(path), "%s/dqlite", dir);
	found = opendir(path);
	check(found);
	while ((entry = readdir(found))) {
		if (sscanf(entry->d_name, "snapshot-%*u-%lu", &index) == 1 &&
		    !strchr(entry->d_name, '.') && index > newest.index &&
		    fstatat(dirfd(found), entry->d_name, &st, 0) == 0)
			newest = (struct snapshot){index, st.st_size};
	}
	closedir(found);
	return newest;
}

/* Uncut, it would hold the 12 MiB and more that were written by then, and all that follows. */
static void the_write_ahead_log_is_cut_though_its_length_is_seldom_asked(void)
{
	struct store *store = open_client(engine);
	struct snapshot first = newest_snapshot(), last = first;

	for (int i = 0; i < 1000 && (last.index < first.index + 200 || last.size > 10 << 20); i++) {
		write_random(store, STORE_VALUE_MAX);
		last = newest_snapshot();
	}
	check(last.index >= first.index + 200);
	check(last.size <= 10 << 20);
	store_close(store);
}

/* The io is made as dqlite makes it: what is called is whatever the linker gave libdqlite too. */
static void a_message_to_no_leader_is_dropped(void)
{
	const struct raft_message message = {.type = RAFT_IO_APPEND_ENTRIES_RESULT};
	struct raft_uv_transport transport = {0};
	struct raft_io io = {0};
	struct raft_io_send request;
	uv_loop_t uv;

	check_int(uv_loop_init(&uv), 0);
	check_int(raft_uv_tcp_init(&transport, &uv), 0);
	check_int(raft_uv_init(&io, &uv, dir, &transport), 0);
	check_int(io.send(&io, &request, &message, NULL), RAFT_NOCONNECTION);
	raft_uv_close(&io);
	raft_uv_tcp_close(&transport);
	check_int(uv_loop_close(&uv), 0);
}

/* libdqlite finds it by the same look-up in the program first, libraft second. */
static void the_guards_stand_before_the_libraries(void)
{
	check((uintptr_t)dlsym(RTLD_DEFAULT, "raft_uv_init") == (uintptr_t)raft_uv_init);
	check((uintptr_t)dlsym(RTLD_NEXT, "raft_uv_init") != (uintptr_t)raft_uv_init);
	check((uintptr_t)dlsym(RTLD_DEFAULT, "raft_init") == (uintptr_t)raft_init);
	check((uintptr_t)dlsym(RTLD_DEFAULT, "sqlite3_open_v2") == (uintptr_t)sqlite3_open_v2);
}

int main(void)
{
	static const struct test own[] = {
	    TEST(another_process_cannot_reach_dqlite),
	    TEST(a_restart_keeps_the_versions),
	    TEST(a_full_or_forbidden_disk_is_told),
	    TEST(the_deadline_ends_what_no_voter_answers),
	    TEST(an_entry_applied_opens_no_connection_of_sqlite),
	    TEST(the_write_ahead_log_is_cut_though_its_length_is_seldom_asked),
	    TEST(a_message_to_no_leader_is_dropped),
	    TEST(the_guards_stand_before_the_libraries),
	};
	int n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	log_init("test-store-dqlite");
	check(mkdtemp(dir));
	atexit(clean_up);
	check(sd_event_new(&loop) >= 0);
	start();
	suite_run(&(struct suite){open_client, open_lossy, pump, engine}, &n);
	check(lossy.lost);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		own[i].run();
		printf("ok %d - %s\n", ++n, own[i].claim);
	}
	printf("1..%d\n", n);
	engine = engine_free(engine);
	sd_event_unref(loop);
	return 0;
}
