/*
 * Strict configuration: one INI file for all daemons of a node, then the drop-in files
 * FILE.d/[*].conf in the order of their names (a later value replaces an earlier one).
 * An unknown section or key, a value out of its range, a key twice in one file: refused with file, line
 * and what was expected.  A daemon checks [node], [peer NAME] and its own sections, and passes over
 * the sections of the other daemons.
 *
 * Grammar: "[section]", "[section NAME]" (peer, and fence for migrated), "key = value", comments from ';' or '#' at the start of a
 * line or after white space.  Debian's libinih cuts values at 191 bytes without a word; so this is ours.
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/keys.h"

enum config_type {
	CONFIG_STRING, /* char[size] */
	CONFIG_INT,    /* int64_t, min to max */
	CONFIG_FLOAT,  /* double, min to max */
	CONFIG_BOOL,   /* bool: yes or no */
	CONFIG_CHOICE, /* int: the index in choices */
};

struct config_key {
	const char *section;
	const char *name;
	enum config_type type;
	size_t offset;        /* of the field in the settings structure */
	size_t size;          /* of a string field */
	const char *fallback; /* as text; NULL: the key is required */
	double min, max;
	const char *const *choices; /* ends with NULL */
	const char *help;
};

/* One line that sets how fast failures are found, and for what traffic: each daemon has its own table
 * of what that means, and single values may be set beside it. */
enum node_profile {
	PROFILE_FAST,
	PROFILE_BALANCED,
	PROFILE_ECONOMY,
};

/* What every daemon needs: [node] and the [peer NAME] sections. */
struct node_config {
	char name[NODE_NAME_MAX + 1];
	char cluster[NODE_NAME_MAX + 1];
	char site[NODE_NAME_MAX + 1]; /* of a node that has no section of its own */
	char address[NODE_ADDRESS_MAX + 1];
	int64_t port;
	char key_path[256];
	char run_dir[256];
	char state_dir[256];
	char group[33]; /* of the sockets */
	int log_level;
	int profile; /* enum node_profile */
	char admin_text[2 * KEY_SIZE + 1];
	bool has_admin; /* membership is signed (members.h) */
	uint8_t admin[KEY_SIZE];
	struct peers peers;
	/*
	 * In peers.  With an administrator the section [peer NAME] of the node itself is not needed, and its key is always
	 * that of the key file: daemon_drop() puts it in.
	 */
	struct peer *self;
};

struct config_error {
	char text[600]; /* "FILE:LINE: what was wrong" */
};

/*
 * Reads path and its drop-ins into node (if not NULL) and settings by the table keys (ends with section
 * NULL; may be NULL).  0, or negative errno with the error filled.
 */
int config_load(const char *path, struct node_config *node, const struct config_key *keys,
    void *settings, struct config_error *error);

/*
 * The sections [SECTION NAME] of one kind, each into an item of its own, which begins with char[NODE_NAME_MAX + 1]: its
 * name.  More than max of them are refused.
 */
struct config_named {
	const char *section;
	const struct config_key *keys; /* at most 32; offsets within an item */
	void *items;
	size_t size, max;
	size_t *count;
};
int config_load_named(
    const char *path, const struct config_named *named, struct config_error *error);

/* 1 to 63 of a-z 0-9 -; a numeric IPv4 or IPv6 address. */
bool config_name_is_valid(const char *name);
bool config_address_is_valid(const char *address);

#define CLUSTER_NAME_MAX (2 * NODE_NAME_MAX + 1)

/* The cluster that a node is of: [node] cluster, and behind a slash its site when it has one. */
void config_cluster_name(
    char name[CLUSTER_NAME_MAX + 1], const struct node_config *node, const struct peer *peer);
/* Our own site; "" for the nodes that have none. */
const char *config_site(const struct node_config *node);
/* Is it of our own cluster? */
bool config_is_near(const struct node_config *node, const struct peer *peer);

#endif
