/*
 * A message body as a JSON value, by no schema: so depctl can show messages that are newer than itself.
 * Binaries become strings of hex digits.
 */
#ifndef DEPCTL_DECODE_H
#define DEPCTL_DECODE_H

#include <jansson.h>
#include <stddef.h>

/* A new reference, or NULL when the bytes are not one MessagePack value. */
json_t *decode_body(const void *data, size_t size);

#endif
