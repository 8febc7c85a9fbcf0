#include "common/keys.h"

#include <string.h>

const struct peer *peers_next(const struct peers *peers, const struct peer *after)
{
	const struct peer *end = peers->peer + peers->count;

	for (const struct peer *peer = after ? after + 1 : peers->peer; peer < end; peer++)
		if (!peer->gone && !peer->old)
			return peer;
	return NULL;
}

const struct peer *peers_by_name(const struct peers *peers, const char *name)
{
	for (const struct peer *peer = NULL; (peer = peers_next(peers, peer));)
		if (strcmp(peer->name, name) == 0)
			return peer;
	return NULL;
}

const struct peer *peers_by_id(const struct peers *peers, uint64_t id)
{
	for (size_t i = 0; i < peers->count; i++)
		if (!peers->peer[i].gone && peers->peer[i].id == id)
			return &peers->peer[i];
	return NULL;
}

const struct peer *peers_by_key(const struct peers *peers, const uint8_t public_key[KEY_SIZE])
{
	for (size_t i = 0; i < peers->count; i++)
		if (!peers->peer[i].gone &&
		    memcmp(peers->peer[i].public_key, public_key, KEY_SIZE) == 0)
			return &peers->peer[i];
	return NULL;
}

size_t peers_place(const struct peers *peers, const struct peer *peer)
{
	return (size_t)(peer - peers->peer);
}

static struct peer *free_place(struct peers *peers)
{
	if (peers->count < PEERS_MAX)
		return &peers->peer[peers->count++];
	for (size_t i = 0; i < PEERS_MAX; i++)
		if (peers->peer[i].gone)
			return &peers->peer[i];
	return NULL;
}

struct peer *peers_add(struct peers *peers, const struct peer *peer)
{
	struct peer *place = peers_by_key(peers, peer->public_key) ? NULL : free_place(peers);

	if (!place)
		return NULL;
	*place = *peer;
	place->id = node_id(peer->public_key);
	place->gone = false;
	return place;
}

void peers_remove(struct peers *peers, const struct peer *peer)
{
	peers->peer[peers_place(peers, peer)].gone = true;
}
