#include "metad/store-etcd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "common/log.h"

#define ATTEMPT_MS 1000 /* the first of a request; doubled with each, up to 8 times */
#define LOOK_MS 1000
#define RETRY_MS 200   /* when all endpoints have failed */
#define MUTE_MS 5000   /* so long a watch may say nothing of what a look has found */
#define PRUNE_EVERY 64 /* transactions of our own */
#define SMALL_PAGE 8   /* entries that always fit */
#define ANSWER_MAX (1024 * 1024)
#define LINE_MAX_BYTES (4 * 1024 * 1024)

static const char not_etcd[] = "an answer that is not etcd's";

enum ask {
	ASK_GET,
	ASK_SCAN,
	ASK_TXN,
};

/* What is asked next for a transaction. */
enum step {
	STEP_SUBMIT,
	STEP_RECALL, /* etcd is full: was it applied before it was? */
	STEP_VOID,   /* a conflict, if the attempts before can no longer be applied */
};

struct request {
	TAILQ_ENTRY(request) link;
	enum ask ask;
	enum step step;
	store_done *done;
	void *arg;
	struct mono deadline;
	unsigned attempts;
	char *key, *after; /* get: key; scan: prefix, after */
	size_t limit;
	struct store_op *ops;
	size_t count;
	struct store_nonce nonce;
	bool doubtful; /* an attempt was sent and not answered */
	bool has_floor;
	uint64_t floor; /* revision seen before the first attempt */
	struct store_reply conflict;
};

struct store_etcd {
	struct store store;
	struct store_etcd_config config;
	char prefix[ETCD_PREFIX_MAX];
	struct https *https;
	sd_event_source *timer;
	TAILQ_HEAD(requests, request) requests;
	size_t pending;
	struct https_call *call;
	bool asking; /* the call is for the request at the head */
	bool ready;  /* the floor is laid */
	size_t at;   /* the endpoint that is asked */
	size_t fails;
	struct mono not_before;
	struct log_limit complaints;
	uint64_t seen; /* highest revision known */
	struct store_nonce next_nonce;
	/* looks */
	struct mono next_look;
	bool status_due, members_due;
	uint64_t looked;        /* revision of the last transaction, by the look before */
	uint64_t leader, leads; /* told; as the endpoint says */
	struct etcd_members members;
	/* forgetting */
	unsigned applied;
	bool prune_due;
	struct buf prune; /* what is to be asked, after the oldest were listed */
	/* the watch */
	struct https_call *watch;
	size_t watch_at;
	struct mono watch_since, next_watch;
	uint64_t told; /* changes up to this one were told; 0: all are to look */
};

static void pump(struct store_etcd *s);
static void arm(struct store_etcd *s);

/* --- requests --- */

static struct request *request_free(struct request *request)
{
	for (size_t i = 0; i < request->count; i++) {
		free((void *)request->ops[i].key);
		free((void *)request->ops[i].value);
	}
	free(request->ops);
	free(request->key);
	free(request->after);
	free(request);
	return NULL;
}

/* Out of the line first: the callback may ask for more. */
static void finish(struct store_etcd *s, struct request *request, const struct store_reply *reply)
{
	TAILQ_REMOVE(&s->requests, request, link);
	s->pending--;
	request->done(request->arg, reply);
	request_free(request);
}

static void finish_code(struct store_etcd *s, struct request *request, int rc)
{
	finish(s, request, &(struct store_reply){.rc = rc});
}

static void see(struct store_etcd *s, uint64_t revision)
{
	if (revision > s->seen)
		s->seen = revision;
}

/* What became of the transaction is not known. */
static bool is_open(const struct request *request)
{
	return request->doubtful || request->step == STEP_RECALL;
}

static void expire(struct store_etcd *s, struct mono now)
{
	struct request *request, *next;

	for (request = TAILQ_FIRST(&s->requests); request; request = next) {
		bool asked = s->asking && request == TAILQ_FIRST(&s->requests);
		bool doubt = is_open(request) || (asked && https_sent(s->call));

		next = TAILQ_NEXT(request, link);
		if (!mono_due(request->deadline, now))
			continue;
		if (asked) {
			s->call = https_cancel(s->call);
			s->asking = false;
			s->at = (s->at + 1) % s->config.count;
		}
		finish_code(
		    s, request, request->ask == ASK_TXN && doubt ? STORE_UNKNOWN : -ETIMEDOUT);
	}
}

/* --- endpoints --- */

static void set_leader(struct store_etcd *s, uint64_t id)
{
	const char *name = "";

	if (id == s->leader)
		return;
	for (size_t i = 0; i < s->members.count; i++) {
		if (s->members.member[i].id == id)
			name = s->members.member[i].name;
	}
	s->leader = id;
	if (s->config.leader)
		s->config.leader(s->config.arg, id, name);
}

static void complain(struct store_etcd *s, const char *endpoint, const char *why)
{
	unsigned missed;

	if (log_limit(&s->complaints, mono_now(), &missed))
		log_warning("etcd %s: %s missed=%u", endpoint, why, missed);
}

/* The endpoint could not serve; the next one is asked, at once if it has not failed too. */
static void turn_away(struct store_etcd *s, const char *why)
{
	complain(s, s->config.endpoint[s->at], why);
	s->at = (s->at + 1) % s->config.count;
	s->fails++;
	if (s->fails % s->config.count == 0)
		s->not_before = mono_add_ms(mono_now(), RETRY_MS);
	if (s->fails >= 2 * s->config.count)
		set_leader(s, 0);
}

/* An answer that took a majority. */
static void served(struct store_etcd *s, uint64_t revision)
{
	s->fails = 0;
	see(s, revision);
	if (!s->leader)
		s->status_due = true;
}

static int post(struct store_etcd *s, const char *path, const struct buf *body, unsigned timeout_ms,
    void (*done)(void *, const struct https_answer *))
{
	char url[ETCD_ENDPOINT_MAX + 64];
	struct https_post post = {
	    .url = url,
	    .body = body->data,
	    .size = body->size,
	    .limit = ANSWER_MAX,
	    .timeout_ms = timeout_ms,
	    .done = done,
	    .arg = s,
	};

	snprintf(url, sizeof(url), "%s%s", s->config.endpoint[s->at], path);
	return https_post(s->https, &post, &s->call);
}

/* What is no answer of etcd to what was asked; false, and turned away. */
static bool usable(struct store_etcd *s, const struct https_answer *answer)
{
	char words[200];

	if (answer->rc < 0) {
		turn_away(s, answer->why);
	} else if (answer->status != 200) {
		etcd_take_error(words, answer->body, answer->size);
		turn_away(s, words);
	} else {
		return true;
	}
	return false;
}

/* --- answers to requests --- */

/* etcd has answered that it will not: it is as far as the gateway goes, another endpoint says the same. */
static void refused(struct store_etcd *s, struct request *request, int status, const char *words)
{
	int rc = status == 400 ? -EPROTO : -EACCES;

	complain(s, s->config.endpoint[s->at], words);
	finish_code(s, request, is_open(request) ? STORE_UNKNOWN : rc);
}

static void failed(struct store_etcd *s, struct request *request, const struct https_answer *answer)
{
	int status = answer->rc == 0 ? answer->status : 0;
	char words[200] = "";

	if (status)
		etcd_take_error(words, answer->body, answer->size);
	if (status == 400 || status == 401 || status == 403) {
		refused(s, request, status, words);
		return;
	}
	if (request->ask == ASK_SCAN && answer->rc == -EMSGSIZE && request->limit > SMALL_PAGE) {
		request->limit = SMALL_PAGE;
		return;
	}
	turn_away(s, status ? words : answer->why);
	request->attempts++;
	if (request->ask != ASK_TXN || request->step != STEP_SUBMIT)
		return;
	if (status && strstr(words, "space exceeded"))
		request->step = STEP_RECALL;
	else if (answer->sent)
		request->doubtful = true;
}

static void take_conflict(
    struct store_etcd *s, struct request *request, const struct etcd_outcome *outcome)
{
	struct store_reply *reply = &request->conflict;

	*reply = (struct store_reply){.rc = STORE_CONFLICT, .revision = outcome->revision};
	while (reply->conflict < request->count &&
	       (request->ops[reply->conflict].expected == STORE_ANY ||
		   request->ops[reply->conflict].expected == outcome->facts[reply->conflict]))
		reply->conflict++;
	if (reply->conflict == request->count) { /* only the floor had risen meanwhile */
		s->not_before = mono_add_ms(mono_now(), 1);
		return;
	}
	reply->conflict_version = outcome->facts[reply->conflict];
	if (request->doubtful)
		request->step = STEP_VOID;
	else
		finish(s, request, reply);
}

static void finish_known(
    struct store_etcd *s, struct request *request, const struct etcd_outcome *outcome)
{
	struct store_reply reply = {.revision = outcome->nonce};

	if (outcome->void_nonce)
		reply = (struct store_reply){.rc = STORE_CONFLICT,
		    .revision = outcome->nonce,
		    .conflict = outcome->void_index,
		    .conflict_version = outcome->void_version};
	finish(s, request, &reply);
}

static void finish_applied(
    struct store_etcd *s, struct request *request, const struct etcd_outcome *outcome)
{
	if (++s->applied >= PRUNE_EVERY) {
		s->applied = 0;
		s->prune_due = true;
	}
	finish(s, request, &(struct store_reply){.revision = outcome->revision});
}

static void take_outcome(
    struct store_etcd *s, struct request *request, const struct etcd_outcome *outcome)
{
	served(s, outcome->revision);
	if (outcome->succeeded && request->step == STEP_VOID) {
		finish(s, request, &request->conflict);
	} else if (outcome->succeeded) {
		finish_applied(s, request, outcome);
	} else if (outcome->nonce) {
		finish_known(s, request, outcome);
	} else if (!outcome->has_floor) {
		s->ready = false;
	} else if (outcome->floor > request->floor && request->doubtful) {
		finish_code(s, request, STORE_UNKNOWN); /* its nonce may have been forgotten */
	} else if (request->step == STEP_VOID) {
		request->step = STEP_SUBMIT;
	} else {
		request->floor = request->doubtful ? request->floor : outcome->revision;
		take_conflict(s, request, outcome);
	}
}

/* After etcd was full: is the nonce there? */
static void take_recall(struct store_etcd *s, struct request *request, const struct etcd_page *page)
{
	if (page->count)
		finish(s, request, &(struct store_reply){.revision = page->entry[0].revision});
	else
		finish_code(s, request, request->doubtful ? STORE_UNKNOWN : -ENOSPC);
}

/* Where the keys of facts begin in what was read; -EBADMSG: it is not below our prefix. */
static int cut_prefix(const struct store_etcd *s, const struct etcd_page *page, size_t *begin)
{
	char space[ETCD_PREFIX_MAX + 8];

	*begin = (size_t)snprintf(space, sizeof(space), "%sfact/", s->prefix);
	for (size_t i = 0; i < page->count; i++) {
		const char *key = etcd_entry_key(page, i);

		if (strncmp(key, space, *begin) != 0 || !store_key_valid(key + *begin))
			return -EBADMSG;
	}
	return 0;
}

static int take_facts(struct store_etcd *s, struct request *request, const struct etcd_page *page)
{
	struct store_entry entries[STORE_PAGE_MAX] = {{.key = request->key}};
	struct store_reply reply = {.revision = page->revision, .entries = entries};
	size_t begin, bytes = 0;
	int r = cut_prefix(s, page, &begin);

	if (r < 0 || page->count > request->limit)
		return -EBADMSG;
	for (size_t i = 0; i < page->count && bytes <= STORE_PAGE_BYTES - STORE_VALUE_MAX; i++) {
		const struct etcd_entry *entry = &page->entry[i];

		entries[reply.count++] = (struct store_entry){etcd_entry_key(page, i) + begin,
		    entry->revision, page->bytes.data + entry->value, entry->value_size};
		bytes += entry->value_size;
	}
	reply.more = page->more || reply.count < page->count;
	if (request->ask == ASK_GET)
		reply.count = 1; /* also when it is absent */
	finish(s, request, &reply);
	return 0;
}

static int take_range(
    struct store_etcd *s, struct request *request, const struct https_answer *answer)
{
	struct etcd_page *page = calloc(1, sizeof(*page));
	int r = page ? etcd_take_page(page, answer->body, answer->size) : -ENOMEM;

	if (r == 0) {
		served(s, page->revision);
		if (request->ask == ASK_TXN)
			take_recall(s, request, page);
		else
			r = take_facts(s, request, page);
	}
	if (page)
		etcd_page_fini(page);
	free(page);
	return r;
}

static int take_txn(
    struct store_etcd *s, struct request *request, const struct https_answer *answer)
{
	struct etcd_outcome outcome = {0};
	size_t count = request->step == STEP_SUBMIT ? request->count : 0;
	int r = etcd_take_outcome(&outcome, request->ops, count, answer->body, answer->size);

	if (r == 0)
		take_outcome(s, request, &outcome);
	return r;
}

static void answered(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;
	struct request *request = TAILQ_FIRST(&s->requests);
	struct https_answer unreadable = {.rc = -EBADMSG, .sent = true, .why = not_etcd};
	int r = -EBADMSG;

	s->call = NULL;
	s->asking = false;
	if (answer->rc < 0 || answer->status != 200)
		failed(s, request, answer);
	else if (request->ask == ASK_TXN && request->step != STEP_RECALL)
		r = take_txn(s, request, answer);
	else
		r = take_range(s, request, answer);
	if (r < 0 && answer->rc == 0 && answer->status == 200)
		failed(s, request, &unreadable);
	pump(s);
}

/* --- asking --- */

static int ask_txn(struct store_etcd *s, struct request *request, struct buf *body)
{
	char text[33];
	struct etcd_range recall = {.space = "nonce/", .from = text};

	switch (request->step) {
	case STEP_SUBMIT:
		if (!request->has_floor)
			request->floor = s->seen;
		request->has_floor = true;
		return etcd_put_txn(
		    body, s->prefix, request->ops, request->count, &request->nonce, request->floor);
	case STEP_RECALL:
		etcd_nonce_text(text, &request->nonce);
		return etcd_put_range(body, s->prefix, &recall);
	case STEP_VOID:
		return etcd_put_void(body, s->prefix, &request->nonce, request->floor,
		    request->conflict.conflict, request->conflict.conflict_version);
	}
	return -EINVAL;
}

static int ask_range(struct store_etcd *s, const struct request *request, struct buf *body)
{
	struct etcd_range range = {.space = "fact/", .from = request->key};

	if (request->ask == ASK_SCAN) {
		range.to = request->key;
		range.limit = request->limit;
		if (strcmp(request->after, request->key) >= 0) {
			range.from = request->after;
			range.behind = request->after[0] != 0;
		}
	}
	return etcd_put_range(body, s->prefix, &range);
}

static int ask(struct store_etcd *s, struct request *request)
{
	_cleanup_buf_ struct buf body = {0};
	unsigned timeout_ms = ATTEMPT_MS << (request->attempts < 3 ? request->attempts : 3);
	bool writes = request->ask == ASK_TXN && request->step != STEP_RECALL;
	int r = request->ask == ASK_TXN ? ask_txn(s, request, &body) : ask_range(s, request, &body);

	if (r == 0)
		r = post(s, writes ? "/v3/kv/txn" : "/v3/kv/range", &body, timeout_ms, answered);
	s->asking = r == 0;
	return r;
}

/* --- the floor --- */

static void laid(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;
	uint64_t revision;

	s->call = NULL;
	if (usable(s, answer)) {
		s->ready = etcd_take_revision(&revision, answer->body, answer->size) == 0;
		if (s->ready)
			served(s, revision);
		else
			turn_away(s, not_etcd);
	}
	pump(s);
}

static int lay_floor(struct store_etcd *s)
{
	_cleanup_buf_ struct buf body = {0};
	int r = etcd_put_init(&body, s->prefix);

	return r == 0 ? post(s, "/v3/kv/txn", &body, 2 * ATTEMPT_MS, laid) : r;
}

/* --- forgetting --- */

static void pruned(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;

	s->call = NULL;
	buf_clear(&s->prune);
	(void)usable(s, answer); /* another may have forgotten the same: all is well */
	pump(s);
}

static int plan_prune(struct store_etcd *s, const struct etcd_page *page)
{
	char keys[ETCD_PRUNE_MAX][ETCD_KEY_MAX + 1];
	size_t keep = s->config.nonces, count = 0;

	s->prune_due = page->total > keep + ETCD_PRUNE_MAX;
	while (count < page->count && count < ETCD_PRUNE_MAX && page->total > keep + count) {
		snprintf(keys[count], sizeof(keys[0]), "%s", etcd_entry_key(page, count));
		count++;
	}
	return count == 0 ? 0
			  : etcd_put_prune(
				&s->prune, s->prefix, keys, count, page->entry[count - 1].revision);
}

static void listed(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;
	struct etcd_page *page = calloc(1, sizeof(*page));

	s->call = NULL;
	s->prune_due = false;
	if (page && usable(s, answer) && etcd_take_page(page, answer->body, answer->size) == 0 &&
	    plan_prune(s, page) < 0)
		buf_clear(&s->prune);
	if (page)
		etcd_page_fini(page);
	free(page);
	pump(s);
}

static int list_oldest(struct store_etcd *s)
{
	static const struct etcd_range range = {.space = "nonce/",
	    .from = "",
	    .to = "",
	    .limit = ETCD_PRUNE_MAX,
	    .keys_only = true,
	    .oldest_first = true};
	_cleanup_buf_ struct buf body = {0};
	int r = etcd_put_range(&body, s->prefix, &range);

	return r == 0 ? post(s, "/v3/kv/range", &body, 4 * ATTEMPT_MS, listed) : r;
}

/* --- looks --- */

static bool is_member(const struct store_etcd *s, uint64_t id)
{
	for (size_t i = 0; i < s->members.count; i++) {
		if (s->members.member[i].id == id)
			return true;
	}
	return false;
}

static void took_members(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;

	s->call = NULL;
	s->members_due = false;
	if (usable(s, answer))
		(void)etcd_take_members(&s->members, answer->body, answer->size);
	set_leader(s, s->leads); /* without a name if need be */
	pump(s);
}

static void took_status(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;
	struct etcd_status status = {0};

	s->call = NULL;
	s->status_due = false;
	if (usable(s, answer) && etcd_take_status(&status, answer->body, answer->size) == 0) {
		s->leads = status.leader;
		s->members_due = s->leads && !is_member(s, s->leads);
		if (!s->members_due)
			set_leader(s, s->leads);
	}
	pump(s);
}

/* A watch that is silent about what is there for long is given up. */
static void check_watch(struct store_etcd *s, uint64_t newest)
{
	bool mute =
	    s->looked > s->told && mono_due(mono_add_ms(s->watch_since, MUTE_MS), mono_now());

	if (s->watch && mute) {
		complain(s, s->config.endpoint[s->watch_at], "its watch is mute");
		s->watch = https_cancel(s->watch);
		s->watch_at = (s->watch_at + 1) % s->config.count;
		s->told = 0;
	}
	s->looked = newest;
}

static void looked(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;
	struct etcd_page *page = calloc(1, sizeof(*page));

	s->call = NULL;
	s->next_look = mono_add_ms(mono_now(), LOOK_MS);
	if (page && usable(s, answer) && etcd_take_page(page, answer->body, answer->size) == 0) {
		served(s, page->revision);
		s->status_due = true;
		check_watch(s, page->count == 1 ? page->entry[0].revision : 0);
	}
	if (page)
		etcd_page_fini(page);
	free(page);
	pump(s);
}

static int look(struct store_etcd *s)
{
	static const struct etcd_range range = {.space = "last", .from = ""};
	_cleanup_buf_ struct buf body = {0};
	int r = etcd_put_range(&body, s->prefix, &range);

	return r == 0 ? post(s, "/v3/kv/range", &body, 2 * ATTEMPT_MS, looked) : r;
}

/* --- the watch --- */

static void hear(void *arg, uint64_t revision, char *keys)
{
	struct store_etcd *s = arg;
	char *save = NULL;

	see(s, revision);
	if (revision <= s->told)
		return;
	for (char *key = strtok_r(keys, "\n", &save); key; key = strtok_r(NULL, "\n", &save)) {
		if (store_key_valid(key))
			store_tell(&s->store, key, revision);
	}
	s->told = revision;
}

/* The first line says since when it hears; all that was before is looked at, unless it goes on where another ended. */
static bool heard(void *arg, const char *line, size_t size)
{
	struct store_etcd *s = arg;
	struct etcd_news news = {.event = hear, .arg = s};

	if (etcd_take_news(&news, line, size) < 0) {
		s->told = 0;
		return false;
	}
	if (news.compacted)
		s->told = 0;
	if (news.ended)
		return false;
	see(s, news.revision);
	if (news.created && news.revision < s->told)
		s->told = 0; /* it is behind, or was restored from a backup */
	if (news.created && s->told == 0) {
		s->told = news.revision;
		store_tell(&s->store, NULL, news.revision);
	}
	return true;
}

static void watch_ended(void *arg, const struct https_answer *answer)
{
	struct store_etcd *s = arg;
	char words[200];

	s->watch = NULL;
	if (answer->rc == 0 && answer->status != 200)
		etcd_take_error(words, answer->body, answer->size);
	else
		snprintf(words, sizeof(words), "%s", answer->why ? answer->why : "it ended");
	complain(s, s->config.endpoint[s->watch_at], words);
	if (answer->rc == -EMSGSIZE)
		s->told = 0;
	s->watch_at = (s->watch_at + 1) % s->config.count;
	s->next_watch = mono_add_ms(mono_now(), RETRY_MS);
	arm(s);
}

static void open_watch(struct store_etcd *s, struct mono now)
{
	_cleanup_buf_ struct buf body = {0};
	char url[ETCD_ENDPOINT_MAX + 64];
	struct https_post post = {
	    .url = url,
	    .limit = LINE_MAX_BYTES,
	    .line = heard,
	    .done = watch_ended,
	    .arg = s,
	};

	s->watch_since = now;
	s->next_watch = mono_add_ms(now, RETRY_MS);
	snprintf(url, sizeof(url), "%s/v3/watch", s->config.endpoint[s->watch_at]);
	if (etcd_put_watch(&body, s->prefix, s->told ? s->told + 1 : 0) < 0)
		return;
	post.body = body.data;
	post.size = body.size;
	if (https_post(s->https, &post, &s->watch) < 0)
		s->watch = NULL;
}

/* --- time --- */

static int ask_status(struct store_etcd *s)
{
	struct buf body = {.data = (uint8_t *)"{}", .size = 2};

	if (s->members_due)
		return post(s, "/v3/cluster/member/list", &body, 2 * ATTEMPT_MS, took_members);
	return post(s, "/v3/maintenance/status", &body, 2 * ATTEMPT_MS, took_status);
}

/* In the order of what others wait for; only forgetting goes first, or it would starve. */
static int ask_next(struct store_etcd *s, struct mono now)
{
	struct request *request = TAILQ_FIRST(&s->requests);

	if (!s->ready)
		return lay_floor(s);
	if (s->prune.size)
		return post(s, "/v3/kv/txn", &s->prune, 4 * ATTEMPT_MS, pruned);
	if (s->prune_due)
		return list_oldest(s);
	if (s->status_due && !s->leader)
		return ask_status(s);
	if (request)
		return ask(s, request);
	if (s->members_due || s->status_due)
		return ask_status(s);
	return mono_due(s->next_look, now) ? look(s) : 0;
}

static void pump(struct store_etcd *s)
{
	struct mono now = mono_now();

	expire(s, now);
	if (!s->call && mono_due(s->not_before, now) && ask_next(s, now) < 0)
		s->not_before = mono_add_ms(now, RETRY_MS);
	if (!s->watch && mono_due(s->next_watch, now))
		open_watch(s, now);
	arm(s);
}

static void arm(struct store_etcd *s)
{
	struct mono now = mono_now(), next = MONO_NEVER;
	struct request *request;
	bool idle = s->ready && TAILQ_EMPTY(&s->requests) && !s->prune_due && !s->prune.size &&
		    !s->members_due && !s->status_due;

	if (!s->call)
		next = idle && s->next_look.ns > s->not_before.ns ? s->next_look : s->not_before;
	if (!s->watch)
		next = mono_min(next, s->next_watch);
	TAILQ_FOREACH(request, &s->requests, link)
	next = mono_min(next, request->deadline);
	if (next.ns < now.ns)
		next = now;
	sd_event_source_set_time(
	    s->timer, mono_is_never(next) ? UINT64_MAX : (uint64_t)next.ns / 1000 + 1);
	sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
}

static int tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	pump(userdata);
	return 0;
}

/* --- the interface --- */

static struct request *request_new(struct store_etcd *s, enum ask ask, struct mono deadline,
    store_done *done, void *arg, int *error)
{
	struct request *request = NULL;

	*error = -EBUSY;
	if (s->pending < s->config.max_pending) {
		*error = -ENOMEM;
		request = calloc(1, sizeof(*request));
	}
	if (!request)
		return NULL;
	*request = (struct request){.ask = ask, .deadline = deadline, .done = done, .arg = arg};
	return request;
}

/* From the loop, so that no callback runs inside the call. */
static int enqueue(struct store_etcd *s, struct request *request)
{
	TAILQ_INSERT_TAIL(&s->requests, request, link);
	s->pending++;
	arm(s);
	return 0;
}

static int read_facts(struct store *store, enum ask ask, const char *key, const char *after,
    size_t limit, struct mono deadline, store_done *done, void *arg)
{
	struct store_etcd *s = (struct store_etcd *)store;
	int r;
	struct request *request = request_new(s, ask, deadline, done, arg, &r);

	if (!request)
		return r;
	request->limit = limit;
	request->key = strdup(key);
	request->after = strdup(after);
	if (request->key && request->after)
		return enqueue(s, request);
	request_free(request);
	return -ENOMEM;
}

static int etcd_get(
    struct store *store, const char *key, struct mono deadline, store_done *done, void *arg)
{
	return read_facts(store, ASK_GET, key, "", 1, deadline, done, arg);
}

static int etcd_scan(struct store *store, const char *prefix, const char *after, size_t limit,
    struct mono deadline, store_done *done, void *arg)
{
	return read_facts(store, ASK_SCAN, prefix, after, limit, deadline, done, arg);
}

static bool copy_ops(struct request *request, const struct store_txn *txn)
{
	request->ops = calloc(txn->count, sizeof(*request->ops));
	for (size_t i = 0; request->ops && i < txn->count; i++) {
		struct store_op *op = &request->ops[request->count++];
		size_t size = txn->ops[i].kind == STORE_PUT ? txn->ops[i].size : 0;

		*op = txn->ops[i];
		op->size = size;
		op->key = strdup(txn->ops[i].key);
		op->value = malloc(size + 1);
		if (!op->key || !op->value)
			return false;
		if (size)
			memcpy((void *)op->value, txn->ops[i].value, size);
	}
	return request->ops != NULL;
}

static int etcd_txn(struct store *store, const struct store_txn *txn, store_done *done, void *arg)
{
	struct store_etcd *s = (struct store_etcd *)store;
	int r;
	struct request *request = request_new(s, ASK_TXN, txn->deadline, done, arg, &r);

	if (!request)
		return r;
	if (!copy_ops(request, txn)) {
		request_free(request);
		return -ENOMEM;
	}
	request->nonce = store_nonce_or_next(&txn->nonce, &s->next_nonce);
	return enqueue(s, request);
}

static void etcd_close(struct store *store)
{
	struct store_etcd *s = (struct store_etcd *)store;
	struct request *request;

	https_free(s->https);
	while ((request = TAILQ_FIRST(&s->requests))) {
		TAILQ_REMOVE(&s->requests, request, link);
		request_free(request);
	}
	sd_event_source_disable_unref(s->timer);
	buf_fini(&s->prune);
	store_fini(store);
	free(s);
}

uint64_t store_etcd_revision(const struct store *store)
{
	return ((const struct store_etcd *)store)->seen;
}

static const struct store_class etcd_class = {
    .get = etcd_get,
    .txn = etcd_txn,
    .scan = etcd_scan,
    .close = etcd_close,
};

int store_etcd_open(struct store **out, const struct store_etcd_config *config)
{
	struct store_etcd *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->store.class = &etcd_class;
	s->config = *config;
	if (s->config.max_pending == 0)
		s->config.max_pending = 256;
	if (s->config.nonces == 0)
		s->config.nonces = STORE_NONCES;
	snprintf(s->prefix, sizeof(s->prefix), "depsys/%s/", config->cluster);
	TAILQ_INIT(&s->requests);
	r = getrandom(&s->next_nonce, sizeof(s->next_nonce), 0) < 0 ? -errno : 0;
	if (r == 0)
		r = sd_event_add_time(config->loop, &s->timer, MONO_CLOCK, 0, 1, tick, s);
	if (r >= 0)
		r = https_new(&s->https, config->loop, &s->config.files);
	if (r < 0) {
		sd_event_source_disable_unref(s->timer);
		free(s);
		return r;
	}
	*out = &s->store;
	return 0;
}
