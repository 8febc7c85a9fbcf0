/*
 * ckptd: coordinated checkpoints.  See ckptd.8.
 */
#include "ckptd/shell.h"

int main(int argc, char **argv)
{
	struct ckptd_settings settings;
	struct daemon_spec spec = {
	    .name = "ckptd",
	    .summary = "Coordinated checkpoints of virtual environments, by two-phase commit.",
	    .keys = ckptd_config_keys,
	    .settings = &settings,
	    .check = ckptd_settings_check,
	    .tcp_offset = PORT_CKPTD_RPC,
	    .max_body = 65536,
	};
	struct shell *shell = NULL;
	struct daemon daemon;
	int status, r;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	r = daemon_drop(&daemon);
	if (r == 0)
		r = daemon_open(&daemon);
	if (r == 0)
		r = shell_new(&shell, &daemon, &settings);
	status = r == 0 ? daemon_run(&daemon) : 1;
	shell = shell_free(shell);
	daemon_fini(&daemon);
	return status;
}
