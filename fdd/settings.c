/*
 * The [fdd] section of the configuration.
 */
#include <errno.h>
#include <stdio.h>

#include "fdd/settings.h"

static const char *const fdd_estimators[] = {"default", "kama-paper", NULL};

#define INT_KEY(key, field, text, low, high, what)                                                 \
	{                                                                                          \
		"fdd", key, CONFIG_INT, offsetof(struct fdd_settings, field), 0, text, low, high,  \
		    NULL, what                                                                     \
	}
#define FLOAT_KEY(key, field, text, what)                                                          \
	{                                                                                          \
		"fdd", key, CONFIG_FLOAT, offsetof(struct fdd_settings, field), 0, text, 0, 0.999, \
		    NULL, what                                                                     \
	}

const struct config_key fdd_config_keys[] = {
    INT_KEY("interval_ms", interval_ms, "0", 0, 60000,
	"between own heartbeats; 0: as the profile says"),
    FLOAT_KEY("suspect", suspect, "0.6", "level of fd.suspect; 0.6 is 4 predicted intervals"),
    FLOAT_KEY("clear", clear, "0.2", "a heartbeat below this level is calm"),
    INT_KEY("beats", beats, "1", 0, 1000, "calm heartbeats before fd.trust"),
    INT_KEY("stall_ms", stall_ms, "0", 0, 60000,
	"waking later than this is an own stall; 0: half an interval"),
    {"fdd", "estimator", CONFIG_CHOICE, offsetof(struct fdd_settings, estimator), 0, "default", 0,
	0, fdd_estimators, "prediction of the next arrival"},
    INT_KEY("kama_window", kama_window, "10", 2, ESTIMATOR_WINDOW_MAX,
	"samples of the efficiency ratio"),
    INT_KEY("kama_fast", kama_fast, "2", 1, 1000, "fast smoothing constant, in samples"),
    INT_KEY("kama_slow", kama_slow, "30", 2, 10000, "slow smoothing constant, in samples"),
    INT_KEY("arrival_log", arrival_log, "1024", 0, 100000,
	"arrivals kept of each watched node, for export and replay"),
    {0},
};

int64_t fdd_interval_ms(const struct node_config *node, const struct fdd_settings *settings)
{
	static const int64_t intervals_ms[] = {
	    [PROFILE_FAST] = 100, [PROFILE_BALANCED] = 500, [PROFILE_ECONOMY] = 1000};

	return settings->interval_ms > 0 ? settings->interval_ms
					 : intervals_ms[node ? node->profile : PROFILE_BALANCED];
}

int fdd_settings_check(
    const struct node_config *node, const void *settings, struct config_error *error)
{
	const struct fdd_settings *s = settings;
	const char *fault = NULL;

	if (s->clear >= s->suspect)
		fault = "clear must be below suspect";
	else if (s->kama_fast >= s->kama_slow)
		fault = "kama_fast must be below kama_slow";
	else if (mono_before(mono_ms(fdd_interval_ms(node, s)), FDD_INTERVAL_MIN))
		fault = "interval_ms must be at least 10, or 0 for the profile's";
	else if (s->stall_ms > fdd_interval_ms(node, s) * 10)
		fault = "stall_ms must be at most ten intervals";
	if (!fault)
		return 0;
	snprintf(error->text, sizeof(error->text), "%s%s%s[fdd]: %s", node ? "node " : "",
	    node ? node->name : "", node ? ": " : "", fault);
	return -EINVAL;
}

struct fdd_config fdd_settings_core(
    const struct node_config *node, const struct fdd_settings *settings)
{
	int64_t interval_ms = fdd_interval_ms(node, settings);

	return (struct fdd_config){
	    .interval = mono_ms(interval_ms),
	    .stall =
		settings->stall_ms ? mono_ms(settings->stall_ms) : mono_ns(interval_ms * 500000),
	    .estimator = {(enum estimator_kind)settings->estimator, (unsigned)settings->kama_window,
		(unsigned)settings->kama_fast, (unsigned)settings->kama_slow},
	    .suspect = {1, {settings->suspect}, settings->clear, (uint32_t)settings->beats},
	    .arrivals_max = (size_t)settings->arrival_log,
	};
}
