/*
 * The services of this node as fdd asks them: each probe has a timer, one attempt at a time, and an entry
 * in the core that its successes are handed to.
 */
#ifndef FDD_SERVICES_H
#define FDD_SERVICES_H

#include "fdd/app-heartbeats.h"
#include "fdd/fdd.h"
#include "proto/fdd.h"

#define SERVICES_MAX 64

struct shell;
struct services;

int services_new(struct services **out, struct shell *shell);
struct services *services_free(struct services *services);

/* Makes the probes of a VE what the request says; fills the ids.  NULL, or what is wrong with it. */
const char *services_set(struct services *services, const struct msg_fdd_probes *request,
    struct msg_fdd_probes_reply *reply);
/* A service told by itself. */
void services_heard(struct services *services, const struct app_heartbeat *heartbeat);
/* Ends those whose lease ran out. */
void services_sweep(struct services *services);
/* What is known of a service beside its status in the core; false: no service has this id. */
bool services_describe(
    const struct services *services, const struct fdd_status *status, struct msg_fdd_service *row);
/* FDD_SUSPECT and FDD_TRUST of a service. */
void services_tell(struct services *services, const struct fdd_level *level, bool suspect);

#endif
