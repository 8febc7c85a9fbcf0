/*
 * Renewals on the wire (renewals.c): datagrams between two nodes of this process, the stream of requests when they have no
 * answer, and a core of stubs that wants some leases and grants what it is asked for.
 */
#include <stdlib.h>
#include <unistd.h>

#include "common/sealed-udp.h"
#include "common/test.h"
#include "migrated/shell.h"

#define LEASE_MS 2000
#define MANY 200 /* more than fit into a datagram */

/* One node; the shell of the stubs below. */
struct shell {
	struct daemon daemon;
	struct renewals *renewals;
	struct rpc_client *coordinator; /* NULL: this node coordinates */
	size_t wanted;
	bool deaf; /* its renewals are looked at by nobody */
	/* what its core was told */
	unsigned renewals_seen, granted, unanswered;
	uint64_t granted_id;
	size_t granted_count;
};

static const struct daemon_spec spec = {.name = "migrated"};
static char directory[] = "/tmp/dst-renewals-XXXXXX";
static sd_event *loop;
static struct shell asker, giver;
static unsigned streamed;

/* --- the stubs --- */

static void look(struct shell *shell, const struct migrated_event *event)
{
	struct migrated_action grant = {.kind = MIGRATED_GRANT,
	    .id = event->id,
	    .leases = event->leases,
	    .count = event->count,
	    .length = mono_ms(LEASE_MS)};

	shell->renewals_seen++;
	check_str(event->name, "n1");
	check_int(event->length.ns, mono_ms(LEASE_MS).ns);
	if (!shell->deaf)
		renewals_grant(shell->renewals, &grant);
}

void shell_step(struct shell *shell, struct migrated_event *event)
{
	if (event->kind == MIGRATED_RENEWAL) {
		look(shell, event);
	} else if (event->ok) {
		shell->granted++;
		shell->granted_id = event->id;
		shell->granted_count = event->count;
	} else {
		shell->unanswered++;
	}
}

const struct migrated *shell_core(const struct shell *shell)
{
	return (const void *)shell; /* for the two below */
}

size_t migrated_leases(const struct migrated *migrated, struct migrated_lease *leases, size_t max)
{
	const struct shell *shell = (const void *)migrated;

	for (size_t i = 0; i < shell->wanted && i < max; i++) {
		snprintf(leases[i].name, sizeof(leases[i].name), "service-%zu", i);
		leases[i].epoch = i + 1;
	}
	return shell->wanted;
}

struct mono migrated_lease_until(const struct migrated *migrated, const char *name, uint64_t epoch)
{
	(void)migrated;
	(void)name;
	(void)epoch;
	return MONO_ZERO;
}

struct rpc_client *shell_coordinator(struct shell *shell)
{
	return shell->coordinator;
}

const struct peer *shell_coordinator_peer(const struct shell *shell)
{
	return shell->coordinator ? &shell->daemon.node.peers.peer[1] : NULL;
}

bool shell_coordinates(const struct shell *shell)
{
	return !shell->coordinator;
}

/* --- two nodes --- */

static void on_renew(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	(void)userdata;
	(void)body;
	(void)size;
	streamed++;
	rpc_fail(call, RPC_FAILED, "this one counts only");
}

static const struct rpc_method methods[] = {{MSG_MIGRATED_RENEW, on_renew, true}, {0}};

static void open_node(struct shell *shell, const struct peers *peers, size_t self)
{
	struct node_config *node = &shell->daemon.node;
	struct udp udp;

	shell->daemon.spec = &spec;
	shell->daemon.loop = loop;
	shell->daemon.boot = 100 + self;
	node->peers = *peers;
	node->self = &node->peers.peer[self];
	memcpy(node->name, peers->peer[self].name, sizeof(node->name));
	snprintf(node->run_dir, sizeof(node->run_dir), "%s", directory);
	check_int(zcontext_new(&shell->daemon.zmq, loop, NULL, NULL), 0);
	check_int(
	    udp_open(&udp, node->self->address, (uint16_t)(node->self->port + PORT_LEASES)), 0);
	check_int(renewals_new(&shell->renewals, &shell->daemon, shell, LEASE_MS, &udp), 0);
}

static void make_peers(struct peers *peers)
{
	struct shell *shells[] = {&asker, &giver};

	peers->count = 2;
	for (size_t i = 0; i < 2; i++) {
		struct peer *peer = &peers->peer[i];

		memset(shells[i], 0, sizeof(*shells[i]));
		keys_generate(&shells[i]->daemon.keys);
		memcpy(peer->public_key, shells[i]->daemon.keys.public_key, KEY_SIZE);
		peer->id = node_id(peer->public_key);
		snprintf(peer->name, sizeof(peer->name), "n%zu", i + 1);
		/* Any address of 127/8 is ours: one of this process, so that runs do not meet. */
		snprintf(peer->address, sizeof(peer->address), "127.%d.%d.%zu",
		    (int)(getpid() >> 8 & 255), (int)(getpid() & 255), i + 1);
		peer->port = 7400;
	}
}

static void run_until(const unsigned *counter, unsigned value)
{
	for (int i = 0; i < 12000 && *counter < value; i++)
		check(sd_event_run(loop, 5000) >= 0);
	check(*counter >= value);
}

/* test: with both nodes up, and the asker's stream to the giver */
static void with_nodes(size_t wanted, void (*test)(void))
{
	static struct peers peers;
	struct rpc_server_options options = {0};
	struct rpc_server *server = NULL;
	char path[100];

	make_peers(&peers);
	open_node(&asker, &peers, 0);
	open_node(&giver, &peers, 1);
	snprintf(path, sizeof(path), "ipc://%s/migrated.rpc", directory);
	options.ipc = path;
	check_int(rpc_server_new(&server, giver.daemon.zmq, loop, &options), 0);
	check_int(rpc_server_add(server, methods, NULL), 0);
	check_int(
	    rpc_client_new_local(&asker.coordinator, asker.daemon.zmq, loop, directory, "migrated"),
	    0);
	asker.wanted = wanted;
	streamed = 0;
	test();
	rpc_client_free(asker.coordinator);
	rpc_server_free(server);
	for (struct shell **shell = (struct shell *[]){&asker, &giver, NULL}; *shell; shell++) {
		renewals_free((*shell)->renewals);
		zcontext_free((*shell)->daemon.zmq);
	}
}

/* --- claims --- */

static void renew_and_be_granted(void)
{
	renewals_ask(asker.renewals, 7);
	run_until(&asker.granted, 1);
	check_int(asker.granted_id, 7);
	check_int(asker.granted_count, 3);
}

static void a_renewal_is_granted_by_datagram(void)
{
	with_nodes(3, renew_and_be_granted);
}

static void renew_by_stream(void)
{
	renewals_ask(asker.renewals, 7);
	run_until(&asker.unanswered, 1); /* as its server says */
	check_int(streamed, 1);
	check_int(giver.renewals_seen, 0);
}

static void more_leases_than_fit_go_by_the_stream(void)
{
	with_nodes(MANY, renew_by_stream);
}

static void renew_unheard(void)
{
	giver.deaf = true;
	renewals_ask(asker.renewals, 7);
	run_until(&asker.unanswered, 1);
	check_int(streamed, 0);
	renewals_ask(asker.renewals, 8);
	run_until(&streamed, 1);
	run_until(&giver.renewals_seen, 2);
	giver.deaf = false;
	renewals_ask(asker.renewals, 9);
	run_until(&asker.granted, 1);
	check_int(asker.granted_id, 9);
}

static void a_renewal_without_an_answer_is_told_and_the_next_goes_both_ways(void)
{
	with_nodes(3, renew_unheard);
}

static void restart_meanwhile(void)
{
	giver.deaf = true;
	renewals_ask(asker.renewals, 7);
	run_until(&giver.renewals_seen, 1);
	giver.deaf = false;
	renewals_ask(asker.renewals, 7);
	asker.daemon.boot++; /* another process, as the answer finds it */
	run_until(&giver.renewals_seen, 2);
	run_until(&asker.unanswered, 1);
	check_int(asker.granted, 0);
}

static void an_answer_to_an_earlier_process_counts_for_nothing(void)
{
	with_nodes(3, restart_meanwhile);
}

int main(void)
{
	char lock[100];
	int r;

	check(mkdtemp(directory));
	check_int(sd_event_new(&loop), 0);
	r = test_main((struct test[]){TEST(a_renewal_is_granted_by_datagram),
	    TEST(more_leases_than_fit_go_by_the_stream),
	    TEST(a_renewal_without_an_answer_is_told_and_the_next_goes_both_ways),
	    TEST(an_answer_to_an_earlier_process_counts_for_nothing), {0}});
	sd_event_unref(loop);
	snprintf(lock, sizeof(lock), "%s/migrated.rpc.lock", directory);
	unlink(lock);
	rmdir(directory);
	return r;
}
