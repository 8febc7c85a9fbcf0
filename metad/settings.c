#include "metad/settings.h"

#include <errno.h>
#include <stdio.h>
#include <sodium.h>
#include <string.h>

#define ETCD_FILE(field, what)                                                                     \
	{                                                                                          \
		.section = "metad", .name = #field, .type = CONFIG_STRING,                         \
		.offset = offsetof(struct settings, field),                                        \
		.size = sizeof(((struct settings *)0)->field), .fallback = "",                     \
		.help = what ", a PEM file; needed with etcd",                                     \
	}

const struct config_key settings_keys[] = {
    {.section = "metad",
	.name = "voters",
	.type = CONFIG_STRING,
	.offset = offsetof(struct settings, voters_text),
	.size = sizeof(((struct settings *)0)->voters_text),
	.fallback = "",
	.help =
	    "names of the nodes that vote in a store that is yet to be made, the same on all; an odd "
	    "number; without it the first peer alone; later: depctl meta add, remove"},
    {.section = "metad",
	.name = "latency_ms",
	.type = CONFIG_INT,
	.offset = offsetof(struct settings, latency_ms),
	.fallback = "20",
	.min = 1,
	.max = 1000,
	.help = "between voters, one way; an election is due after 15 times this without a leader"},
    {.section = "metad",
	.name = "min_free_mb",
	.type = CONFIG_INT,
	.offset = offsetof(struct settings, min_free_mb),
	.fallback = "64",
	.min = 0,
	.max = 1 << 20,
	.help = "a voter does not start with less disk than this; with less than half of it "
		"facts can be read, not written"},
    {.section = "metad",
	.name = "export_minutes",
	.type = CONFIG_INT,
	.offset = offsetof(struct settings, export_minutes),
	.fallback = "60",
	.min = 0,
	.max = 7 * 24 * 60,
	.help = "how often a voter writes all facts to its directory export; 0: only when asked"},
    {.section = "metad",
	.name = "export_keep",
	.type = CONFIG_INT,
	.offset = offsetof(struct settings, export_keep),
	.fallback = "24",
	.min = 1,
	.max = 1000,
	.help = "so many of these files are kept"},
    {.section = "metad",
	.name = "etcd",
	.type = CONFIG_STRING,
	.offset = offsetof(struct settings, etcd_text),
	.size = sizeof(((struct settings *)0)->etcd_text),
	.fallback = "",
	.help =
	    "endpoints https://ADDRESS:PORT of an etcd that keeps the facts; without it dqlite in metad does"},
    ETCD_FILE(etcd_ca, "CA of etcd's certificates"),
    ETCD_FILE(etcd_cert, "our certificate for etcd"),
    ETCD_FILE(etcd_key, "its key"),
    {0},
};

uint64_t settings_engine_id(const char *name)
{
	uint64_t id;

	crypto_generichash(
	    (uint8_t *)&id, sizeof(id), (const uint8_t *)name, strlen(name), NULL, 0);
	return id ? id : 1;
}

static int add_voter(struct settings *settings, const struct node_config *node, const char *name,
    struct config_error *error)
{
	uint64_t id = settings_engine_id(name);
	char *kept = settings->first.name[settings->first.count % VOTERS_MAX];

	if (!config_name_is_valid(name)) {
		snprintf(error->text, sizeof(error->text),
		    "[metad] voters: %.64s is not 1 to 63 of a-z 0-9 -", name);
		return -EINVAL;
	}
	if (!node->has_admin && !peers_by_name(&node->peers, name)) {
		snprintf(error->text, sizeof(error->text),
		    "[metad] voters: there is no [peer %.64s]", name);
		return -EINVAL;
	}
	if (engine_voter_find(settings->first.voter, settings->first.count, id) ||
	    settings->first.count == VOTERS_MAX) {
		snprintf(error->text, sizeof(error->text), "[metad] voters: %s",
		    settings->first.count == VOTERS_MAX ? "at most 7" : "a node is named twice");
		return -EINVAL;
	}
	snprintf(kept, sizeof(settings->first.name[0]), "%s", name);
	settings->first.voter[settings->first.count++] = (struct engine_voter){id, kept};
	return 0;
}

/* https://ADDRESS:PORT, an IPv6 address in brackets.  A name would have to be resolved, which blocks or takes a thread. */
static bool is_endpoint(const char *text)
{
	char address[NODE_ADDRESS_MAX + 1], end;
	unsigned port;
	bool bracket = strncmp(text, "https://[", 9) == 0;
	const char *format =
	    bracket ? "https://[%45[0-9a-fA-F:.]]:%5u%c" : "https://%45[0-9.]:%5u%c";

	return strlen(text) <= ETCD_ENDPOINT_MAX &&
	       sscanf(text, format, address, &port, &end) == 2 && port > 0 && port < 65536 &&
	       config_address_is_valid(address);
}

static int add_endpoint(struct settings *settings, const char *text, struct config_error *error)
{
	if (!is_endpoint(text)) {
		snprintf(error->text, sizeof(error->text),
		    "[metad] etcd: %.80s is not https://ADDRESS:PORT with a numeric address", text);
		return -EINVAL;
	}
	if (settings->etcd_count == ETCD_ENDPOINTS_MAX) {
		snprintf(error->text, sizeof(error->text), "[metad] etcd: at most %d endpoints",
		    ETCD_ENDPOINTS_MAX);
		return -EINVAL;
	}
	snprintf(settings->etcd[settings->etcd_count++], sizeof(settings->etcd[0]), "%s", text);
	return 0;
}

static int check_etcd_file(
    const char *name, const char *path, bool wanted, struct config_error *error)
{
	if (wanted ? path[0] == '/' : !path[0])
		return 0;
	snprintf(error->text, sizeof(error->text),
	    wanted ? "[metad] %s: a path from / is needed with etcd"
		   : "[metad] %s: without etcd it says nothing",
	    name);
	return -EINVAL;
}

static int resolve_etcd(struct settings *settings, struct config_error *error)
{
	char text[sizeof(settings->etcd_text)], *save = NULL;
	bool wanted;
	int r = 0;

	settings->etcd_count = 0;
	snprintf(text, sizeof(text), "%s", settings->etcd_text);
	for (char *word = strtok_r(text, " \t,", &save); r == 0 && word;
	     word = strtok_r(NULL, " \t,", &save))
		r = add_endpoint(settings, word, error);
	wanted = settings->etcd_count > 0;
	if (r == 0)
		r = check_etcd_file("etcd_ca", settings->etcd_ca, wanted, error);
	if (r == 0)
		r = check_etcd_file("etcd_cert", settings->etcd_cert, wanted, error);
	if (r == 0)
		r = check_etcd_file("etcd_key", settings->etcd_key, wanted, error);
	if (r == 0 && wanted && settings->voters_text[0]) {
		snprintf(error->text, sizeof(error->text),
		    "[metad] voters: with etcd nobody votes here; leave one of the two out");
		r = -EINVAL;
	}
	settings->etcd_files =
	    (struct https_files){settings->etcd_ca, settings->etcd_cert, settings->etcd_key};
	return r;
}

int settings_resolve(
    struct settings *settings, const struct node_config *node, struct config_error *error)
{
	char text[sizeof(settings->voters_text)], *save = NULL, *name;
	int r = resolve_etcd(settings, error);

	settings->first.count = 0;
	if (r < 0 || settings->etcd_count)
		return r;
	snprintf(text, sizeof(text), "%s", settings->voters_text);
	for (name = strtok_r(text, " \t,", &save); r == 0 && name;
	     name = strtok_r(NULL, " \t,", &save))
		r = add_voter(settings, node, name, error);
	if (r == 0 && settings->first.count == 0 && node->has_admin) {
		snprintf(error->text, sizeof(error->text),
		    "[metad] voters: to be named where membership is signed ([node] admin)");
		return -EINVAL;
	}
	if (r == 0 && settings->first.count == 0)
		r = add_voter(settings, node, node->peers.peer[0].name, error);
	return r;
}

int settings_check(const struct node_config *node, const void *settings, struct config_error *error)
{
	struct settings copy = *(const struct settings *)settings;

	return settings_resolve(&copy, node, error);
}
