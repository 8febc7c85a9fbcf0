/*
 * The client's side of dqlite's wire protocol, version 1: requests into bytes, bytes into answers.
 *
 * Everything is little endian and padded to words of eight bytes.  A connection begins with the
 * version as one word; then messages: words of the body (4 bytes), type (1), flags (1), extra (2),
 * body.  Text ends with a zero byte; a blob has its length in front.  Parameters are a tuple: their
 * number and one type code a byte, padded; then the values.  Rows are: number of columns, their
 * names, and for each row the type codes, four bits each, padded, and the values; a word of 0xff or
 * 0xee bytes ends them.  Source: dqlite's protocol documentation and its behaviour.
 *
 * Debian ships the server only, without a client.  The decoder takes nothing for granted: every
 * length is checked against what is left, and what does not fit is -EBADMSG.
 */
#ifndef METAD_WIRE_H
#define METAD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define WIRE_HEAD 8
#define WIRE_BODY_MAX (1024 * 1024) /* bytes of one answer that we take */
#define WIRE_COLUMNS_MAX 8

enum wire_type {
	WIRE_INTEGER = 1,
	WIRE_FLOAT = 2,
	WIRE_TEXT = 3,
	WIRE_BLOB = 4,
	WIRE_NULL = 5,
};

struct wire_value {
	enum wire_type type;
	int64_t integer;
	const char *text; /* zero-terminated */
	const void *blob;
	size_t size; /* of text or blob */
};

static inline struct wire_value wire_text(const char *text)
{
	return (struct wire_value){.type = WIRE_TEXT, .text = text};
}

static inline struct wire_value wire_number(int64_t value)
{
	return (struct wire_value){.type = WIRE_INTEGER, .integer = value};
}

static inline struct wire_value wire_blob(const void *data, size_t size)
{
	return (struct wire_value){.type = WIRE_BLOB, .blob = data, .size = size};
}

enum wire_answer {
	WIRE_FAILURE = 0,
	WIRE_SERVER = 1,
	WIRE_DB = 4,
	WIRE_STATEMENT = 5,
	WIRE_RESULT = 6,
	WIRE_ROWS = 7,
	WIRE_EMPTY = 8,
	WIRE_SERVERS = 3,
};

/* What a server of the cluster does. */
enum wire_role {
	WIRE_VOTER = 0,
	WIRE_STANDBY = 1,
	WIRE_SPARE = 2,
};

#define WIRE_SERVERS_MAX 16

struct wire_server {
	uint64_t id;
	const char *address; /* borrowed */
	uint64_t role;
};

/* Each appends and returns 0 or -ENOMEM. */
int wire_put_version(struct buf *buf);
int wire_put_leader(struct buf *buf);
int wire_put_open(struct buf *buf, const char *database);
/* One or more statements; only the first gets the parameters (at most 255). */
int wire_put_exec(struct buf *buf, const char *sql, const struct wire_value *values, size_t count);
int wire_put_query(struct buf *buf, const char *sql, const struct wire_value *values, size_t count);
/* One statement, to be kept by the server for as long as the connection lasts; and its execution, by the number it got. */
int wire_put_prepare(struct buf *buf, const char *sql);
int wire_put_run(
    struct buf *buf, uint32_t statement, const struct wire_value *values, size_t count);

int wire_put_cluster(struct buf *buf);
int wire_put_add(struct buf *buf, uint64_t id, const char *address);
int wire_put_assign(struct buf *buf, uint64_t id, enum wire_role role);
int wire_put_remove(struct buf *buf, uint64_t id);

struct wire_head {
	uint8_t type;
	size_t size; /* of the body */
};

/* 0, or -EBADMSG when the body would be larger than WIRE_BODY_MAX. */
int wire_get_head(struct wire_head *head, const uint8_t bytes[WIRE_HEAD]);

/* A failure as SQLite's result code (dqlite adds a few) and a text that is borrowed. */
int wire_get_failure(const uint8_t *body, size_t size, uint64_t *code, const char **message);
/* Who leads, as far as the asked node knows: id 0 when it does not. */
int wire_get_server(const uint8_t *body, size_t size, uint64_t *id);
int wire_get_statement(const uint8_t *body, size_t size, uint32_t *statement);
int wire_get_result(const uint8_t *body, size_t size, uint64_t *last_insert_id, uint64_t *changed);

/* At most WIRE_SERVERS_MAX, or -EBADMSG. */
int wire_get_servers(
    const uint8_t *body, size_t size, struct wire_server servers[WIRE_SERVERS_MAX], size_t *count);

struct wire_rows {
	const uint8_t *at, *end;
	size_t columns;
};

int wire_rows_init(struct wire_rows *rows, const uint8_t *body, size_t size);
enum {
	WIRE_ROWS_DONE = 1, /* all rows were there */
	WIRE_ROWS_PART = 2, /* another message follows with more */
};
/* The next row into values[columns], borrowed from the body: 0; or how the rows end; or -EBADMSG. */
int wire_rows_next(struct wire_rows *rows, struct wire_value values[WIRE_COLUMNS_MAX]);

#endif
