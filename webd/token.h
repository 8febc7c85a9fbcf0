/* The file with the token of the service. */
#ifndef WEBD_TOKEN_H
#define WEBD_TOKEN_H

#include "webd/gate.h"

/* Its first line; refused when others than the owner and the group can read it.  0, or negative errno after telling. */
int token_load(struct gate *gate, const char *path);

#endif
