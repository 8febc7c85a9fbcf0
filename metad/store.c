/*
 * What all backends share: the limits, so that no backend can be laxer than another, and watches.
 */
#include "metad/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool key_bytes_valid(const char *key)
{
	size_t n;

	for (n = 0; key[n]; n++) {
		if (n == STORE_KEY_MAX || key[n] < '!' || key[n] > '~')
			return false;
	}
	return true;
}

bool store_key_valid(const char *key)
{
	return key && key[0] && key_bytes_valid(key);
}

bool store_nonce_set(const struct store_nonce *nonce)
{
	return nonce->word[0] || nonce->word[1];
}

struct store_nonce store_nonce_or_next(const struct store_nonce *nonce, struct store_nonce *next)
{
	struct store_nonce own = *next;

	if (store_nonce_set(nonce))
		return *nonce;
	next->word[1]++;
	return own;
}

static bool key_repeated(const struct store_txn *txn, size_t index)
{
	for (size_t i = 0; i < index; i++) {
		if (strcmp(txn->ops[i].key, txn->ops[index].key) == 0)
			return true;
	}
	return false;
}

static int check_op(const struct store_op *op)
{
	if (!store_key_valid(op->key))
		return -EINVAL;
	switch (op->kind) {
	case STORE_PUT:
		if (op->size > STORE_VALUE_MAX)
			return -EMSGSIZE;
		return op->size > 0 && !op->value ? -EINVAL : 0;
	case STORE_CHECK:
		return op->expected == STORE_ANY ? -EINVAL : 0;
	case STORE_DELETE:
		return 0;
	}
	return -EINVAL;
}

static int check_txn(const struct store_txn *txn)
{
	size_t total = 0;
	int r;

	if (txn->count == 0)
		return -EINVAL;
	if (txn->count > STORE_OPS_MAX)
		return -EMSGSIZE;
	for (size_t i = 0; i < txn->count; i++) {
		r = check_op(&txn->ops[i]);
		if (r < 0)
			return r;
		if (key_repeated(txn, i))
			return -EINVAL;
		total += txn->ops[i].kind == STORE_PUT ? txn->ops[i].size : 0;
	}
	return total > STORE_TXN_MAX ? -EMSGSIZE : 0;
}

int store_get(
    struct store *store, const char *key, struct mono deadline, store_done *done, void *arg)
{
	if (!store_key_valid(key))
		return -EINVAL;
	return store->class->get(store, key, deadline, done, arg);
}

int store_txn(struct store *store, const struct store_txn *txn, store_done *done, void *arg)
{
	int r = check_txn(txn);

	return r < 0 ? r : store->class->txn(store, txn, done, arg);
}

int store_scan(struct store *store, const char *prefix, const char *after, size_t limit,
    struct mono deadline, store_done *done, void *arg)
{
	if (!key_bytes_valid(prefix) || !key_bytes_valid(after) || limit == 0)
		return -EINVAL;
	if (limit > STORE_PAGE_MAX)
		return -EMSGSIZE;
	return store->class->scan(store, prefix, after, limit, deadline, done, arg);
}

int store_watch(
    struct store *store, const char *prefix, store_hint *hint, void *arg, struct store_watch **out)
{
	struct store_watch *watch;

	if (!key_bytes_valid(prefix))
		return -EINVAL;
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return -ENOMEM;
	watch->prefix = strdup(prefix);
	if (!watch->prefix) {
		free(watch);
		return -ENOMEM;
	}
	watch->hint = hint;
	watch->arg = arg;
	watch->next = store->watches;
	store->watches = watch;
	*out = watch;
	return 0;
}

static void sweep(struct store *store, bool all)
{
	struct store_watch **link = &store->watches, *watch;

	while ((watch = *link)) {
		if (!all && !watch->dead) {
			link = &watch->next;
			continue;
		}
		*link = watch->next;
		free(watch->prefix);
		free(watch);
	}
}

struct store_watch *store_unwatch(struct store *store, struct store_watch *watch)
{
	if (!watch)
		return NULL;
	watch->dead = true;
	if (store->hinting == 0)
		sweep(store, false);
	return NULL;
}

void store_tell(struct store *store, const char *key, uint64_t revision)
{
	store->hinting++;
	for (struct store_watch *w = store->watches; w; w = w->next) {
		if (!w->dead && (!key || strncmp(key, w->prefix, strlen(w->prefix)) == 0))
			w->hint(w->arg, key, revision);
	}
	if (--store->hinting == 0)
		sweep(store, false);
}

struct store *store_close(struct store *store)
{
	if (store)
		store->class->close(store);
	return NULL;
}

void store_fini(struct store *store)
{
	sweep(store, true);
}
