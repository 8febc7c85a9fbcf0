#include "common/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t *buf_reserve(struct buf *buf, size_t size)
{
	size_t need, capacity = buf->capacity ? buf->capacity : 64;
	uint8_t *data;

	if (__builtin_add_overflow(buf->size, size, &need) || need > SIZE_MAX / 2)
		return NULL;
	while (capacity < need)
		capacity *= 2;
	if (capacity != buf->capacity) {
		data = realloc(buf->data, capacity);
		if (!data)
			return NULL;
		buf->data = data;
		buf->capacity = capacity;
	}
	return buf->data + buf->size;
}

int buf_append(struct buf *buf, const void *data, size_t size)
{
	uint8_t *room = buf_reserve(buf, size);

	if (!room)
		return -ENOMEM;
	if (size)
		memcpy(room, data, size);
	buf->size += size;
	return 0;
}

int buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;
	uint8_t *room;
	int length;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	room = length < 0 ? NULL : buf_reserve(buf, (size_t)length + 1);
	if (!room)
		return -ENOMEM;
	va_start(args, format);
	vsnprintf((char *)room, (size_t)length + 1, format, args);
	va_end(args);
	buf->size += (size_t)length;
	return 0;
}

int buf_json(struct buf *buf, const char *text)
{
	int r = buf_append(buf, "\"", 1);

	for (; r == 0 && *text; text++) {
		if (*text == '"' || *text == '\\')
			r = buf_append(buf, "\\", 1);
		if (r == 0)
			r = buf_append(buf, text, 1);
	}
	return r == 0 ? buf_append(buf, "\"", 1) : r;
}

void buf_clear(struct buf *buf)
{
	buf->size = 0;
}

void buf_fini(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf){0};
}
