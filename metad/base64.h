/* Base64 as JSON carries bytes: the standard alphabet, padded. */
#ifndef METAD_BASE64_H
#define METAD_BASE64_H

#include "common/buf.h"

/* Appends the text of these bytes; 0 or -ENOMEM. */
int base64_put(struct buf *text, const void *bytes, size_t size);
/* Appends the bytes of a text and a zero that is not counted; 0, -ENOMEM, -EBADMSG, or -EMSGSIZE: more than max bytes. */
int base64_take(struct buf *bytes, const char *text, size_t size, size_t max);

#endif
