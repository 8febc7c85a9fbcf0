#include "gdn/gosd/gosd.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOTICE_EVERY_MS 250

/* --- life of a request --- */

static void request_free(struct request *request)
{
	sodium_memzero(request->message, request->message_size);
	pthread_mutex_destroy(&request->notice_lock);
	free(request->message);
	buf_fini(&request->reply);
	free(request);
}

static enum rpc_status status_of(int r)
{
	switch (r) {
	case -ENOENT:
		return RPC_NOT_FOUND;
	case -EHOSTUNREACH:
		return RPC_UNREACHABLE;
	case -ETIMEDOUT:
		return RPC_TIMEOUT;
	case -EACCES:
	case -EPERM:
	case -ENOKEY:
	case -EKEYREJECTED:
		return RPC_DENIED;
	case -EINVAL:
	case -EEXIST:
		return RPC_INVALID;
	default:
		return RPC_FAILED;
	}
}

struct request *request_new(struct gosd *gosd, struct rpc_call *call, size_t message_size)
{
	struct request *request = calloc(1, sizeof(*request));
	const char *peer = rpc_call_peer(call);

	if (request)
		request->message = calloc(1, message_size);
	if (!request || !request->message) {
		free(request);
		rpc_fail(call, RPC_FAILED, "no memory");
		return NULL;
	}
	request->gosd = gosd;
	request->call = call;
	pthread_mutex_init(&request->notice_lock, NULL);
	request->message_size = message_size;
	snprintf(request->peer, sizeof(request->peer), "%s", peer ? peer : "");
	return request;
}

void request_drop(struct request *request)
{
	request_free(request);
}

static void run_request(struct job *job)
{
	struct request *request = (struct request *)job;
	int r = request->work(request);

	request->result = r;
	if (r < 0)
		fault_set(&request->fault, r, "%s", strerror(-r));
}

/* What fails may be the caller's doing, again and again. */
static void tell_failed(const struct request *request)
{
	unsigned int missed;

	request->gosd->failed++;
	if (log_limit(&request->gosd->failed_limit, mono_now(), &missed))
		log_notice("request failed: %s missed=%u", request->fault.text, missed);
}

static void end_request(struct job *job)
{
	struct request *request = (struct request *)job;

	if (request->result == 0) {
		rpc_reply(
		    request->call, request->reply_name, request->reply.data, request->reply.size);
	} else {
		fault_set(&request->fault, request->result, "the daemon stops");
		tell_failed(request);
		rpc_fail(request->call, status_of(request->result), "%s", request->fault.text);
	}
	request_free(request);
}

void request_start(struct request *request, enum lane lane, request_work work)
{
	request->work = work;
	request->result = -ECANCELED;
	request->job.run = run_request;
	request->job.done = end_request;
	if (work_start(request->gosd->work, lane, &request->job) == 0)
		return;
	rpc_fail(request->call, RPC_FAILED, "too many requests wait");
	request_free(request);
}

int request_answer(struct request *request, const char *name, int packed)
{
	request->reply_name = name;
	return packed < 0 ? fault_set(&request->fault, packed, "pack %s", name) : 0;
}

/* --- progress --- */

struct notice {
	struct job job;
	struct rpc_call *call;
	struct msg_gosd_progress message;
};

static void send_notice(struct job *job)
{
	struct notice *notice = (struct notice *)job;
	_cleanup_buf_ struct buf out = {0};

	/* The call lives: its end is posted behind this. */
	if (msg_gosd_progress_pack(&notice->message, &out) == 0)
		rpc_notice(notice->call, MSG_GOSD_PROGRESS, out.data, out.size);
	free(notice);
}

static struct notice *notice_new(const struct stage *stage, uint64_t done, uint64_t total)
{
	struct notice *notice = calloc(1, sizeof(*notice));

	if (!notice)
		return NULL;
	notice->job.done = send_notice;
	notice->call = stage->request->call;
	notice->message = (struct msg_gosd_progress){.done = done, .total = total};
	snprintf(notice->message.stage, sizeof(notice->message.stage), "%s", stage->name);
	snprintf(notice->message.node, sizeof(notice->message.node), "%s", stage->node);
	return notice;
}

/* Is it time?  Several copies may tell at once. */
static bool may_tell(struct request *request)
{
	struct mono now = mono_now();
	bool may;

	if (!request->call)
		return false;
	pthread_mutex_lock(&request->notice_lock);
	may = !mono_before(now, mono_add_ms(request->last_notice, NOTICE_EVERY_MS));
	if (may)
		request->last_notice = now;
	pthread_mutex_unlock(&request->notice_lock);
	return may;
}

static int tell_progress(void *arg, uint64_t done, uint64_t total)
{
	const struct stage *stage = arg;
	struct work *work = stage->request->gosd->work;
	struct notice *notice;

	if (work_stopping(work))
		return -ECANCELED;
	if (!may_tell(stage->request))
		return 0;
	notice = notice_new(stage, done, total);
	if (!notice)
		return -ENOMEM;
	work_post(work, &notice->job);
	return 0;
}

struct progress request_progress(
    struct stage *stage, struct request *request, const char *name, const char *node)
{
	*stage = (struct stage){request, name, node};
	return (struct progress){.tell = tell_progress, .arg = stage};
}

/* --- events --- */

struct event {
	struct job job;
	struct gosd *gosd;
	const char *topic;
	struct buf body;
};

static void count(struct gosd *gosd, const char *topic)
{
	if (strcmp(topic, MSG_OBJ_STORED) == 0)
		gosd->stored++;
	else if (strcmp(topic, MSG_OBJ_REPLICATED) == 0)
		gosd->replicated++;
	else if (strcmp(topic, MSG_OBJ_REMOVED) == 0)
		gosd->removed_objects++;
	else if (strcmp(topic, MSG_OBJ_DAMAGED) == 0)
		gosd->damaged++;
}

static void publish(struct job *job)
{
	struct event *event = (struct event *)job;

	count(event->gosd, event->topic);
	if (event->gosd->daemon->bus)
		bus_publish(
		    event->gosd->daemon->bus, event->topic, event->body.data, event->body.size);
	buf_fini(&event->body);
	free(event);
}

void gosd_tell(struct gosd *gosd, const char *topic, struct buf *body)
{
	struct event *event = calloc(1, sizeof(*event));

	if (!event) {
		buf_fini(body);
		return;
	}
	*event = (struct event){.job.done = publish, .gosd = gosd, .topic = topic, .body = *body};
	*body = (struct buf){0};
	work_post(gosd->work, &event->job);
}

void gosd_tell_damaged(struct gosd *gosd, const struct id *oid, const char *why)
{
	struct msg_obj_damaged message = {0};
	struct buf body = {0};

	memcpy(message.oid, oid->bytes, ID_SIZE);
	snprintf(message.why, sizeof(message.why), "%s", why);
	log_warning("damaged: %s", why);
	if (msg_obj_damaged_pack(&message, &body) == 0)
		gosd_tell(gosd, MSG_OBJ_DAMAGED, &body);
}

void gosd_tell_replicated(
    struct gosd *gosd, const struct id *oid, const char *from, const char *to, uint64_t bytes)
{
	struct msg_obj_replicated message = {.bytes = bytes};
	struct buf body = {0};

	memcpy(message.oid, oid->bytes, ID_SIZE);
	snprintf(message.from, sizeof(message.from), "%s", from);
	snprintf(message.to, sizeof(message.to), "%s", to);
	if (msg_obj_replicated_pack(&message, &body) == 0)
		gosd_tell(gosd, MSG_OBJ_REPLICATED, &body);
}

int64_t gosd_wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct id gosd_id(const uint8_t *bytes)
{
	struct id id;

	memcpy(id.bytes, bytes, ID_SIZE);
	return id;
}
