#include "common/rpc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/rpc-stream.h"
#include "common/test.h"
#include "proto/common.h"

static char directory[] = "/tmp/dst-rpc-XXXXXX";
static sd_event *loop;
static struct zcontext *context;
static char endpoint[100];
static struct rpc_call *kept;

static void on_echo(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	(void)userdata;
	rpc_reply(call, "test.echo_reply", body, size);
}

static void on_stream(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	(void)userdata;
	for (int i = 0; i < 3; i++)
		check(rpc_notice(call, "test.notice", body, size));
	kept = call;
}

static void on_silent(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	(void)userdata;
	(void)body;
	(void)size;
	rpc_call_drop(call);
}

static void on_refused(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	(void)userdata;
	(void)body;
	(void)size;
	rpc_fail(call, RPC_DENIED, "not for %s", "you");
}

static const struct rpc_method methods[] = {{"test.echo", on_echo, false},
    {"test.stream", on_stream, false}, {"test.silent", on_silent, false},
    {"test.refused", on_refused, false}, {0}};

static struct rpc_server *server_new(void)
{
	struct rpc_server *server = NULL;

	check_int(
	    rpc_server_new(&server, context, loop, &(struct rpc_server_options){.ipc = endpoint}),
	    0);
	check_int(rpc_server_add(server, methods, NULL), 0);
	return server;
}

static struct rpc_client *client_new(void)
{
	struct rpc_client *client = NULL;

	check_int(rpc_client_new(&client, context, loop, endpoint, NULL), 0);
	return client;
}

struct seen {
	int notices, ends;
	enum rpc_status status;
};

static void on_answer(void *userdata, const struct rpc_answer *answer)
{
	struct seen *seen = userdata;

	seen->notices += answer->more;
	seen->ends += !answer->more;
	seen->status = answer->status;
}

static void run_until(const int *counter, int value)
{
	for (int i = 0; i < 12000 && *counter < value; i++)
		check(sd_event_run(loop, 5000) >= 0);
	check_int(*counter, value);
}

static void a_request_is_answered(void)
{
	struct rpc_server *server = server_new();
	struct rpc_client *client = client_new();
	_cleanup_buf_ struct buf reply = {0};
	char error[64];

	check_int(rpc_ask(client, loop, "test.echo", "abc", 3, 60000, &reply, error, sizeof(error)),
	    RPC_OK);
	check_int(reply.size, 3);
	check(memcmp(reply.data, "abc", 3) == 0);
	check_int(rpc_ask(client, loop, "test.refused", NULL, 0, 60000, NULL, error, sizeof(error)),
	    RPC_DENIED);
	check_str(error, "not for you");
	check_int(
	    rpc_ask(client, loop, "test.unheard_of", NULL, 0, 60000, NULL, error, sizeof(error)),
	    RPC_INVALID);
	check_str(error, "no such request: test.unheard_of");
	rpc_client_free(client);
	rpc_server_free(server);
}

static void a_caller_is_told_when_nobody_answers_in_time(void)
{
	struct rpc_server *server = server_new();
	struct rpc_client *client = client_new();
	char error[200];

	/* Connected first: what could not even be sent in time is unreachable. */
	check_int(
	    rpc_ask(client, loop, "test.echo", NULL, 0, 60000, NULL, error, sizeof(error)), RPC_OK);
	check_int(rpc_ask(client, loop, "test.silent", NULL, 0, 50, NULL, error, sizeof(error)),
	    RPC_TIMEOUT);
	check(strstr(error, "does not answer"));
	rpc_client_free(client);
	rpc_server_free(server);
}

static void a_request_waits_for_a_server_that_comes_later(void)
{
	struct rpc_client *client = client_new();
	struct seen seen = {0};
	char error[200];

	check_int(rpc_ask(client, loop, "test.echo", NULL, 0, 30, NULL, error, sizeof(error)),
	    RPC_UNREACHABLE);
	check(rpc_request(client, "test.echo", NULL, 0, 10000, on_answer, &seen) > 0);
	struct rpc_server *server = server_new();

	run_until(&seen.ends, 1);
	check_int(seen.status, RPC_OK);
	rpc_client_free(client);
	rpc_server_free(server);
}

static void a_stream_ends_at_once_when_its_server_dies(void)
{
	struct rpc_server *server = server_new();
	struct rpc_client *client = client_new();
	struct seen seen = {0};

	check(rpc_request(client, "test.stream", NULL, 0, 0, on_answer, &seen) > 0);
	run_until(&seen.notices, 3);
	check_int(seen.ends, 0);
	rpc_server_free(server);
	run_until(&seen.ends, 1);
	check_int(seen.status, RPC_UNREACHABLE);
	server = server_new();
	check(rpc_request(client, "test.stream", NULL, 0, 0, on_answer, &seen) > 0);
	run_until(&seen.notices, 6);
	rpc_client_free(client);
	check_int(seen.ends, 2);
	rpc_server_free(server);
}

static void a_stream_is_asked_again_when_its_server_is_back(void)
{
	struct rpc_server *server = server_new();
	struct rpc_client *client = client_new();
	struct seen seen = {0};
	const struct rpc_stream_options options = {
	    .request = "test.stream", .again_ms = 10, .done = on_answer, .userdata = &seen};
	struct rpc_stream *stream = NULL;

	check_int(rpc_stream_new(&stream, client, loop, &options), 0);
	rpc_stream_ask(stream);
	rpc_stream_ask(stream); /* it stands: nothing is asked twice */
	run_until(&seen.notices, 3);
	rpc_server_free(server);
	run_until(&seen.ends, 1);
	server = server_new();
	run_until(&seen.notices, 6);
	rpc_stream_free(stream);
	rpc_client_free(client);
	check_int(seen.ends, 1);
	rpc_server_free(server);
}

static void a_notice_to_a_caller_that_left_says_so(void)
{
	struct rpc_server *server = server_new();
	struct rpc_client *client = client_new();
	struct seen seen = {0};
	bool there = true;

	check(rpc_request(client, "test.stream", NULL, 0, 0, on_answer, &seen) > 0);
	run_until(&seen.notices, 3);
	rpc_client_free(client);
	for (int i = 0; i < 12000 && there; i++) {
		check(sd_event_run(loop, 5000) >= 0);
		there = rpc_notice(kept, "test.notice", "", 0);
	}
	check(!there);
	rpc_call_drop(kept);
	rpc_server_free(server);
}

struct freed {
	struct rpc_client *client;
	int ends;
};

static void on_answer_free(void *userdata, const struct rpc_answer *answer)
{
	struct freed *freed = userdata;

	(void)answer;
	if (++freed->ends > 1) /* told by rpc_client_free(), which the first one called */
		check_int(
		    rpc_request(freed->client, "test.echo", NULL, 0, 1000, on_answer_free, freed),
		    -ESHUTDOWN);
	check(rpc_client_free(freed->client) == NULL);
}

/* Asks twice; what ends the first request frees the client, which ends the other. */
static void free_by(const char *request, int64_t timeout_ms, struct rpc_server *killed)
{
	struct freed freed = {.client = client_new()};

	if (killed || timeout_ms < 1000) /* what is not sent does not end so */
		check_int(rpc_ask(freed.client, loop, "test.echo", NULL, 0, 60000, NULL, NULL, 0),
		    RPC_OK);
	else
		rpc_client_set_impatient(freed.client);
	check(rpc_request(freed.client, request, NULL, 0, timeout_ms, on_answer_free, &freed) > 0);
	check(rpc_request(freed.client, "test.silent", NULL, 0, 60000, on_answer_free, &freed) > 0);
	rpc_server_free(killed);
	run_until(&freed.ends, 2);
	for (int i = 0; i < 3; i++)
		check(sd_event_run(loop, 1000) >= 0);
	check_int(freed.ends, 2);
}

static void a_client_may_be_freed_by_an_answer_of_its_own(void)
{
	struct rpc_server *server = server_new();

	free_by("test.echo", 60000, NULL);
	free_by("test.silent", 50, NULL);
	free_by("test.silent", 60000, server);
	free_by("test.echo", 60000, NULL); /* refused: nobody listens */
}

static void junk_is_counted_and_harmless(void)
{
	struct rpc_server *server = server_new();
	struct rpc_client *client = client_new();
	uint64_t requests, refused = 0;
	void *stranger;
	char error[64];

	check_int(zsock_new(&stranger, context,
		      &(struct zsock_options){.type = ZMQ_DEALER, .connect = endpoint}),
	    0);
	check_int(zsock_send(stranger, (struct zpart[]){{"x", 1}}, 1), 0);
	check_int(zsock_send(stranger, (struct zpart[]){{"x", 1}, {"", 0}}, 2), 0);
	check_int(
	    zsock_send(stranger, (struct zpart[]){{"\xdf\xff\xff\xff\xff", 5}, {"\x80", 1}}, 2), 0);
	check_int(zsock_send(stranger,
		      (struct zpart[]){{"1", 1}, {"2", 1}, {"3", 1}, {"4", 1}, {"5", 1}, {"6", 1},
			  {"7", 1}, {"8", 1}, {"9", 1}},
		      9),
	    0);
	for (int i = 0; i < 12000 && refused < 4; i++) {
		check(sd_event_run(loop, 5000) >= 0);
		rpc_server_counts(server, &requests, &refused);
	}
	check_int(refused, 4);
	check_int(
	    rpc_ask(client, loop, "test.echo", NULL, 0, 60000, NULL, error, sizeof(error)), RPC_OK);
	zsock_free(stranger);
	rpc_client_free(client);
	rpc_server_free(server);
}

static char asked_by[NODE_NAME_MAX + 1];

static void on_who(void *userdata, struct rpc_call *call, const void *body, size_t size)
{
	const char *peer = rpc_call_peer(call);

	(void)userdata;
	snprintf(asked_by, sizeof(asked_by), "%s", peer ? peer : "");
	rpc_reply(call, "test.who_reply", body, size);
}

static int free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	check(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0);
	check(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
	close(fd);
	return ntohs(address.sin_port);
}

static void a_request_from_another_node_bears_its_name(void)
{
	static const struct rpc_method who[] = {{"test.who", on_who, false}, {0}};
	struct node_keys server_keys, client_keys;
	struct peers peers = {.count = 1, .peer = {{.name = "n2"}}};
	struct zcontext *far = NULL, *near = NULL;
	struct rpc_server *server = NULL;
	struct rpc_client *client = NULL;
	char tcp[64], error[64];

	keys_generate(&server_keys);
	keys_generate(&client_keys);
	memcpy(peers.peer[0].public_key, client_keys.public_key, KEY_SIZE);
	zsock_tcp_endpoint(tcp, sizeof(tcp), "127.0.0.1", (unsigned)free_port());
	check_int(zcontext_new(&near, loop, &server_keys, &peers), 0);
	check_int(zcontext_new(&far, loop, &client_keys, NULL), 0);
	check_int(rpc_server_new(&server, near, loop, &(struct rpc_server_options){.tcp = tcp}), 0);
	check_int(rpc_server_add(server, who, NULL), 0);
	check_int(rpc_client_new(&client, far, loop, tcp, server_keys.public_key), 0);
	for (int i = 0; i < 20; i++) {
		asked_by[0] = 0;
		check_int(
		    rpc_ask(client, loop, "test.who", NULL, 0, 60000, NULL, error, sizeof(error)),
		    RPC_OK);
		check_str(asked_by, "n2");
	}
	rpc_client_free(client);
	rpc_server_free(server);
	zcontext_free(far);
	zcontext_free(near);
}

int main(void)
{
	int r;

	if (!mkdtemp(directory) || sd_event_default(&loop) < 0)
		return 1;
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/test.rpc", directory);
	check_int(zcontext_new(&context, loop, NULL, NULL), 0);
	r = test_main((struct test[]){
	    TEST(a_request_is_answered),
	    TEST(a_caller_is_told_when_nobody_answers_in_time),
	    TEST(a_request_waits_for_a_server_that_comes_later),
	    TEST(a_stream_ends_at_once_when_its_server_dies),
	    TEST(a_stream_is_asked_again_when_its_server_is_back),
	    TEST(a_notice_to_a_caller_that_left_says_so),
	    TEST(a_client_may_be_freed_by_an_answer_of_its_own),
	    TEST(junk_is_counted_and_harmless),
	    TEST(a_request_from_another_node_bears_its_name),
	    {0},
	});
	zcontext_free(context);
	sd_event_unref(loop);
	snprintf(endpoint, sizeof(endpoint), "%s/test.rpc.lock", directory);
	unlink(endpoint);
	rmdir(directory);
	return r;
}
