#include "common/keys.h"
#include "common/test.h"

#include <sodium.h>

static struct peers peers;

static struct peer make(const char *name)
{
	struct node_keys keys;
	struct peer peer = {.port = 7400};

	keys_generate(&keys);
	memcpy(peer.public_key, keys.public_key, KEY_SIZE);
	snprintf(peer.name, sizeof(peer.name), "%s", name);
	snprintf(peer.address, sizeof(peer.address), "10.0.0.1");
	return peer;
}

static const struct peer *add(const char *name)
{
	struct peer peer = make(name);

	return peers_add(&peers, &peer);
}

static void a_peer_that_goes_is_found_no_more_and_the_others_stay_where_they_are(void)
{
	const struct peer *one, *two, *three;

	memset(&peers, 0, sizeof(peers));
	one = add("n1");
	two = add("n2");
	three = add("n3");
	peers_remove(&peers, two);
	check(!peers_by_name(&peers, "n2") && !peers_by_id(&peers, two->id) &&
	      !peers_by_key(&peers, two->public_key));
	check_str(two->name, "n2"); /* for who kept the pointer */
	check(peers_by_name(&peers, "n3") == three && peers_by_id(&peers, one->id) == one);
	check(peers_next(&peers, NULL) == one && peers_next(&peers, one) == three);
	check(!peers_next(&peers, three));
}

static void a_node_of_two_keys_is_met_once_and_let_in_with_both(void)
{
	struct peer old = make("n1");
	const struct peer *before, *now;

	memset(&peers, 0, sizeof(peers));
	old.old = true;
	before = peers_add(&peers, &old);
	now = add("n1");
	check(peers_by_name(&peers, "n1") == now);
	check(peers_by_key(&peers, old.public_key) == before &&
	      peers_by_id(&peers, before->id) == before);
	check(peers_next(&peers, NULL) == now && !peers_next(&peers, now));
}

static void a_key_is_in_the_table_once(void)
{
	struct peer peer = make("n1");

	memset(&peers, 0, sizeof(peers));
	check(peers_add(&peers, &peer) != NULL);
	snprintf(peer.name, sizeof(peer.name), "n2");
	check(!peers_add(&peers, &peer));
}

static void a_place_is_taken_again_only_when_there_is_no_other(void)
{
	const struct peer *gone;
	char name[16];

	memset(&peers, 0, sizeof(peers));
	for (int i = 0; i < PEERS_MAX - 1; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		check(add(name) != NULL);
	}
	gone = peers_by_name(&peers, "n7");
	peers_remove(&peers, gone);
	check(add("a") == &peers.peer[PEERS_MAX - 1]);
	check(add("b") == gone);
	check(!add("c"));
	check_int(peers_place(&peers, peers_by_name(&peers, "b")), 7);
}

int main(void)
{
	if (sodium_init() < 0)
		return 1;
	return test_main((struct test[]){
	    TEST(a_peer_that_goes_is_found_no_more_and_the_others_stay_where_they_are),
	    TEST(a_node_of_two_keys_is_met_once_and_let_in_with_both),
	    TEST(a_key_is_in_the_table_once),
	    TEST(a_place_is_taken_again_only_when_there_is_no_other), {0}});
}
