#include "gdn/store/coder.h"

#include "common/rng.h"
#include "common/test.h"
#include "gdn/store/chunker.h"

#include <errno.h>
#include <sodium.h>

static const uint8_t key_a[CODER_KEY_SIZE] = "the key of service a, 32 bytes.";
static const uint8_t key_b[CODER_KEY_SIZE] = "the key of service b, 32 bytes.";

static void fill_text(uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)("depsys "[i % 7] + (int)(i / 977 % 5));
}

static void fill_noise(uint8_t *data, size_t size, uint64_t seed)
{
	struct rng rng;

	rng_init(&rng, seed);
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)rng_u64(&rng);
}

/* Encodes with one key into out; returns the stored size. */
static size_t encode(const uint8_t *key, const uint8_t *plain, size_t size, uint8_t *out)
{
	const uint8_t *stored;
	struct coder *coder;
	size_t stored_size;

	check_int(coder_new(&coder, key), 0);
	check_int(coder_encode(coder, plain, size, &stored, &stored_size), 0);
	memcpy(out, stored, stored_size);
	coder_free(coder);
	return stored_size;
}

static int decode(
    const uint8_t *key, const uint8_t *stored, size_t size, uint8_t *out, size_t *out_size)
{
	const uint8_t *plain;
	struct coder *coder;
	int r;

	check_int(coder_new(&coder, key), 0);
	r = coder_decode(coder, stored, size, &plain, out_size);
	if (r == 0)
		memcpy(out, plain, *out_size);
	coder_free(coder);
	return r;
}

static uint8_t plain[CHUNK_MAX], stored[STORED_MAX], again[STORED_MAX], back[CHUNK_MAX];

static void round_trip(const uint8_t *key, size_t size)
{
	size_t stored_size = encode(key, plain, size, stored), back_size;

	check_int(decode(key, stored, stored_size, back, &back_size), 0);
	check_int(back_size, size);
	check(memcmp(back, plain, size) == 0);
}

static void what_goes_in_comes_out(void)
{
	for (size_t size = 1; size <= CHUNK_MAX; size += size < 40 ? 1 : 4093) {
		fill_text(plain, size);
		round_trip(NULL, size);
		round_trip(key_a, size);
		fill_noise(plain, size, size);
		round_trip(NULL, size);
		round_trip(key_a, size);
	}
}

static void what_goes_in_fast_comes_out_and_never_as_something_else(void)
{
	const uint8_t *fast;
	struct coder *coder;
	size_t size, got;

	check_int(coder_new(&coder, key_a), 0);
	check_int(coder_prefer_speed(coder), 0);
	fill_text(plain, CHUNK_MAX);
	check_int(coder_encode(coder, plain, CHUNK_MAX, &fast, &size), 0);
	check_range(size, 42, CHUNK_MAX / 10);
	memcpy(stored, fast, size);
	coder_free(coder);
	check_int(decode(key_a, stored, size, back, &got), 0);
	check_int(got, CHUNK_MAX);
	check(memcmp(back, plain, got) == 0);
	stored[0] |= 0x01; /* and a zstd frame: no writer says both */
	check_int(decode(key_a, stored, size, back, &got), -EBADMSG);
}

static void noise_costs_no_more_than_flag_nonce_and_tag(void)
{
	fill_noise(plain, CHUNK_MAX, 1);
	check_int(encode(NULL, plain, CHUNK_MAX, stored), CHUNK_MAX + 1);
	check_int(encode(key_a, plain, CHUNK_MAX, stored), CHUNK_MAX + CODER_OVERHEAD);
	fill_text(plain, CHUNK_MAX);
	check_range(encode(key_a, plain, CHUNK_MAX, stored), 42, CHUNK_MAX / 20);
}

static void equal_pages_of_one_service_are_equal_and_of_two_are_not(void)
{
	size_t size;

	fill_text(plain, 5000);
	size = encode(key_a, plain, 5000, stored);
	check_int(encode(key_a, plain, 5000, again), size);
	check(memcmp(stored, again, size) == 0);
	encode(key_b, plain, 5000, again);
	check(memcmp(stored + 1, again + 1, 24) != 0);
	check(memcmp(stored + 25, again + 25, size - 25) != 0);
}

static void another_key_or_none_is_refused(void)
{
	size_t size, got;

	fill_text(plain, 5000);
	size = encode(key_a, plain, 5000, stored);
	check_int(decode(key_b, stored, size, back, &got), -EKEYREJECTED);
	check_int(decode(NULL, stored, size, back, &got), -ENOKEY);
}

static void every_changed_byte_of_a_sealed_chunk_is_seen(void)
{
	size_t size, got;

	fill_text(plain, 300);
	size = encode(key_a, plain, 300, stored);
	for (size_t i = 0; i < size; i++) {
		stored[i] ^= 0x01;
		check(decode(key_a, stored, size, back, &got) < 0);
		stored[i] ^= 0x01;
	}
	for (size_t shorter = 0; shorter < size; shorter++)
		check(decode(key_a, stored, shorter, back, &got) < 0);
}

static void foreign_bytes_never_give_more_than_a_chunk(void)
{
	struct rng rng;

	rng_init(&rng, 7);
	for (int i = 0; i < 20000; i++) {
		size_t size = 1 + rng_below(&rng, 200), got = 0;

		fill_noise(stored, size, rng_u64(&rng));
		stored[0] = rng_chance(&rng, 0.5) ? 0x11 : rng_chance(&rng, 0.5) ? 0x14 : stored[0];
		/* The start of a zstd frame, so that some get further. */
		if (size > 5 && rng_chance(&rng, 0.5))
			memcpy(stored + 1, "\x28\xb5\x2f\xfd", 4);
		if (decode(NULL, stored, size, back, &got) == 0)
			check(got > 0 && got <= CHUNK_MAX);
	}
}

/* Old objects must be found again: these ids must never change. */
static void the_form_of_a_raw_chunk_is_this_for_ever(void)
{
	char hex[ID_HEX];
	struct id id;
	size_t size;

	fill_noise(plain, 4096, 11);
	size = encode(NULL, plain, 4096, stored);
	id = id_of(stored, size);
	check_str(
	    id_hex(&id, hex), "faa96de8aad7344cf7d596abae86ac1bb6ea5fd7f1e49a7e187e361b7ceacf83");
	size = encode(key_a, plain, 4096, stored);
	id = id_of(stored, size);
	check_str(
	    id_hex(&id, hex), "15e72dbdaa7cacd22d6a56ebd07acf5b7b504869d95b6b9f76af2f002e1fb604");
}

int main(void)
{
	check(sodium_init() >= 0);
	return test_main((struct test[]){
	    TEST(what_goes_in_comes_out),
	    TEST(what_goes_in_fast_comes_out_and_never_as_something_else),
	    TEST(noise_costs_no_more_than_flag_nonce_and_tag),
	    TEST(equal_pages_of_one_service_are_equal_and_of_two_are_not),
	    TEST(another_key_or_none_is_refused),
	    TEST(every_changed_byte_of_a_sealed_chunk_is_seen),
	    TEST(foreign_bytes_never_give_more_than_a_chunk),
	    TEST(the_form_of_a_raw_chunk_is_this_for_ever),
	    {0},
	});
}
