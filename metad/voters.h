/*
 * Who votes: the list, its file, and its changes.
 *
 * The configuration names the first voters of a store that does not exist yet; from then on the engine's own list counts, which
 * changes only when an operator says so (depctl meta add, remove).  Every metad reads it from the leader each second and keeps
 * it in DIR/voters, so that it finds the voters again; one that has lost all of them asks the other metads.
 *
 * An empty log must not vote in the name of one that was lost: its word for an entry may be all that made the majority.  A node
 * whose disk was lost cannot know that it voted, so the others do: before a first voter begins with an empty log, as many of the
 * other first voters as make a majority with it have noted that down, in DIR/began.  With an empty log and
 *	anybody who has noted that it began		it has lost its log, and waits to be removed and added anew (depctl meta rejoin)
 *	a majority that knows of no store		it begins; the store is new
 *	a store, and so many who have noted nothing	that none can be left who has: it begins too; it came later than the others
 * Rejected: to call it lost whenever there is a store (a voter that stood still for a second while a new cluster began was out).
 *
 * A change is one of one voter, made by the engine's leader.  It is refused when the voters that can be reached now would be no
 * majority after it.
 */
#ifndef METAD_VOTERS_H
#define METAD_VOTERS_H

#include "common/daemon.h"
#include "metad/settings.h"

struct voters_config {
	struct daemon *daemon;
	const char *dir;
	const struct voter_list *first; /* of the configuration; copied */
	/* All with arg. */
	int (*dial)(void *arg, const char *voter, int *fd);        /* to its engine */
	struct rpc_client *(*client)(void *arg, const char *node); /* to its metad; NULL: nobody */
	uint64_t (*revision)(void *arg);
	/* Starts the engine, in a new store with these voters or, with none, to be added. */
	int (*start)(void *arg, const struct voter_list *first);
	void (*changed)(void *arg, const struct voter_list *list);
	void *arg;
};

struct voters;

/* Reads the file; the list is there at once. */
int voters_new(struct voters **out, const struct voters_config *config);
/* Starts the engine if this node votes, now or when it is known, and answers requests. */
int voters_start(struct voters *voters);
const struct voter_list *voters_list(const struct voters *voters);
/* This node's engine runs. */
bool voters_votes(const struct voters *voters);
/* The store's client has another leader; 0: none. */
void voters_leader(struct voters *voters, uint64_t id);

#endif
