/*
 * A bounded MessagePack reader for bytes that came from outside.
 *
 * msgpack_unpack() allocates by the lengths it reads (five bytes can ask for 8 GB), so decoders
 * are generated over this reader instead: it allocates nothing, never reads past the end, refuses
 * a length that the remaining bytes cannot hold, and bounds nesting when it skips.
 * Every function returns 0 or -EBADMSG with a reason in the error; after a failure the reader must
 * not be used.  Strings and binaries are borrowed from the input.
 * Source: the MessagePack specification.
 */
#ifndef COMMON_MPR_H
#define COMMON_MPR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mpr_error {
	char text[160];
};

struct mpr {
	const uint8_t *at;
	const uint8_t *end;
	struct mpr_error *error;
};

#define MPR_DEPTH_MAX 16

/* error may be NULL. */
void mpr_init(struct mpr *reader, const void *data, size_t size, struct mpr_error *error);
int mpr_map(struct mpr *reader, uint32_t *entries);
int mpr_array(struct mpr *reader, uint32_t *elements);
/* Not zero-terminated. */
int mpr_str(struct mpr *reader, const char **string, uint32_t *length);
int mpr_bin(struct mpr *reader, const uint8_t **data, uint32_t *size);
int mpr_u64(struct mpr *reader, uint64_t *value);
int mpr_i64(struct mpr *reader, int64_t *value);
/* Integers are taken as well. */
int mpr_f64(struct mpr *reader, double *value);
int mpr_bool(struct mpr *reader, bool *value);
/* Passes over one value of any type. */
int mpr_skip(struct mpr *reader);
/* Nothing may follow the value. */
int mpr_end(struct mpr *reader);
/* Writes the reason and returns -EBADMSG. */
int mpr_fail(struct mpr *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Does the borrowed string equal the zero-terminated one? */
bool mpr_is(const char *string, uint32_t length, const char *expected);

#endif
