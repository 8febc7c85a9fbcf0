#include "depctl/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "depctl/decode.h"

int session_open(struct session *session, const char *config_path)
{
	struct config_error error;
	int r = config_load(config_path, &session->node, NULL, NULL, &error);

	if (r < 0) {
		fprintf(stderr, "depctl: %s\n", error.text);
		if (r == -ENOENT)
			fprintf(stderr, "try: --config FILE, or depctl demo for a local cluster\n");
		return r;
	}
	r = sd_event_default(&session->loop);
	if (r >= 0)
		r = zcontext_new(&session->zmq, session->loop, NULL, NULL);
	if (r < 0)
		fprintf(stderr, "depctl: start: %s\n", strerror(-r));
	return r < 0 ? r : 0;
}

void session_close(struct session *session)
{
	for (size_t i = 0; i < session->n_clients; i++)
		rpc_client_free(session->clients[i].client);
	zcontext_free(session->zmq);
	sd_event_unref(session->loop);
}

enum rpc_status session_reach(const struct session *session, const char *daemon)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, r;

	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/%s.rpc", session->node.run_dir,
	    daemon);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return RPC_UNREACHABLE;
	r = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
	close(fd);
	return r == 0 || r == EAGAIN ? RPC_OK : r == EACCES ? RPC_DENIED : RPC_UNREACHABLE;
}

enum rpc_status session_verdict(
    const struct session *session, const char *daemon, enum rpc_status status, struct mono asked)
{
	bool late = mono_due(mono_add_ms(asked, session->timeout_ms), mono_now());
	enum rpc_status reach;

	if (status != RPC_UNREACHABLE)
		return status;
	reach = session_reach(session, daemon);
	return reach != RPC_OK ? reach : late ? RPC_TIMEOUT : status;
}

struct rpc_client *session_client(struct session *session, const char *daemon)
{
	struct rpc_client *client;

	for (size_t i = 0; i < session->n_clients; i++)
		if (strcmp(session->clients[i].daemon, daemon) == 0)
			return session->clients[i].client;
	if (session->n_clients == SESSION_CLIENTS_MAX ||
	    rpc_client_new_local(
		&client, session->zmq, session->loop, session->node.run_dir, daemon) < 0)
		return NULL;
	snprintf(session->clients[session->n_clients].daemon, sizeof(session->clients[0].daemon),
	    "%s", daemon);
	session->clients[session->n_clients++].client = client;
	rpc_client_set_impatient(client);
	return client;
}

int session_explain(
    const struct session *session, const char *daemon, enum rpc_status status, const char *error)
{
	fprintf(stderr, "depctl: %s: %s%s%s\n", daemon, rpc_status_name(status), *error ? ": " : "",
	    error);
	switch (status) {
	case RPC_UNREACHABLE:
		if (session_reach(session, daemon) != RPC_OK)
			fprintf(stderr,
			    "try: systemctl status depsys-%s, or sv status %s; is %s/%s.rpc there?\n",
			    daemon, daemon, session->node.run_dir, daemon);
		else
			fprintf(stderr, "try: depctl status, and depctl node ls\n");
		break;
	case RPC_TIMEOUT:
		fprintf(stderr, "try: depctl status; or a longer --timeout than %lld ms\n",
		    (long long)session->timeout_ms);
		break;
	case RPC_DENIED:
		fprintf(stderr, "try: as root, or as a member of group %s\n", session->node.group);
		break;
	case RPC_UNKNOWN:
		fprintf(stderr, "try: look whether it happened before you ask again\n");
		break;
	default:
		break;
	}
	return status == RPC_UNKNOWN ? RPC_FAILED : (int)status;
}

struct gathering {
	bool ended;
	enum rpc_status status;
	char error[512];
	json_t *notices; /* array of all notices, and the reply last */
};

static void on_answer(void *userdata, const struct rpc_answer *answer)
{
	struct gathering *gathering = userdata;

	if (answer->status == RPC_OK)
		json_array_append_new(gathering->notices, decode_body(answer->body, answer->size));
	if (answer->more)
		return;
	gathering->ended = true;
	gathering->status = answer->status;
	snprintf(gathering->error, sizeof(gathering->error), "%s", answer->error);
}

json_t *session_gather(struct session *session, const char *daemon, const char *name,
    const struct buf *body, int *status)
{
	struct gathering gathering = {.notices = json_array()};
	struct rpc_client *client = session_client(session, daemon);
	struct mono asked = mono_now();

	if (!client || rpc_request(client, name, body ? body->data : NULL, body ? body->size : 0,
			   session->timeout_ms, on_answer, &gathering) < 0) {
		gathering.status = RPC_FAILED;
		gathering.ended = true;
	}
	while (!gathering.ended && sd_event_run(session->loop, UINT64_MAX) >= 0)
		;
	if (gathering.status != RPC_OK) {
		gathering.status = session_verdict(session, daemon, gathering.status, asked);
		*status = session_explain(session, daemon, gathering.status, gathering.error);
		json_decref(gathering.notices);
		return NULL;
	}
	*status = 0;
	return gathering.notices;
}

int session_fetch(struct session *session, const char *daemon, const char *name,
    const struct buf *body, struct buf *reply)
{
	struct rpc_client *client = session_client(session, daemon);
	struct mono asked = mono_now();
	char error[512] = "";
	enum rpc_status status = client
				     ? rpc_ask(client, session->loop, name, body->data, body->size,
					   session->timeout_ms, reply, error, sizeof(error))
				     : RPC_FAILED;

	if (status == RPC_OK)
		return 0;
	return session_explain(
	    session, daemon, session_verdict(session, daemon, status, asked), error);
}

json_t *session_ask(struct session *session, const char *daemon, const char *name,
    const struct buf *body, int *status)
{
	json_t *answers = session_gather(session, daemon, name, body, status), *last;
	size_t count;

	if (!answers)
		return NULL;
	count = json_array_size(answers);
	last = count ? json_incref(json_array_get(answers, count - 1)) : NULL;
	json_decref(answers);
	if (!last) {
		fprintf(stderr, "depctl: %s: answer to %s cannot be read\n", daemon, name);
		*status = RPC_FAILED;
	}
	return last;
}
