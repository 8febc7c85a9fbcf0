/*
 * The conformance suite of the store interface: what every backend must do, run against each.
 */
#ifndef METAD_STORE_SUITE_H
#define METAD_STORE_SUITE_H

#include "metad/store.h"

struct suite {
	/* A client of the one database under test. */
	struct store *(*open)(void *arg);
	/* Another one, that loses the answer to its first transaction after it was committed; NULL: the
	 * backend loses answers in tests of its own. */
	struct store *(*open_lossy)(void *arg);
	/* Lets the backend work; called until all answers that are waited for have come. */
	void (*pump)(void *arg);
	void *arg;
};

/* Runs all claims as TAP lines numbered from *n + 1; ends the program at the first that fails. */
void suite_run(const struct suite *suite, int *n);

#endif
