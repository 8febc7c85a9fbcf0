/*
 * Directories of the host in a VE: what several nodes mount alike (NFS, Ceph) may be given to VEs, and they can still be
 * moved.  A bundle names them as mounts of type bind; the node says which it gives away ([ved] mounts), to the letter: a
 * directory below one of them is another path, and might be a link that a VE has put there.  criu is told of each as an
 * external mount, so that it is neither dumped nor refused, and is the node's own after a restore.
 *
 * No gate stops what a VE writes there.  So it is refused unless the placement knows of it (migrated's `shared`), for then
 * the VE is not placed elsewhere before its copy is known to be gone.
 */
#ifndef VED_BINDS_H
#define VED_BINDS_H

#include <jansson.h>

#include "ved/engine.h"

enum { BINDS_MAX = 8 };

struct bind {
	char from[VE_PATH]; /* on the host */
	char to[VE_PATH];   /* in the VE */
};

struct binds {
	size_t count;
	struct bind bind[BINDS_MAX];
};

/* Are the words of [ved] mounts absolute paths without . and ..?  If not, *word is the first that is none, and its length. */
bool binds_allowed_ok(const char *allowed, const char **word, size_t *length);
/* Is it a mount of a host directory, or meant to be one? */
bool binds_is(json_t *mount);
/* Refuses one that may not be, and sets the options of one that may: no devices, no set-user-id programs, nothing propagated. */
int binds_take(json_t *mount, const struct engine_config *config, const struct ve_spec *spec,
    struct engine_error *error);
/* Those of DIR/config.json, which bundle_prepare() wrote. */
int binds_load(const char *dir, struct binds *binds, struct engine_error *error);

#endif
