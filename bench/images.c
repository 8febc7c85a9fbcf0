/*
 * bench-images [DIRECTORY]: what it costs to keep checkpoints of 256 MiB, of which 5 % of the pages change
 * between one and the next, at random places.
 *
 * One thread puts image after image into a store of its own, as gosd does; the images are made in a
 * tmpfs, the store lies in DIRECTORY (default /var/tmp).  Rates are MiB of image for each second of CPU
 * time of this process, kernel included, and beside it of wall time, which waits for the disk.
 * Stored is what the packs have grown by: chunks, their headers and the object's own lists.
 *
 * Pages are of four kinds in equal parts: noise (keys, compressed and encrypted data), text (a store
 * of sessions), records (integers and pointers as a heap has them), and one value over and over.
 */
#include "common/rng.h"
#include "gdn/store/store.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define IMAGE (UINT64_C(256) << 20)
#define PAGES (IMAGE / PAGE)
#define CHECKPOINTS 10

static const uint8_t key[32] = "the key of a measured service..";

struct cost {
	double cpu_s, wall_s;
	uint64_t stored;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench-images: %s: %s\n", what, why);
	exit(1);
}

/* --- content --- */

static void fill_noise(uint8_t *page, struct rng *rng)
{
	for (size_t i = 0; i < PAGE; i += 8) {
		uint64_t word = rng_u64(rng);

		memcpy(page + i, &word, 8);
	}
}

static void fill_text(uint8_t *page, struct rng *rng)
{
	static const char *const words[] = {"user", "basket", "token", "article", "price",
	    "visited", "language", "address", "delivery", "account", "expires", "currency"};
	char line[128];

	for (size_t at = 0; at < PAGE;) {
		int length = snprintf(line, sizeof(line), "{\"%s\":%llu,\"%s\":\"%016llx\"}",
		    words[rng_below(rng, 12)], (unsigned long long)rng_below(rng, 100000),
		    words[rng_below(rng, 12)], (unsigned long long)rng_u64(rng));
		size_t size = (size_t)length < PAGE - at ? (size_t)length : PAGE - at;

		memcpy(page + at, line, size);
		at += size;
	}
}

static void fill_records(uint8_t *page, struct rng *rng)
{
	for (size_t i = 0; i < PAGE; i += 32) {
		uint64_t record[4] = {UINT64_C(0x7f2a40000000) + 32 * rng_below(rng, 1 << 20),
		    rng_below(rng, 1000), 0, rng_below(rng, 1 << 16)};

		memcpy(page + i, record, sizeof(record));
	}
}

static void fill_page(uint8_t *page, struct rng *rng)
{
	switch (rng_below(rng, 4)) {
	case 0:
		fill_noise(page, rng);
		return;
	case 1:
		fill_text(page, rng);
		return;
	case 2:
		fill_records(page, rng);
		return;
	default:
		memset(page, (int)rng_below(rng, 256), PAGE);
	}
}

/* Writes 5 % of all pages anew. */
static uint64_t change_some(uint8_t *image, struct rng *rng)
{
	uint64_t changed = 0;

	for (; changed < IMAGE / 20; changed += PAGE)
		fill_page(image + PAGE * rng_below(rng, PAGES), rng);
	return changed;
}

static void write_image(const char *directory, const uint8_t *image)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/pages-1.img", directory);
	file = fopen(path, "wb");
	if (!file || fwrite(image, 1, IMAGE, file) != IMAGE || fclose(file) != 0)
		die(path, strerror(errno));
	snprintf(path, sizeof(path), "%s/pagemap-1.img", directory);
	file = fopen(path, "wb");
	if (!file || fwrite(image, 1, 20000, file) != 20000 || fclose(file) != 0)
		die(path, strerror(errno));
}

/* --- measuring --- */

static double cpu_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double wall_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t pack_bytes(struct store *store)
{
	struct index_totals totals;

	if (store_totals(store, &totals) < 0)
		die("totals", "of the store");
	return totals.pack_bytes;
}

static struct cost put(struct store *store, const char *directory, struct id *oid)
{
	struct put_request request = {
	    .path = directory, .key = key, .tag = "bench", .kind = "image"};
	struct put_result result;
	struct fault fault = {0};
	uint64_t before = pack_bytes(store);
	double cpu = cpu_s(), wall = wall_s();

	if (store_put(store, &request, &result, &fault) < 0)
		die("put", fault.text);
	*oid = result.oid;
	return (struct cost){cpu_s() - cpu, wall_s() - wall, pack_bytes(store) - before};
}

static struct cost get(struct store *store, const char *directory, const struct id *oid)
{
	struct get_request request = {.oid = *oid, .path = directory, .key = key, .group = -1};
	struct fault fault = {0};
	double cpu = cpu_s(), wall = wall_s();
	uint64_t bytes;

	if (store_get(store, &request, &bytes, &fault) < 0)
		die("get", fault.text);
	return (struct cost){cpu_s() - cpu, wall_s() - wall, bytes};
}

static void show(const char *what, const struct cost *cost, uint64_t changed)
{
	printf("%-12s %9.0f %9.0f %11.1f", what, (double)(IMAGE >> 20) / cost->cpu_s,
	    (double)(IMAGE >> 20) / cost->wall_s, (double)cost->stored / (1 << 20));
	if (changed)
		printf(" %9.2f", (double)cost->stored / (double)changed);
	printf("\n");
	fflush(stdout);
}

static void goal(double first, double next, double ratio)
{
	printf("goal C4: first %.0f, next %.0f MiB/s a core (>= 300, >= 500) %s\n", first, next,
	    first >= 300 && next >= 500 ? "met" : "missed");
	printf("goal C4: stored %.2f of the changed bytes (<= 2.2) %s\n", ratio,
	    ratio <= 2.2 ? "met" : "missed");
}

/* The image in memory is what must come back. */
static void compare(const char *directory, const uint8_t *image)
{
	uint8_t *got = malloc(IMAGE);
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/pages-1.img", directory);
	file = fopen(path, "rb");
	if (!got || !file || fread(got, 1, IMAGE, file) != IMAGE || memcmp(got, image, IMAGE) != 0)
		die(path, "is not what was put");
	fclose(file);
	free(got);
}

static void measure(struct store *store, const char *tmpfs, uint8_t *image)
{
	struct cost cost, next = {0};
	uint64_t changed = 0;
	char out[128], name[16];
	struct rng rng;
	struct id oid;
	double first;

	rng_init(&rng, 1);
	for (size_t i = 0; i < PAGES; i++)
		fill_page(image + PAGE * i, &rng);
	printf(
	    "%-12s %9s %9s %11s %9s\n", "checkpoint", "MiB/s CPU", "MiB/s", "stored MiB", "ratio");
	write_image(tmpfs, image);
	cost = put(store, tmpfs, &oid);
	first = (double)(IMAGE >> 20) / cost.cpu_s;
	show("first", &cost, 0);
	for (int i = 1; i < CHECKPOINTS; i++) {
		uint64_t now = change_some(image, &rng);

		write_image(tmpfs, image);
		cost = put(store, tmpfs, &oid);
		snprintf(name, sizeof(name), "%d", i + 1);
		show(name, &cost, now);
		changed += now;
		next.cpu_s += cost.cpu_s;
		next.stored += cost.stored;
	}
	snprintf(out, sizeof(out), "%s/out", tmpfs);
	cost = get(store, out, &oid);
	show("read back", &cost, 0);
	compare(out, image);
	goal(first, (CHECKPOINTS - 1) * (double)(IMAGE >> 20) / next.cpu_s,
	    (double)next.stored / (double)changed);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

int main(int argc, char **argv)
{
	char path[256], tmpfs[] = "/dev/shm/dsb-images-XXXXXX";
	uint8_t *image = malloc(IMAGE);
	struct store *store;
	struct fault fault = {0};

	snprintf(path, sizeof(path), "%s/dsb-images-XXXXXX", argc > 1 ? argv[1] : "/var/tmp");
	if (!image || !mkdtemp(path) || !mkdtemp(tmpfs))
		die(path, strerror(errno));
	if (store_open(&store, &(struct store_config){.path = path}, &fault) < 0)
		die(path, fault.text);
	measure(store, tmpfs, image);
	store_close(store);
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	nftw(tmpfs, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(image);
	return 0;
}
