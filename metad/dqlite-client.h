/*
 * One connection to a dqlite server, driven by the loop: one request at a time, each answered by
 * one callback.  It knows neither leaders nor retries (store-dqlite.c does).
 */
#ifndef METAD_DQLITE_CLIENT_H
#define METAD_DQLITE_CLIENT_H

#include <systemd/sd-event.h>

#include "metad/wire.h"

struct dqlite_conn;

struct dqlite_answer {
	int rc; /* 0; > 0: SQLite's code, see message; < 0: errno, the connection is lost: what was
		   asked may have been done */
	const char *message; /* "" if rc is 0 */
	uint64_t leader;     /* of leader: a node's id, or 0 */
	uint64_t last_insert_id, changed;
	uint32_t statement;                /* of prepare */
	const struct wire_server *servers; /* of cluster; borrowed */
	size_t server_count;
};

typedef void dqlite_done(void *arg, const struct dqlite_answer *answer);
/* A row of a query, before done; borrowed. */
typedef void dqlite_row(void *arg, const struct wire_value *values, size_t columns);

/* Takes fd (a connected stream) over, also on failure.  lost tells that the connection ended while
 * nothing was asked. */
int dqlite_conn_new(
    struct dqlite_conn **out, sd_event *loop, int fd, void (*lost)(void *arg), void *arg);
/* Does not call back; may be called from a callback.  Returns NULL. */
struct dqlite_conn *dqlite_conn_free(struct dqlite_conn *conn);
bool dqlite_conn_busy(const struct dqlite_conn *conn);

/* Requests: 0, or negative errno; the connection must not be busy.  done is called later. */
int dqlite_conn_leader(struct dqlite_conn *conn, dqlite_done *done, void *arg);
int dqlite_conn_open(struct dqlite_conn *conn, const char *database, dqlite_done *done, void *arg);
int dqlite_conn_exec(struct dqlite_conn *conn, const char *sql, const struct wire_value *values,
    size_t count, dqlite_done *done, void *arg);
/* A statement that the server keeps while the connection lasts: parsed once, its triggers too. */
int dqlite_conn_prepare(struct dqlite_conn *conn, const char *sql, dqlite_done *done, void *arg);
int dqlite_conn_run(struct dqlite_conn *conn, uint32_t statement, const struct wire_value *values,
    size_t count, dqlite_done *done, void *arg);
int dqlite_conn_query(struct dqlite_conn *conn, const char *sql, const struct wire_value *values,
    size_t count, dqlite_row *row, dqlite_done *done, void *arg);
/* Who belongs to the cluster, and changes of that, by its leader only. */
int dqlite_conn_cluster(struct dqlite_conn *conn, dqlite_done *done, void *arg);
int dqlite_conn_add(
    struct dqlite_conn *conn, uint64_t id, const char *address, dqlite_done *done, void *arg);
int dqlite_conn_assign(
    struct dqlite_conn *conn, uint64_t id, enum wire_role role, dqlite_done *done, void *arg);
int dqlite_conn_remove(struct dqlite_conn *conn, uint64_t id, dqlite_done *done, void *arg);

/* SQLite's codes that matter here, and dqlite's own. */
enum {
	DQLITE_ERROR = 1,
	DQLITE_BUSY = 5,
	DQLITE_NOTFOUND = 12,
	DQLITE_CONSTRAINT = 19,
	DQLITE_NOSPACE = 22, /* RAFT_NOSPACE, as libdqlite passes it on; see raft-guard.c */
	DQLITE_NOT_LEADER = 10 | 40 << 8,
	DQLITE_LEADERSHIP_LOST = 10 | 41 << 8,
};

#endif
