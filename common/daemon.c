#include "common/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/roster.h"
#include "proto/common.h"

#define CONFIG_PATH "/etc/depsys/depsys.conf"

struct daemon_private {
	char user[64];
	struct mono ready;
	struct log_limit limit;
};

/* --- options and configuration --- */

static void print_key(const struct config_key *key)
{
	printf("  %-24s %s", key->name, key->help ? key->help : "");
	if (key->type == CONFIG_INT || key->type == CONFIG_FLOAT)
		printf(" (%.15g to %.15g)", key->min, key->max);
	for (int i = 0; key->type == CONFIG_CHOICE && key->choices[i]; i++)
		printf("%s%s", i ? "|" : " (", key->choices[i]);
	printf("%s", key->type == CONFIG_CHOICE ? ")" : "");
	printf("%s%s\n", key->fallback && *key->fallback ? ", default " : "",
	    key->fallback ? key->fallback : "");
}

static void print_help(const struct daemon_spec *spec)
{
	printf("usage: %s [--config FILE] [--check] [--log LEVEL] [--user NAME]\n%s\n\n"
	       "  --config FILE  configuration (default " CONFIG_PATH "), then FILE.d/*.conf\n"
	       "  --check        read the configuration, say what is wrong, and end\n"
	       "  --log LEVEL    debug info notice warning error\n"
	       "  --user NAME    become this user when started as root (default %s%s)\n"
	       "  --version      print the version\n",
	    spec->name, spec->summary, spec->keep_root ? "" : "depsys-",
	    spec->keep_root ? "root" : spec->name);
	if (spec->keys && spec->keys->section)
		printf("\n[%s] in the configuration:\n", spec->keys->section);
	for (const struct config_key *key = spec->keys; key && key->section; key++)
		print_key(key);
	printf("\nSee %s(8).\n", spec->name);
}

struct options {
	const char *path, *level, *user;
	bool check;
};

/* 0, or > 0: ended with *status. */
static int parse_options(
    const struct daemon_spec *spec, int argc, char **argv, struct options *options, int *status)
{
	static const struct option table[] = {{"config", required_argument, NULL, 'c'},
	    {"check", no_argument, NULL, 'k'}, {"log", required_argument, NULL, 'l'},
	    {"user", required_argument, NULL, 'u'}, {"version", no_argument, NULL, 'v'},
	    {"help", no_argument, NULL, 'h'}, {0}};
	int option;

	*status = 0;
	while ((option = getopt_long(argc, argv, "c:kl:u:vh", table, NULL)) >= 0) {
		switch (option) {
		case 'c':
			options->path = optarg;
			break;
		case 'k':
			options->check = true;
			break;
		case 'l':
			options->level = optarg;
			break;
		case 'u':
			options->user = optarg;
			break;
		case 'v':
			printf("%s %s\n", spec->name, DEPSYS_VERSION);
			return 1;
		case 'h':
			print_help(spec);
			return 1;
		default:
			*status = 2;
			return 1;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "%s: unexpected argument: %s\n", spec->name, argv[optind]);
		*status = 2;
	} else if (options->level && log_level_parse(options->level) < 0) {
		fprintf(stderr, "%s: --log: %s is not one of debug info notice warning error\n",
		    spec->name, options->level);
		*status = 2;
	}
	return *status ? 1 : 0;
}

/*
 * Tables have room for the largest cluster and are mostly empty.  A block of its own from the kernel is zero without
 * being written to, so of such a table only what is filled takes memory: a quarter of what fdd holds in a small cluster.
 * malloc does that above 128 KiB, and for none any more once a larger one was freed (that of the configuration); it
 * clears the rest by hand where it lies in what the heap has in store.
 */
static void keep_empty_tables_out_of_memory(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 65536);
	(void)mallopt(M_TOP_PAD, 4096);
}

/* The table of peers needs no zeros beyond its count, and would be most of the stack. */
static void clear(struct daemon *daemon)
{
	const size_t table = offsetof(struct daemon, node.peers.peer);
	const size_t end = table + sizeof(daemon->node.peers.peer);

	memset(daemon, 0, table);
	memset((char *)daemon + end, 0, sizeof(*daemon) - end);
}

int daemon_options(
    struct daemon *daemon, const struct daemon_spec *spec, int argc, char **argv, int *status)
{
	struct options options = {.path = CONFIG_PATH};
	struct config_error error = {""};
	struct daemon_private *private;
	int r;

	clear(daemon);
	daemon->spec = spec;
	if (spec->lean)
		keep_empty_tables_out_of_memory();
	log_init(spec->name);
	r = parse_options(spec, argc, argv, &options, status);
	if (r > 0)
		return r;
	*status = 1;
	private = calloc(1, sizeof(*private));
	if (!private || sodium_init() < 0) {
		free(private);
		log_error("start: no memory, or no random numbers");
		return 1;
	}
	daemon->private = private;
	if (options.user)
		snprintf(private->user, sizeof(private->user), "%s", options.user);
	else
		snprintf(private->user, sizeof(private->user),
		    spec->keep_root ? "root" : "depsys-%s", spec->name);
	r = config_load(options.path, &daemon->node, spec->keys, spec->settings, &error);
	if (r == 0 && spec->named)
		r = config_load_named(options.path, spec->named, &error);
	if (r == 0 && spec->check)
		r = spec->check(&daemon->node, spec->settings, &error);
	if (r < 0) {
		log_error("%s", error.text);
		daemon_fini(daemon);
		return 1;
	}
	log_set_level((enum log_level)(
	    options.level ? log_level_parse(options.level) : daemon->node.log_level));
	*status = 0;
	if (options.check) {
		printf("%s: configuration is good\n", options.path);
		daemon_fini(daemon);
	}
	return options.check ? 1 : 0;
}

/* --- privilege --- */

static int make_directory(const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST) {
		int r = -errno;

		log_error("create %s: %s", path, strerror(errno));
		return r;
	}
	/* Only root can give it away; who may not is not asked to. */
	if (geteuid() == 0 && (chown(path, uid, gid) < 0 || chmod(path, mode) < 0)) {
		int r = -errno;

		log_error("chown %s: %s", path, strerror(errno));
		return r;
	}
	return 0;
}

static int find_group(const char *name, gid_t *gid)
{
	const struct group *group;

	*gid = getegid();
	if (!*name)
		return 0;
	group = getgrnam(name);
	if (!group) {
		log_error("no group %s; it is made with the package, or set [node] group", name);
		return -ENOENT;
	}
	*gid = group->gr_gid;
	return 0;
}

static int become(const char *user, uid_t uid, gid_t gid)
{
	if (setgroups(1, &gid) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0) {
		int r = -errno;

		log_error("become %s: %s", user, strerror(errno));
		return r;
	}
	return prctl(PR_SET_DUMPABLE, 0) < 0 ? -errno : 0;
}

/* The others know it by its record, which may be newer than the configuration. */
static void take_own_key(struct daemon *daemon)
{
	char path[sizeof(daemon->node.key_path) + 4];

	snprintf(path, sizeof(path), "%s.old", daemon->node.key_path);
	daemon->has_old_keys = access(path, F_OK) == 0 && keys_load(&daemon->old_keys, path) == 0;
	memcpy(daemon->node.self->public_key, daemon->keys.public_key, KEY_SIZE);
	daemon->node.self->id = node_id(daemon->keys.public_key);
}

/* Where gossipd keeps the signed records and all may read them; whoever comes first makes it. */
static int make_members(const struct daemon *daemon, gid_t gid)
{
	const struct passwd *gossipd = geteuid() == 0 ? getpwnam("depsys-gossipd") : NULL;
	char path[PATH_MAX];

	if (!daemon->node.has_admin)
		return 0;
	roster_directory(path, sizeof(path), &daemon->node);
	return make_directory(path, 02750, gossipd ? gossipd->pw_uid : geteuid(), gid);
}

int daemon_drop(struct daemon *daemon)
{
	const struct daemon_private *private = daemon->private;
	const struct passwd *user;
	char path[PATH_MAX];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r;

	if (daemon->spec->keep_root && uid != 0) {
		log_error("%s needs root", daemon->spec->name);
		return -EPERM;
	}
	r = keys_load(&daemon->keys, daemon->node.key_path);
	if (r == 0)
		r = find_group(daemon->node.group, &gid);
	if (r < 0)
		return r;
	if (daemon->node.has_admin)
		take_own_key(daemon);
	if (memcmp(daemon->keys.public_key, daemon->node.self->public_key, KEY_SIZE) != 0) {
		log_error("key file %s does not belong to [peer %s]", daemon->node.key_path,
		    daemon->node.name);
		return -EKEYREJECTED;
	}
	if (uid == 0 && strcmp(private->user, "root") != 0) {
		user = getpwnam(private->user);
		if (!user) {
			log_error("no user %s; it is made with the package, or say --user",
			    private->user);
			return -ENOENT;
		}
		uid = user->pw_uid;
	}
	r = make_directory(daemon->node.run_dir, 02775, 0, gid);
	if (r == 0)
		r = make_directory(daemon->node.state_dir, 0755, 0, gid);
	snprintf(path, sizeof(path), "%s/%s", daemon->node.state_dir, daemon->spec->name);
	if (r == 0)
		r = make_directory(path, 0700, uid, gid);
	if (r == 0)
		r = make_members(daemon, gid);
	if (r == 0 && daemon->spec->shared_dir) {
		snprintf(
		    path, sizeof(path), "%s/%s", daemon->node.state_dir, daemon->spec->shared_dir);
		r = make_directory(path, 02770, 0, gid);
	}
	if (r == 0 && geteuid() == 0 && uid != 0)
		r = become(private->user, uid, gid);
	return r;
}

/* --- common control messages --- */

static uint64_t resident_kb(void)
{
	unsigned long total, resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return 0;
	if (fscanf(file, "%lu %lu", &total, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * (unsigned long)sysconf(_SC_PAGESIZE) / 1024;
}

static uint64_t cpu_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static void on_hello(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct daemon *daemon = userdata;
	const struct daemon_private *private = daemon->private;
	struct msg_common_hello_reply reply = {.boot = daemon->boot,
	    .pid = (uint64_t)getpid(),
	    .rss_kb = resident_kb(),
	    .cpu_ms = cpu_ms()};
	_cleanup_buf_ struct buf out = {0};

	(void)body;
	(void)size;
	reply.uptime_ms = (uint64_t)mono_to_ms(mono_sub(mono_now(), private->ready));
	snprintf(reply.daemon, sizeof(reply.daemon), "%s", daemon->spec->name);
	snprintf(reply.version, sizeof(reply.version), "%s", DEPSYS_VERSION);
	snprintf(reply.node, sizeof(reply.node), "%s", daemon->node.name);
	msg_common_hello_reply_pack(&reply, &out);
	rpc_reply(call, MSG_COMMON_HELLO_REPLY, out.data, out.size);
}

static void reply_done(struct rpc_call *call)
{
	rpc_reply(call, MSG_COMMON_DONE, "\x80", 1);
}

static void on_stop(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct daemon *daemon = userdata;

	(void)body;
	(void)size;
	log_notice("stop asked for");
	reply_done(call);
	sd_event_exit(daemon->loop, 0);
}

static void on_set_log(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_common_set_log message;

	(void)userdata;
	if (rpc_unpack(call, &message, msg_common_set_log_unpack, body, size) < 0)
		return;
	log_set_level((enum log_level)message.level);
	reply_done(call);
}

static void add_stat(struct msg_common_stats_reply *reply, const char *name, uint64_t value)
{
	struct msg_common_stat *stat = &reply->stats.item[reply->stats.count];

	if (reply->stats.count == sizeof(reply->stats.item) / sizeof(reply->stats.item[0]))
		return;
	snprintf(stat->name, sizeof(stat->name), "%s", name);
	stat->value = value;
	reply->stats.count++;
}

static void on_stats(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct daemon *daemon = userdata;
	struct msg_common_stats_reply reply = {0};
	_cleanup_buf_ struct buf out = {0};
	struct zcontext_counts counts;
	uint64_t a = 0, b = 0;

	(void)body;
	(void)size;
	rpc_server_counts(daemon->rpc, &a, &b);
	add_stat(&reply, "requests", a);
	add_stat(&reply, "requests_refused", b);
	zcontext_counts(daemon->zmq, &counts);
	add_stat(&reply, "nodes_allowed", counts.allowed);
	add_stat(&reply, "nodes_refused", counts.refused);
	add_stat(&reply, "connections", counts.connections);
	add_stat(&reply, "connections_unfinished", counts.unfinished);
	if (daemon->bus)
		add_stat(&reply, "events_pending", bus_publisher_pending(daemon->bus));
	for (const struct daemon_stat *stat = daemon->stats; stat && stat->name; stat++)
		add_stat(&reply, stat->name, *stat->value);
	msg_common_stats_reply_pack(&reply, &out);
	rpc_reply(call, MSG_COMMON_STATS_REPLY, out.data, out.size);
}

static const struct rpc_method common_methods[] = {
    {MSG_COMMON_HELLO, on_hello, false},
    {MSG_COMMON_STATS, on_stats, true},
    {MSG_COMMON_STOP, on_stop, true},
    {MSG_COMMON_SET_LOG, on_set_log, true},
    {0},
};

/* --- sockets and loop --- */

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	(void)userdata;
	log_notice("ends on signal %u", info->ssi_signo);
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

/* Before any thread exists, so that all threads inherit the mask. */
static int take_signals(sd_event *loop)
{
	sigset_t set;
	int r;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	r = sd_event_add_signal(loop, NULL, SIGTERM, on_signal, NULL);
	return r < 0 ? r : sd_event_add_signal(loop, NULL, SIGINT, on_signal, NULL);
}

static int open_rpc(struct daemon *daemon)
{
	const struct node_config *node = &daemon->node;
	const struct daemon_spec *spec = daemon->spec;
	char ipc[512], tcp[128];
	struct rpc_server_options options = {
	    .ipc = ipc, .max_body = spec->max_body, .group = *node->group ? node->group : NULL};
	int r;

	snprintf(ipc, sizeof(ipc), "ipc://%s/%s.rpc", node->run_dir, spec->name);
	if (spec->tcp_offset) {
		zsock_tcp_endpoint(
		    tcp, sizeof(tcp), node->address, (unsigned)node->port + spec->tcp_offset);
		options.tcp = tcp;
	}
	r = rpc_server_new(&daemon->rpc, daemon->zmq, daemon->loop, &options);
	return r < 0 ? r : rpc_server_add(daemon->rpc, common_methods, daemon);
}

int daemon_open(struct daemon *daemon)
{
	int r;

	randombytes_buf(&daemon->boot, sizeof(daemon->boot));
	r = sd_event_default(&daemon->loop);
	if (r >= 0)
		r = take_signals(daemon->loop);
	if (r >= 0 && daemon->node.has_admin)
		r = roster_new(&daemon->roster, daemon);
	if (r >= 0)
		r = zcontext_new(&daemon->zmq, daemon->loop, &daemon->keys, &daemon->node.peers);
	if (r >= 0)
		r = open_rpc(daemon);
	if (r >= 0 && !daemon->spec->no_bus)
		r = bus_publisher_new(&daemon->bus, daemon->zmq, daemon->loop, daemon->node.run_dir,
		    daemon->spec->name, daemon->node.name);
	if (r >= 0 && daemon->roster)
		r = roster_watch(daemon->roster, daemon->loop);
	if (r < 0)
		log_start_failed(r);
	return r < 0 ? r : 0;
}

/* s6's way, beside systemd's: a newline on the descriptor whose number is in NOTIFY_FD. */
static void tell_ready(void)
{
	const char *text = getenv("NOTIFY_FD");
	char *end;
	long fd;

	sd_notify(0, "READY=1");
	if (!text)
		return;
	fd = strtol(text, &end, 10);
	if (*text && !*end && fd > 2 && fd < INT_MAX && write((int)fd, "\n", 1) == 1)
		close((int)fd);
}

static void tell_started(struct daemon *daemon)
{
	struct msg_daemon_started event = {.boot = daemon->boot};

	snprintf(event.daemon, sizeof(event.daemon), "%s", daemon->spec->name);
	snprintf(event.version, sizeof(event.version), "%s", DEPSYS_VERSION);
	daemon_tell(daemon, MSG_DAEMON_STARTED, msg_daemon_started_pack, &event);
}

static void tell_stopped(struct daemon *daemon)
{
	struct msg_daemon_stopped event = {.boot = daemon->boot};

	snprintf(event.daemon, sizeof(event.daemon), "%s", daemon->spec->name);
	daemon_tell(daemon, MSG_DAEMON_STOPPED, msg_daemon_stopped_pack, &event);
}

int daemon_run(struct daemon *daemon)
{
	struct daemon_private *private = daemon->private;
	int r;

	private->ready = mono_now();
	if (daemon->bus)
		tell_started(daemon);
	tell_ready();
	log_info("ready version=%s node=%s", DEPSYS_VERSION, daemon->node.name);
	r = sd_event_loop(daemon->loop);
	if (r < 0)
		log_error("loop: %s", strerror(-r));
	if (daemon->bus)
		tell_stopped(daemon);
	return r < 0 ? 1 : r;
}

void daemon_fini(struct daemon *daemon)
{
	daemon->bus = bus_publisher_free(daemon->bus);
	daemon->rpc = rpc_server_free(daemon->rpc);
	daemon->zmq = zcontext_free(daemon->zmq);
	daemon->roster = roster_free(daemon->roster);
	daemon->loop = sd_event_unref(daemon->loop);
	free(daemon->private);
	daemon->private = NULL;
	sodium_memzero(&daemon->keys, sizeof(daemon->keys));
	sodium_memzero(&daemon->old_keys, sizeof(daemon->old_keys));
}
