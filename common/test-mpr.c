#include "common/mpr.h"

#include <errno.h>

#include "common/pack.h"
#include "common/test.h"

static struct mpr reader_over(const void *data, size_t size, struct mpr_error *error)
{
	struct mpr reader;

	mpr_init(&reader, data, size, error);
	return reader;
}

static void integers_come_back_at_every_width(void)
{
	static const int64_t values[] = {0, 1, -1, 127, 128, -32, -33, 255, 256, -128, -129, 32767,
	    65535, 65536, -32769, INT32_MAX, INT32_MIN, UINT32_MAX, INT64_MAX, INT64_MIN};

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		_cleanup_buf_ struct buf buf = {0};
		int64_t back = 7;

		check_int(pack_i64(&buf, values[i]), 0);
		struct mpr reader = reader_over(buf.data, buf.size, NULL);

		check_int(mpr_i64(&reader, &back), 0);
		check_int(back, values[i]);
		check_int(mpr_end(&reader), 0);
	}
}

static void a_count_refuses_negative_numbers(void)
{
	struct mpr_error error;
	struct mpr reader = reader_over("\xff", 1, &error);
	uint64_t value;

	check_int(mpr_u64(&reader, &value), -EBADMSG);
	check_str(error.text, "negative where a count is expected");
}

static void a_length_beyond_the_input_is_refused_without_allocating(void)
{
	/* array of 2^32 - 1 nils in five bytes; map, string and binary likewise */
	static const uint8_t heads[] = {0xdd, 0xdf, 0xdb, 0xc6};

	for (size_t i = 0; i < sizeof(heads); i++) {
		uint8_t data[5] = {heads[i], 0xff, 0xff, 0xff, 0xff};
		struct mpr reader = reader_over(data, sizeof(data), NULL);

		check_int(mpr_skip(&reader), -EBADMSG);
	}
}

static void deep_nesting_is_refused(void)
{
	uint8_t data[64];
	struct mpr_error error;

	memset(data, 0x91, sizeof(data));
	struct mpr reader = reader_over(data, sizeof(data), &error);

	check_int(mpr_skip(&reader), -EBADMSG);
	check_str(error.text, "nested deeper than 16");
}

static void skip_passes_over_every_type(void)
{
	static const uint8_t data[] = {0x8a, 0x01, 0xc0, 0x02, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x03,
	    0xd9, 2, 'a', 'b', 0x04, 0xc4, 1, 9, 0x05, 0xd4, 1, 2, 0x06, 0xc7, 2, 1, 3, 4, 0x07,
	    0xdc, 0, 1, 0xc3, 0x08, 0xde, 0, 1, 0xa1, 'k', 0xcd, 1, 2, 0x09, 0xd8, 1, 0, 1, 2, 3, 4,
	    5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x0a, 0xca, 0, 0, 0, 0};
	struct mpr reader = reader_over(data, sizeof(data), NULL);

	check_int(mpr_skip(&reader), 0);
	check_int(mpr_end(&reader), 0);
	for (size_t size = 0; size < sizeof(data); size++) {
		reader = reader_over(data, size, NULL);
		check_int(mpr_skip(&reader), -EBADMSG);
	}
}

static void the_unused_type_byte_is_refused(void)
{
	struct mpr reader = reader_over("\xc1", 1, NULL);

	check_int(mpr_skip(&reader), -EBADMSG);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(integers_come_back_at_every_width),
	    TEST(a_count_refuses_negative_numbers),
	    TEST(a_length_beyond_the_input_is_refused_without_allocating),
	    TEST(deep_nesting_is_refused),
	    TEST(skip_passes_over_every_type),
	    TEST(the_unused_type_byte_is_refused),
	    {0},
	});
}
