/*
 * Arrival logs: one line of text for each heartbeat received, in the order of arrival,
 *
 *	# depsys-arrivals 1
 *	sent_ns received_ns sequence interval_ns incarnation
 *
 * with `-` for what is not known (the time of sending, mostly).  Any further line that begins with
 * `#` is a comment.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench/detectors/trace.h"

int trace_add(struct trace *trace, const struct arrival *arrival)
{
	if (trace->count == trace->room) {
		size_t room = trace->room ? 2 * trace->room : 4096;
		struct arrival *grown;

		if (room > TRACE_ARRIVALS_MAX)
			return -E2BIG;
		grown = reallocarray(trace->arrivals, room, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		trace->arrivals = grown;
		trace->room = room;
	}
	trace->arrivals[trace->count++] = *arrival;
	return 0;
}

void trace_fini(struct trace *trace)
{
	free(trace->arrivals);
	*trace = (struct trace){0};
}

/* The next number of a line; `-` gives `unknown` where that is allowed. */
static bool number(char **text, int64_t *value, bool may_be_unknown)
{
	char *end;

	*text += strspn(*text, " \t");
	if (may_be_unknown && **text == '-' && strchr(" \t", (*text)[1])) {
		*value = -1;
		(*text)++;
		return true;
	}
	errno = 0;
	*value = strtoll(*text, &end, 10);
	if (end == *text || errno || *value < 0)
		return false;
	*text = end;
	return true;
}

static int parse(struct trace *trace, char *line, int64_t *origin_ns)
{
	int64_t sent, received, sequence, interval, incarnation;

	if (!number(&line, &sent, true) || !number(&line, &received, false) ||
	    !number(&line, &sequence, false) || !number(&line, &interval, false) ||
	    !number(&line, &incarnation, true) || line[strspn(line, " \t\r\n")] || !interval)
		return -EINVAL;
	if (!trace->count)
		*origin_ns = received;
	return trace_add(
	    trace, &(struct arrival){
		       .sent_s = sent < 0 ? (double)NAN : (double)(sent - *origin_ns) / 1e9,
		       .received_s = (double)(received - *origin_ns) / 1e9,
		       .sequence = (uint64_t)sequence,
		       .incarnation = incarnation < 0 ? 0 : (uint64_t)incarnation,
		       .interval_s = (double)interval / 1e9,
		   });
}

static int read_lines(struct trace *trace, FILE *file, size_t *line)
{
	char text[256];
	int64_t origin_ns = 0;
	unsigned version = 0;
	int r;

	for (*line = 1; fgets(text, sizeof(text), file); ++*line) {
		if (*line == 1 && sscanf(text, "# depsys-arrivals %u", &version) != 1)
			return -EINVAL;
		if (*line == 1 && version != 1)
			return -EINVAL;
		if (text[0] == '#')
			continue;
		r = parse(trace, text, &origin_ns);
		if (r < 0)
			return r;
	}
	if (ferror(file)) {
		*line = 0;
		return -EIO;
	}
	return version == 1 ? 0 : -EINVAL;
}

int trace_read(struct trace *trace, const char *path, size_t *line)
{
	const char *name = strrchr(path, '/');
	FILE *file = fopen(path, "re");
	int r;

	*trace = (struct trace){.real = true};
	*line = 0;
	if (!file)
		return -errno;
	snprintf(trace->name, sizeof(trace->name), "%s", name ? name + 1 : path);
	if (strrchr(trace->name, '.'))
		*strrchr(trace->name, '.') = 0;
	r = read_lines(trace, file, line);
	fclose(file);
	if (r < 0)
		trace_fini(trace);
	return r;
}
