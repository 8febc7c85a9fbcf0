/*
 * Who may ask: by the Host, Origin and Authorization of a request.  Part of the core.
 */
#ifndef WEBD_GATE_H
#define WEBD_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_MIN 16
#define TOKEN_MAX 255

struct gate {
	char names[512]; /* besides address literals and localhost; between blanks */
	bool has_token;
	uint8_t token[32]; /* its BLAKE2b */
};

/* 127.0.0.0/8, ::1 */
bool gate_is_loopback(const char *address);
/* 0, or -EINVAL: 16 to 255 characters, no blanks. */
int gate_set_token(struct gate *gate, const char *token, size_t size);
/* Is the name in Host one that nobody else can make point here?  NULL: there was none. */
bool gate_host_allowed(const struct gate *gate, const char *host);
/* Is it a page of this very host that asks, or no page at all (NULL)? */
bool gate_origin_allowed(const char *origin, const char *host);
/* "Bearer TOKEN", compared in a time that does not depend on it; true when no token is wanted. */
bool gate_is_authorized(const struct gate *gate, const char *authorization);

#endif
