#include "gdn/store/index.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION 2

static const char schema[] =
    "CREATE TABLE pack(number INTEGER PRIMARY KEY, size INTEGER NOT NULL);"
    "CREATE TABLE chunk(id BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL,"
    " length INTEGER NOT NULL, refs INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX chunk_pack ON chunk(pack);"
    "CREATE TABLE object(oid BLOB PRIMARY KEY, sealed INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " stored INTEGER NOT NULL, chunks INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " root BLOB NOT NULL);"
    "CREATE TABLE tag(oid BLOB, name TEXT, kind TEXT NOT NULL, PRIMARY KEY(oid, name))"
    " WITHOUT ROWID;"
    "CREATE TABLE replica(oid BLOB, node TEXT, PRIMARY KEY(oid, node)) WITHOUT ROWID;"
    "CREATE TABLE series(name BLOB PRIMARY KEY, oid BLOB NOT NULL) WITHOUT ROWID;"
    "PRAGMA user_version = 2;";

#define OBJECT_COLUMNS "oid, sealed, bytes, stored, chunks, created_ms"

/* Every statement, once: its name here and its text. */
#define STATEMENTS(S)                                                                              \
	S(BEGIN, "BEGIN IMMEDIATE")                                                                \
	S(COMMIT, "COMMIT")                                                                        \
	S(ROLLBACK, "ROLLBACK")                                                                    \
	S(PACK_ADD, "INSERT INTO pack VALUES(?1, ?2)")                                             \
	S(PACK_DEL, "DELETE FROM pack WHERE number = ?1")                                          \
	S(PACK_EACH,                                                                               \
	    "SELECT number, size, coalesce(sum((refs > 0) * length), 0),"                          \
	    " coalesce(sum(refs = 0), 0) FROM pack LEFT JOIN chunk ON chunk.pack = number"         \
	    " GROUP BY number")                                                                    \
	S(CHUNK_FIND, "SELECT pack, offset, length FROM chunk WHERE id = ?1")                      \
	S(CHUNK_PLACE, "INSERT INTO chunk VALUES(?1, ?2, ?3, ?4, 0) ON CONFLICT(id) DO UPDATE SET" \
		       " pack = excluded.pack, offset = excluded.offset WHERE pack = 0")           \
	S(CHUNK_MOVE, "UPDATE chunk SET pack = ?2, offset = ?3 WHERE id = ?1 AND pack = ?4"        \
		      " AND offset = ?5")                                                          \
	S(CHUNK_REF, "UPDATE chunk SET refs = refs + ?2 WHERE id = ?1 AND (pack > 0 OR ?2 < 0)")   \
	S(CHUNK_DEL, "DELETE FROM chunk WHERE id = ?1")                                            \
	S(CHUNK_EACH, "SELECT id, pack, offset, length FROM chunk WHERE pack = ?1"                 \
		      " AND (refs = 0) = ?2 ORDER BY offset")                                      \
	S(CHUNK_NEXT, "SELECT id, pack, offset, length FROM chunk WHERE id > ?1 AND refs > 0"      \
		      " ORDER BY id LIMIT 1")                                                      \
	S(OBJECT_ADD, "INSERT INTO object VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")                     \
	S(OBJECT_FIND, "SELECT " OBJECT_COLUMNS ", root FROM object WHERE oid = ?1")               \
	S(OBJECT_DEL, "DELETE FROM object WHERE oid = ?1")                                         \
	S(OBJECT_EACH, "SELECT " OBJECT_COLUMNS " FROM object ORDER BY created_ms, oid")           \
	S(TAG_ADD, "INSERT OR REPLACE INTO tag VALUES(?1, ?2, ?3)")                                \
	S(TAG_DEL, "DELETE FROM tag WHERE oid = ?1 AND name = coalesce(?2, name)")                 \
	S(TAG_COUNT, "SELECT count(*) FROM tag WHERE oid = ?1")                                    \
	S(TAG_EACH, "SELECT name, kind FROM tag WHERE oid = ?1 ORDER BY name")                     \
	S(REPLICA_ADD, "INSERT OR IGNORE INTO replica VALUES(?1, ?2)")                             \
	S(REPLICA_DEL, "DELETE FROM replica WHERE oid = ?1 AND node = coalesce(?2, node)")         \
	S(REPLICA_EACH, "SELECT node FROM replica WHERE oid = ?1 ORDER BY node")                   \
	S(SERIES_SET, "INSERT OR REPLACE INTO series VALUES(?1, ?2)")                              \
	S(SERIES_FIND, "SELECT oid FROM series WHERE name = ?1")                                   \
	S(SERIES_DEL, "DELETE FROM series WHERE oid = ?1")                                         \
	S(TOTALS, "SELECT (SELECT count(*) FROM object), (SELECT coalesce(sum(bytes), 0) FROM"     \
		  " object), (SELECT count(*) FROM chunk), (SELECT count(*) FROM chunk WHERE pack" \
		  " = 0 AND refs > 0), (SELECT count(*) FROM pack), (SELECT coalesce(sum(size),"   \
		  " 0) FROM pack)")

enum statement {
#define NAME(name, text) name,
	STATEMENTS(NAME)
#undef NAME
	    STATEMENT_COUNT,
};

static const char *const texts[] = {
#define TEXT(name, text) text,
    STATEMENTS(TEXT)
#undef TEXT
};

struct index {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENT_COUNT];
	const struct disk *disk;
};

/* SQLite's answers as errno. */
static int code_of(int sqlite)
{
	switch (sqlite & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
		return 0;
	case SQLITE_ROW:
		return 1;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	default:
		return -EIO;
	}
}

const char *index_error(const struct index *index)
{
	return sqlite3_errmsg(index->db);
}

static int exec(struct index *index, const char *text)
{
	return code_of(sqlite3_exec(index->db, text, NULL, NULL, NULL));
}

static int read_version(void *arg, int columns, char **values, char **names)
{
	(void)columns;
	(void)names;
	*(int *)arg = values[0] ? (int)strtol(values[0], NULL, 10) : 0;
	return 0;
}

static int make_schema(struct index *index, const char *path, struct fault *fault)
{
	int version = 0, r;

	r = code_of(sqlite3_exec(index->db, "PRAGMA user_version", read_version, &version, NULL));
	if (r == 0 && version > SCHEMA_VERSION)
		return fault_set(fault, -EPROTONOSUPPORT, "open %s: schema %d is newer than %d",
		    path, version, SCHEMA_VERSION);
	if (r == 0 && version > 0 && version < SCHEMA_VERSION)
		return fault_set(fault, -EPROTONOSUPPORT,
		    "open %s: a store of an older form (%d, now %d): its objects cannot be read,"
		    " move its directory away",
		    path, version, SCHEMA_VERSION);
	if (r == 0 && version == 0) {
		r = exec(index, "BEGIN");
		if (r == 0)
			r = exec(index, schema);
		if (r == 0)
			r = exec(index, "COMMIT");
	}
	return r;
}

int index_open(struct index **out, const char *path, const struct disk *disk, struct fault *fault)
{
	struct index *index = calloc(1, sizeof(*index));
	int r;

	if (!index)
		return -ENOMEM;
	index->disk = disk;
	r = code_of(sqlite3_open_v2(path, &index->db,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL));
	if (r == 0)
		r = exec(index, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
				"PRAGMA synchronous = FULL; PRAGMA cache_size = -8000;");
	if (r == 0)
		r = make_schema(index, path, fault);
	for (int i = 0; r == 0 && i < STATEMENT_COUNT; i++)
		r = code_of(sqlite3_prepare_v3(index->db, texts[i], -1, SQLITE_PREPARE_PERSISTENT,
		    &index->statements[i], NULL));
	if (r < 0) {
		fault_set(fault, r, "open %s: %s", path,
		    index->db ? sqlite3_errmsg(index->db) : "no memory");
		index_close(index);
		return r;
	}
	*out = index;
	return 0;
}

struct index *index_close(struct index *index)
{
	if (!index)
		return NULL;
	for (int i = 0; i < STATEMENT_COUNT; i++)
		sqlite3_finalize(index->statements[i]);
	sqlite3_close(index->db);
	free(index);
	return NULL;
}

static sqlite3_stmt *use(struct index *index, enum statement which)
{
	sqlite3_stmt *s = index->statements[which];

	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return s;
}

/* With the id, which most statements have first. */
static sqlite3_stmt *use_id(struct index *index, enum statement which, const struct id *id)
{
	sqlite3_stmt *s = use(index, which);

	sqlite3_bind_blob(s, 1, id->bytes, ID_SIZE, SQLITE_STATIC);
	return s;
}

/* Runs a statement that answers no row; the number of rows it changed. */
static int run(struct index *index, sqlite3_stmt *s)
{
	int r = code_of(sqlite3_step(s));

	sqlite3_reset(s);
	return r < 0 ? r : sqlite3_changes(index->db);
}

static int run_only(struct index *index, sqlite3_stmt *s)
{
	int r = run(index, s);

	return r < 0 ? r : 0;
}

int index_begin(struct index *index, struct fault *fault)
{
	int r = run_only(index, use(index, BEGIN));

	return r < 0 ? fault_set(fault, r, "begin: %s", index_error(index)) : 0;
}

int index_commit(struct index *index, struct fault *fault)
{
	int r = disk_before(index->disk, DISK_COMMIT, "index");

	if (r < 0)
		return fault_set(fault, r, "commit: %s", strerror(-r));
	r = run_only(index, use(index, COMMIT));
	if (r < 0)
		return fault_set(fault, r, "commit: %s", index_error(index));
	/* After a kill here the commit is done and its caller does not know. */
	disk_before(index->disk, DISK_COMMIT, "index, done");
	return 0;
}

void index_abort(struct index *index)
{
	if (!sqlite3_get_autocommit(index->db))
		run(index, use(index, ROLLBACK));
}

int index_pack_add(struct index *index, uint64_t number, uint64_t size)
{
	sqlite3_stmt *s = use(index, PACK_ADD);

	sqlite3_bind_int64(s, 1, (sqlite3_int64)number);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)size);
	return run_only(index, s);
}

int index_pack_del(struct index *index, uint64_t number)
{
	sqlite3_stmt *s = use(index, PACK_DEL);

	sqlite3_bind_int64(s, 1, (sqlite3_int64)number);
	return run_only(index, s);
}

int index_pack_each(struct index *index, int (*each)(void *, const struct pack_row *), void *arg)
{
	sqlite3_stmt *s = use(index, PACK_EACH);
	int r;

	while ((r = code_of(sqlite3_step(s))) == 1) {
		struct pack_row row = {
		    .number = (uint64_t)sqlite3_column_int64(s, 0),
		    .size = (uint64_t)sqlite3_column_int64(s, 1),
		    .live = (uint64_t)sqlite3_column_int64(s, 2),
		    .dead = (uint64_t)sqlite3_column_int64(s, 3),
		};

		r = each(arg, &row);
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

static struct place place_of(sqlite3_stmt *s, int column)
{
	return (struct place){
	    .pack = (uint64_t)sqlite3_column_int64(s, column),
	    .offset = (uint64_t)sqlite3_column_int64(s, column + 1),
	    .length = (uint32_t)sqlite3_column_int64(s, column + 2),
	};
}

int index_chunk_find(struct index *index, const struct id *id, struct place *place)
{
	sqlite3_stmt *s = use_id(index, CHUNK_FIND, id);
	int r = code_of(sqlite3_step(s));

	if (r == 1)
		*place = place_of(s, 0);
	sqlite3_reset(s);
	return r;
}

int index_chunk_place(struct index *index, const struct id *id, const struct place *place)
{
	sqlite3_stmt *s = use_id(index, CHUNK_PLACE, id);

	sqlite3_bind_int64(s, 2, (sqlite3_int64)place->pack);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)place->offset);
	sqlite3_bind_int64(s, 4, place->length);
	return run_only(index, s);
}

int index_chunk_move(
    struct index *index, const struct id *id, const struct place *from, const struct place *to)
{
	sqlite3_stmt *s = use_id(index, CHUNK_MOVE, id);

	sqlite3_bind_int64(s, 2, (sqlite3_int64)to->pack);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)to->offset);
	sqlite3_bind_int64(s, 4, (sqlite3_int64)from->pack);
	sqlite3_bind_int64(s, 5, (sqlite3_int64)from->offset);
	return run(index, s);
}

int index_chunk_ref(struct index *index, const struct id *id, int add)
{
	sqlite3_stmt *s = use_id(index, CHUNK_REF, id);

	sqlite3_bind_int(s, 2, add);
	return run(index, s);
}

int index_chunk_del(struct index *index, const struct id *id)
{
	return run_only(index, use_id(index, CHUNK_DEL, id));
}

/* Copies a blob of an id; zeros if it has another size, which no writer makes. */
static struct id id_at(sqlite3_stmt *s, int column)
{
	struct id id = {0};

	if (sqlite3_column_bytes(s, column) == ID_SIZE)
		memcpy(id.bytes, sqlite3_column_blob(s, column), ID_SIZE);
	return id;
}

int index_chunk_each(struct index *index, uint64_t pack, bool dead,
    int (*each)(void *, const struct id *, const struct place *), void *arg)
{
	sqlite3_stmt *s = use(index, CHUNK_EACH);
	int r;

	sqlite3_bind_int64(s, 1, (sqlite3_int64)pack);
	sqlite3_bind_int(s, 2, dead);
	while ((r = code_of(sqlite3_step(s))) == 1) {
		struct id id = id_at(s, 0);
		struct place place = place_of(s, 1);

		r = each(arg, &id, &place);
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

int index_chunk_next(
    struct index *index, const struct id *after, struct id *id, struct place *place)
{
	sqlite3_stmt *s = use_id(index, CHUNK_NEXT, after);
	int r = code_of(sqlite3_step(s));

	if (r == 1) {
		*id = id_at(s, 0);
		*place = place_of(s, 1);
	}
	sqlite3_reset(s);
	return r;
}

int index_object_add(struct index *index, const struct object_row *row, const struct buf *root)
{
	sqlite3_stmt *s = use_id(index, OBJECT_ADD, &row->oid);

	sqlite3_bind_int(s, 2, row->sealed);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)row->bytes);
	sqlite3_bind_int64(s, 4, (sqlite3_int64)row->stored);
	sqlite3_bind_int64(s, 5, row->chunks);
	sqlite3_bind_int64(s, 6, row->created_ms);
	sqlite3_bind_blob64(s, 7, root->data, root->size, SQLITE_STATIC);
	return run_only(index, s);
}

static struct object_row object_of(sqlite3_stmt *s)
{
	return (struct object_row){
	    .oid = id_at(s, 0),
	    .sealed = sqlite3_column_int(s, 1),
	    .bytes = (uint64_t)sqlite3_column_int64(s, 2),
	    .stored = (uint64_t)sqlite3_column_int64(s, 3),
	    .chunks = (uint32_t)sqlite3_column_int64(s, 4),
	    .created_ms = sqlite3_column_int64(s, 5),
	};
}

int index_object_find(
    struct index *index, const struct id *oid, struct object_row *row, struct buf *root)
{
	sqlite3_stmt *s = use_id(index, OBJECT_FIND, oid);
	int r = code_of(sqlite3_step(s));

	if (r == 1) {
		*row = object_of(s);
		if (root && buf_append(root, sqlite3_column_blob(s, 6),
				(size_t)sqlite3_column_bytes(s, 6)) < 0)
			r = -ENOMEM;
	}
	sqlite3_reset(s);
	return r;
}

int index_object_del(struct index *index, const struct id *oid)
{
	int r = run_only(index, use_id(index, TAG_DEL, oid));

	if (r == 0)
		r = run_only(index, use_id(index, REPLICA_DEL, oid));
	if (r == 0)
		r = run_only(index, use_id(index, SERIES_DEL, oid));
	return r < 0 ? r : run_only(index, use_id(index, OBJECT_DEL, oid));
}

int index_object_each(
    struct index *index, int (*each)(void *, const struct object_row *), void *arg)
{
	sqlite3_stmt *s = use(index, OBJECT_EACH);
	int r;

	while ((r = code_of(sqlite3_step(s))) == 1) {
		struct object_row row = object_of(s);

		r = each(arg, &row);
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

static void bind_text(sqlite3_stmt *s, int at, const char *text)
{
	if (text)
		sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

static const char *text_at(sqlite3_stmt *s, int column)
{
	const unsigned char *text = sqlite3_column_text(s, column);

	return text ? (const char *)text : "";
}

int index_tag_add(struct index *index, const struct id *oid, const char *name, const char *kind)
{
	sqlite3_stmt *s = use_id(index, TAG_ADD, oid);

	bind_text(s, 2, name);
	bind_text(s, 3, kind);
	return run_only(index, s);
}

int index_tag_del(struct index *index, const struct id *oid, const char *name)
{
	sqlite3_stmt *s = use_id(index, TAG_DEL, oid);

	bind_text(s, 2, name);
	return run_only(index, s);
}

int index_tag_count(struct index *index, const struct id *oid)
{
	sqlite3_stmt *s = use_id(index, TAG_COUNT, oid);
	int r = code_of(sqlite3_step(s));

	if (r == 1)
		r = sqlite3_column_int(s, 0);
	sqlite3_reset(s);
	return r;
}

int index_tag_each(struct index *index, const struct id *oid,
    int (*each)(void *, const char *name, const char *kind), void *arg)
{
	sqlite3_stmt *s = use_id(index, TAG_EACH, oid);
	int r;

	while ((r = code_of(sqlite3_step(s))) == 1) {
		r = each(arg, text_at(s, 0), text_at(s, 1));
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

int index_replica_add(struct index *index, const struct id *oid, const char *node)
{
	sqlite3_stmt *s = use_id(index, REPLICA_ADD, oid);

	bind_text(s, 2, node);
	return run_only(index, s);
}

int index_replica_del(struct index *index, const struct id *oid, const char *node)
{
	sqlite3_stmt *s = use_id(index, REPLICA_DEL, oid);

	bind_text(s, 2, node);
	return run_only(index, s);
}

int index_replica_each(
    struct index *index, const struct id *oid, int (*each)(void *, const char *node), void *arg)
{
	sqlite3_stmt *s = use_id(index, REPLICA_EACH, oid);
	int r;

	while ((r = code_of(sqlite3_step(s))) == 1) {
		r = each(arg, text_at(s, 0));
		if (r < 0)
			break;
	}
	sqlite3_reset(s);
	return r;
}

int index_series_set(struct index *index, const uint8_t *name, size_t size, const struct id *oid)
{
	sqlite3_stmt *s = use(index, SERIES_SET);

	sqlite3_bind_blob64(s, 1, name, size, SQLITE_STATIC);
	sqlite3_bind_blob(s, 2, oid->bytes, ID_SIZE, SQLITE_STATIC);
	return run_only(index, s);
}

int index_series_find(struct index *index, const uint8_t *name, size_t size, struct id *oid)
{
	sqlite3_stmt *s = use(index, SERIES_FIND);
	int r;

	sqlite3_bind_blob64(s, 1, name, size, SQLITE_STATIC);
	r = code_of(sqlite3_step(s));
	if (r == 1)
		*oid = id_at(s, 0);
	sqlite3_reset(s);
	return r;
}

int index_totals(struct index *index, struct index_totals *totals)
{
	sqlite3_stmt *s = use(index, TOTALS);
	int r = code_of(sqlite3_step(s));

	if (r == 1)
		*totals = (struct index_totals){
		    .objects = (uint64_t)sqlite3_column_int64(s, 0),
		    .bytes = (uint64_t)sqlite3_column_int64(s, 1),
		    .chunks = (uint64_t)sqlite3_column_int64(s, 2),
		    .missing = (uint64_t)sqlite3_column_int64(s, 3),
		    .packs = (uint64_t)sqlite3_column_int64(s, 4),
		    .pack_bytes = (uint64_t)sqlite3_column_int64(s, 5),
		};
	sqlite3_reset(s);
	return r < 0 ? r : 0;
}
