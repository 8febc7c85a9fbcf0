#include "common/pack.h"

#include <errno.h>
#include <msgpack/pack.h>
#include <string.h>

static int write_to_buf(void *data, const char *bytes, size_t size)
{
	return buf_append(data, bytes, size) < 0 ? -1 : 0;
}

static msgpack_packer packer(struct buf *buf)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, buf, write_to_buf);
	return pk;
}

int pack_map(struct buf *buf, size_t entries)
{
	msgpack_packer pk = packer(buf);

	return msgpack_pack_map(&pk, entries) ? -ENOMEM : 0;
}

int pack_array(struct buf *buf, size_t elements)
{
	msgpack_packer pk = packer(buf);

	return msgpack_pack_array(&pk, elements) ? -ENOMEM : 0;
}

int pack_str(struct buf *buf, const char *string)
{
	msgpack_packer pk = packer(buf);
	size_t length = strlen(string);

	if (msgpack_pack_str(&pk, length) || msgpack_pack_str_body(&pk, string, length))
		return -ENOMEM;
	return 0;
}

int pack_bin(struct buf *buf, const void *data, size_t size)
{
	msgpack_packer pk = packer(buf);

	if (msgpack_pack_bin(&pk, size) || (size && msgpack_pack_bin_body(&pk, data, size)))
		return -ENOMEM;
	return 0;
}

int pack_u64(struct buf *buf, uint64_t value)
{
	msgpack_packer pk = packer(buf);

	return msgpack_pack_uint64(&pk, value) ? -ENOMEM : 0;
}

int pack_i64(struct buf *buf, int64_t value)
{
	msgpack_packer pk = packer(buf);

	return msgpack_pack_int64(&pk, value) ? -ENOMEM : 0;
}

int pack_f64(struct buf *buf, double value)
{
	msgpack_packer pk = packer(buf);

	return msgpack_pack_double(&pk, value) ? -ENOMEM : 0;
}

int pack_bool(struct buf *buf, bool value)
{
	msgpack_packer pk = packer(buf);

	return (value ? msgpack_pack_true(&pk) : msgpack_pack_false(&pk)) ? -ENOMEM : 0;
}
