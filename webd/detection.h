/*
 * Detection as a web service: levels, verdicts, registrations and their streams.  What is below /v1/detection.
 */
#ifndef WEBD_DETECTION_H
#define WEBD_DETECTION_H

#include "common/daemon.h"
#include "webd/http.h"

struct detection_options {
	size_t registrations, kept, streams;
	int64_t keepalive_ms;
};

struct detection_counts {
	uint64_t registrations, streams; /* now */
	uint64_t events;                 /* told to registrations */
	uint64_t gaps;                   /* times that a registration lost fdd */
	uint64_t missed;                 /* events overwritten before a stream took them */
};

struct detection;
/* Adds its endpoints.  0, or negative errno. */
int detection_new(struct detection **out, struct daemon *daemon, struct http *http,
    const struct detection_options *options);
/* Answers what waits and tells the streams that all ends.  Then http_free(), which closes them, then detection_free(). */
void detection_stop(struct detection *detection);
struct detection *detection_free(struct detection *detection);
const struct detection_counts *detection_counts(const struct detection *detection);

#endif
