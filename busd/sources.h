/*
 * Who publishes, and which number each must send next: the receiving half of go-back-N.
 *
 * A source is a process: its name and the random boot number of that process.  Only the next number is
 * accepted; a smaller one was had before, a larger one means that something between was lost on the way.  Pure.
 */
#ifndef BUSD_SOURCES_H
#define BUSD_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOURCE_NAME_MAX 31
#define SOURCE_ROUTE_MAX 32

/* How the answer finds its way back: the routing id of the connection that the source last used. */
struct source_route {
	uint8_t size;
	uint8_t id[SOURCE_ROUTE_MAX];
};

struct source {
	char name[SOURCE_NAME_MAX + 1];
	uint64_t boot;
	uint64_t next;      /* the number that is accepted */
	uint64_t committed; /* next, as of what is in the log; 0: nothing is */
	uint64_t asked;     /* the gap before this number was told already */
	bool answer, again; /* what its next acknowledgement says */
	struct source_route route;
	struct source *bucket_next, *touched_next;
	struct source *older, *newer;
};

struct sources;

enum source_verdict {
	SOURCE_NEXT,     /* log it */
	SOURCE_REPEATED, /* acknowledge it again */
	SOURCE_GAP,      /* drop it; the source has to go back */
};

/* Remembers max sources; then the one that was silent longest is forgotten. */
int sources_new(struct sources **out, size_t max);
struct sources *sources_free(struct sources *sources);
size_t sources_count(const struct sources *sources);

/*
 * Judges number of (name, boot).  first: the source has none before it, so that nothing is gained by
 * waiting for them (it is new to us, or gave them up).  0 and the verdict, or -ENOMEM.
 */
int sources_offer(struct sources *sources, const char *name, uint64_t boot, uint64_t number,
    bool first, const struct source_route *route, enum source_verdict *verdict);
/* What the log says: the source's next number is next. */
int sources_restore(struct sources *sources, const char *name, uint64_t boot, uint64_t next);

/* What was accepted since the last call is in the log; or it is not, and was never accepted. */
void sources_commit(struct sources *sources);
void sources_roll_back(struct sources *sources);

/* Takes the sources that must be answered since the last call, one by one; NULL at the end. */
struct source *sources_take_answer(struct sources *sources);

/* All of them, the one silent longest first. */
const struct source *sources_oldest(const struct sources *sources);

#endif
