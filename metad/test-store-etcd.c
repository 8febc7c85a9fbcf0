/*
 * The conformance suite on the store on etcd: one member of Debian's etcd on loopback, TLS with client certificates, and between
 * it and the client, where a claim needs it, a relay that loses answers or holds requests back.
 *
 * usage: test-store-etcd CERTIFICATES    (tests/certificates)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/test-tree.h"
#include "common/test.h"
#include "metad/store-etcd.h"
#include "metad/store-suite.h"

#define SKIP 77
#define REQUEST_MIN 700 /* bytes in one go: a transaction, no look */

static char dir[64];
static sd_event *loop;
static pid_t etcd;
static int port;

/* --- files and processes --- */

static void clean_up(void)
{
	if (etcd > 0) {
		kill(etcd, SIGKILL);
		waitpid(etcd, NULL, 0);
	}
	test_remove_tree(dir);
}

/* Stays as it is, for configurations borrow it. */
static const char *file(const char *name)
{
	static char paths[32][160];
	char path[160];
	size_t i = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	while (paths[i][0] && strcmp(paths[i], path) != 0)
		check(++i < 32);
	memcpy(paths[i], path, sizeof(path));
	return paths[i];
}

/* Its output goes to DIR/log; it ends with us. */
static pid_t run(char *const *words)
{
	pid_t child = fork();
	int fd;

	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = open(file("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	execvp(words[0], words);
	_exit(127);
}

static int listen_on_loopback(int *chosen)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check_int(bind(fd, (void *)&address, size), 0);
	check_int(listen(fd, 16), 0);
	check_int(getsockname(fd, (void *)&address, &size), 0);
	*chosen = ntohs(address.sin_port);
	return fd;
}

static int free_port(void)
{
	int chosen;

	close(listen_on_loopback(&chosen));
	return chosen;
}

static int connect_to_etcd(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	    .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (void *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void start_etcd(void)
{
	char client[64], peer[64], cluster[80];

	port = free_port();
	snprintf(client, sizeof(client), "https://127.0.0.1:%d", port);
	snprintf(peer, sizeof(peer), "http://127.0.0.1:%d", free_port());
	snprintf(cluster, sizeof(cluster), "one=%s", peer);
	char *words[] = {"etcd", "--name", "one", "--data-dir", (char *)file("data"),
	    "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls",
	    peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
	    "--cert-file", (char *)file("server.pem"), "--key-file", (char *)file("server.key"),
	    "--trusted-ca-file", (char *)file("ca.pem"), "--client-cert-auth", "--logger", "zap",
	    NULL};
	etcd = run(words);
}

/* Serving, or ended: somebody else took one of the ports meanwhile. */
static bool is_up(void)
{
	for (int i = 0; i < 1200; i++) {
		int fd = connect_to_etcd();

		if (fd >= 0) {
			close(fd);
			return true;
		}
		if (waitpid(etcd, NULL, WNOHANG) == etcd)
			return false;
		usleep(50000);
	}
	return false;
}

static void make_certificates(const char *program)
{
	char *words[] = {(char *)program, dir, "127.0.0.1", NULL};
	int status;

	check(waitpid(run(words), &status, 0) > 0);
	check_int(status, 0);
}

/* --- the relay --- */

enum mode {
	PASS,
	LOSE, /* the answer to the next transaction, and the connection */
	HOLD, /* the next transaction, until it is let go */
	CUT,  /* no connection comes about */
};

struct pair {
	int end[2]; /* to the client, to etcd */
	sd_event_source *source[2];
	bool lose;
	char held[16384];
	size_t held_size;
};

static struct {
	enum mode mode;
	size_t armed; /* connections of before are meant: those that come are shaking hands */
	int port;
	struct pair pairs[256];
	size_t count;
	struct pair *holding;
	bool lost;
} relay;

static void end_side(struct pair *pair, int side)
{
	pair->source[side] = sd_event_source_disable_unref(pair->source[side]);
	if (pair->end[side] >= 0)
		close(pair->end[side]);
	pair->end[side] = -1;
}

/* What the relay does with bytes of the client, by its mode; true: it has them. */
static bool catches(struct pair *pair, const char *bytes, size_t size)
{
	if (relay.holding == pair)
		return true; /* that it hangs up */
	if (relay.mode == PASS || size < REQUEST_MIN || pair >= relay.pairs + relay.armed)
		return false;
	pair->lose = relay.mode == LOSE;
	if (relay.mode == HOLD) {
		check(size <= sizeof(pair->held));
		memcpy(pair->held, bytes, size);
		pair->held_size = size;
		relay.holding = pair;
	}
	relay.mode = PASS;
	return relay.holding == pair;
}

static int pass_on(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct pair *pair = userdata;
	char bytes[16384];
	bool from_client = fd == pair->end[0];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)source;
	(void)events;
	if (n > 0 && from_client && catches(pair, bytes, (size_t)n))
		return 0;
	relay.lost |= n > 0 && !from_client && pair->lose;
	if (n > 0 && (from_client || !pair->lose) &&
	    send(pair->end[from_client], bytes, (size_t)n, MSG_NOSIGNAL) == n)
		return 0;
	end_side(pair, 0);
	if (pair != relay.holding)
		end_side(pair, 1);
	return 0;
}

static int take_client(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct pair *pair = &relay.pairs[relay.count];

	(void)source;
	(void)events;
	(void)userdata;
	if (relay.mode == CUT) {
		close(accept(fd, NULL, NULL));
		return 0;
	}
	relay.count++;
	check(relay.count <= sizeof(relay.pairs) / sizeof(relay.pairs[0]));
	pair->end[0] = accept(fd, NULL, NULL);
	pair->end[1] = connect_to_etcd();
	for (int i = 0; i < 2; i++)
		check(sd_event_add_io(
			  loop, &pair->source[i], pair->end[i], EPOLLIN, pass_on, pair) >= 0);
	return 0;
}

static void arm_relay(enum mode mode)
{
	relay.mode = mode;
	relay.armed = relay.count;
}

static void start_relay(void)
{
	int fd = listen_on_loopback(&relay.port);

	check(sd_event_add_io(loop, NULL, fd, EPOLLIN, take_client, NULL) >= 0);
}

/* --- clients --- */

static void pump(void *arg)
{
	(void)arg;
	check(sd_event_run(loop, UINT64_MAX) >= 0);
}

static struct store_etcd_config config_of(const char *cluster, int at)
{
	struct store_etcd_config config = {
	    .loop = loop,
	    .cluster = cluster,
	    .count = 1,
	    .files = {file("ca.pem"), file("client.pem"), file("client.key")},
	};

	snprintf(config.endpoint[0], sizeof(config.endpoint[0]), "https://127.0.0.1:%d", at);
	return config;
}

static struct store *open_with(const struct store_etcd_config *config)
{
	struct store *store;

	check_int(store_etcd_open(&store, config), 0);
	return store;
}

static struct store *open_client(void *arg)
{
	struct store_etcd_config config = config_of("test", port);

	(void)arg;
	return open_with(&config);
}

struct kept {
	bool done;
	int rc;
	uint64_t revision, version, conflict_version;
};

static void keep(void *arg, const struct store_reply *reply)
{
	struct kept *kept = arg;

	*kept = (struct kept){.done = true,
	    .rc = reply->rc,
	    .revision = reply->revision,
	    .version = reply->count ? reply->entries[0].version : 0,
	    .conflict_version = reply->conflict_version};
}

static struct kept await(struct kept *kept)
{
	while (!kept->done)
		pump(NULL);
	return *kept;
}

static struct mono in_ms(int64_t ms)
{
	return mono_add_ms(mono_now(), ms);
}

static uint64_t version_of(struct store *store, const char *key)
{
	struct kept kept = {0};

	check_int(store_get(store, key, in_ms(60000), keep, &kept), 0);
	check_int(await(&kept).rc, 0);
	return kept.version;
}

static void submit(
    struct store *store, const struct store_op *op, uint64_t nonce, int64_t ms, struct kept *kept)
{
	struct store_txn txn = {op, 1, {{nonce, nonce}}, in_ms(ms)};

	kept->done = false;
	check_int(store_txn(store, &txn, keep, kept), 0);
}

static struct kept put(struct store *store, const char *key, uint64_t expected, uint64_t nonce)
{
	struct store_op op = {key, expected, STORE_PUT, "x", 1};
	struct kept kept;

	submit(store, &op, nonce, 60000, &kept);
	return await(&kept);
}

static void count_hint(void *arg, const char *key, uint64_t revision)
{
	(void)revision;
	((unsigned *)arg)[key != NULL]++;
}

/* A client behind the relay whose connections are made: what it sends next is what it was asked. */
static struct store *open_relayed(void)
{
	struct store_etcd_config config = config_of("test", relay.port);
	struct store *store = open_with(&config);
	unsigned hints[2] = {0};
	struct store_watch *watch;

	check_int(store_watch(store, "", count_hint, hints, &watch), 0);
	version_of(store, "any");
	while (hints[0] == 0)
		pump(NULL);
	store_unwatch(store, watch);
	return store;
}

static struct store *open_lossy(void *arg)
{
	struct store *store = open_relayed();

	(void)arg;
	arm_relay(LOSE);
	return store;
}

/* --- claims of its own --- */

static void an_answer_lost_is_asked_for_until_it_is_there(void)
{
	struct store *store = open_relayed();
	struct kept kept;

	relay.lost = false;
	for (uint64_t i = 0; !relay.lost; i++) {
		arm_relay(LOSE);
		kept = put(store, "asked", STORE_ANY, 777000 + i);
		check_int(kept.rc, 0);
		check_int(version_of(store, "asked"), kept.revision);
	}
	relay.mode = PASS;
	store_close(store);
}

static void an_endpoint_that_is_down_is_passed_over(void)
{
	struct store_etcd_config config = config_of("test", free_port());
	struct store *store;

	snprintf(config.endpoint[1], sizeof(config.endpoint[1]), "https://127.0.0.1:%d", port);
	config.count = 2;
	store = open_with(&config);
	check_int(put(store, "over", STORE_ANY, 0).rc, 0);
	store_close(store);
}

static void what_nobody_answers_ends_with_the_deadline(void)
{
	struct store_etcd_config config = config_of("test", free_port());
	struct store *store = open_with(&config);
	struct store_op op = {"k", 0, STORE_PUT, "v", 1};
	struct kept kept;

	submit(store, &op, 0, 300, &kept);
	check_int(await(&kept).rc, -ETIMEDOUT);
	store_close(store);
}

static void let_go(void)
{
	struct pair *pair = relay.holding;
	ssize_t size = (ssize_t)pair->held_size;

	relay.holding = NULL;
	check(pair->end[1] >= 0);
	check(send(pair->end[1], pair->held, pair->held_size, MSG_NOSIGNAL) == size);
}

/* Again while the machine was so slow that the connection had been given up before, or the deadline was over. */
static void what_was_sent_and_not_answered_is_in_doubt(void)
{
	struct store *store = open_relayed();
	char key[24];
	struct store_op op = {key, 0, STORE_PUT, "v", 1};
	struct kept kept;

	for (int i = 0; !relay.holding; i++) {
		snprintf(key, sizeof(key), "doubt/%d", i);
		arm_relay(HOLD);
		submit(store, &op, 0, 300, &kept);
		await(&kept);
	}
	check_int(kept.rc, STORE_UNKNOWN);
	check_int(version_of(store, key), 0);
	let_go();
	while (version_of(store, key) == 0)
		; /* the test's own time is limited */
	store_close(store);
}

/* The first attempt comes after all: to a key that is absent again, as it expected. */
static void a_conflict_is_told_only_when_no_attempt_can_be_applied_later(void)
{
	struct store *store = open_relayed(), *other = open_client(NULL);
	struct store_op op = {"late", 0, STORE_PUT, "v", 1},
			gone = {"late", STORE_ANY, STORE_DELETE, NULL, 0};
	struct kept kept, deleted;
	uint64_t nonce, version = put(other, "late", 0, 0).revision;

	for (nonce = 4242; !relay.holding; nonce++) {
		arm_relay(HOLD);
		submit(store, &op, nonce, 60000, &kept);
		check_int(await(&kept).rc, STORE_CONFLICT);
		check_int(kept.conflict_version, version);
	}
	submit(other, &gone, 0, 60000, &deleted);
	check_int(await(&deleted).rc, 0);
	let_go();
	for (int i = 0; i < 50; i++)
		check_int(version_of(other, "late"), 0);
	/* And who asks again gets the same answer. */
	submit(other, &op, nonce - 1, 60000, &kept);
	check_int(await(&kept).rc, STORE_CONFLICT);
	check_int(kept.conflict_version, version);
	store_close(store);
	store_close(other);
}

static void as_many_nonces_as_promised_are_remembered(void)
{
	struct store_etcd_config config = config_of("forgets", port);
	struct store *store;
	uint64_t first, revisions[300];

	config.nonces = 16;
	store = open_with(&config);
	for (uint64_t i = 0; i < 300; i++) {
		struct kept kept = put(store, "turn", STORE_ANY, 1000 + i);

		check_int(kept.rc, 0);
		revisions[i] = kept.revision;
	}
	for (uint64_t i = 300 - 16; i < 300; i++)
		check_int(put(store, "turn", STORE_ANY, 1000 + i).revision, revisions[i]);
	first = put(store, "turn", STORE_ANY, 1000).revision;
	check(first > revisions[299]); /* forgotten: it is another one */
	store_close(store);
}

/* So many transactions of another client that no nonce of before is remembered. */
static void let_nonces_be_forgotten(void)
{
	struct store_etcd_config config = config_of("test", port);
	struct store *store;

	config.nonces = 16;
	store = open_with(&config);
	for (int i = 0; i < 300; i++)
		check_int(put(store, "turn", STORE_ANY, 0).rc, 0);
	store_close(store);
}

/* Its second attempt was applied, and nothing but the floor tells the first one that it is late; again while it found no server. */
static void an_attempt_that_comes_after_its_nonce_was_forgotten_is_not_applied(void)
{
	struct store_op op = {"once", STORE_ANY, STORE_PUT, "v", 1};
	struct store *store = open_relayed(), *other = open_client(NULL);
	struct pair *pair;
	struct kept kept;

	relay.lost = false;
	for (uint64_t nonce = 90000; !relay.lost; nonce++) {
		arm_relay(HOLD);
		submit(store, &op, nonce, 60000, &kept);
		check_int(await(&kept).rc, 0);
		if (!relay.holding)
			continue;
		let_nonces_be_forgotten();
		pair = relay.holding;
		pair->lose = true; /* it is noted that it was answered */
		let_go();
		while (pair->end[1] >= 0)
			pump(NULL);
		check_int(version_of(other, "once"), kept.revision);
	}
	store_close(store);
	store_close(other);
}

static void cut_all(void)
{
	relay.mode = CUT;
	for (size_t i = 0; i < relay.count; i++) {
		end_side(&relay.pairs[i], 0);
		end_side(&relay.pairs[i], 1);
	}
}

/* Its first attempt was applied, and it does not apply it once more; again while it had asked before it was cut off. */
static void who_was_away_for_longer_than_its_nonce_was_kept_is_told_that_nobody_knows(void)
{
	struct store_op op = {"away", STORE_ANY, STORE_PUT, "v", 1};
	struct store *store, *other = open_client(NULL);
	uint64_t version, nonce = 95000;
	struct kept kept;

	do {
		store = open_relayed();
		relay.lost = false;
		arm_relay(LOSE);
		submit(store, &op, nonce++, 60000, &kept);
		while (!relay.lost && !kept.done)
			pump(NULL);
		cut_all();
		version = version_of(other, "away");
		let_nonces_be_forgotten();
		relay.mode = PASS;
		store = kept.done ? store_close(store) : store;
	} while (!store);
	check(version > 0);
	check_int(await(&kept).rc, STORE_UNKNOWN);
	check_int(version_of(other, "away"), version);
	store_close(store);
	store_close(other);
}

static void compact(uint64_t revision);

static void a_watch_that_comes_too_late_tells_to_look_at_all(void)
{
	struct store *store = open_relayed(), *other = open_client(NULL);
	unsigned hints[2] = {0};
	struct store_watch *watch;
	struct kept kept;

	check_int(store_watch(store, "", count_hint, hints, &watch), 0);
	cut_all();
	put(other, "missed", STORE_ANY, 0);
	kept = put(other, "missed", STORE_ANY, 0);
	compact(kept.revision);
	relay.mode = PASS;
	while (hints[0] == 0)
		pump(NULL);
	store_close(store);
	store_close(other);
}

/* --- https --- */

static struct {
	bool done;
	struct https_answer answer;
	char why[300];
} seen;

static void see(void *arg, const struct https_answer *answer)
{
	(void)arg;
	seen.done = true;
	seen.answer = *answer;
	snprintf(seen.why, sizeof(seen.why), "%s", answer->why ? answer->why : "");
}

static void post(const char *ca, const char *name, const char *path, const char *body)
{
	char cert[32], key[32], url[96];
	struct https_files files = {.ca = file(ca)};
	struct https_post request = {.url = url,
	    .body = body,
	    .size = strlen(body),
	    .limit = 4096,
	    .timeout_ms = 60000,
	    .done = see};
	struct https_call *call;
	struct https *https;

	snprintf(cert, sizeof(cert), "%s.pem", name);
	snprintf(key, sizeof(key), "%s.key", name);
	files.cert = file(cert);
	files.key = file(key);
	snprintf(url, sizeof(url), "https://127.0.0.1:%d%s", port, path);
	check_int(https_new(&https, loop, &files), 0);
	do {
		seen.done = false;
		check_int(https_post(https, &request, &call), 0);
		while (!seen.done)
			pump(NULL);
	} while (seen.answer.rc == -ETIMEDOUT); /* the machine is slow */
	https_free(https);
}

static void compact(uint64_t revision)
{
	char body[64];

	snprintf(body, sizeof(body), "{\"revision\":\"%ju\"}", (uintmax_t)revision);
	post("ca.pem", "client", "/v3/kv/compaction", body);
	check_int(seen.answer.status, 200);
}

static void a_server_of_another_ca_is_told(void)
{
	post("other-ca.pem", "client", "/v3/kv/range", "{\"key\":\"YQ==\"}");
	check_int(seen.answer.rc, -EIO);
	check(!seen.answer.sent);
	check(strstr(seen.why, "not of the CA in etcd_ca"));
}

static void a_refused_certificate_is_told(void)
{
	static const char *const names[] = {"stranger", "old"};

	for (size_t i = 0; i < 2; i++) {
		post("ca.pem", names[i], "/v3/kv/range", "{\"key\":\"YQ==\"}");
		check_int(seen.answer.rc, -EIO);
		printf("# %s\n", seen.why);
		check(strstr(seen.why, "refuses our certificate"));
	}
}

static void files_that_are_not_there_are_told(void)
{
	post("ca.pem", "absent", "/v3/kv/range", "{\"key\":\"YQ==\"}");
	check(strstr(seen.why, "etcd_cert and etcd_key"));
	post("absent.pem", "client", "/v3/kv/range", "{\"key\":\"YQ==\"}");
	check(strstr(seen.why, "etcd_ca cannot be read"));
}

static void an_answer_that_is_too_long_is_cut_off(void)
{
	static char value[8192];
	struct store_op op = {"long", STORE_ANY, STORE_PUT, value, sizeof(value)};
	struct store *store = open_client(NULL);
	struct kept kept;

	submit(store, &op, 0, 60000, &kept);
	check_int(await(&kept).rc, 0);
	store_close(store);
	post("ca.pem", "client", "/v3/kv/range", "{\"key\":\"AA==\",\"range_end\":\"AA==\"}");
	check_int(seen.answer.rc, -EMSGSIZE);
}

int main(int argc, char **argv)
{
	static const struct test own[] = {
	    TEST(an_answer_lost_is_asked_for_until_it_is_there),
	    TEST(an_endpoint_that_is_down_is_passed_over),
	    TEST(what_nobody_answers_ends_with_the_deadline),
	    TEST(what_was_sent_and_not_answered_is_in_doubt),
	    TEST(a_conflict_is_told_only_when_no_attempt_can_be_applied_later),
	    TEST(as_many_nonces_as_promised_are_remembered),
	    TEST(an_attempt_that_comes_after_its_nonce_was_forgotten_is_not_applied),
	    TEST(who_was_away_for_longer_than_its_nonce_was_kept_is_told_that_nobody_knows),
	    TEST(a_watch_that_comes_too_late_tells_to_look_at_all),
	    TEST(a_server_of_another_ca_is_told),
	    TEST(a_refused_certificate_is_told),
	    TEST(files_that_are_not_there_are_told),
	    TEST(an_answer_that_is_too_long_is_cut_off),
	};
	struct store *first;
	int n = 0;

	check_int(argc, 2);
	setvbuf(stdout, NULL, _IOLBF, 0);
	log_init("test-store-etcd");
	/* In memory: it would only wait for the disk. */
	snprintf(dir, sizeof(dir), "%s/dst-etcd-XXXXXX",
	    access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	check(mkdtemp(dir));
	atexit(clean_up);
	check(sd_event_new(&loop) >= 0);
	make_certificates(argv[1]);
	for (int i = 0; i < 5 && (i == 0 || !is_up()); i++)
		start_etcd();
	check(is_up());
	start_relay();
	first = open_client(NULL);
	version_of(first, "any"); /* it has elected itself */
	store_close(first);
	suite_run(&(struct suite){open_client, open_lossy, pump, NULL}, &n);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		own[i].run();
		printf("ok %d - %s\n", ++n, own[i].claim);
	}
	printf("1..%d\n", n);
	return 0;
}
