/*
 * Named places at which tests kill a daemon: crash_point("ckptd.store") stands where a crash leaves something half done.
 *
 * In a daemon it does nothing, and nothing can be set that makes it do something: the function behind it is weak and defined
 * nowhere.  Tests preload a library that has it (tests/system/crash.c), so the daemons that are killed are those that are shipped.
 * Every label is a literal of its own, as tests/system/test_crashpoints.py finds them by their text and kills each.
 *
 * Rejected: an option or a variable of the environment (a switch in production that ends a daemon), and a build of its own (twice the
 * compile time, for daemons that are not the ones that people run).
 */
#ifndef COMMON_CRASHPOINT_H
#define COMMON_CRASHPOINT_H

void crash_point_reached(const char *label) __attribute__((weak));

static inline void crash_point(const char *label)
{
	if (crash_point_reached)
		crash_point_reached(label);
}

#endif
