/*
 * The sizes and shapes of the names that ved and its engine hand around, zero included.
 */
#ifndef VED_NAMES_H
#define VED_NAMES_H

#include <stdbool.h>

enum {
	VE_NAME = 64,
	VE_ADDRESS = 64,
	VE_OID = 130,
	VE_PATH = 256,
	VE_ERROR = 1024,
	VE_MOUNTS = 1024,
	VE_MAX = 256, /* VEs on one node */
};

/* A VE's name becomes a file, a cgroup and a host name: 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit. */
bool ve_name_ok(const char *name);
/* An object id becomes a directory: letters, digits, '-' and '_'. */
bool ve_oid_ok(const char *oid);

#endif
