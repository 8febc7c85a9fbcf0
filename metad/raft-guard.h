/*
 * What stands between raft and its own I/O; see raft-guard.c.
 */
#ifndef METAD_RAFT_GUARD_H
#define METAD_RAFT_GUARD_H

#include <stdint.h>

/* From now on nothing is appended to the log while its disk has less than this free; before the engine starts. */
void raft_guard_set_floor(uint64_t bytes);

#endif
