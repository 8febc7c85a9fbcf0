#include "metad/settings.h"

#include <errno.h>
#include <stdio.h>
#include <sodium.h>
#include <string.h>

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

int settings_resolve(
    struct settings *settings, const struct node_config *node, struct config_error *error)
{
	char text[sizeof(settings->voters_text)], *save = NULL, *name;
	int r = 0;

	settings->first.count = 0;
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
