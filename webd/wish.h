/* The body of a registration: JSON of a stranger -> what fdd.register takes. */
#ifndef WEBD_WISH_H
#define WEBD_WISH_H

#include <stddef.h>

#include "webd/registrations.h"

struct wish_fault {
	char where[64]; /* the field */
	char what[160];
};

/* 0, or -EINVAL with the fault: nothing is guessed, an unknown field is one. */
int wish_parse(struct wish *wish, const char *body, size_t size, struct wish_fault *fault);

#endif
