/*
 * The SQL of the store on dqlite.
 *
 * A transaction is one row of txn.  plan is a JSON array of operations
 *	[key, expected version (-1: any), "p"ut | "d"elete | "c"heck, start of the value, its length]
 * and body has the values end to end (values are any bytes, which JSON cannot hold).  One statement
 * is one entry of the log and one round trip; BEGIN ... COMMIT would be four, and would hold the
 * write lock while a client is away.
 */
#ifndef METAD_SCHEMA_H
#define METAD_SCHEMA_H

/* STORE_NONCES rows of txn are kept: the nonces that are remembered. */
#define SCHEMA_KEEP "4096"

/* SQLite's page cache must hold all pages of the largest transaction, some 150: dqlite's file system
 * cannot take pages before the commit (they would come back as an I/O error). So it is left at 500. */
static const char schema_sql[] =
    "CREATE TABLE IF NOT EXISTS entry ("
    " key TEXT PRIMARY KEY NOT NULL, version INTEGER NOT NULL, value BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS txn ("
    " revision INTEGER PRIMARY KEY, nonce BLOB NOT NULL UNIQUE, plan TEXT NOT NULL, body BLOB);"
    "CREATE TABLE IF NOT EXISTS fence (id INTEGER PRIMARY KEY, n INTEGER NOT NULL);"
    "CREATE TRIGGER IF NOT EXISTS txn_apply AFTER INSERT ON txn BEGIN"
    " SELECT RAISE(ABORT, 'conflict') FROM json_each(NEW.plan) p"
    "  LEFT JOIN entry e ON e.key = p.value->>0"
    "  WHERE p.value->>1 >= 0 AND p.value->>1 <> coalesce(e.version, 0);"
    " DELETE FROM entry WHERE key IN"
    "  (SELECT value->>0 FROM json_each(NEW.plan) WHERE value->>2 = 'd');"
    " INSERT INTO entry (key, version, value)"
    "  SELECT value->>0, NEW.revision, substr(NEW.body, (value->>3) + 1, value->>4)"
    "  FROM json_each(NEW.plan) WHERE value->>2 = 'p'"
    "  ON CONFLICT (key) DO UPDATE SET version = excluded.version, value = excluded.value;"
    " UPDATE txn SET body = NULL WHERE revision = NEW.revision;"
    " DELETE FROM txn WHERE revision <= NEW.revision - " SCHEMA_KEEP ";"
    "END;";

/* nonce, plan, body, and the revision that must not have been reached.  Prepared once a session: to compile it, its trigger with
 * it, takes longer than to run it. */
static const char txn_sql[] = "INSERT INTO txn (nonce, plan, body) SELECT ?, ?, ?"
			      " WHERE coalesce((SELECT max(revision) FROM txn), 0) < ?";

static const char recall_sql[] = "SELECT revision FROM txn WHERE nonce = ?";

/* A write that matters to nobody: when it is done, the node has led until now. */
static const char fence_sql[] =
    "INSERT INTO fence VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = n + 1";

/* The first operation of a plan that does not match: its index, and the version that is there. */
static const char mismatch_sql[] =
    "SELECT p.key, coalesce(e.version, 0) FROM json_each(?) p"
    " LEFT JOIN entry e ON e.key = p.value->>0"
    " WHERE p.value->>1 >= 0 AND p.value->>1 <> coalesce(e.version, 0) ORDER BY p.key LIMIT 1";

static const char get_sql[] =
    "SELECT coalesce((SELECT max(revision) FROM txn), 0), ?1, e.version, e.value"
    " FROM (SELECT 1) LEFT JOIN entry e ON e.key = ?1";

/* after, first, behind last, limit, bytes of the page: a value of NULL is where the page is full. */
static const char scan_sql[] =
    "WITH page AS (SELECT key AS k,"
    "  sum(length(value)) OVER (ORDER BY key) - length(value) AS before"
    "  FROM entry WHERE key > ?1 AND key >= ?2 AND key < ?3 ORDER BY key LIMIT ?4)"
    " SELECT coalesce((SELECT max(revision) FROM txn), 0), e.key, e.version,"
    "  CASE WHEN page.before <= ?5 THEN e.value END"
    " FROM page JOIN entry e ON e.key = page.k ORDER BY e.key";

static const char range_sql[] =
    "SELECT coalesce(min(revision), 0), coalesce(max(revision), 0) FROM txn";

/* Keys changed after one revision, up to another. */
static const char changes_sql[] =
    "SELECT t.revision, p.value->>0 FROM txn t, json_each(t.plan) p"
    " WHERE t.revision > ? AND t.revision <= ? AND p.value->>2 <> 'c' LIMIT 256";

#endif
