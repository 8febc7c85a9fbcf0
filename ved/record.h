/*
 * What ved knows of a VE, on disk: RUN/ve/NAME/record.json, replaced whole at each change.  ved keeps nothing else that
 * matters, so a restart reads this and goes on; who is not in here does not exist.  The same fields, with what a restore
 * must check, go with each image as ve.json.
 */
#ifndef VED_RECORD_H
#define VED_RECORD_H

#include "ved/engine.h"

enum { IMAGE_VERSION = 1 };

/* What stands in an image's ve.json beside the VE. */
struct image_info {
	struct ve_spec spec;
	int version;         /* of the image's layout: IMAGE_VERSION */
	int criu;            /* criu's version as a number: 40101 is 4.1.1 */
	char machine[64];    /* uname: x86_64 */
	char processor[128]; /* model name, for a person */
};

int record_save(const struct engine_config *config, const struct ve_record *record);
/* Reads it and looks whether the process lives; -ENOENT: no such VE, -EBADMSG: unreadable. */
int record_load(const struct engine_config *config, const char *name, struct ve_record *out);
/* Start time in clock ticks since boot; -ESRCH: no such process, or a zombie. */
int process_start_ticks(pid_t pid, uint64_t *out);

/* Fills machine and processor from this node. */
void image_describe(struct image_info *info);
int image_save(const char *image_dir, const struct image_info *info);
int image_load(const char *image_dir, struct image_info *out);

#endif
