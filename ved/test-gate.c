/*
 * The gate on a pair of interfaces in a network namespace of this process's own; needs root, else it says that it skips.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/test.h"
#include "ved/engine.h"
#include "ved/fence.h"
#include "ved/files.h"
#include "ved/gate.h"

enum {
	FRAME = 0x88b6,  /* IEEE 802: the other local experimental ethertype */
	LARGE = 16000,   /* a few hundred fill the queue; it takes none larger than the bucket */
	SMALL = 46,      /* no frame is smaller, so that one finds room where another did */
	ROOM = 64 << 20, /* of a socket: more than the queue has */
	QUEUED_LEAST = 100,
	PATIENCE_S = 60,
};

static const char near[] = "gate0", far[] = "gate1";

static int packet_socket(const char *interface, int option)
{
	int sock = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(FRAME)), room = ROOM;
	struct sockaddr_ll where = {.sll_family = AF_PACKET,
	    .sll_protocol = htons(FRAME),
	    .sll_ifindex = (int)if_nametoindex(interface)};
	struct timeval patience = {.tv_sec = PATIENCE_S};

	check(sock >= 0);
	check_int(bind(sock, (struct sockaddr *)&where, sizeof(where)), 0);
	check_int(setsockopt(sock, SOL_SOCKET, option, &room, sizeof(room)), 0);
	check_int(setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	return sock;
}

/* Sends a numbered frame; 0 or an errno. */
static int send_number(int sock, unsigned number, size_t size)
{
	static char frame[LARGE];
	struct sockaddr_ll where = {.sll_family = AF_PACKET,
	    .sll_protocol = htons(FRAME),
	    .sll_halen = 6,
	    .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	    .sll_ifindex = (int)if_nametoindex(near)};

	memcpy(frame, &number, sizeof(number));
	return sendto(sock, frame, size, MSG_DONTWAIT, (struct sockaddr *)&where, sizeof(where)) < 0
		   ? errno
		   : 0;
}

/* Until the queue takes no more of that size. */
static void fill(int sock, size_t size, unsigned *queued)
{
	int rc;

	while ((rc = send_number(sock, *queued, size)) == 0)
		++*queued;
	check_int(rc, ENOBUFS); /* the queue is full, not the socket */
}

static unsigned receive_number(int sock)
{
	unsigned number = 0;

	check(recv(sock, &number, sizeof(number), 0) == sizeof(number));
	return number;
}

static void a_full_queue_leaves_in_order_when_the_gate_opens(void)
{
	_cleanup_fd_ int out = packet_socket(near, SO_SNDBUFFORCE);
	_cleanup_fd_ int in = packet_socket(far, SO_RCVBUFFORCE);
	unsigned queued = 0;

	check_int(gate_install(near, true), 0);
	fill(out, LARGE, &queued);
	fill(out, SMALL, &queued);
	check_range(queued, QUEUED_LEAST, ROOM / SMALL);
	check_int(gate_set(near, false), 0);
	for (unsigned i = 0; i < queued; i++)
		check_int(receive_number(in), i);
	check_int(gate_remove(near), 0);
}

static void opens_behind(enum fence_kind kind, const struct engine_config *config)
{
	struct engine_error error = {0};
	struct fence fence = {.map = -1};
	_cleanup_fd_ int out = packet_socket(near, SO_SNDBUFFORCE);
	_cleanup_fd_ int in = packet_socket(far, SO_RCVBUFFORCE);
	uint64_t dropped = 0;

	if (fence_probe(kind, config, &error) < 0) {
		printf("# no fence %s here: %s\n", fence_kind_name(kind), error.text);
		return;
	}
	check_int(fence_make(&fence, kind, config, "ve", near, &error), 0);
	check_int(fence_interface(&fence, &error), 0);
	check_int(fence_set(&fence, INT64_MAX), 0);
	check_int(gate_install(near, true), 0);
	check_int(send_number(out, 1, SMALL), 0);
	check_int(fence_set(&fence, 1), 0);
	check_int(send_number(out, 2, SMALL), ENOBUFS); /* who sends is told what a fence drops */
	check_int(gate_set(near, false), 0);
	check_int(receive_number(in), 1); /* it was in the queue: the fence stands before it */
	check_int(fence_dropped(&fence, &dropped), 0);
	check_range(dropped, 2, 1000);
	check_int(fence_set(&fence, INT64_MAX), 0);
	check_int(send_number(out, 3, SMALL), 0);
	check_int(receive_number(in), 3);
	check_int(gate_remove(near), 0);
	fence_close(&fence);
	check_int(fence_remove(config, "ve"), 0);
}

static void a_gate_opens_behind_a_fence_that_is_closed(void)
{
	struct engine_config config = {.run = "/tmp"};

	check_int(mount("tmpfs", config.run, "tmpfs", 0, NULL), 0);
	opens_behind(FENCE_BPF, &config);
	opens_behind(FENCE_NFT, &config);
}

static void run(const char *const *command)
{
	pid_t pid;
	int status;

	check_int(posix_spawnp(&pid, command[0], NULL, NULL, (char *const *)command, environ), 0);
	check(waitpid(pid, &status, 0) == pid);
	check_int(status, 0);
}

static void make_pair(void)
{
	run((const char *const[]){"ip", "link", "add", near, "mtu", "65000", "type", "veth", "peer",
	    "name", far, "mtu", "65000", NULL});
	run((const char *const[]){"ip", "link", "set", near, "up", NULL});
	run((const char *const[]){"ip", "link", "set", far, "up", NULL});
}

int main(void)
{
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0) {
		printf("1..0 # SKIP needs root: %s\n", strerror(errno));
		return 0;
	}
	check_int(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	make_pair();
	return test_main((struct test[]){TEST(a_full_queue_leaves_in_order_when_the_gate_opens),
	    TEST(a_gate_opens_behind_a_fence_that_is_closed), {0}});
}
