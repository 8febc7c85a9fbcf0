#include "metad/base64.h"

#include <errno.h>
#include <sodium.h>

int base64_put(struct buf *text, const void *bytes, size_t size)
{
	size_t room = sodium_base64_encoded_len(size, sodium_base64_VARIANT_ORIGINAL);
	char *to = (char *)buf_reserve(text, room);

	if (!to)
		return -ENOMEM;
	sodium_bin2base64(to, room, bytes, size, sodium_base64_VARIANT_ORIGINAL);
	text->size += room - 1; /* without its zero */
	return 0;
}

int base64_take(struct buf *bytes, const char *text, size_t size, size_t max)
{
	size_t got, room = size / 4 * 3;
	uint8_t *to;

	if (room > max + 2)
		return -EMSGSIZE;
	to = buf_reserve(bytes, room + 1);
	if (!to)
		return -ENOMEM;
	if (sodium_base642bin(
		to, room, text, size, NULL, &got, NULL, sodium_base64_VARIANT_ORIGINAL) < 0)
		return -EBADMSG;
	if (got > max)
		return -EMSGSIZE;
	to[got] = 0;
	bytes->size += got;
	return 0;
}
