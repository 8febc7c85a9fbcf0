#include "metad/wire.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

enum request {
	REQUEST_LEADER = 0,
	REQUEST_OPEN = 3,
	REQUEST_PREPARE = 4,
	REQUEST_EXEC = 5,
	REQUEST_EXEC_SQL = 8,
	REQUEST_QUERY_SQL = 9,
	REQUEST_ADD = 12,
	REQUEST_ASSIGN = 13,
	REQUEST_REMOVE = 14,
	REQUEST_CLUSTER = 16,
};

#define VERSION 1
#define PARAMETERS_MAX 255

static size_t pad(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

static int put_u64(struct buf *buf, uint64_t value)
{
	value = htole64(value);
	return buf_append(buf, &value, sizeof(value));
}

/* size bytes and zeroes up to the next word; with a text its zero byte counts. */
static int put_padded(struct buf *buf, const void *data, size_t size, size_t total)
{
	uint8_t *to = buf_reserve(buf, total);

	if (!to)
		return -ENOMEM;
	if (size)
		memcpy(to, data, size);
	memset(to + size, 0, total - size);
	buf->size += total;
	return 0;
}

static int put_text(struct buf *buf, const char *text)
{
	size_t size = strlen(text);

	return put_padded(buf, text, size, pad(size + 1));
}

static int put_head(struct buf *buf, enum request type, size_t *start)
{
	*start = buf->size;
	return put_u64(buf, (uint64_t)type << 32);
}

/* Fills in the number of words. */
static void finish(struct buf *buf, size_t start)
{
	uint32_t words = htole32((uint32_t)((buf->size - start - WIRE_HEAD) / 8));

	memcpy(buf->data + start, &words, sizeof(words));
}

static int put_value(struct buf *buf, const struct wire_value *value)
{
	int r;

	switch (value->type) {
	case WIRE_INTEGER:
		return put_u64(buf, (uint64_t)value->integer);
	case WIRE_TEXT:
		return put_text(buf, value->text);
	case WIRE_BLOB:
		r = put_u64(buf, value->size);
		return r < 0 ? r : put_padded(buf, value->blob, value->size, pad(value->size));
	case WIRE_NULL:
		return put_u64(buf, 0);
	case WIRE_FLOAT:
		break;
	}
	assert(!"a type that we send");
	return -EINVAL;
}

static int put_values(struct buf *buf, const struct wire_value *values, size_t count)
{
	uint8_t head[1 + PARAMETERS_MAX] = {(uint8_t)count};
	int r = 0;

	assert(count <= PARAMETERS_MAX);
	if (count == 0)
		return 0;
	for (size_t i = 0; i < count; i++)
		head[1 + i] = (uint8_t)values[i].type;
	r = put_padded(buf, head, 1 + count, pad(1 + count));
	for (size_t i = 0; r == 0 && i < count; i++)
		r = put_value(buf, &values[i]);
	return r;
}

int wire_put_version(struct buf *buf)
{
	return put_u64(buf, VERSION);
}

int wire_put_leader(struct buf *buf)
{
	size_t start;
	int r = put_head(buf, REQUEST_LEADER, &start);

	if (r == 0)
		r = put_u64(buf, 0);
	if (r == 0)
		finish(buf, start);
	return r;
}

int wire_put_open(struct buf *buf, const char *database)
{
	size_t start;
	int r = put_head(buf, REQUEST_OPEN, &start);

	if (r == 0)
		r = put_text(buf, database);
	if (r == 0)
		r = put_u64(buf, 0); /* flags, not used */
	if (r == 0)
		r = put_text(buf, ""); /* name of a file system, not used */
	if (r == 0)
		finish(buf, start);
	return r;
}

static int put_sql(struct buf *buf, enum request type, const char *sql,
    const struct wire_value *values, size_t count)
{
	size_t start;
	int r = put_head(buf, type, &start);

	if (r == 0)
		r = put_u64(buf, 0); /* the database, the only one of a connection */
	if (r == 0)
		r = put_text(buf, sql);
	if (r == 0)
		r = put_values(buf, values, count);
	if (r == 0)
		finish(buf, start);
	return r;
}

int wire_put_exec(struct buf *buf, const char *sql, const struct wire_value *values, size_t count)
{
	return put_sql(buf, REQUEST_EXEC_SQL, sql, values, count);
}

int wire_put_query(struct buf *buf, const char *sql, const struct wire_value *values, size_t count)
{
	return put_sql(buf, REQUEST_QUERY_SQL, sql, values, count);
}

int wire_put_prepare(struct buf *buf, const char *sql)
{
	return put_sql(buf, REQUEST_PREPARE, sql, NULL, 0);
}

int wire_put_run(struct buf *buf, uint32_t statement, const struct wire_value *values, size_t count)
{
	size_t start;
	int r = put_head(buf, REQUEST_EXEC, &start);

	if (r == 0)
		r = put_u64(buf, (uint64_t)statement << 32); /* the database in the lower half */
	if (r == 0)
		r = put_values(buf, values, count);
	if (r == 0)
		finish(buf, start);
	return r;
}

/* Numbers, and behind the first a text if there is one. */
static int put_numbers(
    struct buf *buf, enum request type, const uint64_t *numbers, size_t count, const char *behind)
{
	size_t start;
	int r = put_head(buf, type, &start);

	for (size_t i = 0; r == 0 && i < count; i++)
		r = put_u64(buf, numbers[i]);
	if (r == 0 && behind)
		r = put_text(buf, behind);
	if (r == 0)
		finish(buf, start);
	return r;
}

int wire_put_cluster(struct buf *buf)
{
	const uint64_t with_roles = 1;

	return put_numbers(buf, REQUEST_CLUSTER, &with_roles, 1, NULL);
}

int wire_put_add(struct buf *buf, uint64_t id, const char *address)
{
	return put_numbers(buf, REQUEST_ADD, &id, 1, address);
}

int wire_put_assign(struct buf *buf, uint64_t id, enum wire_role role)
{
	return put_numbers(buf, REQUEST_ASSIGN, (uint64_t[]){id, role}, 2, NULL);
}

int wire_put_remove(struct buf *buf, uint64_t id)
{
	return put_numbers(buf, REQUEST_REMOVE, &id, 1, NULL);
}

int wire_get_head(struct wire_head *head, const uint8_t bytes[WIRE_HEAD])
{
	uint32_t words;

	memcpy(&words, bytes, sizeof(words));
	words = le32toh(words);
	if (words > WIRE_BODY_MAX / 8)
		return -EBADMSG;
	head->size = (size_t)words * 8;
	head->type = bytes[4];
	return 0;
}

static int get_u64(struct wire_rows *in, uint64_t *value)
{
	if ((size_t)(in->end - in->at) < sizeof(*value))
		return -EBADMSG;
	memcpy(value, in->at, sizeof(*value));
	*value = le64toh(*value);
	in->at += sizeof(*value);
	return 0;
}

static int get_text(struct wire_rows *in, const char **text, size_t *size)
{
	size_t left = (size_t)(in->end - in->at), length = strnlen((const char *)in->at, left);

	if (length == left || pad(length + 1) > left)
		return -EBADMSG;
	*text = (const char *)in->at;
	*size = length;
	in->at += pad(length + 1);
	return 0;
}

static int get_blob(struct wire_rows *in, const void **blob, size_t *size)
{
	uint64_t length;
	int r = get_u64(in, &length);

	if (r < 0)
		return r;
	if (length > WIRE_BODY_MAX || pad((size_t)length) > (size_t)(in->end - in->at))
		return -EBADMSG;
	*blob = in->at;
	*size = (size_t)length;
	in->at += pad((size_t)length);
	return 0;
}

static struct wire_rows body_of(const uint8_t *body, size_t size)
{
	return (struct wire_rows){.at = body, .end = body + size};
}

int wire_get_failure(const uint8_t *body, size_t size, uint64_t *code, const char **message)
{
	struct wire_rows in = body_of(body, size);
	size_t length;
	int r = get_u64(&in, code);

	return r < 0 ? r : get_text(&in, message, &length);
}

int wire_get_server(const uint8_t *body, size_t size, uint64_t *id)
{
	struct wire_rows in = body_of(body, size);

	return get_u64(&in, id);
}

int wire_get_statement(const uint8_t *body, size_t size, uint32_t *statement)
{
	struct wire_rows in = body_of(body, size);
	uint64_t word;
	int r = get_u64(&in, &word);

	*statement = r < 0 ? 0 : (uint32_t)(word >> 32); /* the database in the lower half */
	return r;
}

int wire_get_result(const uint8_t *body, size_t size, uint64_t *last_insert_id, uint64_t *changed)
{
	struct wire_rows in = body_of(body, size);
	int r = get_u64(&in, last_insert_id);

	return r < 0 ? r : get_u64(&in, changed);
}

int wire_rows_init(struct wire_rows *rows, const uint8_t *body, size_t size)
{
	uint64_t columns;
	const char *name;
	size_t length;
	int r;

	*rows = body_of(body, size);
	r = get_u64(rows, &columns);
	if (r < 0)
		return r;
	if (columns == 0 || columns > WIRE_COLUMNS_MAX)
		return -EBADMSG;
	rows->columns = (size_t)columns;
	for (size_t i = 0; r == 0 && i < rows->columns; i++)
		r = get_text(rows, &name, &length);
	return r;
}

static int get_value(struct wire_rows *in, unsigned type, struct wire_value *value)
{
	uint64_t word;
	int r;

	*value = (struct wire_value){.type = (enum wire_type)type};
	switch (type) {
	case WIRE_TEXT:
		return get_text(in, &value->text, &value->size);
	case WIRE_BLOB:
		return get_blob(in, &value->blob, &value->size);
	case WIRE_INTEGER:
	case WIRE_FLOAT:
	case WIRE_NULL:
		r = get_u64(in, &word);
		value->integer = r == 0 && type == WIRE_INTEGER ? (int64_t)word : 0;
		return r;
	default:
		return -EBADMSG;
	}
}

int wire_rows_next(struct wire_rows *rows, struct wire_value values[WIRE_COLUMNS_MAX])
{
	uint64_t types;
	int r = get_u64(rows, &types); /* up to 16 columns fit into one word */

	if (r < 0)
		return r;
	if (types == UINT64_MAX)
		return WIRE_ROWS_DONE;
	if (types == 0xeeeeeeeeeeeeeeeeU)
		return WIRE_ROWS_PART;
	for (size_t i = 0; r == 0 && i < rows->columns; i++)
		r = get_value(rows, types >> (4 * i) & 0xf, &values[i]);
	return r;
}

int wire_get_servers(
    const uint8_t *body, size_t size, struct wire_server servers[WIRE_SERVERS_MAX], size_t *count)
{
	struct wire_rows in = body_of(body, size);
	uint64_t wanted;
	size_t length;
	int r = get_u64(&in, &wanted);

	if (r == 0 && wanted > WIRE_SERVERS_MAX)
		return -EBADMSG;
	*count = 0;
	for (; r == 0 && *count < wanted; ++*count) {
		r = get_u64(&in, &servers[*count].id);
		if (r == 0)
			r = get_text(&in, &servers[*count].address, &length);
		if (r == 0)
			r = get_u64(&in, &servers[*count].role);
	}
	return r;
}
