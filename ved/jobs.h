/*
 * Workers: one ved-worker process for each job, told by its end.
 */
#ifndef VED_JOBS_H
#define VED_JOBS_H

#include <systemd/sd-event.h>

#include "proto/ved.h"
#include "ved/engine.h"
#include "ved/names.h"

struct jobs;
typedef void (*job_done)(void *userdata, const char *name, const struct msg_ved_job_done *done);

int jobs_new(struct jobs **out, sd_event *loop, job_done done, void *userdata);
/* Workers under way live on. */
struct jobs *jobs_free(struct jobs *jobs);
/* What a worker must know of the engine. */
void jobs_set_engine(struct msg_ved_job *job, const struct engine_config *engine);
/* At most one for each VE; done is called later, also when the worker is killed. */
int jobs_start(struct jobs *jobs, const struct msg_ved_job *job);
void jobs_kill(struct jobs *jobs, const char *name);

#endif
