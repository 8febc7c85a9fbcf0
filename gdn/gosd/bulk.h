/*
 * The bulk channel: frames on a plain TCP connection, in worker threads.
 *
 *	hello   "GDNBULK1" | ticket (16), said once by the side that connects
 *	frame   length 4 bytes little endian | type 1 | payload
 *
 * It has no CURVE: all that matters on it is checked by hash, and CURVE costs half the speed.  Who
 * may come was settled on the control channel, which gave out the ticket; that a copy is durable is
 * said there too.  Sockets of our own and not libzmq's: a stream of many megabytes needs the
 * kernel's back pressure, not a queue in memory.
 */
#ifndef GDN_GOSD_BULK_H
#define GDN_GOSD_BULK_H

#include "common/buf.h"
#include "common/keys.h"

#include <pthread.h>
#include <stdbool.h>

#define TICKET_SIZE 16
#define BULK_FRAME_MAX (1u << 20)

enum bulk_type {
	BULK_ROOT = 1,    /* bytes of the root */
	BULK_WANT = 2,    /* a bit for each chunk of the stage */
	BULK_CHUNK = 3,   /* index 4 | stored bytes */
	BULK_MISSING = 4, /* index 4: the sender does not have it whole */
	BULK_END = 5,     /* of the stage */
	BULK_DONE = 6,    /* the receiver has it all */
};

/* All open channels, so that a stop can cut them. */
struct bulk_set {
	pthread_mutex_t lock;
	struct bulk *first;
	bool closed;
};

struct bulk {
	int fd;
	struct buf in, out;
	size_t taken; /* of in */
	struct bulk_set *set;
	struct bulk *next, **link;
};

void bulk_set_init(struct bulk_set *set);
void bulk_set_cut(struct bulk_set *set);

/* Makes a channel of a connected socket, which it takes over; -ECANCELED when the set was cut. */
int bulk_take(struct bulk *bulk, struct bulk_set *set, int fd);
/* Connects to the peer's bulk port and says hello.  Negative errno; nothing to close then. */
int bulk_connect(struct bulk *bulk, struct bulk_set *set, const struct peer *peer,
    const uint8_t ticket[TICKET_SIZE]);
/* Takes over an accepted descriptor and waits a short time for the hello. */
int bulk_accept(struct bulk *bulk, struct bulk_set *set, int fd, uint8_t ticket[TICKET_SIZE]);
void bulk_close(struct bulk *bulk);

/* Queues a frame of two parts and sends when enough waits. */
int bulk_send(struct bulk *bulk, enum bulk_type type, const void *head, size_t head_size,
    const void *data, size_t size);
int bulk_flush(struct bulk *bulk);
/*
 * The next frame; its payload holds until the next call.  -ETIMEDOUT after 20 s of silence,
 * -ECONNRESET at the end of the stream, -EBADMSG for a frame that is too long.
 */
int bulk_recv(struct bulk *bulk, enum bulk_type *type, const uint8_t **data, size_t *size);

#endif
