#include "gdn/gosd/transfer.h"

#include "gdn/gosd/sessions.h"
#include "gdn/store/test-store.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/socket.h>

static struct bulk_set set;
static struct store *source;
static struct id oid;

/* Two channels that are each other's end; no end waits long for a lie. */
static void pair(struct bulk *a, struct bulk *b)
{
	struct timeval wait = {.tv_sec = 1};
	int fds[2];

	check_int(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (int i = 0; i < 2; i++)
		check_int(setsockopt(fds[i], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	check_int(bulk_take(a, &set, fds[0]), 0);
	check_int(bulk_take(b, &set, fds[1]), 0);
}

/* --- an honest sender in a thread --- */

struct sending {
	struct bulk bulk;
	pthread_t thread;
	int r;
};

static void *send_main(void *arg)
{
	struct sending *sending = arg;
	struct object *object;

	sending->r = object_open(&object, source, &oid, NULL);
	if (sending->r == 0) {
		sending->r = transfer_send(&sending->bulk, object, NULL, NULL);
		object_close(object);
	}
	shutdown(sending->bulk.fd, SHUT_RDWR);
	return NULL;
}

static void start_sending(struct sending *sending, struct bulk *receiver)
{
	pair(&sending->bulk, receiver);
	check_int(pthread_create(&sending->thread, NULL, send_main, sending), 0);
}

static int end_sending(struct sending *sending)
{
	pthread_join(sending->thread, NULL);
	bulk_close(&sending->bulk);
	return sending->r;
}

static int keep(struct upload *upload, const struct received *received)
{
	return upload_commit(upload,
	    &(struct upload_object){.root_bytes = &received->root_bytes,
		.root = &received->root,
		.list = &received->list,
		.tag = "",
		.kind = ""},
	    NULL);
}

/* One transfer from the source as it now is, into the upload. */
static int receive_into(struct upload *upload, struct received *received)
{
	struct sending sending;
	struct bulk bulk;
	int r;

	start_sending(&sending, &bulk);
	received_fini(received);
	received->bytes = 0;
	r = transfer_receive(&bulk, &oid, upload, received, NULL, NULL);
	if (r == 0)
		check_int(transfer_done(&bulk), 0);
	check_int(end_sending(&sending), r == -ENODATA ? -EBADMSG : r);
	bulk_close(&bulk);
	return r;
}

static void keep_and_look(struct store *store, struct upload *upload, struct received *received)
{
	check(keep(upload, received) >= 0);
	upload_free(upload);
	received_fini(received);
	check_int(test_get(store, &oid, test_key, NULL), 0);
	check(test_same(test_path("image"), test_path("out")));
	store_close(store);
}

/* Receives into the store of that name; returns the bytes that travelled. */
static uint64_t copy_into(const char *name)
{
	struct store *store = test_open(name);
	struct received received = {0};
	struct upload *upload;

	check_int(upload_new(&upload, store), 0);
	check_int(receive_into(upload, &received), 0);
	keep_and_look(store, upload, &received);
	return received.bytes;
}

static void an_object_arrives_whole_without_its_key(void)
{
	check_range(copy_into("copy"), 1000000, 4000000);
}

static void what_is_there_does_not_travel_again(void)
{
	check_int(copy_into("copy"), 0);
}

static void damage_one_byte(uint8_t *data, size_t *size)
{
	data[*size / 3] ^= 1;
}

static void a_damaged_sender_gives_the_rest_and_another_completes_it(void)
{
	struct received received = {0};
	struct upload *upload;
	struct store *store;
	uint64_t first;

	check(copy_into("damaged") > 0);
	test_each_pack("damaged", damage_one_byte);
	store_close(source);
	source = test_open("damaged");
	store = test_open("half");
	check_int(upload_new(&upload, store), 0);
	check_int(receive_into(upload, &received), -ENODATA);
	first = received.bytes;
	store_close(source);
	source = test_open("source");
	check_int(receive_into(upload, &received), 0);
	check_range(received.bytes, 1, 65600);
	check(first > 10 * received.bytes);
	keep_and_look(store, upload, &received);
}

/* --- a lying sender --- */

struct lie {
	struct bulk bulk;
	uint8_t bytes[65600];
	size_t size;
};

/* What the receiver says when a peer has sent this. */
static int receive_lie(struct lie *lie, const struct id *expected)
{
	struct store *store = test_open("victim");
	struct received received = {0};
	struct upload *upload;
	struct bulk bulk;
	int r;

	pair(&lie->bulk, &bulk);
	check(send(lie->bulk.fd, lie->bytes, lie->size, MSG_NOSIGNAL) == (ssize_t)lie->size);
	shutdown(lie->bulk.fd, SHUT_WR);
	check_int(upload_new(&upload, store), 0);
	r = transfer_receive(&bulk, expected, upload, &received, NULL, NULL);
	bulk_close(&bulk);
	bulk_close(&lie->bulk);
	upload_free(upload);
	received_fini(&received);
	check_int(test_pack_count("victim"), 0);
	store_close(store);
	return r;
}

static void say(struct lie *lie, enum bulk_type type, const void *data, uint32_t size)
{
	uint32_t length = htole32(size);

	memcpy(lie->bytes + lie->size, &length, 4);
	lie->bytes[lie->size + 4] = (uint8_t)type;
	if (size)
		memcpy(lie->bytes + lie->size + 5, data, size);
	lie->size += 5 + size;
}

static void say_root(struct lie *lie)
{
	struct object *object;
	const struct buf *root;

	lie->size = 0;
	check_int(object_open(&object, source, &oid, NULL), 0);
	root = object_root_bytes(object);
	say(lie, BULK_ROOT, root->data, (uint32_t)root->size);
	object_close(object);
}

static void a_root_of_another_object_is_refused(void)
{
	struct lie lie;
	struct id other = {{1}};

	say_root(&lie);
	check_int(receive_lie(&lie, &other), -EBADMSG);
}

static void a_corrupt_chunk_is_refused(void)
{
	struct lie lie;
	uint8_t chunk[4 + 100] = {0};

	say_root(&lie);
	say(&lie, BULK_CHUNK, chunk, sizeof(chunk));
	check_int(receive_lie(&lie, &oid), -EBADMSG);
}

static void a_chunk_nobody_asked_for_is_refused(void)
{
	struct lie lie;
	uint8_t chunk[4 + 100] = {0xff, 0xff, 0xff, 0xff};

	say_root(&lie);
	say(&lie, BULK_CHUNK, chunk, sizeof(chunk));
	check_int(receive_lie(&lie, &oid), -EBADMSG);
	say_root(&lie);
	say(&lie, BULK_CHUNK, chunk, 2);
	check_int(receive_lie(&lie, &oid), -EBADMSG);
}

static void a_frame_too_long_is_refused_before_it_is_read(void)
{
	struct lie lie = {.bytes = {0xff, 0xff, 0xff, 0x7f, BULK_ROOT}, .size = 5};

	check_int(receive_lie(&lie, &oid), -EBADMSG);
}

static void a_sender_that_stops_is_an_error(void)
{
	struct lie lie;

	say_root(&lie);
	lie.size /= 2;
	check_int(receive_lie(&lie, &oid), -ECONNRESET);
	say_root(&lie);
	check_int(receive_lie(&lie, &oid), -ECONNRESET);
	say(&lie, BULK_END, NULL, 0);
	check_int(receive_lie(&lie, &oid), -ENODATA);
}

static void random_frames_never_crash_the_receiver(void)
{
	struct rng rng;
	struct lie lie;

	rng_init(&rng, 12);
	for (int i = 0; i < 300; i++) {
		uint8_t noise[200];

		say_root(&lie);
		for (int k = 0; k < 5; k++) {
			for (size_t j = 0; j < sizeof(noise); j++)
				noise[j] =
				    (uint8_t)rng_below(&rng, rng_chance(&rng, 0.5) ? 256 : 3);
			say(&lie, (enum bulk_type)rng_below(&rng, 8), noise,
			    (uint32_t)rng_below(&rng, sizeof(noise)));
		}
		check(receive_lie(&lie, &oid) < 0);
	}
}

static void a_receiver_that_wants_nonsense_is_refused(void)
{
	struct sending sending;
	struct bulk bulk;
	uint8_t bits[50] = {0};

	start_sending(&sending, &bulk);
	check_int(bulk_send(&bulk, BULK_WANT, NULL, 0, bits, sizeof(bits)), 0);
	check_int(bulk_flush(&bulk), 0);
	check_int(end_sending(&sending), -EBADMSG);
	bulk_close(&bulk);
	start_sending(&sending, &bulk);
	check_int(bulk_send(&bulk, BULK_DONE, NULL, 0, NULL, 0), 0);
	check_int(bulk_flush(&bulk), 0);
	check_int(end_sending(&sending), -EBADMSG);
	bulk_close(&bulk);
}

/* --- tickets --- */

static struct session *session_new(enum session_kind kind)
{
	struct session *session = calloc(1, sizeof(*session));

	session->kind = kind;
	return session;
}

static void a_ticket_is_good_once_and_for_ten_seconds(void)
{
	struct sessions *sessions;
	struct session *first = session_new(SESSION_SEND), *second = session_new(SESSION_SEND);
	struct session *taken;
	uint8_t ticket[TICKET_SIZE], late[TICKET_SIZE];

	check_int(sessions_new(&sessions), 0);
	check_int(sessions_add(sessions, first, mono_ms(0)), 0);
	check_int(sessions_add(sessions, second, mono_ms(0)), 0);
	memcpy(ticket, first->ticket, TICKET_SIZE);
	memcpy(late, second->ticket, TICKET_SIZE);
	check(!sessions_take(sessions, ticket, true));
	taken = sessions_take(sessions, ticket, false);
	check(taken == first);
	check(!sessions_take(sessions, ticket, false));
	sessions_keep(sessions, taken, mono_ms(5000));
	check(!sessions_take(sessions, ticket, false));
	sessions_reap(sessions, mono_ms(10001));
	check(!sessions_take(sessions, late, false));
	taken = sessions_take(sessions, ticket, true);
	check(taken == first);
	session_free(taken);
	sessions_free(sessions);
}

static void open_tickets_are_bounded(void)
{
	struct sessions *sessions;
	int r = 0, count = 0;

	check_int(sessions_new(&sessions), 0);
	while (r == 0 && count < 10000) {
		struct session *session = session_new(SESSION_RECEIVE);

		r = sessions_add(sessions, session, mono_ms(0));
		if (r < 0)
			session_free(session);
		else
			count++;
	}
	check_int(r, -EBUSY);
	check_int(count, 64);
	sessions_reap(sessions, mono_ms(20000));
	check_int(sessions_add(sessions, session_new(SESSION_RECEIVE), mono_ms(20000)), 0);
	sessions_free(sessions);
}

int main(void)
{
	int r;

	test_begin();
	bulk_set_init(&set);
	test_image(test_path("image"), 3 << 20, 4);
	source = test_open("source");
	oid = test_put(source, test_path("image"), test_key);
	r = test_main((struct test[]){
	    TEST(an_object_arrives_whole_without_its_key),
	    TEST(what_is_there_does_not_travel_again),
	    TEST(a_damaged_sender_gives_the_rest_and_another_completes_it),
	    TEST(a_root_of_another_object_is_refused),
	    TEST(a_corrupt_chunk_is_refused),
	    TEST(a_chunk_nobody_asked_for_is_refused),
	    TEST(a_frame_too_long_is_refused_before_it_is_read),
	    TEST(a_sender_that_stops_is_an_error),
	    TEST(random_frames_never_crash_the_receiver),
	    TEST(a_receiver_that_wants_nonsense_is_refused),
	    TEST(a_ticket_is_good_once_and_for_ten_seconds),
	    TEST(open_tickets_are_bounded),
	    {0},
	});
	store_close(source);
	return r;
}
