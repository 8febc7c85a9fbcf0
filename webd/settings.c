/*
 * The [webd] section of the configuration.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "webd/shell.h"

#define INT_KEY(key, field, text, low, high, what)                                                 \
	{                                                                                          \
		"webd", key, CONFIG_INT, offsetof(struct webd_settings, field), 0, text, low,      \
		    high, NULL, what                                                               \
	}
#define TEXT_KEY(key, text, what)                                                                  \
	{                                                                                          \
		"webd", #key, CONFIG_STRING, offsetof(struct webd_settings, key),                  \
		    sizeof(((struct webd_settings *)0)->key), text, 0, 0, NULL, what               \
	}

const struct config_key webd_config_keys[] = {
    TEXT_KEY(listen, "127.0.0.1", "numeric address"),
    INT_KEY("port", port, "0", 0, 65535, "0: the node's base port + 20"),
    TEXT_KEY(token, "", "file with the token; must be where listen is not loopback"),
    TEXT_KEY(hosts, "", "names in Host that are let in, beside addresses, localhost and the node"),
    INT_KEY("connections", connections, "64", 8, 1024, "at once"),
    INT_KEY("streams", streams, "32", 1, 1024, "of these at most"),
    INT_KEY("registrations", registrations, "24", 1, 24, "at once; fdd has 32 for all"),
    INT_KEY("events", kept, "256", 16, 4096, "kept of each registration, for streams to go on"),
    INT_KEY("keepalive_ms", keepalive_ms, "15000", 500, 300000, "a comment on a quiet stream"),
    INT_KEY("patience_ms", patience_ms, "10000", 500, 300000,
	"for a client to send its request, or to take its answer"),
    {0},
};

int webd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error)
{
	const struct webd_settings *s = settings;

	(void)node;
	if (!config_address_is_valid(s->listen))
		snprintf(error->text, sizeof(error->text),
		    "[webd] listen = %s: expected a numeric address", s->listen);
	else if (!gate_is_loopback(s->listen) && !*s->token)
		snprintf(error->text, sizeof(error->text),
		    "[webd] listen = %s is not loopback: token must name a file", s->listen);
	else if (s->streams >= s->connections)
		snprintf(error->text, sizeof(error->text),
		    "[webd] streams must be below connections (%lld)", (long long)s->connections);
	else
		return 0;
	return -EINVAL;
}
