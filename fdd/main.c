/*
 * fdd: heartbeats in, suspicion levels out.  See fdd.8.
 */
#include "fdd/shell.h"

int main(int argc, char **argv)
{
	struct fdd_settings settings;
	struct daemon_spec spec = {
	    .name = "fdd",
	    .summary = "Failure detector: heartbeats in, suspicion levels out.",
	    .keys = fdd_config_keys,
	    .settings = &settings,
	    .check = fdd_settings_check,
	    .max_body = 65536,
	    .lean = true,
	};
	struct udp udp = {.fd = -1};
	struct shell *shell = NULL;
	struct daemon daemon;
	int status, r;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	r = udp_open(&udp, daemon.node.address, (uint16_t)(daemon.node.port + PORT_FDD));
	if (r == 0)
		r = daemon_drop(&daemon);
	if (r == 0)
		r = daemon_open(&daemon);
	if (r == 0)
		r = shell_new(&shell, &daemon, &settings, &udp);
	status = r == 0 ? daemon_run(&daemon) : 1;
	shell = shell_free(shell);
	udp_close(&udp);
	daemon_fini(&daemon);
	return status;
}
