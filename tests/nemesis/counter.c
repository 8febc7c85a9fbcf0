/*
 * counter PORT: the service of the checker.  It counts requests over UDP and stamps each answer with which copy of it gave it.
 *
 *	request  CLIENT NUMBER
 *	answer   CLIENT NUMBER COUNT COPY
 *
 * COPY is the cookie of its network namespace, which the kernel never gives twice and every copy gets anew, however it was made. It
 * is asked for at each answer; so nothing that a checkpoint holds can make one copy look like another.
 *
 * Rejected: a number from the environment (a restored process has that of its first start); one that ved tells (the test whose
 * business it is to doubt ved would believe it); the start time of the process (criu restores into a time namespace, so that two
 * copies from one checkpoint have the same); inode numbers of namespaces (they are used again).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { REQUEST_MAX = 128 };

static int open_socket(const char *port)
{
	struct sockaddr_in any = {
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0) {
		fprintf(stderr, "counter: bind port %s: %s\n", port, strerror(errno));
		return -1;
	}
	return fd;
}

static void answer(int fd, uint64_t *count)
{
	char text[REQUEST_MAX + 48];
	struct sockaddr_in from;
	socklen_t from_size = sizeof(from), copy_size = sizeof(uint64_t);
	uint64_t copy;
	ssize_t size = recvfrom(fd, text, REQUEST_MAX, 0, (struct sockaddr *)&from, &from_size);

	if (size <= 0)
		return;
	(*count)++;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &copy, &copy_size) < 0) {
		perror("counter: ask which copy this is");
		exit(1);
	}
	size += snprintf(text + size, sizeof(text) - (size_t)size, " %llu %llu",
	    (unsigned long long)*count, (unsigned long long)copy);
	if (sendto(fd, text, (size_t)size, 0, (struct sockaddr *)&from, from_size) < 0)
		perror("counter: answer"); /* the request stays without one */
}

int main(int argc, char **argv)
{
	uint64_t count = 0;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: counter PORT\n");
		return 2;
	}
	fd = open_socket(argv[1]);
	if (fd < 0)
		return 1;
	for (;;)
		answer(fd, &count);
}
