/*
 * webd listens on loopback as a rule, where a browser of the same machine can be made to ask it by any page that
 * it shows.  Three things stand against that:
 *
 * - DNS rebinding: a page of evil.example whose name was made to point to 127.0.0.1 sends "Host: evil.example".
 *   Only names that nobody else can own are taken: address literals, localhost, the node's name, and those of the
 *   configuration.
 * - Cross-site requests carry an Origin that is not this host.  They are refused, and no answer ever has a CORS
 *   header, so no page of another origin reads anything.
 * - A token, when one is configured; it must be where webd listens on more than loopback.
 *
 * The token is kept and compared as a hash: neither its length nor the place of the first difference shows in time.
 */
#include "webd/gate.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_word(const char *a, size_t size, const char *b)
{
	for (size_t i = 0; i < size; i++)
		if (!b[i] || lower(a[i]) != lower(b[i]))
			return false;
	return b[size] == '\0';
}

bool gate_is_loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

static void hash(uint8_t out[32], const char *text, size_t size)
{
	crypto_generichash(out, 32, (const uint8_t *)text, size, NULL, 0);
}

int gate_set_token(struct gate *gate, const char *token, size_t size)
{
	if (size < TOKEN_MIN || size > TOKEN_MAX)
		return -EINVAL;
	for (size_t i = 0; i < size; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return -EINVAL;
	hash(gate->token, token, size);
	gate->has_token = true;
	return 0;
}

/* An address: nothing that a name server could be asked for.  "[" begins IPv6 only. */
static bool is_literal(const char *host, size_t size)
{
	return size > 0 && (host[0] == '[' || strspn(host, "0123456789.") >= size);
}

/* The length of the host without its port, 0 when it is not well formed. */
static size_t without_port(const char *host)
{
	const char *end = host[0] == '[' ? strchr(host, ']') : strchr(host, ':');
	size_t size = end ? (size_t)(end - host) + (host[0] == '[') : strlen(host);

	if (host[0] == '[' && (!end || strspn(host + 1, "0123456789abcdefABCDEF:.") != size - 2))
		return 0;
	if (host[size] == ':' && strspn(host + size + 1, "0123456789") != strlen(host + size + 1))
		return 0;
	return host[size] == ':' || host[size] == '\0' ? size : 0;
}

static bool is_listed(const char *names, const char *word, size_t size)
{
	while (*names) {
		size_t length = strcspn(names, " ");
		char name[sizeof(((struct gate *)0)->names)];

		snprintf(name, sizeof(name), "%.*s", (int)length, names);
		if (length > 0 && same_word(word, size, name))
			return true;
		names += length + (names[length] == ' ');
	}
	return false;
}

bool gate_host_allowed(const struct gate *gate, const char *host)
{
	size_t size = host ? without_port(host) : 0;

	return size > 0 && (is_literal(host, size) || same_word(host, size, "localhost") ||
			       is_listed(gate->names, host, size));
}

bool gate_origin_allowed(const char *origin, const char *host)
{
	const char *name;

	if (!origin)
		return true;
	name = strstr(origin, "://");
	return name && host && same_word(name + 3, strlen(name + 3), host);
}

bool gate_is_authorized(const struct gate *gate, const char *authorization)
{
	const size_t prefix = sizeof("Bearer ") - 1;
	uint8_t given[32];

	if (!gate->has_token)
		return true;
	if (!authorization || strlen(authorization) < prefix ||
	    strlen(authorization) > prefix + TOKEN_MAX ||
	    !same_word(authorization, prefix, "bearer "))
		return false;
	hash(given, authorization + prefix, strlen(authorization + prefix));
	return sodium_memcmp(given, gate->token, sizeof(given)) == 0;
}
