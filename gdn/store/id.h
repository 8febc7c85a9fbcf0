/*
 * The name of anything stored: BLAKE2b-256 over its stored bytes.  Whoever holds the bytes can
 * check them, without a key.
 */
#ifndef GDN_STORE_ID_H
#define GDN_STORE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_SIZE 32
#define ID_HEX (2 * ID_SIZE + 1)

struct id {
	uint8_t bytes[ID_SIZE];
};

struct id id_of(const void *data, size_t size);
bool id_equal(const struct id *a, const struct id *b);
/* Writes 64 lower case digits and a zero into out; returns out. */
char *id_hex(const struct id *id, char out[ID_HEX]);
/* Exactly 64 hex digits; 0 or -EINVAL. */
int id_from_hex(struct id *id, const char *text);

#endif
