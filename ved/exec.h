/*
 * A command in a VE, for the worker.
 */
#ifndef VED_EXEC_H
#define VED_EXEC_H

#include "ved/engine.h"

struct exec_order {
	const char *name;
	uint64_t epoch;
	const char *command; /* for /bin/sh -c */
	int64_t limit_ms;
};

struct exec_result {
	int status;       /* exit status; 128 + signal */
	char output[512]; /* the beginning, printable */
};

/* -ENOENT: no such VE here, -ESTALE: it runs under another epoch, -ETIME: killed, it took too long. */
int exec_in_ve(const struct engine_config *config, const struct exec_order *order,
    struct exec_result *result, struct engine_error *error);

#endif
