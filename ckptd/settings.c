/*
 * The [ckptd] section of the configuration.
 */
#include <errno.h>
#include <stdio.h>

#include "ckptd/catalogue.h"
#include "ckptd/shell.h"

#define INT_KEY(key, field, text, low, high, what)                                                 \
	{                                                                                          \
		"ckptd", key, CONFIG_INT, offsetof(struct ckptd_settings, field), 0, text, low,    \
		    high, NULL, what                                                               \
	}

const struct config_key ckptd_config_keys[] = {
    INT_KEY("vote_ms", vote_ms, "1500", 50, 60000, "all members must be frozen within"),
    INT_KEY("hold_ms", hold_ms, "2000", 50, 60000, "longest freeze without a word to dump"),
    INT_KEY("dump_ms", dump_ms, "60000", 1000, 600000, "all images must be durable within"),
    INT_KEY("outcome_ms", outcome_ms, "3000", 100, 600000,
	"a member that waits for the outcome reads the cell after that"),
    INT_KEY("resend_ms", resend_ms, "300", 20, 60000, "an unanswered message is repeated after"),
    INT_KEY("keep", keep, "3", 1, CATALOGUE_MAX, "the newest checkpoints of each VE are kept"),
    INT_KEY("keep_hourly", keep_hourly, "0", 0, CATALOGUE_MAX - 1,
	"and the newest one of each of so many hours"),
    {0},
};

int ckptd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error)
{
	const struct ckptd_settings *s = settings;

	if (s->keep + s->keep_hourly > CATALOGUE_MAX) {
		snprintf(error->text, sizeof(error->text),
		    "node %s: [ckptd]: keep and keep_hourly are more than %d together", node->name,
		    CATALOGUE_MAX);
		return -EINVAL;
	}
	if (s->hold_ms > s->vote_ms)
		return 0;
	snprintf(error->text, sizeof(error->text),
	    "node %s: [ckptd]: hold_ms must be above vote_ms, or members give up before the "
	    "coordinator does",
	    node->name);
	return -EINVAL;
}
