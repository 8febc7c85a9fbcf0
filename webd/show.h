/* What webd tells, as JSON: messages of the other daemons and its own registrations.  Each gives a new reference, or NULL. */
#ifndef WEBD_SHOW_H
#define WEBD_SHOW_H

#include <jansson.h>

#include "proto/fdd.h"
#include "proto/gossipd.h"
#include "webd/registrations.h"

/* Only this node, or only the services of this VE; NULL: all.  *found: how many rows there are. */
json_t *show_levels(const struct msg_fdd_ls_reply *reply, const char *observer, const char *node,
    const char *ve, size_t *found);
json_t *show_members(const struct msg_gossipd_members_reply *reply);
json_t *show_registration(const struct registration *registration, struct mono now);
/* The data of the events "level" and "value". */
json_t *show_level(const struct msg_fdd_level *level, const char *kind);
json_t *show_value(const struct msg_fdd_value *value, const char *kind);

#endif
