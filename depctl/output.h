/*
 * What depctl prints.  Every answer is a JSON value; a table is a view of an array of objects by its columns.  Data
 * goes to standard output only, everything else to standard error.
 */
#ifndef DEPCTL_OUTPUT_H
#define DEPCTL_OUTPUT_H

#include <jansson.h>
#include <stddef.h>

enum output_form { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_JSONL };

struct column {
	const char *title;
	const char *key;
	/* How the cell reads for people; NULL: as it is.  Writes at most size bytes. */
	void (*format)(char *text, size_t size, const json_t *value);
};

/* rows is an array of objects; columns ends with title NULL.  An empty table says so on standard error. */
void output_rows(
    enum output_form form, const json_t *rows, const struct column *columns, const char *empty);
/* One object: "key  value" lines for people. */
void output_object(enum output_form form, const json_t *object, const struct column *columns);
/* A value as one line of JSON. */
void output_line(const json_t *value);

void format_ms(char *text, size_t size, const json_t *value); /* 999 -> 999 ms, 1500 -> 1.5 s */
void format_kb(char *text, size_t size, const json_t *value); /* KiB -> 12.3 MiB */
void format_bytes(char *text, size_t size, const json_t *value);
void format_id(char *text, size_t size, const json_t *value);      /* the first 12 digits */
void format_wall_ms(char *text, size_t size, const json_t *value); /* local time */
/* A checkpoint's id: the coordinator's epoch and the number of the round, "2.17"; 0 -> "-" */
void format_ckpt(char *text, size_t size, const json_t *value);
void format_interval(char *text, size_t size, const json_t *value); /* as format_ms; 0 -> "none" */
void format_level(char *text, size_t size, const json_t *value);    /* two decimals */

#endif
