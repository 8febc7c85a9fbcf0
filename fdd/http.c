/*
 * A probe asks in HTTP/1.0, so that the body comes as it is: no chunks to take apart, and the server
 * closes at its end.  It judges as soon as it can: the status when its line is there, the body when the text
 * was found, so that a page of gigabytes costs no more than its beginning.
 *
 * Rejected: libcurl, which brings proxies, redirections, name resolution and TLS into a process that
 * needs a status and a word; a service behind TLS is asked by a command probe.
 */
#include "fdd/http.h"

#include <stdio.h>
#include <string.h>

size_t http_request(char *text, size_t size, const char *host, const char *path)
{
	int length = snprintf(text, size,
	    "GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: depsys-fdd\r\nAccept: */*\r\n"
	    "Connection: close\r\n\r\n",
	    *path ? path : "/", host);

	return length > 0 && (size_t)length < size ? (size_t)length : 0;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "HTTP/1.1 200": the status, or 0. */
static unsigned status_of(const char *answer, size_t size)
{
	if (size < 12 || memcmp(answer, "HTTP/1.", 7) != 0 || answer[8] != ' ' ||
	    !is_digit(answer[9]) || !is_digit(answer[10]) || !is_digit(answer[11]))
		return 0;
	return (unsigned)(answer[9] - '0') * 100 + (unsigned)(answer[10] - '0') * 10 +
	       (unsigned)(answer[11] - '0');
}

static bool contains(const char *text, size_t size, const char *word)
{
	return memmem(text, size, word, strlen(word)) != NULL;
}

enum http_verdict http_judge(const char *answer, size_t size, bool ended, unsigned status,
    const char *match, char *why, size_t why_size)
{
	const char *body;
	unsigned got;

	if (size < 12 && !ended)
		return HTTP_MORE;
	got = status_of(answer, size);
	if (got != status) {
		if (got)
			snprintf(why, why_size, "status %u, not %u", got, status);
		else
			snprintf(why, why_size, "no HTTP answer");
		return HTTP_BAD;
	}
	if (!*match)
		return HTTP_GOOD;
	body = memmem(answer, size, "\r\n\r\n", 4);
	if (body && contains(body + 4, size - (size_t)(body + 4 - answer), match))
		return HTTP_GOOD;
	if (!ended)
		return HTTP_MORE;
	snprintf(why, why_size, "status %u, but \"%s\" is not in the body", got, match);
	return HTTP_BAD;
}
