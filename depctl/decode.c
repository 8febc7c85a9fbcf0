#include "depctl/decode.h"

#include <stdlib.h>

#include "common/mpr.h"

static json_t *read_value(struct mpr *reader, unsigned depth);

static json_t *read_map(struct mpr *reader, unsigned depth)
{
	json_t *object = json_object();
	uint32_t entries, length;
	const char *key;

	if (mpr_map(reader, &entries) < 0)
		goto fail;
	while (entries-- > 0) {
		json_t *value;

		if (mpr_str(reader, &key, &length) < 0)
			goto fail;
		value = read_value(reader, depth - 1);
		if (!value || json_object_setn_new(object, key, length, value) < 0)
			goto fail;
	}
	return object;
fail:
	json_decref(object);
	return NULL;
}

static json_t *read_array(struct mpr *reader, unsigned depth)
{
	json_t *array = json_array();
	uint32_t elements;

	if (mpr_array(reader, &elements) < 0)
		goto fail;
	while (elements-- > 0) {
		json_t *value = read_value(reader, depth - 1);

		if (!value || json_array_append_new(array, value) < 0)
			goto fail;
	}
	return array;
fail:
	json_decref(array);
	return NULL;
}

static json_t *read_text(struct mpr *reader)
{
	const char *text;
	uint32_t length;
	json_t *string;

	if (mpr_str(reader, &text, &length) < 0)
		return NULL;
	string = json_stringn(text, length);
	return string ? string : json_string("(not UTF-8)");
}

static json_t *read_binary(struct mpr *reader)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *data;
	uint32_t size;
	json_t *result;
	char *text;

	if (mpr_bin(reader, &data, &size) < 0)
		return NULL;
	text = malloc(2 * (size_t)size + 1);
	if (!text)
		return NULL;
	for (uint32_t i = 0; i < size; i++) {
		text[2 * i] = digits[data[i] >> 4];
		text[2 * i + 1] = digits[data[i] & 15];
	}
	result = json_stringn(text, 2 * (size_t)size);
	free(text);
	return result;
}

static json_t *read_number(struct mpr *reader, uint8_t tag)
{
	uint64_t value;
	int64_t whole;
	double real;

	if (tag == 0xca || tag == 0xcb)
		return mpr_f64(reader, &real) < 0 ? NULL : json_real(real);
	if (tag == 0xcf) /* may need all 64 bits; JSON numbers here have 63 */
		return mpr_u64(reader, &value) < 0 ? NULL
		       : value > INT64_MAX         ? json_sprintf("%llu", (unsigned long long)value)
						   : json_integer((json_int_t)value);
	return mpr_i64(reader, &whole) < 0 ? NULL : json_integer(whole);
}

static json_t *read_value(struct mpr *reader, unsigned depth)
{
	uint8_t tag;
	bool yes;

	if (depth == 0 || reader->at == reader->end)
		return NULL;
	tag = *reader->at;
	if ((tag & 0xf0) == 0x80 || tag == 0xde || tag == 0xdf)
		return read_map(reader, depth);
	if ((tag & 0xf0) == 0x90 || tag == 0xdc || tag == 0xdd)
		return read_array(reader, depth);
	if ((tag & 0xe0) == 0xa0 || (tag >= 0xd9 && tag <= 0xdb))
		return read_text(reader);
	if (tag >= 0xc4 && tag <= 0xc6)
		return read_binary(reader);
	if (tag == 0xc2 || tag == 0xc3)
		return mpr_bool(reader, &yes) < 0 ? NULL : json_boolean(yes);
	if (tag == 0xc0)
		return mpr_skip(reader) < 0 ? NULL : json_null();
	return read_number(reader, tag);
}

json_t *decode_body(const void *data, size_t size)
{
	struct mpr reader;
	json_t *value;

	mpr_init(&reader, data, size, NULL);
	value = read_value(&reader, MPR_DEPTH_MAX);
	if (value && mpr_end(&reader) < 0) {
		json_decref(value);
		return NULL;
	}
	return value;
}
