#include "gdn/store/test-store.h"

#include "gdn/store/chunker.h"
#include "gdn/store/pack.h"

static void what_is_put_is_got_back_sealed_or_plain(void)
{
	struct store *store = test_open("s1");
	struct fault fault = {0};
	struct id sealed, plain;

	test_image(test_path("image"), 3 << 20, 1);
	sealed = test_put(store, test_path("image"), test_key);
	plain = test_put(store, test_path("image"), NULL);
	check(!id_equal(&sealed, &plain));
	check_int(test_get(store, &sealed, test_key, &fault), 0);
	check(test_same(test_path("image"), test_path("out")));
	check_int(test_get(store, &plain, NULL, &fault), 0);
	check(test_same(test_path("image"), test_path("out")));
	store_close(store);
}

static void objects_are_there_after_a_restart(void)
{
	struct store *store = test_open("s1");
	struct fault fault = {0};
	struct id oid;

	oid = test_put(store, test_path("image"), test_key);
	store_close(store);
	store = test_open("s1");
	check_int(store_has(store, &oid), 0);
	check_int(test_get(store, &oid, test_key, &fault), 0);
	check(test_same(test_path("image"), test_path("out")));
	store_close(store);
}

static void the_same_content_is_the_same_object_and_costs_nothing(void)
{
	struct store *store = test_open("s1");
	struct put_result first, second;
	struct put_request request = {
	    .path = test_path("image"), .key = test_key, .tag = "", .kind = "test"};

	check_int(store_put(store, &request, &first, NULL), 0);
	check_int(store_put(store, &request, &second, NULL), 0);
	check(id_equal(&first.oid, &second.oid));
	check(second.was_there);
	check_int(second.stored, 0);
	store_close(store);
}

static void fill_noise(uint8_t *data, size_t size, struct rng *rng)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = rng_u64(rng);

		memcpy(data + i, &word, 8);
	}
}

static struct put_result put_or_fail(struct store *store, const char *path)
{
	struct put_result result = {0};
	struct put_request request = {.path = path, .key = test_key, .tag = "", .kind = "test"};

	check_int(store_put(store, &request, &result, NULL), 0);
	return result;
}

/*
 * Goal C4's case in small, and at its hardest: 5 % of the pages written anew, each for itself; and
 * gosd starts again, and on.
 */
static void pages_changed_here_and_there_cost_little_more_than_themselves(void)
{
	size_t size = 32 << 20, changed = 0, stored = 0;
	uint8_t *data = malloc(size);
	struct store *store = test_open("s2");
	struct put_result result;
	struct rng rng;

	rng_init(&rng, 9);
	fill_noise(data, size, &rng);
	mkdir(test_path("heap"), 0750);
	test_write(test_path("heap/pages-1.img"), data, size);
	result = put_or_fail(store, test_path("heap"));
	check_range(result.stored, size, 1.02 * (double)size);
	for (int round = 0; round < 10; round++) {
		for (size_t i = 0; i < size / 4096 / 20; i++, changed += 4096)
			fill_noise(data + 4096 * rng_below(&rng, size / 4096), 4096, &rng);
		test_write(test_path("heap/pages-1.img"), data, size);
		if (round == 4) {
			store_close(store);
			store = test_open("s2");
		}
		result = put_or_fail(store, test_path("heap"));
		stored += result.stored;
	}
	printf("# changed %zu stored %zu ratio %.2f\n", changed, stored,
	    (double)stored / (double)changed);
	check_range((double)stored / (double)changed, 0.9, 1.5);
	check_int(test_get(store, &result.oid, test_key, NULL), 0);
	check(test_same(test_path("heap"), test_path("out")));
	free(data);
	store_close(store);
}

static void the_same_image_again_is_the_same_object_whatever_came_before(void)
{
	struct store *store = test_open("s10");
	struct put_result first, second;

	test_image(test_path("before"), 3 << 20, 21);
	test_image(test_path("after"), 3 << 20, 22);
	put_or_fail(store, test_path("before"));
	first = put_or_fail(store, test_path("after"));
	second = put_or_fail(store, test_path("after"));
	check(id_equal(&first.oid, &second.oid));
	check(second.was_there);
	check_int(test_get(store, &first.oid, test_key, NULL), 0);
	check(test_same(test_path("after"), test_path("out")));
	store_close(store);
}

static int64_t chunks_of(struct store *store, const struct id *oid)
{
	struct object_row row;

	check_int(store_row(store, oid, &row), 0);
	return row.chunks;
}

/* Without cleaning, a few pages would keep each of these 128 chunks for ever. */
static void chunks_of_which_little_is_used_are_not_kept(void)
{
	size_t size = 8 << 20;
	uint8_t *data = malloc(size);
	struct store *store = test_open("s11");
	struct put_result result;
	struct rng rng;

	rng_init(&rng, 31);
	fill_noise(data, size, &rng);
	mkdir(test_path("few"), 0750);
	test_write(test_path("few/pages-1.img"), data, size);
	result = put_or_fail(store, test_path("few"));
	check_int(chunks_of(store, &result.oid), 128);
	for (size_t page = 0; page < size / 4096; page++)
		if (page % 16 >= 6)
			fill_noise(data + 4096 * page, 4096, &rng);
	test_write(test_path("few/pages-1.img"), data, size);
	result = put_or_fail(store, test_path("few"));
	check_int(chunks_of(store, &result.oid), 128);
	check_range(result.stored, size, 1.02 * (double)size);
	check_int(test_get(store, &result.oid, test_key, NULL), 0);
	check(test_same(test_path("few"), test_path("out")));
	free(data);
	store_close(store);
}

/* A file that is not of pages: cut by content. */
static void runs_changed_in_other_files_store_at_most_2_2_times_that(void)
{
	size_t size = 32 << 20, changed = 0;
	uint8_t *data = malloc(size);
	struct store *store = test_open("s2");
	struct put_result result;
	struct rng rng;

	rng_init(&rng, 9);
	fill_noise(data, size, &rng);
	test_write(test_path("upper.tar"), data, size);
	put_or_fail(store, test_path("upper.tar"));
	while (changed < size / 20) {
		size_t run = 4096 * (1 + rng_below(&rng, 31));

		fill_noise(data + 4096 * rng_below(&rng, (size - run) / 4096), run, &rng);
		changed += run;
	}
	test_write(test_path("upper.tar"), data, size);
	result = put_or_fail(store, test_path("upper.tar"));
	check_range((double)result.stored / (double)changed, 0.9, 2.2);
	free(data);
	store_close(store);
}

static void a_wrong_key_is_told_as_such(void)
{
	static const uint8_t other[32] = "another key";
	struct store *store = test_open("s1");
	struct id oid = test_put(store, test_path("image"), test_key);
	struct fault fault = {0}, none = {0};

	check_int(test_get(store, &oid, other, &fault), -EKEYREJECTED);
	check(strstr(fault.text, "wrong key"));
	check_int(test_get(store, &oid, NULL, &none), -ENOKEY);
	check(strstr(none.text, "no key was given"));
	check(access(test_path("out"), F_OK) < 0);
	store_close(store);
}

static void a_directory_with_other_things_than_files_is_refused(void)
{
	struct store *store = test_open("s1");
	struct put_request request = {.path = test_path("odd"), .tag = "", .kind = ""};
	struct put_result result;
	struct fault fault = {0}, link = {0}, gone = {0};

	test_image(test_path("odd"), 1000, 1);
	mkdir(test_path("odd/sub"), 0700);
	check_int(store_put(store, &request, &result, &fault), -EINVAL);
	check(strstr(fault.text, "sub: not a regular file"));
	rmdir(test_path("odd/sub"));
	check(symlink("/etc/passwd", test_path("odd/sub")) == 0);
	check_int(store_put(store, &request, &result, &link), -ELOOP);
	request.path = test_path("nothing");
	check_int(store_put(store, &request, &result, &gone), -ENOENT);
	store_close(store);
}

static void get_leaves_alone_what_is_there(void)
{
	struct store *store = test_open("s1");
	struct id oid = test_put(store, test_path("image"), NULL);
	uint64_t bytes;
	struct get_request request = {.oid = oid, .path = test_path("odd"), .group = -1};

	check_int(store_get(store, &request, &bytes, NULL), -EEXIST);
	check_int(access(test_path("odd/inventory.img"), F_OK), 0);
	store_close(store);
}

/* --- damage --- */

static void change_one_byte(uint8_t *data, size_t *size)
{
	data[*size / 2] ^= 0x10;
}

static void cut_in_half(uint8_t *data, size_t *size)
{
	(void)data;
	*size /= 2;
}

static void damage_and_look(
    const char *name, void (*change)(uint8_t *, size_t *), const char *where)
{
	struct store *store = test_open(name);
	struct id oid = test_put(store, test_path("image"), test_key), other;
	struct fault fault = {0}, again = {0};
	struct verify_result verify;
	char hex[ID_HEX];

	test_each_pack(name, change);
	check_int(test_get(store, &oid, test_key, &fault), -EBADMSG);
	check(strstr(fault.text, id_hex(&oid, hex)));
	check(strstr(fault.text, where));
	check(strstr(fault.text, "damaged"));
	check(access(test_path("out"), F_OK) < 0);
	/* Once found, it is out of the way. */
	check_int(store_verify(store, &oid, NULL, &verify, NULL), 0);
	check_int(verify.damaged, 0);
	check(verify.missing >= 1);
	check_int(store_has(store, &oid), -ENODATA);
	check_int(test_get(store, &oid, test_key, &again), -ENODATA);
	/* Putting the content again heals what was found, without a second object. */
	for (int i = 0; i < 3 && verify.damaged + verify.missing > 0; i++) {
		other = test_put(store, test_path("image"), test_key);
		check(id_equal(&oid, &other));
		check_int(store_verify(store, &oid, NULL, &verify, NULL), 0);
	}
	check_int(store_has(store, &oid), 0);
	check_int(test_get(store, &oid, test_key, NULL), 0);
	check(test_same(test_path("image"), test_path("out")));
	store_close(store);
}

static void a_changed_byte_is_named_quarantined_and_healed(void)
{
	damage_and_look("s3", change_one_byte, "file pages-1.img, offset ");
}

static void a_pack_cut_short_is_damage(void)
{
	damage_and_look("s4", cut_in_half, "file list, offset 0");
}

static int scrub_all(struct store *store, struct scrub *scrub)
{
	int steps = 0, r = 0;

	*scrub = (struct scrub){0};
	for (; r == 0; steps++)
		r = store_scrub(store, scrub, 100000, NULL);
	check_int(r, 1);
	return steps;
}

static void scrubbing_reads_each_chunk_once_and_finds_what_is_damaged(void)
{
	struct store *store = test_open("s12");
	struct index_totals totals;
	struct scrub scrub;
	struct id oid = test_put(store, test_path("image"), test_key);

	test_image(test_path("other"), 3 << 20, 2);
	test_put(store, test_path("other"), test_key);
	check_int(store_totals(store, &totals), 0);
	check(scrub_all(store, &scrub) > 10);
	check_int(scrub.chunks, totals.chunks);
	check_int(scrub.damaged + scrub.missing, 0);
	test_each_pack("s12", change_one_byte);
	scrub_all(store, &scrub);
	check_int(scrub.chunks, totals.chunks);
	check_int(scrub.damaged, 2);
	scrub_all(store, &scrub);
	check_int(scrub.damaged, 0);
	check_int(scrub.missing, 2);
	check_int(store_has(store, &oid), -ENODATA);
	store_close(store);
}

/* --- removing and collecting --- */

static void an_object_stays_while_one_tag_keeps_it(void)
{
	struct store *store = test_open("s5");
	struct put_result result;
	struct put_request request = {.path = test_path("image"), .tag = "a", .kind = "image"};

	check_int(store_put(store, &request, &result, NULL), 0);
	request.tag = "b";
	check_int(store_put(store, &request, &result, NULL), 0);
	check_int(store_rm(store, &result.oid, "a", NULL), 0);
	check_int(store_has(store, &result.oid), 0);
	check_int(store_rm(store, &result.oid, "b", NULL), 1);
	check_int(store_has(store, &result.oid), -ENOENT);
	check_int(store_rm(store, &result.oid, "b", NULL), -ENOENT);
	store_close(store);
}

static void collection_gives_back_all_that_only_the_removed_had(void)
{
	struct store *store = test_open("s6");
	struct index_totals totals;
	struct gc_result gc;
	struct id a, b;

	test_image(test_path("other"), 3 << 20, 2);
	a = test_put(store, test_path("image"), NULL);
	b = test_put(store, test_path("other"), NULL);
	check_int(store_rm(store, &a, NULL, NULL), 1);
	check_int(store_gc(store, &gc, NULL), 0);
	check(gc.chunks > 30 && gc.packs_removed == 1);
	check_int(test_get(store, &b, NULL, NULL), 0);
	check(test_same(test_path("other"), test_path("out")));
	check_int(store_rm(store, &b, NULL, NULL), 1);
	check_int(store_gc(store, &gc, NULL), 0);
	check_int(store_totals(store, &totals), 0);
	check_int(totals.chunks, 0);
	check_int(totals.pack_bytes, 0);
	check_int(test_pack_count("s6"), 0);
	store_close(store);
}

static void a_pack_mostly_dead_is_copied_and_what_lives_still_reads(void)
{
	struct store *store = test_open("s7");
	struct index_totals before, after;
	struct gc_result gc;
	uint8_t *data = malloc(3 << 20);
	struct id a, b;

	/* b is the first third of a's file. */
	test_fill(data, 3 << 20, 5);
	mkdir(test_path("whole"), 0700);
	mkdir(test_path("part"), 0700);
	test_write(test_path("whole/pages-1.img"), data, 3 << 20);
	test_write(test_path("part/pages-1.img"), data, 1 << 20);
	a = test_put(store, test_path("whole"), test_key);
	b = test_put(store, test_path("part"), test_key);
	check_int(store_totals(store, &before), 0);
	check_int(store_rm(store, &a, NULL, NULL), 1);
	check_int(store_gc(store, &gc, NULL), 0);
	check_int(gc.packs_copied, 1);
	check_int(store_totals(store, &after), 0);
	check(after.pack_bytes < before.pack_bytes / 2);
	check_int(test_get(store, &b, test_key, NULL), 0);
	check(test_same(test_path("part"), test_path("out")));
	store_close(store);
	store = test_open("s7");
	check_int(test_get(store, &b, test_key, NULL), 0);
	store_close(store);
	free(data);
}

static void collection_leaves_what_an_upload_or_a_reader_refers_to(void)
{
	struct store *store = test_open("s8");
	struct object *object;
	struct upload *upload;
	struct gc_result gc;
	const uint8_t *stored;
	struct id oid = test_put(store, test_path("image"), NULL);
	struct entry entry;

	check_int(object_open(&object, store, &oid, NULL), 0);
	entry = *object_entry(object, 5);
	check_int(upload_new(&upload, store), 0);
	check_int(upload_knows(upload, &entry.id), 1);
	check_int(store_rm(store, &oid, NULL, NULL), 1);
	check_int(store_gc(store, &gc, NULL), 0);
	check_int(gc.chunks, 0);
	for (size_t i = 0; i < object_count(object); i++)
		check_int(object_read(object, object_entry(object, i), "", 0, &stored, NULL), 0);
	object_close(object);
	/* Only the upload is left, and knows one chunk. */
	check_int(store_gc(store, &gc, NULL), 0);
	check(gc.chunks > 30);
	check_int(upload_knows(upload, &entry.id), 1);
	upload_free(upload);
	check_int(store_gc(store, &gc, NULL), 0);
	check_int(gc.chunks, 1);
	store_close(store);
}

static void a_quota_is_kept_and_earlier_objects_stay(void)
{
	struct store *store;
	struct fault fault = {0};
	struct put_result result;
	struct put_request request = {.path = test_path("other"), .tag = "", .kind = ""};
	struct id oid;

	check_int(store_open(&store,
		      &(struct store_config){.path = test_path("s9"), .quota = 3 << 20}, NULL),
	    0);
	oid = test_put(store, test_path("image"), NULL);
	check_int(store_put(store, &request, &result, &fault), -EDQUOT);
	check(strstr(fault.text, "quota of 3145728 bytes reached"));
	check_int(test_pack_count("s9"), 1);
	check_int(test_get(store, &oid, NULL, NULL), 0);
	/* What the failed one had taken is free again. */
	test_image(test_path("small"), 300000, 77);
	test_put(store, test_path("small"), NULL);
	store_close(store);
}

static void one_store_has_one_user(void)
{
	struct store *store = test_open("s1"), *second;
	struct fault fault = {0};

	check_int(
	    store_open(&second, &(struct store_config){.path = test_path("s1")}, &fault), -EBUSY);
	check(strstr(fault.text, "index.db"));
	store_close(store);
}

int main(void)
{
	test_begin();
	return test_main((struct test[]){
	    TEST(what_is_put_is_got_back_sealed_or_plain),
	    TEST(objects_are_there_after_a_restart),
	    TEST(the_same_content_is_the_same_object_and_costs_nothing),
	    TEST(pages_changed_here_and_there_cost_little_more_than_themselves),
	    TEST(the_same_image_again_is_the_same_object_whatever_came_before),
	    TEST(chunks_of_which_little_is_used_are_not_kept),
	    TEST(runs_changed_in_other_files_store_at_most_2_2_times_that),
	    TEST(a_wrong_key_is_told_as_such),
	    TEST(a_directory_with_other_things_than_files_is_refused),
	    TEST(get_leaves_alone_what_is_there),
	    TEST(a_changed_byte_is_named_quarantined_and_healed),
	    TEST(a_pack_cut_short_is_damage),
	    TEST(scrubbing_reads_each_chunk_once_and_finds_what_is_damaged),
	    TEST(an_object_stays_while_one_tag_keeps_it),
	    TEST(collection_gives_back_all_that_only_the_removed_had),
	    TEST(a_pack_mostly_dead_is_copied_and_what_lives_still_reads),
	    TEST(collection_leaves_what_an_upload_or_a_reader_refers_to),
	    TEST(a_quota_is_kept_and_earlier_objects_stay),
	    TEST(one_store_has_one_user),
	    {0},
	});
}
