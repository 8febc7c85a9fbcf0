/*
 * A bundle's config.json in the words of LXC (lxc.container.conf(5)).  Only what is known here is translated; any other
 * member with a value is refused by its name, so that no confinement is lost without a word.
 */
#ifndef VED_LXC_CONFIG_H
#define VED_LXC_CONFIG_H

#include <jansson.h>

#include "ved/runner.h"

/* DIR/config.json, checked and completed by bundle_prepare(), becomes DIR/lxc.conf. */
int lxc_config_write(const struct runner_order *order, struct engine_error *error);

/* The same without files: the text is added to out. */
struct buf;
int lxc_config_make(
    json_t *bundle, const struct runner_order *order, struct buf *out, struct engine_error *error);

/* The arguments of the VE's first process behind those of lxc-start. */
struct lxc_command {
	char **argv;
	json_t *bundle; /* what argv points into */
};
int lxc_command_make(
    struct lxc_command *out, const char *dir, const char *const before[], size_t count);

#endif
