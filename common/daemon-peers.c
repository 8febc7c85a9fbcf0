/*
 * The nodes of a running daemon come and go: the table, the door (ZAP), and who listens, in one place.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/daemon.h"

int daemon_open_sealed(
    const struct daemon *daemon, uint8_t *out, const uint8_t *sealed, size_t size)
{
	const struct node_keys *keys[] = {
	    &daemon->keys, daemon->has_old_keys ? &daemon->old_keys : NULL};

	for (size_t i = 0; i < 2 && keys[i]; i++)
		if (crypto_box_seal_open(
			out, sealed, size, keys[i]->public_key, keys[i]->secret_key) == 0)
			return 0;
	return -EKEYREJECTED;
}

void daemon_listen_peers(struct daemon *daemon, struct peers_listener *listener)
{
	struct peers_listener **at = &daemon->listeners;

	while (*at)
		at = &(*at)->next;
	listener->next = NULL;
	*at = listener;
}

void daemon_unlisten_peers(struct daemon *daemon, struct peers_listener *listener)
{
	for (struct peers_listener **at = &daemon->listeners; *at; at = &(*at)->next) {
		if (*at != listener)
			continue;
		*at = listener->next;
		return;
	}
}

static void tell(const struct daemon *daemon, const struct peer *peer)
{
	for (struct peers_listener *next, *at = daemon->listeners; at; at = next) {
		next = at->next;
		at->changed(at->userdata, peer);
	}
}

int daemon_add_peer(struct daemon *daemon, const struct peer *peer)
{
	const struct peer *added;

	if (peers_by_key(&daemon->node.peers, peer->public_key))
		return -EEXIST;
	added = peers_add(&daemon->node.peers, peer);
	if (!added)
		return -ENOSPC;
	if (daemon->zmq)
		zcontext_allow(daemon->zmq, added->public_key);
	tell(daemon, added);
	return 0;
}

void daemon_retire_peer(struct daemon *daemon, const struct peer *peer)
{
	struct peers *peers = &daemon->node.peers;

	peers->peer[peers_place(peers, peer)].old = true;
	tell(daemon, peer);
}

void daemon_remove_peer(struct daemon *daemon, const struct peer *peer)
{
	int r;

	peers_remove(&daemon->node.peers, peer);
	r = daemon->zmq ? zcontext_revoke(daemon->zmq, peer->public_key) : 0;
	if (r < 0)
		log_error("cut the connections of %s: %s", peer->name, strerror(-r));
	tell(daemon, peer);
}
