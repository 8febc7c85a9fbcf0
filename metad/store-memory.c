/*
 * Store in memory: a sorted array of keys, a ring of recent nonces, and a line of requests.
 */
#include "metad/store-memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct item {
	char *key;
	void *value;
	size_t size;
	uint64_t version;
};

struct remembered {
	struct store_nonce nonce;
	uint64_t revision;
};

enum ask {
	ASK_GET,
	ASK_SCAN,
	ASK_TXN,
};

struct request {
	struct request *next;
	enum ask ask;
	struct client *client; /* NULL: closed, or answered before it is carried out */
	store_done *done;
	void *arg;
	char *key; /* get: the key; scan: the prefix */
	char *after;
	size_t limit;
	struct store_txn txn; /* with copies of its own */
	bool late;
};

struct client {
	struct store store;
	struct store_memory *memory;
	struct client *next;
};

struct store_memory {
	struct store_memory_config config;
	struct item *items;
	size_t count, capacity;
	uint64_t revision;
	struct remembered recent[STORE_NONCES];
	struct request *first, **last;
	size_t pending;
	struct client *clients;
};

/* The place of key, or where it belongs. */
static size_t find(const struct store_memory *memory, const char *key, bool *found)
{
	size_t low = 0, high = memory->count;

	*found = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(memory->items[middle].key, key);

		if (order == 0) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint64_t version_of(const struct store_memory *memory, const char *key)
{
	bool found;
	size_t i = find(memory, key, &found);

	return found ? memory->items[i].version : 0;
}

static void item_fini(struct item *item)
{
	free(item->key);
	free(item->value);
}

static void erase(struct store_memory *memory, const char *key)
{
	bool found;
	size_t i = find(memory, key, &found);

	if (!found)
		return;
	item_fini(&memory->items[i]);
	memory->count--;
	memmove(&memory->items[i], &memory->items[i + 1],
	    (memory->count - i) * sizeof(memory->items[0]));
}

/* Takes over the copy in item; room was made before. */
static void insert(struct store_memory *memory, struct item item)
{
	bool found;
	size_t i = find(memory, item.key, &found);

	if (found) {
		item_fini(&memory->items[i]);
	} else {
		assert(memory->count < memory->capacity);
		memmove(&memory->items[i + 1], &memory->items[i],
		    (memory->count - i) * sizeof(memory->items[0]));
		memory->count++;
	}
	memory->items[i] = item;
}

static int make_room(struct store_memory *memory, size_t more)
{
	size_t capacity = memory->capacity ? memory->capacity : 64;
	struct item *items;

	while (capacity < memory->count + more)
		capacity *= 2;
	if (capacity == memory->capacity)
		return 0;
	items = reallocarray(memory->items, capacity, sizeof(*items));
	if (!items)
		return -ENOMEM;
	memory->items = items;
	memory->capacity = capacity;
	return 0;
}

/* The revision of the transaction that carried this nonce; 0: not known. */
static uint64_t recall(const struct store_memory *memory, const struct store_nonce *nonce)
{
	for (size_t i = 0; store_nonce_set(nonce) && i < STORE_NONCES; i++) {
		if (memcmp(&memory->recent[i].nonce, nonce, sizeof(*nonce)) == 0)
			return memory->recent[i].revision;
	}
	return 0;
}

static bool matches(
    const struct store_memory *memory, const struct store_txn *txn, struct store_reply *reply)
{
	for (size_t i = 0; i < txn->count; i++) {
		uint64_t version = version_of(memory, txn->ops[i].key);

		if (txn->ops[i].expected == STORE_ANY || txn->ops[i].expected == version)
			continue;
		reply->rc = STORE_CONFLICT;
		reply->conflict = i;
		reply->conflict_version = version;
		return false;
	}
	return true;
}

static void hint_all(struct store_memory *memory, const struct store_txn *txn)
{
	for (size_t i = 0; i < txn->count; i++) {
		if (txn->ops[i].kind == STORE_CHECK)
			continue;
		for (struct client *c = memory->clients; c; c = c->next)
			store_tell(&c->store, txn->ops[i].key, memory->revision);
	}
}

/* The values of txn move into the database; it is not to be used again after this but for keys. */
static void apply(struct store_memory *memory, struct store_txn *txn)
{
	struct store_op *ops = (struct store_op *)txn->ops;

	memory->revision++;
	memory->recent[memory->revision % STORE_NONCES] =
	    (struct remembered){txn->nonce, memory->revision};
	for (size_t i = 0; i < txn->count; i++) {
		if (ops[i].kind == STORE_PUT) {
			char *key = strdup(ops[i].key);

			assert(key); /* half a transaction is worse than none */
			insert(memory, (struct item){key, (void *)ops[i].value, ops[i].size,
					   memory->revision});
			ops[i].value = NULL;
		} else if (ops[i].kind == STORE_DELETE) {
			erase(memory, ops[i].key);
		}
	}
}

/* Returns whether the state changed. */
static bool run_txn(struct store_memory *memory, struct store_txn *txn, struct store_reply *reply)
{
	reply->revision = recall(memory, &txn->nonce);
	if (reply->revision || !matches(memory, txn, reply))
		return false;
	reply->rc = make_room(memory, txn->count);
	if (reply->rc < 0)
		return false;
	apply(memory, txn);
	reply->revision = memory->revision;
	return true;
}

static void answer(struct request *request, const struct store_reply *reply)
{
	if (request->client && request->done)
		request->done(request->arg, reply);
	request->done = NULL;
}

static void enqueue(struct store_memory *memory, struct request *request)
{
	request->next = NULL;
	*memory->last = request;
	memory->last = &request->next;
	memory->pending++;
}

static struct request *request_free(struct request *request)
{
	if (!request)
		return NULL;
	for (size_t i = 0; i < request->txn.count; i++) {
		free((void *)request->txn.ops[i].key);
		free((void *)request->txn.ops[i].value);
	}
	free((void *)request->txn.ops);
	free(request->key);
	free(request->after);
	free(request);
	return NULL;
}

/* Returns the request if it is not finished with. */
static struct request *step_txn(struct store_memory *memory, struct request *request)
{
	enum store_fate fate = STORE_FATE_NORMAL;
	struct store_reply reply = {0}, unknown = {.rc = STORE_UNKNOWN};
	bool changed = false;

	if (memory->config.fate && !request->late)
		fate = memory->config.fate(memory->config.arg, &request->txn);
	if (fate == STORE_FATE_UNKNOWN_LATE) {
		request->late = true;
		enqueue(memory, request);
		answer(request, &unknown);
		return NULL;
	}
	if (fate == STORE_FATE_NORMAL || fate == STORE_FATE_UNKNOWN_APPLIED)
		changed = run_txn(memory, &request->txn, &reply);
	if (fate == STORE_FATE_UNREACHABLE)
		reply.rc = -ETIMEDOUT;
	answer(request, fate >= STORE_FATE_UNKNOWN_LOST ? &unknown : &reply);
	if (changed)
		hint_all(memory, &request->txn);
	return request;
}

static void step_get(struct store_memory *memory, struct request *request)
{
	struct store_entry entry = {.key = request->key};
	bool found;
	size_t i = find(memory, request->key, &found);

	if (found) {
		entry.version = memory->items[i].version;
		entry.value = memory->items[i].value;
		entry.size = memory->items[i].size;
	}
	answer(request,
	    &(struct store_reply){.revision = memory->revision, .entries = &entry, .count = 1});
}

static void step_scan(struct store_memory *memory, struct request *request)
{
	struct store_entry entries[STORE_PAGE_MAX];
	struct store_reply reply = {.revision = memory->revision, .entries = entries};
	size_t bytes = 0;
	bool found;

	for (size_t i = find(memory, request->key, &found); i < memory->count; i++) {
		const struct item *item = &memory->items[i];

		if (strncmp(item->key, request->key, strlen(request->key)) != 0)
			break;
		if (strcmp(item->key, request->after) <= 0)
			continue;
		if (reply.count == request->limit || bytes > STORE_PAGE_BYTES - STORE_VALUE_MAX) {
			reply.more = true;
			break;
		}
		entries[reply.count++] =
		    (struct store_entry){item->key, item->version, item->value, item->size};
		bytes += item->size;
	}
	answer(request, &reply);
}

bool store_memory_step(struct store_memory *memory)
{
	struct request *request = memory->first;

	if (!request)
		return false;
	memory->first = request->next;
	if (!memory->first)
		memory->last = &memory->first;
	memory->pending--;
	if (request->ask == ASK_TXN)
		request = step_txn(memory, request);
	else if (request->ask == ASK_GET)
		step_get(memory, request);
	else
		step_scan(memory, request);
	request_free(request);
	return true;
}

size_t store_memory_run(struct store_memory *memory, size_t limit)
{
	size_t steps = 0;

	while (steps < limit && store_memory_step(memory))
		steps++;
	return steps;
}

size_t store_memory_pending(const struct store_memory *memory)
{
	return memory->pending;
}

uint64_t store_memory_revision(const struct store_memory *memory)
{
	return memory->revision;
}

static int request_new(
    struct request **out, struct store *store, enum ask ask, store_done *done, void *arg)
{
	struct client *client = (struct client *)store;
	struct request *request;

	if (client->memory->pending >= client->memory->config.max_pending)
		return -EBUSY;
	request = calloc(1, sizeof(*request));
	if (!request)
		return -ENOMEM;
	request->ask = ask;
	request->client = client;
	request->done = done;
	request->arg = arg;
	*out = request;
	return 0;
}

static int memory_get(
    struct store *store, const char *key, struct mono deadline, store_done *done, void *arg)
{
	struct request *request;
	int r = request_new(&request, store, ASK_GET, done, arg);

	(void)deadline;
	if (r < 0)
		return r;
	request->key = strdup(key);
	if (!request->key) {
		request_free(request);
		return -ENOMEM;
	}
	enqueue(request->client->memory, request);
	return 0;
}

static int memory_scan(struct store *store, const char *prefix, const char *after, size_t limit,
    struct mono deadline, store_done *done, void *arg)
{
	struct request *request;
	int r = request_new(&request, store, ASK_SCAN, done, arg);

	(void)deadline;
	if (r < 0)
		return r;
	request->key = strdup(prefix);
	request->after = strdup(after);
	request->limit = limit;
	if (!request->key || !request->after) {
		request_free(request);
		return -ENOMEM;
	}
	enqueue(request->client->memory, request);
	return 0;
}

static int copy_op(struct store_op *to, const struct store_op *from)
{
	*to = *from;
	to->value = NULL;
	to->key = strdup(from->key);
	if (!to->key)
		return -ENOMEM;
	if (from->kind != STORE_PUT) {
		to->size = 0;
		return 0;
	}
	to->value = malloc(from->size ? from->size : 1);
	if (!to->value)
		return -ENOMEM;
	if (from->size)
		memcpy((void *)to->value, from->value, from->size);
	return 0;
}

static int memory_txn(struct store *store, const struct store_txn *txn, store_done *done, void *arg)
{
	struct request *request;
	struct store_op *ops;
	int r = request_new(&request, store, ASK_TXN, done, arg);

	if (r < 0)
		return r;
	ops = calloc(txn->count, sizeof(*ops));
	if (!ops) {
		request_free(request);
		return -ENOMEM;
	}
	request->txn = *txn;
	request->txn.ops = ops;
	for (size_t i = 0; i < txn->count; i++) {
		r = copy_op(&ops[i], &txn->ops[i]);
		if (r < 0) {
			request_free(request);
			return r;
		}
	}
	enqueue(request->client->memory, request);
	return 0;
}

/* What the client submitted is still carried out, as a real engine would; nobody is told. */
static void memory_close(struct store *store)
{
	struct client *client = (struct client *)store;
	struct store_memory *memory = client->memory;

	for (struct request *r = memory->first; r; r = r->next) {
		if (r->client == client)
			r->client = NULL;
	}
	for (struct client **link = &memory->clients; *link; link = &(*link)->next) {
		if (*link == client) {
			*link = client->next;
			break;
		}
	}
	store_fini(store);
	free(client);
}

static const struct store_class memory_class = {
    .get = memory_get,
    .txn = memory_txn,
    .scan = memory_scan,
    .close = memory_close,
};

int store_memory_open(struct store_memory *memory, struct store **out)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	client->store.class = &memory_class;
	client->memory = memory;
	client->next = memory->clients;
	memory->clients = client;
	*out = &client->store;
	return 0;
}

int store_memory_new(struct store_memory **out, const struct store_memory_config *config)
{
	struct store_memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return -ENOMEM;
	if (config)
		memory->config = *config;
	if (memory->config.max_pending == 0)
		memory->config.max_pending = 1024;
	memory->last = &memory->first;
	*out = memory;
	return 0;
}

struct store_memory *store_memory_free(struct store_memory *memory)
{
	struct request *request;

	if (!memory)
		return NULL;
	assert(!memory->clients);
	while ((request = memory->first)) {
		memory->first = request->next;
		request_free(request);
	}
	for (size_t i = 0; i < memory->count; i++)
		item_fini(&memory->items[i]);
	free(memory->items);
	free(memory);
	return NULL;
}
