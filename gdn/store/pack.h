/*
 * Packs: files of chunks, each behind a header that names it (so that an index could be made from
 * packs alone).
 *
 *	"GDNC" | length, 4 bytes little endian | id, 32 bytes | stored bytes
 */
#ifndef GDN_STORE_PACK_H
#define GDN_STORE_PACK_H

#include "common/buf.h"
#include "gdn/store/disk.h"
#include "gdn/store/fault.h"
#include "gdn/store/index.h"

#define PACK_HEADER 40
/* A pack is closed when it is this large. */
#define PACK_SIZE (UINT64_C(64) << 20)

struct pack_writer {
	const struct disk *disk;
	const char *store_path;
	int dir_fd;
	int fd; /* -1: none open */
	uint64_t number;
	uint64_t size;
	uint64_t started; /* bytes handed to the disk early */
	struct buf pending;
};

/* "STORE/packs/NUMBER.pack", and the name it is written under. */
void pack_path(char *out, size_t size, const char *store_path, uint64_t number);
void pack_temporary_path(char *out, size_t size, const char *store_path, uint64_t number);

int pack_start(struct pack_writer *writer, uint64_t number, struct fault *fault);
/* Appends a chunk and tells its place. */
int pack_append(struct pack_writer *writer, const struct id *id, const uint8_t *stored, size_t size,
    struct place *place, struct fault *fault);
/* Durable under its name when this returns 0; writer->size is the file's size. */
int pack_finish(struct pack_writer *writer, struct fault *fault);
/* Drops an unfinished pack, if there is one, and what the writer owns. */
void pack_abandon(struct pack_writer *writer);
/* Copies out a chunk of the unfinished pack. */
int pack_peek(struct pack_writer *writer, const struct place *place, uint8_t *out);

#define PACK_FILES 8

/* A few open packs, for one reader. */
struct pack_files {
	struct {
		uint64_t number; /* 0: free */
		int fd;
	} file[PACK_FILES];
	unsigned int next;
};

/* A descriptor the files own, or negative errno. */
int pack_files_open(struct pack_files *files, const char *store_path, uint64_t number);
void pack_files_fini(struct pack_files *files);

#endif
