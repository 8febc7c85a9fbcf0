/* What the files of a put share. */
#ifndef GDN_STORE_PUT_H
#define GDN_STORE_PUT_H

#include "gdn/store/chunker.h"
#include "gdn/store/coder.h"
#include "gdn/store/private.h"

#define PUT_WINDOW (512u << 10)

/* One put on its way. */
struct put {
	const struct put_request *request;
	struct fault *fault;
	struct chunker chunker;
	struct coder *data; /* with the key */
	struct coder *open; /* without, for the list */
	struct upload *upload;
	struct entries list;
	struct files files;
	struct memory *memory; /* with a key only */
	uint64_t done, told, total;
	uint8_t window[PUT_WINDOW];
};

/* Stores a chunk and says what its entry is. */
int put_chunk(
    struct put *put, struct coder *coder, const uint8_t *plain, size_t size, struct entry *entry);
/* Reads until the window is full or the file at its end. */
int put_fill(struct put *put, int fd, size_t *have, bool *end);
/* So many bytes of content are done: tells the progress. */
int put_done(struct put *put, size_t size);

/* --- memory.c: files of pages --- */

struct stat;

int memory_new(struct put *put, struct store *store);
/* Before all files are stored: a look at each. */
int memory_survey(struct put *put, const char *directory, const char *name);
/*
 * Stores the whole pages at the start of the file that fd reads; behind it, fd stands at what is left
 * of it.
 */
int memory_store_file(struct put *put, int fd, const struct stat *st, struct file *file);
/* The chunk that pages were gathered in is stored at the place that was kept for it. */
int memory_end_chunk(struct put *put);
bool memory_has_pages(const struct put *put);
/* The pages of this image, or if it failed those of the last one, are what the next one begins with. */
void memory_end(struct put *put, struct store *store, const struct put_result *result);

#endif
