#include "ckptd/catalogue.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool catalogue_has(const struct msg_ckptd_catalogue *catalogue, uint64_t id)
{
	for (size_t i = 0; i < catalogue->checkpoints.count; i++) {
		if (catalogue->checkpoints.item[i].id == id)
			return true;
	}
	return false;
}

static void take_oldest(struct msg_ckptd_catalogue *catalogue, struct msg_ckptd_checkpoint *out)
{
	struct msg_ckptd_checkpoint *items = catalogue->checkpoints.item;

	*out = items[0];
	catalogue->checkpoints.count--;
	memmove(items, items + 1, catalogue->checkpoints.count * sizeof(*items));
}

int catalogue_add(struct msg_ckptd_catalogue *catalogue, const struct msg_ckptd_checkpoint *added,
    size_t keep, struct msg_ckptd_checkpoint *retired)
{
	int n = 0;

	assert(keep >= 1 && keep <= CATALOGUE_MAX);
	if (catalogue_has(catalogue, added->id))
		return -EALREADY;
	while (catalogue->checkpoints.count >= keep)
		take_oldest(catalogue, &retired[n++]);
	catalogue->checkpoints.item[catalogue->checkpoints.count++] = *added;
	return n;
}

void cell_key(char key[CATALOGUE_KEY_SIZE], uint64_t id)
{
	snprintf(key, CATALOGUE_KEY_SIZE, "ckpt/%016" PRIx64, id);
}

bool cell_parse(const char *key, uint64_t *id)
{
	int end = 0;

	return strlen(key) == 21 && sscanf(key, "ckpt/%16" SCNx64 "%n", id, &end) == 1 && end == 21;
}

void image_name(char name[CATALOGUE_KEY_SIZE], const char *ve, uint64_t id)
{
	snprintf(name, CATALOGUE_KEY_SIZE, "ckpt/%.63s/%016" PRIx64, ve, id);
}

bool image_parse(const char *name, char ve[64], uint64_t *id)
{
	int end = 0;

	return sscanf(name, "ckpt/%63[a-z0-9-]/%16" SCNx64 "%n", ve, id, &end) == 2 && end > 0 &&
	       !name[end];
}
