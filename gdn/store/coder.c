#include "gdn/store/coder.h"

#include "gdn/store/chunker.h"

#include <endian.h>
#include <errno.h>
#include <lz4.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#define NONCE_SIZE crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_SIZE crypto_aead_xchacha20poly1305_ietf_ABYTES
#define LEVEL 1
#define LZ4_ACCELERATION 4

enum {
	FLAG_ZSTD = 0x01,
	FLAG_SEALED = 0x02,
	FLAG_LZ4 = 0x04,
	FLAG_VERSION = 0x10,
};

_Static_assert(CODER_OVERHEAD == 1 + NONCE_SIZE + TAG_SIZE, "overhead of a sealed chunk");
_Static_assert(STORED_MAX == CHUNK_MAX + CODER_OVERHEAD, "largest stored chunk");

struct coder {
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
	void *lz4; /* NULL: zstd */
	bool sealed;
	uint8_t seal_key[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
	uint8_t hash_key[crypto_onetimeauth_KEYBYTES];
	uint8_t nonce_key[crypto_generichash_KEYBYTES];
	uint8_t stored[STORED_MAX];
	uint8_t payload[CHUNK_MAX];
	uint8_t plain[CHUNK_MAX];
};

void coder_derive(uint8_t out[32], const uint8_t *key, const char *purpose)
{
	crypto_generichash(out, 32, (const uint8_t *)purpose, strlen(purpose), key, CODER_KEY_SIZE);
}

int coder_new(struct coder **out, const uint8_t *key)
{
	struct coder *coder = calloc(1, sizeof(*coder));

	if (!coder)
		return -ENOMEM;
	coder->compress = ZSTD_createCCtx();
	coder->decompress = ZSTD_createDCtx();
	if (!coder->compress || !coder->decompress) {
		coder_free(coder);
		return -ENOMEM;
	}
	ZSTD_CCtx_setParameter(coder->compress, ZSTD_c_compressionLevel, LEVEL);
	if (key) {
		coder->sealed = true;
		coder_derive(coder->seal_key, key, "gosd chunk seal");
		coder_derive(coder->hash_key, key, "gosd chunk hash");
		coder_derive(coder->nonce_key, key, "gosd chunk nonce");
	}
	*out = coder;
	return 0;
}

struct coder *coder_free(struct coder *coder)
{
	if (!coder)
		return NULL;
	free(coder->lz4);
	ZSTD_freeCCtx(coder->compress);
	ZSTD_freeDCtx(coder->decompress);
	sodium_memzero(coder, sizeof(*coder));
	free(coder);
	return NULL;
}

int coder_prefer_speed(struct coder *coder)
{
	coder->lz4 = malloc((size_t)LZ4_sizeofState());
	return coder->lz4 ? 0 : -ENOMEM;
}

/* Compresses to at most `room` bytes: the size, 0 it does not fit, -EIO. */
static int compress_fast(
    struct coder *coder, const uint8_t *plain, size_t size, uint8_t *to, size_t room)
{
	return LZ4_compress_fast_extState(
	    coder->lz4, (const char *)plain, (char *)to, (int)size, (int)room, LZ4_ACCELERATION);
}

static int compress_well(
    struct coder *coder, const uint8_t *plain, size_t size, uint8_t *to, size_t room)
{
	size_t got = ZSTD_compress2(coder->compress, to, room, plain, size);

	if (!ZSTD_isError(got))
		return (int)got;
	return ZSTD_getErrorCode(got) == ZSTD_error_dstSize_tooSmall ? 0 : -EIO;
}

/* Compresses plain to `to`, or copies it there if that saves less than a sixteenth. */
static int compress(struct coder *coder, const uint8_t *plain, size_t size, uint8_t *to,
    size_t *to_size, uint8_t *flags)
{
	size_t room = size - size / 16;
	int got = coder->lz4 ? compress_fast(coder, plain, size, to, room)
			     : compress_well(coder, plain, size, to, room);

	if (got < 0)
		return got;
	if (got > 0) {
		*to_size = (size_t)got;
		*flags |= coder->lz4 ? FLAG_LZ4 : FLAG_ZSTD;
		return 0;
	}
	memcpy(to, plain, size);
	*to_size = size;
	return 0;
}

/* nonce = PRF(flags, universal hash of the payload, its size) */
static void make_nonce(
    const struct coder *coder, const uint8_t *payload, size_t size, uint8_t nonce[NONCE_SIZE])
{
	uint8_t what[1 + 4 + crypto_onetimeauth_BYTES] = {coder->stored[0]};
	uint32_t length = htole32((uint32_t)size);

	memcpy(what + 1, &length, sizeof(length));
	crypto_onetimeauth(what + 5, payload, size, coder->hash_key);
	crypto_generichash(
	    nonce, NONCE_SIZE, what, sizeof(what), coder->nonce_key, sizeof(coder->nonce_key));
}

/* Encrypts the payload where it lies, behind flags and nonce; returns the stored size. */
static size_t seal(struct coder *coder, size_t payload_size)
{
	uint8_t *nonce = coder->stored + 1, *payload = nonce + NONCE_SIZE;
	unsigned long long size;

	make_nonce(coder, payload, payload_size, nonce);
	crypto_aead_xchacha20poly1305_ietf_encrypt(
	    payload, &size, payload, payload_size, coder->stored, 1, NULL, nonce, coder->seal_key);
	return 1 + NONCE_SIZE + (size_t)size;
}

int coder_encode(struct coder *coder, const uint8_t *plain, size_t size, const uint8_t **stored,
    size_t *stored_size)
{
	uint8_t *payload = coder->stored + 1 + (coder->sealed ? NONCE_SIZE : 0);
	uint8_t flags = FLAG_VERSION | (coder->sealed ? FLAG_SEALED : 0);
	size_t payload_size;
	int r;

	if (size == 0 || size > CHUNK_MAX)
		return -EINVAL;
	r = compress(coder, plain, size, payload, &payload_size, &flags);
	if (r < 0)
		return r;
	coder->stored[0] = flags;
	*stored = coder->stored;
	*stored_size = coder->sealed ? seal(coder, payload_size) : 1 + payload_size;
	return 0;
}

static int unseal(struct coder *coder, const uint8_t *stored, size_t size, const uint8_t **payload,
    size_t *payload_size)
{
	const uint8_t *nonce = stored + 1;
	unsigned long long got;

	if (size < CODER_OVERHEAD)
		return -EBADMSG;
	if (!coder->sealed)
		return -ENOKEY;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(coder->payload, &got, NULL,
		nonce + NONCE_SIZE, size - 1 - NONCE_SIZE, stored, 1, nonce, coder->seal_key) < 0)
		return -EKEYREJECTED;
	*payload = coder->payload;
	*payload_size = (size_t)got;
	return 0;
}

/* Decompresses into coder->plain, which bounds it. */
static int decompress(
    struct coder *coder, uint8_t flags, const uint8_t *payload, size_t size, size_t *plain_size)
{
	if (flags & FLAG_ZSTD) {
		*plain_size =
		    ZSTD_decompressDCtx(coder->decompress, coder->plain, CHUNK_MAX, payload, size);
		return ZSTD_isError(*plain_size) ? -EBADMSG : 0;
	} else {
		int got = LZ4_decompress_safe(
		    (const char *)payload, (char *)coder->plain, (int)size, CHUNK_MAX);

		*plain_size = got > 0 ? (size_t)got : 0;
		return got > 0 ? 0 : -EBADMSG;
	}
}

int coder_decode(struct coder *coder, const uint8_t *stored, size_t size, const uint8_t **plain,
    size_t *plain_size)
{
	const uint8_t *payload = stored + 1;
	size_t payload_size = size - 1;
	int r;

	if (size < 2 || size > STORED_MAX ||
	    (stored[0] & ~(FLAG_ZSTD | FLAG_LZ4 | FLAG_SEALED)) != FLAG_VERSION ||
	    (stored[0] & FLAG_ZSTD && stored[0] & FLAG_LZ4))
		return -EBADMSG;
	if (stored[0] & FLAG_SEALED) {
		r = unseal(coder, stored, size, &payload, &payload_size);
		if (r < 0)
			return r;
	}
	*plain = payload;
	*plain_size = payload_size;
	if (stored[0] & (FLAG_ZSTD | FLAG_LZ4)) {
		*plain = coder->plain;
		r = decompress(coder, stored[0], payload, payload_size, plain_size);
		if (r < 0)
			return r;
	}
	return *plain_size > 0 && *plain_size <= CHUNK_MAX ? 0 : -EBADMSG;
}
