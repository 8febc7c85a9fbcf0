/*
 * A growable run of bytes.  Zero-initialise it, or declare it with _cleanup_buf_.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t size;
	size_t capacity;
};

/* Appends; returns 0 or -ENOMEM, and then the buffer is as it was. */
int buf_append(struct buf *buf, const void *data, size_t size);
/* Appends formatted text without its terminating zero; 0 or -ENOMEM. */
int buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Appends printable ASCII as a JSON string; 0 or -ENOMEM. */
int buf_json(struct buf *buf, const char *text);
/* Makes room for size more bytes behind the present end; returns their start or NULL. */
uint8_t *buf_reserve(struct buf *buf, size_t size);
/* Empties it and keeps the memory. */
void buf_clear(struct buf *buf);
void buf_fini(struct buf *buf);

#define _cleanup_buf_ __attribute__((cleanup(buf_fini)))

#endif
