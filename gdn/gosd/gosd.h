/*
 * gosd: what its files share.
 *
 *	main.c      options, configuration, privileges
 *	shell.c     the daemon's parts, its timers, progress and events
 *	request.c   one request from its message to its answer
 *	local.c     requests of this node's processes
 *	copies.c    copying to and fetching from other nodes
 *	remote.c    requests of other nodes
 *	scrub.c     reads all chunks in the background, and repairs
 *	listener.c  the bulk port
 *	nodes.c, work.c, sessions.c, bulk.c, transfer.c
 */
#ifndef GDN_GOSD_GOSD_H
#define GDN_GOSD_GOSD_H

#include "common/daemon.h"
#include "gdn/gosd/nodes.h"
#include "gdn/gosd/sessions.h"
#include "gdn/gosd/work.h"
#include "gdn/store/store.h"
#include "proto/gosd.h"

#include <pthread.h>
#include <stdatomic.h>

struct gosd_settings {
	int64_t quota_mb;
	int64_t reserve_mb;
	int64_t scrub_days;
};

struct gosd {
	struct daemon *daemon;
	const struct gosd_settings *settings;
	struct store *store;
	struct work *work;
	struct nodes *nodes;
	struct sessions *sessions;
	struct bulk_set channels;
	int listen_fd;
	sd_event_source *listen_source, *timer;
	atomic_int bulk_jobs;
	bool collecting;
	atomic_bool removed; /* something was: collect soon */
	struct mono collect_at;
	struct scrubber *scrubber;
	/* For common.stats; written by the loop. */
	uint64_t stored, replicated, removed_objects, damaged, failed, strangers, broken;
	struct log_limit strangers_limit, broken_limit, failed_limit;
	struct daemon_stat stats[8];
};

int gosd_new(struct gosd **out, struct daemon *daemon, const struct gosd_settings *settings);
struct gosd *gosd_free(struct gosd *gosd);

/* --- request.c --- */

struct request;
typedef int (*request_work)(struct request *request);

/* One request on its way through a worker thread. */
struct request {
	struct job job;
	struct gosd *gosd;
	struct rpc_call *call; /* NULL: nobody asked, the daemon itself works */
	request_work work;     /* 0, or negative errno with the fault set */
	void *message;         /* struct msg_..., wiped when done */
	size_t message_size;
	char peer[NODE_NAME_MAX + 1]; /* who asks, "" for this node */
	struct buf reply;
	const char *reply_name;
	int result; /* of the work; -ECANCELED while it has not run */
	struct fault fault;
	pthread_mutex_t notice_lock;
	struct mono last_notice;
};

/* What part of a request is being done, and with which other node ("": none). */
struct stage {
	struct request *request;
	const char *name, *node;
};

/* Room for a message of this size; answers the call itself and returns NULL if there is none. */
struct request *request_new(struct gosd *gosd, struct rpc_call *call, size_t message_size);
void request_drop(struct request *request);
void request_start(struct request *request, enum lane lane, request_work work);
/*
 * Tells the caller how far it is, at most four times a second; -ECANCELED when the daemon stops.  The
 * stage must live as long as what is returned.
 */
struct progress request_progress(
    struct stage *stage, struct request *request, const char *name, const char *node);

/* Defines a handler that decodes struct msg_TYPE and runs work in the lane. */
#define REQUEST_HANDLER(handler, type, lane, work)                                                 \
	static void handler(void *userdata, struct rpc_call *call, const void *body, size_t size)  \
	{                                                                                          \
		struct request *request = request_new(userdata, call, sizeof(struct msg_##type));  \
                                                                                                   \
		if (!request)                                                                      \
			return;                                                                    \
		if (rpc_unpack(call, (struct msg_##type *)request->message, msg_##type##_unpack,   \
			body, size) < 0)                                                           \
			request_drop(request);                                                     \
		else                                                                               \
			request_start(request, lane, work);                                        \
	}

/* Packs the reply: return request_answer(request, MSG_X, msg_x_pack(&x, &request->reply)). */
int request_answer(struct request *request, const char *name, int packed);

/* Publishes an event from any thread; takes the buffer over. */
void gosd_tell(struct gosd *gosd, const char *topic, struct buf *body);
void gosd_tell_damaged(struct gosd *gosd, const struct id *oid, const char *why);
void gosd_tell_replicated(
    struct gosd *gosd, const struct id *oid, const char *from, const char *to, uint64_t bytes);
int64_t gosd_wall_ms(void);

/* --- tables of requests --- */

/* Takes the name (NULL: all) off the object on this node: 1 it is gone, 0 others keep it. */
int gosd_rm_here(struct request *request, const struct id *oid, const char *name);
struct id gosd_id(const uint8_t *bytes);

struct oids {
	struct id *at; /* the caller frees it */
	size_t count;
};

/* All objects of the store. */
int gosd_list(struct store *store, struct oids *oids);

extern const struct rpc_method gosd_local_methods[];
extern const struct rpc_method gosd_remote_methods[];

/* --- copies.c; in a worker thread of LANE_LOCAL --- */

struct copy_result {
	size_t count;
	char node[16][NODE_NAME_MAX + 1];
	uint64_t bytes;
};

struct copy_request {
	struct id oid;
	uint64_t bytes;
	const char *tag, *kind;
	size_t copies;
	const struct msg_gosd_put *put; /* its avoid list; may be NULL */
};

/* Brings the object to so many other nodes.  On failure result says which were reached. */
int gosd_copy(struct request *request, const struct copy_request *copy, struct copy_result *result);
/* Fetches what is missing of the object from whoever has it. */
int gosd_fetch(struct request *request, const struct id *oid, struct copy_result *result);

/* --- scrub.c --- */

int scrubber_new(struct scrubber **out, struct gosd *gosd);
struct scrubber *scrubber_free(struct scrubber *scrubber);
/* Takes the next step when it is time. */
void scrubber_tick(struct scrubber *scrubber, struct mono now);

/* --- listener.c --- */

int gosd_listen(struct gosd *gosd);

#endif
