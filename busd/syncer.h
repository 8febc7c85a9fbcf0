/* A thread that brings files to the disk, so that a slow disk never holds up the loop. */
#ifndef BUSD_SYNCER_H
#define BUSD_SYNCER_H

struct syncer;

int syncer_new(struct syncer **out);
/* Waits until all that was pushed is on the disk. */
struct syncer *syncer_free(struct syncer *syncer);
/* Syncs fd soon, and closes it.  When the thread is far behind, the fd is only closed: a later push of the same
 * file syncs it all the same. */
void syncer_push(struct syncer *syncer, int fd);

#endif
