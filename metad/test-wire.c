/*
 * dqlite's wire protocol: what we write, byte for byte, and what we refuse to read.
 */
#include "metad/wire.h"

#include <errno.h>

#include "common/rng.h"
#include "common/test.h"

static void a_query_is_words_of_little_endian(void)
{
	static const uint8_t expected[] = {
	    7,
	    0,
	    0,
	    0,
	    9,
	    0,
	    0,
	    0, /* seven words of QUERY_SQL */
	    0,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0, /* database 0 */
	    'S',
	    'E',
	    'L',
	    'E',
	    'C',
	    'T',
	    ' ',
	    '?', /* text and its zero, padded */
	    0,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0, /* */
	    2,
	    1,
	    4,
	    0,
	    0,
	    0,
	    0,
	    0, /* two parameters: integer, blob */
	    5,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0, /* 5 */
	    3,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0,
	    0, /* three bytes */
	    'a',
	    'b',
	    'c',
	    0,
	    0,
	    0,
	    0,
	    0,
	};
	const struct wire_value values[] = {
	    {.type = WIRE_INTEGER, .integer = 5},
	    {.type = WIRE_BLOB, .blob = "abc", .size = 3},
	};
	_cleanup_buf_ struct buf buf = {0};

	check_int(wire_put_query(&buf, "SELECT ?", values, 2), 0);
	check_int(buf.size, sizeof(expected));
	check(memcmp(buf.data, expected, sizeof(expected)) == 0);
}

/* What is prepared is called by its number, which stands behind that of the database. */
static void a_statement_is_run_by_the_number_that_it_got(void)
{
	static const uint8_t answered[16] = {0, 0, 0, 0, 3, 2, 1, 0, 1};
	static const uint8_t expected[] = "\3\0\0\0\5\0\0\0" /* three words of EXEC */
					  "\0\0\0\0\3\2\1\0" /* database 0, statement */
					  "\1\1\0\0\0\0\0\0" /* one parameter: integer */
					  "\5\0\0\0\0\0\0\0";
	const struct wire_value value = wire_number(5);
	_cleanup_buf_ struct buf buf = {0};
	uint32_t statement;

	check_int(wire_get_statement(answered, sizeof(answered), &statement), 0);
	check_int(statement, 0x010203);
	check_int(wire_put_run(&buf, statement, &value, 1), 0);
	check_int(buf.size, sizeof(expected) - 1);
	check(memcmp(buf.data, expected, buf.size) == 0);
	check_int(wire_get_statement(answered, 7, &statement), -EBADMSG);
}

static const uint8_t rows_body[] = {
    3,
    0,
    0,
    0,
    0,
    0,
    0,
    0, /* three columns */
    'a',
    0,
    0,
    0,
    0,
    0,
    0,
    0, /* their names */
    'b',
    0,
    0,
    0,
    0,
    0,
    0,
    0, /* */
    'c',
    0,
    0,
    0,
    0,
    0,
    0,
    0, /* */
    0x31,
    0x04,
    0,
    0,
    0,
    0,
    0,
    0, /* integer, text, blob */
    7,
    0,
    0,
    0,
    0,
    0,
    0,
    0, /* 7 */
    'k',
    'e',
    'y',
    '/',
    '1',
    0,
    0,
    0, /* */
    9,
    0,
    0,
    0,
    0,
    0,
    0,
    0, /* nine bytes */
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8, /* */
    9,
    0,
    0,
    0,
    0,
    0,
    0,
    0, /* */
    0xff,
    0xff,
    0xff,
    0xff,
    0xff,
    0xff,
    0xff,
    0xff,
};

static void rows_are_read_as_they_were_sent(void)
{
	struct wire_value values[WIRE_COLUMNS_MAX];
	struct wire_rows rows;

	check_int(wire_rows_init(&rows, rows_body, sizeof(rows_body)), 0);
	check_int(rows.columns, 3);
	check_int(wire_rows_next(&rows, values), 0);
	check_int(values[0].integer, 7);
	check_str(values[1].text, "key/1");
	check_int(values[2].size, 9);
	check_int(((const uint8_t *)values[2].blob)[8], 9);
	check_int(wire_rows_next(&rows, values), WIRE_ROWS_DONE);
}

/* Reads all rows; the sum makes sure that what is shown can be read. */
static int read_all(const uint8_t *body, size_t size)
{
	struct wire_value values[WIRE_COLUMNS_MAX];
	struct wire_rows rows;
	volatile unsigned sum = 0;
	int r = wire_rows_init(&rows, body, size);

	while (r == 0 && (r = wire_rows_next(&rows, values)) == 0) {
		for (size_t i = 0; i < rows.columns; i++) {
			const uint8_t *bytes = values[i].type == WIRE_TEXT
						   ? (const uint8_t *)values[i].text
						   : values[i].blob;

			for (size_t k = 0; k < values[i].size; k++)
				sum += bytes[k];
		}
	}
	return r;
}

static void a_cut_answer_is_refused_at_every_length(void)
{
	for (size_t size = 0; size < sizeof(rows_body); size++) {
		uint8_t *copy = malloc(size ? size : 1); /* so that a sanitizer sees its end */

		memcpy(copy, rows_body, size);
		check_int(read_all(copy, size), -EBADMSG);
		free(copy);
	}
}

static void random_answers_are_read_within_their_bounds(void)
{
	struct rng rng;
	uint64_t code;
	const char *message;

	rng_init(&rng, 1);
	for (int round = 0; round < 20000; round++) {
		size_t size = rng_below(&rng, 128);
		uint8_t *body = malloc(size ? size : 1);

		for (size_t i = 0; i < size; i++)
			body[i] = rng_chance(&rng, 0.5) ? (uint8_t)rng_below(&rng, 6)
							: (uint8_t)rng_u64(&rng);
		(void)read_all(body, size);
		if (wire_get_failure(body, size, &code, &message) == 0)
			check(strlen(message) < size);
		free(body);
	}
}

static void a_changed_byte_never_reads_beyond_the_end(void)
{
	for (size_t i = 0; i < sizeof(rows_body); i++) {
		for (unsigned value = 0; value < 256; value++) {
			uint8_t *copy = malloc(sizeof(rows_body));

			memcpy(copy, rows_body, sizeof(rows_body));
			copy[i] = (uint8_t)value;
			(void)read_all(copy, sizeof(rows_body));
			free(copy);
		}
	}
}

static void too_long_an_answer_is_refused_by_its_head(void)
{
	const uint8_t huge[WIRE_HEAD] = {0xff, 0xff, 0xff, 0xff, 7};
	const uint8_t fits[WIRE_HEAD] = {0, 0, 2, 0, 7};
	struct wire_head head;

	check_int(wire_get_head(&head, huge), -EBADMSG);
	check_int(wire_get_head(&head, fits), 0);
	check_int(head.size, WIRE_BODY_MAX);
	check_int(head.type, WIRE_ROWS);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_query_is_words_of_little_endian),
	    TEST(a_statement_is_run_by_the_number_that_it_got),
	    TEST(rows_are_read_as_they_were_sent),
	    TEST(a_cut_answer_is_refused_at_every_length),
	    TEST(random_answers_are_read_within_their_bounds),
	    TEST(a_changed_byte_never_reads_beyond_the_end),
	    TEST(too_long_an_answer_is_refused_by_its_head),
	    {0},
	});
}
