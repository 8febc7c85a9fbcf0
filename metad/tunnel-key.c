#include "metad/tunnel.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

static const char context[] = "depsys metad tunnel 1";

int tunnel_key(uint8_t key[KEY_SIZE], const struct node_keys *own, const uint8_t other[KEY_SIZE])
{
	const uint8_t *low = own->public_key, *high = other;
	uint8_t product[crypto_scalarmult_BYTES];
	crypto_generichash_state state;

	if (crypto_scalarmult(product, own->secret_key, other) != 0)
		return -EKEYREJECTED;
	if (memcmp(low, high, KEY_SIZE) > 0) {
		low = other;
		high = own->public_key;
	}
	crypto_generichash_init(&state, product, sizeof(product), KEY_SIZE);
	crypto_generichash_update(&state, (const uint8_t *)context, sizeof(context));
	crypto_generichash_update(&state, low, KEY_SIZE);
	crypto_generichash_update(&state, high, KEY_SIZE);
	crypto_generichash_final(&state, key, KEY_SIZE);
	sodium_memzero(product, sizeof(product));
	return 0;
}
