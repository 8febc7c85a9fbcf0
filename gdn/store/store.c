#include "gdn/store/private.h"

#include "gdn/store/coder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Damaged chunks are kept to be looked at, up to so many. */
#define QUARANTINE_MAX 64

struct store *store_lock(struct store *store)
{
	pthread_mutex_lock(&store->lock);
	return store;
}

void store_unlock(struct store **store)
{
	pthread_mutex_unlock(&(*store)->lock);
}

void hold_start(struct store *store, struct hold *hold)
{
	hold->next = store->holds;
	hold->link = &store->holds;
	if (hold->next)
		hold->next->link = &hold->next;
	store->holds = hold;
}

void hold_end(struct hold *hold)
{
	if (!hold->link)
		return;
	*hold->link = hold->next;
	if (hold->next)
		hold->next->link = hold->link;
	hold->link = NULL;
}

bool store_holds(const struct store *store, const struct id *id)
{
	for (const struct hold *hold = store->holds; hold; hold = hold->next)
		if (idset_has(&hold->ids, id))
			return true;
	return false;
}

static int make_directory(const char *path, struct fault *fault)
{
	if (mkdir(path, 0750) < 0 && errno != EEXIST)
		return fault_set(fault, -errno, "make directory %s: %s", path, strerror(errno));
	return 0;
}

/* --- start: the packs that the index knows stay, all else goes --- */

struct known_packs {
	uint64_t *numbers; /* ascending */
	size_t count;
	uint64_t bytes, last;
};

static int note_pack(void *arg, const struct pack_row *row)
{
	struct known_packs *known = arg;
	uint64_t *grown = reallocarray(known->numbers, known->count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	known->numbers = grown;
	known->numbers[known->count++] = row->number;
	known->bytes += row->size;
	known->last = row->number;
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool is_known(const struct known_packs *known, const char *name)
{
	char *end;
	uint64_t number = strtoull(name, &end, 16);

	return strcmp(end, ".pack") == 0 && known->count > 0 &&
	       bsearch(&number, known->numbers, known->count, sizeof(number), compare_numbers);
}

static int reap(struct store *store, const struct known_packs *known, struct fault *fault)
{
	char path[PATH_MAX];
	DIR *dir = fdopendir(dup(store->dir_fd));
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return fault_set(fault, -errno, "read %s/packs: %s", store->path, strerror(errno));
	while (r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || is_known(known, entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/packs/%s", store->path, entry->d_name);
		r = disk_unlink(&store->disk, path);
		if (r < 0)
			fault_set(fault, r, "remove %s: %s", path, strerror(-r));
	}
	closedir(dir);
	return r;
}

static int open_packs(struct store *store, struct fault *fault)
{
	struct known_packs known = {0};
	int r = index_pack_each(store->index, note_pack, &known);

	if (r == 0)
		r = reap(store, &known, fault);
	store->next_pack = known.last + 1;
	store->pack_bytes = known.bytes;
	free(known.numbers);
	return r < 0 ? fault_set(fault, r, "read the packs of %s: %s", store->path, strerror(-r))
		     : 0;
}

static int open_directories(struct store *store, struct fault *fault)
{
	char path[PATH_MAX];
	int r = make_directory(store->path, fault);

	snprintf(path, sizeof(path), "%s/quarantine", store->path);
	if (r == 0)
		r = make_directory(path, fault);
	snprintf(path, sizeof(path), "%s/packs", store->path);
	if (r == 0)
		r = make_directory(path, fault);
	if (r < 0)
		return r;
	store->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return store->dir_fd < 0 ? fault_set(fault, -errno, "open %s: %s", path, strerror(errno))
				 : 0;
}

int store_open(struct store **out, const struct store_config *config, struct fault *fault)
{
	struct store *store = calloc(1, sizeof(*store));
	char path[PATH_MAX];
	int r;

	if (!store || sodium_init() < 0)
		return free(store), -ENOMEM;
	pthread_mutex_init(&store->lock, NULL);
	pthread_mutex_init(&store->gc_lock, NULL);
	store->dir_fd = -1;
	store->disk = config->disk;
	store->quota = config->quota;
	store->reserve = config->reserve;
	store->path = strdup(config->path);
	r = store->path ? open_directories(store, fault) : -ENOMEM;
	snprintf(path, sizeof(path), "%s/index.db", config->path);
	if (r == 0)
		r = index_open(&store->index, path, &store->disk, fault);
	if (r == 0)
		r = open_packs(store, fault);
	if (r < 0)
		return store_close(store), r;
	*out = store;
	return 0;
}

struct store *store_close(struct store *store)
{
	if (!store)
		return NULL;
	series_close(store);
	index_close(store->index);
	if (store->dir_fd >= 0)
		close(store->dir_fd);
	pthread_mutex_destroy(&store->lock);
	pthread_mutex_destroy(&store->gc_lock);
	free(store->path);
	free(store);
	return NULL;
}

int store_charge(struct store *store, uint64_t bytes, struct fault *fault)
{
	struct statvfs fs;

	STORE_LOCKED(store);
	if (store->quota && store->pack_bytes + bytes > store->quota)
		return fault_set(fault, -EDQUOT, "quota of %llu bytes reached in %s",
		    (unsigned long long)store->quota, store->path);
	if (fstatvfs(store->dir_fd, &fs) == 0 &&
	    (uint64_t)fs.f_bavail * fs.f_frsize < store->reserve + bytes)
		return fault_set(fault, -ENOSPC, "disk full: %llu bytes left in %s, %llu reserved",
		    (unsigned long long)fs.f_bavail * fs.f_frsize, store->path,
		    (unsigned long long)store->reserve);
	store->pack_bytes += bytes;
	return 0;
}

void store_refund(struct store *store, uint64_t bytes)
{
	STORE_LOCKED(store);
	store->pack_bytes -= bytes;
}

uint64_t store_next_pack(struct store *store)
{
	STORE_LOCKED(store);
	return store->next_pack++;
}

int collect_ids(struct idset *ids, const struct root *root, const struct entries *list)
{
	const struct entries *all[] = {&root->list, &root->names, list};

	for (size_t i = 0; i < 3; i++)
		for (size_t k = 0; k < all[i]->count; k++)
			if (idset_add(ids, &all[i]->at[k].id) < 0)
				return -ENOMEM;
	return 0;
}

/* --- reading one chunk --- */

static void keep_damaged(struct store *store, const struct id *id, const uint8_t *data, size_t size)
{
	char path[PATH_MAX], hex[ID_HEX];
	struct dirent **names = NULL;
	int count, fd;

	snprintf(path, sizeof(path), "%s/quarantine", store->path);
	count = scandir(path, &names, NULL, NULL);
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
	if (count < 0 || count > QUARANTINE_MAX + 2)
		return;
	snprintf(path, sizeof(path), "%s/quarantine/%s", store->path, id_hex(id, hex));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0)
		return;
	disk_write(&store->disk, fd, path, data, size);
	close(fd);
}

/* From now on the chunk is missing, unless it has been moved or replaced meanwhile. */
static int quarantine(
    struct store *store, const struct id *id, const struct place *place, const uint8_t *data)
{
	keep_damaged(store, id, data, place->length);
	STORE_LOCKED(store);
	return index_chunk_move(store->index, id, place, &(struct place){0});
}

/* Finds the chunk and opens its pack in one step: collection may move it at any other time. */
static int locate(
    struct store *store, struct pack_files *files, const struct id *id, struct place *place)
{
	int r;

	STORE_LOCKED(store);
	r = index_chunk_find(store->index, id, place);
	if (r < 0)
		return r;
	if (r == 0 || place->pack == 0)
		return -ENODATA;
	r = pack_files_open(files, store->path, place->pack);
	return r == -ENOENT ? -ENODATA : r;
}

int store_read(struct store *store, struct pack_files *files, const struct entry *entry,
    uint8_t *buffer, struct fault *fault)
{
	struct place place;
	struct id id;
	int r, fd = locate(store, files, &entry->id, &place);

	if (fd == -ENODATA)
		return fault_set(fault, fd, "a chunk is missing");
	if (fd < 0)
		return fault_set(fault, fd, "find a chunk: %s", strerror(-fd));
	if (place.length > STORED_MAX)
		return fault_set(fault, -EUCLEAN, "a chunk of %u bytes in the index", place.length);
	memset(buffer, 0, place.length);
	r = disk_read_at(fd, buffer, place.length, place.offset);
	/* A sector that cannot be read and a file cut short are damage as well. */
	if (r < 0 && r != -EIO && r != -ENODATA)
		return fault_set(fault, r, "read a chunk: %s", strerror(-r));
	id = id_of(buffer, place.length);
	if (id_equal(&id, &entry->id) && place.length == entry->stored)
		return 0;
	quarantine(store, &entry->id, &place, buffer);
	return fault_set(fault, -EBADMSG, "a chunk is damaged (pack %llx at %llu)",
	    (unsigned long long)place.pack, (unsigned long long)place.offset);
}

/* --- what there is --- */

int store_each(struct store *store, int (*each)(void *, const struct object_row *), void *arg)
{
	STORE_LOCKED(store);
	return index_object_each(store->index, each, arg);
}

int store_row(struct store *store, const struct id *oid, struct object_row *row)
{
	int r;

	STORE_LOCKED(store);
	r = index_object_find(store->index, oid, row, NULL);
	return r == 0 ? -ENOENT : r < 0 ? r : 0;
}

int store_each_tag(struct store *store, const struct id *oid,
    int (*each)(void *, const char *tag, const char *kind), void *arg)
{
	STORE_LOCKED(store);
	return index_tag_each(store->index, oid, each, arg);
}

int store_tag(struct store *store, const struct id *oid, const char *tag, const char *kind,
    struct fault *fault)
{
	struct object_row row;
	int r;

	STORE_LOCKED(store);
	r = index_object_find(store->index, oid, &row, NULL);
	r = r == 0 ? -ENOENT : r < 0 ? r : index_tag_add(store->index, oid, tag, kind);
	return r < 0 ? fault_set(fault, r, "tag the object: %s", index_error(store->index)) : 0;
}

int store_each_replica(
    struct store *store, const struct id *oid, int (*each)(void *, const char *node), void *arg)
{
	STORE_LOCKED(store);
	return index_replica_each(store->index, oid, each, arg);
}

int store_set_replica(struct store *store, const struct id *oid, const char *node, bool holds)
{
	int r;

	STORE_LOCKED(store);
	r = index_begin(store->index, NULL);
	if (r == 0)
		r = (holds ? index_replica_add : index_replica_del)(store->index, oid, node);
	if (r == 0)
		r = index_commit(store->index, NULL);
	index_abort(store->index);
	return r;
}

int store_totals(struct store *store, struct index_totals *totals)
{
	STORE_LOCKED(store);
	return index_totals(store->index, totals);
}
