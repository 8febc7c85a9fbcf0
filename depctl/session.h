/*
 * One run of depctl: configuration, loop, and a client for each daemon that is asked.
 */
#ifndef DEPCTL_SESSION_H
#define DEPCTL_SESSION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/config.h"
#include "common/rpc.h"
#include "depctl/output.h"

#define SESSION_CLIENTS_MAX 16

struct session {
	enum output_form form;
	int64_t timeout_ms;
	bool timeout_given;
	struct node_config node;
	sd_event *loop;
	struct zcontext *zmq;
	size_t n_clients;
	struct {
		char daemon[32];
		struct rpc_client *client;
	} clients[SESSION_CLIENTS_MAX];
};

/* What depctl exits with: the numbers of enum rpc_status, and 2 for wrong use. */
#define EXIT_USAGE 2

int session_open(struct session *session, const char *config_path);
void session_close(struct session *session);

/* RPC_OK: somebody listens at the daemon's request socket; RPC_UNREACHABLE, RPC_DENIED.  Asks the kernel, not the daemon. */
enum rpc_status session_reach(const struct session *session, const char *daemon);
/*
 * What a request's status means: who may not connect is denied; when somebody listens, no answer until the deadline is a
 * timeout, also when the daemon was too stuck to greet the connection.
 */
enum rpc_status session_verdict(
    const struct session *session, const char *daemon, enum rpc_status status, struct mono asked);
struct rpc_client *session_client(struct session *session, const char *daemon);

/*
 * Asks a daemon of this node and decodes the answer: a new reference, or NULL after one line on standard error that
 * says what was wrong and what to try; *status is the exit code.
 */
json_t *session_ask(struct session *session, const char *daemon, const char *name,
    const struct buf *body, int *status);
/* The same for a stream: the notices' values under key are gathered in one array. */
json_t *session_gather(struct session *session, const char *daemon, const char *name,
    const struct buf *body, int *status);
/* The same undecoded, for answers that come in pages: 0 and the body in reply, or the exit code after such a line. */
int session_fetch(struct session *session, const char *daemon, const char *name,
    const struct buf *body, struct buf *reply);
/* Says what failed and what to do about it; returns the exit code. */
int session_explain(
    const struct session *session, const char *daemon, enum rpc_status status, const char *error);

#endif
