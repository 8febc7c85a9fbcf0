#include "gdn/gosd/transfer.h"

#include "gdn/store/coder.h"
#include "gdn/store/idset.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TELL_EVERY (UINT64_C(4) << 20)

static bool bit_is_set(const uint8_t *bits, size_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

static int tell(const struct progress *progress, uint64_t before, uint64_t done, uint64_t total)
{
	if (!progress || !progress->tell || before / TELL_EVERY == done / TELL_EVERY)
		return 0;
	return progress->tell(progress->arg, done, total);
}

/* A frame that must be of this type. */
static int expect(
    struct bulk *bulk, enum bulk_type type, const uint8_t **data, size_t *size, struct fault *fault)
{
	enum bulk_type got;
	int r = bulk_recv(bulk, &got, data, size);

	if (r < 0)
		return fault_set(fault, r, "bulk channel: %s", strerror(-r));
	if (got != type)
		return fault_set(
		    fault, -EBADMSG, "bulk channel: frame %d instead of %d", got, type);
	return 0;
}

/* --- sender --- */

struct sender {
	struct bulk *bulk;
	struct object *object;
	const struct progress *progress;
	struct fault *fault;
	uint64_t done, total;
	bool damaged;
};

static int send_chunk(struct sender *sender, const struct entry *entry, size_t index)
{
	uint32_t head = htole32((uint32_t)index);
	const uint8_t *stored;
	int r =
	    object_read(sender->object, entry, "(chunks)", sender->done, &stored, sender->fault);

	if (r == -EBADMSG || r == -ENODATA) {
		sender->damaged = true;
		return bulk_send(sender->bulk, BULK_MISSING, &head, sizeof(head), NULL, 0);
	}
	if (r < 0)
		return r;
	return bulk_send(sender->bulk, BULK_CHUNK, &head, sizeof(head), stored, entry->stored);
}

/* Sends those of entries first to first + count that are wanted. */
static int send_stage(struct sender *sender, size_t first, size_t count)
{
	uint8_t *wanted;
	const uint8_t *bits;
	size_t size;
	int r = bulk_flush(sender->bulk);

	if (r == 0)
		r = expect(sender->bulk, BULK_WANT, &bits, &size, sender->fault);
	if (r == 0 && size != (count + 7) / 8)
		r = fault_set(sender->fault, -EBADMSG, "bulk channel: %zu bits wanted of %zu",
		    8 * size, count);
	if (r < 0)
		return r;
	wanted = malloc(size + 1);
	if (!wanted)
		return -ENOMEM;
	memcpy(wanted, bits, size);
	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct entry *entry = object_entry(sender->object, first + i);
		uint64_t before = sender->done;

		if (bit_is_set(wanted, i))
			r = send_chunk(sender, entry, i);
		sender->done += entry->plain;
		if (r == 0)
			r = tell(sender->progress, before, sender->done, sender->total);
	}
	free(wanted);
	if (r == 0)
		r = bulk_send(sender->bulk, BULK_END, NULL, 0, NULL, 0);
	return r < 0 ? r : bulk_flush(sender->bulk);
}

int transfer_send(
    struct bulk *bulk, struct object *object, const struct progress *progress, struct fault *fault)
{
	const struct buf *root = object_root_bytes(object);
	const struct root *parts = object_root(object);
	struct sender sender = {.bulk = bulk,
	    .object = object,
	    .progress = progress,
	    .fault = fault,
	    .total = parts->bytes};
	size_t meta = parts->list.count + parts->names.count, size;
	const uint8_t *data;
	int r = bulk_send(bulk, BULK_ROOT, NULL, 0, root->data, root->size);

	if (r == 0)
		r = send_stage(&sender, 0, meta);
	if (r == 0 && !sender.damaged)
		r = send_stage(&sender, meta, object_count(object) - meta);
	if (r == 0 && !sender.damaged)
		r = expect(bulk, BULK_DONE, &data, &size, fault);
	if (r == 0 && sender.damaged)
		r = -EBADMSG;
	return r < 0 ? fault_set(fault, r, "send: %s", strerror(-r)) : 0;
}

/* --- receiver --- */

struct receiver {
	struct bulk *bulk;
	struct upload *upload;
	const struct progress *progress;
	struct fault *fault;
	uint64_t bytes, total;
};

void received_fini(struct received *received)
{
	buf_fini(&received->root_bytes);
	root_fini(&received->root);
	entries_fini(&received->list);
}

static const struct entry *entry_at(
    const struct entries *first, const struct entries *second, size_t i)
{
	return i < first->count ? &first->at[i] : &second->at[i - first->count];
}

/* Marks what the upload does not know, each chunk once; returns how many or negative errno. */
static ssize_t choose(struct receiver *receiver, const struct entries *first,
    const struct entries *second, uint8_t *bits)
{
	struct idset asked = {0};
	ssize_t wanted = 0;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < first->count + second->count; i++) {
		const struct entry *entry = entry_at(first, second, i);

		r = upload_knows(receiver->upload, &entry->id);
		if (r == 0 && (r = idset_add(&asked, &entry->id)) > 0) {
			bits[i / 8] = (uint8_t)(bits[i / 8] | 1 << (i % 8));
			wanted++;
		}
	}
	idset_fini(&asked);
	return r < 0 ? r : wanted;
}

/* Takes a chunk in if it was wanted and is what it says. */
static int take_chunk(struct receiver *receiver, const struct entries *first,
    const struct entries *second, uint8_t *wanted, const uint8_t *data, size_t size)
{
	const struct entry *entry;
	uint64_t before = receiver->bytes;
	uint32_t index;
	struct id id;
	int r;

	if (size < sizeof(index))
		return -EBADMSG;
	memcpy(&index, data, sizeof(index));
	index = le32toh(index);
	if (index >= first->count + second->count || !bit_is_set(wanted, index))
		return fault_set(receiver->fault, -EBADMSG, "received chunk %u unasked", index);
	entry = entry_at(first, second, index);
	wanted[index / 8] = (uint8_t)(wanted[index / 8] & ~(1 << (index % 8)));
	id = id_of(data + sizeof(index), size - sizeof(index));
	if (size - sizeof(index) != entry->stored || !id_equal(&id, &entry->id))
		return fault_set(receiver->fault, -EBADMSG, "received chunk %u is corrupt", index);
	r = upload_add(receiver->upload, &id, data + sizeof(index), entry->stored, receiver->fault);
	receiver->bytes += entry->stored;
	return r < 0 ? r : tell(receiver->progress, before, receiver->bytes, receiver->total);
}

/* Asks for what is missing of both lists and takes it.  Number still missing or negative. */
static int receive_stage(
    struct receiver *receiver, const struct entries *first, const struct entries *second)
{
	size_t size = (first->count + second->count + 7) / 8;
	uint8_t *wanted = calloc(1, size + 1);
	enum bulk_type type = BULK_WANT;
	const uint8_t *data;
	ssize_t left = wanted ? choose(receiver, first, second, wanted) : -ENOMEM;
	int r = left < 0 ? (int)left : 0;

	if (r == 0)
		r = bulk_send(receiver->bulk, BULK_WANT, NULL, 0, wanted, size);
	if (r == 0)
		r = bulk_flush(receiver->bulk);
	while (r == 0 && type != BULK_END) {
		r = bulk_recv(receiver->bulk, &type, &data, &size);
		if (r == 0 && type == BULK_CHUNK) {
			r = take_chunk(receiver, first, second, wanted, data, size);
			left--;
		} else if (r == 0 && type != BULK_MISSING && type != BULK_END) {
			r = -EBADMSG;
		}
	}
	free(wanted);
	return r < 0 ? r : left > 0 ? 1 : 0;
}

static int receive_root(struct receiver *receiver, const struct id *oid, struct received *received)
{
	const uint8_t *data;
	struct id id;
	size_t size;
	int r = expect(receiver->bulk, BULK_ROOT, &data, &size, receiver->fault);

	if (r < 0)
		return r;
	id = id_of(data, size);
	if (!id_equal(&id, oid))
		return fault_set(receiver->fault, -EBADMSG, "received a root of another object");
	r = buf_append(&received->root_bytes, data, size);
	return r < 0 ? r : root_unpack(&received->root, data, size);
}

/* The list's chunks are in the upload; joined and decoded they are the list. */
static int read_list(struct receiver *receiver, struct received *received)
{
	_cleanup_buf_ struct buf bytes = {0};
	_cleanup_buf_ struct buf stored = {0};
	const struct entries *chunks = &received->root.list;
	struct coder *coder = NULL;
	const uint8_t *plain;
	size_t size;
	int r = coder_new(&coder, NULL);

	for (size_t i = 0; r == 0 && i < chunks->count; i++) {
		buf_clear(&stored);
		r = upload_read(receiver->upload, &chunks->at[i], &stored, receiver->fault);
		if (r == 0)
			r = coder_decode(coder, stored.data, stored.size, &plain, &size);
		if (r == 0)
			r = buf_append(&bytes, plain, size);
	}
	coder_free(coder);
	return r < 0 ? r : list_unpack(&received->list, &received->root, bytes.data, bytes.size);
}

int transfer_receive(struct bulk *bulk, const struct id *oid, struct upload *upload,
    struct received *received, const struct progress *progress, struct fault *fault)
{
	static const struct entries none;
	struct receiver receiver = {
	    .bulk = bulk, .upload = upload, .progress = progress, .fault = fault};
	int r = receive_root(&receiver, oid, received);

	receiver.total = received->root.bytes;
	if (r == 0)
		r = receive_stage(&receiver, &received->root.list, &received->root.names);
	if (r == 0)
		r = read_list(&receiver, received);
	if (r == 0)
		r = receive_stage(&receiver, &received->list, &none);
	received->bytes += receiver.bytes;
	if (r > 0)
		r = -ENODATA;
	return r < 0 ? fault_set(fault, r, "receive: %s", strerror(-r)) : 0;
}

int transfer_done(struct bulk *bulk)
{
	int r = bulk_send(bulk, BULK_DONE, NULL, 0, NULL, 0);

	return r < 0 ? r : bulk_flush(bulk);
}
