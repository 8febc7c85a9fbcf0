#include "gdn/store/manifest.h"

#include "common/rng.h"
#include "common/test.h"

#include <errno.h>

/* Two files: "a" of three chunks, "b" of none. */
static void sample(struct root *root, struct entries *list, struct files *files)
{
	struct file a = {.name = "a", .mode = 0640}, b = {.name = "b", .mode = 0600};

	*root = (struct root){.sealed = true};
	*list = (struct entries){0};
	*files = (struct files){0};
	for (uint32_t i = 0; i < 3; i++) {
		struct entry entry = {.stored = 100 + i, .plain = 5000 + i};

		memset(entry.id.bytes, (int)i + 1, ID_SIZE);
		check_int(entries_add(list, &entry), 0);
		check_int(files_extend(files, &a, &(struct extent){i, i, entry.plain - i}), 0);
	}
	check_int(files_add(files, &a), 0);
	check_int(files_add(files, &b), 0);
	root->bytes = a.size;
	root->chunks = 3;
	check_int(entries_add(&root->list, &(struct entry){.stored = 120, .plain = 120}), 0);
	check_int(entries_add(&root->names, &(struct entry){.stored = 90, .plain = 83}), 0);
}

static void a_manifest_comes_back_as_it_was(void)
{
	struct buf root_bytes = {0}, list_bytes = {0}, names_bytes = {0};
	struct root root, root2;
	struct entries list, list2;
	struct files files, files2;

	sample(&root, &list, &files);
	check_int(root_pack(&root, &root_bytes), 0);
	check_int(list_pack(&list, &list_bytes), 0);
	check_int(names_pack(&files, &names_bytes), 0);
	check_int(root_unpack(&root2, root_bytes.data, root_bytes.size), 0);
	check_int(list_unpack(&list2, &root2, list_bytes.data, list_bytes.size), 0);
	check_int(names_unpack(&files2, &root2, &list2, names_bytes.data, names_bytes.size), 0);
	check(root2.sealed && root2.bytes == root.bytes && root2.names.count == 1);
	check(memcmp(list2.at, list.at, 3 * sizeof(*list.at)) == 0);
	check_int(files2.count, 2);
	check_str(files2.at[0].name, "a");
	check_int(files2.at[0].mode, 0640);
	root_fini(&root);
	root_fini(&root2);
	entries_fini(&list);
	entries_fini(&list2);
	files_fini(&files);
	files_fini(&files2);
	buf_fini(&root_bytes);
	buf_fini(&list_bytes);
	buf_fini(&names_bytes);
}

static int names_of(const char *first, const char *second, uint32_t first_extents)
{
	struct buf bytes = {0};
	struct root root;
	struct entries list;
	struct files files, got;
	int r;

	sample(&root, &list, &files);
	snprintf(files.at[0].name, sizeof(files.at[0].name), "%s", first);
	snprintf(files.at[1].name, sizeof(files.at[1].name), "%s", second);
	files.at[0].extents = first_extents;
	check_int(names_pack(&files, &bytes), 0);
	r = names_unpack(&got, &root, &list, bytes.data, bytes.size);
	if (r == 0)
		files_fini(&got);
	root_fini(&root);
	entries_fini(&list);
	files_fini(&files);
	buf_fini(&bytes);
	return r;
}

static void names_that_leave_the_directory_are_refused(void)
{
	check_int(names_of("a", "b", 3), 0);
	check_int(names_of("..", "b", 3), -EBADMSG);
	check_int(names_of(".", "b", 3), -EBADMSG);
	check_int(names_of("", "b", 3), -EBADMSG);
	check_int(names_of("a", "b/c", 3), -EBADMSG);
	check_int(names_of("/a", "b", 3), -EBADMSG);
}

static void names_out_of_order_or_twice_are_refused(void)
{
	check_int(names_of("b", "a", 3), -EBADMSG);
	check_int(names_of("a", "a", 3), -EBADMSG);
}

static void files_share_out_the_extents_exactly(void)
{
	check_int(names_of("a", "b", 2), -EBADMSG);
	check_int(names_of("a", "b", 4), -EBADMSG);
	check_int(names_of("a", "b", UINT32_MAX), -EBADMSG);
}

/* Every byte changed and every length: refused or a manifest that a packer could have written. */
static void foreign_bytes_are_refused_or_canonical(void)
{
	struct buf bytes = {0}, again = {0};
	struct root root, got;
	struct entries list;
	struct files files;

	sample(&root, &list, &files);
	check_int(root_pack(&root, &bytes), 0);
	for (size_t i = 0; i < bytes.size; i++)
		for (int bit = 0; bit < 8; bit++) {
			bytes.data[i] ^= (uint8_t)(1 << bit);
			if (root_unpack(&got, bytes.data, bytes.size) == 0) {
				buf_clear(&again);
				check_int(root_pack(&got, &again), 0);
				check(again.size == bytes.size &&
				      memcmp(again.data, bytes.data, bytes.size) == 0);
				root_fini(&got);
			}
			bytes.data[i] ^= (uint8_t)(1 << bit);
		}
	for (size_t size = 0; size < bytes.size; size++)
		check_int(root_unpack(&got, bytes.data, size), -EBADMSG);
	root_fini(&root);
	entries_fini(&list);
	files_fini(&files);
	buf_fini(&bytes);
	buf_fini(&again);
}

static void random_names_never_crash(void)
{
	struct buf bytes = {0};
	struct root root;
	struct entries list;
	struct files files, got;
	struct rng rng;

	rng_init(&rng, 3);
	sample(&root, &list, &files);
	check_int(names_pack(&files, &bytes), 0);
	for (int i = 0; i < 100000; i++) {
		size_t at = rng_below(&rng, bytes.size);
		uint8_t was = bytes.data[at];

		bytes.data[at] = (uint8_t)rng_u64(&rng);
		if (names_unpack(&got, &root, &list, bytes.data, rng_below(&rng, bytes.size + 1)) ==
		    0)
			files_fini(&got);
		if (rng_chance(&rng, 0.7))
			bytes.data[at] = was;
	}
	root_fini(&root);
	entries_fini(&list);
	files_fini(&files);
	buf_fini(&bytes);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(a_manifest_comes_back_as_it_was),
	    TEST(names_that_leave_the_directory_are_refused),
	    TEST(names_out_of_order_or_twice_are_refused),
	    TEST(files_share_out_the_extents_exactly),
	    TEST(foreign_bytes_are_refused_or_canonical),
	    TEST(random_names_never_crash),
	    {0},
	});
}
