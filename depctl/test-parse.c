/* What is typed after depctl: times, numbers, checkpoints, how many words a command takes. */
#include <string.h>

#include "common/test.h"

#include "depctl/command.h"

static uint64_t duration(const char *text)
{
	uint64_t ms = UINT64_MAX;

	return parse_duration_ms("--interval", text, &ms) ? ms : UINT64_MAX;
}

static void times_have_units_and_seconds_are_the_default(void)
{
	check_int(duration("2"), 2000);
	check_int(duration("2s"), 2000);
	check_int(duration("1.5s"), 1500);
	check_int(duration("300ms"), 300);
	check_int(duration("1min"), 60000);
	check_int(duration("24h"), 86400000);
	check_int(duration("0"), 0);
}

static void what_is_no_time_of_at_most_a_day_is_refused(void)
{
	static const char *const wrong[] = {
	    "", "s", "-1s", "+1s", "1m", "1 s", "25h", "1e99", "inf", "nan", "2s2s"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check(duration(wrong[i]) == UINT64_MAX);
}

static void counts_keep_their_limits(void)
{
	uint64_t value = 0;

	check(parse_count("--copies", "0", 0, 4, &value) && value == 0);
	check(parse_count("--copies", "4", 0, 4, &value) && value == 4);
	check(!parse_count("--copies", "5", 0, 4, &value));
	check(!parse_count("--copies", "-1", 0, UINT64_MAX, &value));
	check(!parse_count("--copies", " 1", 0, 4, &value));
	check(!parse_count("--copies", "1x", 0, 4, &value));
	check(!parse_count("--copies", "", 0, 4, &value));
	check(!parse_count("--copies", "18446744073709551616", 0, UINT64_MAX, &value));
}

static void a_checkpoint_is_read_as_it_is_shown_or_as_one_number(void)
{
	uint64_t id = 0;

	check(parse_ckpt("1.2", &id) && id == 4294967298);
	check(parse_ckpt("4294967298", &id) && id == 4294967298);
	check(!parse_ckpt("1.", &id));
	check(!parse_ckpt(".2", &id));
	check(!parse_ckpt("1.0", &id));
	check(!parse_ckpt("1.2.3", &id));
	check(!parse_ckpt("1.4294967296", &id));
	check(!parse_ckpt("4294967296.1", &id));
	check(!parse_ckpt("-1.2", &id));
	check(!parse_ckpt("0", &id));
	check(!parse_ckpt("last", &id));
}

static void check_words(const char *spec, size_t least, size_t most)
{
	size_t l, m;

	count_positionals(spec, &l, &m);
	check_int(l, least);
	check_int(m, most);
}

static void a_command_takes_the_words_that_its_usage_names(void)
{
	check_words("", 0, 0);
	check_words("NAME BUNDLE", 2, 2);
	check_words("[TOPIC]", 0, 1);
	check_words("VE [CHECKPOINT]", 1, 2);
	check_words("VE...", 1, POSITIONALS_MAX);
}

static void a_text_that_does_not_fit_is_refused(void)
{
	char field[4];

	check(PARSE_TEXT("NAME", "abc", field));
	check_str(field, "abc");
	check(!PARSE_TEXT("NAME", "abcd", field));
}

static void a_probe_is_read_with_what_it_needs(void)
{
	struct msg_common_probe probe;

	check(parse_probe("tcp:6379", &probe) && probe.kind == MSG_COMMON_PROBE_KIND_TCP);
	check_int(probe.port, 6379);
	check(parse_probe("http:80", &probe) && probe.status == 200);
	check_str(probe.target, "");
	check(parse_probe("http:8080/a?b=1&c=d=404~not ~ here", &probe));
	check_int(probe.port, 8080);
	check_str(probe.target, "/a?b=1&c=d");
	check_int(probe.status, 404);
	check_str(probe.match, "not ~ here");
	check(parse_probe("http:80=204", &probe) && probe.status == 204 && !*probe.target);
	check(parse_probe("cmd:redis-cli ping | grep PONG", &probe));
	check_str(probe.target, "redis-cli ping | grep PONG");
	check(parse_probe("process", &probe) && probe.kind == MSG_COMMON_PROBE_KIND_PROCESS);
	check(parse_probe("heartbeat", &probe) && probe.kind == MSG_COMMON_PROBE_KIND_HEARTBEAT);
}

static void what_is_no_probe_is_refused(void)
{
	static const char *const wrong[] = {"", "tcp", "tcp:", "tcp:0", "tcp:65536", "tcp:1x",
	    "http:", "http:80x", "http:80=999", "cmd:", "process:1", "heartbeats", "icmp:1"};
	struct msg_common_probe probe;
	char text[300] = "cmd:";

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		check(!parse_probe(wrong[i], &probe));
	memset(text + 4, 'x', 250);
	check(!parse_probe(text, &probe));
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(times_have_units_and_seconds_are_the_default),
	    TEST(what_is_no_time_of_at_most_a_day_is_refused),
	    TEST(counts_keep_their_limits),
	    TEST(a_checkpoint_is_read_as_it_is_shown_or_as_one_number),
	    TEST(a_command_takes_the_words_that_its_usage_names),
	    TEST(a_text_that_does_not_fit_is_refused),
	    TEST(a_probe_is_read_with_what_it_needs),
	    TEST(what_is_no_probe_is_refused),
	    {0},
	});
}
