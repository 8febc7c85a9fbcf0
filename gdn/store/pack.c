#include "gdn/store/pack.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Bytes are written in pieces of this size, and the disk is set to work after several. */
#define WRITE_SIZE (256u << 10)
#define START_SIZE (8u << 20)

void pack_path(char *out, size_t size, const char *store_path, uint64_t number)
{
	snprintf(out, size, "%s/packs/%016" PRIx64 ".pack", store_path, number);
}

void pack_temporary_path(char *out, size_t size, const char *store_path, uint64_t number)
{
	snprintf(out, size, "%s/packs/%016" PRIx64 ".new", store_path, number);
}

int pack_start(struct pack_writer *writer, uint64_t number, struct fault *fault)
{
	char path[PATH_MAX];

	pack_temporary_path(path, sizeof(path), writer->store_path, number);
	writer->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (writer->fd < 0)
		return fault_set(fault, -errno, "create %s: %s", path, strerror(errno));
	writer->number = number;
	writer->size = 0;
	writer->started = 0;
	buf_clear(&writer->pending);
	return 0;
}

static int flush(struct pack_writer *writer, struct fault *fault)
{
	char path[PATH_MAX];
	int r;

	pack_temporary_path(path, sizeof(path), writer->store_path, writer->number);
	r = disk_write(writer->disk, writer->fd, path, writer->pending.data, writer->pending.size);
	if (r < 0)
		return fault_set(fault, r, "write %s: %s", path, strerror(-r));
	buf_clear(&writer->pending);
	/* Only a hint: the fsync at the end finds less left to do. */
	if (writer->size - writer->started >= START_SIZE) {
		sync_file_range(writer->fd, (off_t)writer->started,
		    (off_t)(writer->size - writer->started), SYNC_FILE_RANGE_WRITE);
		writer->started = writer->size;
	}
	return 0;
}

int pack_append(struct pack_writer *writer, const struct id *id, const uint8_t *stored, size_t size,
    struct place *place, struct fault *fault)
{
	uint8_t header[PACK_HEADER] = "GDNC";
	uint32_t length = htole32((uint32_t)size);

	memcpy(header + 4, &length, sizeof(length));
	memcpy(header + 8, id->bytes, ID_SIZE);
	if (buf_append(&writer->pending, header, sizeof(header)) < 0 ||
	    buf_append(&writer->pending, stored, size) < 0)
		return -ENOMEM;
	*place = (struct place){
	    .pack = writer->number, .offset = writer->size + PACK_HEADER, .length = (uint32_t)size};
	writer->size += PACK_HEADER + size;
	return writer->pending.size >= WRITE_SIZE ? flush(writer, fault) : 0;
}

int pack_finish(struct pack_writer *writer, struct fault *fault)
{
	char from[PATH_MAX], to[PATH_MAX];
	int r = flush(writer, fault);

	pack_temporary_path(from, sizeof(from), writer->store_path, writer->number);
	pack_path(to, sizeof(to), writer->store_path, writer->number);
	if (r == 0)
		r = disk_fsync(writer->disk, writer->fd, from);
	if (r == 0)
		r = disk_rename(writer->disk, from, to, writer->dir_fd);
	if (r < 0)
		return fault_set(fault, r, "make %s durable: %s", to, strerror(-r));
	close(writer->fd);
	writer->fd = -1;
	return 0;
}

void pack_abandon(struct pack_writer *writer)
{
	char path[PATH_MAX];

	if (writer->fd >= 0) {
		/* After a failed rename or fsync it lies under either name. */
		pack_temporary_path(path, sizeof(path), writer->store_path, writer->number);
		if (disk_unlink(writer->disk, path) == -ENOENT) {
			pack_path(path, sizeof(path), writer->store_path, writer->number);
			disk_unlink(writer->disk, path);
		}
		close(writer->fd);
		writer->fd = -1;
	}
	buf_fini(&writer->pending);
}

int pack_peek(struct pack_writer *writer, const struct place *place, uint8_t *out)
{
	uint64_t written = writer->size - writer->pending.size;

	if (place->offset < written)
		return disk_read_at(writer->fd, out, place->length, place->offset);
	memcpy(out, writer->pending.data + (place->offset - written), place->length);
	return 0;
}

int pack_files_open(struct pack_files *files, const char *store_path, uint64_t number)
{
	unsigned int slot = files->next % PACK_FILES;
	char path[PATH_MAX];
	int fd;

	for (unsigned int i = 0; i < PACK_FILES; i++)
		if (files->file[i].number == number)
			return files->file[i].fd;
	pack_path(path, sizeof(path), store_path, number);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (files->file[slot].number)
		close(files->file[slot].fd);
	files->file[slot].number = number;
	files->file[slot].fd = fd;
	files->next++;
	return fd;
}

void pack_files_fini(struct pack_files *files)
{
	for (unsigned int i = 0; i < PACK_FILES; i++)
		if (files->file[i].number)
			close(files->file[i].fd);
	*files = (struct pack_files){0};
}
