/*
 * The epochs that were begun on this node: one line "NAME EPOCH" for each VE, the whole file replaced at each change (it
 * has a few lines), durable before ved is asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "migrated/shell.h"

struct journal {
	int directory;
	size_t count;
	struct migrated_begun begun[MIGRATED_VES_MAX];
};

#define FILE_NAME "begun"

static int read_lines(struct journal *journal, FILE *file)
{
	struct migrated_begun *begun;
	char name[NODE_NAME_MAX + 1];
	uint64_t epoch;
	int fields;

	while ((fields = fscanf(file, "%63s %" SCNu64 "\n", name, &epoch)) == 2) {
		if (journal->count == MIGRATED_VES_MAX)
			return -EOVERFLOW;
		begun = &journal->begun[journal->count++];
		memcpy(begun->name, name, sizeof(name));
		begun->epoch = epoch;
	}
	return fields == EOF ? 0 : -EBADMSG;
}

int journal_open(struct journal **out, const char *directory)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	FILE *file;
	int fd, r = 0;

	if (!journal)
		return -ENOMEM;
	journal->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal->directory < 0) {
		r = -errno;
		goto fail;
	}
	fd = openat(journal->directory, FILE_NAME, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT) {
		r = -errno;
		goto fail;
	}
	if (fd >= 0) {
		file = fdopen(fd, "r");
		r = file ? read_lines(journal, file) : -errno;
		file ? fclose(file) : close(fd);
	}
	if (r < 0)
		goto fail;
	*out = journal;
	return 0;
fail:
	log_error("journal %s/%s: %s", directory, FILE_NAME, strerror(-r));
	journal_free(journal);
	return r;
}

struct journal *journal_free(struct journal *journal)
{
	if (!journal)
		return NULL;
	if (journal->directory >= 0)
		close(journal->directory);
	free(journal);
	return NULL;
}

size_t journal_count(const struct journal *journal)
{
	return journal->count;
}

const struct migrated_begun *journal_list(const struct journal *journal)
{
	return journal->begun;
}

static int replace_file(const struct journal *journal)
{
	_cleanup_buf_ struct buf text = {0};
	int fd, r = 0;

	for (size_t i = 0; i < journal->count && r == 0; i++)
		r = buf_printf(
		    &text, "%s %" PRIu64 "\n", journal->begun[i].name, journal->begun[i].epoch);
	if (r < 0)
		return r;
	fd = openat(
	    journal->directory, FILE_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	errno = 0;
	if ((text.size && write(fd, text.data, text.size) != (ssize_t)text.size) || fsync(fd) < 0)
		r = errno ? -errno : -ENOSPC;
	close(fd);
	if (r == 0 &&
	    (renameat(journal->directory, FILE_NAME ".new", journal->directory, FILE_NAME) < 0 ||
		fsync(journal->directory) < 0))
		r = -errno;
	return r;
}

int journal_put(struct journal *journal, const char *name, uint64_t epoch)
{
	size_t i = 0;

	while (i < journal->count && strcmp(journal->begun[i].name, name) != 0)
		i++;
	if (epoch == 0) {
		if (i < journal->count)
			journal->begun[i] = journal->begun[--journal->count];
	} else {
		if (i == MIGRATED_VES_MAX)
			return -ENOSPC;
		if (i == journal->count)
			journal->count++;
		snprintf(journal->begun[i].name, sizeof(journal->begun[i].name), "%s", name);
		journal->begun[i].epoch = epoch;
	}
	return replace_file(journal);
}
