/*
 * Requests between processes: a server's ROUTER and its callers' DEALERs.
 *
 * Frames after the routing id: header map, body map (proto/common.toml: rpc.request, rpc.reply).  Each request
 * has an id and a deadline; it is answered by any number of notices (more = true) and then one reply or failure.
 * A caller never waits without a limit: when the deadline passes, or the server's socket is gone, it is
 * told -ETIMEDOUT, and a reply that comes later is dropped.
 */
#ifndef COMMON_RPC_H
#define COMMON_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "common/mono.h"
#include "common/mpr.h"
#include "common/zsock.h"

/* What can become of a request.  The numbers cross the wire and are the exit codes of depctl. */
enum rpc_status {
	RPC_OK = 0,
	RPC_FAILED = 1,      /* it was tried and did not work */
	RPC_INVALID = 2,     /* the request itself is wrong */
	RPC_UNREACHABLE = 3, /* something that is needed does not answer */
	RPC_NOT_FOUND = 4,
	RPC_DENIED = 5,
	RPC_TIMEOUT = 6,
	RPC_UNKNOWN = 7, /* it may or may not have happened */
};
const char *rpc_status_name(enum rpc_status status);

/* --- server --- */

struct rpc_server;
struct rpc_call; /* one request that waits for its answer */

/* The body is borrowed until the handler returns.  The handler owns call: it answers now or later. */
typedef void (*rpc_handler)(void *userdata, struct rpc_call *call, const void *body, size_t size);

struct rpc_method {
	const char *name; /* MSG_VED_DUMP */
	rpc_handler handler;
	bool local_only; /* refused (RPC_DENIED) when it comes from another node */
};

struct rpc_server_options {
	const char *ipc; /* "ipc:///run/depsys/ved.rpc"; NULL: none */
	const char *tcp; /* "tcp://10.77.0.1:7412"; NULL: none */
	const char *group;
	size_t max_body; /* bytes; 0: 1 MiB */
};

/* methods ends with name NULL and is borrowed; several tables can be added. */
int rpc_server_new(struct rpc_server **out, struct zcontext *context, sd_event *loop,
    const struct rpc_server_options *options);
int rpc_server_add(struct rpc_server *server, const struct rpc_method *methods, void *userdata);
struct rpc_server *rpc_server_free(struct rpc_server *server);
/* Requests taken, and those refused: not to be read, invalid or denied. */
void rpc_server_counts(const struct rpc_server *server, uint64_t *requests, uint64_t *refused);

/* The final answer; frees the call. */
void rpc_reply(struct rpc_call *call, const char *name, const void *body, size_t size);
/* One of a stream; false when the caller is gone: then end with rpc_call_drop or a reply. */
bool rpc_notice(struct rpc_call *call, const char *name, const void *body, size_t size);
/* The final answer of a request that did not work; frees the call. */
void rpc_fail(struct rpc_call *call, enum rpc_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Frees the call without an answer. */
void rpc_call_drop(struct rpc_call *call);
/* The node that asks, as ZAP named it, or NULL for a process of this node. */
const char *rpc_call_peer(const struct rpc_call *call);
struct mono rpc_call_deadline(const struct rpc_call *call);

/*
 * Decodes a body: if (rpc_unpack(call, &message, msg_ved_dump_unpack, body, size) < 0) return;
 * On failure the caller is told why and the call is gone.
 */
#define rpc_unpack(call, message, unpack, body, size)                                              \
	rpc_check((call), unpack((message), (body), (size), rpc_call_error(call)))
struct mpr_error *rpc_call_error(struct rpc_call *call);
int rpc_check(struct rpc_call *call, int result);

/* --- client --- */

struct rpc_client;

struct rpc_answer {
	enum rpc_status status;
	bool more;         /* a notice; others follow */
	const char *name;  /* of the message, "" on failure */
	const char *error; /* what was wrong, "" when ok */
	const void *body;  /* borrowed until the callback returns */
	size_t size;
	bool unheard; /* it was sent, and no answer came: nobody knows whether it was carried out */
};
typedef void (*rpc_done)(void *userdata, const struct rpc_answer *answer);

/* A client of one server: endpoint as in zsock, server_key for tcp. It reconnects by itself. */
int rpc_client_new(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const char *endpoint, const uint8_t *server_key);
/* The daemon of this node: run_dir/NAME.rpc. */
int rpc_client_new_local(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const char *run_dir, const char *daemon);
/* The daemon of another node that listens at the peer's base port + offset. */
int rpc_client_new_peer(struct rpc_client **out, struct zcontext *context, sd_event *loop,
    const struct peer *peer, enum port_offset offset);
/* From now on a request ends with RPC_UNREACHABLE as soon as a connection is refused, not at its deadline. */
void rpc_client_set_impatient(struct rpc_client *client);
/*
 * Calls done for the outstanding requests with RPC_UNREACHABLE first.  It may be called by a done of the client's own: from then on
 * the client takes no request (-ESHUTDOWN), and to free it once more does nothing.
 */
struct rpc_client *rpc_client_free(struct rpc_client *client);

/*
 * Sends a request.  done is called once with more = false, at the latest after timeout_ms (RPC_TIMEOUT), and
 * before that for each notice.  timeout_ms = 0: a stream that stays open until the server ends it or is lost
 * (RPC_UNREACHABLE: call again to go on).  Returns the id (> 0), or negative errno.
 */
int64_t rpc_request(struct rpc_client *client, const char *name, const void *body, size_t size,
    int64_t timeout_ms, rpc_done done, void *userdata);
/* Forgets a request; done is not called. */
void rpc_cancel(struct rpc_client *client, int64_t id);

/*
 * For programs without a loop of their own (depctl): runs the loop until the answer is there and copies
 * its body into reply (caller frees with buf_fini); the error text goes to error (size bytes).
 */
struct buf;
enum rpc_status rpc_ask(struct rpc_client *client, sd_event *loop, const char *name,
    const void *body, size_t size, int64_t timeout_ms, struct buf *reply, char *error,
    size_t error_size);

#endif
