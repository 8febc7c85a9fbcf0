#include "common/service-key.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static void make_check(uint8_t check[32], const uint8_t key[KEY_SIZE])
{
	static const char text[] = "depsys service key";

	crypto_generichash(check, 32, (const uint8_t *)text, strlen(text), key, KEY_SIZE);
}

void service_key_set_check(struct msg_migrated_key_fact *fact, const uint8_t key[KEY_SIZE])
{
	fact->has_check = true;
	make_check(fact->check, key);
}

bool service_key_fits(const struct msg_migrated_key_fact *fact, const uint8_t key[KEY_SIZE])
{
	uint8_t check[32];

	make_check(check, key);
	return !fact->has_check || sodium_memcmp(check, fact->check, sizeof(check)) == 0;
}

int service_key_open(
    const struct msg_migrated_key_fact *fact, const struct daemon *daemon, uint8_t key[KEY_SIZE])
{
	int r = -ENOKEY;

	for (size_t i = 0; i < fact->keys.count; i++) {
		const struct msg_migrated_sealed_key *sealed = &fact->keys.item[i];

		if (strcmp(sealed->node, daemon->node.name) != 0)
			continue;
		if (daemon_open_sealed(daemon, key, sealed->sealed, sizeof(sealed->sealed)) == 0 &&
		    service_key_fits(fact, key))
			return 0;
		r = -EKEYREJECTED;
	}
	sodium_memzero(key, KEY_SIZE);
	return r;
}

int service_key_seal(
    struct msg_migrated_sealed_key *sealed, const struct peer *peer, const uint8_t key[KEY_SIZE])
{
	memset(sealed, 0, sizeof(*sealed));
	snprintf(sealed->node, sizeof(sealed->node), "%s", peer->name);
	sealed->has_key_id = true;
	sealed->key_id = peer->id;
	return crypto_box_seal(sealed->sealed, key, KEY_SIZE, peer->public_key) == 0 ? 0 : -EINVAL;
}
