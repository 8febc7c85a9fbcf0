/* libFuzzer over the body of a registration: what is taken keeps every promise that fdd is given. */
#include <assert.h>
#include <string.h>

#include "webd/wish.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wish_fault fault = {"", ""};
	struct wish wish;

	if (wish_parse(&wish, (const char *)data, size, &fault) < 0) {
		assert(*fault.where || *fault.what);
		return 0;
	}
	assert(wish.raise_count <= RAISE_MAX && (wish.raise_count > 0 || wish.period_ms >= 100));
	assert(wish.clear >= 0 && (wish.raise_count == 0 || wish.clear < wish.raise[0]));
	for (size_t i = 1; i < wish.raise_count; i++)
		assert(wish.raise[i - 1] < wish.raise[i] && wish.raise[i] < 1);
	assert(
	    strlen(wish.node) < sizeof(wish.node) && strlen(wish.service) < sizeof(wish.service));
	assert(wish.lease_ms >= 1000);
	return 0;
}
