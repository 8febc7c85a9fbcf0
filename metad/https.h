/*
 * POST over TLS with a client certificate, on an event loop: libcurl's multi interface driven by sd-event.
 *
 * No thread is made: hosts are numeric addresses, so there is nothing to resolve.  Only the given CA is trusted, not those of
 * the system, and no proxy of the environment is used.  The files of certificate and key are read for each connection, so that
 * they can be renewed while we run.
 *
 * Each call ends once by its callback, later, unless it is cancelled.  libcurl sends a request again by itself when a connection
 * that was kept open turns out to be dead: what is posted must bear to be received twice.
 */
#ifndef METAD_HTTPS_H
#define METAD_HTTPS_H

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

struct https_files {
	const char *ca, *cert, *key; /* paths, PEM; borrowed */
};

struct https_answer {
	int rc; /* 0: an answer of the server; -EMSGSIZE: too long; -ETIMEDOUT; -EIO: another reason */
	bool sent;  /* the server may have the request */
	int status; /* of HTTP */
	const char *body;
	size_t size;
	const char *why; /* of rc < 0, for people */
};

struct https_post {
	const char *url;
	const void *body; /* copied */
	size_t size;
	size_t limit;        /* bytes of the answer, or of one line of a stream */
	unsigned timeout_ms; /* 0: a stream, which ends when the server ends it */
	/* A stream's next line, without its end; false: no more of it (done is called with -EBADMSG).  It must not cancel. */
	bool (*line)(void *arg, const char *line, size_t size);
	void (*done)(void *arg, const struct https_answer *answer);
	void *arg;
};

struct https;
struct https_call;

int https_new(struct https **out, sd_event *loop, const struct https_files *files);
/* Calls under way are dropped without calling back; returns NULL. */
struct https *https_free(struct https *https);
/* 0, -EBUSY (too many under way) or -ENOMEM. */
int https_post(struct https *https, const struct https_post *post, struct https_call **out);
/* The server may have the request. */
bool https_sent(const struct https_call *call);
/* Drops a call without calling back; its connection is closed.  Returns NULL. */
struct https_call *https_cancel(struct https_call *call);

#endif
