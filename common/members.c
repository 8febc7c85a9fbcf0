#include "common/members.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"

static const char purpose[] = "depsys member 1"; /* with its zero byte */

struct signed_text {
	uint8_t bytes[sizeof(purpose) + MSG_MEMBER_RECORD_SIZE_MAX];
	size_t size;
};

_Static_assert(ADMIN_SECRET_SIZE == crypto_sign_SECRETKEYBYTES, "Ed25519");
_Static_assert(KEY_SIZE == crypto_sign_PUBLICKEYBYTES, "Ed25519");
_Static_assert(MSG_MEMBER_RECORD_SIZE_MAX <= 512, "the limit in proto/common.toml");

static void signed_text(struct signed_text *text, const void *record, size_t size)
{
	memcpy(text->bytes, purpose, sizeof(purpose));
	memcpy(text->bytes + sizeof(purpose), record, size);
	text->size = sizeof(purpose) + size;
}

/* A key of low order makes every pair's secret zero. */
static bool key_is_usable(const uint8_t key[KEY_SIZE])
{
	static const uint8_t one[KEY_SIZE] = {1};
	uint8_t product[KEY_SIZE];

	return crypto_scalarmult(product, one, key) == 0;
}

/* NULL, or what no node's record may say. */
static const char *fault_of(const struct msg_member_record *record)
{
	if (!config_name_is_valid(record->name))
		return "name: 1 to 63 of a-z 0-9 -";
	if (!config_name_is_valid(record->site))
		return "site: 1 to 63 of a-z 0-9 -";
	if (record->has_cluster && !config_name_is_valid(record->cluster))
		return "cluster: 1 to 63 of a-z 0-9 -";
	if (!config_address_is_valid(record->address))
		return "address: not numeric";
	if (record->port > 65535 - PORT_RANGE)
		return "port: too high for the range behind it";
	if (!key_is_usable(record->public_key))
		return "public_key: of low order";
	if (record->has_old_key && memcmp(record->old_key, record->public_key, KEY_SIZE) == 0)
		return "old_key: the same as the present one";
	return NULL;
}

int members_sign(const struct msg_member_record *record, const uint8_t secret[ADMIN_SECRET_SIZE],
    struct buf *out)
{
	_cleanup_buf_ struct buf body = {0};
	struct msg_member_signed message;
	struct signed_text text;
	int r = fault_of(record) ? -EINVAL : msg_member_record_pack(record, &body);

	if (r < 0)
		return r;
	signed_text(&text, body.data, body.size);
	crypto_sign_detached(message.signature, NULL, text.bytes, text.size, secret);
	message.record = body.data;
	message.record_size = body.size;
	return msg_member_signed_pack(&message, out);
}

int members_open(struct member_record *record, const void *bytes, size_t size,
    const uint8_t admin[KEY_SIZE], char why[MEMBERS_WHY])
{
	struct msg_member_signed message;
	struct mpr_error error = {0};
	struct signed_text text;
	const char *fault;

	if (size > sizeof(record->bytes) ||
	    msg_member_signed_unpack(&message, bytes, size, &error) < 0 ||
	    msg_member_record_unpack(&record->said, message.record, message.record_size, &error) <
		0) {
		snprintf(why, MEMBERS_WHY, "not a record: %.120s",
		    error.text[0] ? error.text : "too long");
		return -EBADMSG;
	}
	signed_text(&text, message.record, message.record_size);
	if (crypto_sign_verify_detached(message.signature, text.bytes, text.size, admin) != 0) {
		snprintf(why, MEMBERS_WHY, "record of %s: not signed by the administrator",
		    config_name_is_valid(record->said.name) ? record->said.name : "?");
		return -EKEYREJECTED;
	}
	fault = fault_of(&record->said);
	if (fault) {
		snprintf(why, MEMBERS_WHY, "record of a node: %s", fault);
		return -EBADMSG;
	}
	memcpy(record->bytes, bytes, size);
	record->size = size;
	return 0;
}

static struct member_record *find(struct members *members, const char *name)
{
	for (size_t i = 0; i < members->count; i++)
		if (strcmp(members->record[i].said.name, name) == 0)
			return &members->record[i];
	return NULL;
}

const struct member_record *members_by_name(const struct members *members, const char *name)
{
	return find((struct members *)members, name);
}

/* Of two that the administrator signed with one serial all must choose the same: that with the higher bytes. */
static int compare(const struct member_record *a, const struct member_record *b)
{
	if (a->said.serial != b->said.serial)
		return a->said.serial < b->said.serial ? -1 : 1;
	if (a->size != b->size)
		return a->size < b->size ? -1 : 1;
	return memcmp(a->bytes, b->bytes, a->size);
}

static uint64_t hash_of(const struct member_record *record)
{
	uint64_t hash;

	crypto_generichash((uint8_t *)&hash, sizeof(hash), record->bytes, record->size, NULL, 0);
	return hash;
}

static void count_refusal(struct members_counters *counters, int r)
{
	counters->malformed += r == -EBADMSG;
	counters->forged += r == -EKEYREJECTED;
	counters->foreign += r == -EXDEV;
}

int members_take(struct members *members, const void *bytes, size_t size,
    const struct member_record **out, char why[MEMBERS_WHY])
{
	struct member_record record, *known;
	int r = members_open(&record, bytes, size, members->admin, why);

	if (r == 0 && record.said.has_cluster &&
	    strcmp(record.said.cluster, members->cluster) != 0) {
		snprintf(why, MEMBERS_WHY, "record of %.40s: of cluster %.50s", record.said.name,
		    record.said.cluster);
		r = -EXDEV;
	}
	if (r < 0) {
		count_refusal(&members->counters, r);
		return r;
	}
	known = find(members, record.said.name);
	r = known ? compare(&record, known) : 1;
	if (r == 0)
		return 0;
	if (r < 0) {
		snprintf(why, MEMBERS_WHY, "record of %s: serial %llu, and %llu is known",
		    record.said.name, (unsigned long long)record.said.serial,
		    (unsigned long long)known->said.serial);
		members->counters.stale++;
		return -ESTALE;
	}
	if (!known && members->count == MEMBERS_MAX) {
		snprintf(why, MEMBERS_WHY, "record of %s: there are %d already", record.said.name,
		    MEMBERS_MAX);
		return -ENOSPC;
	}
	if (known)
		members->digest ^= hash_of(known);
	else
		known = &members->record[members->count++];
	*known = record;
	members->digest ^= hash_of(known);
	members->counters.taken++;
	*out = known;
	return 1;
}

bool member_is_in(const struct msg_member_record *record, uint64_t now_s)
{
	return record->state == MSG_COMMON_MEMBER_STATE_ALLOWED && now_s >= record->not_before;
}

bool member_old_is_in(const struct msg_member_record *record, uint64_t now_s)
{
	return record->state == MSG_COMMON_MEMBER_STATE_ALLOWED && record->has_old_key &&
	       now_s < record->old_until;
}

uint64_t members_next_change(const struct members *members, uint64_t now_s)
{
	uint64_t next = 0;

	for (size_t i = 0; i < members->count; i++) {
		const struct msg_member_record *record = &members->record[i].said;
		const uint64_t times[] = {
		    record->not_before, record->has_old_key ? record->old_until : 0};

		for (size_t k = 0; k < 2; k++)
			if (times[k] > now_s && (!next || times[k] < next))
				next = times[k];
	}
	return next;
}
