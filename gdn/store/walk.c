#include "gdn/store/private.h"

#include <errno.h>
#include <stdlib.h>

/* An extent with the place in its file. */
struct run {
	struct extent from;
	uint64_t at;
	uint32_t file;
};

static int by_chunk(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	if (x->from.chunk != y->from.chunk)
		return x->from.chunk < y->from.chunk ? -1 : 1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static struct run *list_runs(const struct files *files)
{
	struct run *runs = reallocarray(NULL, files->extent_count + 1, sizeof(*runs));
	size_t count = 0;

	for (uint32_t i = 0; runs && i < files->count; i++) {
		uint64_t at = 0;

		for (uint32_t k = 0; k < files->at[i].extents; k++) {
			runs[count] = (struct run){files->extent[count], at, i};
			at += files->extent[count++].length;
		}
	}
	if (runs)
		qsort(runs, count, sizeof(*runs), by_chunk);
	return runs;
}

int object_walk(struct object *object, const struct files *files, struct coder *coder,
    int (*each)(void *arg, const struct piece *piece, struct fault *fault), void *arg,
    struct fault *fault)
{
	const struct entry *list = object_list(object)->at;
	struct run *runs = list_runs(files);
	const uint8_t *plain = NULL;
	int r = runs ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < files->extent_count; i++) {
		const struct run *run = &runs[i];
		struct piece piece = {.file = &files->at[run->file],
		    .chunk = run->from.chunk,
		    .offset = run->from.offset,
		    .at = run->at,
		    .size = run->from.length};

		if (i == 0 || run->from.chunk != runs[i - 1].from.chunk)
			r = object_read_plain(object, &list[run->from.chunk], piece.file->name,
			    run->at, coder, &plain, fault);
		if (r < 0)
			break;
		piece.plain = plain + run->from.offset;
		r = each(arg, &piece, fault);
	}
	free(runs);
	return r;
}
