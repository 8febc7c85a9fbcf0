#include "webd/shell.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "webd/detection.h"
#include "webd/http.h"

#define STATS_MAX 16

struct shell {
	struct http *http;
	struct detection *detection;
	struct daemon_stat stats[STATS_MAX];
};

static void publish_stats(struct shell *shell, struct daemon *daemon)
{
	const struct http_counts *http = http_counts(shell->http);
	const struct detection_counts *detection = detection_counts(shell->detection);
	const struct daemon_stat stats[] = {
	    {"http_connections", &http->connections, "accepted"},
	    {"http_requests", &http->requests, "of them"},
	    {"http_unfinished", &http->unfinished, "connections that made no request"},
	    {"http_refused", &http->refused, "answered 4xx"},
	    {"http_denied", &http->denied, "refused for token, origin or host"},
	    {"http_failed", &http->failed, "answered 5xx"},
	    {"http_cut", &http->cut, "connections cut because the client was too slow"},
	    {"registrations", &detection->registrations, "now"},
	    {"streams", &detection->streams, "now"},
	    {"events_told", &detection->events, "to registrations"},
	    {"gaps", &detection->gaps, "times that a registration lost fdd"},
	    {"events_missed", &detection->missed, "overwritten before a stream took them"},
	};

	for (size_t i = 0; i < sizeof(stats) / sizeof(stats[0]); i++)
		shell->stats[i] = stats[i];
	daemon->stats = shell->stats;
}

static int open_http(struct shell *shell, struct daemon *daemon,
    const struct webd_settings *settings, struct gate *gate)
{
	const struct http_options options = {.address = settings->listen,
	    .port = (uint16_t)(settings->port ? settings->port : daemon->node.port + PORT_WEB),
	    .gate = gate,
	    .connections = (unsigned)settings->connections,
	    .patience_ms = settings->patience_ms};
	int r;

	snprintf(gate->names, sizeof(gate->names), "%s %s", daemon->node.name, settings->hosts);
	r = http_new(&shell->http, daemon->loop, &options);
	if (r == 0)
		log_info("listens address=%s port=%u token=%s", options.address, options.port,
		    gate->has_token ? "wanted" : "none");
	return r;
}

int shell_new(struct shell **out, struct daemon *daemon, const struct webd_settings *settings,
    struct gate *gate)
{
	const struct detection_options options = {.registrations = (size_t)settings->registrations,
	    .kept = (size_t)settings->kept,
	    .streams = (size_t)settings->streams,
	    .keepalive_ms = settings->keepalive_ms};
	struct shell *shell = calloc(1, sizeof(*shell));
	int r;

	if (!shell)
		return -ENOMEM;
	r = open_http(shell, daemon, settings, gate);
	if (r == 0)
		r = detection_new(&shell->detection, daemon, shell->http, &options);
	if (r < 0) {
		log_start_failed(r);
		shell_free(shell);
		return r;
	}
	publish_stats(shell, daemon);
	*out = shell;
	return 0;
}

struct shell *shell_free(struct shell *shell)
{
	if (!shell)
		return NULL;
	detection_stop(shell->detection);
	http_free(shell->http); /* closes the streams, which belong to detection */
	detection_free(shell->detection);
	free(shell);
	return NULL;
}
