#include "common/sealed-udp.h"

#include <errno.h>
#include <unistd.h>

#include "common/test.h"

/* Two nodes of one configuration on the loopback, one loop. */
struct end {
	struct daemon daemon;
	struct sealed_udp *sealed;
	struct daemon_stat stats[SEALED_UDP_STATS];
	unsigned taken;
	char last[16];
	int answer; /* of take() */
};

static const struct daemon_spec spec = {.name = "test"};
static sd_event *loop;
static struct end a, b;

static int on_payload(void *userdata, const struct sealed_payload *payload, struct mpr_error *error)
{
	struct end *end = userdata;

	check(payload->size < sizeof(end->last));
	check(payload->from == (end == &a ? b : a).daemon.node.self->id);
	memcpy(end->last, payload->data, payload->size);
	end->last[payload->size] = '\0';
	end->taken++;
	snprintf(error->text, sizeof(error->text), "told to refuse");
	return end->answer;
}

static void on_wake(void *userdata)
{
	struct end *end = userdata;

	sealed_udp_drain(end->sealed);
}

static void end_open(struct end *end, const struct peers *peers, size_t self)
{
	const struct sealed_udp_options options = {
	    .port = PORT_GOSSIPD, .take = on_payload, .wake = on_wake, .userdata = end};
	const struct peer *own;
	struct udp udp;

	end->daemon.spec = &spec;
	end->daemon.loop = loop;
	end->daemon.node.peers = *peers;
	own = end->daemon.node.self = &end->daemon.node.peers.peer[self];
	check_int(udp_open(&udp, own->address, (uint16_t)(own->port + PORT_GOSSIPD)), 0);
	check_int(sealed_udp_new(&end->sealed, &end->daemon, &udp, &options), 0);
	check_int(udp.fd, -1);
	sealed_udp_stats(end->sealed, "refused by the test", end->stats);
}

static void open_ends(void)
{
	struct peers peers = {.count = 2};
	struct end *ends[] = {&a, &b};

	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	for (size_t i = 0; i < 2; i++) {
		struct peer *peer = &peers.peer[i];

		keys_generate(&ends[i]->daemon.keys);
		memcpy(peer->public_key, ends[i]->daemon.keys.public_key, KEY_SIZE);
		peer->id = node_id(peer->public_key);
		snprintf(peer->name, sizeof(peer->name), "n%zu", i + 1);
		/* Any address of 127/8 is ours: one of this process, so that runs do not meet. */
		snprintf(peer->address, sizeof(peer->address), "127.%d.%d.%zu",
		    (int)(getpid() >> 8 & 255), (int)(getpid() & 255), i + 1);
		peer->port = 7400;
	}
	end_open(&a, &peers, 0);
	end_open(&b, &peers, 1);
}

static void close_ends(void)
{
	a.sealed = sealed_udp_free(a.sealed);
	b.sealed = sealed_udp_free(b.sealed);
}

static void send_to(struct end *from, const struct end *to, const char *text)
{
	sealed_udp_send(from->sealed, to->daemon.node.self->id, text, strlen(text));
}

/* Until nothing more comes. */
static void run_loop(void)
{
	while (sd_event_run(loop, 50000) > 0)
		;
}

static uint64_t count_of(const struct end *end, const char *name)
{
	for (size_t i = 0; i < SEALED_UDP_STATS; i++)
		if (strcmp(end->stats[i].name, name) == 0)
			return *end->stats[i].value;
	check(!"a statistic of this name");
	return 0;
}

static void what_was_put_off_goes_out_when_the_peer_answers(void)
{
	open_ends();
	check(!sealed_udp_ready(a.sealed, b.daemon.node.self->id));
	send_to(&a, &b, "first");
	run_loop();
	check_int(b.taken, 1);
	check_str(b.last, "first");
	check(sealed_udp_ready(a.sealed, b.daemon.node.self->id));
	close_ends();
}

static void a_session_is_opened_by_its_first_payloads(void)
{
	open_ends();
	for (unsigned i = 0; i < SEAL_OPENINGS; i++) {
		check(sealed_udp_opening(a.sealed, b.daemon.node.self->id));
		send_to(&a, &b, "opening");
		run_loop();
		check_int(b.taken, i + 1);
	}
	check(!sealed_udp_opening(a.sealed, b.daemon.node.self->id));
	send_to(&a, &b, "later");
	run_loop();
	check_str(b.last, "later");
	close_ends();
}

static void only_the_latest_is_put_off_and_it_goes_out_once(void)
{
	open_ends();
	send_to(&a, &b, "first");
	send_to(&a, &b, "second");
	run_loop();
	check_int(b.taken, 1);
	check_str(b.last, "second");
	send_to(&a, &b, "third");
	run_loop();
	check_int(b.taken, 2);
	check_str(b.last, "third");
	close_ends();
}

static void a_body_that_cannot_be_read_is_counted_and_an_impossible_one_is_left_to_the_core(void)
{
	open_ends();
	b.answer = -1;
	send_to(&a, &b, "unread");
	run_loop();
	check_int(b.taken, 1);
	check_int(count_of(&b, "refused_body"), 1);
	b.answer = 1;
	send_to(&a, &b, "impossible");
	run_loop();
	check_int(b.taken, 2);
	check_int(count_of(&b, "refused_body"), 1);
	close_ends();
}

static void nothing_is_sent_to_who_is_no_peer(void)
{
	open_ends();
	check(sealed_udp_knows(a.sealed, b.daemon.node.self->id));
	check(!sealed_udp_knows(a.sealed, a.daemon.node.self->id));
	send_to(&a, &a, "self");
	sealed_udp_send(a.sealed, 1, "nobody", 6);
	run_loop();
	check_int(a.taken + b.taken, 0);
	check_int(count_of(&a, "control_sent"), 0);
	check_int(count_of(&a, "sends_failed"), 0);
	close_ends();
}

static void a_peer_that_goes_is_refused_and_one_that_comes_is_heard(void)
{
	struct peer back;

	open_ends();
	send_to(&a, &b, "first");
	run_loop();
	check_int(b.taken, 1);
	back = *peers_by_name(&b.daemon.node.peers, "n1");
	daemon_remove_peer(&b.daemon, peers_by_name(&b.daemon.node.peers, "n1"));
	check(!sealed_udp_knows(b.sealed, back.id));
	send_to(&a, &b, "second");
	run_loop();
	check_int(b.taken, 1);
	check_int(count_of(&b, "refused_unknown_sender"), 1);
	check_int(daemon_add_peer(&b.daemon, &back), 0);
	check_int(daemon_add_peer(&b.daemon, &back), -EEXIST);
	/* The keys agreed before are those of no session any more: a new one begins at both ends. */
	back = *b.daemon.node.self;
	daemon_remove_peer(&a.daemon, peers_by_name(&a.daemon.node.peers, "n2"));
	check_int(daemon_add_peer(&a.daemon, &back), 0);
	sealed_udp_send(a.sealed, back.id, "third", 5);
	run_loop();
	check_int(b.taken, 2);
	check_str(b.last, "third");
	close_ends();
}

int main(void)
{
	log_init("test-sealed-udp");
	check(sd_event_new(&loop) >= 0);
	return test_main((struct test[]){TEST(what_was_put_off_goes_out_when_the_peer_answers),
	    TEST(a_session_is_opened_by_its_first_payloads),
	    TEST(only_the_latest_is_put_off_and_it_goes_out_once),
	    TEST(a_body_that_cannot_be_read_is_counted_and_an_impossible_one_is_left_to_the_core),
	    TEST(nothing_is_sent_to_who_is_no_peer),
	    TEST(a_peer_that_goes_is_refused_and_one_that_comes_is_heard), {0}});
}
