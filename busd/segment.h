/*
 * One file of the log: its records, without any thought of what they mean together.
 *
 *	record  = length u32, crc32c u32 (of type and payload), type u8, payload; little endian
 *	head    = epoch u64, first seq u64, the kernel's boot id (16 bytes); the first record of a file
 *	source  = boot u64, next number u64, name: the publishers at the beginning of this file
 *	event   = seq u64, boot u64, number u64, sizes of source u8, topic u8, header u16, then source, topic,
 *	          header, body
 */
#ifndef BUSD_SEGMENT_H
#define BUSD_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "busd/eventlog.h"
#include "common/buf.h"

enum record_type { RECORD_HEAD = 1, RECORD_SOURCE = 2, RECORD_EVENT = 3 };

struct segment_head {
	struct position first; /* of its first event */
	uint8_t machine_boot[16];
};

struct segment_source {
	char name[SOURCE_NAME_MAX + 1];
	uint64_t boot, next;
};

/* One decoded record; strings and bytes are borrowed. */
struct record {
	enum record_type type;
	size_t size; /* of the whole record in the file */
	char event_source[SOURCE_NAME_MAX + 1];
	union {
		struct segment_head head;
		struct segment_source source;
		struct logged_event event;
	};
};

int record_pack_head(struct buf *out, const struct segment_head *head);
int record_pack_source(struct buf *out, const struct segment_source *source);
int record_pack_event(struct buf *out, const struct logged_event *event);

enum record_verdict {
	RECORD_OK,
	RECORD_END,     /* nothing is left */
	RECORD_TORN,    /* the file ends inside the record: a write was cut short */
	RECORD_DAMAGED, /* it is all there and not what was written */
};
enum record_verdict record_read(struct record *record, const uint8_t *data, size_t size);
/* A record that was packed by this process just now: not checked again. */
void record_view(struct record *record, const uint8_t *data);

#endif
