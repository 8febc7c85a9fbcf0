#include "gdn/store/id.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

struct id id_of(const void *data, size_t size)
{
	struct id id;

	crypto_generichash(id.bytes, sizeof(id.bytes), data, size, NULL, 0);
	return id;
}

bool id_equal(const struct id *a, const struct id *b)
{
	return memcmp(a->bytes, b->bytes, ID_SIZE) == 0;
}

char *id_hex(const struct id *id, char out[ID_HEX])
{
	return sodium_bin2hex(out, ID_HEX, id->bytes, ID_SIZE);
}

int id_from_hex(struct id *id, const char *text)
{
	size_t size;

	if (strlen(text) != ID_HEX - 1 ||
	    sodium_hex2bin(id->bytes, ID_SIZE, text, ID_HEX - 1, NULL, &size, NULL) < 0 ||
	    size != ID_SIZE)
		return -EINVAL;
	return 0;
}
