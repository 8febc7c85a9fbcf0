#include "common/mpr.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void mpr_init(struct mpr *reader, const void *data, size_t size, struct mpr_error *error)
{
	reader->at = data;
	reader->end = size ? reader->at + size : reader->at;
	reader->error = error;
	if (error)
		error->text[0] = '\0';
}

int mpr_fail(struct mpr *reader, const char *format, ...)
{
	va_list args;

	if (reader->error) {
		va_start(args, format);
		vsnprintf(reader->error->text, sizeof(reader->error->text), format, args);
		va_end(args);
	}
	return -EBADMSG;
}

static size_t left(const struct mpr *reader)
{
	return (size_t)(reader->end - reader->at);
}

static int take_be(struct mpr *reader, unsigned width, uint64_t *value)
{
	*value = 0;
	if (left(reader) < width)
		return mpr_fail(reader, "ends inside a value");
	while (width-- > 0)
		*value = *value << 8 | *reader->at++;
	return 0;
}

static int take_tag(struct mpr *reader, uint8_t *tag)
{
	*tag = 0;
	if (left(reader) < 1)
		return mpr_fail(reader, "ends where a value is expected");
	*tag = *reader->at++;
	return 0;
}

/* A length of width bytes that counts things of at least one byte each. */
static int take_length(struct mpr *reader, unsigned width, unsigned size_each, uint32_t *length)
{
	uint64_t value;
	int r = take_be(reader, width, &value);

	if (r < 0)
		return r;
	if (value > left(reader) / size_each)
		return mpr_fail(reader, "length %llu in the last %zu bytes",
		    (unsigned long long)value, left(reader));
	*length = (uint32_t)value;
	return 0;
}

static int fixed_length(struct mpr *reader, uint32_t value, unsigned size_each, uint32_t *length)
{
	if (value > left(reader) / size_each)
		return mpr_fail(reader, "length %u in the last %zu bytes", value, left(reader));
	*length = value;
	return 0;
}

int mpr_map(struct mpr *reader, uint32_t *entries)
{
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r < 0)
		return r;
	if ((tag & 0xf0) == 0x80)
		return fixed_length(reader, tag & 0x0f, 2, entries);
	if (tag == 0xde)
		return take_length(reader, 2, 2, entries);
	if (tag == 0xdf)
		return take_length(reader, 4, 2, entries);
	return mpr_fail(reader, "not a map (type byte 0x%02x)", tag);
}

int mpr_array(struct mpr *reader, uint32_t *elements)
{
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r < 0)
		return r;
	if ((tag & 0xf0) == 0x90)
		return fixed_length(reader, tag & 0x0f, 1, elements);
	if (tag == 0xdc)
		return take_length(reader, 2, 1, elements);
	if (tag == 0xdd)
		return take_length(reader, 4, 1, elements);
	return mpr_fail(reader, "not an array (type byte 0x%02x)", tag);
}

int mpr_str(struct mpr *reader, const char **string, uint32_t *length)
{
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r < 0)
		return r;
	if ((tag & 0xe0) == 0xa0)
		r = fixed_length(reader, tag & 0x1f, 1, length);
	else if (tag >= 0xd9 && tag <= 0xdb)
		r = take_length(reader, 1u << (tag - 0xd9), 1, length);
	else
		return mpr_fail(reader, "not a string (type byte 0x%02x)", tag);
	if (r < 0)
		return r;
	*string = (const char *)reader->at;
	reader->at += *length;
	return 0;
}

int mpr_bin(struct mpr *reader, const uint8_t **data, uint32_t *size)
{
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r < 0)
		return r;
	if (tag < 0xc4 || tag > 0xc6)
		return mpr_fail(reader, "not binary (type byte 0x%02x)", tag);
	r = take_length(reader, 1u << (tag - 0xc4), 1, size);
	if (r < 0)
		return r;
	*data = reader->at;
	reader->at += *size;
	return 0;
}

/* Any integer: its sign is in negative, its bits in value. */
static int take_integer(struct mpr *reader, uint8_t tag, bool *negative, uint64_t *value)
{
	int r;

	*negative = false;
	if (tag < 0x80) {
		*value = tag;
		return 0;
	}
	if (tag >= 0xe0) {
		*negative = true;
		*value = (uint64_t)(int64_t)(int8_t)tag;
		return 0;
	}
	if (tag >= 0xcc && tag <= 0xcf)
		return take_be(reader, 1u << (tag - 0xcc), value);
	if (tag >= 0xd0 && tag <= 0xd3) {
		unsigned width = 1u << (tag - 0xd0);
		uint64_t sign = 1ull << (8 * width - 1);

		r = take_be(reader, width, value);
		if (r < 0)
			return r;
		*negative = (*value & sign) != 0;
		if (*negative)
			*value |= ~(sign - 1) & ~sign;
		return 0;
	}
	return mpr_fail(reader, "not an integer (type byte 0x%02x)", tag);
}

int mpr_u64(struct mpr *reader, uint64_t *value)
{
	bool negative;
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r == 0)
		r = take_integer(reader, tag, &negative, value);
	if (r == 0 && negative)
		return mpr_fail(reader, "negative where a count is expected");
	return r;
}

int mpr_i64(struct mpr *reader, int64_t *value)
{
	bool negative;
	uint64_t bits;
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r == 0)
		r = take_integer(reader, tag, &negative, &bits);
	if (r < 0)
		return r;
	if (!negative && bits > INT64_MAX)
		return mpr_fail(reader, "integer of more than 63 bits");
	*value = (int64_t)bits;
	return 0;
}

int mpr_f64(struct mpr *reader, double *value)
{
	bool negative;
	uint64_t bits;
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r < 0)
		return r;
	if (tag == 0xcb) {
		r = take_be(reader, 8, &bits);
		if (r == 0)
			memcpy(value, &bits, sizeof(*value));
		return r;
	}
	if (tag == 0xca) {
		float single;
		uint32_t bits32;

		r = take_be(reader, 4, &bits);
		bits32 = (uint32_t)bits;
		if (r == 0) {
			memcpy(&single, &bits32, sizeof(single));
			*value = (double)single;
		}
		return r;
	}
	r = take_integer(reader, tag, &negative, &bits);
	if (r == 0)
		*value = negative ? (double)(int64_t)bits : (double)bits;
	return r;
}

int mpr_bool(struct mpr *reader, bool *value)
{
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r < 0)
		return r;
	if (tag != 0xc2 && tag != 0xc3)
		return mpr_fail(reader, "not a boolean (type byte 0x%02x)", tag);
	*value = tag == 0xc3;
	return 0;
}

static int pass(struct mpr *reader, uint64_t size)
{
	if (size > left(reader))
		return mpr_fail(reader, "ends inside a value");
	reader->at += size;
	return 0;
}

static int pass_length(struct mpr *reader, unsigned width, unsigned extra)
{
	uint64_t size;
	int r = take_be(reader, width, &size);

	return r < 0 ? r : pass(reader, size + extra);
}

static int skip_value(struct mpr *reader, unsigned depth);

static int skip_container(struct mpr *reader, uint64_t values, unsigned depth)
{
	int r = 0;

	if (depth == 0)
		return mpr_fail(reader, "nested deeper than %d", MPR_DEPTH_MAX);
	if (values > left(reader))
		return mpr_fail(reader, "length %llu in the last %zu bytes",
		    (unsigned long long)values, left(reader));
	while (values-- > 0 && r == 0)
		r = skip_value(reader, depth - 1);
	return r;
}

static int skip_long_container(struct mpr *reader, unsigned width, unsigned each, unsigned depth)
{
	uint64_t count;
	int r = take_be(reader, width, &count);

	return r < 0 ? r : skip_container(reader, count * each, depth);
}

static int skip_value(struct mpr *reader, unsigned depth)
{
	static const uint8_t fixed[32] = {
	    /* 0xc0 .. 0xdf: bytes behind the type byte, where that number is fixed */
	    [0xca - 0xc0] = 4,
	    [0xcb - 0xc0] = 8,
	    [0xcc - 0xc0] = 1,
	    [0xcd - 0xc0] = 2,
	    [0xce - 0xc0] = 4,
	    [0xcf - 0xc0] = 8,
	    [0xd0 - 0xc0] = 1,
	    [0xd1 - 0xc0] = 2,
	    [0xd2 - 0xc0] = 4,
	    [0xd3 - 0xc0] = 8,
	    [0xd4 - 0xc0] = 2,
	    [0xd5 - 0xc0] = 3,
	    [0xd6 - 0xc0] = 5,
	    [0xd7 - 0xc0] = 9,
	    [0xd8 - 0xc0] = 17};
	uint8_t tag;
	int r = take_tag(reader, &tag);

	if (r < 0)
		return r;
	if (tag < 0x80 || tag >= 0xe0)
		return 0;
	if (tag < 0x90)
		return skip_container(reader, 2u * (tag & 0x0f), depth);
	if (tag < 0xa0)
		return skip_container(reader, tag & 0x0f, depth);
	if (tag < 0xc0)
		return pass(reader, tag & 0x1f);
	if (tag == 0xc1)
		return mpr_fail(reader, "type byte 0xc1 is never used");
	if (tag >= 0xc4 && tag <= 0xc6)
		return pass_length(reader, 1u << (tag - 0xc4), 0);
	if (tag >= 0xc7 && tag <= 0xc9)
		return pass_length(reader, 1u << (tag - 0xc7), 1);
	if (tag >= 0xd9 && tag <= 0xdb)
		return pass_length(reader, 1u << (tag - 0xd9), 0);
	if (tag == 0xdc || tag == 0xdd)
		return skip_long_container(reader, 2u << (tag - 0xdc), 1, depth);
	if (tag == 0xde || tag == 0xdf)
		return skip_long_container(reader, 2u << (tag - 0xde), 2, depth);
	return pass(reader, fixed[tag - 0xc0]);
}

int mpr_skip(struct mpr *reader)
{
	return skip_value(reader, MPR_DEPTH_MAX);
}

int mpr_end(struct mpr *reader)
{
	if (reader->at != reader->end)
		return mpr_fail(reader, "%zu bytes behind the end", left(reader));
	return 0;
}

bool mpr_is(const char *string, uint32_t length, const char *expected)
{
	return strlen(expected) == length && memcmp(string, expected, length) == 0;
}
