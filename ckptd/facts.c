/*
 * Reading several keys of metad, all at once.  They may be of different revisions; whoever acts on
 * them does so in a transaction that checks the versions.
 */
#include "ckptd/shell-internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/metad.h"

/* One key on its way. */
struct asked {
	struct reading *reading;
	struct fact *fact;
};

struct reading *reading_new(struct shell *shell, void (*done)(struct reading *), void *userdata)
{
	struct reading *reading = calloc(1, sizeof(*reading));

	if (!reading) {
		log_error("no memory to read facts");
		abort();
	}
	reading->shell = shell;
	reading->done = done;
	reading->userdata = userdata;
	return reading;
}

void reading_add(struct reading *reading, const char *format, ...)
{
	struct fact *fact = &reading->facts[reading->n++];
	va_list arguments;

	assert(reading->n <= FACTS_MAX);
	va_start(arguments, format);
	vsnprintf(fact->key, sizeof(fact->key), format, arguments);
	va_end(arguments);
}

struct reading *reading_free(struct reading *reading)
{
	for (size_t i = 0; i < reading->n; i++)
		buf_fini(&reading->facts[i].value);
	free(reading);
	return NULL;
}

static void settle(struct reading *reading)
{
	if (--reading->pending)
		return;
	reading->done(reading);
	reading_free(reading);
}

static void on_got(void *userdata, const struct rpc_answer *answer)
{
	struct asked *asked = userdata;
	struct reading *reading = asked->reading;
	struct msg_metad_got got;
	struct mpr_error error;

	if (answer->status != RPC_OK ||
	    msg_metad_got_unpack(&got, answer->body, answer->size, &error) < 0 ||
	    buf_append(&asked->fact->value, got.entry.value, got.entry.value_size) < 0)
		reading->failed = true;
	else
		asked->fact->version = got.entry.version;
	free(asked);
	settle(reading);
}

static bool ask(struct reading *reading, struct fact *fact)
{
	struct asked *asked = malloc(sizeof(*asked));
	_cleanup_buf_ struct buf body = {0};
	struct msg_metad_get get = {0};

	snprintf(get.key, sizeof(get.key), "%s", fact->key);
	if (!asked || msg_metad_get_pack(&get, &body) < 0) {
		free(asked);
		return false;
	}
	*asked = (struct asked){reading, fact};
	if (rpc_request(reading->shell->metad, MSG_METAD_GET, body.data, body.size, META_TIMEOUT_MS,
		on_got, asked) > 0)
		return true;
	free(asked);
	return false;
}

void reading_go(struct reading *reading)
{
	reading->pending = 1;
	for (size_t i = 0; i < reading->n; i++) {
		if (ask(reading, &reading->facts[i]))
			reading->pending++;
		else
			reading->failed = true;
	}
	settle(reading);
}
