/*
 * The commands of depctl: a table from words to functions, with what --help says of each.
 */
#ifndef DEPCTL_COMMAND_H
#define DEPCTL_COMMAND_H

#include "depctl/session.h"
#include "proto/common.h"

/* An option of a command: "--name VALUE", or "--name" alone when value is NULL.  At most one option of a command has a
 * value that ends with "...": it may be given several times. */
struct option_spec {
	const char *name;
	const char *value;
	const char *help;
};

#define OPTIONS_MAX 14
#define POSITIONALS_MAX 16
#define MANY_MAX 4 /* of the option that may be repeated */

/* What was given on the command line after the command's words. */
struct arguments {
	const char *option
	    [OPTIONS_MAX]; /* by index in the command's options; "" for a bare one; NULL: not given */
	const char *many[MANY_MAX];
	size_t n_many;
	const char *positional[POSITIONALS_MAX];
	size_t n_positionals;
};

struct command {
	const char *group, *name; /* "ve", "run"; name NULL for a command of one word */
	const char *positionals;  /* "NAME BUNDLE"; "[NAME]" may be left out */
	struct option_spec options[OPTIONS_MAX + 1];
	const char *summary;
	const char *example;
	int (*run)(struct session *session, const struct arguments *arguments);
	bool no_session; /* needs neither configuration nor daemons */
};

/* All of them; ends with group NULL. */
extern const struct command commands[];

/* Numbers and lengths of time ("500", "2s", "300ms", "1min") from an option; on a fault one line and false. */
bool parse_duration_ms(const char *option, const char *text, uint64_t *ms);
bool parse_count(
    const char *option, const char *text, uint64_t low, uint64_t high, uint64_t *value);
/* A checkpoint as it is shown, "2.17", or its id as one number. */
bool parse_ckpt(const char *text, uint64_t *id);
/* How many words a command needs, and may have; "VE..." takes as many as there are. */
void count_positionals(const char *spec, size_t *least, size_t *most);
/* "http:80/health=200~well" and the like; false with one line. */
bool parse_probe(const char *text, struct msg_common_probe *probe);
/* Copies into a message's field; false with one line when it does not fit. */
bool parse_text(const char *what, const char *text, char *field, size_t size);
#define PARSE_TEXT(what, text, field) parse_text((what), (text), (field), sizeof(field))

int command_cluster_ls(struct session *session, const struct arguments *arguments);
int command_cluster_nodes(struct session *session, const struct arguments *arguments);
int command_status(struct session *session, const struct arguments *arguments);
int command_stats(struct session *session, const struct arguments *arguments);
int command_log(struct session *session, const struct arguments *arguments);
int command_events(struct session *session, const struct arguments *arguments);
int command_node_ls(struct session *session, const struct arguments *arguments);
int command_fd_ls(struct session *session, const struct arguments *arguments);
int command_fd_show(struct session *session, const struct arguments *arguments);
int command_fd_watch(struct session *session, const struct arguments *arguments);
int command_fd_log(struct session *session, const struct arguments *arguments);
/* ve.c: says on standard error why a migrated.ls_reply is not fresh, and what that means for the VEs of this node. */
void warn_of_no_quorum(const json_t *reply);
int command_ve_run(struct session *session, const struct arguments *arguments);
int command_ve_engines(struct session *session, const struct arguments *arguments);
int command_ve_ls(struct session *session, const struct arguments *arguments);
int command_ve_show(struct session *session, const struct arguments *arguments);
int command_ve_stop(struct session *session, const struct arguments *arguments);
int command_ve_fenced(struct session *session, const struct arguments *arguments);
int command_ve_rm(struct session *session, const struct arguments *arguments);
/* ve.c: one row for each checkpoint of a VE ("": of all), with the name of its VE; NULL after one line. */
json_t *list_ckpts(struct session *session, const char *ve, int *status);
extern const struct column ckpt_columns[];
int command_ckpt_create(struct session *session, const struct arguments *arguments);
int command_ckpt_ls(struct session *session, const struct arguments *arguments);
int command_ckpt_restore(struct session *session, const struct arguments *arguments);
int command_ckpt_show(struct session *session, const struct arguments *arguments);
int command_ckpt_verify(struct session *session, const struct arguments *arguments);
int command_ckpt_rm(struct session *session, const struct arguments *arguments);
int command_ckpt_schedule(struct session *session, const struct arguments *arguments);
int command_obj_put(struct session *session, const struct arguments *arguments);
int command_obj_get(struct session *session, const struct arguments *arguments);
int command_obj_ls(struct session *session, const struct arguments *arguments);
int command_obj_rm(struct session *session, const struct arguments *arguments);
int command_obj_verify(struct session *session, const struct arguments *arguments);
int command_node_show(struct session *session, const struct arguments *arguments);
int command_node_join(struct session *session, const struct arguments *arguments);
int command_node_leave(struct session *session, const struct arguments *arguments);
int command_key_admin_new(struct session *session, const struct arguments *arguments);
int command_key_admin_show(struct session *session, const struct arguments *arguments);
int command_key_ls(struct session *session, const struct arguments *arguments);
int command_key_pending(struct session *session, const struct arguments *arguments);
int command_key_allow(struct session *session, const struct arguments *arguments);
int command_key_revoke(struct session *session, const struct arguments *arguments);
int command_key_rotate(struct session *session, const struct arguments *arguments);
int command_key_new(struct session *session, const struct arguments *arguments);
int command_key_show(struct session *session, const struct arguments *arguments);
int command_meta_ls(struct session *session, const struct arguments *arguments);
int command_meta_status(struct session *session, const struct arguments *arguments);
int command_meta_add(struct session *session, const struct arguments *arguments);
int command_meta_remove(struct session *session, const struct arguments *arguments);
int command_meta_rejoin(struct session *session, const struct arguments *arguments);
/* What would be wrong with this node's absence for good: 0, or the exit code after a line that says it. */
int meta_check_loss(struct session *session, const char *name);
int command_meta_export(struct session *session, const struct arguments *arguments);
int command_meta_import(struct session *session, const struct arguments *arguments);
int command_demo(struct session *session, const struct arguments *arguments);

#endif
