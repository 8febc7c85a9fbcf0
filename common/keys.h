/*
 * Node keys and the nodes that we know.
 *
 * A node is its X25519 key pair: the same pair is its CURVE identity, the source of the pairwise
 * keys of datagrams, and opens what is sealed for it (crypto_box_seal).  The nodes of the cluster
 * are a list in the configuration; there is no secret that all share.
 */
#ifndef COMMON_KEYS_H
#define COMMON_KEYS_H

#include <stddef.h>
#include <stdint.h>

#define KEY_SIZE 32
#define NODE_NAME_MAX 63
#define NODE_ADDRESS_MAX 45
#define PEERS_MAX 64

struct node_keys {
	uint8_t public_key[KEY_SIZE];
	uint8_t secret_key[KEY_SIZE];
};

struct peer {
	uint64_t id; /* node_id(public_key) */
	char name[NODE_NAME_MAX + 1];
	char address[NODE_ADDRESS_MAX + 1]; /* numeric IPv4 or IPv6 */
	uint16_t port;                      /* base of the node's port range */
	uint8_t public_key[KEY_SIZE];
};

/* All nodes of the cluster, this one too, in the order of the configuration. */
struct peers {
	size_t count;
	struct peer peer[PEERS_MAX];
};

/* The ports of a node, counted from its base port. */
enum port_offset {
	PORT_FDD = 0,          /* UDP heartbeats */
	PORT_GOSSIPD = 1,      /* UDP votes and gossip */
	PORT_EVENTS = 2,       /* busd, XPUB, CURVE */
	PORT_EVENTS_RPC = 3,   /* busd, replay: ROUTER, CURVE */
	PORT_GOSSIPD_RPC = 11, /* requests between nodes: ROUTER, CURVE */
	PORT_CKPTD_RPC = 12,
	PORT_MIGRATED_RPC = 13,
	PORT_GOSD_RPC = 14,
	PORT_GOSD_BULK = 15,    /* chunks, checked by hash */
	PORT_METAD_TUNNEL = 16, /* dqlite inside TLS */
	PORT_METAD_RPC = 17,
	PORT_RANGE = 20,
};

/*
 * Reads a secret key file: 64 hex digits and a newline.  0, or negative errno after logging what was
 * wrong (also when the file can be read or written by others).
 */
int keys_load(struct node_keys *keys, const char *path);
void keys_generate(struct node_keys *keys);
/* Creates the file with mode 0640; -EEXIST when there is one. */
int keys_save(const struct node_keys *keys, const char *path);
/* 64 hex digits <-> 32 bytes; -EINVAL. */
int key_parse(uint8_t key[KEY_SIZE], const char *text);
void key_format(char text[2 * KEY_SIZE + 1], const uint8_t key[KEY_SIZE]);
/* The first eight bytes, little endian, of BLAKE2b-256 of the public key. */
uint64_t node_id(const uint8_t public_key[KEY_SIZE]);

/* NULL when there is none. */
const struct peer *peers_by_name(const struct peers *peers, const char *name);
const struct peer *peers_by_id(const struct peers *peers, uint64_t id);
const struct peer *peers_by_key(const struct peers *peers, const uint8_t public_key[KEY_SIZE]);

#endif
