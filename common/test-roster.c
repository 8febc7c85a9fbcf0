#include <errno.h>
#include <sodium.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/replace-file.h"
#include "common/roster.h"
#include "common/test-records.h"
#include "common/test-tree.h"
#include "common/test.h"

static uint8_t secret[ADMIN_SECRET_SIZE];
static struct daemon a_daemon;
static sd_event *loop;
static int heard, gone, retired;

static void on_peer(void *userdata, const struct peer *peer)
{
	(void)userdata;
	heard++;
	gone += peer->gone;
	retired += peer->old && !peer->gone;
}

static struct peers_listener listener = {.changed = on_peer};

static const struct peers *peers(void)
{
	return &a_daemon.node.peers;
}

/* What gossipd does. */
static void put(const struct msg_member_record *record)
{
	_cleanup_buf_ struct buf bytes = {0};
	char path[500];

	check_int(members_sign(record, secret, &bytes), 0);
	snprintf(path, sizeof(path), "%s/members/%s", a_daemon.node.state_dir, record->name);
	check_int(replace_file(path, bytes.data, bytes.size, 0640), 0);
}

static void open_roster(void)
{
	check_int(roster_new(&a_daemon.roster, &a_daemon), 0);
	check_int(roster_watch(a_daemon.roster, loop), 0);
}

static void begin(void)
{
	struct peer self = {.port = 7400};
	char path[500];

	memset(&a_daemon, 0, sizeof(a_daemon));
	heard = gone = retired = 0;
	check(sd_event_new(&loop) >= 0);
	keys_generate(&a_daemon.keys);
	crypto_sign_keypair(a_daemon.node.admin, secret);
	snprintf(a_daemon.node.name, sizeof(a_daemon.node.name), "n1");
	snprintf(
	    a_daemon.node.state_dir, sizeof(a_daemon.node.state_dir), "/tmp/dst-roster-XXXXXX");
	check(mkdtemp(a_daemon.node.state_dir) != NULL);
	snprintf(path, sizeof(path), "%s/members", a_daemon.node.state_dir);
	check_int(mkdir(path, 0750), 0);
	snprintf(self.name, sizeof(self.name), "n1");
	memcpy(self.public_key, a_daemon.keys.public_key, KEY_SIZE);
	a_daemon.node.self = peers_add(&a_daemon.node.peers, &self);
	daemon_listen_peers(&a_daemon, &listener);
}

static void end(void)
{
	a_daemon.roster = roster_free(a_daemon.roster);
	loop = sd_event_unref(loop);
	test_remove_tree(a_daemon.node.state_dir);
}

/* Until the listener has heard so many changes. */
static void hear(int count)
{
	for (int i = 0; i < 6000 && heard < count; i++)
		check(sd_event_run(loop, 10000) >= 0);
	check_int(heard, count);
}

static void records_that_are_there_count_from_the_start(void)
{
	struct msg_member_record record;

	begin();
	record = make_record("n4", 1);
	put(&record);
	open_roster();
	check(peers_by_key(peers(), record.public_key) == peers_by_name(peers(), "n4"));
	check_str(peers_by_name(peers(), "n4")->address, "10.77.0.4");
	end();
}

static void a_record_that_comes_is_noticed_and_one_that_revokes_takes_the_node_out(void)
{
	struct msg_member_record record;

	begin();
	open_roster();
	record = make_record("n4", 1);
	put(&record);
	hear(1);
	check(peers_by_name(peers(), "n4") != NULL);
	record.serial++;
	record.state = MSG_COMMON_MEMBER_STATE_REVOKED;
	put(&record);
	hear(2);
	check_int(gone, 1);
	check(!peers_by_name(peers(), "n4") && !peers_by_key(peers(), record.public_key));
	end();
}

static void a_peer_of_the_configuration_can_be_revoked(void)
{
	struct msg_member_record record;
	struct peer peer = {.port = 7400};

	begin();
	record = make_record("n2", 1);
	record.state = MSG_COMMON_MEMBER_STATE_REVOKED;
	memcpy(peer.public_key, record.public_key, KEY_SIZE);
	snprintf(peer.name, sizeof(peer.name), "n2");
	check(peers_add(&a_daemon.node.peers, &peer) != NULL);
	put(&record);
	open_roster();
	check(!peers_by_name(peers(), "n2"));
	end();
}

static void after_a_rotation_both_keys_are_let_in_until_the_old_one_ends(void)
{
	struct msg_member_record before, after;

	begin();
	open_roster();
	before = make_record("n4", 1);
	put(&before);
	hear(1);
	after = make_record("n4", 2);
	after.has_old_key = true;
	memcpy(after.old_key, before.public_key, KEY_SIZE);
	after.old_until = (uint64_t)time(NULL) + 2;
	put(&after);
	hear(3);
	check_int(retired, 1);
	check(peers_by_name(peers(), "n4") == peers_by_key(peers(), after.public_key));
	check(peers_by_key(peers(), before.public_key)->old);
	hear(4);
	check_int(gone, 1);
	check(!peers_by_key(peers(), before.public_key));
	check(peers_by_name(peers(), "n4") == peers_by_key(peers(), after.public_key));
	end();
}

static void a_record_for_later_changes_nothing_until_then(void)
{
	struct msg_member_record record;

	begin();
	open_roster();
	record = make_record("n4", 1);
	record.not_before = (uint64_t)time(NULL) + 2;
	put(&record);
	check(sd_event_run(loop, 100000) >= 0);
	check(!peers_by_name(peers(), "n4") || (uint64_t)time(NULL) >= record.not_before);
	hear(1);
	check((uint64_t)time(NULL) >= record.not_before);
	check(peers_by_name(peers(), "n4") != NULL);
	end();
}

static int hand_over(const struct msg_member_record *record)
{
	_cleanup_buf_ struct buf bytes = {0};
	char why[MEMBERS_WHY];

	check_int(members_sign(record, secret, &bytes), 0);
	return roster_take(a_daemon.roster, bytes.data, bytes.size, why);
}

static void a_record_handed_over_is_stored_and_counts_when_the_loop_runs(void)
{
	struct msg_member_record record;

	begin();
	open_roster();
	record = make_record("n4", 1);
	check_int(hand_over(&record), 1);
	check_int(hand_over(&record), 0);
	check_int(heard, 0); /* whoever brings it may be the one that it is about */
	hear(1);
	check(peers_by_name(peers(), "n4") != NULL);
	a_daemon.roster = roster_free(a_daemon.roster);
	open_roster();
	check_int(roster_members(a_daemon.roster)->count, 1);
	end();
}

/* Of gossipd, which knows both; another daemon that starts has only the files. */
static void a_file_that_was_lost_damaged_or_put_back_is_written_again(void)
{
	struct msg_member_record record, revoked, old;
	char path[500];

	begin();
	open_roster();
	record = make_record("n4", 1);
	check_int(hand_over(&record), 1);
	old = revoked = make_record("n5", 1);
	revoked.serial = 2;
	revoked.state = MSG_COMMON_MEMBER_STATE_REVOKED;
	check_int(hand_over(&revoked), 1);
	snprintf(path, sizeof(path), "%s/members/n4", a_daemon.node.state_dir);
	check_int(truncate(path, 20), 0);
	put(&old);
	roster_repair(a_daemon.roster);
	snprintf(path, sizeof(path), "%s/members/n5", a_daemon.node.state_dir);
	check_int(unlink(path), 0);
	roster_repair(a_daemon.roster);
	a_daemon.roster = roster_free(a_daemon.roster);
	open_roster();
	check_int(roster_members(a_daemon.roster)->count, 2);
	check_int(members_by_name(roster_members(a_daemon.roster), "n5")->said.serial, 2);
	end();
}

static void a_file_that_proves_nothing_changes_nothing(void)
{
	struct msg_member_record record;
	uint8_t real[ADMIN_SECRET_SIZE], other_public[KEY_SIZE];
	char path[500];

	begin();
	open_roster();
	memcpy(real, secret, sizeof(real));
	crypto_sign_keypair(other_public, secret);
	record = make_record("n4", 1);
	put(&record); /* forged */
	memcpy(secret, real, sizeof(real));
	snprintf(path, sizeof(path), "%s/members/n5", a_daemon.node.state_dir);
	check_int(replace_file(path, "garbage", 7, 0640), 0);
	record = make_record("n6", 1);
	put(&record);
	hear(1);
	check(!peers_by_name(peers(), "n4") && !peers_by_name(peers(), "n5"));
	check(peers_by_name(peers(), "n6") != NULL);
	check_int(roster_members(a_daemon.roster)->counters.forged, 1);
	check_int(roster_members(a_daemon.roster)->counters.malformed, 1);
	end();
}

static void what_is_said_of_the_node_itself_does_not_take_its_own_key(void)
{
	struct msg_member_record record;

	begin();
	record = make_record("n1", 1);
	record.state = MSG_COMMON_MEMBER_STATE_REVOKED;
	put(&record);
	open_roster();
	check(peers_by_name(peers(), "n1") == a_daemon.node.self && !a_daemon.node.self->gone);
	end();
}

int main(void)
{
	log_init("test-roster");
	if (sodium_init() < 0)
		return 1;
	return test_main((struct test[]){TEST(records_that_are_there_count_from_the_start),
	    TEST(a_record_that_comes_is_noticed_and_one_that_revokes_takes_the_node_out),
	    TEST(a_peer_of_the_configuration_can_be_revoked),
	    TEST(after_a_rotation_both_keys_are_let_in_until_the_old_one_ends),
	    TEST(a_record_for_later_changes_nothing_until_then),
	    TEST(a_record_handed_over_is_stored_and_counts_when_the_loop_runs),
	    TEST(a_file_that_was_lost_damaged_or_put_back_is_written_again),
	    TEST(a_file_that_proves_nothing_changes_nothing),
	    TEST(what_is_said_of_the_node_itself_does_not_take_its_own_key), {0}});
}
