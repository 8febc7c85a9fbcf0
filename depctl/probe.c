/*
 * How a probe is typed: process, heartbeat, tcp:PORT, http:PORT[/PATH][=STATUS][~TEXT], cmd:COMMAND.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "depctl/command.h"

static const struct {
	const char *word;
	enum msg_common_probe_kind kind;
	bool bare; /* nothing follows */
} kinds[] = {
    {"process", MSG_COMMON_PROBE_KIND_PROCESS, true},
    {"heartbeat", MSG_COMMON_PROBE_KIND_HEARTBEAT, true},
    {"tcp:", MSG_COMMON_PROBE_KIND_TCP, false},
    {"http:", MSG_COMMON_PROBE_KIND_HTTP, false},
    {"cmd:", MSG_COMMON_PROBE_KIND_COMMAND, false},
};

static bool take_port(const char **text, struct msg_common_probe *probe)
{
	unsigned port = 0;
	int digits = 0;

	for (; isdigit((unsigned char)**text) && digits < 6; digits++, ++*text)
		port = port * 10 + (unsigned)(**text - '0');
	probe->port = (uint16_t)port;
	return digits > 0 && port > 0 && port <= 65535;
}

/* A length of the text into a field; false when it does not fit. */
static bool take(char *field, size_t size, const char *text, size_t length)
{
	if (length >= size)
		return false;
	memcpy(field, text, length);
	field[length] = '\0';
	return true;
}

/* What follows the port: [/PATH][=STATUS][~TEXT].  A '=' that three digits do not follow belongs to the path. */
static bool take_http(const char *text, struct msg_common_probe *probe)
{
	size_t length = strcspn(text, "~"), path = length;
	const char *status = length >= 4 ? text + length - 4 : NULL;

	if (text[length] == '~' &&
	    !take(probe->match, sizeof(probe->match), text + length + 1, strlen(text + length + 1)))
		return false;
	if (status && *status == '=' && isdigit((unsigned char)status[1]) &&
	    isdigit((unsigned char)status[2]) && isdigit((unsigned char)status[3])) {
		probe->status =
		    (uint16_t)((status[1] - '0') * 100 + (status[2] - '0') * 10 + status[3] - '0');
		path -= 4;
	}
	return probe->status >= 100 && probe->status <= 599 && (path == 0 || *text == '/') &&
	       take(probe->target, sizeof(probe->target), text, path);
}

static bool take_rest(const char *text, struct msg_common_probe *probe)
{
	switch (probe->kind) {
	case MSG_COMMON_PROBE_KIND_TCP:
		return take_port(&text, probe) && !*text;
	case MSG_COMMON_PROBE_KIND_HTTP:
		return take_port(&text, probe) && take_http(text, probe);
	case MSG_COMMON_PROBE_KIND_COMMAND:
		return *text && take(probe->target, sizeof(probe->target), text, strlen(text));
	case MSG_COMMON_PROBE_KIND_PROCESS:
	case MSG_COMMON_PROBE_KIND_HEARTBEAT:
		break;
	}
	return true;
}

bool parse_probe(const char *text, struct msg_common_probe *probe)
{
	*probe = (struct msg_common_probe){.status = 200, .interval_ms = 1000, .timeout_ms = 1000};
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t length = strlen(kinds[i].word);

		probe->kind = kinds[i].kind;
		if (kinds[i].bare ? strcmp(text, kinds[i].word) == 0
				  : strncmp(text, kinds[i].word, length) == 0 &&
					take_rest(text + length, probe))
			return true;
	}
	fprintf(stderr,
	    "depctl: --probe: %s is none of process, heartbeat, tcp:PORT, "
	    "http:PORT[/PATH][=STATUS][~TEXT], cmd:COMMAND\n",
	    text);
	return false;
}
