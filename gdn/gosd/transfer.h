/*
 * One object over a bulk channel.
 *
 *	sender                     receiver
 *	ROOT               ->      its hash must be the object id
 *	                   <-      WANT  which chunks of list and names
 *	CHUNK ... END      ->      the list is now known
 *	                   <-      WANT  which data chunks
 *	CHUNK ... END      ->
 *	                   <-      DONE
 *
 * Two rounds, whatever the size.  The receiver believes nothing: each chunk must have been wanted,
 * and its hash must be its id.
 */
#ifndef GDN_GOSD_TRANSFER_H
#define GDN_GOSD_TRANSFER_H

#include "gdn/gosd/bulk.h"
#include "gdn/store/store.h"

/* -EBADMSG when chunks are damaged here: the others were sent. */
int transfer_send(
    struct bulk *bulk, struct object *object, const struct progress *progress, struct fault *fault);

/* What an upload needs to be committed. */
struct received {
	struct buf root_bytes;
	struct root root;
	struct entries list;
	uint64_t bytes; /* that travelled */
};
void received_fini(struct received *received);

/*
 * Receives into the upload what it does not know yet.  0 it is all there; -ENODATA the sender did
 * not have everything (another may).
 */
int transfer_receive(struct bulk *bulk, const struct id *oid, struct upload *upload,
    struct received *received, const struct progress *progress, struct fault *fault);
/* Tells the sender that it is all there: once a commit that follows will be understood. */
int transfer_done(struct bulk *bulk);

#endif
