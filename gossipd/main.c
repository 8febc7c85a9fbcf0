/*
 * gossipd: who is in the cluster, and who coordinates it.  See gossipd.8.
 */
#include "gossipd/shell.h"

int main(int argc, char **argv)
{
	struct gossipd_settings settings;
	struct daemon_spec spec = {
	    .name = "gossipd",
	    .summary = "Membership: votes to verdicts; the cluster's coordinator.",
	    .keys = gossipd_config_keys,
	    .settings = &settings,
	    .check = gossipd_settings_check,
	    .tcp_offset = PORT_GOSSIPD_RPC,
	    .max_body = 65536,
	    .lean = true,
	};
	struct udp udp = {.fd = -1};
	struct shell *shell = NULL;
	struct daemon daemon;
	int status, r;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	r = udp_open(&udp, daemon.node.address, (uint16_t)(daemon.node.port + PORT_GOSSIPD));
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
