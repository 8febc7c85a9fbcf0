/*
 * CRIU as a worker of one request: `criu swrk FD`, spoken to over a socket pair in its own protocol (criu-rpc.proto, from
 * CRIU's sources).  That, and not `crun checkpoint`, because the gate, the freezing and the control groups stay in ved's
 * hands: criu gets the frozen cgroup, locks nothing outside the VE, and on restore tells us the instant when connections
 * are whole and the gate may open.  Not libcriu, because it starts its worker where the caller is: a restored VE belongs
 * into its own control groups from its first instruction, for sockets follow the group that they are made in.
 */
#ifndef VED_CRIU_H
#define VED_CRIU_H

#include "ved/binds.h"
#include "ved/cgroup.h"
#include "ved/engine.h"

struct criu_job {
	const char *program;
	const char *image_dir;
	const char *work_dir; /* log and statistics */
	const char *netns;    /* the VE's network namespace: outside of the image */
	const struct cgroup
	    *cgroup;               /* dump: frozen by on_ready; restore: where the tasks are born */
	pid_t pid;                 /* dump: the VE's first process */
	const char *root;          /* restore: where its root file system is mounted */
	const struct binds *binds; /* mounts that stay the host's */
	int (*on_ready)(
	    void *data); /* dump: criu looks at the tasks next: they must be frozen then */
	int (*on_connected)(
	    void *data); /* restore: connections are there, tasks stand still: open the gate */
	void *data;
};

/* Writes the tasks into image_dir and leaves them stopped or frozen as they were. */
int criu_dump(const struct criu_job *job, struct engine_error *error);
/* Brings them back; *pid is the first process in the caller's pid namespace, a child of the caller. */
int criu_restore(const struct criu_job *job, pid_t *pid, struct engine_error *error);
/* 40101 for 4.1.1; negative when the program does not run. */
int criu_version(const char *program, struct engine_error *error);

#endif
