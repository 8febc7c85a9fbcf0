#include "ved/criu-words.h"

#include <errno.h>
#include <string.h>

#include "ved/files.h"

enum { LOG_BYTES = 4 << 20 };

static const struct {
	const char *in_log;
	const char *words;
} causes[] = {
    {"io_uring", "the service uses io_uring, which cannot be written down"},
    {"anon_inode:[perf_event]", "the service has a perf event open"},
    {"anon_inode:[userfaultfd]", "the service has a userfaultfd open"},
    {"xternal socket is used",
	"a unix socket of the service is connected to a process outside of the VE"},
    {"Can't dump half of stream unix connection",
	"a unix socket of the service is connected to a process outside of the VE"},
    {"Can't dump char device", "the service has a device open"},
    {"Can't dump a char device", "the service has a device open"},
    {"Unsupported sk family", "the service has a socket of a kind that cannot be written down"},
    {"unsupported socket", "the service has a socket of a kind that cannot be written down"},
    {"Can't lookup mount", "the service has a file open that lies outside of the VE"},
    {"ghost file", "the service keeps a removed file open that is too large"},
    {"Can't bind", "an address or port of the service is taken on this node"},
    {"File exists (errno 17)", "something is there already"},
    {"CPU capabilities do not match", "this node's processor lacks what the image needs"},
    {"No space left", "there is no space left for the image"},
};

/* Copies the log's last error lines, oldest first, without criu's time stamps. */
static void copy_errors(const char *log, char *out, size_t size)
{
	const char *lines[2] = {0};
	size_t used = 0;

	for (const char *at = log; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
		const char *mark = strstr(at, "Error (");
		const char *end = strchr(at, '\n');

		if (!mark || (end && mark > end) || strncmp(mark + 7, "criu/cr-dump.c", 14) == 0 ||
		    strncmp(mark + 7, "criu/cr-restore.c:2", 19) == 0)
			continue; /* the last two files only say that it failed */
		lines[0] = lines[1];
		lines[1] = mark;
	}
	out[0] = 0;
	for (size_t i = 0; i < 2; i++)
		if (lines[i] && used < size)
			used += (size_t)snprintf(out + used, size - used, "%s%.*s",
			    used ? "; " : "", (int)strcspn(lines[i], "\n"), lines[i]);
}

void criu_explain_text(const char *log, const char *message, struct engine_error *error)
{
	const char *words = "criu failed";
	char errors[VE_ERROR / 2];

	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
		if (strstr(log, causes[i].in_log)) {
			words = causes[i].words;
			break;
		}
	copy_errors(log, errors, sizeof(errors));
	engine_refuse(error, -EIO, "%s%s%s%s%s", words, errors[0] || message ? ": " : "", errors,
	    errors[0] && message ? "; " : "", message ? message : "");
}

void criu_explain(
    const char *dir, const char *log_file, const char *message, struct engine_error *error)
{
	_cleanup_buf_ struct buf log = {0};
	char path[VE_PATH * 2];

	if (path_set(path, "%s/%s", dir, log_file) < 0 || file_read(path, LOG_BYTES, &log) < 0 ||
	    !log.data)
		criu_explain_text("", message, error);
	else
		criu_explain_text((const char *)log.data, message, error);
}
