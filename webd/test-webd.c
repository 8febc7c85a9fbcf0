#include <errno.h>

#include "common/test.h"
#include "webd/gate.h"
#include "webd/path.h"
#include "webd/registrations.h"

/* --- who may ask --- */

static void only_hosts_that_nobody_else_can_own_are_let_in(void)
{
	const struct gate gate = {.names = "n1 depsys.example.org"};
	static const char *const good[] = {"127.0.0.1", "127.0.0.1:7420", "10.77.0.1:80",
	    "[::1]:7420", "[fe80::1]", "localhost", "LocalHost:7420", "n1:7420",
	    "depsys.example.org", NULL};
	static const char *const bad[] = {"evil.example", "evil.example:7420",
	    "localhost.evil.example", "127.0.0.1.evil.example", "n1.evil.example", "n", "n11", "",
	    ":7420", "localhost:x", "[::1", "[evil.example]", "[::1]x", "1.2.3.4x",
	    "depsys.example.org.", NULL};

	for (size_t i = 0; good[i]; i++)
		check(gate_host_allowed(&gate, good[i]));
	for (size_t i = 0; bad[i]; i++)
		check(!gate_host_allowed(&gate, bad[i]));
	check(!gate_host_allowed(&gate, NULL));
}

static void a_page_of_another_host_gets_no_answer(void)
{
	check(gate_origin_allowed(NULL, "127.0.0.1:7420"));
	check(gate_origin_allowed("http://127.0.0.1:7420", "127.0.0.1:7420"));
	check(gate_origin_allowed("https://127.0.0.1:7420", "127.0.0.1:7420"));
	check(!gate_origin_allowed("http://127.0.0.1", "127.0.0.1:7420"));
	check(!gate_origin_allowed("http://evil.example", "127.0.0.1:7420"));
	check(!gate_origin_allowed("http://127.0.0.1:7420.evil.example", "127.0.0.1:7420"));
	check(!gate_origin_allowed("null", "127.0.0.1:7420"));
}

static void the_token_is_wanted_when_there_is_one(void)
{
	struct gate gate = {.has_token = false};
	char longer[TOKEN_MAX + 20];

	check(gate_is_authorized(&gate, NULL));
	check_int(gate_set_token(&gate, "0123456789abcdef", 16), 0);
	check(gate_is_authorized(&gate, "Bearer 0123456789abcdef"));
	check(gate_is_authorized(&gate, "bearer 0123456789abcdef"));
	check(!gate_is_authorized(&gate, NULL));
	check(!gate_is_authorized(&gate, ""));
	check(!gate_is_authorized(&gate, "Bearer "));
	check(!gate_is_authorized(&gate, "Bearer 0123456789abcdeF"));
	check(!gate_is_authorized(&gate, "Bearer 0123456789abcdef0"));
	check(!gate_is_authorized(&gate, "Bearer  0123456789abcdef"));
	check(!gate_is_authorized(&gate, "Basic 0123456789abcdef"));
	memset(longer, 'a', sizeof(longer));
	memcpy(longer, "Bearer ", 7);
	longer[sizeof(longer) - 1] = '\0';
	check(!gate_is_authorized(&gate, longer));
}

static void a_token_that_can_be_guessed_is_refused(void)
{
	struct gate gate = {.has_token = false};

	check(gate_set_token(&gate, "short", 5) < 0);
	check(gate_set_token(&gate, "", 0) < 0);
	check(gate_set_token(&gate, "with blanks in the middle", 25) < 0);
	check(!gate.has_token);
}

static void loopback_is_told_from_what_others_reach(void)
{
	check(gate_is_loopback("127.0.0.1"));
	check(gate_is_loopback("127.1.2.3"));
	check(gate_is_loopback("::1"));
	check(!gate_is_loopback("0.0.0.0"));
	check(!gate_is_loopback("::"));
	check(!gate_is_loopback("10.77.0.1"));
}

/* --- paths --- */

static void a_star_stands_for_one_part_of_a_path(void)
{
	char part[PATH_PART_MAX + 1], path[128] = "/v1/things/";

	check(path_matches("/v1/things", "/v1/things", part));
	check(!path_matches("/v1/things", "/v1/things/", part));
	check(path_matches("/v1/things/*", "/v1/things/7", part));
	check_str(part, "7");
	check(path_matches("/v1/things/*/events", "/v1/things/abc/events", part));
	check_str(part, "abc");
	check(!path_matches("/v1/things/*", "/v1/things/", part));
	check(!path_matches("/v1/things/*", "/v1/things/7/8", part));
	check(!path_matches("/v1/things/*/events", "/v1/things/7", part));
	check(!path_matches("/v1/things/*", "/v2/things/7", part));
	memset(path + strlen(path), 'x', PATH_PART_MAX + 1);
	check(!path_matches("/v1/things/*", path, part));
}

static void the_methods_of_a_resource_are_listed(void)
{
	char text[64];

	verbs_write(text, sizeof(text), VERB_GET | VERB_DELETE);
	check_str(text, "GET, HEAD, DELETE");
	check_int(verb_of("HEAD"), VERB_GET);
	check_int(verb_of("TRACE"), 0);
	check_int(verb_of("get"), 0);
}

/* --- registrations --- */

#define KEPT 4

static struct registration *add(struct registry *registry, const char *id, const char *application)
{
	struct wish wish = {.lease_ms = 1000};
	struct registration *made;
	int why;

	snprintf(wish.application, sizeof(wish.application), "%s", application);
	made = registry_add(registry, id, &wish, mono_ms(3000), &why);
	if (made)
		registration_stand(made, mono_ms(0));
	return made;
}

static struct registry *new_registry(void)
{
	struct registry *registry;

	check_int(registry_new(&registry, 2, KEPT), 0);
	return registry;
}

/* All that the stream has to say now. */
static const char *read_all(struct reader *reader)
{
	static char text[4096];
	int size = reader_take(reader, text, sizeof(text) - 1);

	check(size >= 0);
	text[size] = '\0';
	return text;
}

static void a_lease_runs_out_unless_it_is_renewed(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");

	check(!registry_due(registry, mono_ms(999)));
	check_int(registry_deadline(registry).ns, mono_ms(1000).ns);
	registration_renew(one, mono_ms(999));
	check(!registry_due(registry, mono_ms(1998)));
	check(registry_due(registry, mono_ms(1999)) == one);
	registry_end(registry, one, "expired");
	check(!registry_due(registry, mono_ms(1999)));
	check(mono_is_never(registry_deadline(registry)));
	registry_free(registry);
}

static void one_that_fdd_does_not_confirm_is_given_up(void)
{
	struct registry *registry = new_registry();
	const struct wish wish = {.lease_ms = 3600000};
	int why;
	struct registration *one = registry_add(registry, "a", &wish, mono_ms(3000), &why);

	check(registry_due(registry, mono_ms(3000)) == one);
	registration_stand(one, mono_ms(2999));
	check(!registry_due(registry, mono_ms(3000)));
	registry_free(registry);
}

static void coming_back_after_a_gap_does_not_renew_the_lease(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");

	one->standing = LOST;
	registration_stand(one, mono_ms(900));
	check(registry_due(registry, mono_ms(1000)) == one);
	registry_free(registry);
}

static void there_are_no_more_places_than_there_are(void)
{
	struct registry *registry = new_registry();
	const struct wish wish = {.lease_ms = 1000};
	struct registration *one = add(registry, "a", "");
	int why;

	check(add(registry, "b", ""));
	check(!registry_add(registry, "c", &wish, MONO_NEVER, &why));
	check_int(why, -ENOSPC);
	registry_end(registry, one, NULL);
	check(registry_add(registry, "c", &wish, MONO_NEVER, &why) != NULL);
	check_int((int)registry_count(registry), 2);
	registry_free(registry);
}

static void registrations_are_found_by_id_and_application(void)
{
	struct registry *registry = new_registry();
	struct registration *a = add(registry, "a", ""), *b = add(registry, "b", "app");

	check(registry_find(registry, "a") == a);
	check(registry_find(registry, "b") == b);
	check(!registry_find(registry, "c"));
	check(registry_find_application(registry, "app") == b);
	check(!registry_find_application(registry, ""));
	registry_end(registry, a, NULL);
	check(!registry_find(registry, "a"));
	registry_free(registry);
}

static void a_stream_begins_with_what_is_kept_and_goes_on(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader reader;

	check_int(registration_append(one, "level", "{\"x\":1}"), 0);
	check_int(reader_open(&reader, one, 0), 0);
	check_str(read_all(&reader), "retry: 2000\n\nid: 1\nevent: level\ndata: {\"x\":1}\n\n");
	check_str(read_all(&reader), "");
	registration_append(one, "value", "{}");
	check_str(read_all(&reader), "id: 2\nevent: value\ndata: {}\n\n");
	reader_close(registry, &reader);
	registry_free(registry);
}

static void a_stream_goes_on_behind_its_last_event(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader reader;

	for (int i = 0; i < 3; i++)
		registration_append(one, "e", "{}");
	check_int(reader_open(&reader, one, 2), 0);
	check_str(read_all(&reader), "retry: 2000\n\nid: 3\nevent: e\ndata: {}\n\n");
	reader_close(registry, &reader);
	check_int(reader_open(&reader, one, 3), 0);
	check_str(read_all(&reader), "retry: 2000\n\n");
	reader_close(registry, &reader);
	check_int(reader_open(&reader, one, 4), -EINVAL);
	check_int(reader_open(&reader, one, UINT64_MAX), -EINVAL);
	registry_free(registry);
}

static void one_that_comes_back_too_late_is_told_how_many_it_missed(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader reader;
	const char *text;

	for (int i = 0; i < KEPT + 3; i++)
		registration_append(one, "e", "{}");
	check_int(reader_open(&reader, one, 1), 0);
	text = read_all(&reader);
	check(strstr(text, "event: gap\ndata: {\"reason\":\"overwritten\",\"missed\":2}\n\n"));
	check(strstr(text, "\n\nid: 4\n"));
	check(strstr(text, "\n\nid: 7\n"));
	reader_close(registry, &reader);
	registry_free(registry);
}

static void events_come_whole_through_any_buffer(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader reader;
	char whole[512] = "", piece[8];

	for (size_t room = 1; room <= KEPT; room++) {
		reader_open(&reader, one, 0);
		registration_append(one, "e", "{}");
		whole[0] = '\0';
		for (int size; (size = reader_take(&reader, piece, room)) > 0;)
			snprintf(whole + strlen(whole), sizeof(whole) - strlen(whole), "%.*s", size,
			    piece);
		check(strncmp(whole, "retry: 2000\n\nid: ", 17) == 0);
		check(strstr(whole, "data: {}\n\n"));
		reader_close(registry, &reader);
	}
	registry_free(registry);
}

static void a_stream_that_does_not_follow_is_told_how_many_it_missed(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader reader;
	const char *text;

	check_int(reader_open(&reader, one, 0), 0);
	check_str(read_all(&reader), "retry: 2000\n\n");
	for (int i = 0; i < KEPT + 2; i++)
		registration_append(one, "e", "{}");
	text = read_all(&reader);
	check(
	    strstr(text,
		"event: gap\ndata: {\"reason\":\"overwritten\",\"missed\":2}\n\nid: 3\n") == text);
	check_int((int)reader.missed, 2);
	check_str(read_all(&reader), "");
	reader_close(registry, &reader);
	registry_free(registry);
}

static void an_event_that_is_half_sent_is_finished_though_it_was_overwritten(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader reader;
	const char *text;
	char some[8];

	check_int(reader_open(&reader, one, 0), 0);
	registration_append(one, "e", "{}");
	check_int(reader_take(&reader, some, 8), 8);
	check_int(reader_take(&reader, some, 8), 8); /* 13 bytes of retry, 3 of the event */
	for (int i = 0; i < KEPT + 2; i++)
		registration_append(one, "f", "{}");
	text = read_all(&reader);
	check(strstr(text, " 1\nevent: e\ndata: {}\n\nevent: gap\n") == text);
	reader_close(registry, &reader);
	registry_free(registry);
}

static void a_stream_whose_registration_ends_hears_why_and_ends(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader first, second;
	char text[64];

	reader_open(&first, one, 0);
	reader_open(&second, one, 0);
	registry_end(registry, one, "expired");
	check(!registry_find(registry, "a"));
	check(!registry_next(registry, NULL));
	check_int((int)registry_count(registry), 0);
	check(strstr(read_all(&first), "event: end\ndata: {\"reason\":\"expired\"}\n\n"));
	check_int(reader_take(&first, text, sizeof(text)), READER_END);
	reader_close(registry, &first);
	check(strstr(read_all(&second), "expired"));
	reader_close(registry, &second);
	registry_free(registry);
}

static void a_keep_alive_never_cuts_an_event_in_two(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	struct reader reader;
	char text[8];

	reader_open(&reader, one, 0);
	check_str(read_all(&reader), "retry: 2000\n\n");
	reader_keep_alive(&reader);
	check_str(read_all(&reader), ": still here\n\n");
	registration_append(one, "e", "{}");
	check_int(reader_take(&reader, text, 5), 5);
	reader_keep_alive(&reader);
	check_str(read_all(&reader), "\nevent: e\ndata: {}\n\n");
	reader_close(registry, &reader);
	registry_free(registry);
}

static void an_event_beyond_the_limit_is_refused(void)
{
	struct registry *registry = new_registry();
	struct registration *one = add(registry, "a", "");
	char data[EVENT_MAX + 1];

	memset(data, 'x', sizeof(data) - 1);
	data[sizeof(data) - 1] = '\0';
	check_int(registration_append(one, "e", data), -EMSGSIZE);
	check_int((int)one->next, 1);
	registry_free(registry);
}

int main(void)
{
	return test_main((struct test[]){TEST(only_hosts_that_nobody_else_can_own_are_let_in),
	    TEST(a_page_of_another_host_gets_no_answer),
	    TEST(the_token_is_wanted_when_there_is_one),
	    TEST(a_token_that_can_be_guessed_is_refused),
	    TEST(loopback_is_told_from_what_others_reach),
	    TEST(a_star_stands_for_one_part_of_a_path), TEST(the_methods_of_a_resource_are_listed),
	    TEST(a_lease_runs_out_unless_it_is_renewed),
	    TEST(one_that_fdd_does_not_confirm_is_given_up),
	    TEST(coming_back_after_a_gap_does_not_renew_the_lease),
	    TEST(there_are_no_more_places_than_there_are),
	    TEST(registrations_are_found_by_id_and_application),
	    TEST(a_stream_begins_with_what_is_kept_and_goes_on),
	    TEST(a_stream_goes_on_behind_its_last_event),
	    TEST(one_that_comes_back_too_late_is_told_how_many_it_missed),
	    TEST(events_come_whole_through_any_buffer),
	    TEST(a_stream_that_does_not_follow_is_told_how_many_it_missed),
	    TEST(an_event_that_is_half_sent_is_finished_though_it_was_overwritten),
	    TEST(a_stream_whose_registration_ends_hears_why_and_ends),
	    TEST(a_keep_alive_never_cuts_an_event_in_two),
	    TEST(an_event_beyond_the_limit_is_refused), {0}});
}
