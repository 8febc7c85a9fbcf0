#include "metad/store-suite.h"

#include <errno.h>

#include "common/test.h"

/* An answer kept: a deep copy of what the callback was shown. */
struct kept {
	bool done;
	struct store_reply reply;
	char keys[STORE_PAGE_MAX][STORE_KEY_MAX + 1];
	uint64_t versions[STORE_PAGE_MAX];
	size_t sizes[STORE_PAGE_MAX];
	uint8_t first[STORE_VALUE_MAX]; /* value of the first entry */
};

static const struct suite *suite;
static struct store *client[4];
static struct kept kept;

static void keep(void *arg, const struct store_reply *reply)
{
	struct kept *k = arg;

	check(!k->done);
	k->done = true;
	k->reply = *reply;
	k->reply.entries = NULL;
	check(reply->count <= STORE_PAGE_MAX);
	for (size_t i = 0; i < reply->count; i++) {
		check(strlen(reply->entries[i].key) <= STORE_KEY_MAX);
		memcpy(k->keys[i], reply->entries[i].key, strlen(reply->entries[i].key) + 1);
		k->versions[i] = reply->entries[i].version;
		k->sizes[i] = reply->entries[i].size;
	}
	if (reply->count && reply->entries[0].size)
		memcpy(k->first, reply->entries[0].value, reply->entries[0].size);
}

static struct kept *fresh(void)
{
	kept.done = false;
	return &kept;
}

static void await(const struct kept *k)
{
	while (!k->done)
		suite->pump(suite->arg);
}

static struct mono soon(void)
{
	return mono_add_ms(mono_now(), 20000);
}

static struct store_op put(const char *key, uint64_t expected, const char *value)
{
	return (struct store_op){key, expected, STORE_PUT, value, strlen(value)};
}

static struct store_op del(const char *key, uint64_t expected)
{
	return (struct store_op){.key = key, .expected = expected, .kind = STORE_DELETE};
}

static struct store_op is(const char *key, uint64_t expected)
{
	return (struct store_op){.key = key, .expected = expected, .kind = STORE_CHECK};
}

static int submit(
    struct store *store, const struct store_op *ops, size_t count, uint64_t nonce, struct kept *k)
{
	struct store_txn txn = {ops, count, {{nonce, nonce}}, soon()};

	k->done = false;
	return store_txn(store, &txn, keep, k);
}

static const struct store_reply *txn(const struct store_op *ops, size_t count)
{
	check_int(submit(client[0], ops, count, 0, &kept), 0);
	check(!kept.done); /* never from inside the call */
	await(&kept);
	return &kept.reply;
}

#define TXN(...)                                                                                   \
	txn((struct store_op[]){__VA_ARGS__},                                                      \
	    sizeof((struct store_op[]){__VA_ARGS__}) / sizeof(struct store_op))

static uint64_t version(const char *key)
{
	check_int(store_get(client[0], key, soon(), keep, fresh()), 0);
	await(&kept);
	check_int(kept.reply.rc, 0);
	check_int(kept.reply.count, 1);
	check_str(kept.keys[0], key);
	return kept.versions[0];
}

static void an_absent_key_has_version_zero(void)
{
	check_int(version("absent"), 0);
}

static void a_put_is_read_back_with_its_revision_as_version(void)
{
	const struct store_reply *reply = TXN(put("a/1", 0, "one"));
	uint64_t revision = reply->revision;

	check_int(reply->rc, 0);
	check(revision > 0);
	check_int(version("a/1"), revision);
	check_int(kept.sizes[0], 3);
	check(memcmp(kept.first, "one", 3) == 0);
}

static void a_wrong_version_is_a_conflict_and_changes_nothing(void)
{
	uint64_t before = version("a/1");
	const struct store_reply *reply =
	    TXN(put("a/2", 0, "x"), put("a/1", before + 1, "y"), put("a/3", 7, "z"));

	check_int(reply->rc, STORE_CONFLICT);
	check_int(reply->conflict, 1);
	check_int(reply->conflict_version, before);
	check_int(version("a/1"), before);
	check_int(version("a/2"), 0);
}

static void an_existing_key_conflicts_with_absent(void)
{
	uint64_t before = version("a/1");
	const struct store_reply *reply = TXN(put("a/1", 0, "again"));

	check_int(reply->rc, STORE_CONFLICT);
	check_int(reply->conflict, 0);
	check_int(reply->conflict_version, before);
}

static void a_check_holds_the_whole_transaction(void)
{
	uint64_t before = version("a/1");

	check_int(TXN(is("a/1", before + 5), put("a/4", 0, "x"))->rc, STORE_CONFLICT);
	check_int(version("a/4"), 0);
	check_int(TXN(is("a/1", before), is("a/none", 0), put("a/4", 0, "x"))->rc, 0);
	check(version("a/4") > before);
	check_int(version("a/1"), before);
}

static void any_matches_present_and_absent(void)
{
	check_int(TXN(put("any/1", STORE_ANY, "1"))->rc, 0);
	check_int(TXN(put("any/1", STORE_ANY, "2"), del("any/2", STORE_ANY))->rc, 0);
	check_int(TXN(del("any/1", STORE_ANY))->rc, 0);
	check_int(version("any/1"), 0);
}

static void versions_rise_over_deletion_and_are_not_used_again(void)
{
	uint64_t last = 0;

	for (int i = 0; i < 5; i++) {
		check_int(TXN(put("again", 0, "x"))->rc, 0);
		check(kept.reply.revision > last);
		last = kept.reply.revision;
		check_int(version("again"), last);
		check_int(TXN(del("again", last - 1))->rc, STORE_CONFLICT);
		check_int(TXN(del("again", last))->rc, 0);
		check(kept.reply.revision > last);
		check_int(version("again"), 0);
	}
}

static void all_puts_of_a_transaction_get_its_revision(void)
{
	check_int(TXN(put("both/1", 0, "x"), put("both/2", 0, "y"))->rc, 0);
	uint64_t revision = kept.reply.revision;

	check_int(version("both/1"), revision);
	check_int(version("both/2"), revision);
}

static void values_of_any_bytes_and_of_the_full_size_come_back(void)
{
	static uint8_t value[STORE_VALUE_MAX];
	struct store_op op = {"big", STORE_ANY, STORE_PUT, value, sizeof(value)};

	for (size_t i = 0; i < sizeof(value); i++)
		value[i] = (uint8_t)(i * 7 + i / 256);
	check_int(txn(&op, 1)->rc, 0);
	version("big");
	check_int(kept.sizes[0], sizeof(value));
	check(memcmp(kept.first, value, sizeof(value)) == 0);
	op.size = 0;
	check_int(txn(&op, 1)->rc, 0);
	check(version("big") > 0);
	check_int(kept.sizes[0], 0);
}

static void keys_of_any_printable_bytes_are_kept_apart(void)
{
	char longest[STORE_KEY_MAX + 1];

	memset(longest, 'k', STORE_KEY_MAX);
	longest[STORE_KEY_MAX] = 0;
	check_int(
	    TXN(put("q\"\\'%_*?[]{}", 0, "q"), put("Q\"\\'%_*?[]{}", 0, "Q"), put(longest, 0, "l"))
		->rc,
	    0);
	version("q\"\\'%_*?[]{}");
	check(kept.first[0] == 'q');
	version("Q\"\\'%_*?[]{}");
	check(kept.first[0] == 'Q');
	check(version(longest) > 0);
	check_int(TXN(del(longest, STORE_ANY))->rc, 0);
}

static void bad_keys_are_refused(void)
{
	static const char *const bad[] = {"", " ", "a b", "tab\t", "nul\n", "\x7f", "\xc3\xa4"};
	char long_key[STORE_KEY_MAX + 2];

	memset(long_key, 'k', STORE_KEY_MAX + 1);
	long_key[STORE_KEY_MAX + 1] = 0;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct store_op op = put(bad[i], 0, "x");

		check_int(submit(client[0], &op, 1, 0, &kept), -EINVAL);
		check_int(store_get(client[0], bad[i], soon(), keep, fresh()), -EINVAL);
	}
	check_int(store_get(client[0], long_key, soon(), keep, fresh()), -EINVAL);
	check_int(store_scan(client[0], "a b", "", 1, soon(), keep, fresh()), -EINVAL);
}

static void limits_are_kept(void)
{
	static char value[STORE_VALUE_MAX + 1];
	struct store_op one = {"v", 0, STORE_PUT, value, sizeof(value)};
	struct store_op ops[STORE_OPS_MAX + 1], twice[2] = {is("t", 0), is("t", 0)};
	char keys[STORE_OPS_MAX + 1][8];

	check_int(submit(client[0], &one, 1, 0, &kept), -EMSGSIZE);
	check_int(submit(client[0], twice, 2, 0, &kept), -EINVAL);
	check_int(submit(client[0], twice, 0, 0, &kept), -EINVAL);
	for (size_t i = 0; i <= STORE_OPS_MAX; i++) {
		snprintf(keys[i], sizeof(keys[i]), "l/%zu", i);
		ops[i] = (struct store_op){keys[i], STORE_ANY, STORE_PUT, value, 10};
	}
	check_int(submit(client[0], ops, STORE_OPS_MAX + 1, 0, &kept), -EMSGSIZE);
	check_int(txn(ops, STORE_OPS_MAX)->rc, 0);
	for (size_t i = 0; i < 5; i++)
		ops[i].size = STORE_VALUE_MAX;
	check_int(submit(client[0], ops, 5, 0, &kept), -EMSGSIZE);
	check_int(txn(ops, 4)->rc, 0);
	check_int(store_scan(client[0], "", "", 0, soon(), keep, fresh()), -EINVAL);
	check_int(
	    store_scan(client[0], "", "", STORE_PAGE_MAX + 1, soon(), keep, fresh()), -EMSGSIZE);
}

static void scan(const char *prefix, const char *after, size_t limit)
{
	check_int(store_scan(client[1], prefix, after, limit, soon(), keep, fresh()), 0);
	await(&kept);
	check_int(kept.reply.rc, 0);
}

static void a_scan_pages_through_the_prefix_in_order(void)
{
	char key[32], after[STORE_KEY_MAX + 1] = "";
	size_t seen = 0;

	for (int i = 24; i >= 0; i--) {
		snprintf(key, sizeof(key), "scan/%02d", i);
		check_int(TXN(put(key, 0, key))->rc, 0);
	}
	check_int(TXN(put("scan0", 0, "behind"), put("scan", 0, "before"))->rc, 0);
	do {
		scan("scan/", after, 10);
		for (size_t i = 0; i < kept.reply.count; i++) {
			snprintf(key, sizeof(key), "scan/%02zu", seen++);
			check_str(kept.keys[i], key);
		}
		check(kept.reply.count > 0);
		memcpy(after, kept.keys[kept.reply.count - 1], sizeof(after));
	} while (kept.reply.more);
	check_int(seen, 25);
	scan("scan/none", "", 10);
	check_int(kept.reply.count, 0);
	check(!kept.reply.more);
}

static void a_prefix_is_no_pattern(void)
{
	check_int(TXN(put("p%x", 0, ""), put("pyx", 0, ""), put("P%x", 0, ""))->rc, 0);
	scan("p%", "", 10);
	check_int(kept.reply.count, 1);
	check_str(kept.keys[0], "p%x");
	scan("p", "", 10);
	check_int(kept.reply.count, 2);
}

static void pages_of_large_values_end_early_and_say_so(void)
{
	static uint8_t value[STORE_VALUE_MAX];
	char key[16], after[STORE_KEY_MAX + 1] = "";
	size_t seen = 0;

	for (int i = 0; i < 20; i++) {
		struct store_op op = {key, 0, STORE_PUT, value, sizeof(value)};

		snprintf(key, sizeof(key), "large/%02d", i);
		check_int(txn(&op, 1)->rc, 0);
	}
	do {
		scan("large/", after, STORE_PAGE_MAX);
		check_range(kept.reply.count, 1, STORE_PAGE_BYTES / STORE_VALUE_MAX);
		seen += kept.reply.count;
		memcpy(after, kept.keys[kept.reply.count - 1], sizeof(after));
	} while (kept.reply.more);
	check_int(seen, 20);
}

static void of_concurrent_swaps_exactly_one_wins(void)
{
	static struct kept answers[4];

	for (int round = 0; round < 50; round++) {
		uint64_t before = version("race"), won = 0;
		int wins = 0;

		for (int i = 0; i < 4; i++) {
			struct store_op op = put("race", before, "x");

			check_int(submit(client[i], &op, 1, 0, &answers[i]), 0);
		}
		for (int i = 0; i < 4; i++) {
			await(&answers[i]);
			if (answers[i].reply.rc == 0) {
				wins++;
				won = answers[i].reply.revision;
			} else {
				check_int(answers[i].reply.rc, STORE_CONFLICT);
			}
		}
		check_int(wins, 1);
		check_int(version("race"), won);
		for (int i = 0; i < 4; i++) {
			if (answers[i].reply.rc == STORE_CONFLICT)
				check_int(answers[i].reply.conflict_version, won);
		}
	}
}

static void a_nonce_is_applied_once_and_answered_alike(void)
{
	struct store_op op = put("once", 0, "x");
	uint64_t revision;

	check_int(submit(client[0], &op, 1, 4711, &kept), 0);
	await(&kept);
	check_int(kept.reply.rc, 0);
	revision = kept.reply.revision;
	check_int(submit(client[1], &op, 1, 4711, &kept), 0);
	await(&kept);
	check_int(kept.reply.rc, 0);
	check_int(kept.reply.revision, revision);
	check_int(version("once"), revision);
	check_int(submit(client[1], &op, 1, 4712, &kept), 0);
	await(&kept);
	check_int(kept.reply.rc, STORE_CONFLICT);
}

static void what_one_client_wrote_the_other_reads(void)
{
	for (int i = 0; i < 10; i++) {
		check_int(TXN(put("shared", STORE_ANY, "x"))->rc, 0);
		uint64_t revision = kept.reply.revision;

		check_int(store_get(client[1], "shared", soon(), keep, fresh()), 0);
		await(&kept);
		check_int(kept.versions[0], revision);
		check(kept.reply.revision >= revision);
	}
}

struct hints {
	int own, other;
	uint64_t revision;
};

static void count_hint(void *arg, const char *key, uint64_t revision)
{
	struct hints *hints = arg;

	if (!key || strncmp(key, "watch/", 6) == 0)
		hints->own++;
	else
		hints->other++;
	hints->revision = revision;
}

static void a_watch_is_told_of_its_prefix_only(void)
{
	struct hints hints = {0};
	struct store_watch *watch;

	check_int(store_watch(client[2], "watch/", count_hint, &hints, &watch), 0);
	check_int(TXN(put("elsewhere", STORE_ANY, "x"))->rc, 0);
	check_int(TXN(put("watch/1", 0, "x"))->rc, 0);
	while (hints.own == 0)
		suite->pump(suite->arg);
	check(hints.revision >= kept.reply.revision);
	hints.own = 0;
	check_int(TXN(del("watch/1", STORE_ANY))->rc, 0);
	while (hints.own == 0)
		suite->pump(suite->arg);
	check_int(hints.other, 0);
	check(store_unwatch(client[2], watch) == NULL);
	hints.own = 0;
	check_int(TXN(put("watch/1", 0, "x"))->rc, 0);
	check_int(hints.own, 0);
	check_int(store_watch(client[2], "a b", count_hint, &hints, &watch), -EINVAL);
}

static void never(void *arg, const struct store_reply *reply)
{
	(void)arg;
	(void)reply;
	check(!"called after close");
}

static void closing_drops_what_is_under_way(void)
{
	struct store_op op = put("close", STORE_ANY, "x");
	struct store_txn t = {&op, 1, {{0, 0}}, soon()};

	check_int(store_txn(client[3], &t, never, NULL), 0);
	check_int(store_get(client[3], "close", soon(), never, NULL), 0);
	client[3] = store_close(client[3]);
	check(!client[3]);
	for (int i = 0; i < 20; i++)
		version("close");
	client[3] = suite->open(suite->arg);
	check(client[3]);
}

static void many_requests_are_answered_in_turn(void)
{
	static struct kept answers[100];
	uint64_t last = 0;

	for (int i = 0; i < 100; i++) {
		struct store_op op = put("turn", STORE_ANY, "x");

		check_int(submit(client[0], &op, 1, 0, &answers[i]), 0);
	}
	for (int i = 0; i < 100; i++) {
		await(&answers[i]);
		check_int(answers[i].reply.rc, 0);
		check(answers[i].reply.revision > last);
		last = answers[i].reply.revision;
	}
}

/* Whether the backend tells by itself what became of it or leaves it in doubt: once, and the nonce tells. */
static void an_answer_lost_after_the_commit_is_found_again_by_its_nonce(void)
{
	struct store_op op = put("lost", 0, "x");
	struct store *lossy;
	uint64_t first;

	if (!suite->open_lossy)
		return;
	lossy = suite->open_lossy(suite->arg);
	check(lossy);
	check_int(submit(lossy, &op, 1, 77, &kept), 0);
	await(&kept);
	check(kept.reply.rc == 0 || kept.reply.rc == STORE_UNKNOWN);
	check(version("lost") > 0);
	first = version("lost");
	check_int(submit(client[1], &op, 1, 77, &kept), 0);
	await(&kept);
	check_int(kept.reply.rc, 0);
	check_int(kept.reply.revision, first);
	check_int(version("lost"), first);
	store_close(lossy);
}

void suite_run(const struct suite *which, int *n)
{
	static const struct test claims[] = {
	    TEST(an_absent_key_has_version_zero),
	    TEST(a_put_is_read_back_with_its_revision_as_version),
	    TEST(a_wrong_version_is_a_conflict_and_changes_nothing),
	    TEST(an_existing_key_conflicts_with_absent),
	    TEST(a_check_holds_the_whole_transaction),
	    TEST(any_matches_present_and_absent),
	    TEST(versions_rise_over_deletion_and_are_not_used_again),
	    TEST(all_puts_of_a_transaction_get_its_revision),
	    TEST(values_of_any_bytes_and_of_the_full_size_come_back),
	    TEST(keys_of_any_printable_bytes_are_kept_apart),
	    TEST(bad_keys_are_refused),
	    TEST(limits_are_kept),
	    TEST(a_scan_pages_through_the_prefix_in_order),
	    TEST(a_prefix_is_no_pattern),
	    TEST(pages_of_large_values_end_early_and_say_so),
	    TEST(of_concurrent_swaps_exactly_one_wins),
	    TEST(a_nonce_is_applied_once_and_answered_alike),
	    TEST(what_one_client_wrote_the_other_reads),
	    TEST(a_watch_is_told_of_its_prefix_only),
	    TEST(closing_drops_what_is_under_way),
	    TEST(many_requests_are_answered_in_turn),
	    TEST(an_answer_lost_after_the_commit_is_found_again_by_its_nonce),
	};

	suite = which;
	for (int i = 0; i < 4; i++) {
		client[i] = suite->open(suite->arg);
		check(client[i]);
	}
	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		claims[i].run();
		printf("ok %d - %s\n", ++*n, claims[i].claim);
	}
	for (int i = 0; i < 4; i++)
		client[i] = store_close(client[i]);
}
