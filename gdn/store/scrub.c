/*
 * Reading what nobody asks for, so that damage is found while another node still has a copy.  By chunk
 * and not by object: checkpoints of one service share most of theirs.  In the order of ids, which no
 * removal or collection changes: what is there from the beginning of a pass to its end is read.
 */
#include "gdn/store/private.h"

#include "gdn/store/coder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int next_chunk(struct store *store, const struct scrub *scrub, struct entry *entry)
{
	struct place place;
	int r;

	STORE_LOCKED(store);
	r = index_chunk_next(store->index, &scrub->at, &entry->id, &place);
	entry->stored = r == 1 ? place.length : 0;
	return r;
}

int store_scrub(struct store *store, struct scrub *scrub, uint64_t bytes, struct fault *fault)
{
	uint64_t end = scrub->bytes + bytes;
	struct pack_files files = {0};
	uint8_t *buffer = malloc(STORED_MAX);
	struct entry entry = {0};
	int r = buffer ? 1 : -ENOMEM;

	while (r == 1 && scrub->bytes < end && (r = next_chunk(store, scrub, &entry)) == 1) {
		r = store_read(store, &files, &entry, buffer, NULL);
		scrub->at = entry.id;
		scrub->chunks++;
		scrub->bytes += entry.stored;
		scrub->damaged += r == -EBADMSG;
		scrub->missing += r == -ENODATA;
		r = r == 0 || r == -EBADMSG || r == -ENODATA ? 1 : r;
	}
	pack_files_fini(&files);
	free(buffer);
	return r < 0 ? fault_set(fault, r, "scrub: %s", strerror(-r)) : r == 0;
}
