#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "migrated/fencer.h"
#include "migrated/shell.h"

#define KEY(key, field, text, low, high, help)                                                     \
	{                                                                                          \
		"migrated", key, CONFIG_INT, offsetof(struct migrated_settings, field), 0, text,   \
		    low, high, NULL, help                                                          \
	}

#define LEASE_MIN_MS 500

/* enum lease_profile */
static const char *const profiles[] = {"lan", "default", NULL};

static const struct config_key keys[] = {
    KEY("scan_ms", scan_ms, "1000", 100, 60000, "between two looks at the facts without a hint"),
    KEY("restarts", restarts_max, "3", 1, 100,
	"restarts in place of a VE that dies; as many again elsewhere"),
    KEY("steady_ms", steady_ms, "60000", 1000, 86400000,
	"after running so long earlier restarts are forgotten"),
    KEY("retry_ms", retry_ms, "1000", 100, 60000, "before the same thing is tried again"),
    KEY("backoff_ms", backoff_ms, "1000", 0, 3600000,
	"before the second restart in a row, doubled by each further one"),
    KEY("backoff_max_ms", backoff_max_ms, "60000", 0, 3600000, "the longest such wait"),
    KEY("answer_ms", answer_ms, "30000", 100, 86400000,
	"probes of a VE that was started succeed within it, or it has failed to start"),
    KEY("image_wait_ms", image_wait_ms, "10000", 0, 86400000,
	"an older checkpoint is taken when all nodes with the newest one's image have been dead so long"),
    KEY("keys_ms", keys_ms, "30000", 1000, 3600000,
	"between two looks at who has the services' keys without a cause"),
    KEY("left_ms", left_ms, "600000", 0, 86400000,
	"a node that has left keeps the services' keys so long"),
    {"migrated", "profile", CONFIG_CHOICE, offsetof(struct migrated_settings, profile), 0,
	"default", 0, 0, profiles, "how long leases last: 1 s or 2 s"},
    KEY("lease_ms", lease_ms, "0", 0, 60000,
	"a VE is heard no longer than this without its coordinator, and moves not before; 0: by profile"),
    {0},
};

static const struct config_key fence_keys[] = {
    {"fence", "command", CONFIG_STRING, offsetof(struct fence_settings, command),
	sizeof(((struct fence_settings *)0)->command), NULL, 0, 0, NULL,
	"makes sure that a lost node's copy of a VE can write nothing more; exit status 0 says so"},
    {"fence", "timeout_s", CONFIG_INT, offsetof(struct fence_settings, timeout_s), 0, "60", 1, 3600,
	NULL, "it is killed after so long, and has confirmed nothing"},
    {0},
};
static struct fences fences;
static const struct config_named fence_sections = {.section = "fence",
    .keys = fence_keys,
    .items = fences.fence,
    .size = sizeof(fences.fence[0]),
    .max = FENCES_MAX,
    .count = &fences.count};

static int check_settings(
    const struct node_config *node, const void *data, struct config_error *error)
{
	const struct migrated_settings *settings = data;

	if (settings->lease_ms == 0 || settings->lease_ms >= LEASE_MIN_MS)
		return fences_check(&fences, error);
	snprintf(error->text, sizeof(error->text), "node %s: [migrated]: lease_ms: %d to 60000",
	    node->name, LEASE_MIN_MS);
	return -EINVAL;
}

int main(int argc, char **argv)
{
	struct migrated_settings settings;
	const struct daemon_spec spec = {
	    .name = "migrated",
	    .summary =
		"where each VE runs: placement and recovery on the coordinator, keeping on every node",
	    .keys = keys,
	    .settings = &settings,
	    .named = &fence_sections,
	    .check = check_settings,
	    .tcp_offset = PORT_MIGRATED_RPC,
	    .shared_dir = "bundles", /* where gosd writes them for ved */
	};
	struct udp udp = {.fd = -1};
	struct shell *shell = NULL;
	struct daemon daemon;
	int status, r;

	if (daemon_options(&daemon, &spec, argc, argv, &status) > 0)
		return status;
	r = udp_open(&udp, daemon.node.address, (uint16_t)(daemon.node.port + PORT_LEASES));
	if (r == 0)
		r = daemon_drop(&daemon);
	if (r == 0)
		r = daemon_open(&daemon);
	if (r == 0)
		r = shell_new(&shell, &daemon, &settings, &fences, &udp);
	status = r == 0 ? daemon_run(&daemon) : 1;
	shell_free(shell);
	udp_close(&udp);
	daemon_fini(&daemon);
	return status;
}
