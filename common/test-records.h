/* Records of members as an administrator would write them, for tests. */
#ifndef COMMON_TEST_RECORDS_H
#define COMMON_TEST_RECORDS_H

#include <stdio.h>
#include <string.h>

#include "common/keys.h"
#include "common/members.h"

/* Of a node with a key of its own. */
static inline struct msg_member_record make_record(const char *name, uint64_t serial)
{
	struct msg_member_record record = {.port = 7400, .serial = serial};
	struct node_keys keys;

	keys_generate(&keys);
	memcpy(record.public_key, keys.public_key, KEY_SIZE);
	snprintf(record.name, sizeof(record.name), "%s", name);
	snprintf(record.site, sizeof(record.site), "main");
	snprintf(record.address, sizeof(record.address), "10.77.0.4");
	return record;
}

#endif
