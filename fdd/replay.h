/*
 * A run replayed: an arrival log goes through the same core that the daemon runs, and the verdicts come
 * out.  Pure: the text of a log goes in, nothing is opened here.
 *
 * The format, also that of bench/detectors (docs/detection.md): text, one arrival per line,
 *
 *	# depsys-arrivals 1
 *	sent_ns received_ns sequence interval_ns incarnation
 *
 * separated by blanks; sent_ns is "-" where it is unknown.  received_ns is on the monotonic clock of the
 * observer.  Other lines that begin with '#' are remarks, of which four are read here:
 *
 *	# interval NS     the observer's own: a node never heard is expected within three (default: ours)
 *	# since NS        the peer is watched from here on (default: the first arrival)
 *	# until NS        nothing is known of later (default: the last arrival)
 *	# stall FROM TO   the observer itself stood still
 */
#ifndef FDD_REPLAY_H
#define FDD_REPLAY_H

#include "fdd/fdd.h"

struct replay_log {
	bool begun; /* the first line was right */
	bool has_since, has_until;
	struct mono since, until, interval; /* interval 0: not said */
	struct fdd_arrival *list;           /* arrivals and stalls, as they stand in the log */
	size_t count, room;
};

/* A suspicion (level.raised) or its end, at time at. */
typedef void (*replay_verdict)(
    void *userdata, struct mono at, const struct fdd_level *level, bool raised);

/* Takes one line, with or without its end.  NULL, or what is wrong with it. */
const char *replay_take(struct replay_log *log, const char *line);
/* NULL, or what the log as a whole lacks. */
const char *replay_finish(struct replay_log *log);
void replay_fini(struct replay_log *log);

/* Runs a finished log through a core of this configuration (self and the table sizes are ours);
 * -EINVAL or -ENOMEM.  counters may be NULL. */
int replay_run(const struct replay_log *log, const struct fdd_config *config,
    replay_verdict verdict, void *userdata, struct fdd_counters *counters);

#endif
