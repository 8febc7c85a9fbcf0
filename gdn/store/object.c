#include "gdn/store/private.h"

#include "gdn/store/coder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct object {
	struct store *store;
	struct id oid;
	struct buf root_bytes;
	struct root root;
	struct entries list;
	struct hold hold;
	struct pack_files files;
	uint8_t stored[STORED_MAX];
};

static int load_root(struct object *object, struct fault *fault)
{
	struct object_row row;
	char hex[ID_HEX];
	struct id id;
	int r;

	STORE_LOCKED(object->store);
	r = index_object_find(object->store->index, &object->oid, &row, &object->root_bytes);
	if (r == 0)
		return fault_set(fault, -ENOENT, "no object %s", id_hex(&object->oid, hex));
	id = id_of(object->root_bytes.data, object->root_bytes.size);
	if (r > 0 && !id_equal(&id, &object->oid))
		r = -EBADMSG;
	if (r > 0)
		r = root_unpack(&object->root, object->root_bytes.data, object->root_bytes.size);
	if (r == 0)
		r = collect_ids(&object->hold.ids, &object->root, &object->list);
	if (r < 0)
		return fault_set(
		    fault, r, "object %s: root: %s", id_hex(&object->oid, hex), strerror(-r));
	hold_start(object->store, &object->hold);
	return 0;
}

/* The list becomes part of what is held. */
static int load_list(struct object *object, struct fault *fault)
{
	_cleanup_buf_ struct buf bytes = {0};
	struct coder *coder = NULL;
	int r = coder_new(&coder, NULL);

	if (r == 0)
		r = object_read_all(object, &object->root.list, "list", coder, &bytes, fault);
	if (r == 0)
		r = list_unpack(&object->list, &object->root, bytes.data, bytes.size);
	coder_free(coder);
	if (r < 0)
		return fault_set(fault, r, "list of chunks: %s", strerror(-r));
	STORE_LOCKED(object->store);
	return collect_ids(&object->hold.ids, &object->root, &object->list);
}

int object_open(struct object **out, struct store *store, const struct id *oid, struct fault *fault)
{
	struct object *object = calloc(1, sizeof(*object));
	int r;

	if (!object)
		return -ENOMEM;
	object->store = store;
	object->oid = *oid;
	r = load_root(object, fault);
	if (r == 0)
		r = load_list(object, fault);
	if (r < 0)
		return object_close(object), r;
	*out = object;
	return 0;
}

struct object *object_close(struct object *object)
{
	if (!object)
		return NULL;
	store_lock(object->store);
	hold_end(&object->hold);
	store_unlock(&object->store);
	idset_fini(&object->hold.ids);
	pack_files_fini(&object->files);
	buf_fini(&object->root_bytes);
	root_fini(&object->root);
	entries_fini(&object->list);
	free(object);
	return NULL;
}

const struct id *object_oid(const struct object *object)
{
	return &object->oid;
}

const struct root *object_root(const struct object *object)
{
	return &object->root;
}

const struct buf *object_root_bytes(const struct object *object)
{
	return &object->root_bytes;
}

const struct entries *object_list(const struct object *object)
{
	return &object->list;
}

size_t object_count(const struct object *object)
{
	return object->root.list.count + object->root.names.count + object->list.count;
}

const struct entry *object_entry(const struct object *object, size_t i)
{
	const struct entries *parts[] = {&object->root.list, &object->root.names, &object->list};

	for (size_t part = 0; part < 3; i -= parts[part++]->count)
		if (i < parts[part]->count)
			return &parts[part]->at[i];
	return NULL;
}

int object_read(struct object *object, const struct entry *entry, const char *file, uint64_t offset,
    const uint8_t **stored, struct fault *fault)
{
	struct fault why = {0};
	char oid[ID_HEX], id[ID_HEX];
	int r = store_read(object->store, &object->files, entry, object->stored, &why);

	*stored = object->stored;
	return r < 0 ? fault_set(fault, r, "object %s, file %s, offset %llu: %s, chunk %s",
			   id_hex(&object->oid, oid), file, (unsigned long long)offset, why.text,
			   id_hex(&entry->id, id))
		     : 0;
}

/* Reads and decodes one chunk whose plain length is already known. */
int object_read_plain(struct object *object, const struct entry *entry, const char *file,
    uint64_t offset, struct coder *coder, const uint8_t **plain, struct fault *fault)
{
	const uint8_t *stored;
	char hex[ID_HEX];
	size_t size;
	int r = object_read(object, entry, file, offset, &stored, fault);

	if (r < 0)
		return r;
	r = coder_decode(coder, stored, entry->stored, plain, &size);
	if (r == 0 && size != entry->plain)
		r = -EBADMSG;
	if (r == 0)
		return 0;
	return fault_set(fault, r, "object %s, file %s, offset %llu: %s", id_hex(&object->oid, hex),
	    file, (unsigned long long)offset,
	    r == -ENOKEY         ? "it is sealed and no key was given"
	    : r == -EKEYREJECTED ? "wrong key"
				 : "a chunk is not what its object says");
}

int object_read_all(struct object *object, const struct entries *entries, const char *what,
    struct coder *coder, struct buf *out, struct fault *fault)
{
	for (size_t i = 0; i < entries->count; i++) {
		const uint8_t *plain;
		int r = object_read_plain(
		    object, &entries->at[i], what, out->size, coder, &plain, fault);

		if (r < 0)
			return r;
		if (buf_append(out, plain, entries->at[i].plain) < 0)
			return -ENOMEM;
	}
	return 0;
}

int object_names(
    struct object *object, struct coder *coder, struct files *files, struct fault *fault)
{
	_cleanup_buf_ struct buf bytes = {0};
	char hex[ID_HEX];
	int r = object_read_all(object, &object->root.names, "names", coder, &bytes, fault);

	if (r < 0)
		return r;
	r = names_unpack(files, &object->root, &object->list, bytes.data, bytes.size);
	return r < 0 ? fault_set(fault, r, "object %s: names of files: %s",
			   id_hex(&object->oid, hex), strerror(-r))
		     : 0;
}

int store_files(struct store *store, const struct id *oid, const uint8_t *key, struct files *files,
    struct fault *fault)
{
	struct object *object = NULL;
	struct coder *coder = NULL;
	int r = object_open(&object, store, oid, fault);

	*files = (struct files){0};
	if (r == 0)
		r = coder_new(&coder, key);
	if (r == 0)
		r = object_names(object, coder, files, fault);
	coder_free(coder);
	object_close(object);
	return r;
}

int store_has(struct store *store, const struct id *oid)
{
	struct object *object = NULL;
	int r = object_open(&object, store, oid, NULL);

	for (size_t i = 0; r == 0 && i < object_count(object); i++) {
		struct place place;

		STORE_LOCKED(store);
		r = index_chunk_find(store->index, &object_entry(object, i)->id, &place);
		r = r < 0 ? r : r == 0 || place.pack == 0 ? -ENODATA : 0;
	}
	object_close(object);
	return r == -EBADMSG ? -ENODATA : r;
}

int store_verify(struct store *store, const struct id *oid, const struct progress *progress,
    struct verify_result *result, struct fault *fault)
{
	struct object *object = NULL;
	uint64_t total, told = 0;
	int r = object_open(&object, store, oid, fault);

	*result = (struct verify_result){0};
	/* Without its list nobody can say what else is bad; but that it is not whole. */
	if (r == -EBADMSG || r == -ENODATA) {
		result->damaged = r == -EBADMSG;
		result->missing = r == -ENODATA;
		return 0;
	}
	if (r < 0)
		return r;
	total = object->root.bytes;
	for (size_t i = 0; r == 0 && i < object_count(object); i++) {
		const struct entry *entry = object_entry(object, i);

		r = store_read(store, &object->files, entry, object->stored, NULL);
		result->chunks++;
		result->bytes += entry->stored;
		result->damaged += r == -EBADMSG;
		result->missing += r == -ENODATA;
		if (r == -EBADMSG || r == -ENODATA)
			r = 0;
		if (r == 0 && progress && progress->tell && result->bytes - told >= PROGRESS_STEP) {
			told = result->bytes;
			r = progress->tell(progress->arg, told, total);
		}
	}
	object_close(object);
	return r < 0 ? fault_set(fault, r, "verify: %s", strerror(-r)) : 0;
}
