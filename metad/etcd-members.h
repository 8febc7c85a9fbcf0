/*
 * What depctl meta asks of the voters, where the facts are in etcd: its endpoints, who of them answers and who leads.  Who its
 * members are is etcd's own matter, so changes are refused in plain words.
 */
#ifndef METAD_ETCD_MEMBERS_H
#define METAD_ETCD_MEMBERS_H

#include "common/daemon.h"
#include "metad/settings.h"

/* Answers requests from then on; all is borrowed.  leader tells the name of the member that leads, "" if none is known. */
int etcd_members_start(struct daemon *daemon, const struct settings *settings,
    const char *(*leader)(void *arg), void *arg);

#endif
