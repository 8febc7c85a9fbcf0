/*
 * What the files of HTTP share: http.c (connections, loop, what MHD calls), exchange.c (a request and its answer),
 * admission.c (who may ask what).
 */
#ifndef WEBD_HTTP_INTERNAL_H
#define WEBD_HTTP_INTERNAL_H

#include <microhttpd.h>

#include "common/log.h"
#include "webd/http.h"

#define TABLES_MAX 8

enum doing {
	READING,   /* a request; or nothing, between two of them */
	WAITING,   /* for our answer */
	WRITING,   /* it */
	STREAMING, /* there is something that the client has not taken yet */
	QUIET,     /* a stream with nothing to say */
};

struct place {
	struct http *http;
	int fd; /* -1: free */
	enum doing doing;
	struct mono since;
	bool asked; /* a request came */
	bool cut;
};

struct exchange {
	struct http *http;
	struct MHD_Connection *connection;
	struct place *place;
	const struct http_endpoint *endpoint;
	void *userdata;
	char part[PATH_PART_MAX + 1];
	struct buf body;
	bool dispatched, suspended;
	unsigned status; /* 0: not answered yet */
	struct MHD_Response *response;
	const struct http_source *source;
	void *source_userdata;
};

struct http {
	struct http_options options;
	struct MHD_Daemon *daemon;
	sd_event_source *io, *again, *sweep;
	struct {
		const struct http_endpoint *endpoints;
		void *userdata;
	} tables[TABLES_MAX];
	size_t n_tables;
	struct http_counts counts;
	unsigned used; /* places */
	struct place *places;
	struct log_limit denied_limit;
};

void place_set(struct place *place, enum doing doing);
/* MHD has work that no descriptor tells of. */
void http_run_again(struct http *http, uint64_t after_ms);

/* --- exchange.c --- */

struct exchange *exchange_new(struct http *http, struct MHD_Connection *connection);
struct exchange *exchange_free(struct exchange *exchange);
/* Has the handler answer; what it leaves for later is suspended until then. */
void exchange_dispatch(struct exchange *exchange);
/* Hands the answer to MHD. */
enum MHD_Result exchange_queue(struct exchange *exchange);
void exchange_add_header(struct exchange *exchange, const char *name, const char *value);

/* --- admission.c --- */

/* Chooses the endpoint; false after refusing. */
bool exchange_admit(struct exchange *exchange, const char *path, const char *method);

#endif
