/*
 * The VE's root file system: the bundle's rootfs.tar unpacked once per bundle and node (STATE/lower/OID, read only and
 * shared), over it the VE's own writes (STATE/ve/NAME/upper), joined at RUN/ve/NAME/root.  Only the upper directory goes
 * into an image.
 */
#ifndef VED_OVERLAY_H
#define VED_OVERLAY_H

#include "ved/engine.h"

struct overlay {
	char lower[VE_PATH * 2];
	char own[VE_PATH * 2]; /* STATE/ve/NAME */
	char upper[VE_PATH * 2];
	char work[VE_PATH * 2];
	char root[VE_PATH * 2];
};

int overlay_find(
    struct overlay *out, const struct engine_config *config, const struct ve_spec *spec);
/* Unpacks the bundle if this node has not yet, the upper directory from upper_tar (NULL: empty), and mounts. */
int overlay_make(const struct overlay *overlay, const char *bundle_dir, const char *upper_tar,
    struct engine_error *error);
/* Unmounts and removes the VE's writes; the unpacked bundle stays for the next. 0 when there is none. */
int overlay_remove(const struct overlay *overlay);
/* Removes unpacked bundles that in_use() does not want. */
int overlay_prune(
    const struct engine_config *config, bool (*in_use)(const char *oid, void *data), void *data);

#endif
