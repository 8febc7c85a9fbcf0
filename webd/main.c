/*
 * webd: detection over HTTP.  See webd.8.
 */
#include "webd/shell.h"
#include "webd/token.h"

int main(int argc, char **argv)
{
	struct webd_settings settings;
	const struct daemon_spec spec = {
	    .name = "webd",
	    .summary = "HTTP: suspicion levels, and registrations for their events.",
	    .keys = webd_config_keys,
	    .settings = &settings,
	    .check = webd_settings_check,
	    .max_body = 4096,
	};
	struct gate gate = {0};
	struct shell *shell = NULL;
	struct daemon daemon;
	int status, r = 0;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	if (*settings.token)
		r = token_load(&gate, settings.token);
	if (r == 0)
		r = daemon_drop(&daemon);
	if (r == 0)
		r = daemon_open(&daemon);
	if (r == 0)
		r = shell_new(&shell, &daemon, &settings, &gate);
	status = r == 0 ? daemon_run(&daemon) : 1;
	shell_free(shell);
	daemon_fini(&daemon);
	return status;
}
