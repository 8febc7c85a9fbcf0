/* A store in a directory of its own, and files to put into it, for the tests of the store. */
#ifndef GDN_STORE_TEST_STORE_H
#define GDN_STORE_TEST_STORE_H

#include "common/rng.h"
#include "common/test.h"
#include "gdn/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t test_key[32] = "a key of thirty-one characters.";
static char test_dir[64];

/* A path in the test's directory; good for the next 63 calls. */
static inline char *test_path(const char *name)
{
	static char paths[64][PATH_MAX];
	static int next;
	char *path = paths[next++ % 64];

	snprintf(path, PATH_MAX, "%s/%s", test_dir, name);
	return path;
}

static int test_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void test_clear(const char *path)
{
	nftw(path, test_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void test_clear_at_exit(void)
{
	test_clear(test_dir);
}

static inline void test_begin(void)
{
	snprintf(test_dir, sizeof(test_dir), "/tmp/dst-store-XXXXXX");
	check(mkdtemp(test_dir));
	atexit(test_clear_at_exit);
}

/* Half noise, half text, as memory is; the same seed gives the same bytes. */
static inline void test_fill(uint8_t *data, size_t size, uint64_t seed)
{
	struct rng rng;

	rng_init(&rng, seed);
	for (size_t at = 0; at < size; at += 4096) {
		size_t n = size - at < 4096 ? size - at : 4096;

		if (rng_chance(&rng, 0.5))
			for (size_t i = 0; i < n; i++)
				data[at + i] = (uint8_t)rng_u64(&rng);
		else
			memset(data + at, (int)rng_below(&rng, 256), n);
	}
}

static inline void test_write(const char *path, const uint8_t *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);

	check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

/* A directory of three files: "pages-1.img" of size bytes, a small one, an empty one. */
static inline void test_image(const char *path, size_t size, uint64_t seed)
{
	uint8_t *data = malloc(size + 1);
	char file[PATH_MAX];

	mkdir(path, 0750);
	test_fill(data, size, seed);
	snprintf(file, sizeof(file), "%s/pages-1.img", path);
	test_write(file, data, size);
	snprintf(file, sizeof(file), "%s/inventory.img", path);
	test_write(file, (const uint8_t *)"inventory", 9);
	snprintf(file, sizeof(file), "%s/empty.img", path);
	test_write(file, (const uint8_t *)"", 0);
	free(data);
}

static inline uint8_t *test_read(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	uint8_t *data;

	check(fd >= 0 && fstat(fd, &st) == 0);
	*size = (size_t)st.st_size;
	data = malloc(*size + 1);
	check(read(fd, data, *size) == (ssize_t)*size);
	close(fd);
	return data;
}

/* Are the files of both directories equal in name and content? */
static inline bool test_same(const char *a, const char *b)
{
	struct dirent *entry;
	int count_a = 0, count_b = 0;
	char path[PATH_MAX];
	DIR *dir = opendir(a);
	bool same = true;

	while (dir && (entry = readdir(dir))) {
		size_t x, y;
		uint8_t *in_a, *in_b;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", a, entry->d_name);
		in_a = test_read(path, &x);
		snprintf(path, sizeof(path), "%s/%s", b, entry->d_name);
		if (access(path, R_OK) < 0)
			return false;
		in_b = test_read(path, &y);
		same = same && x == y && memcmp(in_a, in_b, x) == 0;
		free(in_a);
		free(in_b);
		count_a++;
	}
	if (dir)
		closedir(dir);
	dir = opendir(b);
	while (dir && (entry = readdir(dir)))
		count_b += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return same && count_a == count_b;
}

static inline struct store *test_open(const char *name)
{
	struct fault fault = {0};
	struct store *store = NULL;
	int r = store_open(&store, &(struct store_config){.path = test_path(name)}, &fault);

	if (r < 0)
		printf("# %s\n", fault.text);
	check_int(r, 0);
	return store;
}

static inline struct id test_put(struct store *store, const char *path, const uint8_t *key)
{
	struct put_result result;
	struct fault fault = {0};
	int r = store_put(store,
	    &(struct put_request){.path = path, .key = key, .tag = "", .kind = "test"}, &result,
	    &fault);

	if (r < 0)
		printf("# %s\n", fault.text);
	check_int(r, 0);
	return result.oid;
}

/* Gets into directory "out" anew. */
static inline int test_get(
    struct store *store, const struct id *oid, const uint8_t *key, struct fault *fault)
{
	uint64_t bytes;

	test_clear(test_path("out"));
	return store_get(store,
	    &(struct get_request){.oid = *oid, .path = test_path("out"), .key = key, .group = -1},
	    &bytes, fault);
}

/* Calls change() on the bytes of each pack and writes them back. */
static inline void test_each_pack(const char *store, void (*change)(uint8_t *data, size_t *size))
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/packs", test_path(store));
	dir = opendir(path);
	check(dir != NULL);
	while ((entry = readdir(dir))) {
		uint8_t *data;
		size_t size;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/packs/%s", test_path(store), entry->d_name);
		data = test_read(path, &size);
		change(data, &size);
		test_write(path, data, size);
		free(data);
	}
	closedir(dir);
}

static inline size_t test_pack_count(const char *store)
{
	char path[PATH_MAX];
	struct dirent *entry;
	size_t count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/packs", test_path(store));
	dir = opendir(path);
	check(dir != NULL);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

#endif
