#include <errno.h>

#include "common/test.h"
#include "webd/wish.h"

static int parse(struct wish *wish, const char *body, struct wish_fault *fault)
{
	*fault = (struct wish_fault){"", ""};
	return wish_parse(wish, body, strlen(body), fault);
}

static void thresholds_take_the_usual_rest(void)
{
	struct wish_fault fault;
	struct wish wish;

	check_int(parse(&wish, "{\"raise\":[0.5, 0.8]}", &fault), 0);
	check_int(wish.raise_count, 2);
	check_range(wish.raise[1], 0.8, 0.8);
	check_range(wish.clear, 0.2, 0.2);
	check_int(wish.beats, 1);
	check_int(wish.period_ms, 0);
	check_int(wish.lease_ms, 600000);
	check_str(wish.node, "");
	check_int(parse(&wish, "{\"raise\":[0.1]}", &fault), 0);
	check_range(wish.clear, 0.05, 0.05);
}

static void all_fields_are_taken(void)
{
	struct wish_fault fault;
	struct wish wish;

	check_int(parse(&wish,
		      "{\"application\":\"a.b-c_1\",\"service\":\"web/http:80\",\"raise\":[0.4],"
		      "\"clear\":0,\"beats\":0,\"period_ms\":100,\"lease_ms\":1000}",
		      &fault),
	    0);
	check_str(wish.application, "a.b-c_1");
	check_str(wish.service, "web/http:80");
	check_range(wish.clear, 0, 0);
	check_int(wish.beats, 0);
	check_int(wish.period_ms, 100);
	check_int(wish.lease_ms, 1000);
}

static void a_fault_is_told_with_its_field(void)
{
	static const struct {
		const char *body, *where;
	} bad[] = {
	    {"", "body"},
	    {"{", "body"},
	    {"[]", "body"},
	    {"7", "body"},
	    {"{\"raise\":[0.5]} x", "body"},
	    {"{\"raise\":[0.5],\"raise\":[0.6]}", "body"},
	    {"{}", "raise"},
	    {"{\"node\":\"n1\"}", "raise"},
	    {"{\"raise\":0.5}", "raise"},
	    {"{\"raise\":[]}", "raise"},
	    {"{\"raise\":[0]}", "raise"},
	    {"{\"raise\":[1]}", "raise"},
	    {"{\"raise\":[\"0.5\"]}", "raise"},
	    {"{\"raise\":[0.6,0.5]}", "raise"},
	    {"{\"raise\":[0.1,0.2,0.3,0.4,0.5]}", "raise"},
	    {"{\"raise\":[0.5],\"clear\":0.5}", "clear"},
	    {"{\"raise\":[0.5],\"clear\":-0.1}", "clear"},
	    {"{\"raise\":[0.5],\"clear\":null}", "clear"},
	    {"{\"raise\":[0.5],\"beats\":1001}", "beats"},
	    {"{\"raise\":[0.5],\"beats\":1.5}", "beats"},
	    {"{\"period_ms\":99}", "period_ms"},
	    {"{\"period_ms\":3600001}", "period_ms"},
	    {"{\"period_ms\":9223372036854775807}", "period_ms"},
	    {"{\"period_ms\":true}", "period_ms"},
	    {"{\"period_ms\":100,\"lease_ms\":0}", "lease_ms"},
	    {"{\"period_ms\":100,\"lease_ms\":-1}", "lease_ms"},
	    {"{\"period_ms\":100,\"node\":\"\"}", "node"},
	    {"{\"period_ms\":100,\"node\":7}", "node"},
	    {"{\"period_ms\":100,\"node\":\"a\\u0000b\"}", "body"},
	    {"{\"period_ms\":100,\"node\":\"n1\",\"service\":\"s\"}", "service"},
	    {"{\"period_ms\":100,\"application\":\"a b\"}", "application"},
	    {"{\"period_ms\":100,\"threshold\":0.5}", "threshold"},
	};
	struct wish_fault fault;
	struct wish wish;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		check_int(parse(&wish, bad[i].body, &fault), -EINVAL);
		check_str(fault.where, bad[i].where);
		check(*fault.what);
	}
}

static void a_name_that_is_too_long_is_refused(void)
{
	char body[256];
	struct wish_fault fault;
	struct wish wish;

	snprintf(body, sizeof(body), "{\"period_ms\":100,\"node\":\"%064d\"}", 0);
	check_int(parse(&wish, body, &fault), -EINVAL);
	check_str(fault.where, "node");
	snprintf(body, sizeof(body), "{\"period_ms\":100,\"node\":\"%063d\"}", 0);
	check_int(parse(&wish, body, &fault), 0);
}

int main(void)
{
	return test_main((struct test[]){TEST(thresholds_take_the_usual_rest),
	    TEST(all_fields_are_taken), TEST(a_fault_is_told_with_its_field),
	    TEST(a_name_that_is_too_long_is_refused), {0}});
}
