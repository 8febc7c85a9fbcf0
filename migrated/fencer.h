/*
 * Fence commands: what the administrator has written to make sure that a lost node's copy of a VE can write nothing more (switch
 * the node off, take its access to the storage away).  One run is one child in a session of its own, with nothing but the
 * VE, the node and the epoch in its environment; exit status 0 is the confirmation, and everything else is none, also an end
 * by the time limit, when the whole session is killed.  Of what it says the last line of standard error is kept.
 *
 * It runs as migrated's own user on the coordinator's node, which is where the decision is made: a power switch or a storage
 * is asked over the network with a password or key, for which nobody has to be root.  Rejected: by ved, as root (an error in
 * the command would be root's, on the node that holds the cluster together); on the node that takes the VE over (it would
 * have to be chosen first, and each choice would fence again).
 */
#ifndef MIGRATED_FENCER_H
#define MIGRATED_FENCER_H

#include <stdint.h>

#include "common/config.h"
#include "common/mono.h"

#define FENCES_MAX 16

/* A section [fence NAME]. */
struct fence_settings {
	char name[NODE_NAME_MAX + 1];
	char command[512]; /* an absolute path and arguments, between blanks; no shell sees it */
	int64_t timeout_s;
};

struct fences {
	size_t count;
	struct fence_settings fence[FENCES_MAX];
};

/* Is each command an absolute path?  -EINVAL with the error filled. */
int fences_check(const struct fences *fences, struct config_error *error);

struct daemon;
struct shell;
struct migrated_action;
struct fencer;
int fencer_new(
    struct fencer **out, struct daemon *daemon, struct shell *shell, const struct fences *fences);
struct fencer *fencer_free(struct fencer *fencer);
/* FENCE; answers with MIGRATED_FENCED. */
void fencer_run(struct fencer *fencer, const struct migrated_action *action);
/* SPARE: ends it without an answer; name NULL: all. */
void fencer_spare(struct fencer *fencer, const char *name);

#endif
