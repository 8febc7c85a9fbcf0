#include <errno.h>
#include <sodium.h>

#include "common/members.h"
#include "common/test-records.h"
#include "common/test.h"

static uint8_t admin[KEY_SIZE], secret[ADMIN_SECRET_SIZE];
static struct members members;
static char why[MEMBERS_WHY];

static void begin(void)
{
	memset(&members, 0, sizeof(members));
	crypto_sign_keypair(admin, secret);
	memcpy(members.admin, admin, KEY_SIZE);
}

static int take(const struct buf *bytes)
{
	const struct member_record *record;

	return members_take(&members, bytes->data, bytes->size, &record, why);
}

static int give(const struct msg_member_record *record)
{
	_cleanup_buf_ struct buf bytes = {0};

	check_int(members_sign(record, secret, &bytes), 0);
	return take(&bytes);
}

static void what_the_administrator_signed_is_read_back_as_it_was(void)
{
	struct msg_member_record record = make_record("n4", 7);
	const struct member_record *known;

	begin();
	record.has_old_key = true;
	memset(record.old_key, 9, KEY_SIZE);
	record.old_until = 1000;
	check_int(give(&record), 1);
	known = members_by_name(&members, "n4");
	check(known != NULL);
	check_str(known->said.address, "10.77.0.4");
	check_int(known->said.serial, 7);
	check(memcmp(known->said.public_key, record.public_key, KEY_SIZE) == 0);
	check_int(known->said.old_until, 1000);
	check(!members_by_name(&members, "n5"));
}

static void a_record_of_another_signer_is_refused_and_counted(void)
{
	struct msg_member_record record = make_record("n4", 1);
	uint8_t other_public[KEY_SIZE], other[ADMIN_SECRET_SIZE];
	_cleanup_buf_ struct buf bytes = {0};

	begin();
	crypto_sign_keypair(other_public, other);
	check_int(members_sign(&record, other, &bytes), 0);
	check_int(take(&bytes), -EKEYREJECTED);
	check_str(why, "record of n4: not signed by the administrator");
	check_int(members.counters.forged, 1);
	check_int(members.count, 0);
}

static void the_higher_serial_counts_and_an_old_record_played_again_does_not(void)
{
	_cleanup_buf_ struct buf first = {0};
	struct msg_member_record record = make_record("n4", 1);

	begin();
	check_int(members_sign(&record, secret, &first), 0);
	check_int(take(&first), 1);
	check_int(take(&first), 0);
	record.serial = 2;
	record.state = MSG_COMMON_MEMBER_STATE_REVOKED;
	check_int(give(&record), 1);
	check_int(take(&first), -ESTALE);
	check_int(members.counters.stale, 1);
	check_int(members_by_name(&members, "n4")->said.state, MSG_COMMON_MEMBER_STATE_REVOKED);
}

static void of_two_records_with_one_serial_all_choose_the_same(void)
{
	_cleanup_buf_ struct buf one = {0}, two = {0};
	struct msg_member_record record = make_record("n4", 5);
	uint64_t digest;

	begin();
	check_int(members_sign(&record, secret, &one), 0);
	record = make_record("n4", 5);
	check_int(members_sign(&record, secret, &two), 0);
	(void)take(&one);
	(void)take(&two);
	digest = members.digest;
	check(digest != 0);
	members.count = 0;
	members.digest = 0;
	(void)take(&two);
	(void)take(&one);
	check(members.digest == digest);
}

static void no_flipped_bit_and_no_cut_record_is_taken(void)
{
	_cleanup_buf_ struct buf bytes = {0};
	struct msg_member_record record = make_record("n4", 1);
	const struct member_record *out;

	begin();
	check_int(members_sign(&record, secret, &bytes), 0);
	for (size_t i = 0; i < bytes.size; i++) {
		check(members_take(&members, bytes.data, i, &out, why) < 0);
		for (int bit = 0; bit < 8; bit++) {
			bytes.data[i] ^= (uint8_t)(1 << bit);
			check(take(&bytes) < 0);
			bytes.data[i] ^= (uint8_t)(1 << bit);
		}
	}
	check_int(members.count, 0);
	check_int(members.counters.forged + members.counters.malformed, 9 * bytes.size);
	check_int(take(&bytes), 1);
}

static void garbage_is_no_record(void)
{
	uint8_t bytes[2 * MSG_MEMBER_SIGNED_SIZE_MAX];
	const struct member_record *out;

	begin();
	for (int i = 0; i < 20000; i++) {
		size_t size = randombytes_uniform(sizeof(bytes) + 1);

		randombytes_buf(bytes, size);
		check_int(members_take(&members, bytes, size, &out, why), -EBADMSG);
	}
}

static void what_no_node_would_take_is_not_signed(void)
{
	_cleanup_buf_ struct buf bytes = {0};
	struct msg_member_record record = make_record("n4", 1);

	snprintf(record.name, sizeof(record.name), "../n4");
	check_int(members_sign(&record, secret, &bytes), -EINVAL);
	record = make_record("n4", 1);
	snprintf(record.address, sizeof(record.address), "n4.example");
	check_int(members_sign(&record, secret, &bytes), -EINVAL);
	record = make_record("n4", 1);
	memset(record.public_key, 0,
	    KEY_SIZE); /* of low order: every secret shared with it is known */
	check_int(members_sign(&record, secret, &bytes), -EINVAL);
	record = make_record("n4", 0);
	check_int(members_sign(&record, secret, &bytes), -EINVAL);
	record = make_record("n4", 1);
	record.has_old_key = true;
	memcpy(record.old_key, record.public_key, KEY_SIZE);
	check_int(members_sign(&record, secret, &bytes), -EINVAL);
}

static void an_old_key_is_good_until_its_time_and_a_record_from_its_time_on(void)
{
	struct msg_member_record record = make_record("n4", 1);

	begin();
	record.not_before = 100;
	record.has_old_key = true;
	memset(record.old_key, 9, KEY_SIZE);
	record.old_until = 200;
	check_int(give(&record), 1);
	check(!member_is_in(&record, 99) && member_is_in(&record, 100));
	check(member_old_is_in(&record, 199) && !member_old_is_in(&record, 200));
	check_int(members_next_change(&members, 50), 100);
	check_int(members_next_change(&members, 100), 200);
	check_int(members_next_change(&members, 200), 0);
	record.state = MSG_COMMON_MEMBER_STATE_REVOKED;
	check(!member_is_in(&record, 150) && !member_old_is_in(&record, 150));
}

static void the_set_is_bounded(void)
{
	char name[16];

	begin();
	for (int i = 0; i <= MEMBERS_MAX; i++) {
		struct msg_member_record record;

		snprintf(name, sizeof(name), "n%d", i);
		record = make_record(name, 1);
		check_int(give(&record), i < MEMBERS_MAX ? 1 : -ENOSPC);
	}
}

static void a_record_of_another_cluster_of_the_same_administrator_is_refused(void)
{
	struct msg_member_record record = make_record("n1", 1);

	begin();
	snprintf(members.cluster, sizeof(members.cluster), "here");
	record.has_cluster = true;
	snprintf(record.cluster, sizeof(record.cluster), "there");
	check_int(give(&record), -EXDEV);
	check_int(members.counters.foreign, 1);
	snprintf(record.cluster, sizeof(record.cluster), "here");
	check_int(give(&record), 1);
	check_int(members.count, 1);
}

int main(void)
{
	if (sodium_init() < 0)
		return 1;
	return test_main((struct test[]){TEST(what_the_administrator_signed_is_read_back_as_it_was),
	    TEST(a_record_of_another_signer_is_refused_and_counted),
	    TEST(the_higher_serial_counts_and_an_old_record_played_again_does_not),
	    TEST(of_two_records_with_one_serial_all_choose_the_same),
	    TEST(no_flipped_bit_and_no_cut_record_is_taken), TEST(garbage_is_no_record),
	    TEST(what_no_node_would_take_is_not_signed),
	    TEST(an_old_key_is_good_until_its_time_and_a_record_from_its_time_on),
	    TEST(a_record_of_another_cluster_of_the_same_administrator_is_refused),
	    TEST(the_set_is_bounded), {0}});
}
