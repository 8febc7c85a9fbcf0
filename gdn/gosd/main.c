#include "gdn/gosd/gosd.h"

#include <stddef.h>

static const struct config_key keys[] = {
    {.section = "gosd",
	.name = "quota_mb",
	.type = CONFIG_INT,
	.fallback = "0",
	.min = 0,
	.max = 1e9,
	.offset = offsetof(struct gosd_settings, quota_mb),
	.help = "MiB that chunks may take; 0: no limit"},
    {.section = "gosd",
	.name = "reserve_mb",
	.type = CONFIG_INT,
	.fallback = "64",
	.min = 0,
	.max = 1e6,
	.offset = offsetof(struct gosd_settings, reserve_mb),
	.help = "MiB to leave free on the disk"},
    {.section = "gosd",
	.name = "scrub_days",
	.type = CONFIG_INT,
	.fallback = "7",
	.min = 0,
	.max = 365,
	.offset = offsetof(struct gosd_settings, scrub_days),
	.help = "in so many days each chunk is read and checked; 0: never"},
    {0},
};

int main(int argc, char **argv)
{
	struct gosd_settings settings;
	const struct daemon_spec spec = {.name = "gosd",
	    .summary = "Object server: stores objects, copies them to other nodes, fetches them.",
	    .keys = keys,
	    .settings = &settings,
	    .tcp_offset = PORT_GOSD_RPC};
	struct daemon daemon;
	struct gosd *gosd = NULL;
	int status;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	status = 1;
	if (daemon_drop(&daemon) == 0 && daemon_open(&daemon) == 0 &&
	    gosd_new(&gosd, &daemon, &settings) == 0)
		status = daemon_run(&daemon);
	gosd_free(gosd);
	daemon_fini(&daemon);
	return status;
}
