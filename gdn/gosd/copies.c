/*
 * Copies on other nodes: which nodes, in what order, and that a copy counts only when the other node
 * has said on the authenticated channel that it is durable.  Copies are made at the same time, and all nodes
 * are asked at the same time who has an object: one that is slow or dead is not waited for by the others.
 */
#include "gdn/gosd/gosd.h"

#include "common/crashpoint.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* An answer that needs no work; a dead node costs this once. */
#define ASK_MS 2000
/* A commit syncs what was received. */
#define COMMIT_MS 60000
#define COPIES_MAX 16

static int ask(struct request *request, const struct peer *peer, const char *name, int packed,
    const struct buf *body, int64_t timeout_ms, struct buf *reply, struct fault *fault)
{
	if (packed < 0)
		return fault_set(fault, packed, "pack %s", name);
	return nodes_ask(request->gosd->nodes, peer, name, body, timeout_ms, reply, fault);
}

static int unpacked(int r, const struct mpr_error *error, struct fault *fault)
{
	return r < 0 ? fault_set(fault, r, "reply: %s", error->text) : 0;
}

static void note_node(struct copy_result *result, const char *name)
{
	if (result->count < sizeof(result->node) / sizeof(result->node[0]))
		snprintf(result->node[result->count++], sizeof(result->node[0]), "%s", name);
}

/* --- to other nodes --- */

static int offer(struct request *request, const struct copy_request *copy, const struct peer *peer,
    struct msg_gosd_offer_reply *answer, struct fault *fault)
{
	struct msg_gosd_offer message = {.bytes = copy->bytes};
	_cleanup_buf_ struct buf body = {0};
	_cleanup_buf_ struct buf reply = {0};
	struct mpr_error error;
	int r;

	memcpy(message.oid, copy->oid.bytes, ID_SIZE);
	snprintf(message.name, sizeof(message.name), "%s", copy->tag);
	snprintf(message.kind, sizeof(message.kind), "%s", copy->kind);
	r = ask(request, peer, MSG_GOSD_OFFER, msg_gosd_offer_pack(&message, &body), &body, ASK_MS,
	    &reply, fault);
	if (r < 0)
		return r;
	return unpacked(
	    msg_gosd_offer_reply_unpack(answer, reply.data, reply.size, &error), &error, fault);
}

static int commit(struct request *request, const struct peer *peer, const uint8_t *ticket,
    uint64_t *stored, struct fault *fault)
{
	struct msg_gosd_commit message = {0};
	struct msg_gosd_commit_done done;
	_cleanup_buf_ struct buf body = {0};
	_cleanup_buf_ struct buf reply = {0};
	struct mpr_error error;
	int r;

	memcpy(message.ticket, ticket, TICKET_SIZE);
	r = ask(request, peer, MSG_GOSD_COMMIT, msg_gosd_commit_pack(&message, &body), &body,
	    COMMIT_MS, &reply, fault);
	if (r == 0)
		r = unpacked(msg_gosd_commit_done_unpack(&done, reply.data, reply.size, &error),
		    &error, fault);
	if (r == 0)
		*stored = done.stored;
	return r;
}

static int send_object(struct request *request, const struct id *oid, const struct peer *peer,
    const uint8_t *ticket, struct fault *fault)
{
	struct stage stage;
	struct progress progress = request_progress(&stage, request, "copy", peer->name);
	struct object *object = NULL;
	struct bulk bulk;
	int r = object_open(&object, request->gosd->store, oid, fault);

	if (r < 0)
		return r;
	r = bulk_connect(&bulk, &request->gosd->channels, peer, ticket);
	if (r < 0) {
		fault_set(fault, r, "bulk port: %s", strerror(-r));
	} else {
		r = transfer_send(&bulk, object, &progress, fault);
		bulk_close(&bulk);
	}
	object_close(object);
	return r;
}

static int copy_to(struct request *request, const struct copy_request *copy,
    const struct peer *peer, struct fault *fault)
{
	struct gosd *gosd = request->gosd;
	struct msg_gosd_offer_reply answer;
	uint64_t stored = 0;
	int r = offer(request, copy, peer, &answer, fault);

	crash_point("gosd.offered");
	if (r == 0 && !answer.have) {
		r = send_object(request, &copy->oid, peer, answer.ticket, fault);
		crash_point("gosd.sent");
		if (r == 0)
			r = commit(request, peer, answer.ticket, &stored, fault);
	}
	if (r < 0)
		return r;
	crash_point("gosd.copied");
	store_set_replica(gosd->store, &copy->oid, peer->name, true);
	gosd_tell_replicated(gosd, &copy->oid, gosd->daemon->node.name, peer->name, stored);
	return 0;
}

static bool is_avoided(const struct msg_gosd_put *put, const char *name)
{
	for (size_t i = 0; put && put->has_avoid && i < put->avoid.count; i++)
		if (strcmp(put->avoid.item[i], name) == 0)
			return true;
	return false;
}

__attribute__((format(printf, 3, 4))) static void append(
    char *text, size_t size, const char *format, ...)
{
	size_t length = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(text + length, size - length, format, args);
	va_end(args);
}

static int too_few(struct request *request, const struct copy_request *copy,
    const struct copy_result *result, const char *failures, int r)
{
	char hex[ID_HEX], reached[256] = "";

	for (size_t i = 0; i < result->count; i++)
		append(reached, sizeof(reached), "%s%s", i ? ", " : " (", result->node[i]);
	return fault_set(&request->fault, r,
	    "object %s is stored here, with %zu of %zu copies%s%s: %s", id_hex(&copy->oid, hex),
	    result->count, copy->copies, reached, reached[0] ? ")" : "",
	    failures[0] ? failures : "there are no more nodes");
}

/* Copies on their way, each in a thread; candidates are taken in order until enough have it. */
struct spread {
	struct request *request;
	const struct copy_request *copy;
	const struct peer *order[CLUSTER_MAX];
	bool has_it[CLUSTER_MAX];
	pthread_mutex_t lock;        /* over all below */
	size_t count, next, missing; /* candidates, the next of them, copies nobody is at work on */
	bool stop;
	int last;
	char failures[300];
};

/* The next candidate, or -1 if there is none or none is needed. */
static ssize_t take_candidate(struct spread *spread)
{
	while (!spread->stop && spread->missing > 0 && spread->next < spread->count) {
		size_t i = spread->next++;

		if (is_avoided(spread->copy->put, spread->order[i]->name))
			continue;
		spread->missing--;
		return (ssize_t)i;
	}
	return -1;
}

static void note_outcome(struct spread *spread, size_t i, int r, const struct fault *fault)
{
	spread->has_it[i] = r == 0;
	if (r == 0)
		return;
	spread->missing++;
	spread->last = r;
	append(spread->failures, sizeof(spread->failures), "%s%s: %s",
	    spread->failures[0] ? "; " : "", spread->order[i]->name, fault->text);
	/* What is damaged here cannot be copied to anybody. */
	if (r == -ECANCELED || r == -EBADMSG)
		spread->stop = true;
}

static void *copy_to_some(void *arg)
{
	struct spread *spread = arg;
	ssize_t i;

	pthread_mutex_lock(&spread->lock);
	while ((i = take_candidate(spread)) >= 0) {
		struct fault fault = {0};
		int r;

		pthread_mutex_unlock(&spread->lock);
		r = copy_to(spread->request, spread->copy, spread->order[i], &fault);
		pthread_mutex_lock(&spread->lock);
		note_outcome(spread, (size_t)i, r, &fault);
	}
	pthread_mutex_unlock(&spread->lock);
	return NULL;
}

/* As many threads as copies, this one among them; with fewer it takes longer. */
static void spread_out(struct spread *spread)
{
	pthread_t threads[COPIES_MAX];
	size_t count = 0;

	while (count + 1 < spread->copy->copies && count < COPIES_MAX &&
	       pthread_create(&threads[count], NULL, copy_to_some, spread) == 0)
		count++;
	copy_to_some(spread);
	while (count > 0)
		pthread_join(threads[--count], NULL);
}

int gosd_copy(struct request *request, const struct copy_request *copy, struct copy_result *result)
{
	struct spread spread = {.request = request,
	    .copy = copy,
	    .lock = PTHREAD_MUTEX_INITIALIZER,
	    .missing = copy->copies,
	    .last = -EHOSTUNREACH};

	spread.count = nodes_order(request->gosd->nodes, spread.order);
	spread_out(&spread);
	for (size_t i = 0; i < spread.count; i++)
		if (spread.has_it[i])
			note_node(result, spread.order[i]->name);
	return result->count < copy->copies
		   ? too_few(request, copy, result, spread.failures, spread.last)
		   : 0;
}

/* --- from other nodes --- */

/* One fetch, from as many nodes as it takes; what one has brought is not asked of the next. */
struct fetch {
	struct request *request;
	struct id oid;
	struct upload *upload;
	struct received received;
	struct msg_gosd_have_reply have;
	uint64_t bytes;
};

static int ask_have(struct fetch *fetch, const struct peer *peer, struct fault *fault)
{
	struct msg_gosd_have message;
	_cleanup_buf_ struct buf body = {0};
	_cleanup_buf_ struct buf reply = {0};
	struct mpr_error error;
	int r;

	memcpy(message.oid, fetch->oid.bytes, ID_SIZE);
	r = ask(fetch->request, peer, MSG_GOSD_HAVE, msg_gosd_have_pack(&message, &body), &body,
	    ASK_MS, &reply, fault);
	if (r == 0)
		r = unpacked(
		    msg_gosd_have_reply_unpack(&fetch->have, reply.data, reply.size, &error),
		    &error, fault);
	if (r == 0 && !fetch->have.known)
		r = fault_set(fault, -ENOENT, "does not have it");
	return r;
}

static int ask_ticket(struct fetch *fetch, const struct peer *peer, struct msg_gosd_ticket *ticket,
    struct fault *fault)
{
	struct msg_gosd_want message;
	_cleanup_buf_ struct buf body = {0};
	_cleanup_buf_ struct buf reply = {0};
	struct mpr_error error;
	int r;

	memcpy(message.oid, fetch->oid.bytes, ID_SIZE);
	r = ask(fetch->request, peer, MSG_GOSD_WANT, msg_gosd_want_pack(&message, &body), &body,
	    ASK_MS, &reply, fault);
	return r < 0 ? r
		     : unpacked(msg_gosd_ticket_unpack(ticket, reply.data, reply.size, &error),
			   &error, fault);
}

static int fetch_from(struct fetch *fetch, const struct peer *peer, struct fault *fault)
{
	struct stage stage;
	struct progress progress = request_progress(&stage, fetch->request, "fetch", peer->name);
	struct msg_gosd_ticket ticket;
	struct bulk bulk;
	int r = ask_have(fetch, peer, fault);

	if (r == 0)
		r = ask_ticket(fetch, peer, &ticket, fault);
	if (r < 0)
		return r;
	r = bulk_connect(&bulk, &fetch->request->gosd->channels, peer, ticket.ticket);
	if (r < 0)
		return fault_set(fault, r, "bulk port: %s", strerror(-r));
	received_fini(&fetch->received);
	fetch->received.bytes = 0;
	r = transfer_receive(&bulk, &fetch->oid, fetch->upload, &fetch->received, &progress, fault);
	if (r == 0)
		transfer_done(&bulk);
	fetch->bytes += fetch->received.bytes;
	bulk_close(&bulk);
	return r;
}

/* The copy is kept under the names that the source keeps it under. */
static int keep_fetched(struct fetch *fetch, struct fault *fault)
{
	struct store *store = fetch->request->gosd->store;
	const struct msg_gosd_have_reply *have = &fetch->have;
	int r = upload_commit(fetch->upload,
	    &(struct upload_object){.root_bytes = &fetch->received.root_bytes,
		.root = &fetch->received.root,
		.list = &fetch->received.list,
		.tag = have->tags.count ? have->tags.item[0].name : "",
		.kind = have->tags.count ? have->tags.item[0].kind : "",
		.now_ms = gosd_wall_ms()},
	    fault);

	for (size_t i = 1; r >= 0 && i < have->tags.count; i++)
		r = store_tag(
		    store, &fetch->oid, have->tags.item[i].name, have->tags.item[i].kind, fault);
	return r < 0 ? r : 0;
}

/* Is this the first that has all of it? */
static bool is_whole(void *arg, const struct answered *answered)
{
	size_t *whole = arg;
	struct msg_gosd_have_reply have;
	struct mpr_error error;

	if (answered->r < 0 || msg_gosd_have_reply_unpack(
				   &have, answered->reply->data, answered->reply->size, &error) < 0)
		return false;
	if (have.whole)
		*whole = answered->i;
	return have.whole;
}

/*
 * All are asked at once, and who is the first to say that it has all of it is tried first: after the
 * death of a node its timeout is not waited for before the node that has the image is asked.
 */
static void put_whole_first(struct fetch *fetch, const struct peer **order, size_t count)
{
	struct msg_gosd_have message;
	_cleanup_buf_ struct buf body = {0};
	const struct peer *first;
	size_t whole = 0;

	memcpy(message.oid, fetch->oid.bytes, ID_SIZE);
	if (msg_gosd_have_pack(&message, &body) < 0 ||
	    nodes_ask_all(fetch->request->gosd->nodes, order, count, MSG_GOSD_HAVE, &body, ASK_MS,
		is_whole, &whole) < 0)
		return;
	first = order[whole];
	memmove(&order[1], &order[0], whole * sizeof(*order));
	order[0] = first;
}

static int fetch_from_all(struct fetch *fetch, struct copy_result *result)
{
	const struct peer *order[CLUSTER_MAX];
	struct gosd *gosd = fetch->request->gosd;
	size_t count = nodes_order(gosd->nodes, order);
	char failures[300] = "", hex[ID_HEX];
	int r = -ENOENT, last = -ENOENT;

	if (count > 1)
		put_whole_first(fetch, order, count);
	for (size_t i = 0; i < count && r != 0 && r != -ECANCELED; i++) {
		struct fault fault = {0};
		uint64_t before = fetch->bytes;

		r = fetch_from(fetch, order[i], &fault);
		if (fetch->bytes > before)
			note_node(result, order[i]->name);
		if (r == 0)
			gosd_tell_replicated(gosd, &fetch->oid, order[i]->name,
			    gosd->daemon->node.name, fetch->bytes);
		/* That one node does not know it says less than any other failure. */
		last = r == -ENOENT ? last : r;
		if (r < 0)
			append(failures, sizeof(failures), "%s%s: %s", failures[0] ? "; " : "",
			    order[i]->name, fault.text);
	}
	if (r == 0)
		return 0;
	return fault_set(&fetch->request->fault, last,
	    "object %s is not whole here and could not be fetched: %s", id_hex(&fetch->oid, hex),
	    failures[0] ? failures : "there are no other nodes");
}

int gosd_fetch(struct request *request, const struct id *oid, struct copy_result *result)
{
	struct fetch *fetch = calloc(1, sizeof(*fetch));
	int r;

	if (!fetch)
		return -ENOMEM;
	fetch->request = request;
	fetch->oid = *oid;
	r = upload_new(&fetch->upload, request->gosd->store);
	if (r == 0)
		r = fetch_from_all(fetch, result);
	if (r == 0)
		r = keep_fetched(fetch, &request->fault);
	result->bytes += fetch->bytes;
	upload_free(fetch->upload);
	received_fini(&fetch->received);
	free(fetch);
	return r;
}
