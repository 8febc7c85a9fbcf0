#include "tests/system/rig.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/rpc.h"
#include "common/test-tree.h"
#include "common/test.h"
#include "proto/common.h"

extern char **environ;

static void write_config(const struct rig *rig, const char *busd_section)
{
	char path[128], key[2 * KEY_SIZE + 1];
	FILE *file;

	snprintf(path, sizeof(path), "%s/node.key", rig->directory);
	check_int(keys_save(&rig->keys, path), 0);
	snprintf(path, sizeof(path), "%s/depsys.conf", rig->directory);
	file = fopen(path, "we");
	check(file != NULL);
	key_format(key, rig->keys.public_key);
	fprintf(file,
	    "[node]\nname = n1\ncluster = test\naddress = 127.0.0.1\nport = %u\ngroup =\n"
	    "key = %s/node.key\nrun = %s\nstate = %s/state\n"
	    "[peer n1]\naddress = 127.0.0.1\nport = %u\nkey = %s\n[busd]\n%s\n",
	    rig->port, rig->directory, rig->run_dir, rig->directory, rig->port, key, busd_section);
	check(fclose(file) == 0);
}

void rig_open(struct rig *rig, const char *busd, const char *busd_section)
{
	check(sodium_init() >= 0);
	*rig = (struct rig){.busd = busd, .directory = "/tmp/dst-bus-XXXXXX"};
	check(mkdtemp(rig->directory) != NULL);
	snprintf(rig->run_dir, sizeof(rig->run_dir), "%s/run", rig->directory);
	rig->port = 20000 + 20 * randombytes_uniform(600);
	keys_generate(&rig->keys);
	rig->peers.count = 1;
	snprintf(rig->peers.peer[0].name, sizeof(rig->peers.peer[0].name), "%s", "n1");
	snprintf(rig->peers.peer[0].address, sizeof(rig->peers.peer[0].address), "%s", "127.0.0.1");
	rig->peers.peer[0].port = (uint16_t)rig->port;
	memcpy(rig->peers.peer[0].public_key, rig->keys.public_key, KEY_SIZE);
	write_config(rig, busd_section);
	check(sd_event_new(&rig->loop) >= 0);
	check_int(zcontext_new(&rig->zmq, rig->loop, &rig->keys, &rig->peers), 0);
}

void rig_close(struct rig *rig)
{
	if (rig->pid)
		rig_kill(rig);
	rig->zmq = zcontext_free(rig->zmq);
	rig->loop = sd_event_unref(rig->loop);
	test_remove_tree(rig->directory);
}

pid_t rig_spawn(char *const argv[])
{
	/* Dies with us, also when we are killed. */
	char *full[16] = {"/usr/bin/setpriv", "--pdeathsig", "KILL", "--"};
	size_t n = 4;
	pid_t pid;

	for (; *argv; argv++) {
		check(n < 15);
		full[n++] = *argv;
	}
	check_int(posix_spawn(&pid, full[0], NULL, NULL, full, environ), 0);
	return pid;
}

void rig_reap(pid_t pid, int signal)
{
	if (signal)
		kill(pid, signal);
	while (waitpid(pid, NULL, 0) < 0)
		check(errno == EINTR);
}

void rig_start(struct rig *rig)
{
	char config[128];

	snprintf(config, sizeof(config), "%s/depsys.conf", rig->directory);
	rig->pid = rig_spawn((char *[]){
	    (char *)rig->busd, "--config", config, "--user", "root", "--log", "warning", NULL});
}

void rig_kill(struct rig *rig)
{
	rig_reap(rig->pid, SIGKILL);
	rig->pid = 0;
}

bool rig_run(struct rig *rig, const uint64_t *value, uint64_t least, int64_t limit_ms)
{
	struct mono end = mono_add_ms(mono_now(), limit_ms);

	while (*value < least && mono_before(mono_now(), end))
		check(sd_event_run(rig->loop, 10000) >= 0);
	return *value >= least;
}

void rig_run_ms(struct rig *rig, int64_t ms)
{
	uint64_t never = 0;

	rig_run(rig, &never, 1, ms);
}

long rig_kept_kib(void)
{
	return getenv("DEPSYS_SANITIZED") ? 32 << 10 : 0;
}

long rig_busd_kib(const struct rig *rig)
{
	char path[64];
	long resident = 0, shared = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)rig->pid);
	file = fopen(path, "re");
	check(file && fscanf(file, "%*d %ld %ld", &resident, &shared) == 2);
	fclose(file);
	return (resident - shared) * (sysconf(_SC_PAGESIZE) / 1024);
}

int rig_ask(struct rig *rig, const char *request, struct buf *reply)
{
	struct rpc_client *client;
	char error[256];
	int status;

	check_int(rpc_client_new_local(&client, rig->zmq, rig->loop, rig->run_dir, "busd"), 0);
	status =
	    (int)rpc_ask(client, rig->loop, request, "\x80", 1, 60000, reply, error, sizeof(error));
	rpc_client_free(client);
	return status;
}

uint64_t rig_stat(struct rig *rig, const char *name)
{
	_cleanup_buf_ struct buf body = {0};
	static struct msg_common_stats_reply reply;
	struct mpr_error error;

	check_int(rig_ask(rig, MSG_COMMON_STATS, &body), RPC_OK);
	check_int(msg_common_stats_reply_unpack(&reply, body.data, body.size, &error), 0);
	for (size_t i = 0; i < reply.stats.count; i++)
		if (strcmp(reply.stats.item[i].name, name) == 0)
			return reply.stats.item[i].value;
	check(!"a counter of that name");
	return 0;
}
