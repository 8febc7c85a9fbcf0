#include "ckptd/journal.h"

#include "common/log.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct journal {
	sqlite3 *db;
	sqlite3_stmt *put, *forget, *put_id;
};

static const char schema[] =
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = FULL;"
    "CREATE TABLE IF NOT EXISTS seat (ve TEXT PRIMARY KEY, id INTEGER NOT NULL,"
    " ve_epoch INTEGER NOT NULL, coordinator INTEGER NOT NULL, copies INTEGER NOT NULL,"
    " state TEXT NOT NULL, oid TEXT NOT NULL, bytes INTEGER NOT NULL,"
    " frozen_ms INTEGER NOT NULL, replicas BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS last (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER);";

static int failed(const struct journal *journal, const char *what)
{
	log_error("journal: %s: %s", what, sqlite3_errmsg(journal->db));
	return -EIO;
}

static int prepare(struct journal *journal, const char *sql, sqlite3_stmt **out)
{
	if (sqlite3_prepare_v2(journal->db, sql, -1, out, NULL) != SQLITE_OK)
		return failed(journal, sql);
	return 0;
}

static int prepare_all(struct journal *journal)
{
	int r = prepare(
	    journal, "INSERT OR REPLACE INTO seat VALUES (?,?,?,?,?,?,?,?,?,?)", &journal->put);

	if (r == 0)
		r = prepare(journal, "DELETE FROM seat WHERE ve = ?", &journal->forget);
	if (r == 0)
		r = prepare(journal, "INSERT OR REPLACE INTO last VALUES (1, ?)", &journal->put_id);
	return r;
}

int journal_open(struct journal **out, const char *path)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	int r = 0;

	if (!journal)
		return -ENOMEM;
	if (sqlite3_open(path, &journal->db) != SQLITE_OK) {
		log_error("open %s: %s", path, sqlite3_errmsg(journal->db));
		r = -EIO;
	}
	if (r == 0 && sqlite3_exec(journal->db, schema, NULL, NULL, NULL) != SQLITE_OK)
		r = failed(journal, path);
	if (r == 0)
		r = prepare_all(journal);
	if (r < 0) {
		journal_close(journal);
		return r;
	}
	*out = journal;
	return 0;
}

struct journal *journal_close(struct journal *journal)
{
	if (!journal)
		return NULL;
	sqlite3_finalize(journal->put);
	sqlite3_finalize(journal->forget);
	sqlite3_finalize(journal->put_id);
	sqlite3_close(journal->db);
	free(journal);
	return NULL;
}

static enum ckptd_seat_state state_of(const char *name)
{
	for (int i = CKPTD_SEAT_IDLE; i <= CKPTD_SEAT_ABORTED; i++) {
		if (!strcmp(ckptd_seat_state_name((enum ckptd_seat_state)i), name))
			return (enum ckptd_seat_state)i;
	}
	return CKPTD_SEAT_IDLE;
}

static void read_row(sqlite3_stmt *row, struct ckptd_record *record)
{
	int size = sqlite3_column_bytes(row, 9);

	memset(record, 0, sizeof(*record));
	snprintf(record->ve, sizeof(record->ve), "%s", (const char *)sqlite3_column_text(row, 0));
	record->id = (uint64_t)sqlite3_column_int64(row, 1);
	record->ve_epoch = (uint64_t)sqlite3_column_int64(row, 2);
	record->coordinator = (uint64_t)sqlite3_column_int64(row, 3);
	record->copies = (uint32_t)sqlite3_column_int64(row, 4);
	record->state = state_of((const char *)sqlite3_column_text(row, 5));
	snprintf(record->image.oid, sizeof(record->image.oid), "%s",
	    (const char *)sqlite3_column_text(row, 6));
	record->image.bytes = (uint64_t)sqlite3_column_int64(row, 7);
	record->image.frozen_ms = (uint32_t)sqlite3_column_int64(row, 8);
	if (size < 0 || (size_t)size > sizeof(record->image.replicas))
		return;
	record->image.n_replicas = (uint32_t)((size_t)size / sizeof(uint64_t));
	if (size)
		memcpy(record->image.replicas, sqlite3_column_blob(row, 9), (size_t)size);
}

int journal_load(
    struct journal *journal, struct ckptd_record *records, size_t max, size_t *n, uint64_t *last_id)
{
	sqlite3_stmt *rows = NULL;
	int r = prepare(journal, "SELECT * FROM seat ORDER BY id DESC", &rows);

	*n = 0;
	*last_id = 0;
	if (r < 0)
		return r;
	while (*n < max && (r = sqlite3_step(rows)) == SQLITE_ROW)
		read_row(rows, &records[(*n)++]);
	sqlite3_finalize(rows);
	if (r != SQLITE_DONE && r != SQLITE_ROW)
		return failed(journal, "read the seats");
	r = prepare(journal, "SELECT id FROM last", &rows);
	if (r < 0)
		return r;
	if (sqlite3_step(rows) == SQLITE_ROW)
		*last_id = (uint64_t)sqlite3_column_int64(rows, 0);
	sqlite3_finalize(rows);
	return 0;
}

static int run(struct journal *journal, sqlite3_stmt *statement, const char *what)
{
	int r = sqlite3_step(statement);

	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return r == SQLITE_DONE ? 0 : failed(journal, what);
}

int journal_put(struct journal *journal, const struct ckptd_record *record)
{
	sqlite3_stmt *put = journal->put;
	const struct ckptd_image *image = &record->image;

	sqlite3_bind_text(put, 1, record->ve, -1, SQLITE_STATIC);
	sqlite3_bind_int64(put, 2, (sqlite3_int64)record->id);
	sqlite3_bind_int64(put, 3, (sqlite3_int64)record->ve_epoch);
	sqlite3_bind_int64(put, 4, (sqlite3_int64)record->coordinator);
	sqlite3_bind_int64(put, 5, record->copies);
	sqlite3_bind_text(put, 6, ckptd_seat_state_name(record->state), -1, SQLITE_STATIC);
	sqlite3_bind_text(put, 7, image->oid, -1, SQLITE_STATIC);
	sqlite3_bind_int64(put, 8, (sqlite3_int64)image->bytes);
	sqlite3_bind_int64(put, 9, image->frozen_ms);
	sqlite3_bind_blob(put, 10, image->replicas,
	    (int)(image->n_replicas * sizeof(image->replicas[0])), SQLITE_STATIC);
	return run(journal, put, "write a seat");
}

int journal_forget(struct journal *journal, const char *ve)
{
	sqlite3_bind_text(journal->forget, 1, ve, -1, SQLITE_STATIC);
	return run(journal, journal->forget, "forget a seat");
}

int journal_put_id(struct journal *journal, uint64_t id)
{
	sqlite3_bind_int64(journal->put_id, 1, (sqlite3_int64)id);
	return run(journal, journal->put_id, "write the last id");
}
