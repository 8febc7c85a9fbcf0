/* Placements that are written while the store's answer is lost (facts.c), with a store of one process and a shell of stubs. */
#include <stdlib.h>
#include <unistd.h>

#include "common/test.h"
#include "migrated/shell.h"
#include "proto/gossipd.h"
#include "proto/metad.h"

#define NODE "n1"
#define REIGN 7

static char directory[] = "/tmp/dst-facts-XXXXXX";
static sd_event *loop;

/* What metad has, and does. */
static struct {
	uint64_t coord_version, ve_version;
	struct buf ve;
	bool applies;          /* a transaction whose result it does not know */
	unsigned raises_after; /* looks at coord/demo until it is raised */
} store;

/* What the shell was told. */
static struct {
	int written, steps;
	bool ok;
} told;

/* --- the shell --- */

void shell_step(struct shell *shell, struct migrated_event *event)
{
	(void)shell;
	if (event->kind != MIGRATED_WRITTEN)
		return;
	told.steps++;
	told.ok = event->ok;
}

void shell_written(struct shell *shell, const struct migrated_action *action)
{
	(void)shell;
	check_str(action->name, "web");
	told.written++;
}

const struct migrated *shell_core(const struct shell *shell)
{
	(void)shell;
	return NULL;
}

int keys_make(const struct node_config *node, struct buf *out)
{
	(void)node;
	return buf_append(out, "key", 3);
}

/* --- the store --- */

static void set_ve(const void *value, size_t size)
{
	buf_fini(&store.ve);
	check_int(buf_append(&store.ve, value, size), 0);
	store.ve_version++;
}

static void on_get(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	struct msg_gossipd_coord_fact coord = {.epoch = REIGN, .node = NODE, .seq = 1};
	struct msg_metad_got got = {.revision = 1};
	_cleanup_buf_ struct buf value = {0}, out = {0};
	struct msg_metad_get request;
	struct mpr_error error;

	(void)userdata;
	check_int(msg_metad_get_unpack(&request, body, size, &error), 0);
	snprintf(got.entry.key, sizeof(got.entry.key), "%s", request.key);
	if (strcmp(request.key, "ve/web") == 0) {
		got.entry.version = store.ve_version;
		got.entry.value = store.ve.data;
		got.entry.value_size = store.ve.size;
	} else {
		check_str(request.key, "coord/demo");
		if (store.raises_after && --store.raises_after == 0)
			store.coord_version++;
		got.entry.version = store.coord_version;
		check_int(msg_gossipd_coord_fact_pack(&coord, &value), 0);
		got.entry.value = value.data;
		got.entry.value_size = value.size;
	}
	check_int(msg_metad_got_pack(&got, &out), 0);
	rpc_reply(call, MSG_METAD_GOT, out.data, out.size);
}

/* Its result is never known. */
static void on_txn(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	static struct msg_metad_txn request;
	struct msg_metad_txn_reply reply = {.result = MSG_METAD_RESULT_UNKNOWN};
	_cleanup_buf_ struct buf out = {0};
	struct mpr_error error;

	(void)userdata;
	check_int(msg_metad_txn_unpack(&request, body, size, &error), 0);
	for (size_t i = 0; store.applies && i < request.ops.count; i++)
		if (request.ops.item[i].kind == MSG_METAD_KIND_PUT &&
		    strcmp(request.ops.item[i].key, "ve/web") == 0)
			set_ve(request.ops.item[i].value, request.ops.item[i].value_size);
	check_int(msg_metad_txn_reply_pack(&reply, &out), 0);
	rpc_reply(call, MSG_METAD_TXN_REPLY, out.data, out.size);
}

static const struct rpc_method methods[] = {
    {MSG_METAD_GET, on_get, true}, {MSG_METAD_TXN, on_txn, true}, {0}};

/* --- one write in doubt --- */

static void write_in_doubt(void)
{
	struct migrated_action action = {.kind = MIGRATED_WRITE,
	    .name = "web",
	    .version = store.ve_version,
	    .fact = {.name = "web", .epoch = 4, .node = "n2"}};
	struct rpc_server_options options = {0};
	struct rpc_server *server = NULL;
	struct daemon daemon = {.loop = loop};
	struct facts *facts = NULL;
	char path[100];

	memset(&told, 0, sizeof(told));
	snprintf(daemon.node.name, sizeof(daemon.node.name), NODE);
	snprintf(daemon.node.cluster, sizeof(daemon.node.cluster), "demo");
	snprintf(daemon.node.run_dir, sizeof(daemon.node.run_dir), "%s", directory);
	daemon.node.self = &daemon.node.peers.peer[0];
	snprintf(daemon.node.self->site, sizeof(daemon.node.self->site), "demo");
	snprintf(path, sizeof(path), "ipc://%s/metad.rpc", directory);
	options.ipc = path;
	check_int(zcontext_new(&daemon.zmq, loop, NULL, NULL), 0);
	check_int(rpc_server_new(&server, daemon.zmq, loop, &options), 0);
	check_int(rpc_server_add(server, methods, NULL), 0);
	check_int(facts_new(&facts, &daemon, NULL), 0);
	facts_write(facts, &action, 1, REIGN);
	for (int i = 0; i < 12000 && told.steps == 0; i++)
		check(sd_event_run(loop, 5000) >= 0);
	check_int(told.steps, 1);
	facts_free(facts);
	rpc_server_free(server);
	zcontext_free(daemon.zmq);
}

static void reset(bool applies)
{
	buf_fini(&store.ve);
	store.ve_version = 3;
	store.coord_version = 10;
	store.applies = applies;
	store.raises_after = 4; /* the first look is before the transaction */
}

static void a_write_in_doubt_that_was_done_is_told(void)
{
	reset(true);
	write_in_doubt();
	check(told.ok);
	check_int(told.written, 1);
}

static void a_write_in_doubt_that_was_not_done_is_not_told(void)
{
	reset(false);
	set_ve("another", 7);
	write_in_doubt();
	check(!told.ok);
	check_int(told.written, 0);
}

static void a_write_in_doubt_is_not_over_while_it_can_be_done(void)
{
	reset(true);
	write_in_doubt();
	check_int(store.raises_after, 0); /* it looked until coord/demo was raised */
	check_int(store.coord_version, 11);
}

int main(void)
{
	char lock[100];
	int r;

	check(mkdtemp(directory));
	check_int(sd_event_new(&loop), 0);
	r = test_main((struct test[]){TEST(a_write_in_doubt_that_was_done_is_told),
	    TEST(a_write_in_doubt_that_was_not_done_is_not_told),
	    TEST(a_write_in_doubt_is_not_over_while_it_can_be_done), {0}});
	sd_event_unref(loop);
	buf_fini(&store.ve);
	snprintf(lock, sizeof(lock), "%s/metad.rpc.lock", directory);
	unlink(lock);
	rmdir(directory);
	return r;
}
