#include "ved/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "ved/files.h"

static int broken(
    struct engine_error *error, struct archive *archive, const char *what, const char *path)
{
	int code = archive_errno(archive);

	return engine_refuse(
	    error, code > 0 ? -code : -EIO, "%s %s: %s", what, path, archive_error_string(archive));
}

static int copy_in(struct archive *to, const char *source, struct engine_error *error)
{
	static const size_t chunk = 128 * 1024;
	_cleanup_fd_ int fd = open(source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_text_ char *data = malloc(chunk);
	ssize_t got;

	if (fd < 0 || !data)
		return engine_fail(error, fd < 0 ? -errno : -ENOMEM, "read %s", source);
	while ((got = read(fd, data, chunk)) > 0)
		if (archive_write_data(to, data, (size_t)got) < 0)
			return broken(error, to, "pack", source);
	return got < 0 ? engine_fail(error, -errno, "read %s", source) : 0;
}

/* Writes one entry that the disk reader found: header, and data where there is some. */
static int pack_entry(struct archive *to, struct archive_entry *entry, struct engine_error *error)
{
	const char *source = archive_entry_sourcepath(entry);

	if (archive_entry_filetype(entry) == AE_IFSOCK)
		return 0; /* a bound unix socket: criu makes it anew */
	if (archive_write_header(to, entry) < ARCHIVE_WARN)
		return broken(error, to, "pack", source);
	if (archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry))
		return copy_in(to, source, error);
	return 0;
}

/* The link resolver may hold an entry back until its last link is seen, and gives a spare one at the end. */
static int pack_linked(struct archive *to, struct archive_entry_linkresolver *links,
    struct archive_entry *entry, struct engine_error *error)
{
	struct archive_entry *spare = NULL;
	int rc = 0;

	archive_entry_linkify(links, &entry, &spare);
	if (entry)
		rc = pack_entry(to, entry, error);
	if (rc == 0 && spare)
		rc = pack_entry(to, spare, error);
	archive_entry_free(entry);
	archive_entry_free(spare);
	return rc;
}

/* Names in the archive are relative to the tree: "." and what is below. Hard links are resolved by these names. */
static void name_below(struct archive_entry *entry, size_t prefix)
{
	const char *source = archive_entry_sourcepath(entry);

	archive_entry_copy_pathname(entry, strlen(source) > prefix ? source + prefix + 1 : ".");
}

static int pack_tree(struct archive *from, struct archive *to,
    struct archive_entry_linkresolver *links, size_t prefix, struct engine_error *error)
{
	for (;;) {
		struct archive_entry *entry = archive_entry_new();
		int rc = archive_read_next_header2(from, entry);

		if (rc == ARCHIVE_EOF) {
			archive_entry_free(entry);
			return 0;
		}
		if (rc < ARCHIVE_WARN) {
			rc = broken(error, from, "pack", "the upper directory");
			archive_entry_free(entry);
			return rc;
		}
		name_below(entry, prefix);
		archive_read_disk_descend(from);
		rc = pack_linked(to, links, entry, error); /* takes the entry */
		if (rc < 0)
			return rc;
	}
}

int archive_pack(const char *dir, const char *path, struct engine_error *error)
{
	struct archive *from = archive_read_disk_new(), *to = archive_write_new();
	struct archive_entry_linkresolver *links = archive_entry_linkresolver_new();
	int rc;

	archive_write_set_format_pax_restricted(to);
	archive_entry_linkresolver_set_strategy(links, archive_format(to));
	archive_read_disk_set_symlink_physical(from);
	if (archive_write_open_filename(to, path) != ARCHIVE_OK)
		rc = broken(error, to, "create", path);
	else if (archive_read_disk_open(from, dir) != ARCHIVE_OK)
		rc = broken(error, from, "open", dir);
	else
		rc = pack_tree(from, to, links, strlen(dir), error);
	if (archive_write_close(to) != ARCHIVE_OK && rc == 0)
		rc = broken(error, to, "write", path);
	archive_entry_linkresolver_free(links);
	archive_read_free(from);
	archive_write_free(to);
	return rc;
}

static int unpack_entry(struct archive *from, struct archive *to, struct archive_entry *entry,
    struct engine_error *error)
{
	const char *name = archive_entry_pathname(entry);
	const void *data;
	size_t size;
	la_int64_t offset;
	int rc;

	if (archive_write_header(to, entry) < ARCHIVE_WARN)
		return broken(error, to, "unpack", name);
	while ((rc = archive_read_data_block(from, &data, &size, &offset)) == ARCHIVE_OK)
		if (archive_write_data_block(to, data, size, offset) < ARCHIVE_WARN)
			return broken(error, to, "unpack", name);
	if (rc != ARCHIVE_EOF)
		return broken(error, from, "read", name);
	return archive_write_finish_entry(to) < ARCHIVE_WARN ? broken(error, to, "unpack", name)
							     : 0;
}

static int unpack_here(const char *path, struct engine_error *error)
{
	struct archive *from = archive_read_new(), *to = archive_write_disk_new();
	struct archive_entry *entry;
	int rc = 0, next = ARCHIVE_EOF;

	archive_read_support_format_tar(from);
	archive_read_support_filter_all(from);
	archive_write_disk_set_options(
	    to, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
		    ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_ACL | ARCHIVE_EXTRACT_FFLAGS |
		    ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
		    ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
	if (archive_read_open_filename(from, path, 128 * 1024) != ARCHIVE_OK)
		rc = broken(error, from, "open", path);
	while (rc == 0 && (next = archive_read_next_header(from, &entry)) >= ARCHIVE_WARN &&
	       next != ARCHIVE_EOF)
		rc = unpack_entry(from, to, entry, error);
	if (rc == 0 && next != ARCHIVE_EOF)
		rc = broken(error, from, "read", path);
	if (archive_write_close(to) != ARCHIVE_OK && rc == 0)
		rc = broken(error, to, "unpack", path);
	archive_read_free(from);
	archive_write_free(to);
	return rc;
}

/* libarchive holds names to "below the working directory", links included; so that is where it works. */
int archive_unpack(const char *path, const char *dir, struct engine_error *error)
{
	_cleanup_fd_ int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (here < 0 || chdir(dir) < 0)
		return engine_fail(error, -errno, "enter %s", dir);
	rc = unpack_here(path, error);
	if (fchdir(here) < 0 && rc == 0)
		rc = engine_fail(error, -errno, "leave %s", dir);
	return rc;
}
