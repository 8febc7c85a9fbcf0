#include <string.h>
#include "common/test.h"
#include "fdd/http.h"

static char why[128];

static enum http_verdict judge(const char *answer, bool ended, const char *match)
{
	*why = '\0';
	return http_judge(answer, strlen(answer), ended, 200, match, why, sizeof(why));
}

static void the_status_is_judged_as_soon_as_it_is_there(void)
{
	check_int(judge("HTTP/1.1 20", false, ""), HTTP_MORE);
	check_int(judge("HTTP/1.1 200", false, ""), HTTP_GOOD);
	check_int(judge("HTTP/1.0 500 Oh\r\n", false, ""), HTTP_BAD);
	check_str(why, "status 500, not 200");
}

static void the_text_must_stand_in_the_body_and_not_in_the_header(void)
{
	check_int(judge("HTTP/1.1 200 OK\r\nX: pong\r\n\r\n", false, "pong"), HTTP_MORE);
	check_int(judge("HTTP/1.1 200 OK\r\nX: pong\r\n\r\n", true, "pong"), HTTP_BAD);
	check_str(why, "status 200, but \"pong\" is not in the body");
	check_int(judge("HTTP/1.1 200 OK\r\n\r\nsay po", false, "pong"), HTTP_MORE);
	check_int(judge("HTTP/1.1 200 OK\r\n\r\nsay pong", false, "pong"), HTTP_GOOD);
	check_int(judge("HTTP/1.1 404 No\r\n\r\nsay pong", true, "pong"), HTTP_BAD);
}

static void what_is_not_http_is_bad(void)
{
	check_int(judge("", false, ""), HTTP_MORE);
	check_int(judge("", true, ""), HTTP_BAD);
	check_int(judge("SSH-2.0-OpenSSH_9.2p1", false, ""), HTTP_BAD);
	check_int(judge("HTTP/1.1 2", true, ""), HTTP_BAD);
	check_int(judge("HTTP/1.1 abc OK\r\n\r\n", false, ""), HTTP_BAD);
	check_str(why, "no HTTP answer");
}

static void a_request_names_host_and_path_or_does_not_fit(void)
{
	char text[256];
	size_t size = http_request(text, sizeof(text), "10.0.0.1", "/health?x=1");

	check(size && !strncmp(text, "GET /health?x=1 HTTP/1.0\r\nHost: 10.0.0.1\r\n", 42));
	check(!strcmp(text + size - 4, "\r\n\r\n"));
	check(http_request(text, sizeof(text), "10.0.0.1", "") && !strncmp(text, "GET / ", 6));
	check_int(http_request(text, 40, "10.0.0.1", "/"), 0);
}

int main(void)
{
	return test_main((struct test[]){
	    TEST(the_status_is_judged_as_soon_as_it_is_there),
	    TEST(the_text_must_stand_in_the_body_and_not_in_the_header),
	    TEST(what_is_not_http_is_bad),
	    TEST(a_request_names_host_and_path_or_does_not_fit),
	    {0},
	});
}
