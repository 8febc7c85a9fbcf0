#include "busd/segment.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "busd/crc32c.h"

#define PREFIX 8 /* length and checksum */
#define RECORD_MAX                                                                                 \
	(1 + 28 + SOURCE_NAME_MAX + EVENTLOG_TOPIC_MAX + EVENTLOG_HEADER_MAX + EVENTLOG_BODY_MAX)

static uint8_t *put_u64(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put_u32(uint8_t *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
	return at + sizeof(value);
}

static uint8_t *put_bytes(uint8_t *at, const void *data, size_t size)
{
	if (size)
		memcpy(at, data, size);
	return at + size;
}

static uint64_t get_u64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

static uint32_t get_u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

/* Room for a record of that payload; returns where the payload goes, and record_end() seals it. */
static uint8_t *record_begin(struct buf *out, enum record_type type, size_t payload)
{
	uint8_t *at = buf_reserve(out, PREFIX + 1 + payload);

	if (!at)
		return NULL;
	at[PREFIX] = (uint8_t)type;
	return at + PREFIX + 1;
}

static void record_end(struct buf *out, const uint8_t *end)
{
	uint8_t *start = out->data + out->size;
	size_t length = (size_t)(end - start) - PREFIX;

	put_u32(start, (uint32_t)length);
	put_u32(start + 4, crc32c(0, start + PREFIX, length));
	out->size += PREFIX + length;
}

int record_pack_head(struct buf *out, const struct segment_head *head)
{
	uint8_t *at = record_begin(out, RECORD_HEAD, 32);

	if (!at)
		return -ENOMEM;
	at = put_u64(at, head->first.epoch);
	at = put_u64(at, head->first.seq);
	at = put_bytes(at, head->machine_boot, sizeof(head->machine_boot));
	record_end(out, at);
	return 0;
}

int record_pack_source(struct buf *out, const struct segment_source *source)
{
	size_t length = strlen(source->name);
	uint8_t *at = record_begin(out, RECORD_SOURCE, 16 + length);

	if (!at)
		return -ENOMEM;
	at = put_u64(at, source->boot);
	at = put_u64(at, source->next);
	at = put_bytes(at, source->name, length);
	record_end(out, at);
	return 0;
}

int record_pack_event(struct buf *out, const struct logged_event *event)
{
	size_t name = strlen(event->source);
	uint8_t *at;

	if (name > SOURCE_NAME_MAX || event->topic_size > EVENTLOG_TOPIC_MAX ||
	    event->header_size > EVENTLOG_HEADER_MAX || event->body_size > EVENTLOG_BODY_MAX)
		return -EMSGSIZE;
	at = record_begin(out, RECORD_EVENT,
	    28 + name + event->topic_size + event->header_size + event->body_size);
	if (!at)
		return -ENOMEM;
	at = put_u64(at, event->seq);
	at = put_u64(at, event->boot);
	at = put_u64(at, event->number);
	*at++ = (uint8_t)name;
	*at++ = (uint8_t)event->topic_size;
	*at++ = (uint8_t)(event->header_size & 0xff);
	*at++ = (uint8_t)(event->header_size >> 8);
	at = put_bytes(at, event->source, name);
	at = put_bytes(at, event->topic, event->topic_size);
	at = put_bytes(at, event->header, event->header_size);
	at = put_bytes(at, event->body, event->body_size);
	record_end(out, at);
	return 0;
}

static bool read_head(struct segment_head *head, const uint8_t *at, size_t size)
{
	if (size != 32)
		return false;
	head->first = (struct position){get_u64(at), get_u64(at + 8)};
	memcpy(head->machine_boot, at + 16, sizeof(head->machine_boot));
	return true;
}

static bool read_source(struct segment_source *source, const uint8_t *at, size_t size)
{
	if (size < 16 || size - 16 > SOURCE_NAME_MAX)
		return false;
	source->boot = get_u64(at);
	source->next = get_u64(at + 8);
	memcpy(source->name, at + 16, size - 16);
	source->name[size - 16] = '\0';
	return true;
}

static bool read_event(struct record *record, const uint8_t *at, size_t size)
{
	struct logged_event *event = &record->event;
	size_t name;

	if (size < 28)
		return false;
	name = at[24];
	event->topic_size = at[25];
	event->header_size = (size_t)at[26] | (size_t)at[27] << 8;
	if (name > SOURCE_NAME_MAX || size - 28 < name + event->topic_size + event->header_size)
		return false;
	event->seq = get_u64(at);
	event->boot = get_u64(at + 8);
	event->number = get_u64(at + 16);
	memcpy(record->event_source, at + 28, name);
	record->event_source[name] = '\0';
	event->source = record->event_source;
	event->topic = at + 28 + name;
	event->header = (const uint8_t *)event->topic + event->topic_size;
	event->body = (const uint8_t *)event->header + event->header_size;
	event->body_size = size - 28 - name - event->topic_size - event->header_size;
	return true;
}

static bool read_payload(struct record *record, const uint8_t *at, size_t size)
{
	switch (record->type) {
	case RECORD_HEAD:
		return read_head(&record->head, at, size);
	case RECORD_SOURCE:
		return read_source(&record->source, at, size);
	case RECORD_EVENT:
		return read_event(record, at, size);
	}
	return false;
}

enum record_verdict record_read(struct record *record, const uint8_t *data, size_t size)
{
	uint32_t length;

	if (size == 0)
		return RECORD_END;
	if (size < PREFIX)
		return RECORD_TORN;
	length = get_u32(data);
	if (length < 1 || length > RECORD_MAX)
		return RECORD_DAMAGED;
	if (length > size - PREFIX)
		return RECORD_TORN;
	if (crc32c(0, data + PREFIX, length) != get_u32(data + 4))
		return RECORD_DAMAGED;
	record->type = (enum record_type)data[PREFIX];
	record->size = PREFIX + length;
	return read_payload(record, data + PREFIX + 1, length - 1) ? RECORD_OK : RECORD_DAMAGED;
}

void record_view(struct record *record, const uint8_t *data)
{
	uint32_t length = get_u32(data);

	record->type = (enum record_type)data[PREFIX];
	record->size = PREFIX + length;
	(void)read_payload(record, data + PREFIX + 1, length - 1);
}
