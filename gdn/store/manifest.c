#include "gdn/store/manifest.h"

#include "gdn/store/chunker.h"
#include "gdn/store/coder.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "GDNO"
#define VERSION 2
#define ROOT_HEAD 32
#define ENTRY_SIZE 40
#define FILE_HEAD 18
#define NAMES_HEAD 9
#define EXTENT_SIZE 12
#define MODE_MASK 07777u

enum { ROOT_SEALED = 1 };

static void put16(uint8_t *to, uint16_t v)
{
	v = htole16(v);
	memcpy(to, &v, sizeof(v));
}

static void put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof(v));
}

static void put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof(v));
}

static uint16_t get16(const uint8_t *from)
{
	uint16_t v;

	memcpy(&v, from, sizeof(v));
	return le16toh(v);
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t v;

	memcpy(&v, from, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t v;

	memcpy(&v, from, sizeof(v));
	return le64toh(v);
}

/* Makes room for one more element; at is the array's pointer. */
static int grow(void **at, size_t size, size_t count, size_t *capacity)
{
	size_t wanted = *capacity ? 2 * *capacity : 16;
	void *grown;

	if (count < *capacity)
		return 0;
	grown = reallocarray(*at, wanted, size);
	if (!grown)
		return -ENOMEM;
	*at = grown;
	*capacity = wanted;
	return 0;
}

int entries_add(struct entries *entries, const struct entry *entry)
{
	void *at = entries->at;
	int r = grow(&at, sizeof(*entry), entries->count, &entries->capacity);

	if (r < 0)
		return r;
	entries->at = at;
	entries->at[entries->count++] = *entry;
	return 0;
}

uint64_t entries_plain(const struct entries *entries)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < entries->count; i++)
		sum += entries->at[i].plain;
	return sum;
}

void entries_fini(struct entries *entries)
{
	free(entries->at);
	*entries = (struct entries){0};
}

int files_add(struct files *files, const struct file *file)
{
	void *at = files->at;
	int r = grow(&at, sizeof(*file), files->count, &files->capacity);

	if (r < 0)
		return r;
	files->at = at;
	files->at[files->count++] = *file;
	return 0;
}

static bool goes_on(const struct extent *last, const struct extent *extent)
{
	return last->chunk == extent->chunk && last->offset + last->length == extent->offset;
}

int files_extend(struct files *files, struct file *file, const struct extent *extent)
{
	void *at = files->extent;
	int r;

	file->size += extent->length;
	if (file->extents > 0 && goes_on(&files->extent[files->extent_count - 1], extent)) {
		files->extent[files->extent_count - 1].length += extent->length;
		return 0;
	}
	r = grow(&at, sizeof(*extent), files->extent_count, &files->extent_capacity);
	if (r < 0)
		return r;
	files->extent = at;
	files->extent[files->extent_count++] = *extent;
	file->extents++;
	return 0;
}

void files_fini(struct files *files)
{
	free(files->at);
	free(files->extent);
	*files = (struct files){0};
}

void root_fini(struct root *root)
{
	entries_fini(&root->list);
	entries_fini(&root->names);
}

bool file_name_ok(const char *name)
{
	size_t size = strlen(name);

	return size > 0 && size <= FILE_NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static int pack_entries(const struct entries *entries, struct buf *out)
{
	uint8_t *to = buf_reserve(out, entries->count * ENTRY_SIZE);

	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < entries->count; i++, to += ENTRY_SIZE) {
		memcpy(to, entries->at[i].id.bytes, ID_SIZE);
		put32(to + ID_SIZE, entries->at[i].stored);
		put32(to + ID_SIZE + 4, entries->at[i].plain);
	}
	out->size += entries->count * ENTRY_SIZE;
	return 0;
}

static int unpack_entries(struct entries *entries, const uint8_t *from, size_t count)
{
	entries->at = count ? reallocarray(NULL, count, sizeof(*entries->at)) : NULL;
	if (count && !entries->at)
		return -ENOMEM;
	entries->capacity = count;
	for (size_t i = 0; i < count; i++, from += ENTRY_SIZE) {
		struct entry *entry = &entries->at[entries->count++];

		memcpy(entry->id.bytes, from, ID_SIZE);
		entry->stored = get32(from + ID_SIZE);
		entry->plain = get32(from + ID_SIZE + 4);
		if (entry->stored < 2 || entry->stored > STORED_MAX || entry->plain == 0 ||
		    entry->plain > CHUNK_MAX)
			return -EBADMSG;
	}
	return 0;
}

/* magic 4, version 1, flags 1, zero 2, bytes 8, chunks 4, list chunks 4, names chunks 4, zero 4 */
int root_pack(const struct root *root, struct buf *out)
{
	uint8_t head[ROOT_HEAD] = MAGIC;
	int r;

	head[4] = VERSION;
	head[5] = root->sealed ? ROOT_SEALED : 0;
	put64(head + 8, root->bytes);
	put32(head + 16, root->chunks);
	put32(head + 20, (uint32_t)root->list.count);
	put32(head + 24, (uint32_t)root->names.count);
	r = buf_append(out, head, sizeof(head));
	if (r == 0)
		r = pack_entries(&root->list, out);
	return r < 0 ? r : pack_entries(&root->names, out);
}

int root_unpack(struct root *root, const uint8_t *data, size_t size)
{
	uint64_t list, names;
	int r;

	*root = (struct root){0};
	if (size < ROOT_HEAD || size > ROOT_SIZE_MAX || memcmp(data, MAGIC, 4) != 0)
		return -EBADMSG;
	if (data[4] != VERSION)
		return -EPROTONOSUPPORT;
	if (data[5] > ROOT_SEALED || get16(data + 6) || get32(data + 28))
		return -EBADMSG;
	root->sealed = data[5] == ROOT_SEALED;
	root->bytes = get64(data + 8);
	root->chunks = get32(data + 16);
	list = get32(data + 20);
	names = get32(data + 24);
	if (root->chunks > OBJECT_CHUNKS_MAX || root->bytes > OBJECT_BYTES_MAX ||
	    ROOT_HEAD + (list + names) * ENTRY_SIZE != size)
		return -EBADMSG;
	r = unpack_entries(&root->list, data + ROOT_HEAD, list);
	if (r == 0)
		r = unpack_entries(&root->names, data + ROOT_HEAD + list * ENTRY_SIZE, names);
	if (r == 0 && entries_plain(&root->list) != (uint64_t)root->chunks * ENTRY_SIZE)
		r = -EBADMSG;
	if (r < 0)
		root_fini(root);
	return r;
}

int list_pack(const struct entries *list, struct buf *out)
{
	return pack_entries(list, out);
}

int list_unpack(struct entries *list, const struct root *root, const uint8_t *data, size_t size)
{
	int r;

	*list = (struct entries){0};
	if (size != (uint64_t)root->chunks * ENTRY_SIZE)
		return -EBADMSG;
	r = unpack_entries(list, data, root->chunks);
	if (r < 0)
		entries_fini(list);
	return r;
}

static int pack_file(const struct file *file, struct buf *out)
{
	uint8_t head[FILE_HEAD];
	size_t length = strlen(file->name);
	int r;

	put64(head, file->size);
	put32(head + 8, file->mode);
	put32(head + 12, file->extents);
	put16(head + 16, (uint16_t)length);
	r = buf_append(out, head, FILE_HEAD);
	return r < 0 ? r : buf_append(out, file->name, length);
}

/*
 * version 1, files 4, extents 4; each file: size 8, mode 4, extents 4, name length 2, name; each
 * extent: chunk 4, offset 4, length 4
 */
int names_pack(const struct files *files, struct buf *out)
{
	uint8_t head[NAMES_HEAD] = {VERSION};
	uint8_t *to;
	int r;

	put32(head + 1, (uint32_t)files->count);
	put32(head + 5, (uint32_t)files->extent_count);
	r = buf_append(out, head, sizeof(head));
	for (size_t i = 0; r == 0 && i < files->count; i++)
		r = pack_file(&files->at[i], out);
	if (r < 0)
		return r;
	to = buf_reserve(out, files->extent_count * EXTENT_SIZE);
	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < files->extent_count; i++, to += EXTENT_SIZE) {
		put32(to, files->extent[i].chunk);
		put32(to + 4, files->extent[i].offset);
		put32(to + 8, files->extent[i].length);
	}
	out->size += files->extent_count * EXTENT_SIZE;
	return 0;
}

/* One file from data; returns the bytes it took or -EBADMSG. */
static ssize_t unpack_file(struct file *file, const uint8_t *data, size_t size)
{
	size_t length;

	if (size < FILE_HEAD)
		return -EBADMSG;
	file->size = get64(data);
	file->mode = get32(data + 8);
	file->extents = get32(data + 12);
	length = get16(data + 16);
	if (length > FILE_NAME_MAX || length > size - FILE_HEAD)
		return -EBADMSG;
	memcpy(file->name, data + FILE_HEAD, length);
	file->name[length] = '\0';
	if (strlen(file->name) != length || !file_name_ok(file->name) || file->mode & ~MODE_MASK)
		return -EBADMSG;
	return (ssize_t)(FILE_HEAD + length);
}

static bool is_inside(const struct extent *extent, const struct entries *list)
{
	return extent->chunk < list->count && extent->length > 0 &&
	       extent->offset < list->at[extent->chunk].plain &&
	       extent->length <= list->at[extent->chunk].plain - extent->offset;
}

/* Do the next extents make up the file?  Moves *at behind them. */
static bool is_made_up(
    const struct file *file, const struct files *files, const struct entries *list, size_t *at)
{
	uint64_t sum = 0;

	if (file->extents > files->extent_count - *at)
		return false;
	for (uint32_t i = 0; i < file->extents; i++) {
		const struct extent *extent = &files->extent[(*at)++];

		if (!is_inside(extent, list) || (i > 0 && goes_on(extent - 1, extent)))
			return false;
		sum += extent->length;
	}
	return sum == file->size;
}

static bool adds_up(const struct files *files, const struct root *root, const struct entries *list)
{
	uint64_t sum = 0;
	size_t at = 0;

	for (size_t i = 0; i < files->count; i++) {
		if (!is_made_up(&files->at[i], files, list, &at))
			return false;
		sum += files->at[i].size;
	}
	return sum == root->bytes && at == files->extent_count;
}

static int unpack_extents(struct files *files, const uint8_t *data, size_t count)
{
	files->extent = count ? reallocarray(NULL, count, sizeof(*files->extent)) : NULL;
	if (count && !files->extent)
		return -ENOMEM;
	files->extent_capacity = count;
	for (size_t i = 0; i < count; i++, data += EXTENT_SIZE)
		files->extent[files->extent_count++] =
		    (struct extent){get32(data), get32(data + 4), get32(data + 8)};
	return 0;
}

static int unpack_files(
    struct files *files, uint32_t count, uint32_t extents, const uint8_t *data, size_t size)
{
	for (uint32_t i = 0; i < count; i++) {
		struct file file = {0};
		ssize_t took = unpack_file(&file, data, size);

		if (took < 0 || (i > 0 && strcmp(files->at[i - 1].name, file.name) >= 0))
			return -EBADMSG;
		if (files_add(files, &file) < 0)
			return -ENOMEM;
		data += took;
		size -= (size_t)took;
	}
	if (size != (uint64_t)extents * EXTENT_SIZE)
		return -EBADMSG;
	return unpack_extents(files, data, extents);
}

int names_unpack(struct files *files, const struct root *root, const struct entries *list,
    const uint8_t *data, size_t size)
{
	uint32_t count;
	int r;

	*files = (struct files){0};
	if (size < NAMES_HEAD || data[0] != VERSION)
		return -EBADMSG;
	count = get32(data + 1);
	if (count > OBJECT_FILES_MAX)
		return -EBADMSG;
	r = unpack_files(files, count, get32(data + 5), data + NAMES_HEAD, size - NAMES_HEAD);
	if (r == 0 && !adds_up(files, root, list))
		r = -EBADMSG;
	if (r < 0)
		files_fini(files);
	return r;
}
