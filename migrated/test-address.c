#include "common/test.h"

#include "migrated/address.h"

static const struct peers peers = {.count = 2,
    .peer = {{.name = "n1", .address = "10.77.0.1"}, {.name = "n2", .address = "fd00::2"}}};

static const char *refusal(const char *cidr)
{
	static char why[256];

	why[0] = '\0';
	return address_is_usable(cidr, &peers, why, sizeof(why)) ? "" : why;
}

static void an_address_with_its_prefix_is_usable_and_none_at_all(void)
{
	check_str(refusal(""), "");
	check_str(refusal("10.77.0.100/24"), "");
	check_str(refusal("fd00::100/64"), "");
}

static void what_is_no_address_with_a_prefix_is_refused(void)
{
	static const char *const wrong[] = {"10.77.0.100", "10.77.0.100/", "10.77.0.100/0",
	    "10.77.0.100/33", "10.77.0/24", "10.77.0.100/24x", "10.77.0.100/ 24", "fd00::1/129",
	    "/24", "name/24", "10.77.0.256/24"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check(*refusal(wrong[i]));
	check_str(refusal("foo"), "address: like 10.77.0.100/24, not \"foo\"");
}

static void the_address_of_a_node_is_refused_however_it_is_written(void)
{
	check_str(refusal("10.77.0.1/16"), "address: 10.77.0.1/16 is that of node n1");
	check_str(refusal("fd00:0::0:2/64"), "address: fd00:0::0:2/64 is that of node n2");
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(an_address_with_its_prefix_is_usable_and_none_at_all),
	    TEST(what_is_no_address_with_a_prefix_is_refused),
	    TEST(the_address_of_a_node_is_refused_however_it_is_written),
	    {0},
	});
}
