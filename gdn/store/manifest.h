/*
 * What an object is: a set of flat files, whose content lies in chunks.
 *
 *	root    small, plain: sizes and the chunks of the next two; its id is the object id
 *	list    plain: every data chunk (id, stored and plain length), full, no chains
 *	names   sealed like the data: files with name, mode and size, and the extents of each in order:
 *	        bytes OFFSET to OFFSET + LENGTH of the plain content of a chunk of the list
 *
 * The list is apart from the names so that a replica without the key can count references, copy
 * and check an object without learning more than sizes.  Extents, and not simply chunks in order:
 * pages that one checkpoint has changed, here and there in memory, share chunks, while all others
 * stay in those of earlier checkpoints (pages.h).  List and names are streams cut and stored as
 * chunks like any other, so two checkpoints share what is equal in them.
 * Integers are little endian; the form is canonical: one layout, one encoding, one id.
 */
#ifndef GDN_STORE_MANIFEST_H
#define GDN_STORE_MANIFEST_H

#include "common/buf.h"
#include "gdn/store/id.h"

#define OBJECT_CHUNKS_MAX (1u << 20) /* 64 GiB of pages */
#define OBJECT_BYTES_MAX (UINT64_C(1) << 40)
#define OBJECT_FILES_MAX 65536u
#define ROOT_SIZE_MAX (512u << 10)
#define FILE_NAME_MAX 255

struct entry {
	struct id id;
	uint32_t stored; /* bytes in the store */
	uint32_t plain;  /* bytes of content */
};

struct entries {
	struct entry *at;
	size_t count;
	size_t capacity;
};

struct root {
	bool sealed;
	uint64_t bytes;  /* content of all files */
	uint32_t chunks; /* entries of the list */
	struct entries list;
	struct entries names;
};

struct extent {
	uint32_t chunk; /* of the list */
	uint32_t offset;
	uint32_t length;
};

struct file {
	char name[FILE_NAME_MAX + 1];
	uint32_t mode; /* permission bits */
	uint64_t size;
	uint32_t extents; /* its share of all extents, in order */
};

struct files {
	struct file *at;
	size_t count;
	size_t capacity;
	struct extent *extent;
	size_t extent_count;
	size_t extent_capacity;
};

int entries_add(struct entries *entries, const struct entry *entry);
/* Sum of the plain lengths. */
uint64_t entries_plain(const struct entries *entries);
void entries_fini(struct entries *entries);
int files_add(struct files *files, const struct file *file);
/* The next extent of the file that is added after it; one that goes on where the last ended joins it. */
int files_extend(struct files *files, struct file *file, const struct extent *extent);
void files_fini(struct files *files);
void root_fini(struct root *root);

/* A name a file of an object may have: no slash, no leading dot-dot, not empty. */
bool file_name_ok(const char *name);

/* Packers append; 0 or -ENOMEM. */
int root_pack(const struct root *root, struct buf *out);
int list_pack(const struct entries *list, struct buf *out);
int names_pack(const struct files *files, struct buf *out);

/*
 * Unpackers take foreign bytes, allocate no more than their size justifies, and accept only what
 * a packer could have written.  0, -EBADMSG, -EPROTONOSUPPORT another version, -ENOMEM; what they fill is the caller's to _fini.
 */
int root_unpack(struct root *root, const uint8_t *data, size_t size);
/* The list must agree with the root's number of chunks. */
int list_unpack(struct entries *list, const struct root *root, const uint8_t *data, size_t size);
/* The extents must lie in the list's chunks, add up to the files, and these to the root's bytes. */
int names_unpack(struct files *files, const struct root *root, const struct entries *list,
    const uint8_t *data, size_t size);

#endif
