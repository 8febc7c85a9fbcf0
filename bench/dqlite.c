/*
 * One dqlite server as anybody would run it, over plain TCP between the servers, and writes into it: what bench/store.py
 * compares metad's writes with, since metad's store is dqlite with more around it.
 *
 *     bare-dqlite DIR SELF ADDRESS...    this is server SELF (1, 2, ...) of those at the addresses; server 1 begins
 *
 * It says "ready" when it votes. Then each line of standard input is a key: a value of 100 bytes is written under it, over a
 * connection to the leader that stays open, and it says "ok", or what is wrong; then the leader is looked for again.
 */
/* First: dqlite.h has macros of the names that are constants there. */
#include "metad/dqlite-client.h"

#include <arpa/inet.h>
#include <dqlite.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define VALUE_SIZE 100
#define PATIENCE_US 1000000
#define TRIES 600
#define PAUSE_US 100000

struct bench {
	sd_event *loop;
	char **addresses;
	size_t count, self; /* from 1 */
	struct dqlite_conn *leader;
	bool answered;
	uint64_t number; /* of the leader, as answered */
	char error[200]; /* "" when it went well */
};

static void on_lost(void *arg)
{
	(void)arg;
}

static void on_answer(void *arg, const struct dqlite_answer *answer)
{
	struct bench *bench = arg;

	bench->answered = true;
	bench->number = answer->leader;
	if (answer->rc != 0)
		snprintf(bench->error, sizeof(bench->error), "%s",
		    answer->rc < 0 ? strerror(-answer->rc) : answer->message);
}

/* Whether what was asked (r: of the asking) is answered, and well. */
static bool went_well(struct bench *bench, int r)
{
	bench->answered = false;
	bench->error[0] = '\0';
	while (r >= 0 && !bench->answered) {
		r = sd_event_run(bench->loop, PATIENCE_US);
		if (r == 0)
			r = -ETIMEDOUT;
	}
	if (r < 0)
		snprintf(bench->error, sizeof(bench->error), "%s", strerror(-r));
	return !bench->error[0];
}

static int dial(const char *address)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	char host[INET_ADDRSTRLEN];
	unsigned port;
	int fd, one = 1;

	if (sscanf(address, "%15[0-9.]:%u", host, &port) != 2 ||
	    inet_pton(AF_INET, host, &to.sin_addr) != 1)
		return -EINVAL;
	to.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static struct dqlite_conn *connect_to(struct bench *bench, size_t number)
{
	struct dqlite_conn *conn = NULL;
	int fd = dial(bench->addresses[number - 1]);
	int r = fd < 0 ? fd : dqlite_conn_new(&conn, bench->loop, fd, on_lost, bench);

	if (r < 0)
		snprintf(
		    bench->error, sizeof(bench->error), "server %zu: %s", number, strerror(-r));
	return conn;
}

static uint64_t ask_leader(struct bench *bench, size_t number)
{
	struct dqlite_conn *conn = connect_to(bench, number);
	uint64_t leader = 0;

	if (conn && went_well(bench, dqlite_conn_leader(conn, on_answer, bench)))
		leader = bench->number;
	dqlite_conn_free(conn);
	return leader;
}

static bool open_leader(struct bench *bench)
{
	uint64_t leader = 0;

	bench->leader = dqlite_conn_free(bench->leader);
	for (size_t i = 1; i <= bench->count && leader == 0; i++)
		leader = ask_leader(bench, i);
	if (leader == 0 || leader > bench->count)
		return false;
	bench->leader = connect_to(bench, leader);
	if (bench->leader &&
	    went_well(bench, dqlite_conn_open(bench->leader, "bench", on_answer, bench)))
		return true;
	bench->leader = dqlite_conn_free(bench->leader);
	return false;
}

static bool exec(
    struct bench *bench, const char *sql, const struct wire_value *values, size_t count)
{
	return went_well(
	    bench, dqlite_conn_exec(bench->leader, sql, values, count, on_answer, bench));
}

/* The first makes the table; the others are added and vote. */
static bool join(struct bench *bench)
{
	const char *address = bench->addresses[bench->self - 1];

	if (!open_leader(bench))
		return false;
	if (bench->self == 1)
		return exec(bench,
		    "CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY NOT NULL, value BLOB)",
		    NULL, 0);
	return went_well(
		   bench, dqlite_conn_add(bench->leader, bench->self, address, on_answer, bench)) &&
	       went_well(bench,
		   dqlite_conn_assign(bench->leader, bench->self, WIRE_VOTER, on_answer, bench));
}

static bool write_value(struct bench *bench, const char *key)
{
	static uint64_t count;
	char value[VALUE_SIZE] = {0};

	/* Another one each time: SQLite writes nothing when a row stays as it is. */
	count++;
	memcpy(value, &count, sizeof(count));
	if (!bench->leader && !open_leader(bench))
		return false;
	if (exec(bench,
		"INSERT INTO entry (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = "
		"excluded.value",
		(struct wire_value[]){wire_text(key), wire_blob(value, sizeof(value))}, 2))
		return true;
	bench->leader = dqlite_conn_free(bench->leader);
	return false;
}

static int serve(struct bench *bench)
{
	char key[256];

	for (int i = 0; !join(bench); i++) {
		if (i == TRIES) {
			fprintf(stderr, "bare-dqlite: cannot join: %s\n", bench->error);
			return 1;
		}
		usleep(PAUSE_US);
	}
	puts("ready");
	while (fgets(key, sizeof(key), stdin)) {
		key[strcspn(key, "\n")] = '\0';
		puts(write_value(bench, key) ? "ok" : bench->error);
	}
	dqlite_conn_free(bench->leader);
	return 0;
}

static int start(dqlite_node **node, size_t self, const char *address, const char *dir)
{
	int r = dqlite_node_create(self, address, dir, node);

	if (r == 0)
		r = dqlite_node_set_bind_address(*node, address);
	if (r == 0)
		r = dqlite_node_start(*node);
	if (r != 0)
		fprintf(stderr, "bare-dqlite: %s: %s\n", address,
		    *node ? dqlite_node_errmsg(*node) : "no memory");
	return r;
}

int main(int argc, char **argv)
{
	struct bench bench = {.addresses = argv + 3, .count = argc < 4 ? 0 : (size_t)argc - 3};
	dqlite_node *node = NULL;

	bench.self = argc < 4 ? 0 : strtoul(argv[2], NULL, 10);
	if (bench.self == 0 || bench.self > bench.count) {
		fprintf(stderr, "usage: bare-dqlite DIR SELF ADDRESS...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (sd_event_new(&bench.loop) < 0 ||
	    start(&node, bench.self, bench.addresses[bench.self - 1], argv[1]) != 0)
		return 1;
	return serve(&bench); /* the server ends with the process: its directory is the caller's */
}
