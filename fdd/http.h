/*
 * What an HTTP probe makes of an answer.  Functions over bytes; probe.c has the socket.
 */
#ifndef FDD_HTTP_H
#define FDD_HTTP_H

#include <stdbool.h>
#include <stddef.h>

enum http_verdict { HTTP_MORE, HTTP_GOOD, HTTP_BAD };

/* The request for a path; its size, or 0 when it does not fit. */
size_t http_request(char *text, size_t size, const char *host, const char *path);
/*
 * Is the answer, of which `size` bytes are there, what is wanted: this status, and `match` in its body ("":
 * any)?  ended: no more will come, or is taken.  BAD writes why.
 */
enum http_verdict http_judge(const char *answer, size_t size, bool ended, unsigned status,
    const char *match, char *why, size_t why_size);

#endif
