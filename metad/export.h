/*
 * All facts as a text, each hour: what is left when the stores of too many voters are lost, and what can be read without one.
 *
 * JSON lines.  The first is {"format":"depsys-facts-1","cluster":C,"node":N,"time":UTC}, then one for each fact in the order
 * of keys, {"key":K,"version":V,"value":BASE64}, and {"facts":COUNT,"revision":FROM,"to":TO} at the end, without which
 * the file was cut.  A value is a message of docs/messages.md in MessagePack.  FROM and TO are equal when all facts are of one
 * moment; a store that changes faster than it can be read gives the file that was tried last.
 *
 * Rejected: a copy of dqlite's files, which only the same version of dqlite on the same voters can use.
 */
#ifndef METAD_EXPORT_H
#define METAD_EXPORT_H

#include <limits.h>
#include <systemd/sd-event.h>

#include "metad/store.h"

struct export_config {
	sd_event *loop;
	struct store *store;
	const char *dir; /* made when it is not there; files facts-TIME.jsonl, mode 0600 */
	const char *cluster, *node;
	int64_t interval_ms;       /* 0: only when asked */
	bool (*wanted)(void *arg); /* of an interval that is over: is it for this node to do? */
	void *arg;
	unsigned keep; /* files; older ones are removed */
};

struct export_result {
	int rc; /* 0 or negative errno */
	const char *path;
	size_t facts;
	uint64_t from, to;
};

typedef void export_done(void *arg, const struct export_result *result);

struct export;

/* All is borrowed. */
int export_new(struct export **out, const struct export_config *config);
struct export *export_free(struct export *export);
/* Begins one now; -EBUSY when one is under way. */
int export_begin(struct export *export, export_done *done, void *arg);

#endif
