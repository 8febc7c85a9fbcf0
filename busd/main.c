#include <stddef.h>
#include <stdio.h>

#include "busd/shell.h"

static const struct config_key keys[] = {
    {.section = "busd",
	.name = "log_mb",
	.type = CONFIG_INT,
	.offset = offsetof(struct busd_settings, log_mb),
	.fallback = "128",
	.min = 2,
	.max = 1048576,
	.help = "MiB of events kept for replay"},
    {.section = "busd",
	.name = "segment_mb",
	.type = CONFIG_INT,
	.offset = offsetof(struct busd_settings, segment_mb),
	.fallback = "8",
	.min = 1,
	.max = 256,
	.help = "MiB of one file of the log; the oldest file is deleted whole"},
    {0},
};

static int check_settings(
    const struct node_config *node, const void *settings, struct config_error *error)
{
	const struct busd_settings *busd = settings;

	(void)node;
	if (busd->segment_mb * 2 <= busd->log_mb)
		return 0;
	snprintf(error->text, sizeof(error->text),
	    "[busd] log_mb must be at least twice segment_mb (%lld)", (long long)busd->segment_mb);
	return -1;
}

int main(int argc, char **argv)
{
	struct busd_settings settings;
	const struct daemon_spec spec = {
	    .name = "busd",
	    .summary = "the event stream of a node: stamps, logs, publishes and replays events",
	    .keys = keys,
	    .settings = &settings,
	    .check = check_settings,
	    .tcp_offset = PORT_EVENTS_RPC,
	    .no_bus = true,
	    .max_body = 4096,
	};
	struct daemon daemon;
	struct shell *shell = NULL;
	int status;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	status = 1;
	if (daemon_drop(&daemon) == 0 && daemon_open(&daemon) == 0 &&
	    shell_new(&shell, &daemon, &settings) == 0)
		status = daemon_run(&daemon);
	shell_free(shell);
	daemon_fini(&daemon);
	return status;
}
