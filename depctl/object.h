#ifndef DEPCTL_OBJECT_H
#define DEPCTL_OBJECT_H

#include <stdint.h>

#include "depctl/session.h"

/* Stores path (made readable for gosd by a copy where it is not) on copies other nodes; 0 or the exit code. */
int object_put(struct session *session, const char *path, const char *name, const char *kind,
    uint8_t copies, uint8_t oid[32]);
/* 64 hex digits; false with one line. */
bool parse_oid(const char *text, uint8_t oid[32]);

#endif
