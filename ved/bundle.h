/*
 * The service's bundle (OCI runtime specification): what is taken from its config.json, what is set by ved, and what is
 * refused.  Taken: process, mounts that live inside the VE, seccomp, masks, limits.  Set: the root (an overlay), the
 * namespaces, the network, the control groups.  Refused, because a VE that uses them could not be moved or would reach
 * out of its confinement: bind mounts that the node does not give away (binds.h), hooks (programs on the host), a terminal, a user namespace, devices.
 */
#ifndef VED_BUNDLE_H
#define VED_BUNDLE_H

#include "ved/cgroup.h"
#include "ved/engine.h"

/*
 * Reads BUNDLE/config.json and writes OUT/config.json for the engine: root at root_dir, network namespace netns.  limits gets
 * what the bundle asks for.
 */
int bundle_prepare(const char *bundle_dir, const struct engine_config *engine,
    const struct ve_spec *spec, const char *root_dir, const char *netns, const char *out_dir,
    struct cgroup_limits *limits, struct engine_error *error);

#endif
