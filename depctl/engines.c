/*
 * depctl ve engines: what can make virtual environments on this node.  Who has made one does not matter for the rest of its
 * life, so the columns of checkpoints are alike for all: they say what CRIU can do here.
 */
#include <stdio.h>

#include "depctl/command.h"
#include "proto/ved.h"

/* A program that is not here makes no VE; the word says why, below the table's other words. */
static void format_missing(char *text, size_t size, const json_t *value)
{
	snprintf(text, size, "%s", json_string_length(value) ? json_string_value(value) : "yes");
}

static void format_criu(char *text, size_t size, const json_t *value)
{
	snprintf(text, size, "criu %s", json_string_value(value));
}

static void format_live(char *text, size_t size, const json_t *value)
{
	(void)value;
	snprintf(text, size, "open connections go along");
}

int command_ve_engines(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"ENGINE", "engine", NULL}, {"USED", "used", NULL},
	    {"STARTS", "missing", format_missing}, {"VERSION", "version", NULL},
	    {"CHECKPOINT, RESTORE", "criu", format_criu}, {"MOVES", "criu", format_live},
	    {"LIMITS", "limits", NULL}, {"KEEPS OF A BUNDLE'S CONFINEMENT", "confines", NULL}, {0}};

	int status;
	json_t *reply = session_ask(session, "ved", MSG_VED_ENGINES, NULL, &status);

	(void)arguments;
	if (!reply)
		return status;
	output_rows(session->form, json_object_get(reply, "engines"), columns, "no engines");
	json_decref(reply);
	return 0;
}
