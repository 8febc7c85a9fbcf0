/*
 * Requests of other nodes.  Whoever gets here is in the list of peers: CURVE and ZAP have seen to
 * that.  Nothing here asks another node.
 */
#include "gdn/gosd/gosd.h"

#include "common/crashpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add_tag(void *arg, const char *tag, const char *kind)
{
	struct msg_gosd_have_reply *reply = arg;
	struct msg_gosd_tag *to = &reply->tags.item[reply->tags.count];

	if (reply->tags.count == sizeof(reply->tags.item) / sizeof(reply->tags.item[0]))
		return 0;
	snprintf(to->name, sizeof(to->name), "%s", tag);
	snprintf(to->kind, sizeof(to->kind), "%s", kind);
	reply->tags.count++;
	return 0;
}

static int do_have(struct request *request)
{
	const struct msg_gosd_have *message = request->message;
	struct store *store = request->gosd->store;
	struct msg_gosd_have_reply reply = {.has_tags = true};
	struct id oid = gosd_id(message->oid);
	int r = store_has(store, &oid);

	if (r < 0 && r != -ENOENT && r != -ENODATA)
		return r;
	reply.known = r != -ENOENT;
	reply.whole = r == 0;
	r = store_each_tag(store, &oid, add_tag, &reply);
	return r < 0 ? r
		     : request_answer(request, MSG_GOSD_HAVE_REPLY,
			   msg_gosd_have_reply_pack(&reply, &request->reply));
}

/* Opens a session for the peer that asks. */
static int open_session(
    struct request *request, const struct session *like, uint8_t ticket[TICKET_SIZE])
{
	struct session *session = malloc(sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	*session = *like;
	snprintf(session->peer, sizeof(session->peer), "%s", request->peer);
	r = sessions_add(request->gosd->sessions, session, mono_now());
	if (r < 0) {
		session_free(session);
		return fault_set(&request->fault, r, "too many transfers are open");
	}
	memcpy(ticket, session->ticket, TICKET_SIZE);
	return 0;
}

static int do_want(struct request *request)
{
	const struct msg_gosd_want *message = request->message;
	struct session session = {.kind = SESSION_SEND, .oid = gosd_id(message->oid)};
	struct msg_gosd_ticket reply;
	struct object_row row;
	int r = store_row(request->gosd->store, &session.oid, &row);

	if (r == 0)
		r = open_session(request, &session, reply.ticket);
	return r < 0 ? r
		     : request_answer(
			   request, MSG_GOSD_TICKET, msg_gosd_ticket_pack(&reply, &request->reply));
}

static int do_offer(struct request *request)
{
	const struct msg_gosd_offer *message = request->message;
	struct gosd *gosd = request->gosd;
	struct session session = {.kind = SESSION_RECEIVE, .oid = gosd_id(message->oid)};
	struct msg_gosd_offer_reply reply = {0};
	int r;

	crash_point("gosd.offer");
	if (store_has(gosd->store, &session.oid) == 0) {
		reply.have = true;
		r = store_tag(
		    gosd->store, &session.oid, message->name, message->kind, &request->fault);
		if (r == 0)
			store_set_replica(gosd->store, &session.oid, request->peer, true);
	} else {
		snprintf(session.tag, sizeof(session.tag), "%s", message->name);
		snprintf(session.tag_kind, sizeof(session.tag_kind), "%s", message->kind);
		r = open_session(request, &session, reply.ticket);
	}
	return r < 0 ? r
		     : request_answer(request, MSG_GOSD_OFFER_REPLY,
			   msg_gosd_offer_reply_pack(&reply, &request->reply));
}

static int commit_session(struct request *request, struct session *session, uint64_t *stored)
{
	struct gosd *gosd = request->gosd;
	int r = upload_commit(session->upload,
	    &(struct upload_object){.root_bytes = &session->received.root_bytes,
		.root = &session->received.root,
		.list = &session->received.list,
		.tag = session->tag,
		.kind = session->tag_kind,
		.now_ms = gosd_wall_ms()},
	    &request->fault);

	if (r < 0)
		return r;
	store_set_replica(gosd->store, &session->oid, session->peer, true);
	*stored = upload_stored(session->upload);
	return 0;
}

static int do_commit(struct request *request)
{
	const struct msg_gosd_commit *message = request->message;
	struct msg_gosd_commit_done reply = {0};
	struct session *session = sessions_take(request->gosd->sessions, message->ticket, true);
	int r;

	if (!session || strcmp(session->peer, request->peer) != 0) {
		session_free(session);
		return fault_set(
		    &request->fault, -ENOENT, "nothing was received under this ticket");
	}
	crash_point("gosd.commit");
	r = commit_session(request, session, &reply.stored);
	session_free(session);
	crash_point("gosd.kept");
	return r < 0 ? r
		     : request_answer(request, MSG_GOSD_COMMIT_DONE,
			   msg_gosd_commit_done_pack(&reply, &request->reply));
}

static int do_drop(struct request *request)
{
	const struct msg_gosd_drop *message = request->message;
	struct msg_gosd_drop_done reply = {0};
	struct id oid = gosd_id(message->oid);
	int r;

	crash_point("gosd.drop");
	r = gosd_rm_here(request, &oid, message->has_name ? message->name : NULL);
	if (r < 0 && r != -ENOENT)
		return r;
	reply.known = r != -ENOENT;
	reply.gone = r == 1;
	return request_answer(
	    request, MSG_GOSD_DROP_DONE, msg_gosd_drop_done_pack(&reply, &request->reply));
}

REQUEST_HANDLER(on_have, gosd_have, LANE_QUICK, do_have)
REQUEST_HANDLER(on_want, gosd_want, LANE_QUICK, do_want)
REQUEST_HANDLER(on_offer, gosd_offer, LANE_QUICK, do_offer)
REQUEST_HANDLER(on_commit, gosd_commit, LANE_QUICK, do_commit)
REQUEST_HANDLER(on_drop, gosd_drop, LANE_QUICK, do_drop)

const struct rpc_method gosd_remote_methods[] = {
    {MSG_GOSD_HAVE, on_have, false},
    {MSG_GOSD_WANT, on_want, false},
    {MSG_GOSD_OFFER, on_offer, false},
    {MSG_GOSD_COMMIT, on_commit, false},
    {MSG_GOSD_DROP, on_drop, false},
    {0},
};
