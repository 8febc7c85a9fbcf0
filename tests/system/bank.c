/*
 * bank PORT [ADDRESS]: one of two banks that send each other money over one TCP connection, a unit each millisecond both ways; the one
 * with an ADDRESS connects to the other, once in its life.  What each has stands in memory and in the file /balance.  On PORT + 1
 * one line is answered with another: look, pause, go -> "balance sent received broken file".
 *
 * What was sent is on its way until it is received; so of one instant the balances and what is on its way add up, and of two
 * instants, one for each bank, they do not: they cannot even go on talking to each other.  A broken connection stays broken.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BEGIN 1000000

static struct {
	int peer; /* -1: not yet, or no more */
	int file;
	bool broken, paused;
	int64_t balance, sent, received;
} bank = {.peer = -1, .balance = BEGIN};

static void keep(void)
{
	if (pwrite(bank.file, &bank.balance, sizeof(bank.balance), 0) != sizeof(bank.balance))
		exit(1);
}

static void lose_peer(void)
{
	close(bank.peer);
	bank.peer = -1;
	bank.broken = true;
}

/* A unit is a byte: it is there or not. */
static void receive(void)
{
	char units[4096];
	ssize_t count = recv(bank.peer, units, sizeof(units), MSG_DONTWAIT);

	if (count > 0) {
		bank.received += count;
		bank.balance += count;
		keep();
	} else if (count == 0) {
		lose_peer();
	}
}

static void pay(void)
{
	ssize_t count = send(bank.peer, "$", 1, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (count == 1) {
		bank.sent++;
		bank.balance--;
		keep();
	}
}

static void answer(int client)
{
	char text[128] = "";
	int64_t written = 0;
	ssize_t size = recv(client, text, sizeof(text) - 1, 0);

	if (strncmp(text, "pause", 5) == 0)
		bank.paused = true;
	else if (strncmp(text, "go", 2) == 0)
		bank.paused = false;
	if (pread(bank.file, &written, sizeof(written), 0) != sizeof(written))
		written = -1;
	size = snprintf(text, sizeof(text), "%" PRId64 " %" PRId64 " %" PRId64 " %d %" PRId64 "\n",
	    bank.balance, bank.sent, bank.received, bank.broken, written);
	send(client, text, (size_t)size, MSG_NOSIGNAL);
	close(client);
}

static int listen_at(uint16_t port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
	int server = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(server, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(server, 16) < 0)
		exit(1);
	return server;
}

/* Until the other one is there. */
static int connect_to(const char *address, uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};

	if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
		exit(1);
	for (;;) {
		int peer = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(peer, (struct sockaddr *)&to, sizeof(to)) == 0)
			return peer;
		close(peer);
		usleep(100000);
	}
}

static void meet(int peer)
{
	int one = 1;

	setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	bank.peer = peer;
}

int main(int argc, char **argv)
{
	uint16_t port = argc > 1 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0;
	int server = listen_at(port), desk = listen_at((uint16_t)(port + 1));

	bank.file = open("/balance", O_RDWR | O_CREAT, 0600);
	if (!port || bank.file < 0)
		return 1;
	keep();
	if (argc > 2)
		meet(connect_to(argv[2], port));
	for (;;) {
		/* Negative descriptors are passed over: who has met its peer meets nobody else. */
		struct pollfd waiting[] = {{.fd = desk, .events = POLLIN},
		    {.fd = bank.peer, .events = POLLIN},
		    {.fd = bank.peer < 0 && !bank.broken ? server : -1, .events = POLLIN}};

		poll(waiting, 3, 1);
		if (waiting[0].revents)
			answer(accept(desk, NULL, NULL));
		if (waiting[1].revents)
			receive();
		if (waiting[2].revents)
			meet(accept(server, NULL, NULL));
		if (bank.peer >= 0 && !bank.paused)
			pay();
	}
}
