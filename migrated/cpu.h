/*
 * CPU features that a program may have chosen its code by, as the kernel names them in /proc/cpuinfo, in one number: what
 * was running on one node can be restored only where none of them is missing (criu: cpuinfo check; it would compare all
 * words of CPUID, of which most are of no concern to user space).
 */
#ifndef MIGRATED_CPU_H
#define MIGRATED_CPU_H

#include <stddef.h>
#include <stdint.h>

/* Of a line of /proc/cpuinfo, or of its part after the colon. */
uint64_t cpu_features(const char *line);
/* Their names, as many as fit. */
void cpu_names(char *text, size_t size, uint64_t features);

#endif
