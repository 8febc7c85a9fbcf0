#include "metad/etcd.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metad/base64.h"

/* --- requests --- */

static int put_key(struct buf *json, const char *name, const char *key, size_t size)
{
	int r = buf_printf(json, "\"%s\":\"", name);

	if (r == 0)
		r = base64_put(json, key, size);
	return r == 0 ? buf_append(json, "\"", 1) : r;
}

/* {"key":KEY of this space */
static int open_key(struct buf *json, const char *prefix, const char *space, const char *key)
{
	char text[ETCD_KEY_MAX + 1];
	int size = snprintf(text, sizeof(text), "%s%s%s", prefix, space, key);
	int r = buf_append(json, "{", 1);

	return r == 0 ? put_key(json, "key", text, (size_t)size) : r;
}

void etcd_nonce_text(char text[33], const struct store_nonce *nonce)
{
	snprintf(text, 33, "%016" PRIx64 "%016" PRIx64, nonce->word[0], nonce->word[1]);
}

/* Keys are printable, so 0x7f sorts behind all that begin with the prefix; a zero makes the next key. */
int etcd_put_range(struct buf *json, const char *prefix, const struct etcd_range *range)
{
	char text[ETCD_KEY_MAX + 2];
	int size = snprintf(text, sizeof(text), "%s%s%s", prefix, range->space, range->from);
	int r = buf_append(json, "{", 1);

	if (r == 0)
		r = put_key(json, "key", text, (size_t)size + range->behind);
	if (r == 0 && range->to) {
		size = snprintf(text, sizeof(text), "%s%s%s\x7f", prefix, range->space, range->to);
		r = buf_append(json, ",", 1);
		if (r == 0)
			r = put_key(json, "range_end", text, (size_t)size);
	}
	if (r == 0 && range->limit)
		r = buf_printf(json, ",\"limit\":\"%zu\"", range->limit);
	if (r == 0 && range->keys_only)
		r = buf_printf(json, ",\"keys_only\":true");
	if (r == 0 && range->oldest_first)
		r = buf_printf(json, ",\"sort_target\":\"MOD\",\"sort_order\":\"ASCEND\"");
	return r == 0 ? buf_append(json, "}", 1) : r;
}

/* The key of this space has this revision; 0: it is absent. */
static int put_compare(
    struct buf *json, const char *prefix, const char *space, const char *key, uint64_t revision)
{
	int r = open_key(json, prefix, space, key);

	if (revision > INT64_MAX)
		revision = INT64_MAX; /* never reached */
	return r == 0 ? buf_printf(json,
			    ",\"target\":\"MOD\",\"result\":\"EQUAL\",\"mod_revision\":\"%" PRIu64
			    "\"}",
			    revision)
		      : r;
}

/* The floor lies below this revision.  etcd's comparison of a value fails where there is none. */
static int put_floor_below(struct buf *json, const char *prefix, uint64_t revision)
{
	char text[17];
	int r = open_key(json, prefix, "floor", "");

	snprintf(text, sizeof(text), "%016" PRIx64, revision);
	if (r == 0)
		r = buf_printf(json, ",\"target\":\"VALUE\",\"result\":\"LESS\",");
	if (r == 0)
		r = put_key(json, "value", text, 16);
	return r == 0 ? buf_append(json, "}", 1) : r;
}

static int put_put(struct buf *json, const char *prefix, const char *space, const char *key,
    const void *value, size_t size)
{
	int r = buf_printf(json, "{\"request_put\":");

	if (r == 0)
		r = open_key(json, prefix, space, key);
	if (r == 0)
		r = buf_append(json, ",", 1);
	if (r == 0)
		r = put_key(json, "value", value, size);
	return r == 0 ? buf_append(json, "}}", 2) : r;
}

static int put_floor(struct buf *json, const char *prefix, uint64_t revision)
{
	char text[17];

	snprintf(text, sizeof(text), "%016" PRIx64, revision);
	return put_put(json, prefix, "floor", "", text, 16);
}

static int put_delete(struct buf *json, const char *prefix, const char *space, const char *key)
{
	int r = buf_printf(json, "{\"request_delete_range\":");

	if (r == 0)
		r = open_key(json, prefix, space, key);
	return r == 0 ? buf_append(json, "}}", 2) : r;
}

static int put_read(struct buf *json, const char *prefix, const char *space, const char *key)
{
	const struct etcd_range range = {.space = space, .from = key};
	int r = buf_printf(json, "{\"request_range\":");

	if (r == 0)
		r = etcd_put_range(json, prefix, &range);
	return r == 0 ? buf_append(json, "}", 1) : r;
}

static int put_compares(struct buf *json, const char *prefix, const struct store_op *ops,
    size_t count, const char *nonce, uint64_t floor)
{
	int r = buf_printf(json, "{\"compare\":[");

	if (r == 0)
		r = put_compare(json, prefix, "nonce/", nonce, 0);
	if (r == 0)
		r = buf_append(json, ",", 1);
	if (r == 0)
		r = put_floor_below(json, prefix, floor + 1);
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (ops[i].expected == STORE_ANY)
			continue;
		r = buf_append(json, ",", 1);
		if (r == 0)
			r = put_compare(json, prefix, "fact/", ops[i].key, ops[i].expected);
	}
	return r;
}

static int put_write(struct buf *json, const char *prefix, const struct store_op *op)
{
	int r = op->kind == STORE_CHECK ? 0 : buf_append(json, ",", 1);

	if (r == 0 && op->kind == STORE_PUT)
		r = put_put(json, prefix, "fact/", op->key, op->value, op->size);
	if (r == 0 && op->kind == STORE_DELETE)
		r = put_delete(json, prefix, "fact/", op->key);
	return r;
}

static int put_last(struct buf *json, const char *prefix, const struct store_op *ops, size_t count)
{
	_cleanup_buf_ struct buf keys = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < count; i++) {
		if (ops[i].kind != STORE_CHECK)
			r = buf_printf(&keys, "%s\n", ops[i].key);
	}
	return r == 0 ? put_put(json, prefix, "last", "", keys.data, keys.size) : r;
}

static int put_writes(struct buf *json, const char *prefix, const struct store_op *ops,
    size_t count, const char *nonce)
{
	int r = buf_printf(json, "],\"success\":[");

	if (r == 0)
		r = put_put(json, prefix, "nonce/", nonce, "", 0);
	if (r == 0)
		r = buf_append(json, ",", 1);
	if (r == 0)
		r = put_last(json, prefix, ops, count);
	for (size_t i = 0; r == 0 && i < count; i++)
		r = put_write(json, prefix, &ops[i]);
	return r;
}

static int put_reads(struct buf *json, const char *prefix, const struct store_op *ops, size_t count,
    const char *nonce)
{
	int r = buf_printf(json, "],\"failure\":[");

	if (r == 0)
		r = put_read(json, prefix, "nonce/", nonce);
	if (r == 0)
		r = buf_append(json, ",", 1);
	if (r == 0)
		r = put_read(json, prefix, "floor", "");
	for (size_t i = 0; r == 0 && i < count; i++) {
		const struct etcd_range range = {
		    .space = "fact/", .from = ops[i].key, .keys_only = true};

		if (ops[i].expected == STORE_ANY)
			continue;
		r = buf_printf(json, ",{\"request_range\":");
		if (r == 0)
			r = etcd_put_range(json, prefix, &range);
		if (r == 0)
			r = buf_append(json, "}", 1);
	}
	return r == 0 ? buf_append(json, "]}", 2) : r;
}

int etcd_put_txn(struct buf *json, const char *prefix, const struct store_op *ops, size_t count,
    const struct store_nonce *nonce, uint64_t floor)
{
	char text[33];
	int r;

	etcd_nonce_text(text, nonce);
	r = put_compares(json, prefix, ops, count, text, floor);
	if (r == 0)
		r = put_writes(json, prefix, ops, count, text);
	return r == 0 ? put_reads(json, prefix, ops, count, text) : r;
}

int etcd_put_void(struct buf *json, const char *prefix, const struct store_nonce *nonce,
    uint64_t floor, size_t conflict, uint64_t version)
{
	char text[33], why[48];
	int r, size = snprintf(why, sizeof(why), "%zu %" PRIu64, conflict, version);

	etcd_nonce_text(text, nonce);
	r = put_compares(json, prefix, NULL, 0, text, floor);
	if (r == 0)
		r = buf_printf(json, "],\"success\":[");
	if (r == 0)
		r = put_put(json, prefix, "nonce/", text, why, (size_t)size);
	return r == 0 ? put_reads(json, prefix, NULL, 0, text) : r;
}

int etcd_put_init(struct buf *json, const char *prefix)
{
	int r = buf_printf(json, "{\"compare\":[");

	if (r == 0)
		r = put_compare(json, prefix, "floor", "", 0);
	if (r == 0)
		r = buf_printf(json, "],\"success\":[");
	if (r == 0)
		r = put_floor(json, prefix, 0);
	return r == 0 ? buf_printf(json, "]}") : r;
}

/* Whole keys here, as they were read. */
int etcd_put_prune(struct buf *json, const char *prefix, char keys[][ETCD_KEY_MAX + 1],
    size_t count, uint64_t revision)
{
	int r = buf_printf(json, "{\"compare\":[");

	if (r == 0)
		r = put_floor_below(json, prefix, revision);
	if (r == 0)
		r = buf_printf(json, "],\"success\":[");
	if (r == 0)
		r = put_floor(json, prefix, revision);
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = buf_append(json, ",", 1);
		if (r == 0)
			r = put_delete(json, "", "", keys[i]);
	}
	return r == 0 ? buf_printf(json, "]}") : r;
}

int etcd_put_watch(struct buf *json, const char *prefix, uint64_t from)
{
	int r = buf_printf(json, "{\"create_request\":");

	if (r == 0)
		r = open_key(json, prefix, "last", "");
	if (r == 0 && from)
		r = buf_printf(json, ",\"start_revision\":\"%" PRIu64 "\"", from);
	return r == 0 ? buf_printf(json, ",\"fragment\":true,\"filters\":[\"NODELETE\"]}}") : r;
}

/* --- answers --- */

static json_t *parse(const char *json, size_t size)
{
	json_t *root = json_loadb(json ? json : "", size, JSON_REJECT_DUPLICATES, NULL);

	if (json_is_object(root))
		return root;
	json_decref(root);
	return NULL;
}

/* 64 bits are text in the JSON of protobuf, since JavaScript has 53. */
static int take_number(uint64_t *out, const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_string_value(value);
	char *end;

	*out = 0;
	if (!value)
		return 0;
	if (!text || text[0] < '0' || text[0] > '9')
		return -EBADMSG;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return *end || errno || strlen(text) != json_string_length(value) ? -EBADMSG : 0;
}

static int take_bool(bool *out, const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	*out = json_is_true(value);
	return !value || json_is_boolean(value) ? 0 : -EBADMSG;
}

/* A list that is left out is empty: NULL. */
static int take_list(const json_t **out, const json_t *object, const char *name, size_t max)
{
	*out = json_object_get(object, name);
	return !*out || (json_is_array(*out) && json_array_size(*out) <= max) ? 0 : -EBADMSG;
}

static int take_revision(uint64_t *out, const json_t *object)
{
	const json_t *header = json_object_get(object, "header");
	int r = json_is_object(header) ? take_number(out, header, "revision") : -EBADMSG;

	return r == 0 && *out == 0 ? -EBADMSG : r;
}

int etcd_take_revision(uint64_t *revision, const char *json, size_t size)
{
	json_t *root = parse(json, size);
	int r = root ? take_revision(revision, root) : -EBADMSG;

	json_decref(root);
	return r;
}

/* Bytes that are left out are none. */
static int take_bytes(
    struct buf *bytes, size_t *at, size_t *size, const json_t *object, const char *name, size_t max)
{
	const json_t *value = json_object_get(object, name);
	int r;

	*at = bytes->size;
	*size = 0;
	if (value && !json_is_string(value))
		return -EBADMSG;
	r = value ? base64_take(bytes, json_string_value(value), json_string_length(value), max)
		  : 0;
	*size = bytes->size - *at;
	if (r == 0)
		r = buf_append(bytes, "", 1);
	return r == -EMSGSIZE ? -EBADMSG : r;
}

static int take_entry(struct etcd_page *page, const json_t *kv)
{
	struct etcd_entry *entry = &page->entry[page->count];
	int r = json_is_object(kv) ? take_number(&entry->revision, kv, "mod_revision") : -EBADMSG;

	if (r == 0)
		r = take_bytes(
		    &page->bytes, &entry->key, &entry->key_size, kv, "key", ETCD_KEY_MAX);
	if (r == 0)
		r = take_bytes(
		    &page->bytes, &entry->value, &entry->value_size, kv, "value", STORE_VALUE_MAX);
	if (r == 0 && (entry->revision == 0 || entry->key_size == 0 ||
			  strlen((char *)page->bytes.data + entry->key) != entry->key_size))
		r = -EBADMSG;
	page->count++;
	return r;
}

static int take_entries(struct etcd_page *page, const json_t *object)
{
	const json_t *kvs;
	int r = take_list(&kvs, object, "kvs", STORE_PAGE_MAX);

	for (size_t i = 0; r == 0 && i < json_array_size(kvs); i++)
		r = take_entry(page, json_array_get(kvs, i));
	if (r == 0)
		r = take_number(&page->total, object, "count");
	return r == 0 ? take_bool(&page->more, object, "more") : r;
}

int etcd_take_page(struct etcd_page *page, const char *json, size_t size)
{
	json_t *root = parse(json, size);
	int r = root ? take_revision(&page->revision, root) : -EBADMSG;

	if (r == 0)
		r = take_entries(page, root);
	json_decref(root);
	return r;
}

void etcd_page_fini(struct etcd_page *page)
{
	buf_fini(&page->bytes);
}

const char *etcd_entry_key(const struct etcd_page *page, size_t index)
{
	return (const char *)page->bytes.data + page->entry[index].key;
}

/* The read of one key within a transaction: its revision, 0 when it is absent. */
static int take_read(uint64_t *revision, struct etcd_page *page, const json_t *response)
{
	const json_t *range = json_object_get(response, "response_range");
	int r;

	page->count = 0;
	buf_clear(&page->bytes);
	r = json_is_object(range) ? take_entries(page, range) : -EBADMSG;
	*revision = page->count ? page->entry[0].revision : 0;
	return r == 0 && page->count > 1 ? -EBADMSG : r;
}

static int take_floor(struct etcd_outcome *outcome, const struct etcd_page *page)
{
	const char *text = (const char *)page->bytes.data;
	char *end;

	outcome->has_floor = page->count == 1;
	if (!outcome->has_floor)
		return 0;
	text += page->entry[0].value;
	outcome->floor = strtoull(text, &end, 16);
	return page->entry[0].value_size == 16 && end == text + 16 ? 0 : -EBADMSG;
}

static int take_nonce(struct etcd_outcome *outcome, const struct etcd_page *page)
{
	const char *text = (const char *)page->bytes.data;
	char end;

	outcome->void_nonce = page->count == 1 && page->entry[0].value_size > 0;
	if (!outcome->void_nonce)
		return 0;
	return sscanf(text + page->entry[0].value, "%2" SCNu64 " %20" SCNu64 "%c",
		   &outcome->void_index, &outcome->void_version, &end) == 2 &&
		       outcome->void_index < STORE_OPS_MAX
		   ? 0
		   : -EBADMSG;
}

static int take_reads(struct etcd_outcome *outcome, const struct store_op *ops, size_t count,
    const json_t *responses, struct etcd_page *page)
{
	uint64_t floor_revision;
	size_t next = 2;
	int r = take_read(&outcome->nonce, page, json_array_get(responses, 0));

	if (r == 0)
		r = take_nonce(outcome, page);
	if (r == 0)
		r = take_read(&floor_revision, page, json_array_get(responses, 1));
	if (r == 0)
		r = take_floor(outcome, page);
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (ops[i].expected != STORE_ANY)
			r = take_read(&outcome->facts[i], page, json_array_get(responses, next++));
	}
	return r;
}

int etcd_take_outcome(struct etcd_outcome *outcome, const struct store_op *ops, size_t count,
    const char *json, size_t size)
{
	json_t *root = parse(json, size);
	struct etcd_page *page = calloc(1, sizeof(*page));
	const json_t *responses;
	int r = !page ? -ENOMEM : root ? take_revision(&outcome->revision, root) : -EBADMSG;

	if (r == 0)
		r = take_bool(&outcome->succeeded, root, "succeeded");
	if (r == 0)
		r = take_list(&responses, root, "responses", STORE_OPS_MAX + 2);
	if (r == 0 && !outcome->succeeded)
		r = take_reads(outcome, ops, count, responses, page);
	if (page)
		etcd_page_fini(page);
	free(page);
	json_decref(root);
	return r;
}

int etcd_take_status(struct etcd_status *status, const char *json, size_t size)
{
	json_t *root = parse(json, size);
	const json_t *header = json_object_get(root, "header");
	int r =
	    json_is_object(header) ? take_number(&status->member, header, "member_id") : -EBADMSG;

	if (r == 0)
		r = take_number(&status->leader, root, "leader");
	json_decref(root);
	return r;
}

/* A name is shown to people: what is not printable is not. */
static void take_name(struct etcd_member *member, const json_t *object)
{
	const char *name = json_string_value(json_object_get(object, "name"));
	size_t n = 0;

	for (; name && n < ETCD_NAME_MAX && name[n]; n++)
		member->name[n] = name[n] > ' ' && name[n] < 0x7f ? name[n] : '?';
	if (n == 0) /* not yet started */
		n = (size_t)snprintf(member->name, sizeof(member->name), "%" PRIx64, member->id);
	member->name[n] = 0;
}

int etcd_take_members(struct etcd_members *members, const char *json, size_t size)
{
	json_t *root = parse(json, size);
	const json_t *list;
	int r = root ? take_list(&list, root, "members", ETCD_MEMBERS_MAX) : -EBADMSG;

	members->count = 0;
	for (size_t i = 0; r == 0 && i < json_array_size(list); i++) {
		const json_t *object = json_array_get(list, i);
		struct etcd_member *member = &members->member[members->count++];

		r = json_is_object(object) ? take_number(&member->id, object, "ID") : -EBADMSG;
		if (r == 0)
			take_name(member, object);
	}
	json_decref(root);
	return r;
}

static int take_event(struct etcd_news *news, struct etcd_page *page, const json_t *event)
{
	const json_t *kv = json_object_get(event, "kv");
	int r;

	page->count = 0;
	buf_clear(&page->bytes);
	r = kv ? take_entry(page, kv) : -EBADMSG;
	if (r == 0)
		news->event(news->arg, page->entry[0].revision,
		    (char *)page->bytes.data + page->entry[0].value);
	return r;
}

static int take_events(struct etcd_news *news, const json_t *result)
{
	struct etcd_page *page = calloc(1, sizeof(*page));
	const json_t *events;
	int r = page ? take_list(&events, result, "events", SIZE_MAX) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < json_array_size(events); i++)
		r = take_event(news, page, json_array_get(events, i));
	if (page)
		etcd_page_fini(page);
	free(page);
	return r;
}

int etcd_take_news(struct etcd_news *news, const char *json, size_t size)
{
	json_t *root = parse(json, size);
	const json_t *result = json_object_get(root, "result");
	uint64_t compacted = 0;
	int r = root ? 0 : -EBADMSG;

	news->ended = news->compacted = news->created = false;
	if (root && json_object_get(root, "error")) {
		news->ended = true;
	} else if (r == 0) {
		r = json_is_object(result) ? take_number(&compacted, result, "compact_revision")
					   : -EBADMSG;
		if (r == 0)
			r = take_bool(&news->ended, result, "canceled");
		if (r == 0)
			r = take_bool(&news->created, result, "created");
		if (r == 0 && !news->ended)
			r = take_revision(&news->revision, result);
		if (r == 0)
			r = take_events(news, result);
		news->compacted = compacted > 0;
	}
	json_decref(root);
	return r;
}

int etcd_take_error(char words[200], const char *json, size_t size)
{
	json_t *root = parse(json, size);
	const json_t *code = json_object_get(root, "code");
	const char *text = json_string_value(json_object_get(root, "message"));
	int number = json_is_integer(code) ? (int)(json_integer_value(code) & 0xff) : 0;

	snprintf(words, 200, "%s", text ? text : "no reason given");
	for (char *c = words; *c; c++)
		*c = *c >= ' ' && *c < 0x7f ? *c : '?';
	json_decref(root);
	return number;
}
