/* libFuzzer over the answers of etcd's gateway: what is taken keeps every promise that the store builds on. */
#include <assert.h>
#include <string.h>

#include "metad/etcd.h"

static const struct store_op ops[] = {{"a", 1, STORE_PUT, "x", 1},
    {"b", STORE_ANY, STORE_DELETE, NULL, 0}, {"c", 0, STORE_CHECK, NULL, 0}};

static void take_event(void *arg, uint64_t revision, char *keys)
{
	(void)arg;
	assert(revision > 0 && strlen(keys) <= STORE_VALUE_MAX);
}

static void take_page(const char *json, size_t size)
{
	struct etcd_page page = {0};

	if (etcd_take_page(&page, json, size) == 0) {
		assert(page.revision > 0 && page.count <= STORE_PAGE_MAX);
		for (size_t i = 0; i < page.count; i++) {
			const struct etcd_entry *entry = &page.entry[i];

			assert(entry->revision > 0 && entry->value_size <= STORE_VALUE_MAX);
			assert(entry->value + entry->value_size < page.bytes.size);
			assert(strlen(etcd_entry_key(&page, i)) == entry->key_size);
		}
	}
	etcd_page_fini(&page);
}

static void take_members(const char *json, size_t size)
{
	struct etcd_members members;

	if (etcd_take_members(&members, json, size) == 0) {
		for (size_t i = 0; i < members.count; i++)
			assert(strlen(members.member[i].name) > 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct etcd_news news = {.event = take_event};
	struct etcd_outcome outcome = {0};
	struct etcd_status status;
	const char *json = (const char *)data;
	char words[200];
	uint64_t revision;

	take_page(json, size);
	take_members(json, size);
	(void)etcd_take_news(&news, json, size);
	if (etcd_take_outcome(&outcome, ops, 3, json, size) == 0)
		assert(outcome.revision > 0 && outcome.void_index < STORE_OPS_MAX);
	(void)etcd_take_status(&status, json, size);
	if (etcd_take_revision(&revision, json, size) == 0)
		assert(revision > 0);
	(void)etcd_take_error(words, json, size);
	return 0;
}
