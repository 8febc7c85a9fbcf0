/* Requests of this node's own processes. */
#include "gdn/gosd/gosd.h"

#include "common/crashpoint.h"
#include "gdn/store/coder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* --- put --- */

static void tell_stored(
    struct gosd *gosd, const struct put_result *result, const struct msg_gosd_put *message)
{
	struct msg_obj_stored event = {.bytes = result->bytes, .stored = result->stored};
	struct buf body = {0};

	memcpy(event.oid, result->oid.bytes, ID_SIZE);
	snprintf(event.name, sizeof(event.name), "%s", message->name);
	snprintf(event.kind, sizeof(event.kind), "%s", message->kind);
	if (msg_obj_stored_pack(&event, &body) == 0)
		gosd_tell(gosd, MSG_OBJ_STORED, &body);
}

static int store_it(
    struct request *request, const struct msg_gosd_put *message, struct put_result *result)
{
	struct stage stage;
	struct put_request put = {.path = message->path,
	    .key = message->has_key ? message->key : NULL,
	    .tag = message->name,
	    .kind = message->kind,
	    .now_ms = gosd_wall_ms(),
	    .progress = request_progress(&stage, request, "store", "")};

	if (message->path[0] != '/')
		return fault_set(
		    &request->fault, -EINVAL, "put %s: not an absolute path", message->path);
	return store_put(request->gosd->store, &put, result, &request->fault);
}

static int copy_it(struct request *request, const struct msg_gosd_put *message,
    const struct put_result *result, struct copy_result *copies)
{
	return gosd_copy(request,
	    &(struct copy_request){.oid = result->oid,
		.bytes = result->bytes,
		.tag = message->name,
		.kind = message->kind,
		.copies = message->copies,
		.put = message},
	    copies);
}

/*
 * Copying found a chunk damaged that was here before: what is put still has it, and is stored again.
 * If that makes another object (its pages lie elsewhere now), the damaged one is not kept.
 */
static int put_again(struct request *request, const struct msg_gosd_put *message,
    struct put_result *result, struct copy_result *copies)
{
	struct id damaged = result->oid;
	int r;

	gosd_tell_damaged(request->gosd, &damaged, request->fault.text);
	request->fault = (struct fault){0};
	*copies = (struct copy_result){0};
	r = store_it(request, message, result);
	if (r == 0 && !id_equal(&damaged, &result->oid))
		r = gosd_rm_here(request, &damaged, message->name);
	return r < 0 ? r : copy_it(request, message, result, copies);
}

static int do_put(struct request *request)
{
	const struct msg_gosd_put *message = request->message;
	struct msg_gosd_put_done done = {0};
	struct copy_result copies = {0};
	struct put_result result;
	int r;

	crash_point("gosd.put");
	r = store_it(request, message, &result);
	if (r < 0)
		return r;
	crash_point("gosd.stored-here");
	tell_stored(request->gosd, &result, message);
	r = copy_it(request, message, &result, &copies);
	if (r == -EBADMSG)
		r = put_again(request, message, &result, &copies);
	if (r < 0)
		return r;
	crash_point("gosd.put-done");
	memcpy(done.oid, result.oid.bytes, ID_SIZE);
	done.bytes = result.bytes;
	done.stored = result.stored;
	done.chunks = result.chunks;
	done.was_there = result.was_there;
	done.replicas.count = copies.count;
	memcpy(done.replicas.item, copies.node, sizeof(copies.node));
	return request_answer(
	    request, MSG_GOSD_PUT_DONE, msg_gosd_put_done_pack(&done, &request->reply));
}

/* --- get --- */

/* Finds all that is bad at once, so that it is fetched at once. */
static void find_damage(struct request *request, const struct id *oid)
{
	struct verify_result found;

	gosd_tell_damaged(request->gosd, oid, request->fault.text);
	store_verify(request->gosd->store, oid, NULL, &found, NULL);
	request->fault = (struct fault){0};
}

static int do_get(struct request *request)
{
	const struct msg_gosd_get *message = request->message;
	struct get_request get = {.oid = gosd_id(message->oid),
	    .path = message->path,
	    .key = message->has_key ? message->key : NULL,
	    .group = (int)getegid()};
	struct msg_gosd_get_done done = {0};
	struct copy_result copies = {0};
	struct stage stage;
	int r;

	if (message->path[0] != '/')
		return fault_set(
		    &request->fault, -EINVAL, "get to %s: not an absolute path", message->path);
	for (int attempt = 0;; attempt++) {
		get.progress = request_progress(&stage, request, "write", "");
		r = store_get(request->gosd->store, &get, &done.bytes, &request->fault);
		if (attempt == 2 || (r != -ENOENT && r != -ENODATA && r != -EBADMSG))
			break;
		if (r != -ENOENT)
			find_damage(request, &get.oid);
		request->fault = (struct fault){0};
		r = gosd_fetch(request, &get.oid, &copies);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	done.fetched = copies.bytes;
	done.nodes.count = copies.count;
	memcpy(done.nodes.item, copies.node, sizeof(copies.node));
	return request_answer(
	    request, MSG_GOSD_GET_DONE, msg_gosd_get_done_pack(&done, &request->reply));
}

/* --- ls and show --- */

static int add_tag(void *arg, const char *tag, const char *kind)
{
	struct msg_gosd_object *object = arg;
	struct msg_gosd_tag *to = &object->tags.item[object->tags.count];

	if (object->tags.count == sizeof(object->tags.item) / sizeof(object->tags.item[0]))
		return 0;
	snprintf(to->name, sizeof(to->name), "%s", tag);
	snprintf(to->kind, sizeof(to->kind), "%s", kind);
	object->tags.count++;
	return 0;
}

static int add_replica(void *arg, const char *node)
{
	struct msg_gosd_object *object = arg;
	size_t i = object->replicas.count;

	if (i == sizeof(object->replicas.item) / sizeof(object->replicas.item[0]))
		return 0;
	snprintf(object->replicas.item[i], sizeof(object->replicas.item[i]), "%s", node);
	object->replicas.count++;
	return 0;
}

static int describe(
    struct store *store, const struct object_row *row, struct msg_gosd_object *object)
{
	int r;

	*object = (struct msg_gosd_object){.bytes = row->bytes,
	    .stored = row->stored,
	    .chunks = row->chunks,
	    .sealed = row->sealed,
	    .created_ms = row->created_ms};
	memcpy(object->oid, row->oid.bytes, ID_SIZE);
	r = store_each_tag(store, &row->oid, add_tag, object);
	return r < 0 ? r : store_each_replica(store, &row->oid, add_replica, object);
}

#define PAGE 32

struct page {
	uint32_t skip;
	size_t count;
	struct object_row rows[PAGE + 1];
};

static int add_row(void *arg, const struct object_row *row)
{
	struct page *page = arg;

	if (page->skip > 0)
		page->skip--;
	else if (page->count <= PAGE)
		page->rows[page->count++] = *row;
	return 0;
}

static int do_ls(struct request *request)
{
	const struct msg_gosd_ls *message = request->message;
	struct store *store = request->gosd->store;
	struct msg_gosd_ls_reply *reply = calloc(1, sizeof(*reply));
	struct page page = {.skip = message->skip};
	int r = reply ? store_each(store, add_row, &page) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < page.count && i < PAGE; i++)
		r = describe(store, &page.rows[i], &reply->objects.item[reply->objects.count++]);
	if (r == 0) {
		reply->more = page.count > PAGE;
		r = request_answer(
		    request, MSG_GOSD_LS_REPLY, msg_gosd_ls_reply_pack(reply, &request->reply));
	}
	free(reply);
	return r;
}

static int add_files(struct request *request, const struct msg_gosd_show *message,
    const struct id *oid, struct msg_gosd_show_reply *reply)
{
	size_t max = sizeof(reply->files.item) / sizeof(reply->files.item[0]);
	struct files files;
	int r = store_files(request->gosd->store, oid, message->has_key ? message->key : NULL,
	    &files, &request->fault);

	if (r < 0)
		return r;
	reply->file_count = (uint32_t)files.count;
	for (size_t i = 0; i < files.count && i < max; i++) {
		struct msg_gosd_file *to = &reply->files.item[reply->files.count++];

		snprintf(to->name, sizeof(to->name), "%s", files.at[i].name);
		to->bytes = files.at[i].size;
		to->mode = files.at[i].mode;
	}
	files_fini(&files);
	return 0;
}

static int do_show(struct request *request)
{
	const struct msg_gosd_show *message = request->message;
	struct store *store = request->gosd->store;
	struct msg_gosd_show_reply *reply = calloc(1, sizeof(*reply));
	struct id oid = gosd_id(message->oid);
	struct object_row row;
	char hex[ID_HEX];
	int r = reply ? store_row(store, &oid, &row) : -ENOMEM;

	if (r == -ENOENT)
		fault_set(&request->fault, r, "no object %s on this node", id_hex(&oid, hex));
	if (r == 0)
		r = describe(store, &row, &reply->object);
	if (r == 0)
		reply->whole = store_has(store, &oid) == 0;
	if (r == 0 && reply->whole && (message->has_key || !row.sealed))
		r = add_files(request, message, &oid, reply);
	if (r == 0)
		r = request_answer(
		    request, MSG_GOSD_SHOW_REPLY, msg_gosd_show_reply_pack(reply, &request->reply));
	free(reply);
	return r;
}

/* --- rm --- */

static int drop_at(struct request *request, const struct peer *peer,
    const struct msg_gosd_rm *message, struct msg_gosd_drop_done *done)
{
	struct msg_gosd_drop drop = {.has_name = message->has_name};
	_cleanup_buf_ struct buf body = {0};
	_cleanup_buf_ struct buf reply = {0};
	struct mpr_error error;
	int r;

	memcpy(drop.oid, message->oid, ID_SIZE);
	memcpy(drop.name, message->name, sizeof(drop.name));
	r = msg_gosd_drop_pack(&drop, &body);
	if (r == 0)
		r = nodes_ask(request->gosd->nodes, peer, MSG_GOSD_DROP, &body, 2000, &reply, NULL);
	return r < 0 ? r : msg_gosd_drop_done_unpack(done, reply.data, reply.size, &error);
}

static void rm_elsewhere(
    struct request *request, const struct msg_gosd_rm *message, struct msg_gosd_rm_done *done)
{
	const struct peer *order[CLUSTER_MAX];
	struct nodes *nodes = request->gosd->nodes;
	size_t count = nodes_order(nodes, order);

	for (size_t i = 0; i < count; i++) {
		struct msg_gosd_drop_done dropped = {0};
		char *name;

		if (nodes_is_down(nodes, order[i]) ||
		    drop_at(request, order[i], message, &dropped) < 0)
			name = done->unreachable.item[done->unreachable.count++];
		else if (dropped.known)
			name = done->nodes.item[done->nodes.count++];
		else
			continue;
		snprintf(name, sizeof(done->nodes.item[0]), "%s", order[i]->name);
	}
}

static void tell_removed(struct gosd *gosd, const struct id *oid)
{
	struct msg_obj_removed event;
	struct buf body = {0};

	memcpy(event.oid, oid->bytes, ID_SIZE);
	gosd->removed = true;
	if (msg_obj_removed_pack(&event, &body) == 0)
		gosd_tell(gosd, MSG_OBJ_REMOVED, &body);
}

int gosd_rm_here(struct request *request, const struct id *oid, const char *name)
{
	int r = store_rm(request->gosd->store, oid, name, &request->fault);

	if (r == 1)
		tell_removed(request->gosd, oid);
	return r;
}

static int do_rm(struct request *request)
{
	const struct msg_gosd_rm *message = request->message;
	struct msg_gosd_rm_done done = {0};
	struct id oid = gosd_id(message->oid);
	int r;

	crash_point("gosd.rm");
	r = gosd_rm_here(request, &oid, message->has_name ? message->name : NULL);
	if (r < 0 && r != -ENOENT)
		return r;
	crash_point("gosd.removed-here");
	done.gone = r != 0;
	if (r >= 0)
		snprintf(done.nodes.item[done.nodes.count++], sizeof(done.nodes.item[0]), "%s",
		    request->gosd->daemon->node.name);
	if (!message->local)
		rm_elsewhere(request, message, &done);
	if (done.nodes.count == 0)
		return -ENOENT;
	return request_answer(
	    request, MSG_GOSD_RM_DONE, msg_gosd_rm_done_pack(&done, &request->reply));
}

/* --- verify --- */

static int verify_one(
    struct request *request, const struct id *oid, bool repair, struct msg_gosd_verify_done *done)
{
	struct stage stage;
	struct progress progress = request_progress(&stage, request, "verify", "");
	struct copy_result copies = {0};
	struct verify_result found;
	char hex[ID_HEX];
	int r = store_verify(request->gosd->store, oid, &progress, &found, &request->fault);

	if (r < 0)
		return r;
	done->objects++;
	done->chunks += found.chunks;
	done->bytes += found.bytes;
	done->damaged += found.damaged;
	done->missing += found.missing;
	if (found.damaged + found.missing == 0)
		return 0;
	fault_set(&request->fault, -EBADMSG, "object %s: %llu chunks damaged, %llu missing",
	    id_hex(oid, hex), (unsigned long long)found.damaged, (unsigned long long)found.missing);
	gosd_tell_damaged(request->gosd, oid, request->fault.text);
	request->fault = (struct fault){0};
	r = repair ? gosd_fetch(request, oid, &copies) : -EBADMSG;
	request->fault = (struct fault){0};
	if (r == 0)
		done->repaired++;
	else if (done->broken.count < sizeof(done->broken.item) / sizeof(done->broken.item[0]))
		memcpy(done->broken.item[done->broken.count++], oid->bytes, ID_SIZE);
	return r == -ECANCELED ? r : 0;
}

static int add_oid(void *arg, const struct object_row *row)
{
	struct oids *oids = arg;
	struct id *grown = reallocarray(oids->at, oids->count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	oids->at = grown;
	oids->at[oids->count++] = row->oid;
	return 0;
}

int gosd_list(struct store *store, struct oids *oids)
{
	return store_each(store, add_oid, oids);
}

static int verify_all(struct request *request, bool repair, struct msg_gosd_verify_done *done)
{
	struct oids oids = {0};
	int r = gosd_list(request->gosd->store, &oids);

	for (size_t i = 0; r == 0 && i < oids.count; i++) {
		r = verify_one(request, &oids.at[i], repair, done);
		/* Removed since the list was made. */
		if (r == -ENOENT) {
			request->fault = (struct fault){0};
			r = 0;
		}
	}
	free(oids.at);
	return r;
}

static int do_verify(struct request *request)
{
	const struct msg_gosd_verify *message = request->message;
	struct msg_gosd_verify_done done = {0};
	struct id oid = gosd_id(message->oid);
	int r = message->has_oid ? verify_one(request, &oid, message->repair, &done)
				 : verify_all(request, message->repair, &done);

	return r < 0 ? r
		     : request_answer(request, MSG_GOSD_VERIFY_DONE,
			   msg_gosd_verify_done_pack(&done, &request->reply));
}

/* --- stat, gc --- */

static int do_stat(struct request *request)
{
	const struct daemon *daemon = request->gosd->daemon;
	struct msg_gosd_stat_reply reply = {0};
	struct index_totals totals;
	struct statvfs fs;
	int r = store_totals(request->gosd->store, &totals);

	if (r < 0)
		return r;
	reply.objects = totals.objects;
	reply.bytes = totals.bytes;
	reply.chunks = totals.chunks;
	reply.missing = totals.missing;
	reply.packs = totals.packs;
	reply.pack_bytes = totals.pack_bytes;
	reply.quota = (uint64_t)request->gosd->settings->quota_mb << 20;
	if (statvfs(daemon->node.state_dir, &fs) == 0)
		reply.free = (uint64_t)fs.f_bavail * fs.f_frsize;
	return request_answer(
	    request, MSG_GOSD_STAT_REPLY, msg_gosd_stat_reply_pack(&reply, &request->reply));
}

static int do_gc(struct request *request)
{
	struct msg_gosd_gc_done done = {0};
	struct gc_result result;
	int r = store_gc(request->gosd->store, &result, &request->fault);

	if (r < 0)
		return r;
	done.chunks = result.chunks;
	done.bytes = result.bytes;
	return request_answer(
	    request, MSG_GOSD_GC_DONE, msg_gosd_gc_done_pack(&done, &request->reply));
}

REQUEST_HANDLER(on_put, gosd_put, LANE_LOCAL, do_put)
REQUEST_HANDLER(on_get, gosd_get, LANE_LOCAL, do_get)
REQUEST_HANDLER(on_ls, gosd_ls, LANE_QUICK, do_ls)
REQUEST_HANDLER(on_show, gosd_show, LANE_QUICK, do_show)
REQUEST_HANDLER(on_rm, gosd_rm, LANE_LOCAL, do_rm)
REQUEST_HANDLER(on_verify, gosd_verify, LANE_LOCAL, do_verify)
REQUEST_HANDLER(on_stat, gosd_stat, LANE_QUICK, do_stat)
REQUEST_HANDLER(on_gc, gosd_gc, LANE_LOCAL, do_gc)

const struct rpc_method gosd_local_methods[] = {
    {MSG_GOSD_PUT, on_put, true},
    {MSG_GOSD_GET, on_get, true},
    {MSG_GOSD_LS, on_ls, true},
    {MSG_GOSD_SHOW, on_show, true},
    {MSG_GOSD_RM, on_rm, true},
    {MSG_GOSD_VERIFY, on_verify, true},
    {MSG_GOSD_STAT, on_stat, true},
    {MSG_GOSD_GC, on_gc, true},
    {0},
};
