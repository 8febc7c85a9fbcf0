#include "common/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define LINE_MAX_BYTES 4096
#define KEYS_MAX 256
#define NAMED_MAX 32

/* The sections that a file may have; those of other daemons are passed over. */
static const char *const daemon_sections[] = {"busd", "fdd", "gossipd", "ckptd", "migrated",
    "metad", "ved", "gosd", "glsd", "gnsd", "secd", "webd", "proxyd", "depctl", NULL};

/* Those that take a name beside peer, and whose they are; see config_load_named(). */
static const char *const named_sections[] = {"fence", NULL};

static const char *const profile_names[] = {"fast", "balanced", "economy", NULL};

static const char *const level_names[] = {"debug", "info", "notice", "warning", "error", NULL};

#define NODE_KEY(key, kind, field, text, low, high)                                                \
	{                                                                                          \
		"node", key, kind, offsetof(struct node_config, field),                            \
		    sizeof(((struct node_config *)0)->field), text, low, high, NULL, NULL          \
	}

static const struct config_key node_keys_table[] = {
    NODE_KEY("name", CONFIG_STRING, name, NULL, 0, 0),
    NODE_KEY("cluster", CONFIG_STRING, cluster, "main", 0, 0),
    NODE_KEY("site", CONFIG_STRING, site, "", 0, 0),
    NODE_KEY("address", CONFIG_STRING, address, NULL, 0, 0),
    NODE_KEY("port", CONFIG_INT, port, "7400", 1, 65535 - PORT_RANGE),
    NODE_KEY("key", CONFIG_STRING, key_path, "/etc/depsys/node.key", 0, 0),
    NODE_KEY("run", CONFIG_STRING, run_dir, "/run/depsys", 0, 0),
    NODE_KEY("state", CONFIG_STRING, state_dir, "/var/lib/depsys", 0, 0),
    NODE_KEY("group", CONFIG_STRING, group, "depsys", 0, 0),
    NODE_KEY("admin", CONFIG_STRING, admin_text, "", 0, 0),
    {"node", "log", CONFIG_CHOICE, offsetof(struct node_config, log_level), 0, "info", 0, 0,
	level_names, NULL},
    {"node", "profile", CONFIG_CHOICE, offsetof(struct node_config, profile), 0, "balanced", 0, 0,
	profile_names, NULL},
    {0},
};

#define PEER_KEY(key, kind, field, low, high)                                                      \
	{                                                                                          \
		"peer", key, kind, offsetof(struct peer_settings, field),                          \
		    sizeof(((struct peer_settings *)0)->field), NULL, low, high, NULL, NULL        \
	}

struct peer_settings {
	char address[NODE_ADDRESS_MAX + 1];
	int64_t port;
	char key[2 * KEY_SIZE + 1];
	char site[NODE_NAME_MAX + 1];
};

static const struct config_key peer_keys_table[] = {
    PEER_KEY("address", CONFIG_STRING, address, 0, 0),
    PEER_KEY("port", CONFIG_INT, port, 1, 65535 - PORT_RANGE),
    PEER_KEY("key", CONFIG_STRING, key, 0, 0),
    PEER_KEY("site", CONFIG_STRING, site, 0, 0),
    {0},
};

struct reading {
	struct node_config *node;
	const struct config_key *keys;
	void *settings;
	struct config_error *error;
	struct peer_settings peers[PEERS_MAX];
	unsigned peer_seen[PEERS_MAX]; /* bit per key of peer_keys_table */
	struct peers names;            /* of the [peer NAME] sections */
	bool seen[2][KEYS_MAX];        /* ever: node keys, own keys */
	/* of the present file */
	const char *path;
	int line;
	bool seen_here[2][KEYS_MAX];
	unsigned peer_seen_here[PEERS_MAX];
	/* [SECTION NAME] */
	const struct config_named *named; /* NULL: they are passed over */
	unsigned item_seen[NAMED_MAX], item_seen_here[NAMED_MAX];
	/* of the present section */
	char section[64];
	int peer, item; /* index, or -1 */
	bool skip;
};

__attribute__((format(printf, 2, 3))) static int fault(
    struct reading *reading, const char *format, ...)
{
	char what[300];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (reading->line)
		snprintf(reading->error->text, sizeof(reading->error->text), "%.255s:%d: %s",
		    reading->path, reading->line, what);
	else
		snprintf(reading->error->text, sizeof(reading->error->text), "%.255s: %s",
		    reading->path, what);
	return -EINVAL;
}

static char *trim(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return text;
}

/* Cuts a comment: ; or # at the start or behind white space. */
static void cut_comment(char *text)
{
	for (char *at = text; *at; at++)
		if ((*at == ';' || *at == '#') && (at == text || isspace((unsigned char)at[-1]))) {
			*at = '\0';
			return;
		}
}

static bool in_list(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

bool config_name_is_valid(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > NODE_NAME_MAX)
		return false;
	for (; *name; name++)
		if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) &&
		    *name != '-')
			return false;
	return true;
}

static int open_peer(struct reading *reading, const char *name)
{
	struct peers *names = &reading->names;

	if (!config_name_is_valid(name))
		return fault(reading, "[peer %s]: a node's name is 1 to 63 of a-z 0-9 -", name);
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->peer[i].name, name) == 0) {
			reading->peer = (int)i;
			return 0;
		}
	if (names->count == PEERS_MAX)
		return fault(reading, "more than %d nodes", PEERS_MAX);
	reading->peer = (int)names->count++;
	snprintf(names->peer[reading->peer].name, sizeof(names->peer[0].name), "%s", name);
	return 0;
}

static char *item_at(const struct config_named *named, size_t i)
{
	return (char *)named->items + i * named->size;
}

static int open_named(struct reading *reading, const char *section, const char *name)
{
	const struct config_named *named = reading->named;

	if (!config_name_is_valid(name))
		return fault(reading, "[%s %s]: a name is 1 to 63 of a-z 0-9 -", section, name);
	reading->skip = !named || strcmp(named->section, section) != 0;
	if (reading->skip)
		return 0;
	for (size_t i = 0; i < *named->count; i++)
		if (strcmp(item_at(named, i), name) == 0) {
			reading->item = (int)i;
			return 0;
		}
	if (*named->count == named->max || *named->count == NAMED_MAX)
		return fault(reading, "more than %zu sections [%s NAME]", named->max, section);
	reading->item = (int)(*named->count)++;
	memcpy(item_at(named, (size_t)reading->item), name, strlen(name) + 1);
	return 0;
}

static bool is_own_section(const struct reading *reading, const char *section)
{
	for (const struct config_key *key = reading->keys; key && key->section; key++)
		if (strcmp(key->section, section) == 0)
			return true;
	return false;
}

static int open_section(struct reading *reading, char *text)
{
	char *end = strchr(text, ']'), *space;

	if (!end || end[1])
		return fault(reading, "a section reads [name] or [peer NAME]");
	*end = '\0';
	text = trim(text + 1);
	reading->peer = reading->item = -1;
	reading->skip = false;
	space = strchr(text, ' ');
	if (space) {
		*space = '\0';
		snprintf(reading->section, sizeof(reading->section), "%.60s", text);
		if (in_list(text, named_sections))
			return open_named(reading, text, trim(space + 1));
		if (strcmp(text, "peer") != 0)
			return fault(reading,
			    "only [peer NAME] and [fence NAME] take a name, not [%s ...]", text);
		return open_peer(reading, trim(space + 1));
	}
	if (strlen(text) >= sizeof(reading->section) ||
	    (strcmp(text, "node") != 0 && !in_list(text, daemon_sections)))
		return fault(reading, "unknown section [%.60s]", text);
	memcpy(reading->section, text, strlen(text) + 1);
	reading->skip = strcmp(text, "node") == 0 ? !reading->node : !is_own_section(reading, text);
	return 0;
}

static int set_number(
    struct reading *reading, const struct config_key *key, void *field, const char *text)
{
	char *end;

	errno = 0;
	if (key->type == CONFIG_INT) {
		long long value = strtoll(text, &end, 10);

		if (!*text || *end || errno)
			return fault(reading, "%s: \"%s\" is not a whole number", key->name, text);
		if ((double)value < key->min || (double)value > key->max)
			return fault(reading, "%s: %lld is not in %.15g to %.15g", key->name, value,
			    key->min, key->max);
		*(int64_t *)field = value;
	} else {
		double value = strtod(text, &end);

		if (!*text || *end || errno || isnan(value))
			return fault(reading, "%s: \"%s\" is not a number", key->name, text);
		if (value < key->min || value > key->max)
			return fault(reading, "%s: %g is not in %g to %g", key->name, value,
			    key->min, key->max);
		*(double *)field = value;
	}
	return 0;
}

static int set_choice(
    struct reading *reading, const struct config_key *key, void *field, const char *text)
{
	char words[200] = "";

	for (int i = 0; key->choices[i]; i++) {
		if (strcmp(key->choices[i], text) == 0) {
			*(int *)field = i;
			return 0;
		}
		snprintf(
		    words + strlen(words), sizeof(words) - strlen(words), " %s", key->choices[i]);
	}
	return fault(reading, "%s: \"%s\" is not one of%s", key->name, text, words);
}

static int set_value(
    struct reading *reading, const struct config_key *key, void *settings, const char *text)
{
	void *field = (char *)settings + key->offset;

	switch (key->type) {
	case CONFIG_STRING:
		if (strlen(text) >= key->size)
			return fault(
			    reading, "%s: longer than %zu bytes", key->name, key->size - 1);
		memcpy(field, text, strlen(text) + 1);
		return 0;
	case CONFIG_INT:
	case CONFIG_FLOAT:
		return set_number(reading, key, field, text);
	case CONFIG_BOOL:
		if (strcmp(text, "yes") != 0 && strcmp(text, "no") != 0)
			return fault(reading, "%s: \"%s\" is not yes or no", key->name, text);
		*(bool *)field = strcmp(text, "yes") == 0;
		return 0;
	case CONFIG_CHOICE:
		return set_choice(reading, key, field, text);
	}
	return -EINVAL;
}

static int find_key(const struct config_key *keys, const char *section, const char *name)
{
	for (int i = 0; keys && keys[i].section; i++)
		if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
			return i;
	return -1;
}

static int take_peer_value(struct reading *reading, const char *name, const char *value)
{
	int i = find_key(peer_keys_table, "peer", name);

	if (i < 0)
		return fault(reading, "[peer %s]: unknown key %.60s",
		    reading->names.peer[reading->peer].name, name);
	if (reading->peer_seen_here[reading->peer] & 1u << i)
		return fault(reading, "%s: twice in this file", name);
	reading->peer_seen_here[reading->peer] |= 1u << i;
	reading->peer_seen[reading->peer] |= 1u << i;
	return set_value(reading, &peer_keys_table[i], &reading->peers[reading->peer], value);
}

static int take_named_value(struct reading *reading, const char *name, const char *value)
{
	const struct config_named *named = reading->named;
	char *item = item_at(named, (size_t)reading->item);
	int i = find_key(named->keys, named->section, name);

	if (i < 0)
		return fault(reading, "[%s %s]: unknown key %.60s", named->section, item, name);
	if (reading->item_seen_here[reading->item] & 1u << i)
		return fault(reading, "%s: twice in this file", name);
	reading->item_seen_here[reading->item] |= 1u << i;
	reading->item_seen[reading->item] |= 1u << i;
	return set_value(reading, &named->keys[i], item, value);
}

static int take_value(struct reading *reading, char *text)
{
	char *equals = strchr(text, '=');
	const char *name, *value;
	bool own = strcmp(reading->section, "node") != 0;
	const struct config_key *keys = own ? reading->keys : node_keys_table;
	int i;

	if (!equals)
		return fault(reading, "expected key = value, found \"%.60s\"", text);
	*equals = '\0';
	name = trim(text);
	value = trim(equals + 1);
	if (!reading->section[0])
		return fault(reading, "%.60s stands before any [section]", name);
	if (reading->peer >= 0)
		return take_peer_value(reading, name, value);
	if (reading->item >= 0)
		return take_named_value(reading, name, value);
	if (reading->skip)
		return 0;
	i = find_key(keys, reading->section, name);
	if (i < 0)
		return fault(reading, "[%s]: unknown key %.60s", reading->section, name);
	if (reading->seen_here[own][i])
		return fault(reading, "%s: twice in this file", name);
	reading->seen_here[own][i] = reading->seen[own][i] = true;
	return set_value(reading, &keys[i], own ? reading->settings : (void *)reading->node, value);
}

static int read_line(struct reading *reading, char *line)
{
	char *text;

	for (const char *at = line; *at; at++)
		if ((unsigned char)*at < 0x20 && !isspace((unsigned char)*at))
			return fault(reading, "control character 0x%02x", (unsigned char)*at);
	cut_comment(line);
	text = trim(line);
	if (!*text)
		return 0;
	return *text == '[' ? open_section(reading, text) : take_value(reading, text);
}

static int read_file(struct reading *reading, const char *path)
{
	char line[LINE_MAX_BYTES];
	FILE *file = fopen(path, "re");
	int r = 0;

	reading->path = path;
	reading->line = 0;
	reading->peer = reading->item = -1;
	reading->section[0] = '\0';
	memset(reading->seen_here, 0, sizeof(reading->seen_here));
	memset(reading->peer_seen_here, 0, sizeof(reading->peer_seen_here));
	memset(reading->item_seen_here, 0, sizeof(reading->item_seen_here));
	if (!file) {
		r = -errno;
		fault(reading, "open: %s", strerror(errno));
		return r;
	}
	while (r == 0 && fgets(line, sizeof(line), file)) {
		reading->line++;
		if (!strchr(line, '\n') && strlen(line) == sizeof(line) - 1)
			r = fault(reading, "line longer than %d bytes", LINE_MAX_BYTES - 2);
		else
			r = read_line(reading, line);
	}
	if (r == 0 && ferror(file))
		r = fault(reading, "read: %s", strerror(errno));
	fclose(file);
	return r;
}

static int read_drop_ins(struct reading *reading, const char *path)
{
	char pattern[512];
	glob_t found;
	int r = 0;

	snprintf(pattern, sizeof(pattern), "%s.d/*.conf", path);
	if (glob(pattern, 0, NULL, &found) != 0)
		return 0;
	for (size_t i = 0; i < found.gl_pathc && r == 0; i++)
		r = read_file(reading, found.gl_pathv[i]);
	globfree(&found);
	return r;
}

static int apply_fallbacks(
    struct reading *reading, const struct config_key *keys, void *settings, const bool *seen)
{
	int r = 0;

	for (int i = 0; keys && keys[i].section && r == 0; i++) {
		if (seen[i])
			continue;
		if (!keys[i].fallback)
			return fault(reading, "[%s]: %s is missing", keys[i].section, keys[i].name);
		r = set_value(reading, &keys[i], settings, keys[i].fallback);
	}
	return r;
}

bool config_address_is_valid(const char *address)
{
	uint8_t binary[16];

	return inet_pton(AF_INET, address, binary) == 1 ||
	       inet_pton(AF_INET6, address, binary) == 1;
}

static int finish_peer(struct reading *reading, size_t i)
{
	struct peer *peer = &reading->names.peer[i];
	const struct peer_settings *settings = &reading->peers[i];

	for (unsigned k = 0; peer_keys_table[k].section; k++)
		if (!(reading->peer_seen[i] & 1u << k) &&
		    strcmp(peer_keys_table[k].name, "port") != 0 &&
		    strcmp(peer_keys_table[k].name, "site") != 0)
			return fault(reading, "[peer %s]: %s is missing", peer->name,
			    peer_keys_table[k].name);
	if (!config_address_is_valid(settings->address))
		return fault(reading, "[peer %s]: address: \"%s\" is not a numeric address",
		    peer->name, settings->address);
	if (key_parse(peer->public_key, settings->key) < 0)
		return fault(reading, "[peer %s]: key: not 64 hex digits", peer->name);
	memcpy(peer->address, settings->address, sizeof(peer->address));
	if (settings->site[0] && !config_name_is_valid(settings->site))
		return fault(reading, "[peer %s]: site: 1 to 63 of a-z 0-9 -", peer->name);
	memcpy(peer->site, settings->site[0] ? settings->site : reading->node->cluster,
	    sizeof(peer->site));
	peer->port = settings->port ? (uint16_t)settings->port : 7400;
	peer->id = node_id(peer->public_key);
	for (size_t k = 0; k < i; k++)
		if (reading->names.peer[k].id == peer->id)
			return fault(reading, "[peer %s]: key: the same as of %s", peer->name,
			    reading->names.peer[k].name);
	return 0;
}

/* A node that joins by its administrator's word has no section of its own yet. */
static int find_self(struct reading *reading)
{
	struct node_config *node = reading->node;
	struct peers *peers = &node->peers;
	struct peer *self = (struct peer *)peers_by_name(peers, node->name);

	if (!self && !node->has_admin)
		return fault(reading, "no section [peer %s] for this node itself", node->name);
	if (!self && peers->count == PEERS_MAX)
		return fault(reading, "more than %d nodes", PEERS_MAX);
	if (!self) {
		self = &peers->peer[peers->count++];
		*self = (struct peer){.port = (uint16_t)node->port};
		memcpy(self->name, node->name, sizeof(self->name));
		memcpy(self->address, node->address, sizeof(self->address));
		memcpy(self->site, node->site[0] ? node->site : node->cluster, sizeof(self->site));
	}
	node->self = self;
	return 0;
}

/* Without the places that are free: most are, and what is not written to takes no memory. */
static void take_peers(struct peers *peers, const struct peers *names)
{
	peers->count = names->count;
	memcpy(peers->peer, names->peer, names->count * sizeof(names->peer[0]));
}

static int finish_node(struct reading *reading)
{
	struct node_config *node = reading->node;
	int r = 0;

	if (!config_name_is_valid(node->name))
		return fault(reading, "[node]: name: 1 to 63 of a-z 0-9 -");
	if (!config_name_is_valid(node->cluster))
		return fault(reading, "[node]: cluster: 1 to 63 of a-z 0-9 -");
	if (node->site[0] && !config_name_is_valid(node->site))
		return fault(reading, "[node]: site: 1 to 63 of a-z 0-9 -");
	if (!config_address_is_valid(node->address))
		return fault(
		    reading, "[node]: address: \"%s\" is not a numeric address", node->address);
	node->has_admin = node->admin_text[0] != '\0';
	if (node->has_admin && key_parse(node->admin, node->admin_text) < 0)
		return fault(reading, "[node]: admin: not 64 hex digits");
	for (size_t i = 0; i < reading->names.count && r == 0; i++)
		r = finish_peer(reading, i);
	if (r < 0)
		return r;
	take_peers(&node->peers, &reading->names);
	return find_self(reading);
}

void config_cluster_name(
    char name[CLUSTER_NAME_MAX + 1], const struct node_config *node, const struct peer *peer)
{
	if (strcmp(peer->site, node->cluster) == 0)
		snprintf(name, CLUSTER_NAME_MAX + 1, "%s", node->cluster);
	else
		snprintf(name, CLUSTER_NAME_MAX + 1, "%s/%s", node->cluster, peer->site);
}

const char *config_site(const struct node_config *node)
{
	return strcmp(node->self->site, node->cluster) == 0 ? "" : node->self->site;
}

bool config_is_near(const struct node_config *node, const struct peer *peer)
{
	return strcmp(peer->site, node->self->site) == 0;
}

int config_load(const char *path, struct node_config *node, const struct config_key *keys,
    void *settings, struct config_error *error)
{
	struct reading *reading = calloc(1, sizeof(*reading));
	int r;

	if (!reading)
		return -ENOMEM;
	*reading =
	    (struct reading){.node = node, .keys = keys, .settings = settings, .error = error};
	r = read_file(reading, path);
	if (r == 0)
		r = read_drop_ins(reading, path);
	reading->path = path;
	reading->line = 0;
	if (r == 0)
		r = apply_fallbacks(reading, keys, settings, reading->seen[1]);
	if (r == 0 && node)
		r = apply_fallbacks(reading, node_keys_table, node, reading->seen[0]);
	if (r == 0 && node)
		r = finish_node(reading);
	free(reading);
	return r;
}

static int finish_item(struct reading *reading, size_t i)
{
	const struct config_named *named = reading->named;
	char *item = item_at(named, i);
	int r = 0;

	for (unsigned k = 0; named->keys[k].section && r == 0; k++) {
		if (reading->item_seen[i] & 1u << k)
			continue;
		if (!named->keys[k].fallback)
			return fault(reading, "[%s %s]: %s is missing", named->section, item,
			    named->keys[k].name);
		r = set_value(reading, &named->keys[k], item, named->keys[k].fallback);
	}
	return r;
}

int config_load_named(
    const char *path, const struct config_named *named, struct config_error *error)
{
	struct reading *reading = calloc(1, sizeof(*reading));
	int r;

	if (!reading)
		return -ENOMEM;
	*reading = (struct reading){.named = named, .error = error};
	*named->count = 0;
	r = read_file(reading, path);
	if (r == 0)
		r = read_drop_ins(reading, path);
	reading->path = path;
	reading->line = 0;
	for (size_t i = 0; i < *named->count && r == 0; i++)
		r = finish_item(reading, i);
	free(reading);
	return r;
}
