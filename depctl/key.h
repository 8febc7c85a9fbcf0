/* What the files of depctl key share. */
#ifndef DEPCTL_KEY_H
#define DEPCTL_KEY_H

#include "common/buf.h"
#include "common/keys.h"
#include "depctl/command.h"
#include "proto/gossipd.h"

int key_say_unread(const struct mpr_error *error);

typedef void key_take(void *userdata, const struct msg_gossipd_key *key);
/* Each node that gossipd knows with its key; 0, or the exit code after one line. */
int key_each(struct session *session, key_take *take, void *userdata);

#endif
