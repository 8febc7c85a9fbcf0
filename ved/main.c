#include <stdlib.h>

#include "common/daemon.h"
#include "ved/shell.h"

int main(int argc, char **argv)
{
	struct ved_settings settings = {0};
	const struct daemon_spec spec = {
	    .name = "ved",
	    .summary =
		"Runs, freezes, writes down and brings back the virtual environments of this node.",
	    .keys = ved_keys,
	    .settings = &settings,
	    .check = ved_check,
	    .keep_root = true,
	};
	struct shell *shell = NULL;
	struct daemon daemon;
	int rc, status;

	rc = daemon_options(&daemon, &spec, argc, argv, &status);
	if (rc > 0)
		return status;
	status = 1;
	rc = daemon_drop(&daemon); /* stays root: namespaces, mounts and criu need it */
	if (rc == 0)
		rc = shell_new(&shell, &daemon, &settings);
	if (rc == 0)
		rc = daemon_open(&daemon);
	if (rc == 0)
		rc = shell_open(shell);
	if (rc == 0)
		status = daemon_run(&daemon);
	shell_free(shell);
	daemon_fini(&daemon);
	return status;
}
