/*
 * metad: the few facts of a cluster that need agreement.
 *
 * It ends like it would be killed: dqlite's log is made for that, and a stop in good order would
 * only wait for threads that wait for other nodes.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "metad/shell.h"

static struct settings settings;

static const struct daemon_spec spec = {
    .name = "metad",
    .summary = "Keeps the few facts of the cluster that need agreement.",
    .keys = settings_keys,
    .settings = &settings,
    .check = settings_check,
    .tcp_offset = PORT_METAD_RPC,
};

/*
 * dqlite's threads take turns rather than run at once, so one arena does; and its snapshots are
 * large and soon freed, so they go back to the kernel instead of leaving holes in the heap.
 */
static void bound_heap(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
	mallopt(M_TRIM_THRESHOLD, 256 * 1024);
}

/*
 * A voter that is kept from the processor for an election timeout (300 ms) is voted out, and voters that are all late split
 * their votes: with twenty busy processes on two cores a new leader took 3 s instead of 0.6.  It needs little and seldom.
 * The threads made from here on inherit it.
 */
static void run_before_others(void)
{
	if (setpriority(PRIO_PROCESS, 0, -10) < 0)
		log_info("keep the usual priority: %s", strerror(errno));
}

static int run(struct daemon *daemon)
{
	struct config_error error;
	struct engine *engine = NULL;
	struct shell *shell;
	bool private = false;
	int status;

	bound_heap();
	if (geteuid() == 0)
		run_before_others();
	if (settings_resolve(&settings, &daemon->node, &error) < 0)
		return EXIT_FAILURE; /* checked before */
	if (settings.etcd_count == 0 &&
	    engine_new(&engine, &private) < 0) { /* it may become a voter */
		log_error("start: no memory");
		return EXIT_FAILURE;
	}
	if (daemon_drop(daemon) < 0 || daemon_open(daemon) < 0)
		return EXIT_FAILURE;
	if (engine && !private)
		log_warning("no private network namespace: started without privilege; dqlite's own "
			    "check of its callers is left");
	if (shell_new(&shell, daemon, &settings, engine, private) < 0)
		return EXIT_FAILURE;
	status = daemon_run(daemon);
	shell_end(shell);
	return status;
}

int main(int argc, char **argv)
{
	struct daemon daemon;
	int status;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	status = run(&daemon);
	daemon_fini(&daemon);
	_exit(status);
}
