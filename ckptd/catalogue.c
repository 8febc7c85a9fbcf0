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

static void take(struct msg_ckptd_catalogue *catalogue, size_t i, struct msg_ckptd_checkpoint *out)
{
	struct msg_ckptd_checkpoint *items = catalogue->checkpoints.item;

	*out = items[i];
	catalogue->checkpoints.count--;
	memmove(items + i, items + i + 1, (catalogue->checkpoints.count - i) * sizeof(*items));
}

static int64_t hour_of(const struct msg_ckptd_checkpoint *checkpoint)
{
	return checkpoint->wall_ms / 3600000;
}

int catalogue_add(struct msg_ckptd_catalogue *catalogue, const struct msg_ckptd_checkpoint *added,
    struct retention retention, struct msg_ckptd_checkpoint *retired)
{
	size_t last = retention.last - 1, hours = retention.hourly ? retention.hourly - 1 : 0;
	int64_t hour = hour_of(added);
	int n = 0;

	assert(retention.last >= 1 && retention.last + retention.hourly <= CATALOGUE_MAX);
	if (catalogue_has(catalogue, added->id))
		return -EALREADY;
	for (size_t i = catalogue->checkpoints.count; i-- > 0;) {
		const struct msg_ckptd_checkpoint *item = &catalogue->checkpoints.item[i];
		bool of_hour = hours > 0 && hour_of(item) != hour;

		if (of_hour) {
			hours--;
			hour = hour_of(item);
		}
		if (last > 0)
			last--;
		else if (!of_hour)
			take(catalogue, i, &retired[n++]);
	}
	catalogue->checkpoints.item[catalogue->checkpoints.count++] = *added;
	return n;
}

bool catalogue_remove(
    struct msg_ckptd_catalogue *catalogue, uint64_t id, struct msg_ckptd_checkpoint *removed)
{
	for (size_t i = 0; i < catalogue->checkpoints.count; i++) {
		if (catalogue->checkpoints.item[i].id == id) {
			take(catalogue, i, removed);
			return true;
		}
	}
	return false;
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
