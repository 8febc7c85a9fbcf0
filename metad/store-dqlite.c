#include "metad/store-dqlite.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/log.h"
#include "common/rng.h"
#include "metad/dqlite-client.h"
#include "metad/schema.h"

#define DATABASE "depsys"
#define POLL_MS 1000
#define REDIAL_MS 200

enum ask {
	ASK_GET,
	ASK_SCAN,
	ASK_TXN,
};

/* What is asked next for a request. */
enum step {
	STEP_SUBMIT,
	STEP_RECALL,   /* the nonce is known: which revision was it? */
	STEP_FENCE,    /* a conflict, if the node leads */
	STEP_MISMATCH, /* which key, which version? */
};

struct request {
	struct request *next;
	enum ask ask;
	enum step step;
	store_done *done; /* NULL: answered already */
	void *arg;
	struct mono deadline;
	struct mono not_before; /* of the next attempt */
	/* get: key; scan: prefix, after */
	char *key, *after;
	size_t limit;
	/* txn */
	struct buf plan, body;
	struct store_nonce nonce;
	bool doubtful;  /* an attempt was sent and not answered */
	uint64_t floor; /* revision seen before the first attempt */
	char **keys;    /* that it changes */
	size_t key_count;
	/* the answer as it comes in; entries point into bytes once all is there */
	struct store_reply reply;
	struct buf bytes;
	struct store_entry *entries;
	size_t entry_room;
	bool full;
	bool nomem;
};

struct voter {
	struct store_dqlite *store;
	struct engine_voter who; /* id 0: this place is free */
	char name[64];
	struct dqlite_conn *conn;
	struct mono next_dial, next_ask;
};

/* How far the connection to the leader is. */
enum session {
	SESSION_OPEN,
	SESSION_SCHEMA,
	SESSION_PREPARE,
	SESSION_READY,
};

enum look {
	LOOK_RANGE,
	LOOK_CHANGES,
};

struct store_dqlite {
	struct store store;
	struct store_dqlite_config config;
	struct voter voters[VOTERS_MAX];
	struct voter *leader;
	enum session session;
	struct mono session_retry;
	uint32_t txn_statement; /* of the session */
	sd_event_source *timer;
	struct request *first, **last;
	size_t pending;
	bool asking;          /* the request at the head is with the leader */
	struct mono asked_at; /* when something was last sent to the leader */
	struct mono next_look;
	bool looking;
	enum look look;
	uint64_t seen; /* highest revision known */
	uint64_t told; /* changes up to this one were told to the watches */
	uint64_t look_to;
	int64_t range[2];
	size_t changes;
	struct store_nonce next_nonce;
	struct rng rng;
};

static void pump(struct store_dqlite *s);
static void arm(struct store_dqlite *s);

/* --- requests --- */

static struct request *request_free(struct request *request)
{
	if (!request)
		return NULL;
	for (size_t i = 0; i < request->key_count; i++)
		free(request->keys[i]);
	free(request->keys);
	free(request->key);
	free(request->after);
	free(request->entries);
	buf_fini(&request->plan);
	buf_fini(&request->body);
	buf_fini(&request->bytes);
	free(request);
	return NULL;
}

static void answer(struct request *request, const struct store_reply *reply)
{
	store_done *done = request->done;

	request->done = NULL;
	if (done)
		done(request->arg, reply);
}

static void answer_code(struct request *request, int rc)
{
	answer(request, &(struct store_reply){.rc = rc});
}

/* Takes the request at *link out of the line. */
static struct request *take(struct store_dqlite *s, struct request **link)
{
	struct request *request = *link;

	*link = request->next;
	if (s->last == &request->next)
		s->last = link;
	s->pending--;
	return request;
}

static void finish(struct store_dqlite *s, const struct store_reply *reply)
{
	struct request *request = take(s, &s->first); /* first: the callback may ask for more */

	answer(request, reply);
	request_free(request);
}

static void finish_code(struct store_dqlite *s, int rc)
{
	finish(s, &(struct store_reply){.rc = rc});
}

/* The request at the head is to be asked again from its first step. */
static void again(struct store_dqlite *s, unsigned delay_ms)
{
	struct request *request = s->first;

	request->step = STEP_SUBMIT;
	request->not_before = mono_add_ms(mono_now(), delay_ms);
}

static void see(struct store_dqlite *s, uint64_t revision)
{
	if (revision > s->seen)
		s->seen = revision;
}

/* --- the leader --- */

static void set_leader(struct store_dqlite *s, struct voter *leader)
{
	s->leader = leader;
	s->session = SESSION_OPEN;
	s->session_retry = MONO_ZERO;
	if (s->config.leader)
		s->config.leader(s->config.arg, leader ? leader->who.id : 0);
}

/* The request at the head had been sent and its answer is lost. */
static void interrupted(struct store_dqlite *s)
{
	struct request *request = s->first;

	s->looking = false;
	if (!s->asking)
		return;
	s->asking = false;
	if (!request->done) {
		request_free(take(s, &s->first));
		return;
	}
	if (request->ask == ASK_TXN && request->step == STEP_SUBMIT)
		request->doubtful = true;
	again(s, 0);
}

/* delay_ms: before it is dialled again. */
static void disconnect(struct voter *voter, unsigned delay_ms)
{
	struct store_dqlite *s = voter->store;

	voter->conn = dqlite_conn_free(voter->conn);
	voter->next_dial = mono_add_ms(mono_now(), delay_ms);
	if (s->leader == voter) {
		interrupted(s);
		set_leader(s, NULL);
	}
}

static void lost(void *arg)
{
	struct voter *voter = arg;

	disconnect(voter, REDIAL_MS);
	arm(voter->store);
}

/* Is an answer of the leader overdue, so that another may lead by now? */
static bool in_doubt(const struct store_dqlite *s, struct mono now)
{
	if (!s->leader || !dqlite_conn_busy(s->leader->conn))
		return false;
	return mono_due(mono_add_ms(s->asked_at, 10 * s->config.latency_ms), now);
}

static void told_leader(void *arg, const struct dqlite_answer *what)
{
	struct voter *voter = arg;
	struct store_dqlite *s = voter->store;

	if (what->rc < 0) {
		disconnect(voter, REDIAL_MS);
		arm(s);
		return;
	}
	voter->next_ask = mono_add_ms(mono_now(), s->config.latency_ms);
	if (what->rc == 0 && what->leader == voter->who.id && voter != s->leader) {
		if (s->leader)
			disconnect(s->leader, REDIAL_MS);
		set_leader(s, voter);
	}
	pump(s);
}

static void dial(struct voter *voter, struct mono now)
{
	const struct store_dqlite_config *config = &voter->store->config;
	int fd, r;

	voter->next_dial = mono_add_ms(now, REDIAL_MS);
	r = config->dial(config->arg, voter->who.name, &fd);
	if (r < 0)
		return;
	r = dqlite_conn_new(&voter->conn, config->loop, fd, lost, voter);
	if (r < 0)
		log_warning("connect to voter=%s: %s", voter->who.name, strerror(-r));
	voter->next_ask = now;
}

/* Keeps a connection to each voter; asks them while no leader is known or the known one is mute. */
static void seek(struct store_dqlite *s, struct mono now)
{
	bool ask = !s->leader || in_doubt(s, now);

	for (size_t i = 0; i < VOTERS_MAX; i++) {
		struct voter *voter = &s->voters[i];

		if (!voter->who.id)
			continue;
		if (!voter->conn && mono_due(voter->next_dial, now))
			dial(voter, now);
		if (ask && voter->conn && voter != s->leader && !dqlite_conn_busy(voter->conn) &&
		    mono_due(voter->next_ask, now) &&
		    dqlite_conn_leader(voter->conn, told_leader, voter) < 0)
			disconnect(voter, REDIAL_MS);
	}
}

static struct voter *place_of(struct store_dqlite *s, uint64_t id)
{
	for (size_t i = 0; i < VOTERS_MAX; i++) {
		if (s->voters[i].who.id == id)
			return &s->voters[i];
	}
	return NULL;
}

/* A voter keeps its place, because its connection knows it. */
void store_dqlite_set_voters(struct store *store, const struct engine_voter *voters, size_t count)
{
	struct store_dqlite *s = (struct store_dqlite *)store;

	assert(count > 0 && count <= VOTERS_MAX);
	for (size_t i = 0; i < VOTERS_MAX; i++) {
		struct voter *voter = &s->voters[i];

		if (voter->who.id && !engine_voter_find(voters, count, voter->who.id)) {
			disconnect(voter, 0);
			voter->who.id = 0;
		}
	}
	for (size_t i = 0; i < count; i++) {
		struct voter *voter = place_of(s, voters[i].id);

		if (voter)
			continue;
		voter = place_of(s, 0);
		*voter = (struct voter){.store = s};
		snprintf(voter->name, sizeof(voter->name), "%s", voters[i].name);
		voter->who = (struct engine_voter){voters[i].id, voter->name};
	}
	arm(s);
}

/* What an answer means for the session; false: the leader was given up. */
static bool still_leads(struct store_dqlite *s, const struct dqlite_answer *what)
{
	switch (what->rc) {
	case 0:
	case DQLITE_BUSY:
	case DQLITE_CONSTRAINT:
	case DQLITE_NOSPACE:
		return true;
	case DQLITE_NOT_LEADER:
	case DQLITE_NOTFOUND: /* it stepped down and closed our database */
	case DQLITE_LEADERSHIP_LOST:
		disconnect(s->leader, 0);
		return false;
	default:
		if (what->rc > 0)
			log_info("store answered code=%d message=\"%s\"", what->rc, what->message);
		disconnect(s->leader, REDIAL_MS);
		return false;
	}
}

/* --- the session --- */

static void opened(void *arg, const struct dqlite_answer *what)
{
	struct store_dqlite *s = arg;

	if (still_leads(s, what)) {
		s->txn_statement = what->statement;
		if (what->rc == 0)
			s->session++;
		else
			s->session_retry =
			    mono_add_ms(mono_now(), what->rc == DQLITE_NOSPACE ? REDIAL_MS : 5);
	}
	pump(s);
}

static int open_session(struct store_dqlite *s)
{
	struct dqlite_conn *conn = s->leader->conn;

	if (s->session == SESSION_OPEN)
		return dqlite_conn_open(conn, DATABASE, opened, s);
	if (s->session == SESSION_SCHEMA)
		return dqlite_conn_exec(conn, schema_sql, NULL, 0, opened, s);
	return dqlite_conn_prepare(conn, txn_sql, opened, s);
}

/* --- hints --- */

static void take_range(void *arg, const struct wire_value *values, size_t columns)
{
	struct store_dqlite *s = arg;

	if (columns == 2) {
		s->range[0] = values[0].integer;
		s->range[1] = values[1].integer;
	}
}

static void take_change(void *arg, const struct wire_value *values, size_t columns)
{
	struct store_dqlite *s = arg;

	if (columns == 2 && values[1].type == WIRE_TEXT && s->changes++ < 255)
		store_tell(&s->store, values[1].text, (uint64_t)values[0].integer);
}

static void told_up_to(struct store_dqlite *s, uint64_t revision, bool missed)
{
	if (missed)
		store_tell(&s->store, NULL, revision);
	s->told = revision;
	s->look = LOOK_RANGE;
	s->next_look = mono_add_ms(mono_now(), POLL_MS);
}

static void looked_range(struct store_dqlite *s)
{
	uint64_t oldest = (uint64_t)s->range[0], newest = (uint64_t)s->range[1];

	see(s, newest);
	if (newest > s->told && oldest <= s->told + 1 && s->told > 0) {
		s->look = LOOK_CHANGES;
		s->look_to = newest;
		s->next_look = MONO_ZERO;
		return;
	}
	told_up_to(s, newest > s->told ? newest : s->told, newest > s->told);
}

static void looked(void *arg, const struct dqlite_answer *what)
{
	struct store_dqlite *s = arg;

	s->looking = false;
	s->next_look = mono_add_ms(mono_now(), POLL_MS);
	if (still_leads(s, what) && what->rc == 0) {
		if (s->look == LOOK_RANGE)
			looked_range(s);
		else
			told_up_to(s, s->look_to, s->changes >= 256);
	}
	pump(s);
}

static int look(struct store_dqlite *s)
{
	struct wire_value bounds[2] = {
	    {.type = WIRE_INTEGER, .integer = (int64_t)s->told},
	    {.type = WIRE_INTEGER, .integer = (int64_t)s->look_to},
	};

	s->looking = true;
	s->changes = 0;
	if (s->look == LOOK_RANGE)
		return dqlite_conn_query(
		    s->leader->conn, range_sql, NULL, 0, take_range, looked, s);
	return dqlite_conn_query(s->leader->conn, changes_sql, bounds, 2, take_change, looked, s);
}

void store_dqlite_changed(
    struct store *store, uint64_t revision, const char *const *keys, size_t count)
{
	struct store_dqlite *s = (struct store_dqlite *)store;

	see(s, revision);
	if (revision <= s->told)
		return;
	for (size_t i = 0; i < count; i++)
		store_tell(store, keys[i], revision);
	if (revision == s->told + 1) {
		s->told = revision;
		return;
	}
	s->next_look = MONO_ZERO;
	pump(s);
}

uint64_t store_dqlite_revision(const struct store *store)
{
	return ((const struct store_dqlite *)store)->seen;
}

/* --- answers to requests --- */

/* Who asked comes first: each of the others wakes a process, which takes the processor from the answer. */
static void applied(struct store_dqlite *s, uint64_t revision)
{
	struct request *request = take(s, &s->first);

	see(s, revision);
	answer(request, &(struct store_reply){.revision = revision});
	for (size_t i = 0; i < request->key_count; i++)
		store_tell(&s->store, request->keys[i], revision);
	if (revision == s->told + 1)
		s->told = revision;
	if (s->config.applied)
		s->config.applied(s->config.arg, revision, (const char *const *)request->keys,
		    request->key_count);
	request_free(request);
}

static void txn_refused(struct store_dqlite *s, const char *message)
{
	struct request *request = s->first;

	if (strcmp(message, "conflict") == 0)
		request->step = STEP_FENCE;
	else if (strstr(message, "txn.nonce"))
		request->step = STEP_RECALL;
	else
		finish_code(s, -EIO);
}

static void txn_answered(struct store_dqlite *s, const struct dqlite_answer *what)
{
	struct request *request = s->first;

	switch (request->step) {
	case STEP_SUBMIT:
		if (what->changed)
			applied(s, what->last_insert_id);
		else
			finish_code(s, STORE_UNKNOWN); /* its nonce may be forgotten */
		break;
	case STEP_RECALL:
		if (request->reply.revision)
			applied(s, request->reply.revision);
		else
			again(s, 0);
		break;
	case STEP_FENCE:
		request->step = STEP_MISMATCH;
		break;
	case STEP_MISMATCH:
		if (request->reply.rc == STORE_CONFLICT)
			finish(s, &request->reply);
		else
			again(s, 0); /* the conflict was an old leader's */
		break;
	}
}

static void place_entries(struct request *request)
{
	const char *at = (const char *)request->bytes.data;

	for (size_t i = 0; i < request->reply.count; i++) {
		struct store_entry *entry = &request->entries[i];

		entry->key = at;
		at += strlen(at) + 1;
		entry->value = at;
		at += entry->size;
	}
	request->reply.entries = request->entries;
}

static void read_answered(struct store_dqlite *s)
{
	struct request *request = s->first;
	struct store_reply *reply = &request->reply;

	if (request->nomem) {
		finish_code(s, -ENOMEM);
		return;
	}
	see(s, reply->revision);
	if (reply->revision == 0)
		reply->revision = s->seen; /* an empty page tells none */
	place_entries(request);
	finish(s, reply);
}

/* The answer to the request at the head. */
static void answered(void *arg, const struct dqlite_answer *what)
{
	struct store_dqlite *s = arg;
	struct request *request = s->first;
	bool refused = what->rc == DQLITE_NOT_LEADER || what->rc == DQLITE_NOTFOUND;

	if (what->rc > 0 && (refused || what->rc == DQLITE_BUSY || what->rc == DQLITE_CONSTRAINT))
		s->asking = false; /* it surely did not happen */
	if (still_leads(s, what)) {
		s->asking = false;
		if (!request->done)
			request_free(take(s, &s->first));
		else if (what->rc == DQLITE_BUSY)
			again(s, 1 + (unsigned)rng_below(&s->rng, 4));
		else if (what->rc == DQLITE_CONSTRAINT)
			txn_refused(s, what->message);
		else if (what->rc == DQLITE_NOSPACE)
			finish_code(s, request->doubtful ? STORE_UNKNOWN : -ENOSPC);
		else if (request->ask == ASK_TXN)
			txn_answered(s, what);
		else
			read_answered(s);
	} else if (refused && request->done) {
		again(s, 0);
	} else if (refused) {
		request_free(take(s, &s->first));
	}
	pump(s);
}

static int add_entry(struct request *request, const struct wire_value *key, uint64_t version,
    const struct wire_value *value)
{
	struct store_entry *entries;
	size_t room = request->entry_room ? request->entry_room * 2 : 16;

	if (request->reply.count == request->entry_room) {
		entries = reallocarray(request->entries, room, sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		request->entries = entries;
		request->entry_room = room;
	}
	if (buf_append(&request->bytes, key->text, key->size + 1) < 0 ||
	    buf_append(&request->bytes, value->blob, value->size) < 0)
		return -ENOMEM;
	request->entries[request->reply.count++] =
	    (struct store_entry){.version = version, .size = value->size};
	return 0;
}

/* A row of get or scan: revision, key, version, value. */
static void take_entry(void *arg, const struct wire_value *values, size_t columns)
{
	struct request *request = ((struct store_dqlite *)arg)->first;
	const struct wire_value *value = &values[3];
	bool absent = values[2].type == WIRE_NULL;

	if (columns != 4 || values[1].type != WIRE_TEXT || request->full)
		return;
	request->reply.revision = (uint64_t)values[0].integer;
	if (request->reply.count == request->limit || (!absent && value->type != WIRE_BLOB)) {
		request->reply.more = request->full = true;
		return;
	}
	if (add_entry(request, &values[1], (uint64_t)values[2].integer, value) < 0)
		request->nomem = true;
}

static void take_recall(void *arg, const struct wire_value *values, size_t columns)
{
	struct request *request = ((struct store_dqlite *)arg)->first;

	if (columns == 1)
		request->reply.revision = (uint64_t)values[0].integer;
}

static void take_mismatch(void *arg, const struct wire_value *values, size_t columns)
{
	struct request *request = ((struct store_dqlite *)arg)->first;

	if (columns != 2)
		return;
	request->reply.rc = STORE_CONFLICT;
	request->reply.conflict = (size_t)values[0].integer;
	request->reply.conflict_version = (uint64_t)values[1].integer;
}

/* --- asking --- */

static int submit_txn(struct store_dqlite *s, struct request *request)
{
	struct wire_value values[4] = {
	    wire_blob(&request->nonce, sizeof(request->nonce)),
	    wire_text((const char *)request->plan.data),
	    wire_blob(request->body.data, request->body.size),
	    wire_number(INT64_MAX),
	};

	if (request->doubtful)
		values[3].integer = (int64_t)request->floor + STORE_NONCES;
	else
		request->floor = s->seen;
	return dqlite_conn_run(s->leader->conn, s->txn_statement, values, 4, answered, s);
}

static int ask_txn(struct store_dqlite *s, struct request *request)
{
	struct dqlite_conn *conn = s->leader->conn;
	struct wire_value value;

	switch (request->step) {
	case STEP_SUBMIT:
		return submit_txn(s, request);
	case STEP_RECALL:
		value = wire_blob(&request->nonce, sizeof(request->nonce));
		return dqlite_conn_query(conn, recall_sql, &value, 1, take_recall, answered, s);
	case STEP_FENCE:
		return dqlite_conn_exec(conn, fence_sql, NULL, 0, answered, s);
	case STEP_MISMATCH:
		value = wire_text((const char *)request->plan.data);
		return dqlite_conn_query(conn, mismatch_sql, &value, 1, take_mismatch, answered, s);
	}
	return -EINVAL;
}

static int ask_scan(struct store_dqlite *s, struct request *request)
{
	char behind[STORE_KEY_MAX + 2];
	struct wire_value values[5];

	/* Keys are printable, so 0x7f sorts behind all that begin with the prefix. */
	snprintf(behind, sizeof(behind), "%s\x7f", request->key);
	values[0] = wire_text(request->after);
	values[1] = wire_text(request->key);
	values[2] = wire_text(behind);
	values[3] = wire_number((int64_t)request->limit + 1);
	values[4] = wire_number(STORE_PAGE_BYTES - STORE_VALUE_MAX);
	return dqlite_conn_query(s->leader->conn, scan_sql, values, 5, take_entry, answered, s);
}

static int ask(struct store_dqlite *s, struct request *request)
{
	struct wire_value key;

	s->asking = true;
	request->reply = (struct store_reply){0};
	request->full = request->nomem = false;
	buf_clear(&request->bytes);
	if (request->ask == ASK_TXN)
		return ask_txn(s, request);
	if (request->ask == ASK_SCAN)
		return ask_scan(s, request);
	key = wire_text(request->key);
	return dqlite_conn_query(s->leader->conn, get_sql, &key, 1, take_entry, answered, s);
}

/* One thing at a time is asked of the leader: the session, then requests in turn, then a look. */
static int ask_next(struct store_dqlite *s, struct mono now)
{
	if (s->session != SESSION_READY)
		return mono_due(s->session_retry, now) ? open_session(s) : 0;
	if (s->first && mono_due(s->first->not_before, now))
		return ask(s, s->first);
	if (mono_due(s->next_look, now))
		return look(s);
	return 0;
}

static void expire(struct store_dqlite *s, struct mono now)
{
	for (struct request **link = &s->first; *link;) {
		struct request *request = *link;
		bool sent = s->asking && link == &s->first;
		bool doubt = request->doubtful || (sent && request->step == STEP_SUBMIT);

		if (!request->done || !mono_due(request->deadline, now)) {
			link = &request->next;
			continue;
		}
		answer_code(request, request->ask == ASK_TXN && doubt ? STORE_UNKNOWN : -ETIMEDOUT);
		if (sent)
			link = &request->next; /* its answer is still to come */
		else
			request_free(take(s, link));
	}
}

static void pump(struct store_dqlite *s)
{
	struct mono now = mono_now();

	expire(s, now);
	seek(s, now);
	if (s->leader && !dqlite_conn_busy(s->leader->conn)) {
		s->asked_at = now;
		if (ask_next(s, now) < 0)
			disconnect(s->leader, REDIAL_MS);
	}
	arm(s);
}

/* --- time --- */

static struct mono next_for_voters(const struct store_dqlite *s, struct mono now)
{
	bool asking = !s->leader || in_doubt(s, now);
	struct mono next = MONO_NEVER;

	for (size_t i = 0; i < VOTERS_MAX; i++) {
		const struct voter *voter = &s->voters[i];

		if (!voter->who.id)
			continue;
		if (!voter->conn)
			next = mono_min(next, voter->next_dial);
		else if (asking && voter != s->leader && !dqlite_conn_busy(voter->conn))
			next = mono_min(next, voter->next_ask);
	}
	return next;
}

static struct mono next_for_leader(const struct store_dqlite *s)
{
	if (!s->leader)
		return MONO_NEVER;
	if (dqlite_conn_busy(s->leader->conn))
		return mono_add_ms(s->asked_at, 10 * s->config.latency_ms);
	if (s->session != SESSION_READY)
		return s->session_retry;
	return s->first ? mono_min(s->first->not_before, s->next_look) : s->next_look;
}

static void arm(struct store_dqlite *s)
{
	struct mono now = mono_now(), next = next_for_voters(s, now);
	struct mono leader = next_for_leader(s);

	if (!in_doubt(s, now))
		next = mono_min(next, leader);
	for (struct request *r = s->first; r; r = r->next)
		next = r->done ? mono_min(next, r->deadline) : next;
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

static int request_new(struct request **out, struct store *store, enum ask ask,
    struct mono deadline, store_done *done, void *arg)
{
	struct store_dqlite *s = (struct store_dqlite *)store;
	struct request *request;

	if (s->pending >= s->config.max_pending)
		return -EBUSY;
	request = calloc(1, sizeof(*request));
	if (!request)
		return -ENOMEM;
	request->ask = ask;
	request->deadline = deadline;
	request->done = done;
	request->arg = arg;
	*out = request;
	return 0;
}

static int enqueue(struct store *store, struct request *request)
{
	struct store_dqlite *s = (struct store_dqlite *)store;

	*s->last = request;
	s->last = &request->next;
	s->pending++;
	/* From the loop, so that no callback runs inside the call. */
	if (s->first == request) {
		sd_event_source_set_time(s->timer, 0);
		sd_event_source_set_enabled(s->timer, SD_EVENT_ONESHOT);
	} else {
		arm(s);
	}
	return 0;
}

static int enqueue_read(struct store *store, enum ask ask, const char *key, const char *after,
    size_t limit, struct mono deadline, store_done *done, void *arg)
{
	struct request *request;
	int r = request_new(&request, store, ask, deadline, done, arg);

	if (r < 0)
		return r;
	request->limit = limit;
	request->key = strdup(key);
	request->after = strdup(after);
	if (!request->key || !request->after) {
		request_free(request);
		return -ENOMEM;
	}
	return enqueue(store, request);
}

static int dqlite_get(
    struct store *store, const char *key, struct mono deadline, store_done *done, void *arg)
{
	return enqueue_read(store, ASK_GET, key, "", 1, deadline, done, arg);
}

static int dqlite_scan(struct store *store, const char *prefix, const char *after, size_t limit,
    struct mono deadline, store_done *done, void *arg)
{
	return enqueue_read(store, ASK_SCAN, prefix, after, limit, deadline, done, arg);
}

static int plan_op(struct request *request, const struct store_op *op)
{
	static const char letters[] = {
	    [STORE_CHECK] = 'c', [STORE_PUT] = 'p', [STORE_DELETE] = 'd'};
	struct buf *plan = &request->plan;
	size_t size = op->kind == STORE_PUT ? op->size : 0;
	int64_t expected = op->expected > INT64_MAX ? INT64_MAX : (int64_t)op->expected;
	int r = buf_append(plan, plan->size > 1 ? ",[" : "[", plan->size > 1 ? 2 : 1);

	if (r == 0)
		r = buf_json(plan, op->key);
	if (r == 0)
		r = buf_printf(plan, ",%lld,\"%c\",%zu,%zu]",
		    op->expected == STORE_ANY ? -1LL : (long long)expected, letters[op->kind],
		    request->body.size, size);
	if (r == 0)
		r = buf_append(&request->body, op->value, size);
	if (r == 0 && op->kind != STORE_CHECK) {
		request->keys[request->key_count] = strdup(op->key);
		r = request->keys[request->key_count++] ? 0 : -ENOMEM;
	}
	return r;
}

static int plan_txn(struct request *request, const struct store_txn *txn)
{
	int r;

	request->keys = calloc(txn->count, sizeof(*request->keys));
	if (!request->keys)
		return -ENOMEM;
	r = buf_append(&request->plan, "[", 1);
	for (size_t i = 0; r == 0 && i < txn->count; i++)
		r = plan_op(request, &txn->ops[i]);
	if (r == 0)
		r = buf_append(&request->plan, "]", 2);
	/* One byte more, because SQLite takes a part of an empty blob for NULL. */
	return r == 0 ? buf_append(&request->body, "", 1) : r;
}

static int dqlite_txn(struct store *store, const struct store_txn *txn, store_done *done, void *arg)
{
	struct store_dqlite *s = (struct store_dqlite *)store;
	struct request *request;
	int r = request_new(&request, store, ASK_TXN, txn->deadline, done, arg);

	if (r < 0)
		return r;
	r = plan_txn(request, txn);
	if (r < 0) {
		request_free(request);
		return r;
	}
	request->nonce = store_nonce_or_next(&txn->nonce, &s->next_nonce);
	return enqueue(store, request);
}

static void dqlite_close(struct store *store)
{
	struct store_dqlite *s = (struct store_dqlite *)store;
	struct request *request;

	for (size_t i = 0; i < VOTERS_MAX; i++)
		dqlite_conn_free(s->voters[i].conn);
	while ((request = s->first)) {
		s->first = request->next;
		request_free(request);
	}
	sd_event_source_disable_unref(s->timer);
	store_fini(store);
	free(s);
}

static const struct store_class dqlite_class = {
    .get = dqlite_get,
    .txn = dqlite_txn,
    .scan = dqlite_scan,
    .close = dqlite_close,
};

int store_dqlite_open(struct store **out, const struct store_dqlite_config *config)
{
	struct store_dqlite *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->store.class = &dqlite_class;
	s->config = *config;
	if (s->config.max_pending == 0)
		s->config.max_pending = 256;
	s->last = &s->first;
	r = getrandom(&s->next_nonce, sizeof(s->next_nonce), 0) < 0 ? -errno : 0;
	rng_init(&s->rng, s->next_nonce.word[0]);
	if (r == 0)
		r = sd_event_add_time(config->loop, &s->timer, MONO_CLOCK, 0, 1, tick, s);
	if (r < 0) {
		free(s);
		return r;
	}
	store_dqlite_set_voters(&s->store, config->voters, config->count);
	*out = &s->store;
	return 0;
}
