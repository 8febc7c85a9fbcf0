#include "gdn/gosd/nodes.h"

#include "common/log.h"
#include "proto/common.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HELLO_EVERY_US (2 * UINT64_C(1000000))
#define HELLO_TIMEOUT_MS 1500

struct node {
	struct nodes *nodes;
	const struct peer *peer;
	struct rpc_client *client; /* made when first needed */
	bool there;                /* it is a peer; under the lock, because worker threads ask */
	bool down;
	bool greeting; /* a hello is on its way */
};

struct nodes {
	struct daemon *daemon;
	struct work *work;
	sd_event_source *timer;
	struct peers_listener listener;
	pthread_mutex_t lock; /* over there, down and stopped */
	bool stopped;
	struct node node[PEERS_MAX]; /* by place */
};

/* A question on its way through the loop. */
struct ask {
	struct job job;
	struct node *node;
	const char *name;
	const struct buf *body;
	int64_t timeout_ms;
	struct buf *reply;
	struct fault *fault;
	int r;
	void (*finished)(struct ask *ask); /* in the loop; the ask may be gone when it returns */
};

/* Who waits for one answer. */
struct waiting_ask {
	struct ask ask;
	bool finished;
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

static void set_down(struct node *node, bool down)
{
	bool changed;

	pthread_mutex_lock(&node->nodes->lock);
	changed = node->down != down;
	node->down = down;
	pthread_mutex_unlock(&node->nodes->lock);
	if (changed)
		log_info("node %s node=%s", down ? "does not answer" : "answers", node->peer->name);
}

bool nodes_is_down(struct nodes *nodes, const struct peer *peer)
{
	bool down;

	pthread_mutex_lock(&nodes->lock);
	down = nodes->node[peer - nodes->daemon->node.peers.peer].down;
	pthread_mutex_unlock(&nodes->lock);
	return down;
}

static int code_of(enum rpc_status status)
{
	switch (status) {
	case RPC_OK:
		return 0;
	case RPC_UNREACHABLE:
		return -EHOSTUNREACH;
	case RPC_TIMEOUT:
		return -ETIMEDOUT;
	case RPC_NOT_FOUND:
		return -ENOENT;
	case RPC_DENIED:
		return -EACCES;
	default:
		return -EREMOTEIO;
	}
}

static int ensure_client(struct node *node)
{
	struct daemon *daemon = node->nodes->daemon;

	if (node->client)
		return 0;
	return rpc_client_new_peer(
	    &node->client, daemon->zmq, daemon->loop, node->peer, PORT_GOSD_RPC);
}

/* --- asking --- */

static void finish_ask(struct ask *ask, int r)
{
	ask->r = r;
	ask->finished(ask);
}

static void on_answer(void *userdata, const struct rpc_answer *answer)
{
	struct ask *ask = userdata;
	int r = code_of(answer->status);

	if (answer->more)
		return;
	if (r == 0 && buf_append(ask->reply, answer->body, answer->size) < 0)
		r = -ENOMEM;
	/* A slow node is not down: only the offer's short timeout is meant to tell. */
	if (r == -EHOSTUNREACH || r == -ETIMEDOUT)
		set_down(ask->node, true);
	else
		set_down(ask->node, false);
	if (r < 0)
		fault_set(ask->fault, r, "%s",
		    answer->error[0] ? answer->error : rpc_status_name(answer->status));
	finish_ask(ask, r);
}

static void start_ask(struct job *job)
{
	struct ask *ask = (struct ask *)job;
	int64_t r = ask->node->nodes->stopped ? -ECANCELED
		    : !ask->node->there       ? -EHOSTUNREACH
					      : ensure_client(ask->node);

	if (r == 0)
		r = rpc_request(ask->node->client, ask->name, ask->body->data, ask->body->size,
		    ask->timeout_ms, on_answer, ask);
	if (r < 0) {
		fault_set(ask->fault, (int)r, "ask: %s", strerror((int)-r));
		finish_ask(ask, (int)r);
	}
}

/* Hands it to the loop; negative errno when nobody will finish it. */
static int post_ask(struct nodes *nodes, struct ask *ask)
{
	bool stopped;

	ask->job.done = start_ask;
	pthread_mutex_lock(&nodes->lock);
	stopped = nodes->stopped;
	if (!stopped)
		work_post(nodes->work, &ask->job);
	pthread_mutex_unlock(&nodes->lock);
	return stopped ? fault_set(ask->fault, -ECANCELED, "the daemon stops") : 0;
}

static struct node *node_of(struct nodes *nodes, const struct peer *peer)
{
	return &nodes->node[peer - nodes->daemon->node.peers.peer];
}

static void wake_asker(struct ask *ask)
{
	struct waiting_ask *waiting = (struct waiting_ask *)ask;

	pthread_mutex_lock(&waiting->lock);
	waiting->finished = true;
	pthread_cond_signal(&waiting->wake);
	pthread_mutex_unlock(&waiting->lock);
}

int nodes_ask(struct nodes *nodes, const struct peer *peer, const char *name,
    const struct buf *body, int64_t timeout_ms, struct buf *reply, struct fault *fault)
{
	struct waiting_ask waiting = {.ask = {.node = node_of(nodes, peer),
					  .name = name,
					  .body = body,
					  .timeout_ms = timeout_ms,
					  .reply = reply,
					  .fault = fault,
					  .finished = wake_asker},
	    .lock = PTHREAD_MUTEX_INITIALIZER,
	    .wake = PTHREAD_COND_INITIALIZER};
	int r = post_ask(nodes, &waiting.ask);

	if (r < 0)
		return r;
	pthread_mutex_lock(&waiting.lock);
	while (!waiting.finished)
		pthread_cond_wait(&waiting.wake, &waiting.lock);
	pthread_mutex_unlock(&waiting.lock);
	return waiting.ask.r;
}

/* --- asking several at once --- */

struct round;

struct question {
	struct ask ask;
	struct round *round;
	size_t i;
	struct buf reply;
	struct fault fault;
	struct question *next; /* that is answered */
};

/* Lives until its last question is answered and nobody waits any more. */
struct round {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct buf body;
	struct question *answered;
	size_t users;   /* questions on their way, and who waits */
	size_t pending; /* of these the questions */
};

static void question_free(struct question *question)
{
	buf_fini(&question->reply);
	free(question);
}

/* With the lock held, which it gives up. */
static void round_leave(struct round *round)
{
	bool last = --round->users == 0;

	pthread_mutex_unlock(&round->lock);
	if (!last)
		return;
	while (round->answered) {
		struct question *next = round->answered->next;

		question_free(round->answered);
		round->answered = next;
	}
	pthread_mutex_destroy(&round->lock);
	pthread_cond_destroy(&round->wake);
	buf_fini(&round->body);
	free(round);
}

static void note_answered(struct ask *ask)
{
	struct question *question = (struct question *)ask;
	struct round *round = question->round;

	pthread_mutex_lock(&round->lock);
	question->next = round->answered;
	round->answered = question;
	round->pending--;
	pthread_cond_signal(&round->wake);
	round_leave(round);
}

static int add_question(struct nodes *nodes, struct round *round, const struct peer *peer, size_t i,
    const char *name, int64_t timeout_ms)
{
	struct question *question = calloc(1, sizeof(*question));
	int r;

	if (!question)
		return -ENOMEM;
	question->round = round;
	question->i = i;
	question->ask = (struct ask){.node = node_of(nodes, peer),
	    .name = name,
	    .body = &round->body,
	    .timeout_ms = timeout_ms,
	    .reply = &question->reply,
	    .fault = &question->fault,
	    .finished = note_answered};
	pthread_mutex_lock(&round->lock);
	round->users++;
	round->pending++;
	pthread_mutex_unlock(&round->lock);
	r = post_ask(nodes, &question->ask);
	if (r == 0)
		return 0;
	pthread_mutex_lock(&round->lock);
	round->users--;
	round->pending--;
	pthread_mutex_unlock(&round->lock);
	question_free(question);
	return r;
}

/* Tells what is answered until it is enough or all have answered. */
static void hear(
    struct round *round, bool (*each)(void *arg, const struct answered *answered), void *arg)
{
	bool enough = false;

	pthread_mutex_lock(&round->lock);
	while (!enough && (round->answered || round->pending > 0)) {
		struct question *question = round->answered;

		if (!question) {
			pthread_cond_wait(&round->wake, &round->lock);
			continue;
		}
		round->answered = question->next;
		pthread_mutex_unlock(&round->lock);
		enough = each(arg, &(struct answered){question->i, question->ask.r,
				       &question->reply, &question->fault});
		question_free(question);
		pthread_mutex_lock(&round->lock);
	}
	round_leave(round);
}

int nodes_ask_all(struct nodes *nodes, const struct peer *const *peers, size_t count,
    const char *name, const struct buf *body, int64_t timeout_ms,
    bool (*each)(void *arg, const struct answered *answered), void *arg)
{
	struct round *round = calloc(1, sizeof(*round));
	int r = 0;

	if (!round)
		return -ENOMEM;
	pthread_mutex_init(&round->lock, NULL);
	pthread_cond_init(&round->wake, NULL);
	round->users = 1;
	r = buf_append(&round->body, body->data, body->size);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = add_question(nodes, round, peers[i], i, name, timeout_ms);
	hear(round, each, arg);
	return r;
}

/* --- greeting those that were silent --- */

static void on_greeted(void *userdata, const struct rpc_answer *answer)
{
	struct node *node = userdata;

	node->greeting = answer->more;
	if (answer->status == RPC_OK)
		set_down(node, false);
}

static void greet(struct node *node)
{
	if (node->greeting || !node->client)
		return;
	node->greeting = rpc_request(node->client, MSG_COMMON_HELLO, "\x80", 1, HELLO_TIMEOUT_MS,
			     on_greeted, node) > 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct nodes *nodes = userdata;

	for (size_t i = 0; i < nodes->daemon->node.peers.count; i++)
		if (nodes->node[i].there && nodes_is_down(nodes, nodes->node[i].peer))
			greet(&nodes->node[i]);
	sd_event_source_set_time(source, usec + HELLO_EVERY_US);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static void add_node(struct nodes *nodes, const struct peer *peer)
{
	struct node *node = &nodes->node[peers_place(&nodes->daemon->node.peers, peer)];

	if (peer == nodes->daemon->node.self || peer->old)
		return;
	pthread_mutex_lock(&nodes->lock);
	*node = (struct node){.nodes = nodes, .peer = peer, .there = true};
	pthread_mutex_unlock(&nodes->lock);
}

/* What is asked of it ends now; whoever still means to ask is told that there is no way. */
static void remove_node(struct nodes *nodes, const struct peer *peer)
{
	struct node *node = &nodes->node[peers_place(&nodes->daemon->node.peers, peer)];

	pthread_mutex_lock(&nodes->lock);
	node->there = false;
	pthread_mutex_unlock(&nodes->lock);
	node->client = rpc_client_free(node->client);
	node->greeting = false;
}

static void on_peer(void *userdata, const struct peer *peer)
{
	if (peer->gone || peer->old)
		remove_node(userdata, peer);
	else
		add_node(userdata, peer);
}

int nodes_new(struct nodes **out, struct daemon *daemon, struct work *work)
{
	struct nodes *nodes = calloc(1, sizeof(*nodes));
	const struct peer *peer = NULL;
	uint64_t now;
	int r;

	if (!nodes)
		return -ENOMEM;
	nodes->daemon = daemon;
	nodes->work = work;
	pthread_mutex_init(&nodes->lock, NULL);
	while ((peer = peers_next(&daemon->node.peers, peer)))
		add_node(nodes, peer);
	nodes->listener = (struct peers_listener){.changed = on_peer, .userdata = nodes};
	daemon_listen_peers(daemon, &nodes->listener);
	r = sd_event_now(daemon->loop, MONO_CLOCK, &now);
	if (r >= 0)
		r = sd_event_add_time(daemon->loop, &nodes->timer, MONO_CLOCK, now + HELLO_EVERY_US,
		    0, on_timer, nodes);
	if (r < 0) {
		nodes_free(nodes);
		return r;
	}
	*out = nodes;
	return 0;
}

void nodes_stop(struct nodes *nodes)
{
	pthread_mutex_lock(&nodes->lock);
	nodes->stopped = true;
	pthread_mutex_unlock(&nodes->lock);
	for (size_t i = 0; i < PEERS_MAX; i++)
		nodes->node[i].client = rpc_client_free(nodes->node[i].client);
}

struct nodes *nodes_free(struct nodes *nodes)
{
	if (!nodes)
		return NULL;
	daemon_unlisten_peers(nodes->daemon, &nodes->listener);
	sd_event_source_unref(nodes->timer);
	pthread_mutex_destroy(&nodes->lock);
	free(nodes);
	return NULL;
}

size_t nodes_order(struct nodes *nodes, const struct peer **order)
{
	const struct node_config *config = &nodes->daemon->node;
	size_t self = peers_place(&config->peers, config->self), count = 0;

	pthread_mutex_lock(&nodes->lock);
	for (int pass = 0; pass < 4; pass++)
		for (size_t i = 1; i < PEERS_MAX && count < CLUSTER_MAX; i++) {
			const struct node *node = &nodes->node[(self + i) % PEERS_MAX];

			if (node->there && node->down == pass % 2 &&
			    config_is_near(config, node->peer) == (pass < 2))
				order[count++] = node->peer;
		}
	pthread_mutex_unlock(&nodes->lock);
	return count;
}
