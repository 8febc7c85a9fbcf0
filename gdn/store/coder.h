/*
 * One chunk between its plain and its stored form: compressed, encrypted once, then named by its id.
 *
 *	stored = flags | payload                           without a key
 *	stored = flags | nonce (24) | sealed payload (+16)   with one
 *
 * flags: bit 0 the payload is a zstd frame, bit 1 sealed, bit 2 the payload is an LZ4 block, bits 4
 * to 7 the form's version (1).
 *
 * zstd -1, and LZ4 where speed matters more, for pages of memory: a checkpoint comes again in seconds and its
 * first one is large.  Measured on the memory of a redis and of a Python program, chunks of 64 KiB:
 * zstd -1 194 and 415 MiB/s (3.2 and 6.0 to 1), zstd's fast levels 259 and 500 (-5; 1.9 and 3.2), LZ4 346
 * and 802 (2.0 and 3.1), with acceleration 4 475 and 882 (1.9 and 3.1), on a busy machine.
 * The cipher is XChaCha20-Poly1305-IETF with the flags as additional data; its nonce is a keyed
 * BLAKE2b over flags, size and a keyed Poly1305 of the payload: a universal hash, then a
 * pseudo-random function, as in AES-GCM-SIV (RFC 8452), at a third of the cost of BLAKE2b over all
 * of the payload.  So equal pages of one service give equal stored bytes, while
 * two services, or somebody without the key, cannot tell what they share.  The nonce covers
 * exactly the bytes that are encrypted: were it made from the plain bytes, another version of
 * zstd or LZ4 would encrypt a second message under the same nonce.  All keys are derived from the
 * service's.  What a replica without key still sees: which chunks of one service are equal, and
 * their sizes.
 */
#ifndef GDN_STORE_CODER_H
#define GDN_STORE_CODER_H

#include "gdn/store/id.h"

#define CODER_KEY_SIZE 32
/* Flags, nonce, tag. */
#define CODER_OVERHEAD (1 + 24 + 16)
#define STORED_MAX (65536 + CODER_OVERHEAD)

struct coder;

/* key: CODER_KEY_SIZE bytes (copied), or NULL for plain objects.  0, -ENOMEM. */
int coder_new(struct coder **out, const uint8_t *key);
struct coder *coder_free(struct coder *coder);
/* From now on it compresses with LZ4.  0, -ENOMEM. */
int coder_prefer_speed(struct coder *coder);
/* A key of the service's for one purpose. */
void coder_derive(uint8_t out[32], const uint8_t *key, const char *purpose);

/*
 * plain: 1 to CHUNK_MAX bytes.  *stored points into the coder and holds until the next call.
 * 0, or -EIO for a failure of zstd.
 */
int coder_encode(struct coder *coder, const uint8_t *plain, size_t size, const uint8_t **stored,
    size_t *stored_size);

/*
 * stored may be foreign: whatever it says, no more than CHUNK_MAX bytes come out.  *plain points
 * into the coder until the next call.  0; -EBADMSG malformed; -ENOKEY sealed and the coder has no
 * key; -EKEYREJECTED sealed with another key.
 */
int coder_decode(struct coder *coder, const uint8_t *stored, size_t size, const uint8_t **plain,
    size_t *plain_size);

#endif
