#include <errno.h>

#include "common/test.h"
#include "fdd/heartbeat-wire.h"

static struct heartbeat_wire wire;
static struct fdd_heartbeat beat;

static void setup(void)
{
	wire = (struct heartbeat_wire){0};
	beat = (struct fdd_heartbeat){.incarnation = UINT64_C(1800000000) << 24, .sequence = 60000};
	beat.interval = mono_ms(500);
}

/* Packs, unpacks at a place as a heartbeat of `from`; what heartbeat_unpack() says. */
static int carry(bool opening, size_t place, uint64_t from, struct fdd_heartbeat *got)
{
	_cleanup_buf_ struct buf body = {0};
	struct mpr_error error;

	check_int(heartbeat_pack(&beat, opening, &body), 0);
	return heartbeat_unpack(&wire, place, from, body.data, body.size, got, &error);
}

static void expect(const struct fdd_heartbeat *got, uint64_t incarnation, int64_t interval_ms)
{
	check(got->incarnation == incarnation);
	check(got->sequence == beat.sequence);
	check_int(mono_to_ms(got->interval), interval_ms);
}

static void the_one_that_opens_says_all_and_the_others_their_number(void)
{
	struct fdd_heartbeat got;

	setup();
	check_int(carry(true, 3, 77, &got), 0);
	expect(&got, beat.incarnation, 500);
	beat.sequence++;
	check_int(carry(false, 3, 77, &got), 0);
	expect(&got, beat.incarnation, 500);
}

static void a_short_one_has_six_bytes(void)
{
	_cleanup_buf_ struct buf body = {0};

	setup();
	check_int(heartbeat_pack(&beat, false, &body), 0);
	check_int(body.size, 6);
}

static void a_new_process_says_all_anew(void)
{
	struct fdd_heartbeat got;

	setup();
	check_int(carry(true, 3, 77, &got), 0);
	beat.incarnation++;
	beat.sequence = 1;
	beat.interval = mono_ms(100);
	check_int(carry(true, 3, 77, &got), 0);
	check_int(carry(false, 3, 77, &got), 0);
	expect(&got, beat.incarnation, 100);
}

static void a_short_one_before_any_is_refused(void)
{
	struct fdd_heartbeat got;

	setup();
	check_int(carry(false, 3, 77, &got), -EBADMSG);
	check_int(carry(true, 3, 77, &got), 0);
	check_int(carry(false, 4, 78, &got), -EBADMSG);
	/* Another peer has the place now. */
	check_int(carry(false, 3, 78, &got), -EBADMSG);
}

static void half_of_it_is_refused(void)
{
	static const uint8_t half[] = {0x82, 0xa1, 'i', 1, 0xa1, 's', 1};
	struct fdd_heartbeat got;
	struct mpr_error error;

	setup();
	check_int(carry(true, 0, 77, &got), 0);
	check_int(heartbeat_unpack(&wire, 0, 77, half, sizeof(half), &got, &error), -EBADMSG);
	check_str(error.text, "fdd.heartbeat: incarnation and interval_ms go together");
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(the_one_that_opens_says_all_and_the_others_their_number),
	    TEST(a_short_one_has_six_bytes),
	    TEST(a_new_process_says_all_anew),
	    TEST(a_short_one_before_any_is_refused),
	    TEST(half_of_it_is_refused),
	    {0},
	});
}
