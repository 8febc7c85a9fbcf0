/*
 * depctl meta: what all agree on.
 */
#include <stdio.h>
#include <string.h>

#include "depctl/command.h"
#include "depctl/decode.h"
#include "proto/metad.h"

/* One page of facts into rows; their values are decoded like any message. */
static const char *take_page(json_t *rows, const struct buf *body)
{
	static struct msg_metad_page page;
	struct mpr_error error;

	if (msg_metad_page_unpack(&page, body->data, body->size, &error) < 0)
		return "";
	for (size_t i = 0; i < page.entries.count; i++) {
		const struct msg_metad_entry *entry = &page.entries.item[i];
		json_t *value = decode_body(entry->value, entry->value_size);

		json_array_append_new(
		    rows, json_pack("{s:s, s:I, s:o}", "key", entry->key, "version",
			      (json_int_t)entry->version, "value", value ? value : json_null()));
	}
	return page.more && page.entries.count ? page.entries.item[page.entries.count - 1].key : "";
}

static void format_value(char *text, size_t size, const json_t *value)
{
	char *line = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	snprintf(text, size, "%.*s%s", (int)(size > 124 ? 120 : size - 4), line ? line : "",
	    line && strlen(line) > 120 ? "..." : "");
	free(line);
}

int command_meta_ls(struct session *session, const struct arguments *arguments)
{
	static const struct column columns[] = {{"KEY", "key", NULL}, {"VERSION", "version", NULL},
	    {"VALUE", "value", format_value}, {0}};
	struct msg_metad_scan request = {.limit = 256};
	json_t *rows = json_array();
	int status;
	bool more;

	if (arguments->n_positionals &&
	    !PARSE_TEXT("PREFIX", arguments->positional[0], request.prefix))
		return EXIT_USAGE;
	do {
		_cleanup_buf_ struct buf body = {0}, reply = {0};

		msg_metad_scan_pack(&request, &body);
		status = session_fetch(session, "metad", MSG_METAD_SCAN, &body, &reply);
		snprintf(request.after, sizeof(request.after), "%s",
		    status == 0 ? take_page(rows, &reply) : "");
		more = *request.after;
	} while (more);
	if (status == 0)
		output_rows(session->form, rows, columns, "no facts");
	json_decref(rows);
	return status;
}
