#include "metad/https.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>

#include "common/buf.h"
#include "common/mono.h"

#define CALLS_MAX 16
#define CONNECT_MS 3000L /* with the handshake, on a busy machine */

struct https_call {
	TAILQ_ENTRY(https_call) link;
	struct https *https;
	struct https_post post;
	CURL *easy;
	struct buf answer;
	bool too_long, fresh, alerted;
	char error[CURL_ERROR_SIZE];
};

struct https {
	sd_event *loop;
	struct https_files files;
	CURLM *multi;
	struct curl_slist *headers;
	sd_event_source *timer;
	TAILQ_HEAD(calls, https_call) calls;
	size_t count;
};

/* --- a call --- */

static struct https_call *call_free(struct https_call *call)
{
	struct https *https = call->https;

	TAILQ_REMOVE(&https->calls, call, link);
	https->count--;
	curl_multi_remove_handle(https->multi, call->easy);
	curl_easy_cleanup(call->easy);
	buf_fini(&call->answer);
	free(call);
	return NULL;
}

struct https_call *https_cancel(struct https_call *call)
{
	return call ? call_free(call) : NULL;
}

static size_t take(char *bytes, size_t one, size_t size, void *userdata)
{
	struct https_call *call = userdata;

	(void)one; /* it is 1 */
	call->too_long = call->answer.size + size > call->post.limit;
	if (call->too_long || buf_append(&call->answer, bytes, size) < 0)
		return 0; /* ends the call */
	call->fresh = true;
	return size;
}

/*
 * The alert with which a server refuses us is said only here: libcurl keeps the first words of a failure, and those may be that
 * the server has hung up already.
 */
static int notice(CURL *easy, curl_infotype type, char *text, size_t size, void *userdata)
{
	static const char alert[] = "TLS fatal alert";
	struct https_call *call = userdata;

	(void)easy;
	if (type == CURLINFO_TEXT && memmem(text, size, alert, sizeof(alert) - 1))
		call->alerted = true;
	return 0;
}

static void set_files(CURL *easy, const struct https_files *files)
{
	curl_easy_setopt(easy, CURLOPT_CAINFO, files->ca);
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* not the CAs of the system */
	curl_easy_setopt(easy, CURLOPT_SSLCERT, files->cert);
	curl_easy_setopt(easy, CURLOPT_SSLKEY, files->key);
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
}

static void set_times(CURL *easy, unsigned timeout_ms)
{
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 5L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 2L);
}

static CURLcode set_post(struct https_call *call)
{
	const struct https_post *post = &call->post;
	CURL *easy = call->easy;

	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
	curl_easy_setopt(easy, CURLOPT_VERBOSE, 1L);
	curl_easy_setopt(easy, CURLOPT_DEBUGFUNCTION, notice);
	curl_easy_setopt(easy, CURLOPT_DEBUGDATA, call);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->https->headers);
	set_files(easy, &call->https->files);
	set_times(easy, post->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->size);
	if (curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, post->body) != CURLE_OK)
		return CURLE_OUT_OF_MEMORY;
	return curl_easy_setopt(easy, CURLOPT_URL, post->url);
}

int https_post(struct https *https, const struct https_post *post, struct https_call **out)
{
	struct https_call *call;

	if (https->count == CALLS_MAX)
		return -EBUSY;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->https = https;
	call->post = *post;
	call->easy = curl_easy_init();
	if (!call->easy || set_post(call) != CURLE_OK ||
	    curl_multi_add_handle(https->multi, call->easy) != CURLM_OK) {
		curl_easy_cleanup(call->easy);
		free(call);
		return -ENOMEM;
	}
	call->post.body = NULL;
	TAILQ_INSERT_TAIL(&https->calls, call, link);
	https->count++;
	*out = call;
	return 0;
}

/* --- its end --- */

/* It has hung up on a connection that was just made. */
static bool was_shut_out(const struct https_call *call, CURLcode code)
{
	curl_off_t made_us = 0;
	long made = 0;

	curl_easy_getinfo(call->easy, CURLINFO_NUM_CONNECTS, &made);
	curl_easy_getinfo(call->easy, CURLINFO_APPCONNECT_TIME_T, &made_us);
	if (made == 0 || call->answer.size)
		return false;
	return code == CURLE_SSL_CONNECT_ERROR ||
	       (made_us > 0 && (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
				   code == CURLE_GOT_NOTHING));
}

/*
 * What it means here.  A server that refuses our certificate says so in an alert, in TLS 1.3 after the handshake, and hangs up:
 * the alert may be lost with the connection.
 */
static const char *explain(const struct https_call *call, CURLcode code)
{
	switch (code) {
	case CURLE_PEER_FAILED_VERIFICATION:
		return "its certificate is not of the CA in etcd_ca, not for this address, or not "
		       "valid at this time";
	case CURLE_SSL_CACERT_BADFILE:
		return "the file etcd_ca cannot be read";
	case CURLE_SSL_CERTPROBLEM:
		return "the files etcd_cert and etcd_key cannot be read, or do not belong together";
	default:
		if (strstr(call->error, "error reading X.509"))
			return "the files etcd_cert and etcd_key cannot be read, or do not belong "
			       "together";
		if (call->alerted)
			return "it refuses our certificate (etcd_cert): not of the CA that it "
			       "trusts, not for clients, or not valid at this time";
		if (was_shut_out(call, code))
			return "it hangs up when it has seen us: it refuses our certificate "
			       "(etcd_cert; its log tells), or is going down";
		return call->error[0] ? call->error : curl_easy_strerror(code);
	}
}

bool https_sent(const struct https_call *call)
{
	curl_off_t ready_us = 0;

	curl_easy_getinfo(call->easy, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
	return ready_us > 0;
}

static int error_of(const struct https_call *call, CURLcode code)
{
	if (code == CURLE_OK)
		return 0;
	if (call->too_long)
		return -EMSGSIZE;
	return code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO;
}

static void finish(struct https_call *call, CURLcode code)
{
	struct https_answer answer = {
	    .rc = error_of(call, code),
	    .body = (const char *)call->answer.data,
	    .size = call->answer.size,
	};
	long status = 0;

	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	answer.sent = https_sent(call);
	answer.status = (int)status;
	if (answer.rc < 0)
		answer.why =
		    call->too_long ? "its answer is longer than can be" : explain(call, code);
	call->post.done(call->post.arg, &answer);
	call_free(call);
}

static void finish_refused(struct https_call *call)
{
	struct https_answer answer = {.rc = -EBADMSG, .sent = true, .why = "its stream has ended"};

	call->post.done(call->post.arg, &answer);
	call_free(call);
}

/* Gives out the whole lines of a stream; false: no more are wanted. */
static bool give_lines(struct https_call *call)
{
	char *begin = (char *)call->answer.data, *end = begin + call->answer.size, *next;
	bool more = true;

	while (more && (next = memchr(begin, '\n', (size_t)(end - begin)))) {
		more = call->post.line(call->post.arg, begin, (size_t)(next - begin));
		begin = next + 1;
	}
	call->answer.size = (size_t)(end - begin);
	memmove(call->answer.data, begin, call->answer.size);
	return more;
}

/* What libcurl has come to; not in its own callbacks, where it must not be called. */
static void settle(struct https *https)
{
	struct https_call *call, *next;
	CURLMsg *message;
	int left;

	for (call = TAILQ_FIRST(&https->calls); call; call = next) {
		bool fresh = call->fresh;

		call->fresh = false;
		if (fresh && call->post.line && !give_lines(call)) {
			finish_refused(call);
			next = TAILQ_FIRST(&https->calls); /* others may have gone with it */
		} else {
			next = TAILQ_NEXT(call, link);
		}
	}
	while ((message = curl_multi_info_read(https->multi, &left))) {
		char *private = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		finish((struct https_call *)private, message->data.result);
	}
}

/* --- the loop --- */

static int on_socket(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct https *https = userdata;
	int mask = (events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
		   (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
		   (events & EPOLLERR ? CURL_CSELECT_ERR : 0),
	    running;

	(void)source;
	curl_multi_socket_action(https->multi, fd, mask, &running);
	settle(https);
	return 0;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct https *https = userdata;
	int running;

	(void)source;
	(void)usec;
	curl_multi_socket_action(https->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	settle(https);
	return 0;
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *kept)
{
	struct https *https = userdata;
	sd_event_source *source = kept;
	uint32_t events = (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) |
			  (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0);

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		sd_event_source_disable_unref(source);
		curl_multi_assign(https->multi, fd, NULL);
	} else if (source) {
		return sd_event_source_set_io_events(source, events) < 0 ? -1 : 0;
	} else {
		if (sd_event_add_io(https->loop, &source, fd, events, on_socket, https) < 0)
			return -1;
		curl_multi_assign(https->multi, fd, source);
	}
	return 0;
}

static int want_time(CURLM *multi, long timeout_ms, void *userdata)
{
	struct https *https = userdata;

	(void)multi;
	if (timeout_ms < 0)
		return sd_event_source_set_enabled(https->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
	if (sd_event_source_set_time_relative(https->timer, (uint64_t)timeout_ms * 1000) < 0)
		return -1;
	return sd_event_source_set_enabled(https->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

static int set_multi(struct https *https)
{
	CURLM *multi = https->multi;

	if (!multi || !https->headers)
		return -ENOMEM;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, https);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, want_time);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, https);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)CALLS_MAX);
	return 0;
}

int https_new(struct https **out, sd_event *loop, const struct https_files *files)
{
	struct https *https;
	int r;

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -ENOMEM;
	https = calloc(1, sizeof(*https));
	if (!https)
		return -ENOMEM;
	https->loop = loop;
	https->files = *files;
	TAILQ_INIT(&https->calls);
	https->multi = curl_multi_init();
	https->headers = curl_slist_append(NULL, "Content-Type: application/json");
	r = set_multi(https);
	if (r == 0)
		r = sd_event_add_time(loop, &https->timer, MONO_CLOCK, 0, 1, on_time, https);
	if (r < 0)
		return https_free(https), r;
	sd_event_source_set_enabled(https->timer, SD_EVENT_OFF);
	*out = https;
	return 0;
}

struct https *https_free(struct https *https)
{
	struct https_call *call;

	if (!https)
		return NULL;
	while ((call = TAILQ_FIRST(&https->calls)))
		call_free(call);
	curl_multi_cleanup(https->multi);
	curl_slist_free_all(https->headers);
	sd_event_source_disable_unref(https->timer);
	free(https);
	return NULL;
}
