#include <errno.h>
#include <sodium.h>
#include "common/keys.h"
#include "common/rng.h"
#include "common/seal.h"
#include "common/test.h"

/* A node of the tests: a key pair that stays, and lives that come and go. */
struct node {
	struct node_keys keys;
	uint64_t id;
	struct seal *seal;
};

enum { CONTROL = 0x21, OPENING = 0x22, DATA = 0x23 }; /* the first byte */

static struct node alice, bob, mallory;
static const struct mono start = {1000000000};

static void make_node(struct node *node, uint8_t name)
{
	uint8_t seed[crypto_kx_SEEDBYTES] = {name};

	crypto_kx_seed_keypair(node->keys.public_key, node->keys.secret_key, seed);
	node->id = node_id(node->keys.public_key);
}

/* Starts a new life of a node, which knows the other one. */
static void boot(struct node *node, const struct node *other, const char *context, uint8_t life)
{
	struct seal_config config = {
	    .context = context, .random = {life, (uint8_t)node->id}, .peers_max = 4};

	memcpy(config.public_key, node->keys.public_key, SEAL_KEY_SIZE);
	memcpy(config.secret_key, node->keys.secret_key, SEAL_KEY_SIZE);
	seal_free(node->seal);
	check_int(seal_new(&node->seal, &config), 0);
	check_int(seal_add_peer(node->seal, other->keys.public_key), 0);
}

static void setup(void)
{
	make_node(&alice, 'a');
	make_node(&bob, 'b');
	make_node(&mallory, 'm');
	boot(&alice, &bob, "test", 1);
	boot(&bob, &alice, "test", 1);
}

static int deliver_at(struct node *to, const struct seal_datagram *datagram, struct mono now,
    struct seal_opened *opened)
{
	return seal_open(to->seal, datagram->bytes, datagram->size, now, opened);
}

static int deliver(
    struct node *to, const struct seal_datagram *datagram, struct seal_opened *opened)
{
	return deliver_at(to, datagram, start, opened);
}

/* Carries replies to and fro until there is none; how many there were. */
static int settle(struct node *from, struct node *to, const struct seal_datagram *first)
{
	struct seal_datagram datagram = *first;
	struct seal_opened opened;
	int n = 0;

	while (datagram.size) {
		check(n++ < 6);
		deliver(to, &datagram, &opened);
		datagram = opened.reply;
		struct node *swap = from;
		from = to;
		to = swap;
	}
	return n;
}

static struct seal_datagram seal_text(struct node *from, const struct node *to, const char *text)
{
	struct seal_datagram datagram;

	check_int(seal_seal(from->seal, to->id, text, strlen(text), &datagram), SEAL_OK);
	return datagram;
}

static void agree_on_keys(struct node *a, struct node *b)
{
	struct seal_datagram hello;

	check_int(seal_seal(a->seal, b->id, "x", 1, &hello), SEAL_HELLO);
	settle(a, b, &hello);
	check(seal_ready(a->seal, b->id));
	check(seal_ready(b->seal, a->id));
}

static void expect_text(struct node *to, const struct node *from,
    const struct seal_datagram *datagram, const char *text)
{
	struct seal_opened opened;

	check_int(deliver(to, datagram, &opened), SEAL_OK);
	check(opened.peer == from->id);
	check_int(opened.size, strlen(text));
	check(memcmp(opened.payload, text, opened.size) == 0);
}

static void expect_refused(
    struct node *to, const struct seal_datagram *datagram, enum seal_refusal why)
{
	uint64_t before = seal_counters(to->seal)->refused[why];
	struct seal_opened opened;

	check_int(deliver(to, datagram, &opened), SEAL_REFUSED);
	check_str(seal_refusal_name(opened.refusal), seal_refusal_name(why));
	check_int(seal_counters(to->seal)->refused[why], before + 1);
}

/* Sends the payloads that have the full header. */
static void open_session(struct node *from, struct node *to)
{
	while (seal_opening(from->seal, to->id)) {
		struct seal_datagram datagram = seal_text(from, to, "opening");

		check_int(datagram.bytes[0], OPENING);
		expect_text(to, from, &datagram, "opening");
	}
}

static void get_in_touch(struct node *a, struct node *b)
{
	agree_on_keys(a, b);
	open_session(a, b);
	open_session(b, a);
}

static void a_payload_arrives_after_one_round_trip(void)
{
	struct seal_datagram hello, second;
	struct seal_opened opened;

	setup();
	check_int(seal_seal(alice.seal, bob.id, "x", 1, &hello), SEAL_HELLO);
	check_int(deliver(&bob, &hello, &opened), SEAL_CONTROL);
	check(opened.reply.size > 0 && opened.reply_to == alice.id && !opened.ready);
	check_int(deliver(&alice, &opened.reply, &opened), SEAL_CONTROL);
	check(opened.ready);
	second = seal_text(&alice, &bob, "I am here");
	expect_text(&bob, &alice, &second, "I am here");
	/* and the reply to bob's own challenge opens the way back */
	check(deliver(&bob, &opened.reply, &opened) == SEAL_CONTROL && opened.ready);
	second = seal_text(&bob, &alice, "so am I");
	expect_text(&alice, &bob, &second, "so am I");
}

static void the_largest_payload_fits_and_one_more_byte_does_not(void)
{
	static uint8_t payload[SEAL_PAYLOAD_MAX + 1];
	struct seal_datagram datagram;
	struct seal_opened opened;

	setup();
	agree_on_keys(&alice, &bob);
	for (int i = 0; i <= SEAL_OPENINGS; i++) {
		size_t header = i < SEAL_OPENINGS ? SEAL_FULL_HEADER_SIZE : SEAL_HEADER_SIZE;

		check_int(
		    seal_seal(alice.seal, bob.id, payload, sizeof(payload), &datagram), -EMSGSIZE);
		check_int(
		    seal_seal(alice.seal, bob.id, payload, SEAL_PAYLOAD_MAX, &datagram), SEAL_OK);
		check_int(datagram.size, header + SEAL_PAYLOAD_MAX + SEAL_TAG_SIZE);
		check(datagram.size <= SEAL_DATAGRAM_MAX);
		check_int(deliver(&bob, &datagram, &opened), SEAL_OK);
		check_int(opened.size, SEAL_PAYLOAD_MAX);
	}
	datagram.bytes[0] = DATA; /* one byte more than anybody seals */
	check_int(
	    seal_open(bob.seal, datagram.bytes, datagram.size + 1, start, &opened), SEAL_REFUSED);
	check_int(opened.refusal, SEAL_OVERSIZED);
	check_int(seal_seal(alice.seal, bob.id, "", 0, &datagram), SEAL_OK);
	check_int(deliver(&bob, &datagram, &opened), SEAL_OK);
	check_int(opened.size, 0);
	check_int(seal_seal(alice.seal, mallory.id, "", 0, &datagram), -ENOENT);
}

static void a_replay_is_refused(void)
{
	struct seal_datagram datagram;

	setup();
	get_in_touch(&alice, &bob);
	datagram = seal_text(&alice, &bob, "once");
	expect_text(&bob, &alice, &datagram, "once");
	expect_refused(&bob, &datagram, SEAL_REPLAYED);
}

static void reordering_within_the_window_is_accepted_once(void)
{
	static struct seal_datagram sent[SEAL_WINDOW + 1];
	struct seal_opened opened;

	setup();
	get_in_touch(&alice, &bob);
	for (size_t i = 0; i <= SEAL_WINDOW; i++)
		sent[i] = seal_text(&alice, &bob, "many");
	for (size_t i = SEAL_WINDOW; i >= 1; i--)
		check_int(deliver(&bob, &sent[i], &opened), SEAL_OK);
	for (size_t i = 0; i <= SEAL_WINDOW; i++)
		expect_refused(&bob, &sent[i], SEAL_REPLAYED);
}

/* The window against a list of all that was accepted. */
static void the_window_agrees_with_a_plain_list(void)
{
	enum { SENT = 5000 };
	static struct seal_datagram sent[SENT];
	static bool seen[SENT];
	struct seal_opened opened;
	struct rng rng;
	size_t top = 0;

	setup();
	get_in_touch(&alice, &bob);
	rng_init(&rng, 3);
	for (size_t i = 0; i < SENT; i++)
		sent[i] = seal_text(&alice, &bob, "x");
	for (int i = 0; i < 20000; i++) {
		size_t at = (size_t)i / 5 + rng_below(&rng, rng_chance(&rng, 0.1) ? 1000 : 8);
		size_t pick = rng_chance(&rng, 0.2) ? rng_below(&rng, at + 1) : at;
		bool fresh = pick > top || i == 0 || (top - pick < SEAL_WINDOW && !seen[pick]);

		check_int(deliver(&bob, &sent[pick], &opened), fresh ? SEAL_OK : SEAL_REFUSED);
		if (fresh)
			seen[pick] = true;
		if (pick > top)
			top = pick;
	}
}

static void expect_each_bit_to_count(const struct seal_datagram *good)
{
	struct seal_opened opened;

	for (size_t bit = 0; bit < 8 * good->size; bit++) {
		struct seal_datagram bad = *good;

		bad.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		check_int(deliver(&bob, &bad, &opened), SEAL_REFUSED);
	}
}

static void every_flipped_bit_is_noticed(void)
{
	struct seal_datagram good;

	setup();
	agree_on_keys(&alice, &bob);
	for (int i = 0; i <= SEAL_OPENINGS; i++) {
		good = seal_text(&alice, &bob, "delicate");
		expect_each_bit_to_count(&good);
		expect_text(&bob, &alice, &good, "delicate");
	}
	check_int(good.bytes[0], DATA);
}

static void every_truncation_is_refused(void)
{
	struct seal_datagram good;
	struct seal_opened opened;
	uint64_t truncated = 0;

	setup();
	agree_on_keys(&alice, &bob);
	for (int i = 0; i <= SEAL_OPENINGS; i++) {
		good = seal_text(&alice, &bob, "whole");
		for (size_t size = 0; size < good.size; size++)
			check_int(
			    seal_open(bob.seal, good.bytes, size, start, &opened), SEAL_REFUSED);
		truncated += good.size - strlen("whole");
		check(seal_counters(bob.seal)->refused[SEAL_TRUNCATED] == truncated);
		expect_text(&bob, &alice, &good, "whole");
	}
}

static void random_bytes_are_refused_and_draw_few_answers(void)
{
	uint8_t junk[1500];
	struct seal_opened opened;
	struct rng rng;
	int answers = 0;

	setup();
	get_in_touch(&alice, &bob);
	rng_init(&rng, 9);
	for (int i = 0; i < 20000; i++) {
		size_t size = rng_below(&rng, sizeof(junk) + 1);

		for (size_t j = 0; j < size; j++)
			junk[j] = (uint8_t)rng_u64(&rng);
		if (size >= 10 && rng_chance(&rng, 0.5)) { /* a good guess at the header */
			junk[0] = (uint8_t)(CONTROL + rng_below(&rng, 3));
			for (int j = 0; j < (junk[0] == DATA ? 2 : 8); j++)
				junk[1 + j] = (uint8_t)(alice.id >> (8 * j));
		}
		check_int(seal_open(bob.seal, junk, size, mono_add_ms(start, i / 20), &opened),
		    SEAL_REFUSED);
		answers += opened.reply.size > 0;
	}
	check_range(answers, 1, 6); /* one second of it, at most one in 200 ms */
	check(seal_counters(bob.seal)->refused[SEAL_OVERSIZED] > 0);
	check(seal_counters(bob.seal)->refused[SEAL_BAD_TAG] > 0);
	check(seal_counters(bob.seal)->refused[SEAL_MALFORMED] > 0);
	struct seal_datagram datagram = seal_text(&alice, &bob, "still here");
	expect_text(&bob, &alice, &datagram, "still here");
}

static void a_stranger_is_refused(void)
{
	struct seal_datagram hello;

	setup();
	boot(&mallory, &bob, "test", 1);
	check_int(seal_seal(mallory.seal, bob.id, "x", 1, &hello), SEAL_HELLO);
	expect_refused(&bob, &hello, SEAL_UNKNOWN_SENDER);
}

static void a_wrong_key_under_a_known_name_is_refused(void)
{
	struct seal_datagram hello;

	setup();
	boot(&mallory, &bob, "test", 1);
	check_int(seal_seal(mallory.seal, bob.id, "x", 1, &hello), SEAL_HELLO);
	for (int i = 0; i < 8; i++)
		hello.bytes[1 + i] = (uint8_t)(alice.id >> (8 * i));
	expect_refused(&bob, &hello, SEAL_BAD_TAG);
}

static void own_datagrams_sent_back_are_refused(void)
{
	struct seal_datagram datagram;

	setup();
	agree_on_keys(&alice, &bob);
	for (int n = 0; n <= SEAL_OPENINGS; n++) {
		datagram = seal_text(&alice, &bob, "mirror");
		expect_refused(&alice, &datagram, SEAL_UNKNOWN_SENDER);
		/* under bob's name: the two directions have different keys */
		for (int i = 0; i < (datagram.bytes[0] == DATA ? 2 : 8); i++)
			datagram.bytes[1 + i] = (uint8_t)(bob.id >> (8 * i));
		expect_refused(&alice, &datagram, SEAL_OLD_BOOT);
	}
}

static void another_daemon_cannot_open_it(void)
{
	struct seal_datagram hello;

	setup();
	boot(&bob, &alice, "other", 1);
	check_int(seal_seal(alice.seal, bob.id, "x", 1, &hello), SEAL_HELLO);
	expect_refused(&bob, &hello, SEAL_BAD_TAG);
}

static void a_restarted_sender_is_heard_and_its_former_life_is_not(void)
{
	struct seal_datagram early, late, datagram;
	struct seal_opened opened;

	setup();
	get_in_touch(&alice, &bob);
	early = seal_text(&alice, &bob, "first life");
	late = seal_text(&alice, &bob, "first life, late");
	expect_text(&bob, &alice, &early, "first life");

	boot(&alice, &bob, "test", 2);
	agree_on_keys(&alice, &bob);
	datagram = seal_text(&alice, &bob, "second life");
	check_int(deliver(&bob, &datagram, &opened), SEAL_OK);
	check(opened.new_boot);
	expect_refused(&bob, &early, SEAL_OLD_BOOT);
	expect_refused(&bob, &late, SEAL_OLD_BOOT);
	datagram = seal_text(&alice, &bob, "and on");
	expect_text(&bob, &alice, &datagram, "and on");
}

static void a_restarted_receiver_opens_nothing_from_before(void)
{
	struct seal_datagram datagram;

	setup();
	get_in_touch(&alice, &bob);
	datagram = seal_text(&alice, &bob, "to the first life");
	expect_text(&bob, &alice, &datagram, "to the first life");
	boot(&bob, &alice, "test", 2);
	expect_refused(&bob, &datagram, SEAL_OLD_BOOT);
}

static void a_restarted_receiver_that_never_sends_is_found_by_its_sender(void)
{
	struct seal_datagram datagram;
	struct seal_opened opened;

	setup();
	get_in_touch(&alice, &bob);
	boot(&bob, &alice, "test", 2);
	datagram = seal_text(&alice, &bob, "anybody there?");
	check_int(deliver(&bob, &datagram, &opened), SEAL_REFUSED);
	check(opened.reply.size > 0 && opened.reply_to == alice.id);
	datagram = opened.reply;
	settle(&bob, &alice, &datagram);
	datagram = seal_text(&alice, &bob, "now then");
	expect_text(&bob, &alice, &datagram, "now then");
}

static void a_lost_answer_is_asked_for_again(void)
{
	struct seal_datagram hello, datagram;
	struct seal_opened opened;

	setup();
	check_int(seal_seal(alice.seal, bob.id, "x", 1, &hello), SEAL_HELLO); /* lost */
	check_int(seal_seal(alice.seal, bob.id, "x", 1, &hello), SEAL_HELLO);
	check_int(deliver(&bob, &hello, &opened), SEAL_CONTROL); /* the answer is lost */
	get_in_touch(&alice, &bob);
	datagram = seal_text(&alice, &bob, "through");
	expect_text(&bob, &alice, &datagram, "through");
}

/* Whatever control datagrams somebody recorded: replaying them changes no session. */
static void replayed_control_of_a_former_life_does_no_harm(void)
{
	struct seal_datagram recorded[4], datagram;
	struct seal_opened opened;
	int n = 0;

	setup();
	check_int(seal_seal(alice.seal, bob.id, "x", 1, &recorded[n++]), SEAL_HELLO);
	check_int(deliver(&bob, &recorded[0], &opened), SEAL_CONTROL);
	recorded[n++] = opened.reply;
	check_int(deliver(&alice, &recorded[1], &opened), SEAL_CONTROL);
	recorded[n++] = opened.reply;
	check_int(deliver(&bob, &recorded[2], &opened), SEAL_CONTROL);

	boot(&alice, &bob, "test", 2);
	get_in_touch(&alice, &bob);
	datagram = seal_text(&alice, &bob, "second life");
	expect_text(&bob, &alice, &datagram, "second life");
	for (int i = 0; i < n; i++) {
		struct node *to = i == 1 ? &alice : &bob, *other = i == 1 ? &bob : &alice;

		check_int(deliver(to, &recorded[i], &opened), SEAL_CONTROL);
		check(!opened.ready);
		datagram = opened.reply;
		check(settle(to, other, &datagram) <= 2);
	}
	datagram = seal_text(&alice, &bob, "unmoved");
	expect_text(&bob, &alice, &datagram, "unmoved");
	datagram = seal_text(&bob, &alice, "me too");
	expect_text(&alice, &bob, &datagram, "me too");
}

static void a_peer_removed_and_added_again_reuses_no_nonce_and_opens_no_replay(void)
{
	struct seal_datagram before, after;

	setup();
	get_in_touch(&alice, &bob);
	before = seal_text(&alice, &bob, "before");
	expect_text(&bob, &alice, &before, "before");
	check_int(seal_remove_peer(bob.seal, alice.id), 0);
	check_int(seal_remove_peer(bob.seal, alice.id), -ENOENT);
	expect_refused(&bob, &before, SEAL_UNKNOWN_SENDER);
	check_int(seal_add_peer(bob.seal, alice.keys.public_key), 0);
	check_int(seal_add_peer(bob.seal, alice.keys.public_key), -EEXIST);
	expect_refused(&bob, &before, SEAL_OLD_BOOT);

	check_int(seal_remove_peer(alice.seal, bob.id), 0);
	check_int(seal_add_peer(alice.seal, bob.keys.public_key), 0);
	check_int(seal_seal(alice.seal, bob.id, "x", 1, &after), SEAL_HELLO);
	check(after.bytes[25] > before.bytes[7]); /* low byte of the counter */
	settle(&alice, &bob, &after);
	after = seal_text(&alice, &bob, "after");
	expect_text(&bob, &alice, &after, "after");
}

/* Lives come and go on both sides while a network loses, repeats and holds back datagrams: each
 * payload is opened at most once, by the life it was sealed for, never after one of a later life
 * of its sender; and when quiet comes the two are in touch. */
static void no_payload_is_opened_twice_whatever_the_network_does(void)
{
	enum { KEPT = 400, ROUNDS = 6000 };
	static struct {
		struct seal_datagram datagram;
		size_t to;
		uint8_t life[2];
	} kept[KEPT];
	static bool opened_once[ROUNDS * 2];
	struct node *nodes[2] = {&alice, &bob};
	struct seal_opened opened;
	uint8_t life[2] = {1, 1}, newest[2] = {1, 1};
	struct rng rng;
	size_t count = 0, delivered = 0;
	uint32_t number;

	setup();
	rng_init(&rng, 11);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		size_t who = rng_below(&rng, 2);

		if (rng_chance(&rng, 0.01))
			boot(nodes[who], nodes[!who], "test", ++life[who]);
		size_t at = count < KEPT ? count++ : rng_below(&rng, KEPT);
		kept[at].to = !who;
		memcpy(kept[at].life, life, sizeof(life));
		check(seal_seal(nodes[who]->seal, nodes[!who]->id, &i, sizeof(i),
			  &kept[at].datagram) >= 0);
		for (int tries = 0; tries < 3; tries++) {
			size_t pick = rng_below(&rng, count);
			size_t to = kept[pick].to;

			if (deliver_at(nodes[to], &kept[pick].datagram, mono_add_ms(start, i * 50),
				&opened) == SEAL_OK) {
				memcpy(&number, opened.payload, sizeof(number));
				check(!opened_once[number]);
				opened_once[number] = true;
				check_int(kept[pick].life[to], life[to]);
				check(kept[pick].life[!to] >= newest[!to]);
				newest[!to] = kept[pick].life[!to];
				delivered++;
			}
			if (opened.reply.size) {
				at = count < KEPT ? count++ : rng_below(&rng, KEPT);
				kept[at].datagram = opened.reply;
				kept[at].to = !to;
			}
		}
	}
	check(delivered > 500);
	struct seal_datagram first;
	seal_seal(alice.seal, bob.id, "x", 1, &first);
	settle(&alice, &bob, &first);
	seal_seal(bob.seal, alice.id, "x", 1, &first);
	settle(&bob, &alice, &first);
	first = seal_text(&alice, &bob, "in touch");
	expect_text(&bob, &alice, &first, "in touch");
}

/* Only one side forgets the other: the other's token is of no use any more, and it must learn that. */
static void a_peer_forgotten_by_one_side_only_is_heard_again(void)
{
	struct seal_datagram datagram;
	struct seal_opened opened;

	setup();
	get_in_touch(&alice, &bob);
	check_int(seal_remove_peer(bob.seal, alice.id), 0);
	check_int(seal_add_peer(bob.seal, alice.keys.public_key), 0);
	datagram = seal_text(&alice, &bob, "still there?");
	check_int(deliver(&bob, &datagram, &opened), SEAL_REFUSED);
	check_int(opened.refusal, SEAL_OLD_BOOT);
	settle(&bob, &alice, &opened.reply);
	datagram = seal_text(&alice, &bob, "yes");
	expect_text(&bob, &alice, &datagram, "yes");
}

static void lost_openings_are_made_up_for(void)
{
	struct seal_datagram datagram;
	struct seal_opened opened;

	setup();
	agree_on_keys(&alice, &bob);
	while (seal_opening(alice.seal, bob.id))
		seal_text(&alice, &bob, "lost");
	datagram = seal_text(&alice, &bob, "short");
	check_int(deliver(&bob, &datagram, &opened), SEAL_REFUSED);
	check_int(opened.refusal, SEAL_OLD_BOOT);
	settle(&bob, &alice, &opened.reply);
	check(seal_opening(alice.seal, bob.id));
	open_session(&alice, &bob);
	datagram = seal_text(&alice, &bob, "short");
	check_int(datagram.bytes[0], DATA);
	expect_text(&bob, &alice, &datagram, "short");
}

static void lose(struct node *from, const struct node *to, int count)
{
	while (count--)
		seal_text(from, to, "lost");
}

/* The short counter has 16 bits: nearly half a turn of losses is seen through, and it turns without end. */
static void the_short_counter_goes_round_and_opens_nothing_twice(void)
{
	struct seal_datagram first, datagram;

	setup();
	get_in_touch(&alice, &bob);
	first = seal_text(&alice, &bob, "first");
	expect_text(&bob, &alice, &first, "first");
	for (int i = 0; i < 8; i++) {
		lose(&alice, &bob, 32000);
		datagram = seal_text(&alice, &bob, "near");
		check_int(datagram.bytes[0], DATA);
		expect_text(&bob, &alice, &datagram, "near");
		expect_refused(&bob, &datagram, SEAL_REPLAYED);
	}
	/* As many datagrams on as brings the low bits back to those of the first. */
	lose(&alice, &bob, (1 << 18) - 8 * 32001 - 1);
	datagram = seal_text(&alice, &bob, "turned");
	check(memcmp(datagram.bytes, first.bytes, SEAL_HEADER_SIZE) == 0);
	expect_refused(&bob, &first, SEAL_BAD_TAG);
	expect_text(&bob, &alice, &datagram, "turned");
	expect_refused(&bob, &first, SEAL_REPLAYED);
}

static void more_losses_than_the_short_counter_can_tell_are_made_up_for(void)
{
	struct seal_datagram datagram;
	struct seal_opened opened;

	setup();
	get_in_touch(&alice, &bob);
	lose(&alice, &bob, 100000);
	datagram = seal_text(&alice, &bob, "far");
	check_int(deliver(&bob, &datagram, &opened), SEAL_REFUSED);
	settle(&bob, &alice, &opened.reply);
	open_session(&alice, &bob);
	datagram = seal_text(&alice, &bob, "near again");
	check_int(datagram.bytes[0], DATA);
	expect_text(&bob, &alice, &datagram, "near again");
}

static void make_numbered_node(struct node *node, uint32_t number)
{
	uint8_t seed[crypto_kx_SEEDBYTES] = {'#'};

	memcpy(seed + 1, &number, sizeof(number));
	crypto_kx_seed_keypair(node->keys.public_key, node->keys.secret_key, seed);
	node->id = node_id(node->keys.public_key);
}

/* Makes alice and mallory two whose node ids end alike; of some hundred nodes two do. */
static void make_twins(void)
{
	static uint32_t made[1 << 16]; /* by the end of its id: the number of a node; 0: none */
	uint32_t number = 0;

	do {
		made[(uint16_t)mallory.id] = number;
		make_numbered_node(&mallory, ++number);
	} while (!made[(uint16_t)mallory.id]);
	make_numbered_node(&alice, made[(uint16_t)mallory.id]);
}

/* One round of a payload from each; what bob says to it is carried to whom it is for. */
static int both_speak(struct mono now)
{
	struct node *senders[] = {&alice, &mallory};
	int heard = 0;

	for (int i = 0; i < 2; i++) {
		struct seal_datagram datagram = seal_text(senders[i], &bob, "it is me");
		struct seal_opened opened;

		heard += deliver_at(&bob, &datagram, now, &opened) == SEAL_OK;
		if (opened.reply.size)
			settle(
			    &bob, opened.reply_to == alice.id ? &alice : &mallory, &opened.reply);
	}
	return heard;
}

static void two_senders_whose_ids_end_alike_are_both_found_after_a_restart(void)
{
	setup();
	make_twins();
	boot(&alice, &bob, "test", 1);
	boot(&mallory, &bob, "test", 1);
	boot(&bob, &alice, "test", 1);
	check_int(seal_add_peer(bob.seal, mallory.keys.public_key), 0);
	get_in_touch(&alice, &bob);
	get_in_touch(&mallory, &bob);
	check_int(both_speak(start), 2);
	boot(&bob, &alice, "test", 2);
	check_int(seal_add_peer(bob.seal, mallory.keys.public_key), 0);
	check_int(both_speak(start), 0); /* bob cannot tell who of the two it was, and asks both */
	check_int(both_speak(mono_add_ms(start, 1)), 2);
}

/* So that two builds can talk: the bytes of the headers, once and for all. */
static void the_headers_are_as_documented(void)
{
	struct seal_datagram hello, data;

	setup();
	check_int(seal_seal(alice.seal, bob.id, "x", 1, &hello), SEAL_HELLO);
	check_int(hello.size, SEAL_FULL_HEADER_SIZE + 24 + SEAL_TAG_SIZE);
	check_int(hello.bytes[0], CONTROL);
	for (int i = 0; i < 8; i++) {
		check_int(hello.bytes[1 + i], (uint8_t)(alice.id >> (8 * i)));
		check_int(hello.bytes[17 + i], 0);
		check_int(hello.bytes[25 + i], i == 0);
	}
	settle(&alice, &bob, &hello);
	hello = seal_text(&alice, &bob, "opening");
	check_int(hello.bytes[0], OPENING);
	open_session(&alice, &bob);
	data = seal_text(&alice, &bob, "data");
	check_int(data.size, SEAL_HEADER_SIZE + strlen("data") + SEAL_TAG_SIZE);
	check_int(data.bytes[0], DATA);
	check(memcmp(data.bytes + 1, hello.bytes + 1, 2) == 0);  /* sender */
	check(memcmp(data.bytes + 3, hello.bytes + 17, 4) == 0); /* token */
	check_int(data.bytes[7], hello.bytes[25] + SEAL_OPENINGS);
	check_int(data.bytes[8], 0);
}

int main(void)
{
	check(sodium_init() >= 0);
	return test_main((struct test[]){
	    TEST(a_payload_arrives_after_one_round_trip),
	    TEST(the_largest_payload_fits_and_one_more_byte_does_not),
	    TEST(a_replay_is_refused),
	    TEST(reordering_within_the_window_is_accepted_once),
	    TEST(the_window_agrees_with_a_plain_list),
	    TEST(every_flipped_bit_is_noticed),
	    TEST(every_truncation_is_refused),
	    TEST(random_bytes_are_refused_and_draw_few_answers),
	    TEST(a_stranger_is_refused),
	    TEST(a_wrong_key_under_a_known_name_is_refused),
	    TEST(own_datagrams_sent_back_are_refused),
	    TEST(another_daemon_cannot_open_it),
	    TEST(a_restarted_sender_is_heard_and_its_former_life_is_not),
	    TEST(a_restarted_receiver_opens_nothing_from_before),
	    TEST(a_restarted_receiver_that_never_sends_is_found_by_its_sender),
	    TEST(a_lost_answer_is_asked_for_again),
	    TEST(replayed_control_of_a_former_life_does_no_harm),
	    TEST(a_peer_removed_and_added_again_reuses_no_nonce_and_opens_no_replay),
	    TEST(no_payload_is_opened_twice_whatever_the_network_does),
	    TEST(a_peer_forgotten_by_one_side_only_is_heard_again),
	    TEST(lost_openings_are_made_up_for),
	    TEST(the_short_counter_goes_round_and_opens_nothing_twice),
	    TEST(more_losses_than_the_short_counter_can_tell_are_made_up_for),
	    TEST(two_senders_whose_ids_end_alike_are_both_found_after_a_restart),
	    TEST(the_headers_are_as_documented),
	    {0},
	});
}
