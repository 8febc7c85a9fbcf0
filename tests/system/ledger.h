/* What the publishers of a test told and got acknowledged, in a file that outlives them. */
#ifndef TESTS_SYSTEM_LEDGER_H
#define TESTS_SYSTEM_LEDGER_H

#include <stdint.h>

#define RUNS_MAX 1024

struct ledger {
	volatile uint64_t published[RUNS_MAX];
	volatile uint64_t acked[RUNS_MAX];
};

#endif
