/*
 * unwritable KIND: a service that holds one thing which criu cannot write down (or can, which is then seen), and answers "here" to
 * whoever connects to its port 7000.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

enum { PORT = 7000, PROTO_MPTCP = 262, LARGE = 80 << 20 };

static int uring(void)
{
	struct io_uring_params params = {0};

	return (int)syscall(SYS_io_uring_setup, 4, &params);
}

static int perf(void)
{
	struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE,
	    .size = sizeof(attr),
	    .config = PERF_COUNT_SW_CPU_CLOCK,
	    .exclude_kernel = 1};

	return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static int faults(void)
{
	return (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY);
}

static int bpf(void)
{
	static const struct bpf_insn body[] = {
	    {.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insn_cnt = 2};

	attr.insns = (uintptr_t)body;
	attr.license = (uintptr_t) "GPL";
	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* That of FUSE, under a name that does not say so. */
static int device(void)
{
	if (mknod("/tmp/device", S_IFCHR | 0600, makedev(10, 229)) < 0)
		return -1;
	return open("/tmp/device", O_RDWR);
}

static int mptcp(void)
{
	return socket(AF_INET, SOCK_STREAM, PROTO_MPTCP);
}

static int raw(void)
{
	return socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}

static int packet(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static int vsock(void)
{
	return socket(AF_VSOCK, SOCK_STREAM, 0);
}

static int queue(void)
{
	return (int)mq_open("/queue", O_CREAT | O_RDWR, 0600, NULL);
}

static int namespace(int kind)
{
	pid_t child;

	if (unshare(kind) < 0)
		return -1;
	child = kind == CLONE_NEWPID ? fork() : 1;
	while (child == 0)
		pause();
	return child;
}

static int user_namespace(void)
{
	return namespace(CLONE_NEWUSER);
}

static int pid_namespace(void)
{
	return namespace(CLONE_NEWPID);
}

static int time_namespace(void)
{
	return namespace(CLONE_NEWTIME);
}

static int mount_namespace(void)
{
	return namespace(CLONE_NEWNS);
}

static int traced(void)
{
	pid_t child = fork();

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		for (;;)
			pause();
	}
	return child;
}

static int large(void)
{
	static char page[1 << 20];
	int fd = open("/tmp/large", O_RDWR | O_CREAT, 0600);

	memset(page, 'x', sizeof(page));
	for (int at = 0; fd >= 0 && at < LARGE; at += (int)sizeof(page))
		if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
			return -1;
	return fd < 0 || unlink("/tmp/large") < 0 ? -1 : fd;
}

/* A connection to whom listens at a socket in a directory of the host. */
static int outside(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/host/socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -1 : fd;
}

static const struct {
	const char *name;
	int (*make)(void);
} kinds[] = {{"raw", raw}, {"packet", packet}, {"mount-namespace", mount_namespace},
    {"uring", uring}, {"perf", perf}, {"faults", faults}, {"bpf", bpf}, {"device", device},
    {"mptcp", mptcp}, {"vsock", vsock}, {"queue", queue}, {"user-namespace", user_namespace},
    {"pid-namespace", pid_namespace}, {"time-namespace", time_namespace}, {"traced", traced},
    {"large", large}, {"outside", outside}};

static int answer(const char *text)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 8) < 0)
		return 1;
	for (;;) {
		int peer = accept(listener, NULL, NULL);

		if (peer < 0)
			continue;
		if (write(peer, text, strlen(text)) < 0)
			perror("write");
		close(peer);
	}
}

int main(int argc, char **argv)
{
	const char *kind = argc == 2 ? argv[1] : "";
	char failed[128];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kind, kinds[i].name) != 0)
			continue;
		if (kinds[i].make() >= 0)
			return answer("here\n");
		snprintf(failed, sizeof(failed), "cannot: %s\n", strerror(errno));
		return answer(failed);
	}
	fprintf(stderr, "usage: unwritable KIND\n");
	return 2;
}
