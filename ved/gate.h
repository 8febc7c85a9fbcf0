/*
 * A queue that stands still on order: a token bucket filter (sch_tbf) on an interface.  Passing, its rate is the highest
 * there is; holding, each packet costs more tokens than the bucket can ever hold (the least charged size, mpu, is above
 * the bucket), so that packets queue up and none leaves, until the parameters are changed back.
 *
 * sch_plug is made for this (Remus uses it) but is a module that many kernels lack; tbf is everywhere.  Rejected: dropping
 * by nftables or a down link, as criu does: what is dropped comes back after 200 ms at the earliest.
 */
#ifndef VED_GATE_H
#define VED_GATE_H

#include <stdbool.h>

/* Puts the queue on an interface of this network namespace. */
int gate_install(const char *interface, bool hold);
/* Takes it away, with what it held; 0 when there is none. */
int gate_remove(const char *interface);
/* Holds or passes; on passing what was held leaves at once, in order. */
int gate_set(const char *interface, bool hold);

#endif
