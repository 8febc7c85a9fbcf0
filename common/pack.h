/*
 * Packing MessagePack into a struct buf with msgpack-c.  Each function returns 0 or -ENOMEM.
 */
#ifndef COMMON_PACK_H
#define COMMON_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

int pack_map(struct buf *buf, size_t entries);
int pack_array(struct buf *buf, size_t elements);
int pack_str(struct buf *buf, const char *string);
int pack_bin(struct buf *buf, const void *data, size_t size);
int pack_u64(struct buf *buf, uint64_t value);
int pack_i64(struct buf *buf, int64_t value);
int pack_f64(struct buf *buf, double value);
int pack_bool(struct buf *buf, bool value);

#endif
