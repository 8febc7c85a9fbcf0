#include "depctl/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLUMNS_MAX 16
#define CELL_MAX 256

static double number(const json_t *value)
{
	return json_number_value(value);
}

void format_ms(char *text, size_t size, const json_t *value)
{
	double ms = number(value);

	if (ms < 1000)
		snprintf(text, size, "%.0f ms", ms);
	else if (ms < 120e3)
		snprintf(text, size, "%.1f s", ms / 1e3);
	else if (ms < 7200e3)
		snprintf(text, size, "%.0f min", ms / 60e3);
	else
		snprintf(text, size, "%.1f h", ms / 3600e3);
}

void format_interval(char *text, size_t size, const json_t *value)
{
	if (number(value) > 0)
		format_ms(text, size, value);
	else
		snprintf(text, size, "none");
}

void format_ckpt(char *text, size_t size, const json_t *value)
{
	uint64_t id = (uint64_t)json_integer_value(value);

	if (id)
		snprintf(text, size, "%" PRIu64 ".%" PRIu64, id >> 32, id & UINT32_MAX);
	else
		snprintf(text, size, "-");
}

void format_bytes(char *text, size_t size, const json_t *value)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double bytes = number(value);
	size_t unit = 0;

	while (bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

void format_kb(char *text, size_t size, const json_t *value)
{
	json_t *bytes = json_real(number(value) * 1024);

	format_bytes(text, size, bytes);
	json_decref(bytes);
}

void format_id(char *text, size_t size, const json_t *value)
{
	const char *id = json_string_value(value);

	snprintf(text, size, "%.12s", id ? id : "");
	if (strspn(text, "0") == strlen(text))
		snprintf(text, size, "-");
}

void format_wall_ms(char *text, size_t size, const json_t *value)
{
	int64_t ms = (int64_t)number(value);
	time_t seconds = (time_t)(ms / 1000);
	struct tm parts;
	size_t length;

	localtime_r(&seconds, &parts);
	length = strftime(text, size, "%Y-%m-%d %H:%M:%S", &parts);
	snprintf(text + length, size - length, ".%03d", (int)(ms % 1000));
}

void format_level(char *text, size_t size, const json_t *value)
{
	snprintf(text, size, "%.2f", number(value));
}

static void format_plain(char *text, size_t size, const json_t *value)
{
	switch (value ? json_typeof(value) : JSON_NULL) {
	case JSON_STRING:
		snprintf(
		    text, size, "%s", json_string_length(value) ? json_string_value(value) : "-");
		break;
	case JSON_INTEGER:
		snprintf(text, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		snprintf(text, size, "%g", json_real_value(value));
		break;
	case JSON_TRUE:
		snprintf(text, size, "yes");
		break;
	case JSON_FALSE:
		snprintf(text, size, "no");
		break;
	case JSON_ARRAY: {
		size_t at = 0;

		text[0] = '\0';
		for (size_t i = 0; i < json_array_size(value) && at + 2 < size; i++) {
			if (i)
				at += (size_t)snprintf(text + at, size - at, " ");
			format_plain(text + at, size - at, json_array_get(value, i));
			at = strlen(text);
		}
		if (!at)
			snprintf(text, size, "-");
		break;
	}
	case JSON_OBJECT:
	case JSON_NULL:
		snprintf(text, size, "-");
	}
}

static void format_cell(char *text, size_t size, const struct column *column, const json_t *row)
{
	const json_t *value = json_object_get(row, column->key);

	if (column->format && value && !json_is_null(value))
		column->format(text, size, value);
	else
		format_plain(text, size, value);
	for (char *at = text; *at; at++)
		if ((unsigned char)*at < 0x20)
			*at = '?';
}

/* How many columns of a terminal a UTF-8 text takes, near enough: continuation bytes take none. */
static int width_of(const char *text)
{
	int width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static void print_cell(const char *text, int width, int last)
{
	if (last)
		printf("%s\n", text);
	else
		printf("%s%*s", text, width - width_of(text) + 2, "");
}

static void print_table(const json_t *rows, const struct column *columns)
{
	int widths[COLUMNS_MAX] = {0};
	char text[CELL_MAX];
	int count = 0;

	for (; columns[count].title && count < COLUMNS_MAX; count++) {
		widths[count] = width_of(columns[count].title);
		for (size_t i = 0; i < json_array_size(rows); i++) {
			format_cell(text, sizeof(text), &columns[count], json_array_get(rows, i));
			if (width_of(text) > widths[count])
				widths[count] = width_of(text);
		}
	}
	for (int c = 0; c < count; c++)
		print_cell(columns[c].title, widths[c], c + 1 == count);
	for (size_t i = 0; i < json_array_size(rows); i++)
		for (int c = 0; c < count; c++) {
			format_cell(text, sizeof(text), &columns[c], json_array_get(rows, i));
			print_cell(text, widths[c], c + 1 == count);
		}
}

void output_line(const json_t *value)
{
	json_dumpf(value, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
}

void output_rows(
    enum output_form form, const json_t *rows, const struct column *columns, const char *empty)
{
	switch (form) {
	case OUTPUT_TABLE:
		if (json_array_size(rows) == 0)
			fprintf(stderr, "%s\n", empty);
		else
			print_table(rows, columns);
		break;
	case OUTPUT_JSON:
		json_dumpf(rows, stdout, JSON_INDENT(2));
		putchar('\n');
		break;
	case OUTPUT_JSONL:
		for (size_t i = 0; i < json_array_size(rows); i++)
			output_line(json_array_get(rows, i));
	}
}

void output_object(enum output_form form, const json_t *object, const struct column *columns)
{
	char text[CELL_MAX];
	int width = 0;

	if (form != OUTPUT_TABLE) {
		json_dumpf(object, stdout, form == OUTPUT_JSON ? JSON_INDENT(2) : JSON_COMPACT);
		putchar('\n');
		return;
	}
	for (const struct column *column = columns; column->title; column++)
		if (width_of(column->title) > width)
			width = width_of(column->title);
	for (const struct column *column = columns; column->title; column++) {
		format_cell(text, sizeof(text), column, object);
		printf("%-*s  %s\n", width, column->title, text);
	}
}
