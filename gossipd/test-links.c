/*
 * What metad answers reaches the core as the answer to what was asked, however late it comes.  Requests are caught here;
 * they are answered by hand, in any order.
 */
#include <errno.h>

#include "common/test.h"
#include "gossipd/shell-internal.h"
#include "proto/metad.h"

enum { ASKED_MAX = 4, VERSION = 7 };

static struct {
	rpc_done done;
	void *userdata;
} asked[ASKED_MAX];
static size_t count;
static bool refuse;
static struct gossipd_event last; /* that the core was told */
static struct shell shell;

/* --- what links.c stands on --- */

int64_t rpc_request(struct rpc_client *client, const char *name, const void *body, size_t size,
    int64_t timeout_ms, rpc_done done, void *userdata)
{
	(void)client;
	(void)name;
	(void)body;
	(void)size;
	(void)timeout_ms;
	if (refuse)
		return -ENOMEM;
	check(count < ASKED_MAX);
	asked[count].done = done;
	asked[count++].userdata = userdata;
	return (int64_t)count;
}

struct rpc_client *rpc_client_free(struct rpc_client *client)
{
	(void)client;
	return NULL;
}

int rpc_client_new_local(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const char *run_dir, const char *daemon)
{
	(void)out;
	(void)context;
	(void)loop;
	(void)run_dir;
	(void)daemon;
	return -ENOTSUP;
}

int rpc_client_new_peer(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const struct peer *peer, enum port_offset offset)
{
	(void)out;
	(void)context;
	(void)loop;
	(void)peer;
	(void)offset;
	return -ENOTSUP;
}

int rpc_stream_new(struct rpc_stream **out, struct rpc_client *client, sd_event *loop,
    const struct rpc_stream_options *options)
{
	(void)out;
	(void)client;
	(void)loop;
	(void)options;
	return -ENOTSUP;
}

struct rpc_stream *rpc_stream_free(struct rpc_stream *stream)
{
	(void)stream;
	return NULL;
}

void rpc_stream_ask(struct rpc_stream *stream)
{
	(void)stream;
}

enum gossipd_answer shell_step(struct shell *unused, struct gossipd_event *event)
{
	(void)unused;
	last = *event;
	return GOSSIPD_OK;
}

void shell_wake(struct shell *unused)
{
	(void)unused;
}

uint64_t shell_id_of(const struct shell *unused, const char *name)
{
	(void)unused;
	return strcmp(name, "n2") == 0 ? 2 : 0;
}

const char *shell_name_of(const struct shell *unused, uint64_t id)
{
	(void)unused;
	return id == 2 ? "n2" : "";
}

void reach_end(struct reach *reach)
{
	(void)reach;
}

void clusters_peer_changed(struct shell *unused)
{
	(void)unused;
}

/* --- asking and answering --- */

static void begin(void)
{
	count = 0;
	refuse = false;
	last = (struct gossipd_event){0};
	memset(&shell, 0, sizeof(shell));
}

static void ask(enum gossipd_action_type type, uint64_t ticket)
{
	struct gossipd_action action = {.type = type};

	action.meta.ticket = ticket;
	action.meta.fact = (struct gossipd_fact){.epoch = 3, .node = 2, .seq = 1};
	links_meta(&shell, &action);
}

static void answer(size_t i, enum rpc_status status, const void *body, size_t size)
{
	struct rpc_answer answer = {
	    .status = status, .error = "no answer", .body = body, .size = size};

	asked[i].done(asked[i].userdata, &answer);
}

/* The store holds nothing. */
static void answer_get(size_t i)
{
	struct msg_metad_got got = {.revision = VERSION};
	_cleanup_buf_ struct buf body = {0};

	check_int(msg_metad_got_pack(&got, &body), 0);
	answer(i, RPC_OK, body.data, body.size);
}

static void answer_put(size_t i, enum msg_metad_result result)
{
	struct msg_metad_txn_reply reply = {.result = result, .version = VERSION};
	_cleanup_buf_ struct buf body = {0};

	check_int(msg_metad_txn_reply_pack(&reply, &body), 0);
	answer(i, RPC_OK, body.data, body.size);
}

static void check_told(uint64_t ticket, enum gossipd_meta_rc rc, uint64_t version)
{
	check_int(last.type, GOSSIPD_META_RESULT);
	check_int(last.meta.ticket, ticket);
	check_int(last.meta.rc, rc);
	check_int(last.meta.version, version);
}

/* --- claims --- */

/* The core has given the get up and asked for a put: what was read is no success of what is written. */
static void a_late_answer_is_that_of_its_own_request(void)
{
	begin();
	ask(GOSSIPD_META_GET, 11);
	ask(GOSSIPD_META_PUT, 12);
	answer_get(0);
	check_told(11, GOSSIPD_META_OK, 0);
	answer_put(1, MSG_METAD_RESULT_APPLIED);
	check_told(12, GOSSIPD_META_OK, VERSION);
}

static void answers_in_the_other_order_are_told_apart_too(void)
{
	begin();
	ask(GOSSIPD_META_PUT, 21);
	ask(GOSSIPD_META_PUT, 22);
	answer_put(1, MSG_METAD_RESULT_CONFLICT);
	check_told(22, GOSSIPD_META_CONFLICT, 0);
	answer_put(0, MSG_METAD_RESULT_APPLIED);
	check_told(21, GOSSIPD_META_OK, VERSION);
}

static void every_failure_is_a_doubt_of_its_own_request(void)
{
	begin();
	ask(GOSSIPD_META_PUT, 31);
	ask(GOSSIPD_META_GET, 32);
	ask(GOSSIPD_META_PUT, 33);
	answer(0, RPC_TIMEOUT, NULL, 0);
	check_told(31, GOSSIPD_META_DOUBT, 0);
	answer(1, RPC_OK, "\xc1", 1); /* not to be read */
	check_told(32, GOSSIPD_META_DOUBT, 0);
	answer_put(2, MSG_METAD_RESULT_UNKNOWN);
	check_told(33, GOSSIPD_META_DOUBT, 0);
}

static void what_cannot_be_sent_is_left_to_the_patience_of_the_core(void)
{
	begin();
	refuse = true;
	ask(GOSSIPD_META_PUT, 41);
	check_int(count, 0);
	check_int(last.meta.ticket, 0);
}

int main(void)
{
	log_init("test-links");
	return test_main((struct test[]){
	    TEST(a_late_answer_is_that_of_its_own_request),
	    TEST(answers_in_the_other_order_are_told_apart_too),
	    TEST(every_failure_is_a_doubt_of_its_own_request),
	    TEST(what_cannot_be_sent_is_left_to_the_patience_of_the_core),
	    {0},
	});
}
