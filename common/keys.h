/*
 * Node keys and the nodes that we know.
 *
 * A node is its X25519 key pair: the same pair is its CURVE identity, the source of the pairwise
 * keys of datagrams, and opens what is sealed for it (crypto_box_seal).  The nodes are a list in
 * the configuration, and the records that the administrator signed (members.h); there is no
 * secret that all share.
 */
#ifndef COMMON_KEYS_H
#define COMMON_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_SIZE 32
#define NODE_NAME_MAX 63
#define NODE_ADDRESS_MAX 45
#define PEERS_MAX 512  /* nodes that a node knows, of all clusters */
#define CLUSTER_MAX 64 /* nodes of one cluster */

struct node_keys {
	uint8_t public_key[KEY_SIZE];
	uint8_t secret_key[KEY_SIZE];
};

struct peer {
	uint64_t id; /* node_id(public_key) */
	char name[NODE_NAME_MAX + 1];
	char site[NODE_NAME_MAX + 1];       /* its cluster */
	char address[NODE_ADDRESS_MAX + 1]; /* numeric IPv4 or IPv6 */
	uint16_t port;                      /* base of the node's port range */
	uint8_t public_key[KEY_SIZE];
	bool old;  /* the key that this node had before: still let in, for a while */
	bool gone; /* no longer a peer; only who kept the pointer sees this */
};

/*
 * All nodes that we know, this one too, in the order in which they came: first the configuration, then who joined.
 * A peer never moves, so a pointer to it is good as long as the table; the place of one that has gone is taken only when
 * there is no other, and what is kept by place (peers_place) is to be undone when it is said to go.
 */
struct peers {
	size_t count; /* places used so far */
	struct peer peer[PEERS_MAX];
};

/* The ports of a node, counted from its base port. */
enum port_offset {
	PORT_FDD = 0,          /* UDP heartbeats */
	PORT_GOSSIPD = 1,      /* UDP votes and gossip */
	PORT_EVENTS = 2,       /* busd, XPUB, CURVE */
	PORT_EVENTS_RPC = 3,   /* busd, replay: ROUTER, CURVE */
	PORT_LEASES = 4,       /* UDP, migrated: renewals and grants */
	PORT_GOSSIPD_RPC = 11, /* requests between nodes: ROUTER, CURVE */
	PORT_CKPTD_RPC = 12,
	PORT_MIGRATED_RPC = 13,
	PORT_GOSD_RPC = 14,
	PORT_GOSD_BULK = 15,    /* chunks, checked by hash */
	PORT_METAD_TUNNEL = 16, /* dqlite inside TLS */
	PORT_METAD_RPC = 17,
	PORT_JOIN = 18, /* gossipd: a stranger asks to be let in: ROUTER, CURVE with any key */
	PORT_WEB = 20,  /* webd: HTTP */
	PORT_RANGE = 21,
};

/*
 * Reads a secret key file: 64 hex digits and a newline.  0, or negative errno after logging what was
 * wrong (also when the file can be read or written by others).
 */
int keys_load(struct node_keys *keys, const char *path);
void keys_generate(struct node_keys *keys);
/* Creates the file with mode 0640; -EEXIST when there is one. */
int keys_save(const struct node_keys *keys, const char *path);
/*
 * The administrator's Ed25519 pair, which signs membership (members.h): the file holds the 32 bytes of its seed, and
 * nobody but its owner may read it.
 */
struct admin_keys {
	uint8_t public_key[KEY_SIZE];
	uint8_t secret_key[2 * KEY_SIZE];
};
int admin_keys_create(struct admin_keys *keys, const char *path);
int admin_keys_load(struct admin_keys *keys, const char *path);
/* 64 hex digits <-> 32 bytes; -EINVAL. */
int key_parse(uint8_t key[KEY_SIZE], const char *text);
void key_format(char text[2 * KEY_SIZE + 1], const uint8_t key[KEY_SIZE]);
/* The first eight bytes, little endian, of BLAKE2b-256 of the public key. */
uint64_t node_id(const uint8_t public_key[KEY_SIZE]);

/* The next node behind this one, NULL: the first; NULL at the end.  A node is met once, with its present key. */
const struct peer *peers_next(const struct peers *peers, const struct peer *after);
/* NULL when there is none.  By name: with its present key. */
const struct peer *peers_by_name(const struct peers *peers, const char *name);
const struct peer *peers_by_id(const struct peers *peers, uint64_t id);
const struct peer *peers_by_key(const struct peers *peers, const uint8_t public_key[KEY_SIZE]);
/* Index of its place, below PEERS_MAX. */
size_t peers_place(const struct peers *peers, const struct peer *peer);
/* Copies it to a place and computes its id; NULL when there is none left, or the key is there already. */
struct peer *peers_add(struct peers *peers, const struct peer *peer);
/* Its contents stay until the place is needed. */
void peers_remove(struct peers *peers, const struct peer *peer);

#endif
