#include "metad/dqlite-client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct dqlite_conn {
	sd_event_source *source;
	int fd;
	struct buf out;
	size_t sent;
	uint8_t head[WIRE_HEAD];
	size_t head_size;
	struct wire_head message;
	uint8_t *body;
	size_t body_size;
	dqlite_row *row;
	dqlite_done *done; /* what is under way; NULL: nothing */
	void *arg;
	void (*lost)(void *arg);
	void *lost_arg;
	unsigned depth; /* of handlers on the stack */
	bool freed;
};

static void destroy(struct dqlite_conn *conn)
{
	buf_fini(&conn->out);
	free(conn->body);
	free(conn);
}

struct dqlite_conn *dqlite_conn_free(struct dqlite_conn *conn)
{
	if (!conn)
		return NULL;
	conn->source = sd_event_source_disable_unref(conn->source);
	close(conn->fd);
	conn->freed = true;
	if (conn->depth == 0)
		destroy(conn);
	return NULL;
}

bool dqlite_conn_busy(const struct dqlite_conn *conn)
{
	return conn->done;
}

static void answer(struct dqlite_conn *conn, const struct dqlite_answer *what)
{
	dqlite_done *done = conn->done;

	conn->done = NULL;
	conn->row = NULL;
	done(conn->arg, what);
}

static void fail(struct dqlite_conn *conn, int error)
{
	sd_event_source_set_enabled(conn->source, SD_EVENT_OFF);
	if (conn->done)
		answer(conn, &(struct dqlite_answer){.rc = error, .message = strerror(-error)});
	else
		conn->lost(conn->lost_arg);
}

static int flush(struct dqlite_conn *conn)
{
	while (conn->sent < conn->out.size) {
		ssize_t n = send(conn->fd, conn->out.data + conn->sent, conn->out.size - conn->sent,
		    MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return sd_event_source_set_io_events(conn->source, EPOLLIN | EPOLLOUT);
		if (n < 0)
			return -errno;
		conn->sent += (size_t)n;
	}
	buf_clear(&conn->out);
	conn->sent = 0;
	return sd_event_source_set_io_events(conn->source, EPOLLIN);
}

/* Passes the rows on; 1: more will follow. */
static int take_rows(struct dqlite_conn *conn)
{
	struct wire_value values[WIRE_COLUMNS_MAX];
	struct wire_rows rows;
	int r = wire_rows_init(&rows, conn->body, conn->message.size);

	if (r < 0 || !conn->row)
		return -EBADMSG;
	while ((r = wire_rows_next(&rows, values)) == 0) {
		conn->row(conn->arg, values, rows.columns);
		if (conn->freed)
			return 1;
	}
	return r < 0 ? r : r == WIRE_ROWS_PART;
}

/* SQLite's extended codes are cut to the code proper; dqlite's own are kept.  0 was seen for an empty
 * statement: a failure all the same. */
static int code_of(uint64_t code)
{
	if (code == DQLITE_NOT_LEADER || code == DQLITE_LEADERSHIP_LOST)
		return (int)code;
	return code & 0xff ? (int)(code & 0xff) : DQLITE_ERROR;
}

static int take_failure(struct dqlite_conn *conn, struct dqlite_answer *what)
{
	uint64_t code;
	int r = wire_get_failure(conn->body, conn->message.size, &code, &what->message);

	if (r < 0)
		return r;
	what->rc = code_of(code);
	return 0;
}

static int take_message(struct dqlite_conn *conn)
{
	struct dqlite_answer what = {.message = ""};
	struct wire_server servers[WIRE_SERVERS_MAX];
	const uint8_t *body = conn->body;
	size_t size = conn->message.size;
	int r;

	if (!conn->done)
		return -EBADMSG;
	switch (conn->message.type) {
	case WIRE_FAILURE:
		r = take_failure(conn, &what);
		break;
	case WIRE_SERVER:
		r = wire_get_server(body, size, &what.leader);
		break;
	case WIRE_SERVERS:
		what.servers = servers;
		r = wire_get_servers(body, size, servers, &what.server_count);
		break;
	case WIRE_DB:
	case WIRE_EMPTY:
		r = 0;
		break;
	case WIRE_STATEMENT:
		r = wire_get_statement(body, size, &what.statement);
		break;
	case WIRE_RESULT:
		r = wire_get_result(body, size, &what.last_insert_id, &what.changed);
		break;
	case WIRE_ROWS:
		r = take_rows(conn);
		break;
	default:
		r = -EBADMSG;
	}
	if (r == 0)
		answer(conn, &what);
	return r < 0 ? r : 0;
}

static ssize_t take(struct dqlite_conn *conn, uint8_t *to, size_t size)
{
	ssize_t n = recv(conn->fd, to, size, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	return n == 0 ? -ECONNRESET : n;
}

/* One step of reading: head, body, or the message that is whole. */
static int advance(struct dqlite_conn *conn)
{
	ssize_t n;
	int r;

	if (conn->head_size < WIRE_HEAD) {
		n = take(conn, conn->head + conn->head_size, WIRE_HEAD - conn->head_size);
		if (n < 0)
			return (int)n;
		conn->head_size += (size_t)n;
		if (conn->head_size < WIRE_HEAD)
			return 0;
		r = wire_get_head(&conn->message, conn->head);
		if (r < 0)
			return r;
		conn->body = malloc(conn->message.size + 1);
		if (!conn->body)
			return -ENOMEM;
		conn->body_size = 0;
	}
	if (conn->body_size < conn->message.size) {
		n = take(conn, conn->body + conn->body_size, conn->message.size - conn->body_size);
		if (n < 0)
			return (int)n;
		conn->body_size += (size_t)n;
	}
	if (conn->body_size < conn->message.size)
		return 0;
	conn->head_size = 0;
	r = take_message(conn);
	free(conn->body);
	conn->body = NULL;
	return r;
}

static int ready(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct dqlite_conn *conn = userdata;
	int r = 0;

	(void)source;
	(void)fd;
	conn->depth++;
	if (events & EPOLLOUT)
		r = flush(conn);
	while (r == 0 && !conn->freed)
		r = advance(conn);
	if (r < 0 && r != -EAGAIN && !conn->freed)
		fail(conn, r);
	if (--conn->depth == 0 && conn->freed)
		destroy(conn);
	return 0;
}

int dqlite_conn_new(
    struct dqlite_conn **out, sd_event *loop, int fd, void (*lost)(void *arg), void *arg)
{
	struct dqlite_conn *conn = calloc(1, sizeof(*conn));
	int r = conn ? 0 : -ENOMEM;

	if (r == 0)
		r = wire_put_version(&conn->out);
	if (r == 0)
		r = sd_event_add_io(loop, &conn->source, fd, EPOLLIN | EPOLLOUT, ready, conn);
	if (r < 0) {
		close(fd);
		if (conn)
			destroy(conn);
		return r;
	}
	conn->fd = fd;
	conn->lost = lost;
	conn->lost_arg = arg;
	*out = conn;
	return 0;
}

/* No callback runs inside a request: what cannot be sent now, or fails, is the loop's. */
static int begin(struct dqlite_conn *conn, int packed, size_t before, dqlite_row *row,
    dqlite_done *done, void *arg)
{
	if (packed < 0) {
		conn->out.size = before;
		return packed;
	}
	conn->row = row;
	conn->done = done;
	conn->arg = arg;
	return flush(conn) < 0 ? sd_event_source_set_io_events(conn->source, EPOLLIN | EPOLLOUT)
			       : 0;
}

int dqlite_conn_leader(struct dqlite_conn *conn, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_leader(&conn->out), before, NULL, done, arg);
}

int dqlite_conn_open(struct dqlite_conn *conn, const char *database, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_open(&conn->out, database), before, NULL, done, arg);
}

int dqlite_conn_exec(struct dqlite_conn *conn, const char *sql, const struct wire_value *values,
    size_t count, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_exec(&conn->out, sql, values, count), before, NULL, done, arg);
}

int dqlite_conn_prepare(struct dqlite_conn *conn, const char *sql, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_prepare(&conn->out, sql), before, NULL, done, arg);
}

int dqlite_conn_run(struct dqlite_conn *conn, uint32_t statement, const struct wire_value *values,
    size_t count, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(
	    conn, wire_put_run(&conn->out, statement, values, count), before, NULL, done, arg);
}

int dqlite_conn_query(struct dqlite_conn *conn, const char *sql, const struct wire_value *values,
    size_t count, dqlite_row *row, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_query(&conn->out, sql, values, count), before, row, done, arg);
}

int dqlite_conn_cluster(struct dqlite_conn *conn, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_cluster(&conn->out), before, NULL, done, arg);
}

int dqlite_conn_add(
    struct dqlite_conn *conn, uint64_t id, const char *address, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_add(&conn->out, id, address), before, NULL, done, arg);
}

int dqlite_conn_assign(
    struct dqlite_conn *conn, uint64_t id, enum wire_role role, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_assign(&conn->out, id, role), before, NULL, done, arg);
}

int dqlite_conn_remove(struct dqlite_conn *conn, uint64_t id, dqlite_done *done, void *arg)
{
	size_t before = conn->out.size;

	assert(!conn->done);
	return begin(conn, wire_put_remove(&conn->out, id), before, NULL, done, arg);
}
