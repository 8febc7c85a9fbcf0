#include "gdn/store/pages.h"

#include "gdn/store/coder.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct slot {
	struct page_hash hash;
	struct page_place place; /* chunk: NOTHING in a free slot */
	uint32_t use;            /* in which count of uses it was met last */
};

#define NOTHING UINT32_MAX
#define SLOTS_MIN 1024u

struct pages {
	uint8_t key[crypto_onetimeauth_KEYBYTES];
	struct slot *slots; /* open addressing, linear probing */
	size_t count, capacity;
	struct entries chunks;
	uint32_t *used; /* bytes of each chunk that the next image uses */
	uint32_t use;
};

_Static_assert(sizeof(struct page_hash) == crypto_onetimeauth_BYTES, "size of a page's hash");

static struct slot *new_slots(size_t capacity)
{
	struct slot *slots = reallocarray(NULL, capacity, sizeof(*slots));

	for (size_t i = 0; slots && i < capacity; i++)
		slots[i] = (struct slot){.place.chunk = NOTHING};
	return slots;
}

int pages_new(struct pages **out, const uint8_t *key)
{
	struct pages *pages = calloc(1, sizeof(*pages));

	if (!pages)
		return -ENOMEM;
	coder_derive(pages->key, key, "gosd page hash");
	pages->capacity = SLOTS_MIN;
	pages->slots = new_slots(pages->capacity);
	if (!pages->slots)
		return pages_free(pages), -ENOMEM;
	*out = pages;
	return 0;
}

struct pages *pages_free(struct pages *pages)
{
	if (!pages)
		return NULL;
	sodium_memzero(pages->key, sizeof(pages->key));
	if (pages->slots)
		sodium_memzero(pages->slots, pages->capacity * sizeof(*pages->slots));
	free(pages->slots);
	free(pages->used);
	entries_fini(&pages->chunks);
	free(pages);
	return NULL;
}

size_t pages_count(const struct pages *pages)
{
	return pages->count;
}

size_t pages_size(const struct pages *pages)
{
	return sizeof(*pages) + pages->capacity * sizeof(*pages->slots) +
	       pages->chunks.count * sizeof(*pages->used) +
	       pages->chunks.capacity * sizeof(*pages->chunks.at);
}

void pages_hash(const struct pages *pages, const uint8_t page[MEMORY_PAGE], struct page_hash *hash)
{
	crypto_onetimeauth(hash->bytes, page, MEMORY_PAGE, pages->key);
}

/* The slot of this hash, or the free one where it would be. */
static struct slot *find_slot(const struct pages *pages, const struct page_hash *hash)
{
	uint64_t first;
	size_t at;

	memcpy(&first, hash->bytes, sizeof(first));
	at = (size_t)first & (pages->capacity - 1);
	while (pages->slots[at].place.chunk != NOTHING &&
	       memcmp(&pages->slots[at].hash, hash, sizeof(*hash)) != 0)
		at = (at + 1) & (pages->capacity - 1);
	return &pages->slots[at];
}

bool pages_find(const struct pages *pages, const struct page_hash *hash, struct page_place *place)
{
	const struct slot *slot = find_slot(pages, hash);

	*place = slot->place;
	return slot->place.chunk != NOTHING;
}

static int grow_slots(struct pages *pages)
{
	struct slot *old = pages->slots, *slots = new_slots(2 * pages->capacity);
	size_t count = pages->capacity;

	if (!slots)
		return -ENOMEM;
	pages->slots = slots;
	pages->capacity *= 2;
	for (size_t i = 0; i < count; i++)
		if (old[i].place.chunk != NOTHING)
			*find_slot(pages, &old[i].hash) = old[i];
	sodium_memzero(old, count * sizeof(*old));
	free(old);
	return 0;
}

int pages_add(struct pages *pages, const struct page_hash *hash, const struct page_place *place)
{
	struct slot *slot;

	if (3 * (pages->count + 1) > 2 * pages->capacity && grow_slots(pages) < 0)
		return -ENOMEM;
	slot = find_slot(pages, hash);
	if (slot->place.chunk != NOTHING)
		return 0;
	*slot = (struct slot){.hash = *hash, .place = *place};
	pages->count++;
	return 1;
}

int pages_set_chunks(struct pages *pages, struct entries *chunks)
{
	uint32_t *used = calloc(chunks->count + 1, sizeof(*used));

	if (!used)
		return -ENOMEM;
	free(pages->used);
	pages->used = used;
	entries_fini(&pages->chunks);
	pages->chunks = *chunks;
	*chunks = (struct entries){0};
	return 0;
}

const struct entries *pages_chunks(const struct pages *pages)
{
	return &pages->chunks;
}

void pages_begin_use(struct pages *pages)
{
	memset(pages->used, 0, pages->chunks.count * sizeof(*pages->used));
	pages->use++;
}

void pages_use(struct pages *pages, const struct page_hash *hash)
{
	struct slot *slot = find_slot(pages, hash);

	if (slot->place.chunk == NOTHING || slot->use == pages->use)
		return;
	slot->use = pages->use;
	pages->used[slot->place.chunk] += MEMORY_PAGE;
}

bool pages_is_sparse(const struct pages *pages, uint32_t chunk)
{
	return 5 * (uint64_t)pages->used[chunk] < 2 * (uint64_t)pages->chunks.at[chunk].plain;
}
