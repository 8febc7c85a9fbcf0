/*
 * The seats of this node and the last id given out, in SQLite: each write is on the disk when the
 * call returns.
 */
#ifndef CKPTD_JOURNAL_H
#define CKPTD_JOURNAL_H

#include "ckptd/ckptd.h"

struct journal;

/* Opens or creates it; negative errno after logging what was wrong. */
int journal_open(struct journal **out, const char *path);
struct journal *journal_close(struct journal *journal);
/* Reads at most max rows, the newest rounds first, and the last id. */
int journal_load(struct journal *journal, struct ckptd_record *records, size_t max, size_t *n,
    uint64_t *last_id);
int journal_put(struct journal *journal, const struct ckptd_record *record);
int journal_forget(struct journal *journal, const char *ve);
int journal_put_id(struct journal *journal, uint64_t id);

#endif
