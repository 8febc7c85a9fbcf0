/*
 * web PORT: a small web service for tests, one process, one request at a time: GET /health is answered with
 * "all is well", and a heartbeat is told while it waits.  Stopped (SIGSTOP) it is a hung service: its kernel goes on accepting
 * connections.  After GET /hang it hangs by itself, which a checkpoint keeps.
 */
#include <depsys_heartbeat.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void answer(int client)
{
	static const char well[] = "HTTP/1.0 200 OK\r\n\r\nall is well\n";
	static const char gone[] = "HTTP/1.0 404 Not Found\r\n\r\n";
	char request[1024] = "";
	ssize_t size = read(client, request, sizeof(request) - 1);
	const char *text = strncmp(request, "GET /health ", 12) == 0 ? well : gone;

	if (strncmp(request, "GET /hang ", 10) == 0)
		for (;;)
			pause();
	if (size > 0 && write(client, text, strlen(text)) > 0)
		shutdown(client, SHUT_WR);
	close(client);
}

int main(int argc, char **argv)
{
	long port = argc > 1 ? strtol(argv[1], NULL, 10) : 80;
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct depsys_heartbeat heart;
	int server = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	signal(SIGPIPE, SIG_IGN);
	setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(server, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(server, 128) < 0)
		return 1;
	depsys_heartbeat_init(&heart, 300);
	for (;;) {
		struct pollfd waiting = {.fd = server, .events = POLLIN};
		int client = poll(&waiting, 1, 50) > 0 ? accept(server, NULL, NULL) : -1;

		if (client >= 0)
			answer(client);
		depsys_heartbeat_beat(&heart);
	}
}
