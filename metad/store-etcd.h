/*
 * The store on etcd, by its JSON gateway over TLS with a client certificate (see etcd.h for what is kept there, https.h).
 *
 * One thing at a time is asked, of one endpoint until it fails, then of the next.  A transaction whose answer was lost is
 * submitted again under its nonce until the deadline, so UNKNOWN is left for when that comes first.  An answer that etcd is full
 * can come after the transaction was applied; the nonce, read again, tells.  A conflict after an attempt whose fate is open is
 * told only when its nonce was taken away from that attempt.
 *
 * All is linearizable, reads too.  Hints come from a watch on one small key that each transaction writes; when it breaks, another
 * goes on behind what was told; when that is compacted, or the watch says nothing of what a look each second found, all are told
 * to look.  No lease, lock or election of etcd is used.
 */
#ifndef METAD_STORE_ETCD_H
#define METAD_STORE_ETCD_H

#include "metad/etcd.h"
#include "metad/https.h"

#define ETCD_ENDPOINTS_MAX 7
#define ETCD_ENDPOINT_MAX 63

struct store_etcd_config {
	sd_event *loop;
	const char *cluster;
	char endpoint[ETCD_ENDPOINTS_MAX][ETCD_ENDPOINT_MAX + 1]; /* https://ADDRESS:PORT */
	size_t count;
	struct https_files files;
	size_t max_pending; /* requests under way; 0: 256 */
	size_t nonces;      /* kept; 0: STORE_NONCES */
	/* Another member leads; 0: none is known.  May be NULL. */
	void (*leader)(void *arg, uint64_t id, const char *name);
	void *arg;
};

int store_etcd_open(struct store **out, const struct store_etcd_config *config);
/* The highest revision seen. */
uint64_t store_etcd_revision(const struct store *store);

#endif
